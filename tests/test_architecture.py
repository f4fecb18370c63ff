"""Who may import whom, and where privacy would leak if a line were written in the wrong place."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.frames import local_frame
from jobs.store import Store
from transforms.disclosure import Release
from transforms.tables import NIGHTLY_PRODUCTS, TABLES, ZONE_HOURS, Table

PROJECT = Path(__file__).parent.parent
TRANSFORMS = sorted((PROJECT / "transforms").glob("*.py"))
JOBS = sorted((PROJECT / "jobs").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (*TRANSFORMS, *JOBS)}

every_transform = pytest.mark.parametrize("path", TRANSFORMS, ids=lambda path: path.stem)
every_job = pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
every_module = pytest.mark.parametrize(
    "path", TREES, ids=lambda path: f"{path.parent.name}.{path.stem}"
)


def imports(path: Path) -> set[str]:
    """Full names of all that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imported_packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def calls(path: Path) -> set[str]:
    """What a module calls, as it is written, with the receiver where that is a name."""
    return {ast.unparse(node.func) for node in ast.walk(TREES[path]) if isinstance(node, ast.Call)}


def importers(package: str) -> set[str]:
    return {
        f"{path.parent.name}.{path.stem}" for path in TREES if package in imported_packages(path)
    }


def attributes(path: Path) -> set[str]:
    return {node.attr for node in ast.walk(TREES[path]) if isinstance(node, ast.Attribute)}


def chained(path: Path) -> set[str]:
    """Attributes that are gone on from without a call, as in `frame.write.format`."""
    return {
        node.value.attr
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute)
    }


# ------------------------------------------------------------------------------ who imports whom


@every_transform
def test_a_transform_never_imports_a_job(path: Path) -> None:
    assert "jobs" not in imported_packages(path)


def test_only_geography_imports_h3_pyspark() -> None:
    assert importers("h3_pyspark") == {"transforms.geography"}


def test_only_disclosure_imports_opendp() -> None:
    assert importers("opendp") == {"transforms.disclosure"}


def test_only_budget_imports_dp_accounting() -> None:
    assert importers("dp_accounting") == {"transforms.budget"}


def test_only_the_store_imports_delta() -> None:
    assert importers("delta") <= {"jobs.store"}


@every_transform
def test_no_transform_imports_what_reads_files_the_network_or_other_processes(path: Path) -> None:
    outside = {"os", "io", "pathlib", "shutil", "socket", "subprocess", "tempfile", "urllib"}
    outside |= {"requests", "secrets", "time", "glob", "sqlite3"}
    assert not outside & imported_packages(path)


def test_no_transform_imports_a_session() -> None:
    named = {path.stem for path in TRANSFORMS if any("SparkSession" in n for n in imports(path))}
    assert not named


def test_the_noise_comes_from_opendp_and_from_nowhere_else() -> None:
    path = PROJECT / "transforms" / "disclosure.py"
    others = {"random", "secrets", "numpy", "scipy", "math"}
    assert not others & imported_packages(path)
    assert not {call for call in calls(path) if call.split(".")[-1] in {"rand", "randn", "uuid"}}


def test_only_the_benchmark_reads_the_truth_of_a_made_world() -> None:
    files = ("zone_presence", "homes.parquet")
    knowing = {
        f"{path.parent.name}.{path.stem}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and any(name in node.value for name in files)
    }
    assert knowing == {"jobs.make_world", "jobs.measure_accuracy"}


def test_the_made_world_and_the_method_share_no_code() -> None:
    made = {path for path in TRANSFORMS if path.stem.startswith("synthetic")}
    neutral = {"transforms.synthetic", "transforms"}
    for path in made:
        own = {name for name in imports(path) if name.startswith("transforms")}
        assert all(name.startswith(("transforms.synthetic",)) for name in own - neutral), path
    for path in set(TRANSFORMS) - made:
        assert not any(name.startswith("transforms.synthetic") for name in imports(path)), path


# ------------------------------------------------------------------------------- pure transforms

CLOCKS = {
    "now",
    "utcnow",
    "today",
    "current_timestamp",
    "current_date",
    "localtimestamp",
    "monotonic",
}
FILES = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir"}
RANDOM = {"rand", "randn", "uuid", "uuid4", "monotonically_increasing_id"}


@every_transform
def test_no_transform_reads_a_clock_a_file_or_chance(path: Path) -> None:
    last_words = {call.split(".")[-1] for call in calls(path)}
    # Templates of pages are parts of the package, not files of the installation.
    own = {"read_text"} if path.stem == "package_files" else set()
    assert not (CLOCKS | FILES | RANDOM) & last_words - own


@pytest.mark.parametrize(
    "path",
    [path for path in TRANSFORMS if "pyspark" in imported_packages(path)],
    ids=lambda path: path.stem,
)
def test_no_transform_reads_writes_computes_or_caches_a_frame(path: Path) -> None:
    """Whoever calls decides when and how often a frame is computed."""
    actions = {"collect", "toPandas", "toArrow", "toLocalIterator", "head", "isEmpty"}
    storage = {"cache", "persist", "checkpoint", "localCheckpoint", "write", "writeTo", "read"}
    assert not (actions | storage) & {call.split(".")[-1] for call in calls(path)}
    assert not {"write", "read"} & chained(path)


@pytest.mark.parametrize("name", ["events", "consent", "visits", "metrics", "flows"])
def test_what_sees_every_event_is_spark_s_own_code(name: str) -> None:
    path = PROJECT / "transforms" / f"{name}.py"
    python_rows = {"udf", "pandas_udf", "mapInArrow", "mapInPandas", "applyInPandas", "rdd"}
    python_rows |= {"applyInArrow", "cogroup", "foreach", "arrow_udf", "udtf"}
    assert not python_rows & (calls(path) | attributes(path))


@every_module
def test_nothing_is_evaluated_or_unpickled(path: Path) -> None:
    assert not {"eval", "exec", "compile", "__import__"} & calls(path)
    assert not {"pickle", "marshal", "shelve", "dill", "cloudpickle"} & imported_packages(path)


# ------------------------------------------------------------------------------------------ jobs


@every_job
def test_no_job_bears_a_name_of_the_standard_library(path: Path) -> None:
    """spark-submit puts the job's folder first on the path."""
    assert path.stem not in sys.stdlib_module_names


@every_job
def test_no_job_but_the_store_writes_a_frame(path: Path) -> None:
    if path.stem != "store":
        assert "write" not in chained(path)
        assert not {"writeTo", "saveAsTable", "insertInto"} & attributes(path)


@every_job
def test_what_a_job_persists_it_lets_go_of(path: Path) -> None:
    """`frames.persisted` does so however a step ends; a checkpoint goes with its frame."""
    if path.stem != "frames":
        assert not {"cache", "persist", "unpersist"} & {c.split(".")[-1] for c in calls(path)}


def test_no_job_writes_files_but_those_who_say_so() -> None:
    """Tables go through the store; a page, a contract, a key, the lease, figures for monitoring,
    the demo world and what a comparison with it found are files of their own.
    """
    writes = {"put", "write_text", "write_bytes", "write_table", "write_dataset", "write_deltalake"}
    writes |= {"to_parquet", "to_csv", "to_json", "to_pickle", "fdopen", "copyfile", "copytree"}
    writers = {
        path.stem
        for path in JOBS
        if writes & {call.split(".")[-1] for call in calls(path) if not call.startswith("F.")}
    }
    assert writers == {
        "deliver_products",
        "keys",
        "lease",
        "make_world",
        "measure_accuracy",
        "monitoring",
        "render_statement",
    }


def test_only_the_store_knows_where_the_published_root_is() -> None:
    """`runtime` hands the path to the store, `summary` shows it."""
    holders = {"paths", "store", "self"}
    knowing = {
        path.stem
        for path in JOBS
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Attribute)
        and node.attr == "published"
        and ast.unparse(node.value).split(".")[-1] in holders
    }
    assert knowing == {"runtime", "store", "summary"}


def test_only_two_jobs_publish() -> None:
    publishers = {
        path.stem for path in JOBS if any(call.endswith("store.publish") for call in calls(path))
    }
    assert publishers == {"deliver_products", "publish_products"}


def test_publishing_takes_a_release_and_nothing_else() -> None:
    parameters = inspect.signature(Store.publish, eval_str=True).parameters
    assert [p.annotation for name, p in parameters.items() if name != "self"] == [Release]


def test_a_release_is_made_of_noise_or_of_what_was_published() -> None:
    makers = {
        f"{path.parent.name}.{path.stem}"
        for path in TREES
        if {"Release", "disclosure.Release"} & calls(path)
    }
    assert makers == {
        "transforms.deliveries",
        "transforms.extrapolation",
        "transforms.rollups",
    }


WRITES: dict[str, Callable[[Store, Table, Any], None]] = {
    "replace": lambda store, table, frame: store.replace(table, frame),
    "replace_each": lambda store, table, frame: store.replace_each({table: frame}),
    "append": lambda store, table, frame: store.append(table, frame),
    "merge": lambda store, table, frame: store.merge(table, frame),
    "update": lambda store, table, frame: store.update(table, frame),
    "delete": lambda store, table, frame: store.delete(table),
    "delete_where": lambda store, table, frame: store.delete_where(table, F.lit(True)),
    "delete_matching": lambda store, table, frame: store.delete_matching(table, frame, on=("day",)),
    "export": lambda store, table, frame: store.export(table, frame, name="2026-11"),
    "delete_from_exports": lambda store, table, frame: store.delete_from_exports(
        table, frame, on=("day",)
    ),
    "forget": lambda store, table, frame: store.forget([table]),
    "compact": lambda store, table, frame: store.compact(table),
}


@pytest.mark.parametrize("name", WRITES)
def test_every_other_way_into_the_published_root_is_shut(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    store = Store(spark, str(tmp_path / "restricted"), str(tmp_path / "published"))
    frame = local_frame(spark, [], ZONE_HOURS.table.schema)
    for product in NIGHTLY_PRODUCTS:
        with pytest.raises(TypeError, match=r"only Store\.publish"):
            WRITES[name](store, product.table, frame)
    assert list(tmp_path.iterdir()) == []


def test_the_store_has_no_way_to_write_that_is_not_looked_at_here() -> None:
    public = {name for name, _ in inspect.getmembers(Store, inspect.isfunction) if name[0] != "_"}
    reading = {"path", "exists", "read", "rows", "filled", "version", "create", "stale_files"}
    reading |= {"on_this_machine", "exported", "make_roots", "is_open_to_everybody"}
    reading |= {"may_hold_older"}
    assert public - reading - {"publish"} == set(WRITES)


def test_each_root_holds_its_own_tables(spark: SparkSession) -> None:
    store = Store(spark, "safe/", "sold")
    for table in TABLES:
        root = "sold" if table.name.startswith("gold.") else "safe"
        assert store.path(table) == f"{root}/{table.path}"


def test_attackers_know_nothing_of_the_product() -> None:
    (attackers,) = [path for path in JOBS if path.stem == "attackers"]
    assert not {"jobs", "transforms", "pyspark"} & imported_packages(attackers)


# ---------------------------------------------------------------------------------------- secrets


def test_no_settings_file_holds_a_key_or_a_password() -> None:
    for path in sorted((PROJECT / "conf").iterdir()):
        for line in path.read_text(encoding="utf-8").splitlines():
            name = line.split("#")[0].split("=")[0].strip().lower()
            assert not {"password", "secret", "token", "hmac"} & set(
                name.replace(".", "_").split("_")
            )


def test_the_package_is_the_jobs_and_the_transforms_and_is_not_uploaded() -> None:
    setup = (PROJECT / "setup.py").read_text(encoding="utf-8")
    assert 'packages=["jobs", "jobs.attacks", "transforms"]' in setup
    assert "Private :: Do Not Upload" in setup
