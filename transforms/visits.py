"""Generalise: accepted events -> stays in zones -> visits, passers-by, residents; home areas."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.tables import OUTSIDE_AREA, UNKNOWN_AREA

NIGHT_ENDS_AT_HOUR = 6


def seconds_between(start: Column, end: Column) -> Column:
    """Seconds from one instant to another, with microseconds, as a double."""
    return (F.unix_micros(end) - F.unix_micros(start)) / F.lit(1_000_000.0)


def kind_of(dwell_s: Column, *, min_dwell_s: int, max_dwell_s: int) -> Column:
    """`pass_by`, `visit` or `resident` by the length of a stay in seconds."""
    return (
        F.when(dwell_s < min_dwell_s, F.lit("pass_by"))
        .when(dwell_s <= max_dwell_s, F.lit("visit"))
        .when(dwell_s > max_dwell_s, F.lit("resident"))
    )


def stays(
    events: DataFrame,
    cell_zones: DataFrame,
    *,
    max_gap_s: int,
    min_dwell_s: int,
    max_dwell_s: int,
) -> DataFrame:
    """Maximal runs of consecutive events whose cells all see a zone.

    events: subscriber_id, event_time, cell_id; cell_zones: cell_id, zone_id, probability.
    -> subscriber_id, zone_id, arrived_at, left_at, dwell_s, presence, kind.
    """
    return (
        events.transform(_numbered, max_gap_s=max_gap_s)
        .transform(_sightings, cell_zones=cell_zones)
        .transform(_runs)
        .withColumn("dwell_s", seconds_between(F.col("arrived_at"), F.col("left_at")))
        .withColumn(
            "kind", kind_of(F.col("dwell_s"), min_dwell_s=min_dwell_s, max_dwell_s=max_dwell_s)
        )
    )


def _numbered(events: DataFrame, *, max_gap_s: int) -> DataFrame:
    """Events with `position`: consecutive numbers, with one left out at each long silence."""
    in_order = Window.partitionBy("subscriber_id").orderBy("event_time", "cell_id")
    so_far = in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    silence_us = F.unix_micros("event_time") - F.unix_micros(F.lag("event_time").over(in_order))
    is_break = F.when(silence_us > max_gap_s * 1_000_000, F.lit(1)).otherwise(F.lit(0))
    return events.withColumn("is_break", is_break).select(
        "subscriber_id",
        "event_time",
        "cell_id",
        (F.row_number().over(in_order) + F.sum("is_break").over(so_far)).alias("position"),
    )


def _sightings(events: DataFrame, *, cell_zones: DataFrame) -> DataFrame:
    """One row per event and zone its cell sees."""
    return events.join(F.broadcast(cell_zones), on="cell_id", how="inner").select(
        "subscriber_id", "zone_id", "position", "event_time", "probability"
    )


def _runs(sightings: DataFrame) -> DataFrame:
    """Gaps and islands: within a run, position and rank among the zone's sightings keep step."""
    of_zone = Window.partitionBy("subscriber_id", "zone_id").orderBy("position")
    return (
        sightings.withColumn("run", F.col("position") - F.row_number().over(of_zone))
        .groupBy("subscriber_id", "zone_id", "run")
        .agg(
            F.min("event_time").alias("arrived_at"),
            F.max("event_time").alias("left_at"),
            F.max("probability").alias("presence"),
        )
        .drop("run")
    )


def home_areas(
    events: DataFrame, cells: DataFrame, areas: DataFrame, *, timezone: str
) -> DataFrame:
    """Area of the cell with most of a subscriber's events between 00:00 and 06:00 local.

    events: subscriber_id, event_time, cell_id; cells: cell_id, area; areas: area, those that
    have residents. -> subscriber_id, home_area (`outside` when not among `areas`). Subscribers
    without an event in the night have no row: they are `unknown`.
    """
    local_hour = F.hour(F.from_utc_timestamp("event_time", timezone))
    counted = (
        events.where(local_hour < NIGHT_ENDS_AT_HOUR)
        .groupBy("subscriber_id", "cell_id")
        .agg(F.count(F.lit(1)).alias("events"))
        .join(F.broadcast(cells.select("cell_id", "area")), on="cell_id", how="inner")
    )
    with_residents = areas.select("area", F.lit(True).alias("has_residents"))
    return (
        counted.groupBy("subscriber_id")
        .agg(F.min(F.struct(-F.col("events"), "area")).alias("most"))
        .select("subscriber_id", F.col("most.area").alias("area"))
        .join(F.broadcast(with_residents), on="area", how="left")
        .select(
            "subscriber_id",
            F.when(F.col("has_residents"), F.col("area"))
            .otherwise(F.lit(OUTSIDE_AREA))
            .alias("home_area"),
        )
    )


def with_home(stays_of_day: DataFrame, homes: DataFrame) -> DataFrame:
    """Stays with `home_area`, `unknown` where the night was silent."""
    return stays_of_day.join(homes, on="subscriber_id", how="left").withColumn(
        "home_area", F.coalesce("home_area", F.lit(UNKNOWN_AREA))
    )
