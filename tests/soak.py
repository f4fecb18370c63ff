"""Run many nights into one warehouse, and say what grows: time, files, Delta's logs, memory.

    python -m tests.soak [--nights 60] [--subscribers 300] [--out build/soak]

The nights follow one another in one session, as `run_night --from --to` runs them. What is sold is
kept, so the published root gets as many files every night; the restricted one gets what the age
limits (`[retention]` in conf/base.toml) let stay. Memory is the Java heap that is in use after a
collection.

The last line is JSON: nights, seconds, files, log_bytes and heap_mib of the last ten nights over
those of the ten after the first ten.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from jobs.run_night import run_night
from jobs.runtime import load_settings, night_of, spark_session
from tests.small_world import landing_of_small_world, small_site

LAST_DAY = date(2026, 11, 21)
TEN = 10
ROOTS = ("restricted", "published")


@dataclass(frozen=True)
class Soaked:
    """What a night took, and what lies there afterwards."""

    seconds: float
    restricted_files: int
    published_files: int
    log_bytes: int
    heap_mib: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="soak", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--nights", type=int, default=60)
    parser.add_argument("--subscribers", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    options = parser.parse_args(argv)
    if options.nights < 3 * TEN:
        parser.error(f"--nights: found {options.nights}, expected at least {3 * TEN}")
    root = options.out.absolute()
    shutil.rmtree(root, ignore_errors=True)
    landing = landing_of_small_world(
        root / "world",
        subscribers=options.subscribers,
        centres=3,
        last_day=str(LAST_DAY),
        days=options.nights,
    )
    nights = soaked(root, conf=str(small_site(root, landing)), nights=options.nights)
    print(json.dumps({"nights": len(nights)} | grown(nights)))
    return 0


def soaked(root: Path, *, conf: str, nights: int) -> list[Soaked]:
    settings = load_settings(conf)
    spark = spark_session(settings, conf=conf, name="soak")
    done = []
    try:
        for back in reversed(range(nights)):
            night = night_of(settings, LAST_DAY - timedelta(days=back), spark)
            began = time.perf_counter()
            run_night(night)
            seconds = time.perf_counter() - began
            done.append(Soaked(seconds, *lying_in(root), heap_mib(spark)))
            if len(done) % TEN == 0:
                show(done)
    finally:
        spark.stop()
    return done


def lying_in(root: Path) -> tuple[int, int, int]:
    """-> files of the restricted root, of the published one, bytes of all Delta logs"""
    files = {name: [path for path in (root / name).rglob("*") if path.is_file()] for name in ROOTS}
    logs = (path for name in ROOTS for path in files[name] if "_delta_log" in path.parts)
    sizes = sum(path.stat().st_size for path in logs)
    return len(files["restricted"]), len(files["published"]), sizes


def heap_mib(spark: SparkSession) -> float:
    jvm: Any = spark._jvm
    jvm.java.lang.System.gc()
    runtime = jvm.java.lang.Runtime.getRuntime()
    return float(runtime.totalMemory() - runtime.freeMemory()) / 2**20


def show(nights: Sequence[Soaked]) -> None:
    """Medians of ten nights each."""
    table = Table("nights", *(one.name.replace("_", " ") for one in fields(Soaked)))
    for first in range(0, len(nights), TEN):
        ten = nights[first : first + TEN]
        middle = (median(column) for column in zip(*map(astuple, ten), strict=True))
        table.add_row(f"{first + 1} to {first + len(ten)}", *(f"{one:,.1f}" for one in middle))
    Console(width=110, highlight=False).print(table)


def grown(nights: Sequence[Soaked]) -> dict[str, float]:
    """Medians of the last ten nights over those of nights 11 to 20: the first ten are still
    filling what the age limits then empty.
    """
    before, last = (
        {
            "seconds": median(one.seconds for one in ten),
            "files": median(one.restricted_files for one in ten),
            "log_bytes": median(one.log_bytes for one in ten),
            "heap_mib": median(one.heap_mib for one in ten),
        }
        for ten in (nights[TEN : 2 * TEN], nights[-TEN:])
    )
    return {name: round(last[name] / before[name], 2) for name in before}


if __name__ == "__main__":
    sys.exit(main())
