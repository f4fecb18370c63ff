"""Settings, catalogue, ledger and attack scores -> the data-protection officer's HTML page."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from pyspark.sql import functions as F

from jobs.runtime import Night, run_job
from jobs.show_budget import read_ledger
from transforms.ledger import Ledger
from transforms.statement import Attack, Evidence, statement
from transforms.tables import ATTACKS, TABLES


def show_statement(night: Night) -> None:
    """Writes the statement and says where it lies."""
    night.progress.console.print(f"statement: {render_statement(night)}", markup=False)


def render_statement(night: Night) -> Path:
    """Writes the statement of the night beside its report and returns its path."""
    ledger = read_ledger(night)
    evidence = Evidence(
        ledger=ledger,
        attacks=_attacks(night, ledger),
        filled={
            table.name
            for table in TABLES
            if table.root == "restricted" and not night.store.read(table).isEmpty()
        },
    )
    path = statement_path(night)
    write_page(path, statement(evidence, day=night.day.date, settings=night.settings))
    return path


def statement_path(night: Night) -> Path:
    """The report links to this name."""
    return Path(night.settings.paths.reports_folder) / f"statement-{night.day.date}.html"


def write_page(path: Path, page: str) -> None:
    """Whole or not at all: nobody opens half a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".html.unfinished")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(path)


def _attacks(night: Night, ledger: Ledger) -> list[Attack]:
    """Scores of the night's releases. Rows from before views were told apart are of releases."""
    ids = {entry.release_id for entry in ledger.of_day(night.day.date).entries}
    rows = night.store.read(ATTACKS).where(F.col("release_id").isin(ids)).collect()
    names = [field.name for field in fields(Attack)]
    return [Attack(**{name: row[name] for name in names if name in row}) for row in rows]


if __name__ == "__main__":
    sys.exit(run_job(show_statement, description=__doc__ or "", writes=False))
