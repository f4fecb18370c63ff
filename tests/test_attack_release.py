"""Attacks on a published night: a sound release withstands all, a broken one does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from jobs import attack_release
from jobs.attack_release import Findings, attack_and_tell, settled
from jobs.attacks import attackers, neighbours, readers
from jobs.attacks.scenarios import ATTACKS
from jobs.attacks.scene import QUICK, Attacked, Outcome, Scene
from jobs.frames import local_frame
from jobs.releases import noisy_cells
from jobs.run_night import run_night
from jobs.runtime import Night, load_settings, night_of, run_job
from tests.small_world import landing_of_small_world
from transforms import disclosure
from transforms.errors import Failed
from transforms.pseudonyms import pseudonymised
from transforms.risks import RISKS, risk_of
from transforms.settings import Settings
from transforms.tables import ATTACKS as SCORES
from transforms.tables import MEASURES, NOISY_CELLS, VISITS, ZONE_DAYS, ZONE_HOURS

DAY = date(2026, 11, 24)
NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
RELEASE = f"{DAY}-1"

WITHIN, ABOVE = Outcome(0.60, 0.624, 0.01), Outcome(0.66, 0.624, 0.01)
FAR_ABOVE, EXACT_BREACH = Outcome(0.73, 0.624, 0.01), Outcome(2.0, 1.0)
SUCCEEDS = Outcome(1.0, 0.624)


# -------------------------------------------------------------------------------- how it is judged


def test_a_score_may_lie_two_standard_errors_above_its_bound() -> None:
    assert Outcome(0.643, 0.624, 0.01).is_within
    assert not Outcome(0.645, 0.624, 0.01).is_within
    assert not Outcome(0.63, 0.624, 0.01, slack=0).is_within


def test_only_what_chance_may_explain_is_in_doubt() -> None:
    assert not ABOVE.is_beyond_doubt
    assert FAR_ABOVE.is_beyond_doubt
    assert EXACT_BREACH.is_beyond_doubt


@pytest.mark.parametrize(
    ("outcomes", "runs", "is_broken"),
    [
        ([WITHIN], 1, False),
        ([FAR_ABOVE], 1, True),
        ([EXACT_BREACH], 1, True),
        ([ABOVE, WITHIN], 2, False),
        ([ABOVE, ABOVE, WITHIN], 3, False),
        ([ABOVE, ABOVE, ABOVE], 3, True),
        ([ABOVE, FAR_ABOVE], 2, True),
    ],
)
def test_a_breach_in_doubt_is_looked_at_again_and_longer(
    outcomes: list[Outcome], runs: int, is_broken: bool
) -> None:
    left, efforts, seeds = iter(outcomes), [], []

    def attack(scene: Scene) -> Attacked:
        efforts.append(scene.effort.runs)
        seeds.append(scene.seed)
        return Attacked(SUCCEEDS, next(left))

    nothing: Scene = Scene(None, RELEASE, (), None, 0.1, QUICK)  # type: ignore[arg-type]
    found = settled(attack, nothing)
    assert found is not None and found.release.is_within is not is_broken
    assert efforts == [QUICK.runs, 4 * QUICK.runs, 4 * QUICK.runs][:runs]
    assert len(set(seeds)) == runs, "each time drawn anew"


def test_a_broken_release_and_a_toothless_attack_fail() -> None:
    sound = Findings(RELEASE, {"a": Attacked(SUCCEEDS, WITHIN)})
    sound.must_hold()
    assert sound.worst_margin == pytest.approx(0.044)
    broken = Findings(RELEASE, {**sound.attacks, "b": Attacked(SUCCEEDS, ABOVE)})
    with pytest.raises(Failed, match="broken by b"):
        broken.must_hold()
    toothless = Findings(RELEASE, {**sound.attacks, "c": Attacked(WITHIN, WITHIN)})
    with pytest.raises(Failed, match="toothless: c"):
        toothless.must_hold()


def test_margins_of_exact_bounds_that_hold_do_not_hide_the_others() -> None:
    exact = Attacked(Outcome(10, 1), Outcome(1, 1))
    assert Findings(RELEASE, {"a": exact}).worst_margin == 0
    assert Findings(RELEASE, {"a": exact, "b": Attacked(SUCCEEDS, WITHIN)}).worst_margin > 0
    assert Findings(RELEASE, {"a": Attacked(SUCCEEDS, EXACT_BREACH)}).worst_margin == -1


@pytest.mark.parametrize(
    ("word", "risk"),
    [
        ("membership", "Singling out"),
        ("opt_out", "Singling out"),
        ("total", "Singling out"),
        ("nested", "Singling out"),
        ("pseudonym", "Linkability"),
        ("averaging", "Inference"),
        ("trajectory", "Inference"),
        ("audit", "The guarantee itself"),
    ],
)
def test_the_statement_puts_every_attack_below_its_risk(word: str, risk: str) -> None:
    named = [name for name in ATTACKS if word in name]
    assert named
    assert {risk_of(name) for name in named} == {risk}
    assert {risk_of(name) for name in ATTACKS} == {*RISKS, "The guarantee itself"}


# ------------------------------------------------------------------------------ a published night

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Site:
    """A published night in a folder of its own."""

    root: Path

    @property
    def conf(self) -> str:
        return str(self.root / "own.toml")

    def settings(self, overlay: str = "") -> Settings:
        paths = {name: f"{self.root}/{name}" for name in ("restricted", "published")}
        Path(self.conf).write_text(
            f'[paths]\nlanding = "{self.root}/world/landing"\n'
            + "".join(f'{name} = "{path}"\n' for name, path in paths.items())
            + overlay
        )
        return load_settings(self.conf)

    def night(self, spark: SparkSession, overlay: str = "") -> Night:
        return night_of(self.settings(overlay), DAY, spark, now=lambda: NOW)

    def attack(self, overlay: str = "") -> int:
        """The command's exit code."""
        self.settings(overlay)
        return run_job(
            attack_and_tell,
            description="",
            flags={"quick": ""},
            argv=["--conf", self.conf, "--day", str(DAY), "--quick"],
            now=lambda: NOW,
        )

    def copy(self, to: Path) -> Site:
        shutil.copytree(self.root, to, dirs_exist_ok=True)
        return Site(to)


@pytest.fixture(scope="module")
def site(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("attacked"))
    landing_of_small_world(site.root / "world", subscribers=800, centres=4, last_day=str(DAY))
    run_night(site.night(spark))
    return site


@contextmanager
def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    with monkeypatch.context() as fewer:
        fewer.setattr(attack_release, "ATTACKS", {name: ATTACKS[name] for name in names})
        yield


def scores(night: Night) -> dict[tuple[str, str], Row]:
    return {(row.attack, row.view): row for row in night.store.read(SCORES).collect()}


def test_every_attack_succeeds_on_unprotected_data_and_none_on_the_release(
    site: Site, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.attack() == 0
    *shown, closing = capsys.readouterr().out.splitlines()
    said = json.loads(closing)
    assert said.keys() == {"attacks", "broken", "worst_margin"}
    assert (said["attacks"], said["broken"]) == (len(ATTACKS), 0)
    assert said["worst_margin"] >= 0
    night = site.night(spark)
    stored = scores(night)
    assert stored.keys() == {
        (name, view) for name in ATTACKS for view in ("unprotected", "release")
    }
    assert {key[1] for key, row in stored.items() if not row.within_bound} == {"unprotected"}
    for name in ATTACKS:
        assert any(line.startswith(name) for line in shown), "the terminal tells it"
        assert not stored[name, "unprotected"].within_bound
    reports = Path(night.settings.paths.reports_folder)
    for page in (f"{DAY}.html", f"statement-{DAY}.html"):
        text = (reports / page).read_text(encoding="utf-8")
        assert all(name.replace("_", " ") in text for name in ATTACKS)
        assert "run <span" not in text, "nothing is said to be unmeasured"


def test_noise_halved_by_the_settings_breaks_the_promise(
    site: Site,
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    split = site.settings().privacy.split
    lines = (
        f'"{name}" = {{ cells = {one.cells}, rho = {4 * one.rho} }}\n'
        for name, one in split.items()
    )
    overlay = f"[privacy]\nrho_cap = 0.4\n[privacy.split]\n{''.join(lines)}"
    with only(monkeypatch, "membership_worst_day"):
        assert site.attack(overlay) == 1
    ended = capsys.readouterr()
    assert json.loads(ended.out.splitlines()[-1])["broken"] == 1
    assert "broken by membership_worst_day" in ended.err
    assert "BROKEN" in ended.out
    assert not scores(site.night(spark))["membership_worst_day", "release"].within_bound


def test_a_day_that_was_not_published_is_not_attacked(site: Site, spark: SparkSession) -> None:
    other = night_of(site.settings(), date(2026, 11, 23), spark, now=lambda: NOW)
    with pytest.raises(Failed, match="nothing was attacked"):
        attack_and_tell(other, quick=True)


def draws(night: Night) -> int:
    return attackers.distinct_draws(*readers.reads_of_release(night, RELEASE))


def test_a_second_draw_is_found_wherever_it_hides(
    site: Site, spark: SparkSession, tmp_path: Path
) -> None:
    assert draws(site.night(spark)) == 1
    drawn_twice = site.copy(tmp_path / "noise").night(spark)
    withheld = noisy_cells(drawn_twice, RELEASE).where(F.col("product") == ZONE_HOURS.name)
    again = withheld.orderBy("noisy_devices").limit(1)  # too few: gold does not show it
    drawn_twice.store.append(
        NOISY_CELLS, again.withColumn("noisy_devices", F.col("noisy_devices") + 1)
    )
    assert draws(drawn_twice) == 2

    sold_twice = site.copy(tmp_path / "gold").night(spark)
    path = sold_twice.store.path(ZONE_DAYS.table)
    other = spark.read.format("delta").load(path).where("visitors is not null").limit(1)
    assert other.count() == 1, "something is published"
    other.withColumn("visitors", F.col("visitors") + 40).write.format("delta").mode("append").save(
        path
    )
    assert draws(sold_twice) == 2


def test_a_key_left_behind_gives_names_to_pseudonyms(
    site: Site, spark: SparkSession, tmp_path: Path
) -> None:
    night = site.copy(tmp_path / "key").night(spark)
    keys = readers.guessable_keys(night, RELEASE)
    assert "left behind" not in keys
    night.key.make()
    ids = readers.subscriber_ids(night, most=100)
    frame = local_frame(spark, [(one,) for one in ids], "subscriber_id string")
    under_it = frame.transform(pseudonymised, read_key=night.key)
    pseudonyms = {row.pseudonym for row in under_it.collect()}
    left_behind = readers.guessable_keys(night, RELEASE)
    night.key.destroy()
    assert attackers.reversed_share(pseudonyms, ids, left_behind) == 1
    assert attackers.reversed_share(pseudonyms, ids, keys) == 0


def test_more_cells_than_the_bound_break_the_promise(
    site: Site, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = disclosure.bounded

    def one_more(*args: object, l0: int, **others: object) -> object:
        return sound(*args, l0=l0 + 1, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(disclosure, "bounded", one_more)
    with only(monkeypatch, "audit_of_bounds"):
        findings = attack_release.attack_release(site.night(spark), quick=True)
    assert findings.broken == ["audit_of_bounds"]


def test_worlds_are_neighbours_in_one_subscriber_at_the_bounds(
    site: Site, spark: SparkSession
) -> None:
    night = site.night(spark)
    mechanisms = neighbours.attacked_mechanisms(night)
    assert [one.name for one in mechanisms] == [one.full_name for one in MEASURES]
    pair = neighbours.neighbours(night, neighbours.worst_crowds(mechanisms), worlds=2)
    gap = (pair.present - pair.absent) / disclosure.UNITS
    rho = ((gap / pair.sigma) ** 2).sum(axis=1) / 2
    assert rho == pytest.approx([0.1, 0.1])
    assert night.of_day(VISITS).count() > 0
