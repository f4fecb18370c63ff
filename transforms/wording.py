"""How foreign text, counts of people and figures are put into words that anybody may see."""

from __future__ import annotations

import math
import re

FEW = 10
MEASURE_NAMES = {
    "zone_hours.visitors": "Visitors by hour",
    "zone_hours.passers_by": "Passers-by by hour",
    "zone_days.visitors": "Visitors of the day",
    "zone_days.passers_by": "Passers-by of the day",
    "zone_days.visits": "Visits of the day",
    "zone_days.dwell_median_min": "Median stay",
    "zone_dwell.visitors": "Length of stay",
    "zone_flows.trips": "Trips between zones",
    "zone_catchment.visitors": "Where visitors live",
    "participation.participants": "Participants by area, once a month",
    "participation.subscribers": "Subscribers by brand, taking part or not, once a month",
}


def shown(text: object, *, length: int = 80) -> str:
    """Foreign text fit for one line of a log: printable, quoted, not too long.

    >>> shown("a\\nb")
    "'a\\\\nb'"
    """
    quoted = ascii(str(text))
    return quoted if len(quoted) <= length else f"{quoted[: length - 2]}…'"


def few(count: int) -> str:
    """A count in words that say nothing exact about a handful, not even by subtraction.

    >>> few(0), few(3), few(1234)
    ('0', 'fewer than 10', '1,230')
    """
    return f"fewer than {FEW}" if 0 < count < FEW else f"{count // FEW * FEW:,}"


def power_of_ten(delta: float) -> str:
    """A δ as it is written on paper; other numbers as they are.

    >>> power_of_ten(1e-9), power_of_ten(2e-9)
    ('10⁻⁹', '2e-09')
    """
    exponent = round(math.log10(delta)) if delta > 0 else 0
    if delta > 0 and math.isclose(delta, 10.0**exponent):
        return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{delta:.2g}"


def without_login(path: str) -> str:
    """An address without the name and password that it may hold.

    >>> without_login("s3a://me:secret@bucket/a"), without_login("/data/a@b")
    ('s3a://bucket/a', '/data/a@b')
    """
    return re.sub(r"(?<=://)[^/]*@", "", path)


def or_open(count: int | None) -> str:
    """A count of the ledger, which has none until the release is published.

    >>> or_open(1234), or_open(None)
    ('1,234', 'open')
    """
    return "open" if count is None else f"{count:,}"
