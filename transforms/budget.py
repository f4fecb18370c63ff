"""The privacy budget as a value: what a night may spend, what it spent, what that means.

ρ is zero-concentrated differential privacy (Bun and Steinke 2016); a Gaussian of scale σ on a
query of L2 sensitivity Δ₂ costs ρ = Δ₂² / (2σ²), and costs add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta

from transforms.errors import Refused
from transforms.settings import MeasureBudget
from transforms.tables import Measure

PROMISED_RHO = 0.10
"""What subscribers are promised of each day, whatever an operator's settings say: attacks on a
release are judged against it."""

THRESHOLD_SIGMAS = 2.33
"""The 99 % quantile of a normal distribution: of 100 empty cells, fewer than one shows up."""

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
        return threshold(self.sigma, min_devices=min_devices)


def threshold(sigma: float, *, min_devices: int) -> float:
    """Noisy devices from which a count under noise of scale `sigma` is published."""
    return max(float(min_devices), THRESHOLD_SIGMAS * sigma)


def calibrated(measure: Measure, budget: MeasureBudget) -> Calibration:
    return Calibration(measure, l0=budget.cells, rho=budget.rho)


def with_noise(measure: Measure, *, l0: int, sigma: float) -> Calibration:
    """The calibration that keeps `l0` cells under noise of scale `sigma`: ρ is what it costs."""
    l2 = Calibration(measure, l0=l0, rho=1.0).l2
    return Calibration(measure, l0=l0, rho=l2**2 / (2 * sigma**2))


# --- what ρ means ---------------------------------------------------------------------------
#
# Gaussian mechanisms of total ρ are together one Gaussian of μ = √(2ρ) (Gaussian DP: Dong, Roth
# and Su 2022), so the figures below are exact for one night and for any number of them.


def epsilon(rho: float, *, delta: float) -> float:
    """Tight ε at `delta` of Gaussian mechanisms whose ρ add up to `rho`."""
    if rho <= 0:
        return 0.0
    import dp_accounting  # here, since it takes a second and no worker needs it

    return float(dp_accounting.get_epsilon_gaussian(1 / math.sqrt(2 * _promised(rho)), delta))


def epsilons(rho: float, *, deltas: Iterable[float]) -> dict[float, float]:
    return {delta: epsilon(rho, delta=delta) for delta in deltas}


def advantage(rho: float) -> float:
    """Largest membership advantage: TPR − FPR at the best threshold, 2Φ(μ/2) − 1.

    It is the total variation between what is published with and without one subscriber, so it
    bounds an attacker who knows everybody else and has any computer.
    """
    return math.erf(math.sqrt(_promised(rho)) / 2)


def auc(rho: float) -> float:
    """Area under the best attacker's ROC curve, Φ(μ/√2); 0.5 is guessing."""
    return (1 + math.erf(math.sqrt(_promised(rho) / 2))) / 2


def right_of_100(rho: float) -> int:
    """How often of 100 times the best attacker is right about a coin toss's in or out, rounded up.

    >>> right_of_100(0.0), right_of_100(0.1)
    (50, 59)
    """
    return math.ceil(round(50 * (1 + advantage(rho)), 6))


def _promised(rho: float) -> float:
    """A ρ that is no number promises nothing: everything may be known."""
    return math.inf if math.isnan(rho) else rho


@dataclass(frozen=True)
class Window:
    """ρ that one subscriber may lose over `days` local days, `last` the latest of them.

    published: days with a release; daily: ρ of these; monthly: ρ of the participants, drawn once
    a month and dated its first day.
    """

    last: date
    days: int
    published: int
    daily: float
    monthly: float = 0.0

    @property
    def first(self) -> date:
        return self.last - timedelta(days=self.days - 1)

    @property
    def rho(self) -> float:
        return self.daily + self.monthly


def full_window(*, last: date, days: int, rho_cap: float, monthly_cap: float) -> Window:
    """The window in which every day and every month's participants spend their whole caps."""
    dates = (last - timedelta(days=back) for back in range(days))
    months = sum(one.day == 1 for one in dates)
    return Window(last, days, days, days * rho_cap, months * monthly_cap)
