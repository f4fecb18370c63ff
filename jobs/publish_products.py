"""`silver.visits` -> noisy cells, once -> the ledger -> `gold.*`: protected, scaled, published."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.detect_visits import taking_part
from jobs.ingest_decisions import ingest_decisions
from jobs.ingest_reference import stored_zones
from jobs.runtime import Night, run_job
from transforms import (
    __version__,
    budget,
    consent,
    disclosure,
    extrapolation,
    geography,
    metrics,
    network,
    pseudonyms,
    tables,
)
from transforms.budget import Budget, Calibration
from transforms.errors import Refused
from transforms.extrapolation import Weight
from transforms.tables import (
    CONSENT_PERIODS,
    DAY_PARTS,
    DWELL_BANDS,
    MEASURES,
    METHOD_VERSION,
    NIGHTLY_PRODUCTS,
    NOISY_CELLS,
    OUTSIDE_AREA,
    PARTICIPANTS,
    REFERENCE_CELL_ZONES,
    REFERENCE_ZONES,
    RELEASES,
    UNKNOWN_AREA,
    VISITS,
)


@dataclass(frozen=True)
class Published:
    """A release in the ledger; `anew` is False when an earlier run had published it already."""

    release_id: str
    published_at: datetime
    anew: bool = True

    def __str__(self) -> str:
        return f"release {self.release_id}" + ("" if self.anew else " (published before)")


def publish_products(night: Night) -> Published:
    """Publishes the night once. A repeat changes nothing; a release that was cut short between
    its noise and its publication is finished from the stored noise, never drawn again.
    """
    published = published_release(night)
    if published is None:
        published = _spend_and_draw(night)
    if published.anew or not is_complete(night, published):
        night.store.publish(_release(night, published))
        night.store.create(tables.TABLES)
    night.key.destroy()
    return published


def published_release(night: Night) -> Published | None:
    """The day's release in the ledger, if there is one."""
    row = _ledger(night, night.day.date, participants=False).first()
    return Published(row.release_id, row.published_at, anew=False) if row else None


def is_complete(night: Night, published: Published) -> bool:
    """Every published table holds rows of the release."""
    is_its_own = F.col("release_id") == F.lit(published.release_id)
    return all(
        not night.of_day(product.table).where(is_its_own).isEmpty() for product in NIGHTLY_PRODUCTS
    )


def _ledger(night: Night, day: date, *, participants: bool) -> DataFrame:
    is_participants = F.col("product") == F.lit(PARTICIPANTS.product)
    return night.store.read(RELEASES).where(
        (F.col("day") == F.lit(day)) & (is_participants if participants else ~is_participants)
    )


def _spend_and_draw(night: Night) -> Published:
    """Noise first, ledger second: noise that no ledger knows was seen by nobody and is replaced."""
    night.key()  # without the day's key a late opt-out can't be taken out: refused
    ingest_decisions(night)
    _leave_out_late_opt_outs(night)
    _draw_participants(night)
    calibrations = [
        budget.calibrated(measure, night.settings.privacy.split[measure.full_name])
        for measure in MEASURES
    ]
    left = Budget(night.settings.privacy.rho_cap, _spent(night))
    for calibration in calibrations:
        left = left.spend(calibration.rho, on=calibration.measure.full_name)
    published = Published(f"{night.day.date}-1", night.now())
    visits = night.of_day(VISITS).persist()
    _draw(night, published.release_id, _counts(night, visits, calibrations), calibrations)
    visits.unpersist()
    _enter(night, published, night.day.date, calibrations)
    return published


def _spent(night: Night) -> float:
    row = _ledger(night, night.day.date, participants=False).agg(F.sum("rho")).first()
    return float(row[0] or 0.0) if row else 0.0


def _leave_out_late_opt_outs(night: Night) -> None:
    """Who opted out since the visits were detected is taken out of this release's input."""
    out = (
        taking_part_by_decision(night)
        .where(~F.col("taking_part"))
        .select("subscriber_id")
        .transform(pseudonyms.pseudonymised, read_key=night.key)
        .withColumn("day", F.lit(night.day.date))
    )
    visits_of_day = night.of_day(VISITS)
    if not visits_of_day.join(out, on="pseudonym", how="left_semi").isEmpty():
        night.store.delete_matching(VISITS, out, on=("day", "pseudonym"))


def taking_part_by_decision(night: Night) -> DataFrame:
    """Everybody who ever decided, with `taking_part` for the day by all decisions so far."""
    periods = night.store.read(CONSENT_PERIODS)
    return consent.with_taking_part(
        periods.select("subscriber_id").distinct(),
        periods,
        start=night.day.start,
        end=night.day.end,
        default=night.settings.consent.default,
    )


def _counts(night: Night, visits: DataFrame, calibrations: Iterable[Calibration]) -> DataFrame:
    """Exact sums of all measures over their public domains; only `noised` may read them."""
    day = night.day
    zones = stored_zones(night)
    pairs = public_pairs(night, zones)
    areas = _residents(night).select("area").withColumnRenamed("area", "home_area")
    domains = metrics.public_domain(
        zones=_column(night, "zone_id string", [zone.zone_id for zone in zones]),
        hours=_column(night, "hour_start timestamp", list(day.hours)),
        bands=_column(night, "dwell_band string", list(DWELL_BANDS)),
        pairs=pairs,
        day_parts=_column(night, "day_part string", list(DAY_PARTS)),
        areas=areas.unionByName(_column(night, "home_area string", [UNKNOWN_AREA, OUTSIDE_AREA])),
    )
    contributions = metrics.contributions(visits, day=day, pairs=pairs)
    counts = [
        disclosure.over_domain(
            disclosure.summed(contributions[one.measure.full_name], key=one.measure.key, l0=one.l0),
            domains[one.measure.product],
            one,
            day=day.date,
        )
        for one in calibrations
    ]
    return reduce(DataFrame.unionByName, counts)


def public_pairs(night: Night, zones: Sequence[geography.Zone]) -> DataFrame:
    """Pairs whose flows are published. -> origin_zone_id, destination_zone_id."""
    return night.spark.createDataFrame(
        geography.zone_pairs(zones, max_pair_km=night.settings.flows.max_pair_km),
        "origin_zone_id string, destination_zone_id string",
    )


def _column(night: Night, schema: str, values: Sequence[object]) -> DataFrame:
    return night.spark.createDataFrame([(value,) for value in values], schema)


def _draw_participants(night: Night) -> None:
    """Participants by area on the first night of the month, drawn once a month."""
    month = night.day.first_of_month
    if night.settings.people.participant_share is not None:
        return
    if not _ledger(night, month.date, participants=True).isEmpty():
        return
    participation = night.settings.privacy.participation
    calibration = Calibration(PARTICIPANTS, l0=1, rho=participation.rho)
    Budget(participation.rho_cap).spend(calibration.rho, on=PARTICIPANTS.full_name)
    domain = (
        _residents(night).select("area").unionByName(_column(night, "area string", [UNKNOWN_AREA]))
    )
    sums = (
        taking_part(night, month)
        .where(F.col("taking_part"))
        .groupBy(F.coalesce("area", F.lit(UNKNOWN_AREA)).alias("area"))
        .agg((F.count(F.lit(1)) * disclosure.UNITS).alias("units"))
    )
    published = Published(f"participation-{month.date:%Y-%m}", night.now())
    counts = disclosure.over_domain(sums, domain, calibration, day=month.date)
    _draw(night, published.release_id, counts, [calibration])
    _enter(night, published, month.date, [calibration])


def _draw(
    night: Night, release_id: str, counts: DataFrame, calibrations: Iterable[Calibration]
) -> None:
    """Materialises the noise; raises `Refused` if OpenDP's own proof asks more than the ledger."""
    for one in calibrations:
        proven = disclosure.proven_rho(one)
        if proven > one.rho * (1 + 1e-9):
            raise Refused(
                f"noise of {one.measure.full_name}",
                found=f"rho {proven:.9g} proven",
                expected=f"at most {one.rho:.9g}",
                consequence="nothing was released",
            )
    noisy = disclosure.noised(counts).withColumn("release_id", F.lit(release_id))
    night.store.replace(NOISY_CELLS, noisy, release_id=release_id)


def _noisy_cells(night: Night, release_id: str) -> DataFrame:
    return night.store.read(NOISY_CELLS).where(F.col("release_id") == F.lit(release_id))


def _enter(
    night: Night, published: Published, day: date, calibrations: Iterable[Calibration]
) -> None:
    """Enters what a release spent into the ledger: from here on it counts as released."""
    min_devices = night.settings.privacy.min_devices
    passes = extrapolation.passes_threshold(
        F.col("noisy_devices"), F.col("sigma"), min_devices=min_devices
    )
    sizes = {
        (row.product, row.measure): row
        for row in _noisy_cells(night, published.release_id)
        .groupBy("product", "measure")
        .agg(
            F.count(F.lit(1)).alias("cells"),
            F.count(F.when(~passes, F.lit(1))).alias("suppressed"),
        )
        .collect()
    }
    versions = {
        table.name: night.store.version(table)
        for table in (REFERENCE_ZONES, REFERENCE_CELL_ZONES, CONSENT_PERIODS, VISITS)
    }
    rows = [
        (
            published.release_id,
            day,
            one.measure.product,
            one.measure.name,
            one.rho,
            0.0,
            one.l0,
            one.linf,
            one.l2,
            one.sigma,
            disclosure.MECHANISM,
            METHOD_VERSION,
            __version__,
            versions,
            sizes[one.measure.product, one.measure.name].cells,
            sizes[one.measure.product, one.measure.name].suppressed,
            None,
            published.published_at,
        )
        for one in calibrations
    ]
    night.store.append(RELEASES, night.spark.createDataFrame(rows, RELEASES.schema))


def _release(night: Night, published: Published) -> disclosure.Release:
    zones = night.of_day(REFERENCE_ZONES)
    cell_zones = night.of_day(REFERENCE_CELL_ZONES)
    outages = network.sound(night.landing.judged_outages())
    hours = network.zone_hours_without_data(zones, cell_zones, outages, night.day.hours)
    days = network.zone_days_without_data(hours, hours_of_day=len(night.day.hours))
    weight, area_weights = _weights(night)
    evidence = extrapolation.Evidence(
        noisy_cells=_noisy_cells(night, published.release_id),
        hours_without_data=hours,
        zones_without_data=days,
        weight=weight,
        area_weights=area_weights,
        min_devices=night.settings.privacy.min_devices,
    )
    return extrapolation.release(
        evidence,
        release_id=published.release_id,
        day=night.day.date,
        published_at=published.published_at,
    )


def _residents(night: Night) -> DataFrame:
    """-> area, residents."""
    return network.sound(night.landing.judged_residents())


def _weights(night: Night) -> tuple[Weight, DataFrame]:
    """People per device over all areas, and by area: by a share of the settings, or from the
    month's noisy participants.
    """
    people = _residents(night)
    share = night.settings.people.participant_share
    if share is not None:
        none = "home_area string, people_per_device double, relative_variance double"
        return Weight(1 / share), night.spark.createDataFrame([], none)
    month = night.day.first_of_month.date
    drawn = _ledger(night, month, participants=True).select("release_id").first()
    participants = _noisy_cells(night, drawn["release_id"] if drawn else "").select(
        F.col("keys")["area"].alias("area"), "noisy_devices", "sigma"
    )
    total = participants.agg(
        F.sum("noisy_devices").alias("devices"), F.sum(F.pow("sigma", F.lit(2))).alias("variance")
    ).first()
    residents_total = people.agg(F.sum("residents")).first()
    weight = extrapolation.overall_weight(
        residents=float(residents_total[0]) if residents_total else 0.0,
        participants=float(total["devices"]) if total else 0.0,
        variance=float(total["variance"]) if total else 0.0,
    )
    return weight, extrapolation.area_weights(people, participants)


if __name__ == "__main__":
    sys.exit(run_job(publish_products, description=__doc__ or ""))
