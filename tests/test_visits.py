"""Stays: maximal runs of events whose cells see a zone; and where the night was spent."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from transforms import visits

MINUTE, MICROSECOND = timedelta(minutes=1), timedelta(microseconds=1)
GAP, MIN_DWELL, MAX_DWELL = 60 * MINUTE, 10 * MINUTE, 360 * MINUTE
# What each cell sees; `street` and `a street` see nothing.
SEES = {
    "mall 1": {"mall": 0.5},
    "mall 2": {"mall": 0.8},
    "plaza": {"plaza": 0.7},
    "both": {"mall": 0.3, "plaza": 0.6},
}
Event = tuple[datetime, str]
Stay = tuple[str, datetime, datetime, float, str]


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-23T{clock}")


def every(minutes: int, *, start: str, count: int, cell: str = "mall 1") -> list[Event]:
    return [(at(start) + number * minutes * MINUTE, cell) for number in range(count)]


def stays_of(spark: SparkSession, by_subscriber: dict[str, list[Event]]) -> dict[str, set[Stay]]:
    """zone_id, arrived_at, left_at, presence and kind of everybody's stays."""
    rows = [(who, *event) for who, events in by_subscriber.items() for event in events]
    events = spark.createDataFrame(
        rows, "subscriber_id string, event_time timestamp, cell_id string"
    )
    pairs = [(cell, *pair) for cell, zones in SEES.items() for pair in zones.items()]
    cell_zones = spark.createDataFrame(pairs, "cell_id string, zone_id string, probability double")
    stays = visits.stays(
        events,
        cell_zones,
        max_gap_s=int(GAP.total_seconds()),
        min_dwell_s=int(MIN_DWELL.total_seconds()),
        max_dwell_s=int(MAX_DWELL.total_seconds()),
    )
    found: dict[str, set[Stay]] = {who: set() for who in by_subscriber}
    count = 0
    for row in stays.collect():
        assert row.dwell_s == pytest.approx((row.left_at - row.arrived_at).total_seconds())
        stay = (row.zone_id, row.arrived_at, row.left_at, row.presence, row.kind)
        found[row.subscriber_id].add(stay)
        count += 1
    assert count == sum(len(several) for several in found.values())
    return found


# --------------------------------------------------------------------------------- literal cases

CASES: dict[str, tuple[list[Event], set[Stay]]] = {
    "one event": (
        [(at("09:00"), "mall 1")],
        {("mall", at("09:00"), at("09:00"), 0.5, "pass_by")},
    ),
    "one event that sees two zones": (
        [(at("09:00"), "both")],
        {
            ("mall", at("09:00"), at("09:00"), 0.3, "pass_by"),
            ("plaza", at("09:00"), at("09:00"), 0.6, "pass_by"),
        },
    ),
    "nothing seen": ([(at("09:00"), "street"), (at("09:30"), "street")], set()),
    "two cells of one zone": (
        [(at("09:00"), "mall 1"), (at("09:20"), "mall 2"), (at("09:40"), "mall 1")],
        {("mall", at("09:00"), at("09:40"), 0.8, "visit")},
    ),
    # -- silence
    "silence of exactly max_gap": (
        [(at("09:00"), "mall 1"), (at("10:00"), "mall 1")],
        {("mall", at("09:00"), at("10:00"), 0.5, "visit")},
    ),
    "a microsecond more": (
        [(at("09:00"), "mall 1"), (at("10:00:00.000001"), "mall 1")],
        {
            ("mall", at("09:00"), at("09:00"), 0.5, "pass_by"),
            ("mall", at("10:00:00.000001"), at("10:00:00.000001"), 0.5, "pass_by"),
        },
    ),
    "silence ends the stays in both zones": (
        [(at("09:00"), "both"), (at("09:30"), "both"), (at("11:00"), "both")],
        {
            ("mall", at("09:00"), at("09:30"), 0.3, "visit"),
            ("plaza", at("09:00"), at("09:30"), 0.6, "visit"),
            ("mall", at("11:00"), at("11:00"), 0.3, "pass_by"),
            ("plaza", at("11:00"), at("11:00"), 0.6, "pass_by"),
        },
    ),
    "seen again in time, but in another zone": (
        [(at("09:00"), "mall 1"), (at("09:50"), "plaza"), (at("10:40"), "mall 1")],
        {
            ("mall", at("09:00"), at("09:00"), 0.5, "pass_by"),
            ("plaza", at("09:50"), at("09:50"), 0.7, "pass_by"),
            ("mall", at("10:40"), at("10:40"), 0.5, "pass_by"),
        },
    ),
    # -- a cell that does not see the zone
    "a cell outside between": (
        [(at("09:00"), "mall 1"), (at("09:10"), "street"), (at("09:20"), "mall 1")],
        {
            ("mall", at("09:00"), at("09:00"), 0.5, "pass_by"),
            ("mall", at("09:20"), at("09:20"), 0.5, "pass_by"),
        },
    ),
    "a cell outside before and after": (
        [(at("08:59"), "street"), *every(10, start="09:00", count=3), (at("09:21"), "street")],
        {("mall", at("09:00"), at("09:20"), 0.5, "visit")},
    ),
    # -- overlapping zones
    "from one zone through both into the other": (
        [(at("09:00"), "mall 1"), (at("09:15"), "both"), (at("09:30"), "plaza")],
        {
            ("mall", at("09:00"), at("09:15"), 0.5, "visit"),
            ("plaza", at("09:15"), at("09:30"), 0.7, "visit"),
        },
    ),
    "one zone goes on while the other is left": (
        [(at("09:00"), "both"), (at("09:15"), "mall 1"), (at("09:30"), "both")],
        {
            ("mall", at("09:00"), at("09:30"), 0.5, "visit"),
            ("plaza", at("09:00"), at("09:00"), 0.6, "pass_by"),
            ("plaza", at("09:30"), at("09:30"), 0.6, "pass_by"),
        },
    ),
    # -- kinds at their borders
    "exactly min_dwell": (
        [(at("09:00"), "mall 1"), (at("09:10"), "mall 1")],
        {("mall", at("09:00"), at("09:10"), 0.5, "visit")},
    ),
    "a microsecond short of min_dwell": (
        [(at("09:00"), "mall 1"), (at("09:09:59.999999"), "mall 1")],
        {("mall", at("09:00"), at("09:09:59.999999"), 0.5, "pass_by")},
    ),
    "exactly max_dwell": (
        every(60, start="09:00", count=7),
        {("mall", at("09:00"), at("15:00"), 0.5, "visit")},
    ),
    "a microsecond more than max_dwell": (
        [*every(60, start="09:00", count=7), (at("15:00:00.000001"), "mall 1")],
        {("mall", at("09:00"), at("15:00:00.000001"), 0.5, "resident")},
    ),
    # -- two events at one instant come in the order of their cells
    "outside after at the same instant": (
        [(at("09:00"), "mall 1"), (at("09:20"), "street"), (at("09:20"), "mall 1")],
        {("mall", at("09:00"), at("09:20"), 0.5, "visit")},
    ),
    "outside before at the same instant": (
        [(at("09:00"), "mall 1"), (at("09:20"), "mall 1"), (at("09:20"), "a street")],
        {
            ("mall", at("09:00"), at("09:00"), 0.5, "pass_by"),
            ("mall", at("09:20"), at("09:20"), 0.5, "pass_by"),
        },
    ),
    "two events at one instant": (
        [(at("09:00"), "mall 1"), (at("09:00"), "mall 1"), (at("09:15"), "mall 1")],
        {("mall", at("09:00"), at("09:15"), 0.5, "visit")},
    ),
    "rows out of order": (
        [(at("09:40"), "mall 1"), (at("09:00"), "mall 1"), (at("09:20"), "mall 2")],
        {("mall", at("09:00"), at("09:40"), 0.8, "visit")},
    ),
}


@pytest.fixture(scope="module")
def stays(spark: SparkSession) -> dict[str, set[Stay]]:
    return stays_of(spark, {name: events for name, (events, _) in CASES.items()})


@pytest.mark.parametrize("name", CASES)
def test_a_stay_is_a_maximal_run_of_events_that_see_the_zone(
    stays: dict[str, set[Stay]], name: str
) -> None:
    assert stays[name] == CASES[name][1]


# ----------------------------------------------------------------------------------- any events


def by_hand(events: list[Event]) -> set[Stay]:
    """The same definition, one event at a time."""
    found: set[Stay] = set()
    open_runs: dict[str, list[Any]] = {}
    last = None

    def close(zone: str) -> None:
        arrived_at, left_at, presence = open_runs.pop(zone)
        dwell = left_at - arrived_at
        kind = "pass_by" if dwell < MIN_DWELL else "visit" if dwell <= MAX_DWELL else "resident"
        found.add((zone, arrived_at, left_at, presence, kind))

    for instant, cell in sorted(events):
        silent = last is not None and instant - last > GAP
        zones = SEES.get(cell, {})
        for zone in list(open_runs):
            if silent or zone not in zones:
                close(zone)
        for zone, probability in zones.items():
            run = open_runs.setdefault(zone, [instant, instant, 0.0])
            run[1], run[2] = instant, max(run[2], probability)
        last = instant
    for zone in list(open_runs):
        close(zone)
    return found


some_events = st.lists(
    st.tuples(
        st.integers(0, 60).map(lambda number: at("08:00") + number * 10 * MINUTE),
        st.sampled_from([*SEES, "mall 1", "mall 1", "both", "street"]),
    ),
    min_size=1,
    max_size=25,
)


@given(several=st.lists(some_events, min_size=60, max_size=120))
@settings(settings.get_profile("batches"))
def test_stays_are_what_going_through_the_events_by_hand_gives(
    spark: SparkSession, several: list[list[Event]]
) -> None:
    subscribers = {f"s{number}": events for number, events in enumerate(several)}
    assert stays_of(spark, subscribers) == {who: by_hand(e) for who, e in subscribers.items()}


# ------------------------------------------------------------------------------------ home areas

AREAS = {
    "cell a": "871f00000ffffff",
    "cell a2": "871f00000ffffff",
    "cell b": "871f00001ffffff",
    "cell c": "871f00002ffffff",
    "far away": "87ff00000ffffff",
}
NIGHT = {
    # Berlin is one hour ahead of UTC in November.
    "most events": ([("01:00", "cell b"), ("02:00", "cell b"), ("03:00", "cell a")], "cell b"),
    "a tie goes to the smallest area": ([("01:00", "cell c"), ("02:00", "cell b")], "cell b"),
    "cells are counted, not areas": (
        [
            *[(f"01:0{minute}", "cell b") for minute in range(3)],
            *[(f"02:0{minute}", "cell a") for minute in range(2)],
            *[(f"03:0{minute}", "cell a2") for minute in range(2)],
        ],
        "cell b",
    ),
    "the day does not count": (
        [("01:00", "cell a"), *[(f"{hour}:00", "cell b") for hour in range(10, 20)]],
        "cell a",
    ),
    "the last instant of the night": (
        [("04:59:59.999999", "cell a"), ("12:00", "cell b")],
        "cell a",
    ),
    "six o'clock is day": ([("05:00", "cell a"), ("05:30", "cell a")], None),
    "silent at night": ([("12:00", "cell a")], None),
    "no residents there": ([("01:00", "far away")], "outside"),
}


def homes(spark: SparkSession, rows: list[tuple[str, datetime, str]]) -> DataFrame:
    events = spark.createDataFrame(
        rows, "subscriber_id string, event_time timestamp, cell_id string"
    )
    cells = spark.createDataFrame(list(AREAS.items()), "cell_id string, area string")
    with_residents = sorted({area for name, area in AREAS.items() if name != "far away"})
    areas = spark.createDataFrame([(area,) for area in with_residents], "area string")
    return visits.home_areas(events, cells, areas, timezone="Europe/Berlin")


def test_home_is_the_area_of_the_cell_with_most_events_of_the_night(spark: SparkSession) -> None:
    rows = [
        (who, at(clock if len(clock) > 4 else f"0{clock}"), cell)
        for who, (events, _) in NIGHT.items()
        for clock, cell in events
    ]
    midnight = [
        ("first instant", datetime(2026, 11, 22, 23), "cell a"),
        ("just before", datetime(2026, 11, 22, 23) - MICROSECOND, "cell a"),
    ]
    found = {row.subscriber_id: row.home_area for row in homes(spark, rows + midnight).collect()}
    expected = {who: AREAS.get(cell, cell) for who, (_, cell) in NIGHT.items() if cell is not None}
    assert found == expected | {"first instant": AREAS["cell a"]}


def test_the_night_ends_at_six_local_also_when_the_clocks_change(spark: SparkSession) -> None:
    rows = [
        ("spring", datetime(2026, 3, 29, 3, 59), "cell a"),
        ("spring", datetime(2026, 3, 29, 4, 0), "cell b"),
        ("spring", datetime(2026, 3, 29, 4, 30), "cell b"),
        ("autumn", datetime(2026, 10, 25, 4, 30), "cell a"),
        ("autumn", datetime(2026, 10, 25, 5, 0), "cell b"),
        ("autumn", datetime(2026, 10, 25, 5, 30), "cell b"),
    ]
    found = {row.subscriber_id: row.home_area for row in homes(spark, rows).collect()}
    assert found == {"spring": AREAS["cell a"], "autumn": AREAS["cell a"]}


def test_who_was_silent_at_night_lives_nobody_knows_where(spark: SparkSession) -> None:
    stays = spark.createDataFrame(
        [("known", "mall"), ("known", "plaza"), ("silent", "mall")],
        "subscriber_id string, zone_id string",
    )
    known = spark.createDataFrame([("known", "area 1")], "subscriber_id string, home_area string")
    found = defaultdict(list)
    for row in visits.with_home(stays, known).collect():
        found[row.subscriber_id].append(row.home_area)
    assert found == {"known": ["area 1", "area 1"], "silent": ["unknown"]}
