"""The night on input made by others: three samples of a mobile operator in Madrid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

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
    assert_cell_zones_agree,
    assert_sums_agree,
    assert_visits_agree,
    rejected,
    stored,
)
from tests.madrid import BRONZE, IN_VOLUME, OLDER, Madrid, Sample, instants, madrid
from tests.oracle import Exact, Method, exact_night
from transforms.tables import NIGHTLY_PRODUCTS, NOISY_CELLS, REFERENCE_CELLS, RUNS, VISITS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spark")]


@dataclass
class Ran:
    """A job that was run on a sample: its night, and how it ended."""

    madrid: Madrid
    step: Callable[[Night], object]
    night: Night = field(init=False)
    exit_code: int = field(init=False)

    def run(self) -> Ran:
        def step(night: Night) -> None:
            self.night = night
            self.step(night)

        self.exit_code = run_job(step, description="", argv=self.madrid.argv)
        return self


def up_to_visits(night: Night) -> None:
    ingest_decisions(night)
    ingest_reference(night)
    detect_visits(night)


@pytest.fixture(scope="module")
def bronze(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(madrid(BRONZE, tmp_path_factory.mktemp("bronze")), run_night).run()


@pytest.fixture(scope="module")
def in_volume(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(madrid(IN_VOLUME, tmp_path_factory.mktemp("in_volume")), run_night).run()


@pytest.fixture(scope="module")
def older(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(madrid(OLDER, tmp_path_factory.mktemp("older")), up_to_visits).run()


@pytest.fixture(scope="module")
def in_volume_exact(in_volume: Ran) -> Exact:
    return exactly(in_volume.madrid)


@pytest.fixture(scope="module")
def older_exact(older: Ran) -> Exact:
    return exactly(older.madrid)


def exactly(madrid: Madrid) -> Exact:
    method = Method(timezone="Europe/Madrid")
    return exact_night(madrid.landing, madrid.sample.day, now=datetime.now(UTC), method=method)
