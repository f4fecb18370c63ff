"""What a subscriber-day adds to each measure: hours, days, bands, visits, home areas."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.frames import local_frame
from transforms import metrics
from transforms.days import HOUR, LocalDay
from transforms.tables import DWELL_BANDS, MEASURES

DAY = LocalDay(date(2026, 11, 23), ZoneInfo("Europe/Berlin"))
MICROSECOND = timedelta(microseconds=1)
KEYS = {measure.full_name: measure.key for measure in MEASURES}


def at(clock: str) -> datetime:
    """An instant of the day, UTC."""
    return datetime.fromisoformat(f"2026-11-23T{clock}")


class Stay(NamedTuple):
    zone_id: str
    arrived_at: datetime
    left_at: datetime
    dwell_s: float
    presence: float
    kind: str
    home_area: str


def stay(zone: str, arrived: str, left: str, presence: float = 0.5, home: str = "area 1") -> Stay:
    dwell_s = (at(left) - at(arrived)).total_seconds()
    kind = "pass_by" if dwell_s < 600 else "visit" if dwell_s <= 21_600 else "resident"
    return Stay(zone, at(arrived), at(left), dwell_s, presence, kind, home)


SCHEMA = (
    "pseudonym string, zone_id string, arrived_at timestamp, left_at timestamp, dwell_s double, "
    "presence double, kind string, home_area string"
)

# By measure: cell to presence. Hours are written as in UTC; what is left out is empty.
CASES: dict[str, tuple[list[Stay], dict[str, dict[str, float]]]] = {
    "a visit within an hour": (
        [stay("mall", "09:10", "09:50")],
        {
            "zone_hours.visitors": {"mall 09": 0.5},
            "zone_days.visitors": {"mall": 0.5},
            "zone_days.visits": {"mall": 0.5},
            "zone_dwell.visitors": {"mall 30-60": 0.5},
            "zone_catchment.visitors": {"mall area 1": 0.5},
        },
    ),
    "a visit over four hours": (
        [stay("mall", "09:59:59.999999", "12:00")],
        {
            "zone_hours.visitors": {"mall 09": 0.5, "mall 10": 0.5, "mall 11": 0.5, "mall 12": 0.5},
            "zone_days.visitors": {"mall": 0.5},
            "zone_days.visits": {"mall": 0.5},
            "zone_dwell.visitors": {"mall 120-240": 0.5},
            "zone_catchment.visitors": {"mall area 1": 0.5},
        },
    ),
    "arriving at the stroke of an hour is not the hour before": (
        [stay("mall", "10:00", "10:59:59.999999")],
        {
            "zone_hours.visitors": {"mall 10": 0.5},
            "zone_days.visitors": {"mall": 0.5},
            "zone_days.visits": {"mall": 0.5},
            "zone_dwell.visitors": {"mall 30-60": 0.5},
            "zone_catchment.visitors": {"mall area 1": 0.5},
        },
    ),
    "the first and the last hour of the local day": (
        [stay("mall", "00:00", "00:20"), stay("plaza", "22:30", "22:59:59.999999")],
        {
            "zone_hours.visitors": {"mall 00": 0.5, "plaza 22": 0.5},
            "zone_days.visitors": {"mall": 0.5, "plaza": 0.5},
            "zone_days.visits": {"mall": 0.5, "plaza": 0.5},
            "zone_dwell.visitors": {"mall 10-30": 0.5, "plaza 10-30": 0.5},
            "zone_catchment.visitors": {"mall area 1": 0.5, "plaza area 1": 0.5},
        },
    ),
    "passing by": (
        [stay("mall", "09:55", "10:00")],
        {
            "zone_hours.passers_by": {"mall 09": 0.5, "mall 10": 0.5},
            "zone_days.passers_by": {"mall": 0.5},
        },
    ),
    "passing by twice, once more surely": (
        [stay("mall", "09:00", "09:05", 0.25), stay("mall", "09:30", "09:35", 0.75)],
        {
            "zone_hours.passers_by": {"mall 09": 0.75},
            "zone_days.passers_by": {"mall": 0.75},
        },
    ),
    "a visitor of the hour does not also pass by": (
        [stay("mall", "09:00", "09:05", 0.9), stay("mall", "09:30", "09:50", 0.25)],
        {
            "zone_hours.visitors": {"mall 09": 0.25},
            "zone_days.visitors": {"mall": 0.25},
            "zone_days.visits": {"mall": 0.25},
            "zone_dwell.visitors": {"mall 10-30": 0.25},
            "zone_catchment.visitors": {"mall area 1": 0.25},
        },
    ),
    "a visitor of another hour passes by in this one, but not that day": (
        [stay("mall", "09:00", "09:05"), stay("mall", "11:00", "11:30")],
        {
            "zone_hours.passers_by": {"mall 09": 0.5},
            "zone_hours.visitors": {"mall 11": 0.5},
            "zone_days.visitors": {"mall": 0.5},
            "zone_days.visits": {"mall": 0.5},
            "zone_dwell.visitors": {"mall 30-60": 0.5},
            "zone_catchment.visitors": {"mall area 1": 0.5},
        },
    ),
    "a visitor of one zone passes by another": (
        [stay("mall", "09:00", "09:30"), stay("plaza", "09:10", "09:15", 0.25)],
        {
            "zone_hours.visitors": {"mall 09": 0.5},
            "zone_hours.passers_by": {"plaza 09": 0.25},
            "zone_days.visitors": {"mall": 0.5},
            "zone_days.visits": {"mall": 0.5},
            "zone_days.passers_by": {"plaza": 0.25},
            "zone_dwell.visitors": {"mall 30-60": 0.5},
            "zone_catchment.visitors": {"mall area 1": 0.5},
        },
    ),
    "two visits of one hour and zone": (
        [stay("mall", "09:00", "09:15", 0.25), stay("mall", "09:30", "10:10", 0.125)],
        {
            "zone_hours.visitors": {"mall 09": 0.25, "mall 10": 0.125},
            "zone_days.visitors": {"mall": 0.25},
            # The longest visit chooses the band, the day's presence the weight.
            "zone_dwell.visitors": {"mall 30-60": 0.25},
            "zone_catchment.visitors": {"mall area 1": 0.25},
        },
    ),
    "staff": ([stay("mall", "06:00", "14:00", 1.0)], {}),
    "staff who visit and pass by elsewhere": (
        [
            stay("mall", "06:00", "14:00", 1.0),
            stay("plaza", "15:00", "15:30"),
            stay("mall", "16:00", "16:01", 0.75),
        ],
        {
            "zone_hours.visitors": {"plaza 15": 0.5},
            "zone_hours.passers_by": {"mall 16": 0.75},
            "zone_days.visitors": {"plaza": 0.5},
            "zone_days.visits": {"plaza": 0.5},
            "zone_days.passers_by": {"mall": 0.75},
            "zone_dwell.visitors": {"plaza 30-60": 0.5},
            "zone_catchment.visitors": {"plaza area 1": 0.5},
        },
    ),
    "from far away": (
        [stay("mall", "09:10", "09:50", home="outside")],
        {
            "zone_hours.visitors": {"mall 09": 0.5},
            "zone_days.visitors": {"mall": 0.5},
            "zone_days.visits": {"mall": 0.5},
            "zone_dwell.visitors": {"mall 30-60": 0.5},
            "zone_catchment.visitors": {"mall outside": 0.5},
        },
    ),
}
# More than one row per cell, or pairs of zones: looked at on their own.
APART = {"zone_flows.trips"}


def frame(spark: SparkSession, by_pseudonym: dict[str, list[Stay]]) -> DataFrame:
    rows = [(who, *one) for who, several in by_pseudonym.items() for one in several]
    return local_frame(spark, rows, SCHEMA)


def collected(contributions: dict[str, DataFrame]) -> list[tuple[str, str, str, float]]:
    """Measure, pseudonym, cell and presence of every contribution, out of one job."""
    parts = [
        rows.select(
            F.lit(name).alias("measure"),
            "pseudonym",
            F.concat_ws(
                " ",
                *[
                    F.date_format(key, "HH") if key == "hour_start" else F.col(key)
                    for key in KEYS[name]
                ],
            ).alias("cell"),
            "presence",
        )
        for name, rows in contributions.items()
    ]
    return [tuple(row) for row in reduce(DataFrame.unionByName, parts).collect()]


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> list[tuple[str, str, str, float]]:
    visits = frame(spark, {name: stays for name, (stays, _) in CASES.items()})
    pairs = local_frame(
        spark,
        [("elsewhere", "mall"), ("mall", "plaza")],
        "origin_zone_id string, destination_zone_id string",
    )
    contributions = metrics.contributions(visits, day=DAY, pairs=pairs)
    assert set(contributions) == set(KEYS)
    for name, rows in contributions.items():
        assert {"pseudonym", *KEYS[name], "presence"} <= set(rows.columns)
    return collected(contributions)


@pytest.mark.parametrize("name", CASES)
def test_what_a_day_adds_to_each_measure(
    found: list[tuple[str, str, str, float]], name: str
) -> None:
    of_case = [row for row in found if row[1] == name and row[0] not in APART]
    by_measure: dict[str, dict[str, float]] = {}
    for measure, _, cell, presence in of_case:
        by_measure.setdefault(measure, {})[cell] = presence
    expected = CASES[name][1]
    if name == "two visits of one hour and zone":
        by_measure.pop("zone_days.visits")
    assert by_measure == expected


def test_every_visit_counts_as_a_visit(found: list[tuple[str, str, str, float]]) -> None:
    case = "two visits of one hour and zone"
    visits = [row[2:] for row in found if row[:2] == ("zone_days.visits", case)]
    assert sorted(visits) == [("mall", 0.125), ("mall", 0.25)]


def test_a_day_adds_to_each_cell_once_visits_apart(
    found: list[tuple[str, str, str, float]],
) -> None:
    """The sensitivity of the noise rests on it."""
    cells = [row[:3] for row in found if row[0] != "zone_days.visits"]
    assert len(cells) == len(set(cells))


def test_only_flows_of_the_public_list_are_kept(
    found: list[tuple[str, str, str, float]],
) -> None:
    pairs = {tuple(cell.split()[:2]) for name, _, cell, _ in found if name == "zone_flows.trips"}
    assert pairs == {("elsewhere", "mall"), ("mall", "plaza")}


# ---------------------------------------------------------------------------------------- hours

DAYS = {
    "24 hours": DAY,
    "23 hours": LocalDay(date(2026, 3, 29), ZoneInfo("Europe/Berlin")),
    "25 hours": LocalDay(date(2026, 10, 25), ZoneInfo("Europe/Berlin")),
    "half an hour off": LocalDay(date(2026, 11, 23), ZoneInfo("Asia/Kolkata")),
}


def hours_by_hand(day: LocalDay, arrived: datetime, left: datetime) -> list[datetime]:
    return [hour for hour in day.hours if arrived < hour + HOUR and left >= hour]


def hours_of_stays(
    spark: SparkSession, day: LocalDay, stays: Iterable[tuple[datetime, datetime]]
) -> list[list[datetime]]:
    rows = [(number, *one) for number, one in enumerate(stays)]
    visits = local_frame(spark, rows, "number int, arrived_at timestamp, left_at timestamp")
    hours = visits.select("number", metrics.hours_of_stay(day.start).alias("hours")).collect()
    return [
        [hour.replace(tzinfo=UTC) for hour in row.hours]
        for row in sorted(hours, key=lambda row: row.number)
    ]


@pytest.mark.parametrize("day", DAYS.values(), ids=DAYS)
def test_hours_overlapped_are_those_of_the_definition_at_every_border(
    spark: SparkSession, day: LocalDay
) -> None:
    borders = [
        instant
        for hour in (*day.hours[:4], *day.hours[-2:])
        for instant in (hour - MICROSECOND, hour, hour + MICROSECOND, hour + HOUR / 2)
        if day.start <= instant < day.end
    ]
    stays = [(a, b) for a in borders for b in borders if a <= b]
    expected = [hours_by_hand(day, *one) for one in stays]
    assert hours_of_stays(spark, day, stays) == expected


def test_a_stay_of_the_whole_day_overlaps_every_hour(spark: SparkSession) -> None:
    for day in DAYS.values():
        whole = (day.start, day.end - MICROSECOND)
        assert hours_of_stays(spark, day, [whole]) == [list(day.hours)]


@given(
    seconds=st.lists(
        st.tuples(st.integers(0, 86_399_999_999), st.integers(0, 86_399_999_999)),
        min_size=100,
        max_size=200,
    )
)
@settings(settings.get_profile("batches"))
def test_hours_overlapped_are_those_of_the_definition_at_any_instant(
    spark: SparkSession, seconds: list[tuple[int, int]]
) -> None:
    stays = [
        (DAY.start + min(pair) * MICROSECOND, DAY.start + max(pair) * MICROSECOND)
        for pair in seconds
    ]
    expected = [hours_by_hand(DAY, *one) for one in stays]
    assert hours_of_stays(spark, DAY, stays) == expected


# ---------------------------------------------------------------------------------------- bands


def test_a_dwell_falls_in_the_band_whose_lower_bound_it_has_reached(spark: SparkSession) -> None:
    minutes: dict[float, str | None] = {
        9.999999: None,
        10: "10-30",
        29.999999: "10-30",
        30: "30-60",
        59.999999: "30-60",
        60: "60-120",
        119.999999: "60-120",
        120: "120-240",
        239.999999: "120-240",
        240: "240-360",
        359.999999: "240-360",
        360: "240-360",
        360.000001: None,
    }
    rows = [(float(length), length * 60.0) for length in minutes]
    frame = local_frame(spark, rows, "minutes double, longest_s double")
    banded = frame.select("minutes", metrics.dwell_band(F.col("longest_s")).alias("band"))
    assert {row.minutes: row.band for row in banded.collect()} == minutes


def test_bands_join_up() -> None:
    lowers = [int(label.split("-")[0]) for label in DWELL_BANDS]
    uppers = [int(label.split("-")[1]) for label in DWELL_BANDS]
    assert uppers == list(DWELL_BANDS.values())
    assert lowers == [10, *uppers[:-1]]


# --------------------------------------------------------------------------------------- domain


def test_the_domain_of_every_product_is_all_its_cells_seen_or_not(spark: SparkSession) -> None:
    def column(name: str, size: int) -> DataFrame:
        return local_frame(spark, [(f"{name} {i}",) for i in range(size)], f"{name} string")

    domain = metrics.public_domain(
        zones=column("zone_id", 3),
        hours=column("hour_start", 25),
        bands=column("dwell_band", 5),
        pairs=local_frame(
            spark, [("a", "b"), ("b", "a")], "origin_zone_id string, destination_zone_id string"
        ),
        day_parts=column("day_part", 5),
        areas=column("home_area", 4),
    )
    for measure in MEASURES:
        assert set(domain[measure.product].columns) == set(measure.key)
    names = [cells.select(F.lit(name).alias("product")) for name, cells in domain.items()]
    counted = reduce(DataFrame.unionByName, names).groupBy("product").count().collect()
    assert {row["product"]: row["count"] for row in counted} == {
        "zone_hours": 75,
        "zone_days": 3,
        "zone_dwell": 15,
        "zone_flows": 10,
        "zone_catchment": 12,
    }
