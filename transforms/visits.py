"""Generalise: accepted events -> stays in zones -> visits, passers-by, residents; home areas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.packing import Packing
from transforms.tables import OUTSIDE_AREA, UNKNOWN_AREA

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
    subscriber_days: DataFrame,
    cells: DataFrame,
    cell_zones: DataFrame,
    cell_reach: DataFrame,
    open_hours: DataFrame,
    *,
    packing: Packing,
    rules: Rules,
    day_end: datetime,
) -> DataFrame:
    """Where each subscriber stayed, from when to when, and how probably.

    subscriber_days: subscriber_id, events (packed, in order, each once), the rows of a subscriber
    in one partition; cells: cell_id, number; cell_zones: cell_id, zone_id, probability;
    cell_reach: cell_id, zone_id; open_hours: zone_id, open (from, to), of the zones of which it is
    known when they are open; day_end: where the packing's local day ends, UTC.
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
        subscriber_days.transform(
            _heard,
            pairs=_pairs(cells, cell_zones, cell_reach),
            packing=packing,
            crossings=rules.crossings,
        )
        .transform(_runs, max_gap_s=rules.max_gap_s)
        .where(F.col("sightings") >= F.lit(rules.min_share) * F.col("heard"))
        .join(F.broadcast(open_hours), on="zone_id", how="left")
        .transform(_reaching, rules=rules, day_start=packing.day_start, day_end=day_end)
    )


def _pairs(cells: DataFrame, cell_zones: DataFrame, cell_reach: DataFrame) -> DataFrame:
    """-> number (of the cell), zone_id, probability (null: tells nothing)."""
    nothing = F.lit(None).cast("double").alias("probability")
    return (
        cell_zones.select("cell_id", "zone_id", "probability")
        .unionByName(cell_reach.select("cell_id", "zone_id", nothing))
        .join(F.broadcast(cells.select("cell_id", "number")), on="cell_id", how="inner")
        .drop("cell_id")
    )


def _heard(
    subscriber_days: DataFrame,
    *,
    pairs: DataFrame,
    packing: Packing,
    crossings: tuple[str, ...],
) -> DataFrame:
    """One row per event and zone that its cell tells of or reaches: its `position` in the day, when
    it was and when the events before and after it were (microseconds; long ago where there are none
    and in a long time), and the instant of a sighting, and of one that is a crossing.
    """
    event = F.col("event")
    at = packing.instant_us(event)
    seen_at = F.when(F.col("probability").isNotNull(), at)

    def neighbour(steps: int, none: int) -> Column:
        found = F.get("events", F.col("position") + steps)
        return F.coalesce(packing.instant_us(found), F.lit(none))

    return (
        subscriber_days.select("*", F.posexplode("events").alias("position", "event"))
        .withColumn("number", packing.number(event))
        .join(F.broadcast(pairs), on="number", how="inner")
        .select(
            "subscriber_id",
            "zone_id",
            "position",
            at.alias("at"),
            neighbour(-1, _LONG_AGO).alias("before"),
            neighbour(+1, _IN_A_LONG_TIME).alias("after"),
            "probability",
            seen_at.alias("seen_at"),
            F.when(packing.is_of_type(event, crossings), seen_at).alias("crossed_at"),
        )
    )


def _runs(heard: DataFrame, *, max_gap_s: int) -> DataFrame:
    """Gaps and islands: a run goes on while nothing lies between two events that are heard of the
    zone, no other event and no long silence.

    -> subscriber_id, zone_id, first, last (sightings), first_crossing, last_crossing, sightings,
    heard (events from the first to the last sighting), before, after (the events round the run),
    presence; runs with a sighting. Instants in microseconds.
    """
    of_zone = Window.partitionBy("subscriber_id", "zone_id").orderBy("position")
    so_far = of_zone.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    follows = F.lag("position").over(of_zone) == F.col("position") - 1
    is_near = F.col("at") - F.col("before") <= F.lit(max_gap_s * 1_000_000)
    begins = F.when(follows & is_near, F.lit(0)).otherwise(F.lit(1))
    sighted = F.when(F.col("seen_at").isNotNull(), F.col("position"))
    return (
        heard.withColumn("begins", begins)
        .withColumn("run", F.sum("begins").over(so_far))
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


def homes(
    subscriber_days: DataFrame,
    cells: DataFrame,
    areas: DataFrame,
    *,
    packing: Packing,
    night_ends: datetime,
) -> DataFrame:
    """The cell with most of a subscriber's events between 00:00 and 06:00 local, and its area.

    subscriber_days: subscriber_id, events (packed, of the local day), the rows of a subscriber in
    one partition; cells: cell_id, number, area; areas: area, those that have residents;
    night_ends: 06:00 local. -> subscriber_id, home_cell, home_area (`outside` when not among
    `areas`). Subscribers without an event in the night have no row: theirs are unknown. Ties go to
    the smallest area.
    """
    is_of_night = packing.instant_us(F.col("event")) < F.unix_micros(F.lit(night_ends))
    counted = (
        subscriber_days.select("subscriber_id", F.explode("events").alias("event"))
        .where(is_of_night)
        .groupBy("subscriber_id", packing.number(F.col("event")).alias("number"))
        .agg(F.count(F.lit(1)).alias("events"))
        .join(F.broadcast(cells.select("cell_id", "number", "area")), on="number", how="inner")
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
