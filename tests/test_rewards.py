"""What taking part earns: whole days by consent alone, to the cent, closed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import zip_longest
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from jobs.frames import local_frame
from transforms import consent, rewards
from transforms.days import LocalDay, Month
from transforms.rewards import Terms

BERLIN = ZoneInfo("Europe/Berlin")
NOVEMBER = Month(date(2026, 11, 1))
MICROSECOND = timedelta(microseconds=1)
PER_DAY = Terms("per_day", "opt_out", monthly_cap=1_000_000, cents_per_day=10)
SUBSCRIBERS = "subscriber_id string, brand string, area string, since date, until date"
PERIODS = "subscriber_id string, taking_part boolean, from timestamp, to timestamp"


def local(text: str) -> datetime:
    """An instant by the clocks of Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def day(text: str) -> date:
    return date.fromisoformat(text)


class Contract(NamedTuple):
    brand: str | None = "o2"
    since: date | None = None
    until: date | None = None


Change = tuple[str, datetime]
ALWAYS = [Contract()]


class Person(NamedTuple):
    """changes: `in` or `out` and from when, in order."""

    changes: Sequence[Change] = ()
    contracts: Sequence[Contract] = tuple(ALWAYS)


def periods_of(changes: Sequence[Change]) -> list[tuple[bool, datetime, datetime | None]]:
    ends = [at for _, at in changes][1:]
    return [(state == "in", at, end) for (state, at), end in zip_longest(changes, ends)]


def frames(spark: SparkSession, people: Mapping[str, Person]) -> tuple[DataFrame, DataFrame]:
    subscribers = [
        (name, one.brand, "8a1", one.since, one.until)
        for name, person in people.items()
        for one in person.contracts
    ]
    periods = [
        (name, *period) for name, person in people.items() for period in periods_of(person.changes)
    ]
    return local_frame(spark, subscribers, SUBSCRIBERS), local_frame(spark, periods, PERIODS)


def days_of(
    spark: SparkSession,
    people: Mapping[str, Person],
    *,
    month: Month = NOVEMBER,
    terms: Terms = PER_DAY,
    timezone: str = "Europe/Berlin",
) -> dict[str, int]:
    subscribers, periods = frames(spark, people)
    rows = rewards.days_taken_part(
        subscribers, periods, month=month, timezone=timezone, terms=terms
    ).collect()
    found: dict[str, int] = {}
    for row in rows:
        found[row.subscriber_id] = found.get(row.subscriber_id, 0) + row.days
    return {name: found.get(name, 0) for name in people}


# ----------------------------------------------------------------------- days of November 2026

# Who it is, and the days that count in an opt_out regime and in an opt_in regime.
CASES: dict[str, tuple[Person, int, int]] = {
    "never decided": (Person(), 30, 0),
    "in long ago": (Person([("in", local("2026-01-01T12:00"))]), 30, 30),
    "out long ago": (Person([("out", local("2026-01-01T12:00"))]), 0, 0),
    "out, then in again long ago": (
        Person([("out", local("2026-01-01T12:00")), ("in", local("2026-02-01T12:00"))]),
        30,
        30,
    ),
    # -- within the month
    "in at noon: from the next full day": (Person([("in", local("2026-11-10T12:00"))]), 30, 20),
    "in at midnight: the new day counts": (Person([("in", local("2026-11-10T00:00"))]), 30, 21),
    "in just after midnight": (
        Person([("in", local("2026-11-10T00:00") + MICROSECOND)]),
        30,
        20,
    ),
    "out at noon": (Person([("out", local("2026-11-10T12:00"))]), 9, 0),
    "out at midnight: the day before counts": (Person([("out", local("2026-11-10T00:00"))]), 9, 0),
    "out just before midnight": (
        Person([("out", local("2026-11-10T00:00") - MICROSECOND)]),
        8,
        0,
    ),
    "in, then out at midnight": (
        Person([("in", local("2026-10-01T00:00")), ("out", local("2026-11-10T00:00"))]),
        9,
        9,
    ),
    "out at noon, in the next noon": (
        Person([("out", local("2026-11-10T12:00")), ("in", local("2026-11-11T12:00"))]),
        28,
        19,
    ),
    "out and in within one day": (
        Person([("out", local("2026-11-10T12:00")), ("in", local("2026-11-10T13:00"))]),
        29,
        20,
    ),
    "in, out and in within one day": (
        Person(
            [
                ("in", local("2026-11-01T00:00")),
                ("out", local("2026-11-10T12:00")),
                ("in", local("2026-11-10T13:00")),
            ]
        ),
        29,
        29,
    ),
    "out for exactly one day": (
        Person([("out", local("2026-11-10T00:00")), ("in", local("2026-11-11T00:00"))]),
        29,
        20,
    ),
    # -- at the month's ends
    "in from its first instant": (Person([("in", local("2026-11-01T00:00"))]), 30, 30),
    "in after its first instant": (
        Person([("in", local("2026-11-01T00:00") + MICROSECOND)]),
        30,
        29,
    ),
    "out in its last instant": (
        Person([("out", local("2026-12-01T00:00") - MICROSECOND)]),
        29,
        0,
    ),
    "out from its end": (Person([("out", local("2026-12-01T00:00"))]), 30, 0),
    "out until its first instant": (
        Person([("out", local("2026-10-01T00:00")), ("in", local("2026-11-01T00:00"))]),
        30,
        30,
    ),
    "in only when it is over": (Person([("in", local("2026-12-01T00:00"))]), 30, 0),
    "in years later": (Person([("in", local("2031-12-01T00:00"))]), 30, 0),
    # -- as long as somebody is a subscriber
    "since within": (Person([], [Contract(since=day("2026-11-11"))]), 20, 0),
    "until within": (Person([], [Contract(until=day("2026-11-11"))]), 11, 0),
    "since and until within": (
        Person(
            [("in", local("2026-01-01T00:00"))],
            [Contract("o2", day("2026-11-05"), day("2026-11-05"))],
        ),
        1,
        1,
    ),
    "since its first, until its last day": (
        Person([], [Contract("o2", day("2026-11-01"), day("2026-11-30"))]),
        30,
        0,
    ),
    "until the day before": (Person([], [Contract(until=day("2026-10-31"))]), 0, 0),
    "since the day after": (Person([], [Contract(since=day("2026-12-01"))]), 0, 0),
    "gone before, long ago": (
        Person([], [Contract("o2", day("1999-01-01"), day("2001-01-01"))]),
        0,
        0,
    ),
    "came and opted out": (
        Person([("out", local("2026-11-20T18:00"))], [Contract(since=day("2026-11-11"))]),
        9,
        0,
    ),
    # -- two rows
    "the same row twice": (Person([], [Contract(), Contract()]), 30, 0),
    "away for a while": (
        Person([], [Contract(until=day("2026-11-10")), Contract(since=day("2026-11-21"))]),
        20,
        0,
    ),
    "overlapping rows": (
        Person([], [Contract(until=day("2026-11-20")), Contract(since=day("2026-11-11"))]),
        30,
        0,
    ),
    "no brand": (Person([("in", local("2026-11-21T00:00"))], [Contract(None)]), 30, 10),
}


@pytest.fixture(scope="module")
def counted(spark: SparkSession) -> dict[str, dict[str, int]]:
    people = {name: person for name, (person, _, _) in CASES.items()}
    return {
        regime: days_of(spark, people, terms=replace(PER_DAY, regime=regime))
        for regime in ("opt_out", "opt_in")
    }


@pytest.mark.parametrize("name", CASES)
def test_days_that_count_where_who_never_decided_takes_part(
    counted: dict[str, dict[str, int]], name: str
) -> None:
    assert counted["opt_out"][name] == CASES[name][1]


@pytest.mark.parametrize("name", CASES)
def test_days_that_count_where_only_who_opted_in_takes_part(
    counted: dict[str, dict[str, int]], name: str
) -> None:
    assert counted["opt_in"][name] == CASES[name][2]


@pytest.mark.parametrize(
    ("month", "days", "changed_on"),
    [("2026-03-01", 31, "2026-03-29"), ("2026-10-01", 31, "2026-10-25")],
    ids=["a day of 23 hours", "a day of 25 hours"],
)
def test_short_and_long_days_are_whole_days(
    spark: SparkSession, month: str, days: int, changed_on: str
) -> None:
    on = LocalDay(day(changed_on), BERLIN)
    before = on.date.day - 1
    people = {
        "all month": Person(),
        "in at its first instant": Person([("in", on.start)]),
        "in within it": Person([("in", on.start + timedelta(hours=1))]),
        "out in its last instant": Person([("out", on.end - MICROSECOND)]),
        "out at its end": Person([("out", on.end)]),
    }
    of = Month(day(month))
    assert days_of(spark, people, month=of) == {
        "all month": days,
        "in at its first instant": days,
        "in within it": days,
        "out in its last instant": before,
        "out at its end": before + 1,
    }
    opt_in = replace(PER_DAY, regime="opt_in")
    assert days_of(spark, people, month=of, terms=opt_in) == {
        "all month": 0,
        "in at its first instant": days - before,
        "in within it": days - before - 1,
        "out in its last instant": 0,
        "out at its end": 0,
    }


def test_the_regime_is_that_of_the_brand_on_the_day(spark: SparkSession) -> None:
    terms = replace(PER_DAY, regime="opt_out", regime_by_brand={"acme": "opt_in"})
    moved = [Contract("acme", until=day("2026-11-10")), Contract("o2", since=day("2026-11-11"))]
    people = {
        "with o2": Person(),
        "with acme": Person([], [Contract("acme")]),
        "with acme, in": Person([("in", local("2026-11-30T00:00"))], [Contract("acme")]),
        "from acme to o2": Person([], moved),
    }
    assert days_of(spark, people, terms=terms) == {
        "with o2": 30,
        "with acme": 0,
        "with acme, in": 1,
        "from acme to o2": 20,
    }


# ------------------------------------------------------------------------------- what days earn


def earned(
    spark: SparkSession, people: Mapping[str, Person], terms: Terms
) -> dict[str, tuple[int, int]]:
    """-> days and cents by name."""
    subscribers, periods = frames(spark, people)
    days = rewards.days_taken_part(
        subscribers, periods, month=NOVEMBER, timezone="Europe/Berlin", terms=terms
    )
    rows = rewards.earnings(days, terms=terms).collect()
    return {row.subscriber_id: (row.days_taken_part, row.amount) for row in rows}


def for_days(count: int, brand: str | None = "o2") -> Person:
    return Person([], [Contract(brand, until=NOVEMBER.first + timedelta(days=count - 1))])


def test_a_day_earns_what_the_brand_pays_up_to_the_cap(spark: SparkSession) -> None:
    terms = replace(PER_DAY, cents_by_brand={"acme": 12, "thrift": 0}, monthly_cap=300)
    moved = [Contract("acme", until=day("2026-11-10")), Contract("o2", since=day("2026-11-11"))]
    people = {
        "o2": for_days(7),
        "acme": for_days(7, "acme"),
        "at the cap": for_days(25, "acme"),
        "above the cap": for_days(26, "acme"),
        "pays nothing": for_days(7, "thrift"),
        "unknown brand": for_days(7, "other"),
        "no brand": for_days(7, None),
        "moved": Person([], moved),
        "never took part": Person([("out", local("2026-01-01T00:00"))]),
    }
    assert earned(spark, people, terms) == {
        "o2": (7, 70),
        "acme": (7, 84),
        "at the cap": (25, 300),
        "above the cap": (26, 300),
        "pays nothing": (7, 0),
        "unknown brand": (7, 70),
        "no brand": (7, 70),
        "moved": (30, 300),
    }


def test_a_pool_is_shared_in_proportion_to_days_without_a_fraction(spark: SparkSession) -> None:
    people = {"a": for_days(1), "b": for_days(2), "c": for_days(30), "d": for_days(30)}
    terms = replace(PER_DAY, mode="pool", shared_out=1000, days_taken_part=63)
    # 1000 / 63 = 15.87 a day
    assert earned(spark, people, terms) == {
        "a": (1, 15),
        "b": (2, 31),
        "c": (30, 476),
        "d": (30, 476),
    }
    capped = replace(terms, monthly_cap=100)
    assert {name: cents for name, (_, cents) in earned(spark, people, capped).items()} == {
        "a": 15,
        "b": 31,
        "c": 100,
        "d": 100,
    }


def test_the_largest_pool_is_shared_exactly(spark: SparkSession) -> None:
    """Where a double would have lost the cents, and a product of two sums overflowed."""
    pool, days = 10**15 - 1, 45_000_000 * 30
    terms = replace(PER_DAY, mode="pool", shared_out=pool, days_taken_part=days, monthly_cap=10**9)
    assert earned(spark, {"a": for_days(29)}, terms)["a"] == (29, pool * 29 // days)
    alone = replace(terms, days_taken_part=30, monthly_cap=10**16)
    assert earned(spark, {"a": for_days(30)}, alone)["a"] == (30, pool)


def test_what_was_shared_out_among_nobody_is_still_there(spark: SparkSession) -> None:
    """Who turns out to have taken part after all shares in what it was carried over to."""
    terms = replace(PER_DAY, mode="pool").sharing(999, days=0)
    assert earned(spark, {"a": for_days(2)}, terms) == {"a": (2, 0)}


def test_a_pool_that_corrections_used_up_leaves_nothing_to_share() -> None:
    assert replace(PER_DAY, mode="pool").sharing(-5, days=3).shared_out == 0


# ----------------------------------------------------------------------- after a month is closed


def test_what_is_missing_is_paid_once_and_nothing_is_taken_back(spark: SparkSession) -> None:
    """Of October, of which the ledger of October and corrections paid in November hold a part."""
    now = {"unchanged": 100, "more": 100, "new": 100, "less": 40, "corrected": 100, "twice": 100}
    october = {"unchanged": 100, "more": 70, "less": 100, "corrected": 60, "twice": 100, "gone": 50}
    november = {"unchanged": 300, "more": 300}
    september_paid_in_october = {"twice": 30}
    october_paid_in_november = {"corrected": 40, "twice": 10}

    def frame(schema: str, *rows: tuple[object, ...]) -> DataFrame:
        return local_frame(spark, rows, schema)

    months = {name: date(2026, number, 1) for name, number in (("s", 9), ("o", 10), ("n", 11))}
    missing = rewards.missing(
        frame(
            "subscriber_id string, days_taken_part int, amount long",
            *((who, 7, cents) for who, cents in now.items()),
        ),
        frame(
            "subscriber_id string, month date, amount long",
            *((who, months["o"], cents) for who, cents in october.items()),
            *((who, months["n"], cents) for who, cents in november.items()),
        ),
        frame(
            "subscriber_id string, month date, corrected_month date, amount long",
            *((w, months["o"], months["s"], c) for w, c in september_paid_in_october.items()),
            *((w, months["n"], months["o"], c) for w, c in october_paid_in_november.items()),
        ),
        month=Month(months["o"]),
    )
    assert ledger_of(missing) == {"more": (7, 30), "new": (7, 100), "twice": (7, 20)}


# ------------------------------------------------------------------------------------ any people

YEAR = [Month(date(2026, number, 1)) for number in range(1, 13)]
instants = st.one_of(
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)).map(
        lambda at: at.replace(tzinfo=UTC)
    ),
    st.dates(date(2026, 1, 1), date(2026, 12, 31)).map(lambda on: LocalDay(on, BERLIN).start),
)
some_changes = st.tuples(
    st.booleans(), st.lists(instants, max_size=5, unique=True).map(sorted)
).map(
    lambda drawn: [
        ("in" if (number % 2 == 0) == drawn[0] else "out", at) for number, at in enumerate(drawn[1])
    ]
)
some_dates = st.one_of(st.none(), st.dates(date(2026, 1, 1), date(2026, 12, 31)))
some_contract = st.builds(
    Contract,
    brand=st.sampled_from(["o2", "acme", "eplus", None]),
    since=some_dates,
    until=some_dates,
).filter(lambda one: one.since is None or one.until is None or one.since <= one.until)
some_person = st.builds(
    Person,
    changes=some_changes,
    contracts=st.lists(some_contract, min_size=1, max_size=3, unique_by=lambda one: one.since),
)
crowds = st.lists(some_person, min_size=80, max_size=120)
some_terms = st.builds(
    Terms,
    mode=st.just("per_day"),
    regime=st.sampled_from(["opt_out", "opt_in"]),
    monthly_cap=st.integers(0, 400),
    cents_per_day=st.integers(0, 20),
    regime_by_brand=st.sampled_from(
        [{}, {"acme": "opt_in"}, {"acme": "opt_out", "eplus": "opt_in"}]
    ),
    cents_by_brand=st.sampled_from([{}, {"acme": 7}, {"acme": 0, "o2": 30}]),
)


def brand_by_day(person: Person, month: Month, terms: Terms) -> list[str | None]:
    """The brand of each day that counts, one day after the other."""
    brands = []
    for number in range(len(month)):
        on = LocalDay(month.first + timedelta(days=number), BERLIN)
        valid = [
            one
            for one in person.contracts
            if (one.since or date.min) <= on.date <= (one.until or date.max)
        ]
        if not valid:
            continue
        brand = max(valid, key=lambda one: one.since or date.min).brand
        regime = terms.regime_by_brand.get(brand or "", terms.regime)
        if takes_part_all_day(person, on, undecided=regime == "opt_out"):
            brands.append(brand)
    return brands


def takes_part_all_day(person: Person, on: LocalDay, *, undecided: bool) -> bool:
    state = undecided
    for change, at in person.changes:
        if at <= on.start:
            state = change == "in"
    during = [change for change, at in person.changes if on.start < at < on.end]
    return state and "out" not in during


@given(crowd=crowds, terms=some_terms, month=st.sampled_from(YEAR), data=st.data())
@settings(settings.get_profile("batches"), max_examples=4)
def test_anybody_earns_what_counting_day_by_day_says(
    spark: SparkSession, crowd: list[Person], terms: Terms, month: Month, data: st.DataObject
) -> None:
    people = {f"p{number:03}": person for number, person in enumerate(crowd)}
    subscribers, periods = frames(spark, people)
    days = rewards.days_taken_part(
        subscribers, periods, month=month, timezone="Europe/Berlin", terms=terms
    ).persist()
    by_hand = {name: brand_by_day(person, month, terms) for name, person in people.items()}

    def rate(brand: str | None) -> int:
        return terms.cents_by_brand.get(brand or "", terms.cents_per_day)

    assert ledger_of(rewards.earnings(days, terms=terms)) == {
        name: (len(brands), min(terms.monthly_cap, sum(rate(brand) for brand in brands)))
        for name, brands in by_hand.items()
        if brands
    }
    pool, total = data.draw(st.integers(0, 10**9)), sum(len(brands) for brands in by_hand.values())
    shared = replace(terms, mode="pool", monthly_cap=10**9).sharing(pool, days=total)
    found = ledger_of(rewards.earnings(days, terms=shared))
    assert found == {
        name: (len(brands), pool * len(brands) // total)
        for name, brands in by_hand.items()
        if brands
    }
    left = shared.shared_out - sum(amount for _, amount in found.values())
    assert 0 <= left < max(1, len(found)), "less than a cent of anybody is carried over"
    days.unpersist()


def ledger_of(rows: DataFrame) -> dict[str, tuple[int, int]]:
    found = [(row.subscriber_id, (row.days_taken_part, row.amount)) for row in rows.collect()]
    assert len(found) == len(dict(found)), "somebody has two rows"
    return dict(found)


def test_opting_out_takes_back_none_of_the_days_before(spark: SparkSession) -> None:
    always_in = [("in", local("2026-01-01T00:00"))]
    people = {
        f"{number}": Person([*always_in, ("out", local(f"2026-11-{number:02}T12:00"))])
        for number in range(1, 31)
    }
    for regime in ("opt_out", "opt_in"):
        found = days_of(spark, people, terms=replace(PER_DAY, regime=regime))
        assert found == {name: int(name) - 1 for name in people}


def test_the_order_of_rows_does_not_matter(spark: SparkSession) -> None:
    people = {name: person for name, (person, _, _) in CASES.items()}
    frames_in_order = frames(spark, people)
    shuffled = [frame.orderBy(*reversed(frame.columns)) for frame in frames_in_order]
    found = []
    for subscribers, periods in (frames_in_order, shuffled):
        days = rewards.days_taken_part(
            subscribers, periods, month=NOVEMBER, timezone="Europe/Berlin", terms=PER_DAY
        )
        found.append(ledger_of(rewards.earnings(days, terms=PER_DAY)))
    assert found[0] == found[1]


def test_a_day_earns_if_the_night_would_count_it(spark: SparkSession) -> None:
    """The nights' own rule, of all who have not opted out since."""
    staying = {
        name: person.changes
        for name, (person, _, _) in CASES.items()
        if not person.changes or person.changes[-1][0] == "in"
    }
    days = [LocalDay(date(2026, 11, number), BERLIN) for number in (1, 10, 11)]
    on_one_day = {
        f"{name} {on.date}": Person(changes, [Contract(since=on.date, until=on.date)])
        for name, changes in staying.items()
        for on in days
    }
    subscribers, periods = frames(spark, {n: Person(changes) for n, changes in staying.items()})
    for regime in ("opt_out", "opt_in"):
        by_night = {}
        for on in days:
            rows = consent.with_taking_part(
                subscribers, periods, start=on.start, end=on.end, default=regime
            ).collect()
            by_night |= {f"{row.subscriber_id} {on.date}": int(row.taking_part) for row in rows}
        assert days_of(spark, on_one_day, terms=replace(PER_DAY, regime=regime)) == by_night
        assert set(by_night.values()) == {0, 1}
