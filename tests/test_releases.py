"""The ledger on a real folder: spent before it is drawn, drawn once, whatever happens twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import releases
from jobs.releases import Entry
from jobs.runtime import Night, load_settings, night_of
from transforms import disclosure
from transforms.errors import Refused
from transforms.tables import MEASURES, NOISY_CELLS, RELEASES

pytestmark = pytest.mark.slow

DAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)
HALF = "\n".join(
    ["[privacy.split]", *(f'"{one.full_name}" = {{ rho = 0.00625 }}' for one in MEASURES)]
)
"""Every measure costs an eighth of half the cap: two releases fit a day, a third does not."""


@pytest.fixture
def night(spark: SparkSession, tmp_path: Path) -> Night:
    conf = tmp_path / "half.toml"
    conf.write_text(
        f'[paths]\nlanding = "{tmp_path}/landing"\nrestricted = "{tmp_path}/restricted"\n'
        f'published = "{tmp_path}/published"\n{HALF}\n'
    )
    return night_of(load_settings(str(conf)), DAY, spark, now=lambda: NOW)


def counts(night: Night, entry: Entry, *, cells: int = 40) -> DataFrame:
    """Exact counts of as many cells of every measure."""
    zones = night.spark.range(cells).select(F.col("id").cast("string").alias("zone_id"))
    frames = [
        zones.select(
            F.lit(one.measure.product).alias("product"),
            F.lit(one.measure.name).alias("measure"),
            F.create_map(F.lit("zone_id"), F.col("zone_id")).alias("keys"),
            F.lit(one.sigma).alias("sigma"),
            F.lit(1000 * disclosure.UNITS).alias("units"),
        )
        for one in entry.calibrations
    ]
    union = frames[0]
    for frame in frames[1:]:
        union = union.unionByName(frame)
    return union


def rows(night: Night) -> list[dict[str, Any]]:
    return [row.asDict() for row in night.store.read(RELEASES).collect()]


def noise(night: Night, entry: Entry) -> dict[tuple[str, str, str], float]:
    cells = releases.noisy_cells(night, entry.release_id).collect()
    found = {
        (row["product"], row.measure, row["keys"]["zone_id"]): row.noisy_devices for row in cells
    }
    assert len(found) == len(cells), "a cell was drawn twice"
    return found


def released(night: Night) -> Entry:
    entry = releases.open_or_next(night)
    releases.claim(night, entry)
    releases.draw(night, entry, counts(night, entry))
    return releases.close(night, entry)


def at_once(*works: Callable[[], object]) -> list[BaseException]:
    """Runs all of them at the same moment. -> what they raised"""
    start, raised = threading.Barrier(len(works)), []

    def run(work: Callable[[], object]) -> None:
        start.wait()
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_a_claim_is_spent_before_anything_is_drawn(night: Night) -> None:
    entry = releases.open_or_next(night)
    assert (entry.release_id, entry.supersedes, entry.is_closed) == ("2026-11-23-1", None, False)
    releases.claim(night, entry)
    assert sum(row["rho"] for row in rows(night)) == pytest.approx(0.05)
    assert {row["rows"] for row in rows(night)} == {None}
    assert not releases.is_drawn(night, entry)
    assert releases.newest(night) == entry


def test_a_claim_that_was_cut_short_goes_on_and_is_not_made_twice(night: Night) -> None:
    releases.claim(night, releases.open_or_next(night))
    again = releases.open_or_next(night)
    releases.claim(night, again)
    assert again.release_id == "2026-11-23-1"
    assert len(rows(night)) == len(MEASURES)


def test_noise_is_drawn_once_however_often_it_is_asked_for(night: Night) -> None:
    entry = releases.open_or_next(night)
    releases.claim(night, entry)
    releases.draw(night, entry, counts(night, entry))
    first = noise(night, entry)
    releases.draw(night, entry, counts(night, entry))
    assert releases.is_drawn(night, entry)
    assert noise(night, entry) == first
    assert len(set(first.values())) > len(first) / 4


def test_two_that_draw_at_once_leave_one_noise_and_one_spend(night: Night) -> None:
    entry = releases.open_or_next(night)
    night.store.create([RELEASES, NOISY_CELLS])
    raised = at_once(*[lambda: releases.claim(night, entry)] * 2)
    raised += at_once(*[lambda: releases.draw(night, entry, counts(night, entry))] * 2)
    assert all("Concurrent" in type(error).__name__ + str(error) for error in raised)
    assert len(rows(night)) == len(MEASURES)
    assert len(noise(night, entry)) == 40 * len(MEASURES)


def test_a_closed_release_says_what_stays_hidden(night: Night) -> None:
    entry = released(night)
    assert entry.is_closed
    assert releases.newest(night) == entry
    assert {row["rows"] for row in rows(night)} == {40}
    assert {row["suppressed"] for row in rows(night)} == {0}
    assert len(rows(night)) == len(MEASURES)


def test_a_restatement_supersedes_and_spends_what_is_left_and_no_more(night: Night) -> None:
    first = released(night)
    second = released(night)
    assert (second.release_id, second.supersedes) == ("2026-11-23-2", first.release_id)
    assert noise(night, first) != noise(night, second)
    assert sum(row["rho"] for row in rows(night)) == pytest.approx(0.10)
    before = rows(night)
    with pytest.raises(Refused, match=r"rho 0\.00625 asked, 0 of 0\.1 left"):
        releases.open_or_next(night)
    with pytest.raises(Refused, match=r"0 of 0\.1 left"):
        releases.claim(night, replace(second, release_id="2026-11-23-3"))
    assert rows(night) == before


def test_an_open_release_is_finished_by_the_settings_it_was_claimed_with(
    night: Night, spark: SparkSession
) -> None:
    claimed = releases.open_or_next(night)
    releases.claim(night, claimed)
    path = Path(night.store.restricted).parent / "half.toml"
    path.write_text(path.read_text().replace("0.00625", "0.00125"))
    other = night_of(load_settings(str(path)), DAY, spark, now=lambda: NOW)
    assert {one.rho for one in releases.open_or_next(other).calibrations} == {0.00625}


def test_the_tenth_release_comes_after_the_ninth(night: Night) -> None:
    entry = releases.open_or_next(night)
    for number in (9, 10):
        small = tuple(replace(one, rho=0.001) for one in entry.calibrations)
        one = replace(entry, release_id=f"2026-11-23-{number}", calibrations=small)
        releases.claim(night, one)
        releases.draw(night, one, counts(night, one, cells=2))
        releases.close(night, one)
    newest = releases.newest(night)
    assert newest is not None
    assert newest.release_id == "2026-11-23-10"


def test_participants_have_a_budget_of_their_own_once_a_month(night: Night) -> None:
    released(night)
    released(night)
    entry = releases.participants_entry(night)
    assert (entry.release_id, entry.day) == ("participation-2026-11", date(2026, 11, 1))
    releases.claim(night, entry)
    releases.draw(night, entry, counts(night, entry))
    assert releases.close(night, entry).is_closed
    assert releases.participants_entry(night).is_closed
    with pytest.raises(Refused, match=r"participation\.participants"):
        releases.claim(night, replace(entry, release_id="participation-2026-11-again"))


def test_more_than_opendp_proves_is_refused_before_it_is_claimed(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disclosure, "proven_rho", lambda one: one.rho * 1.01)
    with pytest.raises(Refused, match=r"rho 0\.0063125 proven"):
        releases.claim(night, releases.open_or_next(night))
    assert rows(night) == []
