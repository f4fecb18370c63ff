"""How a zone's day stands beside its passers-by, the week before, and the other zones.

All of it follows from published numbers and their intervals, so it costs no privacy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import NormalDist

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.extrapolation import Z_95

WEEK = timedelta(days=7)


def days_after(day: date, published: Collection[date]) -> tuple[date, ...]:
    """The days whose comparison depends on `day`: itself, and the one that looks back at it."""
    return (day, day + WEEK) if day + WEEK in published else (day,)


def comparisons(
    days: DataFrame, hours: DataFrame, *, of: Collection[date], zones: int, timezone: str
) -> DataFrame:
    """Rows of the days `of`, one for every zone.

    days: as `gold.zone_days`, with the same weekdays a week before; hours: as `gold.zone_hours`;
    zones: how many there are at most. -> day, zone_id, status and, each with _low and _high,
    capture_rate (%), week_before_index and city_index (100: the same), rank, busiest_hour (local).

    Ratios have the intervals of `_ratio`, as if their two numbers were independent: what both
    share, such as how well the network sees the zone, makes the intervals somewhat too wide. Ranks
    have those of Klein, Wright and Wieczorek (2020, JRSS A 183): with intervals that hold all
    zones' numbers at once, 95 times of 100, those whose interval lies wholly above are above.
    """
    visitors = _Estimate("visitors")
    is_own = F.col("day").isin(*of)
    own = days.where(is_own)
    before = visitors.renamed(days, "before").withColumn("day", F.date_add("day", WEEK.days))
    told = (
        own.join(before, on=["day", "zone_id"], how="left")
        .join(F.broadcast(_means(own, visitors)), on="day", how="left")
        .join(_ranks(own, visitors, zones=zones), on=["day", "zone_id"], how="left")
        .join(_busiest(hours.where(is_own), timezone=timezone), on=["day", "zone_id"], how="left")
    )
    measures = _in_percent(_ratio(visitors, _Estimate("passers_by"))) | {
        f"{index}{end}": 100 * value
        for index, other in (("week_before_index", "before"), ("city_index", "mean"))
        for end, value in _bounded(_ratio(visitors, _Estimate(other))).items()
    }
    for name in ("rank", "busiest_hour"):
        measures |= {f"{name}{end}": F.col(f"{name}{end}").cast("double") for end in _ENDS}
    there = F.col("status") != "no_data"
    shown = {name: F.when(there, value) for name, value in measures.items()}
    some = F.coalesce(*[shown[name] for name in shown if not name.endswith(_ENDS[1:])])
    status = F.when(some.isNotNull(), F.lit("published")).otherwise(F.lit("suppressed"))
    return told.select(
        "day",
        "zone_id",
        *(value.alias(name) for name, value in shown.items()),
        F.when(there, status).otherwise(F.col("status")).alias("status"),
    )


_ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class _Estimate:
    """Three columns: a number and the ends of its interval."""

    name: str

    @property
    def value(self) -> Column:
        return F.col(self.name)

    @property
    def low(self) -> Column:
        return F.col(f"{self.name}_low")

    @property
    def high(self) -> Column:
        return F.col(f"{self.name}_high")

    def renamed(self, frame: DataFrame, name: str) -> DataFrame:
        """-> day, zone_id and the three columns by another name."""
        renamed = [F.col(f"{self.name}{end}").alias(f"{name}{end}") for end in _ENDS]
        return frame.select("day", "zone_id", *renamed)


def _ratio(one: _Estimate, other: _Estimate) -> dict[str, Column]:
    """one ÷ other, its lower and its upper end; null where either is not shown, and an upper end
    where there is none.

    The method of variance estimates recovery on the logarithm: the distance of a ratio's end is the
    root of the squared distances of the ends that make it (Zou and Donner 2008, Statistics in
    Medicine 27). It takes intervals as they are, lopsided ones too.
    """
    ratio = one.value / other.value

    def distance(down: _Estimate, up: _Estimate) -> Column:
        """`down` at its lower end, `up` at its upper one; null: down to nothing."""
        below = F.when(down.low > 0, F.log(down.value / down.low))
        return F.sqrt(F.pow(below, F.lit(2)) + F.pow(F.log(up.high / up.value), F.lit(2)))

    lower = ratio * F.exp(-distance(one, other))
    upper = ratio * F.exp(distance(other, one))
    return {
        "": ratio,
        "_low": F.when(ratio.isNotNull(), F.coalesce(lower, F.lit(0.0))),
        "_high": upper,
    }


def _in_percent(odds: Mapping[str, Column]) -> dict[str, Column]:
    """The capture rate, by visitors ÷ passers-by."""
    rate = {f"capture_rate{end}": 100 * value / (1 + value) for end, value in odds.items()}
    most = F.coalesce(rate["capture_rate_high"], F.lit(100.0))
    return rate | {"capture_rate_high": F.when(odds[""].isNotNull(), most)}


def _bounded(ratio: Mapping[str, Column]) -> dict[str, Column]:
    """Only where it has an upper end."""
    return {end: F.when(ratio["_high"].isNotNull(), value) for end, value in ratio.items()}


def _means(days: DataFrame, visitors: _Estimate) -> DataFrame:
    """The city's average. -> day, mean, mean_low, mean_high.

    Noise and sampling of zones are independent, so the ends of a sum lie at the root of squares.
    """
    number = F.count(visitors.value)

    def off(end: Column) -> Column:
        return F.sqrt(F.sum(F.pow(end - visitors.value, F.lit(2)))) / number

    mean = F.avg(visitors.value)
    return days.groupBy("day").agg(
        mean.alias("mean"),
        F.greatest(mean - off(visitors.low), F.lit(0.0)).alias("mean_low"),
        (mean + off(visitors.high)).alias("mean_high"),
    )


def _ranks(days: DataFrame, visitors: _Estimate, *, zones: int) -> DataFrame:
    """-> day, zone_id, rank, rank_low, rank_high, among the zones that are published."""
    wider = NormalDist().inv_cdf(1 - 0.025 / max(zones, 1)) / Z_95
    known = days.where(visitors.value.isNotNull()).select(
        "day",
        "zone_id",
        visitors.value.alias("number"),
        (visitors.value - wider * (visitors.value - visitors.low)).alias("least"),
        (visitors.value + wider * (visitors.high - visitors.value)).alias("most"),
    )
    others = known.select(
        "day", *(F.col(name).alias(f"other_{name}") for name in known.columns[1:])
    )
    is_another = F.col("zone_id") != F.col("other_zone_id")

    def counted(condition: Column) -> Column:
        return F.count_if(is_another & condition) + 1

    return (
        known.join(F.broadcast(others), on="day")
        .groupBy("day", "zone_id")
        .agg(
            counted(F.col("other_number") > F.col("number")).alias("rank"),
            counted(F.col("other_least") > F.col("most")).alias("rank_low"),
            counted(F.col("other_most") >= F.col("least")).alias("rank_high"),
        )
    )


def _busiest(hours: DataFrame, *, timezone: str) -> DataFrame:
    """-> day, zone_id, busiest_hour, and the first and last hour that may have been it: whose upper
    end reaches the lower end of the busiest.
    """
    known = hours.where(F.col("visitors").isNotNull()).withColumn(
        "hour", F.hour(F.from_utc_timestamp("hour_start", timezone))
    )
    by = ["day", "zone_id"]
    most = known.groupBy(*by).agg(
        F.max_by(F.struct("hour", "visitors_low"), F.struct("visitors", -F.col("hour"))).alias("at")
    )
    may_be = F.col("visitors_high") >= F.col("at.visitors_low")
    return (
        known.join(F.broadcast(most), on=by)
        .where(may_be)
        .groupBy(*by)
        .agg(
            F.first("at.hour").alias("busiest_hour"),
            F.min("hour").alias("busiest_hour_low"),
            F.max("hour").alias("busiest_hour_high"),
        )
    )
