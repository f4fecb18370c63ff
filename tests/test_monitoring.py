"""The log is lines of JSON that say what happened, and nothing where nobody wants one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import monitoring
from jobs.runtime import Progress, exit_codes
from transforms.errors import Refused


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "logs/footfall.jsonl"
    monitoring.log_to(str(file))
    yield file
    monitoring.log_to(None)


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def detect_visits(night: object) -> str:
    return "1,230 rows in"


def test_steps_and_notes_are_lines_with_what_they_are_about(log: Path) -> None:
    progress, night = Progress(), object()
    with monitoring.about(day="2026-11-23", run_id="a"):
        progress.step(detect_visits, night)  # type: ignore[arg-type]
    progress.note("2 zones left out")
    started, ended, note = lines(log)
    assert started["event"] == "step started"
    assert (ended["event"], ended["step"], ended["result"]) == (
        "step ended",
        "detect_visits",
        "1,230 rows in",
    )
    assert ended["seconds"] >= 0 and ended["at"] and ended["level"] == "INFO"
    assert (ended["day"], ended["run_id"]) == ("2026-11-23", "a")
    assert (note["event"], note["level"]) == ("2 zones left out", "WARNING")
    assert "day" not in note, "it was about that night only"


def test_an_error_is_a_line_with_its_parts(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with exit_codes() as ending:
        raise Refused("decisions", found="none", expected="one", consequence="no event was read")
    [line] = lines(log)
    assert line["level"] == "ERROR" and line["exit_code"] == ending.code == 3
    assert [line[part] for part in ("subject", "found", "expected", "consequence")] == [
        "decisions",
        "none",
        "one",
        "no event was read",
    ]
    assert capsys.readouterr().err.startswith("error: decisions: found none")


def test_an_unexpected_error_is_a_line_without_its_text(log: Path) -> None:
    with exit_codes():
        raise ValueError("of subscriber 4711")
    assert "4711" not in log.read_text()
    assert lines(log)[0]["kind"] == "ValueError"


def test_without_a_log_nothing_is_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    monitoring.log_to(None)
    Progress().note("2 zones left out")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[Errno 28] No space left on device: '/keys/2026-11-23.key'", "no space left"),
        ("java.io.IOException: No space left on device", "no space left"),
        ("/data: Read-only file system", "a read-only file system"),
        ("java.io.FileNotFoundException: /data/x (Permission denied)", "no right to write"),
        ("Mkdirs failed to create file:/data/gold", "a folder that can't be made"),
    ],
)
def test_storage_that_takes_nothing_is_named(
    text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with exit_codes() as ending:
        raise OSError(text)
    assert ending.code == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: storage: found {told}, expected room and the right to write")
    assert len(error.splitlines()) == 1
