"""Who takes part: decisions -> periods -> taking part on a day.

Only verified opt_out and opt_in change a state. A status_check never does.

Decisions are kept as they were delivered, each content once. A night looks again at those people
only whom its new decisions concern, so what it costs follows the decisions of the night.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.events import first_of
from transforms.inputs import blank

OPT_OUT, OPT_IN, STATUS_CHECK = "opt_out", "opt_in", "status_check"
TAKING_PART, OPTED_OUT, NOT_OPTED_IN = "taking_part", "opted_out", "not_opted_in"
OBJECTED = "objected"
LEFT_OUT = (OBJECTED, OPTED_OUT, NOT_OPTED_IN)
"""Why a subscriber is left out: was erased and objects, said no, or never said yes where that is
asked for.
"""
DECIDING = (
    "decision_id",
    "subscriber_id",
    "action",
    "decided_at",
    "received_at",
    "first_seen_at",
    "fault",
)
"""What of the decisions settles the periods."""
CONTENT = ("decision_id", "subscriber_id", "action", "verified", "decided_at", "channel")


def delivered(decisions: DataFrame, *, now: datetime) -> DataFrame:
    """Each content of a decision once, with its first arrival and what is wrong with it.

    decisions: as in the contract, in any order and with repetitions; now: the moment of the run,
    UTC. -> the columns of `consent.decisions`.
    """
    plain = [F.unix_micros(n).alias(n) if n == "decided_at" else F.col(n) for n in CONTENT]
    content = F.sha2(F.to_json(F.struct(*plain)), 256)
    return (
        decisions.withColumn("content", content)
        .groupBy("content")
        .agg(
            *[F.first(name).alias(name) for name in CONTENT],
            F.min("received_at").alias("received_at"),
        )
        .withColumn("first_seen_at", F.lit(now))
        .withColumn("fault", _fault())
    )


def _fault() -> Column:
    """Why a decision changes no state: the first that applies, else null.

    An opt_in dated after the run that first read it has none: it holds once its time has come.
    """
    decides = F.col("action").isin(OPT_OUT, OPT_IN)
    return first_of(
        no_subscriber=blank(F.col("subscriber_id")),
        status_check=F.col("action") == STATUS_CHECK,
        unknown_action=F.col("action").isNull() | ~decides,
        unverified=F.col("verified").isNull() | ~F.col("verified"),
    )


def unseen(fresh: DataFrame, stored: DataFrame) -> DataFrame:
    """Rows of `fresh` whose content is not stored, or is with a later arrival: what to store.

    Both have the columns of `consent.decisions`. -> the same and `is_stored`: true for a row that
    replaces the stored one.
    """
    known = stored.join(fresh.select("content"), on="content", how="left_semi").select(
        "content",
        F.col("received_at").alias("known_arrival"),
        F.col("first_seen_at").alias("known_since"),
    )
    is_earlier = F.col("received_at") < F.col("known_arrival")
    return (
        fresh.join(known, on="content", how="left")
        .withColumn("is_stored", F.col("known_since").isNotNull())
        .where(~F.col("is_stored") | is_earlier)
        .withColumn("first_seen_at", F.coalesce("known_since", "first_seen_at"))
        .drop("known_arrival", "known_since")
    )


def reconsidered(news: DataFrame, stored: DataFrame, *, now: datetime) -> DataFrame:
    """Whose periods may have changed. -> subscriber_id, each once.

    Those who decided anew, those with a stored decision whose id turned up again with another
    content, and those whose opt_in was dated ahead and holds by now.

    news: as from `delivered`; stored: `consent.decisions`, news included; read once.
    """
    ids = news.select("decision_id").dropDuplicates().withColumn("turned_up", F.lit(True))
    came_due = (
        F.col("fault").isNull()
        & (F.col("action") == OPT_IN)
        & (dated() > F.col("first_seen_at"))
        & (dated() <= F.lit(now))
    )
    return (
        stored.join(ids, on="decision_id", how="left")
        .where(F.col("turned_up") | came_due)
        .select("subscriber_id")
        .unionByName(news.select("subscriber_id"))
        .where(F.col("subscriber_id").isNotNull())
        .dropDuplicates()
    )


def with_conflicts(decisions: DataFrame, among: DataFrame | None = None) -> DataFrame:
    """Decisions with `conflicting`: true where one decision_id has more than one content.

    decisions: rows of `consent.decisions`; among: all of it, where they are not; only the columns
    that tell the id apart are read of it.
    """
    compared = decisions
    if among is not None:
        ids = decisions.select("decision_id").where(F.col("decision_id").isNotNull())
        compared = among.join(ids.dropDuplicates(), on="decision_id", how="left_semi")
    twice = (
        compared.where(F.col("decision_id").isNotNull())
        .groupBy("decision_id")
        .agg(F.count(F.lit(1)).alias("contents"))
        .where(F.col("contents") > 1)
        .select("decision_id", F.lit(True).alias("conflicting"))
    )
    return decisions.join(twice, on="decision_id", how="left").withColumn(
        "conflicting", F.coalesce("conflicting", F.lit(False))
    )


def periods(decisions: DataFrame, *, now: datetime) -> DataFrame:
    """Periods of taking part or not, half open, of everybody who ever validly decided.

    decisions: from `with_conflicts`; now: the moment of publishing, UTC.
    -> subscriber_id, taking_part, from, to (null: still running), decision_id.

    The newest decision wins; ties, and one decision_id with two contents, go to opt_out. An
    opt_out dated ahead, or not dated at all, applies from when it was first seen; an opt_in does
    not apply before its time.
    """
    by_instant = (
        decisions.where(F.col("fault").isNull())
        .transform(_effective, now=now)
        .groupBy("subscriber_id", "from")
        .agg(
            F.every(~F.col("opts_out")).alias("taking_part"),
            F.min(F.struct(~F.col("opts_out"), "decision_id")).alias("winner"),
        )
    )
    in_order = Window.partitionBy("subscriber_id").orderBy("from")
    before = F.lag("taking_part").over(in_order)
    return (
        by_instant.withColumn("before", before)
        .where(F.col("before").isNull() | (F.col("before") != F.col("taking_part")))
        .withColumn("to", F.lead("from").over(in_order))
        .select("subscriber_id", "taking_part", "from", "to", "winner.decision_id")
    )


def dated() -> Column:
    """The instant a decision claims for itself, null where it claims none."""
    return F.coalesce("decided_at", "received_at")


def arrival() -> Column:
    """When a decision reached the operator, as far as it says so."""
    return F.coalesce("received_at", "decided_at")


def _effective(decisions: DataFrame, *, now: datetime) -> DataFrame:
    """When each decision starts to hold. -> subscriber_id, from, opts_out, decision_id."""
    opts_out = F.col("conflicting") | (F.col("action") == OPT_OUT)
    at_once = F.least(F.coalesce(dated(), F.col("first_seen_at")), F.col("first_seen_at"))
    return decisions.select(
        "subscriber_id",
        F.when(opts_out, at_once).when(dated() <= F.lit(now), dated()).alias("from"),
        opts_out.alias("opts_out"),
        "decision_id",
    ).where(F.col("from").isNotNull())


def period_changes(now_true: DataFrame, before: DataFrame) -> DataFrame:
    """What turns the periods `before` into those that are `now_true`, of the same people.

    -> the columns of `consent.periods`, `is_stored` for a period that was there before, and `gone`
    for one that is to be removed.
    """
    value = ("taking_part", "to", "decision_id")
    old = before.select("subscriber_id", "from", F.struct(*value).alias("old"))
    new = now_true.select("subscriber_id", "from", F.struct(*value).alias("new"))
    both = old.join(new, on=["subscriber_id", "from"], how="full_outer")
    return (
        both.where(~F.col("old").eqNullSafe(F.col("new")))
        .withColumn("is_stored", F.col("old").isNotNull())
        .withColumn("gone", F.col("new").isNull())
        .withColumn("value", F.coalesce("new", "old"))
        .select(
            "subscriber_id",
            "value.taking_part",
            "from",
            "value.to",
            "value.decision_id",
            "is_stored",
            "gone",
        )
    )


def with_taking_part(
    subscribers: DataFrame,
    consent_periods: DataFrame,
    *,
    start: datetime,
    end: datetime,
    default: str,
    by_brand: Mapping[str, str] | None = None,
) -> DataFrame:
    """subscribers with `taking_part`: the whole of [start, end), and still now; and with
    `left_out`, of `LEFT_OUT`, where not.

    default: the regime, `opt_out` (who never decided takes part) or `opt_in` (does not);
    by_brand: brands with another regime, for subscribers with a column `brand`.
    """
    state = consent_periods.groupBy("subscriber_id").agg(*_states(start, end))
    said_no = F.coalesce(F.col("out_that_day") | F.col("out_now"), F.lit(False))
    said_yes = F.coalesce("in_all_day", F.lit(False))
    needs_no_yes = opts_out_by_default(default, by_brand)
    left_out = F.when(said_no, F.lit(OPTED_OUT)).when(
        ~(needs_no_yes | said_yes), F.lit(NOT_OPTED_IN)
    )
    return (
        subscribers.join(state, on="subscriber_id", how="left")
        .withColumn("left_out", left_out)
        .withColumn("taking_part", F.col("left_out").isNull())
        .drop("out_that_day", "in_all_day", "out_now")
    )


def opts_out_by_default(default: str, by_brand: Mapping[str, str] | None = None) -> Column:
    """Whether the regime of a subscriber's brand is `opt_out`."""
    regime = F.lit(default)
    for brand, of_brand in (by_brand or {}).items():
        regime = F.when(F.col("brand") == F.lit(brand), F.lit(of_brand)).otherwise(regime)
    return regime == F.lit(OPT_OUT)


def _states(start: datetime, end: datetime) -> list[Column]:
    taking_part, starts, ends = F.col("taking_part"), F.col("from"), F.col("to")
    overlaps = (starts < F.lit(end)) & (ends.isNull() | (ends > F.lit(start)))
    covers = (starts <= F.lit(start)) & (ends.isNull() | (ends >= F.lit(end)))
    return [
        F.some(~taking_part & overlaps).alias("out_that_day"),
        F.some(taking_part & covers).alias("in_all_day"),
        F.some(~taking_part & ends.isNull()).alias("out_now"),
    ]
