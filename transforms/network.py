"""Reference rows: which are left out and why, and when the network was down.

A judgement is a column `fault` that is null or says what is wrong with the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.inputs import blank

LONGEST_RANGE_M = 120_000.0
"""Extended-range GSM reaches 120 km (3GPP TS 45.010); more is a typing error."""


def _first_fault(*faults: tuple[Column, str]) -> Column:
    return F.coalesce(*[F.when(condition, F.lit(text)) for condition, text in faults])


def _not_within(name: str, low: float, high: float) -> Column:
    value = F.col(name)
    return value.isNull() | F.isnan(value) | (value < low) | (value > high)


def _valid_on(day: date, first: str, last: str) -> Column:
    on_day = F.lit(day)
    return (F.col(first).isNull() | (F.col(first) <= on_day)) & (
        F.col(last).isNull() | (F.col(last) >= on_day)
    )


def _with_doubles(frame: DataFrame, *, key: str, newest: str) -> DataFrame:
    """All but the newest of the sound rows of a key get a fault."""
    sound = F.col("fault").isNull()
    tie = F.xxhash64(*frame.columns)
    newest_first = Window.partitionBy(key).orderBy(sound.desc(), F.desc_nulls_last(newest), tie)
    is_older = sound & (F.row_number().over(newest_first) > 1)
    doubled = F.when(is_older, F.lit(f"doubled {key}"))
    return frame.withColumn("fault", F.coalesce("fault", doubled))


def judged_cells(cells: DataFrame, *, day: date) -> DataFrame:
    """Cells valid on `day` (both ends inclusive) with `fault`; the newest of doubled ones stays."""
    fault = _first_fault(
        (blank(F.col("cell_id")), "no cell_id"),
        (_not_within("latitude", -90, 90), "impossible latitude"),
        (_not_within("longitude", -180, 180), "impossible longitude"),
        (_not_within("range_m", 0, LONGEST_RANGE_M) | (F.col("range_m") == 0), "impossible range"),
    )
    return (
        cells.where(_valid_on(day, "valid_from", "valid_to"))
        .withColumn("fault", fault)
        .transform(_with_doubles, key="cell_id", newest="valid_from")
    )


def with_known_indoor_zones(cells: DataFrame, zone_ids: Sequence[str]) -> DataFrame:
    """Cells with `indoor_zone_id` null and `notice` set where the zone is unknown."""
    unknown = F.col("indoor_zone_id").isNotNull() & ~F.col("indoor_zone_id").isin(list(zone_ids))
    return cells.withColumn(
        "notice", F.when(unknown, F.lit("unknown indoor zone, placed by its geometry"))
    ).withColumn("indoor_zone_id", F.when(~unknown, F.col("indoor_zone_id")))


def judged_residents(residents: DataFrame, *, resolution: int) -> DataFrame:
    """Residents by area with `fault`."""
    index = f"^8{resolution:x}[0-9a-f]{{13}}$"
    fault = _first_fault(
        (blank(F.col("area")), "no area"),
        (~F.col("area").rlike(index), f"area is no H3 index of resolution {resolution}"),
        (_not_within("residents", 0, 1e9), "impossible residents"),
    )
    return residents.withColumn("fault", fault).transform(
        _with_doubles, key="area", newest="residents"
    )


def judged_subscribers(subscribers: DataFrame, *, day: date) -> DataFrame:
    """Subscribers of `day` (both ends inclusive) with `fault`; the newest of doubled ones stays."""
    return (
        subscribers.where(_valid_on(day, "since", "until") | _ends_early())
        .transform(judged_contracts)
        .transform(_with_doubles, key="subscriber_id", newest="since")
    )


def judged_contracts(subscribers: DataFrame) -> DataFrame:
    """Subscribers of whatever day with `fault`; a person may have several rows."""
    fault = _first_fault(
        (blank(F.col("subscriber_id")), "no subscriber_id"), (_ends_early(), "until before since")
    )
    return subscribers.withColumn("fault", fault)


def _ends_early() -> Column:
    return F.col("until") < F.col("since")


def judged_outages(outages: DataFrame) -> DataFrame:
    """Outages with `fault`."""
    fault = _first_fault(
        (blank(F.col("cell_id")), "no cell_id"),
        (F.col("from").isNull() | F.col("to").isNull(), "no time"),
        (F.col("to") <= F.col("from"), "ends before it starts"),
    )
    return outages.withColumn("fault", fault)


def sound(judged: DataFrame) -> DataFrame:
    """Rows without a fault."""
    return judged.where(F.col("fault").isNull()).drop("fault")


def faults_by_reason(judged: DataFrame) -> DataFrame:
    """-> fault (null: sound), rows."""
    return judged.groupBy("fault").agg(F.count(F.lit(1)).alias("rows"))


def down_cell_hours(outages: DataFrame, hours: Iterable[datetime]) -> DataFrame:
    """Cells whose outages together cover a whole hour. -> cell_id, hour_start.

    outages: cell_id, from, to (UTC), in any order, overlapping or touching.
    """
    in_order = Window.partitionBy("cell_id").orderBy("from")
    before = in_order.rowsBetween(Window.unboundedPreceding, -1)
    starts_anew = F.col("from") > F.max("to").over(before)
    starts = F.array(*[F.lit(hour) for hour in hours])
    return (
        outages.withColumn("starts_anew", F.coalesce(starts_anew, F.lit(True)).cast("int"))
        .withColumn("stretch", F.sum("starts_anew").over(in_order))
        .groupBy("cell_id", "stretch")
        .agg(F.min("from").alias("from"), F.max("to").alias("to"))
        .withColumn("hour_start", F.explode(starts))
        .where(
            (F.col("from") <= F.col("hour_start"))
            & (F.col("to") >= F.col("hour_start") + F.expr("INTERVAL 1 HOUR"))
        )
        .select("cell_id", "hour_start")
        .dropDuplicates()
    )


def zone_hours_without_data(
    zones: DataFrame, cell_zones: DataFrame, outages: DataFrame, hours: Sequence[datetime]
) -> DataFrame:
    """Zone-hours in which every cell that sees the zone was down, or that no cell sees.

    Decided from the outage list and the reference alone, never from events.
    zones: zone_id; cell_zones: cell_id, zone_id. -> zone_id, hour_start.
    """
    seeing = cell_zones.groupBy("zone_id").agg(F.count(F.lit(1)).alias("cells"))
    down = (
        cell_zones.join(down_cell_hours(outages, hours), on="cell_id", how="inner")
        .groupBy("zone_id", "hour_start")
        .agg(F.count(F.lit(1)).alias("cells_down"))
    )
    all_hours = F.explode(F.array(*[F.lit(hour) for hour in hours])).alias("hour_start")
    return (
        zones.select("zone_id", all_hours)
        .join(seeing, on="zone_id", how="left")
        .join(down, on=["zone_id", "hour_start"], how="left")
        .where(F.coalesce("cells_down", F.lit(0)) >= F.coalesce("cells", F.lit(0)))
        .select("zone_id", "hour_start")
    )


def zone_days_without_data(hours_without_data: DataFrame, *, hours_of_day: int) -> DataFrame:
    """Zones for which at least half the day's hours have no data. -> zone_id."""
    return (
        hours_without_data.groupBy("zone_id")
        .agg(F.count(F.lit(1)).alias("hours"))
        .where(F.col("hours") * 2 >= hours_of_day)
        .select("zone_id")
    )
