"""A zone's day beside others, from literal published rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import Row, SparkSession

from jobs.frames import local_frame
from transforms.comparison import comparisons

DAY = date(2026, 11, 23)
BEFORE = DAY - timedelta(days=7)
Estimate = tuple[float | None, float | None, float | None]
NONE: Estimate = (None, None, None)
Zone = tuple[object, ...]
_DAYS = (
    "day date, zone_id string, visitors double, visitors_low double, visitors_high double, "
    "passers_by double, passers_by_low double, passers_by_high double, status string"
)
_HOURS = (
    "day date, zone_id string, hour_start timestamp, visitors double, visitors_low double, "
    "visitors_high double"
)


def about(value: float, off: float) -> Estimate:
    return value, value - off, value + off


def zone(
    name: str, visitors: Estimate, passers_by: Estimate = NONE, *, day: date = DAY, **other: str
) -> Zone:
    return day, name, *visitors, *passers_by, other.get("status", "published")


def hour(clock: int, visitors: Estimate, *, name: str = "a") -> Zone:
    """By its local clock; Berlin is an hour ahead of UTC in November."""
    return DAY, name, datetime(2026, 11, 23, clock - 1, tzinfo=UTC), *visitors


def told(
    spark: SparkSession, days: Iterable[Zone], hours: Iterable[Zone] = (), *, zones: int = 1
) -> dict[str, Row]:
    frame = comparisons(
        local_frame(spark, list(days), _DAYS),
        local_frame(spark, list(hours), _HOURS),
        of=[DAY],
        zones=zones,
        timezone="Europe/Berlin",
    )
    return {row.zone_id: row for row in frame.collect()}


def shown(row: Row, name: str) -> Estimate:
    return row[name], row[f"{name}_low"], row[f"{name}_high"]


def test_the_capture_rate_is_the_share_that_comes_in(spark: SparkSession) -> None:
    row = told(spark, [zone("a", about(1000, 100), about(3000, 0))])["a"]
    rate, low, high = shown(row, "capture_rate")
    assert rate == pytest.approx(25)
    assert low == pytest.approx(100 * 900 / 3900)
    assert high == pytest.approx(100 * 1100 / 4100)


def test_a_rate_ends_at_a_hundred_where_there_may_have_been_no_passer_by(
    spark: SparkSession,
) -> None:
    row = told(spark, [zone("a", about(1000, 100), (80.0, 0.0, 200.0))])["a"]
    rate, low, high = shown(row, "capture_rate")
    assert rate is not None
    assert low is not None
    assert low < rate < 100
    assert high == 100


def test_the_week_before_is_the_same_weekday_s(spark: SparkSession) -> None:
    days = [
        zone("a", about(1200, 0)),
        zone("a", about(1000, 0), day=BEFORE),
        zone("b", about(500, 0)),
        zone("c", about(500, 0)),
        zone("c", NONE, day=BEFORE, status="suppressed"),
        zone("d", about(500, 0)),
        zone("d", (90.0, 0.0, 200.0), day=BEFORE),
    ]
    rows = told(spark, days)
    assert set(rows) == {"a", "b", "c", "d"}, "rows are of the day alone"
    assert shown(rows["a"], "week_before_index") == pytest.approx((120, 120, 120))
    for name in ("b", "c", "d"):
        assert shown(rows[name], "week_before_index") == NONE, name


def test_the_city_s_average_is_that_of_the_zones_that_are_shown(spark: SparkSession) -> None:
    days = [zone("a", about(300, 30)), zone("b", about(100, 40)), zone("c", NONE)]
    rows = told(spark, days)
    assert rows["a"].city_index == pytest.approx(150)
    assert rows["b"].city_index == pytest.approx(50)
    assert shown(rows["c"], "city_index") == NONE
    mean_low = 200 - math.hypot(30, 40) / 2
    mean_high = 200 + math.hypot(30, 40) / 2
    down = math.hypot(math.log(300 / 270), math.log(mean_high / 200))
    up = math.hypot(math.log(330 / 300), math.log(200 / mean_low))
    assert rows["a"].city_index_low == pytest.approx(150 * math.exp(-down))
    assert rows["a"].city_index_high == pytest.approx(150 * math.exp(up))


def test_ranks_reach_over_zones_that_may_be_above_or_below(spark: SparkSession) -> None:
    days = [
        zone("first", about(900, 10)),
        zone("second", about(500, 60)),
        zone("third", about(450, 60)),
        zone("last", about(100, 10)),
        zone("hidden", NONE, status="suppressed"),
    ]
    rows = told(spark, days, zones=5)
    assert {name: shown(row, "rank") for name, row in rows.items()} == {
        "first": (1, 1, 1),
        "second": (2, 2, 3),
        "third": (3, 2, 3),
        "last": (4, 4, 4),
        "hidden": NONE,
    }


def test_the_more_zones_there_are_the_surer_one_must_be(spark: SparkSession) -> None:
    days = [zone("a", about(500, 40)), zone("b", about(400, 40))]
    assert shown(told(spark, days, zones=1)["a"], "rank") == (1, 1, 1)
    assert shown(told(spark, days, zones=200)["a"], "rank") == (1, 1, 2)


def test_intervals_of_ranks_hold_all_true_ranks_at_once_95_times_of_100(
    spark: SparkSession,
) -> None:
    """Twelve zones that lie close to each other, drawn 300 times: each draw is a day."""
    truth = np.linspace(1000, 1220, 12)
    draws = np.random.default_rng(3).normal(truth, 25.0, (300, 12))
    days = [
        zone(f"{number}", about(float(value), 49.0), day=DAY + timedelta(days=draw))
        for draw, values in enumerate(draws)
        for number, value in enumerate(values)
    ]
    frame = comparisons(
        local_frame(spark, days, _DAYS),
        local_frame(spark, [], _HOURS),
        of=sorted({day for day, *_ in days}),  # type: ignore[type-var]
        zones=12,
        timezone="Europe/Berlin",
    )
    missed = {
        row.day
        for row in frame.collect()
        if not row.rank_low <= 12 - int(row.zone_id) <= row.rank_high
    }
    assert len(missed) <= 15


def test_the_busiest_hour_and_those_that_may_have_been_it(spark: SparkSession) -> None:
    hours = [
        hour(10, about(100, 20)),
        hour(14, about(280, 30)),
        hour(15, about(300, 30)),
        hour(16, about(250, 30)),
        hour(18, about(200, 30)),
        hour(20, NONE),
        hour(9, about(50, 5), name="b"),
    ]
    rows = told(spark, [zone("a", about(900, 50)), zone("b", NONE), zone("c", NONE)], hours)
    assert shown(rows["a"], "busiest_hour") == (15, 14, 16)
    assert shown(rows["b"], "busiest_hour") == (9, 9, 9)
    assert [rows[name].status for name in "abc"] == ["published", "published", "suppressed"]


def test_without_data_there_is_nothing_to_compare(spark: SparkSession) -> None:
    days = [zone("a", NONE, status="no_data"), zone("b", about(500, 10))]
    row = told(spark, days, [hour(9, about(50, 5))])["a"]
    assert row.status == "no_data"
    names = [name for name in row.asDict() if name not in ("day", "zone_id", "status")]
    assert {row[name] for name in names} == {None}
