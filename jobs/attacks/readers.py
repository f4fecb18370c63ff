"""What readers and insiders get out of the store: every version of a release, pseudonyms, ids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import releases
from jobs.attacks.attackers import Floats, Integers
from jobs.attacks.neighbours import Mechanism
from jobs.keys import KeyFile
from jobs.publish_products import derived_release
from jobs.runtime import Night
from transforms import disclosure, network
from transforms.errors import Refused
from transforms.pseudonyms import pseudonymised
from transforms.tables import MEASURES, NIGHTLY_PRODUCTS, NOISY_CELLS, VISITS, Product, Table

Reads = tuple[Integers, Floats]
"""Cells by number, and the value that each read gave."""


def reads_of_lazy_noise(night: Night, mechanism: Mechanism, *, reads: int) -> Reads:
    """What a reader sees of a frame that is noised when it is read: new noise each time."""
    cells = night.spark.range(100, numPartitions=2)
    lazy = disclosure.noised(
        cells.select(
            F.lit("").alias("product"),
            F.lit("").alias("measure"),
            F.create_map(F.lit("cell"), F.col("id").cast("string")).alias("keys"),
            F.lit(mechanism.sigma).alias("sigma"),
            F.lit(0).cast("long").alias("units"),
        )
    ).select(F.col("keys")["cell"].cast("long").alias("cell"), "noisy_devices")
    tables = [lazy.toArrow() for _ in range(reads)]
    return (
        np.concatenate([table["cell"].to_numpy() for table in tables]),
        np.concatenate([table["noisy_devices"].to_numpy() for table in tables]),
    )


def reads_of_release(night: Night, release_id: str) -> Reads:
    """Every value of the release that any version of the noisy cells or of gold still gives.

    Gold is in people. It is turned back into devices by what the stored noise makes of each cell
    now, so that gold made of another draw than the one stored shows as a second one.
    """
    noisy = pd.concat(_noisy_versions(night, release_id))
    release = derived_release(
        night, releases.entry_of(night, release_id), releases.noisy_cells(night, release_id)
    )
    derived = pd.concat(
        one
        for product in NIGHTLY_PRODUCTS
        for one in _cells_of_gold(night, product, release.parts[product.table].rows)
    )
    stored = noisy.drop_duplicates("cell").merge(derived, on="cell", suffixes=("", "_derived"))
    reads = [noisy]
    for gold in _gold_versions(night, release_id):
        both = gold.merge(stored, on="cell", how="left", suffixes=("_gold", ""))
        back = both["value"] * both["value_gold"] / both["value_derived"] * disclosure.UNITS
        # What is shown though the stored noise would withhold it is of another draw for sure.
        reads.append(both[["cell"]].assign(value=np.rint(back.fillna(np.inf)) / disclosure.UNITS))
    every = pd.concat(reads)
    return pd.factorize(every["cell"])[0].astype(np.int64), every["value"].to_numpy(float)


def _noisy_versions(night: Night, release_id: str) -> Iterator[pd.DataFrame]:
    is_its_own = F.col("release_id") == F.lit(release_id)
    cell = F.concat_ws("|", "product", "measure", F.to_json("keys")).alias("cell")
    for frame in _versions(night, NOISY_CELLS, naming=release_id):
        rows = frame.where(is_its_own).select(cell, F.col("noisy_devices").alias("value"))
        yield from _readable(rows)


def _gold_versions(night: Night, release_id: str) -> Iterator[pd.DataFrame]:
    """A frame (cell, value) for each version of each measure."""
    is_its_own = F.col("release_id") == F.lit(release_id)
    for product in NIGHTLY_PRODUCTS:
        for frame in _versions(night, product.table, naming=night.day.date.isoformat()):
            yield from _cells_of_gold(night, product, frame.where(is_its_own))


def _cells_of_gold(night: Night, product: Product, rows: DataFrame) -> Iterator[pd.DataFrame]:
    """A frame (cell, value) of what is shown of each measure, cells named as the noisy ones are."""
    for measure in MEASURES:
        if measure.product == product.name:
            keys = disclosure.keys_map(night.day.date, measure.key, product.table.schema)
            cell = F.concat_ws("|", F.lit(product.name), F.lit(measure.name), F.to_json(keys))
            shown = rows.where(F.col(measure.name).isNotNull())
            yield from _readable(
                shown.select(cell.alias("cell"), F.col(measure.name).alias("value"))
            )


def _versions(night: Night, table: Table, *, naming: str) -> Iterator[DataFrame]:
    """The table now, and after each commit that says `naming` in what it did, or says nothing."""
    path = night.store.path(table)
    history = night.spark.sql(f"DESCRIBE HISTORY delta.`{path}`").collect()
    newest = max(row.version for row in history)
    for row in history:
        did = json.dumps(row.operationParameters or {})
        is_of_it = naming in did or "predicate" not in did
        if row.version == newest or (is_of_it and not row.operation.startswith("CREATE")):
            reader = night.spark.read.format("delta").option("versionAsOf", row.version)
            try:
                yield reader.load(path)
            except (PySparkException, Py4JError):
                continue  # no reader reaches a version whose log is gone


def _readable(rows: DataFrame) -> Iterator[pd.DataFrame]:
    """The rows, or nothing where vacuum has removed their files: nobody can read those."""
    try:
        yield rows.toArrow().to_pandas()
    except (PySparkException, Py4JError):
        return


# --------------------------------------------------------------------------------- pseudonyms


def pseudonyms_of_day(night: Night) -> set[str]:
    return _texts(night.of_day(VISITS).select("pseudonym"))


def pseudonyms_of_other_days(night: Night) -> set[str]:
    visits = night.store.read(VISITS)
    return _texts(visits.where(F.col("day") != F.lit(night.day.date)).select("pseudonym"))


def subscriber_ids(night: Night, *, most: int) -> list[str]:
    return sorted(_texts(_subscribers(night, most=most)))


def plain_hashes(night: Night, *, most: int) -> set[str]:
    """What the pseudonyms would be without a key."""
    return _texts(_subscribers(night, most=most).select(F.sha2("subscriber_id", 256)))


def two_days_of_pseudonyms(night: Night, *, most: int, same_key: bool) -> tuple[set[str], set[str]]:
    """The same ids on two days by the product's own code, under fresh keys, or under one."""
    ids = _subscribers(night, most=most)
    with _fresh_keys(night) as keys:
        one = _texts(ids.transform(pseudonymised, read_key=keys[0]))
        return one, _texts(ids.transform(pseudonymised, read_key=keys[0 if same_key else 1]))


@contextmanager
def _fresh_keys(night: Night) -> Iterator[list[KeyFile]]:
    """Two keys where workers find them, gone afterwards."""
    folder = Path(night.settings.paths.keys_folder) / f"attack-{night.run_id}"
    keys = [KeyFile.of(str(folder), date(1970, 1, day)) for day in (1, 2)]
    try:
        for key in keys:
            key.make()
        yield keys
    finally:
        for key in keys:
            key.destroy()
        if folder.exists():
            folder.rmdir()


def guessable_keys(night: Night, release_id: str) -> Mapping[str, bytes]:
    """Keys that somebody might have used, and the real one if it was left behind."""
    day = night.day.date
    guesses = {
        "empty": b"",
        "zeros": bytes(32),
        "zero digits": b"0" * 32,
        "ones": b"\xff" * 32,
        "release": release_id.encode(),
        "footfall": b"footfall",
        "secret": b"secret",
        "day": day.isoformat().encode(),
        "day digits": f"{day:%Y%m%d}".encode(),
        "day padded": f"{day:%Y%m%d}".encode().ljust(32, b"\0"),
        "timezone": night.settings.timezone.encode(),
    }
    try:
        return guesses | {"left behind": night.key()}
    except Refused:
        return guesses


def _subscribers(night: Night, *, most: int) -> DataFrame:
    rows = network.sound(night.landing.judged_subscribers(night.day.date))
    return rows.select("subscriber_id").dropDuplicates().orderBy("subscriber_id").limit(most)


def _texts(column: DataFrame) -> set[str]:
    return set(column.dropDuplicates().toArrow().column(0).to_pylist())
