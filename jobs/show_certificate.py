"""Certificates of consent -> who was left out of a day's release, and whether the chain holds.

    python -m jobs.show_certificate --conf FILE --day YYYY-MM-DD

Every certificate is checked against the one before and against the privacy ledger. Exit 1: one was
changed, is missing, or there is none for the day.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.table import Table

from jobs import certify
from jobs.runtime import Night, run_job
from transforms.certificates import Certificate
from transforms.errors import Failed
from transforms.wording import few


def show_certificate(night: Night) -> None:
    """Raises `Failed` for a chain that does not hold, or a day without a certificate."""
    chain = certify.chain(night)
    console = night.progress.console
    of_day = [one for one in chain if one.day == night.day.date]
    for one in sorted(of_day, key=lambda one: one.number):
        console.print(_shown(one, is_newest=one.number == len(chain)))
        console.print()
    must_hold(night, chain)
    if not of_day:
        raise Failed(
            f"certificates of {night.day.date}",
            found="none",
            expected="one for each release",
            consequence="there is nothing to show",
        )
    newest = max(chain, key=lambda one: one.number)
    console.print(f"the chain of {len(chain)} holds, up to {newest.hash}", markup=False)


def must_hold(night: Night, chain: Sequence[Certificate]) -> None:
    """Raises `Failed` naming what is wrong with the chain."""
    found = certify.faults(night, chain)
    if found:
        raise Failed(
            "chain of certificates",
            found="; ".join(found),
            expected="every certificate as it was sealed, and one for every release",
            consequence="who was counted can't be proven: tell the data-protection officer",
        )


def _shown(one: Certificate, *, is_newest: bool) -> Table:
    table = Table(
        title=f"Certificate {one.number} of release {one.release_id}",
        title_justify="left",
        box=None,
        show_header=False,
        padding=(0, 2, 0, 0),
    )
    waited = "–" if one.longest_wait_h is None else f"{one.longest_wait_h:.1f} h at most"
    received = one.decisions_received_until
    rows = {
        "issued": f"{one.issued_at:%Y-%m-%d %H:%M} UTC",
        "decisions received until": f"{received:%Y-%m-%d %H:%M} UTC" if received else "none",
        "consent.periods": f"version {one.consent_version}",
        "subscribers in the events": few(one.subscribers_seen),
        "of these, taking part": few(one.taking_part),
        **{
            f"left out, {reason.replace('_', ' ')}": few(count)
            for reason, count in sorted(one.left_out.items())
        },
        "counted, and may not be": few(one.recount),
        "new opt-outs": f"{few(one.opt_outs)}, {100 * one.share_in_time:.4g} % in time, {waited}",
        "seal": one.hash + (" (the newest)" if is_newest else ""),
        "seal before": one.previous_hash or "none: the first",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


if __name__ == "__main__":
    sys.exit(run_job(show_certificate, description=__doc__ or "", writes=False))
