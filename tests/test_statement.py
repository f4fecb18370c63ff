"""The statement: every figure is that of a query, what is missing is said, text stays text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.frames import local_frame
from jobs.render_statement import render_statement
from jobs.runtime import load_settings, night_of
from tests.ledger_entries import DAY, entry, ledger, night, participants
from tests.reading import Reading, words
from tests.test_certificates import FIRST as CERTIFICATE
from tests.test_show_budget import frame
from transforms import budget
from transforms.ledger import Entry
from transforms.risks import Attack, risk_of
from transforms.settings import Settings
from transforms.statement import Evidence, retention, statement
from transforms.tables import ATTACKS, MEASURES, RELEASES, TABLES

PROJECT = Path(__file__).parent.parent
SETTINGS = load_settings(str(PROJECT / "conf/base.toml"))
FIRST = date(2026, 11, 1)
RESTRICTED = [table for table in TABLES if table.root == "restricted"]
EVIL = "<script>alert(1)</script>\"'&"


def attack(name: str, score: float = 0.61, *, view: str = "release", within: bool = True) -> Attack:
    return Attack(
        release_id=f"{DAY}-1",
        attack=name,
        attacker="somebody",
        score=score,
        standard_error=0.012,
        bound=0.648,
        within_bound=within,
        attacked_at=datetime(2026, 11, 25, 5, 0, tzinfo=UTC),
        view=view,
    )


ATTACKED = (
    attack("membership_worst_case_day", 1.0, view="unprotected", within=False),
    attack("membership_worst_case_day", 0.617),
    attack("linkage of days", 0.503),
    attack("trajectory_recovery", 0.121),
    attack("epsilon audit", 1.234),
)


def page(
    *entries: Entry,
    attacks: Sequence[Attack] = (),
    filled: frozenset[str] = frozenset(),
    settings: Settings = SETTINGS,
) -> str:
    return statement(Evidence(ledger(*entries), attacks, filled), day=DAY, settings=settings)


@pytest.fixture(scope="module")
def html() -> str:
    return page(*night(), participants(FIRST), attacks=ATTACKED, filled=frozenset({"ops.runs"}))


def changed(settings: Settings, **sections: dict[str, object]) -> Settings:
    return settings.model_copy(
        update={
            name: getattr(settings, name).model_copy(update=values)
            for name, values in sections.items()
        }
    )


# ------------------------------------------------------------------------- figures are of queries


def test_the_day_s_guarantee_is_that_of_the_ledger(html: str) -> None:
    spent = sum(one.rho for one in night())
    text = words(html)
    assert f"ρ = {spent:.4g}" in text
    for delta, power in ((1e-9, "10⁻⁹"), (1e-6, "10⁻⁶")):
        assert f"at δ = {power} ε = {budget.epsilon(spent, delta=delta):.2f}" in text
    assert f"is right at most {budget.right_of_100(spent)} of 100 times instead of 50" in text


def test_another_ledger_gives_other_figures() -> None:
    text = words(page(entry(rho=0.02)))
    assert "ρ = 0.02" in text and "ρ = 0.1 " not in text
    assert f"is right at most {budget.right_of_100(0.02)} of 100 times instead of 50" in text
    assert budget.right_of_100(0.02) != budget.right_of_100(0.1)


def test_the_windows_add_up_the_ledger_and_the_promise_the_caps() -> None:
    days = [one for back in range(3) for one in night(DAY - timedelta(days=back))]
    spent, promised = words(page(*days, participants(FIRST))).split("At most, when every day")
    assert f"7 days from 2026-11-18 3 of 7 0.3 {budget.epsilon(0.3, delta=1e-9):.2f}" in spent
    assert "30 days from 2026-10-26 3 of 30 0.305 0.005 monthly" in spent
    assert "7 days from 2026-11-18 7 of 7 0.7 7.44 5.92 0.446 0.799 73" in promised
    assert "30 days from 2026-10-26 30 of 30 3.005 0.005 monthly 17.20 14.10" in promised


def test_the_settings_caps_and_cells_are_told_not_literals() -> None:
    split = {
        name: share.model_copy(update={"rho": share.rho / 2, "cells": share.cells + 5})
        for name, share in SETTINGS.privacy.split.items()
    }
    other = changed(
        SETTINGS,
        privacy={"rho_cap": 0.05, "min_devices": 77, "split": split},
        visits={"max_gap": 43, "min_dwell": 11, "max_dwell": 291},
    )
    text = words(page(settings=other))
    assert "How the settings divide the cap of ρ 0.05" in text
    for number in ("from 77 noisy phones on", "silence of 43 minutes", "from 11 minutes on"):
        assert number in text
    assert text.count("291 minutes") == 2
    visitors = budget.calibrated(MEASURES[0], split["zone_hours.visitors"])
    assert (
        f"zone_hours.visitors {visitors.l0} {visitors.l2:.3g} {visitors.rho:.4g} "
        f"{visitors.sigma:.3g} {visitors.threshold(77):.0f}"
    ) in text
    assert f"4 people: ρ up to {16 * 0.05:.4g} a day" in text


def test_a_group_costs_the_square_of_its_size(html: str) -> None:
    cap = SETTINGS.privacy.rho_cap
    for people in (2, 4):
        rho = people * people * cap
        right = budget.right_of_100(rho)
        told = f"{people} people: ρ up to {rho:.4g} a day, right at most {right} of 100 times"
        assert told in words(html)


def test_the_ledger_of_the_day_is_told_by_measure(html: str) -> None:
    text = words(html)
    assert "Release 2026-11-24-1, ρ 0.1" in text
    for one in night():
        assert f"{one.full_name} {one.rho:.4g} 8 2.83 10.7 437 of 648" in text
    assert "drawn for November 2026: ρ 0.005 of a cap of 0.005" in text


def test_a_restatement_is_told_with_what_it_supersedes() -> None:
    second = entry(rho=0.01, number=2, supersedes="2026-11-24-1")
    text = words(page(entry(rho=0.02), second))
    assert text.index("Release 2026-11-24-1, ρ 0.02") < text.index("Release 2026-11-24-2, ρ 0.01")
    assert "supersedes 2026-11-24-1, which stays spent" in text
    assert "ρ = 0.03" in text


def test_a_release_that_is_not_published_to_the_end_says_so() -> None:
    text = words(page(*[replace(one, rows=None, suppressed=None) for one in night()]))
    assert "This release is open" in text and "Claimed 2026-11-25 03:01 UTC" in text
    assert "1 day from 2026-11-24 0 of 1 0.1" in text
    assert "This release is open" not in words(page(*night()))


def test_a_day_over_its_cap_is_told_loudly() -> None:
    text = words(page(*night(), entry(rho=0.02, number=2)))
    assert "More was spent than promised. The entries of 2026-11-24 add up to ρ 0.12" in text
    assert "More was spent than promised" not in words(page(*night()))


def test_a_day_without_release_says_so() -> None:
    text = words(page(*night(DAY - timedelta(days=1))))
    assert "The ledger holds no release of this day" in text
    assert "There is no release of this day." in text
    assert "7 days from 2026-11-18 1 of 7 0.1" in text


# --------------------------------------------------------------------------------- attack scores


def test_scores_stand_below_the_risk_they_measure(html: str) -> None:
    text = words(html)
    singling, rest = text.split("Singling out Every figure")[1].split("Linkability What is")
    linking, rest = rest.split("Inference Noise is")
    inferring, guarantee = rest.split("The guarantee itself Attacks on")
    at = "somebody 2026-11-24-1, 2026-11-25"
    line = f"membership worst case day {at} 1.000 0.617 ± 0.012 0.648 within"
    assert line in singling
    assert "linkage of days somebody 2026-11-24-1, 2026-11-25 – 0.503 ± 0.012" in linking
    assert "trajectory recovery" in inferring
    assert "epsilon audit somebody 2026-11-24-1, 2026-11-25 – 1.234" in guarantee
    assert "Not measured" not in text


def test_missing_attacks_are_said_and_no_figure_is_invented() -> None:
    text = words(page(*night()))
    missing = "Not measured for this release: run make attack."
    assert text.count(missing) == 3
    risks = text.split("The three risks")[-1].split("The ledger of the day")[0]
    assert re.findall(r"\d+\.\d+", risks) == []


def test_scores_of_another_night_say_nothing_about_this_one() -> None:
    other = replace(attack("linkage of days", 0.777), release_id="2026-11-23-1")
    text = words(page(*night(), attacks=[other]))
    assert "0.777" not in text
    assert text.count("Not measured for this release") == 3


def test_a_risk_without_a_score_says_so_when_others_have_one() -> None:
    text = words(page(*night(), attacks=[attack("linkage of days")]))
    assert text.count("No attack on this risk was measured for this release.") == 2


def test_a_broken_bound_is_told_loudly(html: str) -> None:
    broken = attack("membership_weak", 0.93, within=False)
    text = words(page(*night(), attacks=[broken]))
    assert "An attack broke its bound: membership weak on 2026-11-24-1 reached 0.930" in text
    assert "An attack broke its bound" not in words(html), "an unprotected score is no breach"


@pytest.mark.parametrize(
    ("name", "risk"),
    [
        ("membership inference, weak", "Singling out"),
        ("difference before and after one opt-out", "Singling out"),
        ("nested zones and totals", "Singling out"),
        ("dictionary on pseudonyms", "Linkability"),
        ("linkage_between_days", "Linkability"),
        ("averaging over repeats", "Inference"),
        ("trajectory recovery", "Inference"),
        ("something new", "The guarantee itself"),
    ],
)
def test_every_attack_of_the_design_belongs_to_a_risk(name: str, risk: str) -> None:
    assert risk_of(name) == risk


# ------------------------------------------------------------------- what is stored, and how long


def test_every_restricted_table_is_named_with_all_its_columns(html: str) -> None:
    text = words(html).split("All restricted tables")[1]
    for table in RESTRICTED:
        told = text.split(f"{table.name} ", 1)[1]
        assert " ".join(table.doc.split()) in told
        for column in table.columns:
            assert f"{column.name} {column.comment}" in told, f"{table.name}.{column.name}"


def test_tables_that_are_empty_are_told_from_those_that_hold_something(html: str) -> None:
    text = words(html).split("All restricted tables")[1]
    assert "ops.runs Nights" in text
    assert "rewards.ledger by identity · empty What" in text
    assert "silver.visits by pseudonym · empty Stays" in text


def test_a_certificate_is_claimed_only_where_there_is_one(html: str) -> None:
    assert "No certificate of this has been written" in words(html)
    written = page(*night(), filled=frozenset({"ops.consent_certificates"}))
    assert "No certificate of this has been written" not in words(written)
    assert "Each release's certificate is in ops.consent_certificates" in words(written)


def test_the_regime_is_that_of_the_settings(html: str) -> None:
    assert "is set to an opt-out regime" in words(html)
    text = words(page(settings=changed(SETTINGS, consent={"default": "opt_in"})))
    assert "is set to an opt-in regime" in text and "opt-out regime" not in text


def test_an_installed_key_store_is_named_and_not_vouched_for(html: str) -> None:
    text = words(page(settings=changed(SETTINGS, keys={"store": "vault"})))
    assert "key store vault, which is told to destroy it" in text
    assert "can't vouch for it" in text and "the file is overwritten" not in text
    assert "It is in a file that only the job's account can read" in words(html)


def test_every_input_is_told_with_the_columns_that_are_read(html: str) -> None:
    text = words(html)
    assert "subscriber_id, event_time, cell_id, event_type" in text
    for name in type(SETTINGS.inputs).model_fields:
        assert f"{name} {getattr(SETTINGS.inputs, name).path}" in text


def test_how_long_each_table_is_kept_is_that_of_the_settings() -> None:
    limits = {**SETTINGS.retention, "silver.visits": 5, "ops.runs": "kept"}
    settings = SETTINGS.model_copy(update={"retention": limits})
    told = {name: one for one in retention(settings) for name in re.findall(r"\w+\.\w+", one.what)}
    assert set(told) == {table.name for table in RESTRICTED}
    for table in RESTRICTED:
        limit = limits[table.name]
        wanted = ("kept", "no limit") if limit == "kept" else (f"{limit} days", "enforced")
        assert (told[table.name].limit, told[table.name].state) == wanted
    text = words(page(settings=settings))
    assert "silver.visits, by pseudonym 5 days Older rows are erased each night" in text
    assert "consent.objections, by fingerprint kept" in text


# --------------------------------------------------------------------- a page that is safe to open


def test_hostile_text_is_text_everywhere() -> None:
    evil = replace(
        entry(),
        product=EVIL,
        measure=EVIL,
        mechanism=EVIL,
        code_version=EVIL,
        method_version=EVIL,
        supersedes=EVIL,
    )
    inputs = {"events": SETTINGS.inputs.events.model_copy(update={"path": EVIL})}
    settings = changed(SETTINGS, paths={"landing": EVIL}, inputs=inputs)
    hostile = replace(attack(EVIL, within=False), attack=EVIL)
    html = page(evil, attacks=[hostile], settings=settings)
    reading = Reading(html)
    assert "script" not in reading.seen
    assert not re.search(r"<\s*script", html, re.IGNORECASE)
    assert words(html).count(EVIL) >= 8


def test_a_login_in_an_address_is_not_shown() -> None:
    login = {"restricted": "s3a://me:secret@bucket/r", "keys": "/k", "reports": "/r"}
    html = page(settings=changed(SETTINGS, paths=login))
    assert "secret" not in html
    assert "s3a://bucket/r" in words(html)


@pytest.mark.parametrize(
    "made",
    [page(), page(*night()), page(*night(), participants(FIRST), attacks=ATTACKED)],
    ids=["empty", "night", "attacked"],
)
def test_every_element_is_closed_every_link_leads_somewhere_and_nothing_is_loaded(
    made: str,
) -> None:
    reading = Reading(made)
    assert reading.open == []
    ids = [value for name, value in reading.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {value or "" for name, value in reading.attributes if name == "href"}
    assert links and {link.removeprefix("#") for link in links} <= set(ids)
    assert not {"src", "srcset", "action", "data"} & {name for name, _ in reading.attributes}
    assert not {"script", "link", "img", "iframe"} & set(reading.seen)
    assert "None" not in words(made) and "nan" not in words(made).split()


# ------------------------------------------------------------------------------- who is counted


def test_the_certificate_of_the_day_is_told_without_exact_small_counts() -> None:
    certificate = replace(CERTIFICATE, day=DAY).sealed(after=None)
    evidence = Evidence(ledger(*night()), (), frozenset(), certificates=[certificate])
    text = words(statement(evidence, day=DAY, settings=SETTINGS))
    assert f"Certificate 1, release {certificate.release_id}" in text
    assert "Left out, opted out 70" in text
    assert "fewer than 10, 7.2 h at most" in text, "not that there were two"
    assert certificate.hash in text
    assert "does not hold" not in text
    broken = replace(evidence, chain_faults=["certificate 1 was changed"])
    assert "The chain of certificates does not hold: certificate 1 was changed." in words(
        statement(broken, day=DAY, settings=SETTINGS)
    )
    assert "There is no certificate of this day." in words(page(*night()))


# -------------------------------------------------------------------------------------- the command


@pytest.mark.slow
def test_the_command_tells_what_the_tables_hold(spark: SparkSession, tmp_path: Path) -> None:
    conf = tmp_path / "own.toml"
    conf.write_text(
        f'[paths]\nrestricted = "{tmp_path}/restricted"\npublished = "{tmp_path}/published"\n'
    )
    done = night_of(load_settings(str(conf)), DAY, spark)
    done.store.append(RELEASES, frame(spark, *night(), participants(FIRST)))
    columns = [column.name for column in ATTACKS.columns]
    scored = local_frame(
        spark,
        [tuple(getattr(one, name) for name in columns) for one in (attack("linkage of days"),)],
        ATTACKS.schema,
    )
    done.store.append(ATTACKS, scored)
    path = render_statement(done)
    assert path == tmp_path / f"restricted/reports/statement-{DAY}.html"
    text = words(path.read_text(encoding="utf-8"))
    assert "Release 2026-11-24-1, ρ 0.1" in text
    assert "linkage of days somebody 2026-11-24-1, 2026-11-25 – 0.610 ± 0.012 0.648 within" in text
    stored = text.split("All restricted tables")[1]
    assert "ops.releases The privacy ledger" in stored and "ops.attacks Scores" in stored
    assert "ops.noisy_cells empty" in stored
    assert [one.name for one in path.parent.iterdir()] == [path.name], "nothing half written"
