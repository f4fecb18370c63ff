"""`ops.runs`: every run of a night, from its start on, however it ends.

A run that was killed can't say so itself. The next one does: it has the warehouse to itself, so
whatever is entered as running is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs import releases
from jobs.detect_visits import Accounting
from jobs.frames import local_frame
from jobs.runtime import Night
from transforms.errors import Refused
from transforms.tables import FAILED, INTERRUPTED, PUBLISHED, REFUSED, RUNNING, RUNS

_ROWS = ("rows_in", "other_day", "rejected", "not_taking_part", "accepted", "files_read")


@dataclass
class Run:
    """A run that is under way, and what is known of it."""

    night: Night
    started_at: datetime
    rows: tuple[Any, ...] = (None,) * len(_ROWS)

    def account(self, accounting: Accounting) -> None:
        """Enters what became of the rows read, whatever becomes of the run."""
        self.rows = (
            accounting.rows_in,
            accounting.other_day,
            sum(accounting.rejected.values()),
            accounting.not_taking_part,
            accounting.accepted,
            accounting.files,
        )
        self.enter(RUNNING)

    def account_as_before(self) -> None:
        """Enters of a release that is finished from its noise what the run that drew it read."""
        before = _accounted(self.night)
        if before is not None:
            self.rows = tuple(before[name] for name in _ROWS)

    def begin(self) -> None:
        self.night.store.append(RUNS, self._row(RUNNING))

    def enter(self, outcome: str) -> None:
        """Takes the place of what was entered of the run before."""
        self.night.store.replace(RUNS, self._row(outcome), run_id=self.night.run_id)

    def _row(self, outcome: str) -> DataFrame:
        night, ended_at = self.night, None if outcome == RUNNING else self.night.now()
        row = (night.run_id, night.day.date, self.started_at, ended_at, outcome, *self.rows)
        return local_frame(night.spark, [row], RUNS.schema)


def _accounted(night: Night) -> Row | None:
    """The day's last run that knew what it read."""
    accounted = night.of_day(RUNS).where(F.col("rows_in").isNotNull())
    return accounted.orderBy(F.desc("started_at")).first()


def came_later(night: Night) -> str | None:
    """Files of the day's events that came, or were changed, after they were read; None without any.

    The folder of the day after is left out: it goes on growing with that day's own events.
    """
    run = _accounted(night)
    if run is None:
        return None
    read = {(file.path, file.bytes) for file in run.files_read}
    folders = night.landing.event_folders(night.day.date)
    files = [file for one in folders if one.date <= night.day.date for file in one.files or ()]
    later = [file for file in files if file.path_and_bytes not in read]
    if not later:
        return None
    share = sum(file.bytes for file in later) / max(sum(file.bytes for file in files), 1)
    which = f"{len(later):,} of {len(files):,} files of events"
    return f"{which} came later or were changed, {share:.1%} of their bytes"


@contextmanager
def recorded(night: Night) -> Iterator[Run]:
    """Enters the run, and destroys the day's key when it ends, however it does.

    A night that failed is done again from the events, with a new key.
    """
    run = Run(night, night.now())
    run.begin()
    try:
        yield run
    except BaseException as error:
        night.key.destroy()
        with suppress(Exception):  # what failed may be the storage: then the next run enters it
            run.enter(REFUSED if isinstance(error, Refused) else FAILED)
        raise
    night.key.destroy()
    run.enter(PUBLISHED)


def settle_killed(night: Night) -> None:
    """Enters the end of runs that were killed, and destroys the key that one left of this day."""
    night.key.destroy()
    runs = night.store.read(RUNS)
    killed = runs.where(F.col("outcome") == F.lit(RUNNING)).orderBy("started_at").collect()
    if not killed:
        return
    days = F.col("day").isin([row.day for row in killed])
    published = runs.where(days & (F.col("outcome") == F.lit(PUBLISHED))).select("day").collect()
    unclaimed = Counter({day: len(entries) for day, entries in releases.closed(night).items()})
    unclaimed.subtract(row.day for row in published)
    rows = []
    for row in reversed(killed):
        # Of a closed release without a run that published it, the last one was killed too late.
        outcome = PUBLISHED if unclaimed[row.day] > 0 else INTERRUPTED
        unclaimed[row.day] -= 1
        rows.append(row.asDict() | {"outcome": outcome})
    night.store.merge(RUNS, local_frame(night.spark, rows, RUNS.schema))
