"""From noisy devices to people: what is shown, what is hidden, and how sure it is."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from scipy.stats import norm

from jobs.frames import local_frame
from transforms import extrapolation
from transforms.disclosure import Release
from transforms.extrapolation import Evidence, Weight, dwell_median, overall_weight
from transforms.settings import Minutes, Sight, Visibility
from transforms.tables import (
    DWELL_BANDS,
    MEASURES,
    METHOD_VERSION,
    NIGHTLY_PRODUCTS,
    ZONE_CATCHMENT,
    ZONE_DAYS,
    ZONE_DWELL,
    ZONE_FLOWS,
    ZONE_HOURS,
    Product,
)

DAY = date(2026, 11, 23)
PUBLISHED_AT = datetime(2026, 11, 24, 3, tzinfo=UTC)
WEIGHT = Weight(4.0, 0.0001)
AREA_WEIGHT = Weight(2.0, 0.01)
# Participants by area; a quarter of the residents is usual.
DRAWN = {"half": 125.0, "usual": 250.0, "tiny": 0.0, "gone": 3.0, "nobody": 2.0, "unknown": 40.0}
# Of 240 devices in `busy` 60 come from the area whose weight is half the overall one, an eighth
# less for the zone; (10 / 240)² of its square is noise, and so is the same part of the difference.
BUSY_KEPT = 1 - (10 * 0.5 / 240) ** 2 / 0.125**2
BUSY_WEIGHT = Weight(4.0 * (1 - BUSY_KEPT * 0.125), 0.0001 + BUSY_KEPT * (10 * 0.5 / 240) ** 2)
SEEN = {"zone_hours.visitors": 0.8}
SPREAD = {"zone_hours.visitors": 0.05, "zone_flows.trips": 0.1}
VISIBILITY = Visibility(
    dwell_median_min=Minutes(indoors=2.0, outdoors=4.0),
    indoors={
        one.full_name: Sight(
            seen=SEEN.get(one.full_name, 1.0), spread=SPREAD.get(one.full_name, 0.0)
        )
        for one in MEASURES
    },
    outdoors={one.full_name: Sight(seen=0.5, spread=0.3) for one in MEASURES},
)
Z_95 = 1.959963984540054
NINE, TEN = "2026-11-23T09:00:00Z", "2026-11-23T10:00:00Z"

# product, measure, cell, noisy devices, sigma. `dark` has no data.
NOISY: list[tuple[str, str, dict[str, str], float, float]] = [
    ("zone_hours", "visitors", {"zone_id": "busy", "hour_start": NINE}, 100.0, 10.7),
    ("zone_hours", "passers_by", {"zone_id": "busy", "hour_start": NINE}, 20.0, 20.0),
    ("zone_hours", "visitors", {"zone_id": "busy", "hour_start": TEN}, 29.984375, 10.7),
    ("zone_hours", "passers_by", {"zone_id": "busy", "hour_start": TEN}, 46.59375, 20.0),
    ("zone_hours", "visitors", {"zone_id": "dark", "hour_start": NINE}, 500.0, 10.7),
    ("zone_hours", "passers_by", {"zone_id": "dark", "hour_start": NINE}, 500.0, 20.0),
    ("zone_hours", "visitors", {"zone_id": "dark", "hour_start": TEN}, 500.0, 10.7),
    ("zone_hours", "passers_by", {"zone_id": "dark", "hour_start": TEN}, -3.0, 20.0),
    ("zone_hours", "visitors", {"zone_id": "quiet", "hour_start": NINE}, -12.5, 10.7),
    ("zone_hours", "passers_by", {"zone_id": "quiet", "hour_start": NINE}, 0.0, 20.0),
    ("zone_hours", "visitors", {"zone_id": "quiet", "hour_start": TEN}, 30.0, 10.7),
    ("zone_hours", "passers_by", {"zone_id": "quiet", "hour_start": TEN}, 46.609375, 20.0),
    *[
        ("zone_days", measure, {"zone_id": zone}, devices, sigma)
        for zone, devices in (("busy", 200.0), ("quiet", 10.0), ("dark", 900.0), ("odd", 100.0))
        for measure, sigma in (("visitors", 14.1), ("visits", 40.0), ("passers_by", 20.0))
    ],
    *[
        ("zone_dwell", "visitors", {"zone_id": zone, "dwell_band": band}, devices, 14.1)
        for zone, by_band in (
            ("busy", (50.0, 100.0, 50.0, 0.0, 0.0)),
            ("quiet", (90.0, 0.0, 0.0, 0.0, 0.0)),
            ("dark", (900.0, 0.0, 0.0, 0.0, 0.0)),
            ("odd", (-1.0, -2.0, -3.0, -4.0, -5.0)),
        )
        for band, devices in zip(DWELL_BANDS, by_band, strict=True)
    ],
    *[
        (
            "zone_flows",
            "trips",
            {"origin_zone_id": start, "destination_zone_id": end, "day_part": "midday"},
            60.0,
            11.5,
        )
        for start, end in (
            ("busy", "quiet"),
            ("busy", "dark"),
            ("dark", "busy"),
            ("elsewhere", "busy"),
            ("elsewhere", "dark"),
        )
    ],
    *[
        ("zone_catchment", "visitors", {"zone_id": zone, "home_area": area}, 60.0, 10.0)
        for zone in ("busy", "dark")
        for area in ("area 1", "area 2", "unknown", "outside")
    ],
]


@pytest.fixture(scope="module")
def evidence(spark: SparkSession) -> Evidence:
    noisy = local_frame(
        spark,
        [(p, m, {"day": "2026-11-23", **cell}, n, s) for p, m, cell, n, s in NOISY],
        "product string, measure string, keys map<string,string>, noisy_devices double, "
        "sigma double",
    )
    hours = [("dark", datetime(2026, 11, 23, hour, tzinfo=UTC)) for hour in (9, 10)]
    area_weights = local_frame(
        spark,
        [("area 1", AREA_WEIGHT.people_per_device, AREA_WEIGHT.relative_variance)],
        "home_area string, people_per_device double, relative_variance double",
    )
    return Evidence(
        noisy_cells=noisy,
        hours_without_data=local_frame(spark, hours, "zone_id string, hour_start timestamp"),
        zones_without_data=local_frame(spark, [("dark",)], "zone_id string"),
        told_indoors=frozenset({"busy", "dark"}),
        visibility=VISIBILITY,
        weight=WEIGHT,
        area_weights=area_weights,
        zone_weights=extrapolation.zone_weights(extrapolation.origins(noisy), area_weights, WEIGHT),
        min_devices=30,
    )


@pytest.fixture(scope="module")
def released(evidence: Evidence) -> Release:
    return released_with(evidence)


def released_with(evidence: Evidence) -> Release:
    return extrapolation.release(
        evidence, release_id="2026-11-23-1", day=DAY, published_at=PUBLISHED_AT
    )


@pytest.fixture(scope="module")
def rows(released: Release) -> dict[Product, dict[tuple[Any, ...], Row]]:
    """Rows of every product by their key, without the day."""
    return {
        product: {
            tuple(row[name] for name in product.table.key[1:]): row
            for row in released.parts[product.table].rows.collect()
        }
        for product in NIGHTLY_PRODUCTS
    }


Rows = dict[Product, dict[tuple[Any, ...], Row]]


def hour(clock: int) -> datetime:
    return datetime(2026, 11, 23, clock)


def shown(row: Row, measure: str) -> tuple[float, float, float] | None:
    values = (row[f"{measure}_low"], row[measure], row[f"{measure}_high"])
    assert (None in values) == (values == (None, None, None))
    return None if values[1] is None else values


def interval(
    devices: float, sigma: float, weight: Weight, *, seen: float = 1.0, spread: float = 0.0
) -> tuple[float, float, float]:
    """People and interval by hand: noise, sampling, share, and where phones are."""
    w = weight.people_per_device / seen
    people = w * devices
    unsure = weight.relative_variance + spread**2
    deviation = math.sqrt((w * sigma) ** 2 + w * (w - 1) * devices + people**2 * unsure)
    beyond = max((devices - max(30, 2.33 * sigma)) * w / deviation, 1e-9)
    low = people - math.hypot(Z_95, math.log(40) / beyond) * deviation
    return max(low, 0.0), people, people + Z_95 * deviation


# --------------------------------------------------------------------------------------- status


def test_every_cell_has_a_row_of_the_release(rows: Rows) -> None:
    cells = {
        product: {tuple(cell.values()) for p, _, cell, _, _ in NOISY if p == product.name}
        for product in NIGHTLY_PRODUCTS
    }
    assert {p: len(found) for p, found in rows.items()} == {p: len(c) for p, c in cells.items()}
    for product, found in rows.items():
        for row in found.values():
            assert row.day == DAY
            assert row.release_id == "2026-11-23-1"
            assert row.method_version == METHOD_VERSION
            assert row.published_at == PUBLISHED_AT.replace(tzinfo=None)
            assert set(row.asDict()) >= {column.name for column in product.table.columns}


def test_a_row_is_published_when_one_of_its_measures_is(rows: Rows) -> None:
    hours = rows[ZONE_HOURS]
    assert {key: row.status for key, row in hours.items()} == {
        ("busy", hour(9)): "published",
        ("busy", hour(10)): "suppressed",
        ("dark", hour(9)): "no_data",
        ("dark", hour(10)): "no_data",
        ("quiet", hour(9)): "suppressed",
        ("quiet", hour(10)): "published",
    }


def test_what_is_suppressed_or_missing_is_null_and_never_a_number(rows: Rows) -> None:
    for product, found in rows.items():
        for row in found.values():
            values = [shown(row, measure) for measure in product.columns]
            protected = [shown(row, measure) for measure in product.measures]
            assert (row.status == "published") == any(value is not None for value in protected)
            if row.status != "published":
                assert values == [None] * len(values)


def test_the_threshold_is_30_devices_or_2_33_sigma_whichever_is_more(rows: Rows) -> None:
    hours = rows[ZONE_HOURS]
    assert shown(hours["quiet", hour(10)], "visitors") is not None  # 30 of 30
    assert shown(hours["busy", hour(10)], "visitors") is None  # a 64th less
    assert shown(hours["quiet", hour(10)], "passers_by") is not None  # 46.61 of 46.6
    assert shown(hours["busy", hour(10)], "passers_by") is None  # 46.59 of 46.6
    days = rows[ZONE_DAYS]
    assert shown(days["odd",], "visits") is not None  # 100 of 93.2
    assert shown(days["quiet",], "visitors") is None


def test_no_data_is_told_however_many_devices_were_counted(rows: Rows) -> None:
    assert rows[ZONE_DAYS]["dark",].status == "no_data"
    assert {row.status for key, row in rows[ZONE_DWELL].items() if key[0] == "dark"} == {"no_data"}
    catchment = rows[ZONE_CATCHMENT]
    assert {row.status for key, row in catchment.items() if key[0] == "dark"} == {"no_data"}
    assert {key[:2]: row.status for key, row in rows[ZONE_FLOWS].items()} == {
        ("busy", "quiet"): "published",
        ("busy", "dark"): "no_data",
        ("dark", "busy"): "no_data",
        ("elsewhere", "busy"): "published",
        ("elsewhere", "dark"): "no_data",
    }


# ------------------------------------------------------------------------------ people, interval


def test_people_are_devices_times_weight_of_the_zone_by_what_is_seen(rows: Rows) -> None:
    row = rows[ZONE_HOURS]["busy", hour(9)]
    by_hand = interval(100.0, 10.7, BUSY_WEIGHT, seen=0.8, spread=0.05)
    assert shown(row, "visitors") == pytest.approx(by_hand)
    assert shown(row, "passers_by") is None


def test_a_zone_without_known_origins_has_the_overall_weight(rows: Rows) -> None:
    found = shown(rows[ZONE_HOURS]["quiet", hour(10)], "visitors")
    assert found == pytest.approx(interval(30.0, 10.7, WEIGHT, seen=0.5, spread=0.3))


def test_a_flow_has_the_weight_of_where_it_goes_and_the_sight_of_the_worse_end(rows: Rows) -> None:
    flows = rows[ZONE_FLOWS]
    to_busy = shown(flows["elsewhere", "busy", "midday"], "trips")
    assert to_busy == pytest.approx(interval(60.0, 11.5, BUSY_WEIGHT, spread=0.1))
    to_quiet = shown(flows["busy", "quiet", "midday"], "trips")
    assert to_quiet == pytest.approx(interval(60.0, 11.5, WEIGHT, seen=0.5, spread=0.3))


def test_an_area_has_its_own_weight_and_all_others_the_overall_one(rows: Rows) -> None:
    catchment = rows[ZONE_CATCHMENT]
    own = shown(catchment["busy", "area 1"], "visitors")
    assert own == pytest.approx(interval(60.0, 10.0, AREA_WEIGHT))
    for area in ("area 2", "unknown", "outside"):
        found = shown(catchment["busy", area], "visitors")
        assert found == pytest.approx(interval(60.0, 10.0, WEIGHT))


def test_an_interval_holds_its_value_and_is_never_negative(rows: Rows) -> None:
    for product, found in rows.items():
        for row in found.values():
            for measure in product.columns:
                values = shown(row, measure)
                if values is not None:
                    assert 0 <= values[0] <= values[1] <= values[2]


def test_raising_the_threshold_never_publishes_more(evidence: Evidence, rows: Rows) -> None:
    release = released_with(replace(evidence, min_devices=101))
    with_101 = release.parts[ZONE_DAYS.table].rows.collect()
    shown_with_30 = measures_shown(rows[ZONE_DAYS].values())
    shown_with_101 = measures_shown(with_101)
    assert shown_with_101 < shown_with_30
    assert ("odd", "visits") in shown_with_30 - shown_with_101
    assert ("busy", "visits") in shown_with_101


def measures_shown(days: Iterable[Row]) -> set[tuple[str, str]]:
    return {
        (row.zone_id, measure)
        for row in days
        for measure in ZONE_DAYS.measures
        if row[measure] is not None
    }


def test_what_passes_depends_on_the_noisy_count_and_its_sigma_alone(spark: SparkSession) -> None:
    frame = local_frame(
        spark,
        [(29.99, 1.0), (30.0, 1.0), (46.59, 20.0), (46.61, 20.0), (-50.0, 1.0)],
        "devices double, sigma double",
    )
    passes = extrapolation.passes_threshold(F.col("devices"), F.col("sigma"), min_devices=30)
    found = [row[0] for row in frame.select(passes).collect()]
    assert found == [False, True, False, True, False]


def test_a_lower_bound_knows_that_only_what_passes_the_threshold_is_published(
    spark: SparkSession,
) -> None:
    """By the exact tail of a normal number cut off at the threshold: never less, hardly more."""
    exact = np.linspace(1.961, 37, 500)
    beyond = exact - norm.isf(norm.sf(exact) / 0.025)
    frame = local_frame(spark, [(float(b),) for b in beyond], "beyond double")
    rows = frame.select(extrapolation.deviations_below(F.col("beyond"))).collect()
    found = np.array([row[0] for row in rows])
    assert (found >= exact).all()
    assert (found <= 1.15 * exact).all()


# -------------------------------------------------------------------------------------- weights


def test_the_overall_weight_is_residents_by_participants() -> None:
    weight = overall_weight(residents=1_000_000, participants=250_000, variance=400.0)
    assert weight.people_per_device == 4.0
    assert weight.relative_variance == pytest.approx(400.0 / 250_000**2)


@pytest.mark.parametrize("participants", [1.0, 0.5, 0.0, -40.0])
def test_a_noisy_sum_below_one_counts_as_one(participants: float) -> None:
    weight = overall_weight(residents=500, participants=participants, variance=100.0)
    assert weight == Weight(500.0, 100.0)


def test_an_area_keeps_of_its_own_weight_what_noise_and_chance_do_not_explain(
    spark: SparkSession,
) -> None:
    residents: DataFrame = local_frame(
        spark,
        [
            *[("half", 1000.0), ("usual", 1010.0), ("tiny", 40.0), ("gone", 4000.0)],
            *[("nobody", 0.0), ("no participants", 5.0)],
        ],
        "area string, residents double",
    )
    participants = local_frame(
        spark,
        [(area, devices, 10.0) for area, devices in DRAWN.items()],
        "area string, noisy_devices double, sigma double",
    )
    found = {
        row.home_area: (row.people_per_device, row.relative_variance)
        for row in extrapolation.area_weights(residents, participants, Weight(4.0)).collect()
    }
    variance = (10.0**2 + 250) / 250**2
    kept = 1 - variance / 0.5**2
    share = 1 - kept * 0.5
    gone = (10.0**2 + 1000) / 1000**2
    relative = {"half": 1 / share, "usual": 1.0, "tiny": 1.0, "gone": 10.0}
    usual = (
        4
        * sum(DRAWN[area] for area in relative)
        / sum(DRAWN[area] * weight for area, weight in relative.items())
    )
    assert found == {
        "half": (pytest.approx(usual / share), pytest.approx(kept * variance / share**2)),
        # 1 % fewer is nothing beside the noise of 7 %
        "usual": (pytest.approx(usual), 0.0),
        "tiny": (pytest.approx(usual), 0.0),  # nobody, but noise is as large as all of them
        # at most ten times what is usual
        "gone": (pytest.approx(10 * usual), pytest.approx((1 - gone) * gone / 0.01, rel=0.01)),
    }


def test_where_one_area_takes_part_less_the_others_stand_for_a_little_less_than_the_mean(
    spark: SparkSession,
) -> None:
    """Half of one of eleven areas is gone: each other one has 22/21 of the mean participation, too
    little a difference to be seen, and all together still stand for all residents.
    """
    names = [f"area {number}" for number in range(11)]
    drawn = {name: 125.0 if name == "area 0" else 250.0 for name in names}
    residents = local_frame(
        spark, [(name, 1000.0) for name in names], "area string, residents double"
    )
    participants = local_frame(
        spark,
        [(name, devices, 10.0) for name, devices in drawn.items()],
        "area string, noisy_devices double, sigma double",
    )
    overall = overall_weight(residents=11_000.0, participants=sum(drawn.values()), variance=1100.0)
    rows = extrapolation.area_weights(residents, participants, overall).collect()
    weights = {row.home_area: row.people_per_device for row in rows}
    people = {name: weights[name] * drawn[name] for name in names}
    assert sum(people.values()) == pytest.approx(11_000)
    assert people["area 1"] == pytest.approx(1000, rel=0.02)
    assert people["area 0"] == pytest.approx(1000, rel=0.12)


def test_the_noise_of_many_small_areas_makes_nobody_count_for_more(spark: SparkSession) -> None:
    """Each with 20 participants or so and noise of 10: every fourth seems to differ by half."""
    rng = np.random.default_rng(3)
    names = [f"area {number}" for number in range(300)]
    takes_part = rng.binomial(80, 0.25, len(names))
    drawn = takes_part + rng.normal(0, 10, len(names))
    residents = local_frame(
        spark, [(name, 80.0) for name in names], "area string, residents double"
    )
    participants = local_frame(
        spark,
        [(name, float(devices), 10.0) for name, devices in zip(names, drawn, strict=True)],
        "area string, noisy_devices double, sigma double",
    )
    overall = overall_weight(
        residents=80.0 * len(names), participants=float(drawn.sum()), variance=100.0 * len(names)
    )
    rows = extrapolation.area_weights(residents, participants, overall).collect()
    weights = {row.home_area: row.people_per_device for row in rows}
    people = sum(weights[name] * devices for name, devices in zip(names, takes_part, strict=True))
    assert people == pytest.approx(80 * len(names), rel=0.06)


def test_noisy_participants_that_sum_to_less_than_nobody_scale_no_weight(
    spark: SparkSession,
) -> None:
    residents = local_frame(spark, [("a", 100.0)], "area string, residents double")
    participants = local_frame(
        spark, [("a", -3.0, 10.0)], "area string, noisy_devices double, sigma double"
    )
    [row] = extrapolation.area_weights(residents, participants, Weight(4.0)).collect()
    assert row.people_per_device == pytest.approx(4.0 / extrapolation.LEAST_PARTICIPATION)


def test_zones_weigh_their_origins_but_for_what_noise_explains(spark: SparkSession) -> None:
    origins = local_frame(
        spark,
        [
            ("home", "half", 300.0, 10.0),
            ("home", "usual", 100.0, 10.0),
            ("far", "half", 5.0, 10.0),  # half a standard deviation: nobody knows
            ("far", "usual", 400.0, 10.0),
            ("empty", "half", 8.0, 10.0),  # nor what so few devices are
        ],
        "zone_id string, home_area string, noisy_devices double, sigma double",
    )
    areas = local_frame(
        spark,
        [("half", 8.0, 0.0)],
        "home_area string, people_per_device double, relative_variance double",
    )
    weights = extrapolation.zone_weights(origins, areas, Weight(4.0, 0.01))
    found = {row.zone_id: tuple(row)[1:] for row in weights.collect()}
    variance = (10 / 400) ** 2
    kept = 1 - variance / 0.75**2
    assert found == {
        "home": (pytest.approx(4 * (1 + 0.75 * kept)), pytest.approx(0.01 + kept * variance)),
        "far": (4.0, 0.01),
        "empty": (4.0, 0.01),
    }


# ---------------------------------------------------------------------------------- dwell median


@pytest.mark.parametrize(
    ("devices", "minutes"),
    [
        # All in one band: its middle.
        ([100, 0, 0, 0, 0], 20.0),
        ([0, 100, 0, 0, 0], 45.0),
        ([0, 0, 0, 0, 100], 300.0),
        # Half of 200 is 100: 50 are below 30 minutes, 50 of the next 100 make up the half.
        ([50, 100, 50, 0, 0], 45.0),
        # Half of 100 is 50: 40 below 30 minutes, 10 of the next 40.
        ([40, 40, 20, 0, 0], 37.5),
        # The half is reached exactly at a border.
        ([50, 50, 0, 0, 0], 30.0),
        ([50, 0, 0, 0, 50], 30.0),
        # Half of 30 is 15: 5 of 20 in the last band.
        ([10, 0, 0, 0, 20], 270.0),
        # Negative counts are empty bands.
        ([100, -50, 0, 0, 0], 20.0),
        ([-10, -10, 60, -10, -10], 90.0),
    ],
)
def test_the_median_is_linear_within_its_band(devices: list[float], minutes: float) -> None:
    found = dwell_median(devices, 1.0, seed=1)
    assert found is not None
    assert found[0] == pytest.approx(minutes)


@pytest.mark.parametrize("devices", [[0.0] * 5, [-1.0, -2.0, -3.0, -4.0, -5.0]])
def test_bands_that_hold_nothing_have_no_median(devices: list[float]) -> None:
    assert dwell_median(devices, 14.1, seed=1) is None


bands = st.lists(st.floats(-50, 5_000), min_size=5, max_size=5)


@given(devices=bands, sigma=st.floats(0.5, 40), seed=st.integers(0, 2**32 - 1))
def test_a_median_lies_in_its_interval_and_between_10_and_360_minutes(
    devices: list[float], sigma: float, seed: int
) -> None:
    found = dwell_median(devices, sigma, seed=seed)
    if found is None:
        assert max(devices) <= 0
    else:
        middle, low, high = found
        assert 10 <= low <= middle <= high <= 360


def test_more_noise_makes_a_wider_interval() -> None:
    widths = []
    for sigma in (1.0, 10.0, 40.0):
        found = dwell_median([100, 200, 150, 50, 20], sigma, seed=7)
        assert found is not None
        widths.append(found[2] - found[1])
    assert widths == sorted(widths)
    assert widths[0] < 5 < widths[2]


def test_the_same_noisy_counts_give_the_same_interval() -> None:
    devices = [100.0, 200.0, 150.0, 50.0, 20.0]
    assert dwell_median(devices, 14.1, seed=7) == dwell_median(devices, 14.1, seed=7)


def test_the_median_is_shown_where_the_day_s_visitors_are(rows: Rows) -> None:
    days = rows[ZONE_DAYS]
    busy = shown(days["busy",], "dwell_median_min")
    assert busy is not None
    assert busy[1] == pytest.approx(45.0)
    of_noise = dwell_median([50.0, 100.0, 50.0, 0.0, 0.0], 14.1, seed=zlib.crc32(b"busy"))
    assert of_noise is not None
    assert busy[0] == pytest.approx(45 - math.hypot(45 - of_noise[1], Z_95 * 2.0))
    assert busy[2] == pytest.approx(45 + math.hypot(of_noise[2] - 45, Z_95 * 2.0))
    assert shown(days["quiet",], "dwell_median_min") is None  # its visitors are suppressed
    assert shown(days["dark",], "dwell_median_min") is None  # no data
    assert shown(days["odd",], "dwell_median_min") is None  # visitors, but empty bands
    assert days["odd",].status == "published"
