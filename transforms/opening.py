"""Opening hours as OpenStreetMap writes them -> when a zone is open on a day.

Source of the notation: https://wiki.openstreetmap.org/wiki/Key:opening_hours/specification.
"""

from __future__ import annotations

from datetime import UTC, datetime

from opening_hours import OpeningHours, State, validate

from transforms.days import LocalDay

Interval = tuple[datetime, datetime]


def open_intervals(opening_hours: str | None, day: LocalDay) -> list[Interval] | None:
    """When it is open, or may be, within the day: [from, to) in UTC. None: nobody knows.

    >>> from datetime import date; from zoneinfo import ZoneInfo
    >>> saturday = LocalDay(date(2026, 11, 21), ZoneInfo("Europe/Berlin"))
    >>> [(a.hour, b.hour) for a, b in open_intervals("Mo-Sa 10:00-20:00", saturday)]
    [(9, 19)]
    >>> open_intervals("Mo-Fr 10:00-20:00", saturday), open_intervals("when we like", saturday)
    ([], None)
    """
    if opening_hours is None or not opening_hours.strip() or not validate(opening_hours):
        return None
    hours = OpeningHours(opening_hours, timezone=day.timezone)
    start, end = (at.astimezone(day.timezone) for at in (day.start, day.end))
    return [
        (since.astimezone(UTC), until.astimezone(UTC))
        for since, until, state, _ in hours.intervals(start, end)
        if state != State.CLOSED
    ]
