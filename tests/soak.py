"""Run many nights into one warehouse, and say what grows: time, files, Delta's logs, memory.

    python -m tests.soak [--nights 60] [--subscribers 300] [--out build/soak]

The nights follow one another in one session, as `run_night --from --to` runs them, but each is at
three in the morning after its day, by its own clock, by Delta's, and by the dates of the files it
leaves. Whatever may lie there for longer than two weeks (`[retention]` in conf/base.toml, Delta's
log) is kept for two weeks, so that most of the nights are past that. What is sold is kept for ten
years, and the ledger for good: the published root gets as many files every night.

The last line is JSON: nights, how many files the published root gets a night, and for seconds,
restricted_files, restricted_log_bytes and heap_mib (Java's heap in use after a collection) the
median of the last ten nights over that of ten nights before the last twenty.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from jobs.run_night import run_night
from jobs.runtime import load_settings, night_of, spark_session, utc_now
from tests.small_world import landing_of_small_world, small_site
from transforms.days import LocalDay
from transforms.settings import KEPT, Settings
from transforms.tables import TABLES

LAST_DAY = date(2026, 11, 21)
TEN = 10
KEPT_FOR = timedelta(days=14)
AT_NIGHT = timedelta(hours=3)
A_MONTH_H = 24 * 31
ROOTS = ("restricted", "published")


@dataclass(frozen=True)
class Soaked:
    """What a night took, and what lies there afterwards; or medians of several."""

    seconds: float
    restricted_files: float
    restricted_log_bytes: float
    published_files: float
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
    days = [LAST_DAY - timedelta(days=back) for back in reversed(range(options.nights))]
    landing = landing_of_small_world(
        root / "world",
        subscribers=options.subscribers,
        centres=3,
        last_day=str(days[-1]),
        days=len(days),
    )
    nights = soaked(root, conf=str(small_site(root, landing)), days=days)
    print(json.dumps({"nights": len(nights)} | grown(nights)))
    return 0


def soaked(root: Path, *, conf: str, days: Sequence[date]) -> list[Soaked]:
    settings = kept_shortly(load_settings(conf))
    spark = spark_session(settings, conf=conf, name="soak")
    done: list[Soaked] = []
    try:
        clock = delta_clock(spark, root)
        starts = [LocalDay(day, settings.zone_info).end + AT_NIGHT for day in days]
        redate(settings.paths.landing, by=starts[0] - utc_now())
        for day, at in zip(days, starts, strict=True):
            clock.setTime(int(1000 * at.timestamp()))
            began, by = time.time(), at - utc_now()
            run_night(night_of(settings, day, spark, now=shifted_clock(by)))
            seconds = time.time() - began
            for name in ROOTS:
                redate(root / name, by=by, since=began)
            done.append(Soaked(seconds, *lying_in(root), heap_mib(spark)))
            if len(done) % TEN == 0:
                show(done)
    finally:
        spark.stop()
    return done


# --- time, as it goes by on a real site ----------------------------------------------------------


def kept_shortly(settings: Settings) -> Settings:
    """Two weeks of all that is kept for longer; a month may pass without a decision, as the people
    are few.
    """
    retention = {
        name: days if days == KEPT else min(int(days), KEPT_FOR.days)
        for name, days in settings.retention.items()
    }
    log = {
        "spark.databricks.delta.properties.defaults.logRetentionDuration": (
            f"interval {KEPT_FOR.days} days"
        )
    }
    session = settings.spark.model_copy(update={"conf": {**settings.spark.conf, **log}})
    consent = settings.consent.model_copy(update={"max_age": A_MONTH_H})
    return settings.model_copy(
        update={"retention": retention, "spark": session, "consent": consent}
    )


def shifted_clock(by: timedelta) -> Callable[[], datetime]:
    return lambda: utc_now() + by


def delta_clock(spark: SparkSession, root: Path) -> Any:
    """The clock by which Delta clears its logs of all tables: it shows what it is set to."""
    jvm: Any = spark._jvm
    clock = jvm.org.apache.spark.util.ManualClock(0)
    for table in TABLES:
        path = jvm.org.apache.hadoop.fs.Path(str(root / table.root / table.path))
        jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, path, clock)
    return clock


def redate(folder: str | Path, *, by: timedelta, since: float = 0.0) -> None:
    """Files written `since` then become older, in the same order."""
    for path in Path(folder).rglob("*"):
        if path.is_file() and (written := path.stat().st_mtime) >= since:
            moment = written + by.total_seconds()
            os.utime(path, (moment, moment))


# --- what is looked at ---------------------------------------------------------------------------


def lying_in(root: Path) -> tuple[int, int, int]:
    """-> files of the restricted root, bytes of its Delta logs, files of the published root

    Checksums are not counted: storage of a cluster has none.
    """
    files = {
        name: [
            path
            for path in (root / name).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        ]
        for name in ROOTS
    }
    log = sum(path.stat().st_size for path in files["restricted"] if "_delta_log" in path.parts)
    return len(files["restricted"]), log, len(files["published"])


def heap_mib(spark: SparkSession) -> float:
    jvm: Any = spark._jvm
    jvm.java.lang.System.gc()
    runtime = jvm.java.lang.Runtime.getRuntime()
    return float(runtime.totalMemory() - runtime.freeMemory()) / 2**20


def show(nights: Sequence[Soaked]) -> None:
    table = Table("nights", *(one.name.replace("_", " ") for one in fields(Soaked)))
    for first in range(0, len(nights), TEN):
        ten = nights[first : first + TEN]
        middle = astuple(medians(ten))
        table.add_row(f"{first + 1} to {first + len(ten)}", *(f"{one:,.1f}" for one in middle))
    Console(width=110, highlight=False).print(table)


def grown(nights: Sequence[Soaked]) -> dict[str, float]:
    before, last = nights[-3 * TEN : -2 * TEN], nights[-TEN:]
    were, are = asdict(medians(before)), asdict(medians(last))
    ratios = {name: round(are[name] / were[name], 2) for name in are if name != "published_files"}
    sold = (last[-1].published_files - before[0].published_files) / (3 * TEN - 1)
    return {"published_files_a_night": round(sold, 1)} | ratios


def medians(nights: Sequence[Soaked]) -> Soaked:
    return Soaked(*(median(column) for column in zip(*map(astuple, nights), strict=True)))


if __name__ == "__main__":
    sys.exit(main())
