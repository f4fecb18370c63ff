"""The search for a subscriber-day that changes what is published by more than is declared.

Neighbours are two worlds that differ by one whole subscriber-day. Hypothesis makes nasty days,
many at a time: people share a mall with a few others, malls have nothing in common. One person of
each mall is the newcomer, so that two runs of the code that publishes, one with and one without
all newcomers, compare as many pairs of neighbours as there are malls.

`--seeds N` runs N different searches.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial, reduce
from itertools import permutations
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.detect_visits import rules_of
from jobs.frames import local_frame
from tests.subscriber_days import gathered
from transforms import disclosure, metrics, visits
from transforms.budget import Calibration, calibrated
from transforms.days import LocalDay
from transforms.disclosure import UNITS
from transforms.events import accepted
from transforms.pseudonyms import pseudonymised
from transforms.settings import settings_from
from transforms.tables import ELSEWHERE, MEASURES

BASE = Path(__file__).parent.parent / "conf" / "base.toml"
SETTINGS = settings_from(tomllib.loads(BASE.read_text(encoding="utf-8")), name="conf/base.toml")
CALIBRATIONS = {
    measure.full_name: calibrated(measure, SETTINGS.privacy.split[measure.full_name])
    for measure in MEASURES
}
BERLIN = ZoneInfo("Europe/Berlin")
DAYS = [
    LocalDay(one, BERLIN)
    for one in (date(2026, 11, 23), date(2026, 3, 29), date(2026, 10, 25))  # 24, 23, 25 hours
]
ZONES = 14
US = 1_000_000
ROUNDING = 1e-9

# --- days -------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """A round through some zones, made several times: where, when, how long, how surely."""

    first_zone: int
    zones: int
    rounds: int
    start_s: float
    step_s: float
    dwell_s: float
    presences: tuple[float, ...]


class Person(NamedTuple):
    pieces: tuple[Piece, ...]
    home: str


class Stay(NamedTuple):
    zone: int
    arrived_us: int
    left_us: int
    presence: float


class World(NamedTuple):
    """A day and its malls; the first person of each mall is the newcomer."""

    day: LocalDay
    malls: tuple[tuple[Person, ...], ...]


def stays_of(person: Person, day: LocalDay) -> Iterator[Stay]:
    """The stays of a day, cut off at its last microsecond; a zone and an arrival only once."""
    last_us = round((day.end - day.start).total_seconds() * US) - 1
    known = set()
    for piece in person.pieces:
        for number in range(piece.zones * piece.rounds):
            zone = (piece.first_zone + number % piece.zones) % ZONES
            arrived_us = round((piece.start_s + number * piece.step_s) * US)
            if arrived_us > last_us or (zone, arrived_us) in known:
                continue
            known.add((zone, arrived_us))
            left_us = min(arrived_us + round(piece.dwell_s * US), last_us)
            presence = piece.presences[number % len(piece.presences)]
            yield Stay(zone, arrived_us, left_us, presence)


HOUR, WHOLE_DAY = 3600.0, 100_000.0
STARTS = (0, 0.000001, 1799.5, HOUR, 2 * HOUR, 6 * HOUR, 9 * HOUR, 12 * HOUR, 17.9 * HOUR)
STARTS += (20 * HOUR, 22 * HOUR, 22.99 * HOUR, 23 * HOUR, 23.9 * HOUR, 24.5 * HOUR)
STEPS = (0, 0.000001, 1, 299, 900, 900, 1800, 1800, 3599.999999, HOUR, 2 * HOUR)
PASSING = (0, 0, 0, 1, 300, 599.999999)
STAYING = (600, 600, 900, 1799, 1800, HOUR, 7200, 14400, 21599, 21600, 21600.000001, WHOLE_DAY)
PRESENCES = (1.0, 1.0, 1.0, 0.999, 0.75, 0.5, 0.5, 0.25, 0.02, 1.5 / UNITS, 1e-3, 1e-12)
BEYOND = (1.0000001, 1.5, 17.0)
"""What no probability is and no table takes: the bound holds all the same."""


def pieces_of(presences: Sequence[float]) -> st.SearchStrategy[Piece]:
    return st.builds(
        Piece,
        first_zone=st.integers(0, ZONES - 1),
        zones=st.integers(1, ZONES),
        rounds=st.integers(1, 5),
        start_s=st.sampled_from(STARTS),
        step_s=st.sampled_from(STEPS),
        dwell_s=st.sampled_from(PASSING) | st.sampled_from(STAYING),
        presences=st.lists(st.sampled_from(presences), min_size=1, max_size=3).map(tuple),
    )


def worlds(*, presences: Sequence[float], malls: int) -> st.SearchStrategy[World]:
    person = st.builds(
        Person,
        pieces=st.lists(pieces_of(presences), min_size=1, max_size=4).map(tuple),
        home=st.sampled_from(["area 1", "area 2", "unknown", "outside"]),
    )
    mall = st.lists(person, min_size=1, max_size=4).map(tuple)
    return st.builds(
        World,
        day=st.sampled_from(DAYS),
        malls=st.lists(mall, min_size=malls, max_size=malls).map(tuple),
    )


NASTY_STAYS = worlds(presences=(*PRESENCES, *BEYOND), malls=60)
NASTY_EVENTS = worlds(presences=(1.0,), malls=20)


def examples(strategy: st.SearchStrategy[World], *, number: int) -> list[World]:
    """The worlds of search `number`."""
    found: list[World] = []

    @seed(number)
    @settings(settings.get_profile("batches"), derandomize=False, database=None)
    @given(strategy)
    def look(world: World) -> None:
        found.append(world)

    look()
    return found[1:]  # hypothesis begins every search with the simplest example there is


# --- neighbours -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Neighbours:
    """`silver.visits` of a day with and without the newcomers, and of them alone."""

    day: LocalDay
    with_them: DataFrame
    without_them: DataFrame
    they_alone: DataFrame
    pairs: DataFrame


def name_of(mall: int, zone: int) -> str:
    return f"m{mall:03}-z{zone:02}"


def mall_of(cell: str) -> str:
    return cell[cell.index("m") :][:4]


def people_of(world: World) -> Iterator[tuple[int, str, bool, Person]]:
    """Mall, subscriber_id, whether a newcomer."""
    for mall, people in enumerate(world.malls):
        for number, person in enumerate(people):
            yield mall, f"subscriber {mall}-{number}", number == 0, person


def pairs_of(spark: SparkSession, world: World) -> DataFrame:
    """The public list of flows: all pairs of a mall but a few, and `elsewhere`."""
    pairs = []
    for mall in range(len(world.malls)):
        names = [name_of(mall, zone) for zone in range(ZONES)]
        near = permutations(names, 2)
        pairs += [pair for number, pair in enumerate(near) if number % 11]
        pairs += [(ELSEWHERE, name) for name in names] + [(name, ELSEWHERE) for name in names]
    columns = zip(*pairs, strict=True)
    names = ("origin_zone_id", "destination_zone_id")
    return spark.createDataFrame(pa.table(dict(zip(names, map(list, columns), strict=True))))


def instants(day: LocalDay, us: int) -> datetime:
    return day.start + timedelta(microseconds=us)


def from_stays(spark: SparkSession, world: World) -> Neighbours:
    rows = [
        {
            "pseudonym": hashlib.sha256(subscriber_id.encode()).hexdigest(),
            "zone_id": name_of(mall, stay.zone),
            "arrived_at": instants(world.day, stay.arrived_us),
            "left_at": instants(world.day, stay.left_us),
            "presence": stay.presence,
            "home_area": person.home,
            "is_newcomer": is_newcomer,
        }
        for mall, subscriber_id, is_newcomer, person in people_of(world)
        for stay in stays_of(person, world.day)
    ]
    rules = SETTINGS.visits
    everybody = (
        spark.createDataFrame(pa.Table.from_pylist(rows))
        .coalesce(1)  # in one partition nothing has to be shuffled, which is most of the time
        .withColumn("dwell_s", visits.seconds_between(F.col("arrived_at"), F.col("left_at")))
        .withColumn(
            "kind",
            visits.kind_of(
                F.col("dwell_s"),
                min_dwell_s=rules.min_dwell * 60,
                max_dwell_s=rules.max_dwell * 60,
            ),
        )
    )
    return Neighbours(
        world.day,
        everybody,
        everybody.where(~F.col("is_newcomer")),
        everybody.where("is_newcomer"),
        pairs_of(spark, world),
    )


def from_events(spark: SparkSession, world: World) -> Neighbours:
    """The whole way of a subscriber-day: its events, stays, night, pseudonym.

    A stay is a phone that says something every 25 minutes, and every third time something that
    happens on crossings. Each cell tells of three zones and reaches a fourth.
    """
    rows = [
        {
            "subscriber_id": subscriber_id,
            "event_time": instants(world.day, us),
            "cell_id": f"m{mall:03}-c{stay.zone:02}",
            "event_type": "data" if us // (1500 * US) % 3 else "handover",
            "is_newcomer": is_newcomer,
        }
        for mall, subscriber_id, is_newcomer, person in people_of(world)
        for stay in stays_of(person, world.day)
        for us in {*range(stay.arrived_us, stay.left_us, 1500 * US), stay.left_us}
    ]
    cells = [
        (mall, cell, f"m{mall:03}-c{cell:02}")
        for mall in range(len(world.malls))
        for cell in range(ZONES)
    ]
    cell_zones = [
        {"cell_id": name, "zone_id": name_of(mall, (cell + shift) % ZONES), "probability": share}
        for mall, cell, name in cells
        for shift, share in enumerate((1.0, 1.0, 0.5))
    ]
    cell_reach = [
        {"cell_id": name, "zone_id": name_of(mall, (cell + 3) % ZONES)}
        for mall, cell, name in cells
    ]
    areas = [{"cell_id": name, "area": f"area {cell % 3}"} for _, cell, name in cells]
    everybody, told, reached, areas_of_cells = (
        spark.createDataFrame(pa.Table.from_pylist(one)).coalesce(1)
        for one in (rows, cell_zones, cell_reach, areas)
    )
    of_day = partial(
        _visits_of_day,
        day=world.day,
        cell_zones=told,
        cell_reach=reached,
        cells=areas_of_cells,
        areas=local_frame(spark, [("area 0",), ("area 1",)], "area string"),
    )
    return Neighbours(
        world.day,
        of_day(everybody),
        of_day(everybody.where(~F.col("is_newcomer"))),
        of_day(everybody.where("is_newcomer")),
        pairs_of(spark, world),
    )


def _visits_of_day(
    events: DataFrame,
    *,
    day: LocalDay,
    cell_zones: DataFrame,
    cell_reach: DataFrame,
    cells: DataFrame,
    areas: DataFrame,
) -> DataFrame:
    """As the job that detects visits makes them; computed once, as that job stores them."""
    rules = rules_of(SETTINGS.visits)
    found = gathered(events, cells, day_start=day.start)
    stays = visits.stays(
        accepted(found.days),
        found.cells,
        cell_zones,
        cell_reach,
        events.sparkSession.createDataFrame([], visits.OPEN_HOURS),
        packing=found.packing,
        rules=rules,
        day_end=day.end,
    )
    homes = visits.homes(
        accepted(found.days), found.cells, areas, packing=found.packing, night_ends=day.night_ends
    )
    pseudonymous = (
        visits.with_home(stays, homes)
        .transform(visits.with_kind, cell_zones, rules=rules)
        .transform(pseudonymised, read_key=partial(bytes.fromhex, "5e" * 32))
    )
    return events.sparkSession.createDataFrame(pseudonymous.toArrow()).coalesce(1)


# --- what is published ------------------------------------------------------------------------

Sums = Mapping[str, DataFrame]
Publishing = Callable[[DataFrame, LocalDay, DataFrame], Sums]
"""Visits, day and pairs -> exact sums by measure."""


def as_published(of_day: DataFrame, day: LocalDay, pairs: DataFrame) -> Sums:
    """The very steps of the job that publishes."""
    contributions = metrics.contributions(of_day, day=day, pairs=pairs)
    return {
        name: disclosure.summed(contributions[name], key=one.measure.key, l0=one.l0)
        for name, one in CALIBRATIONS.items()
    }


Vector = Counter[str]
"""Units by cell."""
Worlds = dict[str, Vector]
"""Sums with the newcomer, without, and of the newcomer alone."""


def vectors(
    neighbours: Neighbours, publishing: Publishing, *, measures: Collection[str]
) -> dict[tuple[str, str], Worlds]:
    """Sums by mall and measure."""
    frames = []
    for world in ("with_them", "without_them", "they_alone"):
        sums = publishing(getattr(neighbours, world), neighbours.day, neighbours.pairs)
        frames += [
            sums[name].select(
                F.lit(world).alias("world"),
                F.lit(name).alias("measure"),
                F.concat_ws("|", *CALIBRATIONS[name].measure.key).alias("cell"),
                "units",
            )
            for name in measures
        ]
    found: dict[tuple[str, str], Worlds] = defaultdict(lambda: defaultdict(Counter))
    for row in reduce(DataFrame.unionByName, frames).toArrow().to_pylist():
        found[mall_of(row["cell"]), row["measure"]][row["world"]][row["cell"]] += row["units"]
    return found


class Violation(NamedTuple):
    measure: str
    bound: str
    mall: str
    found: float
    allowed: float


@dataclass(frozen=True)
class Judged:
    """What the neighbours of a world showed: the most that was found by measure and bound."""

    violations: list[Violation]
    most: Mapping[tuple[str, str], float]


def judged(
    spark: SparkSession,
    world: World,
    publishing: Publishing,
    *,
    calibrations: Mapping[str, Calibration] = CALIBRATIONS,
    neighbours_of: Callable[[SparkSession, World], Neighbours] = from_stays,
) -> Judged:
    violations, most = [], defaultdict(float)
    spent: dict[str, float] = defaultdict(float)
    neighbours = neighbours_of(spark, world)
    for (mall, name), by_world in vectors(neighbours, publishing, measures=calibrations).items():
        one = calibrations[name]
        difference = Counter(by_world["with_them"])
        difference.subtract(by_world["without_them"])
        changed = {cell: units / UNITS for cell, units in difference.items() if units}
        own = {cell: n / UNITS for cell, n in by_world["they_alone"].items() if n}
        length = math.hypot(*changed.values())
        spent[mall] += length**2 / (2 * one.sigma**2)
        bounds = {
            "l0": (len(changed), one.l0),
            "linf": (max(map(abs, changed.values()), default=0.0), one.linf),
            "l2": (length, one.l2),
            "others": (float(changed != own), 0.0),
        }
        for bound, (found, allowed) in bounds.items():
            most[name, bound] = max(most[name, bound], found)
            if found > allowed + ROUNDING:
                violations.append(Violation(name, bound, mall, found, allowed))
    cap = SETTINGS.privacy.rho_cap
    most["all measures", "rho"] = max(spent.values(), default=0.0)
    violations += [
        Violation("all measures", "rho", mall, rho, cap)
        for mall, rho in spent.items()
        if rho > cap + ROUNDING
    ]
    return Judged(violations, most)


def searched(
    spark: SparkSession,
    strategy: st.SearchStrategy[World],
    publishing: Publishing = as_published,
    *,
    number: int,
    calibrations: Mapping[str, Calibration] = CALIBRATIONS,
    neighbours_of: Callable[[SparkSession, World], Neighbours] = from_stays,
) -> list[Violation]:
    """Violations that search `number` finds."""
    return [
        violation
        for world in examples(strategy, number=number)
        for violation in judged(
            spark, world, publishing, calibrations=calibrations, neighbours_of=neighbours_of
        ).violations
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """As many searches as the command line asks for; one in ten of them starts from events."""
    seeds = metafunc.config.getoption("--seeds")
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", range(seeds))
    if "number_of_ten" in metafunc.fixturenames:
        metafunc.parametrize("number_of_ten", range(-(-seeds // 10)))


# --- the code that publishes --------------------------------------------------------------------


def test_no_subscriber_day_changes_more_than_is_declared(spark: SparkSession, number: int) -> None:
    assert searched(spark, NASTY_STAYS, number=number) == []


def test_nor_does_one_that_is_followed_from_its_events(
    spark: SparkSession, number_of_ten: int
) -> None:
    found = searched(spark, NASTY_EVENTS, number=number_of_ten, neighbours_of=from_events)
    assert found == []


def test_a_day_of_everything_reaches_every_bound_and_the_whole_cap(spark: SparkSession) -> None:
    """So no bound is wider than it must be, and the search looks where it matters."""
    visiting = Piece(0, 6, 5, 6 * HOUR, 1200, 900, (1.0,))
    passing = Piece(6, 8, 2, 2 * HOUR, 1200, 0, (1.0,))
    world = World(DAYS[0], ((Person((visiting, passing), "area 1"),),))
    found = judged(spark, world, as_published)
    assert found.violations == []
    for name, one in CALIBRATIONS.items():
        assert found.most[name, "l0"] == one.l0 or one.measure.repeats, name
        assert found.most[name, "linf"] == one.linf, name
        assert found.most[name, "l2"] == pytest.approx(one.l2), name
    assert found.most["all measures", "rho"] == pytest.approx(SETTINGS.privacy.rho_cap)


def test_every_seed_is_another_search_and_always_the_same() -> None:
    mine, again, other = (examples(NASTY_STAYS, number=number) for number in (0, 0, 1))
    assert mine == again != []
    assert mine != other


# --- broken ones --------------------------------------------------------------------------------


def rewritten(
    contributions: DataFrame,
    *,
    key: tuple[str, ...],
    l0: int,
    within: tuple[str, ...] = ("pseudonym",),
    first: Callable[[tuple[str, ...]], list[Column]] = lambda _key: [],
    units: Callable[[Column], Column] = disclosure.units,
) -> DataFrame:
    """`disclosure.summed` in other words, with what can be broken left open."""
    cell = [F.col(name).cast("string") for name in key]
    order = [F.desc("units"), F.sha2(F.concat_ws("|", "pseudonym", *cell), 256)]
    ranked = Window.partitionBy(*within).orderBy("first", *order)
    return (
        contributions.withColumn("units", units(F.col("presence")))
        .withColumn("first", F.array(*first(key)) if first(key) else F.lit(0))
        .withColumn("rank", F.row_number().over(ranked))
        .where(F.col("rank") <= l0)
        .groupBy(*key)
        .agg(F.sum("units").alias("units"))
    )


def bounding(bound: Callable[[DataFrame, Calibration], DataFrame]) -> Publishing:
    """A publishing that bounds and sums its own way."""

    def publishing(of_day: DataFrame, day: LocalDay, pairs: DataFrame) -> Sums:
        contributions = metrics.contributions(of_day, day=day, pairs=pairs)
        return {name: bound(contributions[name], one) for name, one in CALIBRATIONS.items()}

    return publishing


def one_cell_too_many(contributions: DataFrame, one: Calibration) -> DataFrame:
    return disclosure.summed(contributions, key=one.measure.key, l0=one.l0 + 1)


def not_capped(contributions: DataFrame, one: Calibration) -> DataFrame:
    def units(presence: Column) -> Column:
        return F.floor(presence * UNITS + F.lit(0.5)).cast("long")

    return rewritten(contributions, key=one.measure.key, l0=one.l0, units=units)


def per_zone(contributions: DataFrame, one: Calibration) -> DataFrame:
    key = one.measure.key
    return rewritten(contributions, key=key, l0=one.l0, within=("pseudonym", key[0]))


def by_popularity(contributions: DataFrame, one: Calibration) -> DataFrame:
    """Keeps of each the cells where most people are: a better picture, at the others' expense."""

    def people(key: tuple[str, ...]) -> list[Column]:
        return [-F.count(F.lit(1)).over(Window.partitionBy(*key))]

    return rewritten(contributions, key=one.measure.key, l0=one.l0, first=people)


def two_keys(of_day: DataFrame, day: LocalDay, pairs: DataFrame) -> Sums:
    """Pseudonyms of the morning and of the afternoon."""
    noon = F.lit(day.start + timedelta(hours=12))
    half = F.when(F.col("arrived_at") < noon, F.lit("am")).otherwise(F.lit("pm"))
    pseudonym = F.sha2(F.concat("pseudonym", half), 256)
    return as_published(of_day.withColumn("pseudonym", pseudonym), day, pairs)


SOME = {
    name: CALIBRATIONS[name]
    for name in ("zone_hours.visitors", "zone_days.visits", "zone_catchment.visitors")
}
BROKEN: dict[str, tuple[Publishing, str, Mapping[str, Calibration]]] = {
    "a bound off by one": (bounding(one_cell_too_many), "l2", CALIBRATIONS),
    "a presence that is not capped": (bounding(not_capped), "linf", SOME),
    "a bound per zone in place of per day": (bounding(per_zone), "l2", SOME),
    "a bound that looks at other people": (bounding(by_popularity), "others", SOME),
    "a pseudonym that changes within the day": (two_keys, "l2", SOME),
}
"""What is broken, by which bound it must be found, and in which measures, each of them."""


@pytest.mark.parametrize("fault", BROKEN)
def test_the_search_finds(spark: SparkSession, fault: str) -> None:
    publishing, bound, calibrations = BROKEN[fault]
    found = searched(spark, NASTY_STAYS, publishing, number=0, calibrations=calibrations)
    assert {one.measure for one in found if one.bound == bound} == set(calibrations)


def test_the_search_finds_visits_with_the_sensitivity_of_what_does_not_repeat(
    spark: SparkSession,
) -> None:
    visits_of_zones = CALIBRATIONS["zone_days.visits"]
    once = replace(visits_of_zones, measure=replace(visits_of_zones.measure, repeats=False))
    mistaken = {"zone_days.visits": once}
    found = searched(spark, NASTY_STAYS, number=0, calibrations=mistaken)
    assert {one.bound for one in found} == {"l2", "linf"}


def test_nothing_is_found_in_the_bound_that_the_broken_ones_are_made_of(
    spark: SparkSession,
) -> None:
    def sound(contributions: DataFrame, one: Calibration) -> DataFrame:
        return rewritten(contributions, key=one.measure.key, l0=one.l0)

    assert searched(spark, NASTY_STAYS, bounding(sound), number=0, calibrations=SOME) == []
