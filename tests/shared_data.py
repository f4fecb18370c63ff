"""Where the data made by others lie: beside the project, never in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
VARIABLE = "FOOTFALL_SHARED_DATA"


def shared_data(name: str) -> Path:
    """A folder of it. Without it the test is skipped, but fails where CI should have it."""
    root = Path(os.environ.get(VARIABLE) or PROJECT.parent / "shared" / "data")
    folder = root / name
    if not folder.is_dir():
        message = (
            f"data made by others: found no folder {folder}, expected it in ../shared/data or "
            f"where {VARIABLE} points; nothing was tested on them"
        )
        if "CI" in os.environ:
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return folder
