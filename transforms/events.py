"""Clean: every event row gets the first outcome that applies, and every row is accounted for.

Outcomes, in the order they are tried: the reasons of `REASONS` with `other_day` between
`implausible_time` and `no_cell`, then why a subscriber is left out; null is accepted.

Rows are looked at one by one only until they are known to be of the day. From there on a row is a
*subscriber-day*: all events of one subscriber, as numbers (`transforms.packing`) in order.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.inputs import blank
from transforms.packing import Packing

OTHER_DAY = "other_day"
NOT_A_SUBSCRIBER = "not_a_subscriber"
DUPLICATE = "duplicate"
OF_THE_ROW = ("no_id", "no_time", "implausible_time", "no_cell", "unknown_cell")
REASONS = (*OF_THE_ROW, NOT_A_SUBSCRIBER, DUPLICATE)


def first_of(**conditions: Column) -> Column:
    """Name of the first condition that is true, else null; a null condition is not true."""
    return F.coalesce(*[F.when(condition, F.lit(name)) for name, condition in conditions.items()])


def screened(events: DataFrame, *, day_start: datetime, day_end: datetime) -> DataFrame:
    """Outcomes that identity and time decide.

    events: subscriber_id, event_time, cell_id, event_type, folder_date (UTC date of arrival); the
    local day is [day_start, day_end), UTC. -> events with `outcome`, null for rows of the day.
    """
    days_apart = F.abs(F.datediff(F.to_date("event_time"), "folder_date"))
    outside = (F.col("event_time") < F.lit(day_start)) | (F.col("event_time") >= F.lit(day_end))
    outcome = first_of(
        no_id=blank(F.col("subscriber_id")),
        no_time=F.col("event_time").isNull(),
        implausible_time=days_apart > 1,
        other_day=outside,
    )
    return events.withColumn("outcome", outcome)


def arrived_late() -> Column:
    """Whether a row arrived on a later UTC day than the one it happened on."""
    return F.to_date("event_time") < F.col("folder_date")


def of_day(screened_events: DataFrame) -> DataFrame:
    """The rows of the day. -> subscriber_id, event_time, cell_id, event_type."""
    return screened_events.where(F.col("outcome").isNull()).drop("outcome", "folder_date")


def placed(events: DataFrame, cells: DataFrame) -> DataFrame:
    """Outcomes that the cell decides.

    events: with cell_id; with or without `outcome`, which comes first; cells: cell_id valid on the
    day, each once, number. -> events with `outcome` and `number` (of the cell, null: none).
    """
    known = F.broadcast(cells.select("cell_id", "number"))
    before = [F.col("outcome")] if "outcome" in events.columns else []
    outcome = first_of(
        no_cell=blank(F.col("cell_id")),
        unknown_cell=F.col("number").isNull(),
    )
    return events.join(known, on="cell_id", how="left").withColumn(
        "outcome", F.coalesce(*before, outcome)
    )


def by_subscriber(placed_events: DataFrame, *, packing: Packing, partitions: int) -> DataFrame:
    """What was heard of each subscriber.

    placed_events: rows of the day, as `placed` has them. -> subscriber_id, outcome (null, or what
    is wrong with the cells of these rows), rows (how many), events (bigint array, in order, each
    once; empty where there is an outcome), repeated (null, or the events that were there already,
    as often as that).

    All events of a subscriber meet here, in one of `partitions`, and stay together from now on.
    """
    event = packing.packed(F.col("event_time"), F.col("number"), F.col("event_type"))
    is_sound, heard = F.col("outcome").isNull(), F.size("in_order")
    return (
        placed_events.select("subscriber_id", "outcome", F.when(is_sound, event).alias("event"))
        .repartition(partitions, "subscriber_id")
        .groupBy("subscriber_id", "outcome")
        .agg(F.count(F.lit(1)).alias("rows"), F.collect_list("event").alias("heard"))
        .withColumn("in_order", F.sort_array("heard"))
        .withColumn("events", F.array_distinct("in_order"))
        .select(
            "subscriber_id",
            "outcome",
            F.when(is_sound, heard).otherwise(F.col("rows")).alias("rows"),
            "events",
            F.when(heard > F.size("events"), F.filter("in_order", _repeats)).alias("repeated"),
        )
    )


def _repeats(event: Column, at: Column) -> Column:
    return (at > 0) & (event == F.get("in_order", at - 1))


def settled(subscriber_days: DataFrame, subscribers: DataFrame) -> DataFrame:
    """Outcomes that the subscriber decides.

    subscriber_days: as `by_subscriber` has them; subscribers: subscriber_id, taking_part, left_out
    (why not), each id once. -> subscriber_days; `repeated` only of subscribers.
    """
    is_subscriber = F.col("taking_part").isNotNull()
    outcome = F.coalesce("outcome", first_of(**{NOT_A_SUBSCRIBER: ~is_subscriber}), "left_out")
    return subscriber_days.join(subscribers, on="subscriber_id", how="left").select(
        "subscriber_id",
        outcome.alias("outcome"),
        "rows",
        "events",
        F.when(is_subscriber, F.col("repeated")).alias("repeated"),
    )


def tallied(settled_days: DataFrame, *, packing: Packing) -> DataFrame:
    """What became of subscribers and their rows. -> outcome, subscribers, rows, repeats, first_us,
    last_us (the first and the last event, microseconds since 1970).

    Rows are those without the repeats, which are apart.
    """
    repeats = F.coalesce(F.size("repeated"), F.lit(0))
    return settled_days.groupBy("outcome").agg(
        F.count(F.lit(1)).alias("subscribers"),
        F.sum(F.col("rows") - repeats).alias("rows"),
        F.sum(repeats).alias("repeats"),
        packing.instant_us(F.min(F.get("events", F.lit(0)))).alias("first_us"),
        packing.instant_us(F.max(F.try_element_at("events", F.lit(-1)))).alias("last_us"),
    )


def accepted(settled_days: DataFrame) -> DataFrame:
    """What counts. -> subscriber_id, events."""
    return settled_days.where(F.col("outcome").isNull()).select("subscriber_id", "events")
