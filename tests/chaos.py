"""Kill nights at random moments, and hold what they leave against nights that nobody disturbed.

    python -m tests.chaos [--kills 50] [--nights 10] [--seed 7] [--out build/chaos]

The nights of a small made world are run twice. In one warehouse each is started, killed (`kill -9`)
at a random moment, and started again, some times over, before it comes to its end: the driver with
its JVM, the JVM alone, or the Python process alone. A night that ended before its moment came is
not killed any more; when kills are missing after `--nights`, more nights follow, twice as many at
most. In the other warehouse nothing happens to the same nights.
Then the two are compared: everybody's stays and who may be counted, what was rejected, the ledger,
the keys of all that is published, and which of it had to be suppressed. Noise and pseudonyms are
drawn and differ; nothing else may.

The last line is JSON: nights, kills, differences, leftovers (files that nothing names, keys,
leases).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
from deltalake import DeltaTable
from rich.console import Console

from jobs import lease
from tests.small_world import landing_of_small_world, small_site
from tests.submitted_night import PROJECT, environment
from transforms import tables
from transforms.budget import THRESHOLD_SIGMAS
from transforms.tables import NIGHTLY_PRODUCTS, PUBLISHED, PUBLISHED_PRODUCTS, Product, Table

FIRST_DAY = date(2026, 11, 2)
SUBSCRIBERS, CENTRES = 300, 3
VICTIMS = ("driver", "jvm", "python")
MIN_DEVICES = 30
A_NIGHT_S = 60
"""What the first night is taken to last."""

# What is drawn, or says when it was written, differs; everything else may not.
DRAWN = {"pseudonym", "noisy_devices"}
WHEN = {"first_seen_at", "read_at", "published_at", "started_at", "ended_at", "run_id", "at"}
VERSIONS = {"input_versions", "consent_version"}
SAME = (
    tables.REFERENCE_CELLS,
    tables.REFERENCE_ZONES,
    tables.REFERENCE_CELL_ZONES,
    tables.CONSENT_DECISIONS,
    tables.CONSENT_PERIODS,
    tables.VISITS,
    tables.REJECTED,
    tables.SUBSCRIBERS_SEEN,
    tables.NOISY_CELLS,
)


@dataclass
class Warehouse:
    """One of the two, and what was found wrong with it."""

    root: Path
    landing: Path
    differences: list[str] = field(default_factory=list)

    @property
    def conf(self) -> Path:
        return small_site(self.root, self.landing)

    def command(self, *days: str) -> list[str]:
        return [sys.executable, "-m", "jobs.run_night", "--conf", str(self.conf), *days]

    def path(self, table: Table) -> Path:
        return self.root / table.root / table.path

    def rows(self, table: Table) -> list[dict[str, Any]]:
        if not DeltaTable.is_deltatable(str(self.path(table))):
            return []
        found: list[dict[str, Any]] = DeltaTable(self.path(table)).to_pyarrow_table().to_pylist()
        return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("build/chaos"))
    options = parser.parse_args(argv)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"seed {options.seed}")
    root = options.out.absolute()
    shutil.rmtree(root, ignore_errors=True)
    days = [FIRST_DAY + timedelta(days=number) for number in range(2 * options.nights)]
    landing = landing_of_small_world(
        root / "world",
        subscribers=SUBSCRIBERS,
        centres=CENTRES,
        last_day=str(days[-1]),
        days=len(days),
    )
    calm, disturbed = (Warehouse(root / name, landing) for name in ("calm", "disturbed"))
    for warehouse in (calm, disturbed):
        warehouse.root.mkdir()
    dice = random.Random(options.seed)
    kills = disturb(console, disturbed, days, kills=options.kills, nights=options.nights, dice=dice)
    leftovers = [*left_over(disturbed, since=kills.last_night_at)]
    console.print(f"{kills.nights} nights undisturbed …")
    run_to_the_end(calm, "--from", str(days[0]), "--to", str(days[kills.nights - 1]))
    differences = [*calm.differences, *disturbed.differences, *compared(calm, disturbed)]
    for what, found in (("different", differences), ("left over", leftovers)):
        for one in found:
            console.print(f"{what}: {one}", markup=False)
    console.print(f"killed during: {told(kills.by_step)}", markup=False)
    figures = {
        "nights": kills.nights,
        "kills": kills.number,
        "differences": len(differences),
        "leftovers": len(leftovers),
    }
    print(json.dumps(figures))
    return 1 if differences or leftovers or kills.number < options.kills else 0


# --- killing ----------------------------------------------------------------------------------


@dataclass
class Kills:
    """How many there were, at which steps, amid how many nights, and when the last was begun."""

    last_night_at: datetime
    nights: int = 0
    number: int = 0
    by_step: Counter[str] = field(default_factory=Counter)


def disturb(
    console: Console,
    warehouse: Warehouse,
    days: Sequence[date],
    *,
    kills: int,
    nights: int,
    dice: random.Random,
) -> Kills:
    """Runs at least `nights` to their end at last, and more until there were as many `kills`."""
    done = Kills(datetime.now(UTC))
    took_s: list[float] = []
    for day in days:
        if done.nights >= nights and done.number >= kills:
            break
        done.last_night_at = datetime.now(UTC)
        done.nights += 1
        wanted = min(kills, round(kills * done.nights / nights))
        horizon_s = mean(took_s or [A_NIGHT_S])
        while done.number < wanted:
            moment_s, victim = dice.uniform(1, horizon_s), dice.choice(VICTIMS)
            step = killed(warehouse, day, victim=victim, after_s=moment_s)
            if step is None:
                console.print(f"{day}: over before {moment_s:.1f} s")
                break
            done.number += 1
            done.by_step[step] += 1
            console.print(
                f"{day}: killed the {victim} after {moment_s:.1f} s, {step}", markup=False
            )
        else:
            began = time.monotonic()
            run_to_the_end(warehouse, "--day", str(day))
            took_s.append(time.monotonic() - began)
    return done


def killed(warehouse: Warehouse, day: date, *, victim: str, after_s: float) -> str | None:
    """Starts a night and kills it. -> the step it was at; None when it had ended before."""
    output = warehouse.root / "killed.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            warehouse.command("--day", str(day)),
            cwd=PROJECT,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            step = step_after(output.read_text("utf-8", "replace"))
            kill(process, victim)
            return step
    if process.returncode:
        warehouse.differences.append(f"a start on {day} ended with {process.returncode}")
    return None


def kill(process: subprocess.Popen[bytes], victim: str) -> None:
    """Nothing of the night is alive afterwards; what outlives its other half has a while to end."""
    below = psutil.Process(process.pid).children(recursive=True)
    jvms = [one for one in below if one.name() == "java"]
    if victim in ("driver", "python"):
        process.kill()
    if victim in ("driver", "jvm"):
        for jvm in jvms:
            with suppress(psutil.NoSuchProcess):
                jvm.kill()
    process.wait()
    psutil.wait_procs(jvms, timeout=60)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def step_after(output: str) -> str:
    """The step that was under way, by the last one that had ended."""
    ended = [line[2:20].strip() for line in output.splitlines() if line.startswith("  ")]
    ended = [line for line in ended if not line.startswith("!")]
    return f"after {ended[-1]}" if ended else "before the first step had ended"


def run_to_the_end(warehouse: Warehouse, *days: str) -> None:
    command = warehouse.command(*days)
    done = subprocess.run(
        command, cwd=PROJECT, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        warehouse.differences.append(f"{' '.join(days)} ended with {done.returncode}")
        print(done.stdout[-2000:], done.stderr[-2000:], sep="\n")


# --- comparing --------------------------------------------------------------------------------


def compared(calm: Warehouse, disturbed: Warehouse) -> Iterator[str]:
    """Every way in which the disturbed nights came out otherwise."""
    for table in SAME:
        leave_out = DRAWN | WHEN | VERSIONS
        ours, theirs = (in_any_order(one.rows(table), leave_out) for one in (disturbed, calm))
        if ours != theirs:
            lost, more = theirs - ours, ours - theirs
            yield f"{table.name}: {lost.total()} rows lost, {more.total()} more"
    for name, of in (("ops.releases", ledger), ("ops.runs", runs), ("certificates", certified)):
        if of(disturbed) != of(calm):
            yield f"{name}: other lines than those of undisturbed nights"
    if people(disturbed) != people(calm):
        yield "silver.visits: other numbers of pseudonyms"
    for product in PUBLISHED_PRODUCTS:
        if keys(disturbed, product.table) != keys(calm, product.table):
            yield f"{product.table.name}: other keys"
    for product in NIGHTLY_PRODUCTS:
        yield from compared_product(calm, disturbed, product)


def in_any_order(rows: Iterable[dict[str, Any]], leave_out: Container[str] = ()) -> Counter[str]:
    kept = ({name: row[name] for name in row if name not in leave_out} for row in rows)
    return Counter(json.dumps(row, default=str, sort_keys=True) for row in kept)


def people(warehouse: Warehouse) -> Counter[date]:
    """Pseudonyms by day."""
    pairs = {(row["day"], row["pseudonym"]) for row in warehouse.rows(tables.VISITS)}
    return Counter(day for day, _ in pairs)


def ledger(warehouse: Warehouse) -> Counter[str]:
    """What each day spent: one release, whose cells are all there."""
    return in_any_order(warehouse.rows(tables.RELEASES), WHEN | VERSIONS | {"suppressed"})


def runs(warehouse: Warehouse) -> Counter[str]:
    """The run that published each day, and that no other is said to be running still."""
    of = (PUBLISHED, tables.RUNNING)
    rows = (row for row in warehouse.rows(tables.RUNS) if row["outcome"] in of)
    return in_any_order(rows, WHEN)


def certified(warehouse: Warehouse) -> Counter[str]:
    """The certificate that each release was drawn on: the newest one."""
    rows = sorted(warehouse.rows(tables.CONSENT_CERTIFICATES), key=lambda row: row["number"])
    newest = {row["release_id"]: row for row in rows}.values()
    chained = {"number", "issued_at", "previous_hash", "hash", "longest_wait_h"}
    return in_any_order(newest, chained | WHEN | VERSIONS)


def compared_product(calm: Warehouse, disturbed: Warehouse, product: Product) -> Iterator[str]:
    """The same gaps in the data, and suppressed is what the threshold says."""
    key = product.table.key
    ours, theirs = (keys(one, product.table, status="no_data") for one in (disturbed, calm))
    if ours != theirs:
        yield f"{product.table.name}: other no_data"
    rows = disturbed.rows(product.table)
    noisy = [row for row in disturbed.rows(tables.NOISY_CELLS) if row["product"] == product.name]
    no_data = {cell_of(row, key) for row in rows if row["status"] == "no_data"}
    for measure in product.measures:
        passing = {
            (row["release_id"], tuple(sorted(row["keys"])))
            for row in noisy
            if row["measure"] == measure and passes(row)
        }
        if {cell_of(row, key) for row in rows if row[measure] is not None} != passing - no_data:
            yield f"{product.table.name}.{measure}: suppressed is not what the threshold says"


def keys(warehouse: Warehouse, table: Table, *, status: str | None = None) -> Counter[str]:
    """Of all rows, or of those of one status."""
    return in_any_order(
        {name: row[name] for name in table.key}
        for row in warehouse.rows(table)
        if status in (None, row["status"])
    )


def passes(row: dict[str, Any]) -> bool:
    return bool(row["noisy_devices"] >= max(MIN_DEVICES, THRESHOLD_SIGMAS * row["sigma"]))


def cell_of(row: dict[str, Any], key: Sequence[str]) -> tuple[Any, ...]:
    """As ops.noisy_cells names it."""
    return row["release_id"], tuple(sorted((name, as_text(row[name])) for name in key))


def as_text(value: Any) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else str(value)


# --- what is left over ------------------------------------------------------------------------


def left_over(warehouse: Warehouse, *, since: datetime) -> Iterator[str]:
    """Files that nothing names. In tables about people, those of the nights before the last: what
    is replaced there goes a night later.
    """
    restricted = warehouse.root / "restricted"
    yield from map(str, restricted.glob("keys/????-??-??.key"))
    yield from map(str, restricted.glob(f"{lease.NAME}*"))
    yield from map(str, restricted.glob("reports/*.unfinished"))
    for table in tables.TABLES:
        if not DeltaTable.is_deltatable(str(warehouse.path(table))):
            yield f"{table.name}: no table"
        elif table.root == "published":
            yield from unnamed(warehouse.path(table))
        elif table.is_about_people:
            yield from older_than(since, stale(warehouse.path(table)))


def unnamed(table: Path) -> Iterator[str]:
    """Files that no version of the table ever added, and half of what was to join its log."""
    log = table / "_delta_log"
    actions = (json.loads(line) for file in log.glob("*.json") for line in file.open("rb"))
    added = {action["add"]["path"].rsplit("/", 1)[-1] for action in actions if "add" in action}
    for path in table.rglob("*"):
        if path.is_file() and path.parent != log:
            name = path.name.removeprefix(".").removesuffix(".crc")
            if name not in added:
                yield str(path)
        elif path.is_file() and ".tmp" in path.name:
            yield str(path)


def stale(table: Path) -> Iterator[Path]:
    named = {uri.rsplit("/", 1)[-1] for uri in DeltaTable(table).file_uris()}
    return (
        file
        for file in table.rglob("*.parquet")
        if "_delta_log" not in file.parts and file.name not in named
    )


def older_than(moment: datetime, files: Iterator[Path]) -> Iterator[str]:
    return (str(file) for file in files if file.stat().st_mtime < moment.timestamp())


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{step} {number}" for step, number in counts.most_common()) or "nothing"


if __name__ == "__main__":
    sys.exit(main())
