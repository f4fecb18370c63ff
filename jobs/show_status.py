"""How the last nights went: their states, rows, cost, quality, and what is left to do.

    python -m jobs.show_status --conf FILE --day YYYY-MM-DD

Shows the fortnight that ends with the day. Nothing is written, and nobody is kept waiting.
"""

from __future__ import annotations

import sys
from datetime import date, timedelta

from pyspark.sql import functions as F
from rich.table import Table
from rich.text import Text

from jobs import certify, lease, monitoring
from jobs.keys import left_behind
from jobs.runtime import Night, run_job
from jobs.show_budget import read_ledger
from transforms.operations import NOT_RUN, OPEN, NightStatus, night_status
from transforms.tables import FAILED, INTERRUPTED, QUALITY, REFUSED, RUNS

NIGHTS = 14
_TO_BE_LOOKED_AT = (FAILED, REFUSED, INTERRUPTED, OPEN)


def show_status(night: Night) -> None:
    """Prints one line for each night, then who is at work, and the keys that are left."""
    console = night.progress.console
    nights = statuses(night, nights=NIGHTS)
    while nights and nights[-1].state == NOT_RUN:
        nights.pop()  # before the first one of all, or of the fortnight
    if nights:
        console.print(_page(nights, cap=night.settings.privacy.rho_cap))
        console.print(_MEANING, markup=False)
    else:
        console.print(f"no night was run in the {NIGHTS} days up to {night.day.date}", markup=False)
    console.print()
    for line in _lines(night, nights):
        console.print(line, markup=False)


def statuses(night: Night, *, nights: int) -> list[NightStatus]:
    """The nights up to the one of `night`, the newest first."""
    first = night.day.date - timedelta(days=nights - 1)
    within = F.col("day").between(F.lit(first), F.lit(night.day.date))
    runs = night.store.read(RUNS).where(within).drop("files_read").collect()
    unmet = night.store.read(QUALITY).where(within & ~F.col("success"))
    findings = {row.run_id: row["count"] for row in unmet.groupBy("run_id").count().collect()}
    chain = sorted(certify.chain(night), key=lambda one: one.number)
    waits = {one.day: one.longest_wait_h for one in chain}
    is_at_work = lease.holder(night.spark, night.settings.paths.restricted) is not None
    ledger = read_ledger(night)
    return [
        night_status(
            day,
            runs=runs,
            ledger=ledger,
            longest_wait_h=waits.get(day),
            findings=findings,
            is_at_work=is_at_work,
        )
        for day in _days(night.day.date, nights)
    ]


def tell_monitoring(night: Night) -> None:
    """Writes the figures of the night that the settings want to have in a file."""
    path = night.settings.monitoring.metrics
    if path is None:
        return
    try:
        [status] = statuses(night, nights=1)
        monitoring.write_metrics(path, status, rho_cap=night.settings.privacy.rho_cap)
    except Exception as error:  # a night does not fail for want of its figures
        night.progress.note(f"no metrics were written: {type(error).__name__}")


def _days(last: date, nights: int) -> list[date]:
    return [last - timedelta(days=back) for back in range(nights)]


def _page(nights: list[NightStatus], *, cap: float) -> Table:
    """At most 80 columns."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("night", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("took", "rows", "rejected", "hidden", f"ρ of {cap:.3g}", "waited", "unmet"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in nights:
        table.add_row(
            str(one.day),
            Text(one.state, "bold red" if one.state in _TO_BE_LOOKED_AT else ""),
            _or_unknown(one.seconds, "{:,.0f} s"),
            _or_unknown(one.million_rows, "{:,.2f} M"),
            _or_unknown(one.rejected_share, "{:.1%}"),
            _or_unknown(one.hidden_share, "{:.1%}"),
            _or_unknown(one.ledger.rho or None, "{:.4g}"),
            _or_unknown(one.longest_wait_h, "{:.1f} h"),
            str(one.findings),
        )
    return table


_MEANING = """\
rows: of the events read; rejected: of the day's rows; hidden: cells under the
threshold; waited: the longest that an opt-out did; unmet: expectations of quality"""


def _or_unknown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _lines(night: Night, nights: list[NightStatus]) -> list[str]:
    holder = lease.holder(night.spark, night.settings.paths.restricted)
    lines = [f"at work: {holder}" if holder else "at work: nobody"]
    keys = left_behind(
        night.settings.keys.store,
        folder=night.settings.paths.keys_folder,
        before=night.day.date + timedelta(days=1),
    )
    if keys and not holder:
        lines.append(
            f"keys that a killed run left: {', '.join(map(str, keys))} (the next destroys them)"
        )
    again = sorted(one.day for one in nights if one.state in _TO_BE_LOOKED_AT)
    if again:
        days = ", ".join(map(str, again))
        lines.append(f"to be run again: {days} (safe to repeat: each goes on from where it stood)")
    return lines


if __name__ == "__main__":
    sys.exit(run_job(show_status, description=__doc__ or "", writes=False))
