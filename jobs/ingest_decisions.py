"""Decisions in the landing -> `consent.periods`: who takes part from when to when."""

from __future__ import annotations

import sys

from jobs.landing import readable
from jobs.runtime import Night, run_job
from transforms import consent
from transforms.errors import Refused
from transforms.tables import CONSENT_PERIODS, DECISIONS


def ingest_decisions(night: Night) -> str:
    """Raises `Refused` without believable decisions: nobody is counted then."""
    decisions = night.landing.rows(DECISIONS, error=Refused)
    with readable("decisions", error=Refused):
        if decisions is None or decisions.isEmpty():
            if not night.settings.consent.allow_empty:
                raise Refused(
                    "decisions",
                    found="not a single row",
                    expected="at least one, or consent.allow_empty in the settings",
                    consequence="no event was read",
                )
            decisions = night.spark.createDataFrame(
                [], ", ".join(f"`{c.name}` {c.type.simpleString()}" for c in DECISIONS.columns)
            )
        periods = consent.periods(decisions, now=night.now())
        night.store.replace(CONSENT_PERIODS, periods)
    return "consent up to now"


if __name__ == "__main__":
    sys.exit(run_job(ingest_decisions, description=__doc__ or ""))
