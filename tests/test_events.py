"""Clean: each row gets the first outcome that applies, and every row is accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Row, SparkSession

from jobs.frames import local_frame
from tests.subscriber_days import gathered
from transforms import events
from transforms.consent import NOT_OPTED_IN, OPTED_OUT
from transforms.events import DUPLICATE, OTHER_DAY, REASONS
from transforms.packing import Packing, numbered

# 2026-11-23 in Berlin; folders are days of arrival in UTC.
DAY = date(2026, 11, 23)
START, END = datetime(2026, 11, 22, 23, tzinfo=UTC), datetime(2026, 11, 23, 23, tzinfo=UTC)
NOON = datetime(2026, 11, 23, 11, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CELLS = ("mall", "street")
LEFT_OUT = {"in": None, "also in": None, "out": OPTED_OUT, "not in": NOT_OPTED_IN}
KNOWN = "subscriber_id string, taking_part boolean, left_out string"


class Event(NamedTuple):
    subscriber_id: str | None = "in"
    event_time: datetime | None = NOON
    cell_id: str | None = "mall"
    event_type: str | None = "data"
    folder_date: date = DAY


SCHEMA = (
    "subscriber_id string, event_time timestamp, cell_id string, event_type string, "
    "folder_date date"
)


def cells(spark: SparkSession) -> DataFrame:
    return local_frame(spark, [(cell,) for cell in CELLS], "cell_id string")


def screened(spark: SparkSession, rows: Sequence[Event]) -> DataFrame:
    frame = local_frame(spark, rows, SCHEMA)
    return events.screened(frame, day_start=START, day_end=END)


def settled(rows: DataFrame, left_out: Mapping[str, str | None] = LEFT_OUT) -> DataFrame:
    """rows: all of the day. -> what became of their subscribers' days."""
    spark = rows.sparkSession
    subscribers = local_frame(
        spark, [(who, why is None, why) for who, why in left_out.items()], KNOWN
    )
    days = gathered(rows, cells(spark), day_start=START).days
    return events.settled(days, subscribers)


def counted(spark: SparkSession, rows: Sequence[Event]) -> Counter[str | None]:
    """Rows by outcome; None is accepted."""
    judged = screened(spark, rows)
    outcomes: Counter[str | None] = Counter()
    for row in judged.where("outcome IS NOT NULL").groupBy("outcome").count().collect():
        outcomes[row["outcome"]] += row["count"]
    for row in settled(events.of_day(judged)).collect():
        outcomes += of_subscriber_day(row)
    return outcomes


def of_subscriber_day(row: Row) -> Counter[str | None]:
    repeats = len(row.repeated or [])
    return +Counter({row.outcome: row.rows - repeats, DUPLICATE: repeats})


# ----------------------------------------------------------------- outcomes of a row by itself

ROWS: dict[str, tuple[Event, str | None]] = {
    "sound": (Event(), None),
    "no id": (Event(subscriber_id=None), "no_id"),
    "empty id": (Event(subscriber_id=""), "no_id"),
    "blank id": (Event(subscriber_id="   "), "no_id"),
    "blank id of a tab": (Event(subscriber_id="\t"), "no_id"),
    "no id before no time": (Event(subscriber_id=None, event_time=None), "no_id"),
    "no time": (Event(event_time=None), "no_time"),
    "no time before no cell": (Event(event_time=None, cell_id=None), "no_time"),
    "a year off": (Event(event_time=NOON - timedelta(days=365)), "implausible_time"),
    "in 1970": (Event(event_time=datetime(1970, 1, 1, tzinfo=UTC)), "implausible_time"),
    "two UTC days before its folder": (
        Event(
            event_time=datetime(2026, 11, 22, 23, 30, tzinfo=UTC), folder_date=date(2026, 11, 24)
        ),
        "implausible_time",
    ),
    "two UTC days after its folder": (
        Event(event_time=datetime(2026, 11, 23, 0, tzinfo=UTC), folder_date=date(2026, 11, 21)),
        "implausible_time",
    ),
    "late by one UTC day": (
        Event(event_time=datetime(2026, 11, 23, 0, tzinfo=UTC), folder_date=date(2026, 11, 24)),
        None,
    ),
    "one UTC day before its folder": (
        Event(event_time=START, folder_date=DAY),
        None,
    ),
    "implausible before no cell": (
        Event(event_time=NOON - timedelta(days=9), cell_id=None),
        "implausible_time",
    ),
    "first instant of the day": (Event(event_time=START), None),
    "just before the day": (Event(event_time=START - MICROSECOND), OTHER_DAY),
    "last instant of the day": (Event(event_time=END - MICROSECOND), None),
    "just after the day": (Event(event_time=END), OTHER_DAY),
    "yesterday in yesterday's folder": (
        Event(event_time=NOON - timedelta(days=1), folder_date=date(2026, 11, 22)),
        OTHER_DAY,
    ),
    "by a clock that is three hours slow": (Event(event_time=NOON - timedelta(hours=3)), None),
    "by a clock that is fourteen hours fast": (
        Event(event_time=NOON + timedelta(hours=14)),
        OTHER_DAY,
    ),
    "other day before no cell": (Event(event_time=END, cell_id=None), OTHER_DAY),
    "other day before unknown cell": (Event(event_time=END, cell_id="moon"), OTHER_DAY),
    "no cell": (Event(cell_id=None), "no_cell"),
    "blank cell": (Event(cell_id=" "), "no_cell"),
    "unknown cell": (Event(cell_id="moon"), "unknown_cell"),
    "case of a cell counts": (Event(cell_id="Mall"), "unknown_cell"),
    "unknown cell before no subscriber": (
        Event(subscriber_id="roamer", cell_id="moon"),
        "unknown_cell",
    ),
    "no event type": (Event(event_type=None), None),
}


@pytest.fixture(scope="module")
def outcome_of_row(spark: SparkSession) -> dict[str, str | None]:
    # The name of the case travels as the event type, which decides nothing here.
    rows = [event._replace(event_type=name) for name, (event, _) in ROWS.items()]
    known = numbered(cells(spark))
    placed = events.placed(screened(spark, rows), known)
    assert placed.where("outcome IS NULL AND number IS NULL").isEmpty()
    return {row.event_type: row.outcome for row in placed.collect()}


@pytest.mark.parametrize("name", ROWS)
def test_the_first_reason_that_applies_is_the_outcome(
    outcome_of_row: dict[str, str | None], name: str
) -> None:
    assert outcome_of_row[name] == ROWS[name][1]


# ------------------------------------------------------- outcomes that need the subscriber's others

TWICE: dict[str, tuple[list[Event], dict[str | None, int]]] = {
    "twice the same": ([Event(), Event()], {None: 1, "duplicate": 1}),
    "three times": ([Event()] * 3, {None: 1, "duplicate": 2}),
    "the same from two folders": (
        [Event(), Event(folder_date=date(2026, 11, 24))],
        {None: 1, "duplicate": 1},
    ),
    "twice without a type": ([Event(event_type=None)] * 2, {None: 1, "duplicate": 1}),
    "with and without a type": ([Event(), Event(event_type=None)], {None: 2}),
    "two types, each twice": (
        [Event(), Event(event_type="call"), Event(), Event(event_type="call")],
        {None: 2, "duplicate": 2},
    ),
    "a microsecond apart": ([Event(), Event(event_time=NOON + MICROSECOND)], {None: 2}),
    "two cells at once": ([Event(), Event(cell_id="street")], {None: 2}),
    "two subscribers at once": ([Event(), Event(subscriber_id="also in")], {None: 2}),
    "of a roamer": ([Event(subscriber_id="roamer")], {"not_a_subscriber": 1}),
    "of a roamer, twice": ([Event(subscriber_id="roamer")] * 2, {"not_a_subscriber": 2}),
    "of one who opted out": ([Event(subscriber_id="out")], {OPTED_OUT: 1}),
    "of one who opted out, twice": (
        [Event(subscriber_id="out")] * 2,
        {OPTED_OUT: 1, "duplicate": 1},
    ),
}


@pytest.fixture(scope="module")
def outcomes_together(spark: SparkSession) -> dict[str, Counter[str | None]]:
    """Outcomes of each case, with subscribers of its own."""
    rows, left_out = [], {}
    for name, (several, _) in TWICE.items():
        rows += [event._replace(subscriber_id=f"{name}|{event.subscriber_id}") for event in several]
        left_out |= {f"{name}|{who}": why for who, why in LEFT_OUT.items()}
    of_day = events.of_day(screened(spark, rows))
    found: dict[str, Counter[str | None]] = {name: Counter() for name in TWICE}
    for row in settled(of_day, left_out).collect():
        found[row.subscriber_id.split("|")[0]] += of_subscriber_day(row)
    return found


@pytest.mark.parametrize("name", TWICE)
def test_a_repetition_counts_once_and_only_of_who_takes_part(
    outcomes_together: dict[str, Counter[str | None]], name: str
) -> None:
    assert outcomes_together[name] == TWICE[name][1]


def test_accepted_is_who_when_and_where_and_no_more(spark: SparkSession) -> None:
    rows = [Event(), Event(), Event(subscriber_id="out"), Event(subscriber_id="roamer")]
    found = gathered(events.of_day(screened(spark, rows)), cells(spark), day_start=START)
    known = local_frame(spark, [("in", True, None), ("out", False, OPTED_OUT)], KNOWN)
    accepted = events.accepted(events.settled(found.days, known))
    assert accepted.columns == ["subscriber_id", "events"]
    [row] = accepted.collect()
    [event] = row.events
    assert row.subscriber_id == "in"
    assert unpacked(spark, found.packing, event) == (NOON, CELLS.index("mall"), "data")


def unpacked(spark: SparkSession, packing: Packing, event: int) -> tuple[object, ...]:
    frame = local_frame(spark, [(event,)], "event bigint")
    column = frame["event"]
    row = frame.select(
        packing.instant_us(column).alias("us"), packing.number(column), packing.event_type(column)
    ).first()
    assert row is not None
    return datetime.fromtimestamp(row.us / 1e6, UTC), row[1], row[2]


def test_what_cells_are_wrong_of_is_left_out_before_anything_is_packed(spark: SparkSession) -> None:
    rows = [Event(cell_id="moon"), Event(cell_id="moon"), Event(cell_id=None), Event()]
    days = settled(events.of_day(screened(spark, rows))).collect()
    assert {row.outcome: (row.rows, len(row.events)) for row in days} == {
        "unknown_cell": (2, 0),
        "no_cell": (1, 0),
        None: (1, 1),
    }


# -------------------------------------------------------------------------- subscribers, once each


def test_subscribers_are_tallied_by_what_became_of_them(spark: SparkSession) -> None:
    later = NOON + MICROSECOND
    rows = [
        *[Event(), Event(), Event(event_time=later)],
        *[Event(subscriber_id="also in")] * 3,
        *[Event(subscriber_id="out")] * 2,
        *[Event(subscriber_id="roamer")] * 2,
        *[Event(cell_id="moon")] * 4,
    ]
    of_day = events.of_day(screened(spark, rows))
    packing = gathered(of_day, cells(spark), day_start=START).packing
    tally = events.tallied(settled(of_day), packing=packing).collect()
    assert {row.outcome: (row.subscribers, row.rows, row.repeats) for row in tally} == {
        None: (2, 3, 3),
        OPTED_OUT: (1, 1, 1),
        "not_a_subscriber": (1, 2, 0),
        "unknown_cell": (1, 4, 0),
    }
    noon_us = round(NOON.timestamp() * 1e6)
    assert {(row.first_us, row.last_us) for row in tally if row.outcome is None} == {
        (noon_us, noon_us + 1)
    }


# -------------------------------------------------------------------------------- every row counts


def by_hand(rows: Iterable[Event]) -> Counter[str | None]:
    """The same rules, one row at a time."""
    seen: set[tuple[Any, ...]] = set()
    outcomes: Counter[str | None] = Counter()
    for event in rows:
        outcomes[_outcome_by_hand(event, seen)] += 1
    return outcomes


def _outcome_by_hand(event: Event, seen: set[tuple[Any, ...]]) -> str | None:
    if not (event.subscriber_id or "").strip():
        return "no_id"
    if event.event_time is None:
        return "no_time"
    if abs((event.event_time.date() - event.folder_date).days) > 1:
        return "implausible_time"
    if not START <= event.event_time < END:
        return OTHER_DAY
    if not (event.cell_id or "").strip():
        return "no_cell"
    if event.cell_id not in CELLS:
        return "unknown_cell"
    if event.subscriber_id not in LEFT_OUT:
        return "not_a_subscriber"
    if event[:4] in seen:
        return "duplicate"
    seen.add(event[:4])
    return LEFT_OUT[event.subscriber_id]


some_events = st.builds(
    Event,
    subscriber_id=st.sampled_from(["in", "in", "also in", "out", "not in", "roamer", "", None]),
    event_time=st.sampled_from(
        [NOON, NOON + MICROSECOND, START, START - MICROSECOND, END, NOON - timedelta(days=3), None]
    ),
    cell_id=st.sampled_from(["mall", "street", "moon", "", None]),
    event_type=st.sampled_from(["data", "call", None]),
    folder_date=st.sampled_from([DAY - timedelta(days=1), DAY, DAY + timedelta(days=1)]),
)


@given(rows=st.lists(some_events, min_size=150, max_size=300), data=st.data())
@settings(settings.get_profile("batches"))
def test_rows_in_are_other_day_rejected_not_taking_part_and_accepted(
    spark: SparkSession, rows: list[Event], data: st.DataObject
) -> None:
    outcomes = counted(spark, rows)
    assert sum(outcomes.values()) == len(rows)
    assert set(outcomes) <= {None, OTHER_DAY, OPTED_OUT, NOT_OPTED_IN, *REASONS}
    assert outcomes == by_hand(rows)
    shuffled = data.draw(st.randoms(use_true_random=False)).sample(rows, len(rows))
    assert counted(spark, shuffled) == outcomes
