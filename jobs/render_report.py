"""Published tables and the ledger of a night -> one self-contained HTML page."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.runtime import Night, run_job
from transforms import budget, report, tables
from transforms.errors import Failed
from transforms.tables import PARTICIPANTS, REFERENCE_ZONES, REJECTED, RELEASES, RUNS

_DAYS_SHOWN = 28


def render_report(night: Night) -> Path:
    """Writes the report of the night and returns its path."""
    day = night.day.date
    on_day = F.col("day") == F.lit(day)
    recent = (F.col("day") <= F.lit(day)) & (
        F.col("day") > F.lit(day - timedelta(days=_DAYS_SHOWN))
    )
    hours = _pandas(night, tables.ZONE_HOURS.table, recent)
    if hours.empty:
        raise Failed(
            f"report of {day}",
            found="nothing published",
            expected="a published night",
            consequence="no report was written",
        )
    ledger = night.store.read(RELEASES).where(on_day & (F.col("product") != PARTICIPANTS.product))
    releases = _naive_to_utc(ledger.toPandas())
    privacy = night.settings.privacy
    page = report.night_report(
        report.ReportTables(
            zones=_pandas(night, REFERENCE_ZONES, on_day).drop(columns="geometry"),
            zone_hours=hours,
            zone_days=_pandas(night, tables.ZONE_DAYS.table, on_day),
            zone_dwell=_pandas(night, tables.ZONE_DWELL.table, on_day),
            zone_flows=_pandas(night, tables.ZONE_FLOWS.table, on_day),
            zone_catchment=_pandas(night, tables.ZONE_CATCHMENT.table, on_day),
            releases=releases,
            rejected=_pandas(night, REJECTED, on_day),
            run=_run(night, on_day),
        ),
        day=day,
        timezone=night.settings.timezone,
        epsilon_by_delta=budget.epsilons(
            float(releases["rho"].sum()), deltas=privacy.display_deltas
        ),
        rho_cap=privacy.rho_cap,
    )
    path = Path(night.settings.paths.reports_folder) / f"{day}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".html.unfinished")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(path)
    return path


def _pandas(night: Night, table: tables.Table, condition: Column) -> pd.DataFrame:
    return _naive_to_utc(_rows(night, table, condition).toPandas())


def _rows(night: Night, table: tables.Table, condition: Column) -> DataFrame:
    return night.store.read(table).where(condition)


def _naive_to_utc(frame: pd.DataFrame) -> pd.DataFrame:
    """Spark hands instants over without their timezone, which is the session's: UTC."""
    for name in frame.select_dtypes("datetime").columns:
        frame[name] = frame[name].dt.tz_localize("UTC")
    return frame


def _run(night: Night, on_day: Column) -> dict[str, object]:
    row = (
        night.store.read(RUNS)
        .where(on_day & (F.col("outcome") == "published"))
        .drop("files_read")
        .orderBy(F.desc("ended_at"))
        .first()
    )
    return row.asDict() if row else {}


if __name__ == "__main__":
    sys.exit(run_job(render_report, description=__doc__ or ""))
