"""The report: what people may read from a page, and what must never stand on it."""

import doctest
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser

import pandas as pd
import pytest

from transforms import report
from transforms.benchmark import Benchmark, Figures
from transforms.report import Estimate, ReportTables, night_report

DAY = date(2026, 11, 21)  # a Saturday
STATEMENT = f"statement-{DAY}.html"  # a link to a page beside it: followed, not loaded
EVIL = "<script>alert(1)</script> \"Ring\" & 'Co' 🛍️"
NONE = (None, None, None)


# --- literal tables -------------------------------------------------------------------------


def zones(*rows: tuple[str, str | None]) -> pd.DataFrame:
    return pd.DataFrame(
        [(*row, "Centre", "mall", "Mo-Sa 10:00-20:00") for row in rows],
        columns=["zone_id", "name", "centre_name", "kind", "opening_hours"],
    )


def columns(*measures: str) -> list[str]:
    return [f"{measure}{end}" for measure in measures for end in ("", "_low", "_high")]


def zone_hours(*rows: tuple[str, str, object, object, object, str]) -> pd.DataFrame:
    """zone, UTC hour, visitors, low, high, status."""
    frame = pd.DataFrame(rows, columns=["zone_id", "hour_start", *columns("visitors"), "status"])
    starts = pd.to_datetime(frame["hour_start"], utc=True)
    return frame.assign(hour_start=starts, day=starts.dt.tz_convert("Europe/Berlin").dt.date)


def zone_days(*rows: tuple[object, ...]) -> pd.DataFrame:
    """zone, visitors, visits, passers_by, dwell_median_min with low and high, status."""
    measures = columns("visitors", "visits", "passers_by", "dwell_median_min")
    return pd.DataFrame(rows, columns=["zone_id", *measures, "status"]).assign(day=DAY)


def zone_dwell(*rows: tuple[object, ...]) -> pd.DataFrame:
    names = ["zone_id", "dwell_band", *columns("visitors"), "status"]
    return pd.DataFrame(rows, columns=names).assign(day=DAY)


def zone_flows(*rows: tuple[object, ...]) -> pd.DataFrame:
    keys = ["origin_zone_id", "destination_zone_id", "day_part"]
    return pd.DataFrame(rows, columns=[*keys, *columns("trips"), "status"]).assign(day=DAY)


def zone_catchment(*rows: tuple[object, ...]) -> pd.DataFrame:
    names = ["zone_id", "home_area", *columns("visitors"), "status"]
    return pd.DataFrame(rows, columns=names).assign(day=DAY)


def releases(*rows: tuple[str, str, object, float]) -> pd.DataFrame:
    """product, measure, rho, sigma."""
    return pd.DataFrame(rows, columns=["product", "measure", "rho", "sigma"]).assign(
        release_id="release-7",
        day=DAY,
        delta=0.0,
        l0=8,
        mechanism="discrete Gaussian",
        method_version="1",
        code_version="0.1",
        rows=624,
        suppressed=118,
    )


def rejected(**rows: int) -> pd.DataFrame:
    return pd.DataFrame({"day": DAY, "reason": list(rows), "rows": list(rows.values())})


RUN: Mapping[str, object] = {
    "run_id": "run-1",
    "day": DAY,
    "started_at": pd.Timestamp("2026-11-22T01:00Z"),
    "ended_at": pd.Timestamp("2026-11-22T01:34Z"),
    "outcome": "published",
    "rows_in": 10_434,
    "other_day": 1_200,
    "rejected": 234,
    "not_taking_part": 2_000,
    "accepted": 7_000,
}
NIGHT = ReportTables(
    zones=zones(("a", "Alexa"), ("b", EVIL), ("c", "Quiet"), ("d", "Dark")),
    zone_hours=zone_hours(
        ("a", "2026-11-21T09:00Z", 512.4, 480.2, 544.0, "published"),
        ("a", "2026-11-21T10:00Z", 0.0, 0.0, 30.0, "published"),
        ("a", "2026-11-21T11:00Z", *NONE, "suppressed"),
        ("a", "2026-11-21T12:00Z", *NONE, "no_data"),
        ("b", "2026-11-21T09:00Z", 212.4, 180.2, 244.0, "published"),
    ),
    zone_days=zone_days(
        # the first row holds Decimals, the second a measure that is null in a published row
        ("a", *map(Decimal, ("1238.2", "1183", "1296")), 1500, 1400, 1600, *NONE, 47, 43, 52)
        + ("published",),
        ("b", 640.0, 600.0, 680.0, math.nan, None, None, 90, 60, 120, *NONE, "published"),
        ("c", *NONE * 4, "suppressed"),
        ("d", *NONE * 4, "no_data"),
    ),
    zone_dwell=zone_dwell(
        ("a", "10-30", 600.0, 560.0, 640.0, "published"),
        ("a", "30-60", *NONE, "suppressed"),
    ),
    zone_flows=zone_flows(
        ("a", "b", "evening", 310.0, 280.0, 340.0, "published"),
        ("elsewhere", "a", "night", 710.0, 680.0, 740.0, "published"),
        ("b", "c", "evening", *NONE, "suppressed"),
    ),
    zone_catchment=zone_catchment(
        ("a", "871f1d489ffffff", 220.0, 190.0, 250.0, "published"),
        ("b", "unknown", 120.0, 90.0, 150.0, "published"),
    ),
    releases=releases(
        ("zone_hours", "visitors", Decimal("0.035"), 10.690449676496975),
        ("zone_days", "visits", 0.005, 40.0),
    ),
    rejected=rejected(no_cell=34, duplicate=200),
    run=RUN,
)


def page(tables: ReportTables = NIGHT, **arguments: object) -> str:
    given: dict[str, object] = {
        "day": DAY,
        "timezone": "Europe/Berlin",
        "epsilon_by_delta": {1e-9: 2.58, 1e-6: 1.99},
        "rho_cap": 0.1,
        "min_devices": 30,
    }
    return night_report(tables, **given | arguments)  # type: ignore[arg-type]


def words(html: str) -> str:
    """What a reader sees of the page's own text, on one line."""
    return " ".join(_Reading(html).text.replace("\xa0", " ").split())


class _Reading(HTMLParser):
    """The page as a browser parses it: its text, its elements, and whether all were closed."""

    void = frozenset({"meta", "br"})
    apart = frozenset({"td", "th", "tr", "dt", "dd", "div", "p", "h1", "h2", "h3", "h4", "a"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += " " if tag in self.apart else ""
        self.handle_startendtag(tag, attrs)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def html() -> str:
    return page()


EMPTY = pd.DataFrame()
NOTHING = ReportTables(EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, {})
SUPPRESSED = replace(
    NIGHT,
    zone_hours=zone_hours(("a", "2026-11-21T09:00Z", *NONE, "suppressed")),
    zone_days=zone_days(("a", *NONE * 4, "suppressed"), ("b", *NONE * 4, "no_data")),
    zone_dwell=zone_dwell(("a", "10-30", *NONE, "suppressed")),
    zone_flows=zone_flows(("a", "b", "night", *NONE, "suppressed")),
    zone_catchment=zone_catchment(("a", "unknown", *NONE, "suppressed")),
)


# --- a page that is safe to open ------------------------------------------------------------


def test_a_name_with_markup_is_text_everywhere(html: str) -> None:
    reading = _Reading(html)
    assert "script" not in reading.seen
    assert not re.search(r"<\s*script", html, re.IGNORECASE)
    assert EVIL in words(html)


def test_a_name_with_markup_is_text_inside_a_chart() -> None:
    name = "<script>alert(1)</script>"
    html = page(replace(NIGHT, zones=zones(("a", name))))
    charts = re.findall(r"<svg[^>]*class=\"marks\".*?</svg>", html, re.DOTALL)
    assert any("&lt;script&gt;alert(1)" in chart for chart in charts)
    assert not any("<script" in chart for chart in charts)


def test_free_text_of_the_run_and_of_reasons_is_escaped() -> None:
    tables = replace(
        SUPPRESSED,
        run={**RUN, "outcome": "<b onclick=x>", "run_id": "<img src=x>"},
        rejected=rejected(**{"<img src=y>": 50}),
    )
    reading = _Reading(page(tables))
    assert "img" not in reading.seen
    assert "onclick" not in dict(reading.attributes)


def test_the_page_loads_nothing(html: str) -> None:
    reading = _Reading(html)
    loading = {"script", "link", "img", "image", "iframe", "object", "embed", "use", "base"}
    assert not loading & set(reading.seen)
    for name, value in reading.attributes:
        if name in {"href", "xlink:href", "src", "srcset", "action", "data"}:
            assert name == "href", (name, value)
            assert (value or "").startswith("#") or value == STATEMENT, (name, value)
        assert not name.startswith("on"), name
    assert "@import" not in html
    assert set(re.findall(r"url\(([^)]*)\)", html)) <= {"#suppressed-hatch"}
    hosts = {value for name, value in reading.attributes if value and "://" in value}
    assert hosts <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_policy_of_the_page_forbids_loading(html: str) -> None:
    contents = [value or "" for name, value in _Reading(html).attributes if name == "content"]
    assert any(content.startswith("default-src 'none'; style-src") for content in contents)


@pytest.mark.parametrize("tables", [NIGHT, SUPPRESSED, NOTHING], ids=["night", "null", "empty"])
def test_every_element_is_closed_and_every_id_is_one(tables: ReportTables) -> None:
    html = page(tables)
    reading = _Reading(html)
    assert reading.open == []
    ids = [value for name, value in reading.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value for name, value in reading.attributes if name == "href"}
    assert {str(target)[1:] for target in targets - {STATEMENT}} <= set(ids)
    assert "undefined" not in html and "NaN" not in html and "None" not in words(html)
    assert not re.search(r"\bnan\b", words(html))


# --- numbers that people can read -----------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "low", "high", "number", "interval"),
    [
        (1238.2, 1183.0, 1296.0, "1,240", "1,180–1,300"),
        (1240.0, 1180.0, 1300.0, "1,240", "1,180–1,300"),
        (47.3, 43.6, 51.2, "47", "43–52"),
        (98_765.0, 95_000.0, 102_500.0, "99,000", "95,000–103,000"),
        (0.0, 0.0, 31.0, "0", "0–31"),
        (12_345.0, math.nan, math.nan, "12,300", ""),
        (5.0, 5.0, 5.0, "5", "5–5"),
    ],
)
def test_an_estimate_is_as_fine_as_its_interval_allows(
    value: float, low: float, high: float, number: str, interval: str
) -> None:
    estimate = Estimate("published", value, low, high)
    assert (estimate.number, estimate.interval) == (number, interval)


def test_the_busiest_zones_come_first_with_their_intervals(html: str) -> None:
    text = words(html)
    assert "Saturday, 21 November 2026" in text
    assert "2 of 4 zones have published figures for this day" in text
    assert "The busiest was Alexa with about 1,240 visitors (1,180–1,300)." in text
    assert "Alexa 1,240 (1,180–1,300) 1,500 (1,400–1,600) 47 min (43–52)" in text
    assert text.index("Alexa 1,240") < text.index(f"{EVIL} 640")


def test_a_null_measure_is_suppressed_or_no_data_and_never_zero(html: str) -> None:
    text = words(html)
    assert "640 (600–680) suppressed suppressed" in text  # null in a row that is published
    assert re.search(r"Quiet .{0,40}suppressed suppressed suppressed", text)
    assert re.search(r"Dark .{0,40}no data no data no data", text)


def test_a_number_that_slipped_into_a_suppressed_row_is_not_shown() -> None:
    slipped = zone_days(("a", *[777.0, 700.0, 800.0] * 4, "suppressed"))
    text = words(page(replace(SUPPRESSED, zone_days=slipped)))
    assert "777" not in text and "780" not in text


def test_two_zones_of_one_name_are_told_apart() -> None:
    text = words(page(replace(NIGHT, zones=zones(("a", "Ring"), ("b", "Ring"), ("c", None)))))
    assert "Ring (a) 1,240" in text and "Ring (b) 640" in text


def test_flows_and_home_areas_are_told_in_words(html: str) -> None:
    text = words(html)
    assert f"Alexa → {EVIL} evening, 18–22 h 310 (280–340)" in text
    assert "elsewhere → Alexa night, 22–6 h 710 (680–740)" in text
    assert "Trips: 2 figures published, 1 suppressed, 0 without data." in text
    assert "Alexa 871f1d489ffffff 220 (190–250)" in text
    assert f"{EVIL} not known 120 (90–150)" in text


def test_only_the_ten_strongest_flows_are_listed() -> None:
    flows = [("a", f"z{n}", "evening", 100.0 + n, 90.0, 160.0, "published") for n in range(12)]
    text = words(page(replace(NIGHT, zone_flows=zone_flows(*flows))))
    assert "Alexa → z11" in text and "Alexa → z2 " in text
    assert "Alexa → z1 " not in text


# --- popular times --------------------------------------------------------------------------


def popular(*rows: tuple[str, object, str]) -> dict[tuple[int, int], tuple[str, float]]:
    """(weekday, local hour) to state and mean, from UTC hour, visitors, status."""
    hours = zone_hours(*[("a", hour, value, value, value, status) for hour, value, status in rows])
    cells = report._popular_times(hours, day=DAY, timezone="Europe/Berlin")
    return {(row.weekday, row.hour): (row.state, row.value) for row in cells.itertuples()}


def test_popular_times_are_means_by_local_weekday_and_hour() -> None:
    cells = popular(
        ("2026-11-21T09:00Z", 100.0, "published"),
        ("2026-11-14T09:00Z", 300.0, "published"),
        ("2026-11-20T23:00Z", 50.0, "published"),  # Friday in UTC, Saturday in Berlin
        ("2026-10-17T08:00Z", 9_000.0, "published"),  # older than four weeks
    )
    assert cells == {(5, 10): ("published", 200.0), (5, 0): ("published", 50.0)}


def test_an_hour_suppressed_more_often_than_published_has_no_mean() -> None:
    cells = popular(
        ("2026-11-21T09:00Z", 100.0, "published"),
        ("2026-11-14T09:00Z", None, "suppressed"),
        ("2026-11-07T09:00Z", None, "suppressed"),
        ("2026-11-21T10:00Z", 0.0, "published"),
        ("2026-11-14T10:00Z", None, "suppressed"),
        ("2026-11-21T11:00Z", None, "no_data"),
        ("2026-11-14T11:00Z", None, "suppressed"),
        ("2026-11-21T12:00Z", None, "no_data"),
    )
    assert {slot: state for slot, (state, _) in cells.items()} == {
        (5, 10): "suppressed",
        (5, 11): "published",
        (5, 12): "suppressed",
        (5, 13): "no_data",
    }
    assert cells[5, 11][1] == 0.0


def test_zero_suppressed_and_no_data_look_different_in_the_heat_map(html: str) -> None:
    heat_map = html.split("A week, hour by hour")[1].split("</svg>")[0]
    cells = re.findall(r'<path [^>]*d="M[^"]*Z" fill="([^"]+)" stroke="([^"]+)"', heat_map)
    assert len(cells) == 7 * 24
    fills = [fill for fill, _ in cells]
    assert fills.count(report.RAMP[-1]) == 1  # the busiest hour
    assert fills.count(report.RAMP[0]) == 1  # zero is a colour of the scale
    assert fills.count("url(#suppressed-hatch)") == 1
    assert fills.count("#ffffff") == 7 * 24 - 3
    assert 'id="suppressed-hatch"' in html
    assert re.search(r"0\s*512 visitors\s*suppressed\s*no data", words(html))  # the legend
    assert "Busiest: Sat 10:00–11:00, about 512 visitors." in words(html)


def test_hours_without_a_number_are_gaps_in_the_day(html: str) -> None:
    chart = html.split("This day, visitors by hour")[1].split("</svg>")[0]
    assert chart.count("url(#suppressed-hatch)") == 1
    assert chart.count('fill="#ffffff"') == 21  # no data: one hour said so, twenty had no row
    assert chart.count(f'fill="{report.BAND}"') == 2


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 29), 23), (DAY, 24), (date(2026, 10, 25), 25)]
)
def test_days_of_23_and_25_hours_keep_the_clock(day: date, hours: int) -> None:
    clock = report._clock_hours(day, "Europe/Berlin")
    assert len(clock) == hours
    assert clock[0] == 0 and clock[-1] == 23
    empty = report._hours_of_day(zone_hours(), day=day, timezone="Europe/Berlin")
    chart = report._hours_chart(report._hours_spec(clock), empty, hours=hours)
    assert re.findall(r">(\d\d)</text>", chart) == [f"{hour:02d}" for hour in range(0, 25, 3)]


def test_a_band_without_a_number_says_so_in_the_chart(html: str) -> None:
    chart = html.split("This day, visitors by length of stay")[1].split("</svg>")[0]
    assert chart.count(">suppressed</text>") == 1
    assert chart.count(">no data</text>") == 3
    assert ">10–30 min</text>" in chart


# --- privacy --------------------------------------------------------------------------------


def test_the_budget_is_told_by_measure_and_against_the_cap(html: str) -> None:
    text = words(html)
    assert "ρ 0.04 of 0.1 spent" in text
    assert "Visitors by hour zone_hours.visitors 0.035 10.7 8 118 of 624 (19%)" in text
    assert "Visits of the day zone_days.visits 0.005 40 8 118 of 624 (19%)" in text
    assert "Sum of the day 0.04 cap 0.1" in text
    assert "over the cap" not in text


def test_epsilon_is_per_subscriber_day_and_adds_up_over_days(html: str) -> None:
    text = words(html)
    assert "one subscriber's one day, at δ = 10⁻⁹ ε = 2.58" in text
    assert "one subscriber's one day, at δ = 10⁻⁶ ε = 1.99" in text
    assert "The daily figure is per subscriber-day, not per person." in text
    assert "7 days add up to ε ≈ 7.4 and 30 days to ε ≈ 17 at δ = 10⁻⁹" in text


def test_the_daily_budget_is_told_as_what_an_attacker_can_guess() -> None:
    whole = releases(("zone_hours", "visitors", 0.1, 6.0))
    text = words(page(replace(SUPPRESSED, releases=whole)))
    assert "is right at most 59 of 100 times instead of 50." in text


def test_the_report_links_to_the_statement_of_its_day(html: str) -> None:
    assert ("href", STATEMENT) in _Reading(html).attributes


def test_spending_over_the_cap_is_told_loudly() -> None:
    tables = replace(SUPPRESSED, releases=releases(("zone_hours", "visitors", 0.11, 6.0)))
    assert "The releases of this day are over the cap." in words(page(tables))


def measured(**changes: object) -> Benchmark:
    hours = Figures(1131, 0.0275, 0.02, 0.4883, 0.0043, 0.9779, 1.52, 0.9523)
    stay = Figures(191, 3.04, None, None, -2.96, 0.963, None, None)
    given: dict[str, object] = {
        "method_version": "1",
        "subscribers": 200_000,
        "market_share": 0.3,
        "seeds": (1, 2),
        "by_measure": {
            "indoors": {"zone_hours.visitors": hours, "zone_days.dwell_median_min": stay},
            "outdoors": {"zone_hours.visitors": replace(hours, bias=0.146)},
        },
        "by_scenario": {"outage": {"zone_hours.visitors": hours}},
    }
    return Benchmark(**given | changes)  # type: ignore[arg-type]


def test_how_right_the_method_is_stands_beside_what_is_possible_and_what_is_usual() -> None:
    told = words(page(replace(NIGHT, benchmark=measured())))
    assert "held to 2 made worlds of 1 kinds" in told
    assert "200,000 subscribers and a market share of 30" in told
    assert "Visitors by hour 2.8 % 2.0 % 48.8 % +0.4 % 98 %" in told
    assert "Median stay 3.0 min – – −3.0 min 96 %" in told
    assert "+14.6 %" in told


@pytest.mark.parametrize("benchmark", [None, measured(method_version="0")])
def test_of_a_method_that_was_not_measured_no_figure_is_told(benchmark: Benchmark | None) -> None:
    told = words(page(replace(NIGHT, benchmark=benchmark)))
    assert "How right this version of the method is was not measured." in told
    assert "48.8 %" not in told


def participation(*rows: tuple[str, dict[str, str], float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["measure", "keys", "noisy_devices"])
    return frame.assign(sigma=10.0)


def test_who_takes_part_is_told_by_brand_and_area_where_enough_do() -> None:
    cells = participation(
        ("participants", {"area": "871f1d489ffffff"}, 812.4),
        ("participants", {"area": "871f1d48affffff"}, 29.9),
        ("subscribers", {"brand": "large", "state": "taking_part"}, 900.0),
        ("subscribers", {"brand": "large", "state": "left_out"}, 100.0),
        ("subscribers", {"brand": "<b>", "state": "taking_part"}, 800.0),
        ("subscribers", {"brand": "<b>", "state": "left_out"}, 3.0),
    )
    text = words(page(replace(NIGHT, participation=cells)))
    taking_part = text.split("Who takes part")[-1].split("The run")[0]
    assert "842 ± 28 subscribers take part" in taking_part
    assert "<b> suppressed large 90.0 % ± 1.8" in taking_part
    assert "1 of 2 areas, the others are suppressed" in taking_part
    assert "871f1d489ffffff 812" in taking_part and "871f1d48affffff" not in taking_part
    assert "Who takes part" not in words(page())


def test_the_month_s_participants_do_not_count_against_the_day() -> None:
    month = releases(("participation", "participants", 0.005, 10.0)).assign(day=date(2026, 11, 1))
    text = words(page(replace(SUPPRESSED, releases=pd.concat([NIGHT.releases, month]))))
    assert "ρ 0.04 of 0.1 spent" in text
    assert "participation.participants 0.005" in text


# --- the run --------------------------------------------------------------------------------


def test_the_rows_of_the_run_are_told(html: str) -> None:
    text = words(html)
    assert "Outcome: published. Started 22 November 2026, 02:00, ended 22 November 2026, 02:34" in (
        text
    )
    for line in (
        "Rows in 10,434",
        "of another day 1,200",
        "rejected 234",
        "of people not taking part 2,000",
        "accepted 7,000",
        "repeated row 200",
        "no cell 34",
    ):
        assert line in text, line


@pytest.mark.parametrize(("count", "told"), [(0, "0"), (10, "10")])
def test_counts_that_are_not_small_are_told(count: int, told: str) -> None:
    assert f"no cell {told}" in words(page(replace(SUPPRESSED, rejected=rejected(no_cell=count))))


@pytest.mark.parametrize("small", [1, 9])
def test_a_small_count_is_not_told_and_cannot_be_subtracted(small: int) -> None:
    run = {**RUN, "rows_in": 10_200 + small, "rejected": small}
    text = words(page(replace(SUPPRESSED, run=run, rejected=rejected(no_cell=small))))
    assert "rejected fewer than 10" in text
    assert "no cell fewer than 10" in text
    assert f"10,20{small}" not in text
    assert "rounded to tens" in text


# --- little or nothing to show --------------------------------------------------------------


def test_a_night_with_everything_suppressed_says_so_plainly() -> None:
    text = words(page(SUPPRESSED))
    assert "Nothing could be published for this day" in text
    assert "No zone's visitors of the day could be published." in text
    assert "No home area could be published." in text
    assert re.search(r"Alexa .{0,40}suppressed suppressed suppressed", text)


def test_empty_tables_give_a_page_that_says_so() -> None:
    text = words(page(NOTHING))
    assert "Nothing could be published for this day" in text
    assert "No zone is known." in text
    assert "The ledger holds no release of this day" in text
    assert "Rows in not known" in text


def test_a_zone_with_hours_suppressed_still_has_its_charts() -> None:
    text = words(page(replace(NIGHT, zone_hours=SUPPRESSED.zone_hours, zone_dwell=EMPTY)))
    assert "No hour could be published." in text
    assert "Nothing could be published" not in text


def test_at_most_eight_zones_have_charts_of_their_own() -> None:
    rows = [
        (f"z{n:02d}", *[500.0 + n, 480.0, 540.0] * 3, 30.0, 28.0, 33.0, "published")
        for n in range(12)
    ]
    html = page(replace(NIGHT, zone_days=zone_days(*rows)))
    assert html.count("A week, hour by hour") == report.CHARTED_ZONES
    assert "12 of 16 zones" in words(html)


def test_a_missing_column_is_named_and_no_page_is_made() -> None:
    broken = replace(NIGHT, zone_days=NIGHT.zone_days.drop(columns=["visits", "status"]))
    with pytest.raises(ValueError, match=r"zone_days\.status.*zone_days\.visits"):
        page(broken)


def test_the_same_frames_give_the_same_page(html: str) -> None:
    shuffled = replace(
        NIGHT,
        zone_days=NIGHT.zone_days.iloc[::-1],
        zone_hours=NIGHT.zone_hours.sample(frac=1.0, random_state=1),
        zones=NIGHT.zones.iloc[::-1],
    )
    assert page(shuffled) == html


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(report).failed == 0
