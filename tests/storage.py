"""Storage as it is in life: here, full."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession


@contextmanager
def full_storage(spark: SparkSession) -> Iterator[None]:
    """No byte more gets into any file that the session's JVM writes, as long as the context lasts.

    The system itself refuses it (EFBIG, where a full disk has ENOSPC), wherever the code is then.
    """
    process = int(spark._jvm.java.lang.ProcessHandle.current().pid())  # type: ignore[union-attr]
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)
