"""Clean: every event row gets the first outcome that applies, and every row is accounted for.

Outcomes, in the order they are tried: the reasons of `REASONS` with `other_day` between
`implausible_time` and `no_cell`, then why a subscriber is left out; null is accepted.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.inputs import blank

OTHER_DAY = "other_day"
DUPLICATE = "duplicate"
REASONS = (
    "no_id",
    "no_time",
    "implausible_time",
    "no_cell",
    "unknown_cell",
    "not_a_subscriber",
    DUPLICATE,
)


def first_of(**conditions: Column) -> Column:
    """Name of the first condition that is true, else null; a null condition is not true."""
    return F.coalesce(*[F.when(condition, F.lit(name)) for name, condition in conditions.items()])


def screened(
    events: DataFrame, cells: DataFrame, *, day_start: datetime, day_end: datetime
) -> DataFrame:
    """Outcomes that one row alone decides.

    events: subscriber_id, event_time, cell_id, event_type, folder_date (UTC date of arrival);
    cells: cell_id valid on the day, each once; the local day is [day_start, day_end), UTC.
    -> events with `outcome`, null for rows that go on to `settled`.
    """
    known = cells.select("cell_id", F.lit(True).alias("cell_known"))
    days_apart = F.abs(F.datediff(F.to_date("event_time"), "folder_date"))
    outside = (F.col("event_time") < F.lit(day_start)) | (F.col("event_time") >= F.lit(day_end))
    outcome = first_of(
        no_id=blank(F.col("subscriber_id")),
        no_time=F.col("event_time").isNull(),
        implausible_time=days_apart > 1,
        other_day=outside,
        no_cell=blank(F.col("cell_id")),
        unknown_cell=F.col("cell_known").isNull(),
    )
    return (
        events.join(F.broadcast(known), on="cell_id", how="left")
        .withColumn("outcome", outcome)
        .drop("cell_known")
    )


def settled(events: DataFrame, subscribers: DataFrame) -> DataFrame:
    """Outcomes that need the subscriber or the subscriber's other events.

    events: subscriber_id, event_time, cell_id, event_type, all that `screened` let through;
    subscribers: subscriber_id, taking_part, left_out (why not), each id once.
    -> subscriber_id, event_time, cell_id, event_type, outcome.
    """
    in_order = Window.partitionBy("subscriber_id").orderBy("event_time", "cell_id", "event_type")
    same = ("event_time", "cell_id", "event_type")
    repeats_previous = F.lit(True)
    for name in same:
        repeats_previous = repeats_previous & F.col(name).eqNullSafe(F.lag(name).over(in_order))
    outcome = first_of(
        not_a_subscriber=F.col("taking_part").isNull(),
        duplicate=repeats_previous,
    )
    return events.join(subscribers, on="subscriber_id", how="left").select(
        "subscriber_id",
        "event_time",
        "cell_id",
        "event_type",
        F.coalesce(outcome, F.col("left_out")).alias("outcome"),
    )


def tallied(settled_events: DataFrame) -> DataFrame:
    """What became of subscribers and their rows. -> outcome, subscribers, rows, repeats

    A subscriber has the outcome of all of his or her rows but the repeats, which are apart.
    """
    repeats = F.col("outcome").eqNullSafe(F.lit(DUPLICATE))
    people = settled_events.groupBy("subscriber_id").agg(
        F.max(F.when(~repeats, F.col("outcome"))).alias("outcome"),
        F.count_if(~repeats).alias("rows"),
        F.count_if(repeats).alias("repeats"),
    )
    return people.groupBy("outcome").agg(
        F.count(F.lit(1)).alias("subscribers"),
        F.sum("rows").alias("rows"),
        F.sum("repeats").alias("repeats"),
    )


def accepted(settled_events: DataFrame) -> DataFrame:
    """The rows that count. -> subscriber_id, event_time, cell_id, event_type."""
    return settled_events.where(F.col("outcome").isNull()).drop("outcome")
