"""The bench reads what a night and Spark say, and its skewed input is as skewed as it says."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from rich.console import Console

from jobs.runtime import Progress
from tests import bench
from tests.small_world import landing_of_small_world


def test_steps_are_read_from_what_a_night_prints() -> None:
    output = io.StringIO()
    progress = Progress(Console(file=output, highlight=False, soft_wrap=True))

    def detect_visits(night: object) -> str:
        return "7 rows in"

    night: Any = None
    progress.headline("Footfall, night of 2026-11-21")
    progress.note("decisions that change nothing: 1.0 s   of them")
    progress.step(detect_visits, night)
    assert bench.STEP.findall(output.getvalue()) == [("detect visits", "0.0")]


def test_stages_are_read_from_the_event_log(tmp_path: Path) -> None:
    def task(stage: int, ms: int) -> dict[str, Any]:
        metrics = {
            "Executor Run Time": ms,
            "Executor CPU Time": ms * 500_000,
            "Disk Bytes Spilled": 0,
            "Shuffle Write Metrics": {"Shuffle Bytes Written": 1 << 20},
        }
        return {"Event": "SparkListenerTaskEnd", "Stage ID": stage, "Task Metrics": metrics}

    info = {"Stage ID": 3, "Stage Name": "collect at detect_visits.py:87"}
    events = [task(3, 1000), task(3, 4000), task(7, 10), {"Event": "SparkListenerLogStart"}]
    events += [{"Event": "SparkListenerStageCompleted", "Stage Info": info}]
    (tmp_path / "log").write_text("\n".join(map(json.dumps, events)) + "\n", encoding="utf-8")
    first, second = bench.stages(tmp_path)
    assert (first.name, first.tasks_s, first.cpu_s) == (info["Stage Name"], [1.0, 4.0], 2.5)
    assert first.shuffled == 2 << 20
    assert second.tasks_s == [0.01]


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Any]:
    """Rows before, and the events afterwards."""
    folder = tmp_path_factory.mktemp("bench")
    landing = landing_of_small_world(
        folder / "world", subscribers=300, centres=2, last_day=str(bench.DAY)
    )
    before = ds.dataset(landing / "events").count_rows()
    bench.skew(landing, events=before)
    return before, ds.dataset(landing / "events").to_table().to_pandas()


def test_one_cell_has_a_twentieth_of_all_events_and_more(skewed: tuple[int, Any]) -> None:
    before, events = skewed
    cell, rows = Counter(events["cell_id"]).most_common(1)[0]
    assert cell
    assert 0.05 <= rows / before < 0.25


def test_one_subscriber_has_as_many_again(skewed: tuple[int, Any]) -> None:
    before, events = skewed
    assert len(events) == before + round(before / 20)
    most = events["subscriber_id"].value_counts()
    assert most.iloc[0] >= before / 20
    assert most.iloc[1] < before / 40
    busy = events[events["subscriber_id"] == most.index[0]]
    assert busy["event_time"].nunique() >= before / 20  # nobody's repetitions
