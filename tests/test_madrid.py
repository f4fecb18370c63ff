"""The night on input made by others: three samples of a mobile operator in Madrid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs.detect_visits import detect_visits
from jobs.ingest_decisions import ingest_decisions
from jobs.ingest_reference import ingest_reference
from jobs.run_night import run_night
from jobs.runtime import Night, run_job
from tests.agreement import (
    assert_agrees,
    rejected,
    stored,
)
from tests.madrid import BRONZE, IN_VOLUME, OLDER, Madrid, Sample, instants, madrid
from tests.oracle import REJECTIONS, Exact, Method, exact_night
from transforms.tables import NIGHTLY_PRODUCTS, REFERENCE_CELLS, RUNS, VISITS

pytestmark = pytest.mark.slow


@dataclass
class Ran:
    """A job that was run on a sample: its night, and how it ended."""

    madrid: Madrid
    night: Night = field(init=False)
    exit_code: int = field(init=False)

    @property
    def accounting(self) -> dict[str, int]:
        """What `ops.runs` and `ops.rejected` say became of every row."""
        (run,) = stored(self.night, RUNS).itertuples()
        whole = {name: getattr(run, name) for name in ("rows_in", "other_day", "not_taking_part")}
        return {**whole, "accepted": run.accepted, **rejected(self.night)}


def ran(step: Callable[[Night], object], sample: Sample, paths: pytest.TempPathFactory) -> Ran:
    run = Ran(madrid(sample, paths.mktemp(sample.name)))

    def remembered(night: Night) -> None:
        run.night = night
        step(night)

    run.exit_code = run_job(remembered, description="", argv=run.madrid.argv)
    return run


def up_to_visits(night: Night) -> None:
    ingest_decisions(night)
    ingest_reference(night)
    detect_visits(night)


@pytest.fixture(scope="module")
def bronze(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return ran(run_night, BRONZE, tmp_path_factory)


@pytest.fixture(scope="module")
def in_volume(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return ran(run_night, IN_VOLUME, tmp_path_factory)


@pytest.fixture(scope="module")
def older(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return ran(up_to_visits, OLDER, tmp_path_factory)


@pytest.fixture(scope="module")
def in_volume_exact(in_volume: Ran) -> Exact:
    return exactly(in_volume.madrid)


@pytest.fixture(scope="module")
def older_exact(older: Ran) -> Exact:
    return exactly(older.madrid)


def exactly(madrid: Madrid) -> Exact:
    method = Method(timezone="Europe/Madrid")
    return exact_night(madrid.landing, madrid.sample.day, now=datetime.now(UTC), method=method)


def recounted(madrid: Madrid) -> dict[str, int]:
    """What becomes of every row of the files read, by pandas and from the files themselves."""
    sample = madrid.sample
    known_cells = set(sample.rows("mno_network", sample.day)["cell_id"])
    subscribers = set(pd.read_parquet(madrid.landing / "subscribers")["subscriber_id"])
    left = pd.concat(
        [sample.rows("mno_events", day).assign(folder=day) for day in sample.folder_dates]
    )
    left["at"] = instants(left["timestamp"])
    counts = {"rows_in": len(left)}
    steps: dict[str, Callable[[pd.DataFrame], pd.Series[bool]]] = {
        "no_id": lambda rows: rows["user_id"].isna(),
        "no_time": lambda rows: rows["at"].isna(),
        "implausible_time": lambda rows: (
            (rows["at"].dt.tz_localize(None).dt.normalize() - pd.to_datetime(rows["folder"])).abs()
            > pd.Timedelta(days=1)
        ),
        "other_day": lambda rows: rows["at"].dt.tz_convert("Europe/Madrid").dt.date != sample.day,
        "no_cell": lambda rows: rows["cell_id"].isna(),
        "unknown_cell": lambda rows: ~rows["cell_id"].isin(known_cells),
        "not_a_subscriber": lambda rows: ~rows["user_id"].map(bytes.hex).isin(subscribers),
        "duplicate": lambda rows: rows.duplicated(["user_id", "at", "cell_id"]),
    }
    for outcome, is_so in steps.items():
        so = is_so(left)
        counts[outcome] = int(so.sum())
        left = left[~so]
    return {**counts, "not_taking_part": 0, "accepted": len(left)}


def assert_files_were_read_in_place(ran: Ran) -> None:
    sample = ran.madrid.sample
    files = [file for day in sample.folder_dates for file in sample.files("mno_events", day)]
    (run,) = stored(ran.night, RUNS).itertuples()
    read = {entry["path"].removeprefix("file:"): entry["bytes"] for entry in run.files_read}
    events = {path: size for path, size in read.items() if "/mno_events/" in path}
    assert events == {str(file.resolve()): file.stat().st_size for file in files}
    assert run.rows_in == sum(pq.ParquetFile(file).metadata.num_rows for file in files)


# --- ten people, most rows broken -------------------------------------------------------------


def test_a_night_of_ten_people_ends_well(bronze: Ran) -> None:
    assert bronze.exit_code == 0
    assert_files_were_read_in_place(bronze)


def test_a_night_of_ten_people_publishes_no_number(bronze: Ran) -> None:
    for product in NIGHTLY_PRODUCTS:
        rows = stored(bronze.night, product.table)
        assert len(rows), product.name
        assert set(rows["status"]) <= {"suppressed", "no_data"}, product.name
        values = [name + end for name in product.columns for end in ("", "_low", "_high")]
        assert rows[values].isna().all(axis=None), product.name


def test_every_row_of_ten_people_is_accounted_for(bronze: Ran) -> None:
    found = bronze.accounting
    assert found == recounted(bronze.madrid)
    assert found["rows_in"] == sum(found.values()) - found["rows_in"]
    assert found["no_id"] > found["rows_in"] / 4
    assert min(found["unknown_cell"], found["not_a_subscriber"], found["duplicate"]) > 10


# --- in volume --------------------------------------------------------------------------------


@pytest.mark.long
def test_a_night_in_volume_ends_well(in_volume: Ran) -> None:
    assert in_volume.exit_code == 0
    assert_files_were_read_in_place(in_volume)


@pytest.mark.long
def test_every_row_in_volume_is_accounted_for(in_volume: Ran, in_volume_exact: Exact) -> None:
    found = in_volume.accounting
    assert found == recounted(in_volume.madrid) == in_volume_exact.accounting
    assert found["accepted"] > 40_000
    assert found["duplicate"] > 10_000


@pytest.mark.long
def test_both_spellings_of_a_time_are_read(in_volume: Ran) -> None:
    sample = in_volume.madrid.sample
    texts = sample.rows("mno_events", sample.day)["timestamp"].dropna()
    assert texts.str.contains("T").sum() > 1_000
    assert rejected(in_volume.night)["no_time"] == 0


@pytest.mark.long
def test_places_stays_and_sums_in_volume_are_those_of_the_oracle(
    in_volume: Ran, in_volume_exact: Exact
) -> None:
    assert_agrees(in_volume.night, in_volume_exact)
    assert stored(in_volume.night, VISITS)["pseudonym"].nunique() > 500


# --- the older layout -------------------------------------------------------------------------


@pytest.mark.long
def test_the_older_layout_is_read_whole(older: Ran, older_exact: Exact) -> None:
    assert older.exit_code == 0
    expected = recounted(older.madrid)
    assert expected == older_exact.accounting
    assert rejected(older.night) == {reason: expected[reason] for reason in REJECTIONS}
    assert expected["not_a_subscriber"] + expected["accepted"] == 3_698


@pytest.mark.long
def test_a_cell_without_a_range_gets_that_of_its_type(older: Ran) -> None:
    network = older.madrid.sample.rows("mno_network", older.madrid.sample.day)
    both = stored(older.night, REFERENCE_CELLS).merge(network, on="cell_id")
    assert len(both) == len(network) == 500
    by_type = both.groupby("cell_type")["range_m"].unique().map(list).to_dict()
    assert by_type == {
        "macrocell": [10_000.0],
        "microcell": [1_000.0],
        "picocell": [5_000.0],
        "femtocell": [5_000.0],
    }


@pytest.mark.long
def test_places_stays_and_sums_of_the_older_layout_are_those_of_the_oracle(
    older: Ran, older_exact: Exact
) -> None:
    assert_agrees(older.night, older_exact)
    assert set(stored(older.night, VISITS)["kind"]) == {"visit", "pass_by", "resident"}
