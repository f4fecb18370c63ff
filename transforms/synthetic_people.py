"""The people of the demo world, chunk by chunk: homes, work, habits, phones and decisions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from transforms.synthetic_city import NOWHERE, City, LocalDay, stream

SUBSCRIBERS = pa.schema(
    [
        ("subscriber_id", pa.string()),
        ("brand", pa.string()),
        ("area", pa.string()),
        ("since", pa.date32()),
        ("until", pa.date32()),
    ]
)
DECISIONS = pa.schema(
    [
        ("decision_id", pa.string()),
        ("subscriber_id", pa.string()),
        ("action", pa.string()),
        ("verified", pa.bool_()),
        ("decided_at", pa.timestamp("us", tz="UTC")),
        ("received_at", pa.timestamp("us", tz="UTC")),
        ("channel", pa.string()),
    ]
)

HOMES = pa.schema([("person", pa.int64()), ("area", pa.string())])

BRANDS = ("o2", "ALDI TALK", "Blau", "E-Plus", "AY YILDIZ", "simyo", "Tchibo Mobil", "FONIC")
BRAND_SHARES = (0.44, 0.20, 0.15, 0.05, 0.04, 0.04, 0.04, 0.04)
ROAMER_PREFIXES = ("43664", "33612", "44770", "48501", "39333")
CHANNELS = ("app", "web", "sms", "hotline", "shop")

WORKING_SHARE = 0.58
STAFF_SHARE = 0.012
CITY_JOBS_SHARE = 0.45
CITY_JOBS_RADIUS_M = 3_500
NEIGHBOUR_SHARE_OF_AREA = 0.04
NEIGHBOUR_DISTANCE_M = (20, 200)
ROAMERS_PER_SUBSCRIBER = 0.01

UNKNOWN_AREA_SHARE = 0.03
ENDED_SHARE = 0.006
DOUBLED_SHARE = 0.002

OPTED_OUT_SHARE = 0.04
BACK_IN_SHARE = 0.2
UNVERIFIED_SHARE = 0.006
STATUS_CHECKS_PER_SUBSCRIBER = 0.2
REPEATED_SHARE = 0.03
DECISION_AGE_DAYS = 400
RECENT_SHARE = 0.08
LATE_SHARE = 0.05
LONG_AGO_DAYS = 90


@dataclass(frozen=True)
class People:
    """One chunk of the population, one array entry per person.

    The first ``subscribers`` of them have a subscription, the next ``roamers`` a foreign phone,
    the rest no phone on this network. ``first`` numbers the first person of the chunk in the
    world. Positions are metres on the city's plane; ``staff_zone`` and ``neighbour_zone`` are
    zone numbers or NOWHERE; ``activity`` scales a phone's events, ``shopper`` a person's visits
    (both 1 on average); ``wakes_s`` and ``retires_s`` are usual wall seconds.
    """

    first: int
    subscribers: int
    roamers: int
    area: np.ndarray
    home_x: np.ndarray
    home_y: np.ndarray
    works: np.ndarray
    work_x: np.ndarray
    work_y: np.ndarray
    staff_zone: np.ndarray
    neighbour_zone: np.ndarray
    shopper: np.ndarray
    activity: np.ndarray
    wakes_s: np.ndarray
    retires_s: np.ndarray

    @property
    def size(self) -> int:
        return self.area.size

    @property
    def phones(self) -> int:
        return self.subscribers + self.roamers


@dataclass(frozen=True)
class Phones:
    """The identities of a chunk's phones: ids, brand numbers, and the subscriptions' dates."""

    ids: tuple[str, ...]
    brand: np.ndarray
    since: np.ndarray
    until: np.ndarray

    def active(self, day: date) -> np.ndarray:
        """Whether each subscription runs on ``day``; roamers have none."""
        at = np.datetime64(day)
        started = np.isnat(self.since) | (self.since <= at)
        return started & (np.isnat(self.until) | (self.until >= at))


def people(
    city: City,
    areas: np.ndarray,
    *,
    first: int,
    subscribers: int,
    chunk: int,
    seed: int,
    crowded: Mapping[str, float] = MappingProxyType({}),
) -> People:
    """The people who live in ``areas`` (one area number per person).

    ``crowded`` is the part of its area's residents that lives beside a centre, by zone id, where
    it is not the usual one.
    """
    rng = stream(seed, "people", chunk)
    size = areas.size
    home_x, home_y = _homes(city, areas, rng)
    neighbour_zone = _neighbours(city, areas, rng, crowded)
    near = np.flatnonzero(neighbour_zone != NOWHERE)
    home_x[near], home_y[near] = _beside(city, neighbour_zone[near], rng)
    works = rng.random(size) < WORKING_SHARE
    work_x, work_y = _workplaces(city, size, rng)
    staff_zone = np.where(
        works & (rng.random(size) < STAFF_SHARE / WORKING_SHARE),
        rng.choice(city.draw.size, size, p=city.draw / city.draw.sum()),
        NOWHERE,
    )
    return People(
        first=first,
        subscribers=subscribers,
        roamers=min(round(ROAMERS_PER_SUBSCRIBER * subscribers), size - subscribers),
        area=areas,
        home_x=home_x,
        home_y=home_y,
        works=works & (staff_zone == NOWHERE),
        work_x=work_x,
        work_y=work_y,
        staff_zone=staff_zone,
        neighbour_zone=neighbour_zone,
        shopper=rng.gamma(4, 1 / 4, size),
        activity=rng.gamma(9, 1 / 9, size),
        wakes_s=rng.normal(6.8, 0.8, size).clip(4.5, 10) * 3600,
        retires_s=rng.normal(22.9, 0.7, size).clip(20.5, 24) * 3600,
    )


def _homes(
    city: City, areas: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    block = (rng.random(areas.size)[:, None] >= city.block_cdf[areas, :-1]).sum(axis=1)
    jitter = rng.uniform(-110, 110, (2, areas.size))
    return city.block_x[areas, block] + jitter[0], city.block_y[areas, block] + jitter[1]


def _neighbours(
    city: City, areas: np.ndarray, rng: np.random.Generator, crowded: Mapping[str, float]
) -> np.ndarray:
    """The centre beside whose outline a person lives, or NOWHERE."""
    luck = rng.random(areas.size)
    zone = np.full(areas.size, NOWHERE)
    for area in np.unique(city.zone_area[city.zone_area != NOWHERE]):
        centres = np.flatnonzero((city.zone_area == area) & (city.parent == NOWHERE))
        share = np.array(
            [crowded.get(city.zone_ids[n], NEIGHBOUR_SHARE_OF_AREA) for n in centres.tolist()]
        )
        beside = np.flatnonzero((areas == area) & (luck < share.sum()))
        zone[beside] = rng.choice(centres, beside.size, p=share / share.sum() if crowded else None)
    return zone


def _beside(
    city: City, zone: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A point within 200 m of a zone's outline, in metres."""
    half = np.array([max(z.width_m, z.depth_m) / 2 for z in city.geography.zones])
    angle = rng.uniform(0, 2 * np.pi, zone.size)
    distance = half[zone] + rng.uniform(*NEIGHBOUR_DISTANCE_M, zone.size)
    return (
        city.x_m[zone] + distance * np.cos(angle),
        city.y_m[zone] + distance * np.sin(angle),
    )


def _workplaces(city: City, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Some work in the city centre, the others where people live."""
    spread = rng.choice(city.residents.size, size, p=city.residents / city.residents.sum())
    x, y = _homes(city, spread, rng)
    central = rng.random(size) < CITY_JOBS_SHARE
    centre = rng.normal(0, CITY_JOBS_RADIUS_M, (2, size))
    return np.where(central, centre[0], x), np.where(central, centre[1], y)


def phones(people: People, *, first_day: date, chunk: int, seed: int) -> Phones:
    """The phones of a chunk: subscribers first, roamers after."""
    rng = stream(seed, "phones", chunk)
    size = people.phones
    numbers = people.first + np.arange(size)
    # Multiplying by an odd number that 5 does not divide permutes the numbers below 10**8.
    scattered = ((numbers + 1 + seed % 99_991) * 61_803_399) % 10**8
    ids = [f"49176{number:08d}" for number in scattered[: people.subscribers]]
    prefixes = rng.integers(0, len(ROAMER_PREFIXES), people.roamers)
    ids += [
        f"{ROAMER_PREFIXES[prefix]}{number:08d}"
        for prefix, number in zip(prefixes, scattered[people.subscribers :], strict=True)
    ]
    today = np.datetime64(first_day)
    since = today - rng.integers(31, 4_000, size)
    since[rng.random(size) < 0.05] = np.datetime64("NaT")
    until = np.full(size, np.datetime64("NaT"), dtype="datetime64[D]")
    luck = rng.random(size)
    ended, ending = luck < ENDED_SHARE, luck > 1 - 5 * ENDED_SHARE
    until[ended] = today - rng.integers(1, 30, np.count_nonzero(ended))
    until[ending] = today + rng.integers(60, 700, np.count_nonzero(ending))
    return Phones(tuple(ids), rng.choice(len(BRANDS), size, p=BRAND_SHARES), since, until)


def subscribers_table(
    city: City, people: People, phones: Phones, *, chunk: int, seed: int
) -> pa.Table:
    """The subscriber list of a chunk; a few rows are doubled with an older contract."""
    rng = stream(seed, "subscribers", chunk)
    count = people.subscribers
    doubled = rng.integers(0, count, max(1, round(DOUBLED_SHARE * count)))
    rows = np.concatenate([np.arange(count), doubled])
    older = np.arange(rows.size) >= count
    since = phones.since[rows] - np.where(older, 400, 0)
    brand = np.where(older, rng.integers(0, len(BRANDS), rows.size), phones.brand[rows])
    unknown = (rng.random(count) < UNKNOWN_AREA_SHARE)[rows]
    columns = {
        "subscriber_id": pa.array(phones.ids[:count]).take(pa.array(rows)),
        "brand": pa.array(BRANDS).take(pa.array(brand)),
        "area": pa.array(city.areas).take(pa.array(people.area[rows], mask=unknown)),
        "since": pa.array(since, type=pa.date32(), from_pandas=True),
        "until": pa.array(phones.until[rows], type=pa.date32(), from_pandas=True),
    }
    return pa.table(columns, schema=SUBSCRIBERS).take(pa.array(rng.permutation(rows.size)))


def homes_table(city: City, people: People) -> pa.Table:
    """The truth about homes: person, and the area each lives in."""
    columns = {
        "person": pa.array(people.first + np.arange(people.size)),
        "area": pa.array(city.areas).take(pa.array(people.area)),
    }
    return pa.table(columns, schema=HOMES)


@dataclass(frozen=True)
class _Decisions:
    """Decisions as arrays; ``who`` is the number of the subscriber in the chunk."""

    who: np.ndarray
    action: np.ndarray
    verified: np.ndarray
    decided_us: np.ndarray


def decisions_table(
    people: People,
    phones: Phones,
    days: list[LocalDay],
    *,
    chunk: int,
    seed: int,
    leaving: np.ndarray | None = None,
    leaving_share: float = 0.0,
) -> pa.Table:
    """Opt-outs, some taken back, status checks, unverified tries, repeats; in no order.

    Of the subscribers in the areas that are ``leaving`` (a flag per area) ``leaving_share`` opted
    out long before the first day.

    Everything is decided before the last local day ends and received at most 4 hours later.
    """
    rng = stream(seed, "decisions", chunk)
    end_us = int(days[-1].utc_us(days[-1].length_s))
    span_us = end_us - days[0].start_us
    made = [*_choices(people.subscribers, end_us, span_us, rng)]
    if leaving is not None and leaving.any():
        luck = stream(seed, "leaving", chunk).random(people.subscribers)
        gone = np.flatnonzero(leaving[people.area[: people.subscribers]] & (luck < leaving_share))
        long_ago = days[0].start_us - LONG_AGO_DAYS * 86_400_000_000
        at = np.full(gone.size, long_ago)
        made.append(_Decisions(gone, np.zeros(gone.size, int), np.ones(gone.size, bool), at))
    who, action, verified, decided = (
        np.concatenate([getattr(part, name) for part in made])
        for name in ("who", "action", "verified", "decided_us")
    )
    delay_s = rng.exponential(40, who.size)
    late = rng.random(who.size) < LATE_SHARE
    delay_s[late] = rng.uniform(3_600, 3 * 86_400, np.count_nonzero(late))
    received = np.minimum(decided + (delay_s * 1e6).astype(np.int64), end_us + 4 * 3_600_000_000)
    again = np.flatnonzero(rng.random(who.size) < REPEATED_SHARE)
    rows = np.concatenate([np.arange(who.size), again])
    # A repeat is the same message; a tenth of them were sent a second time, a little later.
    resent = (np.arange(rows.size) >= who.size) & (rng.random(rows.size) < 0.1)
    received = np.minimum(received[rows] + resent * 90_000_000, end_us + 4 * 3_600_000_000)
    undated = (rng.random(who.size) < 0.002)[rows]
    columns = {
        "decision_id": pa.array([f"{chunk:04d}-{row:07d}" for row in rows]),
        "subscriber_id": pa.array(phones.ids).take(pa.array(who[rows])),
        "action": pa.array(["opt_out", "opt_in", "status_check"]).take(pa.array(action[rows])),
        "verified": pa.array(verified[rows]),
        "decided_at": pa.array(decided[rows], mask=undated).cast(DECISIONS.field(4).type),
        "received_at": pa.array(received).cast(DECISIONS.field(5).type),
        "channel": pa.array(CHANNELS).take(pa.array(rng.integers(0, 5, who.size)[rows])),
    }
    return pa.table(columns, schema=DECISIONS).take(pa.array(rng.permutation(rows.size)))


def _choices(
    subscribers: int, end_us: int, span_us: int, rng: np.random.Generator
) -> list[_Decisions]:
    """Opt-outs, returns, unverified tries and status checks of a chunk's subscribers."""

    def instants(count: int) -> np.ndarray:
        ages = rng.random(count) * DECISION_AGE_DAYS * 86_400_000_000
        recent = rng.random(count) < RECENT_SHARE
        ages[recent] = rng.random(np.count_nonzero(recent)) * span_us
        return end_us - ages.astype(np.int64) - 1

    leavers = np.flatnonzero(rng.random(subscribers) < OPTED_OUT_SHARE)
    left = instants(leavers.size)
    back = rng.random(leavers.size) < BACK_IN_SHARE
    returned = left + ((end_us - left) * rng.random(left.size)).astype(np.int64)
    unverified = np.flatnonzero(rng.random(subscribers) < UNVERIFIED_SHARE)
    asked = rng.integers(0, subscribers, round(STATUS_CHECKS_PER_SUBSCRIBER * subscribers))
    parts = [
        (leavers, 0, True, left),
        (leavers[back], 1, True, returned[back]),
        (unverified, 0, False, instants(unverified.size)),
        (asked, 2, rng.random(asked.size) < 0.5, instants(asked.size)),
    ]
    return [
        _Decisions(
            who,
            np.full(who.size, action),
            np.broadcast_to(np.asarray(verified), who.shape),
            at,
        )
        for who, action, verified, at in parts
    ]
