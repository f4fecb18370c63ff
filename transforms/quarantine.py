"""A capped sample of the event rows that were left out, to find out why."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from transforms.events import REASONS


def sample(screened: DataFrame, settled: DataFrame, *, rows: int) -> DataFrame:
    """At most `rows` rows of each reason, the same ones whenever the input is the same.

    screened, settled: as `transforms.events` returns them. -> reason, number, subscriber_id,
    event_time, cell_id, event_type; of `screened` also folder_date, else null.
    """
    at_once, later = (_capped(one, rows) for one in (screened, settled))
    return at_once.unionByName(later, allowMissingColumns=True)


def _capped(outcomes: DataFrame, rows: int) -> DataFrame:
    """The first `rows` rows of each reason by a hash of all they hold, with their `number`."""
    left_out = outcomes.withColumnRenamed("outcome", "reason").where(F.col("reason").isin(*REASONS))
    values = sorted(left_out.columns)
    in_order = Window.partitionBy("reason").orderBy(F.xxhash64(*values), *values)
    return left_out.withColumn("number", F.row_number().over(in_order)).where(
        F.col("number") <= rows
    )
