"""Nights on Eurostat's samples of Madrid: events and network where they lie, all else drawn here.

The samples have no zones, residents, subscribers or decisions. Beside those, a copy of events and
network under the contract's names is written for the oracle, by pandas alone, and never for the
pipeline.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import h3.api.numpy_int as h3
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.shared_data import PROJECT, shared_data
from tests.small_world import small_session

DECISIONS = pa.schema(
    [
        ("decision_id", pa.string()),
        ("subscriber_id", pa.string()),
        ("action", pa.string()),
        ("verified", pa.bool_()),
        ("decided_at", pa.timestamp("us", tz="UTC")),
        ("received_at", pa.timestamp("us", tz="UTC")),
        ("channel", pa.string()),
    ]
)
RANGES_M = {"macrocell": 10_000.0, "microcell": 1_000.0}  # where the network gives none
OTHER_RANGE_M = 5_000.0
ZONE_HALF_M = 400
RESIDENT_RINGS = 2
RESIDENTS_PER_AREA = 9_000.0
EVERY_NTH_IS_A_STRANGER = 17


@dataclass(frozen=True)
class Sample:
    """One sample, a day of it to run, and how many zones to draw."""

    name: str
    conf: str
    day: date
    zones: int

    @property
    def folder(self) -> Path:
        return shared_data("madrid_multimno") / self.name

    @property
    def folder_dates(self) -> list[date]:
        """Those of the day before, the day and the day after that are there."""
        around = (self.day + timedelta(days=days) for days in (-1, 0, 1))
        return [day for day in around if list(self.files("mno_events", day))]

    def files(self, kind: str, day: date) -> list[Path]:
        within = self.folder / kind / f"year={day.year}" / f"month={day.month}" / f"day={day.day}"
        return sorted(within.glob("*.parquet"))

    def rows(self, kind: str, day: date) -> pd.DataFrame:
        """The rows of one day's folder, as they are."""
        files = self.files(kind, day)
        return pd.concat([pq.ParquetFile(file).read().to_pandas() for file in files])


BRONZE = Sample("bronze", "multimno.toml", date(2023, 1, 9), zones=4)
IN_VOLUME = Sample("synthetic_1000_users", "multimno.toml", date(2023, 1, 9), zones=6)
OLDER = Sample("sample_0.2.0", "multimno_0_2.toml", date(2023, 1, 5), zones=8)


@dataclass(frozen=True)
class Madrid:
    """A sample ready to run: the pipeline's settings, and a landing folder.

    `landing` holds what was drawn, which both read, and the copies that the oracle alone reads.
    """

    sample: Sample
    landing: Path
    root: Path

    @property
    def conf(self) -> Path:
        return self.root / "madrid.toml"

    @property
    def argv(self) -> list[str]:
        given = {
            "conf": self.conf,
            "day": self.sample.day,
            "landing": self.landing,
            "restricted": self.root / "restricted",
            "published": self.root / "published",
        }
        return [part for name, value in given.items() for part in (f"--{name}", str(value))]


def madrid(sample: Sample, root: Path) -> Madrid:
    """Draws what the sample lacks and writes it below `root`."""
    landing = root / "landing"
    cells = _cells(sample)
    events = {day: _events(sample, day) for day in sample.folder_dates}
    people = _subscribers(events, cells)
    for day, rows in events.items():
        _write(landing / "events" / f"date={day}", pa.Table.from_pandas(rows, preserve_index=False))
    _write(landing / "cells", pa.Table.from_pandas(cells, preserve_index=False))
    _write(landing / "subscribers", pa.Table.from_pandas(people, preserve_index=False))
    _write(landing / "residents", pa.table(_residents(cells)))
    _write(landing / "decisions", DECISIONS.empty_table())
    (landing / "zones").mkdir()
    zones = {"type": "FeatureCollection", "features": _zones(cells, sample.zones)}
    (landing / "zones" / "madrid.geojson").write_text(json.dumps(zones), encoding="utf-8")
    drawn = Madrid(sample, landing, root)
    drawn.conf.write_text(_settings(sample, root), encoding="utf-8")
    return drawn


def _settings(sample: Sample, root: Path) -> str:
    """The project's own overlay, but for where things lie, in a test's Spark session."""
    text = (PROJECT / "conf" / sample.conf).read_text(encoding="utf-8")
    own = tomllib.loads(text)["paths"]["reports"]
    moved = {
        f'reports = "{own}"': f'reports = "{root}/reports"',
        'path = "mno_events/': f'path = "{sample.folder.resolve()}/mno_events/',
        'path = "mno_network/': f'path = "{sample.folder.resolve()}/mno_network/',
    }
    for there, here in moved.items():
        assert text.count(there) == 1
        text = text.replace(there, here)
    return f"{text}\n{small_session()}"


def _write(folder: Path, table: pa.Table) -> None:
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "rows.parquet")


# --- in the contract's words ------------------------------------------------------------------


def _events(sample: Sample, day: date) -> pd.DataFrame:
    raw = sample.rows("mno_events", day)
    return pd.DataFrame(
        {
            "subscriber_id": raw["user_id"].map(bytes.hex, na_action="ignore").astype("str"),
            "event_time": instants(raw["timestamp"]).dt.as_unit("us"),
            "cell_id": raw["cell_id"],
            "event_type": "unknown",
        }
    )


def instants(texts: pd.Series[str]) -> pd.Series[pd.Timestamp]:
    """Local times of Madrid in UTC."""
    local = pd.to_datetime(texts, format="ISO8601", errors="coerce")
    return local.dt.tz_localize("Europe/Madrid").dt.tz_convert("UTC")


def _cells(sample: Sample) -> pd.DataFrame:
    raw = sample.rows("mno_network", sample.day)
    by_type = raw["cell_type"].map(RANGES_M).fillna(OTHER_RANGE_M)
    return pd.DataFrame(
        {
            "cell_id": raw["cell_id"],
            "latitude": raw["latitude"].astype(float),
            "longitude": raw["longitude"].astype(float),
            "technology": raw["technology"],
            "azimuth_deg": raw["azimuth_angle"].astype(float),
            "beamwidth_deg": raw["horizontal_beam_width"].astype(float),
            "range_m": raw["range"].astype(float) if "range" in raw else by_type,
            "indoor_zone_id": pd.Series(index=raw.index, dtype="str"),
            "valid_from": pd.to_datetime(raw["valid_date_start"]).dt.date,
            "valid_to": pd.to_datetime(raw["valid_date_end"]).dt.date,
        }
    ).sort_values("cell_id", ignore_index=True)


# --- drawn ------------------------------------------------------------------------------------


def _zones(cells: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """Squares of 800 m round cells from south to north, as many steps apart as there are."""
    chosen = cells.sort_values("latitude").iloc[:: max(len(cells) // count, 1)].head(count)
    return [_square(number, row) for number, row in enumerate(chosen.itertuples(), start=1)]


def _square(number: int, cell: Any) -> dict[str, Any]:
    up, across = ZONE_HALF_M / 111_200, ZONE_HALF_M / 84_700  # degrees, at Madrid's latitude
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    return {
        "type": "Feature",
        "properties": {
            "zone_id": f"madrid-{number}",
            "name": f"Plaza {number}",
            "centre_id": f"madrid-{number}",
            "centre_name": f"Plaza {number}",
            "kind": "mall",
        },
        "geometry": {
            "type": "Polygon",
            "coordinates": [
                [[cell.longitude + x * across, cell.latitude + y * up] for x, y in corners]
            ],
        },
    }


def _areas(cells: pd.DataFrame) -> list[str]:
    middle = h3.geo_to_h3(cells["latitude"].mean(), cells["longitude"].mean(), 7)
    return sorted(h3.h3_to_string(area) for area in h3.k_ring(middle, RESIDENT_RINGS))


def _residents(cells: pd.DataFrame) -> dict[str, list[Any]]:
    areas = _areas(cells)
    return {"area": areas, "residents": [RESIDENTS_PER_AREA] * len(areas)}


def _subscribers(events: dict[date, pd.DataFrame], cells: pd.DataFrame) -> pd.DataFrame:
    """Everybody with a whole id (32 bytes) but for every nth, who is a stranger."""
    ids = pd.concat([rows["subscriber_id"] for rows in events.values()]).dropna().unique()
    whole = sorted(one for one in ids if len(one) == 64)
    known = [one for place, one in enumerate(whole) if place % EVERY_NTH_IS_A_STRANGER]
    areas = _areas(cells)
    return pd.DataFrame(
        {
            "subscriber_id": known,
            "brand": "o2",
            "area": [areas[place % len(areas)] for place in range(len(known))],
            "since": date(2022, 1, 1),
            "until": pd.Series([None] * len(known), dtype="object"),
        }
    )
