"""Events of the day -> `silver.visits`: clean, consent, pseudonyms, stays, home areas."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import objections, quality
from jobs.ingest_reference import stored_zones
from jobs.landing import Events, readable
from jobs.runtime import Night, run_job
from transforms import consent, events, network, pseudonyms, quarantine, visits
from transforms.days import LocalDay
from transforms.errors import Failed
from transforms.opening import open_intervals
from transforms.settings import Visits
from transforms.tables import (
    CONSENT_PERIODS,
    QUARANTINE,
    REFERENCE_CELL_REACH,
    REFERENCE_CELL_ZONES,
    REFERENCE_CELLS,
    REJECTED,
    SUBSCRIBERS_SEEN,
    VISITS,
)
from transforms.wording import few


@dataclass(frozen=True)
class Accounting:
    """What became of every row read; the four parts add up to `rows_in`."""

    other_day: int
    rejected: Mapping[str, int]
    not_taking_part: int
    accepted: int
    files: list[tuple[str, int]]

    @property
    def rows_in(self) -> int:
        parts = (self.other_day, sum(self.rejected.values()), self.not_taking_part, self.accepted)
        return sum(parts)

    @property
    def rejected_share(self) -> float:
        of_day = self.rows_in - self.other_day
        return sum(self.rejected.values()) / of_day if of_day else 0.0

    def __str__(self) -> str:
        return f"{few(self.rows_in)} rows in, {few(self.accepted)} accepted"


def detect_visits(night: Night) -> Accounting:
    """Raises `Failed` for a day without events or below quality, before anything is published."""
    read = night.landing.events(night.day.date)
    if read.folders_missing:
        night.progress.note(f"event folders not there: {', '.join(read.folders_missing)}")
    cells = night.of_day(REFERENCE_CELLS)
    with readable("events"):
        screened = events.screened(
            read.rows, cells, day_start=night.day.start, day_end=night.day.end
        )
        survivors = screened.where(F.col("outcome").isNull()).drop("outcome", "folder_date")
        people = taking_part(night, night.day)
        settled = events.settled(survivors, people).persist()
        try:
            accounting = _accounted(night, screened, settled, read)
            accepted = events.accepted(settled)
            _store_quarantine(night, screened, settled, people)
            _examine_events(night, accepted, accounting)
            _store_visits(night, accepted, cells)
        except BaseException:
            night.key.destroy()  # visits that are not whole are nobody's: done again, new key
            raise
        finally:
            settled.unpersist()
    return accounting


def subscribers_of(night: Night, day: LocalDay) -> DataFrame:
    """Subscribers of `day`. -> subscriber_id, brand, area, each id once."""
    subscribers = network.sound(night.landing.judged_subscribers(day.date))
    return subscribers.select("subscriber_id", "brand", "area")


def taking_part(night: Night, day: LocalDay) -> DataFrame:
    """Subscribers of `day`. -> subscriber_id, brand, area, left_out, taking_part, each id once."""
    rules = night.settings.consent
    people = consent.with_taking_part(
        subscribers_of(night, day),
        night.store.read(CONSENT_PERIODS),
        start=day.start,
        end=day.end,
        default=rules.default,
        by_brand=rules.by_brand,
    )
    return objections.honoured(night, people)


def _accounted(night: Night, screened: DataFrame, settled: DataFrame, read: Events) -> Accounting:
    """Counts every outcome and stores the rejections; raises `Failed` for an empty day."""
    by_row = screened.groupBy("outcome").agg(F.count(F.lit(1)).alias("rows")).collect()
    people = events.tallied(settled).collect()
    outcomes = {row.outcome: row.rows for row in (*by_row, *people) if row.outcome is not None}
    outcomes[events.DUPLICATE] = sum(row.repeats for row in people)
    accounting = Accounting(
        other_day=outcomes.get(events.OTHER_DAY, 0),
        rejected={reason: outcomes.get(reason, 0) for reason in events.REASONS},
        not_taking_part=sum(outcomes.get(reason, 0) for reason in consent.LEFT_OUT),
        accepted=sum(row.rows for row in people if row.outcome is None),
        files=[*read.files, *night.landing.reference_files(night.day.date)],
    )
    if accounting.rows_in == accounting.other_day:
        raise Failed(
            f"events of {night.day.date}",
            found="none",
            expected="at least one",
            consequence="nothing was published",
        )
    rows = [(night.day.date, reason, count) for reason, count in accounting.rejected.items()]
    night.store.replace(
        REJECTED, night.spark.createDataFrame(rows, REJECTED.schema), day=night.day.date
    )
    seen = [(night.day.date, row.outcome or consent.TAKING_PART, row.subscribers) for row in people]
    night.store.replace(
        SUBSCRIBERS_SEEN,
        night.spark.createDataFrame(seen, SUBSCRIBERS_SEEN.schema),
        day=night.day.date,
    )
    return accounting


def _store_quarantine(
    night: Night, screened: DataFrame, settled: DataFrame, people: DataFrame
) -> None:
    """A sample of the rows left out, but nothing of who does not take part or objects."""
    sample = quarantine.sample(screened, settled, rows=night.settings.quality.quarantine_rows)
    sample = sample.withColumn("day", F.lit(night.day.date)).persist()
    ids = F.broadcast(sample.select("subscriber_id"))
    out = people.where(~F.col("taking_part")).join(ids, on="subscriber_id", how="left_semi")
    shown = sample.join(F.broadcast(out), on="subscriber_id", how="left_anti")
    night.store.replace(QUARANTINE, objections.without(night, shown), day=night.day.date)
    sample.unpersist()


def _examine_events(night: Night, accepted: DataFrame, accounting: Accounting) -> None:
    """Schema and gaps of the accepted rows, then the batch as a whole."""
    seconds = F.unix_micros("event_time") / F.lit(1e6)
    first, last = accepted.agg(F.min(seconds), F.max(seconds)).first() or (None, None)
    profile = (
        accounting.accepted,
        accounting.rejected_share,
        quality.volume_ratio(night, accounting.accepted),
        night.day.start.timestamp() - first if first else None,
        last - night.day.end.timestamp() if last else None,
    )
    frame = night.spark.createDataFrame([profile], quality.PROFILE)
    gates = quality.profile_expectations(night.settings.quality)
    quality.record(
        night,
        quality.examined(accepted, quality.event_expectations(), subject="accepted events")
        + quality.examined(frame, gates, subject="batch profile"),
    )


def _store_visits(night: Night, accepted: DataFrame, cells: DataFrame) -> None:
    cell_zones = night.of_day(REFERENCE_CELL_ZONES)
    rules = rules_of(night.settings.visits)
    stays = visits.stays(
        accepted,
        cell_zones,
        night.of_day(REFERENCE_CELL_REACH),
        _open_hours(night),
        rules=rules,
        day_start=night.day.start,
        day_end=night.day.end,
    )
    areas = network.sound(night.landing.judged_residents())
    homes = visits.homes(accepted, cells, areas, timezone=night.settings.timezone)
    night.key.make()
    pseudonymous = (
        visits.with_home(stays, homes)
        .transform(visits.with_kind, cell_zones, rules=rules)
        .transform(pseudonyms.pseudonymised, read_key=night.key)
    )
    night.store.replace(
        VISITS, pseudonymous.withColumn("day", F.lit(night.day.date)), day=night.day.date
    )
    stored = night.of_day(VISITS)
    quality.record(
        night, quality.examined(stored, quality.visit_expectations(), subject=VISITS.name)
    )


def _open_hours(night: Night) -> DataFrame:
    known = {
        zone.zone_id: open_intervals(zone.opening_hours, night.day) for zone in stored_zones(night)
    }
    rows = [(zone_id, hours) for zone_id, hours in known.items() if hours is not None]
    return night.spark.createDataFrame(rows, visits.OPEN_HOURS)


def rules_of(chosen: Visits) -> visits.Rules:
    """The rules of the settings, in seconds."""
    return visits.Rules(
        max_gap_s=chosen.max_gap * 60,
        max_reach_s=chosen.max_reach * 60,
        min_share=chosen.min_share,
        min_dwell_s=chosen.min_dwell * 60,
        max_dwell_s=chosen.max_dwell * 60,
        crossings=chosen.crossings,
    )


if __name__ == "__main__":
    sys.exit(run_job(detect_visits, description=__doc__ or ""))
