"""The attackers: what can be computed from a release, and from what an insider holds.

Each sees plain arrays of what the named kind of person could see, and nothing of the product: this
module imports neither the transforms nor the jobs. Lengths are in devices. Who tells two worlds
apart is scored by the AUC of a statistic: the chance that it is larger where the target is in.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

AWAY = -1
"""Place of somebody who is in no zone."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    standard_error: float = 0.0


def auc(present: Floats, absent: Floats) -> Estimate:
    """Area under the ROC curve of a statistic; ties count half.

    present, absent: the statistic in runs with and without the target. The standard error is that
    of DeLong, DeLong and Clarke-Pearson 1988, by ranks as in Sun and Xu 2014.
    """
    n, m = len(present), len(absent)
    ranks = stats.rankdata(np.concatenate([present, absent]))
    above = (ranks[:n] - stats.rankdata(present)) / m  # share of `absent` below each of `present`
    below = 1 - (ranks[n:] - stats.rankdata(absent)) / n
    spreads = [part.var(ddof=1) / len(part) for part in (above, below) if len(part) > 1]
    return Estimate(float(above.mean()), math.sqrt(sum(spreads)))


# ---------------------------------------------------------------------------- membership of one


def membership_scores(observed: Floats, *, known: Floats, added: Floats, sigma: Floats) -> Floats:
    """Worst case: knows what everybody else adds to each cell, and what the target would add.

    observed, known, added, sigma: run by cell. -> one statistic per run: the log-likelihood ratio
    of Gaussian noise around `known + added` against `known`, the best there is (Neyman and
    Pearson). It is 0 half-way between the two.
    """
    pulls = added / sigma**2
    return np.asarray(((observed - known) * pulls).sum(axis=1) - (added * pulls).sum(axis=1) / 2)


def over_releases(scores: Floats, *, releases: int) -> Floats:
    """The same attacker after `releases` days: independent log-likelihood ratios add up."""
    whole = len(scores) // releases * releases
    return np.asarray(scores[:whole].reshape(-1, releases).sum(axis=1))


def crowd_scores(
    observed: Floats, *, mean: Floats, variance: Floats, added: Floats, sigma: Floats
) -> Floats:
    """Weak: knows only the mean and variance of each cell, from people like those counted.

    observed: trial by cell; mean, variance, sigma: by cell; added: target by cell. -> trial by
    target: how far the counts lie towards the target, in what the crowd and the noise vary (a
    Gaussian log-likelihood ratio; the attack of Homer et al. 2008 on sums instead of
    frequencies).
    """
    pulls = added / (variance + sigma**2)
    return np.asarray((observed - mean) @ pulls.T - (added * pulls).sum(axis=1) / 2)


def auc_over_trials(scores: Floats, is_in: NDArray[np.bool_]) -> Estimate:
    """Mean of the AUC of each trial (rows), over targets that are in or out of it.

    Targets of one trial share its crowd and noise: trials are what is independent.
    """
    both = is_in.any(axis=1) & ~is_in.all(axis=1)
    each = np.array(
        [
            auc(row[inside], row[~inside]).value
            for row, inside in zip(scores[both], is_in[both], strict=True)
        ]
    )
    return Estimate(float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each))))


# ------------------------------------------------------------------------- differences of tables


def opt_out_scores(before: Floats, after: Floats, *, added: Floats, sigma: Floats) -> Floats:
    """Sees two releases and suspects that one person left in between; the others stayed.

    All arrays run by cell. Needs to know nobody else: what stayed cancels. -> by run.
    """
    return np.asarray(((before - after) * added / (2 * sigma**2)).sum(axis=1))


def complement_scores(total: Floats, others: Floats, own: Floats, *, sigmas: Floats) -> Floats:
    """Sees a total and its parts, of which the target's is perhaps withheld.

    total: by run; others: run by part; own: the target's part by run, NaN where withheld;
    sigmas: of the total, an other part, the own part. -> the target's part by run: the total less
    the other parts, averaged with the part itself where it is shown, by their variances.
    """
    of_rest = sigmas[0] ** 2 + others.shape[1] * sigmas[1] ** 2
    rest = total - np.nan_to_num(others).sum(axis=1)
    weight = 0.5 if of_rest + sigmas[2] ** 2 == 0 else of_rest / (of_rest + sigmas[2] ** 2)
    return np.where(np.isnan(own), rest, (1 - weight) * rest + weight * np.nan_to_num(own))


def nested_scores(outer: Floats, inner: Floats) -> Floats:
    """Sees a zone and a zone inside it: who is in the ring between them? -> by run."""
    return np.asarray(np.nan_to_num(outer) - np.nan_to_num(inner))


# ----------------------------------------------------------------------------------- repeats


def distinct_draws(cells: Integers, values: Floats) -> int:
    """Reads everything a reader can reach: how many different values some cell was given.

    cells, values: one entry per read of a cell. The average of k draws has k times less variance;
    of one release there may be one.
    """
    if not len(cells):
        return 0
    pairs = np.unique(np.stack([cells.astype(np.float64), np.round(values, 6)]), axis=1)
    return int(np.unique(pairs[0], return_counts=True)[1].max())


# ------------------------------------------------------------------------------- trajectories


def whole_people(counts: Floats, *, people: int) -> Integers:
    """Head counts by hour and zone from noisy ones: none below 0, never more than `people` an hour.

    Where more are counted, all zones of the hour shrink alike, largest remainders first.
    """
    filled = np.clip(counts, 0, None)
    totals = filled.sum(axis=1, keepdims=True)
    shrunk = filled * np.minimum(1, people / np.maximum(totals, 1e-12))
    whole = np.floor(shrunk + 1e-9).astype(np.int64)
    remainders = shrunk - whole
    for hour, free in enumerate(np.rint(shrunk.sum(axis=1)).astype(np.int64) - whole.sum(axis=1)):
        whole[hour, np.argsort(-remainders[hour], kind="stable")[: max(free, 0)]] += 1
    return whole


def recovered_trajectories(heads: Integers, *, people: int, distance_km: Floats) -> Integers:
    """Whole days out of hourly head counts: "Trajectory Recovery From Ash" (Xu et al. 2017).

    heads: hour by zone. Every hour, each person gets one of the places that were counted, all
    together at the least cost (Hungarian assignment): people stay where they are, go somewhere
    near, and come back where they were. -> hour by person: a zone's number or `AWAY`.
    """
    places = np.full((len(heads), people), AWAY, dtype=np.int64)
    now, last = np.full(people, AWAY), np.full(people, AWAY)
    for hour, counts in enumerate(heads):
        taken = np.repeat(np.arange(len(counts)), counts)[:people]
        slots = np.concatenate([taken, np.full(people - len(taken), AWAY)])
        who, slot = linear_sum_assignment(_step_costs(now, last, slots, distance_km))
        now = np.empty_like(now)
        now[who] = slots[slot]
        last = np.where(now == AWAY, last, now)
        places[hour] = now
    return places


def _step_costs(now: Integers, last: Integers, slots: Integers, distance_km: Floats) -> Floats:
    """Cost of each person (rows) taking each place (columns); a new visit costs 1."""
    here, before, there = now[:, None], last[:, None], slots[None, :]
    far = np.minimum(distance_km[before, there] / 10, 2.0)
    coming = np.where(before == AWAY, 1.0, 1.2 + far)
    moving = np.where(here == there, 0.0, 1.0 + far)
    going = np.where(here == AWAY, 0.0, 1.0)
    return np.where(there == AWAY, going, np.where(here == AWAY, coming, moving))


def recovery_rate(recovered: Integers, true: Integers) -> float:
    """Share of the true hours in zones that the recovered days hold.

    Both hour by person; recovered days are handed to the people they fit best, as by an attacker
    who knows a little of each.
    """
    in_zone = true != AWAY
    hits = ((recovered[:, :, None] == true[:, None, :]) & in_zone[:, None, :]).sum(axis=0)
    found, whose = linear_sum_assignment(hits, maximize=True)
    return float(hits[found, whose].sum() / max(in_zone.sum(), 1))


def paired_gain(inside: Floats, outside: Floats) -> Estimate:
    """How much better an attack does inside than outside the data, over independent groups."""
    gains = inside - outside
    return Estimate(float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(gains))))


# --------------------------------------------------------------------------------- pseudonyms


def reversed_share(pseudonyms: Set[str], ids: Iterable[str], keys: Mapping[str, bytes]) -> float:
    """Insider with the pseudonyms and every id: hashes all ids in all usual ways, looks them up.

    keys: keys that might have been used, by what they are. -> share of pseudonyms with a name.
    """
    found = {
        digest
        for one in ids
        for digest in _digests(one.encode(), keys.values())
        if digest in pseudonyms
    }
    return len(found) / max(len(pseudonyms), 1)


def _digests(identity: bytes, keys: Iterable[bytes]) -> Iterator[str]:
    for name in ("sha256", "sha1", "md5", "sha512"):
        digest = hashlib.new(name, identity, usedforsecurity=False).hexdigest()
        yield digest
        yield digest[:64]
    for key in keys:
        yield hmac.digest(key, identity, "sha256").hex()
        yield hashlib.sha256(key + identity).hexdigest()
        yield hashlib.sha256(identity + key).hexdigest()


def linked_share(one_day: Set[str], other_days: Set[str]) -> float:
    """Insider with the pseudonyms of several days: share that is found again as it is."""
    return len(one_day & other_days) / max(len(one_day), 1)


# --------------------------------------------------------------------------------------- audit


def audited_mu(present: Floats, absent: Floats, *, confidence: float = 0.95) -> Estimate:
    """Lower confidence bound on μ of Gaussian differential privacy, from many runs.

    present, absent: `membership_scores`; the guess is "in" above 0, fixed before a run is seen. By
    Nasr et al. 2023 ("Tight Auditing of Differentially Private Machine Learning"): with upper
    bounds on both error rates (Clopper and Pearson 1934, half of the doubt each),
    μ ≥ Φ⁻¹(1 − FPR) − Φ⁻¹(FNR). The standard error is that of the μ estimated, by the delta method.
    """
    doubt = (1 - confidence) / 2
    wrong = [(int((absent > 0).sum()), len(absent)), (int((present <= 0).sum()), len(present))]
    fpr, fnr = (_upper_rate(errors, runs, doubt=doubt) for errors, runs in wrong)
    variance = 0.0
    for errors, runs in wrong:
        rate = min(max(errors / runs, 0.5 / runs), 1 - 0.5 / runs)
        slope = stats.norm.pdf(stats.norm.ppf(rate))
        variance += rate * (1 - rate) / runs / slope**2
    mu = float(stats.norm.ppf(1 - fpr) - stats.norm.ppf(fnr))
    return Estimate(max(mu, 0.0), math.sqrt(variance))


def _upper_rate(errors: int, runs: int, *, doubt: float) -> float:
    if errors == runs:
        return 1.0
    return float(stats.beta.ppf(1 - doubt, errors + 1, runs - errors))
