"""Literal rows of the privacy ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

from transforms.ledger import Entry, Ledger

DAY = date(2026, 11, 24)
SPLIT = {
    "zone_hours.visitors": 0.035,
    "zone_hours.passers_by": 0.010,
    "zone_days.visitors": 0.010,
    "zone_days.passers_by": 0.005,
    "zone_days.visits": 0.005,
    "zone_dwell.visitors": 0.010,
    "zone_flows.trips": 0.015,
    "zone_catchment.visitors": 0.010,
}


def entry(
    name: str = "zone_hours.visitors",
    rho: float = 0.035,
    *,
    day: date = DAY,
    number: int = 1,
    supersedes: str | None = None,
) -> Entry:
    product, measure = name.split(".")
    return Entry(
        release_id=f"{day}-{number}",
        day=day,
        product=product,
        measure=measure,
        rho=rho,
        l0=8,
        linf=1.0,
        l2=8**0.5,
        sigma=10.69,
        mechanism="discrete gaussian (OpenDP)",
        method_version="1",
        code_version="0.1.0",
        rows=648,
        suppressed=437,
        supersedes=supersedes,
        published_at=datetime.combine(day + timedelta(days=1), time(3, number), UTC),
    )


def night(day: date = DAY) -> list[Entry]:
    """A night that spends the default split."""
    return [entry(name, rho, day=day) for name, rho in SPLIT.items()]


def participants(month: date, rho: float = 0.005) -> Entry:
    drawn = entry("participation.participants", rho, day=month)
    return replace(drawn, release_id=f"participation-{month:%Y-%m}", l0=1, l2=1.0, sigma=10.0)


def ledger(*entries: Entry) -> Ledger:
    return Ledger(entries)
