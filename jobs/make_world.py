"""Write a demo world: landing files as an operator would deliver them, and the truth apart.

    python -m jobs.make_world --out DIR --subscribers 20000 --centres 26 --days 1 \\
        --last-day YYYY-MM-DD --seed 7 [--geography FILE] [--scenario NAME] [--replace]

DIR/landing is what the night reads, DIR/truth what nobody but a comparison reads, and
DIR/world.json what both were made from. A scenario is one of
conf/scenarios.toml (or of --scenarios FILE). A world is written beside DIR and moved into place
when it is whole. Exit 0: it is there (made now, or before from the same options); 1: it could
not be written; 2: wrong usage.
"""

import argparse
import hashlib
import json
import shutil
import sys
import time
import tomllib
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import FootfallError, Misused
from transforms.synthetic import ChunkDay, World, WorldOptions, world
from transforms.synthetic_city import timezone
from transforms.synthetic_days import PRESENCE
from transforms.synthetic_people import HOMES
from transforms.synthetic_scenarios import PLAIN, Scenario, scenarios

GEOGRAPHY = Path("conf/demo_geography.toml")
SCENARIOS = Path("conf/scenarios.toml")
PARTS = ("landing", "truth")
MARKER = "world.json"
WORLD_VERSION = 2
TEXT_COLUMNS = ["subscriber_id", "cell_id", "event_type", "brand"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def main(argv: Sequence[str] | None = None) -> int:
    try:
        arguments = _arguments(argv)
        facts, digest = _geography(arguments.geography)
        options = _options(arguments, facts)
        parameters = _parameters(options, digest)
        if _is_there(arguments.out, parameters, replace=arguments.replace):
            print(f"{arguments.out}: this world is there already, nothing to do")
            return 0
        drawn = world(facts, options)
    except (ValueError, FootfallError) as error:
        print(f"make_world: {error}", file=sys.stderr)
        return 2
    try:
        _make(drawn, arguments.out, parameters)
    except OSError as error:
        print(f"make_world: {error}; no world was written", file=sys.stderr)
        return 1
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="make_world", description="Write a demo world.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the world")
    parser.add_argument("--subscribers", type=int, default=20_000)
    parser.add_argument("--centres", type=int, default=26, help="the first of the geography")
    parser.add_argument("--days", type=int, default=1, help="whole local days")
    parser.add_argument("--last-day", type=date.fromisoformat, help="default: yesterday")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--geography", type=Path, default=GEOGRAPHY)
    parser.add_argument("--scenario", help="what differs from the plain demo world")
    parser.add_argument("--scenarios", type=Path, default=SCENARIOS)
    parser.add_argument("--replace", action="store_true", help="a world of other options")
    return parser.parse_args(argv)


def _geography(path: Path) -> tuple[dict[str, Any], str]:
    """The parsed geography file and its SHA-256."""
    return _parsed(path, option="--geography")


def scenarios_of(path: Path) -> dict[str, Scenario]:
    """The scenarios of a file by name; raises `Misused` when it can't be read."""
    return scenarios(_parsed(path, option="--scenarios")[0])


def _parsed(path: Path, *, option: str) -> tuple[dict[str, Any], str]:
    try:
        content = path.read_bytes()
        parsed = tomllib.loads(content.decode())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Misused(
            option,
            found=f"{path} ({why})",
            expected="a readable TOML file",
            consequence="no world was written",
        ) from error
    return parsed, hashlib.sha256(content).hexdigest()


def _options(arguments: argparse.Namespace, facts: dict[str, Any]) -> WorldOptions:
    today = datetime.now(timezone(facts)).date()
    scenario = _scenario(arguments)
    return WorldOptions(
        subscribers=arguments.subscribers,
        centres=arguments.centres,
        days=arguments.days,
        last_day=arguments.last_day or scenario.day or today - timedelta(days=1),
        seed=arguments.seed,
        scenario=scenario,
    )


def _scenario(arguments: argparse.Namespace) -> Scenario:
    if arguments.scenario is None:
        return PLAIN
    known = scenarios_of(arguments.scenarios)
    if arguments.scenario not in known:
        raise Misused(
            "--scenario",
            found=repr(arguments.scenario),
            expected=f"one of {', '.join(known)}",
            consequence="no world was written",
        )
    return known[arguments.scenario]


def _parameters(options: WorldOptions, geography_digest: str) -> dict[str, Any]:
    return {
        "version": WORLD_VERSION,
        "subscribers": options.subscribers,
        "centres": options.centres,
        "days": options.days,
        "last_day": options.last_day.isoformat(),
        "seed": options.seed,
        "market_share": options.market_share,
        "geography_sha256": geography_digest,
        "scenario": json.loads(json.dumps(options.scenario.parameters())),
    }


def _is_there(out: Path, parameters: dict[str, Any], *, replace: bool) -> bool:
    """Whether the same world is there; Misused when another one is and may not be replaced."""
    if out.exists() and not out.is_dir():
        raise _taken(out, "a file", "a folder")
    marker = out / MARKER
    if marker.exists():
        found = json.loads(marker.read_text())
        if found == parameters:
            return True
        differing = [name for name in parameters if found.get(name) != parameters[name]]
        description = "a world with other " + ", ".join(differing)
    elif (out / "landing").exists():
        description = "landing files of unknown origin"
    else:
        return False
    if not replace:
        raise _taken(out, description, "the same options, or --replace")
    return False


def _taken(out: Path, found: str, expected: str) -> Misused:
    return Misused(str(out), found=found, expected=expected, consequence="no world was written")


def _make(drawn: World, out: Path, parameters: dict[str, Any]) -> None:
    """Write the world beside its place and move it there when it is whole."""
    out = out.absolute()
    partial = out.parent / f".{out.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    started = time.monotonic()
    try:
        events = _write(drawn, partial)
        (partial / MARKER).write_text(json.dumps(parameters, indent=2) + "\n")
        _put_in_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    seconds = time.monotonic() - started
    options = drawn.options
    print(
        f"world: {options.subscribers:,} subscribers among {options.population:,} people, "
        f"{len(drawn.city.zone_ids)} zones, {len(drawn.network.cell_ids):,} cells, "
        f"{options.days} day(s) to {options.last_day}, {events:,} events "
        f"({events / options.subscribers / options.days:.0f} per subscriber-day), "
        f"{seconds:.1f} s"
    )
    print(f"landing: {out / 'landing'}")
    print(f"truth: {out / 'truth'}")


def _put_in_place(partial: Path, out: Path) -> None:
    if not out.exists():
        partial.rename(out)
        return
    # The marker goes first and comes last: without it nothing counts as a whole world.
    (out / MARKER).unlink(missing_ok=True)
    for part in PARTS:
        if (out / part).exists():
            (out / part).rename(partial / f"{part}-before")
        (partial / part).rename(out / part)
    (partial / MARKER).rename(out / MARKER)


def _write(drawn: World, root: Path) -> int:
    """Write landing and truth under ``root``; returns the number of event rows."""
    landing, truth = root / "landing", root / "truth"
    progress = _Progress()
    progress.done("cells", _write_table(drawn.cells(), landing / "cells/cells.parquet"))
    progress.done("zones", _write_zones(drawn, landing / "zones/berlin.geojson"))
    residents = landing / "residents/residents.parquet"
    progress.done("residents", _write_table(drawn.residents(), residents))
    outages = landing / "outages/outages.parquet"
    progress.done("outages", _write_table(drawn.outage_list(), outages))
    events = 0
    truth.mkdir()
    with (
        pq.ParquetWriter(truth / "zone_presence.parquet", PRESENCE) as presence,
        pq.ParquetWriter(truth / "homes.parquet", HOMES) as homes,
    ):
        for chunk in drawn.chunks():
            name = f"{chunk.number:04d}.parquet"
            _write_table(chunk.subscribers, landing / "subscribers" / name)
            _write_table(chunk.decisions, landing / "decisions" / name)
            homes.write_table(chunk.homes)
            for chunk_day in chunk.days:
                rows = _write_day(chunk_day, landing / "events", name)
                presence.write_table(chunk_day.presence)
                part = f"part {chunk.number + 1} of {drawn.options.chunks}"
                progress.done(f"events of {chunk_day.day}, {part}", rows)
                events += rows
    return events


class _Progress:
    """Prints what was written, how many rows, and the seconds since the line before."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def done(self, what: str, rows: int) -> None:
        now = time.monotonic()
        print(f"{what}: {rows:,} rows, {now - self._since:.1f} s", flush=True)
        self._since = now


def _write_day(chunk_day: ChunkDay, events: Path, name: str) -> int:
    for arrived, table in chunk_day.events.items():
        folder = events / f"date={arrived.isoformat()}"
        _write_table(table, folder / f"{chunk_day.day.isoformat()}-{name}")
    return sum(table.num_rows for table in chunk_day.events.values())


def _write_table(table: pa.Table, path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the Arrow schema dictionary-encoded texts are read back as what they are: texts.
    texts = [column for column in TEXT_COLUMNS if column in table.column_names]
    pq.write_table(table, path, use_dictionary=texts or True, store_schema=False)
    return table.num_rows


def _write_zones(drawn: World, path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    zones = drawn.zones()
    path.write_text(json.dumps(zones, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return len(zones["features"])


if __name__ == "__main__":
    sys.exit(main())
