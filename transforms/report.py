"""A night on one page: published frames in, self-contained HTML out.

The page loads nothing: charts are inline SVG, styles are inline, there is no script. A number is
shown only where its row says `published`; everything else reads `suppressed` or `no data`, never
0. Names are free text and reach the page through Jinja2's or Vega's escaping only.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from typing import Any, Final, TypeAlias
from unicodedata import category

import altair as alt
import pandas as pd
import vl_convert
from markupsafe import Markup

from transforms import pages
from transforms.benchmark import Benchmark, Figures
from transforms.budget import epsilon, right_of_100, threshold
from transforms.extrapolation import Z_95
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
from transforms.wording import MEASURE_NAMES, power_of_ten

PUBLISHED: Final = "published"
SUPPRESSED: Final = "suppressed"
NO_DATA: Final = "no_data"

CHARTED_ZONES: Final = 8  # zones with charts of their own; the others share one table
CHARTED_TOTALS: Final = 30  # zones in the overview chart
LISTED: Final = 10  # rows of flows and of catchment
POPULAR_DAYS: Final = 28
SMALL_COUNT: Final = 10  # counts of rows under it are not told

WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
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

# Viridis from few (light) to many (dark): safe for colour-blind eyes and for grey printers.
RAMP: Final = ("#f4e61e", "#a8db34", "#56c667", "#24a884", "#2a768e", "#3b528b", "#440154")
INK, FAINT, LINE = "#1d2733", "#5c6875", "#dfe4e8"
DEEP, BAND, PALE = "#2a768e", "#a9d0d6", "#e6f1f3"
HATCH: Final = "url(#suppressed-hatch)"  # stands once, in the template
Spec: TypeAlias = dict[str, Any]
Row: TypeAlias = dict[str, object]
_VOID: Final = {SUPPRESSED: (HATCH, "#ffffff"), NO_DATA: ("#ffffff", "#cfd6dc")}  # fill, stroke


@dataclass(frozen=True)
class ReportTables:
    """What a report reads, as pandas frames with the columns of the catalogue.

    An empty frame may come without columns; one with rows must have those the report shows.
    """

    zones: pd.DataFrame  # zone_id, name, centre_name, kind, opening_hours
    zone_hours: pd.DataFrame  # of all days at hand; the last 28 are used
    zone_days: pd.DataFrame
    zone_dwell: pd.DataFrame
    zone_flows: pd.DataFrame
    zone_catchment: pd.DataFrame
    releases: pd.DataFrame  # the privacy ledger of the day, perhaps with its month's participants
    rejected: pd.DataFrame  # day, reason, rows
    run: Mapping[str, object]  # the row of ops.runs
    attacks: Sequence[Attack] = ()  # of the day's releases
    participation: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Noisy cells of the month: measure, keys (a mapping), noisy_devices, sigma."""
    benchmark: Benchmark | None = None  # how right the method is, if that was measured


@dataclass(frozen=True)
class Estimate:
    """A measure in people (or minutes) with its 95 % interval; numbers only when published."""

    state: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def published(self) -> bool:
        return self.state == PUBLISHED

    @property
    def number(self) -> str:
        """The value, as fine as its interval allows: 1238.2 (1183 to 1296) is 1,240."""
        return f"{round(self.value / self._step) * self._step:,}"

    @property
    def interval(self) -> str:
        """The interval, rounded outwards; empty when there is none."""
        if math.isnan(self.low) or math.isnan(self.high):
            return ""
        low = math.floor(round(self.low / self._step, 6)) * self._step
        high = math.ceil(round(self.high / self._step, 6)) * self._step
        return f"{low:,}–{high:,}"

    @property
    def _step(self) -> int:
        half = (self.high - self.low) / 2
        if math.isnan(half):
            half = abs(self.value) / 50
        return 10 ** math.floor(math.log10(half / 2)) if half >= 2 else 1


@dataclass(frozen=True)
class Zone:
    """One zone of the page: its names, its day, its charts."""

    zone_id: str
    label: str
    about: str
    visitors: Estimate
    visits: Estimate
    passers_by: Estimate
    dwell: Estimate
    status: str


def night_report(
    tables: ReportTables,
    *,
    day: date,
    timezone: str,
    epsilon_by_delta: Mapping[float, float],
    rho_cap: float,
    min_devices: int,
) -> str:
    """The HTML page of one published night.

    Times on the page are local to `timezone` (IANA name). `epsilon_by_delta` holds the ε of one
    subscriber-day at each δ, `rho_cap` the ρ that a day may spend; monthly counts are told from
    `min_devices` on, as all others. Raises ValueError naming all
    columns that a frame with rows lacks.
    """
    _require_columns(tables)
    zones = _zones(tables, day=day)
    labels = {zone.zone_id: zone.label for zone in zones}
    ranked = [zone for zone in zones if zone.visitors.published]
    busiest = ranked[:CHARTED_ZONES]
    popular = _popular_times(tables.zone_hours, day=day, timezone=timezone)
    hours = _hours_of_day(tables.zone_hours, day=day, timezone=timezone)
    dwell = _measure(_of_day(tables.zone_dwell, day), "visitors", keys=("zone_id", "dwell_band"))
    at_hand = sorted(_recent(tables.zone_hours, day)["day"].unique()) if len(popular) else []
    clock = _clock_hours(day, timezone)
    popular_spec, hours_spec, dwell_spec = _popular_spec(), _hours_spec(clock), _dwell_spec()
    return pages.template("report.html.j2").render(
        day=day,
        timezone=timezone,
        zones=zones,
        counts={state: sum(zone.status == state for zone in zones) for state in _STATES},
        nothing_published=not _anything_published(tables, day),
        busiest=busiest,
        others=[zone for zone in zones if zone not in busiest],
        overview=_overview_chart(ranked[:CHARTED_TOTALS]) if ranked else "",
        overview_left_out=max(0, len(ranked) - CHARTED_TOTALS),
        cards=[
            {"zone": zone}
            | _popular_card(popular_spec, popular[popular["zone_id"] == zone.zone_id])
            | {
                "hours_chart": _hours_chart(
                    hours_spec, hours[hours["zone_id"] == zone.zone_id], hours=len(clock)
                ),
                "dwell_chart": _dwell_chart(dwell_spec, dwell[dwell["zone_id"] == zone.zone_id]),
            }
            for zone in busiest
        ],
        days_at_hand=at_hand,
        ramp=RAMP,
        flows=_flows(tables.zone_flows, day=day, labels=labels),
        catchment=_catchment(tables.zone_catchment, day=day, labels=labels),
        privacy=_privacy(
            tables.releases, day=day, epsilon_by_delta=epsilon_by_delta, rho_cap=rho_cap
        ),
        attacks=_attacks(tables.attacks),
        accuracy=_accuracy(tables.benchmark, tables.releases),
        participation=_participation(tables.participation, min_devices=min_devices),
        run=_run(tables.run, _of_day(tables.rejected, day), timezone=timezone),
    )


# --- reading the frames ---------------------------------------------------------------------

_STATES = (PUBLISHED, SUPPRESSED, NO_DATA)


def _with_intervals(*measures: str) -> tuple[str, ...]:
    return tuple(f"{measure}{end}" for measure in measures for end in ("", "_low", "_high"))


_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "zones": ("zone_id", "name", "centre_name", "kind", "opening_hours"),
    "zone_hours": ("day", "zone_id", "hour_start", "status", *_with_intervals("visitors")),
    "zone_days": (
        "day",
        "zone_id",
        "status",
        *_with_intervals("visitors", "visits", "passers_by", "dwell_median_min"),
    ),
    "zone_dwell": ("day", "zone_id", "dwell_band", "status", *_with_intervals("visitors")),
    "zone_flows": (
        "day",
        "origin_zone_id",
        "destination_zone_id",
        "day_part",
        "status",
        *_with_intervals("trips"),
    ),
    "zone_catchment": ("day", "zone_id", "home_area", "status", *_with_intervals("visitors")),
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


def _days(frame: pd.DataFrame) -> pd.Series:
    return pd.to_datetime(frame["day"]).dt.date


def _of_day(frame: pd.DataFrame, day: date) -> pd.DataFrame:
    """The day's rows; an empty frame stays empty whatever its columns."""
    return frame[_days(frame) == day] if not frame.empty else frame


def _recent(frame: pd.DataFrame, day: date) -> pd.DataFrame:
    """The rows of the last 28 days up to `day`, `day` as dates."""
    if frame.empty:
        return frame
    frame = frame.assign(day=_days(frame))
    first = day - timedelta(days=POPULAR_DAYS - 1)
    return frame[(frame["day"] >= first) & (frame["day"] <= day)]


def _numbers(column: pd.Series) -> pd.Series:
    """Floats of a column that may hold Decimal, None or NaN."""
    numbers = pd.to_numeric(column.astype(object).where(column.notna(), math.nan), errors="coerce")
    return numbers.astype(float).replace([math.inf, -math.inf], math.nan)


def _measure(frame: pd.DataFrame, measure: str, *, keys: Sequence[str]) -> pd.DataFrame:
    """`keys`, state, value, low, high of one measure.

    Numbers stay only where the row is published: a figure that slipped into a suppressed row is
    not shown.
    """
    if frame.empty:
        return pd.DataFrame(columns=[*keys, "state", "value", "low", "high"])
    value = _numbers(frame[measure])
    published = frame["status"].eq(PUBLISHED).fillna(False).astype(bool) & value.notna()
    state = frame["status"].eq(NO_DATA).map({True: NO_DATA, False: SUPPRESSED}).astype(object)
    return frame[list(keys)].assign(
        state=state.mask(published, PUBLISHED),
        value=value.where(published),
        low=_numbers(frame[f"{measure}_low"]).where(published),
        high=_numbers(frame[f"{measure}_high"]).where(published),
    )


def _estimates(frame: pd.DataFrame) -> list[Estimate]:
    columns = (frame[name] for name in ("state", "value", "low", "high"))
    return [Estimate(*row) for row in zip(*columns, strict=True)]


def _text(value: object) -> str:
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
        not frame.empty and bool(_of_day(frame, day)["status"].eq(PUBLISHED).any())
        for frame in gold
    )


# --- zones ----------------------------------------------------------------------------------


def _zones(tables: ReportTables, *, day: date) -> list[Zone]:
    """Every zone known or published, the busiest first, those without a number last."""
    days = _of_day(tables.zone_days, day)
    named = {} if tables.zones.empty else tables.zones.set_index("zone_id").to_dict("index")
    reported = [] if days.empty else list(days["zone_id"])
    ids = sorted({str(zone_id) for zone_id in [*named, *reported]})
    labels = _labels({zone_id: _text(named.get(zone_id, {}).get("name")) for zone_id in ids})
    measures = {
        measure: dict(zip(reported, _estimates(_measure(days, measure, keys=())), strict=True))
        for measure in ("visitors", "visits", "passers_by", "dwell_median_min")
    }
    status = {} if days.empty else dict(zip(reported, days["status"], strict=True))
    missing = Estimate(NO_DATA)
    zones = [
        Zone(
            zone_id=zone_id,
            label=labels[zone_id],
            about=" · ".join(
                text
                for column in ("centre_name", "kind", "opening_hours")
                if (text := _text(named.get(zone_id, {}).get(column)))
            ),
            visitors=measures["visitors"].get(zone_id, missing),
            visits=measures["visits"].get(zone_id, missing),
            passers_by=measures["passers_by"].get(zone_id, missing),
            dwell=measures["dwell_median_min"].get(zone_id, missing),
            status=status.get(zone_id, NO_DATA),
        )
        for zone_id in ids
    ]
    return sorted(
        zones,
        key=lambda zone: (
            -zone.visitors.value if zone.visitors.published else math.inf,
            _STATES.index(zone.status) if zone.status in _STATES else len(_STATES),
            zone.label,
        ),
    )


def _labels(names: Mapping[str, str]) -> dict[str, str]:
    """A name to show for each zone id; a name that two zones share gets its id."""
    shared = Counter(names.values())

    def label(zone_id: str, name: str) -> str:
        if not name:
            return zone_id
        return name if shared[name] == 1 else f"{name} ({zone_id})"

    return {zone_id: label(zone_id, name) for zone_id, name in names.items()}


# --- popular times --------------------------------------------------------------------------


def _popular_times(hours: pd.DataFrame, *, day: date, timezone: str) -> pd.DataFrame:
    """zone_id, weekday (0 is Monday), hour (local), state, value: the mean over the days at hand.

    Suppressed when it was suppressed more often than published: the mean of the few days that
    passed the threshold would be too high.
    """
    cells = _measure(_recent(hours, day), "visitors", keys=("zone_id", "hour_start"))
    if cells.empty:
        return pd.DataFrame(columns=["zone_id", "weekday", "hour", "state", "value"])
    local = pd.to_datetime(cells["hour_start"], utc=True).dt.tz_convert(timezone)
    grouped = (
        cells.assign(
            weekday=local.dt.day_of_week,
            hour=local.dt.hour,
            published=cells["state"].eq(PUBLISHED),
            suppressed=cells["state"].eq(SUPPRESSED),
        )
        .groupby(["zone_id", "weekday", "hour"], as_index=False)
        .agg(
            value=("value", "mean"),
            published=("published", "sum"),
            suppressed=("suppressed", "sum"),
        )
    )
    shown = (grouped["published"] > 0) & (grouped["published"] >= grouped["suppressed"])
    hidden = ~shown & (grouped["suppressed"] > 0)
    grouped["state"] = NO_DATA
    grouped.loc[hidden, "state"] = SUPPRESSED
    grouped.loc[shown, "state"] = PUBLISHED
    grouped["value"] = grouped["value"].where(shown)
    return grouped[["zone_id", "weekday", "hour", "state", "value"]]


def _popular_card(spec: Spec, cells: pd.DataFrame) -> dict[str, object]:
    """The heat map of one zone, the top of its scale, and its busiest hour in words."""
    known = {
        (int(row.weekday), int(row.hour)): (str(row.state), float(row.value))
        for row in cells.itertuples()
    }
    shown = {slot: value for slot, (state, value) in known.items() if state == PUBLISHED}
    top = max(shown.values(), default=0.0)
    marks: list[Row] = []
    for weekday, name in enumerate(WEEKDAYS):
        for hour in range(24):
            state, value = known.get((weekday, hour), (NO_DATA, math.nan))
            if state == PUBLISHED:
                fill, stroke = _colour(value / top if top > 0 else 0.0), "#ffffff"
            else:
                fill, stroke = _VOID[state]
            inset = 0.06 if state == NO_DATA else 0.0
            marks.append(
                {"weekday": name, "from": hour + inset, "to": hour + 1 - inset}
                | {"fill": fill, "stroke": stroke}
            )
    peak = max(shown, key=lambda slot: shown[slot]) if top > 0 else None
    return {
        "popular_chart": _svg(spec, cells=marks),
        "popular_top": Estimate(PUBLISHED, top).number,
        "peak": f"{WEEKDAYS[peak[0]]} {_clock(peak[1])}–{_clock(peak[1] + 1)}" if peak else "",
        "peak_visitors": Estimate(PUBLISHED, top).number if peak else "",
    }


def _clock(hour: int) -> str:
    return f"{hour:02d}:00"


def _colour(share: float) -> str:
    """The ramp's colour at 0 … 1, between its stops by straight lines.

    >>> _colour(0.0), _colour(1.0)
    ('#f4e61e', '#440154')
    """
    at = min(max(share, 0.0), 1.0) * (len(RAMP) - 1)
    left = min(int(at), len(RAMP) - 2)
    pairs = zip(bytes.fromhex(RAMP[left][1:]), bytes.fromhex(RAMP[left + 1][1:]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (at - left)):02x}" for a, b in pairs)


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


def _accuracy(benchmark: Benchmark | None, releases: pd.DataFrame) -> dict[str, Any]:
    """Nothing for a release of another version of the method than was measured."""
    versions = set(releases["method_version"]) if len(releases) else set()
    if benchmark is None or not len(releases) or versions != {benchmark.method_version}:
        return {"benchmark": None}
    measured = benchmark.by_measure
    return {
        "benchmark": benchmark,
        "scenarios": len(benchmark.by_scenario),
        "worlds": len(benchmark.by_scenario) * len(benchmark.seeds),
        "chart": _accuracy_chart(measured["indoors"]),
        "tables": {
            told: [_accuracy_line(measure, one) for measure, one in measured[told].items()]
            for told in ("indoors", "outdoors")
            if told in measured
        },
    }


def _accuracy_line(measure: str, one: Figures) -> Accuracy:
    told = _minutes_of if measure == MEDIAN_STAY else _percent
    return Accuracy(
        name=_accuracy_name(measure),
        error=told(one.error),
        floor=_percent(one.floor),
        naive=_percent(one.naive),
        bias=told(one.bias, signed=True),
        coverage=_percent(one.coverage, digits=0),
    )


def _accuracy_name(measure: str) -> str:
    return "Median stay" if measure == MEDIAN_STAY else MEASURE_NAMES[measure]


def _percent(share: float | None, *, signed: bool = False, digits: int = 1) -> str:
    return "–" if share is None else _figure(100 * share, signed=signed, digits=digits) + " %"


def _minutes_of(minutes: float | None, *, signed: bool = False) -> str:
    return "–" if minutes is None else _figure(minutes, signed=signed, digits=1) + " min"


def _figure(value: float, *, signed: bool, digits: int) -> str:
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


# --- charts ---------------------------------------------------------------------------------


def _spec(chart: alt.LayerChart | alt.FacetChart) -> Spec:
    """The Vega-Lite of a chart whose data come by name; made once, drawn for many zones."""
    spec: Spec = (
        chart.configure(
            font="system-ui, sans-serif",
            aria=False,
            background="transparent",
            padding={
                "left": 22,
                "top": 8,
                "right": 14,
                "bottom": 2,
            },  # the reader's font may be wide
        )
        .configure_view(stroke=None)
        .configure_axis(
            domain=False,
            ticks=False,
            gridColor=LINE,
            labelColor=FAINT,
            labelFontSize=11,
            labelFlush=False,
            labelPadding=5,
            titleColor=FAINT,
            titleFontSize=11,
            titleFontWeight="normal",
        )
        .to_dict()
    )
    return spec


def _svg(spec: Spec, **rows: Sequence[Row]) -> Markup:
    """A chart as SVG text; Vega escapes the labels, and nothing is fetched from anywhere."""
    drawn = {**spec, "datasets": {name: list(values) for name, values in rows.items()}}
    return Markup(vl_convert.vegalite_to_svg(drawn, allowed_base_urls=[]))


def _named(rows: str) -> alt.Chart:
    return alt.Chart(alt.NamedData(name=rows))


def _span(value: Estimate) -> Row:
    """Value and interval for a chart; without an interval, the value alone."""
    low = value.value if math.isnan(value.low) else value.low
    high = value.value if math.isnan(value.high) else value.high
    return {"value": value.value, "low": low, "high": high}


def _counts(*, ticks: int = 4) -> alt.Axis:
    return alt.Axis(format=",.0f", tickCount=ticks, labelOverlap="parity")


def _own_colours() -> dict[str, Any]:
    """Fill and edge stand in the rows."""
    return {
        "fill": alt.Fill("fill:N", scale=None, legend=None),
        "stroke": alt.Stroke("stroke:N", scale=None, legend=None),
    }


def _overview_chart(zones: Sequence[Zone]) -> Markup:
    y = alt.Y(
        "zone:N",
        sort=None,
        title=None,
        axis=alt.Axis(labelLimit=165, labelColor=INK),
    )
    x = alt.X("low:Q", title=None, scale=alt.Scale(zero=True), axis=_counts(ticks=3))
    rows = _named("rows")
    layers = alt.layer(
        rows.mark_rule(color=BAND, strokeWidth=7, strokeCap="round").encode(y=y, x=x, x2="high:Q"),
        rows.mark_point(color=DEEP, fill=DEEP, size=34, opacity=1).encode(y=y, x="value:Q"),
    )
    spec = _spec(layers.properties(width=240, height=alt.Step(19)))
    return _svg(spec, rows=[{"zone": zone.label} | _span(zone.visitors) for zone in zones])


def _accuracy_chart(measured: Mapping[str, Figures]) -> Markup:
    """Typical errors on a scale on which twice as much is as far everywhere."""
    rows: list[Row] = [
        {
            "measure": _accuracy_name(measure),
            "floor": 100 * one.floor,
            "error": 100 * one.error,
            "naive": None if one.naive is None else 100 * one.naive,
        }
        for measure, one in measured.items()
        if one.floor and one.error
    ]
    y = alt.Y("measure:N", sort=None, title=None, axis=alt.Axis(labelLimit=165, labelColor=INK))
    scale = alt.Scale(type="log", domain=[0.5, 100], nice=False)
    ticks = alt.Axis(values=[0.5, 1, 2, 5, 10, 20, 50, 100], labelExpr="datum.value + ' %'")
    x = alt.X("floor:Q", title=None, scale=scale, axis=ticks)
    named = _named("rows")
    layers = alt.layer(
        named.mark_rule(color=BAND, strokeWidth=7, strokeCap="round").encode(
            y=y, x=x, x2="error:Q"
        ),
        named.mark_point(color=DEEP, fill=DEEP, size=34, opacity=1).encode(y=y, x="error:Q"),
        named.mark_point(shape="cross", color=INK, fill=INK, size=44, opacity=1)
        .transform_filter("isValid(datum.naive)")
        .encode(y=y, x="naive:Q"),
    )
    return _svg(_spec(layers.properties(width=330, height=alt.Step(22))), rows=rows)


@cache
def _popular_spec() -> Spec:
    x = alt.X(
        "from:Q",
        title=None,
        scale=alt.Scale(domain=[0, 24], nice=False),
        axis=alt.Axis(values=list(range(0, 25, 3)), grid=False, format="02d"),
    )
    y = alt.Y("weekday:N", scale=alt.Scale(domain=list(WEEKDAYS)), title=None)
    cells = _named("cells").mark_rect(strokeWidth=1).encode(x=x, x2="to:Q", y=y, **_own_colours())
    return _spec(alt.layer(cells).properties(width=370, height=alt.Step(30)))


def _hours_of_day(hours: pd.DataFrame, *, day: date, timezone: str) -> pd.DataFrame:
    """zone_id, slot (hours since the local midnight), state, value, low, high of the day."""
    cells = _measure(_of_day(hours, day), "visitors", keys=("zone_id", "hour_start"))
    since = pd.to_datetime(cells["hour_start"], utc=True) - pd.Timestamp(day, tz=timezone)
    return cells.assign(slot=since // pd.Timedelta(hours=1))


def _clock_hours(day: date, timezone: str) -> tuple[int, ...]:
    """The local hour at which each hour of the day starts: 24 of them, or 23, or 25."""
    midnight, end = (pd.Timestamp(at, tz=timezone) for at in (day, day + timedelta(days=1)))
    starts = pd.date_range(midnight, end, freq="h", inclusive="left")
    return tuple(at.hour for at in starts)


@cache
def _hours_spec(clock: tuple[int, ...]) -> Spec:
    """Bars with their intervals; an hour without a number is marked at the foot.

    The axis counts hours since midnight and its labels tell the clock's, for days of 23 or 25.
    """
    ticks = [slot for slot, hour in enumerate(clock) if hour % 3 == 0] + [len(clock)]
    names = ", ".join(f"'{tick}': '{[*clock, 24][tick]:02d}'" for tick in ticks)
    x = alt.X(
        "from:Q",
        title=None,
        scale=alt.Scale(domain=[0, len(clock)], nice=False),
        axis=alt.Axis(values=ticks, grid=False, labelExpr=f"({{{names}}})[datum.value]"),
    )
    y = alt.Y("low:Q", title=None, scale=alt.Scale(zero=True), axis=_counts())
    rows, gaps = _named("rows"), _named("gaps")
    layers = alt.layer(
        rows.mark_rect(color=PALE).encode(x=x, x2="to:Q", y=alt.Y("value:Q"), y2=alt.datum(0)),
        rows.mark_rect(color=BAND).encode(x=x, x2="to:Q", y=y, y2="high:Q"),
        rows.mark_rule(color=DEEP, strokeWidth=2).encode(x=x, x2="to:Q", y="value:Q"),
        gaps.mark_rect(strokeWidth=1).encode(
            x=x, x2="to:Q", y=alt.value(120), y2=alt.value(110), **_own_colours()
        ),
    )
    return _spec(layers.properties(width=370, height=120))


def _hours_chart(spec: Spec, cells: pd.DataFrame, *, hours: int) -> Markup:
    known = dict(zip((int(slot) for slot in cells["slot"]), _estimates(cells), strict=True))
    rows: list[Row] = []
    gaps: list[Row] = []
    for slot in range(hours):
        hour = known.get(slot, Estimate(NO_DATA))
        place: Row = {"from": slot + 0.06, "to": slot + 0.94}
        if hour.published:
            rows.append(place | _span(hour))
        else:
            fill, stroke = _VOID[hour.state]
            gaps.append(place | {"fill": fill, "stroke": stroke})
    return _svg(spec, rows=rows, gaps=gaps)


@cache
def _dwell_spec() -> Spec:
    """Bars with error bars; a band without a number says so in words."""
    bands = [_band(band) for band in DWELL_BANDS]
    y = alt.Y("band:N", title=None, scale=alt.Scale(domain=bands))
    x = alt.X("value:Q", title=None, axis=_counts())
    rows = _named("rows")
    words = _named("words").mark_text(align="left", fontSize=11, fontStyle="italic", color=FAINT)
    layers = alt.layer(
        rows.mark_bar(color="#7fbbc2", size=13).encode(x=x, y=y),
        rows.mark_rule(color=INK, strokeWidth=1.2).encode(x="low:Q", x2="high:Q", y=y),
        *(
            rows.mark_tick(color=INK, thickness=1.2, size=7).encode(x=f"{end}:Q", y=y)
            for end in ("low", "high")
        ),
        words.encode(x=alt.value(4), y=y, text="word:N"),
    )
    return _spec(layers.properties(width=330, height=alt.Step(21)))


def _dwell_chart(spec: Spec, bands: pd.DataFrame) -> Markup:
    known = dict(zip(bands["dwell_band"], _estimates(bands), strict=True))
    stays = {_band(band): known.get(band, Estimate(NO_DATA)) for band in DWELL_BANDS}
    return _svg(
        spec,
        rows=[{"band": band} | _span(stay) for band, stay in stays.items() if stay.published],
        words=[
            {"band": band, "word": stay.state.replace("_", " ")}
            for band, stay in stays.items()
            if not stay.published
        ],
    )


def _band(label: str) -> str:
    return f"{label.replace('-', '–')} min"


# --- flows and catchment --------------------------------------------------------------------


def _strongest(frame: pd.DataFrame) -> pd.DataFrame:
    published = frame[frame["state"] == PUBLISHED]
    return published.sort_values("value", ascending=False, kind="stable").head(LISTED)


def _state_counts(frame: pd.DataFrame) -> dict[str, int]:
    return {state: int((frame["state"] == state).sum()) for state in _STATES}


def _flows(flows: pd.DataFrame, *, day: date, labels: Mapping[str, str]) -> dict[str, object]:
    keys = ("origin_zone_id", "destination_zone_id", "day_part")
    trips = _measure(_of_day(flows, day), "trips", keys=keys)
    outer = trips["origin_zone_id"].eq(ELSEWHERE) | trips["destination_zone_id"].eq(ELSEWHERE)

    def lines(frame: pd.DataFrame) -> list[dict[str, object]]:
        top = _strongest(frame)
        columns = (top[key] for key in keys)
        return [
            {
                "origin": _place(origin, labels),
                "destination": _place(destination, labels),
                "day_part": _day_part(part),
                "trips": trips,
            }
            for origin, destination, part, trips in zip(*columns, _estimates(top), strict=True)
        ]

    return {
        "between": lines(trips[~outer.astype(bool)]),
        "outer": lines(trips[outer.astype(bool)]),
        "counts": _state_counts(trips),
    }


def _day_part(name: str) -> str:
    """A day part with its local hours.

    >>> _day_part("evening")
    'evening, 18–22 h'
    """
    if name not in DAY_PARTS:
        return _text(name)
    names = list(DAY_PARTS)
    end = DAY_PARTS[names[(names.index(name) + 1) % len(names)]]
    return f"{name}, {DAY_PARTS[name]}–{end} h"


def _place(zone_id: str, labels: Mapping[str, str]) -> str:
    return ELSEWHERE if zone_id == ELSEWHERE else labels.get(zone_id, _text(zone_id))


def _catchment(areas: pd.DataFrame, *, day: date, labels: Mapping[str, str]) -> dict[str, object]:
    visitors = _measure(_of_day(areas, day), "visitors", keys=("zone_id", "home_area"))
    top = _strongest(visitors)
    columns = zip(top["zone_id"], top["home_area"], _estimates(top), strict=True)
    return {
        "lines": [
            {
                "zone": _place(zone_id, labels),
                "area": HOME_AREAS.get(area, _text(area)),
                "is_code": area not in HOME_AREAS,
                "visitors": estimate,
            }
            for zone_id, area, estimate in columns
        ],
        "counts": _state_counts(visitors),
    }


# --- privacy --------------------------------------------------------------------------------


def _privacy(
    releases: pd.DataFrame, *, day: date, epsilon_by_delta: Mapping[float, float], rho_cap: float
) -> dict[str, object]:
    """The ledger of the day against its cap, and what it adds up to over days."""
    monthly = _ledger(releases[releases["product"] == MONTHLY]) if not releases.empty else []
    of_day = _of_day(releases, day)
    daily = _ledger(of_day[of_day["product"] != MONTHLY]) if not of_day.empty else []
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
            {name: _text(value) for name, value in line.items()}
            for line in (of_day if not of_day.empty else pd.DataFrame())
            .reindex(columns=["release_id", "method_version", "code_version", "mechanism"])
            .drop_duplicates()
            .to_dict("records")
        ],
    }


def _attacks(attacks: Sequence[Attack]) -> dict[str, object]:
    """What attacks on the day's releases reached, all risks in one table."""
    risks = by_risk(attacks)
    lines = [line for of_risk in risks.values() for line in of_risk]
    return {
        "risks": risks,
        "lines": lines,
        "broken": sum(not line["within"] for line in lines),
    }


def _participation(cells: pd.DataFrame, *, min_devices: int) -> dict[str, object]:
    """Who takes part this month, by brand and by area, each number in subscribers."""
    if cells.empty:
        return {"total": "", "brands": [], "areas": [], "hidden": 0}
    by_area = cells[cells["measure"] == PARTICIPANTS.name]
    margin = Z_95 * math.sqrt(float((by_area["sigma"] ** 2).sum()))
    total = float(by_area["noisy_devices"].sum())
    areas = [
        {"area": row.keys["area"], "participants": f"{row.noisy_devices:,.0f}"}
        for row in by_area.sort_values("noisy_devices", ascending=False).itertuples()
        if _is_shown(row.noisy_devices, row.sigma, min_devices=min_devices)
    ]
    return {
        "total": f"{max(total, 0):,.0f} ± {margin:,.0f}",
        "brands": _brands(cells[cells["measure"] == BRAND_SUBSCRIBERS.name], min_devices),
        "areas": areas,
        "hidden": len(by_area) - len(areas),
    }


def _brands(cells: pd.DataFrame, min_devices: int) -> list[dict[str, str]]:
    """The share of each brand's subscribers that takes part, where both counts may be told."""
    counts: dict[str, dict[str, tuple[float, float]]] = {}
    for row in cells.itertuples():
        by_state = counts.setdefault(row.keys["brand"], {})
        by_state[row.keys["state"]] = (row.noisy_devices, row.sigma)
    return [
        {
            "brand": brand,
            "share": _share(*(by_state[one] for one in SUBSCRIBER_STATES), min_devices=min_devices),
        }
        for brand, by_state in sorted(counts.items())
    ]


def _share(yes: tuple[float, float], no: tuple[float, float], *, min_devices: int) -> str:
    """yes / (yes + no) in per cent with its 95 % margin (delta method), or that it is hidden."""
    if not all(_is_shown(*one, min_devices=min_devices) for one in (yes, no)):
        return SUPPRESSED
    (taking, sigma), (left, _) = yes, no
    everybody = taking + left
    margin = Z_95 * sigma * math.hypot(taking, left) / everybody**2
    return f"{100 * taking / everybody:.1f} % ± {100 * margin:.1f}"


def _is_shown(devices: float, sigma: float, *, min_devices: int) -> bool:
    return devices >= threshold(sigma, min_devices=min_devices)


def _ledger(releases: pd.DataFrame) -> list[dict[str, Any]]:
    lines = []
    for row in releases.to_dict("records"):
        code = f"{_text(row['product'])}.{_text(row['measure'])}"
        lines.append(
            {
                "name": MEASURE_NAMES.get(code, code),
                "code": code,
                "rho": _float(row["rho"]),
                "rho_text": f"{_float(row['rho']):.4g}",
                "sigma": _or_dash(f"{_float(row['sigma']):.3g}"),
                "l0": _or_dash(f"{_float(row['l0']):g}"),
                "suppressed": _of_rows(_count(row["suppressed"]), _count(row["rows"])),
            }
        )
    return lines


def _of_rows(suppressed: int | None, rows: int | None) -> str:
    """How many of all rows, and their share.

    >>> _of_rows(118, 624)
    '118 of 624 (19%)'
    """
    if suppressed is None or not rows:
        return "–"
    return f"{suppressed:,} of {rows:,} ({100 * suppressed / rows:.0f}%)"


def _float(value: object) -> float:
    """A float of whatever number a table holds; NaN for null."""
    return float(_numbers(pd.Series([value], dtype=object)).iloc[0])


def _count(value: object) -> int | None:
    number = _float(value)
    return None if math.isnan(number) else int(number)


def _or_dash(text: str) -> str:
    return "–" if text == "nan" else text


def _run(run: Mapping[str, object], rejected: pd.DataFrame, *, timezone: str) -> dict[str, object]:
    """The run in words. Where one count is too small to tell, the others are rounded to tens:
    rows in is their sum, so a subtraction would give the small one away."""
    parts = ("rows_in", "other_day", "rejected", "not_taking_part", "accepted")
    counts = {part: _count(run.get(part)) for part in parts}
    reasons: dict[str, int | None] = {}
    if not rejected.empty:
        columns = zip(rejected["reason"], rejected["rows"], strict=True)
        reasons = {_text(reason): _count(rows) for reason, rows in columns}
    small = any(
        count is not None and 0 < count < SMALL_COUNT
        for count in [*counts.values(), *reasons.values()]
    )
    started, ended = (_instant(run.get(name), timezone) for name in ("started_at", "ended_at"))
    return {
        "run_id": _text(run.get("run_id")),
        "outcome": _text(run.get("outcome")) or "not known",
        "started": f"{started:%d %B %Y, %H:%M}" if started else "not known",
        "ended": f"{ended:%d %B %Y, %H:%M}" if ended else "not known",
        "minutes": f"{(ended - started).total_seconds() / 60:.0f}" if started and ended else "",
        "rounded": small,
        "counts": {part: _rows(count, rounded=small) for part, count in counts.items()},
        "reasons": [
            (REASONS.get(reason, reason), _rows(count, rounded=small))
            for reason, count in sorted(reasons.items(), key=lambda item: -(item[1] or 0))
        ],
    }


def _rows(count: int | None, *, rounded: bool) -> str:
    if count is None:
        return "not known"
    if 0 < count < SMALL_COUNT:
        return f"fewer than {SMALL_COUNT}"
    return f"{round(count, -1):,}" if rounded else f"{count:,}"


def _instant(value: object, timezone: str) -> pd.Timestamp | None:
    """A stored UTC instant in local time; None for null."""
    if value is None or pd.isna(value):
        return None
    at = pd.Timestamp(value)
    return (at.tz_localize("UTC") if at.tzinfo is None else at).tz_convert(timezone)
