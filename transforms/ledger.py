"""The privacy ledger as a value: what was released, what it cost, what it adds up to.

Every release counts: superseded ones, since what was published once can't be taken back, and open
ones, since their noise may have been drawn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime

from transforms.budget import Window, full_window
from transforms.settings import Privacy
from transforms.tables import PARTICIPANTS

WINDOWS = (1, 7, 30)
"""Days over which the ledger is added up."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Entry:
    """One row of `ops.releases`: a measure of a release. Lengths and σ are in devices; rows and
    suppressed are None until the release is published.
    """

    release_id: str
    day: date
    product: str
    measure: str
    rho: float
    l0: int
    linf: float
    l2: float
    sigma: float
    mechanism: str
    method_version: str
    code_version: str
    rows: int | None
    suppressed: int | None
    supersedes: str | None
    published_at: datetime

    @property
    def full_name(self) -> str:
        return f"{self.product}.{self.measure}"

    @property
    def is_open(self) -> bool:
        """Claimed and therefore spent, but not published to the end yet."""
        return self.rows is None

    @property
    def is_monthly(self) -> bool:
        """Participants: dated the first of their month, with a cap of their own."""
        return self.product == PARTICIPANTS.product


@dataclass(frozen=True)
class Overspent:
    """A day (or a month's participants) whose entries exceed its cap."""

    day: date
    rho: float
    cap: float


@dataclass(frozen=True)
class Ledger:
    """Entries in any order."""

    entries: tuple[Entry, ...]

    def of_day(self, day: date) -> Ledger:
        """The night's own entries, without the month's participants."""
        return Ledger(tuple(e for e in self.entries if e.day == day and not e.is_monthly))

    def monthly(self, *, first: date, last: date) -> Ledger:
        """Participants of the months that begin from `first` to `last`."""
        within = (e for e in self.entries if e.is_monthly and first <= e.day <= last)
        return Ledger(tuple(within))

    @property
    def rho(self) -> float:
        return math.fsum(entry.rho for entry in self.entries)

    @property
    def releases(self) -> list[Ledger]:
        """Entries by release, the oldest first."""
        by_release = defaultdict(list)
        for entry in sorted(self.entries, key=lambda e: (e.published_at, e.release_id)):
            by_release[entry.release_id].append(entry)
        return [Ledger(tuple(entries)) for entries in by_release.values()]

    def window(self, *, last: date, days: int) -> Window:
        """What a subscriber of all its published days has given away."""
        blank = Window(last, days, 0, 0.0)
        within = [e for e in self.entries if blank.first <= e.day <= last and not e.is_monthly]
        return Window(
            last,
            days,
            published=len({entry.day for entry in within if not entry.is_open}),
            daily=Ledger(tuple(within)).rho,
            monthly=self.monthly(first=blank.first, last=last).rho,
        )

    def windows(self, *, last: date) -> list[Window]:
        return [self.window(last=last, days=days) for days in WINDOWS]

    def overspent(self, privacy: Privacy) -> list[Overspent]:
        """Days and months over their caps, the newest first; a ρ that is no number is over."""
        spent: dict[tuple[date, bool], list[float]] = defaultdict(list)
        for entry in self.entries:
            spent[entry.day, entry.is_monthly].append(entry.rho)
        return [
            Overspent(day, math.fsum(rhos), cap)
            for (day, is_monthly), rhos in sorted(spent.items(), reverse=True)
            for cap in [privacy.participation.rho_cap if is_monthly else privacy.rho_cap]
            if not math.fsum(rhos) <= cap * (1 + _ROUNDING)
        ]


def full_windows(privacy: Privacy, *, last: date) -> list[Window]:
    """What the same windows may cost at most."""
    caps = {"rho_cap": privacy.rho_cap, "monthly_cap": privacy.participation.rho_cap}
    return [full_window(last=last, days=days, **caps) for days in WINDOWS]
