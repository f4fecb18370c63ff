"""Hold published numbers against the truth of made worlds: error, bias, coverage, and the floor.

    python -m jobs.measure_accuracy [--seeds 5] [--first-seed 1] [--subscribers 200000]
        [--scenario NAME …] [--out build/accuracy] [--quick] [--record]

Each world is a scenario of conf/scenarios.toml and a seed. It is made, a whole night runs over it,
and what that published is compared with what people really did. Beside it, for the same cells:
what the naive method says (each zone's indoor cells and nearest mast, distinct subscribers, divided
by the market share), and the floor that noise and sampling alone allow.

The last line is JSON: hour_median_error (zone-hours of 2,000 people and more), day_median_error
(zone-days of 5,000 and more), floor_ratio (the former over the floor), coverage_min and
coverage_max (of the 95 % intervals, by measure), worst_bias (by scenario and measure). A world that
was measured is not measured again; remove the folder of --out to begin anew. With --record the
figures are kept where the night report tells them from, as those of this version of the method.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from jobs import make_world
from jobs.publish_products import told_indoors
from jobs.run_night import run_night
from jobs.runtime import Night, exit_codes, load_settings, night_of, spark_session
from transforms import accuracy, benchmark
from transforms.budget import THRESHOLD_SIGMAS
from transforms.consent import TAKING_PART
from transforms.errors import Failed, Misused
from transforms.settings import Visibility
from transforms.synthetic_scenarios import Scenario
from transforms.tables import (
    METHOD_VERSION,
    NIGHTLY_PRODUCTS,
    NOISY_CELLS,
    OUTSIDE_AREA,
    SUBSCRIBERS_SEEN,
    UNKNOWN_AREA,
)

CONF = "conf/demo.toml"
QUICK_SUBSCRIBERS = 60_000
CENTRES = 26
RECORD = Path(benchmark.__file__).with_name(benchmark.FILE)


@dataclass(frozen=True)
class Plan:
    """Which worlds are measured, and where they lie."""

    scenarios: tuple[Scenario, ...]
    seeds: tuple[int, ...]
    subscribers: int
    out: Path
    conf: str
    record: bool

    def folder(self, scenario: Scenario, seed: int) -> Path:
        return self.out / f"{scenario.name}-{self.subscribers}-{seed}"


def main(argv: Sequence[str] | None = None) -> int:
    with exit_codes() as ending:
        plan = _plan(argv)
        settings = load_settings(plan.conf)
        spark = spark_session(settings, conf=plan.conf, name="accuracy")
        cells = pd.concat(
            [
                _measured(spark, plan, scenario, seed)
                for scenario in plan.scenarios
                for seed in plan.seeds
            ],
            ignore_index=True,
        )
        _show(Console(width=140), cells, settings.visibility)
        if plan.record:
            _record(plan, cells)
        figures = accuracy.figures(cells)
        print(json.dumps({name: _rounded(value) for name, value in figures.items()}))
    return ending.code


def _plan(argv: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(prog="measure_accuracy", description=(__doc__ or "")[:90])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1, help="other worlds, to calibrate on")
    parser.add_argument("--subscribers", type=int, default=200_000)
    parser.add_argument("--scenario", action="append", help="only this one; may be repeated")
    parser.add_argument("--scenarios", type=Path, default=make_world.SCENARIOS)
    parser.add_argument("--out", type=Path, default=Path("build/accuracy"))
    parser.add_argument("--conf", default=CONF)
    parser.add_argument("--quick", action="store_true", help="one seed and smaller worlds")
    parser.add_argument("--record", action="store_true", help="keep the figures for the report")
    options = parser.parse_args(argv)
    known = make_world.scenarios_of(options.scenarios)
    if options.record and (options.quick or options.scenario):
        raise Misused(
            "--record",
            found="some of the worlds only",
            expected="no --quick and no --scenario: readers take the figures for all of it",
            consequence="nothing was measured",
        )
    chosen = options.scenario or list(known)
    if unknown := sorted(set(chosen) - set(known)):
        raise Misused(
            "--scenario",
            found=", ".join(unknown),
            expected=f"of {', '.join(known)}",
            consequence="nothing was measured",
        )
    return Plan(
        scenarios=tuple(known[name] for name in chosen),
        seeds=tuple(
            range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds))
        ),
        subscribers=QUICK_SUBSCRIBERS if options.quick else options.subscribers,
        out=options.out,
        conf=options.conf,
        record=options.record,
    )


# ------------------------------------------------------------------------------------- one world


def _measured(spark: SparkSession, plan: Plan, scenario: Scenario, seed: int) -> pd.DataFrame:
    """The compared cells of one world; made, run and compared unless that was done before."""
    folder = plan.folder(scenario, seed)
    _make(folder, plan, scenario, seed)
    if scenario.day is None:
        raise Misused(
            f"scenario {scenario.name}",
            found="no day",
            expected="the local day it plays on",
            consequence="nothing was measured",
        )
    night = _night(spark, plan, folder, scenario.day)
    run_night(night)
    facts = _facts(folder)
    truth = accuracy.true_measures(
        pq.read_table(folder / "truth/zone_presence.parquet").to_pandas(),
        pq.read_table(folder / "truth/homes.parquet").to_pandas(),
        hours=night.day.hours,
        timezone=night.settings.timezone,
    )
    weight = facts["population"] / _participants(night)
    naive = _naive(folder, night, share=facts["market_share"])
    sigmas = _sigmas(night)
    frames = [
        _compared(values, truth[measure], naive.get(measure)).assign(
            measure=measure,
            threshold=max(night.settings.privacy.min_devices, THRESHOLD_SIGMAS * sigmas[measure])
            * weight
            if measure in sigmas
            else np.nan,
            ideal_sd=lambda rows, measure=measure: accuracy.ideal_sd(
                rows["truth"].to_numpy(float),
                sigmas.get(measure, 0.0),
                people_per_device=weight,
            ),
        )
        for measure, values in _published(night).items()
    ]
    cells = pd.concat(frames, ignore_index=True).assign(
        scenario=scenario.name,
        seed=seed,
        told=lambda rows: accuracy.told(rows, indoors=told_indoors(night)),
    )
    cells.to_parquet(folder / "cells.parquet")
    return cells


def _make(folder: Path, plan: Plan, scenario: Scenario, seed: int) -> None:
    arguments = {
        "--out": folder,
        "--subscribers": plan.subscribers,
        "--centres": CENTRES,
        "--seed": seed,
        "--scenario": scenario.name,
    }
    code = make_world.main([str(part) for pair in arguments.items() for part in pair])
    if code:
        raise Failed(
            f"world {folder}",
            found=f"make_world ending with {code}",
            expected="a world",
            consequence="nothing was measured",
        )


def _night(spark: SparkSession, plan: Plan, folder: Path, day: date) -> Night:
    paths = {part: str(folder / part) for part in ("landing", "restricted", "published")}
    settings = load_settings(plan.conf, {**paths, "reports": str(folder / "reports")})
    return night_of(settings, day, spark)


def _record(plan: Plan, cells: pd.DataFrame) -> None:
    first = plan.folder(plan.scenarios[0], plan.seeds[0])
    found = benchmark.of(
        cells,
        method_version=METHOD_VERSION,
        subscribers=plan.subscribers,
        market_share=_facts(first)["market_share"],
    )
    RECORD.write_bytes(benchmark.to_json(found))


def _facts(folder: Path) -> dict[str, Any]:
    world = json.loads((folder / make_world.MARKER).read_text())
    population = round(world["subscribers"] / world["market_share"])
    return {"population": population, "market_share": world["market_share"]}


def _participants(night: Night) -> int:
    taking_part = F.col("outcome") == F.lit(TAKING_PART)
    row = night.of_day(SUBSCRIBERS_SEEN).where(taking_part).agg(F.sum("subscribers")).first()
    return int(row[0]) if row else 0


def _sigmas(night: Night) -> dict[str, float]:
    """σ by measure, in devices; the noise that this release carries."""
    rows = night.store.read(NOISY_CELLS).groupBy("product", "measure").agg(F.max("sigma")).collect()
    return {f"{row['product']}.{row['measure']}": row[2] for row in rows}


def _published(night: Night) -> dict[str, pd.DataFrame]:
    """By measure: the key columns, status, value, low, high."""
    found = {}
    for product in NIGHTLY_PRODUCTS:
        rows: Any = night.of_day(product.table).toPandas()
        if "hour_start" in rows:
            rows["hour_start"] = pd.to_datetime(rows["hour_start"], utc=True).astype(
                "datetime64[us, UTC]"
            )
        for measure, key in accuracy.KEYS.items():
            name, _, column = measure.partition(".")
            if name == product.name:
                found[measure] = rows[[*key, "status"]].assign(
                    value=rows[column].astype(float),
                    low=rows[f"{column}_low"].astype(float),
                    high=rows[f"{column}_high"].astype(float),
                )
    return found


def _compared(
    values: pd.DataFrame, truth: pd.DataFrame, naive: pd.DataFrame | None
) -> pd.DataFrame:
    """Published cells with truth (0 where nobody was) and what the naive method says.

    Everybody in a made world has a home, so `unknown` and `outside` have no truth.
    """
    if "home_area" in values:
        values = values[~values["home_area"].isin((UNKNOWN_AREA, OUTSIDE_AREA))]
    key = [name for name in values.columns if name in truth.columns]
    for frame in (truth, naive):
        if frame is not None and "hour_start" in frame:
            frame["hour_start"] = frame["hour_start"].astype("datetime64[us, UTC]")
    rows = values.merge(truth.rename(columns={"people": "truth"}), on=key, how="left")
    rows["truth"] = rows["truth"].fillna(0.0)
    if naive is None:
        return rows.assign(naive=np.nan)
    rows = rows.merge(naive.rename(columns={"people": "naive"}), on=key, how="left")
    return rows.assign(naive=rows["naive"].fillna(0.0))


# -------------------------------------------------------------------------------- the naive method


def _naive(folder: Path, night: Night, *, share: float) -> dict[str, pd.DataFrame]:
    """Distinct subscribers on each zone's indoor cells and nearest mast, over the market share."""
    near = _nearest_cells(folder)
    days = sorted((folder / "landing/events").glob("date=*"))
    rows = ds.dataset([str(file) for day in days for file in sorted(day.glob("*.parquet"))])
    start, end = (pd.Timestamp(at) for at in (night.day.start, night.day.end))
    wanted = pc.field("cell_id").isin(list(near["cell_id"].unique()))
    events = rows.to_table(
        columns=["subscriber_id", "event_time", "cell_id"], filter=wanted
    ).to_pandas()
    events = events[(events["event_time"] >= start) & (events["event_time"] < end)]
    seen = events.merge(near, on="cell_id")
    seen["hour_start"] = seen["event_time"].dt.floor("h")
    return {
        f"{product}.visitors": (
            seen.groupby(key)["subscriber_id"].nunique().rename("people") / share
        ).reset_index()
        for product, key in (
            ("zone_hours", ["zone_id", "hour_start"]),
            ("zone_days", ["zone_id"]),
        )
    }


def _nearest_cells(folder: Path) -> pd.DataFrame:
    """cell_id, zone_id: indoor cells with their zone, and the cells of the mast nearest to it."""
    cells = pq.read_table(folder / "landing/cells").to_pandas()
    outdoor = cells[cells["indoor_zone_id"].isna() & cells["latitude"].abs().le(90)]
    pairs = [
        cells.loc[cells["indoor_zone_id"].notna(), ["cell_id", "indoor_zone_id"]].set_axis(
            ["cell_id", "zone_id"], axis=1
        )
    ]
    zones = [
        (
            feature["properties"]["zone_id"],
            np.mean(feature["geometry"]["coordinates"][0][:4], axis=0),
        )
        for path in sorted((folder / "landing/zones").glob("*.geojson"))
        for feature in json.loads(path.read_text())["features"]
    ]
    for zone_id, (longitude, latitude) in zones:
        east = (outdoor["longitude"] - longitude) * math.cos(math.radians(latitude))
        distance = np.hypot(east, outdoor["latitude"] - latitude)
        mast = outdoor.loc[distance <= distance.min() + 1e-5, ["cell_id"]]
        pairs.append(mast.assign(zone_id=zone_id))
    return pd.concat(pairs, ignore_index=True).drop_duplicates()


# ---------------------------------------------------------------------------------------- showing


def _show(console: Console, cells: pd.DataFrame, visibility: Visibility) -> None:
    console.print(
        _table(
            "By measure (days of 5,000 and hours of 2,000 people and more)",
            [
                (measure, accuracy.score(rows))
                for measure, rows in accuracy.busy(cells).groupby("measure", sort=False)
            ],
        )
    )
    console.print(
        _table(
            "Visitors by scenario, the same cells",
            [
                (f"{scenario}, {measure.split('.')[0]}", accuracy.score(rows))
                for (scenario, measure), rows in accuracy.busy(cells).groupby(
                    ["scenario", "measure"], sort=False
                )
                if measure in ("zone_hours.visitors", "zone_days.visitors")
            ],
        )
    )
    console.print(
        _table(
            "All published cells",
            [
                (measure, accuracy.score(rows))
                for measure, rows in cells.groupby("measure", sort=False)
            ],
        )
    )
    for what, value in (
        ("dwell bands, points off at most", accuracy.band_points(cells)),
        ("all trips, relative error", accuracy.flow_total_error(cells)),
        ("ten largest pairs in the right order", accuracy.top_pairs_in_order(cells)),
        ("the same of an ideal release", accuracy.top_pairs_floor(cells)),
        ("catchment shares, points off (95 %)", accuracy.catchment_points(cells)),
    ):
        console.print(f"{what}: {value:.3g}", markup=False)
    console.print("visibility, as these worlds have it (conf/base.toml):")
    for told, sights in accuracy.visibility(cells, visibility).items():
        console.print(f"[visibility.{told}]", markup=False)
        for measure, (seen, spread) in sights.items():
            console.print(f'"{measure}" = {{ seen = {seen:.3f}, spread = {spread:.3f} }}')


def _table(title: str, scores: list[tuple[str, accuracy.Score]]) -> Table:
    table = Table(title=title)
    table.add_column("")
    columns = ("cells", "error", "floor", "naive error", "bias", "coverage", "width / ideal")
    for name in (*columns, f"coverage at {accuracy.NARROW}"):
        table.add_column(name, justify="right")
    for name, one in scores:
        in_minutes = name.endswith("_min")
        form = "{:.1f} min" if in_minutes else "{:.1%}"
        shares = [form.format(one.error), f"{one.floor:.1%}", f"{one.naive_error:.1%}"]
        table.add_row(
            name,
            f"{one.cells:,}",
            *shares,
            form.format(one.bias),
            f"{one.coverage:.1%}",
            f"{one.width:.2f}",
            f"{one.narrow_coverage:.1%}",
        )
    return table


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


if __name__ == "__main__":
    sys.exit(main())
