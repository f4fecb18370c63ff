"""Empirical audits: how much ε do many runs of the real mechanism prove to be spent?

The same audit is pointed at mechanisms that are broken on purpose: it has to catch them.
"""

from __future__ import annotations

import math

from jobs.attacks import attackers, neighbours
from jobs.attacks.neighbours import Mechanism, Runs
from jobs.attacks.scene import Attacked, Outcome, Scene
from transforms import budget

CONFIDENCE = 0.95
# Runs that show a μ by its lower confidence bound, times the square of what it is too much: of
# each of two rates 1.96 standard errors for the bound and 3.1 for chance, 1.26 / √n each.
_RUNS_FOR_GAP = 10.5**2
_MOST_DRAWS = 4_000_000


def _audit(scene: Scene, runs: Runs, *, rho: float) -> Outcome:
    """ε (at the first delta of the settings) that the runs prove to be spent, 95 % sure."""
    mu = attackers.audited_mu(*runs.membership_scores(), confidence=CONFIDENCE)
    delta = scene.night.settings.privacy.display_deltas[0]

    def epsilon(at: float) -> float:
        return budget.epsilon(at**2 / 2, delta=delta)

    error = epsilon(mu.value + mu.standard_error) - epsilon(mu.value)
    return Outcome(epsilon(mu.value), budget.epsilon(rho, delta=delta), error, slack=0.0)


def audit_of_noise(scene: Scene) -> Attacked:
    """The whole release; its broken counterpart draws half the noise."""
    crowds = neighbours.worst_crowds([one.with_half_the_noise() for one in scene.mechanisms])
    broken = neighbours.neighbours(scene.night, crowds, worlds=scene.effort.worlds)
    runs = broken.protected(scene.night, repeats=max(2_000 // scene.effort.worlds, 1))
    return Attacked(
        _audit(scene, runs, rho=scene.rho), _audit(scene, scene.worst_runs, rho=scene.rho)
    )


def audit_of_bounds(scene: Scene) -> Attacked | None:
    """One measure, against its part of the promise; the broken counterpart keeps one cell more
    than the noise is made for. None where one more in many is too little to be seen.
    """
    chosen, runs = min(((one, _runs_to_see(one)) for one in scene.mechanisms), key=_draws)
    if _draws((chosen, runs)) > _MOST_DRAWS:
        scene.note(
            f"audit_of_bounds left out: one cell above a bound of {chosen.kept} does not show"
        )
        return None
    total = math.fsum(one.calibration.rho for one in scene.mechanisms)
    rho = chosen.calibration.rho * min(1.0, scene.rho / total)
    outcomes = []
    for mechanism in (chosen.keeping_one_more(), chosen):
        crowds = neighbours.worst_crowds([mechanism])
        pair = neighbours.neighbours(scene.night, crowds, worlds=scene.effort.worlds)
        audited = pair.protected(scene.night, repeats=-(-runs // scene.effort.worlds))
        outcomes.append(_audit(scene, audited, rho=rho))
    return Attacked(*outcomes)


def _runs_to_see(mechanism: Mechanism) -> int:
    """Runs in which one cell more than the bound shows beyond doubt."""
    calibration = mechanism.calibration
    one_more = budget.with_noise(mechanism.measure, l0=mechanism.kept + 1, sigma=calibration.sigma)
    gap = math.sqrt(2 * one_more.rho) - math.sqrt(2 * calibration.rho)
    return math.ceil(_RUNS_FOR_GAP / gap**2)


def _draws(mechanism_and_runs: tuple[Mechanism, int]) -> int:
    mechanism, runs = mechanism_and_runs
    return runs * mechanism.worst_cells
