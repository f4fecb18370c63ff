"""What the README tells people to type."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs.runtime import PROJECT, load_settings

README = (PROJECT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")
TARGETS = dict(re.findall(r"^([a-z]+):.*## (.*)$", MAKEFILE, re.MULTILINE))
FOUND = re.findall(r"(?:^|`)make ([a-z][^`\n#&]*)", README, re.MULTILINE)
COMMANDS = sorted({command.strip() for command in FOUND})


def block(language: str) -> str:
    """The last example in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_make_knows_its_commands_and_their_variables(command: str) -> None:
    words = command.split()
    targets = [word for word in words if "=" not in word]
    assert set(targets) <= TARGETS.keys()
    told = " ".join(TARGETS[target] for target in targets)
    for word in words[len(targets) :]:
        assert f"{word.split('=')[0]}=" in told


def test_its_settings_are_settings(tmp_path: Path) -> None:
    conf = tmp_path / "mine.toml"
    conf.write_text(block("toml"))
    settings = load_settings(str(conf))
    assert settings.inputs.cells.columns["range_m"].column == "range"


def test_its_census_becomes_areas() -> None:
    squares = pd.DataFrame(
        {"lat": [52.52, 52.5201, 48.1], "lon": [13.4, 13.4001, 11.5], "population": [40, 2, 7]}
    )
    names: dict[str, Any] = {"squares": squares}
    code = block("python")
    exec(code.replace("squares.groupby", "areas = squares.groupby"), names)
    areas = names["areas"]
    assert list(areas.columns) == ["area", "residents"]
    assert sorted(areas.residents) == [7, 42]
