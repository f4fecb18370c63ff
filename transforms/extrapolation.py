"""From noisy devices to people: weights, intervals, status, and the rows that are published.

Everything here is post-processing of noisy counts and public lists: it costs no budget.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from transforms.budget import THRESHOLD_SIGMAS
from transforms.disclosure import Part, Release
from transforms.settings import Visibility
from transforms.tables import (
    DWELL_BANDS,
    ELSEWHERE,
    METHOD_VERSION,
    NIGHTLY_PRODUCTS,
    ZONE_CATCHMENT,
    ZONE_DAYS,
    ZONE_DWELL,
    ZONE_FLOWS,
    ZONE_HOURS,
    Product,
)

Z_95 = 1.959963984540054
_RESAMPLES = 2_000
LEAST_PARTICIPATION = 0.1


@dataclass(frozen=True)
class Weight:
    """People per participating device, and the relative variance of that figure."""

    people_per_device: float
    relative_variance: float = 0.0


def overall_weight(*, residents: float, participants: float, variance: float) -> Weight:
    """residents ÷ participants over all areas; `participants` is noisy, raised to at least 1."""
    used = max(participants, 1.0)
    return Weight(residents / used, variance / used**2)


def area_weights(residents: DataFrame, participants: DataFrame, overall: Weight) -> DataFrame:
    """Each area's own weight, as far as it is known to differ from that of all areas.

    residents: area, residents; participants: area, noisy_devices, sigma.
    -> home_area, people_per_device, relative_variance.

    With d the relative difference of how many take part in an area from what is usual, v its
    variance by noise and chance, and m areas: d counts where d² > 2 ln(m) v, which even the largest
    of m differences hardly ever is by noise and chance alone (universal threshold: Donoho and
    Johnstone, 1994), and of it the share 1 - v / d² (James and Stein, 1961). Weights go by the
    inverse: those of many small areas, each with the noise it happened to get, would be too large
    on average. For the same reason no area counts for less than `LEAST_PARTICIPATION` of what is
    usual. All weights are then scaled alike, so that the participants of the areas stand for as
    many people as they did under the overall weight (calibration to a known total: Deville and
    Särndal, 1992): where a few areas take part much less, the many others are not seen to take part
    a little more.
    """
    expected = F.col("residents") / F.lit(overall.people_per_device)
    difference = F.col("noisy_devices") / expected - 1
    variance = (F.pow("sigma", F.lit(2)) + expected) / F.pow(expected, F.lit(2))
    kept = _kept(difference, variance, beyond=F.col("threshold"))
    participation = F.greatest(1 + kept * difference, F.lit(LEAST_PARTICIPATION))
    known = residents.where(F.col("residents") > 0).join(participants, on="area", how="inner")
    threshold = F.greatest(F.lit(1.0), 2 * F.log(F.count(F.lit(1)))).alias("threshold")
    areas = known.crossJoin(F.broadcast(known.agg(threshold))).select(
        F.col("area").alias("home_area"),
        "noisy_devices",
        (1 / participation).alias("relative"),
        (kept * variance / F.pow(participation, F.lit(2))).alias("relative_variance"),
    )
    devices, stood_for = F.sum("noisy_devices"), F.sum(F.col("noisy_devices") * F.col("relative"))
    ratio = F.when((devices > 0) & (stood_for > 0), devices / stood_for).otherwise(F.lit(1.0))
    return areas.crossJoin(F.broadcast(areas.agg(ratio.alias("ratio")))).select(
        "home_area",
        (F.lit(overall.people_per_device) * F.col("relative") * F.col("ratio")).alias(
            "people_per_device"
        ),
        "relative_variance",
    )


def origins(noisy_cells: DataFrame) -> DataFrame:
    """Where visitors come from. -> zone_id, home_area, noisy_devices, sigma."""
    return by_cell(noisy_cells, product=ZONE_CATCHMENT).select(
        "zone_id",
        "home_area",
        F.col("visitors_devices").alias("noisy_devices"),
        F.col("visitors_sigma").alias("sigma"),
    )


def zone_weights(from_areas: DataFrame, area_weights: DataFrame, overall: Weight) -> DataFrame:
    """Each zone's own weight, by the areas its visitors come from.

    from_areas: as `origins` has it; area_weights: as above, areas without one have the overall.
    -> zone_id, zone_people_per_device, zone_relative_variance.

    What an area's weight differs from the overall one counts as much as the area among all noisy
    devices of the zone; as for areas, the part that noise explains is left out.
    """
    own = F.coalesce("people_per_device", F.lit(overall.people_per_device))
    excess = own / F.lit(overall.people_per_device) - 1
    noise = F.pow("sigma", F.lit(2))
    by_zone = (
        from_areas.join(F.broadcast(area_weights), on="home_area", how="left")
        .groupBy("zone_id")
        .agg(
            F.sum("noisy_devices").alias("devices"),
            F.sum(noise).alias("noise"),
            F.sum(F.col("noisy_devices") * excess).alias("excess"),
            F.sum(noise * F.pow(excess, F.lit(2))).alias("excess_noise"),
        )
    )
    is_known = F.col("devices") > F.lit(THRESHOLD_SIGMAS) * F.sqrt("noise")
    difference = F.when(is_known, F.col("excess") / F.col("devices")).otherwise(F.lit(0.0))
    variance = F.col("excess_noise") / F.pow("devices", F.lit(2))
    kept = F.when(is_known, _kept(difference, variance)).otherwise(F.lit(0.0))
    return by_zone.select(
        "zone_id",
        (F.lit(overall.people_per_device) * (1 + kept * difference)).alias(
            "zone_people_per_device"
        ),
        (F.lit(overall.relative_variance) + kept * F.coalesce(variance, F.lit(0.0))).alias(
            "zone_relative_variance"
        ),
    )


def _kept(difference: Column, variance: Column, *, beyond: Column | None = None) -> Column:
    """The share of a difference that its variance does not explain, 0 to 1; none of one whose
    square is not above `beyond` (1 or more) variances.
    """
    square = F.pow(difference, F.lit(2))
    least = variance if beyond is None else beyond * variance
    return F.when(square > least, 1 - variance / square).otherwise(F.lit(0.0))


def standard_deviation(
    devices: Column, sigma: Column, weight: Column, relative_variance: Column
) -> Column:
    """Of the people a noisy count of devices stands for.

    Three independent parts: the noise, w²σ²; who of the people is a participant that was seen
    (binomial sampling with share 1/w), w(w − 1)n; what is not known of w itself, (wn)² times its
    relative variance: shares, and where phones are.
    """
    noise = F.pow(weight * sigma, 2)
    sampling = weight * F.greatest(weight - 1, F.lit(0.0)) * devices
    share = F.pow(weight * devices, 2) * relative_variance
    return F.sqrt(noise + sampling + share)


def dwell_median(
    devices: list[float], sigma: float, *, seed: int
) -> tuple[float, float, float] | None:
    """Median and 95 % interval, in minutes, of noisy band counts; linear within a band.

    devices: noisy devices by band in the order of `DWELL_BANDS`. The interval comes from
    resampling the noise around the noisy counts. None when no band holds anything.
    """
    middle = _median_of(np.asarray([devices]))
    if np.isnan(middle[0]):
        return None
    draws = np.random.default_rng(seed).normal(devices, sigma, (_RESAMPLES, len(devices)))
    medians = _median_of(draws)
    low, high = np.nanpercentile(medians, [2.5, 97.5])
    return float(middle[0]), float(min(low, middle[0])), float(max(high, middle[0]))


def _median_of(counts: np.ndarray) -> np.ndarray:
    """Median of each row of band counts; negative counts are empty bands, NaN when all are."""
    uppers = np.array(list(DWELL_BANDS.values()), dtype=float)
    lowers = np.array([float(label.split("-")[0]) for label in DWELL_BANDS])
    filled = np.clip(counts, 0.0, None)
    cumulated = filled.cumsum(axis=1)
    half = cumulated[:, -1:] / 2
    band = (cumulated >= half).argmax(axis=1)
    row = np.arange(len(filled))
    inside = filled[row, band]
    before = cumulated[row, band] - inside
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (half[:, 0] - before) / inside
    medians: np.ndarray = lowers[band] + share * (uppers - lowers)[band]
    return np.where(cumulated[:, -1] > 0, medians, np.nan)


@dataclass(frozen=True)
class Evidence:
    """What a release is made of: noisy cells, and public or noisy lists.

    noisy_cells: product, measure, keys, noisy_devices, sigma, of one release;
    hours_without_data: zone_id, hour_start; zones_without_data: zone_id; told_indoors: ids of the
    zones that indoor cells tell of; area_weights: home_area, people_per_device, relative_variance;
    zone_weights: zone_id, zone_people_per_device, zone_relative_variance.
    """

    noisy_cells: DataFrame
    hours_without_data: DataFrame
    zones_without_data: DataFrame
    told_indoors: frozenset[str]
    weight: Weight
    area_weights: DataFrame
    zone_weights: DataFrame
    visibility: Visibility
    min_devices: int


def release(evidence: Evidence, *, release_id: str, day: date, published_at: datetime) -> Release:
    """The rows of every nightly product."""
    parts = {
        product.table: Part(
            _rows(product, evidence).transform(of_release, release_id, published_at), (day,)
        )
        for product in NIGHTLY_PRODUCTS
    }
    return Release(release_id, published_at, parts)


def of_release(rows: DataFrame, release_id: str, published_at: datetime) -> DataFrame:
    """Rows with the columns that say which release they belong to."""
    return rows.withColumns(
        {
            "release_id": F.lit(release_id),
            "method_version": F.lit(METHOD_VERSION),
            "published_at": F.lit(published_at),
        }
    )


def _rows(product: Product, evidence: Evidence) -> DataFrame:
    cells = (
        evidence.noisy_cells.transform(by_cell, product=product)
        .transform(_without_data, product=product, evidence=evidence)
        .transform(_weighted, product=product, evidence=evidence)
        .transform(_told, product=product, evidence=evidence)
    )
    for measure in product.measures:
        cells = cells.transform(_people, product=product, measure=measure, evidence=evidence)
    some = F.coalesce(*[F.col(measure) for measure in product.measures]).isNotNull()
    status = (
        F.when(F.col("no_data"), F.lit("no_data"))
        .when(some, F.lit("published"))
        .when(~some, F.lit("suppressed"))
    )
    cells = cells.withColumn("status", status)
    return cells.transform(_with_dwell_median, evidence) if product is ZONE_DAYS else cells


def by_cell(noisy_cells: DataFrame, *, product: Product) -> DataFrame:
    """A row per cell: typed keys, `<measure>_devices` and `<measure>_sigma`."""
    keys = [
        F.col("keys")[name].cast(product.table.schema[name].dataType).alias(name)
        for name in product.table.key
    ]
    of_measure = [
        F.max(F.when(F.col("measure") == measure, F.col(column))).alias(f"{measure}_{suffix}")
        for measure in product.measures
        for column, suffix in (("noisy_devices", "devices"), ("sigma", "sigma"))
    ]
    return (
        noisy_cells.where(F.col("product") == product.name)
        .select(*keys, "measure", "noisy_devices", "sigma")
        .groupBy(*product.table.key)
        .agg(*of_measure)
    )


def _without_data(cells: DataFrame, *, product: Product, evidence: Evidence) -> DataFrame:
    """Cells with `no_data`: by zone and hour, by zone and day, or by either end of a flow."""
    if product is ZONE_HOURS:
        return _flagged(cells, evidence.hours_without_data, ("zone_id", "hour_start"))
    if product is ZONE_FLOWS:
        ends = [
            evidence.zones_without_data.withColumnRenamed("zone_id", end)
            for end in ("origin_zone_id", "destination_zone_id")
        ]
        by_origin = _flagged(cells, ends[0], ("origin_zone_id",)).withColumnRenamed(
            "no_data", "no_data_at_origin"
        )
        by_both = _flagged(by_origin, ends[1], ("destination_zone_id",))
        either = F.col("no_data") | F.col("no_data_at_origin")
        return by_both.withColumn("no_data", either).drop("no_data_at_origin")
    return _flagged(cells, evidence.zones_without_data, ("zone_id",))


def _flagged(cells: DataFrame, without_data: DataFrame, by: tuple[str, ...]) -> DataFrame:
    flags = without_data.select(*by, F.lit(True).alias("no_data"))
    return cells.join(F.broadcast(flags), on=list(by), how="left").withColumn(
        "no_data", F.coalesce("no_data", F.lit(False))
    )


def _weighted(cells: DataFrame, *, product: Product, evidence: Evidence) -> DataFrame:
    """Cells with people_per_device and relative_variance: of their area where they have one, else
    of their zone; of a flow's destination, or its origin where that is elsewhere.
    """
    overall = {
        "people_per_device": F.lit(evidence.weight.people_per_device),
        "relative_variance": F.lit(evidence.weight.relative_variance),
    }
    if product is ZONE_CATCHMENT:
        own = cells.join(F.broadcast(evidence.area_weights), on="home_area", how="left")
        return own.withColumns({name: F.coalesce(name, all_) for name, all_ in overall.items()})
    weights = evidence.zone_weights.withColumnRenamed("zone_id", "of_zone")
    own = (
        cells.withColumn("of_zone", _zone_of(product))
        .join(F.broadcast(weights), on="of_zone", how="left")
        .drop("of_zone")
    )
    return own.withColumns(
        {name: F.coalesce(f"zone_{name}", all_) for name, all_ in overall.items()}
    )


def _zone_of(product: Product) -> Column:
    if product is not ZONE_FLOWS:
        return F.col("zone_id")
    ends_elsewhere = F.col("destination_zone_id") == F.lit(ELSEWHERE)
    return F.when(ends_elsewhere, F.col("origin_zone_id")).otherwise(F.col("destination_zone_id"))


def _told(cells: DataFrame, *, product: Product, evidence: Evidence) -> DataFrame:
    """Cells with `is_told_indoors`: whether indoor cells tell of their zone, or of both ends."""
    ends = ("origin_zone_id", "destination_zone_id") if product is ZONE_FLOWS else ("zone_id",)
    told = [F.col(end).isin(*sorted(evidence.told_indoors), ELSEWHERE) for end in ends]
    return cells.withColumn("is_told_indoors", reduce(Column.__and__, told))


def threshold(sigma: Column, *, min_devices: int) -> Column:
    """Noisy devices that a cell needs to be shown; the same rule as `budget.threshold`."""
    return F.greatest(F.lit(float(min_devices)), F.lit(THRESHOLD_SIGMAS) * sigma)


def passes_threshold(devices: Column, sigma: Column, *, min_devices: int) -> Column:
    """Looks at the noisy count only."""
    return devices >= threshold(sigma, min_devices=min_devices)


def _people(cells: DataFrame, *, product: Product, measure: str, evidence: Evidence) -> DataFrame:
    """Cells with the measure in people, and its interval, where it is shown."""
    devices, sigma = F.col(f"{measure}_devices"), F.col(f"{measure}_sigma")
    sight = _of_sight(evidence.visibility, f"{product.name}.{measure}")
    weight = F.col("people_per_device") / sight("seen")
    unsure = F.col("relative_variance") + F.pow(sight("spread"), F.lit(2))
    shown = ~F.col("no_data") & passes_threshold(devices, sigma, min_devices=evidence.min_devices)
    people = F.greatest(devices, F.lit(0.0)) * weight
    deviation = standard_deviation(F.greatest(devices, F.lit(0.0)), sigma, weight, unsure)
    beyond = (devices - threshold(sigma, min_devices=evidence.min_devices)) * weight / deviation
    low = people - deviations_below(beyond) * deviation
    return cells.withColumns(
        {
            measure: F.when(shown, people),
            f"{measure}_low": F.when(shown, F.greatest(low, F.lit(0.0))),
            f"{measure}_high": F.when(shown, people + Z_95 * deviation),
        }
    )


def deviations_below(beyond: Column) -> Column:
    """How many standard deviations a published number may be too high, for a 95 % interval.

    beyond: by how many it is above the threshold. Close to the threshold those numbers are
    published whose noise happened to be high, and most of all cells are empty; what is left of a
    number there is anything down to nothing. For a normal number cut off at the threshold the
    equal-tailed bound d solves Q(d) / Q(d - beyond) = 0.025, Q the upper tail (Lee, Sun, Sun and
    Taylor 2016, Annals of Statistics 44); this is above it by 0.03 to 0.3 everywhere.
    """
    lucky = F.lit(math.log(40)) / F.greatest(beyond, F.lit(1e-9))
    return F.sqrt(F.lit(Z_95**2) + lucky * lucky)


def _of_sight(visibility: Visibility, measure: str) -> Callable[[str], Column]:
    """`seen` or `spread` of a measure, by how a cell's zone is told."""

    def of(name: str) -> Column:
        indoors = F.lit(getattr(visibility.indoors[measure], name))
        outdoors = F.lit(getattr(visibility.outdoors[measure], name))
        return F.when(F.col("is_told_indoors"), indoors).otherwise(outdoors)

    return of


def _with_dwell_median(days: DataFrame, evidence: Evidence) -> DataFrame:
    """zone_days with `dwell_median_min` and its interval, where the visitors are published."""
    bands = (
        evidence.noisy_cells.transform(by_cell, product=ZONE_DWELL)
        .groupBy("day", "zone_id")
        .agg(
            F.map_from_entries(F.collect_list(F.struct("dwell_band", "visitors_devices"))).alias(
                "devices"
            ),
            F.max("visitors_sigma").alias("sigma"),
        )
    )
    median = _median_udf("zone_id", "devices", "sigma")
    shown = F.col("visitors").isNotNull()
    unsure = evidence.visibility.dwell_median_min
    margin = Z_95 * F.when(F.col("is_told_indoors"), unsure.indoors).otherwise(unsure.outdoors)
    middle = F.col("median.middle")

    def end(name: str, sign: int) -> Column:
        """Noise and the method's own error are independent."""
        there = middle + sign * F.sqrt(F.pow(F.col(name) - middle, F.lit(2)) + F.pow(margin, 2))
        return F.when(middle.isNotNull(), F.greatest(there, F.lit(0.0)))

    return (
        days.join(bands, on=["day", "zone_id"], how="left")
        .withColumn("median", F.when(shown, median))
        .withColumns(
            {
                "dwell_median_min": middle,
                "dwell_median_min_low": end("median.low", -1),
                "dwell_median_min_high": end("median.high", 1),
            }
        )
    )


@F.udf(T.StructType([T.StructField(name, T.DoubleType()) for name in ("middle", "low", "high")]))
def _median_udf(
    zone_id: str, devices: Mapping[str, float] | None, sigma: float | None
) -> tuple[float, float, float] | None:
    if devices is None or sigma is None:
        return None
    in_order = [devices[label] for label in DWELL_BANDS]
    return dwell_median(in_order, sigma, seed=zlib.crc32(zone_id.encode()))
