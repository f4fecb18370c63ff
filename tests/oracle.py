"""A second opinion: the method of version 3 from the landing files to the exact measures.

Written from the design alone, in DuckDB SQL and plain Python, and sharing nothing with the
pipeline, so that a fault has to be made twice to go unseen. It stops where the noise begins: what
comes out is exact, bounded per subscriber-day, and never to be published.

Instants are whole microseconds since 1970 UTC (`BIGINT`) inside, and naive UTC timestamps in the
frames handed out. Order of the file: what goes in and out, geometry, reference, consent, events,
stays, measures, the night.
"""

import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import duckdb
import h3.api.numpy_int as h3
import numpy as np
import opening_hours
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry import mapping, shape

Floats: TypeAlias = NDArray[np.float64]
Key: TypeAlias = tuple[Any, ...]

ELSEWHERE = "elsewhere"
UNKNOWN = "unknown"
OUTSIDE = "outside"
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

BOUNDS: Mapping[str, int] = MappingProxyType(
    {
        "zone_hours.visitors": 8,
        "zone_hours.passers_by": 8,
        "zone_days.visitors": 4,
        "zone_days.passers_by": 4,
        "zone_days.visits": 4,
        "zone_dwell.visitors": 4,
        "zone_flows.trips": 4,
        "zone_catchment.visitors": 2,
    }
)

REJECTIONS = (
    "no_id",
    "no_time",
    "implausible_time",
    "no_cell",
    "unknown_cell",
    "not_a_subscriber",
    "duplicate",
)


@dataclass(frozen=True)
class Method:
    """What the method leaves open; the defaults are those of version 3.

    Distances in metres (`max_pair_km` in kilometres), durations in seconds, `unit` parts per
    visitor, `bounds` cells per subscriber-day and measure.
    """

    timezone: str = "Europe/Berlin"
    resolution: int = 11
    catchment_resolution: int = 7
    zone_attraction: float = 20.0
    min_presence: float = 0.02
    max_gap_s: int = 3600
    max_reach_s: int = 900
    min_share: float = 0.3
    crossings: tuple[str, ...] = ("handover",)
    min_dwell_s: int = 600
    max_dwell_s: int = 21600
    max_pair_km: float = 30.0
    consent_default: str = "opt_out"
    unit: int = 64
    bounds: Mapping[str, int] = field(default_factory=lambda: BOUNDS)


@dataclass
class Exact:
    """One night, exact: never to be published.

    Attributes:
        accounting: rows_in, other_day, every one of `REJECTIONS`, not_taking_part, accepted.
        zones: the zones taken from the landing folder, in order.
        cell_zones: cell_id, zone_id, probability; the cells that tell of a zone.
        cell_reach: cell_id, zone_id; those that are heard there and tell nothing.
        left_out: ids of the subscribers of the day who do not take part in it.
        visits: subscriber_id, zone_id, arrived_at, left_at, dwell_s, presence, kind, home_area;
            every stay, whatever its kind.
        measures: by `product.measure`: the key columns, `units` (bounded), `units_unbounded`, and
            `units_least`, `units_most`: what `units` can be at the utmost, depending on how the
            keyed hash breaks ties at the cut; all in `Method.unit`ths of a visitor. A key without
            any contribution has no row.
        kept_units: by measure, how many contributions of each size were kept. It does not depend
            on how ties are broken, so it is comparable even where single keys are not.
        ambiguous: by measure, the keys (tuples) where `units_least` and `units_most` differ.
        participants: area, participants; of the first local day of the month.
        no_data: `zone_hours` (zone_id, hour_start, no_data), `zone_days` (zone_id, no_data); each
            with every zone.
        seconds: wall time by part, `geometry` and the rest.
    """

    accounting: dict[str, int]
    zones: list[str]
    cell_zones: pd.DataFrame
    cell_reach: pd.DataFrame
    left_out: frozenset[str]
    visits: pd.DataFrame
    measures: dict[str, pd.DataFrame]
    kept_units: dict[str, Counter[int]]
    ambiguous: dict[str, set[Key]]
    participants: pd.DataFrame
    no_data: dict[str, pd.DataFrame]
    seconds: dict[str, float]


# --- Geometry ---------------------------------------------------------------------------------

EARTH_M = 6_371_008.8
TILE_STEPS = 3  # a tile is the H3 ancestor this many resolutions up


@dataclass(frozen=True)
class Zone:
    """One zone: its outline, and its own attraction when it carries one."""

    zone_id: str
    outline: shapely.Geometry
    attraction: float | None
    opening_hours: str | None = None

    def hexagons(self, resolution: int) -> set[int]:
        """H3 cells whose centre lies inside, else the one that holds the centroid."""
        inside = {
            int(cell)
            for part in getattr(self.outline, "geoms", [self.outline])
            for cell in h3.polyfill(mapping(part), resolution, True)
        }
        centroid = self.outline.centroid
        return inside or {int(h3.geo_to_h3(centroid.y, centroid.x, resolution))}


@dataclass(frozen=True)
class Antenna:
    """The geometry of one network cell; without a beam it is omnidirectional."""

    cell_id: str
    latitude: float
    longitude: float
    range_m: float
    azimuth_deg: float | None = None
    beamwidth_deg: float | None = None

    def is_heard_at(self, latitudes: Floats, longitudes: Floats) -> bool:
        """Whether any of the points is within the range, in whatever direction."""
        return bool((_distances_m(self, latitudes, longitudes) <= self.range_m).any())

    def weights(self, latitudes: Floats, longitudes: Floats) -> Floats:
        """(1 - distance / range)² of each point, and 0 where the cell does not reach."""
        result = np.zeros(len(latitudes))
        reach_deg = math.degrees(self.range_m / EARTH_M) * 1.000_001
        near = np.flatnonzero(np.abs(latitudes - self.latitude) <= reach_deg)
        distances = _distances_m(self, latitudes[near], longitudes[near])
        reached = distances <= self.range_m
        near, distances = near[reached], distances[reached]
        if self.azimuth_deg is not None and self.beamwidth_deg is not None:
            off = _bearings_deg(self, latitudes[near], longitudes[near]) - self.azimuth_deg
            facing = np.abs((off + 180) % 360 - 180) <= self.beamwidth_deg / 2
            near, distances = near[facing], distances[facing]
        result[near] = (1 - distances / self.range_m) ** 2
        return result


def _distances_m(origin: Antenna, latitudes: Floats, longitudes: Floats) -> Floats:
    """Along the sphere (haversine)."""
    here, there = np.radians(origin.latitude), np.radians(latitudes)
    up = np.sin((there - here) / 2)
    across = np.sin(np.radians(longitudes - origin.longitude) / 2)
    chord = up**2 + np.cos(here) * np.cos(there) * across**2
    return np.asarray(2 * EARTH_M * np.arcsin(np.sqrt(np.minimum(chord, 1))))


def _bearings_deg(origin: Antenna, latitudes: Floats, longitudes: Floats) -> Floats:
    """Initial bearings, clockwise from north."""
    here, there = np.radians(origin.latitude), np.radians(latitudes)
    turn = np.radians(longitudes - origin.longitude)
    east = np.sin(turn) * np.cos(there)
    north = np.cos(here) * np.sin(there) - np.sin(here) * np.cos(there) * np.cos(turn)
    return np.asarray(np.degrees(np.arctan2(east, north)))


def probabilities(antennas: Iterable[Antenna], zones: list[Zone], method: Method) -> pd.DataFrame:
    """P(zone | cell) by geometry: cell_id, zone_id, probability; pairs too faint are left out."""
    members = [zone.hexagons(method.resolution) for zone in zones]
    attraction: dict[int, float] = {}
    for zone, hexagons in zip(zones, members, strict=True):
        own = method.zone_attraction if zone.attraction is None else zone.attraction
        attraction |= {cell: max(own, attraction.get(cell, 0.0)) for cell in hexagons}
    place = {cell: index for index, cell in enumerate(attraction)}
    latitudes, longitudes = _centres(attraction)
    pull = np.array(list(attraction.values()))
    member_hexagon = np.array([place[cell] for cells in members for cell in cells], dtype=np.intp)
    sizes = np.array([len(cells) for cells in members], dtype=np.intp)
    member_zone = np.repeat(np.arange(len(zones)), sizes)

    pairs = []
    for antenna in antennas:
        plain = antenna.weights(latitudes, longitudes)
        if not plain.any():
            continue
        attracted = plain * pull
        everywhere = antenna.weights(*_ground(antenna, method.resolution)).sum()
        total = everywhere - plain.sum() + attracted.sum()
        shares = np.bincount(member_zone, attracted[member_hexagon], len(zones)) / total
        pairs += [
            (antenna.cell_id, zones[index].zone_id, float(shares[index]))
            for index in np.flatnonzero(shares >= method.min_presence)
        ]
    return pd.DataFrame(pairs, columns=["cell_id", "zone_id", "probability"])


def _ground(antenna: Antenna, resolution: int) -> tuple[Floats, Floats]:
    """Centres of (at least) all H3 cells within the antenna's range."""
    return _ground_around(antenna.latitude, antenna.longitude, antenna.range_m, resolution)


@lru_cache(maxsize=8)  # the sectors of one mast follow each other
def _ground_around(
    latitude: float, longitude: float, range_m: float, resolution: int
) -> tuple[Floats, Floats]:
    coarse = max(resolution - TILE_STEPS, 0)
    edge_m = h3.edge_length(coarse, unit="m")
    reach_m = range_m + 3 * edge_m  # no child's centre is farther from its tile's
    home = h3.geo_to_h3(latitude, longitude, coarse)
    tiles = h3.k_ring(home, math.ceil(reach_m / edge_m) + 1)
    touched = Antenna("", latitude, longitude, reach_m).weights(*_centres(tiles)) > 0
    tiles_centres = [_tile(int(tile), resolution) for tile in tiles[touched]]
    return (
        np.concatenate([latitudes for latitudes, _ in tiles_centres]),
        np.concatenate([longitudes for _, longitudes in tiles_centres]),
    )


@lru_cache(maxsize=50_000)
def _tile(tile: int, resolution: int) -> tuple[Floats, Floats]:
    return _centres(h3.h3_to_children(tile, resolution))


def _centres(hexagons: Iterable[int]) -> tuple[Floats, Floats]:
    centres = np.array([h3.h3_to_geo(cell) for cell in hexagons]).reshape(-1, 2)
    return centres[:, 0], centres[:, 1]


# --- Reference --------------------------------------------------------------------------------

ZONE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
MAX_RANGE_M = 120_000


def read_zones(folder: Path) -> list[Zone]:
    """The usable zones by id; one broken feature, or all of a doubled id, are left out."""
    features = [feature for path in sorted(folder.glob("*.geojson")) for feature in _features(path)]
    ids = Counter(_zone_id(feature) for feature in features)
    zones = (_zone(feature) for feature in features if ids[_zone_id(feature)] == 1)
    return sorted((zone for zone in zones if zone is not None), key=lambda zone: zone.zone_id)


def _features(path: Path) -> list[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return [content] if content["type"] == "Feature" else list(content["features"])


def _zone_id(feature: dict[str, Any]) -> str | None:
    found = (feature.get("properties") or {}).get("zone_id")
    return found if isinstance(found, str) else None


def _zone(feature: dict[str, Any]) -> Zone | None:
    zone_id = _zone_id(feature)
    if zone_id is None or zone_id == ELSEWHERE or not ZONE_ID.fullmatch(zone_id):
        return None
    try:
        outline = shapely.force_2d(shape(feature["geometry"]))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, shapely.GEOSException):
        return None
    if outline.geom_type not in {"Polygon", "MultiPolygon"} or outline.is_empty:
        return None
    west, south, east, north = outline.bounds
    on_earth = -180 <= west <= east <= 180 and -90 <= south <= north <= 90
    if not (on_earth and outline.is_valid):
        return None
    own = feature["properties"].get("attraction")
    usable = isinstance(own, int | float) and not isinstance(own, bool) and 0 < own < math.inf
    hours = feature["properties"].get("opening_hours")
    return Zone(
        zone_id,
        outline,
        float(own) if usable else None,
        hours if isinstance(hours, str) else None,
    )


def zones_around(zones: list[Zone]) -> dict[str, set[str]]:
    """Each zone, and those that hold nine tenths of it or more."""
    return {
        inner.zone_id: {
            outer.zone_id
            for outer in zones
            if outer is inner
            or inner.outline.intersection(outer.outline).area >= 0.9 * inner.outline.area
        }
        for inner in zones
    }


def near_pairs(zones: list[Zone], max_pair_km: float) -> set[tuple[str, str]]:
    """The public list of (origin, destination): centroids nearer than that, and elsewhere."""
    latitudes = np.array([zone.outline.centroid.y for zone in zones])
    longitudes = np.array([zone.outline.centroid.x for zone in zones])
    pairs: set[tuple[str, str]] = set()
    for zone, latitude, longitude in zip(zones, latitudes, longitudes, strict=True):
        point = Antenna(zone.zone_id, latitude, longitude, 1)
        near = _distances_m(point, latitudes, longitudes) < max_pair_km * 1000
        pairs |= {(zone.zone_id, zones[other].zone_id) for other in np.flatnonzero(near)}
        pairs |= {(zone.zone_id, ELSEWHERE), (ELSEWHERE, zone.zone_id)}
    return {(origin, destination) for origin, destination in pairs if origin != destination}


@dataclass(frozen=True)
class LocalDay:
    """The local day in UTC: its bounds, its hours and its small hours."""

    start_us: int
    end_us: int
    six_us: int
    hours: pd.DataFrame  # start_us, end_us, day_part
    zone: ZoneInfo

    @classmethod
    def of(cls, day: date, timezone: str) -> "LocalDay":
        """Ask the time-zone database; 23 or 25 hours long when the clock changes."""
        zone = ZoneInfo(timezone)

        def instant(of_day: date, hour: int) -> int:
            local = datetime(of_day.year, of_day.month, of_day.day, hour, tzinfo=zone)
            return _microseconds(local)

        start, end = instant(day, 0), instant(day + timedelta(days=1), 0)
        hours = pd.DataFrame(
            [
                (at, min(at + HOUR_US, end), _day_part(_instant(at).astimezone(zone).hour))
                for at in range(start, end, HOUR_US)
            ],
            columns=["start_us", "end_us", "day_part"],
        )
        return cls(start, end, instant(day, 6), hours, zone)


def _day_part(hour: int) -> str:
    starts = {6: "morning", 11: "midday", 14: "afternoon", 18: "evening", 22: "night"}
    return next((part for at, part in sorted(starts.items(), reverse=True) if hour >= at), "night")


def _microseconds(instant: datetime) -> int:
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _instant(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def _parquet(folder: Path) -> str:
    """The SQL relation over all Parquet files under a folder."""
    files = sorted(path for path in folder.rglob("*.parquet") if path.name[0] not in "._")
    if not files:
        raise FileNotFoundError(f"{folder} holds no Parquet file; there is nothing to compute")
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"


# Parquet's statistics know nothing of NaN, and DuckDB drops a comparison that they make needless:
# only `isfinite` is sure to be asked.
CELLS = """
CREATE TEMP TABLE cells AS
WITH valid AS (
    SELECT
        CAST(cell_id AS VARCHAR) AS cell_id,
        TRY_CAST(latitude AS DOUBLE) AS latitude,
        TRY_CAST(longitude AS DOUBLE) AS longitude,
        TRY_CAST(azimuth_deg AS DOUBLE) AS azimuth_deg,
        TRY_CAST(beamwidth_deg AS DOUBLE) AS beamwidth_deg,
        TRY_CAST(range_m AS DOUBLE) AS range_m,
        CAST(indoor_zone_id AS VARCHAR) AS indoor_zone_id,
        TRY_CAST(valid_from AS DATE) AS valid_from,
        TRY_CAST(valid_to AS DATE) AS valid_to
    FROM {cells}
    WHERE NOT blank(cell_id)
), usable AS (
    SELECT *
    FROM valid
    WHERE isfinite(latitude) AND latitude BETWEEN -90 AND 90
      AND isfinite(longitude) AND longitude BETWEEN -180 AND 180
      AND isfinite(range_m) AND range_m > 0 AND range_m <= {max_range_m}
      AND coalesce(valid_from <= DATE '{day}', true) AND coalesce(valid_to >= DATE '{day}', true)
), newest AS (
    SELECT *
    FROM usable
    QUALIFY row_number() OVER (
        PARTITION BY cell_id
        ORDER BY valid_from DESC NULLS LAST, latitude, longitude, range_m, azimuth_deg
    ) = 1
)
SELECT CAST(row_number() OVER (ORDER BY cell_id) AS INTEGER) AS cell, * FROM newest
"""


def _read_cells(con: duckdb.DuckDBPyConnection, landing: Path, day: date) -> None:
    """`cells`: the cells valid on that day, numbered in the order of their ids."""
    con.execute(CELLS.format(cells=_parquet(landing / "cells"), day=day, max_range_m=MAX_RANGE_M))


def _place_cells(con: duckdb.DuckDBPyConnection, zones: list[Zone], method: Method) -> None:
    """`cell_zones` (cell, zone, probability; zone = place in `zones`), `cell_reach` (cell, zone)
    and `cell_areas`.
    """
    cells = con.execute("FROM cells ORDER BY latitude, longitude, range_m, cell_id").df()
    around = zones_around(zones)
    is_indoor = cells["indoor_zone_id"].isin(around)
    certain = [
        (row.cell_id, zone_id, 1.0)
        for row in cells[is_indoor].itertuples()
        for zone_id in around[row.indoor_zone_id]
    ]
    told_indoors = {zone_id for _, zone_id, _ in certain}
    guessed = probabilities(_antennas(cells[~is_indoor]), zones, method)
    guessed = guessed[~guessed["zone_id"].isin(told_indoors)]
    alone = pd.DataFrame(certain, columns=["cell_id", "zone_id", "probability"])
    pairs = pd.concat([alone, guessed], ignore_index=True)
    telling = set(zip(pairs["cell_id"], pairs["zone_id"], strict=True))
    centres = {zone.zone_id: _centres(zone.hexagons(method.resolution)) for zone in zones}
    reach = [
        (antenna.cell_id, zone_id)
        for antenna in _antennas(cells)
        for zone_id, points in centres.items()
        if (antenna.cell_id, zone_id) not in telling and antenna.is_heard_at(*points)
    ]
    areas = pd.DataFrame(
        {
            "cell": cells["cell"],
            "area": [
                h3.h3_to_string(h3.geo_to_h3(latitude, longitude, method.catchment_resolution))
                for latitude, longitude in zip(cells["latitude"], cells["longitude"], strict=True)
            ],
        }
    )
    _store(con, "cell_areas", areas.astype({"area": "str"}))
    _store(con, "zones", pd.DataFrame({"zone_id": sorted(around)}, dtype="str"))
    _store(con, "pairs", pairs.astype({"cell_id": "str", "zone_id": "str", "probability": float}))
    _store(con, "reach", pd.DataFrame(reach, columns=["cell_id", "zone_id"], dtype="str"))
    con.execute("""
        CREATE TEMP TABLE numbered_zones AS
        SELECT CAST(row_number() OVER (ORDER BY zone_id) AS INTEGER) AS zone, zone_id FROM zones;
        CREATE TEMP TABLE cell_zones AS
        SELECT cell, zone, probability
        FROM pairs JOIN cells USING (cell_id) JOIN numbered_zones USING (zone_id);
        CREATE TEMP TABLE cell_reach AS
        SELECT cell, zone FROM reach JOIN cells USING (cell_id) JOIN numbered_zones USING (zone_id);
    """)


def _antennas(cells: pd.DataFrame) -> Iterator[Antenna]:
    for row in cells.itertuples():
        yield Antenna(
            row.cell_id,
            row.latitude,
            row.longitude,
            row.range_m,
            _finite(row.azimuth_deg),
            _finite(row.beamwidth_deg),
        )


def _open_zones(con: duckdb.DuckDBPyConnection, zones: list[Zone], local: LocalDay) -> None:
    """`openings` (zone, open_us, close_us) and `clocked` (zone), those of which hours are known."""
    openings, clocked = [], []
    for number, zone in enumerate(zones, start=1):
        if not zone.opening_hours or not opening_hours.validate(zone.opening_hours):
            continue
        clocked.append((number,))
        rule = opening_hours.OpeningHours(zone.opening_hours, timezone=local.zone)
        start, end = (_instant(at).astimezone(local.zone) for at in (local.start_us, local.end_us))
        for since, until, state, _ in rule.intervals(start, end):
            if str(state) != "closed":
                openings.append((number, _microseconds(since), _microseconds(until)))
    columns = {"zone": "int32", "open_us": "int64", "close_us": "int64"}
    _store(con, "openings", pd.DataFrame(openings, columns=list(columns)).astype(columns))
    _store(con, "clocked", pd.DataFrame(clocked, columns=["zone"]).astype("int32"))


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _store(con: duckdb.DuckDBPyConnection, name: str, frame: pd.DataFrame) -> None:
    con.register("handed_over", frame)
    con.execute(f"CREATE TEMP TABLE {name} AS FROM handed_over")
    con.unregister("handed_over")


RESIDENTS = """
CREATE TEMP TABLE resident_areas AS
SELECT DISTINCT CAST(area AS VARCHAR) AS area
FROM {residents}
WHERE NOT blank(area) AND isfinite(TRY_CAST(residents AS DOUBLE)) AND residents >= 0
"""


def _read_residents(con: duckdb.DuckDBPyConnection, landing: Path, method: Method) -> None:
    """`areas`: the public list of areas."""
    con.execute(RESIDENTS.format(residents=_parquet(landing / "residents")))
    found = [area for (area,) in con.execute("FROM resident_areas").fetchall()]
    areas = [area for area in found if _is_area(area, method.catchment_resolution)]
    _store(con, "areas", pd.DataFrame({"area": areas}, dtype="str"))


def _is_area(area: str, resolution: int) -> bool:
    if not re.fullmatch("[0-9a-f]{15}", area):
        return False
    cell = h3.string_to_h3(area)
    return bool(h3.h3_is_valid(cell)) and h3.h3_get_resolution(cell) == resolution


# --- Consent ----------------------------------------------------------------------------------

CHANGES = """
CREATE TEMP TABLE changes AS
WITH versions AS (
    SELECT
        CAST(decision_id AS VARCHAR) AS decision_id,
        CAST(subscriber_id AS VARCHAR) AS subscriber_id,
        action,
        coalesce(verified, false) AS verified,
        epoch_us(TRY_CAST(decided_at AS TIMESTAMPTZ)) AS decided_us,
        CAST(channel AS VARCHAR) AS channel,
        min(received_us) AS received_us
    FROM (SELECT *, epoch_us(TRY_CAST(received_at AS TIMESTAMPTZ)) AS received_us FROM {decisions})
    GROUP BY 1, 2, 3, 4, 5, 6, CASE WHEN blank(decision_id) THEN received_us END
), effective AS (
    SELECT
        subscriber_id,
        action = 'opt_out' OR (NOT blank(decision_id) AND contents > 1) AS leaves,
        coalesce(decided_us, received_us) AS at_us
    FROM (SELECT *, count(*) OVER (PARTITION BY decision_id) AS contents FROM versions)
    WHERE verified AND action IN ('opt_out', 'opt_in')
)
SELECT
    subscriber_id, leaves,
    CASE WHEN leaves THEN least(coalesce(at_us, {now}), {now}) ELSE at_us END AS at_us
FROM effective
WHERE leaves OR at_us <= {now}
"""

STANDING = """
CREATE TEMP TABLE {name} AS
WITH last_changes AS (
    SELECT
        subscriber_id,
        max(at_us) FILTER (leaves AND at_us <= {start}) AS left_before,
        max(at_us) FILTER (NOT leaves AND at_us <= {start}) AS joined_before,
        max(at_us) FILTER (leaves) AS left_last,
        max(at_us) FILTER (NOT leaves) AS joined_last,
        coalesce(bool_or(leaves AND at_us > {start} AND at_us < {end}), false) AS left_within
    FROM changes
    GROUP BY subscriber_id
)
SELECT
    subscriber_id,
    takes_part(left_before, joined_before) AND NOT left_within
        AND takes_part(left_last, joined_last) AS taking_part
FROM last_changes
"""

SUBSCRIBERS = """
CREATE TEMP TABLE {name} AS
WITH valid AS (
    SELECT
        CAST(subscriber_id AS VARCHAR) AS subscriber_id,
        CAST(area AS VARCHAR) AS area,
        TRY_CAST(since AS DATE) AS since
    FROM {subscribers}
    WHERE NOT blank(subscriber_id)
      AND coalesce(TRY_CAST(since AS DATE) <= DATE '{day}', true)
      AND coalesce(TRY_CAST(until AS DATE) >= DATE '{day}', true)
)
SELECT
    CAST(row_number() OVER () AS INTEGER) AS subscriber,
    subscriber_id,
    area,
    coalesce(taking_part, {by_default}) AS taking_part
FROM (
    FROM valid
    QUALIFY row_number() OVER (
        PARTITION BY subscriber_id ORDER BY since DESC NULLS LAST, area NULLS LAST
    ) = 1
)
LEFT JOIN {standing} USING (subscriber_id)
"""

PARTICIPANTS = """
SELECT CASE WHEN blank(s.area) THEN '{unknown}' ELSE s.area END AS area, count(*) AS participants
FROM month_subscribers AS s
WHERE s.taking_part AND (blank(s.area) OR s.area IN (FROM areas))
GROUP BY ALL
ORDER BY ALL
"""


def _read_changes(
    con: duckdb.DuckDBPyConnection, landing: Path, now: datetime, method: Method
) -> None:
    """`changes`: every verified change of state as it counts at `now`; ties are for leaving."""
    by_default = "true" if method.consent_default == "opt_out" else "false"
    con.execute(f"""
        CREATE TEMP MACRO takes_part(left_at, joined_at) AS CASE
            WHEN left_at IS NULL AND joined_at IS NULL THEN {by_default}
            ELSE left_at IS NULL OR coalesce(joined_at > left_at, false) END
    """)
    decisions = _parquet(landing / "decisions")
    con.execute(CHANGES.format(decisions=decisions, now=_microseconds(now)))


def _read_subscribers(
    con: duckdb.DuckDBPyConnection, landing: Path, day: date, method: Method, name: str
) -> None:
    """A table of the subscribers of that day, each with whether it takes part in the whole day."""
    local = LocalDay.of(day, method.timezone)
    standing = f"{name}_standing"
    con.execute(STANDING.format(name=standing, start=local.start_us, end=local.end_us))
    con.execute(
        SUBSCRIBERS.format(
            name=name,
            subscribers=_parquet(landing / "subscribers"),
            day=day,
            standing=standing,
            by_default=method.consent_default == "opt_out",
        )
    )


# --- Events -----------------------------------------------------------------------------------

ARRIVALS = """
SELECT
    CAST(subscriber_id AS VARCHAR) AS subscriber_id,
    epoch_us(event_time) AS at_us,
    CAST(cell_id AS VARCHAR) AS cell_id,
    CAST(event_type AS VARCHAR) AS event_type,
    {folder_us} AS folder_us
FROM {files}
"""

FIRST_FAULTS = """
CREATE TEMP VIEW first_faults AS
SELECT *, CASE
    WHEN blank(subscriber_id) THEN 'no_id'
    WHEN at_us IS NULL THEN 'no_time'
    WHEN at_us < folder_us - {day_us} OR at_us >= folder_us + 2 * {day_us} THEN 'implausible_time'
    WHEN at_us < {start} OR at_us >= {end} THEN 'other_day'
    END AS fault
FROM arrivals
"""

EVENT_TYPES = """
CREATE TEMP TABLE event_types AS
SELECT CAST(row_number() OVER () AS INTEGER) AS type, event_type
FROM (SELECT DISTINCT event_type FROM arrivals)
"""

ROWS_OF_DAY = """
CREATE TEMP TABLE rows_of_day AS
SELECT
    subscriber, taking_part, at_us, cell, type,
    CASE
        WHEN cell IS NULL AND blank(cell_id) THEN 'no_cell'
        WHEN cell IS NULL THEN 'unknown_cell'
        WHEN subscriber IS NULL THEN 'not_a_subscriber'
    END AS fault
FROM first_faults
LEFT JOIN (SELECT cell, cell_id FROM cells) USING (cell_id)
LEFT JOIN (SELECT subscriber, subscriber_id, taking_part FROM subscribers) USING (subscriber_id)
JOIN event_types ON event_types.event_type IS NOT DISTINCT FROM first_faults.event_type
WHERE first_faults.fault IS NULL
"""

# Repetitions stand next to each other in the order and share one number, `nth`.
IN_ORDER = """
CREATE TEMP TABLE in_order AS
SELECT
    subscriber, taking_part, at_us, cell, type,
    dense_rank() OVER history AS nth,
    (at_us, cell, type) IS NOT DISTINCT FROM lag((at_us, cell, type)) OVER history AS repeated
FROM rows_of_day
WHERE fault IS NULL
WINDOW history AS (PARTITION BY subscriber ORDER BY at_us, cell, type);

CREATE TEMP VIEW accepted AS
SELECT
    subscriber, at_us, cell, nth,
    type IN (SELECT type FROM event_types WHERE event_type IN ({crossings})) AS crosses
FROM in_order WHERE taking_part AND NOT repeated;
"""

OUTCOMES = """
SELECT fault, count(*) FROM first_faults WHERE fault IS NOT NULL GROUP BY ALL
UNION ALL
SELECT fault, count(*) FROM rows_of_day WHERE fault IS NOT NULL GROUP BY ALL
UNION ALL
SELECT CASE
    WHEN repeated THEN 'duplicate'
    WHEN NOT taking_part THEN 'not_taking_part'
    ELSE 'accepted' END AS outcome, count(*)
FROM in_order GROUP BY ALL
"""


def _read_events(
    con: duckdb.DuckDBPyConnection, landing: Path, day: date, local: LocalDay, method: Method
) -> dict[str, int]:
    """`accepted` (subscriber, at_us, cell, nth, crosses) and the accounting of every row read."""
    around = (day + timedelta(days=days) for days in (-1, 0, 1))
    folders = {at: landing / "events" / f"date={at}" for at in around}
    arrivals = "UNION ALL".join(
        ARRIVALS.format(
            files=_parquet(folder),
            folder_us=_microseconds(datetime(at.year, at.month, at.day, tzinfo=UTC)),
        )
        for at, folder in folders.items()
        if at == day or any(folder.rglob("*.parquet"))
    )
    con.execute(f"CREATE TEMP VIEW arrivals AS {arrivals}")
    con.execute(FIRST_FAULTS.format(day_us=DAY_US, start=local.start_us, end=local.end_us))
    crossings = ", ".join(f"'{name}'" for name in method.crossings) or "NULL"
    for step in (EVENT_TYPES, ROWS_OF_DAY, IN_ORDER.format(crossings=crossings)):
        con.execute(step)
    outcomes: dict[str, int] = dict(con.execute(OUTCOMES).fetchall())
    (rows_in,) = con.execute("SELECT count(*) FROM arrivals").fetchall()[0]
    order = ("other_day", *REJECTIONS, "not_taking_part", "accepted")
    return {"rows_in": rows_in} | {outcome: outcomes.get(outcome, 0) for outcome in order}


# --- Stays ------------------------------------------------------------------------------------

# A run is whatever follows each other at cells that tell of the zone or are heard in it; what it
# holds from its first to its last sighting is the stay, and it reaches into the time round it.
STAYS = """
CREATE TEMP TABLE stays_of_whoever AS
WITH timeline AS (
    SELECT *, lag(at_us) OVER day AS before_us, lead(at_us) OVER day AS after_us
    FROM accepted
    WINDOW day AS (PARTITION BY subscriber ORDER BY nth)
), heard AS (
    SELECT
        subscriber, zone, at_us, nth, before_us, after_us, crosses, probability,
        nth IS DISTINCT FROM 1 + lag(nth) OVER in_zone
            OR at_us - lag(at_us) OVER in_zone > {max_gap_us} AS opens
    FROM timeline
    JOIN (SELECT cell, zone, probability FROM cell_zones
          UNION ALL SELECT cell, zone, NULL FROM cell_reach) USING (cell)
    WINDOW in_zone AS (PARTITION BY subscriber, zone ORDER BY nth)
), runs AS (
    SELECT *, count(*) FILTER (opens) OVER (
        PARTITION BY subscriber, zone ORDER BY nth ROWS UNBOUNDED PRECEDING) AS run
    FROM heard
), edged AS (
    SELECT *,
        min(at_us) FILTER (probability IS NOT NULL) OVER whole AS first_us,
        max(at_us) FILTER (probability IS NOT NULL) OVER whole AS last_us
    FROM runs
    WINDOW whole AS (PARTITION BY subscriber, zone, run)
), measured AS (
    SELECT
        subscriber, zone,
        any_value(first_us) AS first_us, any_value(last_us) AS last_us,
        first(before_us ORDER BY nth) AS before_us, last(after_us ORDER BY nth) AS after_us,
        coalesce(bool_or(crosses) FILTER (probability IS NOT NULL AND at_us = first_us), false)
            AS crosses_first,
        coalesce(bool_or(crosses) FILTER (probability IS NOT NULL AND at_us = last_us), false)
            AS crosses_last,
        count(probability) AS sightings,
        1 + max(nth) FILTER (probability IS NOT NULL)
            - min(nth) FILTER (probability IS NOT NULL) AS heard,
        max(probability) AS presence
    FROM edged
    GROUP BY subscriber, zone, run
    HAVING sightings > 0
), wide AS (
    SELECT
        subscriber, zone, first_us, last_us, presence,
        CASE WHEN crosses_first THEN 0
            ELSE least(coalesce((first_us - before_us) // 2, {max_reach_us}), {max_reach_us})
            END AS reach_before,
        CASE WHEN crosses_last THEN 0
            ELSE least(coalesce((after_us - last_us) // 2, {max_reach_us}), {max_reach_us})
            END AS reach_after
    FROM measured
    WHERE sightings >= {min_share} * heard
), bounded AS (
    SELECT
        wide.*,
        CASE WHEN clocked.zone IS NULL THEN {start} ELSE coalesce(opening.open_us, first_us) END
            AS earliest,
        CASE WHEN clocked.zone IS NULL THEN {end} - 1
            ELSE coalesce(closing.close_us - 1, last_us) END AS latest
    FROM wide
    LEFT JOIN clocked ON clocked.zone = wide.zone
    LEFT JOIN openings AS opening ON opening.zone = wide.zone
        AND first_us >= opening.open_us AND first_us < opening.close_us
    LEFT JOIN openings AS closing ON closing.zone = wide.zone
        AND last_us >= closing.open_us AND last_us < closing.close_us
)
SELECT
    subscriber, zone, presence,
    greatest(first_us - reach_before, earliest) AS arrived,
    least(last_us + reach_after, latest) AS departed,
    departed - arrived AS dwell
FROM bounded
"""

HOMES = """
CREATE TEMP TABLE homes AS
WITH nights AS (
    SELECT subscriber, cell, count(*) AS events
    FROM accepted SEMI JOIN stays_of_whoever USING (subscriber)
    WHERE at_us < {six_us}
    GROUP BY subscriber, cell
), most AS (
    SELECT subscriber, cell, area
    FROM nights JOIN cell_areas USING (cell)
    QUALIFY row_number() OVER (PARTITION BY subscriber ORDER BY events DESC, area, cell) = 1
)
SELECT subscriber, cell AS home_cell,
    CASE WHEN area IN (FROM areas) THEN area ELSE '{outside}' END AS home_area
FROM most
"""

# Whoever belongs to a zone, by night or by a long day, is a resident in all stays there.
KINDS = """
CREATE TEMP TABLE stays AS
WITH days AS (
    SELECT subscriber, zone, max(departed) - min(arrived) AS span, sum(dwell) AS inside
    FROM stays_of_whoever GROUP BY subscriber, zone
), belonging AS (
    SELECT subscriber, zone FROM days WHERE span > {max_dwell_us} AND 2 * inside >= span
    UNION
    SELECT subscriber, zone FROM homes JOIN cell_zones ON cell = home_cell
)
SELECT
    subscriber, zone_id, arrived, departed, dwell, presence,
    least({unit}, greatest(1, CAST(floor(presence * {unit} + 0.5) AS INTEGER))) AS units,
    CASE
        WHEN belonging.zone IS NOT NULL THEN 'resident'
        WHEN dwell < {min_dwell_us} THEN 'pass_by'
        WHEN dwell <= {max_dwell_us} THEN 'visit'
        ELSE 'resident'
    END AS kind
FROM stays_of_whoever
JOIN numbered_zones USING (zone)
LEFT JOIN belonging USING (subscriber, zone)
"""

VISITS = """
SELECT
    subscriber_id, zone_id,
    make_timestamp(arrived) AS arrived_at, make_timestamp(departed) AS left_at,
    dwell / 1e6 AS dwell_s, presence, kind, coalesce(home_area, '{unknown}') AS home_area
FROM stays JOIN subscribers USING (subscriber) LEFT JOIN homes USING (subscriber)
ORDER BY subscriber_id, zone_id, arrived
"""


# --- Measures ---------------------------------------------------------------------------------

# Who was where in each hour, and on the day: the units of the visits and of the pass-bys there.
PRESENT = """
CREATE TEMP TABLE present_by_hour AS
SELECT
    subscriber, zone_id, start_us,
    max(units) FILTER (kind = 'visit') AS visiting, max(units) FILTER (kind = 'pass_by') AS passing
FROM (SELECT *, unnest(range(({first_hour}), ({last_hour}) + 1)) AS hour FROM stays
      WHERE kind <> 'resident')
JOIN hours USING (hour)
GROUP BY subscriber, zone_id, start_us;

CREATE TEMP TABLE present_by_day AS
SELECT
    subscriber, zone_id,
    max(units) FILTER (kind = 'visit') AS visiting, max(units) FILTER (kind = 'pass_by') AS passing,
    max(dwell) FILTER (kind = 'visit') AS longest
FROM stays
WHERE kind <> 'resident'
GROUP BY subscriber, zone_id;
"""

TRIPS = """
CREATE TEMP TABLE trips AS
WITH ordered AS (
    SELECT
        subscriber, zone_id, arrived, departed, units,
        lag(zone_id) OVER day AS zone_before,
        lead(zone_id) OVER day AS next_zone,
        lead(arrived) OVER day AS next_arrived,
        lead(units) OVER day AS next_units
    FROM stays
    WHERE kind = 'visit'
    WINDOW day AS (PARTITION BY subscriber ORDER BY arrived, zone_id)
), legs AS (
    SELECT subscriber, zone_id AS origin, next_zone AS destination, next_arrived AS at_us,
        least(units, next_units) AS units
    FROM ordered WHERE next_zone <> zone_id AND next_arrived > departed
    UNION ALL
    SELECT subscriber, '{elsewhere}', zone_id, arrived, units
    FROM ordered WHERE zone_before IS NULL
    UNION ALL
    SELECT subscriber, zone_id, '{elsewhere}', departed, units
    FROM ordered WHERE next_zone IS NULL
)
SELECT subscriber, origin, destination, day_part, max(units) AS units
FROM legs
JOIN hours ON hour = (at_us - {start}) // {hour_us}
SEMI JOIN near_pairs USING (origin, destination)
GROUP BY ALL
"""


@dataclass(frozen=True)
class Measure:
    """One measure: its key columns, and every contribution as subscriber, keys, units."""

    keys: tuple[str, ...]
    contributions: str


MEASURES = {
    "zone_hours.visitors": Measure(
        ("zone_id", "hour_start"),
        """SELECT subscriber, zone_id, make_timestamp(start_us) AS hour_start, visiting AS units
        FROM present_by_hour WHERE visiting IS NOT NULL""",
    ),
    "zone_hours.passers_by": Measure(
        ("zone_id", "hour_start"),
        """SELECT subscriber, zone_id, make_timestamp(start_us) AS hour_start, passing AS units
        FROM present_by_hour WHERE visiting IS NULL""",
    ),
    "zone_days.visitors": Measure(
        ("zone_id",),
        """SELECT subscriber, zone_id, visiting AS units
        FROM present_by_day WHERE visiting IS NOT NULL""",
    ),
    "zone_days.passers_by": Measure(
        ("zone_id",),
        """SELECT subscriber, zone_id, passing AS units
        FROM present_by_day WHERE visiting IS NULL""",
    ),
    "zone_days.visits": Measure(
        ("zone_id",),
        "SELECT subscriber, zone_id, units FROM stays WHERE kind = 'visit'",
    ),
    "zone_dwell.visitors": Measure(
        ("zone_id", "dwell_band"),
        """SELECT subscriber, zone_id, dwell_band, visiting AS units
        FROM present_by_day
        JOIN bands ON longest >= from_us AND (longest < to_us OR last AND longest = to_us)""",
    ),
    "zone_flows.trips": Measure(
        ("origin_zone_id", "destination_zone_id", "day_part"),
        """SELECT subscriber, origin AS origin_zone_id, destination AS destination_zone_id,
            day_part, units
        FROM trips""",
    ),
    "zone_catchment.visitors": Measure(
        ("zone_id", "home_area"),
        """SELECT subscriber, zone_id, coalesce(home_area, 'unknown') AS home_area,
            visiting AS units
        FROM present_by_day LEFT JOIN homes USING (subscriber) WHERE visiting IS NOT NULL""",
    ),
}

# A tie lies across the cut when the first contribution left out has equals among the kept; a
# keyed hash chooses which of those `members` get the `slots`.
RANKED = """
CREATE OR REPLACE TEMP TABLE ranked AS
WITH ordered AS (
    SELECT *, row_number() OVER (PARTITION BY subscriber ORDER BY units DESC, {keys}) AS rank
    FROM ({contributions})
), ties AS (
    SELECT subscriber, units, count(*) FILTER (rank <= {l0}) AS slots, count(*) AS members
    FROM ordered
    SEMI JOIN (SELECT subscriber, units FROM ordered WHERE rank = {l0} + 1)
        USING (subscriber, units)
    GROUP BY ALL
    HAVING slots > 0
)
FROM ordered LEFT JOIN ties USING (subscriber, units)
"""

BOUNDED = """
WITH settled AS (
    SELECT {keys},
        coalesce(sum(units) FILTER (rank <= {l0}), 0) AS units,
        sum(units) AS units_unbounded,
        coalesce(sum(units) FILTER (rank <= {l0} AND slots IS NULL), 0) AS sure
    FROM ranked GROUP BY {keys}
), tied AS (
    SELECT {keys},
        sum(units * greatest(slots - members + own, 0)) AS fewest,
        sum(units * least(slots, own)) AS most
    FROM (SELECT subscriber, {keys}, units, slots, members, count(*) AS own
          FROM ranked WHERE slots IS NOT NULL GROUP BY ALL)
    GROUP BY {keys}
)
SELECT {keys},
    CAST(units AS BIGINT) AS units,
    CAST(units_unbounded AS BIGINT) AS units_unbounded,
    CAST(sure + coalesce(fewest, 0) AS BIGINT) AS units_least,
    CAST(sure + coalesce(most, 0) AS BIGINT) AS units_most
FROM settled LEFT JOIN tied USING ({keys})
ORDER BY {keys}
"""

KEPT = "SELECT units, count(*) FROM ranked WHERE rank <= {l0} GROUP BY units"

BANDS_MIN = {
    "10-30": (10, 30),
    "30-60": (30, 60),
    "60-120": (60, 120),
    "120-240": (120, 240),
    "240-360": (240, 360),
}


def _prepare_measures(
    con: duckdb.DuckDBPyConnection, zones: list[Zone], local: LocalDay, method: Method
) -> None:
    """Everything the contributions of `MEASURES` are made of."""
    pairs = sorted(near_pairs(zones, method.max_pair_km))
    bands = pd.DataFrame(
        [
            (band, low * 60_000_000, high * 60_000_000, high == 360)
            for band, (low, high) in BANDS_MIN.items()
        ],
        columns=["dwell_band", "from_us", "to_us", "last"],
    )
    _store(con, "near_pairs", pd.DataFrame(pairs, columns=["origin", "destination"], dtype="str"))
    _store(con, "bands", bands)
    con.execute(
        PRESENT.format(
            first_hour=f"(arrived - {local.start_us}) // {HOUR_US}",
            last_hour=f"(departed - {local.start_us}) // {HOUR_US}",
        )
    )
    con.execute(TRIPS.format(elsewhere=ELSEWHERE, start=local.start_us, hour_us=HOUR_US))


# --- No data ----------------------------------------------------------------------------------

OUTAGES = """
CREATE TEMP TABLE outages AS
SELECT cell, epoch_us(TRY_CAST("from" AS TIMESTAMPTZ)) AS start_us,
    epoch_us(TRY_CAST("to" AS TIMESTAMPTZ)) AS end_us
FROM {outages} JOIN cells USING (cell_id)
WHERE start_us < end_us
"""

NO_OUTAGES = "CREATE TEMP TABLE outages (cell INTEGER, start_us BIGINT, end_us BIGINT)"

# Outages that touch or overlap are merged, so that an hour is dark when one of them covers it.
NO_DATA = """
CREATE TEMP TABLE no_data AS
WITH begun AS (
    SELECT *, start_us > coalesce(max(end_us) OVER (
        PARTITION BY cell ORDER BY start_us, end_us
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), start_us - 1) AS opens
    FROM outages
), merged AS (
    SELECT cell, min(start_us) AS start_us, max(end_us) AS end_us
    FROM (SELECT *, count(*) FILTER (opens) OVER (
            PARTITION BY cell ORDER BY start_us, end_us ROWS UNBOUNDED PRECEDING) AS run FROM begun)
    GROUP BY cell, run
), dark AS (
    SELECT cell, hour FROM merged JOIN hours
    ON merged.start_us <= hours.start_us AND merged.end_us >= hours.end_us
)
SELECT zone_id, hours.start_us, count(cell_zones.cell) = count(dark.cell) AS no_data
FROM numbered_zones
CROSS JOIN hours
LEFT JOIN cell_zones USING (zone)
LEFT JOIN dark ON dark.cell = cell_zones.cell AND dark.hour = hours.hour
GROUP BY ALL
"""


def _judge_data(con: duckdb.DuckDBPyConnection, landing: Path) -> dict[str, pd.DataFrame]:
    """Where nothing can be known, from the outage list and the reference alone."""
    known = (landing / "outages").is_dir()
    con.execute(OUTAGES.format(outages=_parquet(landing / "outages")) if known else NO_OUTAGES)
    con.execute(NO_DATA)
    hours = "SELECT zone_id, make_timestamp(start_us) AS hour_start, no_data FROM no_data"
    days = "SELECT zone_id, 2 * count(*) FILTER (no_data) >= count(*) AS no_data FROM no_data"
    return {
        "zone_hours": con.execute(f"{hours} ORDER BY ALL").df(),
        "zone_days": con.execute(f"{days} GROUP BY zone_id ORDER BY zone_id").df(),
    }


# --- The night --------------------------------------------------------------------------------


def exact_night(
    landing: Path,
    day: date,
    *,
    now: datetime,
    method: Method | None = None,
    threads: int | None = None,
) -> Exact:
    """One night from the landing files to the exact measures.

    Args:
        landing: folder with the Parquet and GeoJSON inputs.
        day: the local day.
        now: the moment of publishing, up to which decisions count (naive: UTC).
        method: the method's parameters; version 3 by default.
        threads: how many DuckDB may use; all cores by default.

    Raises:
        FileNotFoundError: an input that is not optional has no file.
    """
    method = method or Method()
    local = LocalDay.of(day, method.timezone)
    seconds: dict[str, float] = {}
    with duckdb.connect(config={"threads": threads} if threads else {}) as con:
        con.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        con.execute("""
            CREATE TEMP MACRO blank(text) AS
            text IS NULL OR regexp_full_match(CAST(text AS VARCHAR), '\\s*')
        """)
        with _timed(seconds, "reference"):
            zones = read_zones(landing / "zones")
            _read_cells(con, landing, day)
            _read_residents(con, landing, method)
            _store(con, "hours", local.hours.rename_axis("hour").reset_index())
        with _timed(seconds, "geometry"):
            _place_cells(con, zones, method)
            _open_zones(con, zones, local)
        with _timed(seconds, "consent"):
            _read_changes(con, landing, now, method)
            _read_subscribers(con, landing, day, method, "subscribers")
            _read_subscribers(con, landing, day.replace(day=1), method, "month_subscribers")
        with _timed(seconds, "events"):
            accounting = _read_events(con, landing, day, local, method)
        with _timed(seconds, "stays"):
            con.execute(
                STAYS.format(
                    max_gap_us=method.max_gap_s * 1_000_000,
                    max_reach_us=method.max_reach_s * 1_000_000,
                    min_share=method.min_share,
                    start=local.start_us,
                    end=local.end_us,
                )
            )
            con.execute(HOMES.format(six_us=local.six_us, outside=OUTSIDE))
            con.execute(
                KINDS.format(
                    unit=method.unit,
                    min_dwell_us=method.min_dwell_s * 1_000_000,
                    max_dwell_us=method.max_dwell_s * 1_000_000,
                )
            )
        with _timed(seconds, "measures"):
            _prepare_measures(con, zones, local, method)
            measures, kept_units, ambiguous = {}, {}, {}
            for name, measure in MEASURES.items():
                bound = {"keys": ", ".join(measure.keys), "l0": method.bounds[name]}
                con.execute(RANKED.format(contributions=measure.contributions, **bound))
                measures[name] = con.execute(BOUNDED.format(**bound)).df()
                kept_units[name] = Counter(dict(con.execute(KEPT.format(**bound)).fetchall()))
                unsettled = measures[name].query("units_least < units_most")[[*measure.keys]]
                ambiguous[name] = set(unsettled.itertuples(index=False, name=None))
        with _timed(seconds, "hand_over"):
            return Exact(
                accounting=accounting,
                zones=[zone.zone_id for zone in zones],
                cell_zones=con.execute("FROM pairs ORDER BY cell_id, zone_id").df(),
                cell_reach=con.execute("FROM reach ORDER BY cell_id, zone_id").df(),
                left_out=frozenset(
                    subscriber_id
                    for (subscriber_id,) in con.execute(
                        "SELECT subscriber_id FROM subscribers WHERE NOT taking_part"
                    ).fetchall()
                ),
                visits=con.execute(VISITS.format(unknown=UNKNOWN)).df(),
                measures=measures,
                kept_units=kept_units,
                ambiguous=ambiguous,
                participants=con.execute(PARTICIPANTS.format(unknown=UNKNOWN)).df(),
                no_data=_judge_data(con, landing),
                seconds=seconds,
            )


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - began
