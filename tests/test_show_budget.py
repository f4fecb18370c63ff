"""What the ledger adds up to, and what the terminal says of it."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from dp_accounting.pld import privacy_loss_distribution
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from jobs.frames import local_frame
from jobs.runtime import load_settings, run_job
from jobs.show_budget import budget_pages, must_be_within_caps, show_budget
from jobs.store import Store
from tests.ledger_entries import DAY, entry, ledger, night, participants
from transforms.errors import Failed
from transforms.ledger import Entry, Ledger
from transforms.tables import RELEASES

PRIVACY = load_settings(str(Path(__file__).parent.parent / "conf/base.toml")).privacy
FIRST = date(2026, 11, 1)


def days_back(count: int) -> list[Entry]:
    return [one for back in range(count) for one in night(DAY - timedelta(days=back))]


def text_of(entries: Ledger, *, day: date = DAY) -> str:
    """What an 80-column terminal shows."""
    console = Console(file=io.StringIO(), width=80, highlight=False, soft_wrap=True)
    for part in budget_pages(entries, day=day, privacy=PRIVACY):
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


def row(text: str, start: str) -> list[str]:
    """The first line that begins so, in words."""
    return next(line.split() for line in text.splitlines() if line.strip().startswith(start))


# ------------------------------------------------------------------------------------ the windows


def test_a_window_adds_up_its_days_and_the_months_that_begin_in_it() -> None:
    entries = ledger(*days_back(40), participants(FIRST), participants(date(2026, 10, 1)))
    week, month = (entries.window(last=DAY, days=days) for days in (7, 30))
    assert (week.published, week.daily, week.monthly) == (7, pytest.approx(0.7), 0.0)
    assert (month.published, month.daily, month.monthly) == (30, pytest.approx(3.0), 0.005)
    assert month.rho == pytest.approx(3.005)


def test_a_participants_line_counts_once_in_the_window_that_holds_its_first_of_the_month() -> None:
    drawn = ledger(participants(FIRST))
    assert drawn.window(last=date(2026, 11, 7), days=7).rho == 0.005
    assert drawn.window(last=date(2026, 11, 8), days=7).rho == 0.0
    assert drawn.window(last=date(2026, 11, 30), days=30).rho == 0.005
    assert drawn.window(last=date(2026, 12, 1), days=30).rho == 0.0


def test_a_superseded_release_stays_spent() -> None:
    first = entry("zone_hours.visitors", 0.04)
    second = entry("zone_hours.visitors", 0.03, number=2, supersedes=first.release_id)
    window = ledger(first, second).window(last=DAY, days=7)
    assert (window.published, window.rho) == (1, pytest.approx(0.07))


def test_an_open_release_is_spent_but_not_published() -> None:
    claimed = ledger(*[replace(one, rows=None, suppressed=None) for one in night()])
    window = claimed.window(last=DAY, days=7)
    assert (window.published, window.rho) == (0, pytest.approx(0.1))
    shown = text_of(claimed)
    assert "Release 2026-11-24-1, open since 2026-11-25 03:01 UTC" in shown
    assert row(shown, "visitors")[-1] == "open"


def test_the_order_of_entries_does_not_matter() -> None:
    entries = [*days_back(3), participants(FIRST)]
    assert ledger(*entries).window(last=DAY, days=30) == ledger(*entries[::-1]).window(
        last=DAY, days=30
    )
    assert text_of(ledger(*entries)) == text_of(ledger(*entries[::-1]))


def test_the_default_split_adds_up_to_the_cap() -> None:
    assert ledger(*night()).of_day(DAY).rho == pytest.approx(PRIVACY.rho_cap)
    assert {one.full_name: one.rho for one in night()} == {
        name: share.rho for name, share in PRIVACY.split.items()
    }


# ----------------------------------------------------------------------------------- what is shown


def test_the_windows_show_what_dp_accounting_says_when_run_by_hand() -> None:
    shown = text_of(ledger(*days_back(30), participants(FIRST)))
    one = privacy_loss_distribution.from_gaussian_mechanism(1 / math.sqrt(2 * 0.1))
    monthly = privacy_loss_distribution.from_gaussian_mechanism(1 / math.sqrt(2 * 0.005))
    by_hand = {
        "1 day": one,
        "7 days": one.self_compose(7),
        "30 days": one.self_compose(30).compose(monthly),
    }
    for window, loss in by_hand.items():
        epsilons = [f"{loss.get_epsilon_for_delta(delta):.2f}" for delta in (1e-9, 1e-6)]
        gain = f"{loss.get_delta_for_epsilon(0.0):.3f}"
        assert row(shown, window)[5:8] == [*epsilons, gain], window


def test_the_night_is_told_by_product_and_measure() -> None:
    shown = text_of(ledger(*night()))
    assert "Release 2026-11-24-1, published 2026-11-25 03:01 UTC" in shown
    assert row(shown, "zone_hours") == ["zone_hours", "0.045"]
    assert row(shown, "visitors") == ["visitors", "0.035", "8", "1", "2.83", "10.7", "648", "437"]
    assert "spent on 2026-11-24: ρ 0.1 of 0.1" in shown


def test_fewer_nights_than_the_window_has_are_counted_and_the_promise_stands_beside() -> None:
    spent, promised = text_of(ledger(*days_back(3))).split("Spent when every day")
    assert row(spent, "7 days")[:5] == ["7", "days", "2026-11-18", "3/7", "0.3"]
    assert row(promised, "7 days")[3:7] == ["7/7", "0.7", "7.44", "5.92"]
    assert row(promised, "30 days")[3:7] == ["30/30", "3.005", "17.20", "14.10"]


def test_participants_have_a_line_and_a_cap_of_their_own() -> None:
    entries = ledger(*night(), participants(FIRST))
    shown = text_of(entries)
    assert "participants of November 2026: ρ 0.005 of 0.005, σ 10" in shown
    assert "spent on 2026-11-24: ρ 0.1 of 0.1" in shown
    assert "none drawn since 2026-10-26" in text_of(ledger(*night()))
    must_be_within_caps(entries, PRIVACY)


def test_a_release_names_the_one_it_supersedes() -> None:
    again = [replace(one, supersedes="2026-11-24-1") for one in [entry(number=2, rho=0.01)]]
    shown = text_of(ledger(entry(rho=0.02), *again))
    assert shown.index("Release 2026-11-24-1,") < shown.index("Release 2026-11-24-2,")
    assert "supersedes '2026-11-24-1'" in shown.split("Release 2026-11-24-2,")[1]


def test_a_day_without_a_release_says_so_and_shows_the_windows() -> None:
    shown = text_of(ledger(*night(DAY - timedelta(days=1))))
    assert "no release of 2026-11-24 in the ledger" in shown
    assert row(shown, "1 day")[3:5] == ["0/1", "0"]
    assert row(shown, "7 days")[3:5] == ["1/7", "0.1"]


def test_nothing_is_wider_than_80_columns() -> None:
    shown = text_of(ledger(*days_back(30), participants(FIRST), entry(rho=5.0, number=2)))
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown


def test_markup_in_the_ledger_is_text() -> None:
    odd = replace(entry(), measure="[red]x[/red]", supersedes="[bold]y")
    shown = text_of(ledger(odd))
    assert "[red]x[/red]" in shown and "[bold]y" in shown


# -------------------------------------------------------------------------------------- the alarm


def test_a_day_over_the_cap_is_loud_and_fails() -> None:
    entries = ledger(*night(), entry(rho=0.01, number=2))
    assert "OVER THE CAP: 2026-11-24 spent ρ 0.11, cap 0.1" in text_of(entries)
    with pytest.raises(Failed) as failure:
        must_be_within_caps(entries, PRIVACY)
    assert str(failure.value) == (
        "ledger of 2026-11-24: found rho 0.11, expected at most 0.1; "
        "more was given away than promised: tell the data-protection officer"
    )


def test_an_earlier_day_or_a_month_over_its_cap_fails_too() -> None:
    earlier = entry(rho=0.01, day=DAY - timedelta(days=20), number=2)
    with pytest.raises(Failed, match=r"ledger of 2026-11-04: found rho 0\.11, expected at most"):
        must_be_within_caps(ledger(*days_back(30), earlier), PRIVACY)
    twice = [participants(FIRST), replace(participants(FIRST), release_id="again")]
    with pytest.raises(Failed, match=r"ledger of 2026-11-01: found rho 0\.01, .* at most 0\.005"):
        must_be_within_caps(ledger(*twice), PRIVACY)


def test_a_rho_that_is_no_number_is_over_the_cap() -> None:
    entries = ledger(entry(rho=math.nan))
    with pytest.raises(Failed, match="found rho nan"):
        must_be_within_caps(entries, PRIVACY)
    assert row(text_of(entries), "1 day")[4:] == ["nan", "inf", "inf", "1.000", "1.000", "100%"]


def test_the_whole_cap_is_not_over_it() -> None:
    must_be_within_caps(ledger(*days_back(30), participants(FIRST)), PRIVACY)


# -------------------------------------------------------------------------------------- the command


def frame(spark: SparkSession, *entries: Entry) -> DataFrame:
    names = list(entry().__dict__)
    types = {column.name: column.type.simpleString() for column in RELEASES.columns}
    schema = ", ".join(f"`{name}` {types[name]}" for name in names)
    rows = local_frame(spark, [tuple(one.__dict__.values()) for one in entries], schema)
    versions = F.create_map(F.lit("silver.visits"), F.lit(1).cast("long"))
    return rows.withColumns({"delta": F.lit(0.0), "input_versions": versions})


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of one day in order, and a later one over the cap."""
    root = tmp_path_factory.mktemp("budget")
    (root / "own.toml").write_text(
        f'[paths]\nrestricted = "{root}/restricted"\npublished = "{root}/published"\n'
    )
    entries = [*night(), participants(FIRST), entry(rho=0.2, day=date(2026, 12, 31))]
    store = Store(spark, f"{root}/restricted", f"{root}/published")
    store.append(RELEASES, frame(spark, *entries))
    return root


def run(root: Path, day: str, *more: str) -> int:
    argv = ["--conf", str(root / "own.toml"), "--day", day, *more]
    in_2027 = lambda: entry(day=date(2027, 1, 5)).published_at  # noqa: E731
    return run_job(show_budget, description="", argv=argv, now=in_2027)


@pytest.mark.slow
def test_the_command_reads_the_ledger_and_ends_with_0(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "2026-11-24") == 0
    shown = capsys.readouterr().out
    assert "spent on 2026-11-24: ρ 0.1 of 0.1" in shown
    assert row(shown, "30 days")[3:5] == ["1/30", "0.105"]


@pytest.mark.slow
@pytest.mark.parametrize("day", ["2026-11-23", "2026-12-30"])
def test_a_day_without_release_ends_with_0(
    root: Path, capsys: pytest.CaptureFixture[str], day: str
) -> None:
    assert run(root, day) == 0
    assert f"no release of {day} in the ledger" in capsys.readouterr().out


@pytest.mark.slow
def test_a_day_over_the_cap_ends_with_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "2026-12-31") == 1
    told = capsys.readouterr()
    assert "OVER THE CAP: 2026-12-31" in told.out
    assert "error: ledger of 2026-12-31: found rho 0.2, expected at most 0.1;" in told.err


@pytest.mark.slow
def test_an_empty_ledger_ends_with_1(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "2026-11-24", "--restricted", str(tmp_path / "none")) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: ledger ops.releases: found no release at all, expected at least one published "
        "night; there is no budget to show"
    ]
