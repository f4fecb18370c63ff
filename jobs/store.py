"""The Delta tables of the catalogue: created, read, replaced, merged, deleted, forgotten.

The published root has one way in: `Store.publish`, which takes a `Release` and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from delta.tables import DeltaTable
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.files import File, Files
from jobs.frames import local_frame
from transforms.disclosure import Release
from transforms.errors import Failed
from transforms.tables import Table

Item = TypeVar("Item")
Result = TypeVar("Result")

_PROPERTIES = {
    "delta.enableDeletionVectors": "false",  # every Delta reader can open plain files
    "delta.enableChangeDataFeed": "false",
}
_NO_STATISTICS = {"delta.dataSkippingNumIndexedCols": "0"}
"""Of a table about people: the smallest and the largest value of a file are somebody's."""


Where = Mapping[str, date | str | tuple[date, ...]]
"""Columns and the value, or values, that rows have in them."""

_ANEW = ".anew"

MANY_FILES = 50
"""Of a table that is not partitioned, from which on they are put together."""
OLDER_VERSIONS = timedelta(days=7)
"""How long a compacted table can be read as it was."""


def _write_csv(frame: DataFrame, folder: str) -> None:
    frame.write.option("header", "true").mode("overwrite").csv(folder)


_OLDER_VERSIONS = {
    "delta.logRetentionDuration": "interval 3660 days",
    "delta.deletedFileRetentionDuration": "interval 3660 days",
}
"""Of what is sold: as it was published on any date, for ten years as other accounts."""


def _properties(table: Table) -> dict[str, str]:
    if table.root == "published":
        return {**_PROPERTIES, **_OLDER_VERSIONS}
    return {**_PROPERTIES, **(_NO_STATISTICS if table.is_about_people else {})}


def at_once(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Does the same with several small tables: most of a write or a query is planning and waiting.

    All are tried; what went wrong with the first of them is raised.
    """
    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(work, item) for item in items]
    return [one.result() for one in done]


@dataclass(frozen=True)
class Store:
    """Tables below the two roots."""

    spark: SparkSession
    restricted: str
    published: str
    _read: dict[str, tuple[int, dict[str, list[Row]]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Rows of small tables by what was asked for, and the version that they are of."""
    _there: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """Tables that exist."""

    def path(self, table: Table) -> str:
        root = self.published if table.root == "published" else self.restricted
        return f"{root.rstrip('/')}/{table.path}"

    def exists(self, table: Table) -> bool:
        """Asked until it does: no job removes a whole table."""
        if table.name not in self._there and DeltaTable.isDeltaTable(self.spark, self.path(table)):
            self._there.add(table.name)
        return table.name in self._there

    def make_roots(self) -> None:
        """Makes the roots that are missing: the restricted one for its owner alone, the published
        one for its group, too.
        """
        for root, mode in ((self.restricted, "700"), (self.published, "750")):
            if not self._files.exists(root):
                self._files.make_folder(root, mode=mode)

    def is_open_to_everybody(self) -> bool:
        """Whether anybody who comes by may look into the restricted root, as far as the storage
        knows of such rights.
        """
        return self._files.others_may_enter(self.restricted)

    def create(self, tables: Iterable[Table]) -> None:
        """Creates what is missing, with comments, partitioning and CHECK constraints."""
        at_once(self._create, tables)

    def _create(self, table: Table) -> None:
        if self.exists(table):
            return
        self._remove_half_created(table)
        builder = (
            DeltaTable.createIfNotExists(self.spark)
            .location(self.path(table))
            .comment(table.doc)
            .addColumns(table.schema)
        )
        if table.partitioned_by:
            builder = builder.partitionedBy(*table.partitioned_by)
        checks = {f"delta.constraints.{name}": rule for name, rule in table.checks.items()}
        for name, value in {**_properties(table), **checks}.items():
            builder = builder.property(name, value)
        builder.execute()

    def _remove_half_created(self, table: Table) -> None:
        """What a creation that was cut short has left: a log without a single version, over which
        Delta would make no table.
        """
        log = f"{self.path(table)}/_delta_log"
        if self._files.exists(log) and not any(map(_tells_version, self._files.below(log))):
            self._files.remove_folder(log)

    def read(self, table: Table) -> DataFrame:
        """All rows; a table that does not exist yet has none."""
        if not self.exists(table):
            return local_frame(self.spark, [], _nullable(table.schema))
        return self.spark.read.format("delta").load(self.path(table))

    def rows(self, table: Table, **where: date | str | tuple[date, ...]) -> list[Row]:
        """Rows of a small table whose columns equal `where`, read again only when the table has
        changed.
        """
        version, condition = self.version(table), _equal(where) or "true"
        known, rows = self._read.get(table.name, (None, {}))
        if known != version:
            rows = {}
            self._read[table.name] = version, rows
        if condition not in rows:
            rows[condition] = self.read(table).where(condition).collect()
        return rows[condition]

    def filled(self, tables: Iterable[Table]) -> set[str]:
        """Names of those that hold a row."""
        there = (table for table in tables if self.exists(table))
        return {table.name for table in there if self._number_of_files(table)}

    def _number_of_files(self, table: Table) -> int:
        """As the checksum of the newest commit says; counted only where there is none."""
        snapshot = self._snapshot(table)
        checksum = snapshot.checksumOpt()
        return int(checksum.get().numFiles() if checksum.isDefined() else snapshot.numOfFiles())

    def version(self, table: Table) -> int:
        """Newest Delta version, -1 for a table that does not exist yet."""
        return int(self._snapshot(table).version()) if self.exists(table) else -1

    def _snapshot(self, table: Table) -> Any:
        """Delta's own view of the table as it is now; no query is run where it has one already."""
        nothing = self._jvm.scala.Option.empty()
        return self._log(self.path(table)).update(False, nothing, nothing)

    def _log(self, path: str) -> Any:
        return self._logs.forTable(self.spark._jsparkSession, path)

    @cached_property
    def _logs(self) -> Any:
        return self._jvm.org.apache.spark.sql.delta.DeltaLog

    @cached_property
    def _files(self) -> Files:
        return Files(self.spark)

    @property
    def _jvm(self) -> Any:
        return self.spark._jvm

    def replace(self, table: Table, frame: DataFrame, **where: date | str) -> None:
        """Rows whose columns equal `where` become `frame`; without `where`, all rows do."""
        self._must_be_restricted(table)
        self._replace(table, frame, where)

    def replace_each(self, frames: Mapping[Table, DataFrame], **where: date | str) -> None:
        """As `replace`, of several tables at once."""
        for table in frames:
            self._must_be_restricted(table)
        at_once(lambda table: self._replace(table, frames[table], where), frames)

    def append(self, table: Table, frame: DataFrame, *, once: str | None = None) -> None:
        """Adds rows. What is appended `once` under a name is never appended again under it."""
        self._must_be_restricted(table)
        self._create(table)
        with _named_rules(table):
            _writer(table, frame, once=once).mode("append").save(self.path(table))
        self.compact(table)

    def compact(self, table: Table) -> None:
        """Puts together what came few rows at a time: to open a file takes longer than to read it.

        Done once there are `MANY_FILES` of a table that is not partitioned. The files of versions
        of more than a week ago go.
        """
        self._must_be_restricted(table)
        if table.partitioned_by or self._number_of_files(table) < MANY_FILES:
            return
        DeltaTable.forPath(self.spark, self.path(table)).optimize().executeCompaction()
        now = max(file.modified_at for file in self._files.below(self.path(table)))
        stale = self.stale_files(table)
        self._files.remove(file for file in stale if file.modified_at < now - OLDER_VERSIONS)

    def merge(self, table: Table, frame: DataFrame) -> None:
        """Rows of `frame` replace those with the same key and join the others, in one commit.

        Where `frame` has a column `gone`, the rows for which it is true are removed instead.
        """
        self._merge(table, frame, adds=True)

    def update(self, table: Table, frame: DataFrame) -> None:
        """As `merge`, for rows that are all stored: others are not added. Of a `frame` that is
        to be broadcast, no row of the table is shuffled then.
        """
        self._merge(table, frame, adds=False)

    def _merge(self, table: Table, frame: DataFrame, *, adds: bool) -> None:
        self._must_be_restricted(table)
        self._create(table)
        gone = F.col("gone") if "gone" in frame.columns else F.lit(False)
        rows = _through_schema(table, frame.withColumn("gone", gone), _GONE)
        values = {column.name: f"new.`{column.name}`" for column in table.columns}
        merge = (
            DeltaTable.forPath(self.spark, self.path(table))
            .alias("old")
            .merge(rows.alias("new"), _same(table.key))
            .whenMatchedDelete("new.gone")
            .whenMatchedUpdate(set=values)
        )
        if adds:
            merge = merge.whenNotMatchedInsert("NOT new.gone", values=values)
        with _named_rules(table):
            merge.execute()

    def delete(self, table: Table, **where: date | str) -> None:
        """Removes the rows whose columns equal `where`."""
        self._must_be_restricted(table)
        if self.exists(table):
            DeltaTable.forPath(self.spark, self.path(table)).delete(_equal(where))

    def delete_matching(self, table: Table, frame: DataFrame, *, on: tuple[str, ...]) -> None:
        """Removes the rows that agree with some row of `frame` in the columns `on`."""
        self._must_be_restricted(table)
        if self.exists(table):
            (
                DeltaTable.forPath(self.spark, self.path(table))
                .alias("old")
                .merge(frame.select(*on).dropDuplicates().alias("new"), _same(on))
                .whenMatchedDelete()
                .execute()
            )

    def export(self, table: Table, frame: DataFrame, *, name: str) -> str:
        """Rows of a table for those who read no Delta: CSV files with a header. -> their folder

        Written once: a folder with `_SUCCESS` in it is whole and stays as it is, one without was
        cut short and is written anew. Whoever takes files from it waits for that sign.
        """
        self._must_be_restricted(table)
        folder = f"{self.path(table)}_export/{name}"
        if not self._is_whole(folder):
            _write_csv(frame, folder)
        return folder

    def exported(self, table: Table) -> DataFrame | None:
        """Rows of all exports of a table, as text; None without any."""
        exports = f"{self.path(table)}_export"
        if not any(file.name.endswith(".csv") for file in self._files.below(exports)):
            return None
        reader = self.spark.read.option("header", "true").option("recursiveFileLookup", "true")
        return reader.csv(exports)

    def delete_from_exports(self, table: Table, frame: DataFrame, *, on: tuple[str, ...]) -> int:
        """Removes the rows that agree with some row of `frame` from the exports of a table, and
        leaves the other rows and the names of the folders as they were. -> rows removed

        Cut short anywhere, an export is there as it was or as it will be, and the next call goes
        on with it.
        """
        self._must_be_restricted(table)
        exports = f"{self.path(table)}_export"
        return sum(self._delete_from(folder, frame, on) for folder in self._folders(exports))

    def _delete_from(self, folder: str, frame: DataFrame, on: tuple[str, ...]) -> int:
        anew = f"{folder}{_ANEW}"
        if not self._is_whole(folder):
            self._files.remove_folder(folder)
            if self._is_whole(anew):
                self._files.rename(anew, folder)
        self._files.remove_folder(anew)
        if not self._is_whole(folder):
            return 0
        rows = self.spark.read.option("header", "true").csv(folder)
        theirs = F.broadcast(frame.select(*on).dropDuplicates())
        removed = rows.join(theirs, on=list(on), how="left_semi").count()
        if removed:
            others = rows.join(theirs, on=list(on), how="left_anti").select(*rows.columns)
            _write_csv(others, anew)
            self._files.remove_folder(folder)
            self._files.rename(anew, folder)
        return removed

    def _folders(self, parent: str) -> list[str]:
        """The folders in one, those being written anew by the name they will have."""
        inside = self._files.folders(parent)
        return sorted({folder.removesuffix(_ANEW) for folder in inside})

    def _is_whole(self, folder: str) -> bool:
        return self._files.exists(f"{folder}/_SUCCESS")

    def delete_where(self, table: Table, condition: Column) -> None:
        """Removes the rows for which `condition` is true. It stays readable in Delta's log, so it
        may not hold anything of a person.
        """
        self._must_be_restricted(table)
        if self.exists(table):
            DeltaTable.forPath(self.spark, self.path(table)).delete(condition)

    def forget(self, tables: Iterable[Table]) -> int:
        """Leaves nothing of the tables but the rows they have now: no older file or version, no
        deletion vector, no change data, no older entry of Delta's log. Nobody may be reading an
        older version; where there is nothing to forget, nothing is done. -> data files removed
        """
        several = list(tables)
        for table in several:
            self._must_be_restricted(table)
        return sum(at_once(self._forget, several))

    def _forget(self, table: Table) -> int:
        if not self.exists(table):
            return 0
        path = self.path(table)
        found = self._snapshot(table).metadata().configuration()
        wanted, stale = _properties(table), self.stale_files(table)
        has_vectors = any(file.name.startswith("deletion_vector") for file in stale)
        if has_vectors or not all(found.get(name).contains(wanted[name]) for name in wanted):
            # Made by somebody else: with deletion vectors the rows themselves are still in files.
            listed = ", ".join(f"'{name}' = '{value}'" for name, value in wanted.items())
            self.spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ({listed})")
            self.spark.sql(f"REORG TABLE delta.`{path}` APPLY (PURGE)")
            stale = self.stale_files(table)
        self._files.remove(stale)
        if table.partitioned_by:
            for folder in {file.path.rpartition("/")[0] for file in stale}:
                self._files.remove_if_empty(folder)
        self._cut_log(f"{path}/_delta_log")
        return len(stale)

    def _cut_log(self, folder: str) -> None:
        """Removes what Delta's log says of versions before the newest one, which becomes a
        checkpoint of its own. Delta does so itself, but no sooner than after a day.
        """
        versions = {
            file: int(file.name[:20]) for file in self._files.below(folder) if _tells_version(file)
        }
        newest = max(versions.values())
        older = [file for file, version in versions.items() if version < newest]
        if not older:
            return
        path = folder.removesuffix("/_delta_log")
        self._know_anew(path)
        self._log(path).checkpoint()
        whole = f"{newest:020}.checkpoint"
        if not any(file.name.startswith(whole) for file in self._files.below(folder)):
            raise RuntimeError(f"no checkpoint {whole} was written")
        self._files.remove(older)
        self._know_anew(path)

    def _know_anew(self, path: str) -> None:
        """Has Delta forget what it knows of one table, not of all: to read a log takes a while."""
        self._logs.invalidateCache(self.spark._jsparkSession, self._files.hadoop_path(path))

    def stale_files(self, table: Table) -> list[File]:
        """Files of the table that its present version does not need, outside Delta's log."""
        if not self.exists(table):
            return []
        path = self.path(table)
        in_log = self._files.number_below(f"{path}/_delta_log")
        if self._files.number_below(path) == in_log + self._number_of_files(table):
            return []
        # Names are unique; whole paths are spelt in more than one way.
        needed = {path.rsplit("/", 1)[-1] for path in self.read(table).inputFiles()}
        files = (file for file in self._files.below(path) if _is_data(file))
        return [file for file in files if file.name not in needed]

    def may_hold_older(self, table: Table, than: date) -> bool:
        """Whether a row may be older. Where each date has a folder of its own no row is asked."""
        if table.partitioned_by != (table.age_column,):
            return True
        names = (folder.rsplit("/", 1)[-1] for folder in self._files.folders(self.path(table)))
        return any("=" in name and name.split("=")[1] < str(than) for name in names)

    @contextmanager
    def on_this_machine(self) -> Iterator[list[Path]]:
        """The folders with all files of both roots; of other storage a copy, for as long as the
        context lasts.
        """
        with TemporaryDirectory(prefix="footfall-copy-") as copies:
            folders = []
            for name, root in (("restricted", self.restricted), ("published", self.published)):
                folder = Path(root)
                if "://" in root:
                    folder = Path(copies) / name
                    self._copy(root, folder)
                if folder.exists():
                    folders.append(folder)
            yield folders

    def _copy(self, root: str, folder: Path) -> None:
        if self._files.exists(root):
            path, there = self._files.hadoop_path(root), self._files.hadoop_path(folder.as_uri())
            self._files.system(root).copyToLocalFile(False, path, there, True)

    def publish(self, release: Release) -> None:
        """Writes a release's rows into their published tables, each once: a table that holds the
        release already, or held it before a later one, stays as it is. What an attempt that was
        killed has left of it goes.
        """
        if not isinstance(release, Release):
            raise TypeError(f"a {type(release).__name__} can't be published: only a Release can")
        for table in release.parts:
            if table.root != "published":
                raise TypeError(f"{table.name} is {table.root}: a Release may not hold it")
        at_once(lambda table: self._publish(release, table), release.parts)

    def _publish(self, release: Release, table: Table) -> None:
        rows, where = release.parts[table].rows, release.replaces(table)
        self._replace(table, rows, where, once=release.release_id)
        self._files.remove(self._left_of(release, table))

    def _left_of(self, release: Release, table: Table) -> list[File]:
        """Files written for the release that no version of the table names.

        Only its own folders and the young end of the log are looked at, however long the table has
        been there: whatever names these files was committed after them.
        """
        path = self.path(table)
        folders = _folders(path, release.replaces(table)) or [path]
        half_written = self._files.matching(f"{path}/_delta_log", ".*")
        its_own = [file for one in folders for file in self._files.matching(one, "*.parquet")]
        young = [f for f in (*half_written, *its_own) if f.modified_at >= release.published_at]
        named = self._named_since(release.published_at, table) if young else set()
        return [file for file in young if file.name not in named]

    def _named_since(self, instant: datetime, table: Table) -> set[str]:
        """Names of the data files that commits since then added to a table or took from it."""
        names: set[str] = set()
        folder, log = f"{self.path(table)}/_delta_log", self._log(self.path(table)).store()
        conf = self.spark._jsc.hadoopConfiguration()
        for version in range(self.version(table), -1, -1):
            found = self._files.matching(folder, f"{version:020}.json")
            if not found or found[0].modified_at < instant:
                break
            text = log.read(self._files.hadoop_path(found[0].path), conf).mkString("\n")
            for action in map(json.loads, text.splitlines()):
                for kind in action.keys() & {"add", "remove"}:
                    # Names are unique; whole paths are spelt in more than one way.
                    names.add(action[kind]["path"].rsplit("/", 1)[-1])
        return names

    def _replace(
        self,
        table: Table,
        frame: DataFrame,
        where: Where,
        *,
        once: str | None = None,
    ) -> None:
        self._create(table)
        writer = _writer(table, frame, where, once=once)
        if self._holds_nothing_of(table, where):
            # As to replace nothing, and Delta need not look for what that is.
            writer = writer.mode("append")
        else:
            writer = writer.mode("overwrite")
            if where:
                writer = writer.option("replaceWhere", _equal(where))
        with _named_rules(table):
            writer.save(self.path(table))

    def _holds_nothing_of(self, table: Table, where: Where) -> bool:
        """Whether there is no folder of these dates, in a table that has one for each. Of other
        values folders have names of their own, so these are looked for by Delta.
        """
        if not where or not set(where) <= set(table.partitioned_by):
            return False
        values = (value for given in where.values() for value in _values(given))
        if not all(isinstance(value, date) for value in values):
            return False
        folders = _folders(self.path(table), where)
        return not any(map(self._files.exists, folders))

    def _must_be_restricted(self, table: Table) -> None:
        if table.root != "restricted":
            raise TypeError(f"{table.name} is published: only Store.publish(Release) may write it")


def _tells_version(file: File) -> bool:
    """Whether a file of Delta's log tells something of one version of a table."""
    return file.name[:20].isdigit()


def _is_data(file: File) -> bool:
    """Whether it is to hold rows, and not something about a file or a version."""
    return "/_delta_log/" not in file.path and not file.name.endswith(".crc")


def _nullable(schema: T.StructType) -> T.StructType:
    """The schema without its NOT NULLs: Delta enforces those itself, row by row, at the write."""
    fields = [T.StructField(f.name, f.dataType, True, f.metadata) for f in schema.fields]
    return T.StructType(fields)


_GONE = T.StructField("gone", T.BooleanType())


def _through_schema(table: Table, frame: DataFrame, *and_also: T.StructField) -> DataFrame:
    """What the catalogue does not declare is dropped, what it declares must be there."""
    missing = [column.name for column in table.columns if column.name not in frame.columns]
    if missing:
        raise Failed(
            f"table {table.name}",
            found=f"no column {', '.join(missing)}",
            expected="every column of the catalogue",
            consequence="the table stays as it was",
        )
    return frame.to(T.StructType([*_nullable(table.schema).fields, *and_also]))


def _writer(
    table: Table, frame: DataFrame, where: Where | None = None, *, once: str | None = None
) -> Any:
    rows = _through_schema(table, frame)
    for name, given in (where or {}).items():
        stop = F.raise_error(F.lit(_OUTSIDE))
        inside = F.when(F.expr(_equal({name: given})), F.col(name))
        rows = rows.withColumn(name, inside.otherwise(stop))
    writer = rows.write.format("delta")
    if once is None:
        return writer
    # Delta's own idempotence: the commit carries the name, and a second one of it is skipped,
    # also when both are under way at the same moment.
    return writer.option("txnAppId", once).option("txnVersion", 1)


def _same(columns: tuple[str, ...]) -> str:
    return " AND ".join(f"old.`{name}` <=> new.`{name}`" for name in columns)


def _values(given: date | str | tuple[date, ...]) -> tuple[date | str, ...]:
    return given if isinstance(given, tuple) else (given,)


_OUTSIDE = "a row outside of what is replaced"
"""What stops a write that would leave rows where they are not looked for."""


def _folders(path: str, where: Where) -> list[str]:
    """Where a table that is partitioned by columns of dates keeps the rows that have them."""
    pairs = ((name, value) for name, given in where.items() for value in _values(given))
    return [f"{path}/{name}={value}" for name, value in pairs]


def _equal(where: Where) -> str:
    conditions = []
    for name, given in where.items():
        values = _values(given)
        if not all(re.fullmatch(r"[A-Za-z0-9._:-]+", str(value)) for value in values):
            raise ValueError("a partition value may hold letters, digits and ._:- only")
        listed = ", ".join(f"'{value}'" for value in values)
        conditions.append(f"`{name}` IN ({listed})")
    return " AND ".join(conditions)


_CHECK = re.compile(r"CHECK constraint (\w+)")
_NOT_NULL = re.compile(r"NOT NULL constraint violated for column: ?(\w+)")


@contextmanager
def _named_rules(table: Table) -> Iterator[None]:
    """A violated rule arrives as a bare Java error with the row's values: name the rule only."""
    try:
        yield
    except (PySparkException, Py4JError) as cause:
        rule = _broken_rule(table, str(cause))
        if rule is None:
            raise
        raise Failed(
            f"table {table.name}",
            found=f"a row that breaks {rule}",
            expected="every row to keep it",
            consequence="the table stays as it was",
        ) from None


def _broken_rule(table: Table, text: str) -> str | None:
    """Name and wording of the rule that Delta complains about; None for another complaint."""
    check, not_null = _CHECK.search(text), _NOT_NULL.search(text)
    if not_null:
        return f"{not_null[1]} NOT NULL"
    if check and check[1] in table.checks:
        return f"{check[1]} ({table.checks[check[1]]})"
    return "the condition of what is replaced" if _OUTSIDE in text else None


_STORAGE_FAILURES = {
    "No space left on device": "no space left",
    "Disk quota exceeded": "no space left of the quota",
    "File too large": "a limit to the size of files",
    "Read-only file system": "a read-only file system",
    "Permission denied": "no right to write",
    "AccessControlException": "no right to write",
    "Mkdirs failed to create": "a folder that can't be made",
}


def storage_failure(cause: Exception) -> str | None:
    """What is wrong with the storage that could not be written to; None for any other error."""
    text = str(cause)
    return next((told for sign, told in _STORAGE_FAILURES.items() if sign in text), None)
