"""Frames that lie in the plan: what they hold, what they cost, what they show."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.frames import local_frame

SCHEMA = (
    "name string, n int, share double, day date, at timestamp, raw binary, "
    "by_name map<string,bigint>, spans array<struct<from: timestamp, to: timestamp>>"
)
AT = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
ROWS = [
    ("a 'quoted' <b>", 7, 0.5, date(2026, 11, 23), AT, b"\x00\xff", {"x": 1}, [(AT, AT)]),
    ("", 0, float("inf"), date(1970, 1, 1), AT, b"", {}, []),
    (None,) * 8,
]


def test_rows_are_what_spark_makes_of_them(spark: SparkSession) -> None:
    ours, sparks = local_frame(spark, ROWS, SCHEMA), spark.createDataFrame(ROWS, SCHEMA)
    assert ours.schema == sparks.schema
    assert ours.collect() == sparks.collect()


def test_values_are_found_by_name(spark: SparkSession) -> None:
    row = {"b": 2, "a": 1, "unasked": 3}
    assert local_frame(spark, [row], "a int, b int").collect() == [(1, 2)]


def test_there_may_be_no_row(spark: SparkSession) -> None:
    assert local_frame(spark, [], SCHEMA).collect() == []


def test_an_instant_without_a_zone_is_of_utc(spark: SparkSession) -> None:
    (row,) = local_frame(spark, [(AT.replace(tzinfo=None),)], "at timestamp").collect()
    assert row == local_frame(spark, [(AT,)], "at timestamp").first()


def test_a_missing_value_is_refused_where_none_may_be(spark: SparkSession) -> None:
    required = T.StructType([T.StructField("n", T.IntegerType(), nullable=False)])
    with pytest.raises(ValueError, match="n: a value is missing"):
        local_frame(spark, [(1,), (None,)], required)


def test_a_row_of_another_length_is_refused(spark: SparkSession) -> None:
    with pytest.raises(ValueError, match="argument"):
        local_frame(spark, [(1, 2), (1,)], "a int, b int")


def test_no_value_shows_in_a_plan_and_no_task_runs(spark: SparkSession) -> None:
    frame = local_frame(spark, [("4915100000042", 3)], "id string, n int").where(F.col("n") > 2)
    plan = frame._jdf.queryExecution().toString()
    assert "LocalRelation" in plan and "4915100000042" not in plan
    group = "rows in the plan"
    spark.sparkContext.setJobGroup(group, group)
    assert [row.id for row in frame.collect()] == ["4915100000042"]
    assert not spark.sparkContext.statusTracker().getJobIdsForGroup(group)
