"""What each attacker gets to see, of the release and of the same data without protection.

A scenario prepares both views with the product's own code, lets an attacker of `attackers`
loose on each, and says what bound the promise sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import shapely

from jobs.attacks import attackers, audits, neighbours, readers
from jobs.attacks.attackers import AWAY, Estimate, Floats, Integers
from jobs.attacks.neighbours import Mechanism, Runs
from jobs.attacks.scene import Attacked, Outcome, Scene
from jobs.ingest_reference import stored_zones
from transforms import budget
from transforms.disclosure import UNITS

WEEK = 7
RECOVERY_MARGIN = 0.05
_LEAST_THRESHOLD = 10


def _by_auc(unprotected: Estimate, release: Estimate, rho: float) -> Attacked:
    bound = budget.auc(rho)
    return Attacked(
        *(Outcome(one.value, bound, one.standard_error) for one in (unprotected, release))
    )


# --------------------------------------------------------------------------------- membership


def _membership(runs: Runs, *, releases: int = 1) -> Estimate:
    present, absent = (
        attackers.over_releases(scores, releases=releases) for scores in runs.membership_scores()
    )
    return attackers.auc(present, absent)


def membership_of_worst_day(scene: Scene) -> Attacked:
    exact = scene.worst.unprotected()
    return _by_auc(_membership(exact), _membership(scene.worst_runs), scene.rho)


def membership_of_worst_week(scene: Scene) -> Attacked:
    """Seven releases like this one: the same noise, drawn anew each day."""
    exact, runs = scene.worst.unprotected(), scene.worst_runs
    return _by_auc(
        _membership(exact, releases=WEEK), _membership(runs, releases=WEEK), WEEK * scene.rho
    )


def membership_of_exposed_day(scene: Scene) -> Attacked:
    return _membership_of(scene, scene.by_exposure[: scene.effort.targets])


def membership_of_average_day(scene: Scene) -> Attacked:
    return _membership_of(scene, scene.chance().permutation(scene.by_exposure)[: _some(scene)])


def _some(scene: Scene) -> int:
    return min(scene.effort.targets, len(scene.by_exposure))


def _membership_of(scene: Scene, people: Integers) -> Attacked:
    real = scene.day.neighbours(people)
    repeats = max(scene.effort.runs // len(people), 2)
    runs = real.protected(scene.night, repeats=repeats)
    return _by_auc(_membership(real.unprotected()), _membership(runs), scene.rho)


def membership_in_crowd(scene: Scene) -> Attacked:
    """Half of the day's subscribers are the auxiliary population; each of the others is counted in
    a trial or not, by a coin. Of the cells, those that the targets touch: no other tells of them.
    """
    rng, contributions = scene.chance(), scene.day.units.astype(float) / UNITS
    shuffled = rng.permutation(contributions.shape[0])
    counted, auxiliary = np.array_split(shuffled, 2)
    exposed = counted[np.argsort(-scene.day.exposure()[counted], kind="stable")]
    targets = exposed[: 5 * scene.effort.targets]
    touched = np.unique(contributions[targets].tocoo().coords[1])
    crowd, others = contributions[counted][:, touched], contributions[auxiliary][:, touched]
    scale = len(counted) / max(len(auxiliary), 1)
    mean = scale * np.asarray(others.sum(axis=0)).ravel() / 2
    variance = scale * np.asarray(others.power(2).sum(axis=0)).ravel() / 4
    tosses = rng.random((scene.effort.trials, len(counted))) < 0.5
    counts = np.asarray((crowd.T @ tosses.T.astype(float)).T)
    sigma = scene.day.sigma[touched]
    is_target = np.flatnonzero(np.isin(counted, targets))
    added = crowd[is_target].toarray()

    def tell(observed: Floats, noise: Floats) -> Estimate:
        scores = attackers.crowd_scores(
            observed, mean=mean, variance=variance, added=added, sigma=noise
        )
        return attackers.auc_over_trials(scores, tosses[:, is_target])

    # A cell without anybody in the auxiliary population varies by about one rare visit.
    rare = np.full_like(sigma, 0.1)
    noise = _noise(scene, sigma, rows=len(counts))
    return _by_auc(tell(counts, rare), tell(counts + noise, sigma), scene.rho)


def _noise(scene: Scene, sigma: Floats, *, rows: int) -> Floats:
    """The mechanism's noise on `rows` tables of the cells.

    Drawn on empty cells, a pool for each sigma, and dealt out by chance: noise does not depend on
    the counts, and to draw each of some million cells would take minutes.
    """
    pool_size, rng = 20_000, scene.chance()
    scales, which = np.unique(sigma, return_inverse=True)
    empty = np.zeros((len(scales), pool_size), dtype=np.int64)
    pools = neighbours.protected(scene.night, empty, scales[:, None])[0]
    return np.asarray(pools[which[None, :], rng.integers(pool_size, size=(rows, len(sigma)))])


# ------------------------------------------------------------------------- differences of tables


def opt_out(scene: Scene) -> Attacked:
    """One person leaves between two releases, or nobody does; the rest is the same."""

    def tell(before: Floats, gone: Floats, stayed: Floats, runs: Runs) -> Estimate:
        added, sigma = runs.added[: len(before)], runs.sigma[: len(before)]
        return attackers.auc(
            *(
                attackers.opt_out_scores(before, after, added=added, sigma=sigma)
                for after in (gone, stayed)
            )
        )

    exact, runs = scene.worst.unprotected(), scene.worst_runs
    # Runs go through all worlds again and again: both halves start with the same.
    half = scene.effort.repeats // 2 * scene.effort.worlds
    before, later = runs.present[:half], slice(half, 2 * half)
    return _by_auc(
        tell(exact.present, exact.absent, exact.present, exact),
        tell(before, runs.absent[later], runs.present[later], runs),
        scene.rho,
    )


def _thresholded(runs: Runs) -> Runs:
    """The table that a threshold alone would publish: exact, below k = 10 withheld."""
    present, absent = (
        np.where(side < _LEAST_THRESHOLD, np.nan, side) for side in (runs.present, runs.absent)
    )
    return Runs(present, absent, runs.known, runs.added, runs.sigma)


def complement(scene: Scene) -> Attacked:
    """Total of a zone less its other areas. Of the release even what gold withholds is seen."""

    def tell(runs: Runs, sigmas: Floats) -> Estimate:
        return attackers.auc(
            *(
                attackers.complement_scores(side[:, 0], side[:, 3:5], side[:, 5], sigmas=sigmas)
                for side in (runs.present, runs.absent)
            )
        )

    exact, sigmas = scene.small_tables.unprotected(), scene.small_tables.sigma[0, [0, 3, 3]]
    return _by_auc(
        tell(_thresholded(exact), np.zeros(3)), tell(scene.small_runs, sigmas), scene.rho
    )


def nested_zone(scene: Scene) -> Attacked:
    """An outer zone less the one inside it."""

    def tell(runs: Runs) -> Estimate:
        sides = (runs.present, runs.absent)
        return attackers.auc(*(attackers.nested_scores(s[:, 1], s[:, 2]) for s in sides))

    exact = _thresholded(scene.small_tables.unprotected())
    return _by_auc(tell(exact), tell(scene.small_runs), scene.rho)


# ------------------------------------------------------------------------------------- repeats


def averaging(scene: Scene) -> Attacked:
    """Distinct draws that reading again and again brings up; more than one can be averaged."""
    lazy = readers.reads_of_lazy_noise(
        scene.night, scene.named("zone_hours.visitors"), reads=scene.effort.reads
    )
    stored = readers.reads_of_release(scene.night, scene.release_id)
    return Attacked(
        Outcome(attackers.distinct_draws(*lazy), 1), Outcome(attackers.distinct_draws(*stored), 1)
    )


# ------------------------------------------------------------------------------- trajectories


def trajectories(scene: Scene) -> Attacked:
    """Hourly counts of a small group; the bound is what the recovered days tell of another group,
    which is not in them, + 0.05. Small groups are where the attack works best; each visit counts
    whole, more than a release could show.
    """
    mechanism = scene.named("zone_hours.visitors")
    truth, hours, distance_km = _true_days(scene, mechanism)
    rng, size = scene.chance(), min(40, len(truth) // 2)
    zones = len(distance_km)
    rates: dict[str, list[tuple[float, float]]] = {"unprotected": [], "release": []}
    groups = [rng.permutation(len(truth))[: 2 * size] for _ in range(scene.effort.groups)]
    heads = np.zeros((len(groups), hours, zones), dtype=np.int64)
    for group, people in zip(heads, groups, strict=True):
        places = truth[people[:size]].T
        for hour in range(hours):
            group[hour] = np.bincount(places[hour][places[hour] != AWAY], minlength=zones)
    noisy = neighbours.protected(scene.night, heads * UNITS, np.array(mechanism.sigma))[0]
    for view, counts in (("unprotected", heads.astype(float)), ("release", noisy)):
        for group, people in zip(counts, groups, strict=True):
            days = attackers.recovered_trajectories(
                attackers.whole_people(group, people=size), people=size, distance_km=distance_km
            )
            inside, outside = truth[people[:size]].T, truth[people[size:]].T
            rates[view].append(
                (attackers.recovery_rate(days, inside), attackers.recovery_rate(days, outside))
            )
    return Attacked(*(_recovery(np.array(rates[view])) for view in ("unprotected", "release")))


def _recovery(rates: Floats) -> Outcome:
    gain = attackers.paired_gain(rates[:, 0], rates[:, 1])
    bound = float(rates[:, 1].mean()) + RECOVERY_MARGIN
    return Outcome(float(rates[:, 0].mean()), bound, gain.standard_error)


def _true_days(scene: Scene, mechanism: Mechanism) -> tuple[Integers, int, Floats]:
    """Where people with two hours or more in zones were: person by hour; km between zones."""
    zones = stored_zones(scene.night)
    number = {zone.zone_id: index for index, zone in enumerate(zones)}
    starts = {f"{start:%Y-%m-%d %H:%M:%S}": n for n, start in enumerate(scene.night.day.hours)}
    position = scene.mechanisms.index(mechanism)
    table = scene.day.units.tocoo()
    places = np.full((scene.day.units.shape[0], len(starts)), AWAY, dtype=np.int64)
    for index in np.argsort(table.data, kind="stable"):  # the likeliest zone of an hour stays
        which, key = scene.day.cells[table.coords[1][index]]
        if which == position:
            zone_id, hour_start = key.split("|")
            places[table.coords[0][index], starts[hour_start]] = number[zone_id]
    points = shapely.centroid(shapely.from_wkb([zone.wkb for zone in zones]))
    north = 111.2 * shapely.get_y(points)
    east = 111.2 * shapely.get_x(points) * math.cos(math.radians(float(north.mean()) / 111.2))
    distance = np.hypot(north[:, None] - north[None, :], east[:, None] - east[None, :])
    return places[(places != AWAY).sum(axis=1) >= 2], len(starts), distance


# --------------------------------------------------------------------------------- pseudonyms


def dictionary(scene: Scene) -> Attacked:
    keys = readers.guessable_keys(scene.night, scene.release_id)
    ids = readers.subscriber_ids(scene.night, most=scene.effort.people)
    stored = readers.pseudonyms_of_day(scene.night)
    plain = readers.plain_hashes(scene.night, most=scene.effort.people)
    return Attacked(
        Outcome(attackers.reversed_share(plain, ids, keys), 0),
        Outcome(attackers.reversed_share(stored, ids, keys), 0),
    )


def linkage(scene: Scene) -> Attacked:
    """Without a second day in the store, the same ids get the keys of two days, and of one."""
    most = scene.effort.people
    same_key = readers.two_days_of_pseudonyms(scene.night, most=most, same_key=True)
    stored = readers.pseudonyms_of_day(scene.night), readers.pseudonyms_of_other_days(scene.night)
    if not stored[1]:
        scene.note("linkage: one day is stored; the same ids were given the keys of two days")
        stored = readers.two_days_of_pseudonyms(scene.night, most=most, same_key=False)
    return Attacked(
        Outcome(attackers.linked_share(*same_key), 0), Outcome(attackers.linked_share(*stored), 0)
    )


# ----------------------------------------------------------------------------------------- all


@dataclass(frozen=True)
class Attack:
    """An attack by name, and who does it knowing what, in a few words."""

    attacker: str
    run: Callable[[Scene], Attacked | None]


ATTACKS: Mapping[str, Attack] = {
    "membership_worst_day": Attack(
        "buyer who knows all others; a day at every bound", membership_of_worst_day
    ),
    "membership_worst_week": Attack("the same, seven releases", membership_of_worst_week),
    "membership_exposed_day": Attack(
        "buyer who knows all others; the most exposed real days", membership_of_exposed_day
    ),
    "membership_average_day": Attack(
        "buyer who knows all others; real days by chance", membership_of_average_day
    ),
    "membership_crowd": Attack("buyer who knows averages of other people", membership_in_crowd),
    "averaging_repeats": Attack("insider who reads every version: distinct draws", averaging),
    "opt_out_difference": Attack("buyer who compares before and after one opt-out", opt_out),
    "total_minus_parts": Attack("buyer who takes known parts from a total", complement),
    "outer_minus_nested": Attack("buyer who takes a zone from the one around it", nested_zone),
    "trajectory_recovery": Attack("buyer who links hourly counts to whole days", trajectories),
    "pseudonym_dictionary": Attack(
        "insider with silver.visits, all ids, guessable keys", dictionary
    ),
    "pseudonym_linkage": Attack("insider with silver.visits of several days", linkage),
    "audit_of_noise": Attack("auditor; broken: half the noise", audits.audit_of_noise),
    "audit_of_bounds": Attack("auditor; broken: one cell above the bound", audits.audit_of_bounds),
}
