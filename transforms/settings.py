"""Frozen, validated settings: `conf/base.toml` with one overlay on top.

Unknown or missing keys, wrong types and impossible values are all reported at once.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from transforms.errors import Misused
from transforms.tables import MEASURES, TABLES

Share = Annotated[float, Field(gt=0, le=1)]
Rho = Annotated[float, Field(gt=0, le=10)]
BrandName = Annotated[str, Field(min_length=1, max_length=64)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Paths(_Section):
    """Where things lie; the two roots can have different owners, so they may not overlap.

    `keys` is a folder that every worker sees, `reports` one the driver writes to; without them
    both lie below `restricted`. `deliveries` holds a folder for each buyer.
    """

    landing: str = Field(min_length=1)
    restricted: str = Field(min_length=1)
    published: str = Field(min_length=1)
    deliveries: str = Field(min_length=1)
    keys: str | None = Field(default=None, min_length=1, validate_default=True)
    reports: str | None = Field(default=None, min_length=1, validate_default=True)

    @property
    def keys_folder(self) -> str:
        return self.keys or f"{self.restricted}/keys"

    @property
    def reports_folder(self) -> str:
        return self.reports or f"{self.restricted}/reports"

    @field_validator("published")
    @classmethod
    def _apart_from_what_is_restricted(cls, published: str, info: ValidationInfo) -> str:
        for name in ("landing", "restricted"):
            _must_be_apart(name, info.data.get(name), published)
        return published

    @field_validator("deliveries")
    @classmethod
    def _apart_from_what_is_not_the_buyers(cls, deliveries: str, info: ValidationInfo) -> str:
        for name in ("landing", "restricted", "published"):
            _must_be_apart(name, info.data.get(name), deliveries, told="deliveries")
        return deliveries

    @field_validator("keys", "reports")
    @classmethod
    def _a_folder_apart(cls, path: str | None, info: ValidationInfo) -> str | None:
        """Keys and reports are plain files: they can't follow `restricted` to other storage. A
        report says more of a night than its protected numbers.
        """
        for sold in ("published", "deliveries"):
            _must_be_apart(info.field_name or "", path, info.data.get(sold), told=sold)
        where = path or info.data.get("restricted", "")
        if "://" in where:
            raise ValueError(f"must be named as a mounted folder, found {where!r}")
        return path


def _must_be_apart(
    name: str, path: str | None, sold: str | None, *, told: str = "published"
) -> None:
    """Raises ValueError when one folder is, or lies in, the other."""
    if path is None or sold is None:
        return
    one, other = _steps(path), _steps(sold)
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        raise ValueError(f"{name} and {told} must lie apart, found {path!r} and {sold!r}")


def _steps(path: str) -> list[str]:
    """A path as steps from its root or from the folder the job is started in.

    >>> _steps("a/./b/../c"), _steps("/a"), _steps(".")
    (['a', 'c'], ['/', 'a'], [])
    """
    normal = posixpath.normpath(path)
    root = ["/"] if normal.startswith("/") else []
    return root + [step for step in normal.split("/") if step not in ("", ".")]


class ColumnSource(_Section):
    """How one column of an input comes about from the operator's own columns.

    Either `column` (renamed, perhaps decoded) or `value` (the same for all rows).
    """

    column: str | None = None
    value: str | None = None
    encoding: Literal["hex", "base64"] | None = None
    formats: tuple[str, ...] = Field(default=(), strict=False)
    timezone: str | None = None
    values: Mapping[str, float | int | str] = Field(default_factory=dict)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        return value if value is None else _timezone(value)

    @model_validator(mode="after")
    def _one_source(self) -> ColumnSource:
        if (self.column is None) == (self.value is None):
            raise ValueError("needs either `column` or `value`")
        return self


def _timezone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError(f"unknown timezone {value!r}")
    return value


class Input(_Section):
    """One landing folder: its path below `landing` (or absolute), format, options, columns.

    `path` may hold the day: `{day:%Y-%m-%d}`, `{day.year}`, `{day.month}`, `{day.day}`.
    """

    path: str = Field(min_length=1)
    format: str = "parquet"
    options: Mapping[str, str] = Field(default_factory=dict)
    columns: Mapping[str, ColumnSource] = Field(default_factory=dict)

    @field_validator("columns", mode="before")
    @classmethod
    def _plain_renames(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {k: {"column": v} if isinstance(v, str) else v for k, v in value.items()}


class Inputs(_Section):
    events: Input
    cells: Input
    zones: Input
    decisions: Input
    residents: Input
    subscribers: Input
    outages: Input


class Arrival(_Section):
    """When a day's events are all there, and for how long a night waits for that.

    `marker`: a file that every folder of events must hold; `quiet`: minutes since the newest file
    was changed; `day_after`: whether the folder of the day after is waited for, too, which holds
    what came late; `wait`: minutes.
    """

    marker: str | None = Field(default=None, pattern=r"^[^/\\]{1,255}$")
    quiet: float = Field(ge=0, le=24 * 60)
    day_after: bool
    wait: float = Field(ge=0, le=24 * 60)


Regime = Literal["opt_out", "opt_in"]


class Consent(_Section):
    """`default` is the regime: in an `opt_out` regime who never decided takes part. `by_brand`
    names brands with another one. Hours: the oldest that the newest sign of the decisions may be,
    and the longest an opt-out may wait for the first release without that person.
    """

    default: Regime
    by_brand: Mapping[str, Regime] = Field(default_factory=dict)
    allow_empty: bool
    max_age: float = Field(gt=0, le=24 * 31)
    max_latency: float = Field(gt=0, le=24 * 31)


class Place(_Section):
    """Cells to zones: H3 resolution, pull of the shops, smallest probability kept."""

    h3_resolution: int = Field(ge=7, le=13)
    zone_attraction: float = Field(gt=0, le=10_000)
    min_presence: float = Field(ge=0, lt=1)
    max_bad_reference: float = Field(ge=0, le=1)


class Visits(_Section):
    """Minutes: the silence that ends a stay, how far a stay reaches into the silence round it, the
    shortest and the longest visit. `min_share`: of what is heard during a stay, in the zone;
    `crossings`: types of events that happen when a phone changes cells.
    """

    max_gap: int = Field(gt=0, le=24 * 60)
    max_reach: int = Field(ge=0, le=24 * 60)
    min_dwell: int = Field(gt=0, le=24 * 60)
    max_dwell: int = Field(gt=0, le=24 * 60)
    min_share: float = Field(ge=0, le=1)
    crossings: tuple[str, ...] = Field(strict=False)

    @field_validator("max_dwell")
    @classmethod
    def _above_min_dwell(cls, max_dwell: int, info: ValidationInfo) -> int:
        min_dwell = info.data.get("min_dwell")
        if min_dwell is not None and min_dwell >= max_dwell:
            raise ValueError(
                f"min_dwell must be below max_dwell, found {min_dwell} and {max_dwell}"
            )
        return max_dwell


class Flows(_Section):
    max_pair_km: float = Field(gt=0, le=1_000)


class People(_Section):
    """From devices to people; with a `participant_share` nothing is drawn for the participants."""

    catchment_resolution: int = Field(ge=4, le=9)
    participant_share: Share | None = None


class Sight(_Section):
    """What is known of a measure's own error: devices counted for each that is there, and the
    relative standard deviation of that from zone to zone.
    """

    seen: float = Field(gt=0, le=10)
    spread: float = Field(ge=0, le=10)


class Minutes(_Section):
    indoors: float = Field(ge=0, le=24 * 60)
    outdoors: float = Field(ge=0, le=24 * 60)


class Visibility(_Section):
    """How much of what is there the network shows, by measure, where zones are told by indoor cells
    of their own and where they are not; and the standard deviation of the median dwell (minutes).
    """

    dwell_median_min: Minutes
    indoors: Mapping[str, Sight]
    outdoors: Mapping[str, Sight]

    @field_validator("indoors", "outdoors")
    @classmethod
    def _every_measure_once(cls, sights: Mapping[str, Sight]) -> Mapping[str, Sight]:
        if faults := _unlike_measures(sights):
            raise ValueError(faults)
        return sights


def _unlike_measures(named: Mapping[str, object]) -> str | None:
    """What is missing or unknown where every measure must be named; None when nothing is."""
    known = {measure.full_name for measure in MEASURES}
    missing, unknown = sorted(known - set(named)), sorted(set(named) - known)
    return f"missing {missing}, unknown {unknown}" if missing or unknown else None


class MeasureBudget(_Section):
    """What one measure may cost: cells kept per subscriber-day and ρ (zero-concentrated DP)."""

    cells: int = Field(ge=1, le=1_000)
    rho: Rho


class Participation(_Section):
    """Of a subscriber-month. `brands` are public names; how many of each take part is drawn, too,
    where there are any.
    """

    rho: Rho
    brands: tuple[BrandName, ...] = Field(default=(), strict=False)
    rho_by_brand: Rho
    rho_cap: Rho

    @property
    def spent(self) -> float:
        return self.rho + (self.rho_by_brand if self.brands else 0.0)

    @model_validator(mode="after")
    def _cap_holds(self) -> Participation:
        if self.spent > self.rho_cap * (1 + 1e-9):
            raise ValueError(f"rho {self.spent:.6g} is above rho_cap {self.rho_cap:.6g}")
        if len(set(self.brands)) < len(self.brands):
            raise ValueError("brands names one twice")
        return self


class Privacy(_Section):
    """The cap per subscriber-day, its split over the measures, the publication threshold."""

    rho_cap: Rho
    min_devices: int = Field(ge=10, le=100_000)
    display_deltas: tuple[float, ...] = Field(strict=False)
    split: Mapping[str, MeasureBudget]
    participation: Participation

    @field_validator("display_deltas")
    @classmethod
    def _small(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 < delta < 1e-3 for delta in value):
            raise ValueError("each delta must lie between 0 and 0.001")
        return value

    @field_validator("split")
    @classmethod
    def _every_measure_once_within_the_cap(
        cls, split: Mapping[str, MeasureBudget], info: ValidationInfo
    ) -> Mapping[str, MeasureBudget]:
        unlike = _unlike_measures(split)
        faults = [unlike] if unlike else []
        total, cap = math.fsum(budget.rho for budget in split.values()), info.data.get("rho_cap")
        if cap is not None and total > cap + 1e-12:
            faults.append(
                f"the split asks rho {total:.6g}, the cap is {cap:.6g} per subscriber-day"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return split


class Quality(_Section):
    """Gates of the accepted batch; the volume is held against the median of previous nights."""

    max_rejected_share: Share
    min_volume_ratio: float = Field(ge=0, lt=1)
    max_volume_ratio: float = Field(gt=1)
    max_late_share: float = Field(ge=0, le=1)
    previous_days: int = Field(ge=1, le=60)
    quarantine_rows: int = Field(ge=0, le=1_000)


KEPT = "kept"
Days = Annotated[int, Field(ge=1, le=36_600)]


Cents = Annotated[int, Field(ge=0, le=1_000_000_000)]
Pool = Annotated[int, Field(ge=0, le=10**15)]
"""With at most 31 days a share of it is reckoned in 64 bits without overflow."""
MonthName = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]


class Rewards(_Section):
    """What taking part earns; amounts in hundredths of `currency`, months as `2026-11`.

    `per_day`: cents for each whole day, by brand. `pool`: the month's pool in proportion to days.
    Closed months are corrected for `look_back` months.
    """

    mode: Literal["per_day", "pool"]
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    cents_per_day: Cents
    cents_by_brand: Mapping[str, Cents] = Field(default_factory=dict)
    pool_by_month: Mapping[MonthName, Pool] = Field(default_factory=dict)
    monthly_cap: Cents
    look_back: int = Field(ge=0, le=24)


class Keys(_Section):
    """Who keeps the key of the day: `file` (below `paths.keys`), or an installed plug-in."""

    store: str = Field(min_length=1)


class Monitoring(_Section):
    """What the operator's own monitoring reads of each night, on the machine of the driver.

    `log`: each step and every error as a line of JSON, to `stderr` or added to a file; `metrics`:
    a file that holds the newest night's figures as OpenMetrics text. Without them there is neither.
    """

    log: str | None = Field(default=None, min_length=1)
    metrics: str | None = Field(default=None, min_length=1)


class Spark(_Section):
    """The Spark properties file beside the settings, and entries on top of it."""

    profile: str
    conf: Mapping[str, str] = Field(default_factory=dict)


class Settings(_Section):
    """All of `conf/`, validated. See `conf/base.toml` for the meaning of each key."""

    timezone: str
    paths: Paths
    inputs: Inputs
    arrival: Arrival
    consent: Consent
    place: Place
    visits: Visits
    flows: Flows
    people: People
    visibility: Visibility
    privacy: Privacy
    quality: Quality
    rewards: Rewards
    retention: Mapping[str, Days | Literal["kept"]]
    keys: Keys
    monitoring: Monitoring
    spark: Spark

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return _timezone(value)

    @field_validator("retention")
    @classmethod
    def _every_restricted_table_once(
        cls, retention: Mapping[str, int | str]
    ) -> Mapping[str, int | str]:
        """A table that nobody gave a limit would be kept for ever without anybody deciding it."""
        ageless = {t.name: t.age_column is None for t in TABLES if t.root == "restricted"}
        missing, unknown = sorted({*ageless} - {*retention}), sorted({*retention} - {*ageless})
        faults = [f"missing {missing}, unknown {unknown}"] if missing or unknown else []
        faults += [
            f"{name} has nothing that tells a row's age, it can only be {KEPT!r}"
            for name, days in retention.items()
            if days != KEPT and ageless.get(name)
        ]
        if faults:
            raise ValueError("; ".join(faults))
        return retention

    @property
    def zone_info(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


def merged(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """`overlay` on top of `base`, table by table; a value that is no table replaces the old one.

    >>> merged({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    result = dict(base)
    for key, value in overlay.items():
        below = result.get(key)
        both_tables = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both_tables else value  # type: ignore[arg-type]
    return result


def settings_from(raw: Mapping[str, Any], *, name: str) -> Settings:
    """Validated settings of a parsed configuration.

    `name` is what the user calls it (its path). Raises `Misused` naming every fault at once.
    """
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise Misused(
            f"settings {name}",
            found=faults_of(error),
            expected="the keys, types and ranges of conf/base.toml",
            consequence="nothing was read",
        ) from None


def faults_of(error: ValidationError) -> str:
    """Every fault in one line, unknown and missing keys grouped by table."""
    missing: dict[str, list[str]] = {}
    unknown: dict[str, list[str]] = {}
    others = []
    for fault in error.errors(include_url=False):
        *table, key = [str(part) for part in fault["loc"]] or [""]
        where = f"[{'.'.join(table)}]"
        if fault["type"] == "missing":
            missing.setdefault(where, []).append(key)
        elif fault["type"] == "extra_forbidden":
            unknown.setdefault(where, []).append(key)
        else:
            place = ".".join(str(part) for part in fault["loc"])
            others.append(f"{place}: {fault['msg'].removeprefix('Value error, ')}")
    grouped = []
    for where in sorted({*missing, *unknown}):
        parts = [
            f"{word} {sorted(keys[where])}"
            for word, keys in (("missing", missing), ("unknown", unknown))
            if where in keys
        ]
        grouped.append(f"{where} {', '.join(parts)}")
    return "; ".join(grouped + others)
