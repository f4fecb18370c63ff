"""Events as whole numbers: nothing of them is lost, and their order is that of time and cells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.frames import local_frame
from transforms.errors import Failed
from transforms.packing import MOST_TYPES, Packing, numbered

START = datetime(2026, 10, 24, 22, tzinfo=UTC)  # a day of 25 hours in Berlin
LAST_US = 25 * 3600 * 1_000_000 - 1
TYPES = ("data", "call", "handover")
EVENT = "event_time timestamp, number int, event_type string"

some_events = st.tuples(
    st.sampled_from([0, 1, LAST_US]) | st.integers(0, LAST_US),
    st.sampled_from([0, 999_999]) | st.integers(0, 999_999),
    st.sampled_from([*TYPES, None]),
)


@given(events=st.lists(some_events, min_size=200, max_size=400))
@settings(settings.get_profile("batches"))
def test_an_event_comes_back_as_it_was_and_in_order(
    spark: SparkSession, events: list[tuple[int, int, str | None]]
) -> None:
    packing = Packing(START, cells=1_000_000, types=TYPES)
    rows = [(START + timedelta(microseconds=us), number, what) for us, number, what in events]
    packed = packing.packed(F.col("event_time"), F.col("number"), F.col("event_type"))
    found = (
        local_frame(spark, rows, EVENT)
        .select(packed.alias("event"))
        .orderBy("event")
        .select(
            "event",
            packing.instant_us(F.col("event")).alias("us"),
            packing.number(F.col("event")).alias("number"),
            packing.event_type(F.col("event")).alias("event_type"),
            packing.is_of_type(F.col("event"), ["call", "handover"]).alias("is_one"),
        )
        .collect()
    )
    start_us = int(START.timestamp()) * 1_000_000
    came_back = [(row.us - start_us, row.number, row.event_type) for row in found]
    codes = {None: 0} | {name: code for code, name in enumerate(TYPES, start=1)}
    assert came_back == sorted(events, key=lambda one: (one[0], one[1], codes[one[2]]))
    assert all(row.event >= 0 for row in found)
    assert [row.is_one for row in found] == [what in ("call", "handover") for *_, what in came_back]


def test_what_is_not_known_is_not_packed(spark: SparkSession) -> None:
    packing = Packing(START, cells=2, types=TYPES)
    rows = [(None, 1, "data"), (START, None, "data"), (START, 1, "not seen before")]
    packed = packing.packed(F.col("event_time"), F.col("number"), F.col("event_type"))
    found = local_frame(spark, rows, EVENT).select(packed.alias("event")).collect()
    assert [row.event for row in found] == [None] * 3


@pytest.mark.parametrize(
    ("cells", "types"), [(1, MOST_TYPES), (1 << 16, MOST_TYPES), (1 << 20, 63), (1 << 26, 0)]
)
def test_so_many_cells_and_types_fit_and_not_one_type_more(cells: int, types: int) -> None:
    names = tuple(f"type {number}" for number in range(types + 1))
    Packing(START, cells=cells, types=names[:types])
    with pytest.raises(Failed, match=f"event types: found {types + 1} .*at most {types} "):
        Packing(START, cells=cells, types=names)


def test_cells_are_numbered_in_the_order_of_their_ids(spark: SparkSession) -> None:
    ids = ["b", "a", "B", "ä", "a 1", "𝒜", "\ue000"]
    frame = local_frame(spark, [(one,) for one in ids], "cell_id string")
    numbers = {row.cell_id: row.number for row in numbered(frame).collect()}
    assert sorted(ids, key=str.encode) == sorted(ids, key=lambda one: numbers[one])
    assert sorted(numbers.values()) == list(range(len(ids)))
