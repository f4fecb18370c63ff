"""Jobs as their users start them: a process each, and the zip for spark-submit."""

from __future__ import annotations

import runpy
import shutil
import stat
import sys
import zipfile
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.detect_visits import detect_visits
from jobs.ingest_reference import ingest_reference
from jobs.publish_products import publish_products
from jobs.render_report import render_report
from jobs.runtime import run_job
from tests.small_world import landing_of_small_world
from tests.submitted_night import DAY, PROJECT, ended, gold_rows, package

pytestmark = pytest.mark.slow

JOBS = (
    "ingest_decisions",
    "ingest_reference",
    "detect_visits",
    "publish_products",
    "render_report",
    "render_statement",
    "show_budget",
    "show_status",
    "deliver_products",
    "run_night",
)


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landing files of a tiny world."""
    out = tmp_path_factory.mktemp("world") / "world"
    return landing_of_small_world(out, subscribers=200, centres=3, last_day=DAY)


# ------------------------------------------------------------------------------ step by step


@pytest.mark.long
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
    assert not list((tmp_path / "published").iterdir())
    assert run_job(publish_products, description="", argv=arguments) == 0
    assert not key.exists()
    assert all(gold_rows(tmp_path / "published").values())
    assert run_job(render_report, description="", argv=arguments) == 0
    assert DAY in (tmp_path / f"restricted/reports/{DAY}.html").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
@pytest.mark.parametrize("job", JOBS)
def test_every_step_explains_itself(
    job: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [job, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"jobs.{job}", run_name="__main__")
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "--conf FILE" in said
    assert "3 refused" in said


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


def test_the_zip_holds_the_packages_and_what_they_read(tmp_path: Path) -> None:
    zipped = package(tmp_path)
    with zipfile.ZipFile(zipped) as archive:
        names = set(archive.namelist())
    for folder in ("jobs", "transforms"):
        expected = {
            str(path.relative_to(PROJECT))
            for path in (PROJECT / folder).rglob("*")
            if path.suffix in (".py", ".j2", ".json", ".po")
        }
        assert {
            name for name in names if name.startswith(f"{folder}/") and not name.endswith("/")
        } == expected
    assert {name.split("/")[0] for name in names} == {"jobs", "transforms"}
    program = (
        f"import sys; sys.path.insert(0, {str(zipped)!r})\n"
        "from transforms import benchmark, language, pages\n"
        "assert 'footfall.zip' in pages.__file__, pages.__file__\n"
        "pages.template('report.html.j2', language.GERMAN)\n"
        "assert language.GERMAN.word('Privacy') == 'Datenschutz'\n"
        "pages.template('statement.html.j2')\n"
        "benchmark.load()\n"
    )
    done = ended([sys.executable, "-c", program], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
