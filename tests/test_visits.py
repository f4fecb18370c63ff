"""Stays: runs of sightings and how far they reach; who is a visitor; where the night was spent."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from jobs.frames import local_frame
from tests.subscriber_days import gathered
from transforms import visits
from transforms.days import LocalDay
from transforms.events import accepted
from transforms.visits import Rules

MINUTE, MICROSECOND = timedelta(minutes=1), timedelta(microseconds=1)
GAP, REACH = 60 * MINUTE, 15 * MINUTE
DAY_START, DAY_END = datetime(2026, 11, 22, 23), datetime(2026, 11, 23, 23)
RULES = Rules(
    max_gap_s=3600,
    max_reach_s=900,
    min_share=0.3,
    min_dwell_s=600,
    max_dwell_s=21600,
    crossings=("handover",),
)
# What each cell tells; the mast is heard in both zones and round them, the street is elsewhere.
TELLS = {
    "mall 1": {"mall": 0.5},
    "mall 2": {"mall": 0.8},
    "plaza": {"plaza": 0.7},
    "both": {"mall": 0.3, "plaza": 0.6},
}
REACHES = {"mast": ("mall", "plaza"), "plaza": ("mall",)}
OPEN = {"plaza": [("07:00", "12:00"), ("13:00", "20:00")]}
Event = tuple[datetime, str, str]
Stay = tuple[str, datetime, datetime, float]


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-23T{clock}")


def seen(*events: str) -> list[Event]:
    """Events such as `09:00 mall 1`; with an exclamation mark, the phone changed cells then."""
    return [
        (at(one.split()[0]), one.split(" ", 1)[1].rstrip("!"), "handover" if "!" in one else "data")
        for one in events
    ]


def masts(tens: str, count: int) -> list[str]:
    """So many events at the mast, minute by minute."""
    return [f"{tens}{minute} mast" for minute in range(count)]


def stay(zone: str, arrived: str, left: str, presence: float) -> Stay:
    return zone, at(arrived), at(left), presence


def stays_of(spark: SparkSession, by_subscriber: dict[str, list[Event]]) -> dict[str, set[Stay]]:
    """zone_id, arrived_at, left_at and presence of everybody's stays."""
    rows = [(who, *event) for who, events in by_subscriber.items() for event in events]
    events = local_frame(
        spark, rows, "subscriber_id string, event_time timestamp, cell_id string, event_type string"
    )
    told = [(cell, *pair) for cell, zones in TELLS.items() for pair in zones.items()]
    heard = [(cell, zone) for cell, zones in REACHES.items() for zone in zones]
    hours = [(zone, [(at(a), at(b)) for a, b in several]) for zone, several in OPEN.items()]
    named = {
        *TELLS,
        *REACHES,
        *(event[1] for several in by_subscriber.values() for event in several),
    }
    cells = local_frame(spark, [(cell,) for cell in sorted(named)], "cell_id string")
    found_events = gathered(events, cells, day_start=DAY_START.replace(tzinfo=UTC))
    stays = visits.stays(
        accepted(found_events.days),
        found_events.cells,
        local_frame(spark, told, "cell_id string, zone_id string, probability double"),
        local_frame(spark, heard, "cell_id string, zone_id string"),
        local_frame(spark, hours, visits.OPEN_HOURS),
        packing=found_events.packing,
        rules=RULES,
        day_end=DAY_END.replace(tzinfo=UTC),
    )
    found: dict[str, set[Stay]] = {who: set() for who in by_subscriber}
    count = 0
    for row in stays.collect():
        assert row.dwell_s == pytest.approx((row.left_at - row.arrived_at).total_seconds())
        found[row.subscriber_id].add((row.zone_id, row.arrived_at, row.left_at, row.presence))
        count += 1
    assert count == sum(len(several) for several in found.values())
    return found


# --------------------------------------------------------------------------------- literal cases

CASES: dict[str, tuple[list[Event], set[Stay]]] = {
    # -- what makes and what ends a stay
    "nothing seen": (seen("09:00 street", "09:30 mast"), set()),
    "two cells of one zone": (
        seen("09:00 mall 1!", "09:20 mall 2", "09:40 mall 1!"),
        {stay("mall", "09:00", "09:40", 0.8)},
    ),
    "one cell of two zones": (
        seen("09:00 both!"),
        {stay("mall", "09:00", "09:00", 0.3), stay("plaza", "09:00", "09:00", 0.6)},
    ),
    "a cell elsewhere between": (
        seen("09:00 mall 1!", "09:10 street", "09:20 mall 1!"),
        {stay("mall", "09:00", "09:00", 0.5), stay("mall", "09:20", "09:20", 0.5)},
    ),
    "to a cell that is heard there and back": (
        seen("09:00 mall 1!", "09:10 mast", "09:20 mall 1!"),
        {stay("mall", "09:00", "09:20", 0.5)},
    ),
    "a zone next door is heard here": (
        seen("09:00 mall 1!", "09:10 plaza!", "09:20 mall 1!"),
        {stay("mall", "09:00", "09:20", 0.5), stay("plaza", "09:10", "09:10", 0.7)},
    ),
    "silence of exactly max_gap": (
        seen("09:00 mall 1!", "10:00 mall 1!"),
        {stay("mall", "09:00", "10:00", 0.5)},
    ),
    "a microsecond more": (
        seen("09:00 mall 1!", "10:00:00.000001 mall 1!"),
        {
            stay("mall", "09:00", "09:00", 0.5),
            stay("mall", "10:00:00.000001", "10:00:00.000001", 0.5),
        },
    ),
    "what is heard in between is no silence": (
        seen("09:00 mall 1!", "09:50 mast", "10:40 mall 1!"),
        {stay("mall", "09:00", "10:40", 0.5)},
    ),
    # -- how much of what is heard must be in the zone
    "three of ten": (
        seen(
            "09:00 mall 1!", *[f"09:1{n} mast" for n in range(7)], "09:30 mall 1", "09:40 mall 1!"
        ),
        {stay("mall", "09:00", "09:40", 0.5)},
    ),
    "three of eleven are somebody next door": (
        seen(
            "09:00 mall 1!", *[f"09:1{n} mast" for n in range(8)], "09:30 mall 1", "09:40 mall 1!"
        ),
        set(),
    ),
    "what is heard before and after does not count": (
        seen(
            *[f"08:0{n} mast" for n in range(8)],
            "09:00 mall 1!",
            *[f"09:2{n} mast" for n in range(8)],
        ),
        {stay("mall", "09:00", "09:00", 0.5)},
    ),
    # -- how far a stay reaches
    "half-way to what is elsewhere": (
        seen("08:50 street", "09:00 mall 1", "09:30 mall 1", "09:36 street"),
        {stay("mall", "08:55", "09:33", 0.5)},
    ),
    "no further than max_reach": (
        seen("08:29:59 street", "09:00 mall 1", "09:30:01 street"),
        {stay("mall", "08:45", "09:15", 0.5)},
    ),
    "exactly as far": (
        seen("08:30 street", "09:00 mall 1", "09:30 street"),
        {stay("mall", "08:45", "09:15", 0.5)},
    ),
    "nobody heard before or after": (
        seen("09:00 mall 1"),
        {stay("mall", "08:45", "09:15", 0.5)},
    ),
    "past cells that are only heard there": (
        seen("08:50 street", "08:55 mast", "09:00 mall 1", "09:02 mast", "09:10 street"),
        {stay("mall", "08:55", "09:05", 0.5)},
    ),
    "half of an odd number of microseconds": (
        seen("08:59:59.999997 street", "09:00 mall 1", "09:00:00.000003 street"),
        {stay("mall", "08:59:59.999999", "09:00:00.000001", 0.5)},
    ),
    "a crossing is a beginning": (
        seen("08:50 street", "09:00 mall 1!", "09:30 mall 1", "09:36 street"),
        {stay("mall", "09:00", "09:33", 0.5)},
    ),
    "a crossing is an end": (
        seen("08:50 street", "09:00 mall 1", "09:30 mall 1!", "09:36 street"),
        {stay("mall", "08:55", "09:30", 0.5)},
    ),
    "a crossing to a cell that tells nothing is neither": (
        seen("08:50 street", "08:58 mast!", "09:00 mall 1", "09:10 street!"),
        {stay("mall", "08:55", "09:05", 0.5)},
    ),
    "one of several at the same instant": (
        [*seen("09:00 mall 1", "09:00 mall 1!", "09:20 mall 2!", "09:20 mall 2")],
        {stay("mall", "09:00", "09:20", 0.8)},
    ),
    # -- not out of the day, nor into closed hours
    "from the first instant of the day": (
        [(DAY_START + 5 * MINUTE, "mall 1", "data")],
        {("mall", DAY_START, DAY_START + 20 * MINUTE, 0.5)},
    ),
    "to the last instant of the day": (
        [(DAY_END - 5 * MINUTE, "mall 1", "data")],
        {("mall", DAY_END - 20 * MINUTE, DAY_END - MICROSECOND, 0.5)},
    ),
    "as long as it is open": (
        seen("07:10 plaza", "07:30 plaza", "08:10 street", "11:00 plaza", "11:50 plaza"),
        {stay("plaza", "07:00", "07:45", 0.7), stay("plaza", "10:45", "11:59:59.999999", 0.7)},
    ),
    "not at all while it is closed": (
        seen("12:10 plaza", "12:30 plaza"),
        {stay("plaza", "12:10", "12:30", 0.7)},
    ),
    "from one opening into the next": (
        seen("11:50 plaza", "12:30 plaza", "13:05 plaza"),
        {stay("plaza", "11:35", "13:20", 0.7)},
    ),
    # -- two events at one instant come in the order of their cells
    "elsewhere after at the same instant": (
        seen("09:00 mall 1!", "09:20 street", "09:20 mall 1!"),
        {stay("mall", "09:00", "09:20", 0.5)},
    ),
    "elsewhere before at the same instant": (
        seen("09:00 mall 1!", "09:20 mall 1!", "09:20 a street"),
        {stay("mall", "09:00", "09:00", 0.5), stay("mall", "09:20", "09:20", 0.5)},
    ),
    "rows out of order": (
        seen("09:40 mall 1!", "09:00 mall 1!", "09:20 mall 2"),
        {stay("mall", "09:00", "09:40", 0.8)},
    ),
}


@pytest.fixture(scope="module")
def stays(spark: SparkSession) -> dict[str, set[Stay]]:
    return stays_of(spark, {name: events for name, (events, _) in CASES.items()})


@pytest.mark.parametrize("name", CASES)
def test_a_stay_is_a_run_of_sightings_and_reaches_into_the_silence_round_it(
    stays: dict[str, set[Stay]], name: str
) -> None:
    assert stays[name] == CASES[name][1]


# ----------------------------------------------------------------------------------- any events


def by_hand(events: list[Event]) -> set[Stay]:
    """The same definition, zone by zone and event by event."""
    in_order = sorted(events)
    found = set()
    for zone in ("mall", "plaza"):
        run: list[int] = []
        for index, (instant, cell, _) in enumerate(in_order):
            heard = zone in TELLS.get(cell, {}) or zone in REACHES.get(cell, ())
            silent = bool(run) and instant - in_order[run[-1]][0] > GAP
            if run and (silent or not heard):
                found |= _stay_of(zone, run, in_order)
                run = []
            if heard:
                run.append(index)
        found |= _stay_of(zone, run, in_order)
    return found


def _stay_of(zone: str, run: list[int], in_order: list[Event]) -> set[Stay]:
    sightings = [index for index in run if zone in TELLS.get(in_order[index][1], {})]
    if not sightings or len(sightings) < 0.3 * (sightings[-1] - sightings[0] + 1):
        return set()
    first, last = in_order[sightings[0]][0], in_order[sightings[-1]][0]
    crossed = {in_order[i][0] for i in sightings if in_order[i][2] == "handover"}
    arrived, left = first, last
    if first not in crossed:
        arrived -= min(_half(in_order, run[0] - 1, first), REACH)
    if last not in crossed:
        left += min(_half(in_order, run[-1] + 1, last), REACH)
    earliest, latest = DAY_START, DAY_END - MICROSECOND
    if zone in OPEN:
        hours = [(at(a), at(b)) for a, b in OPEN[zone]]
        earliest = next((a for a, b in hours if a <= first < b), first)
        latest = next((b - MICROSECOND for a, b in hours if a <= last < b), last)
    presence = max(TELLS[in_order[index][1]][zone] for index in sightings)
    return {(zone, max(arrived, earliest), min(left, latest), presence)}


def _half(in_order: list[Event], index: int, sighting: datetime) -> timedelta:
    if not 0 <= index < len(in_order):
        return REACH
    return abs(in_order[index][0] - sighting) // MICROSECOND // 2 * MICROSECOND


some_events = st.lists(
    st.tuples(
        st.integers(0, 120).map(lambda number: at("06:00") + number * 7 * MINUTE),
        st.sampled_from([*TELLS, "mall 1", "mall 1", "mast", "mast", "street"]),
        st.sampled_from(["data", "data", "handover"]),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda event: event[:2],
)


@given(several=st.lists(some_events, min_size=60, max_size=120))
@settings(settings.get_profile("batches"))
def test_stays_are_what_going_through_the_events_by_hand_gives(
    spark: SparkSession, several: list[list[Event]]
) -> None:
    subscribers = {f"s{number}": events for number, events in enumerate(several)}
    assert stays_of(spark, subscribers) == {who: by_hand(e) for who, e in subscribers.items()}


# ----------------------------------------------------------------------------------------- kinds

# Stays in one zone as (from, to), the cell of the night, and the kind of each.
KINDS: dict[str, tuple[list[tuple[str, str]], str | None, list[str]]] = {
    "an instant": ([("09:00", "09:00")], None, ["pass_by"]),
    "a microsecond short of min_dwell": ([("09:00", "09:09:59.999999")], None, ["pass_by"]),
    "exactly min_dwell": ([("09:00", "09:10")], None, ["visit"]),
    "exactly max_dwell": ([("09:00", "15:00")], None, ["visit"]),
    "a microsecond more than max_dwell": ([("09:00", "15:00:00.000001")], None, ["resident"]),
    "by night at a cell of the zone": (
        [("09:00", "09:30"), ("11:00", "11:01")],
        "mall 1",
        ["resident", "resident"],
    ),
    "by night at a cell of another zone": ([("09:00", "09:30")], "plaza", ["visit"]),
    "by night elsewhere": ([("09:00", "09:30")], "street", ["visit"]),
    "half of a long day in the zone": (
        [("09:00", "11:00"), ("12:00", "12:05"), ("16:00", "17:55")],  # 4 of 8 h 55
        None,
        ["visit", "pass_by", "visit"],
    ),
    "exactly half": (
        [("09:00", "11:20"), ("12:00", "12:10"), ("16:00", "18:00")],
        None,
        ["resident"] * 3,
    ),
    "a microsecond less than half": (
        [("09:00", "11:20"), ("12:00:00.000001", "12:10"), ("16:00", "18:00")],
        None,
        ["visit", "pass_by", "visit"],
    ),
    "a little more than half": (
        [("09:00", "11:30"), ("12:00", "12:05"), ("16:00", "17:55")],
        None,
        ["resident"] * 3,
    ),
    "all of a day of exactly max_dwell": (
        [("09:00", "12:00"), ("12:00", "15:00")],
        None,
        ["visit", "visit"],
    ),
    "morning and evening": ([("09:00", "10:00"), ("18:00", "19:00")], None, ["visit", "visit"]),
}


def test_who_lives_or_works_there_is_a_resident_others_are_told_by_length(
    spark: SparkSession,
) -> None:
    rows = [
        (name, "mall", at(a), at(b), (at(b) - at(a)).total_seconds(), home, number)
        for name, (several, home, _) in KINDS.items()
        for number, (a, b) in enumerate(several)
    ]
    stays = local_frame(
        spark,
        rows,
        "subscriber_id string, zone_id string, arrived_at timestamp, left_at timestamp, "
        "dwell_s double, home_cell string, number int",
    )
    told = [(cell, *pair) for cell, zones in TELLS.items() for pair in zones.items()]
    cell_zones = local_frame(spark, told, "cell_id string, zone_id string, probability double")
    found: dict[str, dict[int, str]] = defaultdict(dict)
    kinds = visits.with_kind(stays, cell_zones, rules=RULES)
    assert "home_cell" not in kinds.columns
    for row in kinds.collect():
        found[row.subscriber_id][row.number] = row.kind
    in_order = {name: [kind for _, kind in sorted(by.items())] for name, by in found.items()}
    assert in_order == {name: kinds for name, (_, _, kinds) in KINDS.items()}


# ----------------------------------------------------------------------------------------- homes

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


def homes(spark: SparkSession, rows: list[tuple[str, datetime, str]], day: date) -> DataFrame:
    events = local_frame(
        spark,
        [(*row, "data") for row in rows],
        "subscriber_id string, event_time timestamp, cell_id string, event_type string",
    )
    local = LocalDay(day, ZoneInfo("Europe/Berlin"))
    cells = local_frame(spark, AREAS.items(), "cell_id string, area string")
    found = gathered(events, cells, day_start=local.start)
    with_residents = sorted({area for name, area in AREAS.items() if name != "far away"})
    areas = local_frame(spark, [(area,) for area in with_residents], "area string")
    return visits.homes(
        accepted(found.days),
        found.cells,
        areas,
        packing=found.packing,
        night_ends=local.night_ends,
    )


def test_home_is_the_area_of_the_cell_with_most_events_of_the_night(spark: SparkSession) -> None:
    rows = [
        (who, at(clock if len(clock) > 4 else f"0{clock}"), cell)
        for who, (events, _) in NIGHT.items()
        for clock, cell in events
    ]
    midnight = [("first instant", DAY_START, "cell a")]
    collected = homes(spark, rows + midnight, date(2026, 11, 23)).collect()
    found = {row.subscriber_id: row.home_area for row in collected}
    expected = {who: AREAS.get(cell, cell) for who, (_, cell) in NIGHT.items() if cell is not None}
    assert found == expected | {"first instant": AREAS["cell a"]}
    cells = {row.subscriber_id: row.home_cell for row in collected}
    named = {who: cell for who, (_, cell) in NIGHT.items() if cell in AREAS}
    assert cells == named | {"first instant": "cell a", "no residents there": "far away"}


CLOCKS_CHANGE = {
    date(2026, 3, 29): [((3, 59), "cell a"), ((4, 0), "cell b"), ((4, 30), "cell b")],
    date(2026, 10, 25): [((4, 30), "cell a"), ((5, 0), "cell b"), ((5, 30), "cell b")],
}


@pytest.mark.parametrize("day", CLOCKS_CHANGE, ids=str)
def test_the_night_ends_at_six_local_also_when_the_clocks_change(
    spark: SparkSession, day: date
) -> None:
    rows = [
        ("somebody", datetime.combine(day, time(*clock)), cell)
        for clock, cell in CLOCKS_CHANGE[day]
    ]
    [row] = homes(spark, rows, day).collect()
    assert (row.home_cell, row.home_area) == ("cell a", AREAS["cell a"])


def test_who_was_silent_at_night_lives_nobody_knows_where(spark: SparkSession) -> None:
    stays = local_frame(
        spark,
        [("known", "mall"), ("known", "plaza"), ("silent", "mall")],
        "subscriber_id string, zone_id string",
    )
    known = local_frame(spark, [("known", "area 1")], "subscriber_id string, home_area string")
    found = defaultdict(list)
    for row in visits.with_home(stays, known).collect():
        found[row.subscriber_id].append(row.home_area)
    assert found == {"known": ["area 1", "area 1"], "silent": ["unknown"]}
