"""Who does not take part leaves no trace in any exact measure, whenever they said so and whatever
was killed in between: the sums are those of a world whose operator never saw their phones.
"""

from __future__ import annotations

import random
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import publish_products, releases
from jobs.detect_visits import detect_visits
from jobs.ingest_decisions import ingest_decisions
from jobs.ingest_reference import ingest_reference
from jobs.keys import KeyFile
from jobs.runtime import Night, load_settings, night_of
from tests.small_world import landing_of_small_world, write_decisions

pytestmark = pytest.mark.slow

DAY = date(2026, 11, 23)
NIGHT = datetime(2026, 11, 24, 2, tzinfo=UTC)
QUITTERS = 1_000


class Killed(BaseException):
    """As by kill -9: no handler of an error may go on."""


def site(root: Path, landing: Path, spark: SparkSession) -> Night:
    conf = root / "own.toml"
    conf.write_text(
        f'[paths]\nlanding = "{landing}"\nrestricted = "{root}/restricted"\n'
        f'published = "{root}/published"\n'
    )
    return night_of(load_settings(str(conf)), DAY, spark, now=lambda: NIGHT)


def opt_out(landing: Path, who: list[str], *, at: datetime) -> None:
    write_decisions(
        landing / f"decisions/{at:%d-%H%M}.parquet",
        (
            (f"{at:%H%M}-{number}", one, "opt_out", True, at, at, "web")
            for number, one in enumerate(who)
        ),
    )


def without_events_of(landing: Path, who: list[str], *, to: Path) -> Path:
    shutil.copytree(landing, to)
    left_out = pa.array(who)
    for file in (to / "events").rglob("*.parquet"):
        rows = pq.read_table(file)
        is_out = pc.is_in(rows["subscriber_id"], value_set=left_out)
        pq.write_table(rows.filter(pc.invert(is_out)), file)
    return to


def detected(night: Night) -> None:
    ingest_decisions(night)
    ingest_reference(night)
    detect_visits(night)


def exact_sums(night: Night, monkeypatch: pytest.MonkeyPatch) -> pd.Series[int]:
    """What would be noised: measure, keys, units; no job ever stores it."""
    found: list[pd.DataFrame] = []

    def kept(night: Night, entry: object, counts: DataFrame) -> None:
        if "visitors" in {row.measure for row in counts.select("measure").distinct().collect()}:
            found.append(counts.withColumn("keys", F.to_json("keys")).toPandas())
            raise Killed
        drawn(night, entry, counts)  # type: ignore[arg-type]

    drawn = releases.draw
    with monkeypatch.context() as patched:
        patched.setattr(releases, "draw", kept)
        with pytest.raises(Killed):
            publish_products.publish_products(night)
    names = ["product", "measure", "keys"]
    return found[0].sort_values(names).set_index(names)["units"]


def test_the_sums_are_those_of_a_world_without_their_events(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = landing_of_small_world(
        tmp_path / "world", subscribers=2_500, centres=3, last_day=str(DAY)
    )
    ids = pq.read_table(landing / "subscribers")["subscriber_id"].unique().drop_null().to_pylist()
    quitters = random.Random(7).sample(sorted(ids), QUITTERS)
    in_time, late = quitters[: QUITTERS // 2], quitters[QUITTERS // 2 :]
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    without = without_events_of(landing, quitters, to=tmp_path / "landing without")
    # Ties at the bounds are broken by pseudonym: the same key for both.
    key = KeyFile.of(str(tmp_path / "with/restricted/keys"), DAY)
    key.make()
    (tmp_path / "without/restricted").mkdir()
    shutil.copytree(tmp_path / "with/restricted/keys", tmp_path / "without/restricted/keys")
    (tmp_path / "without/restricted/keys").chmod(0o700)
    monkeypatch.setattr(KeyFile, "make", lambda self: None)
    monkeypatch.setattr(KeyFile, "destroy", lambda self: None)

    opt_out(landing, in_time, at=NIGHT - timedelta(hours=4))
    night = site(tmp_path / "with", landing, spark)
    detected(night)
    opt_out(landing, late, at=NIGHT - timedelta(minutes=4))
    with monkeypatch.context() as patched:

        def killed(*_: object) -> None:
            raise Killed

        patched.setattr(publish_products, "certify", killed)
        with pytest.raises(Killed):
            publish_products.publish_products(night)
    found = exact_sums(night, monkeypatch)

    other = site(tmp_path / "without", without, spark)
    detected(other)
    expected = exact_sums(other, monkeypatch)
    assert expected.sum() > 10_000
    pd.testing.assert_series_equal(found, expected)
