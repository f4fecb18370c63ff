"""A night waits for what `[arrival]` wants, for so long, and says what it still lacks then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.await_arrival import await_arrival
from jobs.files import File
from jobs.landing import EventFolder
from transforms.errors import Failed
from transforms.settings import Arrival

DAY = date(2026, 11, 23)
BEFORE, AFTER = DAY - timedelta(days=1), DAY + timedelta(days=1)
NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=5)


@dataclass
class Landing:
    """Folders as they are at each moment: when their newest file was changed, None without any."""

    changed: Mapping[date, datetime | None]
    markers: set[tuple[date, str]] = field(default_factory=set)

    def event_folders(self, day: date) -> list[EventFolder]:
        return [
            EventFolder(one, f"events/date={one}", self._files(one)) for one in (BEFORE, DAY, AFTER)
        ]

    def _files(self, one: date) -> list[File] | None:
        changed = self.changed.get(one)
        return None if changed is None else [File(f"{one}.parquet", 1_500_000, changed)]

    def holds(self, folder: str, name: str) -> bool:
        return (date.fromisoformat(folder[-10:]), name) in self.markers


@dataclass
class Clock:
    """Time passes only while somebody sleeps; then `meanwhile` happens."""

    now: datetime = NOW
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


def night(landing: Landing, clock: Clock, **rules: Any) -> Any:
    arrival = Arrival(**({"quiet": 0.0, "day_after": False, "wait": 0.0} | rules))
    return SimpleNamespace(
        settings=SimpleNamespace(arrival=arrival),
        day=SimpleNamespace(date=DAY),
        landing=landing,
        now=lambda: clock.now,
    )


ALL_THERE = {BEFORE: LONG_AGO, DAY: LONG_AGO}


def test_what_is_there_is_told_without_a_wait() -> None:
    clock = Clock()
    told = await_arrival(night(Landing(ALL_THERE), clock), sleep=clock.sleep)
    assert told == "2 files, 3.0 MB, the newest of 2026-11-23 22:00 UTC"
    assert clock.slept == []


@pytest.mark.parametrize(
    ("landing", "rules", "found"),
    [
        (Landing({BEFORE: LONG_AGO}), {}, "no such folder"),
        (Landing(ALL_THERE), {"marker": "_SUCCESS"}, f"no _SUCCESS in events/date={BEFORE}"),
        (
            Landing(ALL_THERE, {(BEFORE, "_SUCCESS")}),
            {"marker": "_SUCCESS"},
            f"no _SUCCESS in events/date={DAY}",
        ),
        (
            Landing(ALL_THERE | {DAY: NOW - timedelta(minutes=4)}),
            {"quiet": 5.0},
            f"a change at 02:56:00 UTC in events/date={DAY}",
        ),
        (Landing(ALL_THERE), {"day_after": True}, "no such folder"),
    ],
)
def test_what_is_missing_is_named(landing: Landing, rules: dict[str, Any], found: str) -> None:
    with pytest.raises(Failed) as error:
        await_arrival(night(landing, Clock(), **rules))
    assert str(error.value).startswith(f"events of {DAY}: found {found}, expected ")
    assert "no event was read" in str(error.value)


@pytest.mark.parametrize(
    ("landing", "rules"),
    [
        (Landing({DAY: LONG_AGO}), {}),
        (Landing(ALL_THERE | {AFTER: NOW}), {"quiet": 5.0}),
        (Landing(ALL_THERE, {(BEFORE, "done"), (DAY, "done")}), {"marker": "done"}),
        (Landing(ALL_THERE | {AFTER: LONG_AGO}), {"day_after": True, "quiet": 60.0}),
    ],
    ids=["first day of all", "the day after is still written", "marked", "the day after is there"],
)
def test_what_is_enough_is_enough(landing: Landing, rules: dict[str, Any]) -> None:
    clock = Clock()
    await_arrival(night(landing, clock, **rules), sleep=clock.sleep)
    assert clock.slept == []


def test_a_night_waits_until_it_is_there() -> None:
    landing, clock = Landing({BEFORE: LONG_AGO}), Clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if len(clock.slept) == 3:
            landing.changed = ALL_THERE

    await_arrival(night(landing, clock, wait=30.0), sleep=sleep)
    assert len(clock.slept) == 3


def test_a_night_waits_no_longer_than_it_may() -> None:
    clock = Clock()
    with pytest.raises(Failed, match="no such folder after 2 minutes"):
        await_arrival(night(Landing({}), clock, wait=2.0), sleep=clock.sleep)
    assert sum(clock.slept) == 120
