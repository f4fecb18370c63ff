"""Who takes part: only a verified decision changes it, and every doubt goes to opting out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.frames import local_frame
from transforms import consent, recount


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# 2026-11-23 in Berlin, published at three o'clock in the night after.
START, END, NOW = at("2026-11-22T23:00"), at("2026-11-23T23:00"), at("2026-11-24T02:00")
BEFORE, LONG_BEFORE, DURING = at("2026-11-20T12:00"), at("2026-01-01"), at("2026-11-23T10:00")
BETWEEN, LATER = at("2026-11-24T01:00"), at("2026-12-24T00:00")
MICROSECOND = timedelta(microseconds=1)
SCHEMA = (
    "decision_id string, subscriber_id string, action string, verified boolean, "
    "decided_at timestamp, received_at timestamp, channel string"
)


class Decision(NamedTuple):
    action: str
    decided_at: datetime | None
    received_at: datetime | None = None
    verified: bool | None = True
    decision_id: str | None = "new"
    channel: str | None = "web"


def out(decided_at: datetime | None, **other: Any) -> Decision:
    return Decision("opt_out", decided_at, **other)


def back(decided_at: datetime | None, **other: Any) -> Decision:
    return Decision("opt_in", decided_at, **other)


def asked(decided_at: datetime | None, **other: Any) -> Decision:
    return Decision("status_check", decided_at, **other)


def frame(spark: SparkSession, by_subscriber: Mapping[str, Iterable[Decision]]) -> DataFrame:
    """Decisions of everybody; `new` stands for an id of its own."""
    rows = []
    for subscriber, decisions in by_subscriber.items():
        for number, one in enumerate(decisions):
            name = f"{number:04}" if one.decision_id == "new" else one.decision_id
            decision_id = None if name is None else f"{subscriber}/{name}"
            received = one.received_at or one.decided_at or NOW - timedelta(minutes=1)
            rows.append(
                (
                    decision_id,
                    subscriber,
                    one.action,
                    one.verified,
                    one.decided_at,
                    received,
                    one.channel,
                )
            )
    return local_frame(spark, rows, SCHEMA)


def periods_from(decisions: DataFrame, *, now: datetime = NOW) -> DataFrame:
    """Of everybody, from decisions that are all read now."""
    stored = consent.delivered(decisions, now=now)
    return consent.periods(consent.with_conflicts(stored), now=now)


Period = tuple[bool, datetime, datetime | None]


def periods_of(periods: DataFrame) -> dict[str, list[Period]]:
    found = defaultdict(list)
    for row in periods.collect():
        start, end = row["from"].replace(tzinfo=UTC), row["to"] and row["to"].replace(tzinfo=UTC)
        found[row.subscriber_id].append((row.taking_part, start, end))
    return {who: sorted(several, key=lambda p: p[1]) for who, several in found.items()}


def who_takes_part(
    periods: DataFrame, everybody: Iterable[str], *, default: str, start: datetime, end: datetime
) -> dict[str, bool]:
    spark = periods.sparkSession
    subscribers = local_frame(spark, [(who,) for who in everybody], "subscriber_id string")
    rows = consent.with_taking_part(
        subscribers, periods, start=start, end=end, default=default
    ).collect()
    return {row.subscriber_id: row.taking_part for row in rows}


# -------------------------------------------------------------------- who counts on 2026-11-23

# Decisions, and whether they count in an opt_out regime and in an opt_in regime.
CASES: dict[str, tuple[list[Decision], bool, bool]] = {
    "never decided": ([], True, False),
    "opted out long ago": ([out(BEFORE)], False, False),
    "opted in long ago": ([back(BEFORE)], True, True),
    "out, then in again": ([out(LONG_BEFORE), back(BEFORE)], True, True),
    "in, then out again": ([back(LONG_BEFORE), out(BEFORE)], False, False),
    # -- part of the day
    "out during the day": ([back(BEFORE), out(DURING)], False, False),
    "out and in during the day": (
        [back(BEFORE), out(DURING), back(DURING + timedelta(hours=1))],
        False,
        False,
    ),
    "in during the day": ([back(DURING)], True, False),
    "out before, in during the day": ([out(BEFORE), back(DURING)], False, False),
    "out at 23:59 of the day": ([out(END - timedelta(minutes=1))], False, False),
    # -- midnight belongs to the new day
    "in at the first midnight": ([out(BEFORE), back(START)], True, True),
    "in just after the first midnight": ([out(BEFORE), back(START + MICROSECOND)], False, False),
    "in just before the first midnight": ([out(BEFORE), back(START - MICROSECOND)], True, True),
    "out at the first midnight": ([back(BEFORE), out(START)], False, False),
    "out at the last midnight, in again": (
        [back(BEFORE), out(END), back(END + timedelta(hours=1))],
        True,
        True,
    ),
    "out just before the last midnight, in again": (
        [back(BEFORE), out(END - MICROSECOND), back(END + timedelta(hours=1))],
        False,
        False,
    ),
    # -- after the day but before it is published
    "out after the day": ([back(BEFORE), out(BETWEEN)], False, False),
    "out at the last midnight": ([back(BEFORE), out(END)], False, False),
    "in after the day": ([back(BETWEEN)], True, False),
    "out before, in after the day": ([out(BEFORE), back(BETWEEN)], False, False),
    # -- dated after the moment of publishing
    "out in the future": ([out(LATER)], False, False),
    "in, then out in the future": ([back(BEFORE), out(LATER)], False, False),
    "in in the future": ([back(LATER)], True, False),
    "out, then in in the future": ([out(BEFORE), back(LATER)], False, False),
    "out in the future, then in before": ([out(LATER), back(BEFORE)], False, False),
    # -- unverified
    "unverified out": ([out(BEFORE, verified=False)], True, False),
    "unverified in": ([back(BEFORE, verified=False)], True, False),
    "out, then unverified in": ([out(LONG_BEFORE), back(BEFORE, verified=False)], False, False),
    "in, then unverified out": ([back(LONG_BEFORE), out(BEFORE, verified=False)], True, True),
    "nobody knows whether verified": ([out(BEFORE, verified=None)], True, False),
    # -- ties
    "out and in at one instant": ([out(BEFORE), back(BEFORE)], False, False),
    "in and out at one instant": ([back(BEFORE), out(BEFORE)], False, False),
    "a tie, then in": ([out(LONG_BEFORE), back(LONG_BEFORE), back(BEFORE)], True, True),
    "the same decision twice": ([back(BEFORE), back(BEFORE)], True, True),
    # -- one id with two contents
    "one id that says both": (
        [back(BEFORE, decision_id="x"), out(LONG_BEFORE, decision_id="x")],
        False,
        False,
    ),
    "one id for two instants": (
        [back(LONG_BEFORE, decision_id="x"), back(BEFORE, decision_id="x")],
        False,
        False,
    ),
    "one id for two channels": (
        [
            back(BEFORE, decision_id="x", channel="web"),
            back(BEFORE, decision_id="x", channel="app"),
        ],
        False,
        False,
    ),
    "one id received twice": (
        [
            back(BEFORE, decision_id="x", received_at=BEFORE),
            back(BEFORE, decision_id="x", received_at=DURING),
        ],
        True,
        True,
    ),
    "one id that says both, then in": (
        [
            back(LONG_BEFORE, decision_id="x"),
            out(LONG_BEFORE, decision_id="x"),
            back(BEFORE, decision_id="y"),
        ],
        True,
        True,
    ),
    "decisions without an id": (
        [out(LONG_BEFORE, decision_id=None), back(BEFORE, decision_id=None)],
        True,
        True,
    ),
    # -- late, and without a date
    "an old out that arrives late": (
        [back(BEFORE), out(LONG_BEFORE, received_at=BETWEEN)],
        True,
        True,
    ),
    "a new out that arrives late": (
        [back(LONG_BEFORE), out(BEFORE, received_at=BETWEEN)],
        False,
        False,
    ),
    "out without a date": ([back(LONG_BEFORE), out(None, received_at=BEFORE)], False, False),
    "in without a date": ([out(LONG_BEFORE), back(None, received_at=BEFORE)], True, True),
    # -- what is no decision
    "asked for the status": ([asked(BEFORE)], True, False),
    "out, then asked": ([out(LONG_BEFORE), asked(BEFORE), asked(DURING)], False, False),
    "in, then asked": ([back(LONG_BEFORE), asked(BEFORE), asked(BETWEEN)], True, True),
    "an unknown action": ([out(LONG_BEFORE), Decision("toggle", BEFORE)], False, False),
    "no action at all": ([Decision(None, BEFORE)], True, False),  # type: ignore[arg-type]
}


@pytest.fixture(scope="module")
def periods(spark: SparkSession) -> DataFrame:
    everything = {name: decisions for name, (decisions, _, _) in CASES.items()}
    return periods_from(frame(spark, everything)).persist()


@pytest.fixture(scope="module")
def in_opt_out_regime(periods: DataFrame) -> dict[str, bool]:
    return who_takes_part(periods, CASES, default="opt_out", start=START, end=END)


@pytest.fixture(scope="module")
def in_opt_in_regime(periods: DataFrame) -> dict[str, bool]:
    return who_takes_part(periods, CASES, default="opt_in", start=START, end=END)


@pytest.mark.parametrize("name", CASES)
def test_who_takes_part_unless_they_opted_out(
    in_opt_out_regime: dict[str, bool], name: str
) -> None:
    assert in_opt_out_regime[name] is CASES[name][1]


@pytest.mark.parametrize("name", CASES)
def test_who_takes_part_only_if_they_opted_in(in_opt_in_regime: dict[str, bool], name: str) -> None:
    assert in_opt_in_regime[name] is CASES[name][2]


def test_an_opt_in_at_noon_counts_from_the_next_full_day(spark: SparkSession) -> None:
    noon, day = START + timedelta(hours=12), timedelta(days=1)
    decisions = frame(spark, {"asked first": [back(noon)], "returned": [out(BEFORE), back(noon)]})
    then = periods_from(decisions, now=NOW + day).persist()
    for default, who in (
        ("opt_in", "asked first"),
        ("opt_in", "returned"),
        ("opt_out", "returned"),
    ):
        that_day = who_takes_part(then, [who], default=default, start=START, end=END)
        next_day = who_takes_part(then, [who], default=default, start=END, end=END + day)
        assert (that_day, next_day) == ({who: False}, {who: True})


def test_nobody_who_takes_part_in_an_opt_in_regime_is_out_in_an_opt_out_regime(
    in_opt_out_regime: dict[str, bool], in_opt_in_regime: dict[str, bool]
) -> None:
    assert not [n for n in CASES if in_opt_in_regime[n] and not in_opt_out_regime[n]]


# ------------------------------------------------------------------------ the operator's defect


def test_asking_for_the_status_a_thousand_times_changes_nothing(spark: SparkSession) -> None:
    """The first decision page toggled people by asking."""
    decisions = {"out": [out(LONG_BEFORE)], "in": [back(LONG_BEFORE)], "undecided": []}
    questions = [asked(LONG_BEFORE + timedelta(hours=hour)) for hour in range(1, 1001)]
    asking = {who: [*several, *questions] for who, several in decisions.items()}
    quiet = periods_from(frame(spark, decisions))
    after_asking = periods_from(frame(spark, asking)).persist()
    assert periods_of(after_asking) == periods_of(quiet)
    for default, undecided in (("opt_out", True), ("opt_in", False)):
        found = who_takes_part(after_asking, asking, default=default, start=START, end=END)
        assert found == {"out": False, "in": True, "undecided": undecided}


# ------------------------------------------------------------------------------------ periods


def test_periods_are_half_open_and_meet_at_the_instant_of_the_decision(
    periods: DataFrame,
) -> None:
    found = periods_of(periods)
    assert found["in at the first midnight"] == [(False, BEFORE, START), (True, START, None)]
    assert found["out and in during the day"] == [
        (True, BEFORE, DURING),
        (False, DURING, DURING + timedelta(hours=1)),
        (True, DURING + timedelta(hours=1), None),
    ]


def test_what_is_decided_again_does_not_start_a_new_period(periods: DataFrame) -> None:
    found = periods_of(periods)
    assert found["the same decision twice"] == [(True, BEFORE, None)]
    assert found["one id received twice"] == [(True, BEFORE, None)]


def test_an_opt_out_of_the_future_holds_from_now_and_an_opt_in_not_at_all(
    periods: DataFrame,
) -> None:
    found = periods_of(periods)
    assert found["out in the future"] == [(False, NOW, None)]
    assert found["in, then out in the future"] == [(True, BEFORE, NOW), (False, NOW, None)]
    assert found["out, then in in the future"] == [(False, BEFORE, None)]
    assert "in in the future" not in found


def test_the_future_opt_in_holds_once_its_time_has_come(spark: SparkSession) -> None:
    decisions = frame(spark, {"who": [out(BEFORE), back(LATER)]})
    found = periods_of(periods_from(decisions, now=LATER))
    assert found["who"] == [(False, BEFORE, LATER), (True, LATER, None)]


def test_who_never_validly_decided_has_no_period(periods: DataFrame) -> None:
    found = periods_of(periods)
    for name in ("never decided", "unverified out", "asked for the status", "no action at all"):
        assert name not in found


def test_a_decision_of_nobody_is_nobody_s(spark: SparkSession) -> None:
    row = ("1", None, "opt_out", True, BEFORE, BEFORE, "web")
    assert periods_from(local_frame(spark, [row], SCHEMA)).collect() == []


# ------------------------------------------------------------------ days of 23 and of 25 hours


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (at("2026-03-28T23:00"), at("2026-03-29T22:00")),
        (at("2026-10-24T22:00"), at("2026-10-25T23:00")),
    ],
    ids=["23 hours", "25 hours"],
)
def test_the_whole_of_a_short_or_long_day_counts(
    spark: SparkSession, start: datetime, end: datetime
) -> None:
    hour = timedelta(hours=1)
    decisions = {
        "in from its first instant": [out(LONG_BEFORE), back(start)],
        "in from its first hour": [out(LONG_BEFORE), back(start + hour)],
        "out in its last instant": [back(LONG_BEFORE), out(end - MICROSECOND), back(end + hour)],
        "out in its last hour": [back(LONG_BEFORE), out(end - hour), back(end - hour / 2)],
        "out from its end": [back(LONG_BEFORE), out(end), back(end + hour)],
    }
    periods = periods_from(frame(spark, decisions), now=end + 2 * hour)
    assert who_takes_part(periods, decisions, default="opt_in", start=start, end=end) == {
        "in from its first instant": True,
        "in from its first hour": False,
        "out in its last instant": False,
        "out in its last hour": False,
        "out from its end": True,
    }


# -------------------------------------------------------------------------------- any order

instants = st.sampled_from(
    [LONG_BEFORE, BEFORE, START, DURING, DURING + MICROSECOND, BETWEEN, NOW, LATER, None]
)
some_decisions = st.lists(
    st.builds(
        Decision,
        action=st.sampled_from(["opt_out", "opt_in", "opt_in", "status_check"]),
        decided_at=instants,
        received_at=st.sampled_from([BEFORE, DURING, BETWEEN]),
        verified=st.sampled_from([True, True, True, False]),
        decision_id=st.sampled_from(["a", "b", "c", "d", "e", "f", None]),
    ),
    min_size=1,
    max_size=6,
)


@given(several=st.lists(some_decisions, min_size=60, max_size=100), data=st.data())
@settings(settings.get_profile("batches"))
def test_order_lateness_and_repetition_of_decisions_do_not_matter(
    spark: SparkSession, several: list[list[Decision]], data: st.DataObject
) -> None:
    random = data.draw(st.randoms(use_true_random=False))
    once = {f"s{number:03}": decisions for number, decisions in enumerate(several)}
    again = {
        who: random.sample(
            [*decisions, *(later(one) for one in random.choices(decisions, k=4))],
            len(decisions) + 4,
        )
        for who, decisions in once.items()
    }
    backwards = dict(reversed(again.items()))
    periods = periods_from(frame(spark, once))
    repeated = periods_from(frame(spark, backwards))
    assert sorted(repeated.collect(), key=str) == sorted(periods.collect(), key=str)
    found = periods_of(periods)
    assert all(are_sound(periods) for periods in found.values())
    for who, decisions in once.items():
        if not have_conflicts(decisions):
            assert state_now(found.get(who, [])) == newest(decisions), decisions


def later(decision: Decision) -> Decision:
    """The same decision once more, received later."""
    assert decision.received_at is not None
    return decision._replace(received_at=max(decision.received_at, BETWEEN))


def are_sound(periods: list[Period]) -> bool:
    """Periods follow each other without a gap, alternate, are not empty, and the last runs."""
    ends = [end for _, _, end in periods]
    starts = [start for _, start, _ in periods]
    states = [taking_part for taking_part, _, _ in periods]
    alternate = all(a != b for a, b in pairwise(states))
    not_empty = all(end is None or start < end for _, start, end in periods)
    return ends == [*starts[1:], None] and alternate and not_empty and max(starts) <= NOW


def have_conflicts(decisions: list[Decision]) -> bool:
    contents = {
        (one.decision_id, one._replace(received_at=None))
        for one in decisions
        if one.decision_id is not None
    }
    return len(contents) > len({decision_id for decision_id, _ in contents})


def state_now(periods: list[Period]) -> bool | None:
    return periods[-1][0] if periods else None


def newest(decisions: list[Decision]) -> bool | None:
    """State after all decisions without conflicting ids, by hand; None without any that counts."""
    counting: list[tuple[datetime, bool]] = []
    for one in decisions:
        dated = one.decided_at or one.received_at
        assert dated is not None
        if one.verified and one.action == "opt_out":
            counting.append((min(dated, NOW), False))
        elif one.verified and one.action == "opt_in" and dated <= NOW:
            counting.append((dated, True))
    last = max((instant for instant, _ in counting), default=None)
    states = [state for instant, state in counting if instant == last]
    return all(states) if states else None


# ----------------------------------------------------------------- the same by a second reckoning


def allowed_by_recount(
    decisions: DataFrame, everybody: Iterable[str], *, default: str, now: datetime = NOW
) -> dict[str, bool]:
    spark = decisions.sparkSession
    subscribers = local_frame(
        spark, [(who, "a brand") for who in everybody], "subscriber_id string, brand string"
    )
    first_seen = decisions.withColumn("first_seen_at", F.lit(None).cast("timestamp"))
    allowed = recount.may_contribute(
        first_seen.unionByName(first_seen),  # as kept, and as delivered
        subscribers,
        start=START,
        end=END,
        now=now,
        default=default,
        by_brand={"another brand": "opt_in" if default == "opt_out" else "opt_out"},
    )
    ids = {row.subscriber_id for row in allowed.collect()}
    return {who: who in ids for who in everybody}


@pytest.mark.parametrize(("default", "at_hand"), [("opt_out", 1), ("opt_in", 2)])
def test_the_recount_allows_whom_the_periods_allow(
    spark: SparkSession, default: str, at_hand: int
) -> None:
    decisions = frame(spark, {name: case[0] for name, case in CASES.items()})
    found = allowed_by_recount(decisions, CASES, default=default)
    assert found == {name: case[at_hand] for name, case in CASES.items()}


@given(several=st.lists(some_decisions, min_size=100, max_size=200))
@settings(settings.get_profile("batches"))
def test_the_recount_agrees_on_whatever_is_decided(
    spark: SparkSession, several: list[list[Decision]]
) -> None:
    everybody = {f"s{n}": decisions for n, decisions in enumerate(several)}
    decisions = frame(spark, everybody)
    for default in ("opt_out", "opt_in"):
        counted = who_takes_part(
            periods_from(decisions), everybody, default=default, start=START, end=END
        )
        assert allowed_by_recount(decisions, everybody, default=default) == counted
