"""A release is certified before anything is drawn: who is counted, who is not, who waited."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import certify, objections, publish_products
from jobs.certify import Waits
from jobs.detect_visits import detect_visits, taking_part
from jobs.ingest_decisions import ingest_decisions
from jobs.ingest_reference import ingest_reference
from jobs.runtime import Night, load_settings, night_of
from jobs.show_certificate import show_certificate
from tests.small_world import landing_of_small_world, write_decisions
from tests.test_certificates import FIRST as CERTIFICATE
from transforms.errors import Failed, Refused
from transforms.pseudonyms import pseudonymised
from transforms.synthetic_people import BRANDS as synthetic_brands
from transforms.tables import (
    BRAND_SUBSCRIBERS,
    CONSENT_CERTIFICATES,
    NOISY_CELLS,
    PARTICIPANTS,
    QUALITY,
    RELEASES,
    SUBSCRIBER_STATES,
    SUBSCRIBERS_SEEN,
    VISITS,
)

pytestmark = pytest.mark.slow

DAY = date(2026, 11, 23)
AT_NIGHT = datetime(2026, 11, 24, 2, tzinfo=UTC)
BRANDS = synthetic_brands[:2]
PARTICIPATION = f"[privacy.participation]\nrho = 0.004\nbrands = {list(BRANDS)!r}\n"


@dataclass(frozen=True)
class Site:
    """One installation; what its subscribers decide is written to its landing."""

    root: Path
    spark: SparkSession

    def night(self, day: date = DAY, *, now: datetime = AT_NIGHT, more: str = "") -> Night:
        conf = self.root / "own.toml"
        conf.write_text(
            f'[paths]\nlanding = "{self.root}/world/landing"\n'
            f'restricted = "{self.root}/restricted"\npublished = "{self.root}/published"\n{more}'
        )
        return night_of(load_settings(str(conf)), day, self.spark, now=lambda: now)

    def decide(self, file: str, *decisions: tuple[str, str, datetime]) -> None:
        """(who, action, when) each."""
        write_decisions(
            self.root / f"world/landing/decisions/{file}.parquet",
            (
                (f"{file}-{number}", who, action, True, at, at, "web")
                for number, (who, action, at) in enumerate(decisions)
            ),
        )

    def who_is_counted(self, night: Night) -> list[str]:
        """Subscribers with visits of the day, while the key is there."""
        people = taking_part(night, night.day).where("taking_part").select("subscriber_id")
        known = people.withColumn("id", F.col("subscriber_id"))
        visits = night.of_day(VISITS).select("pseudonym").dropDuplicates()
        found = pseudonymised(known, read_key=night.key).join(visits, on="pseudonym")
        return sorted(row.id for row in found.collect())


@pytest.fixture
def site(spark: SparkSession, tmp_path: Path) -> Site:
    landing_of_small_world(tmp_path / "world", subscribers=300, centres=3, last_day=str(DAY))
    return Site(tmp_path, spark)


def test_a_night_is_certified_and_late_opt_outs_are_left_out(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    night = site.night(more=PARTICIPATION)
    ingest_decisions(night)
    ingest_reference(night)
    detect_visits(night)
    seen = {row.outcome: row.subscribers for row in night.of_day(SUBSCRIBERS_SEEN).collect()}
    quitter, objector, *others = site.who_is_counted(night)
    site.decide("while it ran", (quitter, "opt_out", AT_NIGHT - timedelta(minutes=1)))
    objections.make_key(night)
    objections.enter(night, objections.fingerprints_of(night, [objector]))

    with monkeypatch.context() as broken:
        broken.setattr(publish_products, "_leave_out_late_opt_outs", lambda night: None)
        with pytest.raises(Refused, match="fewer than 10 who may not be counted"):
            publish_products.publish_products(night)
    for table in (RELEASES, NOISY_CELLS):
        rows = night.store.read(table).where(F.col("product") != PARTICIPANTS.product)
        assert rows.isEmpty(), "nothing was drawn or spent"
    assert night.store.read(CONSENT_CERTIFICATES).isEmpty()
    assert not (site.root / "published").exists()

    entry = publish_products.publish_products(night)
    monthly = night.store.read(NOISY_CELLS).where(F.col("product") == PARTICIPANTS.product)
    by_brand = monthly.where(F.col("measure") == BRAND_SUBSCRIBERS.name).collect()
    assert {(row["keys"]["brand"], row["keys"]["state"]) for row in by_brand} == {
        (brand, state) for brand in BRANDS for state in SUBSCRIBER_STATES
    }
    sigma = math.sqrt(1 / (2 * 0.001))
    assert [row.sigma for row in by_brand] == pytest.approx([sigma] * len(by_brand))
    listed = taking_part(night, night.day.first_of_month).where(F.col("brand").isin(*BRANDS))
    noise = sum(row.noisy_devices for row in by_brand) - listed.count()
    assert abs(noise) < 6 * sigma * math.sqrt(len(by_brand)), "every subscriber once"

    certificate = certify.of_release(night, entry.release_id)
    assert certificate is not None
    assert certificate.number == 1 and certificate.previous_hash is None
    assert certificate.subscribers_seen == sum(seen.values())
    assert certificate.taking_part == seen["taking_part"] - 2
    assert certificate.left_out["opted_out"] == seen["opted_out"] + 1
    assert certificate.left_out["objected"] == 1
    assert (certificate.recount, certificate.opt_outs) == (0, 0), "nobody waits for the first"
    assert night.of_day(VISITS).select("pseudonym").dropDuplicates().count() == len(others)
    assert quitter not in str(night.store.read(CONSENT_CERTIFICATES).collect())

    show_certificate(night)
    shown = capsys.readouterr().out
    assert f"the chain of 1 holds, up to {certificate.hash}" in shown.replace("\n", "")

    forged = night.store.read(CONSENT_CERTIFICATES).withColumn("taking_part", F.lit(10_000))
    night.store.replace(CONSENT_CERTIFICATES, forged)
    with pytest.raises(Failed, match="certificate 1 was changed"):
        show_certificate(night)


def test_an_opt_out_waits_from_the_decision_to_the_release_that_first_honours_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest_decisions(site.night())
    before = replace(CERTIFICATE, issued_at=AT_NIGHT.replace(tzinfo=None)).sealed(after=None)
    hour = timedelta(hours=1)
    site.decide(
        "next day",
        ("late", "opt_out", AT_NIGHT - hour),
        ("in time", "opt_out", AT_NIGHT + 20 * hour),
        ("restless", "opt_out", AT_NIGHT + 2 * hour),
        ("restless", "opt_in", AT_NIGHT + 3 * hour),
    )
    night = site.night(now=AT_NIGHT + 30 * hour)
    ingest_decisions(night)
    site.decide("again", ("late", "opt_out", AT_NIGHT + 29 * hour))
    ingest_decisions(night)
    until = night.now().replace(tzinfo=None)
    assert certify._waits(night, before, until=until) == Waits(2, 1, pytest.approx(31))
    after = replace(before, issued_at=until)
    assert certify._waits(night, after, until=until) == Waits(0, 0, None)

    certificate = replace(CERTIFICATE, opt_outs=2, opt_outs_in_time=1, longest_wait_h=31.0)
    certify._examine_waits(night, certificate)
    findings = night.store.read(QUALITY).where(F.col("subject") == "opt-outs").collect()
    assert {(row.success, row.critical) for row in findings} == {(False, False)}
    monkeypatch.setattr(certify, "of_newest", lambda night: certificate)
    with pytest.raises(Failed, match=r"one that waited 31\.0 h"):
        certify.must_have_been_in_time(night)
