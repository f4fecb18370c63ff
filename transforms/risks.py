"""What attacks on a release reached, by the risk to people that each measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from transforms.language import ENGLISH, Language
from transforms.tables import ATTACK_VIEWS

UNPROTECTED, RELEASED = ATTACK_VIEWS
RISKS = {
    "Singling out": ("member", "single", "singl", "difference", "overlap", "nested", "total"),
    "Linkability": ("link", "dictionary", "pseudonym"),
    "Inference": ("trajector", "averag", "repeat", "infer", "attribute"),
}
"""The risks of WP29 Opinion 05/2014, and what the name of an attack on each has in it."""

OTHER_RISK = "The guarantee itself"


@dataclass(frozen=True)
class Attack:
    """One row of `ops.attacks`; `view` is what the attacker saw."""

    release_id: str
    attack: str
    attacker: str
    score: float
    standard_error: float
    bound: float
    within_bound: bool
    attacked_at: datetime
    view: str = RELEASED


def risk_of(attack: str) -> str:
    """The risk that an attack measures, by the words of its name.

    >>> risk_of("membership, one week"), risk_of("linkage of days"), risk_of("epsilon audit")
    ('Singling out', 'Linkability', 'The guarantee itself')
    """
    name = attack.lower()
    for risk, signs in RISKS.items():
        if any(sign in name for sign in signs):
            return risk
    return OTHER_RISK


def by_risk(
    attacks: Sequence[Attack], *, language: Language = ENGLISH
) -> dict[str, list[dict[str, object]]]:
    """By risk: each attack on the release, beside its score on unprotected counts, as text."""
    unprotected = {(one.release_id, one.attack): one for one in attacks if one.view == UNPROTECTED}
    lines: dict[str, list[dict[str, object]]] = {risk: [] for risk in (*RISKS, OTHER_RISK)}
    for one in sorted(attacks, key=lambda one: (one.release_id, one.attack)):
        if one.view != UNPROTECTED:
            before = unprotected.get((one.release_id, one.attack))
            lines[risk_of(one.attack)].append(
                {
                    "attack": language.word(one.attack.replace("_", " ")),
                    "attacker": language.word(one.attacker),
                    "release_id": one.release_id,
                    "unprotected": figure(before.score) if before else "–",
                    "score": figure(one.score),
                    "standard_error": figure(one.standard_error) if one.standard_error else "",
                    "bound": figure(one.bound),
                    "within": one.within_bound,
                    "at": one.attacked_at,
                }
            )
    return lines


def figure(score: float) -> str:
    """A score as it is shown everywhere: a number of things found whole, else three decimals.

    >>> figure(12.0), figure(1.0), figure(0.6237)
    ('12', '1.000', '0.624')
    """
    return f"{score:.0f}" if score > 1 and score == int(score) else f"{score:.3f}"
