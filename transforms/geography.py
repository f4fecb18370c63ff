"""Zones, cells and the ground between them: what a cell tells of a zone.

Distances are great-circle metres (haversine) on the sphere of the IUGG mean radius; positions are
WGS84 degrees. Hexagons are those of H3; this is the only module that knows H3.

An indoor cell tells who is in its zone. Where a zone has none, its share of a cell's footprint
tells how probable it is: people are not spread evenly, a hexagon's weight falls off towards the
edge of the range and rises with the attraction of the zone it belongs to.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeGuard

import h3.api.numpy_int as h3
import h3_pyspark
import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.tables import ELSEWHERE

EARTH_RADIUS_M = 6_371_008.8
ZONE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
# A polygon of this size is a slip of the hand (a whole country, swapped corners), and filling it
# with hexagons would take the memory of the machine.
MAX_ZONE_KM2 = 1_000
SUBJECT_LENGTH = 80

CELL_ZONES_SCHEMA = "cell_id string, zone_id string, probability double"
NESTED_SHARE = 0.9
"""A zone with at least this part of its area in another one lies in it."""

Floats = NDArray[np.float64]
Hexagons = NDArray[np.uint64]


# ---------------------------------------------------------------------------------------- zones


@dataclass(frozen=True)
class Zone:
    """One zone: an area whose visitors are counted. ``wkb`` is its geometry in WGS84 degrees."""

    zone_id: str
    name: str
    centre_id: str | None
    centre_name: str | None
    kind: str | None
    opening_hours: str | None
    attraction: float | None
    wkb: bytes


@dataclass(frozen=True)
class Fault:
    """Why something was left out. Both texts are safe to print; ``subject`` is short."""

    subject: str
    reason: str


class NotGeoJson(ValueError):
    """A file that is no RFC 7946 FeatureCollection at all."""


class _LeftOut(ValueError):
    """One feature that cannot be a zone; the text says why."""


class _Feature(NamedTuple):
    file: str
    position: int
    body: object

    @property
    def properties(self) -> Mapping[str, object]:
        found = self.body.get("properties") if isinstance(self.body, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def subject(self) -> str:
        zone_id = self.properties.get("zone_id")
        if isinstance(zone_id, str | int | float):
            name = f"zone {_shown(zone_id)}"
        else:
            name = f"feature {self.position}"
        return _short(f"{name} in {_printable(self.file)}", SUBJECT_LENGTH)


def zones_from_geojson(files: Iterable[tuple[str, str]]) -> tuple[list[Zone], list[Fault], int]:
    """The zones of GeoJSON files, the faults of the features left out, and the features seen.

    ``files`` are pairs of a name and a text. Zones come sorted by id, faults in reading order, one
    for each feature left out. All features of a doubled id are left out, in whichever files they
    are: nobody can say which one is meant. A property that is null counts as missing.

    Raises NotGeoJson for a text that is neither a FeatureCollection nor a single Feature.
    """
    features = [feature for file, text in files for feature in _features(file, text)]
    uses = Counter(_identifier(feature.properties.get("zone_id")) for feature in features)
    zones: list[Zone] = []
    faults: list[Fault] = []
    for feature in features:
        try:
            zones.append(_zone(feature, uses))
        except _LeftOut as fault:
            faults.append(Fault(feature.subject, str(fault)))
    return sorted(zones, key=lambda zone: zone.zone_id), faults, len(features)


def _features(file: str, text: str) -> list[_Feature]:
    try:
        # RFC 8259 lets a reader ignore a byte order mark, and Windows tools write one.
        document = json.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise _not_geojson(file, "JSON nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _not_geojson(file, f"no JSON (line {error.lineno}: {error.msg})") from None
    except ValueError:
        raise _not_geojson(file, "a number too long to read") from None
    if not isinstance(document, dict):
        raise _not_geojson(file, _kind(document))
    match document.get("type"):
        case "Feature":
            bodies: object = [document]
        case "FeatureCollection":
            bodies = document.get("features")
        case str() as other:
            raise _not_geojson(file, f"type {_shown(other)}")
        case _:
            raise _not_geojson(file, "an object without a type")
    if not isinstance(bodies, list):
        raise _not_geojson(file, "a FeatureCollection without a list of features")
    return [_Feature(file, position, body) for position, body in enumerate(bodies, start=1)]


def _not_geojson(file: str, found: str) -> NotGeoJson:
    return NotGeoJson(f"{_printable(file)}: found {found}, expected an RFC 7946 FeatureCollection")


def _zone(feature: _Feature, uses: Counter[str | None]) -> Zone:
    body, properties = feature.body, feature.properties
    if not isinstance(body, dict) or body.get("type") != "Feature":
        raise _LeftOut(f"found {_kind(body)}, expected an object of type 'Feature'")
    zone_id = _valid_id(properties.get("zone_id"))
    if uses[zone_id] > 1:
        raise _LeftOut(f"id is used by {uses[zone_id]} features, expected one")
    return Zone(
        zone_id=zone_id,
        name=_text(properties.get("name")) or zone_id,
        centre_id=_text(properties.get("centre_id")),
        centre_name=_text(properties.get("centre_name")),
        kind=_text(properties.get("kind")),
        opening_hours=_text(properties.get("opening_hours")),
        attraction=_attraction(properties.get("attraction")),
        wkb=shapely.to_wkb(_geometry(body.get("geometry"))),
    )


def _identifier(value: object) -> str | None:
    """The text of an id; whole numbers are common ids in GeoJSON and count as their digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        # Longer ones cannot be ids anyway, and Python refuses to write out 4,300 digits.
        return str(value) if abs(value) < 10**64 else None
    return value if isinstance(value, str) else None


def _valid_id(value: object) -> str:
    zone_id = _identifier(value)
    if value is None:
        raise _LeftOut("has no zone_id")
    if zone_id is None:
        raise _LeftOut(f"id is {_kind(value)}, expected text")
    if not ZONE_ID.fullmatch(zone_id):
        raise _LeftOut(f"id does not match {ZONE_ID.pattern}")
    if zone_id == ELSEWHERE:
        raise _LeftOut(f"id {ELSEWHERE!r} is reserved for the other end of a trip")
    return zone_id


def _attraction(value: object) -> float | None:
    if value is None:
        return None
    number = _number(value)
    if number is None or not number > 0:
        shown = _shown(value) if isinstance(value, str | int | float) else _kind(value)
        raise _LeftOut(f"attraction is {shown}, expected a finite number above 0")
    return number


def _number(value: object) -> float | None:
    """A finite number, or None for everything else JSON (and Python's reader of it) can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str | None:
    """Free text as it came; numbers become text, blank and other things count as missing."""
    if isinstance(value, str):
        # JSON can spell half a surrogate pair, which no later step could write as UTF-8.
        return value.encode("utf-8", "replace").decode("utf-8") if value.strip() else None
    return None if (number := _number(value)) is None else f"{number:.15g}"


def _geometry(value: object) -> shapely.Polygon | shapely.MultiPolygon:
    if not isinstance(value, dict):
        raise _LeftOut(f"geometry is {_kind(value)}, expected a Polygon or MultiPolygon")
    kind, coordinates = value.get("type"), value.get("coordinates")
    geometry: shapely.Polygon | shapely.MultiPolygon
    match kind:
        case "Polygon":
            geometry = _polygon(coordinates)
        case "MultiPolygon":
            geometry = shapely.MultiPolygon([_polygon(part) for part in _list(coordinates)])
        case _:
            shown = _shown(kind) if isinstance(kind, str) else "without a type"
            raise _LeftOut(f"geometry is {shown}, expected a Polygon or MultiPolygon")
    if not geometry.is_valid:
        raise _LeftOut(f"geometry is broken: {shapely.is_valid_reason(geometry)}")
    if (area_km2 := _area_km2(geometry)) > MAX_ZONE_KM2:
        raise _LeftOut(f"geometry covers {area_km2:,.0f} km2, expected at most {MAX_ZONE_KM2:,}")
    return geometry


def _polygon(rings: object) -> shapely.Polygon:
    shell, *holes = [_ring(ring) for ring in _list(rings)]
    return shapely.Polygon(shell, holes)


def _ring(positions: object) -> list[tuple[float, float]]:
    ring = [_position(position) for position in _list(positions)]
    if len(ring) < 4 or ring[0] != ring[-1]:
        raise _LeftOut("geometry has a ring that is not closed, expected 4 positions or more")
    return ring


def _position(value: object) -> tuple[float, float]:
    longitude, latitude = (
        map(_number, value[:2]) if isinstance(value, list) and len(value) > 1 else (None, None)
    )
    if longitude is None or latitude is None:
        raise _LeftOut("geometry has a position that is not a pair of finite numbers")
    if abs(longitude) > 180 or abs(latitude) > 90:
        raise _LeftOut(
            f"geometry has the position {longitude:.6g}, {latitude:.6g},"
            " expected WGS84 degrees (longitude, latitude)"
        )
    return longitude, latitude


def _list(value: object) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise _LeftOut("geometry is empty or not made of rings of positions")
    return value


def _area_km2(geometry: shapely.Geometry) -> float:
    """Area on the sphere: longitude and the sine of latitude make an equal-area map."""

    def equal_area(degrees: Floats) -> Floats:
        radians = np.radians(degrees)
        return np.column_stack([radians[:, 0], np.sin(radians[:, 1])])

    return float(shapely.transform(geometry, equal_area).area) * (EARTH_RADIUS_M / 1000) ** 2


def _kind(value: object) -> str:
    """What JSON calls a value, for messages that must not repeat the value."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"


def _shown(value: str | int | float) -> str:
    if isinstance(value, int) and abs(value) >= 10**64:
        return "a huge number"
    return _short(_printable(repr(value)), SUBJECT_LENGTH // 2)


def _printable(text: str) -> str:
    """The text in one line: what a terminal or a reader could trip over is spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def zone_pairs(zones: Sequence[Zone], *, max_pair_km: float) -> list[tuple[str, str]]:
    """The public list of directed pairs between which trips are counted, sorted.

    Both directions of two different zones whose centroids are nearer than ``max_pair_km``, and of
    each zone and ``elsewhere``. It depends on the reference alone, never on events.
    """
    ids = [zone.zone_id for zone in zones]
    points = _points(*_centroids(zones))
    pairs = [pair for one in ids for pair in ((ELSEWHERE, one), (one, ELSEWHERE))]
    for index, origin in enumerate(ids):
        near = _distances_m(points, points[:, index]) < max_pair_km * 1000
        pairs += [(origin, ids[other]) for other in np.flatnonzero(near) if other != index]
    return sorted(pairs)


def _centroids(zones: Sequence[Zone]) -> tuple[Floats, Floats]:
    """Latitudes and longitudes of the zones' centroids, degrees."""
    centroids = shapely.centroid(shapely.from_wkb(np.array([z.wkb for z in zones], dtype=object)))
    return shapely.get_y(centroids), shapely.get_x(centroids)


# ------------------------------------------------------------------------------------- hexagons


def area(latitude: Column, longitude: Column, *, resolution: int) -> Column:
    """The H3 index (text) of a position in degrees; null where it is not on the globe.

    A plain Python function per row: for reference tables, never for events.
    """
    latitude, longitude = latitude.cast("double"), longitude.cast("double")
    # NaN is above every number in Spark, so it falls out too.
    on_globe = (F.abs(latitude) <= 90) & (F.abs(longitude) <= 180)
    index: Column = h3_pyspark.geo_to_h3(F.when(on_globe, latitude), longitude, F.lit(resolution))
    return index


def zone_hexagons(zones: Sequence[Zone], *, resolution: int) -> dict[str, frozenset[str]]:
    """The hexagons (H3 index as text) of each zone, by zone_id.

    A hexagon belongs to a zone by its centre; a zone that holds no centre gets the hexagon that
    holds its centroid.
    """
    return {
        zone.zone_id: frozenset(h3.h3_to_string(hexagon) for hexagon in hexagons.tolist())
        for zone, hexagons in zip(zones, _zone_hexagons(zones, resolution), strict=True)
    }


def _zone_hexagons(zones: Sequence[Zone], resolution: int) -> list[Hexagons]:
    latitudes, longitudes = _centroids(zones)
    found = []
    for zone, latitude, longitude in zip(zones, latitudes, longitudes, strict=True):
        parts = shapely.get_parts(shapely.from_wkb(zone.wkb))
        filled = [
            h3.polyfill(shapely.geometry.mapping(part), resolution, geo_json_conformant=True)
            for part in parts
        ]
        hexagons = np.unique(np.concatenate(filled))
        if not hexagons.size:
            hexagons = np.array([h3.geo_to_h3(latitude, longitude, resolution)], dtype=np.uint64)
        found.append(hexagons)
    return found


def _points(latitudes: Floats, longitudes: Floats) -> Floats:
    """Degrees to unit vectors, one column each.

    Differences of unit vectors give the same distances and bearings as the haversine and the
    initial-bearing formulas, to far below a micrometre, with one trigonometric call less each.
    """
    latitudes, longitudes = np.radians(latitudes), np.radians(longitudes)
    return np.stack(
        [
            np.cos(latitudes) * np.cos(longitudes),
            np.cos(latitudes) * np.sin(longitudes),
            np.sin(latitudes),
        ]
    )


def _distances_m(points: Floats, origin: Floats) -> Floats:
    chords = np.sqrt(((points - origin[:, None]) ** 2).sum(axis=0))
    distances: Floats = 2 * EARTH_RADIUS_M * np.arcsin(np.minimum(chords / 2, 1))
    return distances


def _hexagon_points(hexagons: Hexagons) -> Floats:
    degrees = np.array([h3.h3_to_geo(hexagon) for hexagon in hexagons.tolist()]).reshape(-1, 2)
    return _points(degrees[:, 0], degrees[:, 1])


# --------------------------------------------------------------------------------------- ground

# The hexagons around a cell are looked up by tile: a hexagon this many resolutions coarser, and
# all 343 that descend from it.
TILE_STEPS = 3
# In mean edge lengths of a tile, anywhere on Earth (measured, pentagons included: 1.25 and 1.26):
# the farthest that a descendant's centre lies from the tile's, and the least that a ring of tiles
# is farther out than the one before.
TILE_REACH = 1.5
TILE_RING = 1.2
# Against the mean of its resolution: the largest hexagon's area (1.21), the longest radius (1.27).
LARGEST_HEXAGON = 1.25
LONGEST_RADIUS = 1.5
TILES_AT_ONCE = 128
# 11 kB each: at most 70 MB in a worker.
TILES_REMEMBERED = 6_000


@dataclass(frozen=True, eq=False)
class Ground:
    """The zones as hexagons, ready to be weighed: what each worker needs, and travels once.

    ``hexagons`` are those of all zones, once each and ascending; ``points`` and ``attraction`` go
    with them; ``members`` are the positions in ``hexagons`` of each zone's own. ``taken`` lists
    them by tile. A zone lies within ``radii_m`` of its column in ``middles``.
    """

    resolution: int
    zone_ids: tuple[str, ...]
    hexagons: Hexagons
    points: Floats
    attraction: Floats
    members: tuple[NDArray[np.int64], ...]
    middles: Floats
    radii_m: Floats
    taken: Mapping[int, Hexagons]

    @property
    def tile_resolution(self) -> int:
        return max(self.resolution - TILE_STEPS, 0)


def ground(zones: Sequence[Zone], *, resolution: int, zone_attraction: float) -> Ground:
    """Lay the zones out on hexagons; where zones overlap, the largest attraction counts."""
    by_zone = _zone_hexagons(zones, resolution)
    hexagons = np.unique(np.concatenate([np.empty(0, np.uint64), *by_zone]))
    points = _hexagon_points(hexagons)
    members = tuple(np.searchsorted(hexagons, own) for own in by_zone)
    attraction = np.zeros(hexagons.size)
    for zone, own in zip(zones, members, strict=True):
        given = zone_attraction if zone.attraction is None else zone.attraction
        # Beyond that nothing is left for the ground outside anyway, and sums would overflow.
        attraction[own] = np.maximum(attraction[own], min(given, 1e100))
    middles = np.array([points[:, own].mean(axis=1) for own in members]).reshape(-1, 3).T
    middles = middles / np.linalg.norm(middles, axis=0)
    radii_m = np.array(
        [_distances_m(points[:, own], middles[:, i]).max() for i, own in enumerate(members)]
    )
    tile_resolution = max(resolution - TILE_STEPS, 0)
    tiles = np.array(
        [h3.h3_to_parent(hexagon, tile_resolution) for hexagon in hexagons.tolist()], np.uint64
    )
    return Ground(
        resolution=resolution,
        zone_ids=tuple(zone.zone_id for zone in zones),
        hexagons=hexagons,
        points=points,
        attraction=attraction,
        members=members,
        middles=middles,
        radii_m=radii_m,
        taken={int(tile): hexagons[tiles == tile] for tile in np.unique(tiles)},
    )


@lru_cache(maxsize=TILES_REMEMBERED)
def _tile(tile: int, resolution: int) -> tuple[Hexagons, Floats]:
    """The hexagons that descend from a tile, and their centres."""
    hexagons = h3.h3_to_children(tile, resolution)
    return hexagons, _hexagon_points(hexagons)


@lru_cache(maxsize=2**16)
def _centre(tile: int) -> tuple[float, float]:
    latitude, longitude = h3.h3_to_geo(tile)
    return latitude, longitude


class _Footprint:
    """What one cell covers: a disc, or a sector of it, and how the weight falls off in it."""

    def __init__(
        self,
        latitude: float,
        longitude: float,
        azimuth_deg: float | None,
        beamwidth_deg: float | None,
        range_m: float,
    ) -> None:
        self.latitude, self.longitude, self.range_m = latitude, longitude, range_m
        self.origin = _points(np.array([latitude]), np.array([longitude]))[:, 0]
        self.sector = False
        self.half_beam = math.pi
        if _given(azimuth_deg) and _given(beamwidth_deg) and beamwidth_deg < 360:
            self.sector = True
            self.half_beam = math.radians(beamwidth_deg / 2)
            azimuth = math.radians(azimuth_deg % 360)
            phi, lam = math.radians(latitude), math.radians(longitude)
            east = np.array([-math.sin(lam), math.cos(lam), 0.0])
            north = np.array(
                [-math.sin(phi) * math.cos(lam), -math.sin(phi) * math.sin(lam), math.cos(phi)]
            )
            self.ahead = math.cos(azimuth) * north + math.sin(azimuth) * east
            self.aside = math.cos(azimuth) * east - math.sin(azimuth) * north

    def weights(self, points: Floats) -> tuple[NDArray[np.int64], Floats]:
        """The positions of the points covered, and their weights (1 - distance / range)²."""
        x, y, z = points
        dx, dy, dz = x - self.origin[0], y - self.origin[1], z - self.origin[2]
        chords = dx * dx + dy * dy + dz * dz
        farthest = 2 * math.sin(min(self.range_m / EARTH_RADIUS_M, math.pi) / 2)
        covered = np.flatnonzero(chords <= farthest**2)
        distances = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(chords[covered]) / 2)
        if self.sector:
            steps = np.stack([dx[covered], dy[covered], dz[covered]])
            turn = np.abs(np.arctan2(self.aside @ steps, self.ahead @ steps))
            # On top of the mast there is no bearing; a micrometre is rounding.
            inside = (turn <= self.half_beam) | (distances < 1e-6)
            covered, distances = covered[inside], distances[inside]
        return covered, np.maximum(1 - distances / self.range_m, 0) ** 2

    def least_weight(self, resolution: int) -> float:
        """A lower bound of the weight of all hexagons covered, with attraction 1; maybe 0.

        The integral of the weight over the footprint, as if all hexagons were as large as the
        largest on Earth, less what centres can miss: within a hexagon's radius the weight differs
        by at most 2 radius / range, and hexagons astride the sector's sides may not count.
        """
        radius_m = LONGEST_RADIUS * h3.edge_length(resolution, "m")
        hexagon_m2 = LARGEST_HEXAGON * h3.hex_area(resolution, "m^2")
        sides = 6 / self.half_beam if self.sector and self.half_beam > 0 else 0
        missed = (12 + sides) * radius_m / self.range_m
        return float(max(self.half_beam * self.range_m**2 / 6 / hexagon_m2 * (1 - missed), 0))


def presence(
    ground: Ground,
    *,
    latitude: float | None,
    longitude: float | None,
    azimuth_deg: float | None,
    beamwidth_deg: float | None,
    range_m: float | None,
    min_presence: float,
) -> dict[str, float]:
    """P(zone | cell) by zone_id, for the zones that a cell sees by its geometry.

    Without an azimuth or a beam width the cell is omnidirectional. Shares below ``min_presence``
    are left out and nothing is rescaled; a hexagon in several zones counts for each of them.
    """
    if not (_given(latitude) and _given(longitude) and _given(range_m) and range_m > 0):
        return {}
    cell = _Footprint(latitude, longitude, azimuth_deg, beamwidth_deg, range_m)
    # A metre against rounding; that a zone is near decides nothing yet.
    near = np.flatnonzero(_distances_m(ground.middles, cell.origin) <= range_m + ground.radii_m + 1)
    if not near.size:
        return {}
    own = np.unique(np.concatenate([ground.members[zone] for zone in near]))
    covered, weights = cell.weights(ground.points[:, own])
    weighed = np.zeros(ground.hexagons.size)
    weighed[own[covered]] = weights * ground.attraction[own[covered]]
    by_zone = {ground.zone_ids[zone]: weighed[ground.members[zone]].sum() for zone in near}
    # Most wide cells see no zone well enough; the bound spares counting their many hexagons.
    least = cell.least_weight(ground.resolution) * min(ground.attraction.min(), 1)
    if max(by_zone.values()) <= min_presence * least * (1 - 1e-9):
        return {}
    total = weighed.sum() + _open_weight(ground, cell)
    if not total > 0:
        return {}
    # A zone that holds the whole footprint may come out above 1 by a rounding.
    shares = {zone_id: min(float(weight / total), 1.0) for zone_id, weight in by_zone.items()}
    return {zone_id: p for zone_id, p in shares.items() if p > 0 and p >= min_presence}


def reached(
    ground: Ground, latitude: float | None, longitude: float | None, range_m: float | None
) -> list[str]:
    """Zones with a hexagon within the range of a cell, whichever way its antenna looks: walls
    reflect, and no sector ends at its edge.
    """
    if not (_given(latitude) and _given(longitude) and _given(range_m) and range_m > 0):
        return []
    origin = _points(np.array([latitude]), np.array([longitude]))[:, 0]
    near = np.flatnonzero(_distances_m(ground.middles, origin) <= range_m + ground.radii_m + 1)
    return [
        ground.zone_ids[zone]
        for zone in near
        if (_distances_m(ground.points[:, ground.members[zone]], origin) <= range_m).any()
    ]


def _open_weight(ground: Ground, cell: _Footprint) -> float:
    """The weight of the hexagons covered that belong to no zone (attraction 1)."""
    tiles = _tiles_around(cell, ground.tile_resolution)
    total = 0.0
    for start in range(0, len(tiles), TILES_AT_ONCE):
        chunk = [_open_points(ground, tile) for tile in tiles[start : start + TILES_AT_ONCE]]
        total += float(cell.weights(np.concatenate(chunk, axis=1))[1].sum())
    return total


def _tiles_around(cell: _Footprint, tile_resolution: int) -> list[int]:
    """All tiles with a hexagon that the range may reach."""
    edge_m = h3.edge_length(tile_resolution, "m")
    reach_m = cell.range_m + TILE_REACH * edge_m
    middle = h3.geo_to_h3(cell.latitude, cell.longitude, tile_resolution)
    # The cell is not in the middle of its tile: one more reach.
    rings = math.ceil((reach_m + TILE_REACH * edge_m) / (TILE_RING * edge_m))
    tiles: list[int] = h3.k_ring(middle, rings).tolist()
    degrees = np.array([_centre(tile) for tile in tiles])
    near = _distances_m(_points(degrees[:, 0], degrees[:, 1]), cell.origin) <= reach_m
    return [tiles[index] for index in np.flatnonzero(near)]


def _open_points(ground: Ground, tile: int) -> Floats:
    hexagons, points = _tile(tile, ground.resolution)
    taken = ground.taken.get(tile)
    return points if taken is None else points[:, ~np.isin(hexagons, taken)]


def _given(value: float | None) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)


def nested(zones: Sequence[Zone]) -> dict[str, frozenset[str]]:
    """The zones that each zone lies in (`NESTED_SHARE` of its area), itself included."""
    outlines = np.array([shapely.from_wkb(zone.wkb) for zone in zones], dtype=object)
    around = {zone.zone_id: {zone.zone_id} for zone in zones}
    for inner, outer in shapely.STRtree(outlines).query(outlines, predicate="intersects").T:
        shared = shapely.intersection(outlines[inner], outlines[outer]).area
        if shared >= NESTED_SHARE * outlines[inner].area:
            around[zones[inner].zone_id].add(zones[outer].zone_id)
    return {zone_id: frozenset(outer) for zone_id, outer in around.items()}


def cell_zones(
    cells: DataFrame,
    zones: Sequence[Zone],
    *,
    indoor_zone_ids: Collection[str],
    resolution: int,
    zone_attraction: float,
    min_presence: float,
) -> DataFrame:
    """What each cell tells of each zone it may be heard in: cell_id, zone_id, probability.

    ``cells`` has cell_id, latitude, longitude, azimuth_deg, beamwidth_deg (degrees), range_m and
    indoor_zone_id; ``indoor_zone_ids`` are the zones that have indoor cells.

    ``probability`` is P(zone | cell), (0 to 1]. An indoor cell tells its zone, and those around it,
    for certain. Where a zone has indoor cells, itself or in a zone nested in it, they alone tell of
    it; elsewhere all cells do that have ``presence`` there. Null: the cell's range reaches the zone
    and tells nothing, who is heard there may be in the zone or not. A cell out of reach has no row.
    """
    land = ground(zones, resolution=resolution, zone_attraction=zone_attraction)
    around = nested(zones)
    told_indoors = frozenset().union(*(around[zone] for zone in indoor_zone_ids if zone in around))

    def look(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _told(batch, land, around, told_indoors, min_presence)

    geometry = ("latitude", "longitude", "azimuth_deg", "beamwidth_deg", "range_m")
    # Bands of a tenth of a degree, west to east: neighbours share their tiles, and there are some
    # tasks more than cores because wide cells take longer.
    tasks = 4 * cells.sparkSession.sparkContext.defaultParallelism
    place = (F.floor(F.col("latitude") * 10), F.col("longitude"))
    return (
        cells.select(
            F.col("cell_id").cast("string"),
            *(F.col(name).cast("double") for name in geometry),
            F.col("indoor_zone_id").cast("string"),
        )
        .repartitionByRange(tasks, *place)
        .sortWithinPartitions(*place)
        .mapInArrow(look, CELL_ZONES_SCHEMA)
    )


def _told(
    batch: pa.RecordBatch,
    land: Ground,
    around: Mapping[str, frozenset[str]],
    told_indoors: frozenset[str],
    min_presence: float,
) -> pa.RecordBatch:
    cell_ids: list[str] = []
    zone_ids: list[str] = []
    probabilities: list[float | None] = []
    for row in batch.to_pylist():
        cell_id, indoor_zone_id = row.pop("cell_id"), row.pop("indoor_zone_id")
        told: dict[str, float]
        if indoor_zone_id in around:
            told = dict.fromkeys(sorted(around[indoor_zone_id]), 1.0)
        else:
            seen = presence(land, **row, min_presence=min_presence)
            told = {zone: share for zone, share in seen.items() if zone not in told_indoors}
        heard = reached(land, row["latitude"], row["longitude"], row["range_m"])
        of_cell: dict[str, float | None] = {**dict.fromkeys(heard), **told}
        cell_ids += [cell_id] * len(of_cell)
        zone_ids += of_cell.keys()
        probabilities += of_cell.values()
    return pa.RecordBatch.from_arrays(
        [
            pa.array(cell_ids, pa.string()),
            pa.array(zone_ids, pa.string()),
            pa.array(probabilities, pa.float64()),
        ],
        names=["cell_id", "zone_id", "probability"],
    )


# ------------------------------------------------------------------------------------------ maps


def area_outlines(areas: Iterable[str]) -> dict[str, shapely.Polygon]:
    """The outline of each area (H3 index as text), degrees; what is no such index is left out."""
    return {
        area: shapely.Polygon(h3.h3_to_geo_boundary(index, geo_json=True))
        for area in areas
        if h3.h3_is_valid(index := _index_of(area))
    }


def _index_of(area: str) -> int:
    try:
        return int(h3.string_to_h3(area))
    except ValueError:
        return 0
