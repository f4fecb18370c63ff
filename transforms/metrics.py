"""What each subscriber-day adds to each measure, before any bound: presence by cell.

Every function returns one row per pseudonym and cell of the measure: pseudonym, the measure's
key columns, presence (0 to 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.days import LocalDay
from transforms.flows import trips
from transforms.tables import DWELL_BANDS, FIRST_BAND_FROM_MIN


def contributions(visits: DataFrame, *, day: LocalDay, pairs: DataFrame) -> dict[str, DataFrame]:
    """Contributions by measure, `product.measure`.

    visits: `silver.visits` of the day; pairs: origin_zone_id, destination_zone_id, the public
    list of flows.
    """
    by_hour = _presence_by_kind(
        visits.withColumn("hour_start", F.explode(hours_of_stay(day.start))), "hour_start"
    )
    by_day = _presence_by_kind(visits)
    return {
        "zone_hours.visitors": _visitors(by_hour),
        "zone_hours.passers_by": _passers_by(by_hour),
        "zone_days.visitors": _visitors(by_day).select("pseudonym", "zone_id", "presence"),
        "zone_days.visits": visits.where(F.col("kind") == "visit").select(
            "pseudonym", "zone_id", "presence"
        ),
        "zone_days.passers_by": _passers_by(by_day).select("pseudonym", "zone_id", "presence"),
        "zone_dwell.visitors": _visitors(by_day)
        .withColumn("dwell_band", dwell_band(F.col("longest_s")))
        .where(F.col("dwell_band").isNotNull())
        .select("pseudonym", "zone_id", "dwell_band", "presence"),
        "zone_flows.trips": trips(visits, timezone=day.timezone.key).join(
            F.broadcast(pairs), on=["origin_zone_id", "destination_zone_id"], how="left_semi"
        ),
        "zone_catchment.visitors": _visitors(by_day).select(
            "pseudonym", "zone_id", "home_area", "presence"
        ),
    }


def hours_of_stay(day_start: datetime) -> Column:
    """Starts of the hours a stay overlaps: it arrived before the hour's end and left at its
    start or later. Hours are counted from the day's first instant.
    """
    start_s = int(day_start.timestamp())

    def hour_number(instant: str) -> Column:
        return F.floor((F.unix_seconds(instant) - start_s) / 3600).cast("long")

    numbers = F.sequence(hour_number("arrived_at"), hour_number("left_at"))
    return F.transform(numbers, lambda number: F.timestamp_seconds(start_s + number * 3600))


def dwell_band(longest_s: Column) -> Column:
    """Label of the band a dwell in seconds falls in; null below the first and above the last."""
    band = F.when(longest_s < FIRST_BAND_FROM_MIN * 60, F.lit(None))
    for label, upper_min in DWELL_BANDS.items():
        is_last = label == list(DWELL_BANDS)[-1]
        below = longest_s <= upper_min * 60 if is_last else longest_s < upper_min * 60
        band = band.when(below, F.lit(label))
    return band


def _presence_by_kind(stays: DataFrame, *and_by: str) -> DataFrame:
    """Highest presence as a visitor and as a passer-by of each pseudonym, zone and `and_by`."""
    is_visit, is_pass_by = F.col("kind") == "visit", F.col("kind") == "pass_by"
    return stays.groupBy("pseudonym", "zone_id", *and_by).agg(
        F.max(F.when(is_visit, F.col("presence"))).alias("as_visitor"),
        F.max(F.when(is_pass_by, F.col("presence"))).alias("as_passer_by"),
        F.max(F.when(is_visit, F.col("dwell_s"))).alias("longest_s"),
        F.first("home_area").alias("home_area"),
    )


def _visitors(presence: DataFrame) -> DataFrame:
    return presence.where(F.col("as_visitor").isNotNull()).withColumnRenamed(
        "as_visitor", "presence"
    )


def _passers_by(presence: DataFrame) -> DataFrame:
    only_passing = F.col("as_visitor").isNull() & F.col("as_passer_by").isNotNull()
    return presence.where(only_passing).withColumnRenamed("as_passer_by", "presence")


def public_domain(
    *,
    zones: DataFrame,
    hours: DataFrame,
    bands: DataFrame,
    pairs: DataFrame,
    day_parts: DataFrame,
    areas: DataFrame,
) -> Mapping[str, DataFrame]:
    """Every cell of each product, seen or not: a function of public lists alone."""
    return {
        "zone_hours": zones.crossJoin(hours),
        "zone_days": zones,
        "zone_dwell": zones.crossJoin(bands),
        "zone_flows": pairs.crossJoin(day_parts),
        "zone_catchment": zones.crossJoin(areas),
    }
