"""Certificates of consent: what was true when a release was made, chained so that none can be
changed, taken out or put in unseen.

Each is sealed by SHA-256 over all it says, the seal of the one before included, and names what its
release spends as the privacy ledger has it. Who can rewrite every certificate can forge the chain:
keep the newest seal somewhere else, as each night's statement does (its summary has the start of
it).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime


@dataclass(frozen=True)
class Certificate:
    """One row of `ops.consent_certificates`; instants are in UTC, without a zone."""

    number: int
    day: date
    release_id: str
    spends: str
    consent_version: int
    decisions_received_until: datetime | None
    subscribers_seen: int
    taking_part: int
    left_out: Mapping[str, int]
    recount: int
    opt_outs: int
    opt_outs_in_time: int
    longest_wait_h: float | None
    issued_at: datetime
    previous_hash: str | None = None
    hash: str = ""

    @property
    def seal(self) -> str:
        """What `hash` must be: of the same content always the same, wherever it was stored."""
        content = asdict(self) | {"left_out": dict(self.left_out)}
        del content["hash"]
        text = json.dumps(content, sort_keys=True, default=_instant, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def sealed(self, *, after: Certificate | None) -> Certificate:
        """The next link of the chain."""
        linked = replace(
            self,
            number=after.number + 1 if after else 1,
            previous_hash=after.hash if after else None,
        )
        return replace(linked, hash=linked.seal)

    @property
    def share_in_time(self) -> float:
        """Of the opt-outs that wait no longer than they may; 1 where nobody waited."""
        return self.opt_outs_in_time / self.opt_outs if self.opt_outs else 1.0


def _instant(value: date) -> str:
    return value.isoformat()


def spends(measures: Iterable[tuple[str, float, int, float]]) -> str:
    """What a release spends, as text: (measure, ρ, L0, σ) each.

    >>> spends([("zone_days.visits", 0.005, 4, 40.0)])
    'zone_days.visits rho=0.005 l0=4 sigma=40.0'
    """
    return "; ".join(
        f"{name} rho={rho!r} l0={l0} sigma={sigma!r}" for name, rho, l0, sigma in sorted(measures)
    )


def faults(chain: Sequence[Certificate], *, ledger: Mapping[str, str]) -> list[str]:
    """What is wrong with the chain, in words; nothing when it holds.

    chain: all certificates, in any order; ledger: what each release spends, by `spends`.
    """
    found, before = [], None
    in_order = sorted(chain, key=lambda one: one.number)
    for number, one in enumerate(in_order, start=1):
        name = f"certificate {one.number}"
        if one.number != number:
            found.append(f"certificate {number} is missing")
            break
        if one.hash != one.seal:
            found.append(f"{name} was changed")
        if one.previous_hash != (before.hash if before else None):
            found.append(f"{name} does not follow the one before")
        before = one
    newest = {one.release_id: one for one in in_order}
    for release_id, spent in sorted(ledger.items()):
        if release_id not in newest:
            found.append(f"release {release_id} has no certificate")
        elif newest[release_id].spends != spent:
            found.append(f"release {release_id} spends something else in the ledger")
    return found
