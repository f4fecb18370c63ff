"""A night by spark-submit: that it outlives the loss of a machine, and that nothing leaks from it.

What it leaves, and what came and went on local disks, is searched for everybody and the key: each
identity of the world as it is and by its SHA-256 and MD5, each pseudonym, and the key of the day,
which was read while it existed. `jobs/traces.py` knows the forms.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.frames import local_frame
from jobs.traces import (
    Needle,
    Search,
    forms_of_identity,
    forms_of_pseudonym,
    forms_of_secret,
    search_for,
)
from tests.small_world import landing_of_small_world
from tests.submitted_night import (
    DAY,
    LOST,
    NOTEBOOKS,
    ROOTS,
    Submitted,
    gold_rows,
    submitted_night,
)
from transforms.tables import (
    CONSENT_DECISIONS,
    CONSENT_PERIODS,
    NIGHTLY_PRODUCTS,
    NOISY_CELLS,
    QUARANTINE,
    RELEASES,
    REWARDS_LEDGER,
    RUNS,
    TABLES,
    VISITS,
    Product,
    Table,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def submitted(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Submitted:
    """The one night that the tests submit, over a world of `--subscribers`. Tests that look at it
    belong into this file: the processes that run the files share nothing.
    """
    subscribers = request.config.getoption("--subscribers")
    root = tmp_path_factory.mktemp("submitted")
    centres = max(3, min(26, subscribers // 250))
    landing = landing_of_small_world(
        root / "world", subscribers=subscribers, centres=centres, last_day=DAY
    )
    return submitted_night(landing, root, timeout_s=600 + subscribers / 20)


# --- the night ----------------------------------------------------------------------------------


def test_spark_submit_publishes_a_night_from_another_folder(submitted: Submitted) -> None:
    assert not [line for line in submitted.stderr.splitlines() if line.startswith("error:")]
    lines = submitted.stdout.splitlines()
    assert lines[-2:] == [f"{name}: {submitted.storage}/{name}" for name in ROOTS]
    assert all(gold_rows(submitted.published).values())
    runs = DeltaTable(str(submitted.restricted / RUNS.path)).to_pyarrow_table()
    assert runs["outcome"].to_pylist() == ["published"]
    ledger = DeltaTable(str(submitted.restricted / RELEASES.path)).to_pyarrow_table()
    assert DAY in {str(day) for day in ledger["day"].to_pylist()}
    assert DAY in (submitted.reports / f"{DAY}.html").read_text(encoding="utf-8")
    for table in TABLES:
        root = submitted.root / table.root
        assert (root / table.path / "_delta_log").is_dir(), table.name


def test_roots_are_made_for_their_owner_and_for_a_group(submitted: Submitted) -> None:
    assert submitted.rights == {"restricted": "rwx------", "published": "rwxr-x---"}


def test_what_spark_submit_was_given_wins_over_the_profile(submitted: Submitted) -> None:
    """The profile says local[*] and another number of shuffle partitions; it does say the rest."""
    events = [json.loads(line) for log in submitted.event_log for line in _lines(log)]
    [properties] = [e["Spark Properties"] for e in events if "Spark Properties" in e]
    given: dict[str, Any] = dict(properties)
    assert given["spark.master"] == submitted.cluster.url
    assert given["spark.sql.shuffle.partitions"] == "2"
    assert given["spark.io.encryption.enabled"] == "true"
    assert given["spark.sql.session.timeZone"] == "UTC"
    happened = Counter(e["Event"] for e in events)
    assert happened["SparkListenerExecutorAdded"] == 2


def test_a_machine_was_lost_while_events_were_read_and_the_night_went_on(
    submitted: Submitted,
) -> None:
    events = [json.loads(line) for log in submitted.event_log for line in _lines(log)]
    lost, later = 0, 0
    for event in events:
        is_end = event["Event"] == "SparkListenerTaskEnd"
        lost += event["Event"] == "SparkListenerExecutorRemoved"
        later += bool(lost) and is_end and event["Task End Reason"]["Reason"] == "Success"
    assert lost == 1
    assert later > 100, "most of a night's tasks come after its events"
    assert submitted.cluster.workers[LOST].returncode == -signal.SIGKILL


def _lines(log: Path) -> list[str]:
    text = log.read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_on_the_published_tables(notebook: Path, submitted: Submitted) -> None:
    committed = nbformat.read(notebook, as_version=4)
    assert all(not cell.get("outputs") for cell in committed.cells), "commit without outputs"
    executed = nbformat.read(submitted.root / "notebooks" / notebook.name, as_version=4)
    outputs = [one for cell in executed.cells for one in cell.get("outputs", ())]
    assert len(outputs) > 0
    assert [one.traceback for one in outputs if one.output_type == "error"] == []


# --- what is there to be found ------------------------------------------------------------------


@dataclass(frozen=True)
class Secrets:
    """All that must not come to light."""

    identities: list[str]
    pseudonyms: list[str]
    key: bytes
    suppressed: list[float]


@pytest.fixture(scope="module")
def secrets(submitted: Submitted) -> Secrets:
    identities = sorted(identities_of(submitted.landing))
    [key] = submitted.watch.keys
    pseudonyms = [hmac.digest(key, one.encode(), "sha256").hex() for one in identities]
    return Secrets(identities, pseudonyms, key, suppressed(submitted))


def identities_of(landing: Path) -> set[str]:
    """Everybody of the landing: customers, roamers, who decided."""
    return {
        str(one)
        for folder in ("events", "subscribers", "decisions")
        for file in (landing / folder).rglob("*.parquet")
        for one in pc.unique(
            pq.read_table(file, columns=["subscriber_id"], partitioning=None)[0]
        ).to_pylist()
        if one and str(one).strip()
    }


def suppressed(submitted: Submitted) -> list[float]:
    """Noisy counts under the lowest threshold, of those that no other number equals by chance."""
    cells = DeltaTable(str(submitted.restricted / NOISY_CELLS.path)).to_pyarrow_table()
    counts = cells.filter(pc.field("noisy_devices") < 30)["noisy_devices"].to_pylist()
    return [one for one in counts if one * 64 % 2]  # six decimals


def forms_of_number(number: float) -> set[Needle]:
    return {Needle(repr(abs(number)).encode(), whole=True)}


@dataclass(frozen=True)
class Searches:
    identities: Search
    pseudonyms: Search
    keys: Search
    suppressed: Search

    def all(self) -> Iterator[tuple[str, Search]]:
        yield from vars(self).items()


@pytest.fixture(scope="module")
def searches(secrets: Secrets) -> Searches:
    return Searches(
        search_for(form for one in secrets.identities for form in forms_of_identity(one)),
        search_for(form for one in secrets.pseudonyms for form in forms_of_pseudonym(one)),
        search_for(forms_of_secret(secrets.key)),
        search_for(form for one in secrets.suppressed for form in forms_of_number(one)),
    )


def must_be_clean(searches: Iterable[tuple[str, Search]], folders: list[Path], where: str) -> None:
    """Searches and says how much was looked at, for those who want to see more than a dot."""
    for what, search in searches:
        found = search.through(folders)
        size = sum(file.stat().st_size for one in folders for file in files_of(one))
        print(f"{what} in {where}: {found.hits} hits in {found.files} files, {size >> 10} KiB")
        assert found.traces == (), what
        assert found.not_looked_into == (), what
        assert found.files > 0


def files_of(folder: Path) -> Iterator[Path]:
    return (path for path in [folder, *folder.rglob("*")] if path.is_file())


def test_the_secrets_are_those_of_the_night(submitted: Submitted, secrets: Secrets) -> None:
    """The pseudonyms that it stored follow from the key that was seen, so it is the right one."""
    visits = DeltaTable(str(submitted.restricted / VISITS.path)).to_pyarrow_table()
    stored = set(visits["pseudonym"].to_pylist())
    assert len(stored) > 100
    assert stored <= set(secrets.pseudonyms)
    assert len(secrets.suppressed) > 100
    print(f"\n{len(secrets.identities)} identities of a world, night of {DAY}")


def test_the_search_sees_everything_a_night_writes(submitted: Submitted) -> None:
    names = {path.name for folder in submitted.left_behind for path in files_of(folder)}
    assert {"stdout", "stderr", f"{DAY}.html", f"statement-{DAY}.html"} <= names
    assert {"buyer_start.ipynb", "00000000000000000000.json"} <= names
    assert {path.name for path in submitted.event_log} <= names
    assert any(path.stat().st_size > 1 << 20 for path in submitted.event_log)
    assert len(submitted.cluster.logs_of_executors) == 2
    assert len(list(submitted.published.rglob("part-*.parquet"))) >= len(NIGHTLY_PRODUCTS)


# --- nothing is found ---------------------------------------------------------------------------


def test_nothing_of_anybody_is_left_where_others_may_see_it(
    submitted: Submitted, searches: Searches
) -> None:
    """Published tables with their logs, notebooks, pages, output, event log, temporary files."""
    must_be_clean(searches.all(), submitted.left_behind, "what was left")


def test_nothing_of_anybody_was_ever_readable_on_a_local_disk(
    submitted: Submitted, searches: Searches
) -> None:
    """Identities do go through shuffles, to be counted and replaced: Spark encrypts those files
    under a key that ends with the session.
    """
    kept = submitted.watch.kept
    shuffled = [path for path in kept.glob("*shuffle_*.data") if path.stat().st_size]
    assert len(shuffled) > 20
    must_be_clean(searches.all(), [kept], "local disks")
    lost = submitted.cluster.disks[LOST]
    assert [*files_of(lost)], "nobody tidies up on a machine that is gone"
    others = (folder for folder in submitted.watch.folders if folder != lost)
    left = {path.name for folder in others for path in files_of(folder)}
    unpacked = {name for name in left if name.removesuffix(".lck").endswith(".so")}
    assert left == unpacked, "the lost executor's Java had unpacked libraries, and that is all"


def test_each_restricted_table_holds_no_more_than_it_must(
    submitted: Submitted, searches: Searches
) -> None:
    """Identities are with consent, rewards and faulty rows, pseudonyms with the visits, and nowhere
    else.

    Suppressed counts are protected: in restricted tables they may stand, and by chance they do.
    """

    def place(table: Table) -> tuple[str, ...]:
        return tuple(table.path.split("/"))

    folder, holders = submitted.restricted, {}
    for what in ("identities", "pseudonyms", "keys"):
        found = getattr(searches, what).through([folder])
        assert found.not_looked_into == ()
        holders[what] = {trace.path.relative_to(folder).parts[:2] for trace in found.traces}
    assert holders["identities"] - {place(REWARDS_LEDGER)} == {
        place(QUARANTINE),
        place(CONSENT_DECISIONS),
        place(CONSENT_PERIODS),
    }
    assert holders["pseudonyms"] == {place(VISITS)}
    assert holders["keys"] == set()
    assert list(submitted.keys.iterdir()) == []


@pytest.mark.parametrize("product", NIGHTLY_PRODUCTS, ids=lambda product: product.name)
def test_extremes_in_the_log_of_a_published_table_are_those_of_published_numbers(
    submitted: Submitted, product: Product
) -> None:
    """Delta takes them from the rows it writes: none from before suppression, none of a column that
    is not sold.
    """
    folder = submitted.published / product.table.path
    declared = {column.name for column in product.table.columns}
    numbers = published = 0
    for file, said in statistics(folder):
        rows = pq.read_table(folder / file, partitioning=None)
        assert set(said) <= declared
        published += pc.sum(pc.equal(rows["status"], "published")).as_py()
        for name, (least, most) in said.items():
            if pa.types.is_floating(rows[name].type):
                assert pc.min_max(rows[name]).as_py() == {"min": least, "max": most}
                numbers += 1
    # In a small world it is up to the noise whether anything of a product is above its threshold.
    assert bool(numbers) == bool(published)


def statistics(folder: Path) -> Iterator[tuple[str, dict[str, tuple[object, object]]]]:
    """Files of a Delta table, and the extremes by column that its log tells of them."""
    for log in sorted(folder.glob("_delta_log/*.json")):
        for action in map(json.loads, log.read_text(encoding="utf-8").splitlines()):
            if "add" in action:
                said = json.loads(action["add"]["stats"])
                least, most = said.get("minValues", {}), said.get("maxValues", {})
                yield (
                    action["add"]["path"],
                    {name: (least.get(name), most.get(name)) for name in {*least, *most}},
                )


# --- what is planted is found -------------------------------------------------------------------


def appended(text: str) -> Callable[[Path], None]:
    def plant(file: Path) -> None:
        with file.open("ab") as content:
            content.write(text.encode())

    return plant


def as_value(value: object) -> Callable[[Path], None]:
    def plant(file: Path) -> None:
        rows = pq.read_table(file, partitioning=None)
        note = pa.array([value, *[None] * (rows.num_rows - 1)])
        pq.write_table(rows.append_column("note", note), file, compression="zstd")

    return plant


def as_name(name: str) -> Callable[[Path], None]:
    return lambda file: shutil.move(file, file.with_name(f"visitor={name}"))


def packed(text: str) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(gzip.compress(file.read_bytes() + text.encode()))


@dataclass(frozen=True)
class Plant:
    """One secret in one file of the night: which file, how, and what finds it."""

    file: Callable[[Submitted], Path]
    put: Callable[[Secrets], Callable[[Path], None]]
    found_by: str


def last_of(secrets: Secrets) -> bytes:
    return secrets.identities[-1].encode()


PLANTS = {
    "an identity in the event log": Plant(
        lambda night: night.event_log[0],
        lambda secrets: appended(f'{{"plan": "id = {secrets.identities[0]}"}}\n'),
        "identities",
    ),
    "an identity in an event log that was packed": Plant(
        lambda night: night.event_log[0],
        lambda secrets: packed(f'{{"plan": "id = {secrets.identities[7]}"}}\n'),
        "identities",
    ),
    "an identity in the statistics of a published table": Plant(
        lambda night: next(night.published.rglob("_delta_log/*1.json")),
        lambda secrets: appended(json.dumps({"minValues": {"by": secrets.identities[3]}})),
        "identities",
    ),
    "an identity in a file's name": Plant(
        lambda night: next(night.published.rglob("part-*.parquet")),
        lambda secrets: as_name(secrets.identities[4]),
        "identities",
    ),
    "a SHA-256 in the report": Plant(
        lambda night: night.reports / f"{DAY}.html",
        lambda secrets: appended(hashlib.sha256(last_of(secrets)).hexdigest().upper()),
        "identities",
    ),
    "an MD5 in published rows": Plant(
        lambda night: next(night.published.rglob("part-*.parquet")),
        lambda secrets: as_value(hashlib.md5(last_of(secrets)).hexdigest()),
        "identities",
    ),
    "bytes of a SHA-256 in published rows": Plant(
        lambda night: next(night.published.rglob("part-*.parquet")),
        lambda secrets: as_value(hashlib.sha256(last_of(secrets)).digest()),
        "identities",
    ),
    "an MD5 in base64 in a notebook": Plant(
        lambda night: night.root / "notebooks/buyer_start.ipynb",
        lambda secrets: appended(base64.b64encode(hashlib.md5(last_of(secrets)).digest()).decode()),
        "identities",
    ),
    "a pseudonym in the statement": Plant(
        lambda night: night.reports / f"statement-{DAY}.html",
        lambda secrets: appended(f"<!-- {secrets.pseudonyms[5]} -->"),
        "pseudonyms",
    ),
    "a pseudonym in an executor's output": Plant(
        lambda night: night.cluster.logs_of_executors[0],
        lambda secrets: appended(f"by row with values:\n - pseudonym : {secrets.pseudonyms[6]}\n"),
        "pseudonyms",
    ),
    "the key in the event log": Plant(
        lambda night: night.event_log[-1],
        lambda secrets: appended(secrets.key.hex()),
        "keys",
    ),
    "the key in the job's output": Plant(
        lambda night: night.root / "output/stderr",
        lambda secrets: appended(base64.b64encode(secrets.key).decode()),
        "keys",
    ),
    "the key as it is on a local disk": Plant(
        lambda night: max(night.watch.kept.glob("*.index")),
        lambda secrets: lambda file: file.write_bytes(file.read_bytes() + secrets.key),
        "keys",
    ),
    "a suppressed count in published rows": Plant(
        lambda night: next(night.published.rglob("part-*.parquet")),
        lambda secrets: as_value(secrets.suppressed[0]),
        "suppressed",
    ),
    "a suppressed count in the job's output": Plant(
        lambda night: night.root / "output/stdout",
        lambda secrets: appended(f"visitors {secrets.suppressed[-1]}\n"),
        "suppressed",
    ),
}


@pytest.mark.parametrize("name", PLANTS)
def test_the_search_finds(
    name: str, submitted: Submitted, secrets: Secrets, searches: Searches, tmp_path: Path
) -> None:
    plant = PLANTS[name]
    copy = Path(shutil.copy(plant.file(submitted), tmp_path))
    plant.put(secrets)(copy)
    assert [what for what, one in searches.all() if one.through([tmp_path]).hits] == [
        plant.found_by
    ]


def test_the_search_reads_what_spark_shuffles_in_the_clear(
    spark: SparkSession, secrets: Secrets, searches: Searches
) -> None:
    """So nothing was found on local disks since it is encrypted, not since nobody can read it."""
    assert spark.sparkContext.getConf().get("spark.io.encryption.enabled") == "false"
    [folder] = local_folders(spark)
    before = searches.identities.through([folder]).hits
    ids = local_frame(spark, [(one,) for one in secrets.identities[:200]], "id string")
    shuffled = ids.repartition(3, "id").persist()
    assert shuffled.count() == 200
    found = searches.identities.through([folder])
    shuffled.unpersist()
    assert found.hits >= before + 200
    assert any("shuffle_" in trace.name for trace in found.traces)


def local_folders(spark: SparkSession) -> list[Path]:
    environment = spark._jvm.org.apache.spark.SparkEnv.get()  # type: ignore[union-attr]
    return [Path(one) for one in environment.blockManager().diskBlockManager().localDirsString()]
