"""The report: what people may read from a page, and what must never stand on it."""

import doctest
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from types import ModuleType

import pandas as pd
import pytest
import shapely

from jobs.attacks.scenarios import ATTACKS
from tests.reading import Reading, words
from tests.test_certificates import FIRST
from transforms import charts, estimates, language, pages, report
from transforms.benchmark import Benchmark, Figures
from transforms.estimates import Estimate
from transforms.language import ENGLISH, GERMAN, catalog
from transforms.package_files import source
from transforms.report import ReportTables, night_report
from transforms.risks import Attack

DAY = date(2026, 11, 21)  # a Saturday
BESIDE = {f"statement-{DAY}.html", f"{DAY}.de.html", f"{DAY}.html"}
"""Links to pages beside it: followed, not loaded."""
EVIL = "<script>alert(1)</script> \"Ring\" & 'Co' 🛍️"
NONE = (None, None, None)
NOW = datetime(2026, 11, 22, 4, tzinfo=UTC)


# --- literal tables -------------------------------------------------------------------------


def zones(*rows: tuple[str, str | None]) -> pd.DataFrame:
    """Squares beside each other in the middle of Berlin."""
    return pd.DataFrame(
        [
            (*row, "Centre", "mall", "Mo-Sa 10:00-20:00", outline(13.40 + number / 100))
            for number, row in enumerate(rows)
        ],
        columns=["zone_id", "name", "centre_name", "kind", "opening_hours", "geometry"],
    )


def outline(west: float) -> bytes:
    return bytes(shapely.to_wkb(shapely.box(west, 52.52, west + 0.002, 52.521)))


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


def zone_comparison(*rows: tuple[object, ...]) -> pd.DataFrame:
    """zone, the five measures with low and high, status."""
    measures = columns("capture_rate", "week_before_index", "city_index", "rank", "busiest_hour")
    return pd.DataFrame(rows, columns=["zone_id", *measures, "status"]).assign(day=DAY)


def zone_popularity(*rows: tuple[str, int, int, object, str]) -> pd.DataFrame:
    """zone, ISO weekday, local hour, popularity, status."""
    frame = pd.DataFrame(rows, columns=["zone_id", "weekday", "hour", "popularity", "status"])
    return frame.assign(popularity_low=frame["popularity"], popularity_high=frame["popularity"])


def visits_of(each: str, *rows: tuple[object, ...]) -> pd.DataFrame:
    """first day, zone, days, visits with low and high, status."""
    return pd.DataFrame(rows, columns=[each, "zone_id", "days", *columns("visits"), "status"])


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
    zone_comparison=zone_comparison(
        ("a", 31.0, 28.4, 34.0, 112.0, 104.0, 121.0, 130.2, 120.0, 140.0, 1, 1, 2, 16, 15, 17)
        + ("published",),
        ("b", *NONE * 3, 2, 1, 2, *NONE, "published"),
    ),
    zone_popularity=zone_popularity(
        ("a", 6, 10, 100.0, "published"),
        ("a", 6, 11, 0.0, "published"),
        ("a", 6, 12, None, "suppressed"),
        ("a", 6, 13, None, "no_data"),
    ),
    zone_weeks=visits_of(
        "week",
        (date(2026, 11, 16), "a", 6, 9_100.0, 8_700.0, 9_500.0, "published"),
        (date(2026, 11, 16), "b", 5, *NONE, "suppressed"),
        (date(2026, 11, 9), "a", 7, 10_500.0, 10_000.0, 11_000.0, "published"),
    ),
    zone_months=visits_of(
        "month", (date(2026, 11, 1), "a", 21, 31_000.0, 29_000.0, 33_000.0, "published")
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


@pytest.fixture(scope="module")
def html() -> str:
    return page()


EMPTY = pd.DataFrame()
NOTHING = ReportTables(*[EMPTY] * 12, {})
SUPPRESSED = replace(
    NIGHT,
    zone_hours=zone_hours(("a", "2026-11-21T09:00Z", *NONE, "suppressed")),
    zone_days=zone_days(("a", *NONE * 4, "suppressed"), ("b", *NONE * 4, "no_data")),
    zone_dwell=zone_dwell(("a", "10-30", *NONE, "suppressed")),
    zone_flows=zone_flows(("a", "b", "night", *NONE, "suppressed")),
    zone_catchment=zone_catchment(("a", "unknown", *NONE, "suppressed")),
    zone_comparison=zone_comparison(("a", *NONE * 5, "suppressed")),
    zone_popularity=zone_popularity(("a", 6, 10, None, "suppressed")),
    zone_weeks=visits_of("week", (date(2026, 11, 16), "a", 1, *NONE, "suppressed")),
    zone_months=EMPTY,
)


# --- a page that is safe to open ------------------------------------------------------------


def test_a_name_with_markup_is_text_everywhere(html: str) -> None:
    reading = Reading(html)
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
    reading = Reading(page(tables))
    assert "img" not in reading.seen
    assert "onclick" not in dict(reading.attributes)


def test_the_page_loads_nothing(html: str) -> None:
    reading = Reading(html)
    loading = {"script", "link", "img", "image", "iframe", "object", "embed", "use", "base"}
    assert not loading & set(reading.seen)
    for name, value in reading.attributes:
        if name in {"href", "xlink:href", "src", "srcset", "action", "data"}:
            assert name == "href", (name, value)
            assert (value or "").startswith("#") or value in BESIDE, (name, value)
        assert not name.startswith("on"), name
    assert "@import" not in html
    assert set(re.findall(r"url\(([^)]*)\)", html)) <= {"#suppressed-hatch"}
    hosts = {value for name, value in reading.attributes if value and "://" in value}
    assert hosts <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_policy_of_the_page_forbids_loading(html: str) -> None:
    contents = [value or "" for name, value in Reading(html).attributes if name == "content"]
    assert any(content.startswith("default-src 'none'; style-src") for content in contents)


@pytest.mark.parametrize("tables", [NIGHT, SUPPRESSED, NOTHING], ids=["night", "null", "empty"])
def test_every_element_is_closed_and_every_id_is_one(tables: ReportTables) -> None:
    html = page(tables)
    reading = Reading(html)
    assert reading.open == []
    ids = [value for name, value in reading.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value for name, value in reading.attributes if name == "href"}
    assert {str(target)[1:] for target in targets - BESIDE} <= set(ids)
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
    assert (estimate.number(), estimate.interval()) == (number, interval)


def test_the_busiest_zones_come_first_with_their_intervals(html: str) -> None:
    text = words(html)
    assert "Saturday, 21 November 2026" in text
    assert "2 of 4 zones have published figures for this day." in text
    assert "One zone was suppressed. One zone had no data." in text
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


# --- charts ---------------------------------------------------------------------------------


def test_zero_suppressed_and_no_data_look_different_in_the_heat_map(html: str) -> None:
    heat_map = html.split("A week, hour by hour</h4>")[1].split("</svg>")[0]
    cells = re.findall(r'<path [^>]*d="M[^"]*Z" fill="([^"]+)" stroke="([^"]+)"', heat_map)
    assert len(cells) == 7 * 24
    fills = [fill for fill, _ in cells]
    assert fills.count(charts.RAMP[-1]) == 1  # the busiest hour
    assert fills.count(charts.RAMP[0]) == 1  # zero is a colour of the scale
    assert fills.count("url(#suppressed-hatch)") == 1
    assert fills.count("#ffffff") == 7 * 24 - 3
    assert 'id="suppressed-hatch"' in html
    assert re.search(r"0\s*100 %\s*suppressed\s*no data", words(html))  # the legend


def test_a_zone_is_set_beside_others_in_words(html: str) -> None:
    text = words(html)
    for line in (
        "Of all who came past, came in 31 % (28–34)",
        "Busiest hour 16–17 h (between 15 and 18)",
        "Place among all zones 1 (1–2)",
        "Average zone is 100 130 (120–140)",
        "The same day a week before is 100 112 (104–121)",
        "Of all who came past, came in suppressed",
    ):
        assert line in text, line


def test_weeks_and_months_say_how_many_days_they_are_of(html: str) -> None:
    text = words(html).split("Weeks and months")[-1]
    assert "This week 6 days The week before 7 days This month 21 days" in text
    assert "Alexa 9,100 (8,700–9,500) 10,500 (10,000–11,000) 31,000 (29,000–33,000) no data" in text


def test_behind_every_chart_stand_its_numbers(html: str) -> None:
    behind = words(html).split("The numbers behind the charts")[1]
    assert "10 510 (480–550) 11 0 (0–30)" in behind  # nine in UTC
    assert "12 suppressed 13 no data" in behind
    assert "10–30 min 600 (560–640) 30–60 min suppressed" in behind
    assert "Home area Visitors 871f1d489ffffff 220 (190–250)" in behind
    assert "Sat 100 0 ·" in behind


def test_the_map_of_homes_shows_an_area_and_hatches_the_others() -> None:
    homes = zone_catchment(
        ("a", "871f1d489ffffff", 220.0, 190.0, 250.0, "published"),
        ("a", "871f1d48bffffff", *NONE, "suppressed"),
        ("a", "unknown", 90.0, 80.0, 100.0, "published"),
    )
    html = page(replace(NIGHT, zone_catchment=homes))
    chart = html.split("Where they live</h4>")[1].split("</svg>")[0]
    fills = re.findall(r'<path [^>]*fill="([^"]+)"', chart)
    assert fills.count(charts.RAMP[-1]) == 1
    assert fills.count("url(#suppressed-hatch)") == 1
    assert "No home area could be published." in words(page(SUPPRESSED))


def test_the_map_of_the_city_tells_zones_without_a_number_apart(html: str) -> None:
    chart = html.split("Map of all zones with their visitors")[1].split("</svg>")[0]
    fills = re.findall(r'<path [^>]*fill="([^"]+)" stroke="([^"]+)"', chart)
    assert fills.count((charts.DEEP, "#ffffff")) == 2
    assert fills.count(("url(#suppressed-hatch)", charts.INK)) == 1
    assert fills.count(("#ffffff", charts.INK)) == 1
    assert ">1</text>" in chart and ">2</text>" in chart and ">3</text>" not in chart


def test_zones_in_one_place_share_their_number_on_the_map() -> None:
    """A zone inside another one."""
    places = [outline(west) for west in (13.40, 13.4001, 13.5)]
    html = page(replace(NIGHT, zones=NIGHT.zones.iloc[:3].assign(geometry=places)))
    chart = html.split("Map of all zones with their visitors")[1].split("</svg>")[0]
    assert ">1, 2</text>" in chart and ">2</text>" not in chart


def test_kinds_of_zones_are_told_in_words() -> None:
    zones = NIGHT.zones.assign(kind="shopping_centre")
    assert "shopping centre" in words(page(replace(NIGHT, zones=zones)))
    assert "Einkaufszentrum" in words(page(replace(NIGHT, zones=zones), language=GERMAN))


def test_hours_without_a_number_are_gaps_in_the_day(html: str) -> None:
    chart = html.split("This day, visitors by hour</h4>")[1].split("</svg>")[0]
    assert chart.count("url(#suppressed-hatch)") == 1
    assert chart.count('fill="#ffffff"') == 21  # no data: one hour said so, twenty had no row
    assert chart.count(f'fill="{charts.BAND}"') == 2


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 29), 23), (DAY, 24), (date(2026, 10, 25), 25)]
)
def test_days_of_23_and_25_hours_keep_the_clock(day: date, hours: int) -> None:
    clock = report.clock_hours(day, "Europe/Berlin")
    assert len(clock) == hours
    assert clock[0] == 0 and clock[-1] == 23
    chart = charts.hours({}, clock=clock, language=ENGLISH)
    assert re.findall(r">(\d\d)</text>", chart) == [f"{hour:02d}" for hour in range(0, 25, 3)]


def test_a_band_without_a_number_says_so_in_the_chart(html: str) -> None:
    chart = html.split("This day, visitors by length of stay</h4>")[1].split("</svg>")[0]
    assert chart.count(">suppressed</text>") == 1
    assert chart.count(">no data</text>") == 3
    assert ">10–30 min</text>" in chart


# --- privacy --------------------------------------------------------------------------------


def test_the_budget_is_told_by_measure_and_against_the_cap(html: str) -> None:
    text = words(html)
    assert "ρ 0.04 of 0.1 spent" in text
    assert "Visitors by hour zone_hours.visitors 0.035 10.7 8 118 of 624 (19 %)" in text
    assert "Visits of the day zone_days.visits 0.005 40 8 118 of 624 (19 %)" in text
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
    assert ("href", f"statement-{DAY}.html") in Reading(html).attributes


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
    assert "Nothing is known of who takes part." in words(page())


CERTIFICATE = replace(
    FIRST,
    number=12,
    day=DAY,
    subscribers_seen=20_431,
    left_out={"opted_out": 2_431},
    opt_outs=57,
    opt_outs_in_time=57,
    longest_wait_h=21.46,
)
MONTH: Mapping[str, object] = {
    "month": date(2026, 10, 1),
    "subscribers": 18_204,
    "days_taken_part": 512_345,
    "paid": 5_123_450,
    "currency": "EUR",
}


def test_how_long_opt_outs_waited_and_what_was_earned_is_told() -> None:
    text = words(page(replace(NIGHT, certificates=[CERTIFICATE], rewards=MONTH)))
    assert "Of 20,430 subscribers seen that day, 2,430 were left out." in text
    assert "60 said no since the release before; who waited longest was left out after 21.5" in text
    assert "Certificate 12 proves it." in text
    assert "For 2026-10, 18,200 subscribers were rewarded for 512,340 days" in text
    assert "They earned 51,234.50 EUR." in text


def test_of_few_opt_outs_and_few_rewards_no_exact_number_is_told() -> None:
    few = replace(CERTIFICATE, opt_outs=3, opt_outs_in_time=2)
    month = {**MONTH, "subscribers": 3, "days_taken_part": 7, "paid": 70}
    text = words(page(replace(NIGHT, certificates=[few], rewards=month)))
    assert "fewer than 10 said no" in text
    assert "Not all of them were in time." in text
    assert "fewer than 10 subscribers were rewarded for fewer than 10 days" in text
    assert "They earned" not in text


def test_expectations_that_were_not_met_are_counted() -> None:
    found = pd.DataFrame(
        {"subject": ["events"] * 3, "critical": [True] * 3, "success": [True, True, False]}
    )
    text = words(page(replace(NIGHT, quality=found)))
    assert "Of 3 expectations of the data's quality, 1 were not met." in text


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
    assert "no data" in text
    assert "Nothing could be published" not in text


def test_the_busiest_eight_zones_have_charts_of_their_own_or_all_on_demand() -> None:
    rows = [
        (f"z{n:02d}", *[500.0 + n, 480.0, 540.0] * 3, 30.0, 28.0, 33.0, "published")
        for n in range(12)
    ]
    night = replace(NIGHT, zone_days=zone_days(*rows))
    html = page(night)
    assert html.count("A week, hour by hour</h4>") == report.CHARTED_ZONES
    assert "12 of 16 zones" in words(html)
    whole = page(night, charted_zones=None)
    assert whole.count("A week, hour by hour</h4>") == 12
    assert all(f'id="zone-{n}"' in whole and f'href="#zone-{n}"' in whole for n in range(1, 13))


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


# --- languages ------------------------------------------------------------------------------


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Texts that a page asked for and the catalogue does not have."""
    asked: set[str] = set()
    known = catalog("de")
    look = known.get

    def get(text: str, *rest: object) -> object:
        found = look(text, *rest)
        if not (found and found.string):
            asked.add(text)
        return found

    monkeypatch.setattr(known, "get", get)
    return asked


ALL = replace(
    NIGHT,
    benchmark=measured(),
    certificates=[CERTIFICATE],
    rewards=MONTH,
    attacks=[
        Attack("release-7", name, ATTACKS[name].attacker, 0.5, 0.01, 0.6, within, NOW)
        for name, within in (("pseudonym_linkage", True), ("audit_of_noise", False))
    ],
)


@pytest.mark.parametrize("tables", [ALL, SUPPRESSED, NOTHING], ids=["all", "null", "empty"])
def test_a_german_page_has_no_english_words(tables: ReportTables, missing: set[str]) -> None:
    html = page(tables, language=GERMAN)
    assert not missing
    assert '<html lang="de">' in html
    assert "Samstag, 21. November 2026" in words(html)
    assert "undefined" not in html and "%(" not in html


def test_attacks_have_german_names() -> None:
    named = [name.replace("_", " ") for name in ATTACKS]
    attackers = [one.attacker for one in ATTACKS.values()]
    assert [text for text in [*named, *attackers] if GERMAN.word(text) == text] == []


def test_every_word_of_the_templates_is_translated_with_the_same_values() -> None:
    environment = pages._environment(ENGLISH)
    for template in ("page.html.j2", "report.html.j2", "attacks.html.j2"):
        for _, _, found in environment.extract_translations(source(template)):
            texts = [one for one in found if one] if isinstance(found, tuple) else [found]
            german = catalog("de").get(texts[0])
            assert german and german.string, texts
            told = german.string if isinstance(german.string, tuple) else (german.string,)
            for text in told:
                values = set(re.findall(r"%\((\w+)\)s", text))
                assert values <= set(re.findall(r"%\((\w+)\)s", texts[-1])), text


def test_numbers_are_written_as_in_the_language() -> None:
    text = words(page(language=GERMAN))
    assert "Alexa 1.240 (1.180–1.300) 1.500 (1.400–1.600) 47 min (43–52)" in text
    assert "unterdrückt" in text and "keine Daten" in text


def test_each_page_links_to_the_other_language(html: str) -> None:
    assert ("href", f"{DAY}.de.html") in Reading(html).attributes
    assert ("href", f"{DAY}.html") in Reading(page(language=GERMAN)).attributes


@pytest.mark.parametrize("module", [report, charts, estimates, language])
def test_the_examples_in_the_docstrings_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
