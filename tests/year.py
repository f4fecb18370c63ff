"""Hold the last night of a year against the first of a new warehouse, in pairs.

    python -m tests.year [--nights 365] [--pairs 3] [--subscribers 2000] [--out build/year]

Both are the same night over the same events, in a process of its own: one in a fresh warehouse, the
other in one with what the nights before would have left: their rows, files and commits, as far as
the age limits (`[retention]` in conf/base.toml) let them stay. These are made of the first night's
own rows, moved to each of the days before.

The last line is JSON: nights, first_seconds, last_seconds, ratio (medians).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake
from rich.console import Console

from jobs.runtime import load_settings, spark_session
from jobs.store import Store
from tests.bench import DAY, EVENTS_PER_SUBSCRIBER, Ran, made, overlay, show_steps, whole_night
from transforms.certificates import Certificate
from transforms.settings import KEPT, Settings
from transforms.tables import (
    CONSENT_CERTIFICATES,
    CONSENT_DECISIONS,
    NOISY_CELLS,
    PARTICIPANTS,
    RELEASES,
    TABLES,
    Table,
)

LEFT_AS_THEY_ARE = {"consent.periods"}
"""Of people, who are the same every night."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="year", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--subscribers", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path("build/year"))
    options = parser.parse_args(argv)
    console = Console(width=110, highlight=False)
    folder = (options.out / f"{options.subscribers}").absolute()
    made(folder, events=options.subscribers * EVENTS_PER_SUBSCRIBER, skewed=False)
    first, last = [], []
    for pair in range(options.pairs):
        first.append(whole_night(folder, log=False))
        age(folder, nights=options.nights)
        last.append(whole_night(folder, log=False, fresh=False))
        console.print(
            f"pair {pair + 1} of {options.pairs}: first night {first[-1].seconds:.1f} s, "
            f"night {options.nights} {last[-1].seconds:.1f} s"
        )
    for title, nights in (("The first night", first), (f"Night {options.nights}", last)):
        show_steps(console, nights, title=title)
    print(json.dumps({"nights": options.nights} | compared(first, last)))
    return 0


def compared(first: Sequence[Ran], last: Sequence[Ran]) -> dict[str, float]:
    ratios = [one.seconds / other.seconds for one, other in zip(last, first, strict=True)]
    return {
        "first_seconds": round(median(night.seconds for night in first), 1),
        "last_seconds": round(median(night.seconds for night in last), 1),
        "ratio": round(median(ratios), 2),
    }


def age(folder: Path, *, nights: int) -> None:
    """Puts a warehouse that holds one night in the state before the last of `nights` on its day."""
    young = {root: folder / f"{root}-young" for root in ("restricted", "published")}
    for root, path in young.items():
        shutil.rmtree(path, ignore_errors=True)
        (folder / root).rename(path)
    conf = str(overlay(folder, log=False))
    settings = load_settings(conf)
    spark = spark_session(settings, conf=conf, name="year")
    store = Store(spark, settings.paths.restricted, settings.paths.published)
    try:
        store.create(TABLES)
        for table in TABLES:
            rows = DeltaTable(young[table.root] / table.path).to_pyarrow_table()
            here = f"ALTER TABLE delta.`{store.path(table)}`"
            for name in table.checks:  # in Spark's own SQL, which not every writer understands
                spark.sql(f"{here} DROP CONSTRAINT {name}")
            for commit in commits(table, rows, settings=settings, nights=nights):
                write_deltalake(store.path(table), commit, mode="append")
            for name, rule in table.checks.items():
                spark.sql(f"{here} ADD CONSTRAINT {name} CHECK ({rule})")
            if not table.is_about_people:
                DeltaTable(store.path(table)).create_checkpoint()
            if table.root == "restricted":
                store.compact(table)
        store.forget(table for table in TABLES if table.is_about_people)
    finally:
        spark.stop()


def commits(table: Table, rows: pa.Table, *, settings: Settings, nights: int) -> Iterator[pa.Table]:
    """What each of the nights before added to a table, oldest first; what is no longer kept of it
    is left out.
    """
    if table.name in LEFT_AS_THEY_ARE:
        yield rows
        return
    if table == CONSENT_DECISIONS:  # known since the first of the nights; faulty ones went by age
        sound = rows.filter(pc.is_null(rows["fault"]))
        at = sound.schema.get_field_index("first_seen_at")
        since = shifted(sound.select(["first_seen_at"]), days=nights - 1)
        yield sound.set_column(at, sound.schema.field(at), since["first_seen_at"])
        return
    if not rows.num_rows:
        return
    limit = settings.retention.get(table.name, KEPT)
    back = nights - 1 if limit == KEPT else min(nights, int(limit)) - 1
    before: Certificate | None = None
    for days in range(back, 0, -1):
        if not _is_due(table, DAY - timedelta(days=days)):
            continue
        moved = shifted(rows, days=days)
        if table == CONSENT_CERTIFICATES:
            before, moved = chained(moved, after=before)
        if table in (RELEASES, NOISY_CELLS) and (DAY - timedelta(days=days)).day != 1:
            moved = moved.filter(pc.not_equal(moved["product"], PARTICIPANTS.product))
        yield moved


def _is_due(table: Table, day: date) -> bool:
    """Whether a table gets a partition on the day; one of a week or a month, once in each."""
    if table.partitioned_by == ("week",):
        return day.weekday() == DAY.weekday()
    return table.partitioned_by != ("month",) or day.day == DAY.day


def shifted(rows: pa.Table, *, days: int) -> pa.Table:
    """The rows as they would be of `days` before."""
    earlier = DAY - timedelta(days=days)
    columns = {
        name: _earlier(rows[name].combine_chunks(), name, earlier) for name in rows.schema.names
    }
    if "month" in columns:
        columns["month"] = pa.array([earlier.replace(day=1)] * len(rows), rows["month"].type)
    if "product" in columns and "day" in columns:  # participants are of a month, by its first day
        is_monthly = pc.equal(columns["product"], PARTICIPANTS.product)
        columns["day"] = pc.if_else(is_monthly, earlier.replace(day=1), columns["day"])
    return pa.table(columns, schema=rows.schema)


def _earlier(column: pa.Array, name: str, earlier: date) -> pa.Array:
    if pa.types.is_date(column.type):
        back = pa.scalar((DAY - earlier).days, pa.int32())
        return pc.subtract(column.cast(pa.int32()), back).cast(column.type)
    if pa.types.is_timestamp(column.type):
        return pc.subtract(column, pa.scalar(DAY - earlier, pa.duration("us"))).cast(column.type)
    if pa.types.is_map(column.type):
        items = _earlier(column.items, "", earlier)
        return pa.MapArray.from_arrays(column.offsets, column.keys, items, type=column.type)
    if not pa.types.is_string(column.type):
        return column
    if name in ("run_id", "file"):
        return pc.binary_replace_slice(column, 0, 8, f"{earlier:%Y%m%d}")
    of_day = pc.replace_substring(column, f"{DAY}", f"{earlier}")
    return pc.replace_substring(of_day, f"{DAY:%Y-%m}", f"{earlier:%Y-%m}")


def chained(rows: pa.Table, *, after: Certificate | None) -> tuple[Certificate, pa.Table]:
    """The one certificate of `rows` as the next link of the chain."""
    [row] = rows.to_pylist()
    row["left_out"] = dict(row["left_out"])
    for name in ("decisions_received_until", "issued_at"):
        row[name] = row[name] and row[name].replace(tzinfo=None)
    sealed = Certificate(**row).sealed(after=after)
    return sealed, pa.Table.from_pylist([asdict(sealed)], schema=rows.schema)


if __name__ == "__main__":
    sys.exit(main())
