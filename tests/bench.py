"""Hold the speed of a whole night against DuckDB on the same events, in pairs.

    python -m tests.bench [--events 20000000] [--pairs 3] [--skewed] [--out build/bench]

The events are those of a made world, made once. Each pair is one whole night in a fresh warehouse,
as its user starts it (session start, consent, reference, stays, all products, noise, Delta tables,
quality, report), and `tests/oracle.py` from the same files to the exact measures. Then the two are
compared: places, everybody's stays, all exact sums. The first night also keeps Spark's event log,
for the figures by stage.

With --skewed one cell has 5 % of all events, and one subscriber a twentieth as many more.

The last line is JSON: events, seconds (of a night, median), duckdb_seconds, ratio,
events_per_core_second, peak_mib (resident memory of the driver's JVM).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from jobs import make_world
from jobs.runtime import load_settings, night_of, spark_session
from tests.agreement import assert_agrees
from tests.oracle import Exact, exact_night
from tests.submitted_night import PROJECT, environment, watching

DAY = date(2026, 11, 21)
EVENTS_PER_SUBSCRIBER = 94
CENTRES = 26
SHARE_OF_ONE_CELL = SHARE_OF_ONE_SUBSCRIBER = 0.05
WRITTEN = ("restricted", "published", "reports")
STEP = re.compile(r"^  (\S.{0,17}?)\s+(\d+\.\d) s   ", re.MULTILINE)
HEAVY_S = 1.0
"""Stages whose tasks take less, all together, are not told apart."""


@dataclass
class Ran:
    """One night: its seconds, by step, and the most memory that its JVM held."""

    seconds: float
    steps: dict[str, float]
    peak_mib: float


@dataclass
class Stage:
    """What the tasks of one stage took (seconds each) and moved (bytes)."""

    name: str = ""
    tasks_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    shuffled: int = 0
    spilled: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--skewed", action="store_true", help="one cell, one subscriber have most")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    options = parser.parse_args(argv)
    console = Console(width=110, highlight=False)
    name = f"{options.events}{'-skewed' if options.skewed else ''}"
    folder = (options.out / name).absolute()
    events = made(folder, events=options.events, skewed=options.skewed)
    nights, exact, duckdb_s = [], None, []
    for pair in range(options.pairs):
        nights.append(whole_night(folder, log=not pair))
        exact, seconds, duckdb_mib = in_duckdb(folder)
        duckdb_s.append(seconds)
        console.print(
            f"pair {pair + 1} of {options.pairs}: night {nights[-1].seconds:.1f} s, "
            f"DuckDB {seconds:.1f} s ({duckdb_mib:,.0f} MiB)"
        )
    show_stages(console, stages(folder / "log"))
    show_steps(console, nights)
    must_agree(folder, exact)
    console.print("places, stays and exact measures: the same in both")
    seconds = median(night.seconds for night in nights)
    ratio = median(one.seconds / other for one, other in zip(nights, duckdb_s, strict=True))
    figures = {
        "events": events,
        "seconds": round(seconds, 1),
        "duckdb_seconds": round(median(duckdb_s), 1),
        "ratio": round(ratio, 2),
        "events_per_core_second": round(events / seconds / cores()),
        "peak_mib": round(max(night.peak_mib for night in nights)),
    }
    print(json.dumps(figures))
    return 0


def cores() -> int:
    return len(os.sched_getaffinity(0))


# --- input ------------------------------------------------------------------------------------


def made(folder: Path, *, events: int, skewed: bool) -> int:
    """Makes the world unless it is there; returns how many rows of events it has."""
    world = folder / "world"
    if not (world / make_world.MARKER).exists():
        options = {
            "--out": world,
            "--subscribers": max(events // EVENTS_PER_SUBSCRIBER, 1),
            "--centres": CENTRES,
            "--last-day": DAY,
            "--geography": PROJECT / make_world.GEOGRAPHY,
        }
        code = make_world.main([str(part) for pair in options.items() for part in pair])
        if code:
            raise SystemExit(code)
        if skewed:
            skew(world / "landing", events=events)
    files = (world / "landing/events").rglob("*.parquet")
    return sum(pq.read_metadata(file).num_rows for file in files)


def skew(landing: Path, *, events: int) -> None:
    """Every twentieth event at the cell of the first; as many more of one subscriber."""
    folder = landing / f"events/date={DAY}"
    template = pq.read_table(sorted(folder.glob("*.parquet"))[0], partitioning=None)
    sound = template.filter(
        pc.and_(pc.is_valid(template["subscriber_id"]), pc.is_valid(template["cell_id"]))
    ).slice(0, 1)
    for file in folder.glob("*.parquet"):
        rows = pq.read_table(file, partitioning=None)
        here = np.arange(rows.num_rows) % round(1 / SHARE_OF_ONE_CELL) == 0
        cell_id = pc.if_else(pa.array(here), sound["cell_id"][0], rows["cell_id"])
        at = rows.schema.get_field_index("cell_id")
        pq.write_table(rows.set_column(at, "cell_id", cell_id), file, store_schema=False)
    count = round(events * SHARE_OF_ONE_SUBSCRIBER)
    start_us = int(datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC).timestamp()) * 1_000_000
    instants = pa.array(start_us + np.arange(count) * (20 * 3600 * 1_000_000 // count), "int64")
    busy = sound.take(pa.array(np.zeros(count, dtype=int)))
    at = busy.schema.get_field_index("event_time")
    busy = busy.set_column(at, "event_time", instants.cast(busy.schema.field(at).type))
    pq.write_table(busy, folder / "busy.parquet", store_schema=False)


# --- the night --------------------------------------------------------------------------------


def whole_night(folder: Path, *, log: bool, fresh: bool = True) -> Ran:
    """One night in a process of its own, in a fresh warehouse or the one that is there."""
    for name in WRITTEN if fresh else ():
        shutil.rmtree(folder / name, ignore_errors=True)
    if log:
        shutil.rmtree(folder / "log", ignore_errors=True)
        (folder / "log").mkdir()
    conf = overlay(folder, log=log)
    command = [sys.executable, "-m", "jobs.run_night", "--conf", str(conf), "--day", str(DAY)]
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=PROJECT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as night:
        memory = MemoryOfJava(night.pid)
        with watching(memory.look, every_s=0.5):
            output, _ = night.communicate()
    if night.returncode:
        print(output)
        raise SystemExit(night.returncode)
    steps = {name: float(seconds) for name, seconds in STEP.findall(output)}
    return Ran(time.perf_counter() - began, steps, memory.peak_kib / 1024)


def overlay(folder: Path, *, log: bool) -> Path:
    paths = {"landing": "world/landing"} | {name: name for name in WRITTEN}
    lines = ["[paths]", *(f'{name} = "{folder / path}"' for name, path in paths.items())]
    if log:
        lines += ["[spark.conf]", '"spark.eventLog.enabled" = "true"']
        lines += [f'"spark.eventLog.dir" = "{(folder / "log").as_uri()}"']
        lines += ['"spark.eventLog.rolling.enabled" = "false"']
        lines += ['"spark.eventLog.compress" = "false"']
    conf = folder / "bench.toml"
    conf.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return conf


@dataclass
class MemoryOfJava:
    """The most resident memory of a Java process below `pid`."""

    pid: int
    peak_kib: float = 0.0

    def look(self) -> None:
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.pid).children(recursive=True):
                with suppress(OSError, psutil.NoSuchProcess):
                    if process.name() == "java":
                        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                        found = re.search(r"VmHWM:\s+(\d+) kB", status)
                        self.peak_kib = max(self.peak_kib, float(found[1]) if found else 0.0)


def stages(log: Path) -> list[Stage]:
    """The stages of an event log, in order."""
    found: dict[int, Stage] = defaultdict(Stage)
    for file in log.iterdir():
        with file.open(encoding="utf-8") as lines:
            for event in map(json.loads, lines):
                if event["Event"] == "SparkListenerStageCompleted":
                    info = event["Stage Info"]
                    found[info["Stage ID"]].name = info["Stage Name"]
                if event["Event"] == "SparkListenerTaskEnd" and event.get("Task Metrics"):
                    metrics, stage = event["Task Metrics"], found[event["Stage ID"]]
                    stage.tasks_s.append(metrics["Executor Run Time"] / 1e3)
                    stage.cpu_s += metrics["Executor CPU Time"] / 1e9
                    stage.shuffled += metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"]
                    stage.spilled += metrics["Disk Bytes Spilled"]
    return [stage for _, stage in sorted(found.items())]


# --- the other --------------------------------------------------------------------------------


def in_duckdb(folder: Path) -> tuple[Exact, float, float]:
    """Exact measures, seconds, MiB; in a process of its own, so that neither has the other's
    memory.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_in_duckdb, folder / "world/landing").result()


def _in_duckdb(landing: Path) -> tuple[Exact, float, float]:
    began = time.perf_counter()
    exact = exact_night(landing, DAY, now=datetime.now(UTC))
    seconds = time.perf_counter() - began
    return exact, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def must_agree(folder: Path, exact: Exact | None) -> None:
    """Raises AssertionError where the last night stored anything else than DuckDB found."""
    assert exact is not None
    conf = str(overlay(folder, log=False))
    settings = load_settings(conf)
    spark = spark_session(settings, conf=conf, name="bench")
    try:
        assert_agrees(night_of(settings, DAY, spark), exact)
    finally:
        spark.stop()


# --- showing ----------------------------------------------------------------------------------


def show_steps(console: Console, nights: Sequence[Ran], *, title: str = "A night") -> None:
    table = Table(title=f"{title} by step (seconds, medians)")
    table.add_column("")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    whole = median(night.seconds for night in nights)
    steps = {name: median(night.steps[name] for night in nights) for name in nights[0].steps}
    rest = whole - sum(steps.values())
    for name, seconds in [*steps.items(), ("start, end", rest), ("the whole night", whole)]:
        table.add_row(name, f"{seconds:.1f}", f"{seconds / whole:.0%}")
    console.print(table)


def show_stages(console: Console, found: Sequence[Stage]) -> None:
    table = Table(title="Stages of the first night")
    table.add_column("")
    for name in ("tasks", "task s", "CPU s", "slowest / median", "shuffled MiB", "spilled MiB"):
        table.add_column(name, justify="right")
    for stage in found:
        if sum(stage.tasks_s) >= HEAVY_S:
            table.add_row(
                re.sub(r" at .*?(\w+\.\w+:\d+)$", r" at \1", stage.name)[:45],
                f"{len(stage.tasks_s)}",
                f"{sum(stage.tasks_s):.1f}",
                f"{stage.cpu_s:.1f}",
                f"{max(stage.tasks_s) / median(stage.tasks_s):.1f}",
                f"{stage.shuffled / 2**20:.0f}",
                f"{stage.spilled / 2**20:.0f}",
            )
    table.add_section()
    table.add_row(
        "all stages",
        f"{sum(len(stage.tasks_s) for stage in found):,}",
        f"{sum(sum(stage.tasks_s) for stage in found):.1f}",
        f"{sum(stage.cpu_s for stage in found):.1f}",
        "",
        f"{sum(stage.shuffled for stage in found) / 2**20:.0f}",
        f"{sum(stage.spilled for stage in found) / 2**20:.0f}",
    )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
