"""Several nights in one go: which are run, which passed over, and what the whole ends with."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs import lease, runtime
from jobs.runtime import Night, Progress, Several, run_job
from transforms.days import LocalDay
from transforms.errors import Failed, FootfallError, Misused, Refused
from transforms.settings import Settings

PROJECT = Path(__file__).resolve().parent.parent
NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)


def november(day: int) -> date:
    return date(2026, 11, day)


@dataclass
class Nights:
    """Stands in for the step and the warehouse: what is done, what goes wrong, what was called."""

    done: set[date] = field(default_factory=set)
    wrong: dict[date, Exception] = field(default_factory=dict)
    run: list[date] = field(default_factory=list)
    planned: list[date] = field(default_factory=list)
    ended: list[date] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    output: io.StringIO = field(default_factory=io.StringIO)

    def run_night(self, night: Night, *, restate: bool) -> None:
        self.run.append(night.day.date)
        if night.day.date in self.wrong:
            raise self.wrong[night.day.date]

    def is_done(self, night: Night, *, restate: bool) -> bool:
        return night.day.date in self.done and not restate

    def plan(self, night: Night, *, restate: bool) -> None:
        self.planned.append(night.day.date)

    def afterwards(self, night: Night) -> None:
        self.ended.append(night.day.date)

    def __call__(self, *options: str) -> int:
        return run_job(
            self.run_night,
            description="",
            flags={"restate": ""},
            several=Several(self.is_done, plan=self.plan, afterwards=self.afterwards),
            argv=["--conf", str(PROJECT / "tests/conf/tests.toml"), *options],
            now=lambda: NOW,
        )


@pytest.fixture
def nights(monkeypatch: pytest.MonkeyPatch) -> Nights:
    nights = Nights()
    progress = Progress(Console(file=nights.output, highlight=False, soft_wrap=True))

    def night_of(settings: Settings, day: date, *_: object, **__: object) -> Night:
        nothing: Any = None
        local = LocalDay(day, settings.zone_info)
        return Night(
            settings, local, nothing, nothing, nothing, nothing, progress, lambda: NOW, str(day)
        )

    @contextmanager
    def session(*_: object, **__: object) -> Iterator[None]:
        yield None

    @contextmanager
    def held(*_: object, work: str) -> Iterator[Any]:
        nights.held.append(work)
        yield lambda: None

    monkeypatch.setattr(runtime, "night_of", night_of)
    monkeypatch.setattr(runtime, "_session_of_job", session)
    monkeypatch.setattr(runtime, "_make_roots", lambda night: None)
    monkeypatch.setattr(lease, "held", held)
    return nights


def failure(kind: type[FootfallError]) -> FootfallError:
    return kind("events", found="none", expected="some", consequence="no event was read")


def test_days_are_run_in_order_under_one_lease(nights: Nights) -> None:
    assert nights("--from", "2026-11-20", "--to", "2026-11-22") == 0
    assert nights.run == nights.ended == [november(20), november(21), november(22)]
    assert nights.held == ["run_night 2026-11-20 to 2026-11-22"]
    assert "nights of 2026-11-20 to 2026-11-22: 3 done\n" in nights.output.getvalue()


def test_what_is_published_is_passed_over_unless_it_is_restated(nights: Nights) -> None:
    nights.done = {november(20), november(22)}
    assert nights("--from", "2026-11-20", "--to", "2026-11-22") == 0
    assert nights.run == [november(21)]
    assert "2 done before, 1 done" in nights.output.getvalue()
    assert nights("--from", "2026-11-20", "--to", "2026-11-22", "--restate") == 0
    assert len(nights.run) == 4


def test_one_day_alone_is_run_even_if_it_is_published(nights: Nights) -> None:
    """It says so itself, and makes its report anew."""
    nights.done = {november(20)}
    assert nights("--day", "2026-11-20") == 0
    assert nights.run == [november(20)]


def test_a_day_that_is_missing_stops_no_other(
    nights: Nights, capsys: pytest.CaptureFixture[str]
) -> None:
    nights.wrong = {november(20): failure(Failed)}
    assert nights("--from", "2026-11-20", "--to", "2026-11-22") == 1
    assert nights.run == [november(20), november(21), november(22)]
    assert "1 failed (2026-11-20), 2 done" in nights.output.getvalue()
    assert capsys.readouterr().err == (
        "error: events: found none, expected some; no event was read\n"
    )


@pytest.mark.parametrize(("error", "code"), [(failure(Refused), 3), (OSError("gone"), 1)])
def test_what_is_wrong_for_all_days_ends_them_all(
    nights: Nights, error: Exception, code: int
) -> None:
    nights.wrong = {november(20): failure(Failed), november(21): error}
    assert nights("--from", "2026-11-20", "--to", "2026-11-23") == code
    assert nights.run == nights.ended == [november(20), november(21)]
    assert "2 not started (2026-11-22, 2026-11-23)" in nights.output.getvalue()


def test_a_dry_run_plans_every_day_and_holds_nothing(nights: Nights) -> None:
    nights.done = {november(21)}
    assert nights("--from", "2026-11-20", "--to", "2026-11-21", "--dry-run") == 0
    assert nights.planned == [november(20), november(21)]
    assert nights.run == nights.held == nights.ended == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "days: found none, expected --day, or both --from and --to"),
        (("--from", "2026-11-20"), "days: found --from, expected"),
        (("--day", "2026-11-20", "--to", "2026-11-21"), "days: found --day --to, expected"),
        (("--from", "2026-11-21", "--to", "2026-11-20"), "--to: found 2026-11-20, which is before"),
        (("--from", "2026-11-20", "--to", "2026-11-27"), "--to: found 2026-11-27, which is not ov"),
        (("--from", "20261120", "--to", "2026-11-21"), "--from: found '20261120', expected YYYY-"),
    ],
)
def test_other_days_are_bad_usage(
    nights: Nights, options: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nights(*options) == Misused.exit_code
    assert capsys.readouterr().err.startswith(f"error: {says}")
    assert nights.run == []
