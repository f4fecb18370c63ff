"""Rewards of one site, month by month: cut short, closed once, exported once, corrected later."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs import settle_rewards as job
from jobs.erase_subscribers import FILES, erase_subscribers
from jobs.runtime import run_job
from jobs.store import Store
from tests.small_world import write_decisions
from transforms.tables import (
    REWARDS_CORRECTIONS,
    REWARDS_LEDGER,
    REWARDS_MONTHS,
    VISITS,
    Table,
)

pytestmark = pytest.mark.slow

BERLIN = ZoneInfo("Europe/Berlin")
SEPTEMBER, OCTOBER = date(2025, 9, 1), date(2025, 10, 1)
NOVEMBER, DECEMBER = date(2025, 11, 1), date(2025, 12, 1)
PER_DAY = {"cents_per_day": 10, "cents_by_brand": "{ acme = 12 }", "monthly_cap": 250}
POOL = {"mode": '"pool"', "pool_by_month": '{ "2025-10" = 1001, "2025-11" = 1000 }'}


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


class Decision(NamedTuple):
    who: str
    action: str
    decided_at: datetime
    received_at: datetime | None = None


@dataclass(frozen=True)
class Site:
    """One installation: `acme` asks before anybody takes part, the others don't."""

    root: Path

    def configure(self, **rules: Any) -> None:
        lines = [f"{name} = {value}" for name, value in {**PER_DAY, **rules}.items()]
        paths = [
            f'{name} = "{self.root / name}"' for name in ("landing", "restricted", "published")
        ]
        text = [
            "[paths]",
            *paths,
            "[consent]",
            'by_brand = { acme = "opt_in" }',
            "[rewards]",
            *lines,
        ]
        (self.root / "site.toml").write_text("\n".join(text), encoding="utf-8")

    def subscribe(self, brands: dict[str, str]) -> None:
        rows = [
            {"subscriber_id": who, "brand": brand, "area": "8a1"} for who, brand in brands.items()
        ]
        self._deliver("subscribers/all.parquet", pa.Table.from_pylist(rows))

    def decide(self, file: str, decisions: Iterable[Decision]) -> None:
        write_decisions(
            self.root / f"landing/decisions/{file}.parquet",
            (
                (
                    f"{one.who} {one.action} {one.decided_at}",
                    one.who,
                    one.action,
                    True,
                    one.decided_at,
                    one.received_at or one.decided_at,
                    "web",
                )
                for one in decisions
            ),
        )

    def see(self, who: str, at: datetime) -> None:
        row = {
            "subscriber_id": who,
            "event_time": at,
            "cell_id": "c1",
            "event_type": "data",
            "brand": BRANDS[who],
        }
        self._deliver(f"events/date={at:%Y-%m-%d}/1.parquet", pa.Table.from_pylist([row]))

    def _deliver(self, path: str, table: pa.Table) -> None:
        file = self.root / "landing" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file)

    def settle(self, month: date, *, at: str) -> int:
        argv = ["--conf", str(self.root / "site.toml"), "--day", month.replace(day=17).isoformat()]
        return run_job(job.settle_rewards, description="", argv=argv, now=lambda: local(at))

    def rows(self, table: Table) -> list[dict[str, Any]]:
        path = self.root / "restricted" / table.path
        if not path.exists():
            return []
        return DeltaTable(str(path)).to_pyarrow_table().to_pylist()

    def ledger(self, month: date) -> dict[str, tuple[int, int]]:
        """-> days and cents by subscriber."""
        rows = [row for row in self.rows(REWARDS_LEDGER) if row["month"] == month]
        found = {row["subscriber_id"]: (row["days_taken_part"], row["amount"]) for row in rows}
        assert len(found) == len(rows)
        assert {row["currency"] for row in rows} <= {"EUR"}
        return found

    def month(self, month: date) -> dict[str, Any]:
        (row,) = [row for row in self.rows(REWARDS_MONTHS) if row["month"] == month]
        return row

    def balance(self, month: date) -> tuple[int, int, int, int]:
        entry = self.month(month)
        assert entry["paid"] == sum(cents for _, cents in self.ledger(month).values())
        assert entry["paid"] == sum(int(line[2]) for line in self.export(month)[1:])
        return entry["pool"], entry["carried_in"], entry["paid"], entry["carried_out"]

    def corrections(self, month: date) -> dict[tuple[str, date], tuple[int, int]]:
        return {
            (row["subscriber_id"], row["corrected_month"]): (row["days_taken_part"], row["amount"])
            for row in self.rows(REWARDS_CORRECTIONS)
            if row["month"] == month
        }

    def export(self, month: date) -> list[list[str]]:
        """Lines that billing reads, the header first."""
        folder = self.root / f"restricted/{REWARDS_LEDGER.path}_export/{month:%Y-%m}"
        if not (folder / "_SUCCESS").exists():
            return []
        parts = [list(csv.reader(file.open())) for file in sorted(folder.glob("part-*.csv"))]
        return [parts[0][0], *sorted(line for part in parts for line in part[1:])]

    def checksums(self, folder: str = ".") -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (self.root / "restricted" / folder).rglob("*")
            if path.is_file()
        }


BRANDS = {
    "stays": "o2",
    "left": "o2",
    "late_out": "eplus",
    "joined": "acme",
    "late_in": "acme",
    "later_in": "acme",
    "never_asked": "acme",
}
FIRST = [
    Decision("left", "opt_out", local("2025-09-10T12:00")),
    Decision("joined", "opt_in", local("2025-09-21T00:00")),
    Decision("never_asked", "status_check", local("2025-09-21T00:00")),
]
SEPTEMBERS = {"stays": (30, 250), "left": (9, 90), "late_out": (30, 250), "joined": (10, 120)}


@pytest.fixture(scope="module")
def site(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The tests of this module go on from each other: one month after the other."""
    found = Site(tmp_path_factory.mktemp("rewards"))
    found.configure()
    found.subscribe(BRANDS)
    found.decide("1", FIRST)
    return found


def test_a_month_is_not_settled_before_it_is_over(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.settle(SEPTEMBER, at="2025-09-30T23:59") == 2
    error = capsys.readouterr().err
    assert "found a day of 2025-09, which is not over, expected a day before 2025-09-01" in error
    assert site.rows(REWARDS_LEDGER) == site.rows(REWARDS_MONTHS) == []


def test_the_ledger_is_the_same_whatever_the_events(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reckoned twice, as it was cut short before its close: first without any event, then with
    some of who opted out, and with events and visits that nobody could read.
    """
    with monkeypatch.context() as broken:
        broken.setattr(job, "_enter", no_disk)
        assert site.settle(SEPTEMBER, at="2025-10-01T00:00") == 1
    assert site.rows(REWARDS_MONTHS) == site.export(SEPTEMBER) == []
    without_events = site.ledger(SEPTEMBER)

    site.see("left", local("2025-09-17T12:00"))
    for folder in ("landing/events/date=2025-09-18", f"restricted/{VISITS.path}"):
        (site.root / folder).mkdir(parents=True)
        (site.root / folder / "part-0.parquet").write_bytes(b"no parquet")
    with monkeypatch.context() as broken:
        broken.setattr(Store, "export", no_disk)
        assert site.settle(SEPTEMBER, at="2025-10-01T04:00") == 1
    assert site.month(SEPTEMBER)["closed_at"] == local("2025-10-01T04:00")
    assert site.ledger(SEPTEMBER) == without_events == SEPTEMBERS


def no_disk(*_: object, **__: object) -> None:
    raise OSError("no space left")


def test_cut_short_before_its_export_a_closed_month_is_exported_as_it_was_closed(
    site: Site,
) -> None:
    assert site.month(SEPTEMBER)["exported_at"] is None
    site.decide(
        "2",
        [
            Decision("late_in", "opt_in", local("2025-09-11T00:00"), local("2025-10-01T05:00")),
            Decision("late_out", "opt_out", local("2025-09-20T12:00"), local("2025-10-01T05:00")),
        ],
    )
    folder = site.root / f"restricted/{REWARDS_LEDGER.path}_export/2025-09"
    folder.mkdir(parents=True)
    (folder / "part-00000-of-before.csv").write_text("half a fi")
    assert site.settle(SEPTEMBER, at="2025-10-01T06:00") == 0
    assert site.ledger(SEPTEMBER) == SEPTEMBERS
    assert site.export(SEPTEMBER) == [
        ["subscriber_id", "month", "amount", "currency"],
        *(
            [who, "2025-09-01", str(amount), "EUR"]
            for who, (_, amount) in sorted(SEPTEMBERS.items())
        ),
    ]
    assert site.month(SEPTEMBER)["exported_at"] == local("2025-10-01T06:00")


def test_closing_again_changes_no_byte(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    before = site.checksums()
    site.configure(cents_per_day=99)
    assert site.settle(SEPTEMBER, at="2025-10-02T06:00") == 0
    assert site.checksums() == before
    told = capsys.readouterr().out
    assert "2025-09 is closed: nothing to do" in told
    assert "subscribers: fewer than 10 took part on 70 days" in told
    assert not [who for who in BRANDS if who in told]


def test_what_was_learned_after_the_close_comes_out_of_the_next_pool(site: Site) -> None:
    """By the terms of the month it is for: those of September were per day."""
    site.configure(**POOL, monthly_cap=300)
    assert site.settle(OCTOBER, at="2025-11-01T06:00") == 0
    assert site.corrections(OCTOBER) == {("late_in", SEPTEMBER): (20, 240)}
    # 761 for 93 days: 8.18 a day
    assert site.ledger(OCTOBER) == {
        "stays": (31, 253),
        "joined": (31, 253),
        "late_in": (31, 253 + 240),
    }
    assert site.balance(OCTOBER) == (1001, 0, 999, 2)
    assert site.ledger(SEPTEMBER) == SEPTEMBERS, "who opted out late has earned it"


def test_the_look_back_ends_corrections_and_what_the_cap_cut_off_is_carried_over(
    site: Site,
) -> None:
    site.decide(
        "3", [Decision("later_in", "opt_in", local("2025-09-21T00:00"), local("2025-11-10T00:00"))]
    )
    site.configure(**POOL, monthly_cap=150, look_back=1)
    assert site.settle(NOVEMBER, at="2025-12-01T06:00") == 0
    assert site.corrections(NOVEMBER) == {("later_in", OCTOBER): (31, 253)}
    # 1000 + 2 - 253 for 120 days would be 187 each
    assert site.ledger(NOVEMBER) == {
        "stays": (30, 150),
        "joined": (30, 150),
        "late_in": (30, 150),
        "later_in": (30, 150 + 253),
    }
    assert site.balance(NOVEMBER) == (1000, 2, 853, 149)


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        (POOL, "rewards.pool_by_month: found none for 2025-12"),
        ({"currency": '"CHF"'}, "rewards.currency: found CHF, expected EUR, as in 2025-11"),
    ],
    ids=["no pool", "another currency"],
)
def test_a_month_that_can_not_be_paid_is_not_closed(
    site: Site, capsys: pytest.CaptureFixture[str], rules: dict[str, str], complaint: str
) -> None:
    before = site.checksums("rewards")
    site.configure(**rules)
    assert site.settle(DECEMBER, at="2026-01-01T06:00") == 2
    assert complaint in capsys.readouterr().err
    assert site.checksums("rewards") == before


def test_who_is_erased_is_in_no_ledger_or_export_and_earns_nothing_more(site: Site) -> None:
    """Though the subscriber is still delivered, as is the decision to take part."""
    site.configure()
    (site.root / "ids.txt").write_text("late_in")
    argv = ["--conf", str(site.root / "site.toml"), "--day", "2025-12-17"]
    argv += ["--ids", str(site.root / "ids.txt")]
    early = local("2026-01-01T05:00")
    assert any(line[0] == "late_in" for line in site.export(NOVEMBER))
    assert (
        run_job(erase_subscribers, description="", files=FILES, argv=argv, now=lambda: early) == 0
    )
    assert {line[0] for line in site.export(NOVEMBER)[1:]} == {"stays", "joined", "later_in"}
    assert site.settle(DECEMBER, at="2026-01-01T06:00") == 0
    assert set(site.ledger(DECEMBER)) == {"stays", "joined", "later_in"}
    assert "late_in" not in str(site.rows(REWARDS_LEDGER) + site.rows(REWARDS_CORRECTIONS))
