"""Scenarios change what they say and nothing else."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from transforms.synthetic import World, WorldOptions, world
from transforms.synthetic_city import NOWHERE
from transforms.synthetic_scenarios import PLAIN, Scenario, scenarios

CONF = Path(__file__).parent.parent / "conf"
FACTS = tomllib.loads((CONF / "demo_geography.toml").read_text(encoding="utf-8"))
LISTED = scenarios(tomllib.loads((CONF / "scenarios.toml").read_text(encoding="utf-8")))
SATURDAY = date(2026, 11, 21)
PLAIN_OPTIONS = WorldOptions(subscribers=1_500, centres=12, days=1, last_day=SATURDAY, seed=3)


@lru_cache(maxsize=2)
def drawn(scenario: Scenario) -> World:
    return world(FACTS, replace(PLAIN_OPTIONS, scenario=scenario))


def presence(scenario: Scenario) -> pd.DataFrame:
    (day,) = drawn(scenario).chunk(0).days
    return day.presence.to_pandas()


def visits(scenario: Scenario) -> pd.Series:
    found = presence(scenario)
    return found[found["kind"] == "visitor"].groupby("zone_id").size()


def test_the_listed_scenarios_can_be_drawn() -> None:
    assert {"normal-saturday", "outage", "new-mast"} < set(LISTED)
    assert all(one.day is not None for one in LISTED.values())
    for one in LISTED.values():
        assert len(one.facts(FACTS)["centres"]) == len(FACTS["centres"]) + (
            one.name == "across-the-street"
        )


def test_an_unknown_entry_is_named() -> None:
    with pytest.raises(ValueError, match=r"scenario 'x': unknown \['rain'\]"):
        scenarios({"scenarios": {"x": {"rain": 1}}})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"dark": "nowhere"}, "zone 'nowhere'"), ({"leaving": "Atlantis"}, "district 'Atlantis'")],
)
def test_what_is_not_in_the_city_is_named(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        world(FACTS, replace(PLAIN_OPTIONS, scenario=Scenario(**wrong))).chunk(0)


def test_nobody_visits_or_works_in_a_closed_centre() -> None:
    closed = presence(Scenario(closed=("alexa",)))
    kinds = set(closed.loc[closed["zone_id"] == "alexa", "kind"])
    assert kinds and not kinds & {"visitor", "staff"}
    assert visits(PLAIN)["alexa"] > 50


def test_rain_keeps_people_away_and_those_who_come_stay_longer() -> None:
    fewer = visits(Scenario(visiting=0.5)).sum() / visits(PLAIN).sum()
    assert fewer == pytest.approx(0.5, abs=0.05)
    plain, longer = (presence(one) for one in (PLAIN, Scenario(staying=1.5)))
    minutes = [
        (rows["left_at"] - rows["arrived_at"])[rows["kind"] == "visitor"].median()
        for rows in (plain, longer)
    ]
    assert minutes[1] / minutes[0] > 1.25


def test_a_mast_adds_its_site_and_leaves_the_others_where_they_were() -> None:
    before, after = drawn(PLAIN).network, drawn(Scenario(mast_beside="alexa")).network
    new = set(after.cell_ids) - set(before.cell_ids)
    assert len(new) == 3
    kept = [number for number, name in enumerate(after.cell_ids) if name not in new]
    assert np.array_equal(after.x_m[kept], before.x_m)
    assert np.array_equal(after.range_m[kept], before.range_m)
    serving = drawn(Scenario(mast_beside="alexa")).coverage.cells
    names = np.array(after.cell_ids)[np.unique(serving)]
    assert new <= set(names)


def test_those_who_leave_live_in_the_district() -> None:
    one = drawn(Scenario(leaving="Neukölln", leaving_share=0.5)).chunk(0)
    decisions = one.decisions.to_pandas()
    long_ago = decisions.groupby("decided_at")["subscriber_id"].nunique().nlargest(1)
    gone = decisions.loc[decisions["decided_at"] == long_ago.index[0], "subscriber_id"]
    subscribers = one.subscribers.to_pandas().drop_duplicates("subscriber_id")
    city = drawn(PLAIN).city
    there = subscribers["area"].isin(np.array(city.areas)[city.in_district("Neukölln")])
    share = subscribers.loc[there, "subscriber_id"].isin(gone).mean()
    assert share == pytest.approx(0.5, abs=0.12)
    known_elsewhere = subscribers["area"].notna() & ~there
    assert not subscribers.loc[known_elsewhere, "subscriber_id"].isin(gone).any()


def test_every_cell_round_a_dark_centre_is_out_for_the_whole_window() -> None:
    world_ = drawn(Scenario(dark="alexa", dark_wall_h=(15, 17)))
    day, city = world_.days[0], world_.city
    start, end = (int(day.utc_us(day.elapsed(hour * 3600))) for hour in (15, 17))
    out = world_.outages.cell[(world_.outages.from_us == start) & (world_.outages.to_us == end)]
    alexa = city.number("alexa")
    assert set(np.flatnonzero(world_.network.indoor_zone == alexa)) < set(out)
    distance = np.hypot(world_.network.x_m - city.x_m[alexa], world_.network.y_m - city.y_m[alexa])
    assert set(np.flatnonzero(distance < 0.9 * world_.network.range_m)) <= set(out)


def test_indoor_cells_catch_their_share_inside_and_leak_outside() -> None:
    hard = drawn(Scenario(indoor_share=(0.5, 0.5), leak_share=0.2, leak_m=40.0))
    alexa = hard.city.number("alexa")
    luck = np.random.default_rng(1).random(4_000)
    for x, zone, expected in ((0.0, alexa, 0.5), (150.0, NOWHERE, 0.2), (400.0, NOWHERE, 0.0)):
        turn = np.radians(hard.city.geography.zones[alexa].rotation_deg)
        at_x = np.full(luck.size, hard.city.x_m[alexa] + x * np.cos(turn))
        at_y = np.full(luck.size, hard.city.y_m[alexa] + x * np.sin(turn))
        caught = hard.indoor.caught(hard.network, at_x, at_y, np.full(luck.size, zone), luck)
        assert (caught == alexa).mean() == pytest.approx(expected, abs=0.03)


def test_shadows_make_other_cells_serve() -> None:
    plain, shadowed = (drawn(Scenario(shadowing_db=db)).coverage.cells[:, 0] for db in (0.0, 8.0))
    assert 0.2 < (plain != shadowed).mean() < 0.8
