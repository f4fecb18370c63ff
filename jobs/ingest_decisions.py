"""Decisions in the landing -> `consent.periods`: who takes part from when to when.

Only files that no run has read yet are read, and only the people they concern are looked at
again. Cut short anywhere, the next run does the same once more: a file counts as read when
everything that follows from it is stored.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import objections
from jobs.landing import CAME_IN, readable
from jobs.runtime import Night, run_job
from transforms import consent
from transforms.errors import Refused
from transforms.tables import (
    CONSENT_DECISIONS,
    CONSENT_DELIVERIES,
    CONSENT_PERIODS,
    DECISIONS,
)
from transforms.wording import few

_LIGHT_BYTES = 32 * 1024 * 1024
"""New decisions of up to this size go to where the old ones are, not the other way round."""


def ingest_decisions(night: Night) -> str:
    """Raises `Refused` without believable decisions: nobody is counted then."""
    delivered = night.landing.rows(DECISIONS, with_file=True, error=Refused)
    night.store.create([CONSENT_DELIVERIES, CONSENT_DECISIONS, CONSENT_PERIODS])
    with readable("decisions", error=Refused):
        if delivered is None or not _are_believable(night, delivered):
            return _nobody_decided(night)
        files = _unread(night, delivered).persist()
        news = _contents(night, delivered, files).persist()
        size = files.agg(F.count(F.lit(1)), F.sum("bytes")).first() or (0, 0)
        light = (size[1] or 0) < _LIGHT_BYTES
        told = _keep(night, F.broadcast(news) if light else news) if size[0] else "no new file"
        changed = _reconsider(night, news, light=light)
        if size[0]:
            night.store.append(CONSENT_DELIVERIES, files.withColumn("read_at", F.lit(night.now())))
        news.unpersist()
        files.unpersist()
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


def _are_believable(night: Night, delivered: DataFrame) -> bool:
    """False without a single row; raises `Refused` when they end too long before the day does.

    A day on which nobody decides is possible: its file shows that the delivery is alive.
    """
    arrival = consent.arrival()
    newest = delivered.agg(
        F.count(F.lit(1)).alias("rows"),
        F.max(F.when(arrival <= F.lit(night.now()), arrival)).alias("decision"),
        F.max(f"{CAME_IN}.modified_at").alias("file"),
    ).first()
    if newest is None or not newest.rows:
        return False
    last: datetime = max(at for at in (newest.decision, newest.file) if at is not None)
    hours = night.settings.consent.max_age
    oldest = night.day.end.replace(tzinfo=None) - timedelta(hours=hours)
    if last < oldest:
        raise Refused(
            f"decisions for {night.day.date}",
            found=f"the newest of {last:%Y-%m-%d %H:%M} UTC",
            expected=f"one of {oldest:%Y-%m-%d %H:%M} or later (consent.max_age {hours:g} h)",
            consequence="no event was read",
        )
    return True


def _unread(night: Night, delivered: DataFrame) -> DataFrame:
    """-> file, bytes, modified_at of the files that no run has read."""
    known = night.store.read(CONSENT_DELIVERIES)
    here = delivered.select(f"{CAME_IN}.*").dropDuplicates()
    return here.join(F.broadcast(known), on=list(CONSENT_DELIVERIES.key), how="left_anti")


def _keep(night: Night, news: DataFrame) -> str:
    """Stores decisions. -> how many they are and which of them change nothing"""
    stored = night.store.read(CONSENT_DECISIONS)
    night.store.merge(CONSENT_DECISIONS, consent.unseen(news, stored))
    faults = {
        row.fault: row.decisions
        for row in news.groupBy("fault").agg(F.count(F.lit(1)).alias("decisions")).collect()
    }
    told = [f"{reason} {few(count)}" for reason, count in sorted(faults.items(), key=str) if reason]
    if told:
        night.progress.note(f"decisions that change nothing: {', '.join(told)}")
    return f"{few(sum(faults.values()))} new decisions"


def _contents(night: Night, delivered: DataFrame, files: DataFrame) -> DataFrame:
    """Decisions of the files, but nothing of people who were erased: they would be back."""
    rows = delivered.select(*[column.name for column in DECISIONS.columns], f"{CAME_IN}.*")
    fresh = rows.join(F.broadcast(files), on=list(CONSENT_DELIVERIES.key), how="left_semi")
    return consent.delivered(objections.without(night, fresh), now=night.now())


def _reconsider(night: Night, news: DataFrame, *, light: bool) -> int:
    """Brings the periods of those concerned up to date. -> how many periods changed"""
    stored = night.store.read(CONSENT_DECISIONS)
    people = consent.reconsidered(F.broadcast(news) if light else news, stored, now=night.now())
    concerned = (F.broadcast(people) if light else people).persist()
    decisions = consent.with_conflicts(stored, concerned)
    before = night.store.read(CONSENT_PERIODS).join(concerned, on="subscriber_id", how="left_semi")
    changes = consent.period_changes(consent.periods(decisions, now=night.now()), before).persist()
    changed = changes.count()
    if changed:
        night.store.merge(CONSENT_PERIODS, changes)
    changes.unpersist()
    concerned.unpersist()
    return changed


if __name__ == "__main__":
    sys.exit(run_job(ingest_decisions, description=__doc__ or ""))
