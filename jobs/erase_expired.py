"""What has reached its age limit goes, down to the files: rows, old versions, keys of past days.

A row's age counts from the night's day, not from the clock: a night of last month that is done
again does not lose what it has just made. What went stands in `ops.expired`; a table that is over
its limit afterwards is a quality failure (exit 1), and no night goes on over it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import date, datetime
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import quality
from jobs.erase_subscribers import finish_pending
from jobs.frames import local_frame
from jobs.keys import key_store, left_behind
from jobs.quality import Finding
from jobs.runtime import Night, run_job
from jobs.store import at_once
from transforms import retention
from transforms.days import LocalDay
from transforms.settings import KEPT
from transforms.tables import EXPIRED, TABLES, VISITS, Table
from transforms.wording import few

KEYS = "keys"


@dataclass(frozen=True)
class Limits:
    """From when on what one table holds may stay: its rows, and files that no row of it is in any
    more. None: they are kept.
    """

    rows: LocalDay | None
    files: datetime | None


@dataclass(frozen=True)
class Over:
    """What of one table is older than it may be."""

    rows: int
    old_files: int

    def __bool__(self) -> bool:
        return bool(self.rows or self.old_files)


@dataclass(frozen=True)
class Expired:
    """One line of `ops.expired`."""

    day: date
    subject: str
    rows: int
    files: int
    older_than: date
    at: datetime


def erase_expired(night: Night) -> str:
    """Raises `Failed` when a table is over its limit all the same."""
    pending = finish_pending(night)
    limits = _limits_by_table(night)
    over = _over(night, limits)
    gone = at_once(lambda table: _expire(night, table, over[table], limits[table]), over)
    gone += _destroy_keys(night)
    if gone:
        rows = [astuple(one) for one in gone]
        night.store.append(EXPIRED, local_frame(night.spark, rows, EXPIRED.schema))
    still_over = _over(night, {table: limits[table] for table in over})
    findings = [_finding(table, still_over.get(table)) for table in limits]
    if findings:
        quality.record(night, findings, consequence="what is too old is still there")
    rest = f", {pending} erasures to be certified" if pending else ""
    return f"{few(sum(one.rows for one in over.values()))} rows over their age limit{rest}"


def rows_over_limit(night: Night) -> int:
    """How many rows the night would remove."""
    return sum(one.rows for one in _over(night, _limits_by_table(night)).values())


def _limits_by_table(night: Night) -> dict[Table, Limits]:
    stored = (table for table in TABLES if table.root == "restricted" and night.store.exists(table))
    return {table: _limits(night, table) for table in stored}


def _limits(night: Night, table: Table) -> Limits:
    """What was replaced in a table about people goes a night later: nobody needs it any more."""
    days = night.settings.retention[table.name]
    rows = None if days == KEPT else retention.first_kept(night.day, days=int(days))
    kept_from = rows.start if rows else None
    return Limits(rows, night.day.end if table.is_about_people else kept_from)


def _over(night: Night, limits: Mapping[Table, Limits]) -> dict[Table, Over]:
    """Tables that hold anything too old.

    Files that no version needs any more go with the rows of the table that are too old. Those of
    people go sooner; only there they are looked for by themselves.
    """
    rows = _rows_over(night, limits)
    over = {}
    for table, limit in limits.items():
        is_looked_at = limit.files and (table.is_about_people or rows.get(table.name))
        stale = night.store.stale_files(table) if is_looked_at else []
        old = [file for file in stale if limit.files and file.modified_at < limit.files]
        over[table] = Over(rows.get(table.name, 0), len(old))
    return {table: one for table, one in over.items() if one}


def _rows_over(night: Night, limits: Mapping[Table, Limits]) -> dict[str, int]:
    """Counted for all tables at once: they are many and small."""
    counts = [
        retention.over_limit(night.store.read(table), table, since=limit.rows).agg(
            F.lit(table.name).alias("table"), F.count(F.lit(1)).alias("rows")
        )
        for table, limit in limits.items()
        if limit.rows and night.store.may_hold_older(table, limit.rows.date)
    ]
    if not counts:
        return {}
    return {row.table: row["rows"] for row in reduce(DataFrame.union, counts).collect()}


def _expire(night: Night, table: Table, over: Over, limits: Limits) -> Expired:
    if limits.rows and over.rows:
        _delete(night, table, limits.rows)
    files = night.store.forget([table])
    since = limits.rows or night.day
    return Expired(night.day.date, table.name, over.rows, files, since.date, night.now())


def _delete(night: Night, table: Table, since: LocalDay) -> None:
    """Rows of all ages that are not told apart by their age alone are told apart by their key."""
    if table.expires:
        rows = retention.over_limit(night.store.read(table), table, since=since)
        night.store.delete_matching(table, rows, on=table.key)
    else:
        night.store.delete_where(table, retention.older(table, since=since))


def _destroy_keys(night: Night) -> list[Expired]:
    """The keys of days before the night's: a night that did not end is done again with a new one.

    Files are found by their names; any other store is asked for the days that have visits.
    """
    store, folder = night.settings.keys.store, night.settings.paths.keys_folder
    orphans = left_behind(store, folder=folder, before=night.day.date)
    stored = night.store.read(VISITS).select("day").distinct().collect()
    for day in {*orphans, *(row.day for row in stored if row.day < night.day.date)}:
        key_store(store, folder=folder, day=day).destroy()
    if not orphans:
        return []
    night.progress.note(f"keys of past days destroyed: {', '.join(map(str, orphans))}")
    return [Expired(night.day.date, KEYS, len(orphans), 0, night.day.date, night.now())]


def _finding(table: Table, over: Over | None) -> Finding:
    rows, files = (over.rows, over.old_files) if over else (0, 0)
    return Finding(
        subject=table.name,
        expectation="within_age_limit",
        column=table.age_column,
        critical=True,
        success=not over,
        observed=f"{few(rows)} rows and {files} old files",
    )


if __name__ == "__main__":
    sys.exit(run_job(erase_expired, description=__doc__ or ""))
