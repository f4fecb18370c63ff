"""Popular times: how busy a zone is by weekday and hour, as people know it from maps.

All of it follows from noisy counts that are published anyway, so it costs no privacy. Counts enter
unclamped, as they were drawn: means of numbers that were cut off at 0 would be too high.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.extrapolation import Z_95, deviations_below, passes_threshold, threshold

WINDOW = timedelta(days=28)
"""So that every weekday counts equally often, once there are as many nights."""


def monday_of(day: date) -> date:
    return day - timedelta(days=day.weekday())


def windows(day: date, published: Collection[date]) -> dict[date, date]:
    """The weeks whose popular times depend on `day`, each with its last published day.

    The four weeks of a week end with that day, so nights may be published in any order: of the same
    nights, the same comes out.
    """
    last_by_week: dict[date, date] = {}
    for one in published:
        week = monday_of(one)
        last_by_week[week] = max(one, last_by_week.get(week, one))
    return {
        week: last for week, last in sorted(last_by_week.items()) if last - WINDOW < day <= last
    }


def popular_times(
    hours: DataFrame, *, weeks: dict[date, date], timezone: str, min_devices: int
) -> DataFrame:
    """Rows of the weeks, one for every zone, weekday and hour.

    hours: day, zone_id, hour_start (UTC), noisy_devices, sigma (devices), no_data; weeks: as
    `windows` has them. -> week, zone_id, weekday (ISO), hour (local), popularity, popularity_low,
    popularity_high, status.

    An hour's popularity is its mean noisy count in percent of the zone's largest. It is shown where
    the mean passes the threshold that every count must pass, with the σ of a mean. The interval
    holds the noise and the sampling of subscribers, relative to the peak as it was measured.
    """
    of_weeks = [
        _of_week(hours, week, last, timezone=timezone, min_devices=min_devices)
        for week, last in weeks.items()
    ]
    return reduce(DataFrame.unionByName, of_weeks)


def _of_week(
    hours: DataFrame, week: date, last: date, *, timezone: str, min_devices: int
) -> DataFrame:
    first = last - WINDOW + timedelta(days=1)
    within = hours.where(F.col("day").between(F.lit(first), F.lit(last)))
    local = F.from_utc_timestamp("hour_start", timezone)
    counted = F.when(~F.col("no_data"), F.lit(1))
    number = F.count(counted)
    means = within.groupBy(
        "zone_id", (F.weekday(local) + 1).alias("weekday"), F.hour(local).alias("hour")
    ).agg(
        number.alias("hours"),
        (F.sum(counted * F.col("noisy_devices")) / number).alias("devices"),
        (F.sqrt(F.sum(counted * F.pow("sigma", F.lit(2)))) / number).alias("sigma"),
    )
    cells = _every_hour(within).join(means, on=["zone_id", "weekday", "hour"], how="left")
    devices, sigma = F.col("devices"), F.col("sigma")
    shown = F.coalesce(passes_threshold(devices, sigma, min_devices=min_devices), F.lit(False))
    peaks = cells.where(shown).groupBy("zone_id").agg(F.max("devices").alias("peak"))
    deviation = F.sqrt(F.pow(sigma, F.lit(2)) + devices / F.col("hours"))
    beyond = (devices - threshold(sigma, min_devices=min_devices)) / deviation
    scaled = cells.join(F.broadcast(peaks), on="zone_id", how="left")
    return scaled.select(
        F.lit(week).alias("week"),
        "zone_id",
        "weekday",
        "hour",
        _index(shown, devices).alias("popularity"),
        _index(shown, devices - deviations_below(beyond) * deviation).alias("popularity_low"),
        _index(shown, devices + Z_95 * deviation).alias("popularity_high"),
        F.when(shown, F.lit("published"))
        .when(F.coalesce("hours", F.lit(0)) > 0, F.lit("suppressed"))
        .otherwise(F.lit("no_data"))
        .alias("status"),
    )


def _every_hour(hours: DataFrame) -> DataFrame:
    """-> zone_id, weekday, hour: all of them."""
    zones = hours.select("zone_id").distinct()
    weekdays, of_day = (F.explode(F.sequence(F.lit(a), F.lit(b))) for a, b in ((1, 7), (0, 23)))
    return zones.withColumn("weekday", weekdays).withColumn("hour", of_day)


def _index(shown: Column, devices: Column) -> Column:
    share = 100 * devices / F.col("peak")
    return F.when(shown, F.least(F.greatest(share, F.lit(0.0)), F.lit(100.0)))
