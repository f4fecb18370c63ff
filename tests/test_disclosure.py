"""Protection: each subscriber-day is bounded by itself, and the noise is what the ledger says."""

from __future__ import annotations

import math
import statistics
import tomllib
from collections import defaultdict
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.frames import local_frame
from transforms import disclosure
from transforms.budget import Calibration, calibrated
from transforms.disclosure import UNITS
from transforms.settings import settings_from
from transforms.tables import MEASURES, PARTICIPANTS

BASE = Path(__file__).parent.parent / "conf" / "base.toml"
PRIVACY = settings_from(
    tomllib.loads(BASE.read_text(encoding="utf-8")), name="conf/base.toml"
).privacy
CALIBRATIONS = {
    measure.full_name: calibrated(measure, PRIVACY.split[measure.full_name]) for measure in MEASURES
}
DAY = date(2026, 11, 23)
SCHEMA = "pseudonym string, zone_id string, presence double"
Day = list[tuple[str, float]]
"""Zones and presences of one subscriber-day."""


def frame(spark: SparkSession, by_pseudonym: dict[str, Day]) -> DataFrame:
    rows = [(who, *one) for who, several in by_pseudonym.items() for one in several]
    return local_frame(spark, rows, SCHEMA)


def kept(contributions: DataFrame, *, l0: int) -> dict[str, list[tuple[str, int]]]:
    """Zones and units that are kept of each pseudonym."""
    found = defaultdict(list)
    for row in disclosure.bounded(contributions, key=("zone_id",), l0=l0).collect():
        found[row.pseudonym].append((row.zone_id, row.units))
    return {who: sorted(several) for who, several in found.items()}


# ---------------------------------------------------------------------------------------- units


def test_presence_is_rounded_half_up_to_64ths_and_to_one_at_least(spark: SparkSession) -> None:
    expected = {
        1e-9: 1,
        0.4 / 64: 1,
        1 / 64: 1,
        1.49 / 64: 1,
        1.5 / 64: 2,
        2.5 / 64: 3,
        0.5: 32,
        62.5 / 64: 63,
        63.49 / 64: 63,
        63.5 / 64: 64,
        1.0: 64,
        1.0000001: 64,
        17.0: 64,
    }
    rows = local_frame(spark, [(presence,) for presence in expected], "presence double")
    found = rows.select("presence", disclosure.units(F.col("presence")).alias("units")).collect()
    assert {row.presence: row.units for row in found} == expected


# ---------------------------------------------------------------------------------------- bound


def test_the_highest_presences_are_kept(spark: SparkSession) -> None:
    days = {
        "few": [("a", 0.1), ("b", 0.2)],
        "many": [("a", 0.1), ("b", 0.9), ("c", 0.3), ("d", 0.7), ("e", 0.05)],
        "equal once rounded": [("a", 0.5), ("b", 0.5001), ("c", 0.5002), ("d", 0.9)],
    }
    found = kept(frame(spark, days), l0=3)
    assert found["few"] == [("a", 6), ("b", 13)]
    assert found["many"] == [("b", 58), ("c", 19), ("d", 45)]
    assert ("d", 58) in found["equal once rounded"]
    assert len(found["equal once rounded"]) == 3


def test_ties_are_broken_by_a_hash_of_one_s_own_and_not_by_name(spark: SparkSession) -> None:
    zones = [(f"zone {number}", 1.0) for number in range(10)]
    found = kept(frame(spark, {f"p{number}": zones for number in range(100)}), l0=1)
    chosen = {zone for several in found.values() for zone, _ in several}
    assert len(chosen) >= 8  # all of 10 but a few; by name it would be one


def test_the_choice_is_the_same_every_time_and_in_every_order(spark: SparkSession) -> None:
    zones = [(f"zone {number}", 0.5) for number in range(10)]
    one = kept(frame(spark, {"p": zones, "q": zones}), l0=4)
    other = kept(frame(spark, {"q": zones[::-1], "p": zones[5:] + zones[:5]}), l0=4)
    assert one == other


def test_sums_add_up_what_is_kept_of_everybody(spark: SparkSession) -> None:
    days = {"p": [("a", 0.5), ("b", 0.25), ("c", 0.125)], "q": [("a", 1.0), ("b", 0.1)]}
    sums = disclosure.summed(frame(spark, days), key=("zone_id",), l0=2)
    assert {row.zone_id: row.units for row in sums.collect()} == {"a": 96, "b": 22}


# --------------------------------------------------------------------------------------- domain


def test_every_cell_of_the_domain_is_there_and_no_other(spark: SparkSession) -> None:
    sums = local_frame(
        spark,
        [("a", datetime(2026, 11, 23, 9, tzinfo=UTC), 640), ("gone", None, 64)],
        "zone_id string, hour_start timestamp, units long",
    )
    domain = local_frame(
        spark,
        [(zone, datetime(2026, 11, 23, hour, tzinfo=UTC)) for zone in "ab" for hour in (9, 10)],
        "zone_id string, hour_start timestamp",
    )
    calibration = CALIBRATIONS["zone_hours.visitors"]
    rows = disclosure.over_domain(sums, domain, calibration, day=DAY).collect()
    assert {(row["keys"]["zone_id"], row["keys"]["hour_start"]): row.units for row in rows} == {
        ("a", "2026-11-23T09:00:00Z"): 640,
        ("a", "2026-11-23T10:00:00Z"): 0,
        ("b", "2026-11-23T09:00:00Z"): 0,
        ("b", "2026-11-23T10:00:00Z"): 0,
    }
    assert len(rows) == 4
    assert {row["keys"]["day"] for row in rows} == {"2026-11-23"}
    assert {(row["product"], row.measure, row.sigma) for row in rows} == {
        ("zone_hours", "visitors", calibration.sigma)
    }


# ---------------------------------------------------------------------------------------- noise

CELLS = 5_000
SIGMAS = {"narrow": 10.690449676496975, "wide": 40.0}
EXACT = {"narrow": 0, "wide": 500 * UNITS}


@pytest.fixture(scope="module")
def counts(spark: SparkSession) -> DataFrame:
    """Two measures, row by row in turn, so that a batch holds both sigmas."""
    is_narrow = F.col("id") % 2 == 0
    measure = F.when(is_narrow, F.lit("narrow")).otherwise(F.lit("wide"))
    return spark.range(2 * CELLS).select(
        F.lit("zone_hours").alias("product"),
        measure.alias("measure"),
        F.create_map(F.lit("zone_id"), F.col("id").cast("string")).alias("keys"),
        F.when(is_narrow, SIGMAS["narrow"]).otherwise(SIGMAS["wide"]).alias("sigma"),
        F.when(is_narrow, EXACT["narrow"]).otherwise(EXACT["wide"]).cast("long").alias("units"),
    )


@pytest.fixture(scope="module")
def draws(counts: DataFrame) -> list[dict[str, dict[str, float]]]:
    """Noise on the same counts, drawn twice: by measure and cell, noisy less exact."""
    drawn = []
    for _ in range(2):
        errors: dict[str, dict[str, float]] = {name: {} for name in SIGMAS}
        for row in disclosure.noised(counts).collect():
            assert row.sigma == SIGMAS[row.measure]
            exact = EXACT[row.measure] / UNITS
            errors[row.measure][row["keys"]["zone_id"]] = row.noisy_devices - exact
        drawn.append(errors)
    return drawn


@pytest.mark.parametrize("name", SIGMAS)
def test_noise_has_mean_zero_and_the_sigma_of_the_ledger(
    draws: list[dict[str, dict[str, float]]], name: str
) -> None:
    errors = [value for errors in draws for value in errors[name].values()]
    assert len(errors) == 2 * CELLS
    sigma = SIGMAS[name]
    # Five standard errors: wrong about once in a million runs.
    assert abs(statistics.fmean(errors)) < 5 * sigma / math.sqrt(len(errors))
    assert statistics.pstdev(errors) == pytest.approx(sigma, rel=5 / math.sqrt(2 * len(errors)))


@pytest.mark.parametrize("name", SIGMAS)
def test_noise_has_the_tails_of_a_gaussian(
    draws: list[dict[str, dict[str, float]]], name: str
) -> None:
    errors = [abs(value) / SIGMAS[name] for errors in draws for value in errors[name].values()]
    for deviations, share in ((1, 0.3173), (2, 0.0455), (3, 0.0027)):
        beyond = sum(error > deviations for error in errors) / len(errors)
        assert abs(beyond - share) < 5 * math.sqrt(share / len(errors)) + 0.002
    assert max(errors) < 6.5


def test_noisy_counts_are_whole_units_and_are_not_clamped(
    draws: list[dict[str, dict[str, float]]],
) -> None:
    values = list(draws[0]["narrow"].values())
    assert all((value * UNITS).is_integer() for value in values)
    negative = sum(value < 0 for value in values) / len(values)
    assert 0.45 < negative < 0.55


def test_noise_is_drawn_anew_at_every_action(draws: list[dict[str, dict[str, float]]]) -> None:
    same = sum(draws[0]["narrow"][cell] == draws[1]["narrow"][cell] for cell in draws[0]["narrow"])
    assert same < 0.01 * CELLS


def test_noise_of_one_cell_says_nothing_about_its_neighbour(
    draws: list[dict[str, dict[str, float]]],
) -> None:
    ordered = [draws[0]["wide"][cell] for cell in sorted(draws[0]["wide"], key=int)]
    correlation = statistics.correlation(ordered[:-1], ordered[1:])
    between_draws = statistics.correlation(
        ordered, [draws[1]["wide"][cell] for cell in sorted(draws[1]["wide"], key=int)]
    )
    assert abs(correlation) < 5 / math.sqrt(CELLS)
    assert abs(between_draws) < 5 / math.sqrt(CELLS)


# ---------------------------------------------------------------------------------------- proof


@pytest.mark.parametrize(
    "calibration",
    [*CALIBRATIONS.values(), Calibration(PARTICIPANTS, l0=1, rho=PRIVACY.participation.rho)],
    ids=lambda calibration: calibration.measure.full_name,
)
def test_the_rho_that_is_proven_is_the_rho_of_the_ledger(calibration: Calibration) -> None:
    proven = disclosure.proven_rho(calibration)
    assert proven == pytest.approx(calibration.rho, rel=1e-9)
    assert proven <= calibration.rho * (1 + 1e-9)


def test_less_noise_is_proven_to_cost_more() -> None:
    measure = CALIBRATIONS["zone_days.visitors"].measure
    proven = [
        disclosure.proven_rho(Calibration(measure, l0=4, rho=rho)) for rho in (0.005, 0.01, 0.02)
    ]
    assert proven == pytest.approx([0.005, 0.01, 0.02])
