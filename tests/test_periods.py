"""Visits of weeks and months from literal days: what counts, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date, timedelta

import numpy as np
import pytest
from pyspark.sql import Row, SparkSession

from jobs.frames import local_frame
from transforms.extrapolation import Z_95
from transforms.periods import visits_of

MONDAY = date(2026, 11, 23)
SIGMA, WEIGHT = 40.0, 3.0
Day = tuple[date, str, float | None, float | None, str, float]
"""day, zone_id, visits, visits_high, status, noisy devices"""


def shown(day: date, devices: float, *, shared: float = 0.0, zone: str = "mall") -> Day:
    """A published day: people, and an upper end by noise and a share of them."""
    deviation = math.hypot(WEIGHT * SIGMA, shared * WEIGHT * devices)
    people = WEIGHT * devices
    return day, zone, people, people + Z_95 * deviation, "published", devices


def hidden(day: date, devices: float, *, status: str = "suppressed", zone: str = "mall") -> Day:
    return day, zone, None, None, status, devices


def told(spark: SparkSession, days: Iterable[Day], each: str = "week") -> dict[object, Row]:
    rows = list(days)
    frame = visits_of(
        local_frame(
            spark,
            [row[:5] for row in rows],
            "day date, zone_id string, visits double, visits_high double, status string",
        ),
        local_frame(
            spark,
            [(row[0], row[1], row[5], SIGMA) for row in rows],
            "day date, zone_id string, visits_devices double, visits_sigma double",
        ),
        each=each,  # type: ignore[arg-type]
        min_devices=30,
    )
    return {row[each]: row for row in frame.collect()}


def week(*devices: float) -> list[Day]:
    return [shown(MONDAY + timedelta(days=n), one) for n, one in enumerate(devices)]


def test_a_week_is_the_sum_of_its_days_and_of_no_other_week(spark: SparkSession) -> None:
    days = [*week(400, 500, 600), shown(MONDAY - timedelta(days=1), 900)]
    rows = told(spark, days)
    assert {when: row.days for when, row in rows.items()} == {
        MONDAY: 3,
        MONDAY - timedelta(days=7): 1,
    }
    assert rows[MONDAY].visits == pytest.approx(WEIGHT * 1500)
    months = told(spark, days, each="month")
    assert months[date(2026, 11, 1)].visits == pytest.approx(WEIGHT * 2400)


def test_noise_is_of_each_day_anew_and_the_rest_of_all_days_alike(spark: SparkSession) -> None:
    by_noise = told(spark, week(*[1000.0] * 4))[MONDAY]
    assert by_noise.visits_high - by_noise.visits == pytest.approx(Z_95 * 2 * WEIGHT * SIGMA)
    both = told(spark, [shown(MONDAY + timedelta(days=n), 1000, shared=0.1) for n in range(4)])
    expected = math.hypot(2 * WEIGHT * SIGMA, 0.1 * 4000 * WEIGHT)
    assert both[MONDAY].visits_high - both[MONDAY].visits == pytest.approx(Z_95 * expected)
    assert 0 < both[MONDAY].visits_low < both[MONDAY].visits


def test_a_suppressed_day_counts_as_it_was_drawn(spark: SparkSession) -> None:
    """Were it left out, days on which noise happened to be high would be counted alone."""
    days = [*week(400, 200), hidden(MONDAY + timedelta(days=2), -30)]
    row = told(spark, days)[MONDAY]
    assert (row.days, row.status) == (3, "published")
    assert row.visits == pytest.approx(WEIGHT * 570)


def test_sums_around_the_threshold_are_right_on_average(spark: SparkSession) -> None:
    """Days of 90 devices, of which a half are under the threshold of 93.2."""
    noise = np.random.default_rng(7).normal(90.0, SIGMA, (300, 7))
    days = [
        (shown if devices >= 2.33 * SIGMA else hidden)(
            MONDAY + timedelta(days=7 * number + weekday), float(devices)
        )
        for number, of_week in enumerate(noise)
        for weekday, devices in enumerate(of_week)
    ]
    sums = [row.visits for row in told(spark, days).values() if row.status == "published"]
    assert len(sums) > 290
    assert np.mean(sums) == pytest.approx(WEIGHT * 630, rel=0.03)


def test_days_without_data_are_not_counted(spark: SparkSession) -> None:
    dark = hidden(MONDAY + timedelta(days=1), 700, status="no_data")
    row = told(spark, [*week(400), dark])[MONDAY]
    assert (row.days, row.visits) == (1, pytest.approx(WEIGHT * 400))
    alone = told(spark, [dark])[MONDAY]
    assert (alone.days, alone.visits, alone.status) == (0, None, "no_data")


def test_the_threshold_is_that_of_the_sum(spark: SparkSession) -> None:
    """√2 · 40 · 2.33 is 131.8: two days of 94 pass it; of 94 and 30 they don't."""
    more, less = week(94, 94), [*week(94), hidden(MONDAY + timedelta(days=1), 30)]
    assert told(spark, more)[MONDAY].status == "published"
    row = told(spark, less)[MONDAY]
    assert (row.status, row.visits, row.visits_low, row.visits_high) == ("suppressed",) + (
        None,
    ) * 3


def test_without_any_published_day_nobody_knows_how_many_people_a_device_is(
    spark: SparkSession,
) -> None:
    days = [hidden(MONDAY + timedelta(days=n), 90) for n in range(7)]
    assert told(spark, days)[MONDAY].status == "suppressed"
