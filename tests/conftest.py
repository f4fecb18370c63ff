"""One Spark session for all tests: no UI, few partitions, started when the first test asks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from pyspark.sql import SparkSession

if TYPE_CHECKING:
    from tests.submitted_night import Submitted

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one file share a process, and so do all that look at the submitted night."""
    for item in items:
        of_night = "submitted" in getattr(item, "fixturenames", ())
        group = "submitted night" if of_night else item.location[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    from jobs.runtime import load_settings, spark_session

    conf = str(Path(__file__).parent / "conf" / "tests.toml")
    session = spark_session(load_settings(conf), conf=conf, name="tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def submitted(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Submitted]:
    """The one night that is run by spark-submit, over a world of `--subscribers`."""
    from tests.small_world import landing_of_small_world
    from tests.submitted_night import DAY, submitted_night

    subscribers = request.config.getoption("--subscribers")
    root = tmp_path_factory.mktemp("submitted")
    centres = max(3, min(26, subscribers // 250))
    landing = landing_of_small_world(
        root / "world", subscribers=subscribers, centres=centres, last_day=DAY
    )
    with submitted_night(landing, root, timeout_s=600 + subscribers / 20) as night:
        yield night
