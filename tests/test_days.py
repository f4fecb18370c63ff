"""Local days as instants: no hour is lost and none counted twice, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.days import HOUR, LocalDay

ZONES = ("Europe/Berlin", "UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")


def berlin(year: int, month: int, day: int) -> LocalDay:
    return LocalDay(date(year, month, day), ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("day", "start", "hours"),
    [
        (berlin(2026, 11, 23), datetime(2026, 11, 22, 23, tzinfo=UTC), 24),
        (berlin(2026, 7, 1), datetime(2026, 6, 30, 22, tzinfo=UTC), 24),
        (berlin(2026, 3, 29), datetime(2026, 3, 28, 23, tzinfo=UTC), 23),
        (berlin(2026, 10, 25), datetime(2026, 10, 24, 22, tzinfo=UTC), 25),
        (LocalDay(date(2026, 11, 23), ZoneInfo("UTC")), datetime(2026, 11, 23, tzinfo=UTC), 24),
    ],
)
def test_a_local_day_has_23_24_or_25_hours(day: LocalDay, start: datetime, hours: int) -> None:
    assert day.start == start
    assert len(day.hours) == hours
    assert day.end - day.start == hours * HOUR


def test_the_hour_that_comes_twice_is_there_twice() -> None:
    local = [hour.astimezone(ZoneInfo("Europe/Berlin")).hour for hour in berlin(2026, 10, 25).hours]
    assert local == [0, 1, 2, *range(2, 24)]


def test_the_hour_that_is_skipped_is_not_there() -> None:
    local = [hour.astimezone(ZoneInfo("Europe/Berlin")).hour for hour in berlin(2026, 3, 29).hours]
    assert local == [0, 1, *range(3, 24)]


@given(day=st.dates(date(2015, 1, 1), date(2035, 12, 31)), zone=st.sampled_from(ZONES))
def test_days_follow_each_other_without_gap_or_overlap(day: date, zone: str) -> None:
    today = LocalDay(day, ZoneInfo(zone))
    tomorrow = LocalDay(day + timedelta(days=1), ZoneInfo(zone))
    assert today.end == tomorrow.start
    assert today.start.astimezone(ZoneInfo(zone)).date() == day


@given(day=st.dates(date(2015, 1, 1), date(2035, 12, 31)), zone=st.sampled_from(ZONES))
def test_hours_cover_the_day_one_after_the_other(day: date, zone: str) -> None:
    today = LocalDay(day, ZoneInfo(zone))
    assert today.hours[0] == today.start
    assert today.hours[-1] < today.end <= today.hours[-1] + HOUR
    assert {b - a for a, b in zip(today.hours, today.hours[1:], strict=False)} == {HOUR}


def test_the_first_of_the_month_keeps_the_timezone() -> None:
    assert berlin(2026, 11, 23).first_of_month == berlin(2026, 11, 1)
    assert berlin(2026, 11, 1).first_of_month == berlin(2026, 11, 1)
