"""Aggregate and protect: bound each subscriber-day, sum, add calibrated noise, once.

The unit of privacy is one subscriber's whole day. Sums are integers in `UNITS` per visitor;
the noise is the discrete Gaussian of OpenDP (Canonne, Kamath and Steinke 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from transforms.budget import Calibration
from transforms.tables import Table

UNITS = 64
"""Integer units of one visitor: presence is rounded half up to 1/64."""

MECHANISM = "discrete gaussian (OpenDP)"

_NOISY = T.StructType(
    [
        T.StructField("product", T.StringType(), False),
        T.StructField("measure", T.StringType(), False),
        T.StructField("keys", T.MapType(T.StringType(), T.StringType(), False), False),
        T.StructField("noisy_devices", T.DoubleType(), False),
        T.StructField("sigma", T.DoubleType(), False),
    ]
)


def units(presence: Column) -> Column:
    """Presence (0 to 1) in whole units, half up, at least one and at most `UNITS`."""
    rounded = F.floor(presence * UNITS + F.lit(0.5)).cast("long")
    return F.least(F.greatest(rounded, F.lit(1)), F.lit(UNITS)).cast("long")


def bounded(contributions: DataFrame, *, key: tuple[str, ...], l0: int) -> DataFrame:
    """At most `l0` contributions of each pseudonym: the highest, ties by a keyed hash.

    contributions: pseudonym, the key columns, presence. -> pseudonym, the key columns, units.
    The choice looks at one subscriber-day alone. The pseudonym is itself a keyed hash, so a hash
    that starts from it is one, too.
    """
    cell = [F.col(name).cast("string") for name in key]
    tie = F.sha2(F.concat_ws("\x1f", "pseudonym", *cell), 256)
    highest_first = Window.partitionBy("pseudonym").orderBy(F.desc("units"), "tie")
    return (
        contributions.withColumn("units", units(F.col("presence")))
        .withColumn("tie", tie)
        .withColumn("rank", F.row_number().over(highest_first))
        .where(F.col("rank") <= l0)
        .select("pseudonym", *key, "units")
    )


def summed(contributions: DataFrame, *, key: tuple[str, ...], l0: int) -> DataFrame:
    """Exact sums of bounded contributions: never to be stored, shown or logged.

    -> the key columns, units.
    """
    kept = contributions.transform(bounded, key=key, l0=l0)
    return kept.groupBy(*key).agg(F.sum("units").alias("units"))


def over_domain(
    sums: DataFrame, domain: DataFrame, calibration: Calibration, *, day: date
) -> DataFrame:
    """Exact sums over the whole public domain, zeros too: never to be stored, shown or logged.

    sums: the key columns, units; domain: the key columns, every cell once.
    -> product, measure, keys, sigma, units.
    """
    measure = calibration.measure
    cells = domain.select(*measure.key).join(sums, on=list(measure.key), how="left")
    return cells.select(
        F.lit(measure.product).alias("product"),
        F.lit(measure.name).alias("measure"),
        keys_map(day, measure.key, domain.schema).alias("keys"),
        F.lit(calibration.sigma).alias("sigma"),
        F.coalesce("units", F.lit(0)).alias("units"),
    )


def keys_map(day: date, key: tuple[str, ...], schema: T.StructType) -> Column:
    """The cell as a map of strings, instants as `2026-11-21T09:00:00Z`."""
    pairs = [F.lit("day"), F.lit(day.isoformat())]
    for name in key:
        is_instant = isinstance(schema[name].dataType, T.TimestampType)
        text = F.date_format(name, "yyyy-MM-dd'T'HH:mm:ss'Z'") if is_instant else F.col(name)
        pairs += [F.lit(name), text]
    return F.create_map(*pairs)


def noised(counts: DataFrame) -> DataFrame:
    """Counts with discrete Gaussian noise. -> product, measure, keys, noisy_devices, sigma.

    A frame is drawn anew at every action, and the average of a few draws is the truth: write the
    result once and read it from there.
    """
    tasks = counts.sparkSession.sparkContext.defaultParallelism
    columns = counts.select("product", "measure", "keys", "sigma", "units")
    # A task starts Python anew, which takes longer than drawing for ten thousand cells.
    return columns.coalesce(tasks).mapInArrow(_draw, _NOISY)


def _draw(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        noisy: list[float] = [0.0] * batch.num_rows
        sigmas = batch.column("sigma")
        for sigma in pc.unique(sigmas).to_pylist():
            rows = pc.indices_nonzero(pc.equal(sigmas, sigma)).to_pylist()
            exact = batch.column("units").take(pa.array(rows, pa.int64())).to_pylist()
            for row, value in zip(rows, _gaussian(sigma)(exact), strict=True):
                noisy[row] = value / UNITS
        yield pa.RecordBatch.from_arrays(
            [
                batch.column("product"),
                batch.column("measure"),
                batch.column("keys"),
                pa.array(noisy, pa.float64()),
                sigmas,
            ],
            schema=pa.schema(
                [
                    ("product", pa.string()),
                    ("measure", pa.string()),
                    ("keys", batch.schema.field("keys").type),
                    ("noisy_devices", pa.float64()),
                    ("sigma", pa.float64()),
                ]
            ),
        )


@lru_cache(maxsize=32)
def _gaussian(sigma: float):  # type: ignore[no-untyped-def]  # OpenDP's type is its own
    """OpenDP's mechanism on integer vectors with scale `sigma` visitors."""
    import opendp.prelude as dp  # here, since the workers need it and no one else

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float)
    return dp.m.make_gaussian(*space, scale=sigma * UNITS)


def proven_rho(calibration: Calibration) -> float:
    """ρ by OpenDP's own privacy map: an upper bound that must agree with the ledger."""
    return float(_gaussian(calibration.sigma).map(d_in=calibration.l2 * UNITS))


@dataclass(frozen=True)
class Part:
    """Rows of one published table, and the days, weeks or months whose rows they take the place of;
    none: of all rows.
    """

    rows: DataFrame
    dates: tuple[date, ...] = ()


@dataclass(frozen=True)
class Release:
    """What may be published of nights: the only thing that published tables accept.

    Its rows derive from noisy cells that are already stored (`extrapolation.release`), or from
    what was published of them (`rollups.release`, `deliveries.delivery`).
    """

    release_id: str
    published_at: datetime
    parts: Mapping[Table, Part]

    def replaces(self, table: Table) -> dict[str, tuple[date, ...]]:
        """Which rows of a table the release's take the place of."""
        return dict.fromkeys(table.partitioned_by, self.parts[table].dates)
