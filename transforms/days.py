"""Local days as instants: 23, 24 or 25 hours, whatever the clocks do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class LocalDay:
    """One day of a timezone; `start` (inclusive) and `end` (exclusive) are instants in UTC.

    >>> [LocalDay(date(2026, 10, 25), ZoneInfo("Europe/Berlin")).hours[i].hour for i in (0, -1)]
    [22, 22]
    >>> len(LocalDay(date(2026, 10, 25), ZoneInfo("Europe/Berlin")).hours)
    25
    """

    date: date
    timezone: ZoneInfo

    @property
    def start(self) -> datetime:
        return _instant(self.date, time.min, self.timezone)

    @property
    def end(self) -> datetime:
        return _instant(self.date + timedelta(days=1), time.min, self.timezone)

    @property
    def hours(self) -> tuple[datetime, ...]:
        """Starts of the day's hours, in UTC."""
        count = -(-(self.end - self.start) // HOUR)
        return tuple(self.start + index * HOUR for index in range(count))

    @property
    def night_ends(self) -> datetime:
        """Six o'clock, in UTC: before that people are at home."""
        return _instant(self.date, time(6), self.timezone)

    @property
    def first_of_month(self) -> LocalDay:
        return LocalDay(self.date.replace(day=1), self.timezone)


@dataclass(frozen=True)
class Month:
    """One calendar month by its first day.

    >>> Month.of(date(2026, 12, 24)).next, len(Month.of(date(2028, 2, 29)))
    (Month(first=datetime.date(2027, 1, 1)), 29)
    >>> str(Month.of(date(2026, 1, 31)).months_before(2))
    '2025-11'
    """

    first: date

    @classmethod
    def of(cls, day: date) -> Month:
        return cls(day.replace(day=1))

    def months_before(self, count: int) -> Month:
        year, month = divmod(self.first.year * 12 + self.first.month - 1 - count, 12)
        return Month(date(year, month + 1, 1))

    @property
    def next(self) -> Month:
        return self.months_before(-1)

    @property
    def last(self) -> date:
        return self.next.first - timedelta(days=1)

    def __len__(self) -> int:
        """Days of the month."""
        return self.last.day

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}"


def _instant(day: date, clock: time, timezone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock, tzinfo=timezone).astimezone(UTC)
