"""One whole night: what the operator delivers in, protected Delta tables out.

    decisions ─┐
    reference ─┼─> visits ─> noise, once ─> ledger ─> published tables ─> report
    events ────┘   (pseudonyms of the day)

What has reached its age limit goes before all that. Safe to repeat: a night is released once, and
a repeat changes nothing. One that was cut short is finished from where it stood. `--from` and
`--to` run several, one after another, and pass over those that are published; `--dry-run` only says
what would happen.
"""

from __future__ import annotations

import sys

from jobs import certify, releases
from jobs.attack_release import attack_release
from jobs.await_arrival import await_arrival
from jobs.detect_visits import detect_visits
from jobs.erase_expired import erase_expired
from jobs.ingest_decisions import ingest_decisions
from jobs.ingest_reference import ingest_reference
from jobs.plan_night import plan_night
from jobs.publish_products import publish_products
from jobs.render_report import render_report
from jobs.runs import came_later, recorded, settle_killed
from jobs.runtime import RESTATE, Night, Several, run_job
from jobs.show_status import tell_monitoring
from jobs.summary import show_summary

OPTIONS = RESTATE | {"attack": "attack what was published, quickly, before the report is made"}


def run_night(night: Night, *, restate: bool = False, attack: bool = False) -> None:
    """Every step of one night, in order; any error stops it before anything is published."""
    night.progress.headline(f"Footfall, night of {night.day.date} ({night.settings.timezone})")
    settle_killed(night)
    nothing_to_do = is_done(night, restate=restate)
    if nothing_to_do:
        night.progress.note(f"{releases.newest(night)} is published: nothing to do")
        if (told := came_later(night)) is not None:
            night.progress.note(f"{told}: only a restatement counts them")
    else:
        with recorded(night) as run:
            night.progress.step(erase_expired, night)
            if releases.is_drawn(night, releases.open_or_next(night)):
                run.account_as_before()
            else:
                night.progress.step(ingest_decisions, night)
                night.progress.step(await_arrival, night)
                night.progress.step(ingest_reference, night)
                run.account(night.progress.step(detect_visits, night))
            night.progress.step(publish_products, night, restate=restate)
    if attack:
        attack_release(night, quick=True).must_hold()
    report = night.progress.step(render_report, night)
    show_summary(night, report)
    if not nothing_to_do:
        certify.must_have_been_in_time(night)


def is_done(night: Night, *, restate: bool = False, attack: bool = False) -> bool:
    """Whether the night is published and is not to be published anew."""
    newest = releases.newest(night)
    return newest is not None and newest.is_closed and not restate


NIGHTS = Several(is_done, plan=plan_night, afterwards=tell_monitoring)

if __name__ == "__main__":
    sys.exit(run_job(run_night, description=__doc__ or "", flags=OPTIONS, several=NIGHTS))
