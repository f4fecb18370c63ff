"""Decisions night by night: in whatever parts and order they arrive, the periods are the same."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from pyspark.sql import SparkSession

from jobs import certify
from jobs.erase_subscribers import erase_subscribers
from jobs.frames import local_frame
from jobs.ingest_decisions import ingest_decisions
from jobs.runtime import Night, load_settings, night_of
from jobs.store import Store
from tests.small_world import write_decisions
from transforms import consent
from transforms.errors import Refused
from transforms.tables import CONSENT_DECISIONS, CONSENT_DELIVERIES, CONSENT_PERIODS, Table

pytestmark = pytest.mark.slow

DAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)


class Decision(NamedTuple):
    decision_id: str | None
    subscriber_id: str | None
    action: str
    verified: bool | None = True
    decided_at: datetime | None = datetime(2026, 11, 20, 12, tzinfo=UTC)
    received_at: datetime | None = datetime(2026, 11, 23, 12, tzinfo=UTC)
    channel: str = "web"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Site:
    """A warehouse and the landing of its decisions."""

    def __init__(self, spark: SparkSession, root: Path, *lines: str) -> None:
        self.spark, self.root, self.number = spark, root, 0
        (root / "landing/decisions").mkdir(parents=True)
        self.conf = root / "own.toml"
        self.conf.write_text(
            f'[paths]\nlanding = "{root}/landing"\nrestricted = "{root}/restricted"\n'
            f'published = "{root}/published"\n' + "\n".join(lines)
        )

    def deliver(self, decisions: Iterable[Decision], *, aged: timedelta = timedelta()) -> Path:
        """One more file."""
        file = write_decisions(self.root / f"landing/decisions/{self.number:04}.parquet", decisions)
        self.number += 1
        moment = (NOW - aged).timestamp()
        os.utime(file, (moment, moment))
        return file

    def night(self, now: datetime = NOW) -> Night:
        return night_of(load_settings(str(self.conf)), DAY, self.spark, now=lambda: now)

    def ingest(self, now: datetime = NOW) -> str:
        return ingest_decisions(self.night(now))

    def rows(self, table: Table) -> list[tuple[object, ...]]:
        night = self.night()
        return sorted((tuple(row) for row in night.store.read(table).collect()), key=str)

    def version(self, table: Table) -> int:
        return self.night().store.version(table)


@pytest.fixture
def site(spark: SparkSession, tmp_path: Path) -> Site:
    return Site(spark, tmp_path)


def periods_at_once(spark: SparkSession, root: Path, decisions: Sequence[Decision]) -> list[object]:
    site = Site(spark, root)
    site.deliver(decisions)
    site.ingest()
    return list(site.rows(CONSENT_PERIODS))


def everything(seed: int, people: int = 150) -> list[Decision]:
    """Decisions of all kinds: late, repeated, contradicting, unverified, undated, dated ahead."""
    chance = random.Random(seed)
    instants = [at(f"2026-11-{day:02}T{hour:02}:00") for day in (2, 9, 22, 23) for hour in (0, 11)]
    ahead = [at("2026-11-24T01:30"), at("2026-12-24T00:00"), None]
    rows = [
        Decision(
            decision_id=chance.choice([f"d{number}", f"d{number}", f"d{number - 7}", None]),
            subscriber_id=f"person {chance.randrange(people // 3)}",
            action=chance.choice(["opt_out", "opt_in", "opt_in", "status_check", "toggle"]),
            verified=chance.choice([True, True, True, False, None]),
            decided_at=chance.choice([*instants, *instants, *ahead]),
            received_at=chance.choice(instants),
            channel=chance.choice(["web", "app"]),
        )
        for number in range(people)
    ]
    again = [
        one._replace(received_at=chance.choice(instants)) for one in chance.choices(rows, k=40)
    ]
    return [*rows, *again]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_in_whatever_parts_and_order_decisions_arrive_the_periods_are_the_same(
    spark: SparkSession, tmp_path: Path, seed: int
) -> None:
    decisions = everything(seed)
    expected = periods_at_once(spark, tmp_path / "at once", decisions)
    random.Random(seed).shuffle(decisions)
    site = Site(spark, tmp_path / "in parts")
    for part in (decisions[:60], decisions[60:62], decisions[62:] + decisions[:20]):
        site.deliver(part)
        site.ingest()
    assert len(expected) > 30
    assert site.rows(CONSENT_PERIODS) == expected


def test_what_was_read_is_not_read_again_and_changes_no_byte(site: Site) -> None:
    site.deliver([Decision("1", "ann", "opt_out"), Decision("2", "bob", "opt_in")])
    assert site.ingest() == "fewer than 10 new decisions, fewer than 10 changed periods"
    tables = (CONSENT_PERIODS, CONSENT_DECISIONS, CONSENT_DELIVERIES)
    before = {table.name: (site.version(table), site.rows(table)) for table in tables}
    assert site.ingest() == "no new file, 0 changed periods"
    assert {table.name: (site.version(table), site.rows(table)) for table in tables} == before


def test_a_file_that_was_written_anew_is_read_again(site: Site) -> None:
    file = site.deliver([Decision("1", "ann", "opt_out")])
    site.ingest()
    site.number = 0
    assert site.deliver([Decision("2", "bob", "opt_out")], aged=timedelta(hours=1)) == file
    site.ingest()
    assert [row[0] for row in site.rows(CONSENT_PERIODS)] == ["ann", "bob"]


def test_what_is_still_being_written_is_not_read(site: Site) -> None:
    file = site.deliver([Decision("1", "ann", "opt_out")])
    half = file.parent / "_temporary" / "0" / "part-0.parquet"
    half.parent.mkdir(parents=True)
    half.write_bytes(file.read_bytes()[:100])
    assert site.ingest() == "fewer than 10 new decisions, fewer than 10 changed periods"
    assert len(site.rows(CONSENT_DELIVERIES)) == 1


def test_decisions_that_the_operator_no_longer_delivers_still_hold(site: Site) -> None:
    old = site.deliver([Decision("1", "ann", "opt_out")])
    site.ingest()
    old.unlink()
    site.deliver([Decision("2", "bob", "opt_out")])
    site.ingest()
    assert [row[0] for row in site.rows(CONSENT_PERIODS)] == ["ann", "bob"]


def test_one_id_that_turns_up_with_another_content_opts_out_whoever_it_concerns(
    site: Site,
) -> None:
    site.deliver([Decision("1", "ann", "opt_in"), Decision("2", "cem", "opt_in")])
    site.ingest()
    assert [row[1] for row in site.rows(CONSENT_PERIODS)] == [True, True]
    site.deliver([Decision("1", "bob", "opt_in")])
    site.ingest()
    states = {row[0]: row[1] for row in site.rows(CONSENT_PERIODS)}
    assert states == {"ann": False, "bob": False, "cem": True}


def test_an_opt_in_dated_ahead_holds_when_its_time_has_come(site: Site) -> None:
    tomorrow = NOW + timedelta(days=1)
    site.deliver(
        [
            Decision("1", "ann", "opt_out"),
            Decision("2", "ann", "opt_in", decided_at=tomorrow),
            Decision("3", "bob", "opt_out", decided_at=tomorrow),
        ]
    )
    site.ingest()
    assert [(row[0], row[1]) for row in site.rows(CONSENT_PERIODS)] == [
        ("ann", False),
        ("bob", False),
    ]
    site.ingest(tomorrow + timedelta(hours=1))
    states = [(row[0], row[1]) for row in site.rows(CONSENT_PERIODS)]
    assert states == [("ann", False), ("ann", True), ("bob", False)]


@pytest.mark.parametrize(
    ("step", "table"),
    [("append", CONSENT_PERIODS), ("update", CONSENT_PERIODS), ("append", CONSENT_DELIVERIES)],
    ids=lambda part: getattr(part, "name", part),
)
def test_cut_short_anywhere_nobody_who_said_no_takes_part_and_the_next_run_makes_up_for_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, step: str, table: Table
) -> None:
    """Stored are decisions, then new periods, then the ends of old ones, then what was read."""
    site.deliver([Decision("1", "ann", "opt_in")])
    site.ingest()
    site.deliver([Decision("2", "ann", "opt_out", decided_at=at("2026-11-21T12:00"))])
    with monkeypatch.context() as broken:
        whole = getattr(Store, step)

        def stops(store: Store, into: Table, frame: object, **options: object) -> None:
            if into is table:
                raise OSError("no space left")
            whole(store, into, frame, **options)

        broken.setattr(Store, step, stops)
        with pytest.raises(OSError, match="no space left"):
            site.ingest()
    in_and_out = [("ann", False), ("ann", True)]
    stored = [(row[0], row[1]) for row in site.rows(CONSENT_PERIODS)]
    assert stored == (
        [("ann", True)] if (step, table) == ("append", CONSENT_PERIODS) else in_and_out
    )
    assert site.ingest().startswith("fewer than 10 new decisions")
    periods = site.rows(CONSENT_PERIODS)
    assert [(row[0], row[1]) for row in periods] == in_and_out
    assert [row[3] is None for row in periods] == [True, False]
    assert site.ingest() == "no new file, 0 changed periods"


@pytest.mark.parametrize("action", ["opt_in", "opt_out"])
def test_between_a_new_period_and_the_end_of_the_old_one_nobody_takes_part(
    site: Site, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    before = {"opt_in": "opt_out", "opt_out": "opt_in"}[action]
    site.deliver([Decision("1", "ann", before, decided_at=at("2026-11-01T12:00"))])
    site.ingest()
    site.deliver([Decision("2", "ann", action, decided_at=at("2026-11-21T12:00"))])
    with monkeypatch.context() as broken:

        def stops(*_: object) -> None:
            raise OSError("no space left")

        broken.setattr(Store, "update", stops)
        with pytest.raises(OSError, match="no space left"):
            site.ingest()
    night = site.night()
    ann = consent.with_taking_part(
        local_frame(site.spark, [("ann",)], "subscriber_id string"),
        night.store.read(CONSENT_PERIODS),
        start=night.day.start,
        end=night.day.end,
        default="opt_out",
    )
    assert [row.left_out for row in ann.collect()] == ["opted_out"]


def test_what_changes_nothing_is_counted_kept_and_told(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.deliver(
        [
            Decision("1", "ann", "opt_out", verified=None),
            Decision("2", "bob", "opt_out", verified=False),
            Decision("3", "cem", "toggle"),
            Decision("4", " ", "opt_out"),
            Decision("5", "dan", "status_check"),
            Decision("6", "eve", "opt_out"),
        ]
    )
    site.ingest()
    assert [row[0] for row in site.rows(CONSENT_PERIODS)] == ["eve"]
    faults = {row[1]: row[-1] for row in site.rows(CONSENT_DECISIONS)}
    assert faults == {
        "1": "unverified",
        "2": "unverified",
        "3": "unknown_action",
        "4": "no_subscriber",
        "5": "status_check",
        "6": None,
    }
    [note] = [line for line in capsys.readouterr().out.splitlines() if "change nothing" in line]
    assert "unverified fewer than 10" in note
    assert not [name for name in ("ann", "bob", "cem", "dan", "eve") if name in note]


def test_of_who_was_erased_no_decision_comes_back(site: Site) -> None:
    """Though the landing still holds it, in a file that is read again and in a new one."""
    ann, bob = "491700000001", "491700000002"
    said_no = [Decision("1", ann, "opt_out"), Decision("2", bob, "opt_out")]
    file = site.deliver(said_no)
    site.ingest()
    ids = site.root / "ids.txt"
    ids.write_text(ann)
    assert erase_subscribers(site.night(), ids=ids).outcome == "certified"
    # Nor to the second reckoning, where it might contradict one of somebody else's.
    reckoned = certify.as_delivered(site.night()).select("subscriber_id").distinct().collect()
    assert [row.subscriber_id for row in reckoned] == [bob]
    site.number = 0
    assert site.deliver(said_no, aged=timedelta(hours=1)) == file
    site.deliver([Decision("3", ann, "opt_in"), Decision("4", None, "opt_in")])
    assert site.ingest().startswith("fewer than 10 new decisions")
    assert {row[2] for row in site.rows(CONSENT_DECISIONS)} == {bob, None}
    assert {row[0] for row in site.rows(CONSENT_PERIODS)} == {bob}
    again = erase_subscribers(site.night(), ids=ids)
    assert (again.outcome, sum((again.rows_removed or {}).values())) == ("certified", 0)


def test_stale_decisions_are_refused(site: Site) -> None:
    """The day ends at 23:00 UTC on the 23rd; a day before that is the oldest that is believed."""
    site.deliver([Decision("1", "ann", "opt_out", received_at=at("2026-11-22T22:59"))])
    for file in (site.root / "landing/decisions").iterdir():
        moment = at("2026-11-22T22:58").timestamp()
        os.utime(file, (moment, moment))
    with pytest.raises(Refused) as refusal:
        site.ingest()
    assert str(refusal.value) == (
        "decisions for 2026-11-23: found the newest of 2026-11-22 22:59 UTC, expected one of "
        "2026-11-22 23:00 or later (consent.max_age 24 h); no event was read"
    )


@pytest.mark.parametrize(
    ("received", "changed"),
    [("2026-11-22T23:00", "2026-01-01T00:00"), ("2026-01-01T00:00", "2026-11-22T23:00")],
    ids=["a decision of the day", "a file of the day"],
)
def test_one_sign_of_the_day_is_enough(site: Site, received: str, changed: str) -> None:
    site.deliver([Decision("1", "ann", "opt_out", received_at=at(received))])
    for file in (site.root / "landing/decisions").iterdir():
        os.utime(file, (at(changed).timestamp(),) * 2)
    site.ingest()
    assert [row[0] for row in site.rows(CONSENT_PERIODS)] == ["ann"]


def test_a_decision_from_the_future_is_no_sign_of_life(site: Site) -> None:
    file = site.deliver([Decision("1", "ann", "opt_out", received_at=at("2027-01-01T00:00"))])
    os.utime(file, (at("2026-01-01T00:00").timestamp(),) * 2)
    with pytest.raises(Refused, match="newest of 2026-01-01"):
        site.ingest()
