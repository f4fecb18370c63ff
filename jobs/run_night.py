"""One whole night: what the operator delivers in, protected Delta tables out.

    decisions ─┐
    reference ─┼─> visits ─> noise, once ─> ledger ─> published tables ─> report
    events ────┘   (pseudonyms of the day)

What has reached its age limit goes before all that. Safe to repeat: a night is released once, and
a repeat changes nothing. One that was cut short is finished from where it stood.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from jobs import certify, releases
from jobs.attack_release import attack_release
from jobs.detect_visits import Accounting, detect_visits
from jobs.erase_expired import erase_expired
from jobs.frames import local_frame
from jobs.ingest_decisions import ingest_decisions
from jobs.ingest_reference import ingest_reference
from jobs.publish_products import publish_products
from jobs.render_report import render_report
from jobs.runtime import RESTATE, Night, run_job
from jobs.summary import show_summary
from transforms.errors import Refused
from transforms.tables import RUNS

OPTIONS = RESTATE | {"attack": "attack what was published, quickly, before the report is made"}


def run_night(night: Night, *, restate: bool = False, attack: bool = False) -> None:
    """Every step of one night, in order; any error stops it before anything is published."""
    night.progress.headline(f"Footfall, night of {night.day.date} ({night.settings.timezone})")
    newest = releases.newest(night)
    is_done = newest is not None and newest.is_closed and not restate
    if is_done:
        night.progress.note(f"{newest} is published: nothing to do")
    else:
        with recorded(night) as run:
            night.progress.step(erase_expired, night)
            if not releases.is_drawn(night, releases.open_or_next(night)):
                night.progress.step(ingest_decisions, night)
                night.progress.step(ingest_reference, night)
                run.accounting = night.progress.step(detect_visits, night)
            night.progress.step(publish_products, night, restate=restate)
    if attack:
        attack_release(night, quick=True).must_hold()
    report = night.progress.step(render_report, night)
    show_summary(night, report)
    if not is_done:
        certify.must_have_been_in_time(night)


class Run:
    """What is known of a run so far."""

    accounting: Accounting | None = None


@contextmanager
def recorded(night: Night) -> Iterator[Run]:
    """Enters the run into `ops.runs` and destroys the day's key, however the run ends.

    A night that failed is done again from the events, with a new key.
    """
    run, started_at, outcome = Run(), night.now(), "failed"
    try:
        yield run
        outcome = "published"
    except Refused:
        outcome = "refused"
        raise
    finally:
        night.key.destroy()
        known = run.accounting
        row = (
            night.run_id,
            night.day.date,
            started_at,
            night.now(),
            outcome,
            known and known.rows_in,
            known and known.other_day,
            known and sum(known.rejected.values()),
            known and known.not_taking_part,
            known and known.accepted,
            known and known.files,
        )
        night.store.append(RUNS, local_frame(night.spark, [row], RUNS.schema))


if __name__ == "__main__":
    sys.exit(run_job(run_night, description=__doc__ or "", flags=OPTIONS))
