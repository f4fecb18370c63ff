"""Consent of a month that is over -> `rewards.ledger`, and the export for billing.

    consent.periods ─┐
    subscribers ─────┼─> corrections of earlier months ─> ledger ─> close ─> export
    terms in conf ───┘                                            (once)   (of what is closed)

A month is closed once. Cut short before that, it is reckoned again; after it, only the export is
finished, from what is stored. What is learned later is paid with the next month.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs import objections
from jobs.frames import local_frame, persisted
from jobs.ingest_decisions import ingest_decisions
from jobs.ingest_reference import tell_faults
from jobs.landing import readable
from jobs.runtime import Night, run_job
from transforms import network, rewards
from transforms.days import LocalDay, Month
from transforms.errors import Misused
from transforms.rewards import Terms
from transforms.tables import (
    CONSENT_PERIODS,
    REWARDS_CORRECTIONS,
    REWARDS_LEDGER,
    REWARDS_MONTHS,
    Table,
)
from transforms.wording import few


def settle_rewards(night: Night) -> None:
    """Settles the month that the night's day lies in; raises `Misused` before it is over."""
    month = Month.of(night.day.date)
    night.progress.headline(f"Footfall, rewards of {month} ({night.settings.timezone})")
    _must_be_over(night, month)
    closed = _closed_months(night)
    entry = closed.get(month)
    if entry is not None and entry.exported_at is not None:
        night.progress.note(f"{month} is closed: nothing to do")
    else:
        whole = replace(night, day=LocalDay(month.last, night.settings.zone_info))
        if entry is None:
            _must_be_payable(night, month, _last(closed))
            night.progress.step(ingest_decisions, whole)
            night.progress.step(close_month, whole)
        night.progress.step(export_month, whole)
    _show(night, month)


def close_month(night: Night) -> str:
    """Reckons and closes the month of the night's day. -> how many took part, in words"""
    month, closed = Month.of(night.day.date), _closed_months(night)
    before, terms = _last(closed), _terms(night)
    carried_in = before.carried_out if before else 0
    pool = night.settings.rewards.pool_by_month[str(month)] if terms.mode == rewards.POOL else None
    with readable("subscribers"):
        tell_faults(night, night.landing.judged_contracts(), "subscribers", name=None)
    _store_corrections(night, month, closed)
    corrections = _of_month(night, REWARDS_CORRECTIONS, month)
    corrected = _total(corrections, "amount")
    in_hand = 0 if pool is None else pool + carried_in - corrected
    with persisted(_days(night, month, terms)) as days:
        terms = terms.sharing(in_hand, days=_total(days, "days"))
        earnings = rewards.earnings(days, terms=terms)
        earned = _total(earnings, "amount")
        ledger = _dated(night, rewards.payable(earnings, corrections), month)
        night.store.replace(REWARDS_LEDGER, ledger, month=month.first)
    stored = _of_month(night, REWARDS_LEDGER, month)
    subscribers = stored.where(F.col("days_taken_part") > 0).count()
    entry = {
        **asdict(terms),
        "month": month.first,
        "currency": night.settings.rewards.currency,
        "pool": pool,
        "subscribers": subscribers,
        "earned": earned,
        "corrections": corrected,
        "paid": _total(stored, "amount"),
        "carried_in": carried_in,
        "carried_out": carried_in if pool is None else in_hand - earned,
        "closed_at": night.now(),
        "exported_at": None,
    }
    night.confirm_alone()
    _enter(night, month, entry)
    return f"{few(subscribers)} subscribers"


def export_month(night: Night) -> str:
    """Writes the ledger of the closed month for billing. -> where it lies"""
    month = Month.of(night.day.date)
    entry = _closed_months(night)[month]
    night.confirm_alone()
    rows = rewards.billed(_of_month(night, REWARDS_LEDGER, month))
    folder = night.store.export(REWARDS_LEDGER, rows, name=str(month))
    _enter(night, month, {**entry.asDict(), "exported_at": night.now()})
    return folder


def _must_be_over(night: Night, month: Month) -> None:
    today = night.now().astimezone(night.settings.zone_info).date()
    if today <= month.last:
        raise Misused(
            "--day",
            found=f"a day of {month}, which is not over",
            expected=f"a day before {today.replace(day=1)}",
            consequence="nothing was settled",
        )


def _must_be_payable(night: Night, month: Month, last_closed: Row | None) -> None:
    """Raises `Misused` without a pool to share out, as a month closed with nothing would stay so,
    and in another currency than what is carried over and corrected is in.
    """
    rules = night.settings.rewards
    if rules.mode == rewards.POOL and str(month) not in rules.pool_by_month:
        raise Misused(
            "rewards.pool_by_month",
            found=f"none for {month}",
            expected="one for the month, in cents",
            consequence="nothing was settled",
        )
    if last_closed is not None and last_closed.currency != rules.currency:
        raise Misused(
            "rewards.currency",
            found=rules.currency,
            expected=f"{last_closed.currency}, as in {Month(last_closed.month)}",
            consequence="nothing was settled",
        )


def _terms(night: Night) -> Terms:
    consent, rules = night.settings.consent, night.settings.rewards
    return Terms(
        mode=rules.mode,
        regime=consent.default,
        regime_by_brand=dict(consent.by_brand),
        cents_per_day=rules.cents_per_day,
        cents_by_brand=dict(rules.cents_by_brand),
        monthly_cap=rules.monthly_cap,
    )


def _days(night: Night, month: Month, terms: Terms) -> DataFrame:
    """-> subscriber_id, brand, days; from who is a subscriber and what they decided alone. Who was
    erased and objects takes part on no day.
    """
    with readable("subscribers"):
        judged = night.landing.judged_contracts()
    return rewards.days_taken_part(
        objections.without(night, network.sound(judged)),
        night.store.read(CONSENT_PERIODS),
        month=month,
        timezone=night.settings.timezone,
        terms=terms,
    )


def _store_corrections(night: Night, month: Month, closed: Mapping[Month, Row]) -> None:
    """What is still owed for the months within the look-back, by the terms they were paid by."""
    oldest = month.months_before(night.settings.rewards.look_back)
    ledger = night.store.read(REWARDS_LEDGER)
    # Only closed months have paid: what an attempt that was cut short left does not count.
    paid = night.store.read(REWARDS_CORRECTIONS).where(
        F.col("month").isin([one.first for one in closed])
    )
    owed = [local_frame(night.spark, [], REWARDS_CORRECTIONS.schema).drop("month", "currency")]
    for past, entry in closed.items():
        if oldest.first <= past.first < month.first:
            terms = Terms(**{one.name: entry[one.name] for one in fields(Terms)})
            earned = rewards.earnings(_days(night, past, terms), terms=terms)
            rows = rewards.missing(earned, ledger, paid, month=past)
            owed.append(rows.withColumn("corrected_month", F.lit(past.first)))
    rows = _dated(night, reduce(DataFrame.unionByName, owed), month)
    night.store.replace(REWARDS_CORRECTIONS, rows, month=month.first)


def _closed_months(night: Night) -> dict[Month, Row]:
    return {Month(row.month): row for row in night.store.read(REWARDS_MONTHS).collect()}


def _last(closed: Mapping[Month, Row]) -> Row | None:
    return max(closed.values(), key=lambda entry: entry.closed_at, default=None)


def _of_month(night: Night, table: Table, month: Month) -> DataFrame:
    return night.store.read(table).where(F.col("month") == F.lit(month.first))


def _dated(night: Night, rows: DataFrame, month: Month) -> DataFrame:
    return rows.withColumn("month", F.lit(month.first)).withColumn(
        "currency", F.lit(night.settings.rewards.currency)
    )


def _enter(night: Night, month: Month, entry: Mapping[str, Any]) -> None:
    frame = local_frame(night.spark, [entry], REWARDS_MONTHS.schema)
    night.store.replace(REWARDS_MONTHS, frame, month=month.first)


def _total(frame: DataFrame, column: str) -> int:
    found = frame.agg(F.sum(column)).first()
    return int(found[0] or 0) if found else 0


def _show(night: Night, month: Month) -> None:
    """What the closed month came to; nothing exact about a handful of people."""
    entry = _closed_months(night)[month]

    def money(cents: int) -> str:
        return f"{few(cents // 100)} {entry.currency}"

    lines = [
        f"subscribers: {few(entry.subscribers)} took part on {few(entry.days_taken_part)} days",
        f"paid: {money(entry.paid)}, of this {money(entry.corrections)} for earlier months",
    ]
    if entry.pool is not None:
        lines.append(f"pool: {money(entry.pool)}; what was not paid is carried over to the cent")
    for line in (*lines, f"restricted: {night.settings.paths.restricted}"):
        night.progress.console.print(line, markup=False)


if __name__ == "__main__":
    sys.exit(run_job(settle_rewards, description=__doc__ or ""))
