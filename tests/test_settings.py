"""Settings: every fault at once, in one line, before anything is read."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs import runtime
from jobs.runtime import load_settings, parsed_day, run_job
from transforms.errors import Misused
from transforms.settings import Settings, merged, settings_from
from transforms.tables import MEASURES

PROJECT = Path(__file__).parent.parent
BASE = tomllib.loads((PROJECT / "conf" / "base.toml").read_text(encoding="utf-8"))
NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)


def without(*path: str) -> dict[str, Any]:
    """The base settings without one key."""
    raw = copy.deepcopy(BASE)
    table = raw
    for name in path[:-1]:
        table = table[name]
    del table[path[-1]]
    return raw


def valid(overlay: Mapping[str, Any]) -> Settings:
    return settings_from(merged(BASE, overlay), name="mine.toml")


def complaint(raw: Mapping[str, Any]) -> str:
    with pytest.raises(Misused) as caught:
        settings_from(raw, name="mine.toml")
    return str(caught.value)


def complaint_about(overlay: Mapping[str, Any]) -> str:
    return complaint(merged(BASE, overlay))


def split(**measures: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with another budget for some measures; `__` stands for the dot."""
    return {"privacy": {"split": {k.replace("__", "."): v for k, v in measures.items()}}}


# ------------------------------------------------------------------------------- what is valid


def test_the_base_settings_alone_are_valid() -> None:
    settings = settings_from(BASE, name="base.toml")
    assert settings.zone_info.key == "Europe/Berlin"
    assert settings.visits.max_gap == 60
    assert settings.privacy.min_devices == 30


@pytest.mark.parametrize(
    "overlay", ["conf/demo.toml", "conf/cluster.toml", "tests/conf/tests.toml"]
)
def test_every_overlay_of_the_project_is_valid(overlay: str) -> None:
    assert load_settings(str(PROJECT / overlay)).timezone == "Europe/Berlin"


def test_settings_can_not_be_changed_once_they_are_valid() -> None:
    settings = valid({})
    with pytest.raises(ValidationError):
        settings.visits.max_gap = 5  # type: ignore[misc]


def test_keys_and_reports_lie_below_restricted_unless_they_are_named() -> None:
    paths = valid({"paths": {"restricted": "safe"}}).paths
    assert (paths.keys_folder, paths.reports_folder) == ("safe/keys", "safe/reports")
    named = valid({"paths": {"keys": "/k", "reports": "/r"}}).paths
    assert (named.keys_folder, named.reports_folder) == ("/k", "/r")


def test_a_plain_word_renames_a_column() -> None:
    settings = valid({"inputs": {"events": {"columns": {"cell_id": "cgi"}}}})
    assert settings.inputs.events.columns["cell_id"].column == "cgi"


def test_an_overlay_replaces_single_keys_and_leaves_their_neighbours() -> None:
    settings = valid({"visits": {"max_gap": 45}})
    assert (settings.visits.max_gap, settings.visits.min_dwell) == (45, 10)


def test_merging_with_nothing_or_with_itself_changes_nothing() -> None:
    assert merged(BASE, {}) == merged(BASE, BASE) == merged({}, BASE) == BASE


# ----------------------------------------------------------------------------- what is reported


def test_unknown_missing_and_impossible_values_are_reported_in_one_line() -> None:
    raw = without("visits", "max_gap")
    raw["visits"]["max_gpa"] = 60
    raw["timezone"] = "Europe/Atlantis"
    raw["privacy"]["min_devices"] = 0
    raw["place"]["h3_resolution"] = "eleven"
    raw["people"]["participant_share"] = 1.5
    raw["unheard_of"] = {}
    text = complaint(raw)
    for part in (
        "settings mine.toml",
        "[visits] missing ['max_gap'], unknown ['max_gpa']",
        "[] unknown ['unheard_of']",
        "timezone: unknown timezone 'Europe/Atlantis'",
        "privacy.min_devices",
        "place.h3_resolution",
        "people.participant_share",
        "nothing was read",
    ):
        assert part in text
    assert "\n" not in text


def test_a_fault_between_two_keys_is_reported_beside_a_fault_of_a_third_key() -> None:
    text = complaint_about({"visits": {"min_dwell": 400, "max_gpa": 60}})
    assert "unknown ['max_gpa']" in text
    assert "min_dwell must be below max_dwell" in text


@pytest.mark.parametrize(
    "path",
    [
        ("timezone",),
        ("paths", "published"),
        ("inputs", "decisions"),
        ("consent", "default"),
        ("place", "min_presence"),
        ("privacy", "rho_cap"),
        ("privacy", "participation", "rho_cap"),
        ("privacy", "split", "zone_days.visits", "rho"),
        ("quality", "previous_days"),
    ],
    ids=".".join,
)
def test_every_key_is_required(path: tuple[str, ...]) -> None:
    assert f"missing ['{path[-1]}']" in complaint(without(*path))


@pytest.mark.parametrize(
    ("overlay", "place"),
    [
        ({"visits": {"max_gap": 0}}, "visits.max_gap"),
        ({"visits": {"max_gap": "60"}}, "visits.max_gap"),
        ({"visits": {"max_gap": 1.5}}, "visits.max_gap"),
        ({"visits": {"max_dwell": 24 * 60 + 1}}, "visits.max_dwell"),
        ({"visits": {"min_dwell": 360}}, "min_dwell must be below max_dwell, found 360 and 360"),
        ({"visits": {"min_dwell": 400}}, "min_dwell must be below max_dwell, found 400 and 360"),
        ({"visits": {"max_reach": -1}}, "visits.max_reach"),
        ({"visits": {"min_share": 1.1}}, "visits.min_share"),
        ({"visits": {"crossings": "handover"}}, "visits.crossings"),
        ({"visits": {"crossings": [1]}}, "visits.crossings"),
        (
            {"visibility": {"indoors": {"zone_hours.visits": {"seen": 1.0, "spread": 0.1}}}},
            "unknown ['zone_hours.visits']",
        ),
        (
            {"visibility": {"outdoors": {"zone_days.visits": {"seen": 0.0, "spread": 0.1}}}},
            "visibility.outdoors.zone_days.visits.seen",
        ),
        ({"consent": {"default": "perhaps"}}, "consent.default"),
        ({"consent": {"allow_empty": "no"}}, "consent.allow_empty"),
        ({"place": {"h3_resolution": 16}}, "place.h3_resolution"),
        ({"place": {"zone_attraction": 0.0}}, "place.zone_attraction"),
        ({"place": {"min_presence": 1.0}}, "place.min_presence"),
        ({"place": {"max_bad_reference": 1.1}}, "place.max_bad_reference"),
        ({"flows": {"max_pair_km": -1.0}}, "flows.max_pair_km"),
        ({"people": {"participant_share": 0.0}}, "people.participant_share"),
        ({"people": {"catchment_resolution": 12}}, "people.catchment_resolution"),
        ({"privacy": {"min_devices": 0}}, "privacy.min_devices"),
        ({"privacy": {"min_devices": -30}}, "privacy.min_devices"),
        ({"privacy": {"rho_cap": 0.0}}, "privacy.rho_cap"),
        ({"privacy": {"display_deltas": []}}, "privacy.display_deltas"),
        ({"privacy": {"display_deltas": [0.01]}}, "privacy.display_deltas"),
        ({"privacy": {"participation": {"rho": 0.006}}}, "rho 0.006 is above rho_cap 0.005"),
        ({"privacy": {"participation": {"brands": ["a"]}}}, "rho 0.006 is above rho_cap 0.005"),
        (
            {"privacy": {"participation": {"brands": ["a", "a"], "rho": 0.004}}},
            "brands names one twice",
        ),
        ({"quality": {"max_volume_ratio": 1.0}}, "quality.max_volume_ratio"),
        ({"rewards": {"cents_per_day": 0.5}}, "rewards.cents_per_day"),
        ({"rewards": {"cents_by_brand": {"acme": -1}}}, "rewards.cents_by_brand"),
        ({"rewards": {"pool_by_month": {"2026-13": 5}}}, "rewards.pool_by_month"),
        ({"rewards": {"currency": "€"}}, "rewards.currency"),
        ({"paths": {"landing": ""}}, "paths.landing"),
        ({"inputs": {"events": {"columns": {"cell_id": {}}}}}, "either `column` or `value`"),
        (
            {"inputs": {"events": {"columns": {"cell_id": {"column": "a", "value": "b"}}}}},
            "either `column` or `value`",
        ),
        (
            {"inputs": {"events": {"columns": {"cell_id": {"column": "a", "encoding": "rot13"}}}}},
            "encoding",
        ),
        (
            {"inputs": {"events": {"columns": {"cell_id": {"column": "a", "timezone": "Mars"}}}}},
            "unknown timezone 'Mars'",
        ),
    ],
    ids=str,
)
def test_an_impossible_value_is_named(overlay: Mapping[str, Any], place: str) -> None:
    assert place in complaint_about(overlay)


# ----------------------------------------------------------------------------------- the roots


@pytest.mark.parametrize(
    ("restricted", "published"),
    [
        ("warehouse", "warehouse"),
        ("warehouse", "warehouse/"),
        ("./warehouse", "warehouse"),
        ("a//b", "a/b"),
        ("warehouse", "warehouse/published"),
        ("warehouse/published/restricted", "warehouse/published"),
        ("/data", "/data/published"),
        ("hdfs:///footfall", "hdfs:///footfall/published"),
        ("warehouse/x/../published", "warehouse/published"),
        (".", "published"),
        ("/", "/data/published"),
    ],
)
def test_roots_that_are_equal_or_nested_are_refused(restricted: str, published: str) -> None:
    paths = {"restricted": restricted, "published": published}
    assert "must lie apart" in complaint_about({"paths": paths})


@pytest.mark.parametrize(
    ("restricted", "published"),
    [
        ("warehouse/restricted", "warehouse/published"),
        ("data/published-not", "data/published"),
        ("/published", "published"),
        ("hdfs:///a/restricted", "hdfs:///a/published"),
    ],
)
def test_roots_that_only_look_alike_are_fine(restricted: str, published: str) -> None:
    paths = {"restricted": restricted, "published": published, "keys": "/k", "reports": "/r"}
    valid({"paths": paths})


def test_keys_and_reports_need_a_folder_when_the_tables_lie_elsewhere() -> None:
    found = complaint_about({"paths": {"restricted": "s3a://safe/here"}})
    for name in ("keys", "reports"):
        assert f"paths.{name}: must be named as a mounted folder" in found
    assert "found 's3a://safe/keys'" in complaint_about({"paths": {"keys": "s3a://safe/keys"}})


def test_relative_paths_are_meant_from_the_folder_the_job_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.toml").write_text(
        '[paths]\nlanding = "in/../landing"\nkeys = "secret"\npublished = "file:///sold"\n'
    )
    monkeypatch.chdir(tmp_path)
    paths = load_settings("own.toml", {"restricted": "safe", "landing": None}).paths
    assert paths.landing == str(tmp_path / "landing")
    assert paths.restricted == str(tmp_path / "safe")
    assert paths.keys_folder == str(tmp_path / "secret")
    assert paths.reports_folder == str(tmp_path / "safe/reports")
    assert paths.published == "file:///sold"


@pytest.mark.parametrize("name", ["landing", "keys", "reports"])
def test_nothing_else_may_lie_below_published(name: str) -> None:
    paths = {"published": "out", name: f"out/{name}"}
    assert f"{name} and published must lie apart" in complaint_about({"paths": paths})


# ------------------------------------------------------------------------------------ the split


def test_the_default_split_spends_the_whole_cap_and_no_more() -> None:
    privacy = valid({}).privacy
    assert sum(budget.rho for budget in privacy.split.values()) == pytest.approx(privacy.rho_cap)


def test_a_split_above_the_cap_is_refused_with_both_figures() -> None:
    text = complaint_about(split(zone_days__visits={"cells": 4, "rho": 0.006}))
    assert "the split asks rho 0.101, the cap is 0.1 per subscriber-day" in text


def test_a_split_with_a_measure_that_does_not_exist_is_refused() -> None:
    text = complaint_about(split(zone_days__vistors={"cells": 4, "rho": 0.001}))
    assert "privacy.split: missing [], unknown ['zone_days.vistors']" in text


def test_a_split_without_one_of_the_measures_is_refused() -> None:
    text = complaint(without("privacy", "split", "zone_flows.trips"))
    assert "privacy.split: missing ['zone_flows.trips'], unknown []" in text


@pytest.mark.parametrize("wrong", [{"cells": 0}, {"cells": 1.5}, {"rho": 0.0}, {"rho": -0.01}])
def test_a_measure_needs_a_cell_and_some_rho(wrong: Mapping[str, Any]) -> None:
    text = complaint_about(split(zone_days__visits=wrong))
    assert f"privacy.split.zone_days.visits.{next(iter(wrong))}" in text


@given(
    shares=st.lists(st.integers(1, 40), min_size=len(MEASURES), max_size=len(MEASURES)),
    cap=st.integers(1, 200),
)
def test_a_split_is_valid_exactly_when_it_fits_the_cap(shares: list[int], cap: int) -> None:
    measures = {
        measure.full_name: {"cells": 4, "rho": share / 1000}
        for measure, share in zip(MEASURES, shares, strict=True)
    }
    overlay = {"privacy": {"rho_cap": cap / 1000, "split": measures}}
    if sum(shares) <= cap:
        valid(overlay)
    else:
        assert "the split asks rho" in complaint_about(overlay)


# ------------------------------------------------------------------------------------ exit code


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a session was started")

    monkeypatch.setattr(runtime, "spark_session", started)


def ended(*arguments: str) -> int:
    return run_job(lambda night: None, description="", argv=arguments, now=lambda: NOW)


def conf_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[privacy]\nmin_devices = 0\n", "privacy.min_devices"),
        ("[visits]\nmax_gpa = 60\n", "[visits] unknown ['max_gpa']"),
        ("[visits\n", "a readable TOML file"),
    ],
)
def test_bad_settings_end_a_job_with_2_before_a_session_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    assert ended("--conf", conf_file(tmp_path, text), "--day", "2026-11-23") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: settings ")
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("no_session")
def test_settings_that_are_not_there_end_a_job_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended("--conf", str(tmp_path / "none.toml"), "--day", "2026-11-23") == 2
    assert "found no such file" in capsys.readouterr().err


@pytest.mark.usefixtures("no_session")
def test_roots_given_on_the_command_line_are_held_to_the_same_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = ("--restricted", "here", "--published", "here")
    assert ended("--conf", conf_file(tmp_path, ""), "--day", "2026-11-23", *roots) == 2
    assert "restricted and published must lie apart" in capsys.readouterr().err


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("day", ["2026-11-24", "2026-11-25", "2027-01-01", "23.11.2026", "today"])
def test_a_day_that_is_not_over_or_no_day_ends_a_job_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], day: str
) -> None:
    assert ended("--conf", conf_file(tmp_path, ""), "--day", day) == 2
    assert capsys.readouterr().err.startswith("error: --day: found ")


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize(
    "arguments", [(), ("--conf", "conf/demo.toml"), ("--day", "2026-11-23"), ("--what",)]
)
def test_wrong_arguments_end_a_job_with_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ending:
        ended(*arguments)
    assert ending.value.code == 2


def test_a_day_is_over_at_local_midnight() -> None:
    berlin = valid({})
    before, after = (
        datetime(2026, 11, 23, 22, 59, 59, tzinfo=UTC),
        datetime(2026, 11, 23, 23, tzinfo=UTC),
    )
    assert parsed_day("2026-11-23", settings=berlin, now=after) == date(2026, 11, 23)
    with pytest.raises(Misused, match="which is not over"):
        parsed_day("2026-11-23", settings=berlin, now=before)
