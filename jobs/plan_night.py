"""What a night would do, read and spend, without doing any of it.

Where the night would end in an error for want of input, consent or budget, so does this, with the
same exit code. What only shows when all is read (quality, faulty rows) it can't foresee.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.filesize import decimal
from rich.table import Table

from jobs import releases
from jobs.await_arrival import arrived
from jobs.erase_expired import rows_over_limit
from jobs.ingest_decisions import are_believable, unread
from jobs.ingest_reference import delivered_zones
from jobs.landing import readable
from jobs.releases import Entry
from jobs.runtime import RESTATE, Night, run_job
from transforms.errors import Refused
from transforms.tables import CELLS, DECISIONS, OUTAGES, RESIDENTS, SUBSCRIBERS
from transforms.wording import few


def plan_night(night: Night, *, restate: bool = False, attack: bool = False) -> None:
    """Prints the plan. Raises what the night would raise before it reads everything."""
    night.progress.headline(f"Footfall, night of {night.day.date}: what would happen")
    newest = releases.newest(night)
    if newest is not None and newest.is_closed and not restate:
        night.progress.console.print(f"  {newest} is published: nothing")
        return
    entry = releases.open_or_next(night)
    page = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for step, what in _steps(night, entry):
        page.add_row(f"  {step}", what)
    if attack:
        page.add_row("  attack release", "every attack, quickly")
    night.progress.console.print(page)


def _steps(night: Night, entry: Entry) -> Iterator[tuple[str, str]]:
    yield "erase expired", f"{few(rows_over_limit(night))} rows over their age limit"
    if releases.is_drawn(night, entry):
        yield "publish products", f"{entry} from the noise that is stored: nothing is read or spent"
        return
    yield "ingest decisions", _decisions(night)
    yield "await arrival", arrived(night)
    yield "ingest reference", _reference(night)
    for folder, what in _events(night):
        yield "detect visits", f"events of {folder}: {what}"
    yield "publish products", _cost(night, entry)


def _decisions(night: Night) -> str:
    with readable("decisions", error=Refused):
        files = night.landing.delivered(DECISIONS, error=Refused)
        if not are_believable(night, files):
            return "none, and conf says that this is believable"
        news = unread(night, files)
        rows = night.landing.rows_of(news, DECISIONS, error=Refused).count() if news else 0
    return f"{few(rows)} rows in {len(news):,} new files"


def _reference(night: Night) -> str:
    told = [f"{len(delivered_zones(night))} zones"]
    for contract in (CELLS, RESIDENTS, SUBSCRIBERS, OUTAGES):
        with readable(contract.name):
            rows = night.landing.rows(contract, day=night.day.date, optional=contract is OUTAGES)
            told.append(f"{few(rows.count() if rows is not None else 0)} {contract.name}")
    return ", ".join(told)


def _events(night: Night) -> Iterator[tuple[str, str]]:
    for folder in night.landing.event_folders(night.day.date):
        if not folder.files:
            yield str(folder.date), folder.lacking
            continue
        size = decimal(sum(file.bytes for file in folder.files))
        with readable("events"):
            rows = night.landing.events_in(folder).count()
        yield str(folder.date), f"{few(rows)} rows in {len(folder.files):,} files, {size}"


def _cost(night: Night, entry: Entry) -> str:
    left, cap = releases.left(night, entry).left, night.settings.privacy.rho_cap
    told = f"{entry}: ρ {entry.rho:.4g} of {left:.4g} left, the day's cap is {cap:.4g}"
    monthly = releases.participants_entry(night)
    if night.settings.people.participant_share is None and not monthly.is_closed:
        told += f"; once for {monthly.day:%B}, who takes part: ρ {monthly.rho:.4g}"
    return told


if __name__ == "__main__":
    sys.exit(run_job(plan_night, description=__doc__ or "", flags=RESTATE, writes=False))
