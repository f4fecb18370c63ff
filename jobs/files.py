"""Texts beside tables, on whatever storage these lie: through Hadoop's file system API, too."""

from __future__ import annotations

from typing import Any

from pyspark.sql import SparkSession


def write_text(spark: SparkSession, path: str, text: str) -> None:
    """Whole or not at all: it is written under a hidden name and then takes the old one's place."""
    jvm: Any = spark._jvm
    target = jvm.org.apache.hadoop.fs.Path(path)
    hidden = jvm.org.apache.hadoop.fs.Path(target.getParent(), f".{target.getName()}.new")
    system = target.getFileSystem(spark._jsc.hadoopConfiguration())
    stream = system.create(hidden, True)
    try:
        stream.write(text.encode())
    finally:
        stream.close()
    system.delete(target, False)
    if not system.rename(hidden, target):
        raise OSError(f"{path} was not written")
