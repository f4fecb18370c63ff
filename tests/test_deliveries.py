"""Deliveries from literal published rows: what a buyer has, and what no buyer ever gets."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import polars
import pytest
import yaml
from deltalake import DeltaTable
from open_data_contract_standard.model import OpenDataContractStandard
from pyspark.sql import SparkSession

from jobs.deliver_products import FILES, deliver_products
from jobs.frames import local_frame
from jobs.runtime import run_job
from jobs.store import Store
from tests import ledger_entries
from transforms import contracts
from transforms.deliveries import new_parts
from transforms.disclosure import Part, Release
from transforms.errors import Misused
from transforms.licences import Licence, ProductName, licences_from
from transforms.popularity import monday_of
from transforms.rollups import following
from transforms.tables import (
    DELIVERED_RELEASES,
    ELSEWHERE,
    METHOD_VERSION,
    NIGHTLY_PRODUCTS,
    PUBLISHED_PRODUCTS,
    REFERENCE_ZONES,
    RELEASES,
    ZONE_COMPARISON,
    ZONE_DAYS,
    ZONE_FLOWS,
    ZONE_MONTHS,
    ZONE_POPULARITY,
    ZONE_WEEKS,
    Product,
)

PROJECT = Path(__file__).resolve().parent.parent
SATURDAY = date(2026, 11, 21)
SUNDAY = SATURDAY + timedelta(days=1)
PUBLISHED_AT = datetime(2026, 11, 22, 3, tzinfo=UTC)
ZONES = {"north-1": "north", "north-2": "north", "south": "south"}
BUYERS = """
[northern]
name = "Northern <b>Malls</b>"
products = [
    "zone_hours", "zone_days", "zone_dwell", "zone_flows", "zone_catchment", "zone_comparison",
    "zone_weeks", "zone_months", "zone_popularity",
]
centres = ["north"]
first_day = 2026-01-01
last_day = 2027-12-31
ends = 2026-11-22

[planners]
name = "Planning office"
products = ["zone_days", "zone_flows"]
zones = ["north-2", "south"]
first_day = 2026-11-22
last_day = 2027-12-31
ends = 2027-12-31
"""


# --- what is licensed ---------------------------------------------------------------------------


def licence(**changes: Any) -> Licence:
    known = tomllib.loads(BUYERS)["northern"]
    return licences_from({"one": known | changes}, name="buyers.toml")["one"]


def test_every_published_product_can_be_licensed_and_nothing_else() -> None:
    assert set(ProductName.__args__) == {product.name for product in PUBLISHED_PRODUCTS}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"products": ["zone_years"]}, "one.products"),
        ({"zones": [], "centres": []}, "needs zones or centres"),
        ({"last_day": date(2025, 1, 1)}, "last_day 2025-01-01 is before first_day"),
        ({"discount": 3}, "[one] unknown ['discount']"),
    ],
)
def test_a_licence_that_makes_no_sense_is_bad_usage(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(Misused) as error:
        licence(**changes)
    assert says in str(error.value)
    assert str(error.value).endswith("nothing was delivered")


def test_a_buyer_s_name_is_a_folder_s() -> None:
    for name in ("../other", "a/b", "", "A B"):
        with pytest.raises(Misused):
            licences_from({name: tomllib.loads(BUYERS)["northern"]}, name="buyers.toml")


@pytest.mark.parametrize(
    ("product", "part", "first", "last"),
    [
        (ZONE_DAYS, SATURDAY, SATURDAY, SATURDAY),
        (ZONE_COMPARISON, SATURDAY, date(2026, 11, 14), SATURDAY),
        (ZONE_WEEKS, date(2026, 11, 16), date(2026, 11, 16), SUNDAY),
        (ZONE_MONTHS, date(2026, 11, 1), date(2026, 11, 1), date(2026, 11, 30)),
        (ZONE_POPULARITY, date(2026, 11, 16), date(2026, 10, 20), SUNDAY),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_rows_are_licensed_when_all_days_that_they_may_be_made_of_are(
    product: Product, part: date, first: date, last: date
) -> None:
    def parts(first: date, last: date) -> list[date]:
        one = licence(first_day=first, last_day=last)
        return new_parts(product, one, [SATURDAY], published=[SATURDAY])

    day = timedelta(days=1)
    assert parts(first, last) == [part]
    if first < last:
        assert parts(first + day, last) == parts(first, last - day) == []


def test_the_buyers_that_come_with_the_project_are_sound() -> None:
    raw = tomllib.loads((PROJECT / "conf/buyers.toml").read_text(encoding="utf-8"))
    assert len(licences_from(raw, name="conf/buyers.toml")) == 2


# --- what is promised ---------------------------------------------------------------------------


@pytest.mark.parametrize("products", [["zone_days"], [p.name for p in PUBLISHED_PRODUCTS]])
def test_a_contract_is_valid_by_the_standard_and_says_what_the_tables_are(
    products: list[str],
) -> None:
    text = contracts.contract("one", licence(products=products), location="s3a://bucket/one")
    schema = json.loads(OpenDataContractStandard.json_schema())
    jsonschema.validate(yaml.safe_load(text), schema)
    found = OpenDataContractStandard.from_string(text)
    assert found.version == f"{METHOD_VERSION}.0.0"
    schemas = {one.name: one for one in found.schema_ or ()}
    assert set(schemas) == {*products, "zones", "releases"}
    days = {one.name: one for one in schemas["zone_days"].properties or ()}
    assert list(days) == ZONE_DAYS.table.schema.names
    assert (days["day"].primaryKeyPosition, days["zone_id"].primaryKeyPosition) == (1, 2)
    assert days["visitors_low"].description == "lower end of the 95 % interval"
    assert [one.value for one in days["status"].enum or ()] == [
        "published",
        "suppressed",
        "no_data",
    ]


def test_the_dictionary_names_every_column_and_escapes_what_is_free_text() -> None:
    text = contracts.dictionary(licence())
    for product in PUBLISHED_PRODUCTS:
        for column in product.table.columns:
            assert f"| `{column.name}` |" in text
    assert "<b>" not in text
    assert "visitors don't" in text, "weekly uniques are not guessed"


# --- whole deliveries ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A warehouse with published rows, and its buyers."""

    root: Path
    store: Store

    def publish(self, day: date, number: int = 1) -> None:
        """As a night would: rows of every zone and pair, and the ledger's line."""
        spark, release_id = self.store.spark, f"{day}-{number}"
        parts = {}
        for product in PUBLISHED_PRODUCTS:
            rows = list(gold(product, day, release_id))
            frame = local_frame(spark, rows, product.table.schema)
            parts[product.table] = Part(frame, following(product, day, [day]))
        self.store.publish(Release(release_id, PUBLISHED_AT, parts))
        entry = replace(
            ledger_entries.entry("zone_days.visitors", 0.01, day=day, number=number),
            supersedes=f"{day}-{number - 1}" if number > 1 else None,
        )
        line = asdict(entry) | {"delta": 0.0, "input_versions": {}}
        self.store.append(RELEASES, local_frame(spark, [line], RELEASES.schema))
        zones = [
            (day, zone, zone.title(), centre, None, None, None, None, b"outline")
            for zone, centre in ZONES.items()
        ]
        frame = local_frame(spark, zones, REFERENCE_ZONES.schema)
        self.store.replace(REFERENCE_ZONES, frame, day=day)

    def deliver(self, day: date, buyers: str = BUYERS) -> int:
        file = self.root / "buyers.toml"
        file.write_text(buyers, encoding="utf-8")
        return run_job(
            deliver_products,
            description="",
            files=FILES,
            argv=["--conf", str(self.conf), "--day", str(day), "--buyers", str(file)],
        )

    @property
    def conf(self) -> Path:
        folders = ("landing", "restricted", "published", "deliveries")
        lines = [f'{name} = "{self.root / name}"' for name in folders]
        path = self.root / "site.toml"
        path.write_text("\n".join(["[paths]", *lines]), encoding="utf-8")
        return path

    def rows(self, buyer: str, product: Product) -> list[dict[str, Any]]:
        path = self.root / "deliveries" / buyer / product.table.path
        found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
        return found

    def files(self, buyer: str) -> dict[Path, bytes]:
        folder = self.root / "deliveries" / buyer
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def gold(product: Product, day: date, release_id: str) -> Iterator[dict[str, Any]]:
    """A row of each zone, or pair of zones and elsewhere; the south is suppressed."""
    ends = [*ZONES, ELSEWHERE]
    pairs = [(a, b) for a in ends for b in ends if a != b]
    for keys in (
        [dict(zip(product.zone_columns, pair, strict=True)) for pair in pairs]
        if product is ZONE_FLOWS
        else [{"zone_id": zone} for zone in ZONES]
    ):
        others = {
            "day": day,
            "hour_start": datetime(day.year, day.month, day.day, 12, tzinfo=UTC),
            "dwell_band": "30-60",
            "day_part": "midday",
            "home_area": "871f1d4acffffff",
            "week": monday_of(day),
            "month": day.replace(day=1),
            "weekday": day.isoweekday(),
            "hour": 13,
        }
        row = {name: (others | keys)[name] for name in product.table.key} | {"days": 1}
        is_shown = "south" not in keys.values()
        for measure in product.columns:
            values = (80.0, 70.0, 90.0) if is_shown else (None, None, None)
            names = (measure, f"{measure}_low", f"{measure}_high")
            row |= dict(zip(names, values, strict=True))
        yield row | {
            "status": "published" if is_shown else "suppressed",
            "release_id": release_id,
            "method_version": METHOD_VERSION,
            "published_at": PUBLISHED_AT,
        }


@pytest.fixture(scope="module")
def site(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Saturday and Sunday published, and delivered each on its own night."""
    root = tmp_path_factory.mktemp("deliveries")
    site = Site(root, Store(spark, str(root / "restricted"), str(root / "published")))
    for day in (SATURDAY, SUNDAY):
        site.publish(day)
        assert site.deliver(day) == 0
    return site


slow = pytest.mark.slow


@slow
def test_each_buyer_has_the_products_and_days_of_the_licence(site: Site) -> None:
    for product in NIGHTLY_PRODUCTS:
        assert {row["day"] for row in site.rows("northern", product)} == {SATURDAY, SUNDAY}
    assert {row["day"] for row in site.rows("planners", ZONE_DAYS)} == {SUNDAY}
    tables = {path.parent.name for path in site.files("planners") if "_delta_log" in path.parts}
    folders = {path.name for path in (site.root / "deliveries/planners/gold").iterdir()}
    assert folders == {"zone_days", "zone_flows"}
    assert tables == {"_delta_log"}


@slow
def test_each_buyer_has_the_own_zones_and_nothing_names_another_s(site: Site) -> None:
    assert {row["zone_id"] for row in site.rows("northern", ZONE_DAYS)} == {"north-1", "north-2"}
    assert {row["zone_id"] for row in site.rows("planners", ZONE_DAYS)} == {"north-2", "south"}
    for buyer, others in (("northern", b"south"), ("planners", b"north-1")):
        for path, content in site.files(buyer).items():
            assert others not in content, path
            assert others.title() not in content, path


@slow
def test_flows_are_those_between_own_zones_and_elsewhere(site: Site) -> None:
    pairs = {
        (row["origin_zone_id"], row["destination_zone_id"])
        for row in site.rows("planners", ZONE_FLOWS)
    }
    own = ("north-2", "south", ELSEWHERE)
    assert pairs == {(a, b) for a in own for b in own if a != b}


@slow
def test_popular_times_are_not_delivered_without_a_licence_for_all_their_days(site: Site) -> None:
    assert len(site.rows("northern", ZONE_POPULARITY)) == 2
    newcomer = """
        [newcomer]
        name = "Newcomer"
        products = ["zone_days", "zone_popularity"]
        centres = ["north"]
        first_day = 2026-11-20
        last_day = 2027-12-31
        ends = 2027-12-31
    """
    assert site.deliver(SUNDAY, newcomer) == 0
    assert {row["day"] for row in site.rows("newcomer", ZONE_DAYS)} == {SATURDAY, SUNDAY}
    assert not (site.root / "deliveries/newcomer/gold/zone_popularity").exists()


@slow
def test_a_buyer_reads_with_whatever_is_at_hand(site: Site) -> None:
    folder = str(site.root / "deliveries/northern/gold/zone_days")
    table = DeltaTable(folder)
    assert table.protocol().min_reader_version == 1
    days = table.to_pyarrow_table()
    assert len(table.to_pandas()) == len(days) == 4
    assert duckdb.sql("SELECT sum(visitors) FROM days").fetchall() == [(320.0,)]
    assert polars.read_delta(folder)["visitors"].sum() == 320.0
    store = site.store
    assert store.spark.read.format("delta").load(folder).count() == 4


@slow
def test_beside_the_tables_lie_contract_dictionary_and_a_note_of_each_night(site: Site) -> None:
    names = {
        str(path.relative_to(site.root / "deliveries/northern"))
        for path in site.files("northern")
        if path.suffix in (".yaml", ".md")
    }
    quality = {f"quality/{day}.md" for day in (SATURDAY, SUNDAY)}
    assert names == {"contract.odcs.yaml", "dictionary.md", *quality}
    note = site.files("planners")[site.root / f"deliveries/planners/quality/{SUNDAY}.md"].decode()
    assert f"# {SUNDAY}: release {SUNDAY}-1, method version {METHOD_VERSION}" in note
    assert "| zone_days | 2 | 50% | 50% | 0% |" in note


@slow
def test_the_changelog_says_what_was_delivered(site: Site) -> None:
    path = site.root / "deliveries/northern" / DELIVERED_RELEASES.path
    rows = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
    assert {(row["day"], row["release_id"], row["supersedes"]) for row in rows} == {
        (SATURDAY, f"{SATURDAY}-1", None),
        (SUNDAY, f"{SUNDAY}-1", None),
    }


@slow
def test_a_repeat_changes_no_byte(site: Site) -> None:
    before = {buyer: site.files(buyer) for buyer in ("northern", "planners")}
    assert site.deliver(SUNDAY) == 0
    assert {buyer: site.files(buyer) for buyer in before} == before


@slow
def test_a_night_more_a_restatement_and_the_end_of_a_licence(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    monday = SUNDAY + timedelta(days=1)
    before = {buyer: site.files(buyer) for buyer in ("northern", "planners")}
    site.publish(SUNDAY, number=2)
    site.publish(monday)
    assert site.deliver(monday) == 0
    said = capsys.readouterr().out
    assert "northern: the licence ended on 2026-11-22: nothing was delivered" in said
    assert "planners: 2 days of 2 zones" in said
    assert site.files("northern") == before["northern"]
    after = site.files("planners")
    kept = {path: text for path, text in before["planners"].items() if ".md" not in path.name}
    assert {path: after.get(path) for path in kept} == kept, "nothing old is written again"
    releases = {row["day"]: row["release_id"] for row in site.rows("planners", ZONE_DAYS)}
    assert releases == {SUNDAY: f"{SUNDAY}-2", monday: f"{monday}-1"}
    folder = str(site.root / "deliveries/planners/gold/zone_days")
    first = DeltaTable(folder, version=1).to_pyarrow_table()
    assert set(first["release_id"].to_pylist()) == {f"{SUNDAY}-1"}, "as published before"


@slow
def test_a_licence_that_grows_is_delivered_for_all_its_days(site: Site) -> None:
    more = BUYERS.replace('zones = ["north-2", "south"]', 'zones = ["north-1", "north-2", "south"]')
    monday = SUNDAY + timedelta(days=1)
    assert site.deliver(monday, more) == 0
    found = {(row["day"], row["zone_id"]) for row in site.rows("planners", ZONE_DAYS)}
    assert found == {(day, zone) for day in (SUNDAY, monday) for zone in ZONES}


@slow
def test_what_was_not_published_is_not_delivered(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.deliver(SATURDAY - timedelta(days=1)) == 1
    assert capsys.readouterr().err.startswith(
        "error: delivery of 2026-11-20: found no published night, expected one"
    )


@slow
def test_a_name_that_no_zone_has_is_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    hopeful = """
        [hopeful]
        name = "Hopeful"
        products = ["zone_days"]
        centres = ["north", "atlantis"]
        first_day = 2026-11-20
        last_day = 2027-12-31
        ends = 2027-12-31
    """
    assert site.deliver(SUNDAY, hopeful) == 0
    assert "hopeful: no zone or centre is called 'atlantis'" in capsys.readouterr().out
