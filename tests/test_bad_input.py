"""What goes wrong at the door: exit code, one line of error, nothing published, no key left."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.detect_visits import detect_visits
from jobs.ingest_decisions import ingest_decisions
from jobs.ingest_reference import ingest_reference
from jobs.landing import Landing
from jobs.run_night import run_night
from jobs.runtime import Night, load_settings, run_job
from tests.small_world import landing_of_small_world
from transforms.errors import Failed
from transforms.tables import QUALITY, REFERENCE_ZONES, RUNS, Table

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parent.parent
DAY = "2025-11-22"
NEIGHBOURS = ("2025-11-21", "2025-11-23")
A_LINE_OF_ERROR = re.compile(r"error: (?P<subject>.+?): found .+, expected .+; .+")

FAILED, MISUSED, REFUSED = 1, 2, 3


@dataclass(frozen=True)
class Site:
    """One installation in a folder of its own: landing, settings, the two roots."""

    root: Path

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def restricted(self) -> Path:
        return self.root / "restricted"

    @property
    def published(self) -> Path:
        return self.root / "published"

    @property
    def folders(self) -> dict[str, str]:
        return {name: str(getattr(self, name)) for name in ("landing", "restricted", "published")}

    def conf(self, *lines: str) -> str:
        """The tests' settings with `lines` on top."""
        tests = (PROJECT / "tests/conf/tests.toml").read_text(encoding="utf-8")
        path = self.root / "settings.toml"
        path.write_text("\n".join([tests, *lines, ""]), encoding="utf-8")
        return str(path)

    def run(self, step: Callable[[Night], object] = run_night, *lines: str, day: str = DAY) -> int:
        folders = [part for name, path in self.folders.items() for part in (f"--{name}", path)]
        argv = ["--conf", self.conf(*lines), "--day", day, *folders]
        return run_job(step, description="", argv=argv)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """What a restricted table holds, read without Spark."""
        found: list[dict[str, Any]] = (
            DeltaTable(str(self.restricted / table.path)).to_pyarrow_table().to_pylist()
        )
        return found

    def events(self, day: str = DAY) -> Path:
        return self.landing / f"events/date={day}"

    def only_file(self, folder: str | Path) -> Path:
        [file] = [path for path in (self.landing / folder).iterdir() if path.is_file()]
        return file


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landing files of a small sound world."""
    out = tmp_path_factory.mktemp("world") / "world"
    return landing_of_small_world(out, subscribers=300, centres=4, last_day=DAY)


@pytest.fixture
def site(spark: SparkSession, world: Path, tmp_path: Path) -> Site:
    shutil.copytree(world, tmp_path / "landing")
    return Site(tmp_path)


@pytest.fixture(scope="module")
def before(spark: SparkSession, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation has in its restricted root once it has come as far as the events."""
    first = Site(tmp_path_factory.mktemp("before"))
    shutil.copytree(world, first.landing)
    assert [first.run(step) for step in (ingest_decisions, ingest_reference)] == [0, 0]
    return first.restricted


@pytest.fixture
def running(site: Site, before: Path) -> Site:
    """A site that is not at its first night."""
    shutil.copytree(before, site.restricted)
    return site


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that tells what is wrong; nothing comes before it, no second one after it."""
    lines = capsys.readouterr().err.splitlines()
    assert lines, "nothing on stderr"
    assert A_LINE_OF_ERROR.fullmatch(lines[0]), lines
    assert [line for line in lines if line.startswith("error:")] == lines[:1]
    assert len(lines) == 1, "what is foreseen needs no trace"
    return lines[0]


def holds_nothing_published(site: Site) -> bool:
    return not [path for path in site.published.rglob("*") if path.is_file()]


def holds_no_key(site: Site) -> bool:
    return not list((site.restricted / "keys").glob("*"))


def outcomes(site: Site) -> list[str]:
    return [str(row["outcome"]) for row in site.rows(RUNS)]


# --------------------------------------------------------------------------- ways to do damage


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def without(*paths: str) -> Callable[[Site], None]:
    def damage(site: Site) -> None:
        for path in paths:
            remove(site.landing / path)

    return damage


def emptied(folder: str) -> Callable[[Site], None]:
    """The folder is there, with no file but Spark's own marker."""

    def damage(site: Site) -> None:
        remove(site.landing / folder)
        (site.landing / folder).mkdir()
        (site.landing / folder / "_SUCCESS").touch()

    return damage


def without_rows(folder: str) -> Callable[[Site], None]:
    def damage(site: Site) -> None:
        for file in (site.landing / folder).rglob("*.parquet"):
            pq.write_table(pq.read_table(file, partitioning=None).slice(0, 0), file)

    return damage


def replaced(path: str, content: bytes) -> Callable[[Site], None]:
    """A file of this content, in place of one or beside the others."""

    def damage(site: Site) -> None:
        (site.landing / path).write_bytes(content)

    return damage


def with_broken_pages(folder: str) -> Callable[[Site], None]:
    """A copy with a sound footer whose pages are noise: it only fails once its rows are read."""

    def damage(site: Site) -> None:
        content = bytearray(site.only_file(folder).read_bytes())
        start, end = 4, len(content) * 3 // 4
        content[start:end] = b"\xa5" * (end - start)
        (site.landing / folder / "zz-broken.parquet").write_bytes(content)

    return damage


def doubled(folder: str) -> Callable[[Site], None]:
    """Every file is there twice."""

    def damage(site: Site) -> None:
        for file in list((site.landing / folder).glob("*.parquet")):
            shutil.copy(file, file.with_name(f"again-{file.name}"))

    return damage


def with_times_as_text(folder: str) -> Callable[[Site], None]:
    """One file more, in which a column is of another type."""

    def damage(site: Site) -> None:
        file = site.only_file(folder)
        table = pq.read_table(file, partitioning=None)
        at = table.schema.get_field_index("event_time")
        text = table["event_time"].cast(pa.string())
        pq.write_table(table.set_column(at, "event_time", text), file.with_name("zz-text.parquet"))

    return damage


def renamed(folder: str, **names: str) -> Callable[[Site], None]:
    def damage(site: Site) -> None:
        file = site.only_file(folder)
        table = pq.read_table(file, partitioning=None)
        pq.write_table(table.rename_columns([names.get(c, c) for c in table.column_names]), file)

    return damage


def every_cell_from(row: int, **values: float) -> Callable[[Site], None]:
    """The cells from this row on get impossible values."""

    def damage(site: Site) -> None:
        file = site.only_file("cells")
        table = pq.read_table(file)
        rows = pa.array(range(table.num_rows))
        for name, value in values.items():
            column = pc.if_else(pc.less(rows, row), table[name], value)
            table = table.set_column(table.schema.get_field_index(name), name, column)
        pq.write_table(table, file)

    return damage


def zone_features(site: Site) -> list[dict[str, Any]]:
    return list(json.loads(site.only_file("zones").read_text(encoding="utf-8"))["features"])


def write_zones(site: Site, features: Sequence[Mapping[str, Any]]) -> None:
    collection = {"type": "FeatureCollection", "features": list(features)}
    site.only_file("zones").write_text(json.dumps(collection), encoding="utf-8")


def with_broken_outlines(count: int) -> Callable[[Site], None]:
    def damage(site: Site) -> None:
        features = zone_features(site)
        for feature in features[:count]:
            feature["geometry"]["coordinates"] = [[[13.4, 52.5], [13.5, 52.5]]]
        write_zones(site, features)

    return damage


# --------------------------------------------------------------------------- nights that end early


def no_night(
    site: Site,
    capsys: pytest.CaptureFixture[str],
    *,
    code: int,
    says: Sequence[str],
    lines: Sequence[str] = (),
) -> None:
    """The night ends with `code` and leaves nothing behind but its own record."""
    stops(site, capsys, run_night, *lines, code=code, says=says)
    assert holds_no_key(site)
    assert outcomes(site) == ["refused" if code == REFUSED else "failed"]


def stops(
    site: Site,
    capsys: pytest.CaptureFixture[str],
    step: Callable[[Night], object],
    *lines: str,
    code: int = FAILED,
    says: Sequence[str],
) -> None:
    """The step that meets the damage, or the night, says what it is, and nothing is published."""
    before = tree(site.root) - tree(site.landing)
    assert site.run(step, *lines) == code
    error = the_error(capsys)
    assert [part for part in says if part not in error] == [], error
    assert holds_nothing_published(site)
    new = tree(site.root) - tree(site.landing) - before
    assert {path.relative_to(site.root).parts[0] for path in new} <= {"restricted", "settings.toml"}


def tree(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def cases(by_name: Mapping[str, tuple[object, ...]]) -> list[Any]:
    """What says at more length what others say is one for `make test LONG=1`."""
    return [
        pytest.param(*case, id=name, marks=[pytest.mark.long] if name in LONGER else [])
        for name, case in by_name.items()
    ]


LONGER = {
    "times as text in one of two files",
    "one unreadable file of decisions",
    "JSON that is no GeoJSON",
    "no zones folder",
    "an empty folder of the day",
    "a file that is no Parquet",
    "no subscribers",
    "unreadable subscribers",
    "no residents",
    "a path",
    "a long way up",
    "SQL",
    "markup",
    "elsewhere",
    "nothing",
}
CONSENT_CASES = {
    "no landing at all": (without("."), ["decisions", "no such folder"]),
    "no decisions folder": (without("decisions"), ["decisions", "no such folder", "/decisions"]),
    "an empty decisions folder": (emptied("decisions"), ["decisions", "not a single row"]),
    "decisions without a row": (without_rows("decisions"), ["decisions", "not a single row"]),
    "unreadable decisions": (
        replaced("decisions/0000.parquet", b"no parquet"),
        ["decisions", "unreadable file", "0000.parquet"],
    ),
    "one unreadable file of decisions": (
        replaced("decisions/zz-broken.parquet", b"PAR1 but no more"),
        ["decisions", "unreadable file", "zz-broken.parquet"],
    ),
    "one file of decisions with broken pages": (
        with_broken_pages("decisions"),
        ["decisions", "unreadable file", "zz-broken.parquet"],
    ),
    "other columns in the decisions": (
        renamed("decisions", verified="sms_code", action="what"),
        ["decisions", "no column action, verified among", "sms_code"],
    ),
}


@pytest.mark.parametrize(("damage", "says"), cases(CONSENT_CASES))
def test_without_believable_decisions_nobody_is_counted(
    site: Site,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Site], None],
    says: Sequence[str],
) -> None:
    damage(site)
    no_night(site, capsys, code=REFUSED, says=says)


@pytest.mark.parametrize("damage", [emptied("decisions"), without_rows("decisions")])
def test_nobody_having_decided_anything_can_be_believed(
    site: Site, damage: Callable[[Site], None]
) -> None:
    damage(site)
    assert site.run(ingest_decisions, "[consent]", "allow_empty = true") == 0


@pytest.mark.parametrize(
    "damage", [without("decisions"), replaced("decisions/0000.parquet", b"no parquet")]
)
def test_allowing_no_decisions_does_not_allow_no_delivery(
    site: Site, damage: Callable[[Site], None], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(site)
    assert site.run(ingest_decisions, "[consent]", "allow_empty = true") == REFUSED
    assert the_error(capsys).startswith("error: decisions: ")


REFERENCE_CASES = {
    "GeoJSON that isn't": (
        replaced("zones/berlin.geojson", b"zone_id,name\nmall,Mall\n"),
        ["zones", "berlin.geojson", "no JSON", "RFC 7946"],
    ),
    "JSON that is no GeoJSON": (
        replaced("zones/berlin.geojson", b'{"zones": []}'),
        ["zones", "berlin.geojson", "RFC 7946"],
    ),
    "no zones": (
        replaced("zones/berlin.geojson", b'{"type": "FeatureCollection", "features": []}'),
        ["zones", "found none"],
    ),
    "no zones file": (emptied("zones"), ["zones", "no such file", "*.geojson in "]),
    "no zones folder": (without("zones"), ["zones", "no such file", "*.geojson in "]),
    "too many broken zones": (with_broken_outlines(2), ["zones", "2 faulty of 5", "at most 10%"]),
    "too many broken cells": (
        every_cell_from(3000, latitude=123.0),
        ["cells", "faulty of", "at most 10%"],
    ),
    "no cells folder": (without("cells"), ["cells", "no such folder"]),
    "unreadable cells": (
        with_broken_pages("cells"),
        ["cells", "unreadable file", "zz-broken.parquet"],
    ),
    "other columns in the cells": (
        renamed("cells", range_m="reach", latitude="lat"),
        ["cells", "no column latitude, range_m among", "lat"],
    ),
    "no subscribers folder": (without("subscribers"), ["subscribers", "no such folder"]),
    "no subscribers": (without_rows("subscribers"), ["subscribers", "no sound row"]),
    "unreadable subscribers": (
        with_broken_pages("subscribers"),
        ["subscribers", "unreadable file", "zz-broken.parquet"],
    ),
    "unreadable residents": (
        replaced("residents/residents.parquet", b"no parquet"),
        ["residents", "unreadable file", "residents.parquet"],
    ),
    "no residents folder": (without("residents"), ["residents", "no such folder"]),
    "no residents": (without_rows("residents"), ["residents", "no sound row"]),
}


@pytest.mark.parametrize(("damage", "says"), cases(REFERENCE_CASES))
def test_what_is_wrong_with_the_reference_stops_the_step_that_reads_it(
    site: Site,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Site], None],
    says: Sequence[str],
) -> None:
    damage(site)
    stops(site, capsys, ingest_reference, says=says)


def test_without_a_sound_reference_no_event_is_read(
    running: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, says = REFERENCE_CASES["too many broken cells"]
    damage(running)
    no_night(running, capsys, code=FAILED, says=says)


def no_events_of_the_day(site: Site) -> None:
    without_rows(f"events/date={DAY}")(site)
    for day in NEIGHBOURS:
        remove(site.events(day))


EVENT_CASES = {
    "no folder of the day": (without(f"events/date={DAY}"), [f"events of {DAY}", "no such folder"]),
    "an empty folder of the day": (
        emptied(f"events/date={DAY}"),
        [f"events of {DAY}", "an empty folder"],
    ),
    "no event of the day": (no_events_of_the_day, [f"events of {DAY}", "found none"]),
    "a file that is no Parquet": (
        replaced(f"events/date={DAY}/zz-broken.parquet", b"PAR1 but no more"),
        ["events", "unreadable file", "zz-broken.parquet"],
    ),
    "a file with broken pages": (
        with_broken_pages(f"events/date={DAY}"),
        ["events", "unreadable file", "zz-broken.parquet"],
    ),
    "times as text in one of two files": (
        with_times_as_text(f"events/date={DAY}"),
        ["events", "unreadable file", "zz-text.parquet"],
    ),
    "every file twice": (
        doubled(f"events/date={DAY}"),
        [f"quality of batch profile on {DAY}", "rejected_share 0.", "allowed is 0 to 0.5 "],
    ),
    "other columns in the events": (
        renamed(f"events/date={DAY}", event_time="ts", cell_id="cgi"),
        [f"date={DAY}", "no column event_time, cell_id among", "cgi"],
    ),
}


@pytest.mark.parametrize(("damage", "says"), cases(EVENT_CASES))
def test_what_can_not_be_counted_stops_the_step_that_counts(
    running: Site,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Site], None],
    says: Sequence[str],
) -> None:
    damage(running)
    stops(running, capsys, detect_visits, says=says)


@pytest.mark.parametrize("name", ["no folder of the day", "a file with broken pages"])
def test_a_night_that_can_not_be_counted_publishes_nothing(
    running: Site, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    damage, says = EVENT_CASES[name]
    damage(running)
    no_night(running, capsys, code=FAILED, says=says)


def test_a_night_below_quality_publishes_nothing_and_says_which_gate(
    running: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    says = [
        f"quality of batch profile on {DAY}",
        ", allowed is 0 to 0.0001 (expect_column_values_to_be_between)",
        "ops.quality",
    ]
    gate = ["[quality]", "max_rejected_share = 0.0001"]
    no_night(running, capsys, code=FAILED, says=says, lines=gate)
    findings = running.rows(QUALITY)
    broken = [row for row in findings if row["critical"] and not row["success"]]
    assert [row["column"] for row in broken] == ["rejected_share"]
    assert len(findings) > len(broken), "what was met is kept as well"
    [run] = running.rows(RUNS)
    assert run["accepted"] is None, "a run that was stopped claims no rows"


HUGE = "9" * 10_000_000
BUSY_EVENTS = 200_000
NAMES = ("O'Hara's \"Mall\"", "<script>alert(1)</script>", "../../etc/x", "a'; DROP TABLE gold --")


def test_odd_rows_columns_and_names_do_not_stop_a_night(
    running: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """A column more in one file, an id of ten million characters, one subscriber with seven of
    eight events, and names that are no words.
    """
    before = sum(rows_of(file) for file in running.landing.glob("events/*/*.parquet"))
    with_a_busy_subscriber_and_a_huge_id(running)
    features = zone_features(running)
    for feature, name in zip(features, NAMES, strict=False):
        feature["properties"] |= {"name": name, "centre_name": name}
    write_zones(running, features)
    assert running.run(run_night) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert HUGE[:30] not in out
    [run] = running.rows(RUNS)
    assert run["rows_in"] == before + BUSY_EVENTS + 1
    parts = ("other_day", "rejected", "not_taking_part", "accepted")
    assert run["rows_in"] == sum(run[part] for part in parts)
    assert run["accepted"] > BUSY_EVENTS
    report = (running.restricted / f"reports/{DAY}.html").read_text(encoding="utf-8")
    assert html.escape(NAMES[1]) in report
    assert NAMES[1] not in report


def rows_of(file: Path) -> int:
    return int(pq.read_metadata(file).num_rows)


def with_a_busy_subscriber_and_a_huge_id(site: Site) -> None:
    """In a file more, with a column more."""
    file = site.only_file(f"events/date={DAY}")
    table = pq.read_table(file, partitioning=None)
    people = pq.read_table(site.landing / "subscribers", columns=["subscriber_id"])
    decided = pq.read_table(site.landing / "decisions", columns=["subscriber_id"])
    others = set(decided["subscriber_id"].to_pylist())
    busy = next(one for one in people["subscriber_id"].to_pylist() if one not in others)
    noon = datetime.fromisoformat(f"{DAY}T11:00:00+00:00")
    one = table.slice(0, 1).to_pylist()[0]
    at = [noon + timedelta(milliseconds=100 * number) for number in range(BUSY_EVENTS)]
    rows = [{**one, "subscriber_id": busy, "event_time": moment} for moment in at]
    rows.append({**one, "subscriber_id": HUGE, "event_time": noon})
    more = pa.Table.from_pylist(rows, table.schema)
    more = more.append_column("cause", pa.array([17] * len(rows)))
    pq.write_table(more, file.with_name("more.parquet"))


# -------------------------------------------------------------------------------- CSV deliveries

CSV = ["[inputs.events]", 'format = "csv"']


def as_csv(site: Site, *, header: bool = True, **names: str) -> int:
    """The events of all folders as CSV, perhaps under other names. -> rows"""
    rows = 0
    for file in sorted((site.landing / "events").rglob("*.parquet")):
        table = pq.read_table(file, partitioning=None)
        table = table.rename_columns([names.get(name, name) for name in table.column_names])
        options = pacsv.WriteOptions(include_header=header)
        pacsv.write_csv(table, file.with_suffix(".csv"), options)
        file.unlink()
        rows += table.num_rows
    return rows


def landing_of(site: Site, spark: SparkSession) -> Landing:
    return Landing(spark, load_settings(site.conf(*CSV), site.folders))


def test_a_wrong_header_names_all_missing_columns_at_once(
    running: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    as_csv(running, event_time="ts", subscriber_id="msisdn")
    says = ["events in ", "no column subscriber_id, event_time among 5 columns", "settings"]
    no_night(running, capsys, code=FAILED, says=says, lines=CSV)


def test_the_right_header_is_read_whole(site: Site, spark: SparkSession) -> None:
    rows = as_csv(site)
    events = landing_of(site, spark).events(date.fromisoformat(DAY))
    found = events.rows.selectExpr(
        "count(*) AS rows", f"count_if(to_date(event_time) = '{DAY}') AS of_the_day"
    ).first()
    assert found is not None
    assert (found.rows, events.folders_missing) == (rows, [])
    assert found.of_the_day > 0.8 * rows


def test_a_csv_without_a_header_does_not_spill_its_first_row(
    site: Site, spark: SparkSession
) -> None:
    as_csv(site, header=False)
    first_row = next(site.events(NEIGHBOURS[0]).glob("*.csv")).read_text().splitlines()[0]
    with pytest.raises(
        Failed, match="no column subscriber_id, event_time, cell_id, event_type"
    ) as e:
        landing_of(site, spark).events(date.fromisoformat(DAY))
    values = [value.strip('"') for value in first_row.split(",")]
    assert len(values) == 5
    assert [value for value in values if value and value in str(e.value)] == []


# --------------------------------------------------------------------------------- odd references

ODD_IDS = {
    "a path": "../x",
    "a long way up": "../" * 12 + "tmp/x",
    "SQL": "a'; DROP TABLE x",
    "markup": "<script>alert(1)</script>",
    "lines": "mall\nerror: a second line",
    "elsewhere": "elsewhere",
    "nothing": "",
}


@pytest.mark.parametrize("zone_id", cases({name: (zone_id,) for name, zone_id in ODD_IDS.items()}))
def test_one_odd_zone_id_is_left_out_and_the_night_goes_on(
    site: Site, capsys: pytest.CaptureFixture[str], zone_id: str
) -> None:
    features = zone_features(site)
    ids = [feature["properties"]["zone_id"] for feature in features]
    features[0]["properties"]["zone_id"] = zone_id
    write_zones(site, features)
    before = tree(site.root)
    assert site.run(ingest_reference) == 0
    out, err = capsys.readouterr()
    assert err == ""
    [note] = [line for line in out.splitlines() if "zones left out" in line]
    assert "zones left out: 1 of 5 (" in note
    assert "berlin.geojson" in note
    assert not [line for line in out.splitlines() if line.startswith("error")]
    assert sorted(row["zone_id"] for row in site.rows(REFERENCE_ZONES)) == sorted(ids[1:])
    new = {path.relative_to(site.root).parts for path in tree(site.root) - before}
    written = {parts[:2] for parts in new if parts[0] != "settings.toml"}
    assert written == {("restricted", "reference")}


def test_every_odd_zone_is_counted_and_the_first_are_named(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    features = zone_features(site)
    sound = [feature["properties"]["zone_id"] for feature in features]
    bow_tie = [[[13.0, 52.0], [13.1, 52.1], [13.1, 52.0], [13.0, 52.1]]]
    odd = [
        zone("broken", coordinates=[[[13.4, 52.5], [13.5, 52.5]]]),
        zone("nowhere", coordinates=[[[999, 52], [999, 53], [998, 53], [999, 52]]]),
        zone("open-bow-tie", coordinates=bow_tie),
        zone("twice"),
        zone("twice"),
        *[zone(zone_id) for zone_id in ODD_IDS.values()],
    ]
    write_zones(site, [*features, *odd])
    assert site.run(ingest_reference, "[place]", "max_bad_reference = 0.9") == 0
    out = capsys.readouterr().out
    [note] = [line for line in out.splitlines() if "zones left out" in line]
    assert f"zones left out: {len(odd)} of {len(odd) + len(sound)} (" in note
    assert note.count("berlin.geojson") == 5
    assert note.endswith("; …)")
    assert sorted(row["zone_id"] for row in site.rows(REFERENCE_ZONES)) == sorted(sound)


def zone(zone_id: str, *, coordinates: object = None) -> dict[str, Any]:
    square = [[[13.0, 52.0], [13.01, 52.0], [13.01, 52.01], [13.0, 52.01], [13.0, 52.0]]]
    return {
        "type": "Feature",
        "properties": {"zone_id": zone_id, "name": zone_id},
        "geometry": {"type": "Polygon", "coordinates": coordinates or square},
    }


def test_a_few_broken_cells_do_not_stop_a_night(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = pq.read_table(site.only_file("cells")).num_rows
    every_cell_from(cells - 20, range_m=-1.0)(site)
    assert site.run(ingest_reference) == 0
    [note] = [line for line in capsys.readouterr().out.splitlines() if "cells left out" in line]
    assert re.search(r"impossible range: [2-9]", note)
    assert "among them " in note


# ------------------------------------------------------------------------------------- bad usage


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad usage is told before Spark is asked for anything."""

    def refuse(*_: object, **__: object) -> SparkSession:
        raise AssertionError("a session was asked for")

    monkeypatch.setattr("jobs.runtime.spark_session", refuse)


def misused(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    noon = datetime(2025, 11, 24, 12, tzinfo=UTC)
    assert run_job(run_night, description="", argv=argv, now=lambda: noon) == MISUSED
    return the_error(capsys)


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize(
    ("day", "found"),
    [
        ("2025-11-24", "2025-11-24, which is not over"),
        ("2025-11-25", "2025-11-25, which is in the future"),
        ("9999-12-31", "in the future"),
        ("yesterday", "'yesterday'"),
        ("2025-02-30", "'2025-02-30'"),
        ("20251122", "'20251122'"),
        ("2025-11-22T00:00:00", "'2025-11-22T00:00:00'"),
        ("", "''"),
        ("2025-11-22\nerror: a second line", r"'2025-11-22\nerror"),
    ],
)
def test_a_day_that_is_not_over_or_no_date_is_bad_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], day: str, found: str
) -> None:
    error = misused(["--conf", Site(tmp_path).conf(), "--day", day], capsys)
    assert error.startswith("error: --day: found ")
    assert found in error
    assert "nothing was read" in error


@pytest.mark.usefixtures("no_session")
def test_the_day_is_over_by_the_clock_of_its_own_timezone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    just_after_midnight = datetime(2025, 11, 23, 23, 30, tzinfo=UTC)  # in Berlin it is the 24th
    argv = ["--conf", Site(tmp_path).conf(), "--day", "2025-11-24"]
    code = run_job(run_night, description="", argv=argv, now=lambda: just_after_midnight)
    assert code == MISUSED
    assert "expected a day before 2025-11-24" in the_error(capsys)


BAD_SETTINGS = {
    "not TOML": ("[paths\nlanding", ["a readable TOML file"]),
    "not text": ("\x00\x01", ["a readable TOML file"]),
    "unknown key": ("[visits]\nmax_gpa = 60", ["[visits]", "unknown ['max_gpa']"]),
    "unknown table": ("[vists]\nmax_gap = 60", ["unknown ['vists']"]),
    "wrong type": ('[visits]\nmax_gap = "60"', ["visits.max_gap"]),
    "the same root twice": (
        '[paths]\nrestricted = "here"\npublished = "here"',
        ["restricted and published must lie apart"],
    ),
    "a root inside the other": (
        '[paths]\nrestricted = "here/published/restricted"\npublished = "./here/published/"',
        ["restricted and published must lie apart"],
    ),
    "keys among what is sold": (
        '[paths]\nkeys = "sold/keys"\npublished = "sold"',
        ["keys and published must lie apart"],
    ),
    "a budget above the cap": ("[privacy]\nrho_cap = 0.05", ["the cap is 0.05"]),
    "no such timezone": ('timezone = "Europe/Nowhere"', ["Europe/Nowhere"]),
}


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize(("text", "says"), BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys())
def test_bad_settings_are_bad_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: Sequence[str]
) -> None:
    conf = tmp_path / "own.toml"
    conf.write_text(text, encoding="utf-8")
    error = misused(["--conf", str(conf), "--day", DAY], capsys)
    assert error.startswith(f"error: settings {conf}: found ")
    assert [part for part in says if part not in error] == [], error
    assert "nothing was read" in error
    assert list(tmp_path.iterdir()) == [conf]


@pytest.mark.usefixtures("no_session")
def test_settings_that_are_not_there_are_bad_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for conf in (tmp_path / "none.toml", tmp_path):
        error = misused(["--conf", str(conf), "--day", DAY], capsys)
        assert error.startswith(f"error: settings {conf}: found ")


@pytest.mark.usefixtures("no_session")
def test_the_same_root_twice_on_the_command_line_is_bad_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tmp_path / "everything")
    argv = ["--conf", Site(tmp_path).conf(), "--day", DAY, "--restricted", root]
    error = misused([*argv, "--published", f"{root}/"], capsys)
    assert "restricted and published must lie apart" in error


@pytest.mark.parametrize("argv", [["--day", DAY], ["--conf", "x"], ["--conf", "x", "--dya", DAY]])
def test_missing_and_unknown_arguments_are_bad_usage(argv: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        run_job(run_night, description="", argv=argv)
    assert ending.value.code == MISUSED
