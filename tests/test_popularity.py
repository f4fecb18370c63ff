"""Popular times from literal noisy counts: means, peaks, gaps, and the weeks they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from jobs.frames import local_frame
from transforms.days import LocalDay
from transforms.popularity import WINDOW, monday_of, popular_times, windows

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = date(2026, 11, 23)
SUNDAY = date(2026, 10, 25)
"""The clocks go back: two in the morning comes twice."""
SCHEMA = (
    "day date, zone_id string, hour_start timestamp, noisy_devices double, sigma double, "
    "no_data boolean"
)
Hour = tuple[date, str, datetime, float, float, bool]


def at(day: date, clock: int, devices: float, *, zone: str = "mall", no_data: bool = False) -> Hour:
    """One hour by its local clock."""
    start = datetime(day.year, day.month, day.day, clock, tzinfo=BERLIN).astimezone(UTC)
    return day, zone, start, devices, 10.0, no_data


def told(
    spark: SparkSession, hours: Iterable[Sequence[Any]], *weeks: tuple[date, date]
) -> dict[tuple[Any, ...], Any]:
    """Rows by week, zone, weekday and hour; by weekday and hour alone where that is enough."""
    frame = popular_times(
        local_frame(spark, list(hours), SCHEMA),
        weeks=dict(weeks),
        timezone="Europe/Berlin",
        min_devices=30,
    )
    rows = {(row.week, row.zone_id, row.weekday, row.hour): row for row in frame.collect()}
    if len(weeks) == 1 and len({row.zone_id for row in rows.values()}) == 1:
        return {key[2:]: row for key, row in rows.items()}
    return rows


def test_an_hour_is_its_mean_in_percent_of_the_zone_s_peak(spark: SparkSession) -> None:
    before = MONDAY - timedelta(days=7)
    rows = told(
        spark,
        [at(before, 12, 100), at(MONDAY, 12, 300), at(before, 17, 500), at(MONDAY, 17, 300)],
        (MONDAY, MONDAY),
    )
    assert rows[1, 17].popularity == 100
    assert rows[1, 12].popularity == pytest.approx(50)
    assert {rows[1, hour].status for hour in (12, 17)} == {"published"}


def test_each_zone_has_a_peak_of_its_own_and_every_hour_of_the_week_a_row(
    spark: SparkSession,
) -> None:
    hours = [at(MONDAY, 12, 100), at(MONDAY, 12, 4000, zone="big"), at(MONDAY, 9, 1000, zone="big")]
    rows = told(spark, hours, (MONDAY, MONDAY))
    assert len(rows) == 2 * 7 * 24
    assert rows[MONDAY, "mall", 1, 12].popularity == rows[MONDAY, "big", 1, 12].popularity == 100
    assert rows[MONDAY, "big", 1, 9].popularity == pytest.approx(25)


def test_what_lies_under_the_threshold_is_suppressed_and_its_noise_is_that_of_a_mean(
    spark: SparkSession,
) -> None:
    """Of four hours the σ of the mean is a half: 30 devices are enough, and of one they are not."""
    weeks_before = [MONDAY - timedelta(days=7 * back) for back in range(4)]
    hours = [at(day, 12, 30.0) for day in weeks_before] + [at(MONDAY, 17, 29.9)]
    hours = [(*hour[:4], 20.0, hour[5]) for hour in hours]
    rows = told(spark, hours, (MONDAY, MONDAY))
    assert (rows[1, 12].status, rows[1, 12].popularity) == ("published", 100)
    assert (rows[1, 17].status, rows[1, 17].popularity) == ("suppressed", None)
    alone = told(spark, hours[:1], (MONDAY, MONDAY))
    assert alone[1, 12].status == "suppressed"


def test_negative_counts_enter_as_they_were_drawn(spark: SparkSession) -> None:
    before = MONDAY - timedelta(days=7)
    hours = [at(before, 12, -20), at(MONDAY, 12, 120), at(MONDAY, 17, 100)]
    rows = told(spark, hours, (MONDAY, MONDAY))
    assert rows[1, 12].popularity == pytest.approx(50)


def test_hours_without_data_are_no_quiet_hours(spark: SparkSession) -> None:
    before = MONDAY - timedelta(days=7)
    hours = [at(before, 12, 0, no_data=True), at(MONDAY, 12, 100), at(MONDAY, 17, 0, no_data=True)]
    rows = told(spark, hours, (MONDAY, MONDAY))
    assert rows[1, 12].popularity == 100
    assert (rows[1, 17].status, rows[1, 17].popularity) == ("no_data", None)
    assert rows[2, 12].status == "no_data", "no Tuesday is published yet"


def test_the_hour_that_comes_twice_counts_twice(spark: SparkSession) -> None:
    two = [
        (SUNDAY, "mall", start, devices, 10.0, False)
        for start, devices in zip(LocalDay(SUNDAY, BERLIN).hours[2:4], (100.0, 300.0), strict=True)
    ]
    rows = told(spark, [*two, at(SUNDAY, 12, 400)], (monday_of(SUNDAY), SUNDAY))
    assert rows[7, 2].popularity == pytest.approx(50)


def test_days_before_the_four_weeks_do_not_count(spark: SparkSession) -> None:
    hours = [at(MONDAY, 12, 100), at(MONDAY, 17, 50)]
    hours += [at(MONDAY - WINDOW, 17, 1000), at(MONDAY + timedelta(days=1), 9, 1000)]
    rows = told(spark, hours, (MONDAY, MONDAY))
    assert rows[1, 17].popularity == pytest.approx(50)
    assert rows[2, 9].status == "no_data", "a later day belongs to a later state of the week"


def test_an_interval_holds_its_value_and_stays_between_0_and_100(spark: SparkSession) -> None:
    hours = [at(MONDAY, clock, 30.0 + 40 * clock) for clock in range(24)]
    for row in told(spark, hours, (MONDAY, MONDAY)).values():
        if row.popularity is not None:
            assert 0 <= row.popularity_low <= row.popularity <= row.popularity_high <= 100
    # σ 10 and, of 500 devices, a standard deviation by chance of √500, relative to 950
    row = told(spark, [at(MONDAY, 12, 500), at(MONDAY, 17, 950)], (MONDAY, MONDAY))[1, 12]
    margin = 100 * 1.96 * (100 + 500) ** 0.5 / 950
    assert row.popularity_high - row.popularity == pytest.approx(margin, rel=1e-3)


def test_several_weeks_come_at_once(spark: SparkSession) -> None:
    after = MONDAY + timedelta(days=7)
    hours = [at(MONDAY, 12, 100), at(after, 12, 300), at(after, 17, 400)]
    rows = told(spark, hours, (MONDAY, MONDAY), (after, after))
    assert rows[MONDAY, "mall", 1, 12].popularity == 100
    assert rows[after, "mall", 1, 12].popularity == pytest.approx(50)


# --- which weeks ------------------------------------------------------------------------------


def test_a_night_changes_its_own_week_only_while_none_is_later() -> None:
    saturday = MONDAY + timedelta(days=5)
    assert windows(saturday, [MONDAY, saturday]) == {MONDAY: saturday}


def test_a_night_that_is_made_up_for_changes_the_weeks_after_it_too() -> None:
    published = [MONDAY + timedelta(days=days) for days in range(60)]
    assert list(windows(MONDAY, published)) == [
        MONDAY + timedelta(days=7 * week) for week in range(4)
    ]
    assert windows(published[1], published)[MONDAY] == MONDAY + timedelta(days=6)


@given(
    days=st.sets(st.integers(0, 90), min_size=1),
    chosen=st.integers(0, 90),
)
def test_the_weeks_of_a_day_are_those_whose_four_weeks_hold_it(days: set[int], chosen: int) -> None:
    published = [MONDAY + timedelta(days=one) for one in days | {chosen}]
    day = MONDAY + timedelta(days=chosen)
    found = windows(day, published)
    for week in {monday_of(one) for one in published}:
        last = max(one for one in published if monday_of(one) == week)
        assert (week in found) == (timedelta() <= last - day < WINDOW)
        assert found.get(week, last) == last
