"""What tests run on: landing files of a small demo world, decisions as a test wants them, a small
Spark session.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import make_world

TESTS = Path(__file__).resolve().parent
GEOGRAPHY = TESTS.parent / "conf/demo_geography.toml"
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


def landing_of_small_world(
    out: Path, *, subscribers: int, centres: int, last_day: str, days: int = 1, seed: int = 7
) -> Path:
    """Makes a world of `days` that end with `last_day` in `out` and returns its landing folder."""
    options = {
        "--out": out,
        "--subscribers": subscribers,
        "--centres": centres,
        "--days": days,
        "--last-day": last_day,
        "--seed": seed,
        "--geography": GEOGRAPHY,
    }
    assert make_world.main([str(part) for pair in options.items() for part in pair]) == 0
    return out / "landing"


def write_decisions(file: Path, decisions: Iterable[tuple[object, ...]]) -> Path:
    """decisions: values in the order of the contract."""
    rows = [dict(zip(DECISIONS.names, one, strict=True)) for one in decisions]
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, DECISIONS), file)
    return file


def small_site(root: Path, landing: Path) -> Path:
    """Writes settings of an installation with both roots in `root` and the tests' Spark session."""
    lines = ["[paths]", f'landing = "{landing}"']
    lines += [f'{name} = "{root / name}"' for name in ("restricted", "published")]
    conf = root / "site.toml"
    conf.write_text("\n".join([*lines, small_session()]), encoding="utf-8")
    return conf


def small_session() -> str:
    """The section of settings that makes the tests' Spark session."""
    _, head, lines = (
        (TESTS / "conf/tests.toml").read_text(encoding="utf-8").partition("[spark.conf]")
    )
    return head + lines
