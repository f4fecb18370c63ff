"""A night is released once: cut short and finished, repeated, restated, started twice."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs import lease
from jobs.run_night import run_night
from jobs.runtime import RESTATE, run_job
from jobs.store import Store
from tests.small_world import landing_of_small_world, small_session
from tests.storage import full_storage
from transforms.disclosure import Release
from transforms.tables import (
    MEASURES,
    NOISY_CELLS,
    PUBLISHED_PRODUCTS,
    RELEASES,
    RUNS,
    VISITS,
    ZONE_HOURS,
    ZONE_WEEKS,
    Table,
)

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parent.parent
DAY = "2025-11-22"
FIRST, SECOND = f"{DAY}-1", f"{DAY}-2"
HALF = "\n".join(
    ["[privacy.split]", *(f'"{one.full_name}" = {{ rho = 0.00625 }}' for one in MEASURES)]
)


@dataclass(frozen=True)
class Site:
    """One installation whose releases cost half the day's cap."""

    root: Path

    def run(self, *options: str) -> int:
        argv = ["--conf", str(self.root / "half.toml"), "--day", DAY, *options]
        return run_job(run_night, description="", flags=RESTATE, argv=argv)

    def table(self, table: Table, version: int | None = None) -> pd.DataFrame:
        path = self.root / table.root / table.path
        return DeltaTable(str(path), version=version).to_pyarrow_table().to_pandas()

    def versions(self, table: Table) -> int:
        return DeltaTable(str(self.root / table.root / table.path)).version()

    def noise(self, release_id: str) -> dict[tuple[object, ...], float]:
        rows = self.table(NOISY_CELLS)
        rows = rows[rows["release_id"] == release_id]
        cells = [tuple(sorted(dict(keys).items())) for keys in rows["keys"]]
        return dict(
            zip(
                zip(rows["product"], rows["measure"], cells, strict=True),
                rows["noisy_devices"],
                strict=True,
            )
        )

    def spent(self) -> dict[str, float]:
        ledger = self.table(RELEASES)
        nightly = ledger[ledger["product"] != "participation"]
        return {k: float(v) for k, v in nightly.groupby("release_id")["rho"].sum().items()}

    def checksums(self) -> dict[str, str]:
        """Of everything published, and of the ledger and the noise."""
        spent = [self.root / "restricted" / table.path for table in (RELEASES, NOISY_CELLS)]
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in (self.root / "published", *spent)
            for path in folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture(scope="module")
def site(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Site:
    root = tmp_path_factory.mktemp("once")
    landing = landing_of_small_world(root / "world", subscribers=300, centres=3, last_day=DAY)
    (root / "half.toml").write_text(
        f'[paths]\nlanding = "{landing}"\nrestricted = "{root}/restricted"\n'
        f'published = "{root}/published"\n{HALF}\n{small_session()}'
    )
    return Site(root)


def test_a_night_cut_short_amid_publishing_is_finished_from_its_noise(
    site: Site,
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patched, ExitStack() as full:

        def publish_until_it_is_full(store: Store, release: Release) -> None:
            if ZONE_WEEKS.table in release.parts:
                full.enter_context(full_storage(spark))
            publish(store, release)

        publish = Store.publish
        patched.setattr(Store, "publish", publish_until_it_is_full)
        assert site.run() == 1
    error = capsys.readouterr().err
    assert error.startswith("error: storage: found a limit to the size of files, expected room")
    assert len(error.splitlines()) == 1
    drawn, visits = site.noise(FIRST), site.versions(VISITS)
    hours = site.versions(ZONE_HOURS.table)
    weeks = site.root / "published" / ZONE_WEEKS.table.path
    assert not DeltaTable.is_deltatable(str(weeks))
    assert site.table(RELEASES)["rows"].isna().any(), "it stands open"

    capsys.readouterr()
    assert site.run() == 0
    steps = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [line.split("  ")[1] for line in steps] == [
        "erase expired",
        "publish products",
        "render report",
    ]
    assert site.noise(FIRST) == drawn
    assert site.spent() == {FIRST: pytest.approx(0.05)}
    assert site.versions(VISITS) == visits, "no event was read again"
    assert site.versions(ZONE_HOURS.table) == hours, "nothing is published twice"
    assert site.table(RUNS)["outcome"].tolist().count("published") == 1
    for product in PUBLISHED_PRODUCTS:
        assert set(site.table(product.table)["release_id"]) == {FIRST}


def test_a_repeated_night_changes_no_byte(site: Site) -> None:
    before = site.checksums()
    assert len(before) > 30
    assert site.run() == 0
    assert site.checksums() == before


def test_a_second_start_is_refused_while_the_first_one_runs(
    site: Site, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    before = site.checksums()
    with lease.held(spark, str(site.root / "restricted"), work=f"run_night {DAY}"):
        assert site.run("--restate") == 3
    error = capsys.readouterr().err
    assert error.startswith(f"error: warehouse: found it held by run_night {DAY} (process ")
    assert site.checksums() == before


def test_a_restatement_supersedes_and_the_first_release_can_still_be_read(site: Site) -> None:
    first = site.table(ZONE_HOURS.table)
    version = site.versions(ZONE_HOURS.table)
    assert site.run("--restate") == 0
    assert site.spent() == {FIRST: pytest.approx(0.05), SECOND: pytest.approx(0.05)}
    ledger = site.table(RELEASES).set_index("release_id")
    assert set(ledger.loc[SECOND, "supersedes"]) == {FIRST}
    assert site.noise(FIRST) != site.noise(SECOND)
    for product in PUBLISHED_PRODUCTS:
        assert set(site.table(product.table)["release_id"]) == {SECOND}
    as_published_first = site.table(ZONE_HOURS.table, version)
    assert set(as_published_first["release_id"]) == {FIRST}
    pd.testing.assert_frame_equal(as_published_first, first)


def test_a_restatement_beyond_the_cap_is_refused(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    before = site.checksums()
    assert site.run("--restate") == 3
    error = capsys.readouterr().err
    assert error.startswith("error: privacy budget for zone_hours.visitors: found rho 0.00625")
    assert "0 of 0.1 left" in error
    assert site.checksums() == before
    assert site.table(RUNS)["outcome"].tolist().count("refused") == 1
    assert list((site.root / "restricted/keys").iterdir()) == []
