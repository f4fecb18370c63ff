"""An operator's columns -> the contract's columns, without ever failing on a single value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from transforms.settings import ColumnSource
from transforms.tables import Input


def blank(value: Column) -> Column:
    """True for null and for text of nothing but spaces, tabs and line ends.

    Text that begins with a visible sign is settled by its first byte: all that is trimmed comes
    before `!`.
    """
    return value.isNull() | ((value < "!") & (F.trim(value, F.lit(" \t\r\n")) == ""))


def missing_columns(
    found: list[str], contract: Input, sources: Mapping[str, ColumnSource]
) -> list[str]:
    """Columns the contract requires and `found` lacks, by the operator's own names."""
    missing = []
    for column in contract.columns:
        source = sources.get(column.name, ColumnSource(column=column.name))
        required = column.name in sources or column.name not in contract.optional
        if required and source.column is not None and source.column not in found:
            missing.append(source.column)
    return missing


def conformed(frame: DataFrame, contract: Input, sources: Mapping[str, ColumnSource]) -> DataFrame:
    """`frame` with exactly the contract's columns and types.

    What can't be read as the contract's type becomes null; an optional column the operator
    doesn't have is null throughout.
    """
    fields = {field.name: field.dataType for field in frame.schema.fields}
    columns = []
    for column in contract.columns:
        source = sources.get(column.name, ColumnSource(column=column.name))
        if source.column is None:
            value = F.lit(source.value).try_cast(column.type)
        elif source.column not in fields:
            value = F.lit(None).cast(column.type)
        else:
            value = _read(_named(source.column), fields[source.column], column.type, source)
        columns.append(value.alias(column.name))
    return frame.select(*columns)


def _named(column: str) -> Column:
    escaped = column.replace("`", "``")
    return F.col(f"`{escaped}`")


def _read(value: Column, found: T.DataType, wanted: T.DataType, source: ColumnSource) -> Column:
    """The operator's value as the wanted type, after whatever decoding the settings name."""
    if source.encoding is not None:
        value, found = _encoded(value, found, source.encoding), T.StringType()
    elif source.values:
        value, found = _translated(value, source.values), T.StringType()
    elif isinstance(wanted, T.StringType) and isinstance(found, T.BinaryType):
        value, found = F.lower(F.hex(value)), T.StringType()
    if isinstance(wanted, T.TimestampType):
        return _instant(value, found, source)
    return _tried(value, found, wanted)


def _encoded(value: Column, found: T.DataType, encoding: Literal["hex", "base64"]) -> Column:
    """The text of bytes; nothing but bytes and text has one."""
    if not isinstance(found, T.BinaryType | T.StringType):
        return F.lit(None).cast("string")
    return F.lower(F.hex(value)) if encoding == "hex" else F.base64(value)


def _translated(value: Column, words: Mapping[str, float | int | str]) -> Column:
    """By a literal map instead of a join: it is a handful of words."""
    pairs = [F.lit(str(part)) for pair in words.items() for part in pair]
    return F.create_map(*pairs)[value.cast("string")]


def _instant(value: Column, found: T.DataType, source: ColumnSource) -> Column:
    """Instants; whole numbers are nanoseconds since 1970, as Spark reads TIMESTAMP(NANOS)."""
    if isinstance(found, T.LongType):
        # Whole-number division: a double would not hold all digits.
        value = F.timestamp_micros(F.call_function("div", value, F.lit(1000)))
    elif source.formats:
        text = value.cast("string")
        value = F.coalesce(*[F.try_to_timestamp(text, F.lit(form)) for form in source.formats])
    else:
        value = _tried(value, found, T.TimestampType())
    return F.to_utc_timestamp(value, source.timezone) if source.timezone else value


_TEMPORAL = (T.DateType, T.TimestampType, T.TimestampNTZType)
_READABLE: Mapping[type[T.DataType], tuple[type[T.DataType], ...]] = {
    T.DoubleType: (T.StringType, T.NumericType),
    T.TimestampType: (T.StringType, T.NumericType, *_TEMPORAL),
    T.DateType: (T.StringType, *_TEMPORAL),
    T.BooleanType: (T.StringType, T.NumericType, T.BooleanType),
}
"""What a type can be read from, but for text, which everything has. Any other cast is refused by
Spark for the whole column, be it empty: pandas writes one that holds nothing as whole numbers."""


def _tried(value: Column, found: T.DataType, wanted: T.DataType) -> Column:
    if isinstance(found, _READABLE.get(type(wanted), (T.DataType,))):
        return value.try_cast(wanted)
    return F.lit(None).cast(wanted)
