"""The year's nights are the first one's, each on its own day."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql.pandas.types import to_arrow_schema

from jobs.runtime import PROJECT, load_settings
from tests import year
from tests.bench import DAY
from tests.test_certificates import FIRST
from transforms.certificates import Certificate, faults
from transforms.tables import (
    CONSENT_CERTIFICATES,
    CONSENT_DECISIONS,
    NOISY_CELLS,
    RELEASES,
    VISITS,
    ZONE_MONTHS,
    ZONE_POPULARITY,
)

SETTINGS = load_settings(str(PROJECT / "conf/base.toml"))
RELEASE = f"{DAY}-1"


def of_nights(table: Any, rows: list[dict[str, Any]], *, nights: int = 365) -> list[Any]:
    found = year.commits(table, pa.Table.from_pylist(rows), settings=SETTINGS, nights=nights)
    return [commit.to_pylist() for commit in found]


def test_every_night_before_is_of_its_own_day_and_release() -> None:
    row = {"day": DAY, "release_id": RELEASE, "product": "zone_hours", "published_at": DAY}
    nights = of_nights(RELEASES, [row], nights=4)
    days = [DAY - timedelta(days=back) for back in (3, 2, 1)]
    assert [[one["day"] for one in night] for night in nights] == [[day] for day in days]
    assert [night[0]["release_id"] for night in nights] == [f"{day}-1" for day in days]


def test_what_the_age_limits_do_not_keep_is_not_there() -> None:
    assert len(of_nights(VISITS, [{"day": DAY}])) == SETTINGS.retention[VISITS.name] - 1


def test_participants_are_drawn_once_a_month() -> None:
    first = DAY.replace(day=1)
    row = {"day": first, "release_id": f"participation-{first:%Y-%m}", "product": "participation"}
    drawn = [one for night in of_nights(RELEASES, [row]) for one in night]
    assert len(drawn) == 12
    assert {one["day"].day for one in drawn} == {1}
    assert len({one["release_id"] for one in drawn}) == len(drawn)


def test_keys_of_cells_move_with_their_day() -> None:
    keys = [("day", f"{DAY}"), ("hour_start", f"{DAY}T09:00:00Z"), ("zone_id", "alexa")]
    rows = pa.table(
        {
            "release_id": [RELEASE],
            "product": ["zone_hours"],
            "keys": pa.array([keys], pa.map_(pa.string(), pa.string())),
        }
    )
    [before] = year.commits(NOISY_CELLS, rows, settings=SETTINGS, nights=2)
    yesterday = DAY - timedelta(days=1)
    assert before["keys"].to_pylist() == [
        [("day", f"{yesterday}"), ("hour_start", f"{yesterday}T09:00:00Z"), ("zone_id", "alexa")]
    ]


def test_popular_times_are_of_weeks() -> None:
    weeks = [night[0]["week"] for night in of_nights(ZONE_POPULARITY.table, [{"week": DAY}])]
    assert len(weeks) == len(set(weeks)) == 52


@pytest.mark.parametrize("nights", [2, 5])
def test_the_certificates_are_a_chain(nights: int) -> None:
    link = replace(
        FIRST,
        day=DAY,
        release_id=RELEASE,
        spends="",
        decisions_received_until=None,
        issued_at=datetime(2026, 11, 22, 3),
    ).sealed(after=None)
    rows = pa.Table.from_pylist(
        [vars(link) | {"left_out": list(link.left_out.items())}],
        schema=to_arrow_schema(CONSENT_CERTIFICATES.schema),
    )
    found = year.commits(CONSENT_CERTIFICATES, rows, settings=SETTINGS, nights=nights)
    chain = [
        Certificate(**_naive(row | {"left_out": dict(row["left_out"])}))
        for commit in found
        for row in commit.to_pylist()
    ]
    assert [one.number for one in chain] == list(range(1, nights))
    assert faults(chain, ledger={one.release_id: "" for one in chain}) == []


def _naive(row: dict[str, Any]) -> dict[str, Any]:
    instants = {n: value for n, value in row.items() if isinstance(value, datetime)}
    return row | {name: value.replace(tzinfo=None) for name, value in instants.items()}


def test_a_ratio_is_of_each_pair() -> None:
    ran = [year.Ran(seconds, {}, 0.0) for seconds in (100.0, 110.0, 90.0)]
    assert year.compared(ran, ran[::-1]) == {
        "first_seconds": 100.0,
        "last_seconds": 100.0,
        "ratio": 1.0,
    }


def test_decisions_are_known_since_the_first_night_and_faulty_ones_went() -> None:
    now = datetime(2026, 11, 22, 3)
    rows = [
        {"decision_id": name, "first_seen_at": now, "fault": fault}
        for name, fault in (("sound", None), ("faulty", "unverified"))
    ]
    [night] = of_nights(CONSENT_DECISIONS, rows)
    first = now - timedelta(days=364)
    assert night == [{"decision_id": "sound", "first_seen_at": first, "fault": None}]


def test_visits_of_months_are_of_every_month_once() -> None:
    row = {"month": DAY.replace(day=1), "zone_id": "alexa", "visits": 1.0}
    months = [night[0]["month"] for night in of_nights(ZONE_MONTHS.table, [row])]
    assert len(months) == len(set(months)) == 11
    assert {month.day for month in months} == {1}
