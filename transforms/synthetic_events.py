"""The cell events of a chunk of phones on one day, with the faults that real feeds have."""

from dataclasses import dataclass, fields
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from transforms.synthetic_city import HOUR_S, NOWHERE, stream
from transforms.synthetic_days import DayPlan
from transforms.synthetic_network import Coverage, Indoor, Network, Outages, retired_id
from transforms.synthetic_people import BRANDS, People, Phones

EVENTS = pa.schema(
    [
        ("subscriber_id", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("cell_id", pa.string()),
        ("event_type", pa.string()),
        ("brand", pa.string()),
    ]
)

EVENT_TYPES = ("data", "call", "sms", "handover", "location_update")
AWAKE_ODDS = (0.64, 0.08, 0.05, 0.14, 0.09)
ASLEEP_ODDS = (0.50, 0.005, 0.01, 0.05, 0.435)
HANDOVER = EVENT_TYPES.index("handover")

AWAKE_SESSIONS_PER_HOUR = 3.1
ASLEEP_SESSIONS_PER_HOUR = 0.9
ZONE_SESSIONS_PER_HOUR = 3.0
BURST_END_CHANCE = 0.6
BURST_STEP_S = 45
CROSSING_HANDOVER_SHARE = 0.8
FICKLE_SHARE = 0.12

BRANDLESS_SHARE = 0.05
DUPLICATE_SHARE = 0.005
LATE_SHARE = 0.003
BROKEN_SHARE = 0.002
FAULTS = ("null_id", "blank_id", "null_time", "implausible_time", "null_cell", "unknown_cell")
IMPLAUSIBLE_SHIFTS_DAYS = (-20_000, -365, -30, -3, 3, 40, 400, 25_000)
UNKNOWN_CELLS = (*map(retired_id, range(10)), "26203-99999-1", "26201-00017-2", "?", "0")

DAY_US = 86_400_000_000
MISSING = -1


@dataclass(frozen=True)
class Events:
    """Events as numbers: phone, UTC microseconds, cell, type, brand and arrival day since 1970.

    MISSING stands for null; the number after the last phone is the blank id, the numbers after
    the last cell are UNKNOWN_CELLS; ``timed`` is false where the time is null.
    """

    phone: np.ndarray
    time_us: np.ndarray
    timed: np.ndarray
    cell: np.ndarray
    kind: np.ndarray
    brand: np.ndarray
    arrived: np.ndarray

    def take(self, rows: np.ndarray) -> "Events":
        return Events(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class _Moments:
    """When phones talk to the network: person, elapsed second, session number, forced handover."""

    person: np.ndarray
    at_s: np.ndarray
    session: np.ndarray
    handover: np.ndarray


def events(
    people: People,
    phones: Phones,
    plan: DayPlan,
    network: Network,
    coverage: Coverage,
    outages: Outages,
    indoor: Indoor,
    *,
    chunk: int,
    seed: int,
) -> Events:
    """The events of a chunk's phones on the plan's day, by time, with faults."""
    rng = stream(seed, "events", chunk, plan.day.day.toordinal())
    moments = _moments(people, plan, rng)
    x, y, zone = plan.where(people, moments.person, moments.at_s)
    cell = _serving_cells(network, coverage, indoor, moments, x, y, zone, rng)
    time_us = plan.day.utc_us(moments.at_s)
    heard = ~outages.silences(cell, time_us)
    awake = _awake(plan, moments)
    brand = phones.brand[moments.person]
    clean = Events(
        phone=moments.person,
        time_us=time_us,
        timed=np.ones(time_us.size, dtype=bool),
        cell=cell,
        kind=_kinds(awake, moments.handover, rng),
        brand=np.where(rng.random(brand.size) < BRANDLESS_SHARE, MISSING, brand),
        arrived=time_us // DAY_US,
    )
    order = np.argsort(time_us, kind="stable")
    return _with_faults(clean.take(order[heard[order]]), len(phones.ids), network, rng)


def _moments(people: People, plan: DayPlan, rng: np.random.Generator) -> _Moments:
    person, at_s = _background(people, plan, rng)
    zone_person, zone_at = _browsing(people, plan, rng)
    edge_person, edge_at = _crossings(people, plan, rng)
    starts = np.concatenate([person, zone_person])
    size = rng.geometric(BURST_END_CHANCE, starts.size)
    session = np.repeat(np.arange(starts.size), size)
    place = np.arange(session.size) - np.repeat(size.cumsum() - size, size)
    later = place * rng.exponential(BURST_STEP_S, session.size)
    at = np.concatenate([np.concatenate([at_s, zone_at])[session] + later, edge_at])
    who = np.concatenate([starts[session], edge_person])
    sessions = np.concatenate([session, starts.size + np.arange(edge_at.size)])
    heard = (at >= 0) & (at < plan.day.length_s)
    heard &= (at < plan.silent_from_s[who]) | (at > plan.silent_to_s[who])
    handover = np.arange(at.size) >= session.size
    return _Moments(who[heard], at[heard], sessions[heard], handover[heard])


def _background(
    people: People, plan: DayPlan, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sessions over the whole day: few while asleep, several per hour while awake."""
    count = people.phones
    wakes, retires = plan.wakes_s[:count], plan.retires_s[:count]
    night, waking, day = (
        wakes * ASLEEP_SESSIONS_PER_HOUR,
        (retires - wakes) * AWAKE_SESSIONS_PER_HOUR,
        (plan.day.length_s - retires) * ASLEEP_SESSIONS_PER_HOUR,
    )
    total = night + waking + day
    person = np.repeat(np.arange(count), rng.poisson(people.activity[:count] * total / HOUR_S))
    # The place of a session within the person's expected sessions tells its time.
    mark = rng.random(person.size) * total[person]
    night, waking, wakes, retires = (part[person] for part in (night, waking, wakes, retires))
    at_s = np.where(
        mark < night,
        mark / ASLEEP_SESSIONS_PER_HOUR,
        np.where(
            mark < night + waking,
            wakes + (mark - night) / AWAKE_SESSIONS_PER_HOUR,
            retires + (mark - night - waking) / ASLEEP_SESSIONS_PER_HOUR,
        ),
    )
    return person, at_s


def _browsing(
    people: People, plan: DayPlan, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The sessions that a visit adds."""
    persons, times = [], []
    for stays in plan.stack:
        if stays.kind != "visitor":
            continue
        who = np.flatnonzero(stays.present[: people.phones])
        dwell = stays.end_s[who] - stays.start_s[who]
        rate = people.activity[who] * ZONE_SESSIONS_PER_HOUR / HOUR_S
        row = np.repeat(np.arange(who.size), rng.poisson(rate * dwell))
        persons.append(who[row])
        times.append(stays.start_s[who[row]] + rng.random(row.size) * dwell[row])
    return np.concatenate(persons), np.concatenate(times)


def _crossings(
    people: People, plan: DayPlan, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Handovers just after entering and just before leaving a zone; some are missed."""
    persons, times = [], []
    for stays in plan.stack:
        who = np.flatnonzero(stays.present[: people.phones] & (stays.zone[: people.phones] >= 0))
        for edge, sign in ((stays.start_s[who], 1), (stays.end_s[who], -1)):
            made = rng.random(who.size) < CROSSING_HANDOVER_SHARE
            persons.append(who[made])
            times.append(edge[made] + sign * rng.uniform(1, 50, np.count_nonzero(made)))
    return np.concatenate(persons), np.concatenate(times)


def _serving_cells(
    network: Network,
    coverage: Coverage,
    indoor: Indoor,
    moments: _Moments,
    x_m: np.ndarray,
    y_m: np.ndarray,
    zone: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """A session mostly keeps its rank among the candidates; some events change over."""
    sessions = int(moments.session.max(initial=0)) + 1
    luck = rng.random(sessions)[moments.session]
    fickle = np.flatnonzero(rng.random(luck.size) < FICKLE_SHARE)
    luck[fickle] = rng.random(fickle.size)
    cell = coverage.serving(x_m, y_m, luck)
    caught = indoor.caught(network, x_m, y_m, zone, rng.random(sessions)[moments.session])
    indoors = np.flatnonzero(caught != NOWHERE)
    count = network.indoor_count[caught[indoors]]
    pick = (rng.random(sessions)[moments.session[indoors]] * count).astype(np.int64)
    cell[indoors] = network.indoor_first[caught[indoors]] + pick
    return cell


def _awake(plan: DayPlan, moments: _Moments) -> np.ndarray:
    after = moments.at_s >= plan.wakes_s[moments.person]
    return after & (moments.at_s < plan.retires_s[moments.person])


def _kinds(awake: np.ndarray, handover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    luck = rng.random(awake.size)
    kinds = np.where(
        awake,
        np.searchsorted(np.cumsum(AWAKE_ODDS)[:-1], luck, side="right"),
        np.searchsorted(np.cumsum(ASLEEP_ODDS)[:-1], luck, side="right"),
    )
    return np.where(handover, HANDOVER, kinds)


def _with_faults(clean: Events, phones: int, network: Network, rng: np.random.Generator) -> Events:
    """Rows that come twice, a day late, or broken in one of the ways FAULTS names."""
    size = clean.time_us.size
    late = rng.random(size) < LATE_SHARE
    fault = np.full(size, MISSING)
    broken = np.flatnonzero(rng.random(size) < BROKEN_SHARE)
    # In turn, so that even a small chunk has every kind.
    fault[broken] = rng.permutation(np.arange(broken.size) % len(FAULTS))
    null_id, blank_id, null_time, implausible, null_cell, unknown_cell = (
        fault == number for number in range(len(FAULTS))
    )
    shift = rng.choice(IMPLAUSIBLE_SHIFTS_DAYS, size) * DAY_US
    strange = len(network.cell_ids) + rng.integers(0, len(UNKNOWN_CELLS), size)
    faulty = Events(
        phone=np.where(null_id, MISSING, np.where(blank_id, phones, clean.phone)),
        time_us=np.where(implausible, clean.time_us + shift, clean.time_us),
        timed=~null_time,
        cell=np.where(null_cell, MISSING, np.where(unknown_cell, strange, clean.cell)),
        kind=clean.kind,
        brand=clean.brand,
        arrived=clean.arrived + late,
    )
    twice = np.flatnonzero(rng.random(size) < DUPLICATE_SHARE)
    return faulty.take(np.sort(np.concatenate([np.arange(size), twice])))


def by_arrival(events: Events, phones: Phones, network: Network) -> dict[date, pa.Table]:
    """The events of each UTC date of arrival as a table in the layout of the landing.

    Strings are dictionary-encoded, which Parquet stores as plain strings.
    """
    ids = pa.array([*phones.ids, ""])
    cells = pa.array([*network.cell_ids, *UNKNOWN_CELLS])
    tables = {}
    for arrived in np.unique(events.arrived):
        part = events.take(np.flatnonzero(events.arrived == arrived))
        times = pa.array(part.time_us, mask=~part.timed).cast(EVENTS.field("event_time").type)
        columns = [
            _named(part.phone, ids),
            times,
            _named(part.cell, cells),
            _named(part.kind, pa.array(EVENT_TYPES)),
            _named(part.brand, pa.array(BRANDS)),
        ]
        day = date(1970, 1, 1) + timedelta(days=int(arrived))
        tables[day] = pa.Table.from_arrays(columns, names=EVENTS.names)
    return tables


def _named(number: np.ndarray, names: pa.Array) -> pa.DictionaryArray:
    indices = pa.array(number.astype(np.int32), mask=number == MISSING)
    return pa.DictionaryArray.from_arrays(indices, names)
