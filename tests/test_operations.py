"""What became of nights, told from literal rows of `ops.runs` and the ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from jobs import monitoring
from tests.ledger_entries import DAY, ledger, night
from transforms.operations import NOT_RUN, OPEN, NightStatus, night_status
from transforms.tables import FAILED, INTERRUPTED, PUBLISHED, REFUSED, RUNNING

THREE = datetime(2026, 11, 25, 3)


@dataclass(frozen=True)
class Run:
    run_id: str = "a"
    day: object = DAY
    started_at: datetime = THREE
    ended_at: datetime | None = THREE + timedelta(seconds=95)
    outcome: str = PUBLISHED
    rows_in: int | None = 1_234_567
    other_day: int | None = 200_000
    rejected: int | None = 34_567
    not_taking_part: int | None = 100_003
    accepted: int | None = 899_997


def status(*runs: Run, released: bool = True, is_open: bool = False, **more: object) -> NightStatus:
    entries = [replace(entry, rows=None) if is_open else entry for entry in night()]
    given = {"longest_wait_h": 7.5, "findings": {"a": 2}, "is_at_work": False} | more
    return night_status(
        DAY,
        runs=runs,
        ledger=ledger(*entries) if released else ledger(),
        **given,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("outcome", [FAILED, REFUSED, INTERRUPTED])
def test_a_night_without_a_release_is_as_its_last_run_ended(outcome: str) -> None:
    earlier = Run("b", started_at=THREE - timedelta(hours=1), outcome=FAILED)
    assert status(Run(outcome=outcome), earlier, released=False).state == outcome


def test_a_day_without_any_run_says_so() -> None:
    assert status(released=False).state == NOT_RUN
    assert status(Run(day=DAY - timedelta(days=1)), released=False).state == NOT_RUN


def test_a_release_that_is_claimed_is_open_until_all_of_it_is_published() -> None:
    assert status(Run(outcome=FAILED), is_open=True).state == OPEN
    assert status(Run(outcome=FAILED)).state == PUBLISHED


def test_a_run_is_running_only_while_somebody_holds_the_warehouse() -> None:
    run = Run(outcome=RUNNING, ended_at=None)
    assert status(run, released=False, is_at_work=True).state == RUNNING
    assert status(run, released=False).state == INTERRUPTED
    assert status(run, is_at_work=True).state == RUNNING, "a published day is being restated"


def test_the_last_run_tells_how_long_it_took_and_the_last_that_knows_what_was_read() -> None:
    later = Run("b", started_at=THREE + timedelta(hours=1), ended_at=None, rows_in=None)
    one = status(Run(), later)
    assert (one.last_run, one.rows) == (later, Run())
    assert one.seconds is None
    assert status(Run()).seconds == 95
    assert one.findings == 0, "those of the last run"


def metrics(one: NightStatus) -> dict[tuple[str, str], float]:
    """As the operator's monitoring reads them: by name and the value of the only label."""
    text = monitoring.openmetrics(one, rho_cap=0.1).decode()
    return {
        (sample.name.removeprefix("footfall_night_"), "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_openmetrics_and_hold_no_exact_count_of_rows() -> None:
    found = metrics(status(Run()))
    assert found["state", PUBLISHED] == 1 and found["state", FAILED] == 0
    assert found["duration_seconds", ""] == 95
    assert found["rows", "not_taking_part"] == 100_000
    assert found["rows", "accepted"] == 899_990
    assert found["rho", "spent"] == pytest.approx(0.1)
    assert found["cells", "suppressed"] == 437 * 8
    assert found["opt_out_wait_hours", ""] == 7.5
    assert found["findings", ""] == 2


def test_what_is_not_known_is_no_metric() -> None:
    found = metrics(status(released=False, longest_wait_h=None))
    assert not {"duration_seconds", "ended_seconds", "rows", "opt_out_wait_hours"} & {
        name for name, _ in found
    }
    assert found["state", NOT_RUN] == 1


def test_metrics_replace_what_was_there_and_leave_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "new/footfall.prom"
    for one in (status(released=False), status(Run())):
        monitoring.write_metrics(str(file), one, rho_cap=0.1)
    assert file.read_bytes() == monitoring.openmetrics(status(Run()), rho_cap=0.1)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
