"""What people of the demo world do on a day: stays at work, in centres and elsewhere.

A day is a stack of stays per person. At any moment a person is at home, drawn towards each
stay in the stack in turn: fully during it, partly on the way to and from it. Two stays never
overlap, except that office work is interrupted by whatever lies on it and that a nested zone's
stay lies inside its centre's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.synthetic_city import HOUR_S, NOWHERE, City, LocalDay, stream
from transforms.synthetic_people import People
from transforms.synthetic_scenarios import PLAIN, Scenario

PRESENCE = pa.schema(
    [
        ("person", pa.int64()),
        ("zone_id", pa.string()),
        ("arrived_at", pa.timestamp("us", tz="UTC")),
        ("left_at", pa.timestamp("us", tz="UTC")),
        ("is_subscriber", pa.bool_()),
        ("kind", pa.string()),
    ]
)

# Arrivals in a centre by wall hour from 7 to 22, relative, before opening hours cut them off.
_WORKDAY = (15, 30, 35, 50, 70, 90, 90, 90, 108, 135, 140, 108, 60, 26, 10, 3)
_SATURDAY = (8, 18, 35, 65, 95, 118, 134, 150, 148, 125, 95, 68, 40, 20, 8, 3)
_SUNDAY = (0, 0, 5, 20, 45, 80, 100, 120, 125, 115, 95, 75, 60, 40, 15, 5)
ARRIVAL_RHYTHM = np.pad(np.array([_WORKDAY] * 5 + [_SATURDAY, _SUNDAY]), ((0, 0), (7, 1)))

VISITOR_SHARE = (0.37, 0.37, 0.38, 0.39, 0.43, 0.46, 0.09)
SECOND_VISIT_SHARE = 0.28
DWELL_MEDIAN_S = 42 * 60
DWELL_SPREAD = 0.65
DWELL_LIMITS_S = (12 * 60, 300 * 60)
SHORTEST_VISIT_S = 10.5 * 60
LAST_ADMISSION_S = 15 * 60
REACH_FROM_HOME_M = 3_200
REACH_FROM_WORK_M = 2_200
REACH_FROM_CENTRE_M = 1_500

OFFICE_ATTENDANCE = (0.80, 0.84, 0.84, 0.82, 0.72, 0.10, 0.06)
STAFF_ATTENDANCE = 0.75
STAFF_MARGIN_S = 30 * 60
PASSING_SHARE = (0.40, 0.40, 0.40, 0.40, 0.40, 0.30, 0.20)
PASSING_S = (60, 8 * 60)
CROSSING_SHARE = 0.5
LEISURE_SHARE = 0.35
LEISURE_RADIUS_M = 2_500
SPEED_M_S = 7.0
SETTING_OUT_S = 240
LONGEST_WAY_S = 3_000
SILENT_SHARE = 0.10


@dataclass(frozen=True)
class Stays:
    """At most one stay per person of one kind; absent ones never begin (start is inf).

    ``start_s`` and ``end_s`` are elapsed seconds of the local day, ``way_s`` the seconds on the
    way to it and again back, ``zone`` a zone number or NOWHERE, positions metres.
    """

    kind: str
    start_s: np.ndarray
    end_s: np.ndarray
    way_s: np.ndarray
    x_m: np.ndarray
    y_m: np.ndarray
    zone: np.ndarray

    @property
    def present(self) -> np.ndarray:
        return np.isfinite(self.start_s)

    def only(self, wanted: np.ndarray) -> "Stays":
        """The same stays without the unwanted ones."""
        return replace(
            self,
            start_s=np.where(wanted, self.start_s, np.inf),
            end_s=np.where(wanted, self.end_s, -np.inf),
        )

    def apart_from(self, others: Sequence["Stays"]) -> "Stays":
        """Only the stays that, ways included, leave every stay of the others alone."""
        free = self.present
        for other in others:
            before = self.end_s + self.way_s < other.start_s
            after = self.start_s - self.way_s > other.end_s
            free = free & (before | after | ~other.present)
        return self.only(free)


@dataclass(frozen=True)
class DayPlan:
    """The stacked stays of a chunk's people on one day, and when they are awake or silent.

    Seconds are elapsed seconds of the local day; between ``silent_from_s`` and
    ``silent_to_s`` the phone makes no event.
    """

    day: LocalDay
    stack: tuple[Stays, ...]
    wakes_s: np.ndarray
    retires_s: np.ndarray
    silent_from_s: np.ndarray
    silent_to_s: np.ndarray

    def where(
        self, people: People, person: np.ndarray, at_s: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position in metres and zone (or NOWHERE) of each given person at each given second."""
        x, y = people.home_x[person], people.home_y[person]
        zone = np.full(person.size, NOWHERE)
        for stays in self.stack:
            rows = np.flatnonzero(stays.present[person])
            who, at = person[rows], at_s[rows]
            way = stays.way_s[who]
            coming = (at - stays.start_s[who]) / way + 1
            going = (stays.end_s[who] - at) / way + 1
            pull = np.minimum(coming, going).clip(0, 1)
            moved = np.flatnonzero(pull > 0)
            rows, who, pull = rows[moved], who[moved], pull[moved]
            x[rows] += pull * (stays.x_m[who] - x[rows])
            y[rows] += pull * (stays.y_m[who] - y[rows])
            zone[rows] = np.where(pull == 1, stays.zone[who], NOWHERE)
        return x, y, zone


def day_plan(
    city: City,
    people: People,
    day: LocalDay,
    *,
    chunk: int,
    seed: int,
    scenario: Scenario = PLAIN,
) -> DayPlan:
    """Draw what a chunk's people do on a day."""
    rng = stream(seed, "day", chunk, day.day.toordinal())
    weekday = day.day.weekday()
    office = _office(people, day, rng)
    closed = np.isin(city.zone_ids, scenario.closed)
    staff = _staff(city, people, day, rng)
    staff = staff.only(~closed[staff.zone])
    busy = (staff,)
    first = _first_visit(city, people, office, day, rng, scenario).apart_from(busy)
    first = first.only(~closed[first.zone])
    second = _second_visit(city, first, day, rng, scenario).apart_from((*busy, first))
    second = second.only(~closed[second.zone])
    exclusive = (*busy, first, second)
    passing = _passing(city, people, office, day, rng, scenario).apart_from(exclusive)
    crossing = _crossing(city, people, day, rng).apart_from((*exclusive, passing))
    leisure = _leisure(people, office, day, rng, scenario).apart_from(
        (*exclusive, passing, crossing)
    )
    nested = [_nested(city, visit, day, rng) for visit in (first, second)]
    lie_in = 1.3 * HOUR_S if weekday >= 5 else 0
    size = people.size
    wakes = day.elapsed(people.wakes_s + lie_in + rng.normal(0, 1_200, size))
    leaves = np.minimum(office.start_s - office.way_s, staff.start_s - staff.way_s) - 1_500
    silent = rng.random(size) < SILENT_SHARE
    silent_from = day.elapsed(rng.uniform(6, 22, size) * HOUR_S)
    return DayPlan(
        day=day,
        stack=(office, *exclusive, passing, crossing, leisure, *nested),
        wakes_s=np.minimum(wakes, leaves).clip(3 * HOUR_S),
        retires_s=day.elapsed(people.retires_s + rng.normal(0, 1_800, size)),
        silent_from_s=np.where(silent, silent_from, np.inf),
        silent_to_s=silent_from + rng.uniform(1, 4, size) * HOUR_S,
    )


def _way_s(metres: np.ndarray) -> np.ndarray:
    """Seconds on the way, for a distance in metres as the crow flies."""
    return (SETTING_OUT_S + metres / SPEED_M_S).clip(max=LONGEST_WAY_S)


def _choose(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One column per row, in proportion to the row's weights; column 0 where all are zero."""
    cumulated = weights.cumsum(axis=1)
    luck = rng.random(weights.shape[0]) * cumulated[:, -1]
    return (cumulated[:, :-1] <= luck[:, None]).sum(axis=1) * (cumulated[:, -1] > 0)


def _in_zone(
    city: City,
    kind: str,
    zone: np.ndarray,
    times: tuple[Any, Any, Any],
    rng: np.random.Generator,
) -> Stays:
    x, y = city.point_inside(zone, rng)
    start, end, way = times
    return Stays(kind, start, end, np.broadcast_to(way, start.shape), x, y, zone)


def _office(people: People, day: LocalDay, rng: np.random.Generator) -> Stays:
    size = people.size
    attends = people.works & (rng.random(size) < OFFICE_ATTENDANCE[day.day.weekday()])
    begins = rng.normal(8.3, 1.1, size).clip(5.5, 13) * HOUR_S
    length = rng.normal(8.1, 1.1, size).clip(4, 10.5) * HOUR_S
    way = _way_s(np.hypot(people.work_x - people.home_x, people.work_y - people.home_y))
    nowhere = np.full(size, NOWHERE)
    ends = day.elapsed(begins + length)
    stays = Stays("office", day.elapsed(begins), ends, way, people.work_x, people.work_y, nowhere)
    return stays.only(attends)


def _staff(city: City, people: People, day: LocalDay, rng: np.random.Generator) -> Stays:
    """Shifts of 7 to 9 hours, from half an hour before opening to half an hour after closing."""
    zone = people.staff_zone.clip(0)
    opens, closes = city.opens_s[zone, day.day.weekday()], city.closes_s[zone, day.day.weekday()]
    length = rng.uniform(7, 9, people.size) * HOUR_S
    slack = closes - opens + 2 * STAFF_MARGIN_S - length
    # Most begin with the early or end with the late shift.
    begins = opens - STAFF_MARGIN_S + rng.beta(0.4, 0.4, people.size) * slack.clip(0)
    on_duty = (people.staff_zone != NOWHERE) & (closes > opens) & (slack > 0)
    times = (day.elapsed(begins), day.elapsed(begins + length), 1_800.0)
    stays = _in_zone(city, "staff", zone, times, rng)
    return stays.only(on_duty & (rng.random(people.size) < STAFF_ATTENDANCE))


def _distances_m(city: City, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    return np.hypot(x_m[:, None] - city.x_m, y_m[:, None] - city.y_m)


def _arrival_odds(city: City, weekday: int) -> np.ndarray:
    """(zones, 24): the rhythm of arrivals within each zone's opening hours."""
    hours = np.arange(24) * HOUR_S
    admits = city.closes_s[:, weekday] - LAST_ADMISSION_S
    opens = city.opens_s[:, weekday]
    open_s = np.minimum(admits[:, None], hours + HOUR_S) - np.maximum(opens[:, None], hours)
    return ARRIVAL_RHYTHM[weekday] * open_s.clip(0) / HOUR_S


def _arrivals(city: City, zone: np.ndarray, weekday: int, rng: np.random.Generator) -> np.ndarray:
    """Wall seconds of an arrival in each zone, within its opening hours."""
    hour = _choose(_arrival_odds(city, weekday)[zone], rng) * HOUR_S
    earliest = np.maximum(hour, city.opens_s[zone, weekday])
    latest = np.minimum(hour + HOUR_S, city.closes_s[zone, weekday] - LAST_ADMISSION_S)
    return earliest + rng.random(zone.size) * (latest - earliest).clip(0)


def _visit(
    city: City,
    zone: np.ndarray,
    arrives: np.ndarray,
    way_s: np.ndarray,
    day: LocalDay,
    rng: np.random.Generator,
    staying: float,
) -> Stays:
    """A visit from ``arrives`` (elapsed) that ends by itself or when the centre closes."""
    usual = rng.lognormal(np.log(DWELL_MEDIAN_S), DWELL_SPREAD, zone.size)
    dwell = (staying * usual).clip(*DWELL_LIMITS_S)
    closes = day.elapsed(city.closes_s[zone, day.day.weekday()])
    ends = np.minimum(arrives + dwell, closes)
    stays = _in_zone(city, "visitor", zone, (arrives, ends, way_s), rng)
    return stays.only(ends - arrives >= SHORTEST_VISIT_S)


def _first_visit(
    city: City,
    people: People,
    office: Stays,
    day: LocalDay,
    rng: np.random.Generator,
    scenario: Scenario,
) -> Stays:
    weekday = day.day.weekday()
    from_home = _distances_m(city, people.home_x, people.home_y)
    weights = np.exp(-from_home / REACH_FROM_HOME_M)
    from_work = _distances_m(city, people.work_x, people.work_y)
    weights += people.works[:, None] * np.exp(-from_work / REACH_FROM_WORK_M)
    weights *= city.draw * (city.closes_s[:, weekday] > 0)
    zone = _choose(weights, rng)
    arrives = day.elapsed(_arrivals(city, zone, weekday, rng))
    # Who would have to leave work has second thoughts.
    otherwise = day.elapsed(_arrivals(city, zone, weekday, rng))
    arrives = np.where((arrives > office.start_s) & (arrives < office.end_s), otherwise, arrives)
    at_work = (arrives > office.start_s) & (arrives < office.end_s)
    person = np.arange(people.size)
    metres = np.where(at_work, from_work[person, zone], from_home[person, zone])
    goes = rng.random(people.size) < VISITOR_SHARE[weekday] * scenario.visiting * people.shopper
    stays = _visit(city, zone, arrives, _way_s(metres), day, rng, scenario.staying)
    return stays.only(stays.present & goes & (city.closes_s[zone, weekday] > 0))


def _second_visit(
    city: City, first: Stays, day: LocalDay, rng: np.random.Generator, scenario: Scenario
) -> Stays:
    """After some first visits another centre, soon after and not far away."""
    weekday = day.day.weekday()
    between = _distances_m(city, city.x_m, city.y_m)
    odds = np.exp(-between / REACH_FROM_CENTRE_M) * city.draw * (city.closes_s[:, weekday] > 0)
    np.fill_diagonal(odds, 0)
    zone = _choose(odds[first.zone], rng)
    way = _way_s(between[first.zone, zone])
    left = np.where(first.present, first.end_s, 0)
    arrives = left + way + rng.uniform(60, 1_800, zone.size)
    opens = day.elapsed(city.opens_s[zone, weekday])
    stays = _visit(city, zone, arrives, way, day, rng, scenario.staying)
    goes = first.present & (rng.random(zone.size) < SECOND_VISIT_SHARE) & (arrives > opens)
    return stays.only(stays.present & goes & (odds[first.zone].sum(axis=1) > 0))


def _passing(
    city: City,
    people: People,
    office: Stays,
    day: LocalDay,
    rng: np.random.Generator,
    scenario: Scenario,
) -> Stays:
    """People who walk through a centre's outline on their way, open or not."""
    size = people.size
    from_home = _distances_m(city, people.home_x, people.home_y)
    from_work = _distances_m(city, people.work_x, people.work_y)
    direct = np.hypot(people.work_x - people.home_x, people.work_y - people.home_y)
    commutes = office.present
    detour = np.where(commutes[:, None], from_home + from_work - direct[:, None], from_home)
    zone = _choose(np.sqrt(city.draw) * np.exp(-detour / 1_200), rng)
    morning = rng.random(size) < 0.5
    part = rng.uniform(0.2, 0.8, size) * office.way_s
    with np.errstate(invalid="ignore"):
        on_way = np.where(morning, office.start_s - part, office.end_s + part)
    strolls = day.elapsed(rng.triangular(8, 16, 22, size) * HOUR_S)
    begins = np.where(commutes, on_way, strolls)
    near = detour[np.arange(size), zone] < 4_000
    share = PASSING_SHARE[day.day.weekday()] * scenario.strolling
    passes = (rng.random(size) < share) & near
    times = (begins, begins + rng.uniform(*PASSING_S, size), 360.0)
    return _in_zone(city, "passer_by", zone, times, rng).only(passes)


def _crossing(city: City, people: People, day: LocalDay, rng: np.random.Generator) -> Stays:
    """Neighbours who cut through their centre: 2 to 8 minutes."""
    size = people.size
    zone = people.neighbour_zone.clip(0)
    begins = day.elapsed(rng.triangular(7, 17, 22, size) * HOUR_S)
    times = (begins, begins + rng.uniform(120, 480, size), 240.0)
    crosses = (people.neighbour_zone != NOWHERE) & (rng.random(size) < CROSSING_SHARE)
    return _in_zone(city, "neighbour", zone, times, rng).only(crosses)


def _leisure(
    people: People, office: Stays, day: LocalDay, rng: np.random.Generator, scenario: Scenario
) -> Stays:
    """Friends, parks, errands: somewhere round home for 40 minutes to 4 hours."""
    size = people.size
    offset = rng.normal(0, LEISURE_RADIUS_M, (2, size))
    begins = day.elapsed(rng.triangular(8, 17.5, 21, size) * HOUR_S)
    ends = np.minimum(begins + rng.uniform(2_400, 4 * HOUR_S, size), day.length_s - HOUR_S)
    stays = Stays(
        "leisure",
        begins,
        ends,
        _way_s(np.hypot(*offset)),
        people.home_x + offset[0],
        people.home_y + offset[1],
        np.full(size, NOWHERE),
    )
    goes = rng.random(size) < LEISURE_SHARE * scenario.strolling
    return stays.only(goes & (ends > begins)).apart_from([office])


def _nested(city: City, visit: Stays, day: LocalDay, rng: np.random.Generator) -> Stays:
    """Parts of longer visits that are spent in the zone nested in the visited centre."""
    weekday = day.day.weekday()
    inner = np.full(len(city.zone_ids), NOWHERE)
    for number in np.flatnonzero(city.parent != NOWHERE):
        inner[city.parent[number]] = number
    zone = np.where(visit.present, inner[visit.zone], NOWHERE)
    share = np.array([z.visit_share for z in city.geography.zones])[zone]
    opens = day.elapsed(city.opens_s[zone, weekday])
    closes = day.elapsed(city.closes_s[zone, weekday])
    size = zone.size
    came, left = (np.where(visit.present, at, 0) for at in (visit.start_s, visit.end_s))
    begins = np.maximum(came + rng.uniform(120, 900, size), opens)
    longest = np.minimum(left - 60, closes) - begins
    length = np.minimum(rng.uniform(SHORTEST_VISIT_S, 45 * 60, size), longest)
    wanted = (zone != NOWHERE) & (rng.random(size) < share) & (length >= SHORTEST_VISIT_S)
    times = (begins, begins + length, 60.0)
    return _in_zone(city, "visitor", zone, times, rng).only(wanted)


def presence_table(city: City, people: People, plan: DayPlan, subscribed: np.ndarray) -> pa.Table:
    """The truth: every presence of a person in a zone on a day, by person and arrival.

    ``subscribed`` says of each person whether a running subscription of this network is theirs.
    Presences of the kind visitor last 10 minutes to 6 hours, staff longer, the others shorter.
    """
    kinds = ("visitor", "staff", "neighbour", "passer_by")
    zoned = [stays for stays in plan.stack if stays.kind in kinds]
    who = [np.flatnonzero(stays.present) for stays in zoned]
    pairs = list(zip(zoned, who, strict=True))
    person = np.concatenate(who)
    start = np.concatenate([stays.start_s[rows] for stays, rows in pairs])
    end = np.concatenate([stays.end_s[rows] for stays, rows in pairs])
    zone = np.concatenate([stays.zone[rows] for stays, rows in pairs])
    kind = np.concatenate([np.full(rows.size, kinds.index(s.kind)) for s, rows in pairs])
    order = np.lexsort((zone, start, person))
    columns = {
        "person": pa.array(people.first + person[order]),
        "zone_id": pa.array(city.zone_ids).take(pa.array(zone[order])),
        "arrived_at": pa.array(plan.day.utc_us(start[order])).cast(PRESENCE.field(2).type),
        "left_at": pa.array(plan.day.utc_us(end[order])).cast(PRESENCE.field(3).type),
        "is_subscriber": pa.array(subscribed[person[order]]),
        "kind": pa.array(kinds).take(pa.array(kind[order])),
    }
    return pa.table(columns, schema=PRESENCE)
