"""One event as one whole number: when, where and what, in this order of weight.

An array of such numbers is a subscriber's day in 8 bytes an event. In ascending order it is in the
order of time, at one instant in that of the cells' ids; equal numbers are the same event twice.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.errors import Failed

MOST_TYPES = 1_000
_ALL_BITS = 63
TIME_BITS = 37
"""Microseconds of a day of up to 38 hours; clocks make none longer than 25."""


@dataclass(frozen=True)
class Packing:
    """Of the events of one day.

    day_start: its first instant; cells: how many there are, numbered from 0; types: every type of
    event that occurs but null, the most frequent first. Raises `Failed` when there are too many
    to fit: `MOST_TYPES`, and 2²⁶ pairs of a cell and a type.
    """

    day_start: datetime
    cells: int
    types: tuple[str, ...]

    def __post_init__(self) -> None:
        left = max(_ALL_BITS - TIME_BITS - self._cell_bits, 0)
        most = min(2**left - 1, MOST_TYPES)
        if len(self.types) > most:
            raise Failed(
                "event types",
                found=f"{len(self.types)} of them or more",
                expected=f"at most {most} with {self.cells} cells",
                consequence="nothing was published",
            )

    @property
    def _cell_bits(self) -> int:
        return max(self.cells - 1, 0).bit_length()

    @property
    def _type_bits(self) -> int:
        return len(self.types).bit_length()

    def packed(self, event_time: Column, number: Column, event_type: Column) -> Column:
        """The event; null when a part of it is, or is of a type that is not known."""
        since = F.unix_micros(event_time) - F.lit(self._start_us)
        what = F.when(event_type.isNull(), F.lit(0))
        for code, name in enumerate(self.types, start=1):
            what = what.when(event_type == F.lit(name), F.lit(code))
        place = F.shiftleft(number.cast("long"), self._type_bits)
        return F.shiftleft(since, self._cell_bits + self._type_bits) + place + what

    def instant_us(self, event: Column) -> Column:
        """Microseconds since 1970."""
        since = F.shiftright(event, self._cell_bits + self._type_bits)
        return since + F.lit(self._start_us)

    def number(self, event: Column) -> Column:
        """The number of the cell."""
        cells = F.lit((1 << self._cell_bits) - 1)
        return F.shiftright(event, self._type_bits).bitwiseAND(cells).cast("int")

    def event_type(self, event: Column) -> Column:
        names = [F.lit(name) for name in self.types]
        return F.get(F.array(F.lit(None).cast("string"), *names), self._code(event))

    def is_of_type(self, event: Column, types: Collection[str]) -> Column:
        codes = [code for code, name in enumerate(self.types, start=1) if name in types]
        return self._code(event).isin(codes)

    def _code(self, event: Column) -> Column:
        return event.bitwiseAND(F.lit((1 << self._type_bits) - 1)).cast("int")

    @property
    def _start_us(self) -> int:
        return int(self.day_start.timestamp()) * 1_000_000


def numbered(cells: DataFrame) -> DataFrame:
    """cells: cell_id, each once, and more. -> the same with `number`, from 0 in order of the id."""
    return cells.withColumn("number", F.row_number().over(Window.orderBy("cell_id")) - 1)
