"""The privacy budget as a value: what a night may spend, what it spent, what that means.

ρ is zero-concentrated differential privacy (Bun and Steinke 2016); a Gaussian of scale σ on a
query of L2 sensitivity Δ₂ costs ρ = Δ₂² / (2σ²), and costs add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from dp_accounting.pld import privacy_loss_distribution

from transforms.errors import Refused
from transforms.settings import MeasureBudget
from transforms.tables import Measure

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Budget:
    """ρ left of a cap; spending returns what is left, or refuses."""

    cap: float
    spent: float = 0.0

    @property
    def left(self) -> float:
        return self.cap - self.spent

    def spend(self, rho: float, *, on: str) -> Budget:
        """Raises `Refused` when `rho` is more than what is left."""
        if rho > self.left + _ROUNDING:
            raise Refused(
                f"privacy budget for {on}",
                found=f"rho {rho:.6g} asked, {max(self.left, 0.0):.6g} of {self.cap:.6g} left",
                expected="no more than what is left",
                consequence="nothing was released",
            )
        return replace(self, spent=self.spent + rho)


@dataclass(frozen=True)
class Calibration:
    """The noise of one measure: what a subscriber-day may add, and the σ that hides it.

    Lengths are in devices (visitors), not in the integer units the noise is drawn in.
    """

    measure: Measure
    l0: int
    rho: float

    @property
    def linf(self) -> float:
        return float(self.l0) if self.measure.repeats else 1.0

    @property
    def l2(self) -> float:
        return float(self.l0) if self.measure.repeats else math.sqrt(self.l0)

    @property
    def sigma(self) -> float:
        return self.l2 / math.sqrt(2 * self.rho)

    def threshold(self, min_devices: int) -> float:
        """Noisy devices from which the measure is published; 2.33 is the normal 99 % quantile."""
        return max(float(min_devices), 2.33 * self.sigma)


def calibrated(measure: Measure, budget: MeasureBudget) -> Calibration:
    return Calibration(measure, l0=budget.cells, rho=budget.rho)


def epsilon(rho: float, *, delta: float) -> float:
    """Tight ε at `delta` of a Gaussian mechanism with zCDP ρ (exact for compositions, too)."""
    if rho <= 0:
        return 0.0
    distribution = privacy_loss_distribution.from_gaussian_mechanism(1 / math.sqrt(2 * rho))
    return float(distribution.get_epsilon_for_delta(delta))


def epsilons(rho: float, *, deltas: Iterable[float]) -> dict[float, float]:
    return {delta: epsilon(rho, delta=delta) for delta in deltas}
