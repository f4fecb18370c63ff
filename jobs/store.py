"""The Delta tables of the catalogue: created, read, replaced, merged, deleted, vacuumed.

The published root has one way in: `Store.publish`, which takes a `Release` and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Any

from delta.tables import DeltaTable
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from transforms.disclosure import Release
from transforms.errors import Failed
from transforms.tables import Table

_PROPERTIES = {
    "delta.enableDeletionVectors": "false",  # every Delta reader can open plain files
    "delta.enableChangeDataFeed": "false",
}
_VACUUM_GUARD = "spark.databricks.delta.retentionDurationCheck.enabled"


@dataclass(frozen=True)
class Store:
    """Tables below the two roots."""

    spark: SparkSession
    restricted: str
    published: str

    def path(self, table: Table) -> str:
        root = self.published if table.root == "published" else self.restricted
        return f"{root.rstrip('/')}/{table.path}"

    def exists(self, table: Table) -> bool:
        return DeltaTable.isDeltaTable(self.spark, self.path(table))

    def create(self, tables: Iterable[Table]) -> None:
        """Creates what is missing, with comments, partitioning and CHECK constraints."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._create, tables))

    def _create(self, table: Table) -> None:
        if self.exists(table):
            return
        builder = (
            DeltaTable.createIfNotExists(self.spark)
            .location(self.path(table))
            .comment(table.doc)
            .addColumns(table.schema)
        )
        if table.partitioned_by:
            builder = builder.partitionedBy(*table.partitioned_by)
        checks = {f"delta.constraints.{name}": rule for name, rule in table.checks.items()}
        for name, value in {**_PROPERTIES, **checks}.items():
            builder = builder.property(name, value)
        builder.execute()

    def read(self, table: Table) -> DataFrame:
        """All rows; a table that does not exist yet has none."""
        if not self.exists(table):
            return self.spark.createDataFrame([], _nullable(table.schema))
        return self.spark.read.format("delta").load(self.path(table))

    def filled(self, tables: Iterable[Table]) -> set[str]:
        """Names of those that hold a row, in one query."""
        some = [
            self.read(table).limit(1).select(F.lit(table.name).alias("name")) for table in tables
        ]
        return {row.name for row in reduce(DataFrame.unionByName, some).collect()}

    def version(self, table: Table) -> int:
        """Newest Delta version, -1 for a table that does not exist yet."""
        if not self.exists(table):
            return -1
        history = DeltaTable.forPath(self.spark, self.path(table)).history(1)
        return int(history.select("version").first()["version"])

    def replace(self, table: Table, frame: DataFrame, **where: date | str) -> None:
        """Rows whose columns equal `where` become `frame`; without `where`, all rows do."""
        self._must_be_restricted(table)
        self._replace(table, frame, where)

    def append(self, table: Table, frame: DataFrame, *, once: str | None = None) -> None:
        """Adds rows. What is appended `once` under a name is never appended again under it."""
        self._must_be_restricted(table)
        self._create(table)
        with _named_rules(table):
            _writer(table, frame, once=once).mode("append").save(self.path(table))

    def merge(self, table: Table, frame: DataFrame) -> None:
        """Rows of `frame` replace those with the same key and join the others, in one commit.

        Where `frame` has a column `gone`, the rows for which it is true are removed instead.
        """
        self._must_be_restricted(table)
        self._create(table)
        gone = F.col("gone") if "gone" in frame.columns else F.lit(False)
        rows = _through_schema(table, frame.withColumn("gone", gone), _GONE)
        values = {column.name: f"new.`{column.name}`" for column in table.columns}
        with _named_rules(table):
            (
                DeltaTable.forPath(self.spark, self.path(table))
                .alias("old")
                .merge(rows.alias("new"), _same(table.key))
                .whenMatchedDelete("new.gone")
                .whenMatchedUpdate(set=values)
                .whenNotMatchedInsert("NOT new.gone", values=values)
                .execute()
            )

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
        jvm: Any = self.spark._jvm
        sign = jvm.org.apache.hadoop.fs.Path(f"{folder}/_SUCCESS")
        if not sign.getFileSystem(self.spark._jsc.hadoopConfiguration()).exists(sign):
            frame.write.option("header", "true").mode("overwrite").csv(folder)
        return folder

    def vacuum(self, table: Table, *, hours: float) -> None:
        """Removes files that no version of the last `hours` needs.

        Delta refuses less than a week lest a running writer loses files; a store has one writer.
        """
        if not self.exists(table):
            return
        guarded = str(self.spark.conf.get(_VACUUM_GUARD, "true"))
        self.spark.conf.set(_VACUUM_GUARD, "false")
        try:
            DeltaTable.forPath(self.spark, self.path(table)).vacuum(hours)
        finally:
            self.spark.conf.set(_VACUUM_GUARD, guarded)

    def publish(self, release: Release) -> None:
        """Writes a release's rows of its day into every published table, each once: a table that
        holds the release already, or held it before a later one, stays as it is.
        """
        if not isinstance(release, Release):
            raise TypeError(f"a {type(release).__name__} can't be published: only a Release can")
        for table in release.tables:
            if table.root != "published":
                raise TypeError(f"{table.name} is {table.root}: a Release may not hold it")
        with ThreadPoolExecutor(3) as pool:  # small tables: most of a write is waiting
            written = [
                pool.submit(
                    self._replace, table, frame, {"day": release.day}, once=release.release_id
                )
                for table, frame in release.tables.items()
            ]
        for one in written:
            one.result()

    def _replace(
        self,
        table: Table,
        frame: DataFrame,
        where: Mapping[str, date | str],
        *,
        once: str | None = None,
    ) -> None:
        self._create(table)
        writer = _writer(table, frame, once=once).mode("overwrite")
        if where:
            writer = writer.option("replaceWhere", _equal(where))
        with _named_rules(table):
            writer.save(self.path(table))

    def _must_be_restricted(self, table: Table) -> None:
        if table.root != "restricted":
            raise TypeError(f"{table.name} is published: only Store.publish(Release) may write it")


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


def _writer(table: Table, frame: DataFrame, *, once: str | None = None) -> Any:
    writer = _through_schema(table, frame).write.format("delta")
    if once is None:
        return writer
    # Delta's own idempotence: the commit carries the name, and a second one of it is skipped,
    # also when both are under way at the same moment.
    return writer.option("txnAppId", once).option("txnVersion", 1)


def _same(columns: tuple[str, ...]) -> str:
    return " AND ".join(f"old.`{name}` <=> new.`{name}`" for name in columns)


def _equal(where: Mapping[str, date | str]) -> str:
    for value in where.values():
        if not re.fullmatch(r"[A-Za-z0-9._:-]+", str(value)):
            raise ValueError("a partition value may hold letters, digits and ._:- only")
    return " AND ".join(f"`{name}` = '{value}'" for name, value in where.items())


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
    # `replaceWhere` is checked like a rule, but has a condition in place of a name.
    return "the condition of what is replaced" if check else None
