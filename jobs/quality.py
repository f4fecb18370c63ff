"""Great Expectations over the night's frames: suites from the catalogue and conf/, findings to
`ops.quality`. No value of a row is ever kept, only counts and shares.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.frames import local_frame
from jobs.runtime import Night
from transforms.errors import Failed
from transforms.settings import Consent, Quality
from transforms.tables import KINDS, QUALITY, RUNS, VISITS, Table

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # it would call home

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.expectations import Expectation

PROFILE = (
    "accepted bigint, rejected_share double, volume_ratio double, "
    "seconds_before_day double, seconds_after_day double, late_share double"
)

WAITS = "longest_wait_h double, share_in_time double"


@dataclass(frozen=True)
class Finding:
    """One expectation's outcome; `observed` holds counts and shares only."""

    subject: str
    expectation: str
    column: str | None
    critical: bool
    success: bool
    observed: str


def examined(
    frame: DataFrame,
    expectations: Sequence[Expectation],
    *,
    subject: str,
    told: Mapping[str, str] | None = None,
) -> list[Finding]:
    """What Great Expectations finds on `frame`; `told` has the values of columns that may be told,
    which are those of no single row.
    """
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    batch = (
        context.data_sources.add_spark("night", persist=False)  # who computed it lets go of it
        .add_dataframe_asset(subject)
        .add_batch_definition_whole_dataframe("all")
        .get_batch({"dataframe": frame})
    )
    suite = gx.ExpectationSuite(subject, expectations=list(expectations))
    results = batch.validate(
        suite, result_format={"result_format": "BASIC", "partial_unexpected_count": 0}
    )
    return [
        Finding(
            subject=subject,
            expectation=result.expectation_config.type,
            column=result.expectation_config.kwargs.get("column"),
            critical=result.expectation_config.severity == "critical",
            success=bool(result.success),
            observed=_observed(result, told or {}),
        )
        for result in results.results
    ]


def _observed(result: ExpectationValidationResult, told: Mapping[str, str]) -> str:
    limits = result.expectation_config.kwargs
    if value := told.get(limits.get("column", "")):
        low, high = (limits.get(name) for name in ("min_value", "max_value"))
        allowed = f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
        return f"{value}, allowed is {allowed}"
    if "unexpected_percent" in result.result:
        return f"{result.result['unexpected_percent'] or 0:.4g} % unexpected"
    return str(result.result.get("observed_value", ""))


def event_expectations() -> list[Expectation]:
    """Of the accepted subscriber-days: the schema, and nothing missing."""
    import great_expectations.expectations as gxe

    columns = ("subscriber_id", "events")
    return [
        gxe.ExpectTableColumnsToMatchSet(column_set=list(columns), severity="critical"),
        *[gxe.ExpectColumnValuesToNotBeNull(column=c, severity="critical") for c in columns],
    ]


def profile_expectations(quality: Quality) -> list[Expectation]:
    """Of the batch as a whole: `PROFILE`, one row."""
    import great_expectations.expectations as gxe

    def between(
        column: str, low: float | None, high: float | None, severity: str = "critical"
    ) -> Expectation:
        return gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=low, max_value=high, severity=severity
        )

    return [
        between("accepted", 1, None),
        between("rejected_share", 0, quality.max_rejected_share),
        between("volume_ratio", quality.min_volume_ratio, quality.max_volume_ratio),
        between("seconds_before_day", None, 0),
        between("seconds_after_day", None, 0),
        between("late_share", 0, quality.max_late_share, severity="warning"),
    ]


def wait_expectations(rules: Consent) -> list[Expectation]:
    """Of the opt-outs that a release honours for the first time: `WAITS`, one row."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="longest_wait_h", min_value=0, max_value=rules.max_latency, severity="warning"
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="share_in_time", min_value=1, max_value=1, severity="warning"
        ),
    ]


def table_expectations(table: Table) -> list[Expectation]:
    """Of any table of the catalogue: its columns, what may not be null, its key."""
    import great_expectations.expectations as gxe

    required = [column.name for column in table.columns if not column.nullable]
    return [
        gxe.ExpectTableColumnsToMatchSet(
            column_set=[column.name for column in table.columns], severity="critical"
        ),
        *[gxe.ExpectColumnValuesToNotBeNull(column=c, severity="critical") for c in required],
    ]


def visit_expectations() -> list[Expectation]:
    """Of `silver.visits`."""
    import great_expectations.expectations as gxe

    return [
        *table_expectations(VISITS),
        gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=list(KINDS), severity="critical"),
        gxe.ExpectColumnValuesToBeBetween(
            column="presence", min_value=0, max_value=1, severity="critical"
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="dwell_s", min_value=0, max_value=25 * 3600, severity="critical"
        ),
        gxe.ExpectColumnValueLengthsToEqual(column="pseudonym", value=64, severity="critical"),
    ]


def volume_ratio(night: Night, accepted: int) -> float | None:
    """Accepted rows over the median of the last published nights; None without any."""
    before = (
        night.store.read(RUNS)
        .where((F.col("outcome") == "published") & (F.col("day") < F.lit(night.day.date)))
        .orderBy(F.desc("day"))
        .limit(night.settings.quality.previous_days)
        .agg(F.median("accepted"))
        .first()
    )
    median = before[0] if before else None
    return accepted / float(median) if median else None


def record(
    night: Night, findings: Iterable[Finding], *, consequence: str = "nothing was published"
) -> None:
    """Stores the findings; raises `Failed` naming the critical ones that were not met."""
    found = list(findings)
    rows = [
        (
            night.day.date,
            night.run_id,
            finding.subject,
            finding.expectation,
            finding.column,
            finding.critical,
            finding.success,
            finding.observed,
        )
        for finding in found
    ]
    night.store.append(QUALITY, local_frame(night.spark, rows, QUALITY.schema))
    broken = [finding for finding in found if finding.critical and not finding.success]
    if broken:
        reasons = "; ".join(
            f"{one.column or one.subject} {one.observed} ({one.expectation})" for one in broken
        )
        raise Failed(
            f"quality of {', '.join(sorted({one.subject for one in broken}))} on {night.day.date}",
            found=reasons,
            expected="every critical expectation met (see ops.quality)",
            consequence=consequence,
        )
