"""The proof, before anything is drawn, that a release counts nobody who does not take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs import objections, quality, releases
from jobs.detect_visits import subscribers_of
from jobs.frames import local_frame
from jobs.releases import Entry
from jobs.runtime import Night
from transforms import certificates, consent, pseudonyms, recount
from transforms.certificates import Certificate
from transforms.errors import Failed, Refused
from transforms.tables import (
    CONSENT_CERTIFICATES,
    CONSENT_DECISIONS,
    CONSENT_PERIODS,
    DECISIONS,
    SUBSCRIBERS_SEEN,
    VISITS,
)
from transforms.wording import few


@dataclass(frozen=True)
class Waits:
    """Opt-outs that a release honours for the first time, and how long that took."""

    people: int = 0
    in_time: int = 0
    longest_h: float | None = None


def certify(night: Night, entry: Entry) -> Certificate:
    """Seals what is true of the release's input; raises `Refused` if somebody is in it who may
    not be.
    """
    wrong = wrongly_counted(night)
    if wrong:
        raise Refused(
            f"contributors of {night.day.date}",
            found=f"{few(wrong)} who may not be counted, by a second reckoning of the decisions",
            expected="none",
            consequence="nothing was released",
        )
    before = max(chain(night), key=lambda one: one.number, default=None)
    seen = {row.outcome: row.subscribers for row in night.of_day(SUBSCRIBERS_SEEN).collect()}
    issued_at = night.now().replace(tzinfo=None)
    waits = _waits(night, before, until=issued_at)
    certificate = Certificate(
        number=0,
        day=night.day.date,
        release_id=entry.release_id,
        spends=certificates.spends(
            (one.measure.full_name, one.rho, one.l0, one.sigma) for one in entry.calibrations
        ),
        consent_version=night.store.version(CONSENT_PERIODS),
        decisions_received_until=_received_until(night),
        subscribers_seen=sum(seen.values()),
        taking_part=seen.pop(consent.TAKING_PART, 0),
        left_out=seen,
        recount=wrong,
        opt_outs=waits.people,
        opt_outs_in_time=waits.in_time,
        longest_wait_h=waits.longest_h,
        issued_at=issued_at,
    ).sealed(after=before)
    frame = local_frame(night.spark, [asdict(certificate)], CONSENT_CERTIFICATES.schema)
    night.store.append(CONSENT_CERTIFICATES, frame, once=certificate.hash)
    _examine_waits(night, certificate)
    return certificate


def wrongly_counted(night: Night) -> int:
    """People with visits whom a second reckoning, straight from the decisions, does not allow."""
    rules, day = night.settings.consent, night.day
    allowed = recount.may_contribute(
        as_delivered(night),
        subscribers_of(night, day),
        start=day.start,
        end=day.end,
        now=night.now(),
        default=rules.default,
        by_brand=rules.by_brand,
    ).transform(pseudonyms.pseudonymised, read_key=night.key)
    contributors = night.of_day(VISITS).select("pseudonym").dropDuplicates()
    return contributors.join(allowed, on="pseudonym", how="left_anti").count()


def chain(night: Night) -> list[Certificate]:
    """All certificates there are, in any order."""
    return [_certificate(row) for row in night.store.rows(CONSENT_CERTIFICATES)]


def faults(night: Night, chain: Sequence[Certificate]) -> list[str]:
    """What is wrong with the chain by itself and against the privacy ledger, in words."""
    spent: dict[str, list[tuple[str, float, int, float]]] = {}
    for row in releases.lines(night):
        line = (f"{row['product']}.{row.measure}", row.rho, row.l0, row.sigma)
        spent.setdefault(row.release_id, []).append(line)
    ledger = {release_id: certificates.spends(lines) for release_id, lines in spent.items()}
    return certificates.faults(chain, ledger=ledger)


def of_release(night: Night, release_id: str) -> Certificate | None:
    """The certificate that counts: the release's newest."""
    ours = [one for one in chain(night) if one.release_id == release_id]
    return max(ours, key=lambda one: one.number, default=None)


def of_newest(night: Night) -> Certificate | None:
    """The certificate that counts for the day's newest release."""
    entry = releases.newest(night)
    return of_release(night, entry.release_id) if entry else None


def must_have_been_in_time(night: Night) -> None:
    """Raises `Failed` when an opt-out waited for too long until the release honoured it."""
    certificate, limit = of_newest(night), night.settings.consent.max_latency
    longest = certificate.longest_wait_h if certificate else None
    if certificate and longest is not None and longest > limit:
        raise Failed(
            f"opt-outs first honoured by {certificate.release_id}",
            found=f"one that waited {longest:.1f} h",
            expected=f"at most {limit:g} h (consent.max_latency)",
            consequence="the release leaves them out, but the promise to them was not kept",
        )


def _certificate(row: Row) -> Certificate:
    return Certificate(**{one.name: row[one.name] for one in fields(Certificate)})


def as_delivered(night: Night) -> DataFrame:
    """Decisions in the landing, and those the operator delivered once and no longer does; none of
    people who were erased, whose decisions can't stand against anybody else's any more.
    """
    names = [column.name for column in DECISIONS.columns]
    kept = night.store.read(CONSENT_DECISIONS).select(*names, "first_seen_at")
    files = night.landing.delivered(DECISIONS, error=Refused)
    if not files:
        return kept
    rows = night.landing.rows_of(files, DECISIONS, error=Refused)
    delivered = rows.withColumn("first_seen_at", F.lit(None).cast("timestamp"))
    return objections.without(night, kept.unionByName(delivered))


def _received_until(night: Night) -> datetime | None:
    newest = (
        night.store.read(CONSENT_DECISIONS)
        .where(consent.arrival() <= F.lit(night.now()))
        .agg(F.max(consent.arrival()).alias("at"))
        .first()
    )
    return newest.at if newest else None


def _waits(night: Night, before: Certificate | None, *, until: datetime) -> Waits:
    """From each opt-out that is honoured for the first time to now.

    The release of the certificate before left out whoever was known to be out by then. Nobody
    waits for the first release of all: without one, nobody is counted.
    """
    if before is None:
        return Waits()
    decisions = night.store.read(CONSENT_DECISIONS)
    is_news = F.col("first_seen_at") > F.lit(before.issued_at)
    opts_out = F.col("fault").isNull() & (F.col("action") == consent.OPT_OUT)
    news = decisions.where(is_news & opts_out)
    people = news.select("subscriber_id").dropDuplicates()
    earlier = decisions.where(~is_news)
    theirs = earlier.join(people, on="subscriber_id", how="left_semi")
    known_then = consent.periods(
        consent.with_conflicts(theirs, among=earlier), now=before.issued_at
    )
    known_now = night.store.read(CONSENT_PERIODS)
    out_then, out_now = (
        periods.where(~F.col("taking_part") & F.col("to").isNull()).select("subscriber_id")
        for periods in (known_then, known_now)
    )
    since = F.min(F.coalesce(consent.dated(), F.col("first_seen_at")))
    hours = (F.unix_micros(F.lit(until)) - F.unix_micros("since")) / F.lit(3.6e9)
    limit = night.settings.consent.max_latency
    waits = (
        news.join(out_now, on="subscriber_id", how="left_semi")
        .join(out_then, on="subscriber_id", how="left_anti")
        .groupBy("subscriber_id")
        .agg(since.alias("since"))
        .select(F.greatest(hours, F.lit(0.0)).alias("hours"))
        .agg(
            F.count(F.lit(1)).alias("people"),
            F.count_if(F.col("hours") <= limit).alias("in_time"),
            F.max("hours").alias("longest_h"),
        )
    ).collect()
    return Waits(**waits[0].asDict())


def _examine_waits(night: Night, certificate: Certificate) -> None:
    """Kept as a finding: to hold the release back would not make anybody's wait shorter."""
    profile = (certificate.longest_wait_h, certificate.share_in_time)
    frame = local_frame(night.spark, [profile], quality.WAITS)
    quality.record(
        night,
        quality.examined(
            frame,
            quality.wait_expectations(night.settings.consent),
            subject="opt-outs",
        ),
    )
