"""A release under attack: what several attacks look at, how long they look, how they are judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from jobs.attacks import neighbours
from jobs.attacks.attackers import Integers
from jobs.attacks.neighbours import Crowd, DayContributions, Mechanism, Neighbours, Runs
from jobs.runtime import Night

_SURE = 3.0
"""Standard errors above the slack that chance does not explain."""


# A zone with 27 others from two areas, and the target from a third.
_TOTAL = (*((f"{number}", 0, 1.0) for number in range(27)), (neighbours.TARGET, 0, 1.0))
_PARTS = (
    *((f"{number}", 0 if number < 12 else 1, 1.0) for number in range(27)),
    (neighbours.TARGET, 2, 1.0),
)
# A zone, and one inside it with as many others; the target is in the ring between them.
_NESTED = (
    *((f"{cell} {number}", cell, 1.0) for cell in (0, 1) for number in range(29)),
    (neighbours.TARGET, 0, 1.0),
)


@dataclass(frozen=True)
class Effort:
    """How long to look."""

    worlds: int
    repeats: int
    people: int
    targets: int
    trials: int
    groups: int
    reads: int

    @property
    def runs(self) -> int:
        return self.worlds * self.repeats

    def times(self, factor: int) -> Effort:
        return Effort(
            self.worlds,
            self.repeats * factor,
            self.people,
            self.targets,
            self.trials * factor,
            self.groups * factor,
            self.reads,
        )


QUICK = Effort(worlds=40, repeats=100, people=20_000, targets=20, trials=60, groups=6, reads=10)
LONG = Effort(worlds=100, repeats=400, people=50_000, targets=60, trials=400, groups=24, reads=30)


@dataclass(frozen=True)
class Outcome:
    """One attack on one view, held against its bound.

    slack: standard errors that a score may lie above the bound by chance: 2, or 0 where the score
    is a lower confidence bound already.
    """

    score: float
    bound: float
    standard_error: float = 0.0
    slack: float = 2.0

    @property
    def margin(self) -> float:
        return self.bound + self.slack * self.standard_error - self.score

    @property
    def is_within(self) -> bool:
        return self.margin >= 0

    @property
    def is_beyond_doubt(self) -> bool:
        """So far above that chance is no explanation; an exact score always is."""
        return self.margin < -_SURE * self.standard_error


@dataclass(frozen=True)
class Attacked:
    """One attack on both views."""

    unprotected: Outcome
    release: Outcome


@dataclass(frozen=True)
class Scene:
    """A release under attack; what several scenarios look at is prepared once."""

    night: Night
    release_id: str
    mechanisms: tuple[Mechanism, ...]
    day: DayContributions
    rho: float
    effort: Effort
    seed: int = 0
    notes: list[str] = field(default_factory=list)

    @cached_property
    def worst(self) -> Neighbours:
        crowds = neighbours.worst_crowds(self.mechanisms)
        return neighbours.neighbours(self.night, crowds, worlds=self.effort.worlds)

    @cached_property
    def worst_runs(self) -> Runs:
        return self.worst.protected(self.night, repeats=self.effort.repeats)

    @cached_property
    def small_tables(self) -> Neighbours:
        """Cells: a zone's total; a zone, the one inside it; the total's three parts by area."""
        crowds = [
            Crowd(self.named("zone_days.visitors"), 1, _TOTAL),
            Crowd(self.named("zone_days.visitors"), 2, _NESTED),
            Crowd(self.named("zone_catchment.visitors"), 3, _PARTS),
        ]
        return neighbours.neighbours(self.night, crowds, worlds=1)

    @cached_property
    def small_runs(self) -> Runs:
        return self.small_tables.protected(self.night, repeats=self.effort.runs)

    @cached_property
    def by_exposure(self) -> Integers:
        """Subscribers of the day, whose day shows most first."""
        return np.argsort(-self.day.exposure(), kind="stable")

    def named(self, name: str) -> Mechanism:
        return next(one for one in self.mechanisms if one.name == name)

    def chance(self) -> np.random.Generator:
        """For choosing people and groups; noise never comes from here."""
        return np.random.default_rng(self.seed)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
