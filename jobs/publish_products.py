"""`silver.visits` -> noisy cells, once -> the ledger -> `gold.*`: protected, scaled, published."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import releases
from jobs.certify import certify
from jobs.detect_visits import taking_part
from jobs.frames import local_frame, persisted
from jobs.ingest_decisions import ingest_decisions
from jobs.ingest_reference import stored_zones
from jobs.releases import Entry
from jobs.runtime import RESTATE, Night, run_job
from transforms import (
    comparison,
    consent,
    disclosure,
    extrapolation,
    geography,
    metrics,
    network,
    periods,
    popularity,
    pseudonyms,
    rollups,
    tables,
)
from transforms.budget import Calibration
from transforms.extrapolation import Weight
from transforms.tables import (
    BRAND_SUBSCRIBERS,
    DAY_PARTS,
    DWELL_BANDS,
    OUTSIDE_AREA,
    PARTICIPANTS,
    REFERENCE_CELL_ZONES,
    REFERENCE_CELLS,
    REFERENCE_ZONES,
    SUBSCRIBER_STATES,
    SUBSCRIBERS_SEEN,
    UNKNOWN_AREA,
    VISITS,
    ZONE_COMPARISON,
    ZONE_DAYS,
    ZONE_HOURS,
    ZONE_MONTHS,
    ZONE_POPULARITY,
    ZONE_WEEKS,
)


def publish_products(night: Night, *, restate: bool = False) -> Entry:
    """Publishes the night once. A repeat changes nothing; a release that was cut short is finished
    from where it stood; `restate` publishes a closed one anew, from what the budget has left.
    """
    entry = releases.newest(night)
    if entry is None or restate or not entry.is_closed:
        entry = releases.open_or_next(night)
        if not releases.is_drawn(night, entry):
            _draw(night, entry)
        with persisted(releases.noisy_cells(night, entry.release_id)) as noisy_cells:
            night.store.publish(derived_release(night, entry, noisy_cells))
        night.store.publish(rolled_up_release(night, entry))
        night.store.create(tables.TABLES)
        entry = releases.close(night, entry)
    night.key.destroy()
    return entry


def _draw(night: Night, entry: Entry) -> None:
    """The day's noise, by everybody's decisions up to now."""
    night.key()  # without the day's key a late opt-out can't be taken out: refused
    ingest_decisions(night)
    _leave_out_late_opt_outs(night)
    _draw_participants(night)
    certify(night, entry)
    night.confirm_alone()
    releases.claim(night, entry)
    with persisted(night.of_day(VISITS)) as visits:
        releases.draw(night, entry, _counts(night, visits, entry.calibrations))


def _leave_out_late_opt_outs(night: Night) -> None:
    """Who said no since the visits were detected is taken out of this release's input."""
    out = (
        taking_part(night, night.day)
        .where(F.col("left_out") != consent.NOT_OPTED_IN)  # many, and none of them was let in
        .select("subscriber_id", "left_out")
        .transform(pseudonyms.pseudonymised, read_key=night.key)
        .withColumn("day", F.lit(night.day.date))
    )
    counted = night.of_day(VISITS).select("pseudonym").dropDuplicates()
    theirs = out.join(counted, on="pseudonym", how="left_semi").groupBy("left_out").count()
    people = {row.left_out: row["count"] for row in theirs.collect()}
    if people:
        night.store.delete_matching(VISITS, out, on=("day", "pseudonym"))
        _count_as_left_out(night, people)


def _count_as_left_out(night: Night, people: Mapping[str, int]) -> None:
    """Moves `people`, by reason, from those who take part to those who are left out."""
    seen = {row.outcome: row.subscribers for row in night.of_day(SUBSCRIBERS_SEEN).collect()}
    moved = {reason: seen.get(reason, 0) + number for reason, number in people.items()}
    number = sum(people.values())
    moved[consent.TAKING_PART] = seen.get(consent.TAKING_PART, number) - number
    rows = [(night.day.date, outcome, subscribers) for outcome, subscribers in moved.items()]
    frame = local_frame(night.spark, rows, SUBSCRIBERS_SEEN.schema)
    night.store.merge(SUBSCRIBERS_SEEN, frame)


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
    return local_frame(
        night.spark,
        geography.zone_pairs(zones, max_pair_km=night.settings.flows.max_pair_km),
        "origin_zone_id string, destination_zone_id string",
    )


def _column(night: Night, schema: str, values: Sequence[object]) -> DataFrame:
    return local_frame(night.spark, [(value,) for value in values], schema)


def _draw_participants(night: Night) -> None:
    """Who takes part on the first night of the month, by area and brand, drawn once a month."""
    if night.settings.people.participant_share is not None:
        return
    entry = releases.participants_entry(night)
    if entry.is_closed:
        return
    releases.claim(night, entry)
    count = {PARTICIPANTS: _participants_by_area, BRAND_SUBSCRIBERS: _subscribers_by_brand}
    with persisted(taking_part(night, night.day.first_of_month)) as people:
        counts = [count[one.measure](night, people, one, entry.day) for one in entry.calibrations]
        releases.draw(night, entry, reduce(DataFrame.unionByName, counts))
    releases.close(night, entry)


def _participants_by_area(
    night: Night, people: DataFrame, calibration: Calibration, month: date
) -> DataFrame:
    unknown = _column(night, "area string", [UNKNOWN_AREA])
    sums = (
        people.where(F.col("taking_part"))
        .groupBy(F.coalesce("area", F.lit(UNKNOWN_AREA)).alias("area"))
        .agg((F.count(F.lit(1)) * disclosure.UNITS).alias("units"))
    )
    areas = _residents(night).select("area").unionByName(unknown)
    return disclosure.over_domain(sums, areas, calibration, day=month)


def _subscribers_by_brand(
    night: Night, people: DataFrame, calibration: Calibration, month: date
) -> DataFrame:
    """Of the brands that are public; whoever is of another is in none of the cells."""
    brands = _column(night, "brand string", night.settings.privacy.participation.brands)
    states = _column(night, "state string", list(SUBSCRIBER_STATES))
    takes_part, left_out = (F.lit(state) for state in SUBSCRIBER_STATES)
    state = F.when(F.col("taking_part"), takes_part).otherwise(left_out)
    sums = people.groupBy("brand", state.alias("state")).agg(
        (F.count(F.lit(1)) * disclosure.UNITS).alias("units")
    )
    return disclosure.over_domain(sums, brands.crossJoin(states), calibration, day=month)


def derived_release(night: Night, entry: Entry, noisy_cells: DataFrame) -> disclosure.Release:
    """What is published of a night: all of it follows from `noisy_cells`, which are stored and the
    release's own, and public lists.
    """
    zones = night.of_day(REFERENCE_ZONES)
    cell_zones = night.of_day(REFERENCE_CELL_ZONES)
    outages = network.sound(night.landing.judged_outages())
    hours = _settled(network.zone_hours_without_data(zones, cell_zones, outages, night.day.hours))
    days = network.zone_days_without_data(hours, hours_of_day=len(night.day.hours))
    weight, area_weights = _weights(night)
    evidence = extrapolation.Evidence(
        noisy_cells=noisy_cells,
        hours_without_data=hours,
        zones_without_data=_settled(days),
        told_indoors=frozenset(told_indoors(night)),
        weight=weight,
        area_weights=area_weights,
        zone_weights=_settled(
            extrapolation.zone_weights(extrapolation.origins(noisy_cells), area_weights, weight)
        ),
        visibility=night.settings.visibility,
        min_devices=night.settings.privacy.min_devices,
    )
    return extrapolation.release(
        evidence,
        release_id=entry.release_id,
        day=entry.day,
        published_at=entry.published_at,
    )


def rolled_up_release(night: Night, entry: Entry) -> disclosure.Release:
    """What else is published once the night's rows are: it follows from these, those of the days
    before, and their stored noise.
    """
    entries = {day: of_day[-1] for day, of_day in releases.closed(night).items()}
    entries[entry.day] = entry
    follows = {
        product: rollups.following(product, entry.day, entries)
        for product in tables.ROLLED_UP_PRODUCTS
    }
    spans = [rollups.made_of(product, part) for product in follows for part in follows[product]]
    first, last = min(since for since, _ in spans), max(until for _, until in spans)
    days = [day for day in entries if first <= day <= last]
    noise = releases.noisy_cells(night, *(entries[day].release_id for day in days))
    told, zone_hours = (
        night.store.read(product.table).where(F.col("day").isin(*days))
        for product in (ZONE_DAYS, ZONE_HOURS)
    )
    zone_days = _settled(told)
    by_day = _settled(extrapolation.by_cell(noise, product=ZONE_DAYS))
    min_devices = night.settings.privacy.min_devices
    rows = {
        ZONE_COMPARISON: comparison.comparisons(
            zone_days,
            zone_hours,
            of=follows[ZONE_COMPARISON],
            zones=len(stored_zones(night)),
            timezone=night.settings.timezone,
        ),
        ZONE_WEEKS: periods.visits_of(zone_days, by_day, each="week", min_devices=min_devices),
        ZONE_MONTHS: periods.visits_of(zone_days, by_day, each="month", min_devices=min_devices),
        ZONE_POPULARITY: popularity.popular_times(
            _visitors_by_hour(noise, zone_hours),
            weeks=popularity.windows(entry.day, entries),
            timezone=night.settings.timezone,
            min_devices=min_devices,
        ),
    }
    return rollups.release(
        rows, follows, release_id=entry.release_id, published_at=entry.published_at
    )


def _visitors_by_hour(noise: DataFrame, zone_hours: DataFrame) -> DataFrame:
    """-> day, zone_id, hour_start, noisy_devices, sigma, no_data."""
    gaps = zone_hours.where(F.col("status") == "no_data").select("zone_id", "hour_start")
    return (
        extrapolation.by_cell(noise, product=ZONE_HOURS)
        .withColumnsRenamed({"visitors_devices": "noisy_devices", "visitors_sigma": "sigma"})
        .join(
            F.broadcast(gaps.withColumn("no_data", F.lit(True))),
            on=["zone_id", "hour_start"],
            how="left",
        )
        .withColumn("no_data", F.coalesce("no_data", F.lit(False)))
    )


def _settled(frame: DataFrame) -> DataFrame:
    """The rows of a small frame that several plans are made of, computed once."""
    return local_frame(frame.sparkSession, frame.collect(), frame.schema)


def told_indoors(night: Night) -> set[str]:
    """Zones that indoor cells tell of."""
    indoor = night.of_day(REFERENCE_CELLS).where(F.col("indoor_zone_id").isNotNull())
    pairs = night.of_day(REFERENCE_CELL_ZONES).join(indoor, on="cell_id", how="left_semi")
    return {row.zone_id for row in pairs.select("zone_id").distinct().collect()}


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
        return Weight(1 / share), local_frame(night.spark, [], none)
    drawn = releases.participants_entry(night)
    by_area = F.col("measure") == F.lit(PARTICIPANTS.name)
    participants = (
        releases.noisy_cells(night, drawn.release_id)
        .where(by_area)
        .select(F.col("keys")["area"].alias("area"), "noisy_devices", "sigma")
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
    return weight, _settled(extrapolation.area_weights(people, participants, weight))


if __name__ == "__main__":
    sys.exit(run_job(publish_products, description=__doc__ or "", flags=RESTATE))
