"""Objections of people who were erased, lifted again: only the operator does so, when asked to.

From then on they are treated like anybody who never decided.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jobs import objections
from jobs.runtime import Night, run_job
from transforms.wording import few


def lift_objections(night: Night, *, ids: Path) -> int:
    """-> how many objections were lifted. Raises `Misused` for a file without identities."""
    lifted = objections.lift(night, objections.identities_in(ids))
    night.progress.headline(f"Footfall, objections lifted: {few(lifted)}")
    return lifted


FILES = {"ids": "text file with one identity a line"}

if __name__ == "__main__":
    sys.exit(run_job(lift_objections, description=__doc__ or "", files=FILES))
