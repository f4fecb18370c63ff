"""Trips between zones: a subscriber-day's visits in order, and what lies between them."""

from __future__ import annotations

from itertools import pairwise

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.tables import DAY_PARTS, ELSEWHERE


def day_part(instant: Column, *, timezone: str) -> Column:
    """Label of the local day part of an instant; night runs over midnight."""
    hour = F.hour(F.from_utc_timestamp(instant, timezone))
    starts = sorted((start, label) for label, start in DAY_PARTS.items())
    part = F.when(hour < starts[0][0], F.lit(starts[-1][1]))
    for (_, label), (until, _) in pairwise(starts):
        part = part.when(hour < until, F.lit(label))
    return part.when(hour >= starts[-1][0], F.lit(starts[-1][1]))


def trips(visits: DataFrame, *, timezone: str) -> DataFrame:
    """Trips of each pseudonym, the same pair and day part once with the larger presence.

    visits: pseudonym, zone_id, arrived_at, left_at, presence, kind (only `visit` counts).
    -> pseudonym, origin_zone_id, destination_zone_id, day_part, presence.
    """
    in_order = Window.partitionBy("pseudonym").orderBy("arrived_at", "zone_id")
    ordered = visits.where(F.col("kind") == "visit").select(
        "pseudonym",
        "zone_id",
        "arrived_at",
        "left_at",
        "presence",
        F.lag("zone_id").over(in_order).alias("before_zone"),
        F.lag("left_at").over(in_order).alias("before_left_at"),
        F.lag("presence").over(in_order).alias("before_presence"),
        F.lead("zone_id").over(in_order).isNull().alias("is_last"),
    )
    arrival = _trip(
        F.coalesce("before_zone", F.lit(ELSEWHERE)),
        F.col("zone_id"),
        at=F.col("arrived_at"),
        presence=F.least("before_presence", "presence"),
    )
    leaving = _trip(
        F.col("zone_id"), F.lit(ELSEWHERE), at=F.col("left_at"), presence=F.col("presence")
    )
    is_arrival = F.col("before_zone").isNull() | (
        (F.col("before_zone") != F.col("zone_id")) & (F.col("arrived_at") > F.col("before_left_at"))
    )
    of_visit = F.array_compact(
        F.array(F.when(is_arrival, arrival), F.when(F.col("is_last"), leaving))
    )
    return (
        ordered.select("pseudonym", F.explode(of_visit).alias("trip"))
        .select("pseudonym", "trip.*")
        .withColumn("day_part", day_part(F.col("at"), timezone=timezone))
        .groupBy("pseudonym", "origin_zone_id", "destination_zone_id", "day_part")
        .agg(F.max("presence").alias("presence"))
    )


def _trip(origin: Column, destination: Column, *, at: Column, presence: Column) -> Column:
    return F.struct(
        origin.alias("origin_zone_id"),
        destination.alias("destination_zone_id"),
        at.alias("at"),
        presence.alias("presence"),
    )
