"""Age limits: what is too old goes, down to the files, and what went is written down."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.erase_expired import erase_expired
from jobs.frames import local_frame
from jobs.keys import KeyFile, left_behind
from jobs.runtime import Night, load_settings, night_of
from jobs.store import Store
from transforms import retention
from transforms.days import LocalDay
from transforms.errors import Failed
from transforms.tables import (
    ATTACKS,
    CONSENT_DECISIONS,
    CONSENT_DELIVERIES,
    CONSENT_OBJECTIONS,
    CONSENT_PERIODS,
    EXPIRED,
    QUALITY,
    QUARANTINE,
    REWARDS_LEDGER,
    RUNS,
    TABLES,
    VISITS,
    Table,
)

pytestmark = pytest.mark.slow

CONF = Path(__file__).parent / "conf/tests.toml"
SETTINGS = load_settings(str(CONF))
DAY = date(2025, 11, 23)
NOON = datetime(2025, 11, 23, 12, tzinfo=UTC)
LONG_AGO = datetime(1999, 1, 1, tzinfo=UTC)
LIMITED = [table for table in TABLES if SETTINGS.retention.get(table.name, "kept") != "kept"]


def days_ago(days: int) -> date:
    return DAY - timedelta(days=days)


def fill(night: Night, table: Table, rows: Iterable[tuple[Any, ...]]) -> None:
    """A file and a version for each row."""
    for row in rows:
        frame = local_frame(night.spark, [row], night.store.read(table).schema)
        night.store.append(table, frame)


def visit(day: date) -> tuple[Any, ...]:
    return (day, f"pseudonym of {day}", "mall", NOON, NOON, 60.0, 0.5, "pass_by", "unknown")


def rejected(day: date, number: int = 1) -> tuple[Any, ...]:
    return (day, "no_cell", number, "491700000001", NOON, None, None, day)


def decision(name: str, at: datetime, fault: str | None, id_: str | None = None) -> tuple[Any, ...]:
    return (name, id_, "4917", "opt_in", True, None, None, None, at, fault)


def days_in(night: Night, table: Table) -> list[date]:
    return sorted(row.day for row in night.store.read(table).select("day").collect())


def data_files(night: Night, table: Table) -> list[Path]:
    folder = Path(night.store.path(table))
    return [one for one in folder.rglob("*.parquet") if "_delta_log" not in one.parts]


def make_older(files: Iterable[Path], days: int) -> None:
    moment = (NOON - timedelta(days=days)).timestamp()
    for file in files:
        os.utime(file, (moment, moment))


def expired(night: Night) -> dict[str, tuple[Any, ...]]:
    rows = night.store.read(EXPIRED).collect()
    return {row.subject: (row["rows"], row.files, row.older_than) for row in rows}


def findings(night: Night) -> dict[str, Any]:
    rows = night.store.read(QUALITY).where("expectation = 'within_age_limit'").collect()
    return {row.subject: row for row in rows}


# ------------------------------------------------------------------------------ the catalogue


def test_every_restricted_table_has_a_limit_or_is_kept_on_purpose() -> None:
    limits = SETTINGS.retention
    assert set(limits) == {table.name for table in TABLES if table.root == "restricted"}
    assert limits["silver.visits"] == 7
    assert limits["ops.quarantine"] == limits["consent.decisions"] == 3
    people = {table.name for table in TABLES if table.is_about_people}
    assert {name for name in people if limits[name] == "kept"} == {
        "consent.periods",
        "consent.objections",
    }


def test_what_tells_the_age_of_a_row_is_a_column(spark: SparkSession) -> None:
    since = retention.first_kept(LocalDay(DAY, SETTINGS.zone_info), days=7)
    assert len(LIMITED) > 8
    for table in LIMITED:
        rows = local_frame(spark, [], table.schema)
        assert retention.over_limit(rows, table, since=since).columns == table.schema.names
    with pytest.raises(ValueError, match="nothing tells how old"):
        retention.older(CONSENT_PERIODS, since=since)


def test_of_decisions_only_those_are_over_that_hold_nothing(spark: SparkSession) -> None:
    """By the instant they were first seen; a faulty one whose id another one has keeps that other
    one from counting.
    """
    midnight = datetime(2025, 11, 20, 23, tzinfo=UTC)  # local midnight of the 21st
    before = midnight - timedelta(microseconds=1)
    rows = [
        decision("young", midnight, "unverified", "1"),
        decision("old", before, "unverified", "2"),
        decision("old without an id", before, "no_subscriber"),
        decision("another without an id", before, "unverified"),
        decision("old and sound", before, None, "3"),
        decision("old with the id of another", before, "unverified", "4"),
        decision("that other", before, None, "4"),
    ]
    since = retention.first_kept(LocalDay(DAY, SETTINGS.zone_info), days=3)
    frame = local_frame(spark, rows, CONSENT_DECISIONS.schema)
    over = retention.over_limit(frame, CONSENT_DECISIONS, since=since).collect()
    assert {row.content for row in over} == {"old", "old without an id", "another without an id"}


# ------------------------------------------------------------------------------ one warehouse


@pytest.fixture(scope="module")
def night(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A warehouse of many ages, and what one run leaves of it."""
    root = tmp_path_factory.mktemp("aged")
    folders = {name: str(root / name) for name in ("landing", "restricted", "published")}
    night = night_of(load_settings(str(CONF), folders), DAY, spark)
    fill(night, VISITS, [visit(days_ago(n)) for n in (0, 6, 7, 30)])
    fill(night, QUARANTINE, [rejected(days_ago(n)) for n in (0, 2, 3)])
    decisions = [decision("noise", LONG_AGO, "unverified"), decision("sound", LONG_AGO, None)]
    fill(night, CONSENT_DECISIONS, decisions)
    fill(night, CONSENT_OBJECTIONS, [("f" * 64, LONG_AGO, "mark")])
    fill(night, CONSENT_DELIVERIES, [("file", 1, LONG_AGO, LONG_AGO)])
    fill(night, ATTACKS, [("r", "linkage", "x", "release", 0.5, 0.1, 0.6, True, LONG_AGO)])
    months = [date(2015, 11, 1), date(2015, 12, 1)]
    fill(night, REWARDS_LEDGER, [("4917", month, 1, 1, "EUR") for month in months])
    for day in (days_ago(2), days_ago(1), DAY, days_ago(-1), None):
        KeyFile.of(night.settings.paths.keys_folder, day).make()
    Path(night.settings.paths.keys_folder, "no-day-at-all.key").write_text("somebody else's")
    return night


@pytest.fixture(scope="module")
def told(night: Night) -> str:
    folder = night.settings.paths.keys_folder
    assert left_behind("file", folder=folder, before=DAY) == [days_ago(2), days_ago(1)]
    return erase_expired(night)


def test_what_has_reached_its_limit_goes_down_to_the_files(night: Night, told: str) -> None:
    """Seven days of visits stay and three of the quarantine, the night's own included."""
    assert told == "fewer than 10 rows over their age limit"
    assert days_in(night, VISITS) == [days_ago(6), DAY]
    assert days_in(night, QUARANTINE) == [days_ago(2), DAY]
    for table in (VISITS, QUARANTINE):
        assert len(data_files(night, table)) == 2
        log = Path(night.store.path(table)) / "_delta_log"
        assert len(list(log.glob("*.json"))) == 1, "older entries are gone, too"
        folders = {path.name for path in log.parent.glob("day=*")}
        assert folders == {f"day={day}" for day in days_in(night, table)}
    assert [row.content for row in night.store.read(CONSENT_DECISIONS).collect()] == ["sound"]
    assert [row.month for row in night.store.read(REWARDS_LEDGER).collect()] == [date(2015, 12, 1)]


def test_what_went_is_written_down(night: Night, told: str) -> None:
    went = expired(night)
    assert went.pop("consent.decisions")[::2] == (1, days_ago(2))
    assert went == {
        "silver.visits": (2, 2, days_ago(6)),
        "ops.quarantine": (1, 1, days_ago(2)),
        "rewards.ledger": (1, 1, DAY - timedelta(days=3659)),
        "keys": (2, 0, DAY),
    }
    assert all(row.success for row in findings(night).values())
    assert findings(night)["silver.visits"].observed == "0 rows and 0 old files"


def test_what_is_kept_is_kept(night: Night, told: str) -> None:
    for table in (CONSENT_OBJECTIONS, CONSENT_DELIVERIES, ATTACKS):
        assert night.store.read(table).count() == 1, table.name


def test_keys_of_past_days_are_destroyed(night: Night, told: str) -> None:
    assert {one.name for one in Path(night.settings.paths.keys_folder).iterdir()} == {
        f"{DAY}.key",
        f"{days_ago(-1)}.key",
        "objections.key",
        "no-day-at-all.key",
    }


def test_a_second_time_there_is_nothing_to_do(night: Night, told: str) -> None:
    version, lines = night.store.version(VISITS), expired(night)
    assert erase_expired(night) == "0 rows over their age limit"
    assert night.store.version(VISITS) == version
    assert expired(night) == lines
    assert night.store.may_hold_older(VISITS, than=days_ago(5)), "one is six days old"
    assert not night.store.may_hold_older(VISITS, than=days_ago(6)), "its folders say so"
    assert night.store.may_hold_older(RUNS, than=LONG_AGO.date()), "who knows"


def test_of_people_what_was_replaced_goes_a_night_later(night: Night, told: str) -> None:
    """Who opted out late is in no version any more, but in a file."""
    files = []
    for table, row in ((VISITS, visit(DAY)), (CONSENT_OBJECTIONS, ("f" * 64, NOON, "mark"))):
        rows = night.store.read(table).count()
        night.store.merge(table, local_frame(night.spark, [row], table.schema))
        [stale] = night.store.stale_files(table)
        files.append(Path(stale.path.removeprefix("file:")))
        assert night.store.read(table).count() == rows
    make_older(files[:1], days=-1)
    make_older(files[1:], days=0)
    erase_expired(night)
    assert [file.exists() for file in files] == [True, False], "written this night, and before"


def test_a_table_that_stays_over_its_limit_is_a_quality_failure(
    night: Night, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {
        "forget": "0 rows and 1 old files",
        "delete_where": "fewer than 10 rows and 0 old files",
    }
    for broken, observed in left.items():
        fill(night, QUARANTINE, [rejected(days_ago(9))])
        make_older(data_files(night, QUARANTINE), days=8)
        with monkeypatch.context() as patch:
            patch.setattr(Store, broken, lambda *_: 0)
            with pytest.raises(Failed, match=r"quality of ops\.quarantine") as failure:
                erase_expired(night)
        assert observed in str(failure.value)
        assert str(failure.value).endswith("what is too old is still there")
    found = night.store.read(QUALITY).where("subject = 'ops.quarantine' AND NOT success")
    assert {row.observed for row in found.collect()} == set(left.values())
