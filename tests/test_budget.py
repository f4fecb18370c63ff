"""The privacy budget: what is spent, what is left, what it means as epsilon."""

from __future__ import annotations

import math
import tomllib
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st

from jobs.runtime import exit_codes
from transforms.budget import (
    Budget,
    Calibration,
    advantage,
    auc,
    calibrated,
    epsilon,
    epsilons,
    full_window,
    right_of_100,
)
from transforms.errors import Refused
from transforms.settings import settings_from
from transforms.tables import MEASURES, PARTICIPANTS, Measure

BASE = Path(__file__).parent.parent / "conf" / "base.toml"
PRIVACY = settings_from(
    tomllib.loads(BASE.read_text(encoding="utf-8")), name="conf/base.toml"
).privacy
BY_NAME = {measure.full_name: measure for measure in MEASURES}
RHOS = st.integers(1, 50).map(lambda thousandths: thousandths / 1000)


def of_default_split(measure: Measure) -> Calibration:
    return calibrated(measure, PRIVACY.split[measure.full_name])


# ------------------------------------------------------------------------------------- spending


def test_spending_returns_what_is_left_and_leaves_the_old_value_alone() -> None:
    before = Budget(0.10)
    after = before.spend(0.04, on="zone_hours")
    assert after.left == pytest.approx(0.06)
    assert before.left == 0.10


def test_the_whole_cap_can_be_spent_to_the_last_digit() -> None:
    left = Budget(PRIVACY.rho_cap)
    for name, budget in PRIVACY.split.items():
        left = left.spend(budget.rho, on=name)
    assert left.left == pytest.approx(0.0, abs=1e-12)


def test_a_refusal_says_who_asked_how_much_is_left_and_what_follows() -> None:
    with pytest.raises(Refused) as refusal:
        Budget(0.05, spent=0.04).spend(0.02, on="zone_flows.trips")
    assert str(refusal.value) == (
        "privacy budget for zone_flows.trips: found rho 0.02 asked, 0.01 of 0.05 left, "
        "expected no more than what is left; nothing was released"
    )


def test_a_refusal_ends_a_job_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    with exit_codes() as ending:
        Budget(0.10, spent=0.10).spend(0.001, on="zone_days.visits")
    assert ending.code == 3
    assert capsys.readouterr().err.startswith("error: privacy budget for zone_days.visits: ")


def test_a_cap_that_was_lowered_below_what_is_spent_leaves_nothing_rather_than_less() -> None:
    with pytest.raises(Refused, match=r"rho 0\.001 asked, 0 of 0\.05 left"):
        Budget(0.05, spent=0.10).spend(0.001, on="zone_days.visits")


@given(asked=st.lists(RHOS, max_size=20), cap=RHOS)
def test_no_sequence_of_spendings_exceeds_the_cap(asked: list[float], cap: float) -> None:
    budget, granted = Budget(cap), []
    for rho in asked:
        try:
            budget = budget.spend(rho, on="anything")
            granted.append(rho)
        except Refused:
            assert rho > cap - math.fsum(granted)
    assert math.fsum(granted) <= cap + 1e-9


@given(asked=st.lists(RHOS, min_size=1, max_size=10), data=st.data())
def test_the_order_of_spending_does_not_matter(asked: list[float], data: st.DataObject) -> None:
    def after(rhos: list[float]) -> float:
        budget = Budget(1.0)
        for rho in rhos:
            budget = budget.spend(rho, on="anything")
        return budget.left

    assert after(asked) == pytest.approx(after(data.draw(st.permutations(asked))))


# ---------------------------------------------------------------------------------- calibration


@pytest.mark.parametrize(
    ("name", "l0", "rho", "l2", "sigma", "digits"),
    [
        ("zone_hours.visitors", 8, 0.035, math.sqrt(8), 10.7, 1),
        ("zone_hours.passers_by", 8, 0.010, math.sqrt(8), 20, 0),
        ("zone_days.visitors", 4, 0.010, 2, 14.1, 1),
        ("zone_days.passers_by", 4, 0.005, 2, 20, 0),
        ("zone_days.visits", 4, 0.005, 4, 40, 0),
        ("zone_dwell.visitors", 4, 0.010, 2, 14.1, 1),
        ("zone_flows.trips", 4, 0.015, 2, 11.5, 1),
        ("zone_catchment.visitors", 2, 0.010, math.sqrt(2), 10, 0),
    ],
)
def test_the_default_split_has_the_noise_it_promises(
    name: str, l0: int, rho: float, l2: float, sigma: float, digits: int
) -> None:
    calibration = of_default_split(BY_NAME[name])
    assert (calibration.l0, calibration.rho) == (l0, rho)
    assert calibration.l2 == pytest.approx(l2)
    assert calibration.sigma == pytest.approx(l2 / math.sqrt(2 * rho))
    assert round(calibration.sigma, digits) == sigma


def test_only_visits_may_add_more_than_one_to_a_cell() -> None:
    assert {of_default_split(measure).linf for measure in MEASURES if not measure.repeats} == {1.0}
    assert of_default_split(BY_NAME["zone_days.visits"]).linf == 4.0
    assert [measure.full_name for measure in MEASURES if measure.repeats] == ["zone_days.visits"]


def test_participants_are_drawn_with_a_sigma_of_10() -> None:
    assert Calibration(PARTICIPANTS, l0=1, rho=0.005).sigma == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("name", "threshold"),
    [
        ("zone_hours.visitors", 30.0),
        ("zone_days.visitors", 2.33 * math.sqrt(200)),
        ("zone_days.visits", 2.33 * 40),
        ("zone_catchment.visitors", 30.0),
    ],
)
def test_the_threshold_is_the_larger_of_min_devices_and_2_33_sigma(
    name: str, threshold: float
) -> None:
    assert of_default_split(BY_NAME[name]).threshold(30) == pytest.approx(threshold)


def test_an_empty_cell_passes_the_threshold_with_less_than_1_percent() -> None:
    for measure in MEASURES:
        calibration = of_default_split(measure)
        deviations = calibration.threshold(PRIVACY.min_devices) / calibration.sigma
        assert 0.5 * math.erfc(deviations / math.sqrt(2)) < 0.01


# -------------------------------------------------------------------------------------- epsilon


@pytest.mark.parametrize(
    ("rho", "delta", "expected", "within"),
    [
        (0.10, 1e-9, 2.58, 0.005),
        (0.10, 1e-6, 1.99, 0.005),
        (7 * 0.10, 1e-9, 7.4, 0.05),
        (30 * 0.10, 1e-9, 17, 0.5),
    ],
    ids=["a day", "a day at a looser delta", "a week", "a month"],
)
def test_epsilon_is_what_the_promise_says(
    rho: float, delta: float, expected: float, within: float
) -> None:
    assert epsilon(rho, delta=delta) == pytest.approx(expected, abs=within)


def test_epsilon_is_exact_for_a_gaussian() -> None:
    """δ(ε) of a Gaussian mechanism in closed form (Balle and Wang 2018), at the ε returned."""

    def normal(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    for rho, delta in ((0.01, 1e-6), (0.1, 1e-9), (0.7, 1e-9)):
        mu, eps = math.sqrt(2 * rho), epsilon(rho, delta=delta)
        exact = normal(mu / 2 - eps / mu) - math.exp(eps) * normal(-mu / 2 - eps / mu)
        assert exact == pytest.approx(delta, rel=0.02)


def test_epsilon_is_below_the_textbook_bound_and_grows_with_rho() -> None:
    values = [epsilon(rho, delta=1e-9) for rho in (0.01, 0.05, 0.1, 0.2)]
    assert values == sorted(values)
    for rho, value in zip((0.01, 0.05, 0.1, 0.2), values, strict=True):
        assert 0 < value < rho + 2 * math.sqrt(rho * math.log(1e9))


def test_no_rho_is_no_epsilon() -> None:
    assert epsilon(0.0, delta=1e-9) == 0.0


def test_epsilons_come_by_delta() -> None:
    shown = epsilons(0.10, deltas=PRIVACY.display_deltas)
    assert {delta: round(value, 2) for delta, value in shown.items()} == {1e-9: 2.58, 1e-6: 1.99}


@pytest.mark.parametrize("days", [1, 7, 30])
@pytest.mark.parametrize("delta", [1e-9, 1e-6])
def test_epsilon_agrees_with_dp_accounting_composing_day_by_day(days: int, delta: float) -> None:
    """The privacy loss distribution of one night, convolved with itself: no formula is shared."""
    night = privacy_loss_distribution.from_gaussian_mechanism(1 / math.sqrt(2 * 0.1))
    composed = night.self_compose(days).get_epsilon_for_delta(delta)
    assert epsilon(days * 0.1, delta=delta) == pytest.approx(composed, rel=1e-6)


def test_epsilon_agrees_with_dp_accounting_composing_measure_by_measure() -> None:
    """Each measure with its own σ over its own sensitivity, as the noise is really drawn."""
    composed = privacy_loss_distribution.identity()
    for measure in MEASURES:
        one = of_default_split(measure)
        composed = composed.compose(
            privacy_loss_distribution.from_gaussian_mechanism(one.sigma / one.l2)
        )
    total = math.fsum(budget.rho for budget in PRIVACY.split.values())
    assert total == pytest.approx(PRIVACY.rho_cap)
    for delta in PRIVACY.display_deltas:
        theirs = composed.get_epsilon_for_delta(delta)
        assert epsilon(total, delta=delta) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("days", [1, 7, 30])
def test_epsilon_is_below_the_renyi_accountant_s_bound_and_not_far(days: int) -> None:
    accountant = RdpAccountant()
    accountant.compose(dp_event.GaussianDpEvent(1 / math.sqrt(2 * 0.1)), days)
    bound = accountant.get_epsilon(1e-9)
    assert 0.9 * bound < epsilon(days * 0.1, delta=1e-9) <= bound


# -------------------------------------------------------------------------- what an attacker gains


@pytest.mark.parametrize(("rho", "mu"), [(0.1, 0.4472), (0.7, 1.1832), (3.005, 2.4515)])
def test_advantage_and_auc_are_those_of_two_gaussians(rho: float, mu: float) -> None:
    """Sampled: the attacker sees N(0, 1) or N(μ, 1) and knows everything else."""
    assert math.sqrt(2 * rho) == pytest.approx(mu, abs=1e-4)
    generator = np.random.default_rng(1)
    out = np.sort(generator.normal(0.0, 1.0, 400_000))
    inside = np.sort(generator.normal(mu, 1.0, 400_000))
    thresholds = np.linspace(-4, 8, 1_201)
    caught = 1 - np.searchsorted(inside, thresholds) / len(inside)
    false_alarms = 1 - np.searchsorted(out, thresholds) / len(out)
    assert advantage(rho) == pytest.approx((caught - false_alarms).max(), abs=0.005)
    ranks = np.searchsorted(out, inside)
    assert auc(rho) == pytest.approx(ranks.mean() / len(out), abs=0.005)


def test_advantage_is_the_delta_at_epsilon_0() -> None:
    for rho in (0.005, 0.1, 0.7):
        loss = privacy_loss_distribution.from_gaussian_mechanism(1 / math.sqrt(2 * rho))
        assert advantage(rho) == pytest.approx(loss.get_delta_for_epsilon(0.0), abs=1e-4)


def test_no_rho_is_guessing_and_much_rho_is_certainty() -> None:
    assert (advantage(0.0), auc(0.0), right_of_100(0.0)) == (0.0, 0.5, 50)
    assert (round(advantage(100), 6), round(auc(100), 6), right_of_100(100)) == (1.0, 1.0, 100)


def test_a_rho_that_is_no_number_promises_nothing() -> None:
    nan = math.nan
    assert (advantage(nan), auc(nan), right_of_100(nan)) == (1.0, 1.0, 100)
    assert epsilon(nan, delta=1e-9) == math.inf


@pytest.mark.parametrize(("rho", "right"), [(0.1, 59), (0.7, 73), (3.0, 89)])
def test_of_100_answers_the_best_attacker_s_are_right_that_often(rho: float, right: int) -> None:
    exact = 50 * (1 + advantage(rho))
    assert right_of_100(rho) == right
    assert exact <= right < exact + 1, "rounded against us"


@pytest.mark.parametrize(
    ("last", "days", "months"),
    [
        (date(2026, 11, 24), 1, 0),
        (date(2026, 11, 24), 7, 0),
        (date(2026, 11, 24), 30, 1),
        (date(2026, 11, 7), 7, 1),
        (date(2026, 12, 31), 30, 0),  # from the second of the month to its last
        (date(2027, 3, 2), 30, 2),  # all of a short February and more
    ],
)
def test_a_full_window_spends_every_day_s_cap_and_that_of_each_month_that_begins(
    last: date, days: int, months: int
) -> None:
    window = full_window(last=last, days=days, rho_cap=0.1, monthly_cap=0.005)
    assert window.rho == pytest.approx(days * 0.1 + months * 0.005)
    assert (last - window.first).days == days - 1
