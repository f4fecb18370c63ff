"""The ledger -> what a night cost, by measure, and what 7 and 30 days add up to, in a terminal."""

from __future__ import annotations

import sys
from dataclasses import fields
from datetime import date, timedelta

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from jobs.runtime import Night, run_job
from transforms import budget
from transforms.budget import Window
from transforms.errors import Failed
from transforms.ledger import WINDOWS, Entry, Ledger, full_windows
from transforms.settings import Privacy
from transforms.tables import MEASURES, RELEASES
from transforms.wording import or_open, shown

_MEASURES = [measure.full_name for measure in MEASURES]


def show_budget(night: Night) -> None:
    """Prints the ledger's figures. Raises `Failed` for an empty one, or one over its cap."""
    ledger, privacy = read_ledger(night), night.settings.privacy
    if not ledger.entries and not night.store.rows(RELEASES):
        raise Failed(
            "ledger ops.releases",
            found="no release at all",
            expected="at least one published night",
            consequence="there is no budget to show",
        )
    for part in budget_pages(ledger, day=night.day.date, privacy=privacy):
        night.progress.console.print(part)
        night.progress.console.print()
    must_be_within_caps(ledger, privacy)


def read_ledger(night: Night) -> Ledger:
    """Entries of the longest window that ends with the night's day."""
    first = night.day.date - timedelta(days=max(WINDOWS) - 1)
    names = [field.name for field in fields(Entry)]
    rows = (row for row in night.store.rows(RELEASES) if first <= row.day <= night.day.date)
    return Ledger(tuple(Entry(**{name: row[name] for name in names}) for row in rows))


def must_be_within_caps(ledger: Ledger, privacy: Privacy) -> None:
    """Raises `Failed` naming the newest day that spent more than its cap."""
    over = ledger.overspent(privacy)
    if over:
        newest, *others = over
        more = f" (and {len(others)} more like it)" if others else ""
        raise Failed(
            f"ledger of {newest.day}",
            found=f"rho {newest.rho:.6g}{more}",
            expected=f"at most {newest.cap:.6g}",
            consequence="more was given away than promised: tell the data-protection officer",
        )


def budget_pages(ledger: Ledger, *, day: date, privacy: Privacy) -> list[RenderableType]:
    """The night, the windows that end with it, and what the words mean: at most 80 columns."""
    night = ledger.of_day(day)
    spent, promised = ledger.windows(last=day), full_windows(privacy, last=day)
    total = f"spent on {day}: ρ {night.rho:.4g} of {privacy.rho_cap:.4g}"
    return [
        *(_of_release(release) for release in night.releases),
        Text(total if night.entries else f"no release of {day} in the ledger", "bold"),
        _windows("Spent per subscriber, by the ledger", spent, privacy),
        *_monthly(ledger, spent[-1], privacy),
        _windows("Spent when every day and month uses its whole cap", promised, privacy),
        Text(_MEANING),
        *(
            Text(f"OVER THE CAP: {one.day} spent ρ {one.rho:.6g}, cap {one.cap:.6g}", "bold red")
            for one in ledger.overspent(privacy)
        ),
    ]


def _of_release(release: Ledger) -> Table:
    """Measures in the catalogue's order, below the ρ of their product."""
    first = release.entries[0]
    state = "open since" if first.is_open else "published"
    instead = f", supersedes {shown(first.supersedes)}" if first.supersedes else ""
    table = _table(
        f"Release {first.release_id}, {state} {first.published_at:%Y-%m-%d %H:%M} UTC{instead}",
        "measure",
        ("ρ", "L0", "L∞", "L2", "σ", "cells", "suppressed"),
    )
    by_product: dict[str, list[Entry]] = {}
    for entry in sorted(release.entries, key=_place):
        by_product.setdefault(entry.product, []).append(entry)
    for product, entries in by_product.items():
        table.add_row(Text(product, "bold"), f"{Ledger(tuple(entries)).rho:.4g}")
        for entry in entries:
            table.add_row(
                Text(f"  {entry.measure}"),
                f"{entry.rho:.4g}",
                str(entry.l0),
                f"{entry.linf:.3g}",
                f"{entry.l2:.3g}",
                f"{entry.sigma:.3g}",
                or_open(entry.rows),
                or_open(entry.suppressed),
            )
    return table


def _place(entry: Entry) -> tuple[int, str]:
    known = entry.full_name in _MEASURES
    return (_MEASURES.index(entry.full_name) if known else len(_MEASURES), entry.full_name)


def _windows(title: str, windows: list[Window], privacy: Privacy) -> Table:
    deltas = [f"ε ({delta:g})".replace("e-0", "e-") for delta in privacy.display_deltas]
    columns = ("since", "nights", "ρ", *deltas, "advantage", "AUC", "right")
    table = _table(title, "window", columns)
    for window in windows:
        table.add_row(
            "1 day" if window.days == 1 else f"{window.days} days",
            str(window.first),
            f"{window.published}/{window.days}",
            f"{window.rho:.4g}",
            *(f"{budget.epsilon(window.rho, delta=one):.2f}" for one in privacy.display_deltas),
            f"{budget.advantage(window.rho):.3f}",
            f"{budget.auc(window.rho):.3f}",
            f"{budget.right_of_100(window.rho)}%",
        )
    return table


def _monthly(ledger: Ledger, window: Window, privacy: Privacy) -> list[Text]:
    """The participants' own lines: they are in the windows that hold their month's first day."""
    drawn = ledger.monthly(first=window.first, last=window.last).entries
    cap = f"{privacy.participation.rho_cap:.4g}"
    return [
        Text(
            f"of it, once a month, the participants of {entry.day:%B %Y}: "
            f"ρ {entry.rho:.4g} of {cap}, σ {entry.sigma:.3g}"
        )
        for entry in sorted(drawn, key=lambda entry: entry.day)
    ] or [Text(f"participants, once a month: none drawn since {window.first}, cap ρ {cap}")]


_MEANING = """\
nights: published of those in the window. ρ adds up over days; ε, at the δ in
brackets, is exact for Gaussian noise. For an attacker who knows everybody else
and asks whether one subscriber was counted: advantage is TPR - FPR at best (0
guessing, 1 certainty), AUC the area under the ROC curve (0.5 guessing), right
how often the answer is true when either was as likely (50% guessing)."""


def _table(title: str, first: str, others: tuple[str, ...]) -> Table:
    # The title as `Text`: it may hold foreign text, which in a string could be markup.
    table = Table(
        title=Text(title, "bold"),
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


if __name__ == "__main__":
    sys.exit(run_job(show_budget, description=__doc__ or "", writes=False))
