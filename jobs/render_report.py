"""Published tables and the ledger of a night -> self-contained HTML pages, and its statement."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import certify
from jobs.releases import is_nightly, noisy_cells, participants_entry
from jobs.render_statement import attacks_on, render_statement, write_page
from jobs.runtime import Night, run_job
from jobs.store import at_once
from transforms import benchmark, budget, periods, popularity, report, tables
from transforms.errors import Failed
from transforms.language import ENGLISH, LANGUAGES, Language
from transforms.tables import QUALITY, REFERENCE_ZONES, REJECTED, RELEASES, REWARDS_MONTHS, RUNS

_OF_A_DAY = (*tables.NIGHTLY_PRODUCTS, tables.ZONE_COMPARISON)


OPTIONS = {
    "full": "charts of every zone that is published, not only of the busiest "
    f"{report.CHARTED_ZONES}"
}


def show_report(night: Night, *, full: bool = False) -> None:
    """Writes the report and says where it lies."""
    night.progress.console.print(f"report: {render_report(night, full=full)}", markup=False)


def render_report(night: Night, *, full: bool = False) -> Path:
    """Writes the report of the night in every language, and the statement it links to; returns the
    path of the English one.
    """
    day, found = night.day.date, _read(night)
    if found.zone_hours.empty:
        raise Failed(
            f"report of {day}",
            found="nothing published",
            expected="a published night",
            consequence="no report was written",
        )
    privacy = night.settings.privacy
    spent = float(found.releases["rho"].sum())
    epsilons = budget.epsilons(spent, deltas=privacy.display_deltas)
    for language in LANGUAGES:
        page = report.night_report(
            found,
            day=day,
            timezone=night.settings.timezone,
            epsilon_by_delta=epsilons,
            rho_cap=privacy.rho_cap,
            min_devices=privacy.min_devices,
            charted_zones=None if full else report.CHARTED_ZONES,
            language=language,
        )
        write_page(report_path(night, language), page)
    render_statement(night)
    return report_path(night)


def report_path(night: Night, language: Language = ENGLISH) -> Path:
    return Path(night.settings.paths.reports_folder) / report.file_name(night.day.date, language)


def _read(night: Night) -> report.ReportTables:
    day, read = night.day.date, night.store.read
    frames = {
        "zones": night.of_day(REFERENCE_ZONES),
        **{product.name: night.of_day(product.table) for product in _OF_A_DAY},
        "zone_popularity": read(tables.ZONE_POPULARITY.table).where(
            F.col("week") == F.lit(popularity.monday_of(day))
        ),
        "zone_weeks": read(tables.ZONE_WEEKS.table).where(
            F.col("week").isin(*periods.this_and_before(day, "week"))
        ),
        "zone_months": read(tables.ZONE_MONTHS.table).where(
            F.col("month").isin(*periods.this_and_before(day, "month"))
        ),
        "releases": night.of_day(RELEASES).where(is_nightly()),
        "rejected": night.of_day(REJECTED),
        "quality": night.of_day(QUALITY),
    }
    of_night = dict(zip(frames, at_once(_pandas, frames.values()), strict=True))
    run = _run(night)
    quality = of_night["quality"]
    of_night["quality"] = quality[quality["run_id"] == run.get("run_id")]
    return report.ReportTables(
        **of_night,
        run=run,
        attacks=attacks_on(night, set(of_night["releases"]["release_id"])),
        participation=_participation(night),
        certificates=[one for one in certify.chain(night) if one.day == day],
        rewards=_rewards(night),
        benchmark=benchmark.load(),
    )


def _rewards(night: Night) -> dict[str, object]:
    """The last month that is closed."""
    months = night.store.read(REWARDS_MONTHS).where(F.col("month") <= F.lit(night.day.date))
    last = months.orderBy(F.desc("month")).first()
    return last.asDict() if last else {}


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
    sys.exit(run_job(show_report, description=__doc__ or "", flags=OPTIONS, writes=False))
