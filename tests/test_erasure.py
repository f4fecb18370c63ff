"""Erasing people: from every table and every file, for good, and certified by a search."""

from __future__ import annotations

import hmac
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from jobs import erase_subscribers as erasing
from jobs import objections
from jobs.detect_visits import detect_visits
from jobs.erase_subscribers import FILES, erase_subscribers, finish_pending
from jobs.frames import local_frame
from jobs.ingest_reference import ingest_reference
from jobs.keys import KeyFile
from jobs.lift_objections import lift_objections
from jobs.runtime import Night, load_settings, night_of, run_job
from jobs.store import Store
from tests.small_world import landing_of_small_world
from transforms import tables
from transforms.consent import OBJECTED
from transforms.errors import Refused
from transforms.tables import (
    CONSENT_OBJECTIONS,
    CONSENT_PERIODS,
    ERASURES,
    QUARANTINE,
    REWARDS_LEDGER,
    SUBSCRIBERS_SEEN,
    TABLES,
    VISITS,
    Table,
)

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parent.parent
CONF = PROJECT / "tests/conf/tests.toml"
DAY, DAY_BEFORE = date(2025, 11, 22), date(2025, 11, 21)
NOON = datetime(2025, 11, 22, 12, tzinfo=UTC)
ANNA, BEN, CARLA, DORA, EMIL = EVERYBODY = tuple(f"49170000000{n}" for n in range(1, 6))
KNOWING = [table for table in TABLES if table.knows_subscribers]
PERSONAL = [table for table in TABLES if table.is_about_people]


@dataclass(frozen=True)
class Site:
    """One installation in a folder of its own."""

    root: Path
    night: Night

    @property
    def store(self) -> Store:
        return self.night.store

    @property
    def restricted(self) -> Path:
        return self.root / "restricted"

    def run(self, step: Callable[..., object], *ids: str) -> int:
        """The step as its users start it, with a file of `ids` if there are any."""
        folders = {name: str(self.root / name) for name in ("landing", "restricted", "published")}
        argv = ["--conf", str(CONF), "--day", str(DAY)]
        argv += [part for name, path in folders.items() for part in (f"--{name}", path)]
        if not ids:
            return run_job(step, description="", argv=argv)
        file = self.root / "ids.txt"
        file.write_text("\n".join([*ids, ""]), encoding="utf-8")
        return run_job(step, description="", files=FILES, argv=[*argv, "--ids", str(file)])

    def erase(self, *ids: str) -> int:
        return self.run(erase_subscribers, *ids)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """What a table holds, in one order."""
        return sorted((row.asDict() for row in self.store.read(table).collect()), key=str)

    def people(self, table: Table) -> set[str]:
        return {row["subscriber_id"] for row in self.rows(table)}

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        return {one.name: self.rows(one) for one in TABLES if (self.restricted / one.path).exists()}

    def files_with(self, text: str) -> list[str]:
        """Files below the restricted root that hold `text`, as bytes or as a value."""
        return sorted(
            str(path.relative_to(self.restricted))
            for path in self.restricted.rglob("*")
            if path.is_file() and (text.encode() in path.read_bytes() or text in values(path))
        )


def values(path: Path) -> str:
    """Everything in a Parquet file as text, checkpoints and all that Delta no longer needs."""
    return str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else ""


def row_of(table: Table, person: str, **known: Any) -> dict[str, Any]:
    """Some row of any table, about `person`."""
    plain: dict[type[T.DataType], Any] = {
        T.StringType: f"text of {person[-1]}",
        T.DateType: DAY,
        T.TimestampType: NOON,
        T.BooleanType: True,
        T.IntegerType: int(person[-1]),
        T.LongType: 7,
        T.DoubleType: 0.5,
    }
    row = {
        column.name: None if column.nullable else plain[type(column.type)]
        for column in table.columns
    }
    if "corrected_month" in row:
        row["corrected_month"] = DAY_BEFORE
    return row | {"subscriber_id": person} | known


def pseudonym(person: str, key: bytes) -> str:
    return hmac.digest(key, person.encode(), "sha256").hex()


@pytest.fixture
def site(spark: SparkSession, tmp_path: Path) -> Site:
    return site_in(tmp_path, spark)


def site_in(root: Path, spark: SparkSession) -> Site:
    folders = {name: str(root / name) for name in ("landing", "restricted", "published")}
    return Site(root, night_of(load_settings(str(CONF), folders), DAY, spark))


def fill(site: Site, *tables: Table) -> None:
    """Five people in each table, some of them in an older version as well."""
    for table in tables:
        everybody = [row_of(table, person) for person in EVERYBODY]
        schema = site.store.read(table).schema
        site.store.append(table, local_frame(site.night.spark, everybody, schema))
        site.store.merge(table, local_frame(site.night.spark, everybody[:3], schema))


def fill_visits(site: Site) -> bytes:
    """Visits of a released day and of one whose key is still there. -> that key"""
    site.night.key.make()
    key = site.night.key()
    rows = [
        (day, pseudonym(person, of_day), "mall", NOON, NOON, 60.0, 0.5, "pass_by", "unknown")
        for day, of_day in ((DAY, key), (DAY_BEFORE, b"a key that is destroyed"))
        for person in (ANNA, BEN)
    ]
    site.store.append(VISITS, local_frame(site.night.spark, rows, VISITS.schema))
    return key


# ------------------------------------------------------------------------------ the catalogue


def test_every_table_with_a_column_of_subscribers_is_known_to_have_one() -> None:
    named = {table.name for table in TABLES if "subscriber_id" in table.schema.names}
    assert {table.name for table in KNOWING} == named
    assert named >= {"consent.decisions", "consent.periods", "ops.quarantine", "rewards.ledger"}
    assert all(table.root == "restricted" for table in PERSONAL)
    assert {table.name for table in PERSONAL} - named == {"silver.visits", "consent.objections"}


def test_no_column_names_people_in_another_way() -> None:
    """An identity under another name would be in no erasure."""
    words = ("subscriber", "msisdn", "imsi", "imei", "person_id", "user", "customer", "phone")
    inputs = [one for one in vars(tables).values() if isinstance(one, tables.Input)]
    columns = [column.name for one in (*TABLES, *inputs) for column in one.columns]
    assert {c for c in columns if any(word in c for word in words)} == {
        "subscriber_id",
        "subscribers",
        "subscribers_seen",
    }


# --------------------------------------------------------------------------------- one erasure


@dataclass(frozen=True)
class Erased:
    """A site from which Anna was erased: all tables that know people, one made elsewhere."""

    site: Site
    key: bytes
    before: dict[str, list[dict[str, Any]]]
    files_before: list[str]


@pytest.fixture(scope="module")
def erased(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Erased:
    site = site_in(tmp_path_factory.mktemp("erased"), spark)
    spark.sql(
        f"CREATE TABLE delta.`{site.store.path(REWARDS_LEDGER)}` (subscriber_id STRING, month DATE,"
        " days_taken_part INT, amount BIGINT, currency STRING) USING delta TBLPROPERTIES ("
        "'delta.enableDeletionVectors' = 'true', 'delta.enableChangeDataFeed' = 'true')"
    )
    fill(site, *KNOWING)
    key = fill_visits(site)
    before = {table.name: site.rows(table) for table in KNOWING}
    files = site.files_with(ANNA)
    assert site.files_with(pseudonym(ANNA, key))
    assert site.erase(ANNA, ANNA, "") == 0
    return Erased(site, key, before, files)


def test_before_she_was_in_tables_old_files_logs_vectors_and_changes(erased: Erased) -> None:
    """Else the tests below would prove little."""
    for table in KNOWING:
        assert len([one for one in erased.files_before if one.startswith(table.path)]) > 1
    assert any("/_delta_log/" in one for one in erased.files_before), "statistics, changes"
    assert any("/_change_data/" in one for one in erased.files_before)


def test_who_is_erased_is_in_no_table_no_old_file_and_no_log(erased: Erased) -> None:
    site = erased.site
    assert site.files_with(ANNA) == site.files_with(pseudonym(ANNA, erased.key)) == []
    assert not list(site.restricted.rglob("deletion_vector*"))
    assert not list(site.restricted.rglob("_change_data/*"))
    for table in KNOWING:
        others = [row for row in erased.before[table.name] if row["subscriber_id"] != ANNA]
        assert site.rows(table) == others
        assert len(others) == len(EVERYBODY) - 1
        assert site.store.stale_files(table) == []
    assert site.files_with(BEN), "the search that found nothing can find something"
    names = {row["pseudonym"] for row in site.rows(VISITS) if row["day"] == DAY}
    assert names == {pseudonym(BEN, erased.key)}


def test_the_zero_is_certified(erased: Erased) -> None:
    site = erased.site
    certificate = min(site.rows(ERASURES), key=lambda row: row["requested_at"])
    assert certificate["outcome"] == "certified"
    assert certificate["persons"] == 1
    assert certificate["hits"] == 0
    assert certificate["files_searched"] > 20
    assert dict(certificate["rows_removed"]) == {table.name: 1 for table in (*KNOWING, VISITS)}
    assert certificate["days_out_of_reach"] == [DAY_BEFORE]
    assert len([row for row in site.rows(VISITS) if row["day"] == DAY_BEFORE]) == 2
    assert (site.restricted / "keys/objections.key").stat().st_mode & 0o777 == 0o600


def test_erasing_twice_is_the_same_as_once(
    erased: Erased, capsys: pytest.CaptureFixture[str]
) -> None:
    site = erased.site
    contents = site.contents()
    versions = [site.store.version(table) for table in PERSONAL]
    certificates = contents.pop(ERASURES.name)
    assert site.erase(ANNA) == 0
    again = site.contents()
    fresh = [row for row in again.pop(ERASURES.name) if row not in certificates]
    assert again == contents
    assert [site.store.version(table) for table in PERSONAL] == versions, "nothing to write"
    assert [row["request"] for row in fresh] == [certificates[0]["request"]]
    assert sum(dict(fresh[0]["rows_removed"]).values()) == 0
    told = capsys.readouterr()
    assert "certified" in told.out
    assert ANNA[-6:] not in told.out + told.err


def test_traces_that_are_left_are_found_and_told(
    erased: Erased, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever they are, whoever put them there, also where a table would look for nothing."""
    site = erased.site
    packed = pa.table({"who": [BEN, ANNA]})
    plants: dict[str, Callable[[Path], object]] = {
        "restricted/reports/old.html": lambda path: path.write_text(f"<td>{ANNA}</td>"),
        "restricted/note.txt": lambda path: path.write_text(ANNA),
        "restricted/ops/copy.parquet": lambda path: pq.write_table(packed, path),
        "published/gold/note.csv": lambda path: path.write_text(f"{ANNA};1"),
    }
    for name, plant in plants.items():
        (site.root / name).parent.mkdir(parents=True, exist_ok=True)
        plant(site.root / name)
    assert site.erase(ANNA) == 1
    certificate = max(site.rows(ERASURES), key=lambda row: row["requested_at"])
    assert certificate["outcome"] == "traces_left"
    assert certificate["hits"] >= len(plants)
    assert {one.split(":")[0] for one in certificate["traces"]} == set(plants)
    told = capsys.readouterr()
    assert all(f"{name}: " in told.err for name in plants)
    assert ANNA not in told.err + told.out
    for name in plants:
        (site.root / name).unlink()


@pytest.mark.parametrize("table", [CONSENT_PERIODS, QUARANTINE], ids=lambda table: table.name)
def test_delta_keeps_no_statistics_of_people(erased: Erased, table: Table) -> None:
    """Not even before an erasure: they would be in logs that outlive the rows."""
    logs = list((erased.site.restricted / table.path / "_delta_log").rglob("*.*"))
    assert len(logs) > 1
    for log in logs:
        assert "minValues" not in values(log) + log.read_bytes().decode("latin-1")


def test_other_storage_is_searched_by_a_copy(spark: SparkSession, tmp_path: Path) -> None:
    """Here the other storage is this one, by its address."""
    (tmp_path / "far/ops").mkdir(parents=True)
    (tmp_path / "far/ops/note.txt").write_text(ANNA)
    (tmp_path / "near").mkdir()
    store = Store(spark, f"file://{tmp_path}/far", str(tmp_path / "near"))
    with store.on_this_machine() as (copy, near):
        assert (copy / "ops/note.txt").read_text() == ANNA
        assert not copy.is_relative_to(tmp_path)
        assert near == tmp_path / "near"
    assert not copy.exists()
    with Store(spark, "file:///nowhere/a", "file:///nowhere/b").on_this_machine() as folders:
        assert folders == []


# ----------------------------------------------------------------------------------- cut short


def no_disk(*_: object, **__: object) -> None:
    raise OSError("no space left")


@pytest.mark.parametrize(
    ("where", "step", "person"),
    [
        (objections, "enter", BEN),
        pytest.param(Store, "delete_matching", CARLA, marks=pytest.mark.long),
        pytest.param(Store, "forget", DORA, marks=pytest.mark.long),
        (erasing, "_searched", EMIL),
    ],
    ids=["before the objection", "before any row is gone", "before old files", "before the search"],
)
def test_an_erasure_that_is_cut_short_is_finished_by_the_next_run(
    erased: Erased, monkeypatch: pytest.MonkeyPatch, where: Any, step: str, person: str
) -> None:
    """By the same request; rows and files, once the objection is entered, also by the next night,
    which has not got the file. Only the certificate needs it.
    """
    site = erased.site
    known = site.rows(ERASURES)
    with monkeypatch.context() as broken:
        broken.setattr(where, step, no_disk)
        assert site.erase(person) == 1
    assert (site.files_with(person) == []) == (step == "_searched")
    [begun] = [row for row in site.rows(ERASURES) if row not in known]
    assert begun["outcome"] == "pending"
    if step in ("delete_matching", "forget"):
        assert finish_pending(site.night) >= 1
        assert begun in site.rows(ERASURES), "still not certified"
    else:
        assert site.erase(person) == 0
        ended = {row["erasure_id"]: row["outcome"] for row in site.rows(ERASURES)}
        assert ended[begun["erasure_id"]] == "certified"
    assert site.files_with(person) == []


# ---------------------------------------------------------------------- the objection stays


def test_who_was_erased_stays_out_when_seen_again(site: Site) -> None:
    """In the events and among the subscribers as before: not counted, not sampled, all accounted
    for. The rows are those of the world; a rejected one of hers is added.
    """
    world = landing_of_small_world(
        site.root / "world", subscribers=120, centres=2, last_day=str(DAY)
    )
    shutil.copytree(world, site.root / "landing")
    assert site.run(ingest_reference) == 0
    events = pa.concat_tables(
        pq.read_table(file, partitioning=None)
        for file in sorted((world / f"events/date={DAY}").glob("*.parquet"))
    )
    some = events.slice(0, 1).to_pylist()[0]
    rejected = [some | {"cell_id": "nowhere", "subscriber_id": who} for who in (ANNA, BEN)]
    extra = site.root / f"landing/events/date={DAY}/extra.parquet"
    pq.write_table(pa.Table.from_pylist(rejected, events.schema), extra)

    [visitor] = Counter(events["subscriber_id"].to_pylist()).most_common(1)[0][:1]

    assert site.erase(visitor, ANNA) == 0
    detect_visits(site.night)
    key = site.night.key()
    names = {row["pseudonym"] for row in site.rows(VISITS)}
    customers = site.night.landing.judged_subscribers(DAY).select("subscriber_id").collect()
    assert names <= {pseudonym(row.subscriber_id, key) for row in customers}
    assert len(names) > 20
    assert pseudonym(visitor, key) not in names
    seen = {row["outcome"]: row["subscribers"] for row in site.rows(SUBSCRIBERS_SEEN)}
    assert seen[OBJECTED] == 1
    assert BEN in site.people(QUARANTINE)
    assert ANNA not in site.people(QUARANTINE)
    assert site.files_with(ANNA) == site.files_with(visitor) == []


def taking_part(site: Site) -> dict[str, bool]:
    rows = [(ANNA, None, True), (BEN, None, True), (CARLA, "opted_out", False)]
    frame = local_frame(
        site.night.spark, rows, "subscriber_id string, left_out string, taking_part boolean"
    )
    people = objections.honoured(site.night, frame)
    assert people.columns == frame.columns
    reasons = {row.subscriber_id: row.left_out for row in people.collect()}
    assert reasons.pop(CARLA) == "opted_out"
    assert set(reasons.values()) <= {None, "objected"}
    return {person: reason is None for person, reason in reasons.items()}


def test_only_the_operator_lifts_an_objection(site: Site) -> None:
    """Not the person's later opt_in, which is in the periods as for anybody else."""
    assert taking_part(site) == {ANNA: True, BEN: True}
    assert site.erase(ANNA) == 0
    fill(site, CONSENT_PERIODS)
    assert taking_part(site) == {ANNA: False, BEN: True}
    periods = site.store.read(CONSENT_PERIODS)
    objecting = objections.objecting(site.night, periods).collect()
    assert [row.subscriber_id for row in objecting] == [ANNA]
    [entered] = site.rows(CONSENT_OBJECTIONS)
    key = KeyFile.of(str(site.restricted / "keys"), None)()
    assert entered["fingerprint"] == pseudonym(ANNA, key)

    assert site.run(lift_objections, BEN) == 0
    assert taking_part(site)[ANNA] is False
    assert site.run(lift_objections, ANNA) == 0
    assert taking_part(site) == {ANNA: True, BEN: True}
    assert site.files_with(entered["fingerprint"]) == []


@pytest.mark.parametrize("damage", ["lost", "replaced"])
def test_without_the_key_of_the_objections_nobody_is_counted(site: Site, damage: str) -> None:
    night = site.night
    objections.make_key(night)
    objections.enter(night, objections.fingerprints_of(night, [ANNA]))
    key = KeyFile.of(str(site.restricted / "keys"), None)
    key.destroy()
    if damage == "replaced":
        key.make()
    with pytest.raises(Refused, match="key of the objections: found"):
        taking_part(site)
    with pytest.raises(Refused):
        objections.make_key(night)


def test_the_key_of_the_objections_is_made_once(site: Site) -> None:
    key = KeyFile.of(str(site.restricted / "keys"), None)
    objections.make_key(site.night)
    first = key()
    objections.enter(site.night, objections.fingerprints_of(site.night, [ANNA]))
    objections.make_key(site.night)
    assert key() == first


# ------------------------------------------------------------------------------- bad usage


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe4917", None])
def test_a_file_without_identities_changes_nothing(
    site: Site, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = site.root / "people.txt"
    if content is not None:
        file.write_bytes(content)
    argv = ["--conf", str(CONF), "--day", str(DAY), "--restricted", str(site.restricted)]
    argv += ["--ids", str(file)]
    assert run_job(erase_subscribers, description="", files=FILES, argv=argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --ids {file}: found ")
    assert "4917" not in error
    assert not list(site.restricted.rglob("*.key"))
    assert not (site.restricted / ERASURES.path).exists()
