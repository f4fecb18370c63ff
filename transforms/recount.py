"""Who may be counted on a day, worked out once more, by another way than `consent.periods`.

It reads decisions as they were delivered and knows nothing of periods, merges or earlier nights. A
release is certified by it: nobody may contribute whom it does not name. Where rules leave room it
is the more lenient of the two ways, so what it finds is wrong beyond doubt.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def may_contribute(
    decisions: DataFrame,
    subscribers: DataFrame,
    *,
    start: datetime,
    end: datetime,
    now: datetime,
    default: str,
    by_brand: Mapping[str, str],
) -> DataFrame:
    """Subscribers who may be counted on the day [start, end), as of `now` (UTC).

    decisions: those of the contract, repeated or not, and first_seen_at, the run that first read
    one (null: this one); subscribers: subscriber_id, brand, each id once. -> subscriber_id
    """
    stands = (
        _moments(decisions, now=now)
        .groupBy("subscriber_id")
        .agg(
            F.max_by("says_no", _order()).alias("no_now"),
            F.max_by("says_no", _order(until=start)).alias("no_at_start"),
            F.some(
                F.col("says_no") & (F.col("at") >= F.lit(start)) & (F.col("at") < F.lit(end))
            ).alias("no_during"),
        )
    )
    asked_first = F.coalesce(
        *[
            F.when(F.col("brand") == F.lit(brand), F.lit(regime == "opt_in"))
            for brand, regime in by_brand.items()
        ],
        F.lit(default == "opt_in"),
    )
    no = F.col("no_now") | F.coalesce("no_at_start", F.lit(False)) | F.col("no_during")
    never_yes = F.col("no_at_start").isNull()
    return (
        subscribers.join(stands, on="subscriber_id", how="left")
        .where(~F.coalesce(no, F.lit(False)))
        .where(~(asked_first & never_yes))
        .select("subscriber_id")
    )


def _moments(decisions: DataFrame, *, now: datetime) -> DataFrame:
    """Valid decisions and when they begin to hold, each once. -> subscriber_id, at, says_no

    A no holds at once, also one dated ahead. What has no date holds from the beginning of time, so
    whatever has one overrules it.
    """
    valid = F.col("verified") & F.col("action").isin("opt_out", "opt_in")
    dated = F.coalesce("decided_at", "received_at")
    says_no = (F.col("action") == "opt_out") | F.col("contradicts_itself")
    no_from = F.least(F.coalesce(dated, F.lit(datetime(1, 1, 1))), "first_seen_at", F.lit(now))
    return (
        _with_contradictions(decisions)
        .where(F.coalesce(valid, F.lit(False)) & (F.trim("subscriber_id") != ""))
        .withColumn("at", F.when(says_no, no_from).when(dated <= F.lit(now), dated))
        .where(F.col("at").isNotNull())
        .groupBy("subscriber_id", "decision_id", "decided_at", "channel", says_no.alias("says_no"))
        .agg(F.min("at").alias("at"))
    )


def _with_contradictions(decisions: DataFrame) -> DataFrame:
    """decisions with `contradicts_itself`: the same decision_id says something else elsewhere."""
    said = F.struct("subscriber_id", "action", "verified", "decided_at", "channel")
    twice = (
        decisions.where(F.col("decision_id").isNotNull())
        .groupBy("decision_id")
        .agg((F.size(F.collect_set(F.to_json(said))) > 1).alias("contradicts_itself"))
        .where("contradicts_itself")
    )
    return decisions.join(twice, on="decision_id", how="left").fillna(
        False, subset=["contradicts_itself"]
    )


def _order(*, until: datetime | None = None) -> Column:
    """Later decisions count more, of the same instant the no; null: does not count."""
    order = F.struct("at", "says_no")
    return order if until is None else F.when(F.col("at") <= F.lit(until), order)
