"""How nights went: what the tables of `ops` say of each day, put together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from transforms.ledger import Entry, Ledger
from transforms.tables import FAILED, INTERRUPTED, PUBLISHED, REFUSED, RUNNING

OPEN, NOT_RUN = "open", "not run"
STATES = (PUBLISHED, OPEN, RUNNING, FAILED, REFUSED, INTERRUPTED, NOT_RUN)
"""`open`: its noise is paid for, and the next run finishes it; otherwise how the last run ended."""
ROWS = ("rows_in", "other_day", "rejected", "not_taking_part", "accepted")
"""What becomes of rows, as columns of `ops.runs`."""


class Run(Protocol):
    """A row of `ops.runs`; instants are in UTC, without a zone."""

    run_id: str
    day: date
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    rows_in: int | None
    other_day: int | None
    rejected: int | None
    not_taking_part: int | None
    accepted: int | None


@dataclass(frozen=True)
class NightStatus:
    """One day: its state, its runs in order, and what it cost.

    longest_wait_h: of an opt-out for the first release without that person (hours); findings: of
    Great Expectations in the last run, what was not met.
    """

    day: date
    state: str
    runs: Sequence[Run]
    ledger: Ledger
    longest_wait_h: float | None
    findings: int

    @property
    def last_run(self) -> Run | None:
        return self.runs[-1] if self.runs else None

    @property
    def seconds(self) -> float | None:
        """How long the last run took."""
        run = self.last_run
        return (run.ended_at - run.started_at).total_seconds() if run and run.ended_at else None

    @property
    def rows(self) -> Run | None:
        """The last run that accounted for rows."""
        accounted = [run for run in self.runs if run.rows_in is not None]
        return accounted[-1] if accounted else None

    @property
    def million_rows(self) -> float | None:
        """Rows read."""
        run = self.rows
        return None if run is None or run.rows_in is None else run.rows_in / 1e6

    @property
    def rejected_share(self) -> float | None:
        """Of the day's rows."""
        run = self.rows
        if run is None or run.rows_in is None:
            return None
        of_day = run.rows_in - (run.other_day or 0)
        return (run.rejected or 0) / of_day if of_day else 0.0

    @property
    def cells(self) -> int:
        """Of the newest release, published or suppressed."""
        return sum(entry.rows or 0 for entry in self._newest)

    @property
    def suppressed_cells(self) -> int:
        return sum(entry.suppressed or 0 for entry in self._newest)

    @property
    def hidden_share(self) -> float | None:
        return self.suppressed_cells / self.cells if self.cells else None

    @property
    def _newest(self) -> Sequence[Entry]:
        return self.ledger.releases[-1].entries if self.ledger.entries else ()


def night_status(
    day: date,
    *,
    runs: Collection[Run],
    ledger: Ledger,
    longest_wait_h: float | None,
    findings: Mapping[str, int],
    is_at_work: bool,
) -> NightStatus:
    """What became of one day.

    runs, ledger: of any days; findings: what was not met, by run_id; is_at_work: whether anybody
    holds the warehouse, without whom no run is running.
    """
    of_day = sorted((run for run in runs if run.day == day), key=lambda run: run.started_at)
    spent = ledger.of_day(day)
    return NightStatus(
        day,
        state=_state(of_day, spent, is_at_work=is_at_work),
        runs=of_day,
        ledger=spent,
        longest_wait_h=longest_wait_h,
        findings=findings.get(of_day[-1].run_id, 0) if of_day else 0,
    )


def _state(runs: Sequence[Run], ledger: Ledger, *, is_at_work: bool) -> str:
    last = runs[-1].outcome if runs else NOT_RUN
    if last == RUNNING:
        last = RUNNING if is_at_work else INTERRUPTED
    if not ledger.entries or last == RUNNING:
        return last
    is_open = any(entry.is_open for entry in ledger.releases[-1].entries)
    return OPEN if is_open else PUBLISHED
