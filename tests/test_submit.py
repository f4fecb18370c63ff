"""Jobs as their users start them: a process each, and spark-submit onto two executors."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.detect_visits import detect_visits
from jobs.ingest_reference import ingest_reference
from jobs.publish_products import publish_products
from jobs.render_report import render_report
from jobs.runtime import run_job
from tests.small_world import landing_of_small_world
from transforms.tables import NIGHTLY_PRODUCTS, RELEASES, RUNS, TABLES

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parent.parent
SPARK_HOME = Path(pyspark.__file__).resolve().parent
DAY = "2025-11-22"
JOBS = (
    "ingest_decisions",
    "ingest_reference",
    "detect_visits",
    "publish_products",
    "render_report",
    "render_statement",
    "show_budget",
    "run_night",
)


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landing files of a tiny world."""
    out = tmp_path_factory.mktemp("world") / "world"
    return landing_of_small_world(out, subscribers=200, centres=3, last_day=DAY)


@pytest.fixture(scope="module")
def package() -> Path:
    """The zip that executors get."""
    make = ["make", "--silent", "-o", ".venv/.ready", "zip"]
    done = ended(make, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    return PROJECT / "dist/footfall.zip"


def environment() -> dict[str, str]:
    """This one, without what would lead the processes to the project by another way."""
    left_out = ("MAKEFLAGS", "MAKELEVEL", "PYTHONPATH", "SPARK_HOME", "PYSPARK_DRIVER_PYTHON")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"PYSPARK_PYTHON": sys.executable}


def ended(command: Sequence[str | Path], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def gold_rows(published: Path) -> dict[str, int]:
    return {
        product.name: DeltaTable(str(published / product.table.path)).to_pyarrow_table().num_rows
        for product in NIGHTLY_PRODUCTS
    }


# ------------------------------------------------------------------------------ step by step


def test_every_step_of_a_night_runs_alone(
    landing: Path, spark: SparkSession, tmp_path: Path
) -> None:
    """Each finds what the one before it left, and settings that lie beside their own base.

    The first runs in a process of its own, the others in the session of the tests.
    """
    conf = tmp_path / "etc/own.toml"
    conf.parent.mkdir()
    for name in ("base.toml", "spark-local.conf", "log4j2.properties"):
        shutil.copy(PROJECT / "conf" / name, conf.parent)
    conf.write_text(
        '[spark.conf]\n"spark.master" = "local[2]"\n"spark.sql.shuffle.partitions" = "1"\n'
    )
    folders = {"landing": landing, **{n: tmp_path / n for n in ("restricted", "published")}}
    arguments = ["--conf", str(conf), "--day", DAY]
    arguments += [part for name, path in folders.items() for part in (f"--{name}", str(path))]
    key = tmp_path / f"restricted/keys/{DAY}.key"

    done = ended([sys.executable, "-m", "jobs.ingest_decisions", *arguments], cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert "error:" not in done.stderr
    assert run_job(ingest_reference, description="", argv=arguments) == 0
    assert not key.exists()
    assert run_job(detect_visits, description="", argv=arguments) == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not (tmp_path / "published").exists()
    assert run_job(publish_products, description="", argv=arguments) == 0
    assert not key.exists()
    assert all(gold_rows(tmp_path / "published").values())
    assert run_job(render_report, description="", argv=arguments) == 0
    assert DAY in (tmp_path / f"restricted/reports/{DAY}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("job", JOBS)
def test_every_step_explains_itself(job: str) -> None:
    done = ended([sys.executable, "-m", f"jobs.{job}", "--help"], cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert "--conf FILE" in done.stdout
    assert "3 refused" in done.stdout


def test_a_failure_ends_the_process_with_its_code_and_one_line(tmp_path: Path) -> None:
    """The overlay is sound, the base beside it is not: so that base is the one that is read."""
    base = (PROJECT / "conf/base.toml").read_text(encoding="utf-8")
    (tmp_path / "base.toml").write_text(base.replace("max_gap = 60", "max_gap = -60"))
    (tmp_path / "own.toml").write_text('timezone = "Europe/Berlin"\n')
    conf = tmp_path / "own.toml"
    command = [sys.executable, "-m", "jobs.run_night", "--conf", conf, "--day", DAY]
    done = ended(command, cwd=PROJECT)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: settings {conf}: found visits.max_gap: ")


# ----------------------------------------------------------------------------------- the zip


def test_the_zip_holds_the_packages_and_what_they_read(package: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        names = set(archive.namelist())
    for folder in ("jobs", "transforms"):
        expected = {
            f"{folder}/{path.name}"
            for path in (PROJECT / folder).iterdir()
            if path.suffix in (".py", ".j2")
        }
        assert {name for name in names if name.startswith(f"{folder}/")} - {
            f"{folder}/"
        } == expected
    assert {name.split("/")[0] for name in names} == {"jobs", "transforms"}
    program = (
        f"import sys; sys.path.insert(0, {str(package)!r})\n"
        "from transforms import pages\n"
        "assert 'footfall.zip' in pages.__file__, pages.__file__\n"
        "pages.template('report.html.j2')\n"
        "pages.template('statement.html.j2')\n"
    )
    done = ended([sys.executable, "-c", program], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------- no identity leaves a trace


def forms(subscriber_id: str) -> Iterator[bytes]:
    """An identity as it is, and the digests that anybody can undo by trying all numbers."""
    plain = subscriber_id.encode()
    yield plain
    yield hashlib.sha256(plain).hexdigest().encode()
    yield hashlib.md5(plain).hexdigest().encode()


def identities(landing: Path) -> set[str]:
    """Every subscriber of the landing: customers, roamers, who decided."""
    return {
        str(one)
        for folder in ("events", "subscribers", "decisions")
        for file in (landing / folder).rglob("*.parquet")
        for one in pq.read_table(file, columns=["subscriber_id"], partitioning=None)[0].to_pylist()
        if one and str(one).strip()
    }


def content(file: Path) -> bytes:
    """The bytes of a file; of Parquet, which is compressed, its values as well."""
    raw = file.read_bytes()
    if file.suffix != ".parquet":
        return raw.lower()
    return (
        raw + json.dumps(pq.read_table(file, partitioning=None).to_pylist(), default=str).encode()
    )


def traces(ids: Iterable[str], files: Iterable[Path]) -> list[str]:
    """Names of the files in which some form of some identity occurs."""
    needles = [needle for one in ids for needle in forms(one)]
    found = []
    for file in files:
        text = content(file)
        if any(needle in text for needle in needles):
            found.append(file.name)
    return sorted(found)


@dataclass(frozen=True)
class Submitted:
    """A night that spark-submit ran, and everything it left that others may see."""

    done: subprocess.CompletedProcess[str]
    root: Path
    executors: Path

    @property
    def event_log(self) -> list[Path]:
        return [path for path in (self.root / "eventlog").rglob("*") if path.is_file()]

    @property
    def traces(self) -> list[Path]:
        """Event log, output of driver and executors, everything published, the report."""
        folders = [self.root / name for name in ("eventlog", "output", "published", "work/demo")]
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        logs = [path for path in self.executors.rglob("std*") if path.is_file()]
        return files + logs


@pytest.fixture(scope="module")
def submitted(
    landing: Path, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Submitted]:
    """A whole night on two executors in processes of their own, started far from the project.

    Its paths are relative to where it is started: neither Delta nor an executor is there.
    """
    root = tmp_path_factory.mktemp("submitted")
    for name in ("work", "eventlog", "output"):
        (root / name).mkdir()
    spark_conf = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": (root / "eventlog").as_uri(),
        "spark.eventLog.compress": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    }
    command = [
        Path(sys.executable).parent / "spark-submit",
        *("--master", "local-cluster[2,1,2048]"),
        *(part for name, value in spark_conf.items() for part in ("--conf", f"{name}={value}")),
        *("--py-files", package, PROJECT / "jobs/run_night.py"),
        *("--conf", PROJECT / "conf/demo.toml", "--day", DAY),
        *("--landing", os.path.relpath(landing, root / "work")),
        *("--restricted", "../restricted", "--published", "../published"),
    ]
    done = ended(command, cwd=root / "work")
    (root / "output/stdout").write_text(done.stdout)
    (root / "output/stderr").write_text(done.stderr)
    [application] = {part for log in (root / "eventlog").iterdir() for part in _applications(log)}
    executors = SPARK_HOME / "work" / application
    yield Submitted(done, root, executors)
    shutil.rmtree(executors, ignore_errors=True)


def _applications(log: Path) -> list[str]:
    """Id of the application in the name of its event log, `eventlog_v2_app-…` or `app-…`."""
    return [log.name.removeprefix("eventlog_v2_")] if "app-" in log.name else []


def test_spark_submit_publishes_a_night_from_another_folder(submitted: Submitted) -> None:
    done = submitted.done
    assert done.returncode == 0, done.stderr[-4000:]
    assert not [line for line in done.stderr.splitlines() if line.startswith("error:")]
    lines = done.stdout.splitlines()
    assert lines[-2:] == [
        f"restricted: {submitted.root / 'restricted'}",
        f"published: {submitted.root / 'published'}",
    ]
    assert all(gold_rows(submitted.root / "published").values())
    runs = DeltaTable(str(submitted.root / "restricted" / RUNS.path)).to_pyarrow_table()
    assert runs["outcome"].to_pylist() == ["published"]
    ledger = DeltaTable(str(submitted.root / "restricted" / RELEASES.path)).to_pyarrow_table()
    assert DAY in {str(day) for day in ledger["day"].to_pylist()}
    report = submitted.root / f"work/demo/reports/{DAY}.html"
    assert DAY in report.read_text(encoding="utf-8")
    for table in TABLES:
        root = submitted.root / table.root
        assert (root / table.path / "_delta_log").is_dir(), table.name


def test_what_spark_submit_was_given_wins_over_the_profile(submitted: Submitted) -> None:
    """The profile says local[*] and another number of shuffle partitions."""
    events = [json.loads(line) for log in submitted.event_log for line in _lines(log)]
    [properties] = [e["Spark Properties"] for e in events if "Spark Properties" in e]
    given: dict[str, Any] = dict(properties)
    assert given["spark.master"] == "local-cluster[2,1,2048]"
    assert given["spark.sql.shuffle.partitions"] == "2"
    assert given["spark.sql.session.timeZone"] == "UTC"
    hosts = {e["Executor ID"] for e in events if e["Event"] == "SparkListenerExecutorAdded"}
    assert len(hosts) == 2
    assert len(list(submitted.executors.glob("*/stderr"))) == 2


def _lines(log: Path) -> list[str]:
    text = log.read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.startswith("{")]


def test_no_key_is_left_behind(submitted: Submitted) -> None:
    assert list((submitted.root / "restricted/keys").iterdir()) == []


def test_no_identity_is_left_in_anything_that_others_may_see(
    submitted: Submitted, landing: Path
) -> None:
    ids = identities(landing)
    assert len(ids) >= 200
    files = submitted.traces
    names = {file.name for file in files}
    assert {"stdout", "stderr", f"{DAY}.html"} <= names
    assert any("events" in name or "app-" in name for name in names)
    assert sum(name.endswith(".parquet") for name in names) >= len(NIGHTLY_PRODUCTS)
    assert traces(ids, files) == []


def test_the_search_for_identities_finds_each_form_in_each_kind_of_file(
    submitted: Submitted, landing: Path, tmp_path: Path
) -> None:
    ids = sorted(identities(landing))
    plain, sha256, md5 = (form.decode() for form in forms(ids[17]))
    log = tmp_path / "events_planted"
    log.write_bytes(submitted.event_log[0].read_bytes() + f'{{"plan": "{plain}"}}\n'.encode())
    report = tmp_path / "planted.html"
    original = submitted.root / f"work/demo/reports/{DAY}.html"
    page = original.read_text(encoding="utf-8")
    report.write_text(page.replace("</body>", f"<!-- {sha256.upper()} --></body>"))
    gold = next((submitted.root / "published/gold/zone_days").rglob("*.parquet"))
    rows = pq.read_table(gold, partitioning=None)
    planted = rows.append_column("note", pa.array([md5, *[None] * (rows.num_rows - 1)]))
    pq.write_table(planted, tmp_path / "planted.parquet", compression="zstd")
    files = sorted(tmp_path.iterdir())
    assert traces([ids[17]], files) == ["events_planted", "planted.html", "planted.parquet"]
    assert traces([ids[18]], files) == []
