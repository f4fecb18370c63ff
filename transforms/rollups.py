"""Products made of what is published of several days: which rows follow from a day, and what days
they are made of. Of the same published days the same comes out, in whatever order they came.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from transforms import comparison, popularity
from transforms.disclosure import Part, Release
from transforms.extrapolation import of_release
from transforms.tables import (
    ZONE_COMPARISON,
    ZONE_MONTHS,
    ZONE_POPULARITY,
    ZONE_WEEKS,
    Product,
)

_TO_SUNDAY = timedelta(days=6)


def following(product: Product, day: date, published: Collection[date]) -> tuple[date, ...]:
    """The days, weeks or months of a product whose rows depend on `day`, one of the published."""
    if product is ZONE_POPULARITY:
        return tuple(popularity.windows(day, published))
    if product is ZONE_COMPARISON:
        return comparison.days_after(day, published)
    if product is ZONE_WEEKS:
        return (popularity.monday_of(day),)
    if product is ZONE_MONTHS:
        return (day.replace(day=1),)
    return (day,)


def made_of(product: Product, part: date) -> tuple[date, date]:
    """First and last day that the rows of one day, week or month of a product may be made of."""
    if product is ZONE_POPULARITY:
        return part - popularity.WINDOW + timedelta(days=1), part + _TO_SUNDAY
    if product is ZONE_COMPARISON:
        return part - comparison.WEEK, part
    if product is ZONE_WEEKS:
        return part, part + _TO_SUNDAY
    if product is ZONE_MONTHS:
        return part, part.replace(day=monthrange(part.year, part.month)[1])
    return part, part


def release(
    rows: Mapping[Product, DataFrame],
    follows: Mapping[Product, tuple[date, ...]],
    *,
    release_id: str,
    published_at: datetime,
) -> Release:
    """What follows from a release; of `rows` those of other days, weeks and months are left out."""
    parts = {}
    for product, dates in follows.items():
        own = rows[product].where(F.col(product.kept_by).isin(*dates))
        parts[product.table] = Part(own.transform(of_release, release_id, published_at), dates)
    return Release(release_id, published_at, parts)
