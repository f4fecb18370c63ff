"""The demo world: a city, its network, its people and what their phones send, from one seed.

A world is drawn chunk by chunk, so that its size is bounded by patience, not by memory. The
same options draw the same world, row by row; nothing here reads a file or a clock. It shares
no code with the method that estimates visits from the events.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.synthetic_city import (
    City,
    LocalDay,
    city,
    geography,
    local_day,
    residents_table,
    stream,
    timezone,
    zones_geojson,
)
from transforms.synthetic_days import day_plan, presence_table
from transforms.synthetic_events import by_arrival, events
from transforms.synthetic_network import (
    Coverage,
    Indoor,
    Network,
    Outages,
    cells_table,
    coverage,
    indoor,
    network,
    outages,
    outages_table,
)
from transforms.synthetic_people import (
    decisions_table,
    homes_table,
    people,
    phones,
    subscribers_table,
)
from transforms.synthetic_scenarios import PLAIN, Scenario

MOST_SUBSCRIBERS = 20_000_000
MOST_DAYS = 366


@dataclass(frozen=True)
class WorldOptions:
    """What a world depends on, besides the geography.

    ``subscribers`` is the number of subscriptions, ``market_share`` their part of the
    population; ``days`` whole local days end with ``last_day``.
    """

    subscribers: int
    centres: int
    days: int
    last_day: date
    seed: int
    market_share: float = 0.30
    subscribers_per_chunk: int = 10_000
    scenario: Scenario = PLAIN

    def __post_init__(self) -> None:
        for name, least, most in (
            ("subscribers", 1, MOST_SUBSCRIBERS),
            ("days", 1, MOST_DAYS),
            ("seed", 0, 2**32 - 1),
            ("subscribers_per_chunk", 1, 1_000_000),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} to {most}")
        if not 0 < self.market_share <= 1:
            raise ValueError(f"market_share is {self.market_share}, expected above 0, at most 1")

    @property
    def population(self) -> int:
        return self.people_before(self.subscribers)

    @property
    def chunks(self) -> int:
        return -(-self.subscribers // self.subscribers_per_chunk)

    def people_before(self, subscribers: int) -> int:
        """The number of people in a world of that many subscribers."""
        return round(subscribers / self.market_share)

    def calendar(self) -> list[date]:
        return [self.last_day - timedelta(days=ago) for ago in reversed(range(self.days))]


@dataclass(frozen=True)
class ChunkDay:
    """What one chunk of people leaves behind on one local day."""

    day: date
    events: dict[date, pa.Table]
    presence: pa.Table


@dataclass(frozen=True)
class Chunk:
    """One chunk of the population: its reference tables, and its days on demand."""

    number: int
    subscribers: pa.Table
    decisions: pa.Table
    homes: pa.Table
    days: Iterator[ChunkDay]


@dataclass(frozen=True)
class World:
    """Everything that the chunks share."""

    options: WorldOptions
    city: City
    network: Network
    coverage: Coverage
    outages: Outages
    indoor: Indoor
    days: tuple[LocalDay, ...]

    def zones(self) -> dict[str, Any]:
        return zones_geojson(self.city.geography)

    def cells(self) -> pa.Table:
        return cells_table(
            self.city, self.network, first_day=self.days[0].day, seed=self.options.seed
        )

    def residents(self) -> pa.Table:
        return residents_table(self.city)

    def outage_list(self) -> pa.Table:
        return outages_table(self.network, self.outages)

    def chunks(self) -> Iterator[Chunk]:
        for number in range(self.options.chunks):
            yield self.chunk(number)

    @cached_property
    def _leaving(self) -> np.ndarray:
        """Whether the scenario's opt-outs live in each area."""
        return self.city.in_district(self.options.scenario.leaving)

    @cached_property
    def _areas_of_people(self) -> np.ndarray:
        """The area number of everybody, in an order that says nothing."""
        numbers = np.arange(self.city.residents.size, dtype=np.int16)
        everybody = np.repeat(numbers, self.city.residents)
        return stream(self.options.seed, "areas").permutation(everybody)

    def chunk(self, number: int) -> Chunk:
        """The people, phones and decisions of one chunk, and an iterator over its days."""
        options, seed = self.options, self.options.seed
        begin = number * options.subscribers_per_chunk
        end = min(begin + options.subscribers_per_chunk, options.subscribers)
        first = options.people_before(begin)
        crowd = people(
            self.city,
            self._areas_of_people[first : options.people_before(end)],
            first=first,
            subscribers=end - begin,
            chunk=number,
            seed=seed,
            crowded=options.scenario.crowded,
        )
        devices = phones(crowd, first_day=self.days[0].day, chunk=number, seed=seed)

        def days() -> Iterator[ChunkDay]:
            for day in self.days:
                plan = day_plan(
                    self.city, crowd, day, chunk=number, seed=seed, scenario=options.scenario
                )
                made = events(
                    crowd,
                    devices,
                    plan,
                    self.network,
                    self.coverage,
                    self.outages,
                    self.indoor,
                    chunk=number,
                    seed=seed,
                )
                subscribed = np.zeros(crowd.size, dtype=bool)
                subscribed[: crowd.subscribers] = devices.active(day.day)[: crowd.subscribers]
                yield ChunkDay(
                    day=day.day,
                    events=by_arrival(made, devices, self.network),
                    presence=presence_table(self.city, crowd, plan, subscribed),
                )

        return Chunk(
            number=number,
            subscribers=subscribers_table(self.city, crowd, devices, chunk=number, seed=seed),
            decisions=decisions_table(
                crowd,
                devices,
                list(self.days),
                chunk=number,
                seed=seed,
                leaving=self._leaving,
                leaving_share=options.scenario.leaving_share,
            ),
            homes=homes_table(self.city, crowd),
            days=days(),
        )


def world(facts: Mapping[str, Any], options: WorldOptions) -> World:
    """The world of a geography (the parsed geography file); ValueError when it is not one."""
    scenario = options.scenario
    land = geography(scenario.facts(facts), centres=options.centres)
    town = city(land, population=options.population, seed=options.seed)
    days = tuple(local_day(day, timezone(facts)) for day in options.calendar())
    mast = (
        None if scenario.mast_beside is None else town.beside(scenario.mast_beside, scenario.mast_m)
    )
    cells = network(town, seed=options.seed, mast=mast)
    dark = None if scenario.dark is None else (town.number(scenario.dark), scenario.dark_wall_h)
    return World(
        options=options,
        city=town,
        network=cells,
        coverage=coverage(cells, shadowing_db=scenario.shadowing_db, seed=options.seed),
        outages=outages(town, cells, days, seed=options.seed, dark=dark),
        indoor=indoor(
            town,
            cells,
            share=scenario.indoor_share,
            leak_share=scenario.leak_share,
            leak_m=scenario.leak_m,
            seed=options.seed,
        ),
        days=days,
    )
