"""What is promised to a buyer, for machines and for people: data contract, dictionary, notes.

The contract follows the Open Data Contract Standard (Bitol, Linux Foundation), by its own library.
All of it derives from the catalogue, so it says what the tables are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from open_data_contract_standard.model import (
    CustomProperty,
    DataQuality,
    Description,
    EnumValue,
    OpenDataContractStandard,
    SchemaObject,
    SchemaProperty,
    Server,
    ServiceLevelAgreementProperty,
)
from pyspark.sql import types as T

from transforms.licences import Licence
from transforms.tables import (
    DELIVERED_RELEASES,
    DELIVERED_ZONES,
    METHOD_VERSION,
    PUBLISHED_PRODUCTS,
    STATUSES,
    Column,
    Product,
    Table,
)

STANDARD = "v3.1.0"
_LOGICAL: Mapping[type[T.DataType], str] = {
    T.StringType: "string",
    T.DateType: "date",
    T.TimestampType: "timestamp",
    T.DoubleType: "number",
    T.IntegerType: "integer",
    T.LongType: "integer",
    T.BinaryType: "string",
}
STATUS_MEANINGS = {
    "published": "at least one measure of the row is shown",
    "suppressed": "under the threshold below which nothing is shown; not zero",
    "no_data": "the network was down, or sees no part of the zone; not zero",
}
LIMITS = (
    "Numbers are estimates of people, not of phones, with 95 % intervals (`_low`, `_high`). They "
    "carry noise that protects every single subscriber's whole day (differential privacy), so "
    "nothing is forced to add up: hours don't sum to days, nor zones to centres.",
    "A measure that is null was not zero: `status` says why it is not shown.",
    "How many different people came in a week or a month can't be told from days: nobody is "
    "recognised from one day to the next, by design. Visits add up, visitors don't.",
    "`rank` and `city_index` set a zone beside all that are measured, not only those of the "
    "licence; none of them is named. Indices and rates have intervals as if their two numbers were "
    "independent, which makes them rather too wide.",
    "Flows are those between the zones of the licence, and to and from `elsewhere`, which is any "
    "other place. Trips between a zone of the licence and another one that is measured are not in "
    "the delivery.",
)


def products_of(licence: Licence) -> list[Product]:
    return [product for product in PUBLISHED_PRODUCTS if product.name in licence.products]


def contract(buyer: str, licence: Licence, *, location: str) -> str:
    """The contract as YAML. location: the buyer's folder, as the buyer is to find it."""
    tables = [*(product.table for product in products_of(licence)), *_BESIDE]
    return OpenDataContractStandard(
        kind="DataContract",
        apiVersion=STANDARD,
        id=f"footfall-{buyer}",
        name="Footfall",
        version=f"{METHOD_VERSION}.0.0",
        status="active",
        dataProduct="footfall",
        description=Description(
            purpose="Anonymised footfall of shopping-centre zones, from a mobile network's events.",
            limitations=" ".join(LIMITS),
            usage="Delta tables: Spark, delta-rs, DuckDB, pandas and Polars read them.",
        ),
        servers=[Server(server="delivery", type="custom", location=location, format="delta")],
        schema=[_schema(table) for table in tables],
        slaProperties=_service(licence),
        customProperties=[
            CustomProperty(property="buyer", value=licence.name),
            CustomProperty(property="zones", value=list(licence.zones)),
            CustomProperty(property="centres", value=list(licence.centres)),
        ],
    ).to_yaml()


_BESIDE = (DELIVERED_ZONES, DELIVERED_RELEASES)


def _service(licence: Licence) -> list[ServiceLevelAgreementProperty]:
    terms = {
        "timeOfAvailability": ("each night", None, "of the day before"),
        "firstDay": (str(licence.first_day), None, "first day of data, included"),
        "lastDay": (str(licence.last_day), None, "last day of data, included"),
        "endOfSupport": (str(licence.ends), None, "nothing is delivered after this day"),
    }
    return [
        ServiceLevelAgreementProperty(property=name, value=value, unit=unit, description=meaning)
        for name, (value, unit, meaning) in terms.items()
    ]


def _schema(table: Table) -> SchemaObject:
    schema, name = table.name.split(".")
    return SchemaObject(
        name=name,
        physicalName=f"{schema}/{name}",
        physicalType="table",
        logicalType="object",
        description=table.doc,
        properties=[_property(table, column) for column in table.columns],
        quality=[
            DataQuality(
                type="text",
                name=rule,
                description=f"every row keeps: {condition}",
                mustBeBetween=None,
                mustNotBeBetween=None,
            )
            for rule, condition in table.checks.items()
        ]
        or None,
    )


def _property(table: Table, column: Column) -> SchemaProperty:
    place = table.key.index(column.name) + 1 if column.name in table.key else None
    is_partition = column.name in table.partitioned_by
    return SchemaProperty(
        name=column.name,
        logicalType=_LOGICAL[type(column.type)],
        physicalType=column.type.simpleString(),
        description=column.comment,
        required=not column.nullable,
        primaryKey=place is not None or None,
        primaryKeyPosition=place,
        partitioned=is_partition or None,
        partitionKeyPosition=1 if is_partition else None,
        enum=[EnumValue(value=status, description=STATUS_MEANINGS[status]) for status in STATUSES]
        if column.name == "status"
        else None,
    )


def dictionary(licence: Licence) -> str:
    """The same for people, as Markdown."""
    return "\n".join(_dictionary(licence)) + "\n"


def _dictionary(licence: Licence) -> Iterator[str]:
    yield f"# Footfall for {_text(licence.name)}"
    yield ""
    for limit in LIMITS:
        yield f"- {limit}"
    for product in products_of(licence):
        yield from _table(product.table)
        yield "| status | meaning |"
        yield "|---|---|"
        for status, meaning in STATUS_MEANINGS.items():
            yield f"| `{status}` | {meaning} |"
    for table in _BESIDE:
        yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    yield from ("", f"## {table.path}", "", table.doc, "")
    yield f"Key: {', '.join(f'`{name}`' for name in table.key)}."
    yield from ("", "| column | type | meaning |", "|---|---|---|")
    for column in table.columns:
        null = "" if not column.nullable or "null" in column.comment else "; may be null"
        yield f"| `{column.name}` | {column.type.simpleString()} | {column.comment}{null} |"
    yield ""


@dataclass(frozen=True)
class Quality:
    """Of one product on one day: how many of the buyer's rows are of which status."""

    product: str
    rows: Mapping[str, int]


def quality_note(
    licence: Licence, *, day: date, release_id: str, qualities: Sequence[Quality]
) -> str:
    """What of a night's delivery is hidden or missing, as Markdown."""
    lines = [
        f"# {day}: release {release_id}, method version {METHOD_VERSION}",
        "",
        f"For {_text(licence.name)}.",
        "",
        "| table | rows | " + " | ".join(STATUSES) + " |",
        "|---|---|" + "---|" * len(STATUSES),
    ]
    for one in qualities:
        total = sum(one.rows.values())
        shares = [f"{one.rows.get(status, 0) / total:.0%}" if total else "–" for status in STATUSES]
        lines.append(f"| {one.product} | {total:,} | {' | '.join(shares)} |")
    lines += ["", *(f"- `{status}`: {meaning}" for status, meaning in STATUS_MEANINGS.items())]
    return "\n".join(lines) + "\n"


def _text(name: str) -> str:
    """Free text in Markdown: one line, nothing of it markup."""
    plain = " ".join(name.split())
    return "".join(f"\\{one}" if one in r"\`*_{}[]<>()#+-.!|&" else one for one in plain)
