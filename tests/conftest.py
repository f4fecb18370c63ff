"""One Spark session for all tests: no UI, few partitions, started when the first test asks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from pyspark.sql import SparkSession

os.environ["PYSPARK_PYTHON"] = sys.executable
os.environ["TZ"] = "UTC"
time.tzset()

# Properties over frames: hypothesis makes a whole batch of cases, Spark sees it as one frame. A
# failing batch is reported as it is: to shrink it would take a Spark job per step.
settings.register_profile(
    "batches",
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seeds", type=int, default=1, help="searches for a subscriber-day beyond its bounds"
    )
    parser.addoption(
        "--subscribers", type=int, default=1500, help="size of the world that is searched for leaks"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole nights first: what is quick fills the gap when one of two processes is done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    from jobs.runtime import load_settings, spark_session

    conf = str(Path(__file__).parent / "conf" / "tests.toml")
    session = spark_session(load_settings(conf), conf=conf, name="tests")
    yield session
    session.stop()


@pytest.fixture(autouse=True, scope="module")
def forgotten_tables() -> Iterator[None]:
    """What Delta remembers of a module's tables, some megabytes each, goes with the module."""
    yield
    session = SparkSession.getActiveSession()
    if session is not None:
        jvm: Any = session._jvm
        jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
