"""Figures of the benchmark: kept as they were found, and told in the README as they are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from transforms import benchmark
from transforms.benchmark import Benchmark, Figures

README = Path(__file__).parents[1] / "README.md"
SCENARIOS = {
    "normal-saturday": "normal Saturday",
    "rainy-weekday": "rainy weekday",
    "closed-centre": "a closed centre",
    "new-mast": "new mast next door",
    "district-gone": "half a district gone",
    "outage": "two hours of outage",
    "residential-block": "in a residential block",
    "across-the-street": "across one street",
}
MEASURES = {
    "zone_hours.visitors": "visitors by hour",
    "zone_days.visitors": "visitors by day",
    "zone_days.visits": "visits",
    "zone_hours.passers_by": "passers-by by hour",
    "zone_days.passers_by": "passers-by by day",
    "zone_days.dwell_median_min": "median stay",
    "zone_dwell.visitors": "dwell bands",
    "zone_flows.trips": "trips",
    "zone_catchment.visitors": "catchment",
}


def cells(**changes: object) -> pd.DataFrame:
    rows = pd.DataFrame(
        {
            "scenario": "outage",
            "seed": [3, 1],
            "told": "indoors",
            "measure": "zone_hours.visitors",
            "value": [4000.0, 2900.0],
            "low": [3800.0, 2800.0],
            "high": [4200.0, 2950.0],
            "truth": [4100.0, 3000.0],
            "ideal_sd": [50.0, 50.0],
            "naive": [8200.0, np.nan],
        }
    )
    return rows.assign(**changes)


def found(frame: pd.DataFrame) -> Benchmark:
    return benchmark.of(frame, method_version="9", subscribers=500, market_share=0.25)


def test_figures_are_found_of_busy_cells_by_measure_and_by_scenario() -> None:
    one = found(pd.concat([cells(), cells(truth=100.0, value=900.0)]))
    hours = one.by_measure["indoors"]["zone_hours.visitors"]
    assert (one.method_version, one.seeds, hours.cells) == ("9", (1, 3), 2)
    assert (hours.error, hours.bias) == (pytest.approx(0.0289, abs=1e-4), pytest.approx(-0.0282))
    assert (hours.coverage, hours.naive) == (0.5, 1.0)
    assert hours.narrow_coverage == 1.0, "both lie within 1.3 times 98 people"
    assert one.by_scenario == {"outage": {"zone_hours.visitors": hours}}


def test_what_was_never_published_has_no_figure() -> None:
    hours = found(cells(value=np.nan)).by_measure["indoors"]["zone_hours.visitors"]
    assert hours == Figures(0, None, None, None, None, None, None, None)


def test_what_is_kept_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = found(cells())
    texts = {benchmark.FILE: benchmark.to_json(one).decode()}
    monkeypatch.setattr(benchmark, "source", texts.__getitem__)
    assert benchmark.load() == one


def test_the_readme_tells_what_is_kept() -> None:
    """A failure shows the rows that belong into the README."""
    kept, text = benchmark.load(), README.read_text(encoding="utf-8")
    rows = [*scenario_rows(kept), *measure_rows(kept, "indoors"), *measure_rows(kept, "outdoors")]
    assert len(rows) == 8 + 9 + 9
    assert not [row for row in rows if row not in text]


def scenario_rows(kept: Benchmark) -> list[str]:
    return [
        f"| {SCENARIOS[scenario]} | "
        + " | ".join(
            part
            for measure in benchmark.VISITORS
            for one in [of[measure]]
            for part in (share(one.error), share(one.naive), signed(one.bias), whole(one.coverage))
        )
        + " |"
        for scenario, of in kept.by_scenario.items()
    ]


def measure_rows(kept: Benchmark, told: str) -> list[str]:
    rows = []
    for measure, one in kept.by_measure[told].items():
        is_time = measure.endswith("_min")
        error = f"{one.error:.1f} min" if is_time else share(one.error)
        bias = minus(f"{one.bias:+.1f} min") if is_time else signed(one.bias)
        width = "–" if one.width is None or is_time else f"{one.width:.1f}"
        rows.append(
            f"| {MEASURES[measure]} | {one.cells:,} | {error} | {share(one.floor)} | "
            f"{share(one.naive)} | {bias} | {whole(one.coverage)} | {width} | "
            f"{whole(one.narrow_coverage)} |"
        )
    return rows


def share(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if abs(value) < 0.0995 else f"{100 * value:.0f} %"


def whole(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def signed(value: float | None) -> str:
    return "–" if value is None else minus(f"{100 * value:+.1f} %")


def minus(text: str) -> str:
    return text.replace("-", "−")
