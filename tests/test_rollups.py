"""Which rows follow from a day, and what days they are made of."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.rollups import following, made_of
from transforms.tables import (
    PUBLISHED_PRODUCTS,
    ZONE_COMPARISON,
    ZONE_DAYS,
    ZONE_MONTHS,
    ZONE_WEEKS,
    Product,
)

SUNDAY = date(2026, 11, 1)
DAYS = st.dates(date(2026, 1, 1), date(2027, 3, 1))


@pytest.mark.parametrize(
    ("product", "part"),
    [(ZONE_DAYS, SUNDAY), (ZONE_WEEKS, date(2026, 10, 26)), (ZONE_MONTHS, date(2026, 11, 1))],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_day_belongs_to_one_week_and_one_month(product: Product, part: date) -> None:
    assert following(product, SUNDAY, [SUNDAY]) == (part,)


def test_a_day_is_looked_back_at_a_week_later() -> None:
    later = SUNDAY + timedelta(days=7)
    assert following(ZONE_COMPARISON, SUNDAY, [SUNDAY]) == (SUNDAY,)
    assert following(ZONE_COMPARISON, SUNDAY, [SUNDAY, later]) == (SUNDAY, later)
    assert following(ZONE_COMPARISON, later, [SUNDAY, later]) == (later,)


@pytest.mark.parametrize("product", PUBLISHED_PRODUCTS, ids=lambda product: product.name)
@given(day=DAYS, others=st.sets(DAYS, max_size=40))
def test_rows_that_follow_from_a_day_may_be_made_of_it(
    product: Product, day: date, others: Collection[date]
) -> None:
    spans = [made_of(product, part) for part in following(product, day, {*others, day})]
    assert spans
    assert all(first <= day <= last for first, last in spans)


def test_a_month_ends_with_its_last_day() -> None:
    assert made_of(ZONE_MONTHS, date(2028, 2, 1)) == (date(2028, 2, 1), date(2028, 2, 29))
    assert made_of(ZONE_MONTHS, date(2026, 12, 1)) == (date(2026, 12, 1), date(2026, 12, 31))
