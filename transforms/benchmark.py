"""What `make accuracy` last found of the method, kept for those who read its numbers.

The figures stand in `benchmark.json` beside this module, where the benchmark writes them and
nobody else does. They hold for the version of the method that they name, and for no other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

from transforms.package_files import source

if TYPE_CHECKING:
    import pandas as pd

FILE: Final = "benchmark.json"
VISITORS: Final = ("zone_hours.visitors", "zone_days.visitors")


@dataclass(frozen=True)
class Figures:
    """One measure over many cells of made worlds.

    Shares of the truth (0.05 is 5 %), minutes for the median dwell; None where there is nothing to
    tell. error: median absolute error; floor: that of an ideal release, which knows exactly which
    participants are where; naive: that of counting subscribers on the nearest cells; bias: of the
    sum; coverage: share of the 95 % intervals that hold the truth; width: of the intervals over
    that of the ideal ones; narrow_coverage: of intervals 1.3 times as wide as ideal ones, which
    tells why they are wider.
    """

    cells: int
    error: float | None
    floor: float | None
    naive: float | None
    bias: float | None
    coverage: float | None
    width: float | None
    narrow_coverage: float | None


@dataclass(frozen=True)
class Benchmark:
    """Figures of hours with 2,000 and days with 5,000 people or more, and of all other cells.

    by_measure: of zones told `indoors` and `outdoors`, each measure; by_scenario: visitors by hour
    and by day of all zones.
    """

    method_version: str
    subscribers: int
    market_share: float
    seeds: tuple[int, ...]
    by_measure: Mapping[str, Mapping[str, Figures]]
    by_scenario: Mapping[str, Mapping[str, Figures]]


_JSON: Final = TypeAdapter(Benchmark)


def of(
    cells: pd.DataFrame, *, method_version: str, subscribers: int, market_share: float
) -> Benchmark:
    """The figures of compared cells, as `transforms.accuracy` has them."""
    from transforms import accuracy  # numpy and pandas: not for those who only read the file

    def figures(rows: pd.DataFrame) -> Figures:
        one = accuracy.score(rows)
        values = {
            "error": one.error,
            "floor": one.floor,
            "naive": one.naive_error,
            "bias": one.bias,
            "coverage": one.coverage,
            "width": one.width,
            "narrow_coverage": one.narrow_coverage,
        }
        known = {k: None if math.isnan(v) else round(v, 4) for k, v in values.items()}
        return Figures(one.cells, **known)

    busy = accuracy.busy(cells)
    of_visitors = busy[busy["measure"].isin(VISITORS)]
    return Benchmark(
        method_version=method_version,
        subscribers=subscribers,
        market_share=market_share,
        seeds=tuple(sorted(int(seed) for seed in cells["seed"].unique())),
        by_measure={
            told: {
                measure: figures(rows)
                for measure in accuracy.KEYS
                if len(rows := of_told[of_told["measure"] == measure])
            }
            for told, of_told in busy.groupby("told")
        },
        by_scenario={
            scenario: {measure: figures(rows) for measure, rows in world.groupby("measure")}
            for scenario, world in of_visitors.groupby("scenario", sort=False)
        },
    )


def load() -> Benchmark:
    """What is kept."""
    return _JSON.validate_json(source(FILE))


def to_json(found: Benchmark) -> bytes:
    return _JSON.dump_json(found, indent=2) + b"\n"
