"""The demo world is reproducible, keeps the landing's contract, and is plausible."""

import json
import tomllib
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import h3
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely.geometry import Point, shape

from jobs.make_world import main
from transforms.synthetic import World, WorldOptions, world
from transforms.synthetic_city import local_day, opening_times
from transforms.synthetic_days import PRESENCE
from transforms.synthetic_events import EVENTS
from transforms.synthetic_network import CELLS, OUTAGES
from transforms.synthetic_people import DECISIONS, SUBSCRIBERS

GEOGRAPHY = Path(__file__).parent.parent / "conf" / "demo_geography.toml"
FACTS = tomllib.loads(GEOGRAPHY.read_text(encoding="utf-8"))
SATURDAY = date(2026, 11, 21)
MONDAY = date(2026, 11, 23)
SUBSCRIBERS_MADE = 1_200
POPULATION = 4_000
BERLIN = "Europe/Berlin"


def command(out: Path, **changed: object) -> list[str]:
    options = {
        "out": out,
        "subscribers": SUBSCRIBERS_MADE,
        "days": 3,
        "last-day": MONDAY,
        "seed": 7,
        "geography": GEOGRAPHY,
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world from Saturday to Monday on disk."""
    out = tmp_path_factory.mktemp("worlds") / "demo"
    assert main(command(out)) == 0
    return out


@pytest.fixture(scope="module")
def events(made: Path) -> pd.DataFrame:
    return pd.concat(
        pq.read_table(file, partitioning=None)
        .to_pandas()
        .assign(arrived=pd.Timestamp(file.parent.name.removeprefix("date="), tz="UTC"))
        for file in sorted(made.glob("landing/events/*/*.parquet"))
    )


@pytest.fixture(scope="module")
def truth(made: Path) -> pd.DataFrame:
    presence = pq.read_table(made / "truth/zone_presence.parquet").to_pandas()
    arrived = presence.arrived_at.dt.tz_convert(BERLIN)
    left = presence.left_at.dt.tz_convert(BERLIN)
    return presence.assign(
        minutes=(presence.left_at - presence.arrived_at).dt.total_seconds() / 60,
        weekday=arrived.dt.day_of_week,
        hour=arrived.dt.hour,
        from_s=(arrived - arrived.dt.normalize()).dt.total_seconds(),
        to_s=(left - arrived.dt.normalize()).dt.total_seconds(),
    )


def landing(made: Path, name: str) -> pd.DataFrame:
    return pq.read_table(made / "landing" / name).to_pandas()


def everything(drawn: World) -> list[pa.Table]:
    tables = [drawn.cells(), drawn.residents(), drawn.outage_list()]
    for chunk in drawn.chunks():
        tables += [chunk.subscribers, chunk.decisions]
        for day in chunk.days:
            tables += [day.presence, *day.events.values()]
    return tables


def in_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    subscribers=st.integers(1, 60),
    centres=st.integers(1, 32),
    last_day=st.dates(date(2024, 1, 1), date(2027, 12, 31)),
)
def test_the_same_options_make_the_same_bytes(
    seed: int, subscribers: int, centres: int, last_day: date
) -> None:
    options = WorldOptions(
        subscribers=subscribers,
        centres=centres,
        days=2,
        last_day=last_day,
        seed=seed,
        subscribers_per_chunk=25,
    )
    once, again = world(FACTS, options), world(FACTS, options)
    assert [*map(in_bytes, everything(once))] == [*map(in_bytes, everything(again))]
    assert once.zones() == again.zones()


@pytest.fixture(scope="module")
def small() -> World:
    return world(FACTS, WorldOptions(subscribers=150, centres=20, days=2, last_day=MONDAY, seed=3))


def test_a_day_does_not_depend_on_the_other_days(small: World) -> None:
    alone = replace(small, days=small.days[1:])
    both = list(small.chunk(0).days)
    (last,) = alone.chunk(0).days
    # Subscriptions are dated by the world's first day, what people do is not.
    done = [day.presence.drop_columns(["is_subscriber"]) for day in (last, both[1])]
    assert done[0].equals(done[1])
    assert all(table.equals(both[1].events[day]) for day, table in last.events.items())


def test_another_seed_makes_another_world(small: World) -> None:
    other = world(FACTS, replace(small.options, seed=4))
    assert not other.chunk(0).subscribers.equals(small.chunk(0).subscribers)


@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25)])
def test_every_event_lies_in_its_local_day_when_the_clock_jumps(small: World, day: date) -> None:
    jumping = local_day(day, ZoneInfo(BERLIN))
    begin = pd.Timestamp(day, tz=BERLIN)
    end = pd.Timestamp(day + timedelta(days=1), tz=BERLIN)
    assert jumping.length_s == (end - begin).total_seconds()
    (made,) = replace(small, days=(jumping,)).chunk(0).days
    times = pd.concat(table["event_time"].to_pandas() for table in made.events.values()).dropna()
    plausible = times[(times - begin).abs() < pd.Timedelta(days=2)]
    assert plausible.between(begin, end, inclusive="left").all()
    assert jumping.elapsed([0, 12 * 3600]).tolist() == [0, jumping.length_s - 12 * 3600]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"timezone": "Mars/Crater"}, "timezone is 'Mars/Crater'"),
        ({"city_centre": {"latitude": 52.5}}, "'longitude' is missing"),
        ({"districts": [{"name": "Mitte"}]}, "District 'Mitte': .* missing"),
        ({"centres": [{**FACTS["centres"][0], "colour": "red"}]}, "unknown .'colour'."),
    ],
)
def test_a_broken_geography_is_named(broken: dict[str, object], message: str) -> None:
    options = WorldOptions(subscribers=5, centres=1, days=1, last_day=MONDAY, seed=1)
    with pytest.raises(ValueError, match=message):
        world({**FACTS, **broken}, options)


@pytest.mark.parametrize(
    ("text", "weekday", "expected"),
    [
        ("Mo-Sa 10:00-20:30", 5, (36_000, 73_800)),
        ("Mo-Sa 10:00-20:00", 6, (0, 0)),
        ("Mo-Sa 10:00-20:00; Su 12:00-22:00", 6, (43_200, 79_200)),
        ("Mo,We-Fr 08:00-24:00", 1, (0, 0)),
    ],
)
def test_opening_hours_are_read(text: str, weekday: int, expected: tuple[int, int]) -> None:
    assert tuple(opening_times(text)[weekday]) == expected


@pytest.mark.parametrize("text", ["", "24/7", "Mo 20:00-10:00", "Xx 10:00-20:00"])
def test_opening_hours_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="opening hours"):
        opening_times(text)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("events/*/*.parquet", EVENTS),
        ("cells/*.parquet", CELLS),
        ("subscribers/*.parquet", SUBSCRIBERS),
        ("decisions/*.parquet", DECISIONS),
        ("outages/*.parquet", OUTAGES),
        ("residents/*.parquet", pa.schema([("area", pa.string()), ("residents", pa.int64())])),
    ],
)
def test_landing_files_keep_the_contract(made: Path, pattern: str, expected: pa.Schema) -> None:
    files = list((made / "landing").glob(pattern))
    assert files
    for file in files:
        assert pq.read_schema(file).equals(expected)
    column = pq.ParquetFile(files[0]).schema
    for number, field in enumerate(expected):
        if pa.types.is_timestamp(field.type):
            logical = json.loads(column.column(number).logical_type.to_json())
            assert (logical["isAdjustedToUTC"], logical["timeUnit"]) == (True, "microseconds")


def test_truth_has_its_columns(made: Path) -> None:
    assert pq.read_schema(made / "truth/zone_presence.parquet").names == PRESENCE.names


def test_zones_are_closed_counter_clockwise_rings_round_their_centre(made: Path) -> None:
    features = json.loads((made / "landing/zones/berlin.geojson").read_text())["features"]
    assert len({feature["properties"]["zone_id"] for feature in features}) == len(features) == 27
    positions = {z["zone_id"]: z for z in [*FACTS["centres"], *FACTS["nested_zones"]]}
    for feature in features:
        polygon = shape(feature["geometry"])
        centre = positions[feature["properties"]["zone_id"]]
        assert polygon.exterior.is_closed and polygon.exterior.is_ccw and polygon.is_valid
        assert polygon.contains(Point(centre["longitude"], centre["latitude"]))


def test_cells_hold_a_city_and_its_faults(made: Path) -> None:
    cells = landing(made, "cells")
    assert len(cells) > 3_000
    assert cells.indoor_zone_id.notna().any()
    assert cells.azimuth_deg[cells.indoor_zone_id.notna()].isna().all()
    assert cells.beamwidth_deg[cells.indoor_zone_id.isna()].between(65, 120).all()
    assert (cells.latitude > 90).sum() == (cells.range_m == 0).sum() == 1
    assert cells.cell_id.duplicated().sum() == 5
    assert set(cells.technology) == {"LTE", "5G", "GSM"}
    assert cells.valid_from.isna().any() and cells.valid_to.notna().any()


def test_residents_add_up_to_the_population(made: Path) -> None:
    residents = landing(made, "residents")
    assert residents.residents.sum() == POPULATION
    assert residents.area.is_unique
    assert all(h3.h3_get_resolution(area) == 7 for area in residents.area)


def test_subscribers_are_listed(made: Path) -> None:
    subscribers = landing(made, "subscribers")
    assert subscribers.subscriber_id.nunique() == SUBSCRIBERS_MADE
    assert subscribers.subscriber_id.str.fullmatch(r"49176\d{8}").all()
    assert subscribers.area.isna().mean() == pytest.approx(0.03, abs=0.02)
    assert set(subscribers.area.dropna()) <= set(landing(made, "residents").area)
    assert subscribers.since.isna().any() and (subscribers.until.dropna() < SATURDAY).any()
    assert len(subscribers) > SUBSCRIBERS_MADE


def test_decisions_come_in_every_kind_before_the_night(made: Path) -> None:
    decisions = landing(made, "decisions")
    end = pd.Timestamp(MONDAY + timedelta(days=1), tz=BERLIN)
    assert (decisions.decided_at.dropna() < end).all()
    assert (decisions.received_at <= end + pd.Timedelta(hours=4)).all()
    assert decisions.decision_id.duplicated().any()
    assert set(decisions.action) == {"opt_out", "opt_in", "status_check"}
    choices = decisions[decisions.action == "opt_out"].groupby("verified").subscriber_id.nunique()
    assert choices[True] / SUBSCRIBERS_MADE == pytest.approx(0.04, abs=0.02)
    assert choices[False] > 0
    assert not decisions.received_at.is_monotonic_increasing


def test_phones_send_about_a_hundred_events_a_day(events: pd.DataFrame) -> None:
    assert 60 < len(events) / SUBSCRIBERS_MADE / 3 < 140


def test_events_arrive_in_the_folders_of_whole_local_days(events: pd.DataFrame) -> None:
    rows = events.groupby("arrived").size()
    assert [day.date() for day in rows.index] == [
        SATURDAY + timedelta(days=n) for n in range(-1, 4)
    ]
    assert rows.iloc[0] < 0.05 * rows.iloc[1]
    assert rows.iloc[-1] < 0.05 * rows.iloc[1]


def test_every_kind_of_fault_is_there_and_rare(events: pd.DataFrame, made: Path) -> None:
    cells, subscribers = landing(made, "cells"), landing(made, "subscribers")
    on_air = set(cells.cell_id[~(cells.valid_to < SATURDAY)])
    days_off = (events.arrived - events.event_time.dt.floor("D")).dt.days
    identity, columns = events.subscriber_id, ["subscriber_id", "event_time", "cell_id"]
    shares = {
        "null id": identity.isna().mean(),
        "blank id": (identity == "").mean(),
        "no time": events.event_time.isna().mean(),
        "implausible time": (days_off.abs() > 1).mean(),
        "no cell": events.cell_id.isna().mean(),
        "unknown cell": (events.cell_id.notna() & ~events.cell_id.isin(on_air)).mean(),
    }
    assert all(share > 0 for share in shares.values()), shares
    assert sum(shares.values()) == pytest.approx(0.002, rel=0.3)
    assert events.duplicated([*columns, "event_type"]).mean() == pytest.approx(0.005, rel=0.3)
    assert (days_off == 1).mean() == pytest.approx(0.003, rel=0.3)
    foreign = identity.notna() & (identity != "") & ~identity.isin(subscribers.subscriber_id)
    assert foreign.mean() == pytest.approx(0.01, rel=0.5)
    assert set(events.event_type) == {"call", "sms", "data", "handover", "location_update"}


def test_cells_are_silent_during_their_outages(events: pd.DataFrame, made: Path) -> None:
    outages = landing(made, "outages")
    assert (outages["to"] > outages["from"]).all()
    met = events.reset_index().merge(outages, on="cell_id")
    during = (met.event_time >= met["from"]) & (met.event_time < met["to"])
    # Only times that a fault has moved may fall into one.
    assert during.sum() <= 2


def test_centres_are_busiest_in_the_afternoon(truth: pd.DataFrame) -> None:
    visits = truth[truth.kind == "visitor"]
    by_hour = visits.groupby("weekday").hour.agg(lambda hour: hour.mode()[0])
    assert by_hour[0] in (15, 16, 17, 18)
    assert by_hour[5] in (13, 14, 15)
    assert (visits.weekday == 6).sum() < 0.4 * (visits.weekday == 5).sum()


def test_visits_stay_within_opening_hours(truth: pd.DataFrame) -> None:
    zones = {z["zone_id"]: z["opening_hours"] for z in [*FACTS["centres"], *FACTS["nested_zones"]]}
    assert set(truth.zone_id) <= set(zones)
    times = np.array(
        [
            opening_times(zones[zone])[weekday]
            for zone, weekday in zip(truth.zone_id, truth.weekday, strict=True)
        ]
    )
    margin = truth.kind.map({"visitor": 0, "staff": 1_800}).to_numpy()
    bound = truth.kind.isin(["visitor", "staff"]).to_numpy()
    assert (truth.from_s >= times[:, 0] - margin - 1e-3)[bound].all()
    assert (truth.to_s <= times[:, 1] + margin + 1e-3)[bound].all()


def test_kinds_of_presence_differ_by_their_length(truth: pd.DataFrame) -> None:
    limits = {
        "visitor": (10, 360),
        "staff": (7 * 60 - 1, 9 * 60 + 1),
        "passer_by": (1, 8),
        "neighbour": (2, 8),
    }
    assert set(truth.kind) == set(limits)
    for kind, (shortest, longest) in limits.items():
        assert truth.minutes[truth.kind == kind].between(shortest, longest).all()


def test_nobody_is_in_two_places_at_once(truth: pd.DataFrame) -> None:
    placed = truth[~truth.zone_id.isin([z["zone_id"] for z in FACTS["nested_zones"]])]
    placed = placed.sort_values(["person", "arrived_at"])
    before = placed.groupby("person").left_at.shift()
    assert (before.isna() | (before <= placed.arrived_at)).all()


def test_who_is_in_a_nested_zone_is_in_its_centre(truth: pd.DataFrame) -> None:
    (nested,) = FACTS["nested_zones"]
    inner = truth[truth.zone_id == nested["zone_id"]]
    outer = truth[truth.zone_id == nested["inside"]]
    pairs = inner.merge(outer, on="person", suffixes=("", "_outer"))
    held = (pairs.arrived_at >= pairs.arrived_at_outer) & (pairs.left_at <= pairs.left_at_outer)
    assert len(inner) > 0
    assert held.sum() == len(inner)


def test_three_people_in_ten_are_subscribers(truth: pd.DataFrame) -> None:
    assert truth.is_subscriber.mean() == pytest.approx(0.3, abs=0.05)
    assert truth.person.between(0, POPULATION - 1).all()


def test_a_world_that_is_there_is_left_alone(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (made / "landing/cells/cells.parquet").stat().st_mtime_ns
    assert main(command(made)) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(command(made, seed=8)) == 2
    message = capsys.readouterr().err
    assert "a world with other seed" in message and message.count("\n") == 1
    assert (made / "landing/cells/cells.parquet").stat().st_mtime_ns == before


def test_another_world_replaces_only_on_request(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    (out / "landing").mkdir(parents=True)
    (out / "published").mkdir()
    tiny = command(out, subscribers=20, days=1)
    assert main(tiny) == 2
    assert main([*tiny, "--replace"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "landing",
        "published",
        "truth",
        "world.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"subscribers": 0},
        {"centres": 33},
        {"days": 0},
        {"last_day": "2026-02-30"},
        {"seed": -1},
        {"geography": "missing.toml"},
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, object]
) -> None:
    assert main(command(tmp_path / "demo", **wrong)) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "demo").exists()
