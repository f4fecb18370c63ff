"""The charts of a page: rows in, SVG text out, drawn by Vega-Lite and without any script.

A number is drawn only where there is one; suppressed is hatched and no data is blank, never zero.
Names are escaped by Vega.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal, TypeAlias

import altair as alt
import vl_convert
from markupsafe import Markup

from transforms.estimates import MISSING, NO_DATA, SUPPRESSED, Estimate
from transforms.language import Language

# Viridis from few (light) to many (dark): safe for colour-blind eyes and for grey printers.
RAMP: Final = ("#f4e61e", "#a8db34", "#56c667", "#24a884", "#2a768e", "#3b528b", "#440154")
INK, FAINT, LINE = "#1d2733", "#5c6875", "#dfe4e8"
DEEP, BAND, PALE = "#2a768e", "#a9d0d6", "#e6f1f3"
HATCH: Final = "url(#suppressed-hatch)"  # stands once, in the template
VOID: Final = {SUPPRESSED: (HATCH, "#ffffff"), NO_DATA: ("#ffffff", "#cfd6dc")}  # fill, stroke
Spec: TypeAlias = dict[str, Any]
Row: TypeAlias = dict[str, object]
Slot: TypeAlias = tuple[int, int]
"""Weekday (0 is Monday) and local hour."""


def colour(share: float) -> str:
    """The ramp's colour at 0 … 1, between its stops by straight lines.

    >>> colour(0.0), colour(1.0)
    ('#f4e61e', '#440154')
    """
    at = min(max(share, 0.0), 1.0) * (len(RAMP) - 1)
    left = min(int(at), len(RAMP) - 2)
    pairs = zip(bytes.fromhex(RAMP[left][1:]), bytes.fromhex(RAMP[left + 1][1:]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (at - left)):02x}" for a, b in pairs)


# --- numbers in a row -------------------------------------------------------------------------


def overview(zones: Mapping[str, Estimate], *, language: Language) -> Markup:
    """Numbers with their intervals, by label, in the order they come in."""
    rows = [{"zone": label} | _span(value) for label, value in zones.items()]
    return _svg(_overview_spec(), language, rows=rows)


@cache
def _overview_spec() -> Spec:
    y = alt.Y("zone:N", sort=None, title=None, axis=alt.Axis(labelLimit=165, labelColor=INK))
    x = alt.X("low:Q", title=None, scale=alt.Scale(zero=True), axis=_counts(ticks=3))
    rows = _named("rows")
    layers = alt.layer(
        rows.mark_rule(color=BAND, strokeWidth=7, strokeCap="round").encode(y=y, x=x, x2="high:Q"),
        rows.mark_point(color=DEEP, fill=DEEP, size=34, opacity=1).encode(y=y, x="value:Q"),
    )
    return _spec(layers.properties(width=240, height=alt.Step(19)))


def typical_errors(rows: Sequence[Row], *, language: Language) -> Markup:
    """measure, floor, error, naive (or null), in per cent, on a scale on which twice as much is as
    far everywhere.
    """
    return _svg(_errors_spec(), language, rows=rows)


@cache
def _errors_spec() -> Spec:
    y = alt.Y("measure:N", sort=None, title=None, axis=alt.Axis(labelLimit=165, labelColor=INK))
    scale = alt.Scale(type="log", domain=[0.5, 100], nice=False)
    ticks = alt.Axis(values=[0.5, 1, 2, 5, 10, 20, 50, 100], labelExpr="datum.label + ' %'")
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
    return _spec(layers.properties(width=330, height=alt.Step(22)))


# --- a week, a day, lengths of stay -----------------------------------------------------------


def week(popularity: Mapping[Slot, Estimate], *, language: Language) -> Markup:
    """The heat map of a week, 0 to 100."""
    marks: list[Row] = []
    for weekday, name in enumerate(language.weekdays):
        for hour in range(24):
            slot = popularity.get((weekday, hour), MISSING)
            fill, stroke = (
                (colour(slot.value / 100), "#ffffff") if slot.published else VOID[slot.state]
            )
            inset = 0.06 if slot.state == NO_DATA else 0.0
            place: Row = {"from": hour + inset, "to": hour + 1 - inset}
            marks.append({"weekday": name} | place | {"fill": fill, "stroke": stroke})
    return _svg(_week_spec(language.weekdays), language, cells=marks)


@cache
def _week_spec(weekdays: tuple[str, ...]) -> Spec:
    x = alt.X(
        "from:Q",
        title=None,
        scale=alt.Scale(domain=[0, 24], nice=False),
        axis=alt.Axis(values=list(range(0, 25, 3)), grid=False, format="02d"),
    )
    y = alt.Y("weekday:N", scale=alt.Scale(domain=list(weekdays)), title=None)
    cells = _named("cells").mark_rect(strokeWidth=1).encode(x=x, x2="to:Q", y=y, **_own_colours())
    return _spec(alt.layer(cells).properties(width=370, height=alt.Step(30)))


def hours(
    visitors: Mapping[int, Estimate], *, clock: tuple[int, ...], language: Language
) -> Markup:
    """Bars with their intervals, by hour since midnight; `clock` is the local hour of each. An hour
    without a number is marked at the foot.
    """
    rows: list[Row] = []
    gaps: list[Row] = []
    for slot in range(len(clock)):
        hour = visitors.get(slot, MISSING)
        place: Row = {"from": slot + 0.06, "to": slot + 0.94}
        if hour.published:
            rows.append(place | _span(hour))
        else:
            fill, stroke = VOID[hour.state]
            gaps.append(place | {"fill": fill, "stroke": stroke})
    return _svg(_hours_spec(clock), language, rows=rows, gaps=gaps)


@cache
def _hours_spec(clock: tuple[int, ...]) -> Spec:
    """The axis counts hours since midnight; its labels tell the clock's, for days of 23 or 25."""
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


def bands(stays: Mapping[str, Estimate], *, language: Language) -> Markup:
    """Bars with error bars, by label; one without a number says so in words."""
    return _svg(
        _bands_spec(tuple(stays)),
        language,
        rows=[{"band": band} | _span(stay) for band, stay in stays.items() if stay.published],
        words=[
            {"band": band, "word": language.word(stay.state.replace("_", " "))}
            for band, stay in stays.items()
            if not stay.published
        ],
    )


@cache
def _bands_spec(labels: tuple[str, ...]) -> Spec:
    y = alt.Y("band:N", title=None, scale=alt.Scale(domain=list(labels)))
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


# --- maps -------------------------------------------------------------------------------------


def shape(geometry: Mapping[str, object], *, fill: str, stroke: str) -> Row:
    """A GeoJSON geometry on a plane, with its colours."""
    feature: Row = {"type": "Feature", "geometry": dict(geometry), "properties": {}}
    return feature | {"fill": fill, "stroke": stroke}


def map_of(
    shapes: Sequence[Row], *, labels: Sequence[Row] = (), height: int, language: Language
) -> Markup:
    """Shapes on a plane, the later ones above; labels have x, y and text."""
    return _svg(_map_spec(height), language, shapes=shapes, labels=labels)


@cache
def _map_spec(height: int) -> Spec:
    shapes, labels = _named("shapes"), _named("labels")
    layers = alt.layer(
        shapes.mark_geoshape(strokeWidth=0.6).encode(**_own_colours()),
        labels.mark_text(fontSize=10, fontWeight=600, color=INK).encode(
            longitude="x:Q", latitude="y:Q", text="text:N"
        ),
    ).project(type="identity", reflectY=True)
    return _spec(layers.properties(width=370, height=height))


# --- what they share --------------------------------------------------------------------------


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


_NUMBERS: Final[Mapping[str, Literal["en-GB", "de-DE"]]] = {"en": "en-GB", "de": "de-DE"}


def _svg(spec: Spec, language: Language, **rows: Sequence[Row]) -> Markup:
    """A chart as SVG text; Vega escapes the labels, and nothing is fetched from anywhere."""
    drawn = {**spec, "datasets": {name: list(values) for name, values in rows.items()}}
    return Markup(
        vl_convert.vegalite_to_svg(
            drawn, allowed_base_urls=[], format_locale=_NUMBERS[language.code]
        )
    )


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
