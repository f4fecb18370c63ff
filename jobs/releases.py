"""The privacy ledger, and the noise it paid for.

    claim ──────────> draw ───> publish ──> close
    (what it spends)  (once)

A release is claimed before anything is drawn, so nothing is ever drawn that no ledger knows. A
night that was cut short goes on from where it stood: a claim is not made twice, noise that is
stored is never drawn again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from math import fsum

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs.frames import local_frame
from jobs.runtime import Night
from transforms import __version__, budget, disclosure, extrapolation
from transforms.budget import Budget, Calibration
from transforms.errors import Refused
from transforms.tables import (
    BRAND_SUBSCRIBERS,
    CONSENT_PERIODS,
    MEASURES,
    METHOD_VERSION,
    MONTHLY,
    NOISY_CELLS,
    PARTICIPANTS,
    REFERENCE_CELL_ZONES,
    REFERENCE_ZONES,
    RELEASES,
    VISITS,
    Measure,
)

_INPUTS = (REFERENCE_ZONES, REFERENCE_CELL_ZONES, CONSENT_PERIODS, VISITS)
_MEASURES: Mapping[tuple[str, str], Measure] = {
    (measure.product, measure.name): measure for measure in (*MEASURES, *MONTHLY)
}


@dataclass(frozen=True)
class Entry:
    """One release in the ledger: open from its claim until everything of it is published."""

    release_id: str
    day: date
    calibrations: tuple[Calibration, ...]
    published_at: datetime
    supersedes: str | None = None
    is_closed: bool = False

    @property
    def rho(self) -> float:
        return sum(one.rho for one in self.calibrations)

    def __str__(self) -> str:
        replaces = f", supersedes {self.supersedes}" if self.supersedes else ""
        return f"release {self.release_id}{replaces}"


def newest(night: Night) -> Entry | None:
    """The day's newest release, open or closed."""
    entries = _entries(_of_day(night, night.day.date, participants=False))
    return max(entries, key=lambda entry: _number(entry.release_id), default=None)


def entry_of(night: Night, release_id: str) -> Entry:
    """A release that is in the ledger."""
    [entry] = _entries(_of(night, release_id))
    return entry


def open_or_next(night: Night) -> Entry:
    """The day's release that was cut short, or else the next one by the settings.

    Raises `Refused` when the day has too little left for it.
    """
    before = newest(night)
    if before is not None and not before.is_closed:
        return before
    split = night.settings.privacy.split
    entry = Entry(
        release_id=f"{night.day.date}-{1 + (_number(before.release_id) if before else 0)}",
        day=night.day.date,
        calibrations=tuple(budget.calibrated(one, split[one.full_name]) for one in MEASURES),
        published_at=night.now(),
        supersedes=before.release_id if before else None,
    )
    _must_be_affordable(night, entry)
    return entry


def participants_entry(night: Night) -> Entry:
    """The month's release of who takes part: the one in the ledger, or one to be claimed."""
    month = night.day.first_of_month.date
    for entry in _entries(_of_day(night, month, participants=True)):
        return entry
    rules = night.settings.privacy.participation
    spent = {PARTICIPANTS: rules.rho} | (
        {BRAND_SUBSCRIBERS: rules.rho_by_brand} if rules.brands else {}
    )
    calibrations = tuple(Calibration(one, l0=1, rho=rho) for one, rho in spent.items())
    return Entry(f"participation-{month:%Y-%m}", month, calibrations, night.now())


def closed(night: Night) -> dict[date, list[Entry]]:
    """The published releases of each day, in order."""
    by_day: dict[date, list[Entry]] = {}
    for entry in sorted(_entries(lines(night)), key=lambda entry: _number(entry.release_id)):
        if entry.is_closed:
            by_day.setdefault(entry.day, []).append(entry)
    return by_day


def claim(night: Night, entry: Entry) -> None:
    """Enters what the release spends; raises `Refused` for more than what is left.

    A claim that is in the ledger already stays as it is.
    """
    if _of(night, entry.release_id):
        return
    _must_be_affordable(night, entry)
    for one in entry.calibrations:
        _must_be_proven(one)
    versions = {table.name: night.store.version(table) for table in _INPUTS}
    rows = [
        {
            "release_id": entry.release_id,
            "day": entry.day,
            "product": one.measure.product,
            "measure": one.measure.name,
            "rho": one.rho,
            "delta": 0.0,
            "l0": one.l0,
            "linf": one.linf,
            "l2": one.l2,
            "sigma": one.sigma,
            "mechanism": disclosure.MECHANISM,
            "method_version": METHOD_VERSION,
            "code_version": __version__,
            "input_versions": versions,
            "rows": None,
            "suppressed": None,
            "supersedes": entry.supersedes,
            "published_at": entry.published_at,
        }
        for one in entry.calibrations
    ]
    frame = local_frame(night.spark, rows, RELEASES.schema)
    night.store.append(RELEASES, frame, once=entry.release_id)


def is_drawn(night: Night, entry: Entry) -> bool:
    """Whether the noise of the release is stored; one commit holds all of it."""
    return not noisy_cells(night, entry.release_id).isEmpty()


def draw(night: Night, entry: Entry, counts: DataFrame) -> None:
    """Materialises the release's noise on exact `counts`, unless it has been: never twice."""
    noisy = disclosure.noised(counts).withColumn("release_id", F.lit(entry.release_id))
    night.store.append(NOISY_CELLS, noisy, once=entry.release_id)


def noisy_cells(night: Night, *release_ids: str) -> DataFrame:
    """The stored noise of releases: all that is published of them derives from these rows."""
    return night.store.read(NOISY_CELLS).where(F.col("release_id").isin(*release_ids))


def close(night: Night, entry: Entry) -> Entry:
    """Enters how many cells the release has and how many of them stay hidden."""
    passes = extrapolation.passes_threshold(
        F.col("noisy_devices"), F.col("sigma"), min_devices=night.settings.privacy.min_devices
    )
    sizes = (
        noisy_cells(night, entry.release_id)
        .groupBy("product", "measure")
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.count(F.when(~passes, F.lit(1))).alias("suppressed"),
        )
    )
    size = {(row["product"], row.measure): (row["rows"], row.suppressed) for row in sizes.collect()}
    closed = []
    for claimed in _of(night, entry.release_id):
        rows, suppressed = size.get((claimed["product"], claimed.measure), (0, 0))
        closed.append(claimed.asDict() | {"rows": rows, "suppressed": suppressed})
    frame = local_frame(night.spark, closed, RELEASES.schema)
    night.store.replace(RELEASES, frame, release_id=entry.release_id)
    return replace(entry, is_closed=True)


def is_nightly() -> Column:
    """Whether a row is about a night's products, not about who takes part this month."""
    return F.col("product") != F.lit(PARTICIPANTS.product)


def lines(night: Night, *, participants: bool = False) -> list[Row]:
    """The ledger's lines of all nights, or of who takes part."""
    return [
        row
        for row in night.store.rows(RELEASES)
        if (row["product"] == PARTICIPANTS.product) == participants
    ]


def _of_day(night: Night, day: date, *, participants: bool) -> list[Row]:
    return [row for row in lines(night, participants=participants) if row.day == day]


def _of(night: Night, release_id: str) -> list[Row]:
    return [row for row in night.store.rows(RELEASES) if row.release_id == release_id]


def _entries(rows_of_ledger: Iterable[Row]) -> list[Entry]:
    by_id: dict[str, list[Row]] = {}
    for row in rows_of_ledger:
        by_id.setdefault(row.release_id, []).append(row)
    return [
        Entry(
            release_id=release_id,
            day=rows[0].day,
            calibrations=tuple(
                Calibration(_MEASURES[row["product"], row.measure], l0=row.l0, rho=row.rho)
                for row in rows
            ),
            published_at=rows[0].published_at.replace(tzinfo=UTC),
            supersedes=rows[0].supersedes,
            is_closed=all(row["rows"] is not None for row in rows),
        )
        for release_id, rows in by_id.items()
    ]


def _is_of_participants(entry: Entry) -> bool:
    return all(one.measure in MONTHLY for one in entry.calibrations)


def _number(release_id: str) -> int:
    return int(release_id.rsplit("-", 1)[1])


def left(night: Night, entry: Entry) -> Budget:
    """What the release's day has left of its cap, before the release is claimed."""
    participants = _is_of_participants(entry)
    privacy = night.settings.privacy
    cap = privacy.participation.rho_cap if participants else privacy.rho_cap
    others = (
        row
        for row in _of_day(night, entry.day, participants=participants)
        if row.release_id != entry.release_id
    )
    return Budget(cap, fsum(row.rho for row in others))


def _must_be_affordable(night: Night, entry: Entry) -> None:
    """Raises `Refused` for a release that asks more than its day has left."""
    budget_left = left(night, entry)
    for calibration in entry.calibrations:
        budget_left = budget_left.spend(calibration.rho, on=calibration.measure.full_name)


def _must_be_proven(calibration: Calibration) -> None:
    """Raises `Refused` if OpenDP's own proof asks more than the ledger would say."""
    proven = disclosure.proven_rho(calibration)
    if proven > calibration.rho * (1 + 1e-9):
        raise Refused(
            f"noise of {calibration.measure.full_name}",
            found=f"rho {proven:.9g} proven",
            expected=f"at most {calibration.rho:.9g}",
            consequence="nothing was released",
        )
