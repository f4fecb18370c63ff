"""Generalise: accepted events -> stays in zones -> visits, passers-by, residents; home areas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.tables import OUTSIDE_AREA, UNKNOWN_AREA

NIGHT_ENDS_AT_HOUR = 6
OPEN_HOURS = "zone_id string, open array<struct<from: timestamp, to: timestamp>>"
_ENDS = ("from", "to")
_LONG_AGO, _IN_A_LONG_TIME = 0, 2**53


def seconds_between(start: Column, end: Column) -> Column:
    """Seconds from one instant to another, with microseconds, as a double."""
    return (F.unix_micros(end) - F.unix_micros(start)) / F.lit(1_000_000.0)


@dataclass(frozen=True)
class Rules:
    """How stays are told from events. Durations in seconds.

    max_gap_s: the silence that ends a stay; max_reach_s: how far at most a stay reaches into the
    time before its first and after its last sighting; min_share: the least part of what is heard
    from the first to the last sighting that must be in the zone; min_dwell_s, max_dwell_s: the
    shortest and the longest visit; crossings: types of events that happen when a phone changes
    cells.
    """

    max_gap_s: int
    max_reach_s: int
    min_share: float
    min_dwell_s: int
    max_dwell_s: int
    crossings: tuple[str, ...] = ()


def stays(
    events: DataFrame,
    cell_zones: DataFrame,
    cell_reach: DataFrame,
    open_hours: DataFrame,
    *,
    rules: Rules,
    day_start: datetime,
    day_end: datetime,
) -> DataFrame:
    """Where each subscriber stayed, from when to when, and how probably.

    events: subscriber_id, event_time, cell_id, event_type; cell_zones: cell_id, zone_id,
    probability; cell_reach: cell_id, zone_id; open_hours: zone_id, open (from, to), of the zones
    of which it is known when they are open; the local day is [day_start, day_end), UTC.
    -> subscriber_id, zone_id, arrived_at, left_at, dwell_s, presence.

    An event at a cell that tells of a zone is a *sighting* there. One at a cell that only reaches
    the zone says nothing; any other is *elsewhere*. A stay is a maximal run of sightings without
    anything elsewhere and without a silence longer than `max_gap_s` between them: changing to and
    fro between a zone's cells and those around it ends nothing (ping-pong). Runs in which less
    than `min_share` of what was heard are sightings are of people next door.

    The stay begins at its first sighting if that is a crossing, else half-way between it and the
    last event elsewhere, but no more than `max_reach_s` before it: without knowing more, each
    moment of coming is as likely as another. It ends in the same way. Nobody comes before a zone
    opens or stays until after it closes without being sighted then: no stay reaches so far.
    `presence` is the highest probability of its sightings.
    """
    return (
        events.transform(_numbered, max_gap_s=rules.max_gap_s)
        .transform(_heard, pairs=_pairs(cell_zones, cell_reach), crossings=rules.crossings)
        .transform(_runs)
        .where(F.col("sightings") >= F.lit(rules.min_share) * F.col("heard"))
        .join(F.broadcast(open_hours), on="zone_id", how="left")
        .transform(_reaching, rules=rules, day_start=day_start, day_end=day_end)
    )


def _pairs(cell_zones: DataFrame, cell_reach: DataFrame) -> DataFrame:
    """-> cell_id, zone_id, probability (null: tells nothing)."""
    nothing = F.lit(None).cast("double").alias("probability")
    return cell_zones.select("cell_id", "zone_id", "probability").unionByName(
        cell_reach.select("cell_id", "zone_id", nothing)
    )


def _numbered(events: DataFrame, *, max_gap_s: int) -> DataFrame:
    """Events with `position`: consecutive numbers, with one left out at each long silence; and
    with the instants (microseconds) of the events before and after, long ago where there are none
    and in a long time.
    """
    in_order = Window.partitionBy("subscriber_id").orderBy("event_time", "cell_id")
    so_far = in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    at = F.unix_micros("event_time")
    before = F.coalesce(F.lag(at).over(in_order), F.lit(_LONG_AGO))
    after = F.coalesce(F.lead(at).over(in_order), F.lit(_IN_A_LONG_TIME))
    is_break = F.when(at - before > max_gap_s * 1_000_000, F.lit(1)).otherwise(F.lit(0))
    return events.select(
        "subscriber_id",
        "event_time",
        "cell_id",
        "event_type",
        at.alias("at"),
        before.alias("before"),
        after.alias("after"),
        is_break.alias("is_break"),
        F.row_number().over(in_order).alias("number"),
    ).withColumn("position", F.col("number") + F.sum("is_break").over(so_far))


def _heard(events: DataFrame, *, pairs: DataFrame, crossings: tuple[str, ...]) -> DataFrame:
    """One row per event and zone that its cell tells of or reaches, with the instants at which it
    is a sighting, and a sighting that is a crossing.
    """
    seen_at = F.when(F.col("probability").isNotNull(), F.col("at"))
    crosses = F.col("event_type").isin(list(crossings))
    return events.join(F.broadcast(pairs), on="cell_id", how="inner").select(
        "subscriber_id",
        "zone_id",
        "position",
        "before",
        "after",
        "probability",
        seen_at.alias("seen_at"),
        F.when(crosses, seen_at).alias("crossed_at"),
    )


def _runs(heard: DataFrame) -> DataFrame:
    """Gaps and islands: within a run, position and rank among what is heard of the zone keep step.

    -> subscriber_id, zone_id, first, last (sightings), first_crossing, last_crossing, sightings,
    heard (events from the first to the last sighting), before, after (the events round the run),
    presence; runs with a sighting. Instants in microseconds.
    """
    of_zone = Window.partitionBy("subscriber_id", "zone_id").orderBy("position")
    sighted = F.when(F.col("seen_at").isNotNull(), F.col("position"))
    return (
        heard.withColumn("run", F.col("position") - F.row_number().over(of_zone))
        .groupBy("subscriber_id", "zone_id", "run")
        .agg(
            F.min("seen_at").alias("first"),
            F.max("seen_at").alias("last"),
            F.min("crossed_at").alias("first_crossing"),
            F.max("crossed_at").alias("last_crossing"),
            F.count("seen_at").alias("sightings"),
            (F.max(sighted) - F.min(sighted) + 1).alias("heard"),
            F.min("before").alias("before"),
            F.max("after").alias("after"),
            F.max("probability").alias("presence"),
        )
        .where(F.col("sightings") > 0)
    )


def _reaching(
    runs: DataFrame, *, rules: Rules, day_start: datetime, day_end: datetime
) -> DataFrame:
    """Runs as stays that reach into the silence round them, but neither out of the day nor into
    hours in which the zone is closed.
    """
    most = F.lit(rules.max_reach_s * 1_000_000)
    first, last = F.col("first"), F.col("last")
    before = F.least(F.floor((first - F.col("before")) / 2), most)
    after = F.least(F.floor((F.col("after") - last) / 2), most)
    came = F.when(F.col("first_crossing") == first, first).otherwise(first - before)
    went = F.when(F.col("last_crossing") == last, last).otherwise(last + after)
    is_known = F.col("open").isNotNull()
    opens = F.when(is_known, F.coalesce(_open_at(first)["from"], first))
    closes = F.when(is_known, F.coalesce(_open_at(last)["to"] - 1, last))
    start = F.coalesce(opens, F.unix_micros(F.lit(day_start)))
    end = F.coalesce(closes, F.unix_micros(F.lit(day_end)) - 1)
    return runs.select(
        "subscriber_id",
        "zone_id",
        F.timestamp_micros(F.greatest(came, start)).alias("arrived_at"),
        F.timestamp_micros(F.least(went, end)).alias("left_at"),
        "presence",
    ).withColumn("dwell_s", seconds_between(F.col("arrived_at"), F.col("left_at")))


def _open_at(at: Column) -> Column:
    """The opening (from, to; microseconds) that an instant falls into, else null."""
    return F.get(
        F.filter(
            F.transform(
                "open", lambda one: F.struct(*[F.unix_micros(one[n]).alias(n) for n in _ENDS])
            ),
            lambda one: (one["from"] <= at) & (at < one["to"]),
        ),
        F.lit(0),
    )


def homes(events: DataFrame, cells: DataFrame, areas: DataFrame, *, timezone: str) -> DataFrame:
    """The cell with most of a subscriber's events between 00:00 and 06:00 local, and its area.

    events: subscriber_id, event_time, cell_id; cells: cell_id, area; areas: area, those that
    have residents. -> subscriber_id, home_cell, home_area (`outside` when not among `areas`).
    Subscribers without an event in the night have no row: theirs are unknown. Ties go to the
    smallest area.
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
        .agg(F.min(F.struct(-F.col("events"), "area", "cell_id")).alias("most"))
        .select("subscriber_id", "most.area", F.col("most.cell_id").alias("home_cell"))
        .join(F.broadcast(with_residents), on="area", how="left")
        .select(
            "subscriber_id",
            "home_cell",
            F.when(F.col("has_residents"), F.col("area"))
            .otherwise(F.lit(OUTSIDE_AREA))
            .alias("home_area"),
        )
    )


def with_home(stays_of_day: DataFrame, homes_of_day: DataFrame) -> DataFrame:
    """Stays with `home_cell`, null, and `home_area`, `unknown`, where the night was silent."""
    return stays_of_day.join(homes_of_day, on="subscriber_id", how="left").withColumn(
        "home_area", F.coalesce("home_area", F.lit(UNKNOWN_AREA))
    )


def with_kind(stays_of_day: DataFrame, cell_zones: DataFrame, *, rules: Rules) -> DataFrame:
    """Stays with `kind` in place of `home_cell`: `pass_by`, `visit` or `resident`, by their length,
    but all those of a subscriber in a zone are `resident` where he or she

    - spends the night at a cell that tells of the zone (neighbours), or
    - is there, from the first stay to the last, for longer than `max_dwell_s`, at least half of it
      in stays (staff, whose phones are silent or outside now and then).
    """
    of_person = Window.partitionBy("subscriber_id", "zone_id")
    told_at_home = cell_zones.select(
        F.col("cell_id").alias("home_cell"), "zone_id", F.lit(True).alias("lives_there")
    )
    came, went = F.unix_micros("arrived_at"), F.unix_micros("left_at")
    span_us = F.max(went).over(of_person) - F.min(came).over(of_person)
    # In microseconds: sums of seconds would depend on their order.
    inside_us = F.sum(went - came).over(of_person)
    works_there = (span_us > rules.max_dwell_s * 1_000_000) & (inside_us * 2 >= span_us)
    by_length = kind_of(
        F.col("dwell_s"), min_dwell_s=rules.min_dwell_s, max_dwell_s=rules.max_dwell_s
    )
    belongs = F.coalesce("lives_there", F.lit(False)) | works_there
    return (
        stays_of_day.join(F.broadcast(told_at_home), on=["home_cell", "zone_id"], how="left")
        .withColumn("kind", F.when(belongs, F.lit("resident")).otherwise(by_length))
        .drop("home_cell", "lives_there")
    )


def kind_of(dwell_s: Column, *, min_dwell_s: int, max_dwell_s: int) -> Column:
    """`pass_by`, `visit` or `resident` by the length of a stay in seconds."""
    return (
        F.when(dwell_s < min_dwell_s, F.lit("pass_by"))
        .when(dwell_s <= max_dwell_s, F.lit("visit"))
        .when(dwell_s > max_dwell_s, F.lit("resident"))
    )
