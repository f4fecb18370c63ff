"""The second opinion, held against nights small enough to be worked out by hand.

Times in the tables are UTC; in November the local day runs from 23:00 to 23:00.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import h3.api.numpy_int as h3
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shapely.geometry import shape

from tests.oracle import REJECTIONS, Antenna, Exact, Method, Zone, exact_night, probabilities
from tests.oracle import _ground as ground

DAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 24, 3)
HERE = (52.5, 13.4)
HOME = h3.h3_to_string(h3.geo_to_h3(*HERE, 7))
ABROAD = h3.h3_to_string(h3.geo_to_h3(48.1, 11.6, 7))

SCHEMAS = {
    "events": "subscriber_id event_time:time cell_id event_type brand",
    "cells": "cell_id latitude:float longitude:float technology azimuth_deg:float"
    " beamwidth_deg:float range_m:float indoor_zone_id valid_from:date valid_to:date",
    "decisions": "decision_id subscriber_id action verified:bool decided_at:time"
    " received_at:time channel",
    "residents": "area residents:float",
    "subscribers": "subscriber_id brand area since:date until:date",
    "outages": "cell_id from:time to:time",
}
TYPES: Mapping[str, Any] = {
    "": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
}

Row: TypeAlias = Sequence[Any]


def write(landing: Path, name: str, rows: Iterable[Row], under: str = "") -> None:
    """One Parquet file of literal rows; trailing columns may be left off."""
    fields = [column.partition(":") for column in SCHEMAS[name].split()]
    schema = pa.schema([(column, TYPES[kind]) for column, _, kind in fields])
    padded = [[*row, *[None] * (len(fields) - len(row))] for row in rows]
    columns = [
        pa.array([_value(row[index], kind) for row in padded], TYPES[kind])
        for index, (_, _, kind) in enumerate(fields)
    ]
    (landing / name / under).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), landing / name / under / "rows.parquet")


def _value(value: Any, kind: str) -> Any:
    if kind == "time" and isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return date.fromisoformat(value) if kind == "date" and isinstance(value, str) else value


def square(
    zone_id: Any, latitude: float, longitude: float, *, size: float = 1.0, **properties: Any
) -> dict[str, Any]:
    """A zone some 200 m across around a point, or `size` times that."""
    ring = [(x * size, y * size) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))]
    corners = [[longitude + x * 0.0015, latitude + y * 0.001] for x, y in ring]
    return {
        "type": "Feature",
        "properties": {"zone_id": zone_id, **properties},
        "geometry": {"type": "Polygon", "coordinates": [corners]},
    }


# Zones in a row, 1 km apart; `nw` lies in `se`, and `c` is 100 km away.
ZONES = [
    square("a", 52.50, 13.40),
    square("b", 52.51, 13.40),
    square("c", 53.40, 13.40),
    square("d", 52.52, 13.40),
    square("e", 52.53, 13.40),
    square("nw", 52.5403, 13.3995, size=0.5),
    square("se", 52.54, 13.40),
]
SQUARE = shape(ZONES[0]["geometry"])
INDOOR = [
    (f"in-{zone}", latitude, 13.4, "4G", None, None, 100.0, zone)
    for zone, latitude in [("a", 52.5), ("b", 52.51), ("c", 53.4), ("d", 52.52), ("e", 52.53)]
]
CELLS = [
    *INDOOR,
    ("in-nw", 52.54, 13.4, "4G", None, None, 100.0, "nw"),
    ("in-se", 52.54, 13.4, "4G", None, None, 100.0, "se"),
    ("street", 52.60, 13.4, "4G", None, None, 500.0),
    ("abroad", 48.10, 11.6, "4G", None, None, 500.0),
]


def night(
    landing: Path,
    events: Iterable[Row] = (),
    *,
    day: date = DAY,
    now: datetime = NOW,
    cells: Iterable[Row] = CELLS,
    zones: Iterable[dict[str, Any]] = ZONES,
    decisions: Iterable[Row] = (),
    subscribers: Iterable[Row] = (("ann",), ("bob",)),
    outages: Iterable[Row] | None = None,
    **method: Any,
) -> Exact:
    """Write a landing folder and compute the night; events are (id, time, cell, type, brand)."""
    write(landing, "events", events, f"date={day}")
    write(landing, "cells", cells)
    write(landing, "decisions", decisions)
    write(landing, "residents", [(HOME, 1000.0)])
    write(landing, "subscribers", subscribers)
    if outages is not None:
        write(landing, "outages", outages)
    (landing / "zones").mkdir()
    collection = {"type": "FeatureCollection", "features": list(zones)}
    (landing / "zones" / "zones.geojson").write_text(json.dumps(collection), encoding="utf-8")
    exact = exact_night(landing, day, now=now, method=Method(**method), threads=1)
    assert exact.accounting["rows_in"] == sum(exact.accounting.values()) / 2
    return exact


def ann(*seen: tuple[str, str]) -> list[tuple[str, str, str, str]]:
    """Ann's events: (time of the day, cell), each a change of cells: stays end where they do."""
    return [("ann", f"{DAY} {at}", cell, "handover") for at, cell in seen]


def stays(exact: Exact) -> list[tuple[str, str, str, str]]:
    return [
        (row.zone_id, f"{row.arrived_at:%H:%M}", f"{row.left_at:%H:%M}", row.kind)
        for row in exact.visits.itertuples()
    ]


def units(exact: Exact, measure: str) -> dict[Any, int]:
    frame = exact.measures[measure]
    keys = list(frame.columns[: frame.columns.get_loc("units")])
    found = frame.set_index(keys)["units"].to_dict()
    return {
        tuple(f"{part:%H:%M}" if isinstance(part, datetime) else part for part in key)
        if isinstance(key, tuple)
        else key: int(value)
        for key, value in found.items()
    }


class TestStays:
    def test_a_silence_of_exactly_the_gap_goes_on_and_a_microsecond_more_ends_it(
        self, tmp_path: Path
    ) -> None:
        exact = night(
            tmp_path,
            ann(("08:00", "in-a"), ("09:00", "in-a"), ("10:00:00.000001", "in-a")),
        )
        assert stays(exact) == [
            ("a", "08:00", "09:00", "visit"),
            ("a", "10:00", "10:00", "pass_by"),
        ]

    def test_an_event_of_a_cell_that_does_not_see_the_zone_ends_the_stay(
        self, tmp_path: Path
    ) -> None:
        exact = night(
            tmp_path,
            ann(("08:00", "in-a"), ("08:15", "in-a"), ("08:20", "street"), ("08:25", "in-a")),
        )
        assert stays(exact) == [
            ("a", "08:00", "08:15", "visit"),
            ("a", "08:25", "08:25", "pass_by"),
        ]

    def test_one_event_is_a_stay_without_dwell(self, tmp_path: Path) -> None:
        exact = night(tmp_path, ann(("08:00", "in-a")))
        assert stays(exact) == [("a", "08:00", "08:00", "pass_by")]
        assert exact.visits["dwell_s"].tolist() == [0.0]
        assert exact.visits["presence"].tolist() == [1.0]
        assert exact.visits["home_area"].tolist() == ["unknown"]

    def test_events_of_one_instant_are_ordered_by_cell(self, tmp_path: Path) -> None:
        exact = night(tmp_path, ann(("08:00", "in-b"), ("08:00", "in-a"), ("08:20", "in-a")))
        assert stays(exact) == [
            ("a", "08:00", "08:00", "pass_by"),
            ("a", "08:20", "08:20", "pass_by"),
            ("b", "08:00", "08:00", "pass_by"),
        ]

    def test_a_repeated_event_neither_ends_nor_adds_anything(self, tmp_path: Path) -> None:
        once = ann(("08:00", "in-a"), ("08:15", "in-a"))
        exact = night(tmp_path, [*once, *once, *once])
        assert stays(exact) == [("a", "08:00", "08:15", "visit")]
        assert exact.accounting["duplicate"] == 4

    @pytest.mark.parametrize(
        ("dwell_s", "kind"),
        [
            (599.999999, "pass_by"),
            (600, "visit"),
            (21600, "visit"),
            (21600.000001, "resident"),
        ],
    )
    def test_kinds_change_exactly_at_their_borders(
        self, tmp_path: Path, dwell_s: float, kind: str
    ) -> None:
        exact = night(tmp_path, staying("in-a", dwell_s))
        assert exact.visits["kind"].tolist() == [kind]
        assert exact.visits["dwell_s"].tolist() == [dwell_s]

    def test_a_stay_reaches_half_way_into_the_silence_round_it(self, tmp_path: Path) -> None:
        seen = (("07:50", "street"), ("08:00", "in-a"), ("08:20", "in-a"), ("08:26", "street"))
        data = [("ann", f"{DAY} {at}", cell, "data") for at, cell in seen]
        assert stays(night(tmp_path, data)) == [("a", "07:55", "08:23", "visit")]

    def test_a_stay_reaches_no_further_than_that_nor_out_of_opening_hours(
        self, tmp_path: Path
    ) -> None:
        zones = [square("a", 52.50, 13.40), square("b", 52.51, 13.40, opening_hours="09:00-10:00")]
        data = [
            ("ann", f"{DAY} 07:00", "in-a", "data"),
            ("bob", f"{DAY} 08:10", "in-b", "data"),  # 09:10 local
            ("bob", f"{DAY} 08:55", "in-b", "data"),
        ]
        exact = night(tmp_path, data, zones=zones)
        assert stays(exact) == [("a", "06:45", "07:15", "visit"), ("b", "08:00", "08:59", "visit")]

    def test_a_cell_that_is_heard_there_neither_makes_nor_ends_a_stay(self, tmp_path: Path) -> None:
        cells = [*CELLS, ("mast", 52.501, 13.4, "4G", None, None, 900.0)]
        seen = ann(("08:00", "in-a"), ("08:10", "mast"), ("08:20", "in-a"), ("09:00", "mast"))
        assert stays(night(tmp_path, seen, cells=cells)) == [("a", "08:00", "08:20", "visit")]

    def test_who_is_caught_now_and_then_is_next_door(self, tmp_path: Path) -> None:
        cells = [*CELLS, ("mast", 52.501, 13.4, "4G", None, None, 900.0)]
        masts = [(f"08:{minute:02}", "mast") for minute in range(1, 7)]
        seen = ann(("08:00", "in-a"), *masts, ("08:20", "in-a"))  # 2 of 8: a quarter
        assert stays(night(tmp_path, seen, cells=cells)) == []

    def test_whoever_lives_or_works_there_is_a_resident(self, tmp_path: Path) -> None:
        seen = ann(
            ("02:00", "in-a"),  # 03:00 local
            ("08:00", "in-a"),
            *(
                (f"{hour:02}:{minute}", "in-b")
                for hour in (9, 11, 13, 15)
                for minute in ("00", "55")
            ),
        )
        kinds = {(zone, kind) for zone, _, _, kind in stays(night(tmp_path, seen))}
        assert kinds == {("a", "resident"), ("b", "resident")}


def staying(cell: str, dwell_s: float) -> list[tuple[str, datetime, str, str]]:
    """Ann in one cell from 08:00 on, heard of every 50 minutes and at the end."""
    start = datetime(2026, 11, 23, 8, tzinfo=UTC)
    seconds = [*range(0, math.ceil(dwell_s), 3000), dwell_s]
    return [("ann", start + timedelta(seconds=at), cell, "handover") for at in seconds]


class TestMeasures:
    @pytest.mark.parametrize(
        ("minutes", "band"),
        [
            (10, "10-30"),
            (30 - 1e-7, "10-30"),
            (30, "30-60"),
            (60, "60-120"),
            (120, "120-240"),
            (240, "240-360"),
            (360, "240-360"),
        ],
    )
    def test_a_band_includes_its_lower_bound(
        self, tmp_path: Path, minutes: float, band: str
    ) -> None:
        exact = night(tmp_path, staying("in-a", minutes * 60))
        assert units(exact, "zone_dwell.visitors") == {("a", band): 64}

    def test_an_hour_is_touched_by_who_leaves_at_its_start(self, tmp_path: Path) -> None:
        exact = night(tmp_path, ann(("08:50", "in-a"), ("09:00", "in-a")))
        hours = {("a", "08:00"): 64, ("a", "09:00"): 64}
        assert units(exact, "zone_hours.visitors") == hours
        assert units(exact, "zone_days.visitors") == {"a": 64}

    def test_nobody_passes_by_where_they_visit_in_that_hour_or_day(self, tmp_path: Path) -> None:
        exact = night(
            tmp_path,
            ann(
                ("08:00", "in-a"),
                ("08:10", "in-a"),
                ("08:20", "street"),
                ("08:30", "in-a"),
                ("09:00", "street"),
                ("09:30", "in-a"),
                ("09:40", "in-b"),
            ),
        )
        assert units(exact, "zone_hours.passers_by") == {("a", "09:00"): 64, ("b", "09:00"): 64}
        assert units(exact, "zone_days.passers_by") == {"b": 64}

    def test_residents_are_in_no_measure(self, tmp_path: Path) -> None:
        exact = night(tmp_path, staying("in-a", 7 * 3600))
        assert {name for name, frame in exact.measures.items() if len(frame)} == set()

    def test_a_trip_needs_two_zones_one_after_the_other(self, tmp_path: Path) -> None:
        exact = night(
            tmp_path,
            ann(
                ("07:00", "in-a"),
                ("07:10", "in-a"),
                ("09:59", "in-b"),  # 10:59 local: morning
                ("10:09", "in-b"),
                ("13:00", "in-b"),  # 14:00 local: afternoon; the same zone, no trip
                ("13:10", "in-b"),
                ("21:00", "in-a"),  # 22:00 local: night
                ("21:10", "in-a"),
            ),
        )
        assert units(exact, "zone_flows.trips") == {
            ("elsewhere", "a", "morning"): 64,
            ("a", "b", "morning"): 64,
            ("b", "a", "night"): 64,
            ("a", "elsewhere", "night"): 64,
        }

    def test_a_trip_cannot_start_before_the_zone_was_left(self, tmp_path: Path) -> None:
        exact = night(
            tmp_path,
            ann(("08:00", "in-se"), ("08:20", "in-nw"), ("08:30", "in-nw"), ("08:50", "in-se")),
        )
        assert stays(exact) == [
            ("nw", "08:20", "08:30", "visit"),
            ("se", "08:00", "08:50", "visit"),
        ]
        assert units(exact, "zone_flows.trips") == {
            ("elsewhere", "se", "morning"): 64,
            ("nw", "elsewhere", "morning"): 64,
        }

    def test_a_trip_between_distant_zones_is_not_in_the_public_list(self, tmp_path: Path) -> None:
        exact = night(
            tmp_path,
            ann(("07:00", "in-a"), ("07:10", "in-a"), ("12:00", "in-c"), ("12:10", "in-c")),
        )
        assert units(exact, "zone_flows.trips") == {
            ("elsewhere", "a", "morning"): 64,
            ("c", "elsewhere", "midday"): 64,
        }

    @pytest.mark.parametrize(
        ("nights", "home"),
        [
            ([("01:00", "in-a"), ("02:00", "abroad"), ("03:00", "in-a")], HOME),
            ([("01:00", "in-a"), ("02:00", "abroad"), ("03:00", "abroad")], "outside"),
            ([("01:00", "abroad"), ("02:00", "in-a")], HOME),  # a tie: the smaller index
            ([("04:59:59.999999", "in-a")], HOME),
            ([("05:00", "in-a")], "unknown"),
        ],
    )
    def test_home_is_where_the_small_hours_are_spent(
        self, tmp_path: Path, nights: list[tuple[str, str]], home: str
    ) -> None:
        assert HOME < ABROAD
        exact = night(tmp_path, ann(*nights, ("08:00", "in-b"), ("08:10", "in-b")))
        assert units(exact, "zone_catchment.visitors") == {("b", home): 64}


class TestBounds:
    FIVE = tuple(
        (f"{8 + index:02}:{minute}", f"in-{zone}")
        for index, zone in enumerate("abdce")
        for minute in ("00", "10")
    )

    def test_a_tie_across_the_cut_leaves_every_key_between_two_values(self, tmp_path: Path) -> None:
        exact = night(tmp_path, ann(*self.FIVE))
        frame = exact.measures["zone_days.visitors"]
        assert frame["units"].sum() == 4 * 64
        assert frame["units_unbounded"].tolist() == [64] * 5
        assert frame["units_least"].tolist() == [0] * 5
        assert frame["units_most"].tolist() == [64] * 5
        assert exact.kept_units["zone_days.visitors"] == {64: 4}
        assert exact.ambiguous["zone_days.visitors"] == {(zone,) for zone in "abcde"}

    def test_the_faintest_goes_first_and_then_nothing_is_ambiguous(self, tmp_path: Path) -> None:
        events = ann(*self.FIVE[:8], ("12:30", "faint"), ("12:40", "faint"))
        told_indoors = [cell for cell in CELLS if cell[0] not in ("in-nw", "in-se")]
        cells = [*told_indoors, ("faint", 52.54, 13.4, "4G", None, None, 400.0)]
        exact = night(tmp_path, events, cells=cells, zones=ZONES[:6], zone_attraction=1)
        frame = exact.measures["zone_days.visits"].set_index("zone_id")
        assert frame["units"].to_dict() == {"a": 64, "b": 64, "c": 64, "d": 64, "nw": 0}
        assert 0 < frame.loc["nw", "units_unbounded"] < 64
        assert exact.ambiguous["zone_days.visits"] == set()

    def test_visits_of_one_zone_may_take_all_places(self, tmp_path: Path) -> None:
        seen = [(f"{hour:02}:{at}", "in-a") for hour in range(8, 18, 2) for at in ("00", "20")]
        exact = night(tmp_path, ann(*seen))
        assert units(exact, "zone_days.visits") == {"a": 4 * 64}
        assert exact.ambiguous["zone_days.visits"] == set()


def decided(action: str, at: str | None, **other: Any) -> Row:
    """A decision in the landing folder; by default verified, by Ann, under its own id."""
    row = {"id": f"{action} {at}", "verified": True, "received": at, "who": "ann"} | other
    return (row["id"], row["who"], action, row["verified"], at, row["received"], "app")


def by(who: str, decisions: Iterable[Row]) -> list[Row]:
    return [(f"{who}: {row[0]}", who, *row[2:]) for row in decisions]


class TestConsent:
    TAKING_PART: Mapping[str, list[Row]] = {
        "never decided": [],
        "asked for the status": [decided("status_check", "2026-11-20")],
        "left, unverified": [decided("opt_out", "2026-11-20", verified=False)],
        "came back at midnight": [
            decided("opt_out", "2026-11-20"),
            decided("opt_in", "2026-11-22 23:00"),
        ],
        "came back, and this was delivered twice": [
            decided("opt_out", "2026-11-20"),
            decided("opt_in", "2026-11-21"),
            decided("opt_in", "2026-11-21", received="2026-11-23"),
        ],
    }
    LEFT_OUT: Mapping[str, list[Row]] = {
        "left": [decided("opt_out", "2026-11-20")],
        "left, told by its receipt": [decided("opt_out", None, received="2026-11-20")],
        "left at no time": [decided("opt_out", None, received=None)],
        "left, then asked for the status": [
            decided("opt_out", "2026-11-20"),
            decided("status_check", "2026-11-21"),
        ],
        "left, came back unverified": [
            decided("opt_out", "2026-11-20"),
            decided("opt_in", "2026-11-21", verified=False),
        ],
        "left, came back at no time": [
            decided("opt_out", "2026-11-20"),
            decided("opt_in", None, received=None),
        ],
        "left, will come back": [decided("opt_out", "2026-11-20"), decided("opt_in", "2027-01-01")],
        "left and came in one instant": [
            decided("opt_in", "2026-11-20"),
            decided("opt_out", "2026-11-20"),
        ],
        "one id, two contents": [
            decided("opt_in", "2026-11-20", id="x"),
            decided("opt_in", "2026-11-20", id="x", verified=False),
        ],
        "away for a moment": [
            decided("opt_out", "2026-11-23 12:00"),
            decided("opt_in", "2026-11-23 12:00:00.000001"),
        ],
        "came back a microsecond late": [
            decided("opt_out", "2026-11-20"),
            decided("opt_in", "2026-11-22 23:00:00.000001"),
        ],
        "left after the day, before publishing": [decided("opt_out", "2026-11-24 02:00")],
        "will leave": [decided("opt_out", "2027-01-01")],
    }

    @pytest.mark.parametrize("consent_default", ["opt_out", "opt_in"])
    def test_who_takes_part(self, tmp_path: Path, consent_default: str) -> None:
        stories = {**self.TAKING_PART, **self.LEFT_OUT}
        exact = night(
            tmp_path,
            [(who, f"{DAY} 08:00", "in-a", "data") for who in stories],
            decisions=[row for who, decisions in stories.items() for row in by(who, decisions)],
            subscribers=[(who,) for who in stories],
            consent_default=consent_default,
        )
        undecided = {"never decided", "asked for the status", "left, unverified"}
        expected = set(self.TAKING_PART) - (undecided if consent_default == "opt_in" else set())
        assert set(exact.visits["subscriber_id"]) == expected
        assert exact.left_out == set(stories) - expected
        assert exact.accounting["not_taking_part"] == len(exact.left_out)

    def test_participants_are_those_of_the_first_day_of_the_month(self, tmp_path: Path) -> None:
        exact = night(
            tmp_path,
            subscribers=[
                ("ann", None, HOME, "2026-11-01", None),
                ("bob", None, None, None, "2026-11-01"),
                ("cem", None, ABROAD, None, None),
                ("dua", None, HOME, "2026-11-02", None),
                ("eva", None, HOME, None, "2026-10-31"),
                ("fyn", None, HOME, None, None),
            ],
            decisions=[decided("opt_out", "2026-11-01 12:00", who="fyn")],
        )
        counted = exact.participants.itertuples(index=False, name=None)
        assert set(counted) == {(HOME, 1), ("unknown", 1)}


class TestDays:
    @pytest.mark.parametrize(
        ("day", "first", "beyond", "hours"),
        [
            (date(2026, 3, 29), "2026-03-28 23:00", "2026-03-29 22:00", 23),
            (date(2026, 10, 25), "2026-10-24 22:00", "2026-10-25 23:00", 25),
            (DAY, "2026-11-22 23:00", "2026-11-23 23:00", 24),
        ],
    )
    def test_the_local_day_follows_the_clock(
        self, tmp_path: Path, day: date, first: str, beyond: str, hours: int
    ) -> None:
        start, end = datetime.fromisoformat(first), datetime.fromisoformat(beyond)
        tick = timedelta(microseconds=1)
        times = [start - tick, start, end - tick, end]
        asleep = [start + timedelta(hours=2, minutes=minute) for minute in (0, 30)]
        events = [
            ("ann", at.replace(tzinfo=UTC), cell, "handover")
            for cell, several in (("in-a", times), ("street", asleep))
            for at in several
        ]
        exact = night(tmp_path, events, day=day, now=end + timedelta(hours=4))
        assert (exact.accounting["other_day"], exact.accounting["accepted"]) == (2, 4)
        starts = exact.no_data["zone_hours"].query("zone_id == 'a'")["hour_start"]
        assert starts.tolist() == list(pd.date_range(start, periods=hours, freq="h"))
        found = exact.measures["zone_hours.passers_by"]["hour_start"].tolist()
        assert found == [start, end - timedelta(hours=1)]

    def test_every_row_is_accounted_for_by_the_first_reason_that_applies(
        self, tmp_path: Path
    ) -> None:
        write(
            tmp_path,
            "events",
            [
                ("ann", "2026-11-22 23:30", "in-a", "data"),  # accepted: after midnight, local
                ("ann", "2026-11-22 22:59", "in-a", "data"),
            ],
            "date=2026-11-22",
        )
        write(
            tmp_path,
            "events",
            [("ann", "2026-11-23 08:00", "in-a", None), ("ann", "2026-11-24 08:00", "in-a", None)],
            "date=2026-11-24",
        )
        exact = night(
            tmp_path,
            [
                (" ", None, "in-a", "data"),
                (None, f"{DAY} 08:00", "in-a", "data"),
                ("ann", None, "in-a", "data"),
                ("ann", "2026-11-25 00:00", "", "data"),
                ("ann", "2026-11-21 23:59:59.999999", "in-a", "data"),
                ("ann", "2026-11-24 23:59:59.999999", None, "data"),
                ("ann", f"{DAY} 08:00", "\t", "data"),
                ("ann", f"{DAY} 08:00", None, "data"),
                ("who", f"{DAY} 08:00", "gone", "data"),
                ("ann", f"{DAY} 08:00", "future", "data"),
                ("ann", f"{DAY} 08:00", "nowhere", "data"),
                ("who", f"{DAY} 08:00", "in-a", "data"),
                ("old", f"{DAY} 08:00", "in-a", "data"),
                ("ann", f"{DAY} 08:00", "in-a", None),  # came again a day later
                ("ann", f"{DAY} 08:00", "in-a", "call"),
                ("bob", f"{DAY} 08:00", "in-a", "data"),
                ("bob", f"{DAY} 08:00", "in-a", "data", "another brand"),
            ],
            cells=[
                *CELLS[1:],
                (*CELLS[0], "2026-11-23", "2026-11-23"),
                ("gone", 52.5, 13.4, "4G", None, None, 100.0, None, None, "2026-11-22"),
                ("future", 52.5, 13.4, "4G", None, None, 100.0, None, "2026-11-24", None),
                ("nowhere", math.nan, 13.4, "4G", None, None, 100.0, None, None, None),
            ],
            subscribers=[("ann", None, None, str(DAY), str(DAY)), ("bob",), ("old",) * 2],
            decisions=[decided("opt_out", "2026-11-20", who="bob")],
        )
        assert set(REJECTIONS) < set(exact.accounting)
        assert exact.accounting == {
            "rows_in": 21,
            "no_id": 2,
            "no_time": 1,
            "implausible_time": 2,
            "other_day": 3,
            "no_cell": 2,
            "unknown_cell": 3,
            "not_a_subscriber": 1,
            "duplicate": 2,
            "not_taking_part": 1,
            "accepted": 4,
        }

    def test_an_hour_is_dark_when_outages_together_cover_every_cell_of_the_zone(
        self, tmp_path: Path
    ) -> None:
        exact = night(
            tmp_path,
            outages=[
                ("in-a", "2026-11-23 08:00", "2026-11-23 08:30"),
                ("in-a", "2026-11-23 08:30", "2026-11-23 09:00"),
                ("in-a", "2026-11-23 09:00:00.000001", "2026-11-23 10:00"),
                ("in-b", "2026-11-23 10:00", "2026-11-23 22:00"),
                ("in-d", "2026-11-23 10:00", "2026-11-23 21:59"),
                ("in-nw", "2026-11-22", "2026-11-25"),
                ("in-e", None, "2026-11-25"),
            ],
            cells=[cell for cell in CELLS if cell[0] != "in-c"],
        )
        hours = exact.no_data["zone_hours"].query("no_data")
        dark = hours.groupby("zone_id")["hour_start"].agg(["min", "count"])
        assert dark["count"].to_dict() == {"a": 1, "b": 12, "c": 24, "d": 11, "nw": 24}
        assert dark.loc["a", "min"] == datetime(2026, 11, 23, 8)
        days = exact.no_data["zone_days"].set_index("zone_id")["no_data"]
        assert set(days[days].index) == {"b", "c", "nw"}  # another cell tells of `se`, too


class TestPlace:
    def test_the_ground_holds_every_hexagon_in_reach(self) -> None:
        antenna = Antenna("x", *HERE, 400.0)
        around = h3.k_ring(h3.geo_to_h3(*HERE, 11), 20)
        centres = np.array([h3.h3_to_geo(cell) for cell in around])
        brute = antenna.weights(centres[:, 0], centres[:, 1])
        tiled = antenna.weights(*ground(antenna, 11))
        assert np.count_nonzero(brute) == np.count_nonzero(tiled) > 200
        assert tiled.sum() == pytest.approx(brute.sum(), rel=1e-12)

    def test_a_sector_looks_where_it_points(self) -> None:
        sector = Antenna("x", *HERE, 1000.0, azimuth_deg=350.0, beamwidth_deg=60.0)
        north, east, south = (52.504, 13.4), (52.5, 13.407), (52.496, 13.4)
        weights = sector.weights(*np.array([north, east, south]).T)
        distance_m = 6371008.8 * math.radians(0.004)
        assert weights.tolist() == [pytest.approx((1 - distance_m / 1000) ** 2), 0, 0]

    def test_shares_follow_weight_and_attraction(self) -> None:
        antenna = Antenna("x", *HERE, 300.0)
        plain, strong, own = (
            probabilities([antenna], [Zone("a", SQUARE, own)], Method(zone_attraction=pull))
            for own, pull in ((None, 1.0), (None, 20.0), (20.0, 1.0))
        )
        share = plain["probability"][0]
        assert strong["probability"][0] == pytest.approx(20 * share / (1 + 19 * share))
        assert own.equals(strong)

    def test_where_zones_overlap_each_gets_its_share_at_the_larger_attraction(
        self,
    ) -> None:
        zones = [Zone("a", SQUARE, 3.0), Zone("b", SQUARE, 5.0), Zone("c", SQUARE, 1.0)]
        pairs = probabilities([Antenna("x", *HERE, 300.0)], zones, Method())
        alone = probabilities([Antenna("x", *HERE, 300.0)], zones[1:2], Method())
        assert pairs["probability"].tolist() == [alone["probability"][0]] * 3

    def test_without_zones_nobody_is_anywhere(self, tmp_path: Path) -> None:
        exact = night(tmp_path, ann(("08:00", "in-a")), zones=[])
        assert (exact.accounting["accepted"], len(exact.visits)) == (1, 0)

    def test_broken_reference_rows_are_left_out(self, tmp_path: Path) -> None:
        broken = square("bowtie", 52.6, 13.4)
        ring = broken["geometry"]["coordinates"][0]
        ring[1], ring[2] = ring[2], ring[1]
        exact = night(
            tmp_path,
            zones=[
                *ZONES[:2],
                broken,
                square("twice", 52.5, 13.5),
                square("twice", 52.6, 13.5),
                square("elsewhere", 52.5, 13.6),
                square("no spaces", 52.5, 13.6),
                square(None, 52.5, 13.6),
                square("x" * 65, 52.5, 13.6),
                square("y", 95, 13.6),
                {"type": "Feature", "properties": {"zone_id": "z"}, "geometry": None},
            ],
            cells=[
                ("one", *HERE, "4G", None, None, 100.0, "a", "2026-01-01", None),
                ("one", *HERE, "4G", None, None, 100.0, "b", "2026-06-01", None),
                ("one", *HERE, "4G", None, None, 100.0, "a", "2026-12-01", None),
                ("lost", *HERE, "4G", None, None, 100.0, "bowtie", None, None),
                ("wide", *HERE, "4G", None, None, 120_001.0, "a", None, None),
                ("flat", *HERE, "4G", None, None, 0.0, "a", None, None),
                ("high", 91.0, 13.4, "4G", None, None, 100.0, "a", None, None),
            ],
        )
        assert exact.zones == ["a", "b"]
        pairs = exact.cell_zones.itertuples(index=False, name=None)
        by_geometry = pytest.approx(1, abs=0.05)
        assert list(pairs) == [("lost", "a", by_geometry), ("one", "b", 1.0)]
