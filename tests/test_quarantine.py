"""The sample of rows that were left out: of every reason, never too many, always the same."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.frames import local_frame
from tests.subscriber_days import gathered
from transforms import events, quarantine
from transforms.events import REASONS

DAY = date(2025, 11, 22)
NOON = datetime(2025, 11, 22, 12)
START, END = datetime(2025, 11, 21, 23, tzinfo=UTC), datetime(2025, 11, 22, 23, tzinfo=UTC)
SCHEMA = (
    "subscriber_id string, event_time timestamp, cell_id string, event_type string, "
    "folder_date date"
)
FAULTS = {
    "no_id": ("", NOON, "mall"),
    "no_time": ("in", None, "mall"),
    "implausible_time": ("in", NOON - timedelta(days=9), "mall"),
    "no_cell": ("in", NOON, None),
    "unknown_cell": ("in", NOON, "moon"),
    "not_a_subscriber": ("roamer", NOON, "mall"),
}


@pytest.fixture(scope="module")
def sampled(spark: SparkSession) -> DataFrame:
    """Thirty rows of each fault, a doubled row, one of another day, some that are sound."""
    rows = [
        (who, at, cell, f"type {n}", DAY) for who, at, cell in FAULTS.values() for n in range(30)
    ]
    doubled = ("in", NOON, "mall", "data", DAY)
    rows += [doubled, doubled, ("in", NOON - timedelta(days=1), "mall", "data", DAY)]
    rows += [(who, NOON + timedelta(hours=1), "mall", "data", DAY) for who in ("in", "out")]
    frame = local_frame(spark, rows, SCHEMA)
    return sample_of(frame, spark)


def sample_of(frame: DataFrame, spark: SparkSession, *, rows: int = 5) -> DataFrame:
    cells = local_frame(spark, [("mall",)], "cell_id string")
    people = local_frame(
        spark,
        [("in", True, None), ("out", False, "opted_out")],
        "subscriber_id string, taking_part boolean, left_out string",
    )
    screened = events.screened(frame, day_start=START, day_end=END)
    found = gathered(events.of_day(screened), cells, day_start=START)
    return quarantine.sample(
        events.placed(screened, found.cells),
        events.settled(found.days, people),
        found.cells,
        packing=found.packing,
        rows=rows,
    )


def test_each_reason_has_rows_and_none_more_than_the_cap(sampled: DataFrame) -> None:
    rows = sampled.collect()
    counts = Counter(row.reason for row in rows)
    assert set(counts) == set(REASONS)
    assert {counts[reason] for reason in FAULTS} == {5}
    for row in rows:
        if row.reason in FAULTS:
            assert (row.subscriber_id, row.event_time, row.cell_id) == FAULTS[row.reason]
            assert row.event_type is not None
            assert (row.folder_date is not None) == (row.reason != "not_a_subscriber")


def test_rows_are_numbered_within_their_reason(sampled: DataFrame) -> None:
    numbers = sorted(row.number for row in sampled.where("reason = 'no_cell'").collect())
    assert numbers == [1, 2, 3, 4, 5]


def test_of_doubled_rows_the_repeat_is_in_the_sample(sampled: DataFrame) -> None:
    [row] = sampled.where("reason = 'duplicate'").collect()
    assert (row.subscriber_id, row.event_time, row.cell_id) == ("in", NOON, "mall")


def test_what_counts_and_who_does_not_take_part_is_in_no_sample(sampled: DataFrame) -> None:
    assert sampled.where("event_time > timestamp'2025-11-22 12:30:00'").isEmpty()
    assert sampled.where("subscriber_id = 'out'").isEmpty()


def test_the_same_rows_in_another_order_give_the_same_sample(spark: SparkSession) -> None:
    rows = [(f"{n}", NOON, None, "data", DAY) for n in range(50)]
    one, other = (
        sample_of(local_frame(spark, some, SCHEMA).repartition(parts), spark).collect()
        for some, parts in ((rows, 1), (rows[::-1], 3))
    )
    assert len(one) == 5
    assert {(row.subscriber_id, row.number) for row in one} == {
        (row.subscriber_id, row.number) for row in other
    }
