"""The closing page of a night: the busiest zones, what it cost, what was left out."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import functions as F
from rich.table import Table
from rich.text import Text

from jobs import certify, releases
from jobs.ingest_reference import stored_zones, unseen_zones
from jobs.render_statement import attacks_on, statement_path
from jobs.runtime import Night
from jobs.show_budget import read_ledger
from transforms import budget
from transforms.risks import RELEASED
from transforms.tables import RUNS, ZONE_DAYS
from transforms.wording import few

_BUSIEST = 10


def show_summary(night: Night, report: Path) -> None:
    """Prints published figures, the budget and the run; ends with where the tables lie."""
    console = night.progress.console
    console.print()
    console.print(_busiest_zones(night))
    console.print()
    for line in (
        *_budget_lines(night),
        *_consent_lines(night),
        *_attack_lines(night),
        *_run_lines(night),
        *_unseen_lines(night),
    ):
        console.print(line, markup=False)
    console.print(f"report: {report}", markup=False)
    console.print(f"statement: {statement_path(night)}", markup=False)
    console.print(f"restricted: {night.settings.paths.restricted}", markup=False)
    console.print(f"published: {night.settings.paths.published}", markup=False)


def _busiest_zones(night: Night) -> Table:
    names = {zone.zone_id: zone.name for zone in stored_zones(night)}
    days = night.of_day(ZONE_DAYS.table).where(F.col("visitors").isNotNull())
    rows = days.orderBy(F.desc("visitors")).limit(_BUSIEST).collect()
    table = Table(title=f"Busiest zones on {night.day.date} (people, 95 % interval)")
    table.add_column("zone")
    for title in ("visitors", "interval", "visits", "median stay"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            Text(names.get(row.zone_id) or row.zone_id),
            f"{row.visitors:,.0f}",
            f"{row.visitors_low:,.0f} – {row.visitors_high:,.0f}",
            _or_suppressed(row.visits, "{:,.0f}"),
            _or_suppressed(row.dwell_median_min, "{:.0f} min"),
        )
    if not rows:
        table.add_row("none: every zone is suppressed", "", "", "", "")
    return table


def _or_suppressed(value: float | None, form: str) -> str:
    return "suppressed" if value is None else form.format(value)


def _budget_lines(night: Night) -> list[str]:
    """What the night cost, and how much of it stays hidden."""
    ledger, privacy = read_ledger(night).of_day(night.day.date), night.settings.privacy
    rho, newest = ledger.rho, ledger.releases[-1].entries
    at = ", ".join(
        f"ε {value:.2f} at δ {delta:g}"
        for delta, value in budget.epsilons(rho, deltas=privacy.display_deltas).items()
    )
    cells = sum(entry.rows or 0 for entry in newest)
    suppressed = sum(entry.suppressed or 0 for entry in newest)
    return [
        f"privacy: ρ {rho:.3g} of {privacy.rho_cap:.3g} spent per subscriber-day ({at}): who knows "
        f"everybody else guesses one right {budget.right_of_100(rho)} of 100 times, not 50; days "
        "add up, see the report and `make budget`",
        f"published: {cells - suppressed:,} of {cells:,} cells, {suppressed:,} suppressed",
    ]


def _consent_lines(night: Night) -> list[str]:
    """What the release's certificate says; its seal is there to be kept elsewhere."""
    certificate = certify.of_newest(night)
    if certificate is None:
        return []
    waits = (
        "no new opt-out"
        if certificate.longest_wait_h is None
        else f"opt-outs waited {certificate.longest_wait_h:.1f} h at most"
    )
    return [
        f"consent: nobody who said no is counted, {waits} "
        f"(certificate {certificate.number}, {certificate.hash[:16]})"
    ]


def _attack_lines(night: Night) -> list[str]:
    """Nothing where the release was not attacked."""
    entry = releases.newest(night)
    scores = attacks_on(night, [entry.release_id]) if entry else []
    verdicts = [one.within_bound for one in scores if one.view == RELEASED]
    if not verdicts:
        return []
    return [f"attacks: {len(verdicts)} made, {verdicts.count(False)} broke the promise"]


def _run_lines(night: Night) -> list[str]:
    run = night.of_day(RUNS).where(F.col("rows_in").isNotNull()).orderBy(F.desc("ended_at")).first()
    if run is None:
        return []
    return [
        f"rows: {few(run.rows_in)} read, {few(run.other_day)} of other days, {few(run.rejected)} "
        f"rejected, {few(run.not_taking_part)} of subscribers who opted out, "
        f"{few(run.accepted)} accepted"
    ]


def _unseen_lines(night: Night) -> list[str]:
    unseen = unseen_zones(night)
    return [f"no cell sees: {', '.join(unseen)}"] if unseen else []
