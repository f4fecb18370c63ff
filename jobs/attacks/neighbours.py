"""Many runs of the release on neighbouring inputs: the same people, with and without one.

Sums come from the code that publishes (`disclosure.summed`, `over_domain`), noise from
`disclosure.noised`. Noise of different cells is independent, so one frame holds many runs: each
small world has cells and pseudonyms of its own, and a world's sums are noised many times over.
Exact sums stay in the driver's memory; they are never stored, shown or logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from scipy import sparse

from jobs import releases
from jobs.attacks.attackers import Floats, Integers, membership_scores
from jobs.frames import local_frame, persisted
from jobs.ingest_reference import stored_zones
from jobs.publish_products import public_pairs
from jobs.runtime import Night
from transforms import budget, disclosure, metrics
from transforms.budget import Calibration
from transforms.disclosure import UNITS
from transforms.tables import (
    MEASURES,
    NIGHTLY_PRODUCTS,
    RELEASES,
    VISITS,
    Measure,
)

TARGET = "target"
"""The person who is in one input of two and not in the other."""
_PARTITIONS = 8


@dataclass(frozen=True)
class Mechanism:
    """How one measure is protected: cells kept of a subscriber-day, and the noise over them.

    In a sound mechanism `kept` is the `l0` that the noise is calibrated to.
    """

    calibration: Calibration
    kept: int

    @property
    def measure(self) -> Measure:
        return self.calibration.measure

    @property
    def name(self) -> str:
        return self.measure.full_name

    @property
    def sigma(self) -> float:
        return self.calibration.sigma

    @property
    def worst_cells(self) -> int:
        """Cells that a subscriber-day touches which adds the most."""
        return 1 if self.measure.repeats else self.kept

    def with_half_the_noise(self) -> Mechanism:
        return replace(self, calibration=replace(self.calibration, rho=4 * self.calibration.rho))

    def keeping_one_more(self) -> Mechanism:
        return replace(self, kept=self.kept + 1)


def attacked_mechanisms(night: Night) -> tuple[Mechanism, ...]:
    """The weaker of what the day's releases were made with and what the settings would do now.

    Several releases of a day are read together, as by somebody who has them all: their inverse
    variances add up.
    """
    ledger = night.of_day(RELEASES).where(releases.is_nightly())
    released = {
        f"{row['product']}.{row.measure}": row
        for row in ledger.groupBy("product", "measure")
        .agg(
            F.max("l0").alias("l0"),
            (1 / F.sqrt(F.sum(1 / F.pow("sigma", F.lit(2))))).alias("sigma"),
        )
        .collect()
    }
    mechanisms = []
    for measure in MEASURES:
        now = budget.calibrated(measure, night.settings.privacy.split[measure.full_name])
        then = released.get(measure.full_name)
        l0 = max(now.l0, then.l0) if then else now.l0
        sigma = min(now.sigma, then.sigma) if then else now.sigma
        mechanisms.append(Mechanism(budget.with_noise(measure, l0=l0, sigma=sigma), kept=l0))
    return tuple(mechanisms)


def protected(night: Night, units: Integers, sigma: Floats, *, repeats: int = 1) -> Floats:
    """Independent draws of the real mechanism on exact counts.

    units, sigma: of one shape, sigma in devices. -> the noisy devices, `repeats` rows of it.
    """
    flat, scales = units.ravel(), np.broadcast_to(sigma, units.shape).ravel()
    frame = night.spark.createDataFrame(
        pa.table({"cell": np.arange(len(flat)), "units": flat, "sigma": scales})
    )
    runs = night.spark.range(repeats, numPartitions=1)
    at = (F.col("id") * len(flat) + F.col("cell")).cast("string")
    counts = (
        frame.repartition(_PARTITIONS)
        .crossJoin(F.broadcast(runs))
        .select(
            F.lit("").alias("product"),
            F.lit("").alias("measure"),
            F.create_map(F.lit("at"), at).alias("keys"),
            "sigma",
            "units",
        )
    )
    # One action: the draws of another would be others.
    drawn = disclosure.noised(counts).select(
        F.col("keys")["at"].cast("long").alias("at"), "noisy_devices"
    )
    table = drawn.toArrow()
    noisy = np.empty(repeats * len(flat))
    noisy[table["at"].to_numpy()] = table["noisy_devices"].to_numpy()
    return noisy.reshape(repeats, *units.shape)


# ------------------------------------------------------------------------------ neighbouring inputs


@dataclass(frozen=True)
class Runs:
    """What an attacker with full knowledge sees of each run, in devices, run by cell."""

    present: Floats
    absent: Floats
    known: Floats
    added: Floats
    sigma: Floats

    def membership_scores(self) -> tuple[Floats, Floats]:
        """The worst case's statistic of each run, with and without the target."""
        with_target, without = (
            membership_scores(seen, known=self.known, added=self.added, sigma=self.sigma)
            for seen in (self.present, self.absent)
        )
        return with_target, without


@dataclass(frozen=True)
class Neighbours:
    """Exact sums, in units, world by cell, with and without the target; sigma likewise."""

    present: Integers
    absent: Integers
    sigma: Floats

    def protected(self, night: Night, *, repeats: int) -> Runs:
        both = protected(
            night,
            np.stack([self.present, self.absent]),
            np.stack([self.sigma, self.sigma]),
            repeats=repeats,
        )
        cells = self.present.shape[1]
        return self._runs(both[:, 0].reshape(-1, cells), both[:, 1].reshape(-1, cells), repeats)

    def unprotected(self) -> Runs:
        return self._runs(self.present / UNITS, self.absent / UNITS, 1)

    def _runs(self, present: Floats, absent: Floats, repeats: int) -> Runs:
        return Runs(
            present,
            absent,
            known=np.tile(self.absent / UNITS, (repeats, 1)),
            added=np.tile((self.present - self.absent) / UNITS, (repeats, 1)),
            sigma=np.tile(self.sigma, (repeats, 1)),
        )


@dataclass(frozen=True)
class Crowd:
    """Who goes where in one measure of a small world: (person, cell, presence), cells by number."""

    mechanism: Mechanism
    cells: int
    offers: tuple[tuple[str, int, float], ...]


def worst_crowds(mechanisms: Sequence[Mechanism]) -> list[Crowd]:
    """A target who would add more than is kept, in every measure; and a neighbour beside.

    What the target adds is as long as the bounds let it be: nobody is easier to tell. The
    neighbour adds the same in every world, unless the target's coming changes what is kept.
    """
    crowds = []
    for mechanism in mechanisms:
        offered = mechanism.kept + 2
        is_repeated = mechanism.measure.repeats
        cells = 1 if is_repeated else offered
        target = [(TARGET, 0 if is_repeated else cell, 1.0) for cell in range(offered)]
        neighbour = [("neighbour", cell, 0.5) for cell in range(min(cells, mechanism.kept))]
        crowds.append(Crowd(mechanism, cells, (*target, *neighbour)))
    return crowds


def neighbours(night: Night, crowds: Sequence[Crowd], *, worlds: int) -> Neighbours:
    """The sums that would be published of `worlds` small worlds, before their noise."""
    # The second half of the worlds is the first half again, without the target. One partition:
    # so little is shuffled faster than it is distributed.
    ids = night.spark.range(2 * worlds, numPartitions=1).withColumnRenamed("id", "world")
    frames = [
        _sums(night, crowd, ids, is_in=F.col("world") < worlds).withColumn(
            "cell", F.col("cell") + first
        )
        for crowd, first in zip(crowds, _first_cells(crowds), strict=True)
    ]
    rows = reduce(DataFrame.unionByName, frames).toArrow()
    cells = sum(crowd.cells for crowd in crowds)
    sums = np.zeros((2 * worlds, cells), dtype=np.int64)
    sums[rows["world"].to_numpy(), rows["cell"].to_numpy()] = rows["units"].to_numpy()
    sigma = np.concatenate([np.full(crowd.cells, crowd.mechanism.sigma) for crowd in crowds])
    return Neighbours(sums[:worlds], sums[worlds:], np.tile(sigma, (worlds, 1)))


def _first_cells(crowds: Sequence[Crowd]) -> list[int]:
    return [int(first) for first in np.cumsum([0, *(crowd.cells for crowd in crowds)])[:-1]]


def _sums(night: Night, crowd: Crowd, ids: DataFrame, *, is_in: Column) -> DataFrame:
    """Exact sums of each world; the target is there where `is_in`. -> world, cell, units."""
    mechanism, key = crowd.mechanism, crowd.mechanism.measure.key
    offers = local_frame(
        night.spark, crowd.offers, "person string, cell long, presence double"
    ).coalesce(1)
    contributions = (
        ids.crossJoin(F.broadcast(offers))
        .where((F.col("person") != TARGET) | is_in)
        .select(
            F.concat_ws("-", "person", "world").alias("pseudonym"),
            *_cell_key(mechanism.measure, night),
            "presence",
        )
    )
    cells = night.spark.range(crowd.cells, numPartitions=1).withColumnRenamed("id", "cell")
    domain = ids.crossJoin(F.broadcast(cells)).select(*_cell_key(mechanism.measure, night))
    counts = disclosure.over_domain(
        disclosure.summed(contributions, key=key, l0=mechanism.kept),
        domain,
        mechanism.calibration,
        day=night.day.date,
    )
    name = F.split(F.col("keys")[key[0]], "-")
    return counts.select(
        name[1].cast("long").alias("world"), name[0].cast("long").alias("cell"), "units"
    )


def _cell_key(measure: Measure, night: Night) -> list[Column]:
    """Cell `cell` of world `world` as the measure's key: the first part names it."""
    schema = next(p for p in NIGHTLY_PRODUCTS if p.name == measure.product).table.schema
    first, *others = measure.key
    same = [
        F.lit(night.day.start if isinstance(schema[name].dataType, T.TimestampType) else "x")
        for name in others
    ]
    named = [column.alias(name) for column, name in zip(same, others, strict=True)]
    return [F.concat_ws("-", "cell", "world").alias(first), *named]


# --------------------------------------------------------------------------- subscribers of the day


@dataclass(frozen=True)
class DayContributions:
    """What subscribers of the day add, bounded as for publication: person by cell, in units.

    cells: of each column, the measure's position among the mechanisms and its key as text.
    """

    units: sparse.csr_array
    cells: list[tuple[int, str]]
    sigma: Floats

    def exposure(self) -> Floats:
        """μ² of each person: how far their day could be told from noise, at worst."""
        squared = (self.units.astype(float) / UNITS / self.sigma[None, :]).power(2)
        return np.asarray(squared.sum(axis=1)).ravel()

    def neighbours(self, people: Integers) -> Neighbours:
        """The day with and without each of `people` (a world each), in the cells they touch.

        Rows are filled up to one width with cells in which the target adds nothing.
        """
        width = max(int(self.units[[person]].nnz) for person in people)
        totals = np.asarray(self.units.sum(axis=0)).ravel()
        shape = (len(people), width)
        present, absent = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        sigma = np.full(shape, self.sigma.max())
        for world, person in enumerate(people):
            own = self.units[[person]].tocoo()
            column = own.coords[1]
            present[world, : len(column)] = totals[column]
            absent[world, : len(column)] = totals[column] - own.data
            sigma[world, : len(column)] = self.sigma[column]
        return Neighbours(present, absent, sigma)


def day_contributions(
    night: Night, mechanisms: Sequence[Mechanism], *, people: int
) -> DayContributions:
    """Bounded contributions of up to `people` subscribers of the night's day.

    They are those with the smallest pseudonyms: a keyed hash, so a sample by chance.
    """
    visits = night.of_day(VISITS)
    chosen = visits.select("pseudonym").dropDuplicates().orderBy("pseudonym").limit(people)
    sample = visits.join(F.broadcast(chosen), on="pseudonym", how="left_semi")
    pairs = public_pairs(night, stored_zones(night))
    with persisted(sample):
        offered = metrics.contributions(sample, day=night.day, pairs=pairs)
        rows = reduce(
            DataFrame.unionByName,
            [
                disclosure.bounded(offered[one.name], key=one.measure.key, l0=one.kept).select(
                    F.xxhash64("pseudonym").alias("who"),
                    F.concat_ws("|", F.lit(position), *one.measure.key).alias("cell"),
                    "units",
                )
                for position, one in enumerate(mechanisms)
            ],
        ).toArrow()
    _, person = np.unique(rows["who"].to_numpy(), return_inverse=True)
    names, cell = np.unique(rows["cell"].to_numpy(zero_copy_only=False), return_inverse=True)
    units = sparse.coo_array(
        (rows["units"].to_numpy(), (person, cell)),
        shape=(int(person.max(initial=-1)) + 1, len(names)),
    ).tocsr()  # sums up several visits in one zone
    cells = [(int(name.split("|", 1)[0]), name.split("|", 1)[1]) for name in names]
    sigma = np.array([mechanisms[position].sigma for position, _ in cells])
    return DayContributions(units, cells, sigma)
