"""A night on one page: published frames in, self-contained HTML out.

The page loads nothing: charts are inline SVG, styles are inline, there is no script. A number is
shown only where its row says `published`; everything else reads `suppressed` or `no data`, never
0. Names are free text and reach the page through Jinja2's or Vega's escaping only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final
from unicodedata import category

import pandas as pd

from transforms import charts, pages
from transforms.benchmark import Benchmark, Figures
from transforms.budget import epsilon, right_of_100, threshold
from transforms.certificates import Certificate
from transforms.charts import RAMP, Row, Slot
from transforms.estimates import (
    MISSING,
    NO_DATA,
    PUBLISHED,
    STATES,
    SUPPRESSED,
    Estimate,
    by_zone,
    estimates,
    measure_of,
    numbers,
    of_day,
)
from transforms.extrapolation import Z_95
from transforms.language import ENGLISH, LANGUAGES, Language
from transforms.maps import Atlas
from transforms.periods import Period, this_and_before
from transforms.risks import Attack, by_risk
from transforms.tables import (
    BRAND_SUBSCRIBERS,
    DAY_PARTS,
    DWELL_BANDS,
    ELSEWHERE,
    OUTSIDE_AREA,
    PARTICIPANTS,
    SUBSCRIBER_STATES,
    UNKNOWN_AREA,
)
from transforms.wording import FEW, MEASURE_NAMES, power_of_ten

CHARTED_ZONES: Final = 8  # zones with charts of their own; the others share one table
CHARTED_TOTALS: Final = 30  # zones in the overview chart
LISTED: Final = 10  # rows of flows and of catchment
OWN_LISTED: Final = 5  # the same, of one zone
SMALL_COUNT: Final = FEW  # counts of rows under it are not told

HOME_AREAS: Final = {UNKNOWN_AREA: "not known", OUTSIDE_AREA: "outside the counted areas"}
MONTHLY: Final = "participation"
MEDIAN_STAY: Final = "zone_days.dwell_median_min"
REASONS: Final = {
    "no_id": "no subscriber id",
    "no_time": "no time",
    "implausible_time": "time far from its folder's day",
    "no_cell": "no cell",
    "unknown_cell": "cell not known on this day",
    "not_a_subscriber": "not a subscriber on this day (roamers)",
    "duplicate": "repeated row",
}


@dataclass(frozen=True)
class ReportTables:
    """What a report reads, as pandas frames with the columns of the catalogue.

    An empty frame may come without columns; one with rows must have those the report shows.
    """

    zones: pd.DataFrame  # of the day, with their outlines
    zone_hours: pd.DataFrame
    zone_days: pd.DataFrame
    zone_dwell: pd.DataFrame
    zone_flows: pd.DataFrame
    zone_catchment: pd.DataFrame
    zone_comparison: pd.DataFrame
    zone_popularity: pd.DataFrame  # of the week
    zone_weeks: pd.DataFrame  # of the week and the one before
    zone_months: pd.DataFrame  # of the month and the one before
    releases: pd.DataFrame  # the privacy ledger of the day, perhaps with its month's participants
    rejected: pd.DataFrame  # day, reason, rows
    run: Mapping[str, object]  # the row of ops.runs
    attacks: Sequence[Attack] = ()  # of the day's releases
    participation: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Noisy cells of the month: measure, keys (a mapping), noisy_devices, sigma."""
    certificates: Sequence[Certificate] = ()  # of the day's releases
    rewards: Mapping[str, object] = field(default_factory=dict)  # of the last month that is closed
    quality: pd.DataFrame = field(default_factory=pd.DataFrame)  # ops.quality of the run
    benchmark: Benchmark | None = None  # how right the method is, if that was measured


@dataclass(frozen=True)
class Zone:
    """One zone of the page: its names and its day."""

    zone_id: str
    label: str
    about: str
    status: str
    visitors: Estimate
    visits: Estimate
    passers_by: Estimate
    dwell: Estimate
    capture_rate: Estimate
    week_before_index: Estimate
    city_index: Estimate
    rank: Estimate
    busiest_hour: Estimate


@dataclass(frozen=True)
class Names:
    """How zones, areas, day parts and states are called on a page."""

    zones: Mapping[str, str]
    language: Language

    def place(self, zone_id: str) -> str:
        if zone_id == ELSEWHERE:
            return self.language.word(ELSEWHERE)
        return self.zones.get(zone_id, text_of(zone_id))

    def area(self, area: str) -> str:
        return self.language.word(HOME_AREAS[area]) if area in HOME_AREAS else text_of(area)

    def day_part(self, name: str) -> str:
        """A day part with its local hours.

        >>> Names({}, ENGLISH).day_part("evening")
        'evening, 18–22 h'
        """
        if name not in DAY_PARTS:
            return text_of(name)
        names = list(DAY_PARTS)
        end = DAY_PARTS[names[(names.index(name) + 1) % len(names)]]
        hour = self.language.word("h")
        return f"{self.language.word(name)}, {DAY_PARTS[name]}–{end} {hour}"

    def measure(self, code: str) -> str:
        return self.language.word(MEASURE_NAMES.get(code, code))


def night_report(
    tables: ReportTables,
    *,
    day: date,
    timezone: str,
    epsilon_by_delta: Mapping[float, float],
    rho_cap: float,
    min_devices: int,
    charted_zones: int | None = CHARTED_ZONES,
    language: Language = ENGLISH,
) -> str:
    """The HTML page of one published night.

    Times on the page are local to `timezone` (IANA name). `epsilon_by_delta` holds the ε of one
    subscriber-day at each δ, `rho_cap` the ρ that a day may spend; monthly counts are told from
    `min_devices` on, as all others. So many zones, the busiest, have charts of their own, or all
    whose visitors are published (None). Raises ValueError naming all columns that a frame with
    rows lacks.
    """
    _require_columns(tables)
    zones = _zones(tables, day=day, language=language)
    names = Names({zone.zone_id: zone.label for zone in zones}, language)
    ranked = [zone for zone in zones if zone.visitors.published]
    busiest = ranked[:charted_zones]
    atlas = _atlas(tables, day=day)
    rows = _chart_rows(tables, day=day, timezone=timezone)
    return pages.template("report.html.j2", language).render(
        day=day,
        timezone=timezone,
        other_pages={one: file_name(day, one) for one in LANGUAGES if one != language},
        zones=zones,
        counts={state: sum(zone.status == state for zone in zones) for state in STATES},
        nothing_published=not _anything_published(tables, day),
        busiest=busiest,
        others=[zone for zone in zones if zone not in busiest],
        overview=charts.overview(
            {zone.label: zone.visitors for zone in ranked[:CHARTED_TOTALS]}, language=language
        )
        if ranked
        else "",
        overview_left_out=max(0, len(ranked) - CHARTED_TOTALS),
        city=_city_map(atlas, zones, busiest, language),
        cards=[_card(zone, rows, atlas, names) for zone in busiest],
        periods=_periods(tables, zones, day=day),
        ramp=RAMP,
        flows=_flows(rows.flows, names),
        catchment=_catchment(rows.catchment, names),
        privacy=_privacy(
            tables.releases,
            names,
            day=day,
            epsilon_by_delta=epsilon_by_delta,
            rho_cap=rho_cap,
        ),
        attacks=_attacks(tables.attacks, language),
        accuracy=_accuracy(tables.benchmark, tables.releases, names),
        participation=_participation(
            tables.participation, min_devices=min_devices, language=language
        ),
        consent=_consent(tables.certificates, language),
        rewards=_rewards(tables.rewards, language),
        quality=_quality(tables.quality),
        run=_run(tables.run, of_day(tables.rejected, day), timezone=timezone, language=language),
    )


def file_name(day: date, language: Language = ENGLISH) -> str:
    """Each report links to the others by these names."""
    return f"{day}{'' if language == ENGLISH else f'.{language.code}'}.html"


# --- reading the frames ---------------------------------------------------------------------

_FLOW_KEYS = ("origin_zone_id", "destination_zone_id", "day_part")


def _with_intervals(*measures: str) -> tuple[str, ...]:
    return tuple(f"{measure}{end}" for measure in measures for end in ("", "_low", "_high"))


_OF_A_DAY: Final = ("visitors", "visits", "passers_by", "dwell_median_min")
_COMPARED: Final = ("capture_rate", "week_before_index", "city_index", "rank", "busiest_hour")
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "zones": ("zone_id", "name", "centre_name", "kind", "opening_hours", "geometry"),
    "zone_hours": ("day", "zone_id", "hour_start", "status", *_with_intervals("visitors")),
    "zone_days": ("day", "zone_id", "status", *_with_intervals(*_OF_A_DAY)),
    "zone_dwell": ("day", "zone_id", "dwell_band", "status", *_with_intervals("visitors")),
    "zone_flows": ("day", *_FLOW_KEYS, "status", *_with_intervals("trips")),
    "zone_catchment": ("day", "zone_id", "home_area", "status", *_with_intervals("visitors")),
    "zone_comparison": ("day", "zone_id", "status", *_with_intervals(*_COMPARED)),
    "zone_popularity": ("zone_id", "weekday", "hour", "status", *_with_intervals("popularity")),
    "zone_weeks": ("week", "zone_id", "days", "status", *_with_intervals("visits")),
    "zone_months": ("month", "zone_id", "days", "status", *_with_intervals("visits")),
    "releases": (
        "release_id",
        "day",
        "product",
        "measure",
        "rho",
        "l0",
        "sigma",
        "mechanism",
        "method_version",
        "code_version",
        "rows",
        "suppressed",
    ),
    "rejected": ("day", "reason", "rows"),
    "quality": ("subject", "critical", "success"),
}


def _require_columns(tables: ReportTables) -> None:
    missing = [
        f"{name}.{column}"
        for name, columns in _COLUMNS.items()
        for column in columns
        if not getattr(tables, name).empty and column not in getattr(tables, name).columns
    ]
    if missing:
        raise ValueError(f"the report needs columns that are missing: {missing}; no page was made")


def _measure(frame: pd.DataFrame, measure: str, day: date, *keys: str) -> pd.DataFrame:
    return measure_of(of_day(frame, day), measure, keys=keys)


def text_of(value: object) -> str:
    """Free text on one line, without control characters; empty for null."""
    if not isinstance(value, str):
        return "" if value is None or pd.isna(value) else str(value)
    unseen = {"Cc", "Cs", "Zl", "Zp"}  # controls, lone surrogates, line and paragraph separators
    return " ".join("".join(" " if category(char) in unseen else char for char in value).split())


def _anything_published(tables: ReportTables, day: date) -> bool:
    gold = (
        tables.zone_hours,
        tables.zone_days,
        tables.zone_dwell,
        tables.zone_flows,
        tables.zone_catchment,
    )
    return any(
        not frame.empty and bool(of_day(frame, day)["status"].eq(PUBLISHED).any()) for frame in gold
    )


# --- zones ----------------------------------------------------------------------------------


def _zones(tables: ReportTables, *, day: date, language: Language) -> list[Zone]:
    """Every zone known or published, the busiest first, those without a number last."""
    days = of_day(tables.zone_days, day)
    named = _by_id(tables.zones)
    reported = [] if days.empty else list(days["zone_id"])
    ids = sorted({str(zone_id) for zone_id in [*named, *reported]})
    labels = _labels({zone_id: text_of(named.get(zone_id, {}).get("name")) for zone_id in ids})
    measures = {name: by_zone(days, name) for name in _OF_A_DAY} | {
        name: by_zone(of_day(tables.zone_comparison, day), name) for name in _COMPARED
    }
    measures["dwell"] = measures.pop("dwell_median_min")
    status = {} if days.empty else dict(zip(reported, days["status"], strict=True))
    zones = [
        Zone(
            zone_id=zone_id,
            label=labels[zone_id],
            about=_about(named.get(zone_id, {}), language),
            status=status.get(zone_id, NO_DATA),
            **{name: of_zone.get(zone_id, MISSING) for name, of_zone in measures.items()},
        )
        for zone_id in ids
    ]
    return sorted(
        zones,
        key=lambda zone: (
            -zone.visitors.value if zone.visitors.published else math.inf,
            STATES.index(zone.status) if zone.status in STATES else len(STATES),
            zone.label,
        ),
    )


def _about(zone: Mapping[str, Any], language: Language) -> str:
    """Centre, kind and opening hours, as far as they are known."""
    centre, kind, hours = (
        text_of(zone.get(column)) for column in ("centre_name", "kind", "opening_hours")
    )
    parts = (centre, kind and language.word(kind.replace("_", " ")), hours)
    return " · ".join(part for part in parts if part)


def _by_id(zones: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {} if zones.empty else zones.set_index("zone_id").to_dict("index")


def _labels(names: Mapping[str, str]) -> dict[str, str]:
    """A name to show for each zone id; a name that two zones share gets its id."""
    shared = Counter(names.values())

    def label(zone_id: str, name: str) -> str:
        if not name:
            return zone_id
        return name if shared[name] == 1 else f"{name} ({zone_id})"

    return {zone_id: label(zone_id, name) for zone_id, name in names.items()}


# --- maps -----------------------------------------------------------------------------------


def _atlas(tables: ReportTables, *, day: date) -> Atlas:
    areas = of_day(tables.zone_catchment, day)
    return Atlas(
        {zone_id: bytes(row["geometry"]) for zone_id, row in _by_id(tables.zones).items()},
        frozenset() if areas.empty else frozenset(areas["home_area"]) - set(HOME_AREAS),
    )


def _city_map(
    atlas: Atlas, zones: Sequence[Zone], busiest: Sequence[Zone], language: Language
) -> str:
    shapes = atlas.city({zone.zone_id: zone.visitors for zone in zones})
    labels = atlas.numbered([zone.zone_id for zone in busiest]) if shapes else []
    return charts.map_of(shapes, labels=labels, height=330, language=language) if shapes else ""


# --- one zone -------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChartRows:
    """The cells of the day that zones' charts are made of: keys, state, value, low, high."""

    hours: pd.DataFrame  # zone_id, slot: hours since the local midnight
    dwell: pd.DataFrame  # zone_id, dwell_band
    flows: pd.DataFrame  # _FLOW_KEYS
    catchment: pd.DataFrame  # zone_id, home_area
    popularity: pd.DataFrame  # zone_id, weekday, hour; of the week
    clock: tuple[int, ...]  # the local hour of each slot


def _chart_rows(tables: ReportTables, *, day: date, timezone: str) -> ChartRows:
    return ChartRows(
        hours=_hours_of_day(tables.zone_hours, day=day, timezone=timezone),
        dwell=_measure(tables.zone_dwell, "visitors", day, "zone_id", "dwell_band"),
        flows=_measure(tables.zone_flows, "trips", day, *_FLOW_KEYS),
        catchment=_measure(tables.zone_catchment, "visitors", day, "zone_id", "home_area"),
        popularity=measure_of(
            tables.zone_popularity, "popularity", keys=("zone_id", "weekday", "hour")
        ),
        clock=clock_hours(day, timezone),
    )


@dataclass(frozen=True)
class Card:
    """One zone's charts, each with the numbers behind it."""

    zone: Zone
    week: Mapping[Slot, Estimate]
    week_chart: str
    hours: Sequence[tuple[str, Estimate]]
    hours_chart: str
    stays: Mapping[str, Estimate]
    stays_chart: str
    homes: Sequence[Mapping[str, object]]
    homes_map: str
    flows: Sequence[Mapping[str, object]]


def _card(zone: Zone, rows: ChartRows, atlas: Atlas, names: Names) -> Card:
    clock, flows, language = rows.clock, rows.flows, names.language
    week = {
        (weekday - 1, hour): one
        for (weekday, hour), one in _of_zone(rows.popularity, zone, "weekday", "hour").items()
    }
    by_hour = {slot: one for (slot,), one in _of_zone(rows.hours, zone, "slot").items()}
    bands = {band: one for (band,), one in _of_zone(rows.dwell, zone, "dwell_band").items()}
    stays = {band_name(band, language): bands.get(band, MISSING) for band in DWELL_BANDS}
    homes = {area: one for (area,), one in _of_zone(rows.catchment, zone, "home_area").items()}
    shapes = atlas.catchment(zone.zone_id, homes)
    is_own = [flows[end] == zone.zone_id for end in _FLOW_KEYS[:2]]
    lives = rows.catchment["zone_id"] == zone.zone_id
    return Card(
        zone,
        week=week,
        week_chart=charts.week(week, language=language),
        hours=[(f"{hour:02d}", by_hour.get(slot, MISSING)) for slot, hour in enumerate(clock)],
        hours_chart=charts.hours(by_hour, clock=clock, language=language),
        stays=stays,
        stays_chart=charts.bands(stays, language=language),
        homes=_homes(rows.catchment[lives], names, most=LISTED),
        homes_map=charts.map_of(shapes, height=300, language=language) if shapes else "",
        flows=_trips(flows[is_own[0] | is_own[1]], names, most=OWN_LISTED),
    )


def _of_zone(rows: pd.DataFrame, zone: Zone, *keys: str) -> dict[tuple[Any, ...], Estimate]:
    own = rows[rows["zone_id"] == zone.zone_id]
    return dict(zip(zip(*(own[key] for key in keys), strict=True), estimates(own), strict=True))


def _hours_of_day(hours: pd.DataFrame, *, day: date, timezone: str) -> pd.DataFrame:
    """zone_id, slot (hours since the local midnight), state, value, low, high of the day."""
    cells = _measure(hours, "visitors", day, "zone_id", "hour_start")
    since = pd.to_datetime(cells["hour_start"], utc=True) - pd.Timestamp(day, tz=timezone)
    return cells.assign(slot=since // pd.Timedelta(hours=1))


def clock_hours(day: date, timezone: str) -> tuple[int, ...]:
    """The local hour at which each hour of the day starts: 24 of them, or 23, or 25."""
    midnight, end = (pd.Timestamp(at, tz=timezone) for at in (day, day + timedelta(days=1)))
    starts = pd.date_range(midnight, end, freq="h", inclusive="left")
    return tuple(at.hour for at in starts)


def band_name(label: str, language: Language) -> str:
    return f"{label.replace('-', '–')} {language.word('min')}"


# --- weeks and months -----------------------------------------------------------------------


def _periods(tables: ReportTables, zones: Sequence[Zone], *, day: date) -> dict[str, object]:
    """Visits of this week and month and of those before, by zone; days that are counted."""
    frames: dict[Period, pd.DataFrame] = {"week": tables.zone_weeks, "month": tables.zone_months}
    told: dict[str, dict[str, Estimate]] = {}
    days: dict[str, int] = {}
    for name, frame in frames.items():
        firsts = this_and_before(day, name)
        for of_it, since in zip((name, f"{name}_before"), firsts, strict=True):
            rows = of_day(frame, since, by=name)
            told[of_it] = by_zone(rows, "visits")
            days[of_it] = int(rows["days"].max()) if len(rows) else 0
    lines = [
        {"label": zone.label} | {name: told[name].get(zone.zone_id, MISSING) for name in told}
        for zone in zones
    ]
    is_shown = any(line[name].published for line in lines for name in told)  # type: ignore[union-attr]
    return {"lines": lines if is_shown else [], "days": days}


# --- how right the method is ----------------------------------------------------------------


@dataclass(frozen=True)
class Accuracy:
    """One measure of the benchmark in words; a dash where there is nothing to tell."""

    name: str
    error: str
    floor: str
    naive: str
    bias: str
    coverage: str


def _accuracy(benchmark: Benchmark | None, releases: pd.DataFrame, names: Names) -> dict[str, Any]:
    """Nothing for a release of another version of the method than was measured."""
    versions = set(releases["method_version"]) if len(releases) else set()
    if benchmark is None or not len(releases) or versions != {benchmark.method_version}:
        return {"benchmark": None}
    measured = benchmark.by_measure
    return {
        "benchmark": benchmark,
        "scenarios": len(benchmark.by_scenario),
        "worlds": len(benchmark.by_scenario) * len(benchmark.seeds),
        "chart": _errors_chart(measured["indoors"], names),
        "tables": {
            told: [_accuracy_line(measure, one, names) for measure, one in measured[told].items()]
            for told in ("indoors", "outdoors")
            if told in measured
        },
    }


def _errors_chart(measured: Mapping[str, Figures], names: Names) -> str:
    rows: list[Row] = [
        {
            "measure": names.measure(measure),
            "floor": 100 * one.floor,
            "error": 100 * one.error,
            "naive": None if one.naive is None else 100 * one.naive,
        }
        for measure, one in measured.items()
        if one.floor and one.error
    ]
    return charts.typical_errors(rows, language=names.language)


def _accuracy_line(measure: str, one: Figures, names: Names) -> Accuracy:
    language = names.language

    def percent(share: float | None, *, signed: bool = False, digits: int = 1) -> str:
        if share is None:
            return "–"
        return language.number(100 * share, signed=signed, digits=digits) + " %"

    def minutes(value: float | None, *, signed: bool = False) -> str:
        if value is None:
            return "–"
        return f"{language.number(value, signed=signed, digits=1)} {language.word('min')}"

    told: Callable[..., str] = minutes if measure == MEDIAN_STAY else percent
    return Accuracy(
        name=names.measure(measure),
        error=told(one.error),
        floor=percent(one.floor),
        naive=percent(one.naive),
        bias=told(one.bias, signed=True),
        coverage=percent(one.coverage, digits=0),
    )


# --- flows and catchment --------------------------------------------------------------------


def _strongest(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    published = frame[frame["state"] == PUBLISHED]
    return published.sort_values("value", ascending=False, kind="stable").head(most)


def _state_counts(frame: pd.DataFrame) -> dict[str, int]:
    return {state: int((frame["state"] == state).sum()) for state in STATES}


def _flows(trips: pd.DataFrame, names: Names) -> dict[str, object]:
    outer = trips["origin_zone_id"].eq(ELSEWHERE) | trips["destination_zone_id"].eq(ELSEWHERE)
    return {
        "between": _trips(trips[~outer.astype(bool)], names, most=LISTED),
        "outer": _trips(trips[outer.astype(bool)], names, most=LISTED),
        "counts": _state_counts(trips),
    }


def _trips(trips: pd.DataFrame, names: Names, *, most: int) -> list[dict[str, object]]:
    """The strongest in words."""
    top = _strongest(trips, most)
    columns = (top[key] for key in _FLOW_KEYS)
    return [
        {
            "origin": names.place(origin),
            "destination": names.place(destination),
            "day_part": names.day_part(part),
            "trips": trips,
        }
        for origin, destination, part, trips in zip(*columns, estimates(top), strict=True)
    ]


def _catchment(visitors: pd.DataFrame, names: Names) -> dict[str, object]:
    return {
        "lines": _homes(visitors, names, most=LISTED),
        "counts": _state_counts(visitors),
    }


def _homes(visitors: pd.DataFrame, names: Names, *, most: int) -> list[dict[str, object]]:
    """Where most visitors live, in words."""
    top = _strongest(visitors, most)
    columns = zip(top["zone_id"], top["home_area"], estimates(top), strict=True)
    return [
        {
            "zone": names.place(zone_id),
            "area": names.area(area),
            "is_code": area not in HOME_AREAS,
            "visitors": estimate,
        }
        for zone_id, area, estimate in columns
    ]


# --- privacy --------------------------------------------------------------------------------


def _privacy(
    releases: pd.DataFrame,
    names: Names,
    *,
    day: date,
    epsilon_by_delta: Mapping[float, float],
    rho_cap: float,
) -> dict[str, object]:
    """The ledger of the day against its cap, and what it adds up to over days."""
    monthly = _ledger(releases[releases["product"] == MONTHLY], names) if not releases.empty else []
    own = of_day(releases, day)
    daily = _ledger(own[own["product"] != MONTHLY], names) if not own.empty else []
    spent = math.fsum(line["rho"] for line in daily)
    month = math.fsum(line["rho"] for line in monthly)
    strictest = min(epsilon_by_delta, default=1e-9)
    return {
        "daily": daily,
        "monthly": monthly,
        "spent": f"{spent:.4g}",
        "cap": f"{rho_cap:.4g}",
        "share": min(100.0, 100 * spent / rho_cap) if rho_cap > 0 else 100.0,
        "over": not spent <= rho_cap * (1 + 1e-9),  # also when a ρ is missing
        "epsilons": [
            (f"{epsilon:.3g}", power_of_ten(delta))
            for delta, epsilon in sorted(epsilon_by_delta.items())
        ],
        "right": right_of_100(spent),
        "delta": power_of_ten(strictest),
        "week": f"{epsilon(7 * rho_cap, delta=strictest):.1f}",
        "thirty_days": f"{epsilon(30 * rho_cap + month, delta=strictest):.0f}",
        "versions": [
            {name: text_of(value) for name, value in line.items()}
            for line in (own if not own.empty else pd.DataFrame())
            .reindex(columns=["release_id", "method_version", "code_version", "mechanism"])
            .drop_duplicates()
            .to_dict("records")
        ],
    }


def _attacks(attacks: Sequence[Attack], language: Language) -> dict[str, object]:
    """What attacks on the day's releases reached, all risks in one table."""
    risks = by_risk(attacks, language=language)
    lines = [line for of_risk in risks.values() for line in of_risk]
    return {
        "risks": risks,
        "lines": lines,
        "broken": sum(not line["within"] for line in lines),
    }


def _participation(
    cells: pd.DataFrame, *, min_devices: int, language: Language
) -> dict[str, object]:
    """Who takes part this month, by brand and by area, each number in subscribers."""
    if cells.empty:
        return {"total": "", "brands": [], "areas": [], "hidden": 0}
    by_area = cells[cells["measure"] == PARTICIPANTS.name]
    margin = Z_95 * math.sqrt(float((by_area["sigma"] ** 2).sum()))
    total = float(by_area["noisy_devices"].sum())
    areas = [
        {"area": row.keys["area"], "participants": language.number(row.noisy_devices)}
        for row in by_area.sort_values("noisy_devices", ascending=False).itertuples()
        if _is_shown(row.noisy_devices, row.sigma, min_devices=min_devices)
    ]
    return {
        "total": f"{language.number(max(total, 0))} ± {language.number(margin)}",
        "brands": _brands(cells[cells["measure"] == BRAND_SUBSCRIBERS.name], min_devices, language),
        "areas": areas,
        "hidden": len(by_area) - len(areas),
    }


def _brands(cells: pd.DataFrame, min_devices: int, language: Language) -> list[dict[str, str]]:
    """The share of each brand's subscribers that takes part, where both counts may be told."""
    counts: dict[str, dict[str, tuple[float, float]]] = {}
    for row in cells.itertuples():
        by_state = counts.setdefault(row.keys["brand"], {})
        by_state[row.keys["state"]] = (row.noisy_devices, row.sigma)
    return [
        {
            "brand": brand,
            "share": _share(
                *(by_state[one] for one in SUBSCRIBER_STATES),
                min_devices=min_devices,
                language=language,
            ),
        }
        for brand, by_state in sorted(counts.items())
    ]


def _share(
    yes: tuple[float, float],
    no: tuple[float, float],
    *,
    min_devices: int,
    language: Language,
) -> str:
    """yes / (yes + no) in per cent with its 95 % margin (delta method), or that it is hidden."""
    if not all(_is_shown(*one, min_devices=min_devices) for one in (yes, no)):
        return language.word(SUPPRESSED)
    (taking, sigma), (left, _) = yes, no
    everybody = taking + left
    margin = Z_95 * sigma * math.hypot(taking, left) / everybody**2
    share = language.number(100 * taking / everybody, digits=1)
    return f"{share} % ± {language.number(100 * margin, digits=1)}"


def _is_shown(devices: float, sigma: float, *, min_devices: int) -> bool:
    return devices >= threshold(sigma, min_devices=min_devices)


def _ledger(releases: pd.DataFrame, names: Names) -> list[dict[str, Any]]:
    lines = []
    for row in releases.to_dict("records"):
        code = f"{text_of(row['product'])}.{text_of(row['measure'])}"
        lines.append(
            {
                "name": names.measure(code),
                "code": code,
                "rho": _float(row["rho"]),
                "rho_text": f"{_float(row['rho']):.4g}",
                "sigma": _or_dash(f"{_float(row['sigma']):.3g}"),
                "l0": _or_dash(f"{_float(row['l0']):g}"),
                "suppressed": _count(row["suppressed"]),
                "rows": _count(row["rows"]),
            }
        )
    return lines


def _float(value: object) -> float:
    """A float of whatever number a table holds; NaN for null."""
    return float(numbers(pd.Series([value], dtype=object)).iloc[0])


def _count(value: object) -> int | None:
    number = _float(value)
    return None if math.isnan(number) else int(number)


def _or_dash(text: str) -> str:
    return "–" if text == "nan" else text


# --- consent, rewards, quality, the run -----------------------------------------------------


def _consent(certificates: Sequence[Certificate], language: Language) -> dict[str, object]:
    """What the newest certificate of the day says, without small counts."""
    if not certificates:
        return {}
    newest = max(certificates, key=lambda one: one.number)
    wait = newest.longest_wait_h
    return {
        "number": newest.number,
        "opt_outs": _rows(newest.opt_outs, True, language),
        "all_in_time": newest.opt_outs == newest.opt_outs_in_time,
        "longest_wait": "" if wait is None else language.number(wait, digits=1),
        "left_out": _rows(sum(newest.left_out.values()), True, language),
        "seen": _rows(newest.subscribers_seen, True, language),
    }


def _rewards(month: Mapping[str, object], language: Language) -> dict[str, object]:
    """The last month that is closed; amounts only of as many people as may be told."""
    if not month:
        return {}
    subscribers = _count(month["subscribers"]) or 0
    cents = _count(month["paid"]) or 0
    closed: date = month["month"]  # type: ignore[assignment]
    return {
        "month": f"{closed:%Y-%m}",
        "subscribers": _rows(subscribers, True, language),
        "days": _rows(_count(month["days_taken_part"]) or 0, True, language),
        "paid": f"{language.number(cents / 100, digits=2)} {text_of(month['currency'])}"
        if subscribers >= SMALL_COUNT
        else "",
    }


def _quality(found: pd.DataFrame) -> dict[str, int]:
    """How many expectations there were, and how many were not met."""
    if found.empty:
        return {"expectations": 0, "unmet": 0}
    return {"expectations": len(found), "unmet": int((~found["success"].astype(bool)).sum())}


def _run(
    run: Mapping[str, object], rejected: pd.DataFrame, *, timezone: str, language: Language
) -> dict[str, object]:
    """The run in words. Where one count is too small to tell, the others are rounded to tens:
    rows in is their sum, so a subtraction would give the small one away."""
    parts = ("rows_in", "other_day", "rejected", "not_taking_part", "accepted")
    counts = {part: _count(run.get(part)) for part in parts}
    reasons: dict[str, int | None] = {}
    if not rejected.empty:
        columns = zip(rejected["reason"], rejected["rows"], strict=True)
        reasons = {text_of(reason): _count(rows) for reason, rows in columns}
    small = any(
        count is not None and 0 < count < SMALL_COUNT
        for count in [*counts.values(), *reasons.values()]
    )
    started, ended = (_instant(run.get(name), timezone) for name in ("started_at", "ended_at"))
    return {
        "run_id": text_of(run.get("run_id")),
        "outcome": language.word(text_of(run.get("outcome")) or "not known"),
        "started": language.instant(started) if started else language.word("not known"),
        "ended": language.instant(ended) if ended else language.word("not known"),
        "minutes": f"{(ended - started).total_seconds() / 60:.0f}" if started and ended else "",
        "rounded": small,
        "counts": {part: _rows(counts[part], small, language) for part in parts},
        "reasons": [
            (language.word(REASONS.get(reason, reason)), _rows(count, small, language))
            for reason, count in sorted(reasons.items(), key=lambda item: -(item[1] or 0))
        ],
    }


def _rows(count: int | None, rounded: bool, language: Language) -> str:
    if count is None:
        return language.word("not known")
    if 0 < count < SMALL_COUNT:
        return f"{language.word('fewer than')} {SMALL_COUNT}"
    return language.number(round(count, -1) if rounded else count)


def _instant(value: object, timezone: str) -> pd.Timestamp | None:
    """A stored UTC instant in local time; None for null."""
    if value is None or pd.isna(value):
        return None
    at = pd.Timestamp(value)
    return (at.tz_localize("UTC") if at.tzinfo is None else at).tz_convert(timezone)
