"""An operator's columns become the contract's; a bad value becomes null and stops nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from jobs.frames import local_frame
from transforms.inputs import conformed, missing_columns
from transforms.settings import ColumnSource
from transforms.tables import CELLS, DECISIONS, EVENTS, SUBSCRIBERS, Column, Input

THINGS = Input(
    "things",
    (
        Column("thing_id", T.StringType(), "", True),
        Column("seen_at", T.TimestampType(), "", True),
        Column("size", T.DoubleType(), "", True),
        Column("bought_on", T.DateType(), "", True),
        Column("sound", T.BooleanType(), "", True),
    ),
    frozenset({"seen_at", "size", "bought_on", "sound"}),
)


def one_column(name: str) -> Input:
    """The contract of a single column."""
    return Input("things", tuple(c for c in THINGS.columns if c.name == name), THINGS.optional)


def values(frame: DataFrame, name: str, source: ColumnSource | None = None) -> list[Any]:
    """What a column named `name` of the contract comes to."""
    sources = {name: source} if source else {}
    return [row[0] for row in conformed(frame, one_column(name), sources).collect()]


# ------------------------------------------------------------------------------ which columns


def test_the_result_has_the_contract_s_columns_and_types_whatever_came_in(
    spark: SparkSession,
) -> None:
    raw = local_frame(spark, [("x", 1, "a")], "colour string, size int, `my.id` string")
    frame = conformed(raw, THINGS, {"thing_id": ColumnSource(column="my.id")})
    assert [(f.name, f.dataType) for f in frame.schema.fields] == [
        (column.name, column.type) for column in THINGS.columns
    ]
    assert [tuple(row) for row in frame.collect()] == [("a", None, 1.0, None, None)]


def test_a_constant_stands_for_a_column_the_operator_does_not_have(spark: SparkSession) -> None:
    raw = local_frame(spark, [("a",), ("b",)], "thing_id string")
    sources = {
        "sound": ColumnSource(value="true"),
        "size": ColumnSource(value="2.5"),
    }
    rows = conformed(raw, THINGS, sources).select("thing_id", "size", "sound").collect()
    assert [tuple(row) for row in rows] == [("a", 2.5, True), ("b", 2.5, True)]


def test_all_missing_columns_are_named_at_once_by_the_operator_s_own_names() -> None:
    sources = {
        "event_time": ColumnSource(column="ts"),
        "cell_id": ColumnSource(column="cgi"),
        "event_type": ColumnSource(value="unknown"),
    }
    assert missing_columns(["cgi", "other"], EVENTS, sources) == ["subscriber_id", "ts"]
    assert missing_columns([], EVENTS, {}) == [column.name for column in EVENTS.columns]


def test_an_optional_column_is_only_missing_once_it_was_asked_for() -> None:
    assert missing_columns(["cell_id", "latitude", "longitude", "range_m"], CELLS, {}) == []
    assert missing_columns(["subscriber_id", "area"], SUBSCRIBERS, {}) == []
    asked = {"channel": ColumnSource(column="medium")}
    found = [column.name for column in DECISIONS.columns]
    assert missing_columns(found, DECISIONS, {}) == []
    assert missing_columns(found, DECISIONS, asked) == ["medium"]


# --------------------------------------------------------------------------------- identities


def test_a_binary_identity_becomes_lower_case_hex(spark: SparkSession) -> None:
    raw = local_frame(spark, [(b"\x00\xab\xff",), (b"",), (None,)], "thing_id binary")
    assert values(raw, "thing_id") == ["00abff", "", None]
    assert values(raw, "thing_id", ColumnSource(column="thing_id", encoding="hex")) == [
        "00abff",
        "",
        None,
    ]


def test_a_binary_identity_becomes_base64_where_that_is_asked_for(spark: SparkSession) -> None:
    raw = local_frame(spark, [(b"\x00\xab\xff",), (None,)], "raw binary")
    source = ColumnSource(column="raw", encoding="base64")
    assert values(raw, "thing_id", source) == ["AKv/", None]


def test_a_number_as_identity_keeps_all_its_digits(spark: SparkSession) -> None:
    raw = local_frame(spark, [(4917012345678901234,)], "thing_id long")
    assert values(raw, "thing_id") == ["4917012345678901234"]


def test_words_are_translated_and_unknown_words_become_null(spark: SparkSession) -> None:
    raw = local_frame(spark, [("macro",), ("pico",), ("?",), (None,)], "layer string")
    source = ColumnSource(column="layer", values={"macro": 2500.0, "pico": 150.0})
    assert values(raw, "size", source) == [2500.0, 150.0, None, None]


# ----------------------------------------------------------------------- values that can't be read


def test_what_can_not_be_read_becomes_null_beside_what_can(spark: SparkSession) -> None:
    raw = local_frame(
        spark,
        [
            ("good", "2026-11-23 09:30:00", "12.5", "2026-11-23", "true"),
            ("bad", "half past nine", "wide", "2026-02-30", "perhaps"),
            ("empty", "", "", "", ""),
            ("null", None, None, None, None),
            ("odd", "2026-11-23 25:61:00", "12,5", "0000-00-00", "2"),
        ],
        "thing_id string, seen_at string, size string, bought_on string, sound string",
    )
    found = {row.thing_id: tuple(row)[1:] for row in conformed(raw, THINGS, {}).collect()}
    nothing = (None, None, None, None)
    assert found["good"] == (datetime(2026, 11, 23, 9, 30), 12.5, date(2026, 11, 23), True)
    assert found["bad"] == found["empty"] == found["null"] == found["odd"] == nothing


@pytest.fixture
def quiet() -> Iterator[None]:
    """Spark tells refused plans at length."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("bought_on", "int", 20261123),
        ("bought_on", "boolean", True),
        ("seen_at", "boolean", True),
        ("seen_at", "array<string>", ["09:30"]),
        ("size", "date", date(2026, 11, 23)),
        ("size", "binary", b"12"),
        ("size", "struct<metres:double>", (12.5,)),
        ("sound", "timestamp", datetime(2026, 11, 23, tzinfo=UTC)),
        ("sound", "binary", b"1"),
    ],
)
def test_a_column_of_a_type_that_can_not_be_read_is_null_throughout(
    spark: SparkSession, name: str, kind: str, value: Any
) -> None:
    raw = local_frame(spark, [(value,)], f"{name} {kind}")
    assert values(raw, name) == [None]


# ----------------------------------------------------------------------------------- instants


def test_formats_are_tried_in_turn_in_the_operator_s_timezone(spark: SparkSession) -> None:
    raw = local_frame(
        spark,
        [
            ("23.11.2026 09:30:00",),
            ("20260701093000",),
            ("23/11/2026",),
            ("",),
        ],
        "ts string",
    )
    source = ColumnSource(
        column="ts",
        formats=("dd.MM.yyyy HH:mm:ss", "yyyyMMddHHmmss"),
        timezone="Europe/Berlin",
    )
    assert values(raw, "seen_at", source) == [
        datetime(2026, 11, 23, 8, 30),
        datetime(2026, 7, 1, 7, 30),
        None,
        None,
    ]


def test_instants_keep_their_microseconds(spark: SparkSession) -> None:
    instant = datetime(2026, 11, 23, 9, 30, 0, 123_457, tzinfo=UTC)
    raw = local_frame(spark, [(instant,)], "seen_at timestamp")
    assert values(raw, "seen_at") == [instant.replace(tzinfo=None)]


def test_whole_numbers_are_nanoseconds_since_1970_cut_to_the_microsecond(
    spark: SparkSession,
) -> None:
    start = 1_795_305_600_000_000_000
    numbers = [start + step * 1_000_001_777 for step in range(1_000)] + [start - 1, start, 0]
    raw = local_frame(spark, [(number,) for number in numbers], "seen_at long")
    epoch = datetime(1970, 1, 1)
    found = [(instant - epoch) for instant in values(raw, "seen_at")]
    whole = [
        delta.days * 86_400_000_000 + delta.seconds * 1_000_000 + delta.microseconds
        for delta in found
    ]
    wrong = [(n, w) for n, w in zip(numbers, whole, strict=True) if w != n // 1000]
    assert not wrong, f"{len(wrong)} of {len(numbers)} differ, for instance {wrong[:3]}"


def test_a_number_that_is_missing_is_no_instant(spark: SparkSession) -> None:
    raw = local_frame(spark, [(None,)], "seen_at long")
    assert values(raw, "seen_at") == [None]
