"""The demo city: zones, opening hours, districts, residents and local days.

Positions inside the world are metres east (x) and north (y) of the city centre, on a plane
that touches the globe there; over a city the error is far below a cell's range.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, time, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import h3
import numpy as np
import pyarrow as pa

AREA_RESOLUTION = 7
BLOCK_RESOLUTION = 9
METRES_PER_DEGREE = 6_371_008.8 * np.pi / 180
HOUR_S = 3600
WEEKDAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
NOWHERE = -1

T = TypeVar("T")

RESIDENTS = pa.schema([("area", pa.string()), ("residents", pa.int64())])

_DAYS = re.compile(r"(Mo|Tu|We|Th|Fr|Sa|Su)(?:-(Mo|Tu|We|Th|Fr|Sa|Su))?")
_RULE = re.compile(r"([A-Za-z,-]+) (\d\d):(\d\d)-(\d\d):(\d\d)")


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """The random numbers of one named part of the world, independent of every other part."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in name]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


def opening_times(text: str) -> np.ndarray:
    """Opening and closing of each weekday as an array (7, 2) of seconds after midnight.

    A closed day is 0, 0. Understands rules like ``Mo-Sa 10:00-20:00; Su 12:00-22:00``.
    """
    times = np.zeros((7, 2))
    for rule in text.split(";"):
        match = _RULE.fullmatch(rule.strip())
        if match is None:
            raise ValueError(
                f"opening hours {text!r}: found {rule.strip()!r}, expected like 'Mo-Sa 10:00-20:00'"
            )
        days, *clock = match.groups()
        hours = [int(part) for part in clock]
        opens, closes = (HOUR_S * hours[0] + 60 * hours[1], HOUR_S * hours[2] + 60 * hours[3])
        if not 0 <= opens < closes <= 24 * HOUR_S:
            raise ValueError(f"opening hours {text!r}: the day must open before it closes")
        for weekday in _weekdays(days, text):
            times[weekday] = opens, closes
    return times


def _weekdays(days: str, text: str) -> list[int]:
    chosen: list[int] = []
    for part in days.split(","):
        match = _DAYS.fullmatch(part)
        if match is None:
            raise ValueError(f"opening hours {text!r}: {part!r} names no weekday")
        first = WEEKDAYS.index(match[1])
        last = WEEKDAYS.index(match[2] or match[1])
        chosen += range(first, last + 1)
    return chosen


@dataclass(frozen=True)
class Zone:
    """One zone of the world; ``inside`` names the zone that holds a nested one."""

    zone_id: str
    centre_id: str
    centre_name: str
    name: str
    kind: str
    latitude: float
    longitude: float
    width_m: float
    depth_m: float
    rotation_deg: float
    opening_hours: str
    indoor_cells: int
    draw: float = 0.0
    inside: str | None = None
    visit_share: float = 0.0


@dataclass(frozen=True)
class District:
    name: str
    residents: int
    latitude: float
    longitude: float
    radius_m: float


@dataclass(frozen=True)
class Geography:
    """What the geography file says: the facts a world is drawn from."""

    latitude: float
    longitude: float
    zones: tuple[Zone, ...]
    districts: tuple[District, ...]

    def to_plane(self, latitude: Any, longitude: Any) -> tuple[np.ndarray, np.ndarray]:
        """Degrees to metres east and north of the city centre."""
        east = np.cos(np.radians(self.latitude)) * METRES_PER_DEGREE
        return (
            (np.asarray(longitude) - self.longitude) * east,
            (np.asarray(latitude) - self.latitude) * METRES_PER_DEGREE,
        )

    def to_degrees(self, x_m: Any, y_m: Any) -> tuple[np.ndarray, np.ndarray]:
        """Metres east and north of the city centre to latitude and longitude."""
        east = np.cos(np.radians(self.latitude)) * METRES_PER_DEGREE
        return (
            self.latitude + np.asarray(y_m) / METRES_PER_DEGREE,
            self.longitude + np.asarray(x_m) / east,
        )


def geography(facts: Mapping[str, Any], *, centres: int) -> Geography:
    """The geography of the first ``centres`` centres; ValueError says what is wrong with it."""
    listed = facts.get("centres", [])
    if not 1 <= centres <= len(listed):
        raise ValueError(f"centres is {centres}, expected 1 to {len(listed)}")
    try:
        zones = _zones(listed[:centres], facts.get("nested_zones", []))
        middle = facts["city_centre"]
        return Geography(
            latitude=middle["latitude"],
            longitude=middle["longitude"],
            zones=tuple(zones),
            districts=tuple(_record(District, entry) for entry in facts["districts"]),
        )
    except KeyError as error:
        raise ValueError(f"geography: {error} is missing") from error


def timezone(facts: Mapping[str, Any]) -> ZoneInfo:
    """The time zone of a geography."""
    name = facts.get("timezone")
    try:
        return ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(f"geography: timezone is {name!r}, expected one like Europe/Berlin") from (
            error
        )


def _zones(centres: Sequence[Mapping[str, Any]], nested: Sequence[Mapping[str, Any]]) -> list[Zone]:
    """The centres' zones, then the zones nested in one of them."""
    zones = [_record(Zone, {"centre_name": entry.get("name"), **entry}) for entry in centres]
    by_id = {zone.zone_id: zone for zone in zones}
    for entry in nested:
        if parent := by_id.get(entry["inside"]):
            owner = {"centre_id": parent.centre_id, "centre_name": parent.centre_name}
            zones.append(_record(Zone, {**owner, **entry}))
    for zone in zones:
        opening_times(zone.opening_hours)
    return zones


def _record(kind: type[T], entry: Mapping[str, Any]) -> T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(entry) - known):
        raise ValueError(f"{kind.__name__} {entry.get('name')!r}: unknown {unknown}")
    try:
        return kind(**entry)
    except TypeError as error:
        raise ValueError(f"{kind.__name__} {entry.get('name')!r}: {error}") from error


@dataclass(frozen=True)
class LocalDay:
    """One local calendar day as a line of elapsed seconds, 82,800 to 90,000 of them.

    The clock on the wall and the elapsed seconds differ only on the two days a year when the
    clock jumps; ``wall_elapsed_s`` is the elapsed second of each whole wall hour, 0 to 24.
    """

    day: date
    start_us: int
    wall_elapsed_s: np.ndarray

    @property
    def length_s(self) -> float:
        return float(self.wall_elapsed_s[-1])

    def elapsed(self, wall_s: Any) -> np.ndarray:
        """Seconds of the wall clock to elapsed seconds since local midnight."""
        return np.interp(wall_s, np.arange(25) * HOUR_S, self.wall_elapsed_s)

    def utc_us(self, elapsed_s: Any) -> np.ndarray:
        """Elapsed seconds to UTC microseconds since 1970."""
        return self.start_us + (np.asarray(elapsed_s) * 1e6).astype(np.int64)


def local_day(day: date, zone: ZoneInfo) -> LocalDay:
    """The local day ``day`` with its jumps of the clock."""
    next_midnight = datetime.combine(day + timedelta(days=1), time(0), zone).timestamp()
    instants = [datetime.combine(day, time(hour), zone).timestamp() for hour in range(24)]
    seconds = np.array([*instants, next_midnight]) - instants[0]
    return LocalDay(day, int(instants[0]) * 1_000_000, seconds)


@dataclass(frozen=True)
class City:
    """The geography as arrays: zones on the plane, areas with residents, blocks of homes.

    Zone arrays have one entry per zone; ``opens_s`` and ``closes_s`` are (zones, 7) in wall
    seconds. ``block_x``, ``block_y`` and ``block_cdf`` are (areas, blocks per area).
    """

    geography: Geography
    zone_ids: tuple[str, ...]
    x_m: np.ndarray
    y_m: np.ndarray
    draw: np.ndarray
    opens_s: np.ndarray
    closes_s: np.ndarray
    parent: np.ndarray
    zone_area: np.ndarray
    areas: tuple[str, ...]
    residents: np.ndarray
    block_x: np.ndarray
    block_y: np.ndarray
    block_cdf: np.ndarray

    def number(self, zone_id: str) -> int:
        """The number of a zone; ValueError for one that is not in the world."""
        if zone_id not in self.zone_ids:
            raise ValueError(f"zone {zone_id!r} is not among the world's {len(self.zone_ids)}")
        return self.zone_ids.index(zone_id)

    def beside(self, zone_id: str, metres: float) -> tuple[float, float]:
        """The point that far east of a zone's middle, in metres on the plane."""
        zone = self.number(zone_id)
        return float(self.x_m[zone] + metres), float(self.y_m[zone])

    def in_district(self, name: str | None) -> np.ndarray:
        """Whether each area is nearest to the district of that name; nowhere without a name."""
        names = [district.name for district in self.geography.districts]
        if name is None:
            return np.zeros(len(self.areas), dtype=bool)
        if name not in names:
            raise ValueError(f"district {name!r} is not among {names}")
        x, y = self.geography.to_plane(*zip(*map(h3.h3_to_geo, self.areas), strict=True))
        at_x, at_y = self.geography.to_plane(
            [district.latitude for district in self.geography.districts],
            [district.longitude for district in self.geography.districts],
        )
        nearest = np.hypot(x[:, None] - at_x, y[:, None] - at_y).argmin(axis=1)
        return nearest == names.index(name)

    def metres_outside(self, zone: int, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
        """How far points lie outside a zone's outline; 0 inside."""
        outline = self.geography.zones[zone]
        turn = np.radians(outline.rotation_deg)
        east, north = x_m - self.x_m[zone], y_m - self.y_m[zone]
        along = np.abs(east * np.cos(turn) + north * np.sin(turn)) - outline.width_m / 2
        across = np.abs(north * np.cos(turn) - east * np.sin(turn)) - outline.depth_m / 2
        return np.hypot(along.clip(0), across.clip(0))

    def point_inside(
        self, zone: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A random point, in metres, inside the outline of each given zone."""
        outlines = np.array(
            [(z.width_m, z.depth_m, np.radians(z.rotation_deg)) for z in self.geography.zones]
        )
        width, depth, turn = outlines[zone].T
        along, across = (
            0.95 * width * (rng.random(zone.size) - 0.5),
            0.95 * depth * (rng.random(zone.size) - 0.5),
        )
        return (
            self.x_m[zone] + along * np.cos(turn) - across * np.sin(turn),
            self.y_m[zone] + along * np.sin(turn) + across * np.cos(turn),
        )


def city(geography: Geography, *, population: int, seed: int) -> City:
    """The city with ``population`` residents, spread over its districts' H3 areas."""
    zones = geography.zones
    latitudes = [zone.latitude for zone in zones]
    longitudes = [zone.longitude for zone in zones]
    x_m, y_m = geography.to_plane(latitudes, longitudes)
    times = np.array([opening_times(zone.opening_hours) for zone in zones])
    ids = tuple(zone.zone_id for zone in zones)
    residents = _residents_by_area(geography, population)
    areas = tuple(sorted(residents))
    position = {area: number for number, area in enumerate(areas)}
    zone_areas = [
        h3.geo_to_h3(*at, AREA_RESOLUTION) for at in zip(latitudes, longitudes, strict=True)
    ]
    block_x, block_y = _blocks(geography, areas)
    weights = stream(seed, "blocks").lognormal(0, 1, block_x.shape)
    return City(
        geography=geography,
        zone_ids=ids,
        x_m=x_m,
        y_m=y_m,
        draw=np.array([zone.draw for zone in zones]),
        opens_s=times[:, :, 0],
        closes_s=times[:, :, 1],
        parent=np.array([NOWHERE if z.inside is None else ids.index(z.inside) for z in zones]),
        zone_area=np.array([position.get(area, NOWHERE) for area in zone_areas]),
        areas=areas,
        residents=np.array([residents[area] for area in areas]),
        block_x=block_x,
        block_y=block_y,
        block_cdf=weights.cumsum(axis=1) / weights.sum(axis=1, keepdims=True),
    )


def _apportion(total: int, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to the weights that add up to ``total`` (largest remainder)."""
    exact = np.asarray(weights, dtype=float) * total / np.sum(weights)
    whole = np.floor(exact).astype(np.int64)
    rest = np.argsort(whole - exact, kind="stable")[: total - whole.sum()]
    whole[rest] += 1
    return whole


def _residents_by_area(geography: Geography, population: int) -> dict[str, int]:
    districts = geography.districts
    shares = _apportion(population, [district.residents for district in districts])
    residents: dict[str, int] = {}
    for district, people in zip(districts, shares, strict=True):
        areas, weights = _district_areas(geography, district)
        for area, count in zip(areas, _apportion(int(people), weights), strict=True):
            residents[area] = residents.get(area, 0) + int(count)
    return {area: count for area, count in residents.items() if count > 0}


def _district_areas(geography: Geography, district: District) -> tuple[list[str], np.ndarray]:
    """The H3 areas of a district with the density of homes falling from its middle."""
    middle = h3.geo_to_h3(district.latitude, district.longitude, AREA_RESOLUTION)
    areas = sorted(h3.k_ring(middle, int(district.radius_m // 2000) + 1))
    x, y = geography.to_plane(*zip(*map(h3.h3_to_geo, areas), strict=True))
    at_x, at_y = geography.to_plane(district.latitude, district.longitude)
    distance = np.hypot(x - at_x, y - at_y) / district.radius_m
    near = distance < max(1.15, float(distance.min()) + 0.01)
    density = np.exp(-((distance[near] / 0.8) ** 2))
    return [area for area, kept in zip(areas, near, strict=True) if kept], density


def _blocks(geography: Geography, areas: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    children = [sorted(h3.h3_to_children(area, BLOCK_RESOLUTION)) for area in areas]
    # A pentagon has fewer children; none lies in a city, but every row must be as long.
    shortest = min(map(len, children))
    degrees = np.array([[h3.h3_to_geo(block) for block in row[:shortest]] for row in children])
    return geography.to_plane(degrees[:, :, 0], degrees[:, :, 1])


def residents_table(city: City) -> pa.Table:
    """The residents of each H3 area, in people."""
    return pa.table({"area": list(city.areas), "residents": city.residents}, schema=RESIDENTS)


def zones_geojson(geography: Geography) -> dict[str, Any]:
    """The zones as an RFC 7946 feature collection: closed counter-clockwise lon/lat rings."""
    features = [
        {
            "type": "Feature",
            "properties": {
                "zone_id": zone.zone_id,
                "name": zone.name,
                "centre_id": zone.centre_id,
                "centre_name": zone.centre_name,
                "kind": zone.kind,
                "opening_hours": zone.opening_hours,
            },
            "geometry": {"type": "Polygon", "coordinates": [_ring(geography, zone)]},
        }
        for zone in geography.zones
    ]
    return {"type": "FeatureCollection", "features": features}


def _ring(geography: Geography, zone: Zone) -> list[list[float]]:
    turn = np.radians(zone.rotation_deg)
    along = np.array([-1, 1, 1, -1, -1]) * zone.width_m / 2
    across = np.array([-1, -1, 1, 1, -1]) * zone.depth_m / 2
    x, y = geography.to_plane(zone.latitude, zone.longitude)
    latitude, longitude = geography.to_degrees(
        x + along * np.cos(turn) - across * np.sin(turn),
        y + along * np.sin(turn) + across * np.cos(turn),
    )
    return [
        [round(float(lon), 7), round(float(lat), 7)]
        for lon, lat in zip(longitude, latitude, strict=True)
    ]
