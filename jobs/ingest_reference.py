"""Cells and zones in the landing -> `reference.*` of the day, with P(zone | cell).

Judges the other reference inputs (residents, subscribers, outages), too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.frames import local_frame, persisted
from jobs.landing import readable
from jobs.runtime import Night, run_job
from transforms import geography, network
from transforms.errors import Failed
from transforms.opening import open_intervals
from transforms.tables import (
    REFERENCE_CELL_REACH,
    REFERENCE_CELL_ZONES,
    REFERENCE_CELLS,
    REFERENCE_ZONES,
)
from transforms.wording import few, shown

_NAMED_AT_MOST = 5


def ingest_reference(night: Night) -> str:
    """Reads, judges and stores the reference; raises `Failed` when too much of it is faulty."""
    zones = delivered_zones(night)
    with persisted(_judged_cells(night, zones)) as judged:
        _examine_cells(night, judged)
        _examine_people_and_outages(night)
        with (
            persisted(_sound_cells(night, judged)) as cells,
            persisted(_cell_zones(night, cells, zones)) as pairs,
        ):
            return _store(night, zones, cells, pairs)


def _store(
    night: Night, zones: Sequence[geography.Zone], cells: DataFrame, pairs: DataFrame
) -> str:
    telling = pairs.where(F.col("probability").isNotNull())
    tables = {
        REFERENCE_ZONES: _zone_rows(night, zones),
        REFERENCE_CELLS: cells,
        REFERENCE_CELL_ZONES: telling,
        REFERENCE_CELL_REACH: pairs.where(F.col("probability").isNull()),
    }
    by_zone = telling.groupBy("zone_id").count().collect()
    seen = {row.zone_id: row["count"] for row in by_zone}
    night.store.replace_each(tables, day=night.day.date)
    _name_unseen(night, sorted({zone.zone_id for zone in zones} - seen.keys()))
    return f"{len(zones)} zones, {cells.count():,} cells, {sum(seen.values()):,} pairs"


def _cell_zones(night: Night, cells: DataFrame, zones: Sequence[geography.Zone]) -> DataFrame:
    place = night.settings.place
    return geography.cell_zones(
        cells,
        zones,
        indoor_zone_ids=_indoor_zone_ids(cells),
        resolution=place.h3_resolution,
        zone_attraction=place.zone_attraction,
        min_presence=place.min_presence,
    ).withColumn("day", F.lit(night.day.date))


def _indoor_zone_ids(cells: DataFrame) -> list[str]:
    """The zones that have an indoor cell."""
    indoor = cells.where(F.col("indoor_zone_id").isNotNull()).select("indoor_zone_id").distinct()
    return [row.indoor_zone_id for row in indoor.collect()]


def delivered_zones(night: Night) -> list[geography.Zone]:
    """The sound ones. Raises `Failed` for none, too many faulty ones, or what is no GeoJSON."""
    files = night.landing.texts("zones", suffix=".geojson")
    try:
        zones, faults, seen = geography.zones_from_geojson(files)
    except geography.NotGeoJson as error:
        raise Failed(
            "zones",
            found=str(error),
            expected="RFC 7946 GeoJSON",
            consequence="no event was read",
        ) from None
    if faults:
        named = "; ".join(f"{fault.subject}: {fault.reason}" for fault in faults[:_NAMED_AT_MOST])
        night.progress.note(f"zones left out: {len(faults)} of {seen} ({named}{_more(faults)})")
    must_be_mostly_sound(night, "zones", bad=len(faults), rows=seen)
    _name_unclear_hours(night, zones)
    if not zones:
        raise Failed(
            "zones", found="none", expected="at least one", consequence="no event was read"
        )
    return zones


def _name_unclear_hours(night: Night, zones: Sequence[geography.Zone]) -> None:
    unclear = [
        f"{zone.zone_id} {shown(zone.opening_hours)}"
        for zone in zones
        if zone.opening_hours and open_intervals(zone.opening_hours, night.day) is None
    ]
    if unclear:
        named = ", ".join(unclear[:_NAMED_AT_MOST])
        night.progress.note(
            f"opening hours nobody understands, taken as unknown: {len(unclear)} "
            f"({named}{_more(unclear)})"
        )


def _more(items: Sequence[object]) -> str:
    return "; …" if len(items) > _NAMED_AT_MOST else ""


def _judged_cells(night: Night, zones: Sequence[geography.Zone]) -> DataFrame:
    zone_ids = [zone.zone_id for zone in zones]
    with readable("cells"):
        judged = night.landing.judged_cells(night.day.date)
        return judged.transform(network.with_known_indoor_zones, zone_ids)


def _examine_cells(night: Night, judged: DataFrame) -> None:
    with readable("cells"):
        tell_faults(night, judged, "cells", name="cell_id")
        _tell_notices(night, judged)


def _sound_cells(night: Night, judged: DataFrame) -> DataFrame:
    """Cells of the day with their area."""
    resolution = night.settings.people.catchment_resolution
    area = geography.area(F.col("latitude"), F.col("longitude"), resolution=resolution)
    return network.sound(judged).withColumns({"area": area, "day": F.lit(night.day.date)})


def _tell_notices(night: Night, judged: DataFrame) -> None:
    noticed = judged.where(F.col("notice").isNotNull())
    count = noticed.count()
    if count:
        names = [shown(r.cell_id) for r in noticed.limit(_NAMED_AT_MOST).collect()]
        night.progress.note(
            f"cells of an unknown indoor zone, placed by their geometry: {count} "
            f"({', '.join(names)})"
        )


def tell_faults(night: Night, judged: DataFrame, subject: str, *, name: str | None) -> int:
    """Counts faulty rows by reason, names some, and stops the night when they are too many.

    Without a `name` the rows are of people: none is named, and small counts stay vague.
    -> how many are sound
    """
    reasons = {r.fault: r.rows for r in network.faults_by_reason(judged).collect()}
    rows = sum(reasons.values())
    bad = {reason: count for reason, count in reasons.items() if reason is not None}
    told = few if name is None else str
    if bad:
        parts = [f"{reason}: {told(count)}" for reason, count in sorted(bad.items())]
        if name is not None:
            faulty = judged.where(F.col("fault").isNotNull()).orderBy(name)
            some = [shown(r[name]) for r in faulty.limit(_NAMED_AT_MOST).collect()]
            parts.append(f"among them {', '.join(some)}")
        night.progress.note(
            f"{subject} left out: {told(sum(bad.values()))} of {told(rows)} ({'; '.join(parts)})"
        )
    must_be_mostly_sound(night, subject, bad=sum(bad.values()), rows=rows, told=told)
    return reasons.get(None, 0)


def _examine_people_and_outages(night: Night) -> None:
    """Judges the inputs that later steps read from the landing themselves."""
    judged = {
        "residents": (night.landing.judged_residents(), "area"),
        "subscribers": (night.landing.judged_subscribers(night.day.date), None),
        "outages": (night.landing.judged_outages(), "cell_id"),
    }
    for subject, (frame, name) in judged.items():
        with readable(subject):
            sound = tell_faults(night, frame, subject, name=name)
        if subject != "outages" and not sound:
            raise Failed(
                subject,
                found="no sound row",
                expected="at least one",
                consequence="no event was read",
            )


def must_be_mostly_sound(
    night: Night, subject: str, *, bad: int, rows: int, told: Callable[[int], str] = str
) -> None:
    """Raises `Failed` above the limit of the settings; a single bad row never stops a night."""
    limit = night.settings.place.max_bad_reference
    if bad > 1 and bad > limit * rows:
        raise Failed(
            subject,
            found=f"{told(bad)} faulty of {told(rows)} rows",
            expected=f"at most {limit:.0%} (place.max_bad_reference)",
            consequence="nothing was published",
        )


def _zone_rows(night: Night, zones: Sequence[geography.Zone]) -> DataFrame:
    rows = [
        (
            night.day.date,
            zone.zone_id,
            zone.name,
            zone.centre_id,
            zone.centre_name,
            zone.kind,
            zone.opening_hours,
            zone.attraction,
            bytearray(zone.wkb),
        )
        for zone in zones
    ]
    return local_frame(night.spark, rows, REFERENCE_ZONES.schema)


def stored_zones(night: Night) -> list[geography.Zone]:
    """The zones of the night's day as `ingest_reference` stored them, in the order of their ids."""
    zones = night.store.rows(REFERENCE_ZONES, day=night.day.date)
    return [
        geography.Zone(
            row.zone_id,
            row.name,
            row.centre_id,
            row.centre_name,
            row.kind,
            row.opening_hours,
            row.attraction,
            bytes(row.geometry),
        )
        for row in sorted(zones, key=lambda row: str(row.zone_id))
    ]


def unseen_zones(night: Night) -> list[str]:
    """Ids of the stored zones that no cell sees: nothing will ever be counted there."""
    pairs = night.of_day(REFERENCE_CELL_ZONES)
    seen = {row.zone_id for row in pairs.select("zone_id").distinct().collect()}
    return [zone.zone_id for zone in stored_zones(night) if zone.zone_id not in seen]


def _name_unseen(night: Night, unseen: Sequence[str]) -> None:
    if unseen:
        night.progress.note(
            f"zones that no cell sees (no data): {len(unseen)} "
            f"({', '.join(unseen[:_NAMED_AT_MOST])}{_more(unseen)})"
        )


if __name__ == "__main__":
    sys.exit(run_job(ingest_reference, description=__doc__ or ""))
