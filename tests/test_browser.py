"""The report in a real browser (Debian's chromium): it asks nobody, and nothing fails."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.test_report import ALL, page
from transforms.language import ENGLISH, GERMAN, Language

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium"),
]
OWN_HOSTS = re.compile(r"(^|\.)(google|googleapis|gvt1)\.com$")
"""Whom the browser itself asks, for its own updates and the time."""


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("language", [ENGLISH, GERMAN], ids=lambda language: language.code)
def test_the_report_opens_without_a_request_and_without_an_error(
    tmp_path: Path, width: int, language: Language
) -> None:
    report, requests = tmp_path / "report.html", tmp_path / "requests.json"
    report.write_text(page(ALL, language=language), encoding="utf-8")
    frame = tmp_path / "frame.html"  # a window is never as narrow as a phone, a frame may be
    frame.write_text(f'<iframe src="{report.name}" style="width:{width}px;height:9000px">')
    opened = subprocess.run(
        [
            str(CHROMIUM),
            "--headless=new",
            "--no-sandbox",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--log-net-log={requests}",
            f"--screenshot={tmp_path / 'seen.png'}",
            "--window-size=1400,9000",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in opened.stderr
    hosts = {
        urlsplit(str(event["params"]["url"])).hostname
        for event in json.loads(requests.read_text(encoding="utf-8"))["events"]
        if str(event.get("params", {}).get("url", "")).startswith("http")
    }
    assert not {host for host in hosts if host and not OWN_HOSTS.search(host)}
    assert (tmp_path / "seen.png").stat().st_size > 50_000, "something is drawn"
