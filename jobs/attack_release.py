"""Attacks a release in every way of the design, and the same data unprotected, and tells.

    python -m jobs.attack_release --conf FILE --day YYYY-MM-DD [--quick]

Every attack runs twice. Against unprotected data it must succeed, else it proves nothing; against
the release it must stay within its bound: the score may lie above it by 2 standard errors at most.

A score of the worst case lies exactly on its bound, so chance alone lifts it above that margin in
2 of 100 runs. What is above, but not so far that chance is no explanation (5 standard errors), is
run again, independently and four times as long, up to twice, and broken only if it stays above:
a sound release is called broken about once in 100,000 attacks.

The last line is JSON: attacks; broken, how many the release did not withstand; worst_margin, the
smallest `bound + 2 standard errors - score` over the release's attacks (an audit, whose score is a
lower confidence bound already: `bound - score`), where attacks that hit an exact bound exactly
(no name found where none may be) count only if they are broken. Exit 1: the release is broken, an
attack is toothless, or there is nothing to attack.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from rich.table import Table

from jobs import releases
from jobs.attacks import neighbours
from jobs.attacks.scenarios import ATTACKS
from jobs.attacks.scene import LONG, QUICK, Attacked, Effort, Outcome, Scene
from jobs.frames import local_frame
from jobs.render_report import render_report
from jobs.runtime import Night, run_job
from transforms import tables
from transforms.budget import PROMISED_RHO
from transforms.errors import Failed
from transforms.risks import figure

_CONFIRMATIONS = 2
_LONGER = 4
_FEWEST_SUBSCRIBERS = 20
_WIDE = 130
"""Columns of a terminal that has room for a sentence per attack."""


@dataclass(frozen=True)
class Findings:
    """What all attacks on one release reached."""

    release_id: str
    attacks: Mapping[str, Attacked]

    @property
    def broken(self) -> list[str]:
        return [name for name, one in self.attacks.items() if not one.release.is_within]

    @property
    def toothless(self) -> list[str]:
        return [name for name, one in self.attacks.items() if one.unprotected.is_within]

    @property
    def worst_margin(self) -> float:
        outcomes = [one.release for one in self.attacks.values()]
        measured = [one.margin for one in outcomes if one.standard_error > 0 or not one.is_within]
        return min(measured, default=0.0)

    def must_hold(self) -> None:
        """Raises `Failed` when the release is broken or an attack is toothless."""
        if self.broken:
            raise Failed(
                f"release {self.release_id}",
                found=f"broken by {', '.join(self.broken)}",
                expected="every score within its bound",
                consequence="the promise does not hold",
            )
        if self.toothless:
            raise Failed(
                f"attacks on {self.release_id}",
                found=f"toothless: {', '.join(self.toothless)}",
                expected="every attack to succeed against unprotected data",
                consequence="that the release withstood them proves nothing",
            )


def attack_release(night: Night, *, quick: bool = False) -> Findings:
    """Attacks the day's release, keeps the scores and shows them.

    quick: about a minute instead of several, with wider standard errors. Raises `Failed` when
    there is nothing to attack.
    """
    published = releases.newest(night)
    if published is None or not published.is_closed:
        raise Failed(
            f"release of {night.day.date}",
            found="none",
            expected="a published night",
            consequence="nothing was attacked",
        )
    progress = night.progress
    progress.headline(f"Attacks on release {published.release_id}")
    scene = _scene(night, published.release_id, QUICK if quick else LONG)
    attacks: dict[str, Attacked] = {}
    for name, attack in ATTACKS.items():
        started = time.monotonic()
        with progress.console.status(f"{name} …"):
            attacked = settled(attack.run, scene)
        if attacked is not None:
            attacks[name] = attacked
            seconds = time.monotonic() - started
            progress.console.print(f"  {name:<24} {seconds:6.1f} s", markup=False)
    for note in scene.notes:
        progress.note(note)
    findings = Findings(published.release_id, attacks)
    _store(night, findings)
    progress.console.print(_shown(findings, width=progress.console.width))
    return findings


def attack_and_tell(night: Night, *, quick: bool = False) -> None:
    """The command: after the attacks the report says what they reached."""
    findings = attack_release(night, quick=quick)
    night.progress.console.print(f"report: {render_report(night)}", markup=False)
    closing = {
        "attacks": len(findings.attacks),
        "broken": len(findings.broken),
        "worst_margin": round(findings.worst_margin, 4),
    }
    print(json.dumps(closing), flush=True)
    findings.must_hold()


def _scene(night: Night, release_id: str, effort: Effort) -> Scene:
    mechanisms = neighbours.attacked_mechanisms(night)
    day = neighbours.day_contributions(night, mechanisms, people=effort.people)
    people = day.units.shape[0]
    if people < _FEWEST_SUBSCRIBERS:
        raise Failed(
            f"visits of {night.day.date}",
            found="too few subscribers (visits are kept for some days only)",
            expected=f"at least {_FEWEST_SUBSCRIBERS}",
            consequence="nothing was attacked",
        )
    rho = min(PROMISED_RHO, night.settings.privacy.rho_cap)
    return Scene(night, release_id, mechanisms, day, rho, effort, seed=night.day.date.toordinal())


def settled(attack: Callable[[Scene], Attacked | None], scene: Scene) -> Attacked | None:
    """The attack's outcome; one that chance may explain is run again, longer, before it counts."""
    attacked = attack(scene)
    for again in range(1, _CONFIRMATIONS + 1):
        if attacked is None or not _is_in_doubt(attacked):
            break
        # A new scene draws anew; what it only reads is kept.
        longer = replace(scene, effort=scene.effort.times(_LONGER), seed=scene.seed + again)
        attacked = attack(longer)
    return attacked


def _is_in_doubt(attacked: Attacked) -> bool:
    release, unprotected = attacked.release, attacked.unprotected
    is_lifted_by_chance = not release.is_within and not release.is_beyond_doubt
    return is_lifted_by_chance or unprotected.is_within


def _shown(findings: Findings, *, width: int) -> Table:
    """One line per attack; who attacks stands there too where there is room for it."""
    tells_attacker = width >= _WIDE
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("attack", "attacker")[: 1 + tells_attacker]:
        table.add_column(title, no_wrap=True)
    for title in ("unprotected", "release", "± SE", "bound"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name, attacked in findings.attacks.items():
        release = attacked.release
        table.add_row(
            *(name, ATTACKS[name].attacker)[: 1 + tells_attacker],
            figure(attacked.unprotected.score),
            figure(release.score),
            figure(release.standard_error) if release.standard_error else "exact",
            figure(release.bound),
            _verdict(attacked),
        )
    return table


def _verdict(attacked: Attacked) -> str:
    if not attacked.release.is_within:
        return "BROKEN"
    return "TOOTHLESS" if attacked.unprotected.is_within else "within"


def _store(night: Night, findings: Findings) -> None:
    """Replaces the release's rows: attacking again leaves one set of scores."""
    attacked_at, release_id = night.now(), findings.release_id
    rows = [
        _row(release_id, name, view, outcome, attacked_at)
        for name, attacked in findings.attacks.items()
        for view, outcome in zip(
            tables.ATTACK_VIEWS, (attacked.unprotected, attacked.release), strict=True
        )
    ]
    frame = local_frame(night.spark, rows, tables.ATTACKS.schema)
    night.store.replace(tables.ATTACKS, frame, release_id=release_id)


def _row(
    release_id: str, name: str, view: str, outcome: Outcome, attacked_at: datetime
) -> tuple[object, ...]:
    return (
        release_id,
        name,
        ATTACKS[name].attacker,
        view,
        *(
            round(float(figure), 4)
            for figure in (outcome.score, outcome.standard_error, outcome.bound)
        ),
        outcome.is_within,
        attacked_at,
    )


if __name__ == "__main__":
    sys.exit(
        run_job(
            attack_and_tell,
            description=__doc__ or "",
            flags={"quick": "about a minute instead of several, with wider standard errors"},
        )
    )
