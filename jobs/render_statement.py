"""Settings, catalogue, ledger and attack scores -> the data-protection officer's HTML page."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

from jobs import certify
from jobs.runtime import Night, run_job
from jobs.show_budget import read_ledger
from transforms.risks import Attack
from transforms.statement import Evidence, statement
from transforms.tables import ATTACKS, TABLES


def show_statement(night: Night) -> None:
    """Writes the statement and says where it lies."""
    night.progress.console.print(f"statement: {render_statement(night)}", markup=False)


def render_statement(night: Night) -> Path:
    """Writes the statement of the night beside its report and returns its path."""
    ledger, chain = read_ledger(night), certify.chain(night)
    evidence = Evidence(
        ledger=ledger,
        attacks=attacks_on(
            night, {entry.release_id for entry in ledger.of_day(night.day.date).entries}
        ),
        filled=night.store.filled(table for table in TABLES if table.root == "restricted"),
        certificates=[one for one in chain if one.day == night.day.date],
        chain_faults=certify.faults(night, chain),
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


def attacks_on(night: Night, releases: Collection[str]) -> list[Attack]:
    """Scores of these releases, attacked or not."""
    found = (night.store.rows(ATTACKS, release_id=release) for release in sorted(releases))
    return [
        Attack(**{one.name: row[one.name] for one in fields(Attack)})
        for rows in found
        for row in rows
    ]


if __name__ == "__main__":
    sys.exit(run_job(show_statement, description=__doc__ or "", writes=False))
