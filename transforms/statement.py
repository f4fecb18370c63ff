"""The statement for the data-protection officer: settings, catalogue and ledger in, HTML out.

Whatever figure the page shows comes from the settings, the ledger or the stored attack scores.
What is missing there is said to be missing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from transforms import budget, pages, tables
from transforms.budget import Window
from transforms.certificates import Certificate
from transforms.ledger import Entry, Ledger, full_windows
from transforms.risks import Attack, by_risk
from transforms.settings import KEPT, Input, Privacy, Settings
from transforms.tables import MEASURES, TABLES, Table
from transforms.wording import MEASURE_NAMES, few, power_of_ten, without_login

GROUPS = (2, 4)
"""People who always move together, as examples of what the promise means for a group."""


@dataclass(frozen=True)
class Evidence:
    """What is stored about the night. The ledger reaches back over the longest window."""

    ledger: Ledger
    attacks: Sequence[Attack]
    filled: Collection[str]  # names of the restricted tables that hold a row
    certificates: Sequence[Certificate] = ()  # of the day's releases
    chain_faults: Sequence[str] = ()  # of all certificates there are


@dataclass(frozen=True)
class Kept:
    """How long something is kept, and what sees to it."""

    what: str
    limit: str
    how: str
    state: Literal["enforced", "no limit"]


_OF_EVENTS = (
    Kept(
        "Raw events, with identities",
        "not copied",
        "Read where the operator keeps them. Stored are counts of their rows, and the sample of "
        "faulty ones in ops.quarantine.",
        "enforced",
    ),
    Kept(
        "Key of the day",
        "until the release",
        "Destroyed when the night is published, and when a night ends without; one that is left "
        "behind all the same, by the next night.",
        "enforced",
    ),
)
_EXPORTS = Kept(
    "Rewards as files for billing, by identity",
    "kept",
    "The rows of a person go when the person is erased, but not from copies that billing took.",
    "no limit",
)
_PUBLISHED = Kept(
    "Published tables",
    "kept",
    "Protected figures, about nobody in particular.",
    "no limit",
)
_BY_AGE = (
    "Older rows are erased each night with the files that held them and older entries of Delta's "
    "log; no night goes on over a table beyond its limit."
)
_REPLACED = "What is replaced goes with its files a night later. "
_HOW = {
    "consent.decisions": "Holds for decisions that changed nothing; consent rests on the others, "
    "and they are kept. " + _BY_AGE,
    "consent.periods": _REPLACED + "The rows of a person go when the person is erased.",
    "consent.objections": "Fingerprints of erased people who must stay out, until the operator "
    "lifts the objection.",
    "ops.quarantine": "A capped sample of faulty event rows, none of whoever does not take part. "
    + _BY_AGE,
}


def retention(settings: Settings) -> list[Kept]:
    """How long everything is kept: each table about people by itself, the others by their limit."""
    limits = settings.retention
    restricted = [table for table in TABLES if table.root == "restricted"]
    about_people = [table for table in restricted if table.is_about_people]
    others: dict[int | str, list[str]] = {}
    for table in restricted:
        if table not in about_people:
            others.setdefault(limits[table.name], []).append(table.name)
    return [
        *_OF_EVENTS,
        *(
            _kept(f"{table.name}, {_about(table)}", limits[table.name], _HOW.get(table.name))
            for table in about_people
        ),
        *(
            _kept(", ".join(names), limit, "About nobody in particular." if limit == KEPT else None)
            for limit, names in sorted(others.items(), key=str)
        ),
        _EXPORTS,
        _PUBLISHED,
    ]


def _kept(what: str, limit: int | str, how: str | None) -> Kept:
    if limit == KEPT:
        return Kept(what, "kept", how or "", "no limit")
    return Kept(what, f"{limit} days", how or _BY_AGE, "enforced")


def statement(evidence: Evidence, *, day: date, settings: Settings) -> str:
    """The HTML page of one day, whether or not the ledger holds a release of it."""
    privacy, ledger = settings.privacy, evidence.ledger
    night = ledger.of_day(day)
    spent = ledger.windows(last=day)
    attacks = _of(night, evidence.attacks)
    return pages.template("statement.html.j2").render(
        day=day,
        settings=settings,
        deltas=[power_of_ten(delta) for delta in privacy.display_deltas],
        inputs=_inputs(settings),
        places=_places(settings),
        stored=[
            {"table": table, "filled": table.name in evidence.filled, "about": _about(table)}
            for table in TABLES
            if table.root == "restricted"
        ],
        sold=[table for table in TABLES if table.root == "published"],
        filled=evidence.filled,
        retention=retention(settings),
        spent=[_meaning(window, privacy) for window in spent],
        promised=[_meaning(window, privacy) for window in full_windows(privacy, last=day)],
        groups=[
            {"people": people} | _figures(people**2 * privacy.rho_cap, privacy) for people in GROUPS
        ],
        measures=_measures(privacy),
        split=f"{sum(share.rho for share in privacy.split.values()):.4g}",
        releases=[_release(release) for release in night.releases],
        monthly=[
            _entry(entry) | {"month": f"{entry.day:%B %Y}"}
            for entry in ledger.monthly(first=spent[-1].first, last=day).entries
        ],
        over=ledger.overspent(privacy),
        attacked=bool(attacks),
        risks=by_risk(attacks),
        certificates=[
            _certificate(one) for one in sorted(evidence.certificates, key=lambda one: one.number)
        ],
        chain_faults=evidence.chain_faults,
    )


def _certificate(one: Certificate) -> dict[str, object]:
    """In words that tell nothing exact about a handful."""
    longest = one.longest_wait_h
    return {
        "number": one.number,
        "release_id": one.release_id,
        "issued_at": one.issued_at,
        "seen": few(one.subscribers_seen),
        "taking_part": few(one.taking_part),
        "left_out": {
            reason.replace("_", " "): few(count) for reason, count in sorted(one.left_out.items())
        },
        "opt_outs": few(one.opt_outs),
        "waited": "nobody waited" if longest is None else f"{longest:.1f} h at most",
        "hash": one.hash,
    }


# --- what is collected, where it lies -------------------------------------------------------

_PURPOSES = {
    "events": "where phones were, and when: the visits are worked out from it",
    "cells": "which zones a cell serves",
    "zones": "the places that are counted",
    "decisions": "who takes part",
    "residents": "from phones to people, and the areas visitors come from",
    "subscribers": "who is a subscriber on the day, and how many take part by area",
    "outages": "telling an hour without data from an hour without people",
}
_ZONES = tuple(column for column in tables.REFERENCE_ZONES.columns if column.name != "day")
_COLUMNS = {
    one.name: one.columns
    for one in (
        tables.EVENTS,
        tables.CELLS,
        tables.DECISIONS,
        tables.RESIDENTS,
        tables.SUBSCRIBERS,
        tables.OUTAGES,
    )
} | {"zones": _ZONES}


def _inputs(settings: Settings) -> list[dict[str, object]]:
    """Each input of the settings with the columns that are read of it, and nothing else is."""
    sources: dict[str, Input] = {
        name: getattr(settings.inputs, name) for name in type(settings.inputs).model_fields
    }
    return [
        {
            "name": name,
            "path": without_login(source.path),
            "purpose": _PURPOSES[name],
            "columns": [column.name for column in _COLUMNS[name]],
            "personal": "subscriber_id" in {column.name for column in _COLUMNS[name]},
        }
        for name, source in sources.items()
    ]


def _about(table: Table) -> str:
    """Whether rows are about a person, and how the person is named in them."""
    names = {column.name for column in table.columns}
    if "subscriber_id" in names:
        return "by identity"
    if "pseudonym" in names:
        return "by pseudonym"
    return "by fingerprint" if "fingerprint" in names else ""


def _places(settings: Settings) -> list[tuple[str, str, str]]:
    """Where, what, and whom it is meant for."""
    paths, in_files = settings.paths, settings.keys.store == "file"
    return [
        (without_login(path), what, whom)
        for path, what, whom in (
            (paths.landing, "what the operator delivers, with identities", "the operator"),
            (
                paths.restricted,
                "pseudonymous visits, consent, rewards and their files for billing, faulty rows, "
                "reference, ledger, run counts",
                "the engineers who run the nights, the data-protection officer",
            ),
            (
                paths.keys_folder if in_files else f"key store {settings.keys.store}",
                "the key of a day that is not published yet, the key of the objections",
                "the job alone",
            ),
            (
                paths.reports_folder,
                "the nightly report, this page",
                "the operator, the data-protection officer",
            ),
            (paths.published, "the protected tables, nothing else", "buyers"),
        )
    ]


# --- what it costs --------------------------------------------------------------------------


def _figures(rho: float, privacy: Privacy) -> dict[str, object]:
    return {
        "rho": f"{rho:.4g}",
        "epsilons": [
            f"{epsilon:.2f}"
            for epsilon in budget.epsilons(rho, deltas=privacy.display_deltas).values()
        ],
        "advantage": f"{budget.advantage(rho):.3f}",
        "auc": f"{budget.auc(rho):.3f}",
        "right": budget.right_of_100(rho),
    }


def _meaning(window: Window, privacy: Privacy) -> dict[str, object]:
    return {
        "days": window.days,
        "first": window.first,
        "published": window.published,
        "monthly": f"{window.monthly:.4g}" if window.monthly else "",
    } | _figures(window.rho, privacy)


def _measures(privacy: Privacy) -> list[dict[str, object]]:
    """Each measure as the settings calibrate it."""
    lines = []
    for measure in MEASURES:
        one = budget.calibrated(measure, privacy.split[measure.full_name])
        lines.append(
            {
                "name": MEASURE_NAMES[measure.full_name],
                "code": measure.full_name,
                "l0": one.l0,
                "l2": f"{one.l2:.3g}",
                "rho": f"{one.rho:.4g}",
                "sigma": f"{one.sigma:.3g}",
                "threshold": f"{one.threshold(privacy.min_devices):.0f}",
            }
        )
    return lines


def _release(release: Ledger) -> dict[str, object]:
    return {
        "first": release.entries[0],
        "is_open": any(entry.is_open for entry in release.entries),
        "rho": f"{release.rho:.4g}",
        "entries": [_entry(entry) for entry in release.entries],
    }


def _entry(entry: Entry) -> dict[str, object]:
    return {
        "name": MEASURE_NAMES.get(entry.full_name, entry.full_name),
        "code": entry.full_name,
        "rho": f"{entry.rho:.4g}",
        "l0": entry.l0,
        "l2": f"{entry.l2:.3g}",
        "sigma": f"{entry.sigma:.3g}",
        "withheld": "open" if entry.is_open else f"{entry.suppressed:,} of {entry.rows:,}",
    }


# --- what attacks reached -------------------------------------------------------------------


def _of(night: Ledger, attacks: Sequence[Attack]) -> list[Attack]:
    """Scores of the releases of the night alone: another night's say nothing about it."""
    ids = {entry.release_id for entry in night.entries}
    return [one for one in attacks if one.release_id in ids]
