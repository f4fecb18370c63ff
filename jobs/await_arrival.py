"""A night waits until the events of its day are all there, as far as `[arrival]` can tell."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta

from rich.filesize import decimal

from jobs.landing import EventFolder
from jobs.runtime import Night, run_job
from transforms.errors import Failed

POLL_S = 15.0


def await_arrival(night: Night, *, sleep: Callable[[float], None] = time.sleep) -> str:
    """Raises `Failed` naming what is still missing when the wait is over."""
    minutes = night.settings.arrival.wait
    give_up_at = night.now() + timedelta(minutes=minutes)
    while True:
        left_s = (give_up_at - night.now()).total_seconds()
        try:
            return arrived(night, after=f" after {minutes:g} minutes" if minutes else "")
        except Failed:
            if left_s <= 0:
                raise
        sleep(min(POLL_S, left_s))


def arrived(night: Night, *, after: str = "") -> str:
    """What there is of the day's events. Raises `Failed` naming what is missing as yet."""
    folders = night.landing.event_folders(night.day.date)
    if (missing := _missing(night, folders)) is not None:
        found, expected = missing
        raise Failed(
            f"events of {night.day.date}",
            found=found + after,
            expected=expected,
            consequence="no event was read; run the night again once they are there",
        )
    files = [file for folder in folders for file in folder.files or ()]
    newest = max(file.modified_at for file in files)
    size = decimal(sum(file.bytes for file in files))
    return f"{len(files):,} files, {size}, the newest of {newest:%Y-%m-%d %H:%M} UTC"


def _missing(night: Night, folders: list[EventFolder]) -> tuple[str, str] | None:
    """What was found and what is expected in its place; None when everything has arrived."""
    rules, day = night.settings.arrival, night.day.date
    quiet_since = night.now() - timedelta(minutes=rules.quiet)
    awaited = [one for one in folders if one.date <= day or rules.day_after]
    for folder in awaited:
        if not folder.files:
            if folder.date < day:
                continue  # the first day of all has none before it
            return folder.lacking, f"files in {folder.path}"
        if rules.marker and not night.landing.holds(folder.path, rules.marker):
            return f"no {rules.marker} in {folder.path}", "one, as soon as it is whole"
        changed_at = max(file.modified_at for file in folder.files)
        if rules.quiet and changed_at > quiet_since:
            return (
                f"a change at {changed_at:%H:%M:%S} UTC in {folder.path}",
                f"none for {rules.quiet:g} minutes",
            )
    return None


if __name__ == "__main__":
    sys.exit(run_job(await_arrival, description=__doc__ or "", writes=False))
