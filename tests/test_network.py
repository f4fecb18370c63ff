"""Reference rows: what is left out and why, and when a zone has no data at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.frames import local_frame
from transforms import network

DAY = date(2026, 11, 23)
BEFORE, AFTER = DAY - timedelta(days=1), DAY + timedelta(days=1)
CELL = (
    "cell_id string, latitude double, longitude double, range_m double, "
    "indoor_zone_id string, valid_from date, valid_to date"
)


def cell(cell_id: str | None, **other: Any) -> tuple[Any, ...]:
    row = {
        "latitude": 52.52,
        "longitude": 13.405,
        "range_m": 500.0,
        "indoor_zone_id": None,
        "valid_from": None,
        "valid_to": None,
    } | other
    return (cell_id, *row.values())


def faults(judged: DataFrame, key: str) -> dict[Any, list[str | None]]:
    """Faults by key, sorted, None for a sound row."""
    found: dict[Any, list[str | None]] = {}
    for row in judged.collect():
        found.setdefault(row[key], []).append(row.fault)
    return {name: sorted(rows, key=str) for name, rows in found.items()}


# -------------------------------------------------------------------------------------- cells

CELLS: dict[str, tuple[list[dict[str, Any]], list[str | None]]] = {
    "sound": ([{}], [None]),
    "north pole": ([{"latitude": 90.0, "longitude": -180.0}], [None]),
    "too far north": ([{"latitude": 90.0001}], ["impossible latitude"]),
    "too far south": ([{"latitude": -91.0}], ["impossible latitude"]),
    "no latitude": ([{"latitude": None}], ["impossible latitude"]),
    "not a number": ([{"latitude": math.nan}], ["impossible latitude"]),
    "too far east": ([{"longitude": 180.5}], ["impossible longitude"]),
    "endless east": ([{"longitude": math.inf}], ["impossible longitude"]),
    "no longitude": ([{"longitude": None}], ["impossible longitude"]),
    "no range": ([{"range_m": None}], ["impossible range"]),
    "range of nothing": ([{"range_m": 0.0}], ["impossible range"]),
    "negative range": ([{"range_m": -1.0}], ["impossible range"]),
    "range nan": ([{"range_m": math.nan}], ["impossible range"]),
    "farthest": ([{"range_m": 120_000.0}], [None]),
    "too far": ([{"range_m": 120_001.0}], ["impossible range"]),
    "two faults": ([{"latitude": 100.0, "range_m": -5.0}], ["impossible latitude"]),
    "only today": ([{"valid_from": DAY, "valid_to": DAY}], [None]),
    "until yesterday": ([{"valid_to": BEFORE}], []),
    "from tomorrow": ([{"valid_from": AFTER}], []),
    "doubled": (
        [{"valid_from": date(2026, 1, 1)}, {"valid_from": date(2026, 6, 1)}],
        [None, "doubled cell_id"],
    ),
    "three times": (
        [{}, {"valid_from": date(2026, 1, 1)}, {"valid_from": date(2026, 6, 1)}],
        [None, "doubled cell_id", "doubled cell_id"],
    ),
    "twice the same": ([{}, {}], [None, "doubled cell_id"]),
    "newer but faulty": (
        [{"valid_from": date(2026, 1, 1)}, {"valid_from": date(2026, 6, 1), "range_m": -1.0}],
        [None, "impossible range"],
    ),
    "newer but not yet": ([{"valid_from": date(2026, 1, 1)}, {"valid_from": AFTER}], [None]),
}


@pytest.fixture(scope="module")
def judged_cells(spark: SparkSession) -> DataFrame:
    rows = [cell(name, **one) for name, (several, _) in CELLS.items() for one in several]
    nameless = [cell(None), cell(""), cell("   "), cell("\t"), cell(None)]
    return network.judged_cells(local_frame(spark, rows + nameless, CELL), day=DAY).persist()


@pytest.fixture(scope="module")
def cell_faults(judged_cells: DataFrame) -> dict[Any, list[str | None]]:
    return faults(judged_cells, "cell_id")


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_left_out_for_the_first_thing_that_is_wrong(
    cell_faults: dict[Any, list[str | None]], name: str
) -> None:
    assert cell_faults.get(name, []) == sorted(CELLS[name][1], key=str)


def test_every_cell_without_a_name_is_counted(cell_faults: dict[Any, list[str | None]]) -> None:
    assert cell_faults[None] == ["no cell_id", "no cell_id"]
    assert cell_faults[""] == cell_faults["   "] == cell_faults["\t"] == ["no cell_id"]


def test_of_doubled_cells_the_newest_valid_from_stays(judged_cells: DataFrame) -> None:
    stays = {row.cell_id: row.valid_from for row in network.sound(judged_cells).collect()}
    assert stays["doubled"] == stays["three times"] == date(2026, 6, 1)
    assert stays["newer but faulty"] == stays["newer but not yet"] == date(2026, 1, 1)
    assert len(stays) == network.sound(judged_cells).count()


def test_faults_are_counted_by_reason(judged_cells: DataFrame) -> None:
    counted = {row.fault: row.rows for row in network.faults_by_reason(judged_cells).collect()}
    expected = [fault for _, several in CELLS.values() for fault in several]
    assert counted.pop("no cell_id") == 5
    assert counted == {fault: expected.count(fault) for fault in set(expected)}


def test_the_order_of_rows_does_not_decide_which_of_equals_stays(spark: SparkSession) -> None:
    rows = [cell("a", latitude=latitude) for latitude in (50.0, 51.0, 52.0, 53.0)]
    kept = [
        network.sound(network.judged_cells(local_frame(spark, order, CELL), day=DAY)).collect()
        for order in (rows, rows[::-1], rows[2:] + rows[:2])
    ]
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == 1


def test_an_indoor_cell_of_an_unknown_zone_stays_and_is_placed_by_its_geometry(
    spark: SparkSession,
) -> None:
    rows = [
        cell("indoor", indoor_zone_id="mall"),
        cell("unknown", indoor_zone_id="moon"),
        cell("outdoor"),
    ]
    known = network.with_known_indoor_zones(local_frame(spark, rows, CELL), ["mall"])
    found = {row.cell_id: (row.indoor_zone_id, row.notice is not None) for row in known.collect()}
    assert found == {
        "indoor": ("mall", False),
        "unknown": (None, True),
        "outdoor": (None, False),
    }


# ---------------------------------------------------------------------- residents, subscribers


def test_residents_need_an_area_of_the_resolution_and_a_believable_number(
    spark: SparkSession,
) -> None:
    sound = ["871f1d4c8ffffff", "871f1d4caffffff", "871f1d4ceffffff"]
    rows = [
        (sound[0], 1200.0),
        (sound[1], 0.0),
        (sound[2], 5.0),
        (sound[2], 7.0),
        (None, 10.0),
        (" ", 10.0),
        ("nowhere", 10.0),
        ("881f1d4c8ffffff", 10.0),
        ("871f1d4c8fffff", 10.0),
        ("871f1d4c81fffff", -1.0),
        ("871f1d4c83fffff", math.nan),
        ("871f1d4c85fffff", None),
    ]
    frame = local_frame(spark, rows, "area string, residents double")
    judged = network.judged_residents(frame, resolution=7).persist()
    wrong_index = ["area is no H3 index of resolution 7"]
    assert faults(judged, "area") == {
        sound[0]: [None],
        sound[1]: [None],
        sound[2]: [None, "doubled area"],
        None: ["no area"],
        " ": ["no area"],
        "nowhere": wrong_index,
        "881f1d4c8ffffff": wrong_index,
        "871f1d4c8fffff": wrong_index,
        "871f1d4c81fffff": ["impossible residents"],
        "871f1d4c83fffff": ["impossible residents"],
        "871f1d4c85fffff": ["impossible residents"],
    }
    assert {row.area for row in network.sound(judged).collect()} == set(sound)


SUBSCRIBERS: dict[str, tuple[list[tuple[date | None, date | None]], list[str | None]]] = {
    "always": ([(None, None)], [None]),
    "first day": ([(DAY, None)], [None]),
    "last day": ([(None, DAY)], [None]),
    "one day": ([(DAY, DAY)], [None]),
    "not yet": ([(AFTER, None)], []),
    "no more": ([(None, BEFORE)], []),
    "backwards": ([(AFTER, BEFORE)], ["until before since"]),
    "came back": ([(None, BEFORE), (DAY, None)], [None]),
    "doubled": (
        [(date(2020, 1, 1), None), (date(2024, 1, 1), None)],
        [None, "doubled subscriber_id"],
    ),
    "open and dated": ([(None, None), (date(2024, 1, 1), None)], [None, "doubled subscriber_id"]),
}


def test_subscribers_count_from_their_first_to_their_last_day(spark: SparkSession) -> None:
    rows = [(name, *dates) for name, (several, _) in SUBSCRIBERS.items() for dates in several]
    frame = local_frame(
        spark, [*rows, (None, None, None)], "subscriber_id string, since date, until date"
    )
    judged = network.judged_subscribers(frame, day=DAY).persist()
    found = faults(judged, "subscriber_id")
    assert found.pop(None) == ["no subscriber_id"]
    expected = {name: sorted(several, key=str) for name, (_, several) in SUBSCRIBERS.items()}
    assert {name: found.get(name, []) for name in SUBSCRIBERS} == expected
    since = {row.subscriber_id: row.since for row in network.sound(judged).collect()}
    assert since["doubled"] == since["open and dated"] == date(2024, 1, 1)
    assert since["came back"] == DAY


# ------------------------------------------------------------------------------------- outages


def at(clock: str) -> datetime:
    """An instant of the day, UTC; `+` for the day after."""
    day = AFTER if clock.startswith("+") else DAY
    return datetime.combine(
        day,
        datetime.strptime(clock.lstrip("+"), "%H:%M:%S.%f" if "." in clock else "%H:%M").time(),
        tzinfo=UTC,
    )


HOURS = [at(f"{hour:02}:00") for hour in range(8, 14)]
OUTAGES: dict[str, tuple[list[tuple[str, str]], list[int]]] = {
    "exactly one hour": ([("09:00", "10:00")], [9]),
    "a minute short": ([("09:00", "09:59")], []),
    "a minute late": ([("09:01", "10:00")], []),
    "over three hours": ([("08:30", "11:30")], [9, 10]),
    "touching": ([("09:00", "09:30"), ("09:30", "10:00")], [9]),
    "a microsecond apart": ([("09:00", "09:30"), ("09:30:00.000001", "10:00")], []),
    "overlapping": ([("08:50", "09:40"), ("09:20", "10:10")], [9]),
    "one inside another": (
        [("09:00", "11:00"), ("09:10", "09:20"), ("10:50", "12:00")],
        [9, 10, 11],
    ),
    "late one first": ([("09:30", "10:00"), ("09:00", "09:30")], [9]),
    "the same twice": ([("09:00", "10:00"), ("09:00", "10:00")], [9]),
    "two far apart": ([("08:00", "09:00"), ("11:00", "12:00")], [8, 11]),
    "all day and longer": ([("00:00", "+00:00")], [8, 9, 10, 11, 12, 13]),
}


def outages(spark: SparkSession, rows: Sequence[tuple[str, datetime, datetime]]) -> DataFrame:
    return local_frame(spark, rows, "cell_id string, from timestamp, to timestamp")


def test_outages_of_a_cell_are_merged_before_whole_hours_are_counted(spark: SparkSession) -> None:
    rows = [
        (name, at(start), at(end))
        for name, (several, _) in OUTAGES.items()
        for start, end in several
    ]
    down = network.down_cell_hours(outages(spark, rows), HOURS).collect()
    found = {name: sorted(r.hour_start.hour for r in down if r.cell_id == name) for name in OUTAGES}
    assert found == {name: hours for name, (_, hours) in OUTAGES.items()}
    assert len(down) == len({(row.cell_id, row.hour_start) for row in down})


def test_an_outage_without_a_cell_or_an_end_after_its_start_is_left_out(
    spark: SparkSession,
) -> None:
    frame = local_frame(
        spark,
        [
            ("sound", at("09:00"), at("10:00")),
            ("backwards", at("10:00"), at("09:00")),
            ("no length", at("09:00"), at("09:00")),
            ("no start", None, at("09:00")),
            ("no end", at("09:00"), None),
            (None, at("09:00"), at("10:00")),
        ],
        "cell_id string, from timestamp, to timestamp",
    )
    assert faults(network.judged_outages(frame), "cell_id") == {
        "sound": [None],
        "backwards": ["ends before it starts"],
        "no length": ["ends before it starts"],
        "no start": ["no time"],
        "no end": ["no time"],
        None: ["no cell_id"],
    }


# ------------------------------------------------------------------------------------- no data


def test_a_zone_hour_has_no_data_when_every_cell_that_sees_the_zone_was_down(
    spark: SparkSession,
) -> None:
    seeing = local_frame(
        spark,
        [
            ("one", "alone"),
            ("one", "shared"),
            ("two", "shared"),
            ("three", "other"),
        ],
        "cell_id string, zone_id string",
    )
    zones = local_frame(spark, [("alone",), ("shared",), ("other",), ("unseen",)], "zone_id string")
    down = outages(
        spark,
        [
            ("one", at("09:00"), at("12:00")),
            ("two", at("10:30"), at("11:10")),
            ("two", at("10:00"), at("10:30")),
            ("elsewhere", at("08:00"), at("14:00")),
        ],
    )
    found = network.zone_hours_without_data(zones, seeing, down, HOURS).collect()
    by_zone = {
        zone: sorted(row.hour_start.hour for row in found if row.zone_id == zone)
        for zone in ("alone", "shared", "other", "unseen")
    }
    assert by_zone == {
        "alone": [9, 10, 11],
        "shared": [10],
        "other": [],
        "unseen": [8, 9, 10, 11, 12, 13],
    }


@pytest.mark.parametrize(
    ("hours_of_day", "enough"), [(24, 12), (23, 12), (25, 13)], ids=["24 h", "23 h", "25 h"]
)
def test_a_day_has_no_data_when_half_its_hours_have_none(
    spark: SparkSession, hours_of_day: int, enough: int
) -> None:
    rows = [
        (name, at("00:00") + timedelta(hours=hour))
        for name, hours in (("just", enough), ("not", enough - 1), ("all", hours_of_day))
        for hour in range(hours)
    ]
    frame = local_frame(spark, rows, "zone_id string, hour_start timestamp")
    found = network.zone_days_without_data(frame, hours_of_day=hours_of_day).collect()
    assert sorted(row.zone_id for row in found) == ["all", "just"]
