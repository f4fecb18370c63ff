"""Frames of few rows that a job knows by itself, and frames that are computed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema


def local_frame(
    spark: SparkSession,
    rows: Iterable[Sequence[Any] | Mapping[str, Any]],
    schema: T.StructType | str,
) -> DataFrame:
    """Rows as a frame that lies in the plan itself: what is asked of it alone takes no task.

    rows: values in the order of `schema`, or by its names. They never show in a plan's text.
    Spark's own frames of Python rows are RDDs, and each query of one takes some ten times longer.
    Raises `ValueError` for a missing value where the schema allows none.
    """
    struct: Any = T.StructType.fromDDL(schema) if isinstance(schema, str) else schema
    by_position = [
        [row[name] for name in struct.names] if isinstance(row, Mapping) else row for row in rows
    ]
    columns = list(zip(*by_position, strict=True)) or [()] * len(struct.names)
    arrow = to_arrow_schema(struct)
    arrays = []
    for field, values, kind in zip(struct.fields, columns, arrow.types, strict=True):
        arrays.append(pa.array(values, type=kind))
        if arrays[-1].null_count and not field.nullable:
            raise ValueError(f"{field.name}: a value is missing")
    return spark.createDataFrame(pa.Table.from_arrays(arrays, schema=arrow), struct)


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """The frame, computed once for as long as the context lasts.

    Nothing of it stays in memory afterwards, however the context ends; and no later write to a
    table that it was read from has Spark plan it anew.
    """
    frame.persist()
    try:
        yield frame
    finally:
        frame.unpersist()
