"""Landing files of a small demo world, for tests that need a whole one."""

from __future__ import annotations

from pathlib import Path

from jobs import make_world

GEOGRAPHY = Path(__file__).resolve().parent.parent / "conf/demo_geography.toml"


def landing_of_small_world(
    out: Path, *, subscribers: int, centres: int, last_day: str, seed: int = 7
) -> Path:
    """Makes a world of one day in `out` and returns its landing folder."""
    options = {
        "--out": out,
        "--subscribers": subscribers,
        "--centres": centres,
        "--last-day": last_day,
        "--seed": seed,
        "--geography": GEOGRAPHY,
    }
    assert make_world.main([str(part) for pair in options.items() for part in pair]) == 0
    return out / "landing"
