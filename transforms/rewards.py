"""What taking part earns: subscribers and their consent -> whole days of a month -> cents.

Whether and where a phone was seen is not known here, so it can't matter.

A set of days is one whole number with a bit for each day of the month, the first day's the lowest:
31 days of everybody are one number a row, not 31 rows. Money is whole hundredths of the currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.consent import opts_out_by_default
from transforms.days import Month
from transforms.tables import SUBSCRIBERS

PER_DAY, POOL = "per_day", "pool"


@dataclass(frozen=True)
class Terms:
    """What a month is paid by. A closed month keeps its own, so that new settings correct nobody.

    Amounts are in hundredths of the currency. In mode `pool`, `shared_out` goes to
    `days_taken_part`, those of all subscribers together.
    """

    mode: str
    regime: str
    monthly_cap: int
    cents_per_day: int = 0
    regime_by_brand: Mapping[str, str] = field(default_factory=dict)
    cents_by_brand: Mapping[str, int] = field(default_factory=dict)
    shared_out: int = 0
    days_taken_part: int = 0

    def sharing(self, amount: int, *, days: int) -> Terms:
        """The terms with all that there is to share; nothing is shared out among nobody."""
        return replace(self, shared_out=max(amount, 0) if days else 0, days_taken_part=days)


def days_taken_part(
    subscribers: DataFrame, periods: DataFrame, *, month: Month, timezone: str, terms: Terms
) -> DataFrame:
    """Whole local days of `month` on which subscribers took part.

    subscribers: as in the contract, perhaps several rows of a person; a day belongs to the newest
    row that holds on it. periods: subscriber_id, taking_part, from, to (UTC).
    -> subscriber_id, brand, days (above 0): a row for each row of `subscribers` with such days.
    """
    needs_no_yes = opts_out_by_default(terms.regime, terms.regime_by_brand)
    said_no, undecided = F.coalesce("said_no", _whole(0)), F.coalesce("undecided", _whole(-1))
    refused = F.when(needs_no_yes, said_no).otherwise(said_no.bitwiseOR(undecided))
    days = F.bit_count(F.col("held").bitwiseAND(F.bitwise_not(refused)))
    return (
        subscribers.transform(_held, month=month)
        .join(_refused(periods, month=month, timezone=timezone), on="subscriber_id", how="left")
        .select("subscriber_id", "brand", days.alias("days"))
        .where(F.col("days") > 0)
    )


def earnings(days: DataFrame, *, terms: Terms) -> DataFrame:
    """What the days of a month earn, within the cap.

    days: from `days_taken_part`. -> subscriber_id, days_taken_part, amount.
    """
    rate = _whole(terms.cents_per_day)
    for brand, cents in terms.cents_by_brand.items():
        rate = F.when(F.col("brand") == F.lit(brand), _whole(cents)).otherwise(rate)
    by_subscriber = days.groupBy("subscriber_id").agg(
        F.sum("days").cast("int").alias("days_taken_part"),
        F.sum(F.col("days") * rate).alias("at_rate"),
    )
    # Division of whole numbers: what it cuts off stays in the pool.
    shares = _whole(terms.shared_out) * F.col("days_taken_part")
    share = F.call_function("div", shares, _whole(max(terms.days_taken_part, 1)))
    due = share if terms.mode == POOL else F.col("at_rate")
    return by_subscriber.select(
        "subscriber_id",
        "days_taken_part",
        F.least(due, _whole(terms.monthly_cap)).alias("amount"),
    )


def missing(
    earned: DataFrame, ledger: DataFrame, corrections: DataFrame, *, month: Month
) -> DataFrame:
    """What subscribers are still owed for a closed `month`. Nothing is ever taken back.

    earned: from `earnings`, as known now; ledger, corrections: of `rewards.ledger` and
    `rewards.corrections`, of that month and all later closed ones.
    -> subscriber_id, days_taken_part, amount (above 0).
    """
    of_month = F.col("month") == F.lit(month.first)
    for_month = F.col("corrected_month") == F.lit(month.first)
    amount, no_days = F.col("amount"), F.lit(0).alias("days_taken_part")
    # What the month's ledger holds for earlier months is no payment for this one.
    booked = [
        ledger.where(of_month).select("subscriber_id", no_days, (-amount).alias("amount")),
        corrections.where(of_month).select("subscriber_id", no_days, amount),
        corrections.where(for_month).select("subscriber_id", no_days, (-amount).alias("amount")),
    ]
    for rows in booked:
        earned = earned.unionByName(rows)
    return _summed(earned).where(amount > 0)


def payable(earned: DataFrame, corrections: DataFrame) -> DataFrame:
    """A month's rows of `rewards.ledger`, all but month and currency: what is earned and what was
    missing before. Days are those of the month alone.
    """
    no_days = F.lit(0).alias("days_taken_part")
    return _summed(earned.unionByName(corrections.select("subscriber_id", no_days, "amount")))


def billed(ledger: DataFrame) -> DataFrame:
    """Rows of `rewards.ledger` as billing gets them: whoever is paid something."""
    return ledger.where(F.col("amount") > 0).select("subscriber_id", "month", "amount", "currency")


def _summed(rows: DataFrame) -> DataFrame:
    return rows.groupBy("subscriber_id").agg(
        F.sum("days_taken_part").cast("int").alias("days_taken_part"),
        F.sum("amount").alias("amount"),
    )


def _held(subscribers: DataFrame, *, month: Month) -> DataFrame:
    """-> subscriber_id, brand, held: the days of `month` that belong to the row."""
    first = F.lit(month.first)
    starts = F.coalesce(F.datediff("since", first), F.lit(0))
    ends = F.coalesce(F.datediff("until", first) + 1, F.lit(len(month)))
    # The same order as for the nights, down to a tie: else somebody could be of another brand here.
    tie = F.xxhash64(*[column.name for column in SUBSCRIBERS.columns])
    newest_first = Window.partitionBy("subscriber_id").orderBy(F.desc_nulls_last("since"), tie)
    newer = F.bit_or("days").over(newest_first.rowsBetween(Window.unboundedPreceding, -1))
    return (
        subscribers.withColumn("days", _days(starts, ends, month=month))
        .where(F.col("days") != 0)
        .withColumn("newer", F.coalesce(newer, _whole(0)))
        .withColumn("held", F.col("days").bitwiseAND(F.bitwise_not("newer")))
        .select("subscriber_id", "brand", "held")
    )


def _refused(periods: DataFrame, *, month: Month, timezone: str) -> DataFrame:
    """Days of those who ever decided on which they were out for some time, or had not decided yet.

    Periods follow each other without a gap, so there is nothing else.
    -> subscriber_id, said_no, undecided.
    """
    first_out = _day_number(F.col("from"), month=month, timezone=timezone)
    # A period ends just before `to`: at midnight, the new day is not touched.
    after_last_out = F.coalesce(
        _day_after(F.col("to"), month=month, timezone=timezone), F.lit(len(month))
    )
    out = F.when(~F.col("taking_part"), _days(first_out, after_last_out, month=month))
    decided = _day_after(F.min("from"), month=month, timezone=timezone)
    return periods.groupBy("subscriber_id").agg(
        F.coalesce(F.bit_or(out), _whole(0)).alias("said_no"),
        _days(F.lit(0), decided, month=month).alias("undecided"),
    )


def _day_number(instant: Column, *, month: Month, timezone: str) -> Column:
    """Number of the local day that holds an instant; 0 is the first of the month."""
    return F.datediff(F.from_utc_timestamp(instant, timezone), F.lit(month.first))


def _day_after(instant: Column, *, month: Month, timezone: str) -> Column:
    """Number of the first local day that starts at an instant or later."""
    just_before = F.timestamp_micros(F.unix_micros(instant) - 1)
    return _day_number(just_before, month=month, timezone=timezone) + 1


def _days(first: Column, past: Column, *, month: Month) -> Column:
    """The days from number `first` to before number `past` that lie in the month, as bits."""
    low = F.least(F.greatest(first, F.lit(0)), F.lit(len(month)))
    high = F.least(F.greatest(past, low), F.lit(len(month)))
    return _bit(high) - _bit(low)


def _bit(number: Column) -> Column:
    return F.call_function("shiftleft", _whole(1), number)


def _whole(value: int) -> Column:
    return F.lit(value).cast("long")
