"""Visits of calendar weeks and months, from the noisy visits of their days.

All of it follows from noisy counts that are published anyway, so it costs no privacy. How many
different people came can't be told: pseudonyms live for a day.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from transforms.extrapolation import Z_95, deviations_below, passes_threshold, threshold
from transforms.popularity import monday_of

Period = Literal["week", "month"]


def this_and_before(day: date, each: Period) -> tuple[date, date]:
    """The first days of the week or month of a day, and of the one before."""
    if each == "week":
        return monday_of(day), monday_of(day) - timedelta(days=7)
    first = day.replace(day=1)
    return first, (first - timedelta(days=1)).replace(day=1)


def visits_of(days: DataFrame, noisy: DataFrame, *, each: Period, min_devices: int) -> DataFrame:
    """Rows of the weeks (by their Monday) or months (by their first) that the days belong to.

    days: day, zone_id, visits, visits_high, status, as in `gold.zone_days`; noisy: day, zone_id,
    visits_devices, visits_sigma. -> the week or month, zone_id, days, visits, visits_low,
    visits_high, status.

    A day that was published counts with its people; one that was suppressed counts with its noisy
    devices, which may be negative, and the others' people per device: a sum of those days alone
    that passed the threshold would be too high. A day without data is not in `days`.

    What noise there is, is of each day anew; who takes part, and how well a zone is seen, is the
    same every day, so that part of the deviation is of the sum, not of its root.
    """
    square = F.lit(2)
    people_per_device = F.col("visits") / F.col("visits_devices")
    noise = people_per_device * F.col("visits_sigma")
    whole = (F.col("visits_high") - F.col("visits")) / Z_95
    shared = F.sqrt(F.greatest(F.pow(whole, square) - F.pow(noise, square), F.lit(0.0)))
    is_shown = F.col("visits").isNotNull()
    summed = (
        days.join(noisy, on=["day", "zone_id"])
        .withColumn("counts", F.col("status") != "no_data")
        .groupBy(F.trunc("day", each).alias(each), "zone_id")
        .agg(
            F.count_if("counts").cast("int").alias("days"),
            F.sum(F.when(F.col("counts"), F.col("visits_devices"))).alias("devices"),
            F.sqrt(F.sum(F.when(F.col("counts"), F.pow("visits_sigma", square)))).alias("sigma"),
            (F.sum("visits") / F.sum(F.when(is_shown, F.col("visits_devices")))).alias("weight"),
            (F.sum(shared) / F.sum("visits")).alias("shared"),
        )
    )
    devices, sigma, weight = F.col("devices"), F.col("sigma"), F.col("weight")
    people = devices * weight
    deviation = F.sqrt(F.pow(weight * sigma, square) + F.pow(F.col("shared") * people, square))
    beyond = (devices - threshold(sigma, min_devices=min_devices)) * weight / deviation
    low = F.greatest(people - deviations_below(beyond) * deviation, F.lit(0.0))
    shown = passes_threshold(devices, sigma, min_devices=min_devices) & weight.isNotNull()
    return summed.select(
        each,
        "zone_id",
        "days",
        F.when(shown, people).alias("visits"),
        F.when(shown, low).alias("visits_low"),
        F.when(shown, people + Z_95 * deviation).alias("visits_high"),
        F.when(F.col("days") == 0, F.lit("no_data"))
        .when(shown, F.lit("published"))
        .otherwise(F.lit("suppressed"))
        .alias("status"),
    )
