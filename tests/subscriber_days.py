"""Event rows as the pipeline gathers them: one row of packed events for each subscriber."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from pyspark.sql import DataFrame

from transforms import events
from transforms.packing import Packing, numbered


class Gathered(NamedTuple):
    """days: as `events.by_subscriber` has them; cells: the given ones with their `number`."""

    days: DataFrame
    cells: DataFrame
    packing: Packing


def gathered(rows: DataFrame, cells: DataFrame, *, day_start: datetime) -> Gathered:
    """rows: subscriber_id, event_time, cell_id, event_type, of one local day; cells: cell_id."""
    types = sorted(row[0] for row in rows.select("event_type").distinct().collect() if row[0])
    known = numbered(cells)
    packing = Packing(day_start, cells=cells.count(), types=tuple(types))
    days = rows.transform(events.placed, known).transform(
        events.by_subscriber, packing=packing, partitions=2
    )
    return Gathered(days, known, packing)
