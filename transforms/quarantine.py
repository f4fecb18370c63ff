"""A capped sample of the event rows that were left out, to find out why."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.events import DUPLICATE, NOT_A_SUBSCRIBER, REASONS
from transforms.packing import Packing


def sample(
    placed: DataFrame, settled: DataFrame, cells: DataFrame, *, packing: Packing, rows: int
) -> DataFrame:
    """At most `rows` rows of each reason, the same ones whenever the input is the same.

    placed: rows as `transforms.events` returns them, screened before; settled: its subscriber-days;
    cells: cell_id, number. -> reason, number, subscriber_id, event_time, cell_id, event_type; of
    `placed` also folder_date, else null.
    """
    at_once = placed.drop("number").withColumnRenamed("outcome", "reason")
    is_strange = F.col("outcome") == F.lit(NOT_A_SUBSCRIBER)
    later = (
        _events_of(settled.where(is_strange), F.col("events"), rows, reason=NOT_A_SUBSCRIBER)
        .unionByName(_events_of(settled, F.col("repeated"), rows, reason=DUPLICATE))
        .select(
            "reason",
            "subscriber_id",
            F.timestamp_micros(packing.instant_us(F.col("event"))).alias("event_time"),
            packing.number(F.col("event")).alias("number"),
            packing.event_type(F.col("event")).alias("event_type"),
        )
        .join(F.broadcast(cells.select("cell_id", "number")), on="number", how="inner")
        .drop("number")
    )
    return _capped(at_once, rows).unionByName(_capped(later, rows), allowMissingColumns=True)


def _events_of(days: DataFrame, events: Column, most: int, *, reason: str) -> DataFrame:
    """-> reason, subscriber_id, event; of each subscriber no more than are looked for in all."""
    first = F.slice(events, F.lit(1), F.lit(most))
    return days.select(
        F.lit(reason).alias("reason"), "subscriber_id", F.explode(first).alias("event")
    )


def _capped(left_out: DataFrame, rows: int) -> DataFrame:
    """The first `rows` rows of each reason by a hash of all they hold, with their `number`."""
    faulty = left_out.where(F.col("reason").isin(*REASONS))
    values = sorted(faulty.columns)
    in_order = Window.partitionBy("reason").orderBy(F.xxhash64(*values), *values)
    return faulty.withColumn("number", F.row_number().over(in_order)).where(F.col("number") <= rows)
