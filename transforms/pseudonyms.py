"""Dissociate: identity -> HMAC-SHA256 (RFC 2104, FIPS 198-1) under the key of the day."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T


def pseudonymised(
    frame: DataFrame, *, read_key: Callable[[], bytes], identity: str = "subscriber_id"
) -> DataFrame:
    """`frame` with the column `identity` replaced by `pseudonym` (64 hex digits).

    read_key is called on the workers, where the work happens: the key itself is never part of a
    plan, a setting or a broadcast. Reduce before you call it: it is Python, row by row.
    """
    kept = [name for name in frame.columns if name != identity]
    schema = T.StructType(
        [T.StructField("pseudonym", T.StringType(), False), *[frame.schema[name] for name in kept]]
    )

    def pseudonymise(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        key = read_key()
        for batch in batches:
            ids = batch.column(identity).to_pylist()
            pseudonyms = [hmac.digest(key, one.encode(), "sha256").hex() for one in ids]
            columns = [pa.array(pseudonyms, pa.string()), *[batch.column(name) for name in kept]]
            yield pa.RecordBatch.from_arrays(columns, names=["pseudonym", *kept])

    return frame.mapInArrow(pseudonymise, schema)
