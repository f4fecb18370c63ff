"""Published tables and the ledger of a night -> one self-contained HTML page, and its statement."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.releases import is_nightly, noisy_cells, participants_entry
from jobs.render_statement import attacks_on, render_statement, write_page
from jobs.runtime import Night, run_job
from jobs.store import at_once
from transforms import benchmark, budget, report, tables
from transforms.errors import Failed
from transforms.tables import REFERENCE_ZONES, REJECTED, RELEASES, RUNS

_DAYS_SHOWN = 28


def render_report(night: Night) -> Path:
    """Writes the report of the night, and the statement it links to; returns the report's path."""
    day = night.day.date
    recent = (F.col("day") <= F.lit(day)) & (
        F.col("day") > F.lit(day - timedelta(days=_DAYS_SHOWN))
    )
    hours_of_days = night.store.read(tables.ZONE_HOURS.table).where(recent)
    if hours_of_days.isEmpty():
        raise Failed(
            f"report of {day}",
            found="nothing published",
            expected="a published night",
            consequence="no report was written",
        )
    frames = {
        "zones": night.of_day(REFERENCE_ZONES).drop("geometry"),
        "zone_hours": hours_of_days,
        "zone_days": night.of_day(tables.ZONE_DAYS.table),
        "zone_dwell": night.of_day(tables.ZONE_DWELL.table),
        "zone_flows": night.of_day(tables.ZONE_FLOWS.table),
        "zone_catchment": night.of_day(tables.ZONE_CATCHMENT.table),
        "releases": night.of_day(RELEASES).where(is_nightly()),
        "rejected": night.of_day(REJECTED),
    }
    of_night = dict(zip(frames, at_once(_pandas, frames.values()), strict=True))
    spent = of_night["releases"]
    privacy = night.settings.privacy
    page = report.night_report(
        report.ReportTables(
            **of_night,
            run=_run(night),
            attacks=attacks_on(night, set(spent["release_id"])),
            participation=_participation(night),
            benchmark=benchmark.load(),
        ),
        day=day,
        timezone=night.settings.timezone,
        epsilon_by_delta=budget.epsilons(float(spent["rho"].sum()), deltas=privacy.display_deltas),
        rho_cap=privacy.rho_cap,
        min_devices=privacy.min_devices,
    )
    path = Path(night.settings.paths.reports_folder) / f"{day}.html"
    write_page(path, page)
    render_statement(night)
    return path


def _participation(night: Night) -> pd.DataFrame:
    """The month's noisy cells; none where participation is a share of the settings."""
    entry = participants_entry(night)
    return _pandas(noisy_cells(night, entry.release_id)) if entry.is_closed else pd.DataFrame()


def _pandas(frame: DataFrame) -> pd.DataFrame:
    """Spark hands instants over without their timezone, which is the session's: UTC."""
    rows: pd.DataFrame = frame.toPandas()
    for name in rows.select_dtypes("datetime").columns:
        rows[name] = rows[name].dt.tz_localize("UTC")
    return rows


def _run(night: Night) -> dict[str, object]:
    row = (
        night.of_day(RUNS)
        .where(F.col("outcome") == "published")
        .drop("files_read")
        .orderBy(F.desc("ended_at"))
        .first()
    )
    return row.asDict() if row else {}


if __name__ == "__main__":
    sys.exit(run_job(render_report, description=__doc__ or "", writes=False))
