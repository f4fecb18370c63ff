"""The attackers on arrays: each finds what it should find, and no more than there is."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.attacks import attackers
from jobs.attacks.attackers import AWAY, Estimate
from transforms.budget import auc, epsilon, with_noise
from transforms.tables import MEASURES, Measure

PHI = NormalDist().cdf
PROMISED_MU = math.sqrt(0.2)


def shifted(*, mu: float, runs: int, cells: int = 5, seed: int = 1) -> dict[str, np.ndarray]:
    """Runs in which the target shifts the cells by `mu` standard deviations, all in all."""
    rng = np.random.default_rng(seed)
    sigma = np.tile(np.linspace(5, 40, cells), (runs, 1))
    known = np.tile(np.linspace(0, 500, cells), (runs, 1))
    added = sigma * mu / math.sqrt(cells)
    present, absent = (known + rng.normal(0, sigma) for _ in range(2))
    return {
        "present": present + added,
        "absent": absent,
        "known": known,
        "added": added,
        "sigma": sigma,
    }


def scores(runs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    knows = {name: runs[name] for name in ("known", "added", "sigma")}
    return (
        attackers.membership_scores(runs["present"], **knows),
        attackers.membership_scores(runs["absent"], **knows),
    )


def is_about(estimate: Estimate, value: float) -> bool:
    return abs(estimate.value - value) < 4 * estimate.standard_error


# ------------------------------------------------------------------------------------------ AUC


def test_auc_counts_pairs_in_the_right_order_and_ties_half() -> None:
    assert attackers.auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])).value == 1.0
    assert attackers.auc(np.array([1.0]), np.array([2.0])).value == 0.0
    assert attackers.auc(np.array([1.0, 2.0, 2.0]), np.array([2.0, 0.0])).value == 4 / 6


values = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@given(present=values, absent=values)
def test_auc_is_the_share_of_pairs_and_turns_round_with_the_sides(
    present: list[int], absent: list[int]
) -> None:
    one, other = np.array(present, float), np.array(absent, float)
    pairs = [(p > a) + (p == a) / 2 for p in present for a in absent]
    assert attackers.auc(one, other).value == pytest.approx(sum(pairs) / len(pairs))
    assert attackers.auc(other, one).value == pytest.approx(1 - attackers.auc(one, other).value)
    assert attackers.auc(2 * one - 7, 2 * other - 7) == attackers.auc(one, other)


def test_the_standard_error_of_auc_is_what_repetitions_show() -> None:
    rng = np.random.default_rng(3)
    estimates = [attackers.auc(rng.normal(0.45, 1, 400), rng.normal(0, 1, 400)) for _ in range(300)]
    shown = np.std([one.value for one in estimates])
    assert np.mean([one.standard_error for one in estimates]) == pytest.approx(shown, rel=0.15)


# ----------------------------------------------------------------------------------- membership


@pytest.mark.parametrize("mu", [1e-9, PROMISED_MU, 1.2])
def test_who_knows_all_others_reaches_what_gaussian_noise_allows_and_no_more(mu: float) -> None:
    found = attackers.auc(*scores(shifted(mu=mu, runs=20_000)))
    assert is_about(found, PHI(mu / math.sqrt(2)))


def test_the_bound_is_what_the_promise_allows() -> None:
    assert auc(0.10) == pytest.approx(PHI(PROMISED_MU / math.sqrt(2)))
    assert auc(0.10) == pytest.approx(0.624, abs=5e-4)
    assert auc(0.70) == pytest.approx(0.799, abs=5e-4)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.full_name)
def test_a_calibration_by_its_noise_has_that_noise(measure: Measure) -> None:
    assert with_noise(measure, l0=3, sigma=12.5).sigma == pytest.approx(12.5)


def test_a_week_of_releases_tells_more() -> None:
    present, absent = scores(shifted(mu=0.45, runs=35_000))
    week = attackers.auc(
        attackers.over_releases(present, releases=7), attackers.over_releases(absent, releases=7)
    )
    assert is_about(week, PHI(0.45 * math.sqrt(7) / math.sqrt(2)))


def test_scores_of_several_releases_are_sums_and_a_rest_is_left_out() -> None:
    summed = attackers.over_releases(np.arange(11.0), releases=5)
    assert summed.tolist() == [0 + 1 + 2 + 3 + 4, 5 + 6 + 7 + 8 + 9]


@given(more=st.integers(-1_000, 1_000_000))
@settings(max_examples=20, deadline=None)
def test_how_many_others_there_are_does_not_matter_to_who_knows_them(more: int) -> None:
    runs = shifted(mu=0.5, runs=200)
    others = {**runs, **{name: runs[name] + more for name in ("present", "absent", "known")}}
    assert np.allclose(scores(runs), scores(others), atol=1e-6)


def crowd(*, sigma: float) -> Estimate:
    """300 people in 150 cells, each counted by a coin; averages come from 300 others."""
    rng = np.random.default_rng(5)
    counted, others = (rng.random((2, 300, 150)) < 0.03).astype(float)
    tosses = rng.random((1_000, 300)) < 0.5
    told = attackers.crowd_scores(
        tosses @ counted + rng.normal(0, 1, (1_000, 150)) * sigma,
        mean=others.sum(axis=0) / 2,
        variance=others.sum(axis=0) / 4,
        added=counted[:40],
        sigma=np.full(150, max(sigma, 0.1)),
    )
    return attackers.auc_over_trials(told, tosses[:, :40])


def test_averages_are_enough_against_exact_counts_and_not_against_noise() -> None:
    hidden_by = 10**2 + 300 * 0.03 / 4  # the noise, and who else is there
    mu = math.sqrt(150 * 0.03 / hidden_by)
    assert crowd(sigma=0).value > 0.65
    assert crowd(sigma=10).value == pytest.approx(PHI(mu / math.sqrt(2)), abs=0.02)


def test_a_trial_with_everybody_in_is_left_out() -> None:
    told, is_in = np.array([[3.0, 1.0], [2.0, 5.0]]), np.array([[True, False], [True, True]])
    told, is_in = np.tile(told, (2, 1)), np.tile(is_in, (2, 1))
    assert attackers.auc_over_trials(told, is_in) == Estimate(1.0, 0.0)


# ---------------------------------------------------------------------------------- differences


def test_an_opt_out_shows_in_the_difference_of_exact_tables() -> None:
    runs = shifted(mu=0.45, runs=10)
    before = runs["known"] + runs["added"]
    gone, stayed = (
        attackers.opt_out_scores(before, after, added=runs["added"], sigma=runs["sigma"])
        for after in (runs["known"], before)
    )
    assert attackers.auc(gone, stayed).value == 1.0


def test_an_opt_out_hides_in_the_noise_of_two_tables() -> None:
    before, after = (shifted(mu=0.45, runs=20_000, seed=seed) for seed in (1, 2))
    gone, stayed = (
        attackers.opt_out_scores(
            before["present"], after[side], added=before["added"], sigma=before["sigma"]
        )
        for side in ("absent", "present")
    )
    assert is_about(attackers.auc(gone, stayed), PHI(0.45 / 2))


def test_a_withheld_cell_is_the_total_less_the_others() -> None:
    total, others = np.array([28.0, 27.0]), np.array([[12.0, 15.0], [12.0, 15.0]])
    withheld = np.array([np.nan, np.nan])
    told = attackers.complement_scores(total, others, withheld, sigmas=np.zeros(3))
    assert told.tolist() == [1.0, 0.0]


def test_a_noisy_cell_that_is_shown_weighs_by_its_noise() -> None:
    total, others, own = np.array([30.0]), np.array([[12.0, 15.0]]), np.array([1.0])
    told = attackers.complement_scores(total, others, own, sigmas=np.array([4.0, 4.0, 4.0]))
    assert told[0] == pytest.approx((3.0 * 16 + 1.0 * 48) / 64)


def test_the_ring_around_a_nested_zone_is_a_difference() -> None:
    assert attackers.nested_scores(np.array([30.0]), np.array([29.0])).tolist() == [1.0]


# -------------------------------------------------------------------------------------- repeats


def test_reading_one_draw_again_and_again_finds_one_draw() -> None:
    cells, drawn = np.tile(np.arange(50), 4), np.random.default_rng(1).normal(size=50)
    assert attackers.distinct_draws(cells, np.tile(drawn, 4)) == 1
    drawn_twice = np.concatenate([np.tile(drawn, 3), drawn + 0.5])
    assert attackers.distinct_draws(cells, drawn_twice) == 2
    assert attackers.distinct_draws(np.array([], dtype=np.int64), np.array([])) == 0


# --------------------------------------------------------------------------------- trajectories

KM = np.array([[0.0, 5.0, 20.0], [5.0, 0.0, 20.0], [20.0, 20.0, 0.0]])
DAYS = np.array([[0, 0, AWAY, AWAY], [1, 1, AWAY, AWAY], [2, 2, 2, 2], [AWAY, AWAY, AWAY, 0]]).T


def heads(days: np.ndarray) -> np.ndarray:
    return np.array([np.bincount(hour[hour != AWAY], minlength=len(KM)) for hour in days])


def recovered(days: np.ndarray) -> np.ndarray:
    return attackers.recovered_trajectories(heads(days), people=days.shape[1], distance_km=KM)


def test_whole_days_come_out_of_exact_hourly_counts() -> None:
    assert attackers.recovery_rate(recovered(DAYS), DAYS) == 1.0


def test_days_that_are_not_in_the_counts_do_not() -> None:
    others = np.array([[1, 1, 0, 0], [AWAY, 0, 1, 2], [0, 2, AWAY, 1], [1, AWAY, 0, 0]]).T
    assert attackers.recovery_rate(recovered(DAYS), others) < 0.6


def test_who_comes_back_is_known_by_the_place() -> None:
    days = np.array([[0, AWAY, 0], [2, AWAY, 2]]).T
    assert attackers.recovery_rate(recovered(days), days) == 1.0


@given(st.lists(st.lists(st.integers(-1, 2), min_size=5, max_size=5), min_size=1, max_size=8))
@settings(deadline=None)
def test_recovered_days_have_the_counts_they_come_from(days: list[list[int]]) -> None:
    true = np.array(days).T
    assert (heads(recovered(true)) == heads(true)).all()
    assert 0 <= attackers.recovery_rate(recovered(true), true) <= 1
    assert attackers.recovery_rate(true, true) == float((true != AWAY).any())


noisy_heads = st.lists(
    st.lists(st.floats(-50, 80, allow_nan=False), min_size=3, max_size=3), min_size=1, max_size=6
)


@given(counts=noisy_heads, people=st.integers(1, 60))
def test_head_counts_are_whole_not_negative_and_no_more_than_there_are(
    counts: list[list[float]], people: int
) -> None:
    whole = attackers.whole_people(np.array(counts), people=people)
    assert (whole >= 0).all()
    assert (whole.sum(axis=1) <= people).all()


def test_exact_head_counts_stay_as_they_are() -> None:
    exact = np.array([[3.0, 0.0, 4.0], [0.0, 0.0, 7.0]])
    assert (attackers.whole_people(exact, people=7) == exact).all()


def test_the_gain_is_that_of_pairs() -> None:
    gain = attackers.paired_gain(np.array([0.5, 0.7]), np.array([0.4, 0.6]))
    assert gain.value == pytest.approx(0.1)
    assert gain.standard_error == pytest.approx(0.0, abs=1e-12)


# ----------------------------------------------------------------------------------- pseudonyms

IDS = [f"262-03-{number:07}" for number in range(50)]
GUESSES = {"empty": b"", "day": b"2026-11-24"}


@pytest.mark.parametrize(
    "hashed",
    [
        lambda one: hashlib.sha256(one).hexdigest(),
        lambda one: hashlib.md5(one, usedforsecurity=False).hexdigest(),
        lambda one: hmac.digest(b"", one, "sha256").hex(),
        lambda one: hmac.digest(b"2026-11-24", one, "sha256").hex(),
        lambda one: hashlib.sha256(b"2026-11-24" + one).hexdigest(),
    ],
)
def test_a_hash_without_a_secret_is_reversed(hashed: Callable[[bytes], str]) -> None:
    stored = {hashed(one.encode()) for one in IDS}
    assert attackers.reversed_share(stored, IDS, GUESSES) == 1.0


def test_a_hash_under_an_unknown_key_is_not() -> None:
    stored = {hmac.digest(b"k" * 32, one.encode(), "sha256").hex() for one in IDS}
    assert attackers.reversed_share(stored, IDS, GUESSES) == 0.0
    assert attackers.reversed_share(set(), IDS, GUESSES) == 0.0


def test_a_pseudonym_that_comes_back_is_linked() -> None:
    assert attackers.linked_share({"a", "b", "c", "d"}, {"b", "e"}) == 0.25
    assert attackers.linked_share(set(), {"b"}) == 0.0


# ---------------------------------------------------------------------------------------- audit


def test_an_audit_finds_most_of_what_is_spent_and_hardly_ever_more() -> None:
    lower = [
        attackers.audited_mu(*scores(shifted(mu=PROMISED_MU, runs=10_000, seed=seed))).value
        for seed in range(40)
    ]
    # Too much needs luck at both error rates: about 1 in 400.
    assert sum(value > PROMISED_MU for value in lower) <= 2
    assert np.mean(lower) == pytest.approx(PROMISED_MU - 4.96 / math.sqrt(10_000), abs=0.01)


def test_less_is_proven_to_cost_less() -> None:
    found = attackers.audited_mu(*scores(shifted(mu=PROMISED_MU, runs=10_000)))
    assert 1.5 < epsilon(found.value**2 / 2, delta=1e-9) < 2.583


@pytest.mark.parametrize(("factor", "runs"), [(2.0, 2_000), (1.25, 12_000)])
def test_an_audit_catches_too_little_noise_and_too_wide_a_bound(factor: float, runs: int) -> None:
    broken = shifted(mu=PROMISED_MU * factor, runs=runs)
    assert attackers.audited_mu(*scores(broken)).value > PROMISED_MU


def test_more_confidence_proves_less() -> None:
    told = scores(shifted(mu=0.5, runs=3_000))
    sure = [attackers.audited_mu(*told, confidence=at).value for at in (0.8, 0.95, 0.999)]
    assert sure == sorted(sure, reverse=True)


def test_nothing_is_proven_where_nothing_differs_and_not_everything_where_all_does() -> None:
    same = np.zeros(100)
    assert attackers.audited_mu(same, same).value == 0.0
    assert 3 < attackers.audited_mu(same + 1, same - 1).value < 10
