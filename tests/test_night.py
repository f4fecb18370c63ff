"""One whole night over a small world, held against an independent implementation and its own
promises: the same visits, noise of the declared size, once, nothing of anybody in what is sold.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.publish_products import (
    _counts,  # exact sums: for this comparison only
    told_indoors,
)
from jobs.run_night import run_night
from jobs.runtime import Night, load_settings, night_of
from tests.agreement import assert_cell_zones_agree
from tests.oracle import Exact, exact_night
from tests.small_world import landing_of_small_world
from transforms.budget import calibrated
from transforms.disclosure import UNITS
from transforms.tables import (
    MEASURES,
    NIGHTLY_PRODUCTS,
    NOISY_CELLS,
    REJECTED,
    RELEASES,
    RUNS,
    TABLES,
    VISITS,
)

pytestmark = pytest.mark.slow

DAY = date(2026, 10, 25)  # 25 hours in Berlin
NOW = datetime(2026, 10, 26, 9, 0, tzinfo=UTC)
CONF = """
[paths]
landing = "{landing}"
restricted = "{root}/restricted"
published = "{root}/published"
"""


@dataclass(frozen=True)
class Ran:
    """A night that was run, and where."""

    night: Night
    root: Path
    landing: Path
    frames_left: int
    """Frames that Spark has kept of it in memory."""

    def table(self, name: str) -> pd.DataFrame:
        folder = "published" if name.startswith("gold.") else "restricted"
        path = self.root / folder / name.replace(".", "/")
        return DeltaTable(str(path)).to_pyarrow_table().to_pandas()


@pytest.fixture(scope="module")
def ran(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    root = tmp_path_factory.mktemp("night")
    landing = landing_of_small_world(
        root / "world", subscribers=1500, centres=6, last_day=str(DAY), seed=5
    )
    conf = root / "night.toml"
    conf.write_text(CONF.format(landing=landing, root=root))
    night = night_of(load_settings(str(conf)), DAY, spark, now=lambda: NOW)
    spark.catalog.clearCache()
    run_night(night)
    return Ran(night, root, landing, frames_left=frames_kept(spark))


def frames_kept(spark: SparkSession) -> int:
    """How many frames are persisted."""
    session: Any = spark._jsparkSession
    return int(session.sharedState().cacheManager().numCachedEntries())


@pytest.fixture(scope="module")
def exact(ran: Ran) -> Exact:
    return exact_night(ran.landing, DAY, now=NOW)


def _rows(frame: pd.DataFrame, columns: list[str]) -> Counter[tuple[object, ...]]:
    return Counter(frame[columns].itertuples(index=False, name=None))


# --- the method -----------------------------------------------------------------------------


def test_every_row_read_is_accounted_for_as_the_oracle_does(ran: Ran, exact: Exact) -> None:
    run = ran.table(RUNS.name).iloc[0]
    rejected = ran.table(REJECTED.name).set_index("reason")["rows"]
    for outcome, rows in exact.accounting.items():
        ours = rejected.get(outcome) if outcome in rejected else run[outcome]
        assert ours == rows, outcome
    files = sorted(ran.landing.glob("events/date=*/*.parquet"))
    in_files = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    assert run["rows_in"] == in_files
    read = [Path(file["path"].removeprefix("file:")) for file in run["files_read"]]
    assert set(files) <= set(read)
    assert {path.relative_to(ran.landing).parts[0] for path in read} >= {"events", "decisions"}


def test_cells_see_the_zones_the_oracle_says(ran: Ran, exact: Exact) -> None:
    assert_cell_zones_agree(ran.night, exact)


def test_visits_are_those_of_the_oracle(ran: Ran, exact: Exact) -> None:
    ours, theirs = ran.table(VISITS.name), exact.visits
    ours["arrived_at"] = ours["arrived_at"].dt.tz_localize(None)
    ours["left_at"] = ours["left_at"].dt.tz_localize(None)
    same = ["zone_id", "arrived_at", "left_at", "dwell_s", "kind", "home_area"]
    assert len(ours) == len(theirs) > 200
    assert set(ours["kind"]) == {"visit", "pass_by", "resident"}
    assert _rows(ours, same) == _rows(theirs, same)
    assert ours["presence"].sum() == pytest.approx(theirs["presence"].sum(), rel=1e-9)
    assert ours["pseudonym"].nunique() == theirs["subscriber_id"].nunique()


@pytest.fixture(scope="module")
def exact_units(ran: Ran) -> pd.DataFrame:
    """The pipeline's exact sums, which no job ever stores: product, measure, key, units."""
    split = ran.night.settings.privacy.split
    visits = ran.night.store.read(VISITS)
    calibrations = [calibrated(measure, split[measure.full_name]) for measure in MEASURES]
    counts: DataFrame = _counts(ran.night, visits, calibrations)
    frame = counts.withColumn("keys", F.to_json("keys")).toPandas()
    frame["key"] = [_key(json.loads(keys)) for keys in frame["keys"]]
    return frame


def _key(keys: dict[str, str]) -> tuple[str, ...]:
    return tuple(keys[name] for name in sorted(keys) if name != "day")


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.full_name)
def test_exact_sums_are_those_of_the_oracle(
    measure: object, exact_units: pd.DataFrame, exact: Exact
) -> None:
    name = measure.full_name  # type: ignore[attr-defined]
    product, short = name.split(".")
    ours = exact_units[(exact_units["product"] == product) & (exact_units["measure"] == short)]
    ours = ours.set_index("key")["units"]
    theirs = exact.measures[name].copy()
    names = sorted(measure.key)  # type: ignore[attr-defined]
    if "hour_start" in theirs:
        theirs["hour_start"] = theirs["hour_start"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    keys = list(theirs[names].itertuples(index=False, name=None))
    theirs.index = pd.Index(keys, tupleize_cols=False)
    assert ours.index.is_unique
    assert set(theirs.index) <= set(ours.index), "the oracle counts outside the public domain"
    theirs = theirs.reindex(ours.index)
    assert (ours >= theirs["units_least"].fillna(0)).all()
    assert (ours <= theirs["units_most"].fillna(0)).all()
    assert ours.sum() > 0


# --- the promise ----------------------------------------------------------------------------


def test_noise_has_the_declared_size(ran: Ran, exact_units: pd.DataFrame) -> None:
    noisy = ran.night.store.read(NOISY_CELLS).where("product <> 'participation'")
    frame = noisy.withColumn("keys", F.to_json("keys")).toPandas()
    both = frame.merge(
        exact_units[["product", "measure", "keys", "units"]],
        how="inner",
        on=["product", "measure", "keys"],
        validate="one_to_one",
    )
    assert len(both) == len(frame) == len(exact_units)
    both["z"] = (both["noisy_devices"] - both["units"] / UNITS) / both["sigma"]
    assert both["z"].abs().max() < 6
    assert abs(both["z"].mean()) < 5 / np.sqrt(len(both))
    assert both["z"].std() == pytest.approx(1, abs=4 / np.sqrt(2 * len(both)))


def test_the_ledger_spends_the_split_and_no_more(ran: Ran) -> None:
    ledger = ran.table(RELEASES.name)
    nightly = ledger[ledger["product"] != "participation"]
    assert nightly["rho"].sum() == pytest.approx(0.10)
    assert set(nightly["day"]) == {DAY}
    assert len(nightly) == len(MEASURES)
    monthly = ledger[ledger["product"] == "participation"]
    assert monthly["day"].tolist() == [date(2026, 10, 1)]
    assert monthly["rho"].tolist() == [0.005]


def test_participants_are_those_of_the_oracle_but_for_the_noise(ran: Ran, exact: Exact) -> None:
    noisy = ran.night.store.read(NOISY_CELLS).where("product = 'participation'")
    frame = noisy.select(F.col("keys")["area"].alias("area"), "noisy_devices").toPandas()
    both = frame.merge(exact.participants, on="area", how="left").fillna({"participants": 0})
    assert both["noisy_devices"].sub(both["participants"]).abs().max() < 60
    assert both["noisy_devices"].sum() == pytest.approx(
        exact.participants["participants"].sum(), abs=6 * 10 * np.sqrt(len(both))
    )


def test_published_numbers_follow_from_noisy_cells_alone(ran: Ran) -> None:
    """Recomputed in pandas from the restricted noisy cells, residents and the threshold."""
    noisy = ran.night.store.read(NOISY_CELLS)
    cells = noisy.select(
        "product",
        "measure",
        "noisy_devices",
        "sigma",
        F.col("keys")["zone_id"].alias("zone_id"),
        F.col("keys")["hour_start"].alias("hour"),
        F.coalesce(F.col("keys")["area"], F.col("keys")["home_area"]).alias("area"),
    ).toPandas()
    residents = pd.read_parquet(ran.landing / "residents").set_index("area")["residents"]
    weights = weights_of_zones(cells, residents)
    seen = ran.night.settings.visibility
    indoors = told_indoors(ran.night)
    hours = ran.table("gold.zone_hours")
    hours["hour"] = hours["hour_start"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    for measure in ("visitors", "passers_by"):
        mine = cells[(cells["product"] == "zone_hours") & (cells["measure"] == measure)]
        both = hours.merge(mine, on=["zone_id", "hour"], validate="one_to_one")
        assert len(both) == len(hours)
        shown = both["noisy_devices"] >= np.maximum(30, 2.33 * both["sigma"])
        shown &= both["status"] != "no_data"
        assert (both[measure].notna() == shown).all()
        sight = {True: seen.indoors, False: seen.outdoors}
        of_zone = (
            both["zone_id"]
            .isin(indoors)
            .map(
                {
                    told: by_measure[f"zone_hours.{measure}"].seen
                    for told, by_measure in sight.items()
                }
            )
        )
        people = both["noisy_devices"] * both["zone_id"].map(weights) / of_zone
        np.testing.assert_allclose(both.loc[shown, measure], people[shown])
    assert hours["visitors"].notna().any()


def weights_of_zones(cells: pd.DataFrame, residents: pd.Series) -> pd.Series:
    """People per device by zone: the areas' own weights and the zones' origins, each as far as
    noise does not explain what is special about them.
    """
    drawn = cells[cells["product"] == "participation"].set_index("area")
    overall = residents.sum() / max(drawn["noisy_devices"].sum(), 1)
    expected = residents[residents > 0] / overall
    unlike = (drawn["noisy_devices"] / expected - 1).dropna()
    expected = expected[unlike.index]
    noise = (drawn["sigma"][unlike.index] ** 2 + expected) / expected**2
    participation = 1 + unlike * (1 - noise / unlike**2).clip(lower=0)
    excess = 1 / participation.clip(lower=0.1) - 1
    origins = cells[cells["product"] == "zone_catchment"]
    pull = origins["area"].map(excess).fillna(0.0)
    by_zone = (
        pd.DataFrame(
            {
                "zone_id": origins["zone_id"],
                "devices": origins["noisy_devices"],
                "noise": origins["sigma"] ** 2,
                "excess": origins["noisy_devices"] * pull,
                "excess_noise": (origins["sigma"] * pull) ** 2,
            }
        )
        .groupby("zone_id")
        .sum()
    )
    difference = by_zone["excess"] / by_zone["devices"]
    kept = (1 - by_zone["excess_noise"] / by_zone["devices"] ** 2 / difference**2).clip(lower=0)
    known = by_zone["devices"] > 2.33 * np.sqrt(by_zone["noise"])
    return overall * (1 + (difference * kept).where(known, 0.0).fillna(0.0))


def test_every_zone_and_hour_has_a_row_with_a_status(ran: Ran, exact: Exact) -> None:
    hours = ran.table("gold.zone_hours")
    assert len(hours) == len(exact.zones) * 25
    assert not hours.duplicated(["day", "zone_id", "hour_start"]).any()
    assert set(hours["zone_id"]) == set(exact.zones)
    assert set(hours["status"]) <= {"published", "suppressed", "no_data"}
    assert hours["release_id"].nunique() == 1
    dark = hours[hours["status"] == "no_data"]
    dark_by_oracle = exact.no_data["zone_hours"]
    assert len(dark) == int(dark_by_oracle["no_data"].sum()) > 0


def test_published_tables_open_without_spark(ran: Ran) -> None:
    for product in NIGHTLY_PRODUCTS:
        rows = DeltaTable(str(ran.root / "published" / product.table.path)).to_pyarrow_table()
        by_status = duckdb.sql("SELECT status, count(*) FROM rows GROUP BY 1").fetchall()
        assert sum(count for _, count in by_status) == rows.num_rows > 0


def test_all_tables_of_the_catalogue_exist_after_a_night(ran: Ran) -> None:
    for table in TABLES:
        assert ran.night.store.exists(table), table.name


def test_a_repeated_night_changes_no_byte(ran: Ran) -> None:
    before = _checksums(ran.root)
    run_night(ran.night)
    after = _checksums(ran.root)
    assert {k: v for k, v in before.items() if "/reports/" not in k} == {
        k: v for k, v in after.items() if "/reports/" not in k
    }


def _checksums(root: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("published", "restricted")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }


def test_the_key_of_the_day_is_gone(ran: Ran) -> None:
    assert list((ran.root / "restricted" / "keys").iterdir()) == []


# --- what is left in memory ------------------------------------------------------------------


def test_nothing_of_a_night_stays_in_memory(ran: Ran) -> None:
    """A second copy of everybody's events did, and each later write planned the old ones anew."""
    assert ran.frames_left == 0
