"""Who takes part: decisions -> periods -> taking part on a day.

Only verified opt_out and opt_in change a state. A status_check never does.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

OPT_OUT, OPT_IN = "opt_out", "opt_in"


def periods(decisions: DataFrame, *, now: datetime) -> DataFrame:
    """Periods of taking part or not, half open, of everybody who ever validly decided.

    decisions: as in the contract, in any order and with repetitions; now: the moment of
    publishing, UTC.
    -> subscriber_id, taking_part, from, to (null: still running), decision_id.

    The newest decision wins; ties, and one decision_id with two contents, go to opt_out. An
    opt_out dated after `now`, or not dated at all, applies at `now`; an opt_in does not apply.
    """
    changes = (
        decisions.transform(_with_conflicts)
        .where(F.col("verified") & F.col("action").isin(OPT_OUT, OPT_IN))
        .where(F.col("subscriber_id").isNotNull())
        .transform(_effective, now=now)
    )
    by_instant = changes.groupBy("subscriber_id", "from").agg(
        F.every(~F.col("opts_out")).alias("taking_part"),
        F.min(F.struct(~F.col("opts_out"), "decision_id")).alias("winner"),
    )
    in_order = Window.partitionBy("subscriber_id").orderBy("from")
    before = F.lag("taking_part").over(in_order)
    return (
        by_instant.withColumn("before", before)
        .where(F.col("before").isNull() | (F.col("before") != F.col("taking_part")))
        .withColumn("to", F.lead("from").over(in_order))
        .select("subscriber_id", "taking_part", "from", "to", "winner.decision_id")
    )


def _with_conflicts(decisions: DataFrame) -> DataFrame:
    """Each content of a decision once; `conflicting` where one id has more than one."""
    content = ["decision_id", "subscriber_id", "action", "verified", "decided_at", "channel"]
    once = decisions.groupBy(*content).agg(F.min("received_at").alias("received_at"))
    versions = F.count(F.lit(1)).over(Window.partitionBy("decision_id"))
    return once.withColumn("conflicting", F.col("decision_id").isNotNull() & (versions > 1))


def _effective(decisions: DataFrame, *, now: datetime) -> DataFrame:
    """When each decision starts to hold. -> subscriber_id, from, opts_out, decision_id."""
    opts_out = F.col("conflicting") | (F.col("action") == OPT_OUT)
    dated = F.coalesce("decided_at", "received_at")
    at_once = F.least(F.coalesce(dated, F.lit(now)), F.lit(now))
    return decisions.select(
        "subscriber_id",
        F.when(opts_out, at_once).when(dated <= F.lit(now), dated).alias("from"),
        opts_out.alias("opts_out"),
        "decision_id",
    ).where(F.col("from").isNotNull())


def with_taking_part(
    subscribers: DataFrame,
    consent_periods: DataFrame,
    *,
    start: datetime,
    end: datetime,
    default: str,
) -> DataFrame:
    """subscribers with `taking_part`: the whole of [start, end), and still now.

    default: `opt_out` (who never decided takes part) or `opt_in` (does not).
    """
    state = consent_periods.groupBy("subscriber_id").agg(*_states(start, end))
    if default == OPT_OUT:
        takes_part = ~(F.col("out_that_day") | F.col("out_now"))
        undecided = True
    else:
        takes_part = F.col("in_all_day") & ~F.col("out_now")
        undecided = False
    return (
        subscribers.join(state, on="subscriber_id", how="left")
        .withColumn("taking_part", F.coalesce(takes_part, F.lit(undecided)))
        .drop("out_that_day", "in_all_day", "out_now")
    )


def _states(start: datetime, end: datetime) -> list[Column]:
    taking_part, starts, ends = F.col("taking_part"), F.col("from"), F.col("to")
    overlaps = (starts < F.lit(end)) & (ends.isNull() | (ends > F.lit(start)))
    covers = (starts <= F.lit(start)) & (ends.isNull() | (ends >= F.lit(end)))
    return [
        F.some(~taking_part & overlaps).alias("out_that_day"),
        F.some(taking_part & covers).alias("in_all_day"),
        F.some(~taking_part & ends.isNull()).alias("out_now"),
    ]
