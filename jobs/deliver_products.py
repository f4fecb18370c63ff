"""Published tables -> for each buyer a folder of Delta tables with the rows of the licence.

    <deliveries>/<buyer>/gold/…               rows of the licensed zones and days, and no others
    <deliveries>/<buyer>/delivery/zones       their names and outlines
    <deliveries>/<buyer>/delivery/releases    what was delivered when
    <deliveries>/<buyer>/contract.odcs.yaml   Open Data Contract Standard
    <deliveries>/<buyer>/dictionary.md, quality/2026-11-23.md

Delivered is what is new since the last time: days that were published or restated, all days when
the zones or products of a licence have changed. What is there already is not written again.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import releases
from jobs.files import Files
from jobs.frames import local_frame
from jobs.ingest_reference import stored_zones
from jobs.releases import Entry
from jobs.runtime import Night, read_toml, run_job
from jobs.store import Store
from transforms import contracts
from transforms.contracts import Quality, products_of
from transforms.deliveries import delivery, licensed, new_parts
from transforms.disclosure import Part
from transforms.errors import Failed
from transforms.geography import Zone
from transforms.licences import Licence, licences_from
from transforms.tables import (
    DELIVERED_RELEASES,
    DELIVERED_ZONES,
    METHOD_VERSION,
    REFERENCE_ZONES,
    Product,
)
from transforms.wording import shown

FILES = {"buyers": "who may have what, as conf/buyers.toml"}


def deliver_products(night: Night, *, buyers: Path) -> None:
    """Delivers everything published up to now to every buyer. Raises `Failed` without a release."""
    licences = licences_from(read_toml(buyers), name=str(buyers))
    published = {day: of_day[-1] for day, of_day in releases.closed(night).items()}
    if night.day.date not in published:
        raise Failed(
            f"delivery of {night.day.date}",
            found="no published night",
            expected="one",
            consequence="nothing was delivered",
        )
    zones = stored_zones(night)
    for buyer, licence in licences.items():
        told = _deliver(night, buyer, licence, published=published, zones=zones)
        night.progress.console.print(f"  {buyer}: {told}", markup=False)


def _deliver(
    night: Night,
    buyer: str,
    licence: Licence,
    *,
    published: Mapping[date, Entry],
    zones: Sequence[Zone],
) -> str:
    """Everything of one buyer that is new. -> what was done, in words"""
    if night.day.date > licence.ends:
        return f"the licence ended on {licence.ends}: nothing was delivered"
    if unknown := licence.unknown(zones):
        night.progress.note(
            f"{buyer}: no zone or centre is called {', '.join(map(shown, unknown))}"
        )
    zone_ids = licence.zone_ids(zones)
    if not zone_ids:
        return "no zone of the licence is there: nothing was delivered"
    folder = f"{night.settings.paths.deliveries.rstrip('/')}/{buyer}"
    store = Store(night.spark, restricted=folder, published=folder)
    scope = _scope(licence, zone_ids)
    covered = {day: entry for day, entry in published.items() if licence.covers(day)}
    days = sorted(set(covered) - _delivered(store, covered, scope))
    if not days:
        return "nothing new"
    parts = {}
    for product in products_of(licence):
        if dates := new_parts(product, licence, days, published=published):
            rows = night.store.read(product.table)
            own = licensed(rows, product, licence, zone_ids=zone_ids, dates=dates)
            parts[product] = Part(own, tuple(dates))
    entries = [covered[day] for day in days]
    _write_texts(night, buyer, licence, folder, parts, entries)
    name = hashlib.sha256(repr([scope, *(one.release_id for one in entries)]).encode()).hexdigest()
    own = night.of_day(REFERENCE_ZONES).where(F.col("zone_id").isin(*zone_ids))
    tables = {product.table: part for product, part in parts.items()}
    told = Part(_releases(night, entries, scope), tuple(days))
    # The list of what was delivered comes last: what is not in it is delivered again.
    for several in (tables | {DELIVERED_ZONES: Part(own)}, {DELIVERED_RELEASES: told}):
        store.publish(delivery(several, name=name, delivered_at=night.now()))
    return f"{len(days)} days of {len(zone_ids)} zones, {len(parts)} tables, in {folder}"


def _scope(licence: Licence, zone_ids: Sequence[str]) -> str:
    text = repr([sorted(licence.products), list(zone_ids)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _delivered(store: Store, covered: Mapping[date, Entry], scope: str) -> set[date]:
    """Days whose newest release the buyer has, by the licence as it is now."""
    return {
        row.day
        for row in store.read(DELIVERED_RELEASES).collect()
        if row.scope == scope
        and row.day in covered
        and row.release_id == covered[row.day].release_id
    }


def _releases(night: Night, entries: Sequence[Entry], scope: str) -> DataFrame:
    rows = [
        (
            entry.day,
            entry.release_id,
            entry.supersedes,
            METHOD_VERSION,
            entry.published_at,
            night.now(),
            scope,
        )
        for entry in entries
    ]
    return local_frame(night.spark, rows, DELIVERED_RELEASES.schema)


def _write_texts(
    night: Night,
    buyer: str,
    licence: Licence,
    folder: str,
    parts: Mapping[Product, Part],
    entries: Sequence[Entry],
) -> None:
    """Contract and dictionary, and for each day a note of what is hidden or missing in it."""
    texts = {
        "contract.odcs.yaml": contracts.contract(buyer, licence, location=folder),
        "dictionary.md": contracts.dictionary(licence),
    }
    qualities = _qualities(parts)
    for entry in entries:
        texts[f"quality/{entry.day}.md"] = contracts.quality_note(
            licence,
            day=entry.day,
            release_id=entry.release_id,
            qualities=qualities.get(entry.day, []),
        )
    files = Files(night.spark)
    for name, text in texts.items():
        files.put(f"{folder}/{name}", text)


def _qualities(parts: Mapping[Product, Part]) -> dict[date, list[Quality]]:
    found: dict[date, list[Quality]] = {}
    for product, part in parts.items():
        if "day" in product.table.key:
            by_day: dict[date, dict[str, int]] = {}
            for row in part.rows.groupBy("day", "status").count().collect():
                by_day.setdefault(row.day, {})[row.status] = row["count"]
            for day, counts in by_day.items():
                found.setdefault(day, []).append(Quality(product.name, counts))
    return found


if __name__ == "__main__":
    sys.exit(run_job(deliver_products, description=__doc__ or "", files=FILES))
