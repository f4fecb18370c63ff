"""Decisions in the landing -> `consent.periods`: who takes part from when to when.

Only files that no run has read yet are read, and only the people they concern are looked at
again. Cut short anywhere, the next run does the same once more: a file counts as read when
everything that follows from it is stored.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import objections
from jobs.files import File
from jobs.frames import local_frame, persisted
from jobs.landing import readable
from jobs.runtime import Night, run_job
from transforms import consent
from transforms.errors import Refused
from transforms.tables import (
    CONSENT_DECISIONS,
    CONSENT_DELIVERIES,
    CONSENT_PERIODS,
    DECISIONS,
    Table,
)
from transforms.wording import few

_LIGHT_BYTES = 32 * 1024 * 1024
"""New decisions of up to this size go to where the old ones are, not the other way round."""


def ingest_decisions(night: Night) -> str:
    """Raises `Refused` without believable decisions: nobody is counted then."""
    landing, store = night.landing, night.store
    files = landing.delivered(DECISIONS, error=Refused)
    store.create([CONSENT_DELIVERIES, CONSENT_DECISIONS, CONSENT_PERIODS])
    with readable("decisions", error=Refused):
        if not are_believable(night, files):
            return _nobody_decided(night)
        new_files = unread(night, files)
        light = sum(file.bytes for file in new_files) < _LIGHT_BYTES
        with persisted(_contents(night, new_files)) as news:
            told = _keep(night, news, light=light) if new_files else "no new file"
            changed = _reconsider(night, news, light=light)
        if new_files:
            read = _as_rows(night, new_files).withColumn("read_at", F.lit(night.now()))
            store.append(CONSENT_DELIVERIES, read)
    return f"{told}, {few(changed)} changed periods"


def _nobody_decided(night: Night) -> str:
    if not night.settings.consent.allow_empty:
        raise Refused(
            "decisions",
            found="not a single row",
            expected="at least one, or consent.allow_empty in the settings",
            consequence="no event was read",
        )
    return "nobody decided anything"


def are_believable(night: Night, files: Collection[File]) -> bool:
    """False without a single row; raises `Refused` when they end too long before the day does.

    A day on which nobody decides is possible: its file shows that the delivery is alive. So rows
    are looked at only where the files are too old.
    """
    if not files:
        return False
    rows = night.landing.rows_of(files, DECISIONS, error=Refused)
    if rows.isEmpty():
        return False
    last = max(file.modified_at for file in files).replace(tzinfo=None)
    hours = night.settings.consent.max_age
    oldest = night.day.end.replace(tzinfo=None) - timedelta(hours=hours)
    if last < oldest:
        last = max(last, _newest(night, rows) or last)
    if last < oldest:
        raise Refused(
            f"decisions for {night.day.date}",
            found=f"the newest of {last:%Y-%m-%d %H:%M} UTC",
            expected=f"one of {oldest:%Y-%m-%d %H:%M} or later (consent.max_age {hours:g} h)",
            consequence="no event was read",
        )
    return True


def _newest(night: Night, decisions: DataFrame) -> datetime | None:
    """The latest arrival of a decision that is not after now."""
    arrived = decisions.select(consent.arrival().alias("at"))
    row = arrived.where(F.col("at") <= F.lit(night.now())).agg(F.max("at")).first()
    return row[0] if row else None


def unread(night: Night, files: Collection[File]) -> list[File]:
    """Those that no run has read; what was read are as many rows as there were files ever."""
    rows = night.store.read(CONSENT_DELIVERIES).select(*CONSENT_DELIVERIES.key).collect()
    known = {File(row.file, row.bytes, row.modified_at.replace(tzinfo=UTC)) for row in rows}
    return [file for file in files if file not in known]


def _as_rows(night: Night, files: Collection[File]) -> DataFrame:
    """-> file, bytes, modified_at."""
    rows = [(*file.path_and_bytes, file.modified_at) for file in files]
    columns = "file string, bytes long, modified_at timestamp"
    return local_frame(night.spark, rows, columns)


def _keep(night: Night, news: DataFrame, *, light: bool) -> str:
    """Stores decisions. -> how many they are and which of them change nothing"""
    stored = night.store.read(CONSENT_DECISIONS)
    unseen = consent.unseen(F.broadcast(news) if light else news, stored)
    _store(night, CONSENT_DECISIONS, unseen, light=light)
    faults = {
        row.fault: row.decisions
        for row in news.groupBy("fault").agg(F.count(F.lit(1)).alias("decisions")).collect()
    }
    told = [f"{reason} {few(count)}" for reason, count in sorted(faults.items(), key=str) if reason]
    if told:
        night.progress.note(f"decisions that change nothing: {', '.join(told)}")
    return f"{few(sum(faults.values()))} new decisions"


def _store(night: Night, table: Table, changes: DataFrame, *, light: bool) -> int:
    """Adds the rows of `changes` that are not stored yet, then replaces or removes the others.
    -> how many rows

    Delta merges the two kinds at once only by shuffling all that the table holds. Cut short in
    between, an old period runs on beside the new one: whoever is out by either is out.
    """
    # What is kept of it outlives a change of the table and, on two executors, the loss of one.
    changes = changes.localCheckpoint(storageLevel=StorageLevel.MEMORY_AND_DISK_2)
    by_kind = {
        row.is_stored: row["count"] for row in changes.groupBy("is_stored").count().collect()
    }
    if by_kind.get(False):
        night.store.append(table, changes.where(~F.col("is_stored")))
    if by_kind.get(True):
        others = changes.where("is_stored")
        night.store.update(table, F.broadcast(others) if light else others)
    return sum(by_kind.values())


def _contents(night: Night, files: Collection[File]) -> DataFrame:
    """Decisions of the files, but nothing of people who were erased: they would be back."""
    if not files:
        return night.store.read(CONSENT_DECISIONS).where(F.lit(False))
    rows = night.landing.rows_of(files, DECISIONS, error=Refused)
    return consent.delivered(objections.without(night, rows), now=night.now())


def _reconsider(night: Night, news: DataFrame, *, light: bool) -> int:
    """Brings the periods of those concerned up to date. -> how many periods changed"""
    stored, periods = night.store.read(CONSENT_DECISIONS), night.store.read(CONSENT_PERIODS)
    people = consent.reconsidered(F.broadcast(news) if light else news, stored, now=night.now())
    deciding = stored.select(*consent.DECIDING)
    with (
        persisted(F.broadcast(people) if light else people) as concerned,
        persisted(deciding.join(concerned, on="subscriber_id", how="left_semi")) as theirs,
    ):
        decisions = consent.with_conflicts(F.broadcast(theirs) if light else theirs, among=stored)
        before = periods.join(concerned, on="subscriber_id", how="left_semi")
        changes = consent.period_changes(consent.periods(decisions, now=night.now()), before)
        return _store(night, CONSENT_PERIODS, changes, light=light)


if __name__ == "__main__":
    sys.exit(run_job(ingest_decisions, description=__doc__ or ""))
