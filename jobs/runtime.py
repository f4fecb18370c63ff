"""What every job shares: arguments, settings, the one Spark session, progress, exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import time
import tomllib
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from logging import ERROR, WARNING
from pathlib import Path
from typing import Any, TypeVar

from pyspark import SparkConf, SparkContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from jobs import lease, monitoring
from jobs.keys import KeyStore, key_store
from jobs.landing import Landing, read_failure
from jobs.store import Store, storage_failure
from transforms.days import LocalDay
from transforms.errors import Failed, FootfallError, Misused, Unwritable
from transforms.settings import Settings, merged, settings_from
from transforms.tables import Table
from transforms.wording import shown

Result = TypeVar("Result")
PROJECT = Path(__file__).resolve().parent.parent

# PySpark's remark on the UDFs of h3_pyspark, in every process that imports them.
_REMARK = "Cannot infer the eval type"
warnings.filterwarnings("ignore", _REMARK)

RESTATE = {"restate": "publish a published night anew, from what its privacy budget has left"}

CLASSES = Path(sys.prefix) / "spark-classes.jsa"
"""Java's archive of the classes that Spark loads, where there is one."""
NO_CONF = CLASSES.with_suffix(".conf")
"""Not there: of a class path with a folder in it that holds anything there is no such archive."""
JAVA_OPTIONS = "spark.driver.extraJavaOptions"

PARTITIONS = "spark.sql.shuffle.partitions"
ESSENTIALS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    "spark.sql.datetime.java8API.enabled": "true",
}
"""The method is wrong without these, whoever starts the session."""


@dataclass
class Progress:
    """Steps as they happen: what, how long, how much."""

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))

    def headline(self, text: str) -> None:
        self.console.print(text, style="bold", markup=False)
        monitoring.log(text)

    def step(self, step: Callable[..., Result], night: Night, **options: bool) -> Result:
        """Runs a step and prints one line when it ends."""
        name, started = step.__name__.replace("_", " "), time.monotonic()
        monitoring.log("step started", step=step.__name__)
        with self.console.status(f"{name} …"):
            result = step(night, **options)
        seconds = time.monotonic() - started
        self.console.print(f"  {name:<18} {seconds:6.1f} s   {result}", markup=False)
        monitoring.log(
            "step ended", step=step.__name__, seconds=round(seconds, 1), result=str(result)
        )
        return result

    def note(self, text: str) -> None:
        """Something the user should know."""
        self.console.print(f"  ! {text}", markup=False)
        monitoring.log(text, level=WARNING)


@dataclass(frozen=True)
class Night:
    """One run over one local day: everything a step receives."""

    settings: Settings
    day: LocalDay
    spark: SparkSession
    store: Store
    landing: Landing
    key: KeyStore
    progress: Progress
    now: Callable[[], datetime]
    run_id: str
    confirm_alone: Callable[[], None] = lambda: None
    """Raises `Refused` once another job has taken over the warehouse."""

    def of_day(self, table: Table) -> DataFrame:
        """A table's rows of the night's day."""
        return self.store.read(table).where(F.col("day") == F.lit(self.day.date))


def utc_now() -> datetime:
    return datetime.now(UTC)


def night_of(
    settings: Settings,
    day: date,
    spark: SparkSession,
    *,
    now: Callable[[], datetime] = utc_now,
    progress: Progress | None = None,
) -> Night:
    paths = settings.paths
    return Night(
        settings=settings,
        day=LocalDay(day, settings.zone_info),
        spark=spark,
        store=Store(spark, paths.restricted, paths.published),
        landing=Landing(spark, settings),
        key=key_store(settings.keys.store, folder=paths.keys_folder, day=day),
        progress=progress or Progress(),
        now=now,
        run_id=uuid.uuid4().hex,
    )


def arguments(description: str, *, several_days: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description,
        epilog="exit codes: 0 done, 1 failed (input missing, unreadable or below quality), "
        "2 bad usage or settings, 3 refused (privacy or consent gate)",
    )
    parser.add_argument("--conf", required=True, metavar="FILE", help="overlay on conf/base.toml")
    parser.add_argument(
        "--day", required=not several_days, metavar="YYYY-MM-DD", help="local day to work on"
    )
    if several_days:
        for name, which in (("from", "first"), ("to", "last")):
            meaning = f"in place of --day: the {which} of several days, one night after another"
            parser.add_argument(f"--{name}", dest=which, metavar="YYYY-MM-DD", help=meaning)
    for name in ("landing", "restricted", "published"):
        parser.add_argument(f"--{name}", metavar="PATH", help=f"in place of paths.{name}")
    return parser


def load_settings(conf: str, overrides: Mapping[str, str | None] | None = None) -> Settings:
    """`base.toml` with `conf` on top, then paths given on the command line.

    A relative path is meant from the folder the job is started in. Spark, Delta and workers each
    have a folder of their own, so all paths are made absolute here, once.
    """
    overlay = read_toml(Path(conf))
    raw = overlay if Path(conf).name == "base.toml" else merged(read_toml(_base(conf)), overlay)
    given = {name: path for name, path in (overrides or {}).items() if path is not None}
    raw = merged(raw, {"paths": given} if given else {})
    if isinstance(raw.get("paths"), Mapping):
        raw["paths"] = {name: _absolute(path) for name, path in raw["paths"].items()}
    return settings_from(raw, name=conf)


def _absolute(path: object) -> object:
    """A folder of this machine in full; addresses, and what validation will refuse, as they are."""
    if not isinstance(path, str) or not path or "://" in path:
        return path
    return os.path.abspath(path)


def _base(conf: str) -> Path:
    """Beside the overlay, else in the folder the job is started in, else in the project."""
    folders = (Path(conf).parent, Path.cwd() / "conf", PROJECT / "conf")
    return next((f / "base.toml" for f in folders if (f / "base.toml").exists()), folders[0])


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misused(
            f"settings {path}",
            found="no such file" if isinstance(error, FileNotFoundError) else str(error),
            expected="a readable TOML file",
            consequence="nothing was read",
        ) from None


def parsed_days(
    day: str | None, first: str | None, last: str | None, *, settings: Settings, now: datetime
) -> list[date]:
    """`day` alone, or all days from `first` to `last`. Raises `Misused` for anything else."""
    if day is not None and first is None and last is None:
        return [parsed_day(day, settings=settings, now=now)]
    given = {"--day": day, "--from": first, "--to": last}
    if day is not None or first is None or last is None:
        raise Misused(
            "days",
            found=" ".join(name for name, text in given.items() if text is not None) or "none",
            expected="--day, or both --from and --to",
            consequence="nothing was read",
        )
    start = parsed_day(first, settings=settings, now=now, option="--from")
    end = parsed_day(last, settings=settings, now=now, option="--to")
    if end < start:
        raise Misused(
            "--to",
            found=f"{end}, which is before {start}",
            expected="the last of the days, not before the first",
            consequence="nothing was read",
        )
    return [start + timedelta(days=after) for after in range((end - start).days + 1)]


def parsed_day(text: str, *, settings: Settings, now: datetime, option: str = "--day") -> date:
    """A day that is over; raises `Misused` for anything else."""
    day = _iso_date(text)
    if day is None:
        raise Misused(
            option, found=shown(text), expected="YYYY-MM-DD", consequence="nothing was read"
        )
    today = now.astimezone(settings.zone_info).date()
    if day >= today:
        raise Misused(
            option,
            found=f"{day}, which is {'not over' if day == today else 'in the future'}",
            expected=f"a day before {today}",
            consequence="nothing was read",
        )
    return day


def _iso_date(text: str) -> date | None:
    """Python reads other forms of ISO 8601, too (20261123): they are not the contract's."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.isoformat() == text else None


def spark_session(settings: Settings, *, conf: str, name: str) -> SparkSession:
    """The one session of a job.

    What spark-submit was given wins over the profile, the profile over Spark's defaults; the
    essentials of the method win over everything.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ["TZ"] = "UTC"  # Spark hands instants to Python without a timezone
    time.tzset()
    os.environ.setdefault("PYTHONWARNINGS", f"ignore:{_REMARK}")  # what workers start with
    given = _given_to_spark_submit()
    wanted = {**_profile(settings.spark.profile, conf), **settings.spark.conf}
    if wanted.get("spark.master", "").startswith("local"):
        wanted[JAVA_OPTIONS] = " ".join(
            [wanted.get(JAVA_OPTIONS, ""), *_java_options(conf)]
        ).strip()
    builder = SparkSession.builder.appName(f"footfall {name}")
    for key, value in wanted.items():
        if not given.contains(key):
            builder = builder.config(key, value)
    for key, value in ESSENTIALS.items():
        builder = builder.config(key, value)
    with _conf_dir_of_archive():
        spark = builder.getOrCreate()
    on_one_machine = str(spark.sparkContext.master).startswith("local")
    spark.sparkContext.setLogLevel("OFF" if on_one_machine else "ERROR")
    if on_one_machine and PARTITIONS not in wanted and not given.contains(PARTITIONS):
        # A task takes longer to start than a small table to be worked on: no more than run at once.
        spark.conf.set(PARTITIONS, spark.sparkContext.defaultParallelism)
    return spark


_COMPILED = {"spark.sql.codegen.wholeStage": "true", "spark.sql.codegen.factoryMode": "FALLBACK"}


@contextmanager
def compiled(spark: SparkSession) -> Iterator[None]:
    """Queries over many rows are compiled, whatever the profile says of small ones."""
    before = {name: str(spark.conf.get(name)) for name in _COMPILED}
    for name, value in _COMPILED.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            spark.conf.set(name, value)


def _given_to_spark_submit() -> SparkConf:
    """Python sees it only once it is connected to the JVM, which spark-submit has started."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        SparkContext._ensure_initialized()
    return SparkConf()


def _profile(name: str, conf: str) -> dict[str, str]:
    base = _base(conf).parent
    path = base / name
    if not path.exists():
        raise Misused(
            f"Spark profile {name}",
            found="no such file",
            expected=f"a properties file in {base}",
            consequence="no session was started",
        )
    lines = (line.split("#", 1)[0].split(None, 1) for line in path.read_text().splitlines())
    return {pair[0]: pair[1].strip() for pair in lines if len(pair) == 2}


def _java_options(conf: str) -> Iterator[str]:
    """Of a session on this machine: what is logged, and the classes `make setup` archived."""
    quiet = _base(conf).parent / "log4j2.properties"
    if quiet.exists():
        yield f"-Dlog4j2.configurationFile={quiet.resolve().as_uri()}"
    if CLASSES.exists():
        yield archive_option()


def archive_option() -> str:
    return f"-XX:SharedArchiveFile={CLASSES} -Xlog:cds=off -Xlog:cds+dynamic=off"


@contextmanager
def _conf_dir_of_archive() -> Iterator[None]:
    """While Java starts, it has no folder of settings; no process started later inherits that."""
    if not CLASSES.exists() or "SPARK_CONF_DIR" in os.environ:
        yield
        return
    os.environ["SPARK_CONF_DIR"] = str(NO_CONF)
    try:
        yield
    finally:
        del os.environ["SPARK_CONF_DIR"]


Step = Callable[..., object]


@dataclass(frozen=True)
class Several:
    """How a step is run for several days, one after another.

    `is_done` says which of them there is nothing to do for; `plan` takes the step's place in a dry
    run; `afterwards` is called when a day has ended, however it did.
    """

    is_done: Callable[..., bool]
    plan: Step
    afterwards: Callable[[Night], None]


def run_job(
    step: Step,
    *,
    description: str,
    flags: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    writes: bool = True,
    several: Several | None = None,
    argv: Sequence[str] | None = None,
    now: Callable[[], datetime] = utc_now,
) -> int:
    """Parses arguments, runs `step` on the night, and turns every ending into an exit code.

    flags: names of yes-or-no options and their help; files: the same of files the step must be
    given. `step` takes each by its name. A step that `writes` has the warehouse to itself.
    """
    parser = arguments(description, several_days=several is not None)
    for flag, meaning in (flags or {}).items():
        parser.add_argument(f"--{flag}", action="store_true", help=meaning)
    for file, meaning in (files or {}).items():
        parser.add_argument(f"--{file}", required=True, metavar="FILE", type=Path, help=meaning)
    if several is not None:
        meaning = "say what would be done, read and spent, and do nothing of it"
        parser.add_argument("--dry-run", action="store_true", help=meaning)
    options = parser.parse_args(argv)
    with exit_codes() as ending:
        roots = ("landing", "restricted", "published")
        overrides = {name: getattr(options, name) for name in roots}
        settings = load_settings(options.conf, overrides)
        first, last = getattr(options, "first", None), getattr(options, "last", None)
        days = parsed_days(options.day, first, last, settings=settings, now=now())
        if getattr(options, "dry_run", False) and several is not None:
            step, writes, several = several.plan, False, None
        chosen = {name: getattr(options, name) for name in (*(flags or {}), *(files or {}))}
        name = step.__name__
        monitoring.log_to(settings.monitoring.log)
        work = f"{name} {days[0]}" if len(days) == 1 else f"{name} {days[0]} to {days[-1]}"
        with _session_of_job(settings, conf=options.conf, name=work) as spark:
            nights = [night_of(settings, day, spark, now=now) for day in days]
            if not writes:
                ending.code = _each(nights, step, chosen)
                return ending.code
            _make_roots(nights[0])
            with lease.held(spark, settings.paths.restricted, work=work) as confirm:
                held = [replace(night, confirm_alone=confirm) for night in nights]
                ending.code = _each(held, step, chosen, several)
    return ending.code


def _make_roots(night: Night) -> None:
    night.store.make_roots()
    if night.store.is_open_to_everybody():
        root = night.settings.paths.restricted
        night.progress.note(f"{root}: every user of this machine may look into it; chmod o-rwx it")


def _each(
    nights: Sequence[Night],
    step: Step,
    chosen: Mapping[str, Any],
    several: Several | None = None,
) -> int:
    """One night after another. -> the worst exit code

    Where one has failed for what was delivered, the next may be sound; anything else ends them all.
    """
    endings: dict[date, str] = {}
    worst = 0
    for night in nights:
        if len(nights) > 1 and several is not None and several.is_done(night, **chosen):
            endings[night.day.date] = "done before"
            continue
        with monitoring.about(day=night.day.date, run_id=night.run_id), exit_codes() as ending:
            step(night, **chosen)
        if several is not None:
            several.afterwards(night)
        worst = max(worst, ending.code)
        endings[night.day.date] = _ENDINGS[ending.code]
        if ending.error is not None and not isinstance(ending.error, Failed):
            break
    if several is not None and len(nights) > 1:
        _tell_endings(nights, endings)
    return worst


_ENDINGS = {0: "done", 1: "failed", 2: "misused", 3: "refused"}


def _tell_endings(nights: Sequence[Night], endings: Mapping[date, str]) -> None:
    days = [night.day.date for night in nights]
    by_ending: dict[str, list[str]] = {}
    for day in days:
        by_ending.setdefault(endings.get(day, "not started"), []).append(str(day))
    told = [
        f"{len(of_it)} {ending}" + ("" if ending.startswith("done") else f" ({', '.join(of_it)})")
        for ending, of_it in by_ending.items()
    ]
    nights[0].progress.headline(f"nights of {days[0]} to {days[-1]}: {', '.join(told)}")


@contextmanager
def _session_of_job(settings: Settings, *, conf: str, name: str) -> Iterator[SparkSession]:
    """The session. One that the job started ends with it: its executors are given back in order."""
    was_there = SparkSession.getActiveSession() is not None
    spark = spark_session(settings, conf=conf, name=name)
    try:
        yield spark
    finally:
        if not was_there:
            spark.stop()


@dataclass
class Ending:
    """What a job ends with, and why if that is not 0."""

    code: int = 0
    error: Exception | None = None


@contextmanager
def exit_codes() -> Iterator[Ending]:
    """One line of error for the user, an exit code for the scheduler."""
    ending = Ending()
    try:
        yield ending
    except Exception as error:
        ending.error = _told(error)
        ending.code = getattr(ending.error, "exit_code", 1)


def _told(error: Exception) -> Exception:
    """Says what is wrong; where a file or the storage is, the error says so in its place."""
    if not isinstance(error, FootfallError):
        unreadable, unwritable = read_failure(error), storage_failure(error)
        if unwritable is not None:
            error = Unwritable(
                "storage",
                found=unwritable,
                expected="room and the right to write, in both roots and Spark's local folders",
                consequence="the step was not finished; run it again when that is mended",
            )
        elif unreadable is not None:
            error = Failed(
                "input",
                found=unreadable,
                expected="files of the format named in the settings",
                consequence="nothing was published",
            )
        else:
            _tell_unexpected(error)
            return error
    print(f"error: {error}", file=sys.stderr)
    monitoring.log_error(error)
    return error


def _tell_unexpected(error: Exception) -> None:
    """Where it happened but not what it says: the text may hold values of a row."""
    condition = getattr(error, "getCondition", lambda: None)()
    name = type(error).__name__ + (f" [{condition}]" if condition else "")
    monitoring.log("unexpected error", level=ERROR, exit_code=1, kind=name)
    print(
        f"error: job: found an unexpected {name}, expected none; the step was not finished",
        file=sys.stderr,
    )
    for frame in traceback.extract_tb(error.__traceback__):
        if "site-packages" not in frame.filename:
            print(f"  {frame.filename}:{frame.lineno} in {frame.name}", file=sys.stderr)
