"""The demo network: sites, sectors, indoor cells, which of them serves where, and outages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
from scipy.spatial import KDTree

from transforms.synthetic_city import NOWHERE, City, LocalDay, stream

CELLS = pa.schema(
    [
        ("cell_id", pa.string()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("technology", pa.string()),
        ("azimuth_deg", pa.float64()),
        ("beamwidth_deg", pa.float64()),
        ("range_m", pa.float64()),
        ("indoor_zone_id", pa.string()),
        ("valid_from", pa.date32()),
        ("valid_to", pa.date32()),
    ]
)
OUTAGES = pa.schema(
    [
        ("cell_id", pa.string()),
        ("from", pa.timestamp("us", tz="UTC")),
        ("to", pa.timestamp("us", tz="UTC")),
    ]
)

# Distance from the city centre up to which sites stand that far apart, both in metres.
SITE_SPACING_M = ((7_000, 550), (12_500, 1_000), (23_000, 2_000))
RANGE_PER_SPACING = 1.2
RANGE_LIMITS_M = (250.0, 3_000.0)
TECHNOLOGIES = ("LTE", "5G", "GSM")
TECHNOLOGY_SHARES = (0.6, 0.25, 0.15)

TILE_M = 100
HALF_WIDTH_M = 24_000
CANDIDATE_SITES = 8
CANDIDATES = 3
INDOOR_SHARE = 0.85
OUTSIDE_PENALTY_DB = 15.0
FADING_DB = 5.0

RETIRED_SHARE = 0.01
DOUBLED_ROWS = 5
STRAY_OUTAGES = 3
MAST_RANGE_M = (350, 500)
NIGHT_OUTAGE_WALL_S = (2 * 3600, 4 * 3600)


@dataclass(frozen=True)
class Network:
    """The cells that are on air, one array entry each; sectors first, indoor cells after.

    ``azimuth_deg`` is NaN and ``indoor_zone`` the number of the zone for an indoor cell;
    ``indoor_first`` and ``indoor_count`` find the indoor cells of a zone.
    """

    cell_ids: tuple[str, ...]
    x_m: np.ndarray
    y_m: np.ndarray
    technology: np.ndarray
    azimuth_deg: np.ndarray
    beamwidth_deg: np.ndarray
    range_m: np.ndarray
    indoor_zone: np.ndarray
    indoor_first: np.ndarray
    indoor_count: np.ndarray

    @property
    def sectors(self) -> int:
        return int(np.count_nonzero(self.indoor_zone == NOWHERE))


@dataclass(frozen=True)
class Coverage:
    """For each tile of the city its best serving cells and how often each of them serves.

    ``cells`` is (tiles, CANDIDATES), best first; ``cdf`` (tiles, CANDIDATES - 1) holds the
    probabilities that the first, and that one of the first two, serves.
    """

    cells: np.ndarray
    cdf: np.ndarray

    def serving(self, x_m: np.ndarray, y_m: np.ndarray, luck: np.ndarray) -> np.ndarray:
        """The cell that serves each position; ``luck`` in [0, 1) picks among the candidates."""
        side = 2 * HALF_WIDTH_M // TILE_M
        column = np.clip((x_m + HALF_WIDTH_M) // TILE_M, 0, side - 1).astype(np.int32)
        row = np.clip((y_m + HALF_WIDTH_M) // TILE_M, 0, side - 1).astype(np.int32)
        tile = row * side + column
        rank = (luck[:, None] >= self.cdf[tile]).sum(axis=1)
        return self.cells[tile, rank]


@dataclass(frozen=True)
class Outages:
    """When cells were off air: the number of the cell, from and to in UTC microseconds."""

    cell: np.ndarray
    from_us: np.ndarray
    to_us: np.ndarray

    def silences(self, cell: np.ndarray, time_us: np.ndarray) -> np.ndarray:
        """Whether each event falls into an outage of its cell."""
        silenced = np.zeros(cell.size, dtype=bool)
        windows = np.unique(np.stack([self.from_us, self.to_us], axis=1), axis=0)
        for start, end in windows:
            out = self.cell[(self.from_us == start) & (self.to_us == end)]
            during = np.flatnonzero((time_us >= start) & (time_us < end))
            silenced[during] |= np.isin(cell[during], out)
        return silenced


def network(city: City, *, seed: int, mast: tuple[float, float] | None = None) -> Network:
    """Three sectors on every site, sites denser in the centre, and the centres' indoor cells.

    With a ``mast`` there is one site more, there, and nothing else differs.
    """
    rng = stream(seed, "network")
    site_x, site_y, spacing = _sites(rng)
    count = site_x.size
    azimuth = (np.array([0, 120, 240]) + rng.uniform(-15, 15, (count, 3))) % 360
    beamwidth = rng.uniform(65, 120, (count, 3))
    reach = RANGE_PER_SPACING * spacing[:, None] * rng.uniform(0.85, 1.2, (count, 3))
    technology = rng.choice(len(TECHNOLOGIES), count, p=TECHNOLOGY_SHARES)
    indoor_zone, indoor_x, indoor_y = _indoor_cells(city, rng)
    indoor = indoor_zone.size
    if mast is not None:
        own = stream(seed, "mast")
        site_x, site_y = np.append(site_x, mast[0]), np.append(site_y, mast[1])
        azimuth = np.concatenate([azimuth, [own.uniform(0, 120) + np.array([0, 120, 240])]])
        beamwidth = np.concatenate([beamwidth, own.uniform(65, 120, (1, 3))])
        reach = np.concatenate([reach, own.uniform(*MAST_RANGE_M, (1, 3))])
        technology, count = np.append(technology, 0), count + 1
    names = [f"26203-{site:05d}-{sector}" for site in range(count) for sector in (1, 2, 3)]
    counts = np.bincount(indoor_zone, minlength=len(city.zone_ids))
    return Network(
        cell_ids=(*names, *(f"26203-I{number:04d}" for number in range(indoor))),
        x_m=np.concatenate([np.repeat(site_x, 3), indoor_x]),
        y_m=np.concatenate([np.repeat(site_y, 3), indoor_y]),
        technology=np.concatenate([np.repeat(technology, 3), np.zeros(indoor, dtype=np.int64)]),
        azimuth_deg=np.concatenate([azimuth.ravel().round(), np.full(indoor, np.nan)]),
        beamwidth_deg=np.concatenate([beamwidth.ravel().round(), np.full(indoor, 360.0)]),
        range_m=np.concatenate(
            [reach.clip(*RANGE_LIMITS_M).ravel().round(), rng.uniform(80, 150, indoor).round()]
        ),
        indoor_zone=np.concatenate([np.full(3 * count, NOWHERE), indoor_zone]),
        indoor_first=3 * count + counts.cumsum() - counts,
        indoor_count=counts,
    )


def _sites(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Jittered triangular grids, ring by ring: x, y and the spacing, all in metres."""
    rings = []
    inner = 0
    for outer, spacing in SITE_SPACING_M:
        steps = np.arange(-outer, outer + spacing, spacing)
        rows = np.arange(-outer, outer + spacing, spacing * np.sqrt(3) / 2)
        columns, lines = np.meshgrid(steps, rows)
        shifted = np.where(np.arange(rows.size) % 2, spacing / 2, 0)[:, None]
        x = columns + shifted + rng.uniform(-0.25, 0.25, columns.shape) * spacing
        y = lines + rng.uniform(-0.25, 0.25, lines.shape) * spacing
        distance = np.hypot(x, y)
        keep = (distance >= inner) & (distance < outer)
        rings.append((x[keep], y[keep], np.full(keep.sum(), float(spacing))))
        inner = outer
    site_x, site_y, spacings = (np.concatenate(part) for part in zip(*rings, strict=True))
    return site_x, site_y, spacings


def _indoor_cells(
    city: City, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    wanted = [zone.indoor_cells for zone in city.geography.zones]
    zone = np.repeat(np.arange(len(wanted)), wanted)
    return zone, *city.point_inside(zone, rng)


@dataclass(frozen=True)
class Indoor:
    """What indoor cells catch: the share of the sessions in each zone, and of those outside up to
    ``leak_m`` metres from it. ``city`` has the outlines.
    """

    city: City
    share: np.ndarray
    leak_share: float
    leak_m: float

    def caught(
        self, network: Network, x_m: np.ndarray, y_m: np.ndarray, zone: np.ndarray, luck: np.ndarray
    ) -> np.ndarray:
        """The zone whose indoor cells serve each position, or NOWHERE; ``luck`` in [0, 1)."""
        caught = np.full(zone.size, NOWHERE)
        within = np.flatnonzero(zone != NOWHERE)
        has = network.indoor_count[zone[within]] > 0
        inside = within[has & (luck[within] < self.share[zone[within]])]
        caught[inside] = zone[inside]
        if self.leak_share == 0:
            return caught
        # Inside a centre without indoor cells the neighbour's are heard, too.
        open_air = np.flatnonzero((caught == NOWHERE) & (luck < self.leak_share))
        for number in np.flatnonzero((network.indoor_count > 0) & (self.city.parent == NOWHERE)):
            outline = self.city.geography.zones[number]
            reach = np.hypot(outline.width_m, outline.depth_m) / 2 + self.leak_m
            x, y = x_m[open_air], y_m[open_air]
            near = (np.abs(x - self.city.x_m[number]) < reach) & (
                np.abs(y - self.city.y_m[number]) < reach
            )
            near &= zone[open_air] != number
            rows = open_air[near]
            outside = self.city.metres_outside(int(number), x_m[rows], y_m[rows])
            caught[rows[outside <= self.leak_m]] = number
        return caught


def indoor(
    city: City,
    network: Network,
    *,
    share: tuple[float, float] | None,
    leak_share: float,
    leak_m: float,
    seed: int,
) -> Indoor:
    """How well the indoor cells of each zone catch those inside, drawn between two shares."""
    zones = len(city.zone_ids)
    shares = np.full(zones, INDOOR_SHARE)
    if share is not None:
        shares = stream(seed, "indoor").uniform(*share, zones)
    return Indoor(city, shares, leak_share, leak_m)


def coverage(network: Network, *, shadowing_db: float = 0.0, seed: int = 0) -> Coverage:
    """The best sectors of every tile, by path loss, antenna pattern, range and what stands between.

    ``shadowing_db`` is the standard deviation of what obstacles add to each sector's signal in each
    tile (log-normal shadowing).
    """
    shadows = stream(seed, "shadows")
    sectors = network.sectors
    sites = KDTree(np.stack([network.x_m[:sectors:3], network.y_m[:sectors:3]], axis=1))
    middles = np.arange(-HALF_WIDTH_M, HALF_WIDTH_M, TILE_M) + TILE_M / 2
    cells, cdf = [], []
    for y in np.array_split(middles, 16):
        x_m, y_m = (part.ravel() for part in np.meshgrid(middles, y))
        near = sites.query(np.stack([x_m, y_m], axis=1), k=CANDIDATE_SITES)[1]
        sector = (3 * near[:, :, None] + np.arange(3)).reshape(x_m.size, -1)
        level = _level_db(network, sector, x_m[:, None], y_m[:, None])
        if shadowing_db:
            level += shadows.normal(0, shadowing_db, level.shape)
        best = np.argpartition(-level, CANDIDATES, axis=1)[:, :CANDIDATES]
        level = np.take_along_axis(level, best, axis=1)
        order = np.argsort(-level, axis=1, kind="stable")
        cells.append(np.take_along_axis(np.take_along_axis(sector, best, 1), order, 1))
        odds = np.exp(np.take_along_axis(level - level.max(1, keepdims=True), order, 1) / FADING_DB)
        cdf.append(odds.cumsum(axis=1)[:, :-1] / odds.sum(axis=1, keepdims=True))
    return Coverage(np.concatenate(cells).astype(np.int32), np.concatenate(cdf).astype(np.float32))


def _level_db(network: Network, sector: np.ndarray, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    """Signal relative to the edge of the cell, in dB; far lower where a sector does not cover."""
    east, north = x_m - network.x_m[sector], y_m - network.y_m[sector]
    reach = network.range_m[sector]
    distance = np.hypot(east, north)
    bearing = np.degrees(np.arctan2(east, north))
    off_axis = np.abs((bearing - network.azimuth_deg[sector] + 180) % 360 - 180)
    half_beam = network.beamwidth_deg[sector] / 2
    loss = 35 * np.log10((distance + 20) / reach)
    pattern = np.minimum(3 * (off_axis / half_beam) ** 2, 20)
    outside = (distance > reach) | (off_axis > half_beam)
    return -loss - pattern - OUTSIDE_PENALTY_DB * outside


def outages(
    city: City,
    network: Network,
    days: Sequence[LocalDay],
    *,
    seed: int,
    dark: tuple[int, tuple[int, int]] | None = None,
) -> Outages:
    """Every night all cells round the smallest centre are off air, and a few others at random.

    With ``dark`` (a zone's number, wall hours from and to) so are, by day, all cells round it.
    """
    centres = np.flatnonzero(city.parent == NOWHERE)
    round_it = _cells_round(city, network, int(centres[np.argmin(city.draw[centres])]))
    cell, from_us, to_us = [], [], []
    for day in days:
        rng = stream(seed, "outages", day.day.toordinal())
        stray = rng.choice(network.sectors, STRAY_OUTAGES, replace=False)
        start = rng.uniform(0, 18 * 3600, STRAY_OUTAGES).round()
        night = day.elapsed(NIGHT_OUTAGE_WALL_S)
        cell += [round_it, stray]
        from_us += [np.full(round_it.size, day.utc_us(night[0])), day.utc_us(start)]
        to_us += [
            np.full(round_it.size, day.utc_us(night[1])),
            day.utc_us(start + rng.uniform(3600, 6 * 3600, STRAY_OUTAGES).round()),
        ]
        if dark is not None:
            silent = _cells_round(city, network, dark[0])
            window = day.elapsed(np.array(dark[1]) * 3600)
            cell.append(silent)
            from_us.append(np.full(silent.size, day.utc_us(window[0])))
            to_us.append(np.full(silent.size, day.utc_us(window[1])))
    return Outages(np.concatenate(cell), np.concatenate(from_us), np.concatenate(to_us))


def _cells_round(city: City, network: Network, number: int) -> np.ndarray:
    """The cells whose range reaches a zone, and its indoor cells."""
    zone = city.geography.zones[number]
    reach = network.range_m + np.hypot(zone.width_m, zone.depth_m) / 2
    distance = np.hypot(network.x_m - city.x_m[number], network.y_m - city.y_m[number])
    return np.flatnonzero((distance <= reach) | (network.indoor_zone == number))


def cells_table(city: City, network: Network, *, first_day: date, seed: int) -> pa.Table:
    """The operator's cell list: what is on air, retired and doubled cells, three broken rows."""
    rng = stream(seed, "cell list")
    latitude, longitude = city.geography.to_degrees(network.x_m, network.y_m)
    count = len(network.cell_ids)
    started = [first_day - timedelta(days=int(age)) for age in rng.integers(30, 3_650, count)]
    ends = [first_day + timedelta(days=int(left)) for left in rng.integers(200, 2_000, count)]
    ids = list(city.zone_ids)
    rows = [
        {
            "cell_id": network.cell_ids[n],
            "latitude": round(float(latitude[n]), 6),
            "longitude": round(float(longitude[n]), 6),
            "technology": TECHNOLOGIES[network.technology[n]],
            "azimuth_deg": None if np.isnan(network.azimuth_deg[n]) else network.azimuth_deg[n],
            "beamwidth_deg": network.beamwidth_deg[n],
            "range_m": network.range_m[n],
            "indoor_zone_id": None if network.indoor_zone[n] < 0 else ids[network.indoor_zone[n]],
            "valid_from": None if unknown else started[n],
            "valid_to": ends[n] if planned else None,
        }
        for n, (unknown, planned) in enumerate(
            zip(rng.random(count) < 0.03, rng.random(count) < 0.05, strict=True)
        )
    ]
    for number, row in enumerate(rows[:: int(1 / RETIRED_SHARE)]):
        gone = first_day - timedelta(days=20 + number)
        since = gone - timedelta(days=900)
        rows.append({**row, "cell_id": retired_id(number), "valid_from": since, "valid_to": gone})
    for n in rng.choice(network.sectors, DOUBLED_ROWS, replace=False):
        old = {"valid_from": date(2010, 1, 1), "valid_to": None}
        rows.append({**rows[n], **old, "range_m": 0.8 * network.range_m[n]})
    rows += [
        {**rows[0], "cell_id": "26203-BROKEN-1", "latitude": 152.5},
        {**rows[1], "cell_id": "26203-BROKEN-2", "range_m": 0.0},
        {**rows[2], "cell_id": "26203-BROKEN-3", "longitude": 500.0},
    ]
    return pa.Table.from_pylist(rows, schema=CELLS)


def retired_id(number: int) -> str:
    """The id of a cell that was taken down before the world's first day."""
    return f"26203-R{number:04d}"


def outages_table(network: Network, outages: Outages) -> pa.Table:
    return pa.table(
        {
            "cell_id": [network.cell_ids[cell] for cell in outages.cell],
            "from": outages.from_us,
            "to": outages.to_us,
        }
    ).cast(OUTAGES)
