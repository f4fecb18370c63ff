"""One writer per warehouse: the second is told who holds it, a dead holder is recognised."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs import lease
from tests.storage import full_storage
from transforms.errors import Refused


def file_of(root: Path) -> Path:
    return root / lease.NAME


def leave(root: Path, **changes: Any) -> None:
    """A lease as another holder wrote it."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {
        "token": "other",
        "work": "run_night 2026-11-23",
        "host": "another-machine",
        "process": 4711,
        "since": now,
        "alive": now,
    }
    root.mkdir(parents=True, exist_ok=True)
    file_of(root).write_text(json.dumps(holder | changes))


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(200):
        if true():
            return
        time.sleep(0.05)
    raise TimeoutError("it has not come true")


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lease_is_there_while_it_is_held_and_gone_afterwards(
    spark: SparkSession, tmp_path: Path
) -> None:
    with lease.held(spark, str(tmp_path / "root/"), work="run_night 2026-11-23") as confirm:
        holder = json.loads(file_of(tmp_path / "root").read_text())
        assert holder["work"] == "run_night 2026-11-23"
        assert (holder["host"], holder["process"]) == (socket.gethostname(), os.getpid())
        confirm()
    assert list((tmp_path / "root").iterdir()) == []


def test_a_lease_is_given_back_after_a_failure(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lease.held(spark, str(tmp_path), work="night"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_second_is_refused_and_told_who_and_since_when(
    spark: SparkSession, tmp_path: Path
) -> None:
    with (
        lease.held(spark, str(tmp_path), work="run_night 2026-11-23"),
        pytest.raises(Refused) as refusal,
        lease.held(spark, str(tmp_path), work="run_night 2026-11-24"),
    ):
        raise AssertionError("two hold it")
    since = f"{datetime.now(UTC):%Y-%m-%dT}"
    assert f"run_night 2026-11-23 (process {os.getpid()} on" in str(refusal.value)
    assert f"at work since {since}" in str(refusal.value)


def test_one_that_lives_elsewhere_is_believed(spark: SparkSession, tmp_path: Path) -> None:
    leave(tmp_path)
    before = file_of(tmp_path).read_bytes()
    with (
        pytest.raises(Refused, match="process 4711 on another-machine"),
        lease.held(spark, str(tmp_path), work="night"),
    ):
        raise AssertionError("two hold it")
    assert file_of(tmp_path).read_bytes() == before


@pytest.mark.parametrize(
    "dead",
    [
        lambda: {"host": socket.gethostname(), "process": ended_process()},
        lambda: {"alive": (datetime.now(UTC) - 2 * lease.SILENT_AFTER).isoformat()},
        lambda: {
            "host": socket.gethostname(),
            "process": os.getpid(),  # a number that was given out again
            "alive": (datetime.now(UTC) - timedelta(days=1)).isoformat(),
        },
    ],
    ids=["its process is gone", "it fell silent", "its number is another process now"],
)
def test_a_dead_one_s_lease_is_taken_over(spark: SparkSession, tmp_path: Path, dead: Any) -> None:
    leave(tmp_path, **dead())
    with lease.held(spark, str(tmp_path), work="night") as confirm:
        assert json.loads(file_of(tmp_path).read_text())["work"] == "night"
        confirm()


def test_who_was_taken_for_dead_is_stopped_and_leaves_the_other_s_lease(
    spark: SparkSession, tmp_path: Path
) -> None:
    with lease.held(spark, str(tmp_path), work="night") as confirm:
        leave(tmp_path, work="a later one")
        with pytest.raises(Refused, match="a later one"):
            confirm()
    assert json.loads(file_of(tmp_path).read_text())["work"] == "a later one"


def test_a_holder_says_again_and_again_that_it_lives(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    with lease.held(spark, str(tmp_path), work="night") as confirm:
        first = file_of(tmp_path).stat().st_mtime_ns
        wait_until(lambda: file_of(tmp_path).stat().st_mtime_ns > first)
        confirm()


def test_a_beat_that_the_storage_refuses_costs_nobody_the_lease(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    with lease.held(spark, str(tmp_path), work="night") as confirm:
        before = json.loads(file_of(tmp_path).read_text())
        with full_storage(spark):
            time.sleep(0.5)
            now = json.loads(file_of(tmp_path).read_text())
            assert now.keys() == before.keys()
            assert now["token"] == before["token"]
            confirm()
        last = file_of(tmp_path).stat().st_mtime_ns
        wait_until(lambda: file_of(tmp_path).stat().st_mtime_ns > last)
        confirm()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_left_beside_its_lease_goes_with_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    leave(tmp_path, host=socket.gethostname(), process=ended_process())
    (tmp_path / f"{lease.NAME}.other").touch()
    with lease.held(spark, str(tmp_path), work="night"):
        assert list(tmp_path.iterdir()) == [file_of(tmp_path)]


def test_of_many_that_start_at_once_one_gets_it(spark: SparkSession, tmp_path: Path) -> None:
    leave(tmp_path, host=socket.gethostname(), process=ended_process())
    start, done = threading.Barrier(6), threading.Event()
    got: list[str] = []
    refused: list[str] = []

    def try_to_get(name: str) -> None:
        start.wait()
        try:
            with lease.held(spark, str(tmp_path), work=name) as confirm:
                got.append(name)
                done.wait(10)
                confirm()
        except Refused:
            refused.append(name)
            if len(refused) == 5:
                done.set()

    threads = [threading.Thread(target=try_to_get, args=(f"night {i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 5)
