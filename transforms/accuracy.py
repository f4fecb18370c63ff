"""How right published numbers are: truth, an ideal release, the naive method, and their errors.

Everything here is about made worlds, of which the truth is known. An *ideal* release sees exactly
which participants are where, bounds nobody, and differs from the truth by noise and by who happens
to be a participant alone: its error is the floor, its interval the narrowest honest one.

Frames of truth and of estimates have the measure's key columns and `people`; frames of compared
cells have scenario, seed, measure, the key columns, `told` (by indoor cells or from outdoors),
`value`, `low`, `high`, `threshold`, `truth`, `ideal_sd` and `naive` (all in people; minutes for the
median dwell; NaN where there is none).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from transforms.settings import Visibility
from transforms.tables import DAY_PARTS, DWELL_BANDS, ELSEWHERE, MEASURES

Floats = NDArray[np.float64]

KEYS: Mapping[str, tuple[str, ...]] = {one.full_name: one.key for one in MEASURES} | {
    "zone_days.dwell_median_min": ("zone_id",)
}
Z_95 = 1.959963984540054
BUSY_HOUR = 2_000
BUSY_DAY = 5_000
TOP_PAIRS = 10
NARROW = 1.3
"""The width, in ideal ones, that intervals should not exceed."""
_VISITOR = "visitor"
_PASSING = ("passer_by", "neighbour")
_DRAWS = 400
_RELEASES = 40
_ZONES = ("zone_id", "origin_zone_id", "destination_zone_id")


# ----------------------------------------------------------------------------------------- truth


def true_measures(
    presence: pd.DataFrame, homes: pd.DataFrame, *, hours: Sequence[datetime], timezone: str
) -> dict[str, pd.DataFrame]:
    """Every measure of one local day as the table of people's presences has it.

    presence: person, zone_id, arrived_at, left_at (UTC), kind; homes: person, area.
    -> by measure: the key columns and `people`; `zone_days.dwell_median_min` in minutes.
    """
    visits = presence[presence["kind"] == _VISITOR].merge(homes, on="person", how="left")
    passing = presence[presence["kind"].isin(_PASSING)]
    longest = visits.assign(minutes=_minutes(visits)).groupby(["person", "zone_id"])["minutes"]
    stays = longest.max().reset_index()
    bands = stays.assign(dwell_band=_bands(stays["minutes"]))
    return {
        "zone_hours.visitors": _people(_by_hour(visits, hours), "zone_hours.visitors"),
        "zone_hours.passers_by": _people(
            _without(_by_hour(passing, hours), _by_hour(visits, hours), "hour_start"),
            "zone_hours.passers_by",
        ),
        "zone_days.visitors": _people(visits, "zone_days.visitors"),
        "zone_days.passers_by": _people(_without(passing, visits), "zone_days.passers_by"),
        "zone_days.visits": visits.groupby("zone_id").size().rename("people").reset_index(),
        "zone_days.dwell_median_min": stays.groupby("zone_id")["minutes"]
        .median()
        .rename("people")
        .reset_index(),
        "zone_dwell.visitors": _people(bands, "zone_dwell.visitors"),
        "zone_flows.trips": _people(_trips(visits, timezone), "zone_flows.trips"),
        "zone_catchment.visitors": _people(
            visits.rename(columns={"area": "home_area"}), "zone_catchment.visitors"
        ),
    }


def _people(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Distinct persons by the measure's key."""
    key = list(KEYS[measure])
    once = rows[["person", *key]].drop_duplicates()
    return once.groupby(key).size().rename("people").reset_index()


def _by_hour(rows: pd.DataFrame, hours: Sequence[datetime]) -> pd.DataFrame:
    """A row per person, zone and hour that a presence overlaps, with `hour_start`.

    Who leaves at the stroke of the hour is not there in the next: whole centres close then.
    """
    parts = []
    for start in map(pd.Timestamp, hours):
        there = (rows["arrived_at"] < start + pd.Timedelta(hours=1)) & (rows["left_at"] > start)
        parts.append(rows.loc[there, ["person", "zone_id"]].assign(hour_start=start))
    return pd.concat(parts, ignore_index=True).drop_duplicates()


def _without(rows: pd.DataFrame, others: pd.DataFrame, *more: str) -> pd.DataFrame:
    """Rows whose person, zone (and hour) none of the others has."""
    key = ["person", "zone_id", *more]
    there = pd.MultiIndex.from_frame(rows[key]).isin(pd.MultiIndex.from_frame(others[key]))
    return rows[~there]


def _minutes(visits: pd.DataFrame) -> pd.Series:
    return (visits["left_at"] - visits["arrived_at"]).dt.total_seconds() / 60


def _bands(minutes: pd.Series) -> pd.Series:
    lowers = [float(label.split("-")[0]) for label in DWELL_BANDS]
    labels = np.array([None, *DWELL_BANDS], dtype=object)
    return pd.Series(labels[np.searchsorted(lowers, minutes, side="right")], index=minutes.index)


def _trips(visits: pd.DataFrame, timezone: str) -> pd.DataFrame:
    """Trips between a person's visits in order, and from and to elsewhere at the ends."""
    rows = visits.sort_values(["person", "arrived_at", "zone_id"])
    before = rows.groupby("person")[["zone_id", "left_at"]].shift()
    is_first, is_last = ~rows["person"].duplicated(), ~rows["person"].duplicated(keep="last")
    moved = (before["zone_id"] != rows["zone_id"]) & (rows["arrived_at"] > before["left_at"])
    arriving = pd.DataFrame(
        {
            "person": rows["person"],
            "origin_zone_id": before["zone_id"].where(~is_first, ELSEWHERE),
            "destination_zone_id": rows["zone_id"],
            "at": rows["arrived_at"],
        }
    )[is_first | moved]
    leaving = pd.DataFrame(
        {
            "person": rows["person"],
            "origin_zone_id": rows["zone_id"],
            "destination_zone_id": ELSEWHERE,
            "at": rows["left_at"],
        }
    )[is_last]
    made = pd.concat([arriving, leaving], ignore_index=True)
    starts = sorted((hour, label) for label, hour in DAY_PARTS.items())
    labels = np.array([starts[-1][1], *(label for _, label in starts)], dtype=object)
    hour = made["at"].dt.tz_convert(timezone).dt.hour
    return made.assign(
        day_part=labels[np.searchsorted([start for start, _ in starts], hour, side="right")]
    )


# ------------------------------------------------------------------------------------- the floor


def ideal_sd(people: Floats, sigma: float, *, people_per_device: float) -> Floats:
    """Standard deviation (people) of a release that knows exactly who of the participants is where.

    Noise w²σ² and binomial sampling w(w − 1)n for n = people / w participants of weight w.
    """
    weight = people_per_device
    return np.sqrt((weight * sigma) ** 2 + (weight - 1) * people)


def floor_error(cells: pd.DataFrame, *, seed: int = 0) -> float:
    """Median relative error that an ideal release of the same cells would have."""
    normal = np.random.default_rng(seed).standard_normal((_DRAWS, len(cells)))
    relative = (cells["ideal_sd"] / cells["truth"]).to_numpy()
    return float(np.median(np.abs(normal * relative)))


# ---------------------------------------------------------------------------------------- scores


@dataclass(frozen=True)
class Score:
    """One measure over many cells. Relative figures but for the median dwell, in minutes.

    error: median absolute error; bias: of the sum of all cells; coverage: share of intervals that
    hold the truth; width: mean width of the intervals over that of the ideal ones; narrow_coverage:
    coverage of intervals `NARROW` times as wide as ideal ones, round the same numbers.
    """

    cells: int
    error: float
    bias: float
    coverage: float
    width: float
    narrow_coverage: float
    naive_error: float
    floor: float


def score(cells: pd.DataFrame) -> Score:
    """The score of cells that are published. NaN where nothing is known."""
    shown = cells[cells["value"].notna()]
    if shown.empty:
        return Score(0, *[float("nan")] * 7)
    truth, is_time = shown["truth"], shown["measure"].str.endswith("_min").all()
    unit = pd.Series(1.0, index=shown.index) if is_time else truth.where(truth > 0)
    covered = shown["low"].le(truth) & shown["high"].ge(truth)
    near = (shown["value"] - truth).abs() <= NARROW * Z_95 * shown["ideal_sd"]
    total = len(shown) if is_time else truth.sum()
    return Score(
        cells=len(shown),
        error=float(((shown["value"] - truth).abs() / unit).median()),
        bias=float((shown["value"] - truth).sum() / total) if total else float("nan"),
        coverage=float(covered.mean()),
        width=float((shown["high"] - shown["low"]).mean() / (2 * Z_95 * shown["ideal_sd"].mean())),
        narrow_coverage=float("nan") if is_time else float(near.mean()),
        naive_error=float(((shown["naive"] - truth).abs() / unit).median()),
        floor=floor_error(shown[truth > 0]) if not is_time else float("nan"),
    )


def busy(cells: pd.DataFrame) -> pd.DataFrame:
    """Hours and days large enough to be held to a target, and everything else as it is."""
    least = cells["measure"].map({"zone_hours.visitors": BUSY_HOUR, "zone_days.visitors": BUSY_DAY})
    return cells[~(cells["truth"] < least)]


def band_points(cells: pd.DataFrame) -> float:
    """Largest difference, in points, of a dwell band's share of all visitors of a zone-day, over
    zones whose five bands are published, averaged over these zones by band.
    """
    bands = cells[cells["measure"] == "zone_dwell.visitors"]
    by_zone = ["scenario", "seed", "zone_id"]
    whole = bands.groupby(by_zone)["value"].transform(lambda value: value.notna().all())
    bands = bands[whole]
    of_zone = bands.groupby(by_zone)[["value", "truth"]].transform("sum")
    points = 100 * (bands["value"] / of_zone["value"] - bands["truth"] / of_zone["truth"])
    return float(points.groupby(bands["dwell_band"]).mean().abs().max())


def flow_total_error(cells: pd.DataFrame) -> float:
    """Relative error of all published trips together."""
    trips = cells[(cells["measure"] == "zone_flows.trips") & cells["value"].notna()]
    return float(trips["value"].sum() / trips["truth"].sum() - 1) if len(trips) else float("nan")


def top_pairs_in_order(cells: pd.DataFrame) -> float:
    """Share of comparisons among each world's ten largest pairs of zones that come out right."""
    trips = cells[cells["measure"] == "zone_flows.trips"]
    ends = ["origin_zone_id", "destination_zone_id"]
    between = trips[(trips[ends] != ELSEWHERE).all(axis=1)]
    right = compared = 0
    for _, world in between.groupby(["scenario", "seed"]):
        pairs = world.groupby(ends)[["truth", "value"]].sum().nlargest(TOP_PAIRS, "truth")
        for (_, larger), (_, smaller) in combinations(pairs.iterrows(), 2):
            compared += 1
            right += bool(larger["value"] > smaller["value"])
    return right / compared if compared else float("nan")


def top_pairs_floor(cells: pd.DataFrame, *, seed: int = 0) -> float:
    """What `top_pairs_in_order` is of an ideal release of the same cells, on average."""
    trips = cells[cells["measure"] == "zone_flows.trips"]
    normal = np.random.default_rng(seed).standard_normal((_RELEASES, len(trips)))
    values = trips["truth"].to_numpy() + normal * trips["ideal_sd"].to_numpy()
    return float(np.mean([top_pairs_in_order(trips.assign(value=one)) for one in values]))


def catchment_points(cells: pd.DataFrame) -> float:
    """95 % quantile of the difference, in points, of an area's share of a zone's visitors, over
    the areas published for that zone.
    """
    rows = cells[(cells["measure"] == "zone_catchment.visitors") & cells["value"].notna()]
    of_zone = rows.groupby(["scenario", "seed", "zone_id"])[["value", "truth"]].transform("sum")
    points = 100 * (rows["value"] / of_zone["value"] - rows["truth"] / of_zone["truth"])
    return float(points.abs().quantile(0.95)) if len(rows) else float("nan")


# ------------------------------------------------------------------------------------ visibility


def told(cells: pd.DataFrame, *, indoors: Collection[str]) -> pd.Series:
    """How the zone of each cell, or both ends of a flow, is told: `indoors` or `outdoors`."""
    known = {*indoors, ELSEWHERE}
    ends = [end for end in _ZONES if end in cells]
    within = (cells[ends].isin(known) | cells[ends].isna()).all(axis=1)
    return pd.Series(np.where(within, "indoors", "outdoors"), index=cells.index)


def visibility(cells: pd.DataFrame, used: Visibility) -> dict[str, dict[str, tuple[float, float]]]:
    """What the settings would have to say for these cells, by how zones are told and measure.

    used: what the published numbers rest on. -> seen, spread. `seen` makes the sum of all
    published cells right; `spread` is the least with which 95 % of the intervals around the
    numbers corrected by it hold the truth.
    """
    shown = cells[cells["value"].notna() & ~cells["measure"].str.endswith("_min")]
    found: dict[str, dict[str, tuple[float, float]]] = {"indoors": {}, "outdoors": {}}
    for (how, measure), rows in shown.groupby(["told", "measure"]):
        ratio = rows["value"].sum() / rows["truth"].sum()
        seen = getattr(used, how)[measure].seen * ratio
        found[how][measure] = (float(seen), _spread(rows, ratio=ratio))
    return found


def _spread(rows: pd.DataFrame, *, ratio: float) -> float:
    """The least spread, in steps of 0.005, with which the intervals hold 95 % of the truth."""
    value, truth = rows["value"] / ratio, rows["truth"]
    steps = np.arange(0, 2, 0.005)
    for spread in steps:
        deviation = np.hypot(rows["ideal_sd"], spread * value)
        beyond = ((value - rows["threshold"] / ratio) / deviation).clip(lower=1e-9)
        low = value - np.hypot(Z_95, math.log(40) / beyond) * deviation
        covered = (truth >= low.clip(lower=0)) & (truth <= value + Z_95 * deviation)
        if covered.mean() >= 0.95:
            return float(spread)
    return float(steps[-1])


def figures(cells: pd.DataFrame) -> dict[str, float]:
    """What the benchmark ends with; NaN where no cell is large enough."""
    target = busy(cells)
    hours = score(target[target["measure"] == "zone_hours.visitors"])
    days = score(target[target["measure"] == "zone_days.visitors"])
    by_product = [score(rows) for _, rows in cells.groupby("measure")]
    coverages = [one.coverage for one in by_product if one.cells]
    measured = [
        score(rows).bias
        for (_, measure), rows in target.groupby(["scenario", "measure"])
        if not measure.endswith("_min")
    ]
    biases = [bias for bias in measured if not math.isnan(bias)]
    return {
        "hour_median_error": hours.error,
        "day_median_error": days.error,
        "floor_ratio": hours.error / hours.floor,
        "coverage_min": min(coverages, default=float("nan")),
        "coverage_max": max(coverages, default=float("nan")),
        "worst_bias": max(biases, key=abs, default=float("nan")),
    }
