"""How long rows may stay: from an age limit to the rows that are over it."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from transforms.days import LocalDay
from transforms.tables import Table


def first_kept(day: LocalDay, *, days: int) -> LocalDay:
    """The oldest of the `days` local days that may stay when `day` is over, itself included.

    >>> from datetime import date
    >>> from zoneinfo import ZoneInfo
    >>> first_kept(LocalDay(date(2026, 11, 23), ZoneInfo("Europe/Berlin")), days=7).date
    datetime.date(2026, 11, 17)
    """
    return LocalDay(day.date - timedelta(days=days - 1), day.timezone)


def over_limit(rows: DataFrame, table: Table, *, since: LocalDay) -> DataFrame:
    """Those of all `rows` of `table` that may not stay."""
    if table.expires:
        may_go = F.expr(table.expires).alias("may_go")
        rows = rows.select("*", may_go).where("may_go").drop("may_go")
    return rows.where(older(table, since=since))


def older(table: Table, *, since: LocalDay) -> Column:
    """Whether a row of `table` is older than `since`, the first day that may stay."""
    if table.age_column is None:
        raise ValueError(f"nothing tells how old a row of {table.name} is")
    is_date = isinstance(table.schema[table.age_column].dataType, T.DateType)
    return F.col(table.age_column) < F.lit(since.date if is_date else since.start)
