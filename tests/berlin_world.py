"""A simulated Saturday in the real Berlin: its shopping centres, its cells, its residents.

Centres are OpenStreetMap's, cells one operator's of OpenCelliD, residents the census's. What
nobody may publish is drawn: where subscribers live and go, what their phones do, who decided what.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import h3.api.numpy_int as h3
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.shared_data import shared_data
from tests.small_world import small_session

DAY = date(2025, 9, 27)
MIDNIGHT = datetime(2025, 9, 26, 22, tzinfo=UTC)  # in Berlin
TELEKOM = 1  # the operator with the fewest cells: a few centres are out of their sight
FAVOURITE = "way-494737961"  # Mall of Berlin
SUBSCRIBERS = 3_000
SEED = 20250927

DAY_MIN = 24 * 60
QUIET_EVENTS = 12  # at home, in a day
VISITOR_SHARE = 0.75
FAVOURITE_SHARE = 0.45  # of the visitors
SECOND_VISIT_SHARE = 0.3
OPENS_MIN, CLOSES_MIN = 10 * 60, 20 * 60
SERVING_CELLS = 3  # a phone changes among the best of a place
METRES_PER_DEGREE = 111_195.0

TIME = pa.timestamp("us", tz="UTC")
EVENTS = pa.schema(
    [
        ("subscriber_id", pa.string()),
        ("event_time", TIME),
        ("cell_id", pa.string()),
        ("event_type", pa.string()),
        ("brand", pa.string()),
    ]
)
DECISIONS = pa.schema(
    [
        ("decision_id", pa.string()),
        ("subscriber_id", pa.string()),
        ("action", pa.string()),
        ("verified", pa.bool_()),
        ("decided_at", TIME),
        ("received_at", TIME),
        ("channel", pa.string()),
    ]
)


@dataclass(frozen=True)
class Berlin:
    """A landing folder, the settings to read it, and what was read from the shared data."""

    landing: Path
    root: Path
    centres: list[dict[str, Any]]
    census: pd.DataFrame

    @property
    def conf(self) -> Path:
        return self.root / "berlin.toml"

    @property
    def argv(self) -> list[str]:
        given = {
            "conf": self.conf,
            "day": DAY,
            "landing": self.landing,
            "restricted": self.root / "restricted",
            "published": self.root / "published",
        }
        return [part for name, value in given.items() for part in (f"--{name}", str(value))]


def berlin(root: Path) -> Berlin:
    """Writes the whole landing folder below `root`."""
    source, landing = shared_data("berlin"), root / "landing"
    rng = np.random.default_rng(SEED)
    centres, cells = _centres(source), _cells(source)
    census = pd.read_parquet(source / "population_1km_berlin.parquet")
    people = _people(census, rng)
    events = _events(people, centres, cells, rng)
    _write(landing / "cells", pa.Table.from_pandas(cells, preserve_index=False))
    _write(landing / "residents", pa.Table.from_pandas(_residents(census), preserve_index=False))
    _write(landing / "subscribers", _subscribers(people))
    _write(landing / "decisions", _decisions(people, rng))
    for arrived, rows in events.groupby("arrived"):
        table = pa.Table.from_pandas(rows.drop(columns="arrived"), EVENTS, preserve_index=False)
        _write(landing / "events" / f"date={arrived}", table)
    (landing / "zones").mkdir()
    zones = json.dumps({"type": "FeatureCollection", "features": centres}, ensure_ascii=False)
    (landing / "zones" / "berlin.geojson").write_text(zones, encoding="utf-8")
    world = Berlin(landing, root, centres, census)
    world.conf.write_text(
        f'[paths]\nreports = "{root}/reports"\n\n{small_session()}', encoding="utf-8"
    )
    return world


def _write(folder: Path, table: pa.Table) -> None:
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "rows.parquet")


# --- real -------------------------------------------------------------------------------------


def _centres(source: Path) -> list[dict[str, Any]]:
    """OpenStreetMap's centres, each with the outline of the disc drawn round it."""
    discs = {
        _osm_id(disc): disc["geometry"]
        for disc in _features(source / "malls_berlin_proxy_discs.geojson")
    }
    return [
        {
            "type": "Feature",
            "properties": {
                "zone_id": _osm_id(point),
                "name": point["properties"]["name"],
                "centre_id": _osm_id(point),
                "centre_name": point["properties"]["name"],
                "kind": "mall",
                "opening_hours": point["properties"]["opening_hours"],
            },
            "geometry": discs[_osm_id(point)],
        }
        for point in _features(source / "malls_berlin_points.geojson")
    ]


def _features(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["features"]
    return found


def _osm_id(feature: dict[str, Any]) -> str:
    return f"{feature['properties']['osm_type']}-{feature['properties']['osm_id']}"


def _cells(source: Path) -> pd.DataFrame:
    """One operator's cells; none has an azimuth, so all send all round."""
    raw = pd.read_csv(source / "cells_opencellid.csv.gz")
    raw = raw[raw["net"] == TELEKOM]
    return pd.DataFrame(
        {
            "cell_id": [f"262-{r.net:02}-{r.area}-{r.cell}" for r in raw.itertuples()],
            "latitude": raw["lat"],
            "longitude": raw["lon"],
            "technology": raw["radio"],
            "azimuth_deg": np.nan,
            "beamwidth_deg": np.nan,
            "range_m": raw["range"].astype(float),
            "indoor_zone_id": pd.Series(index=raw.index, dtype="str"),
            "valid_from": pd.to_datetime(raw["created_utc"]).dt.date,
            "valid_to": pd.to_datetime(pd.Series(index=raw.index, dtype="str")).dt.date,
        }
    )


def areas_of(latitudes: Iterable[float], longitudes: Iterable[float]) -> list[str]:
    """H3 cells of resolution 7."""
    positions = zip(latitudes, longitudes, strict=True)
    return [
        h3.h3_to_string(h3.geo_to_h3(latitude, longitude, 7)) for latitude, longitude in positions
    ]


def _residents(census: pd.DataFrame) -> pd.DataFrame:
    area = areas_of(census["lat"], census["lon"])
    people = census["population"].astype(float).groupby(area).sum()
    return people.rename_axis("area").reset_index(name="residents")


# --- drawn ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """When and where phones talk to the network: person, minute of the day, place."""

    person: NDArray[np.int64]
    minute: NDArray[np.float64]
    place: NDArray[np.int64]

    def only(self, these: NDArray[np.bool_]) -> Moments:
        return Moments(*(getattr(self, field.name)[these] for field in fields(self)))

    def and_also(self, other: Moments) -> Moments:
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Moments(*(np.concatenate(pair) for pair in pairs))


def _people(census: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Homes as dense as the census has them, somewhere in their square kilometre."""
    share = census["population"] / census["population"].sum()
    home = census.iloc[rng.choice(len(census), SUBSCRIBERS, p=share)]
    shift = rng.uniform(-500, 500, (2, SUBSCRIBERS)) / METRES_PER_DEGREE
    return pd.DataFrame(
        {
            "subscriber_id": [f"26201{number:010}" for number in rng.permutation(SUBSCRIBERS)],
            "latitude": home["lat"].to_numpy() + shift[0],
            "longitude": home["lon"].to_numpy() + shift[1] / np.cos(np.radians(home["lat"])),
        }
    )


def _events(
    people: pd.DataFrame,
    centres: list[dict[str, Any]],
    cells: pd.DataFrame,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Quiet at home, busy in the centres, with the faults that real feeds have."""
    middles = [np.mean(centre["geometry"]["coordinates"][0], axis=0) for centre in centres]
    places = np.vstack([people[["longitude", "latitude"]].to_numpy(), middles])
    moments = _moments(len(people), [_zone_id(centre) for centre in centres], rng)
    best = _best_cells(places, cells)[moments.place]
    serving = best[np.arange(len(best)), rng.integers(0, SERVING_CELLS, len(best))]
    at = MIDNIGHT + pd.to_timedelta(np.round(moments.minute * 60e6), unit="us")
    rows = pd.DataFrame(
        {
            "subscriber_id": people["subscriber_id"].to_numpy()[moments.person],
            "event_time": at,
            "cell_id": cells["cell_id"].to_numpy()[serving],
            "event_type": rng.choice(["data", "call", "sms"], len(at), p=[0.8, 0.1, 0.1]),
            "brand": rng.choice(np.array(["o2", "blau", None], dtype=object), len(at)),
        }
    )
    rows["arrived"] = rows["event_time"].dt.date
    return _with_faults(rows, rng)


def _zone_id(centre: dict[str, Any]) -> str:
    return str(centre["properties"]["zone_id"])


def _moments(people: int, zone_ids: list[str], rng: np.random.Generator) -> Moments:
    everybody = np.repeat(np.arange(people), QUIET_EVENTS)
    # An hour of the evenings before and after: those folders are read, too.
    quiet = Moments(everybody, rng.uniform(-60, DAY_MIN + 60, everybody.size), everybody)
    visitors = np.flatnonzero(rng.random(people) < VISITOR_SHARE)
    favourite = rng.random(visitors.size) < FAVOURITE_SHARE
    where = np.where(
        favourite, zone_ids.index(FAVOURITE), rng.integers(0, len(zone_ids), visitors.size)
    )
    arrives = rng.uniform(OPENS_MIN, CLOSES_MIN - 3 * 60, visitors.size)
    leaves = arrives + rng.uniform(20, 90, visitors.size)
    busy = _visit(visitors, arrives, leaves, people + where, rng)
    quiet = _elsewhere(quiet, visitors, arrives, leaves)

    on = rng.random(visitors.size) < SECOND_VISIT_SHARE
    further = (where[on] + rng.integers(1, len(zone_ids), on.sum())) % len(zone_ids)
    arrives = leaves[on] + rng.uniform(15, 40, on.sum())
    leaves = arrives + rng.uniform(20, 60, on.sum())
    busy = busy.and_also(_visit(visitors[on], arrives, leaves, people + further, rng))
    return _elsewhere(quiet, visitors[on], arrives, leaves).and_also(busy)


def _visit(
    person: NDArray[np.int64],
    arrives: NDArray[np.float64],
    leaves: NDArray[np.float64],
    place: NDArray[np.int64],
    rng: np.random.Generator,
) -> Moments:
    """An event at both ends, and about one in seven minutes between."""
    between = rng.poisson((leaves - arrives) / 7)
    each = np.repeat(np.arange(person.size), between)
    minute = rng.uniform(arrives[each], leaves[each])
    return Moments(
        np.concatenate([person, person, person[each]]),
        np.concatenate([arrives, leaves, minute]),
        np.concatenate([place, place, place[each]]),
    )


def _elsewhere(
    quiet: Moments,
    person: NDArray[np.int64],
    arrives: NDArray[np.float64],
    leaves: NDArray[np.float64],
) -> Moments:
    """Nobody is at home while in a centre."""
    away = np.zeros((2, quiet.person.max() + 1))
    away[:, person] = arrives, leaves
    start, end = away[:, quiet.person]
    return quiet.only((quiet.minute < start) | (quiet.minute > end))


def _best_cells(places: NDArray[np.float64], cells: pd.DataFrame) -> NDArray[np.int64]:
    """The cells that serve a place: near ones, and of those the ones with a small range."""
    across = np.cos(np.radians(52.5)) * METRES_PER_DEGREE
    east = (places[:, :1] - cells["longitude"].to_numpy()) * across
    north = (places[:, 1:] - cells["latitude"].to_numpy()) * METRES_PER_DEGREE
    range_m = cells["range_m"].to_numpy()
    distance = np.hypot(east, north)
    density = (np.maximum(1 - distance / range_m, 0) / range_m) ** 2 - distance * 1e-18
    return np.argsort(-density, axis=1)[:, :SERVING_CELLS]


def _with_faults(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Some come a day late, some twice, some without identity or cell, some of a roamer."""
    late = rng.random(len(rows)) < 0.005
    rows["arrived"] = rows["arrived"].where(~late, rows["arrived"] + timedelta(days=1))
    for share, column, value in (
        (0.002, "subscriber_id", None),
        (0.002, "subscriber_id", "  "),
        (0.002, "subscriber_id", "26207999"),
        (0.002, "event_time", pd.NaT),
        (0.002, "cell_id", None),
        (0.002, "cell_id", "262-01-0-0"),
    ):
        rows.loc[rng.random(len(rows)) < share, column] = value
    return pd.concat([rows, rows.sample(frac=0.005, random_state=SEED)], ignore_index=True)


def _subscribers(people: pd.DataFrame) -> pa.Table:
    area = np.array(areas_of(people["latitude"], people["longitude"]), dtype=object)
    area[::20] = None
    return pa.table(
        {
            "subscriber_id": people["subscriber_id"].tolist(),
            "brand": ["o2"] * len(people),
            "area": area.tolist(),
            "since": pa.array([date(2020, 1, 1)] * len(people), pa.date32()),
            "until": pa.nulls(len(people), pa.date32()),
        }
    )


def _decisions(people: pd.DataFrame, rng: np.random.Generator) -> pa.Table:
    """A tenth decided something; half of them had left before the day and stayed away."""
    ids = rng.choice(people["subscriber_id"].to_numpy(), SUBSCRIBERS // 10, replace=False)
    left = [("opt_out", True, -30)]
    stories = [left, [*left, ("opt_in", True, -20)], left, [("opt_out", False, -10)], left,
               [("status_check", True, -5)], left, [("opt_out", True, 2)], left, []]  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    for number, subscriber_id in enumerate(ids):
        for action, verified, days in stories[number % len(stories)]:
            at = MIDNIGHT + timedelta(days=days, minutes=number)
            rows.append((f"d{len(rows)}", subscriber_id, action, verified, at, at, "app"))
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pa.table(columns, schema=DECISIONS)
