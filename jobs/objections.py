"""Objections that outlive an erasure: who was erased stays out, by a keyed fingerprint.

Whoever holds the table without the key can't tell whom it means. The key lies where the keys of
the days lie, is made with the first objection and never destroyed by a night: without it, or with
another one, no night counts anybody (exit 3). No decision lifts an objection, not even a later
opt_in: that takes the operator (`lift_objections`).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.frames import local_frame
from jobs.keys import KeyStore, key_store
from jobs.runtime import Night
from transforms import pseudonyms
from transforms.consent import OBJECTED
from transforms.errors import Misused, Refused
from transforms.tables import CONSENT_OBJECTIONS, IDENTITY


def make_key(night: Night) -> None:
    """Makes the key, unless there are objections that rest on it."""
    if _known(night) is None:
        key = _key(night)
        try:
            key()
        except Refused:
            key.make()


def enter(night: Night, fingerprints: Iterable[str]) -> None:
    """Enters the objections that are not known yet, all in one commit."""
    row = (night.now(), _mark(_key(night)()))
    fresh = local_frame(
        night.spark, [(one, *row) for one in fingerprints], CONSENT_OBJECTIONS.schema
    )
    known = night.store.read(CONSENT_OBJECTIONS).select("fingerprint")
    unknown = fresh.join(known, on="fingerprint", how="left_anti")
    if not unknown.isEmpty():
        night.store.merge(CONSENT_OBJECTIONS, unknown)


def lift(night: Night, identities: Iterable[str]) -> int:
    """Removes the objections of `identities`. -> how many there were"""
    objections = _known(night)
    if objections is None:
        return 0
    rows = [(fingerprint,) for fingerprint in fingerprints_of(night, identities)]
    theirs = local_frame(night.spark, rows, "fingerprint string")
    lifted = objections.join(theirs, on="fingerprint", how="left_semi").count()
    if lifted:
        night.store.delete_matching(CONSENT_OBJECTIONS, theirs, on=("fingerprint",))
        night.store.forget([CONSENT_OBJECTIONS])
    return lifted


def identities_in(ids: Path) -> list[str]:
    """The identities in a file of the operator's, one a line, each once. Raises `Misused` for
    one that can't be read or holds none; what is in it is never shown.
    """
    found, identities = "no identity", []
    try:
        lines = ids.read_text(encoding="utf-8-sig").splitlines()
        identities = sorted({line.strip() for line in lines} - {""})
    except FileNotFoundError:
        found = "no such file"
    except (OSError, UnicodeDecodeError) as error:
        found = f"a file that can't be read ({type(error).__name__})"
    if not identities:
        raise Misused(
            f"--ids {ids}",
            found=found,
            expected="a text file in UTF-8 with one identity a line",
            consequence="nothing was changed",
        )
    return identities


def fingerprints_of(night: Night, identities: Iterable[str]) -> list[str]:
    key = _key(night)()
    return sorted({_hmac(key, identity) for identity in identities})


def request_of(night: Night, fingerprints: Iterable[str]) -> str:
    """A name for these people together, whatever their order, that tells nothing about them."""
    return _hmac(_key(night)(), "\n".join(sorted(fingerprints)))[:16]


def honoured(night: Night, people: DataFrame) -> DataFrame:
    """`people` (subscriber_id, left_out, taking_part, …) with nobody taking part who objects,
    whatever was decided since.
    """
    objections = _known(night)
    if objections is None:
        return people
    objects = objections.select("fingerprint", F.lit(True).alias("objects"))
    return (
        _fingerprinted(night, people)
        .join(F.broadcast(objects), on="fingerprint", how="left")
        .withColumn("left_out", F.when(F.col("objects"), OBJECTED).otherwise(F.col("left_out")))
        .withColumn("taking_part", F.col("left_out").isNull())
        .select(*people.columns)
    )


def without(night: Night, rows: DataFrame) -> DataFrame:
    """`rows` (subscriber_id, …) of nobody who objects; those without an identity stay."""
    return rows.join(F.broadcast(objecting(night, rows)), on=IDENTITY, how="left_anti")


def objecting(night: Night, people: DataFrame) -> DataFrame:
    """Those of `people` (subscriber_id) who object. -> subscriber_id, each once"""
    ids = people.select(IDENTITY).where(F.col(IDENTITY).isNotNull()).distinct()
    objections = _known(night)
    if objections is None:
        return ids.limit(0)
    return (
        _fingerprinted(night, ids)
        .join(F.broadcast(objections), on="fingerprint", how="left_semi")
        .select(IDENTITY)
    )


def _fingerprinted(night: Night, people: DataFrame) -> DataFrame:
    """`people` with `fingerprint`; nobody may be without an identity."""
    return (
        people.withColumn("identity", F.col(IDENTITY))
        .transform(pseudonyms.pseudonymised, read_key=_key(night), identity="identity")
        .withColumnRenamed("pseudonym", "fingerprint")
    )


def _known(night: Night) -> DataFrame | None:
    """All objections, None without any. Raises `Refused` if the key is not the one they were
    made with: everybody who objected would be counted.
    """
    if not night.store.exists(CONSENT_OBJECTIONS):
        return None
    objections = night.store.read(CONSENT_OBJECTIONS)
    marks = {row.made_with for row in objections.select("made_with").distinct().collect()}
    if not marks:
        return None
    if marks != {_mark(_key(night)())}:
        raise Refused(
            "key of the objections",
            found="another one",
            expected="the one that the objections were entered with",
            consequence="nobody is counted and nothing was released",
        )
    return objections


def _key(night: Night) -> KeyStore:
    folder = night.settings.paths.keys_folder
    return key_store(night.settings.keys.store, folder=folder, day=None)


def _mark(key: bytes) -> str:
    return _hmac(key, "which key this is")[:16]


def _hmac(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()
