"""Landing files: which of them are read."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import Row, SparkSession

from jobs import detect_visits
from jobs.landing import Events, Landing
from jobs.runtime import load_settings
from transforms.errors import Failed

DAY = date(2026, 11, 21)
CONF = str(Path(__file__).parent / "conf" / "tests.toml")


@pytest.fixture(scope="module")
def landing(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """Three files of the day, and one of the day before, each with an event that names it."""
    folder = tmp_path_factory.mktemp("landing")
    for name in (f"{DAY}/b", f"{DAY}/a", f"{DAY}/c", "2026-11-20/z"):
        file = folder / f"events/date={name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        event = {
            "subscriber_id": file.stem,
            "event_time": datetime(2026, 11, 21, 12, tzinfo=UTC),
            "cell_id": "cell",
            "event_type": "data",
            "brand": None,
        }
        pq.write_table(pa.Table.from_pylist([event]), file)
    return Landing(spark, load_settings(CONF, {"landing": str(folder)}))


@pytest.mark.parametrize(
    ("files_worth", "read"), [(0, ["a"]), (1, ["a"]), (2.5, ["a", "b"]), (9, ["a", "b", "c"])]
)
def test_some_events_are_those_of_the_first_files_of_the_day(
    landing: Landing, files_worth: float, read: list[str]
) -> None:
    size = max(size for path, size in landing.events(DAY).files)
    rows = landing.some_events(DAY, most_bytes=int(size * files_worth)).collect()
    assert sorted(row.subscriber_id for row in rows) == read
    assert {row.folder_date for row in rows} == {DAY}


def test_files_that_change_while_they_are_read_stop_the_night() -> None:
    counts = detect_visits.Counts({None: 5, "no_id": 1}, types=("data",), late=0)
    tally = [Row(outcome=None, subscribers=1, rows=3, repeats=1, first_us=0, last_us=0)]
    night: Any = SimpleNamespace(day=SimpleNamespace(date=DAY))
    read = Events(rows=None, files=[], folders_missing=[])  # type: ignore[arg-type]
    with pytest.raises(Failed, match="5 rows when they were counted, 4 afterwards"):
        detect_visits._accounted(night, counts, tally, read)
