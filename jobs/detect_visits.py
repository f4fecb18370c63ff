"""Events of the day -> `silver.visits`: clean, consent, pseudonyms, stays, home areas."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import ceil

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs import objections, quality
from jobs.frames import local_frame, persisted
from jobs.ingest_reference import stored_zones
from jobs.landing import Events, readable
from jobs.runtime import Night, compiled, run_job
from transforms import consent, events, network, pseudonyms, quarantine, visits
from transforms.days import LocalDay
from transforms.errors import Failed
from transforms.opening import open_intervals
from transforms.packing import MOST_TYPES, Packing, numbered
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

EVENTS_IN_A_PARTITION = 4_000_000
"""Of 8 bytes each where they are packed, and some 30 while they are gathered."""
COMPILED_FROM_BYTES = 8 << 20
"""Of event files: those of fewer take less time than it takes to compile what reads them."""
SAMPLED_BYTES = 32 << 20
"""Of the event files in which faulty rows are looked for, to be shown."""


@dataclass(frozen=True)
class Accounting:
    """What became of every row read; the four parts add up to `rows_in`. `late`: how many of the
    day's rows arrived on a later day.
    """

    other_day: int
    rejected: Mapping[str, int]
    not_taking_part: int
    accepted: int
    late: int
    files: list[tuple[str, int]]

    @property
    def rows_in(self) -> int:
        parts = (self.other_day, sum(self.rejected.values()), self.not_taking_part, self.accepted)
        return sum(parts)

    @property
    def of_day(self) -> int:
        return self.rows_in - self.other_day

    @property
    def rejected_share(self) -> float:
        return sum(self.rejected.values()) / self.of_day if self.of_day else 0.0

    @property
    def late_share(self) -> float:
        return self.late / self.of_day if self.of_day else 0.0

    def __str__(self) -> str:
        late = f", {self.late_share:.1%} of the day's late" if self.late else ""
        return f"{few(self.rows_in)} rows in, {few(self.accepted)} accepted{late}"


def detect_visits(night: Night) -> Accounting:
    """Raises `Failed` for a day without events or below quality, before anything is published."""
    read = night.landing.events(night.day.date)
    if read.folders_missing:
        night.progress.note(f"event folders not there: {', '.join(read.folders_missing)}")
    is_heavy = sum(size for _, size in read.files) >= COMPILED_FROM_BYTES
    with (
        readable("events"),
        compiled(night.spark) if is_heavy else nullcontext(),
        persisted(numbered(night.of_day(REFERENCE_CELLS))) as cells,
    ):
        screened = events.screened(read.rows, day_start=night.day.start, day_end=night.day.end)
        counts = _counted(night, screened)
        packing = Packing(night.day.start, cells=cells.count(), types=counts.types)
        partitions = max(
            night.spark.sparkContext.defaultParallelism,
            ceil(counts.of_day / EVENTS_IN_A_PARTITION),
        )
        people = taking_part(night, night.day)
        settled = (
            events.of_day(screened)
            .transform(events.placed, cells)
            .transform(events.by_subscriber, packing=packing, partitions=partitions)
            .transform(events.settled, people)
        )
        try:
            with persisted(settled):
                tally = events.tallied(settled, packing=packing).collect()
                accounting = _accounted(night, counts, tally, read)
                with persisted(_faulty_rows(night, settled, cells, packing)) as faulty:
                    _store_left_out(night, accounting, tally, faulty, people)
                accepted = events.accepted(settled)
                _examine_events(night, accepted, accounting, tally)
                _store_visits(night, accepted, cells, packing)
        except BaseException:
            night.key.destroy()  # visits that are not whole are nobody's: done again, new key
            raise
    return accounting


@dataclass(frozen=True)
class Counts:
    """Rows by the outcome that identity and time decide (None: of the day), the types of events of
    the day, the most frequent first, and how many of the day's rows arrived on a later one.
    """

    rows: Mapping[str | None, int]
    types: tuple[str, ...]
    late: int

    @property
    def of_day(self) -> int:
        return self.rows.get(None, 0)


def _counted(night: Night, screened: DataFrame) -> Counts:
    """Raises `Failed` for a day without events."""
    is_of_day = F.col("outcome").isNull()
    found = (
        screened.groupBy("outcome", F.when(is_of_day, F.col("event_type")).alias("event_type"))
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.count_if(is_of_day & events.arrived_late()).alias("late"),
        )
        .orderBy(F.desc("rows"), "event_type")
        .limit(MOST_TYPES + len(events.REASONS))
        .collect()
    )
    rows: Counter[str | None] = Counter()
    for row in found:
        rows[row.outcome] += row.rows
    if set(rows) <= {events.OTHER_DAY}:
        raise Failed(
            f"events of {night.day.date}",
            found="none",
            expected="at least one",
            consequence="nothing was published",
        )
    return Counts(
        rows,
        types=tuple(row.event_type for row in found if row.event_type is not None),
        late=sum(row.late for row in found),
    )


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


def _accounted(night: Night, counts: Counts, tally: Sequence[Row], read: Events) -> Accounting:
    """Adds up every outcome."""
    people = Counter({row.outcome: row.rows for row in tally})
    people[events.DUPLICATE] = sum(row.repeats for row in tally)
    if people.total() != counts.of_day:
        raise Failed(
            f"events of {night.day.date}",
            found=f"{counts.of_day} rows when they were counted, {people.total()} afterwards",
            expected="files that stay as they are while they are read",
            consequence="nothing was published",
        )
    outcomes = people + Counter({one: rows for one, rows in counts.rows.items() if one})
    return Accounting(
        other_day=outcomes[events.OTHER_DAY],
        rejected={reason: outcomes[reason] for reason in events.REASONS},
        not_taking_part=sum(outcomes[reason] for reason in consent.LEFT_OUT),
        accepted=outcomes[None],
        late=counts.late,
        files=[*read.files, *night.landing.reference_files(night.day.date)],
    )


def _store_left_out(
    night: Night, accounting: Accounting, tally: Sequence[Row], faulty: DataFrame, people: DataFrame
) -> None:
    """Rows by reason, subscribers by outcome, and a sample of the rows: nothing of who does not
    take part or objects.
    """
    day = night.day.date
    rejected = [(day, reason, rows) for reason, rows in accounting.rejected.items()]
    seen = [
        (day, row.outcome or consent.TAKING_PART, row.subscribers)
        for row in tally
        if row.outcome not in events.OF_THE_ROW
    ]
    ids = F.broadcast(faulty.select("subscriber_id"))
    out = people.where(~F.col("taking_part")).join(ids, on="subscriber_id", how="left_semi")
    shown = faulty.join(F.broadcast(out), on="subscriber_id", how="left_anti")
    night.store.replace_each(
        {
            REJECTED: local_frame(night.spark, rejected, REJECTED.schema),
            SUBSCRIBERS_SEEN: local_frame(night.spark, seen, SUBSCRIBERS_SEEN.schema),
            QUARANTINE: objections.without(night, shown),
        },
        day=day,
    )


def _faulty_rows(night: Night, settled: DataFrame, cells: DataFrame, packing: Packing) -> DataFrame:
    """Some of the rows that are rejected, with their reason."""
    some = night.landing.some_events(night.day.date, most_bytes=SAMPLED_BYTES)
    screened = events.screened(some, day_start=night.day.start, day_end=night.day.end)
    sample = quarantine.sample(
        events.placed(screened, cells),
        settled,
        cells,
        packing=packing,
        rows=night.settings.quality.quarantine_rows,
    )
    return sample.withColumn("day", F.lit(night.day.date))


def _examine_events(
    night: Night, accepted: DataFrame, accounting: Accounting, tally: Sequence[Row]
) -> None:
    """Schema and gaps of the accepted subscriber-days, then the batch as a whole."""
    spans = [(row.first_us, row.last_us) for row in tally if row.outcome is None]
    first, last = (us / 1e6 for us in spans[0]) if spans else (None, None)
    ratio = quality.volume_ratio(night, accounting.accepted)
    profile = (
        accounting.accepted,
        accounting.rejected_share,
        ratio,
        night.day.start.timestamp() - first if first else None,
        last - night.day.end.timestamp() if last else None,
        accounting.late_share,
    )
    told = {
        "accepted": few(accounting.accepted),
        "rejected_share": f"{accounting.rejected_share:.3f}",
        "late_share": f"{accounting.late_share:.3f}",
    } | ({"volume_ratio": f"{ratio:.2f}"} if ratio is not None else {})
    frame = local_frame(night.spark, [profile], quality.PROFILE)
    gates = quality.profile_expectations(night.settings.quality)
    quality.record(
        night,
        quality.examined(accepted, quality.event_expectations(), subject="accepted events")
        + quality.examined(frame, gates, subject="batch profile", told=told),
    )


def _store_visits(night: Night, accepted: DataFrame, cells: DataFrame, packing: Packing) -> None:
    cell_zones = night.of_day(REFERENCE_CELL_ZONES)
    rules = rules_of(night.settings.visits)
    stays = visits.stays(
        accepted,
        cells,
        cell_zones,
        night.of_day(REFERENCE_CELL_REACH),
        _open_hours(night),
        packing=packing,
        rules=rules,
        day_end=night.day.end,
    )
    areas = network.sound(night.landing.judged_residents())
    homes = visits.homes(accepted, cells, areas, packing=packing, night_ends=night.day.night_ends)
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
    return local_frame(night.spark, rows, visits.OPEN_HOURS)


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
