"""The store on a real folder: what the catalogue says is what Delta holds and enforces."""

from __future__ import annotations

import ast
import json
import os
import shutil
import stat
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from jobs.frames import local_frame
from jobs.store import Store
from tests.storage import full_storage
from transforms import tables
from transforms.disclosure import Part, Release
from transforms.errors import Failed
from transforms.popularity import monday_of
from transforms.tables import (
    CONSENT_PERIODS,
    NIGHTLY_PRODUCTS,
    QUALITY,
    REFERENCE_CELL_ZONES,
    REJECTED,
    REWARDS_LEDGER,
    RUNS,
    TABLES,
    VISITS,
    Product,
    Table,
)

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parent.parent
SATURDAY, SUNDAY = date(2025, 11, 22), date(2025, 11, 23)
MONDAY = date(2025, 11, 17)
NOON = datetime(2025, 11, 22, 12, tzinfo=UTC)
PUBLISHED_AT = NOON
"""Before every file that is written here: the store must tell by the log what was published."""
GOLD = [product.table for product in tables.PUBLISHED_PRODUCTS]


@pytest.fixture
def store(spark: SparkSession, tmp_path: Path) -> Store:
    return Store(spark, str(tmp_path / "restricted"), str(tmp_path / "published"))


@pytest.fixture(scope="module")
def warehouse(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Every table of the catalogue, empty. Tests only look at it."""
    root = tmp_path_factory.mktemp("warehouse")
    store = Store(spark, str(root / "restricted"), str(root / "published"))
    store.create(TABLES)
    return store


def log_actions(store: Store, table: Table, version: int = 0) -> list[dict[str, Any]]:
    """What Delta's own log says of one version."""
    log = Path(store.path(table)) / "_delta_log" / f"{version:020}.json"
    return [json.loads(line) for line in log.read_text().splitlines()]


def action(store: Store, table: Table, name: str) -> dict[str, Any]:
    [found] = [one[name] for one in log_actions(store, table) if name in one]
    return dict(found)


def rejections(store: Store, day: date, rows: Mapping[str, int]) -> DataFrame:
    values = [(day, reason, count) for reason, count in rows.items()]
    return local_frame(store.spark, values, REJECTED.schema)


def stored(store: Store, table: Table = REJECTED) -> set[tuple[Any, ...]]:
    return {tuple(row) for row in store.read(table).collect()}


# ------------------------------------------------------------------------------------- roots


def test_roots_are_made_for_their_owner_and_what_is_sold_for_the_group(
    store: Store, tmp_path: Path
) -> None:
    store.make_roots()
    rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert rights == {"restricted": 0o700, "published": 0o750}
    assert not store.is_open_to_everybody()


def test_roots_that_are_there_stay_as_they_are(store: Store, tmp_path: Path) -> None:
    (tmp_path / "restricted").mkdir(mode=0o755)
    store.make_roots()
    assert stat.S_IMODE((tmp_path / "restricted").stat().st_mode) == 0o755
    assert store.is_open_to_everybody()


# --------------------------------------------------------------------------------- catalogue


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_is_created_as_the_catalogue_states_it(warehouse: Store, table: Table) -> None:
    metadata = action(warehouse, table, "metaData")
    assert metadata["description"] == table.doc
    assert metadata["partitionColumns"] == list(table.partitioned_by)
    fields = json.loads(metadata["schemaString"])["fields"]
    assert [(f["name"], f["nullable"], f["metadata"]["comment"]) for f in fields] == [
        (column.name, column.nullable, column.comment) for column in table.columns
    ]
    constraints = {
        name.removeprefix("delta.constraints."): rule
        for name, rule in metadata["configuration"].items()
        if name.startswith("delta.constraints.")
    }
    assert constraints == dict(table.checks)
    assert metadata["configuration"]["delta.enableDeletionVectors"] == "false"


def test_tables_lie_below_their_own_root(warehouse: Store) -> None:
    found = {
        str(log.parent.relative_to(root))
        for root in (warehouse.restricted, warehouse.published)
        for log in Path(root).rglob("_delta_log")
    }
    assert found == {table.path for table in TABLES}
    assert {
        str(log.parent.relative_to(warehouse.published))
        for log in Path(warehouse.published).rglob("_delta_log")
    } == {table.path for table in GOLD}


def test_creating_again_changes_nothing(warehouse: Store) -> None:
    before = action(warehouse, VISITS, "metaData")["id"]
    warehouse.create([VISITS])
    assert warehouse.version(VISITS) == 0
    assert action(warehouse, VISITS, "metaData")["id"] == before


def test_a_table_that_is_not_there_has_no_rows_and_no_version(store: Store) -> None:
    assert not store.exists(REJECTED)
    assert store.version(REJECTED) == -1
    assert store.read(REJECTED).columns == [column.name for column in REJECTED.columns]
    assert store.read(REJECTED).isEmpty()
    store.delete(REJECTED, day=SATURDAY)
    store.forget([REJECTED])
    assert not store.exists(REJECTED)


# ------------------------------------------------------------------------- replace, merge, delete


def test_small_tables_are_read_again_when_anybody_changed_them_and_only_then(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(by: Store, reason: str) -> None:
        by.append(REJECTED, rejections(by, SATURDAY, {reason: 1}))

    assert store.rows(REJECTED) == []
    write(store, "no_id")
    assert [row.reason for row in store.rows(REJECTED)] == ["no_id"]
    write(Store(store.spark, store.restricted, store.published), "no_time")
    assert sorted(row.reason for row in store.rows(REJECTED)) == ["no_id", "no_time"]
    assert len(store.rows(REJECTED, day=SATURDAY, reason="no_id")) == 1
    assert store.rows(REJECTED, reason="no_cell") == []
    monkeypatch.setattr(Store, "read", None)
    assert len(store.rows(REJECTED)) == 2
    assert len(store.rows(REJECTED, day=SATURDAY, reason="no_id")) == 1


def test_what_comes_few_rows_at_a_time_is_put_together(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.store.MANY_FILES", 3)
    for name in ("a", "b", "c", "d", "b"):
        run = (name, SATURDAY, NOON, None, "running", *[None] * 6)
        frame = local_frame(store.spark, [run], RUNS.schema)
        store.append(RUNS, frame, once=name)
    assert sorted(row.run_id for row in store.read(RUNS).collect()) == ["a", "b", "c", "d"]
    assert len(store.read(RUNS).inputFiles()) == 2
    folder = Path(store.path(RUNS))
    assert len(list(folder.glob("*.parquet"))) == 5, "older versions can be read for a week"
    old = (NOON - timedelta(days=8)).timestamp()
    for file in folder.glob("*.parquet"):
        os.utime(file, (old, old))
    run = ("e", SATURDAY, NOON, None, "running", *[None] * 6)
    store.append(RUNS, local_frame(store.spark, [run], RUNS.schema))
    assert len(store.read(RUNS).inputFiles()) == 1
    assert len(list(folder.glob("*.parquet"))) == 2, "what was just written stays as well"
    assert store.read(RUNS).count() == 5


def test_a_table_whose_creation_was_cut_short_is_created_after_all(store: Store) -> None:
    with pytest.raises(Exception, match="File too large"), full_storage(store.spark):
        store.create([REJECTED])
    log = Path(store.path(REJECTED)) / "_delta_log"
    assert log.exists() and not list(log.glob("*.json"))
    store.create([REJECTED])
    store.append(REJECTED, rejections(store, SATURDAY, {"no_id": 1}))
    assert stored(store) == {(SATURDAY, "no_id", 1)}


def test_only_tables_with_a_row_are_filled(store: Store) -> None:
    store.create([REJECTED, RUNS])
    assert store.filled([REJECTED, RUNS, QUALITY]) == set()
    store.append(REJECTED, rejections(store, SATURDAY, {"no_id": 1}))
    assert store.filled([REJECTED, RUNS, QUALITY]) == {REJECTED.name}
    store.delete(REJECTED, day=SATURDAY)
    assert store.filled([REJECTED, RUNS, QUALITY]) == set()


def test_replacing_a_day_leaves_the_other_days_alone(store: Store) -> None:
    store.replace(REJECTED, rejections(store, SATURDAY, {"no_id": 1, "no_cell": 2}), day=SATURDAY)
    store.replace(REJECTED, rejections(store, SUNDAY, {"no_id": 3}), day=SUNDAY)
    again = rejections(store, SATURDAY, {"no_time": 9})
    for _ in range(2):
        store.replace(REJECTED, again, day=SATURDAY)
        assert stored(store) == {(SATURDAY, "no_time", 9), (SUNDAY, "no_id", 3)}


def test_a_row_of_another_day_does_not_slip_in_with_a_replacement(store: Store) -> None:
    store.replace(REJECTED, rejections(store, SATURDAY, {"no_id": 1}), day=SATURDAY)
    with pytest.raises(Failed, match=r"ops\.rejected: .* the condition of what is replaced"):
        store.replace(REJECTED, rejections(store, SUNDAY, {"no_id": 2}), day=SATURDAY)
    assert stored(store) == {(SATURDAY, "no_id", 1)}


def test_without_a_day_everything_is_replaced(store: Store) -> None:
    store.replace(REJECTED, rejections(store, SATURDAY, {"no_id": 1}))
    store.replace(REJECTED, rejections(store, SUNDAY, {"no_cell": 2}))
    assert stored(store) == {(SUNDAY, "no_cell", 2)}


def test_what_selects_rows_is_a_plain_value_and_never_sql(store: Store) -> None:
    store.append(REJECTED, rejections(store, SATURDAY, {"no_id": 1}))
    with pytest.raises(ValueError, match="partition value"):
        store.delete(REJECTED, reason="x' OR '1'='1")
    assert stored(store) == {(SATURDAY, "no_id", 1)}


def test_merge_updates_what_has_the_same_key_and_adds_the_rest(store: Store) -> None:
    november = date(2025, 11, 1)

    def earned(rows: Mapping[str, int]) -> DataFrame:
        values = [(one, november, 30, amount, "EUR") for one, amount in rows.items()]
        return local_frame(store.spark, values, REWARDS_LEDGER.schema)

    store.merge(REWARDS_LEDGER, earned({"a": 100, "b": 200}))
    for _ in range(2):
        store.merge(REWARDS_LEDGER, earned({"b": 250, "c": 300}))
        amounts = {row.subscriber_id: row.amount for row in store.read(REWARDS_LEDGER).collect()}
        assert amounts == {"a": 100, "b": 250, "c": 300}


def test_delete_removes_what_matches_and_nothing_else(store: Store) -> None:
    store.append(REJECTED, rejections(store, SATURDAY, {"no_id": 1, "no_cell": 2}))
    store.append(REJECTED, rejections(store, SUNDAY, {"no_id": 3, "no_cell": 4}))
    store.delete(REJECTED, day=SATURDAY, reason="no_id")
    assert stored(store) == {
        (SATURDAY, "no_cell", 2),
        (SUNDAY, "no_id", 3),
        (SUNDAY, "no_cell", 4),
    }
    doubled = local_frame(
        store.spark,
        [(SUNDAY, "no_id"), (SUNDAY, "no_id"), (SATURDAY, "no_id")],
        "day date, reason string",
    )
    store.delete_matching(REJECTED, doubled, on=("day", "reason"))
    assert stored(store) == {(SATURDAY, "no_cell", 2), (SUNDAY, "no_cell", 4)}


def test_forgetting_leaves_the_rows_of_today_and_nothing_else(store: Store) -> None:
    store.append(REJECTED, rejections(store, SATURDAY, {"no_id": 1}))
    store.append(REJECTED, rejections(store, SUNDAY, {"no_cell": 4}))
    store.delete(REJECTED, day=SATURDAY)
    folder = Path(store.path(REJECTED))
    assert [file.name for file in store.stale_files(REJECTED)] == [
        file.name for file in folder.glob(f"day={SATURDAY}/*.parquet")
    ]
    version = store.version(REJECTED)
    store.forget([REJECTED])
    assert not list(folder.glob(f"day={SATURDAY}/*.parquet"))
    assert stored(store) == {(SUNDAY, "no_cell", 4)}
    assert store.version(REJECTED) == version
    log = {file.name.lstrip(".")[:20] for file in folder.glob("_delta_log/*.*")}
    assert {name for name in log if name.isdigit()} == {f"{version:020}"}
    store.append(REJECTED, rejections(store, SATURDAY, {"no_id": 1}))
    assert stored(store) == {(SATURDAY, "no_id", 1), (SUNDAY, "no_cell", 4)}
    assert len(DeltaTable(str(folder)).to_pyarrow_table()) == 2


def test_people_are_removed_from_exports_that_keep_their_other_rows(store: Store) -> None:
    def people(*names: str) -> DataFrame:
        return local_frame(store.spark, [(name, 7) for name in names], "id string, n int")

    def exported() -> dict[str, list[str]]:
        lines = {
            path.name: [line for file in path.glob("*.csv") for line in file.read_text().split()]
            for path in folder.iterdir()
        }
        return {name: sorted(of_one) for name, of_one in lines.items()}

    folder = Path(store.export(REWARDS_LEDGER, people("ann", "bob"), name="2025-10")).parent
    store.export(REWARDS_LEDGER, people("bob"), name="2025-11")
    assert store.delete_from_exports(REWARDS_LEDGER, people("ann", "ann"), on=("id",)) == 1
    assert exported() == {"2025-10": ["bob,7", "id,n"], "2025-11": ["bob,7", "id,n"]}

    # Cut short: one before the old files were gone, one after, one while it was exported.
    shutil.copytree(folder / "2025-10", folder / "2025-10.anew")
    shutil.move(folder / "2025-11", folder / "2025-11.anew")
    (folder / "2025-12").mkdir()
    (folder / "2025-12/part.csv").write_text("id,n\nann,7")
    assert store.delete_from_exports(REWARDS_LEDGER, people("bob"), on=("id",)) == 2
    assert exported() == {"2025-10": ["id,n"], "2025-11": ["id,n"]}
    assert store.delete_from_exports(REWARDS_LEDGER, people("bob"), on=("id",)) == 0


# ------------------------------------------------------------------------------ what is refused


def test_a_broken_check_is_named_without_the_values_of_the_row(store: Store) -> None:
    visit = (SATURDAY, "deadbeef" * 8, "mall", NOON, NOON, 77.25, 1.5, "visit", "unknown")
    frame = local_frame(store.spark, [visit], VISITS.schema)
    with pytest.raises(Failed) as refusal:
        store.replace(VISITS, frame, day=SATURDAY)
    text = str(refusal.value)
    assert text == (
        "table silver.visits: found a row that breaks presence_is_probability "
        "(presence > 0 AND presence <= 1), expected every row to keep it; "
        "the table stays as it was"
    )
    assert refusal.value.__suppress_context__, "the cause holds the row's values"
    assert store.read(VISITS).isEmpty()


def test_a_broken_check_is_named_by_merge_too(store: Store) -> None:
    row = ("491700000001", date(2025, 11, 1), 40, 100, "EUR")
    with pytest.raises(Failed, match=r"rewards\.ledger.*days_of_a_month") as refusal:
        store.merge(REWARDS_LEDGER, local_frame(store.spark, [row], REWARDS_LEDGER.schema))
    assert "491700000001" not in str(refusal.value)


def test_a_missing_value_is_named_by_table_and_column(store: Store) -> None:
    rows = [("491700000002", True, NOON, None, None), ("491700000001", None, NOON, None, None)]
    nullable = CONSENT_PERIODS.schema.simpleString()  # which says nothing of NOT NULL
    with pytest.raises(Failed) as refusal:
        store.replace(CONSENT_PERIODS, local_frame(store.spark, rows, nullable))
    text = str(refusal.value)
    assert text.startswith("table consent.periods: found a row that breaks taking_part NOT NULL")
    assert "49170000000" not in text
    assert store.read(CONSENT_PERIODS).isEmpty()


def test_an_undeclared_column_is_dropped(store: Store) -> None:
    rows = [("491700000001", SATURDAY, "no_id", 1)]
    frame = local_frame(
        store.spark, rows, "subscriber_id string, day date, reason string, rows long"
    )
    store.append(REJECTED, frame)
    store.replace(REJECTED, frame, day=SATURDAY)
    store.merge(REJECTED, frame)
    assert store.read(REJECTED).columns == ["day", "reason", "rows"]
    assert stored(store) == {(SATURDAY, "no_id", 1)}
    folder = Path(store.path(REJECTED))
    for file in folder.rglob("*"):
        assert not file.is_file() or b"491700000001" not in file.read_bytes()


def test_a_missing_column_that_may_be_null_is_refused_too(store: Store) -> None:
    frame = local_frame(store.spark, [("a", True, NOON, None)], CONSENT_PERIODS.schema[:4])
    with pytest.raises(Failed, match=r"consent\.periods: found no column decision_id,"):
        store.replace(CONSENT_PERIODS, frame)


@pytest.mark.parametrize("write", ["append", "replace", "merge"])
def test_a_missing_column_is_refused(store: Store, write: str) -> None:
    frame = local_frame(store.spark, [(SATURDAY, "no_id")], "day date, reason string")
    with pytest.raises(Failed, match=r"ops\.rejected: found no column rows,") as refusal:
        getattr(store, write)(REJECTED, frame)
    assert str(SATURDAY) not in str(refusal.value)
    assert store.read(REJECTED).isEmpty()


# ------------------------------------------------------------------------ the published root


def gold_row(product: Product, day: date, release_id: str, visitors: float) -> dict[str, Any]:
    """A published row of any product, with every measure."""
    keys = {
        "day": day,
        "zone_id": "mall",
        "hour_start": NOON,
        "dwell_band": "30-60",
        "origin_zone_id": "mall",
        "destination_zone_id": tables.ELSEWHERE,
        "day_part": "midday",
        "home_area": tables.UNKNOWN_AREA,
        "week": monday_of(day),
        "weekday": day.isoweekday(),
        "hour": 12,
    }
    row: dict[str, Any] = {name: keys[name] for name in product.table.key}
    for measure in product.columns:
        row |= {
            measure: visitors,
            f"{measure}_low": visitors - 10,
            f"{measure}_high": visitors + 10,
        }
    return row | {
        "status": "published",
        "release_id": release_id,
        "method_version": tables.METHOD_VERSION,
        "published_at": NOON,
    }


def tiny_release(
    spark: SparkSession, day: date, number: int = 1, visitors: float = 120.0
) -> Release:
    release_id = f"{day}-{number}"
    parts = {}
    for product in NIGHTLY_PRODUCTS:
        row = gold_row(product, day, release_id, visitors)
        parts[product.table] = Part(local_frame(spark, [row], product.table.schema), (day,))
    return Release(release_id, PUBLISHED_AT, parts)


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two days, of which the first was released twice. Tests only look at it."""
    root = tmp_path_factory.mktemp("published")
    store = Store(spark, str(root / "restricted"), str(root / "published"))
    for release in (
        tiny_release(spark, SATURDAY),
        tiny_release(spark, SUNDAY, visitors=240.0),
        tiny_release(spark, SATURDAY, number=2, visitors=130.0),
    ):
        store.publish(release)
    return store


def test_publishing_replaces_the_day_of_the_release_only(published: Store) -> None:
    for product in NIGHTLY_PRODUCTS:
        measure = product.columns[0]
        rows = published.read(product.table).select("day", "release_id", measure).collect()
        assert {tuple(row) for row in rows} == {
            (SATURDAY, "2025-11-22-2", 130.0),
            (SUNDAY, "2025-11-23-1", 240.0),
        }


@pytest.mark.parametrize("table", GOLD, ids=lambda table: table.name)
def test_what_was_sold_can_be_read_as_it_was_for_years(warehouse: Store, table: Table) -> None:
    kept = DeltaTable(warehouse.path(table)).metadata().configuration
    for name in ("delta.logRetentionDuration", "delta.deletedFileRetentionDuration"):
        assert kept[name] == "interval 3660 days"


def test_popular_times_take_the_place_of_the_weeks_they_tell_of(
    store: Store, spark: SparkSession
) -> None:
    product = tables.ZONE_POPULARITY
    weeks = [MONDAY - timedelta(days=7 * back) for back in range(3)]

    def publish(release_id: str, *of: date) -> None:
        rows = [gold_row(product, week, release_id, 80.0) for week in of]
        frame = local_frame(spark, rows, product.table.schema)
        store.publish(Release(release_id, PUBLISHED_AT, {product.table: Part(frame, of)}))

    publish("first", *weeks)
    publish("second", *weeks[:2])
    rows = store.read(product.table).select("week", "release_id").collect()
    assert {tuple(row) for row in rows} == {
        (weeks[0], "second"),
        (weeks[1], "second"),
        (weeks[2], "first"),
    }


def test_what_a_killed_attempt_left_goes_and_what_was_superseded_stays(
    store: Store, spark: SparkSession
) -> None:
    table = NIGHTLY_PRODUCTS[0].table
    store.publish(tiny_release(spark, SATURDAY))
    store.publish(tiny_release(spark, SATURDAY, number=2))
    folder = Path(store.path(table))
    before = {path for path in folder.rglob("*") if path.is_file()}
    data = next(folder.glob(f"day={SATURDAY}/*.parquet"))
    left = [
        data.with_name("part-00000-killed.c000.snappy.parquet"),
        data.with_name(".part-00000-killed.c000.snappy.parquet.crc"),
        folder / "_delta_log/.00000000000000000003.json.killed.tmp",
    ]
    for path in left:
        path.write_bytes(b"half")
    store.publish(tiny_release(spark, SATURDAY, number=2))
    assert {path for path in folder.rglob("*") if path.is_file()} == before
    first = DeltaTable(str(folder), version=1).to_pyarrow_table()
    assert first["release_id"].to_pylist() == ["2025-11-22-1"], "it can still be read"


@pytest.mark.parametrize("product", NIGHTLY_PRODUCTS, ids=lambda product: product.name)
def test_gold_opens_without_spark(published: Store, product: Product) -> None:
    table = DeltaTable(published.path(product.table))
    assert table.protocol().min_reader_version == 1, "every Delta reader can open it"
    assert table.metadata().description == product.table.doc
    gold = table.to_pyarrow_table()
    assert set(gold.column_names) == {column.name for column in product.table.columns}
    measure = product.columns[0]
    query = f"SELECT count(*), sum({measure}), min({measure}_low) FROM gold"
    assert duckdb.sql(query).fetchall() == [(2, 370.0, 120.0)]
    frame = table.to_pandas()
    assert sorted(frame["release_id"]) == ["2025-11-22-2", "2025-11-23-1"]
    assert str(frame["published_at"].dt.tz) == "UTC"


@pytest.mark.parametrize("table", GOLD, ids=lambda table: table.name)
def test_a_published_table_has_no_other_way_in(store: Store, table: Table) -> None:
    frame = local_frame(store.spark, [], table.schema)
    attempts = [
        lambda: store.replace(table, frame),
        lambda: store.append(table, frame),
        lambda: store.merge(table, frame),
        lambda: store.update(table, frame),
        lambda: store.delete(table),
        lambda: store.delete_matching(table, frame, on=table.key),
    ]
    for attempt in attempts:
        with pytest.raises(TypeError, match=f"{table.name} is published: only"):
            attempt()
    assert not Path(store.published).exists()


def test_only_a_release_is_published(store: Store) -> None:
    class Lookalike:
        release_id, day = "2025-11-22-1", SATURDAY
        parts = tiny_release(store.spark, SATURDAY).parts

    for no_release in (Lookalike(), dict(Lookalike.parts)):
        with pytest.raises(TypeError, match="Release"):
            store.publish(no_release)  # type: ignore[arg-type]
    assert not Path(store.published).exists()


def test_a_release_holds_published_tables_only(store: Store) -> None:
    part = Part(rejections(store, SATURDAY, {"no_id": 1}), (SATURDAY,))
    with pytest.raises(TypeError, match=r"ops\.rejected is restricted"):
        store.publish(Release("2025-11-22-1", PUBLISHED_AT, {REJECTED: part}))
    assert not store.exists(REJECTED)


def test_a_row_that_breaks_a_rule_is_not_published(store: Store) -> None:
    product = tables.ZONE_CATCHMENT
    row = gold_row(product, SATURDAY, "2025-11-22-1", 120.0) | {"status": "suppressed"}
    frame = local_frame(store.spark, [row], product.table.schema)
    release = Release("2025-11-22-1", PUBLISHED_AT, {product.table: Part(frame, (SATURDAY,))})
    with pytest.raises(Failed, match=r"table gold\.zone_catchment: .* status_tells "):
        store.publish(release)
    assert store.read(product.table).isEmpty()


def test_nothing_but_the_store_writes_tables() -> None:
    """Whatever saves a frame or opens a Delta table for writing appears in one module only."""
    writers = set()
    for source in [*(PROJECT / "jobs").glob("*.py"), *(PROJECT / "transforms").glob("*.py")]:
        names = {
            node.attr
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute)
        }
        if names & {"writeTo", "saveAsTable", "insertInto", "save", "forPath", "forName"}:
            writers.add(source.name)
    assert writers == {"store.py"}


def test_periods_may_run_on_and_probabilities_end_at_one(store: Store) -> None:
    """The rules are not stricter than they say: open ends and bounds are kept."""
    period = ("a", True, NOON, None, None)
    store.replace(CONSENT_PERIODS, local_frame(store.spark, [period], CONSENT_PERIODS.schema))
    pair = (SATURDAY, "cell", "mall", 1.0)
    frame = local_frame(store.spark, [pair], REFERENCE_CELL_ZONES.schema)
    store.replace(REFERENCE_CELL_ZONES, frame, day=SATURDAY)
    assert store.read(CONSENT_PERIODS).count() == store.read(REFERENCE_CELL_ZONES).count() == 1
