"""Trips: what lies between a pseudonym's visits, and in which part of the day."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.frames import local_frame
from transforms import flows
from transforms.tables import ELSEWHERE


def at(clock: str) -> datetime:
    """A local instant of the day in Berlin, as UTC."""
    return datetime.fromisoformat(f"2026-11-23T{clock}+01:00").astimezone(UTC)


class Visit(NamedTuple):
    zone_id: str
    arrived_at: datetime
    left_at: datetime
    presence: float
    kind: str


def visit(zone: str, arrived: str, left: str, presence: float = 0.5, kind: str = "visit") -> Visit:
    return Visit(zone, at(arrived), at(left), presence, kind)


Trips = dict[tuple[str, str, str], float]
CASES: dict[str, tuple[list[Visit], Trips]] = {
    "one visit": (
        [visit("mall", "09:00", "11:30", 0.75)],
        {(ELSEWHERE, "mall", "morning"): 0.75, ("mall", ELSEWHERE, "midday"): 0.75},
    ),
    "from one zone to the next": (
        [visit("mall", "09:00", "10:00", 0.75), visit("plaza", "12:00", "15:00", 0.5)],
        {
            (ELSEWHERE, "mall", "morning"): 0.75,
            ("mall", "plaza", "midday"): 0.5,
            ("plaza", ELSEWHERE, "afternoon"): 0.5,
        },
    ),
    "the smaller presence counts, whichever it is": (
        [visit("mall", "09:00", "10:00", 0.25), visit("plaza", "12:00", "15:00", 1.0)],
        {
            (ELSEWHERE, "mall", "morning"): 0.25,
            ("mall", "plaza", "midday"): 0.25,
            ("plaza", ELSEWHERE, "afternoon"): 1.0,
        },
    ),
    "the same zone again is no trip": (
        [visit("mall", "09:00", "09:30"), visit("mall", "12:00", "12:30")],
        {(ELSEWHERE, "mall", "morning"): 0.5, ("mall", ELSEWHERE, "midday"): 0.5},
    ),
    "an overlap is no trip": (
        [visit("mall", "09:00", "10:00"), visit("plaza", "09:30", "11:30")],
        {(ELSEWHERE, "mall", "morning"): 0.5, ("plaza", ELSEWHERE, "midday"): 0.5},
    ),
    "arriving as the other is left is no trip": (
        [visit("mall", "09:00", "10:00"), visit("plaza", "10:00", "11:30")],
        {(ELSEWHERE, "mall", "morning"): 0.5, ("plaza", ELSEWHERE, "midday"): 0.5},
    ),
    "arriving a microsecond later is one": (
        [visit("mall", "09:00", "10:00"), visit("plaza", "10:00:00.000001", "11:30")],
        {
            (ELSEWHERE, "mall", "morning"): 0.5,
            ("mall", "plaza", "morning"): 0.5,
            ("plaza", ELSEWHERE, "midday"): 0.5,
        },
    ),
    "one inside another: the last to arrive is the last": (
        [visit("mall", "09:00", "15:00", 0.25), visit("plaza", "10:00", "10:30", 0.75)],
        {(ELSEWHERE, "mall", "morning"): 0.25, ("plaza", ELSEWHERE, "morning"): 0.75},
    ),
    "after one inside another, the neighbour decides": (
        [
            visit("mall", "09:00", "13:00"),
            visit("plaza", "10:00", "10:30"),
            visit("park", "12:00", "12:30"),
        ],
        {
            (ELSEWHERE, "mall", "morning"): 0.5,
            ("plaza", "park", "midday"): 0.5,
            ("park", ELSEWHERE, "midday"): 0.5,
        },
    ),
    "arriving together, the order of zones decides": (
        [visit("plaza", "09:00", "09:30"), visit("mall", "09:00", "12:00")],
        {(ELSEWHERE, "mall", "morning"): 0.5, ("plaza", ELSEWHERE, "morning"): 0.5},
    ),
    "passing by and staff make no trips": (
        [
            visit("mall", "09:00", "10:00"),
            visit("park", "10:30", "10:31", kind="pass_by"),
            visit("office", "10:40", "17:00", kind="resident"),
            visit("plaza", "18:30", "19:00"),
        ],
        {
            (ELSEWHERE, "mall", "morning"): 0.5,
            ("mall", "plaza", "evening"): 0.5,
            ("plaza", ELSEWHERE, "evening"): 0.5,
        },
    ),
    "only passing by": ([visit("mall", "09:00", "09:01", kind="pass_by")], {}),
    "the same pair and day part twice counts once, with the larger": (
        [
            visit("mall", "06:00", "06:20", 0.25),
            visit("plaza", "07:00", "07:20", 0.75),
            visit("mall", "08:00", "08:20", 0.625),
            visit("plaza", "09:00", "09:20", 1.0),
        ],
        {
            (ELSEWHERE, "mall", "morning"): 0.25,
            ("mall", "plaza", "morning"): 0.625,
            ("plaza", "mall", "morning"): 0.625,
            ("plaza", ELSEWHERE, "morning"): 1.0,
        },
    ),
    "the same pair in two day parts counts twice": (
        [
            visit("mall", "09:00", "09:20"),
            visit("plaza", "10:00", "10:20"),
            visit("mall", "11:00", "11:20"),
            visit("plaza", "12:00", "12:20"),
        ],
        {
            (ELSEWHERE, "mall", "morning"): 0.5,
            ("mall", "plaza", "morning"): 0.5,
            ("plaza", "mall", "midday"): 0.5,
            ("mall", "plaza", "midday"): 0.5,
            ("plaza", ELSEWHERE, "midday"): 0.5,
        },
    ),
    "rows out of order": (
        [visit("plaza", "12:00", "15:00"), visit("mall", "09:00", "10:00")],
        {
            (ELSEWHERE, "mall", "morning"): 0.5,
            ("mall", "plaza", "midday"): 0.5,
            ("plaza", ELSEWHERE, "afternoon"): 0.5,
        },
    ),
}


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> dict[str, Trips]:
    rows = [(name, *one) for name, (visits, _) in CASES.items() for one in visits]
    frame = local_frame(
        spark,
        rows,
        "pseudonym string, zone_id string, arrived_at timestamp, left_at timestamp, "
        "presence double, kind string",
    )
    trips: dict[str, Trips] = {name: {} for name in CASES}
    for row in flows.trips(frame, timezone="Europe/Berlin").collect():
        cell = (row.origin_zone_id, row.destination_zone_id, row.day_part)
        assert cell not in trips[row.pseudonym]
        trips[row.pseudonym][cell] = row.presence
    return trips


@pytest.mark.parametrize("name", CASES)
def test_trips_lie_between_neighbouring_visits(found: dict[str, Trips], name: str) -> None:
    assert found[name] == CASES[name][1]


def test_a_day_part_starts_with_its_first_hour_and_ends_where_the_next_starts(
    spark: SparkSession,
) -> None:
    parts = {
        "00:00": "night",
        "05:59:59.999999": "night",
        "06:00": "morning",
        "10:59:59.999999": "morning",
        "11:00": "midday",
        "13:59:59.999999": "midday",
        "14:00": "afternoon",
        "17:59:59.999999": "afternoon",
        "18:00": "evening",
        "21:59:59.999999": "evening",
        "22:00": "night",
        "23:59:59.999999": "night",
    }
    clocks = [
        # Winter, and the days on which the clocks change: before, between and after.
        *[(f"2026-11-23T{clock}+01:00", part) for clock, part in parts.items()],
        *[(f"2026-07-01T{clock}+02:00", part) for clock, part in parts.items()],
        ("2026-03-29T05:59+02:00", "night"),
        ("2026-03-29T06:00+02:00", "morning"),
        ("2026-10-25T05:59+01:00", "night"),
        ("2026-10-25T06:00+01:00", "morning"),
    ]
    rows = [(text, datetime.fromisoformat(text).astimezone(UTC)) for text, _ in clocks]
    frame = local_frame(spark, rows, "text string, instant timestamp")
    part = flows.day_part(F.col("instant"), timezone="Europe/Berlin")
    found = {row.text: row.part for row in frame.select("text", part.alias("part")).collect()}
    assert found == dict(clocks)


def test_every_local_hour_has_a_day_part(spark: SparkSession) -> None:
    hours = spark.range(24).select(F.timestamp_seconds(F.col("id") * 3600).alias("instant"))
    part = flows.day_part(F.col("instant"), timezone="UTC")
    labels = [row.part for row in hours.orderBy("instant").select(part.alias("part")).collect()]
    assert labels == (
        ["night"] * 6
        + ["morning"] * 5
        + ["midday"] * 3
        + ["afternoon"] * 4
        + ["evening"] * 4
        + ["night"] * 2
    )
