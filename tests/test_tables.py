"""The catalogue: every table of the design, and nothing that could name a person for sale."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.frames import local_frame
from transforms import tables
from transforms.tables import (
    MEASURES,
    NIGHTLY_PRODUCTS,
    PUBLISHED_PRODUCTS,
    TABLES,
    ZONE_DAYS,
    ZONE_HOURS,
    ZONE_MONTHS,
    ZONE_WEEKS,
    Product,
    Table,
)

BY_NAME = {table.name: table for table in TABLES}
DESIGN = {
    "reference.cells": ("restricted", ("day", "cell_id")),
    "reference.zones": ("restricted", ("day", "zone_id")),
    "reference.cell_zones": ("restricted", ("day", "cell_id", "zone_id")),
    "reference.cell_reach": ("restricted", ("day", "cell_id", "zone_id")),
    "consent.deliveries": ("restricted", ("file", "bytes", "modified_at")),
    "consent.decisions": ("restricted", ("content",)),
    "consent.periods": ("restricted", ("subscriber_id", "from")),
    "consent.objections": ("restricted", ("fingerprint",)),
    "ops.quarantine": ("restricted", ("day", "reason", "number")),
    "silver.visits": ("restricted", ("day", "pseudonym", "zone_id", "arrived_at")),
    "rewards.ledger": ("restricted", ("subscriber_id", "month")),
    "rewards.corrections": ("restricted", ("subscriber_id", "month", "corrected_month")),
    "rewards.months": ("restricted", ("month",)),
    "ops.runs": ("restricted", ("run_id",)),
    "ops.quality": ("restricted", None),
    "ops.rejected": ("restricted", ("day", "reason")),
    "ops.subscribers_seen": ("restricted", ("day", "outcome")),
    "ops.consent_certificates": ("restricted", ("number",)),
    "ops.releases": ("restricted", ("release_id", "product", "measure")),
    "ops.noisy_cells": ("restricted", ("release_id", "product", "measure", "keys")),
    "ops.attacks": ("restricted", ("release_id", "attack", "view")),
    "ops.erasures": ("restricted", ("erasure_id",)),
    "ops.expired": ("restricted", ("day", "subject", "at")),
    "gold.zone_hours": ("published", ("day", "zone_id", "hour_start")),
    "gold.zone_days": ("published", ("day", "zone_id")),
    "gold.zone_dwell": ("published", ("day", "zone_id", "dwell_band")),
    "gold.zone_flows": (
        "published",
        ("day", "origin_zone_id", "destination_zone_id", "day_part"),
    ),
    "gold.zone_catchment": ("published", ("day", "zone_id", "home_area")),
    "gold.zone_comparison": ("published", ("day", "zone_id")),
    "gold.zone_weeks": ("published", ("week", "zone_id")),
    "gold.zone_months": ("published", ("month", "zone_id")),
    "gold.zone_popularity": ("published", ("week", "zone_id", "weekday", "hour")),
}
COLUMNS = {
    "silver.visits": "day pseudonym zone_id arrived_at left_at dwell_s presence kind home_area",
    "consent.periods": "subscriber_id taking_part from to decision_id",
    "rewards.ledger": "subscriber_id month days_taken_part amount currency",
    "ops.runs": "run_id day started_at ended_at outcome rows_in other_day rejected "
    "not_taking_part accepted files_read",
    "ops.rejected": "day reason rows",
    "ops.noisy_cells": "release_id product measure keys noisy_devices sigma",
    "ops.releases": "release_id day product measure rho delta l0 linf l2 sigma mechanism "
    "method_version code_version input_versions rows suppressed supersedes published_at",
    "ops.consent_certificates": "number day release_id spends consent_version "
    "decisions_received_until subscribers_seen taking_part left_out recount opt_outs "
    "opt_outs_in_time longest_wait_h issued_at previous_hash hash",
}
MEASURES_OF = {
    "zone_hours": "visitors passers_by",
    "zone_days": "visitors visits passers_by dwell_median_min",
    "zone_dwell": "visitors",
    "zone_flows": "trips",
    "zone_catchment": "visitors",
    "zone_comparison": "capture_rate week_before_index city_index rank busiest_hour",
    "zone_weeks": "visits",
    "zone_months": "visits",
    "zone_popularity": "popularity",
}
every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
every_product = pytest.mark.parametrize(
    "product", PUBLISHED_PRODUCTS, ids=lambda product: product.name
)


def names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def test_every_table_of_the_design_is_there_once_and_no_other() -> None:
    assert sorted(table.name for table in TABLES) == sorted(DESIGN)


@every_table
def test_a_table_lies_under_the_root_and_has_the_key_of_the_design(table: Table) -> None:
    root, key = DESIGN[table.name]
    assert table.root == root
    assert table.path == table.name.replace(".", "/")
    if key is not None:
        assert table.key == key


@every_table
def test_key_and_partition_columns_exist_and_no_column_twice(table: Table) -> None:
    assert table.key
    assert {*table.key, *table.partitioned_by} <= set(names(table))
    assert len(names(table)) == len(set(names(table)))


@every_table
def test_a_key_is_never_null(table: Table) -> None:
    nullable = {name for name in table.key if table.schema[name].nullable}
    assert nullable <= ({"column"} if table is tables.QUALITY else set())


@every_table
def test_every_table_and_column_says_what_it_means(table: Table) -> None:
    assert table.doc.strip().endswith(".")
    for field in table.schema.fields:
        assert field.metadata["comment"].strip()


@every_table
def test_checks_name_existing_columns_and_are_true_or_false(
    spark: SparkSession, table: Table
) -> None:
    frame = local_frame(spark, [], table.schema)
    checked = frame.select(*[F.expr(rule).alias(name) for name, rule in table.checks.items()])
    assert all(isinstance(field.dataType, T.BooleanType) for field in checked.schema.fields)


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_that_others_read_are_those_of_the_design(name: str) -> None:
    assert names(BY_NAME[name]) == COLUMNS[name].split()


# ------------------------------------------------------------------------------ what may be sold


@every_product
def test_a_published_row_is_keys_measures_with_intervals_and_where_it_comes_from(
    product: Product,
) -> None:
    measures = MEASURES_OF[product.name].split()
    with_intervals = [f"{measure}{end}" for measure in measures for end in ("", "_low", "_high")]
    origin = ["status", "release_id", "method_version", "published_at"]
    about = ["days"] if product in (ZONE_WEEKS, ZONE_MONTHS) else []
    assert names(product.table) == [*product.table.key, *about, *with_intervals, *origin]
    assert list(product.columns) == measures
    for name in with_intervals:
        assert product.table.schema[name].dataType == T.DoubleType()
        assert product.table.schema[name].nullable
    for name in origin:
        assert not product.table.schema[name].nullable


def test_only_published_tables_lie_under_the_published_root() -> None:
    assert {table for table in TABLES if table.root == "published"} == {
        product.table for product in PUBLISHED_PRODUCTS
    }


@every_product
def test_nothing_that_is_sold_has_a_column_for_a_person(product: Product) -> None:
    assert not {"subscriber_id", "pseudonym", "decision_id", "brand"} & set(names(product.table))


@every_product
def test_nothing_that_is_sold_needs_more_than_a_plain_reader(product: Product) -> None:
    plain = (T.StringType, T.DoubleType, T.DateType, T.TimestampType, T.IntegerType)
    assert all(isinstance(column.type, plain) for column in product.table.columns)


def test_visits_carry_a_pseudonym_and_no_identity() -> None:
    assert "pseudonym" in names(tables.VISITS)
    assert "subscriber_id" not in names(tables.VISITS)


def test_the_hour_is_an_instant() -> None:
    assert ZONE_HOURS.table.schema["hour_start"].dataType == T.TimestampType()


def test_every_protected_measure_is_a_column_of_its_product_with_its_key() -> None:
    by_name = {product.name: product for product in NIGHTLY_PRODUCTS}
    for measure in MEASURES:
        product = by_name[measure.product]
        assert measure.name in product.measures
        assert ("day", *measure.key) == product.table.key
    protected = {(m.product, m.name) for m in MEASURES}
    assert protected == {(p.name, name) for p in NIGHTLY_PRODUCTS for name in p.measures}


def test_the_median_dwell_is_derived_and_costs_nothing() -> None:
    assert ZONE_DAYS.derived == ("dwell_median_min",)


# ----------------------------------------------------------------------------- rules of a row

PUBLISHED = {"visitors": (50.0, 40.0, 60.0), "passers_by": (None, None, None)}
ROWS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "one measure published": ({"status": "published", **PUBLISHED}, set()),
    "nothing published": ({"status": "suppressed"}, set()),
    "no data": ({"status": "no_data"}, set()),
    "published without a measure": ({"status": "published"}, {"status_tells"}),
    "suppressed with a measure": ({"status": "suppressed", **PUBLISHED}, {"status_tells"}),
    "no data with a measure": ({"status": "no_data", **PUBLISHED}, {"status_tells"}),
    "unknown status": ({"status": "hidden"}, {"status_known"}),
    "minus one for suppressed": (
        {"status": "published", "visitors": (-1.0, -1.0, -1.0)},
        {"visitors_in_interval"},
    ),
    "below its interval": (
        {"status": "published", "visitors": (30.0, 40.0, 60.0)},
        {"visitors_in_interval"},
    ),
    "above its interval": (
        {"status": "published", "visitors": (70.0, 40.0, 60.0)},
        {"visitors_in_interval"},
    ),
}


def test_the_checks_of_a_published_row_refuse_what_a_buyer_must_not_see(
    spark: SparkSession,
) -> None:
    nothing = (None, None, None)
    rows = [
        (
            date(2026, 11, 23),
            name,
            datetime(2026, 11, 23, 9, tzinfo=UTC),
            *row.get("visitors", nothing),
            *row.get("passers_by", nothing),
            row["status"],
            "2026-11-23-1",
            "1",
            datetime(2026, 11, 24, 3, tzinfo=UTC),
        )
        for name, (row, _) in ROWS.items()
    ]
    checks = ZONE_HOURS.table.checks
    checked = local_frame(spark, rows, ZONE_HOURS.table.schema).select(
        "zone_id", *[F.expr(rule).alias(name) for name, rule in checks.items()]
    )
    # As a CHECK constraint does: anything but true is a violation.
    broken = {
        row.zone_id: {name for name in checks if row[name] is not True} for row in checked.collect()
    }
    assert broken == {name: rules for name, (_, rules) in ROWS.items()}


# ------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    ("contract", "required", "optional"),
    [
        (tables.EVENTS, "subscriber_id event_time cell_id event_type", ""),
        (
            tables.CELLS,
            "cell_id latitude longitude range_m",
            "technology azimuth_deg beamwidth_deg indoor_zone_id valid_from valid_to",
        ),
        (
            tables.DECISIONS,
            "decision_id subscriber_id action verified decided_at received_at",
            "channel",
        ),
        (tables.RESIDENTS, "area residents", ""),
        (tables.SUBSCRIBERS, "subscriber_id area", "brand since until"),
        (tables.OUTAGES, "cell_id from to", ""),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_inputs_ask_for_what_the_method_needs_and_nothing_else(
    contract: tables.Input, required: str, optional: str
) -> None:
    assert {column.name for column in contract.columns} == {*required.split(), *optional.split()}
    assert contract.optional == set(optional.split())
