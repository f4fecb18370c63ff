"""The benchmark's yardstick: truth from presences, the floor, scores that tell good from bad."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from transforms import accuracy
from transforms.settings import Minutes, Sight, Visibility
from transforms.tables import MEASURES

DAY = datetime(2026, 11, 20, 23, tzinfo=UTC)
HOURS = [DAY + timedelta(hours=hour) for hour in range(24)]


def presence(*rows: tuple[int, str, str, str, str]) -> pd.DataFrame:
    """(person, zone, arrived, left, kind), times as local HH:MM of the day."""
    at = {
        name: pd.to_datetime([f"2026-11-21 {row[place]}" for row in rows])
        .tz_localize("Europe/Berlin")
        .tz_convert("UTC")
        for name, place in (("arrived_at", 2), ("left_at", 3))
    }
    return pd.DataFrame(
        {
            "person": [row[0] for row in rows],
            "zone_id": [row[1] for row in rows],
            **at,
            "kind": [row[4] for row in rows],
        }
    )


def truth(*rows: tuple[int, str, str, str, str]) -> dict[str, dict[object, float]]:
    homes = pd.DataFrame({"person": range(10), "area": ["home"] * 10})
    measures = accuracy.true_measures(presence(*rows), homes, hours=HOURS, timezone="Europe/Berlin")
    return {
        name: {
            key if len(key) > 1 else key[0]: people
            for *key_list, people in frame.itertuples(index=False, name=None)
            for key in [tuple(key_list)]
        }
        for name, frame in measures.items()
    }


def test_everybody_counts_once_by_hour_and_day_and_visits_count_each() -> None:
    found = truth(
        (1, "a", "10:30", "11:20", "visitor"),
        (1, "a", "15:00", "15:30", "visitor"),
        (2, "a", "10:50", "10:59", "visitor"),
        (3, "a", "10:00", "18:00", "staff"),
        (4, "a", "10:00", "10:05", "passer_by"),
        (1, "a", "10:10", "10:12", "neighbour"),
    )
    hours = {key[1].hour: people for key, people in found["zone_hours.visitors"].items()}
    assert hours == {9: 2, 10: 1, 14: 1}
    assert found["zone_days.visitors"] == {"a": 2}
    assert found["zone_days.visits"] == {"a": 3}
    assert found["zone_days.passers_by"] == {"a": 1}
    assert found["zone_catchment.visitors"] == {("a", "home"): 2}


def test_a_visitor_is_in_the_band_of_the_longest_visit() -> None:
    found = truth(
        (1, "a", "10:00", "10:20", "visitor"),
        (1, "a", "12:00", "13:00", "visitor"),
        (2, "a", "12:00", "12:30", "visitor"),
        (3, "a", "12:00", "12:15", "visitor"),
    )
    bands = {key[1]: people for key, people in found["zone_dwell.visitors"].items()}
    assert bands == {"10-30": 1, "30-60": 1, "60-120": 1}
    assert found["zone_days.dwell_median_min"] == {"a": 30}


def test_trips_lead_from_elsewhere_through_the_zones_and_back() -> None:
    found = truth(
        (1, "a", "10:00", "10:50", "visitor"),
        (1, "b", "11:10", "14:30", "visitor"),
        (2, "a", "12:00", "12:30", "visitor"),
    )
    assert found["zone_flows.trips"] == {
        ("elsewhere", "a", "morning"): 1,
        ("a", "b", "midday"): 1,
        ("b", "elsewhere", "afternoon"): 1,
        ("elsewhere", "a", "midday"): 1,
        ("a", "elsewhere", "midday"): 1,
    }


def release(
    *, people: float = 4_000.0, bias: float = 0.0, widths: float = 1.0, cells: int = 4_000
) -> pd.DataFrame:
    """An ideal release of equal cells, then made worse."""
    count = np.full(cells, people)
    sd = accuracy.ideal_sd(count, 10.7, people_per_device=3.0)
    value = count * (1 + bias) + np.random.default_rng(5).normal(0, sd)
    margin = widths * accuracy.Z_95 * sd
    return pd.DataFrame(
        {
            "scenario": "plain",
            "seed": 1,
            "measure": "zone_hours.visitors",
            "value": value,
            "low": value - margin,
            "high": value + margin,
            "truth": count,
            "ideal_sd": sd,
            "naive": count * 1.5,
        }
    )


def test_the_floor_is_noise_and_sampling() -> None:
    # 12,000 people, 1 in 3 takes part: each sample has 4,000 ± sqrt(12,000 × 1/3 × 2/3).
    chosen = np.random.default_rng(1).binomial(12_000, 1 / 3, 20_000)
    noise = np.random.default_rng(2).normal(0, 10.7, 20_000)
    simulated = np.std(3 * (chosen + noise))
    (sd,) = accuracy.ideal_sd(np.array([12_000.0]), 10.7, people_per_device=3.0)
    assert sd == pytest.approx(simulated, rel=0.02)


def test_an_ideal_release_lies_on_the_floor() -> None:
    score = accuracy.score(release())
    assert score.error == pytest.approx(score.floor, rel=0.05)
    assert score.coverage == pytest.approx(0.95, abs=0.015)
    assert score.width == pytest.approx(1)
    assert abs(score.bias) < 0.002
    assert score.naive_error == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("worse", "name", "value"),
    [
        ({"bias": 0.2}, "bias", 0.2),
        ({"bias": 0.2}, "coverage", 0.0),
        ({"widths": 2.0}, "width", 2.0),
        ({"widths": 0.5}, "coverage", 0.673),
        ({"widths": 2.0}, "narrow_coverage", 0.989),
        ({"bias": 0.1}, "narrow_coverage", 0.048),
    ],
)
def test_a_fault_shows_in_the_score_it_belongs_to(
    worse: dict[str, float], name: str, value: float
) -> None:
    assert getattr(accuracy.score(release(**worse)), name) == pytest.approx(value, abs=0.02)


def test_small_cells_and_hidden_ones_are_not_held_to_the_target() -> None:
    few = release(people=300.0, bias=1.0)
    hidden = release(cells=10).assign(value=np.nan)
    figures = accuracy.figures(pd.concat([release(), few, hidden]))
    assert figures["hour_median_error"] == pytest.approx(accuracy.score(release()).error)
    assert figures["floor_ratio"] == pytest.approx(1, rel=0.05)
    assert abs(figures["worst_bias"]) < 0.002
    assert np.isnan(figures["day_median_error"])


def test_swapped_pairs_cost_their_comparisons() -> None:
    flows = pd.DataFrame(
        {
            "scenario": "plain",
            "seed": 1,
            "measure": "zone_flows.trips",
            "origin_zone_id": ["a", "b", "c", "elsewhere"],
            "destination_zone_id": ["b", "c", "a", "a"],
            "truth": [300.0, 200.0, 100.0, 900.0],
            "value": [310.0, 90.0, 110.0, np.nan],
        }
    )
    assert accuracy.top_pairs_in_order(flows) == pytest.approx(2 / 3)
    assert accuracy.flow_total_error(flows) == pytest.approx(510 / 600 - 1)


def test_an_ideal_release_swaps_the_pairs_that_its_noise_can_not_tell_apart() -> None:
    pairs = pd.DataFrame(
        {
            "scenario": "plain",
            "seed": 1,
            "measure": "zone_flows.trips",
            "origin_zone_id": ["a", "b", "c"],
            "destination_zone_id": ["b", "c", "a"],
            "truth": [300.0, 200.0, 195.0],
            "ideal_sd": 5.0,
        }
    )
    # Two of three comparisons are certain; of the third, P(N(5, 5√2) > 0) = 0.76.
    assert accuracy.top_pairs_floor(pairs) == pytest.approx((2 + 0.76) / 3, abs=0.07)
    assert accuracy.top_pairs_floor(pairs.assign(ideal_sd=0.0)) == 1


def test_who_leaves_at_the_stroke_of_the_hour_is_not_there_in_the_next() -> None:
    found = truth((1, "a", "10:30", "12:00", "visitor"))
    assert [key[1].hour for key in found["zone_hours.visitors"]] == [9, 10]


def test_a_flow_is_told_indoors_when_both_its_ends_are() -> None:
    flows = pd.DataFrame(
        [("mall", "shop"), ("elsewhere", "mall"), ("mall", "kiosk"), ("kiosk", "elsewhere")],
        columns=["origin_zone_id", "destination_zone_id"],
    )
    told = accuracy.told(flows, indoors={"mall", "shop"})
    assert told.tolist() == ["indoors", "indoors", "outdoors", "outdoors"]
    zones = pd.DataFrame({"zone_id": ["mall", "kiosk"]})
    assert accuracy.told(zones, indoors={"mall"}).tolist() == ["indoors", "outdoors"]


@pytest.mark.parametrize(
    ("error", "spread"),
    [(0.0, 0.0), (0.05, pytest.approx(0.05, abs=0.01)), (0.3, pytest.approx(0.3, abs=0.03))],
)
def test_what_the_network_shows_is_found_from_numbers_and_truth(
    error: float, spread: float
) -> None:
    """Zones of which four fifths are counted, give or take; used was that half of them are."""
    of_zone = np.random.default_rng(5).normal(1, error, 2_000).clip(0.01)
    cells = pd.DataFrame(
        {
            "measure": "zone_days.visitors",
            "told": "indoors",
            "truth": 10_000 * of_zone,
            "value": 10_000 * 0.8 / 0.5,
            "threshold": 1.0,
            "ideal_sd": 1e-3,
        }
    )
    sights = {one.full_name: Sight(seen=0.5, spread=0.1) for one in MEASURES}
    used = Visibility(
        dwell_median_min=Minutes(indoors=1.0, outdoors=1.0), indoors=sights, outdoors=sights
    )
    [(seen, found)] = accuracy.visibility(cells, used)["indoors"].values()
    assert seen == pytest.approx(0.8, rel=0.03)
    assert found == spread
