"""Runs are entered from their start on; those that were killed by the next one that comes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.detect_visits import Accounting
from jobs.files import File
from jobs.frames import local_frame
from jobs.landing import EventFolder
from jobs.runs import came_later, recorded, settle_killed
from jobs.store import Store
from tests import ledger_entries
from transforms.errors import Failed, Refused
from transforms.tables import (
    FAILED,
    INTERRUPTED,
    PUBLISHED,
    REFUSED,
    RELEASES,
    RUNNING,
    RUNS,
)

pytestmark = pytest.mark.slow

DAY = ledger_entries.DAY
BEFORE = DAY - timedelta(days=1)
THREE = datetime(2026, 11, 25, 3, tzinfo=UTC)
ACCOUNTING = Accounting(
    other_day=10,
    rejected={"no_id": 2, "no_cell": 1},
    not_taking_part=4,
    accepted=83,
    late=7,
    files=[("events/a.parquet", 1000), ("cells/c.parquet", 50)],
)
ACCOUNTED = {"rows_in": 100, "other_day": 10, "rejected": 3, "not_taking_part": 4, "accepted": 83}


@dataclass
class Key:
    destroyed: int = 0

    def destroy(self) -> None:
        self.destroyed += 1


@dataclass
class Landing:
    """Files of the day's own folder; that of the day after grows on."""

    files: list[File] = field(default_factory=list)

    def event_folders(self, day: date) -> list[EventFolder]:
        after = [File("events/next.parquet", 77, THREE)]
        return [
            EventFolder(day, "events", self.files),
            EventFolder(day + timedelta(days=1), "next", after),
        ]


@pytest.fixture
def store(spark: SparkSession, tmp_path: Path) -> Store:
    return Store(spark, str(tmp_path / "restricted"), str(tmp_path / "published"))


@pytest.fixture
def night(store: Store) -> Any:
    return of(store)


def of(store: Store, day: date = DAY, run_id: str = "a") -> Any:
    return SimpleNamespace(
        run_id=run_id,
        day=SimpleNamespace(date=day),
        key=Key(),
        now=lambda: THREE,
        landing=Landing(),
        spark=store.spark,
        store=store,
        of_day=lambda table: store.read(table).where(f"day = '{day}'"),
    )


def entered(store: Store) -> dict[str, str]:
    """Outcomes by run."""
    return {row.run_id: row.outcome for row in store.read(RUNS).collect()}


def running(night: Any, *, minutes: int = 0) -> None:
    """A run that was killed: entered, and never again."""
    started_at = THREE + timedelta(minutes=minutes)
    row = (night.run_id, night.day.date, started_at, None, RUNNING, *[None] * 6)
    night.store.append(RUNS, local_frame(night.spark, [row], RUNS.schema))


def release(store: Store, day: date, *, number: int = 1, is_open: bool = False) -> None:
    """In the ledger, with the line of one measure."""
    entry = ledger_entries.entry(day=day, number=number)
    entry = replace(entry, rows=None, suppressed=None) if is_open else entry
    row = asdict(entry) | {"delta": 0.0, "input_versions": {}}
    store.append(RELEASES, local_frame(store.spark, [row], RELEASES.schema))


# --- while it runs and when it ends -----------------------------------------------------------


def test_a_run_is_entered_from_its_start_to_its_end(night: Any, store: Store) -> None:
    with recorded(night) as run:
        [row] = store.read(RUNS).collect()
        assert (row.outcome, row.ended_at, row.rows_in) == (RUNNING, None, None)
        run.account(ACCOUNTING)
        [row] = store.read(RUNS).collect()
        assert (row.outcome, row.rows_in) == (RUNNING, 100)
        assert night.key.destroyed == 0
    [row] = store.read(RUNS).collect()
    assert row.outcome == PUBLISHED
    assert row.ended_at is not None
    assert {name: row[name] for name in ACCOUNTED} == ACCOUNTED
    assert [tuple(file) for file in row.files_read] == ACCOUNTING.files
    assert night.key.destroyed == 1


@pytest.mark.parametrize(
    ("kind", "outcome"), [(Failed, FAILED), (Refused, REFUSED), (OSError, FAILED)]
)
def test_a_run_that_fails_says_how_and_leaves_no_key(
    night: Any, store: Store, kind: Callable[..., Exception], outcome: str
) -> None:
    parts = {"found": "none", "expected": "one", "consequence": "nothing"}
    error = kind("events", **parts) if kind is not OSError else OSError("gone")
    with pytest.raises(type(error)), recorded(night):
        raise error
    assert entered(store) == {"a": outcome}
    assert night.key.destroyed == 1


def test_the_error_is_the_night_s_even_if_nothing_can_be_entered_any_more(
    night: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    def fails() -> None:
        with recorded(night):
            monkeypatch.setattr(Store, "replace", full)
            raise OSError("the first")

    with pytest.raises(OSError, match="the first"):
        fails()
    assert night.key.destroyed == 1


def test_what_finishes_a_release_tells_what_was_read_for_it(night: Any, store: Store) -> None:
    with suppress(OSError), recorded(night) as run:
        run.account(ACCOUNTING)
        raise OSError("gone")
    with recorded(of(store, run_id="b")) as run:
        run.account_as_before()
    rows = {row.run_id: row for row in store.read(RUNS).collect()}
    assert rows["b"].outcome == PUBLISHED
    for name in (*ACCOUNTED, "files_read"):
        assert rows["b"][name] == rows["a"][name]


# --- those that were killed -------------------------------------------------------------------


def test_a_killed_run_was_interrupted_and_its_key_goes(night: Any, store: Store) -> None:
    running(night)
    settle_killed(of(store, run_id="b"))
    assert entered(store) == {"a": INTERRUPTED}
    again = of(store, run_id="c")
    settle_killed(again)
    assert entered(store) == {"a": INTERRUPTED}
    assert again.key.destroyed == 1


def test_one_that_was_killed_when_all_was_published_has_published(store: Store) -> None:
    for number, run_id in enumerate("abc"):
        running(of(store, run_id=run_id), minutes=number)
    running(of(store, BEFORE, run_id="d"))
    release(store, DAY)
    release(store, BEFORE, is_open=True)
    settle_killed(of(store, run_id="e"))
    assert entered(store) == {
        "a": INTERRUPTED,
        "b": INTERRUPTED,
        "c": PUBLISHED,
        "d": INTERRUPTED,
    }


def test_each_release_has_one_run_that_published_it(night: Any, store: Store) -> None:
    release(store, DAY)
    with recorded(night):
        pass
    running(of(store, run_id="b"), minutes=1)
    settle_killed(of(store, run_id="c"))
    assert entered(store) == {"a": PUBLISHED, "b": INTERRUPTED}
    running(of(store, run_id="d"), minutes=2)
    release(store, DAY, number=2)
    settle_killed(of(store, run_id="e"))
    assert entered(store)["d"] == PUBLISHED, "it restated the day"


# --- what comes later -------------------------------------------------------------------------


def test_files_that_came_later_are_told_and_how_much_they_are(night: Any) -> None:
    assert came_later(night) is None, "nothing was read yet"
    with recorded(night) as run:
        run.account(ACCOUNTING)
    night.landing.files = [File("events/a.parquet", 1000, THREE)]
    assert came_later(night) is None
    night.landing.files += [
        File("events/b.parquet", 500, THREE),
        File("events/c.parquet", 500, THREE),
    ]
    assert (
        came_later(night)
        == "2 of 3 files of events came later or were changed, 50.0% of their bytes"
    )
    night.landing.files = [File("events/a.parquet", 1200, THREE)]
    assert (
        came_later(night)
        == "1 of 1 files of events came later or were changed, 100.0% of their bytes"
    )
