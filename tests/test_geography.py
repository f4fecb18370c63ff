"""Zones out of GeoJSON, and what a cell sees: numbers checked against plain brute force."""

import json
import math
import pickle
import random
from functools import cache

import h3
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.frames import local_frame
from transforms import geography
from transforms.geography import (
    Fault,
    NotGeoJson,
    Zone,
    area,
    cell_zones,
    ground,
    nested,
    presence,
    zone_hexagons,
    zone_pairs,
    zones_from_geojson,
)

RADIUS_M = 6371008.8
LATITUDE, LONGITUDE = 52.5200, 13.4050
METRE = math.degrees(1 / RADIUS_M)


# ------------------------------------------------------------------------------ a small world


def place(north_m, east_m, latitude=LATITUDE, longitude=LONGITUDE):
    """Latitude and longitude of a point some metres north and east of the middle."""
    return (
        latitude + north_m * METRE,
        longitude + east_m * METRE / math.cos(math.radians(latitude)),
    )


def box(south_m, west_m, north_m, east_m, **middle):
    south, west = place(south_m, west_m, **middle)
    north, east = place(north_m, east_m, **middle)
    return shapely.box(west, south, east, north)


def zone(zone_id, geometry, attraction=None):
    return Zone(zone_id, zone_id, None, None, None, None, attraction, shapely.to_wkb(geometry))


MALL = zone("mall", box(-150, -150, 150, 150))
OUTLET = zone("outlet", box(300, 300, 500, 500), attraction=5.0)
WORLD = [MALL, OUTLET]


def seen(zones, *, resolution=11, zone_attraction=20.0, min_presence=0.0, **cell):
    cell = {
        "latitude": LATITUDE,
        "longitude": LONGITUDE,
        "azimuth_deg": None,
        "beamwidth_deg": None,
        "range_m": 600.0,
    } | cell
    land = ground(zones, resolution=resolution, zone_attraction=zone_attraction)
    return presence(land, min_presence=min_presence, **cell)


# ------------------------------------------------------------------- brute force, by the book


def haversine_m(a, b):
    (phi1, lam1), (phi2, lam2) = (map(math.radians, point) for point in (a, b))
    h = (
        math.sin((phi2 - phi1) / 2) ** 2
        + math.cos(phi1) * math.cos(phi2) * math.sin((lam2 - lam1) / 2) ** 2
    )
    return 2 * RADIUS_M * math.asin(math.sqrt(h))


def bearing_deg(a, b):
    (phi1, lam1), (phi2, lam2) = (map(math.radians, point) for point in (a, b))
    y = math.sin(lam2 - lam1) * math.cos(phi2)
    x = math.cos(phi1) * math.sin(phi2) - math.sin(phi1) * math.cos(phi2) * math.cos(lam2 - lam1)
    return math.degrees(math.atan2(y, x))


@cache
def hexagons_of(one, resolution):
    """Hexagons of a zone: by their centres among all those around, else the centroid's."""
    geometry = shapely.from_wkb(one.wkb)
    middle = geometry.centroid
    holder = h3.geo_to_h3(middle.y, middle.x, resolution)
    return {
        hexagon
        for hexagon in h3.k_ring(holder, 15)
        if geometry.contains(shapely.Point(h3.h3_to_geo(hexagon)[::-1]))
    } or {holder}


def brute_force(
    zones,
    *,
    resolution=11,
    zone_attraction=20.0,
    min_presence=0.0,
    latitude=LATITUDE,
    longitude=LONGITUDE,
    azimuth_deg=None,
    beamwidth_deg=None,
    range_m=600.0,
):
    cell = (latitude, longitude)
    edge_m = h3.edge_length(resolution, "m")
    rings = math.ceil(range_m / edge_m) + 3
    around = h3.k_ring(h3.geo_to_h3(*cell, resolution), rings)
    members = {one.zone_id: hexagons_of(one, resolution) for one in zones}
    given_by = {z.zone_id: zone_attraction if z.attraction is None else z.attraction for z in zones}
    weights = {}
    for hexagon in around:
        centre = h3.h3_to_geo(hexagon)
        distance = haversine_m(cell, centre)
        if distance > range_m:
            continue
        if azimuth_deg is not None and beamwidth_deg is not None and distance > 0:
            turn = (bearing_deg(cell, centre) - azimuth_deg + 180) % 360 - 180
            if abs(turn) > beamwidth_deg / 2:
                continue
        holders = [given_by[z] for z in members if hexagon in members[z]]
        weights[hexagon] = (1 - distance / range_m) ** 2 * max(holders, default=1.0)
    total = sum(weights.values())
    if total == 0:
        return {}
    shares = {z: sum(weights.get(h, 0) for h in members[z]) / total for z in members}
    return {z: p for z, p in shares.items() if p > 0 and p >= min_presence}


NESTED = [
    zone("centre", box(-200, -200, 200, 200)),
    zone("shop", box(-60, -60, 60, 60), attraction=80.0),
    zone("quiet", box(0, 0, 260, 260), attraction=0.5),
]
RING = zone("ring", box(-300, -300, 300, 300) - box(-150, -150, 150, 150))
TWO_PARTS = zone("two", shapely.MultiPolygon([box(-150, -150, -20, -20), box(100, 100, 220, 300)]))
TINY = zone("tiny", box(101, 57, 103, 59))


@pytest.mark.parametrize(
    ("zones", "cell"),
    [
        pytest.param(WORLD, {}, id="omnidirectional"),
        pytest.param(WORLD, {"range_m": 1500.0}, id="wide"),
        pytest.param(WORLD, {"azimuth_deg": 45.0, "beamwidth_deg": 65.0}, id="sector"),
        pytest.param(WORLD, {"azimuth_deg": 350.0, "beamwidth_deg": 65.0}, id="across north"),
        pytest.param(WORLD, {"azimuth_deg": 120.0, "beamwidth_deg": 240.0}, id="wide sector"),
        pytest.param(WORLD, {"azimuth_deg": 120.0, "beamwidth_deg": 360.0}, id="full turn"),
        pytest.param(WORLD, {"azimuth_deg": 45.0}, id="azimuth without a beam width"),
        pytest.param(WORLD, {"beamwidth_deg": 45.0}, id="beam width without an azimuth"),
        pytest.param(WORLD, {"range_m": 12.0}, id="range smaller than a hexagon"),
        pytest.param(WORLD, {"range_m": 30.0}, id="range of one hexagon"),
        pytest.param(WORLD, {"resolution": 9, "range_m": 2000.0}, id="coarser"),
        pytest.param(WORLD, {"min_presence": 0.3}, id="faint ones left out"),
        pytest.param(NESTED, {}, id="overlapping and nested"),
        pytest.param(NESTED, {"azimuth_deg": 200.0, "beamwidth_deg": 30.0}, id="nested, sector"),
        pytest.param([RING], {}, id="a hole"),
        pytest.param([TWO_PARTS], {}, id="two parts"),
        pytest.param([TINY], {}, id="a zone without a hexagon's centre"),
        pytest.param([], {}, id="no zones"),
    ],
)
def test_shares_are_those_of_brute_force(zones, cell):
    assert seen(zones, **cell) == pytest.approx(brute_force(zones, **cell), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    north_m=st.floats(-500, 500),
    east_m=st.floats(-500, 500),
    azimuth_deg=st.none() | st.floats(-360, 720),
    beamwidth_deg=st.none() | st.floats(1, 360),
    range_m=st.floats(5, 600),
)
def test_any_cell_sees_what_brute_force_says(north_m, east_m, **shape):
    latitude, longitude = place(north_m, east_m)
    cell = shape | {"latitude": latitude, "longitude": longitude}
    shares = seen(NESTED, **cell)
    assert shares == pytest.approx(brute_force(NESTED, **cell), rel=1e-7)
    assert all(0 < share <= 1 for share in shares.values())


PENTAGON = h3.h3_to_geo(min(h3.get_pentagon_indexes(8)))


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [PENTAGON, (PENTAGON[0] + 0.004, PENTAGON[1] + 0.004), (-33.87, 151.2), (69.65, 18.96), (0, 0)],
)
def test_no_hexagon_is_forgotten_anywhere_on_earth(latitude, longitude):
    around = {"latitude": latitude, "longitude": longitude}
    zones = [zone("here", box(-100, -100, 100, 100, **around), attraction=1.0)]
    for range_m in (250.0, 1400.0):
        cell = around | {"range_m": range_m}
        assert seen(zones, **cell) == pytest.approx(brute_force(zones, **cell), rel=1e-9)


def test_a_tile_reaches_no_farther_and_rings_are_no_denser_than_assumed():
    dice = random.Random(7)
    tiles = [min(h3.get_pentagon_indexes(8))] + [
        h3.geo_to_h3(math.degrees(math.asin(dice.uniform(-1, 1))), dice.uniform(-180, 180), 8)
        for _ in range(60)
    ]
    edge_m = h3.edge_length(8, "m")
    for tile in tiles:
        middle = h3.h3_to_geo(tile)
        reach_m = max(haversine_m(middle, h3.h3_to_geo(h)) for h in h3.h3_to_children(tile, 11))
        assert reach_m < geography.TILE_REACH * edge_m
        for k in (1, 5):
            ring = h3.k_ring(tile, k) - h3.k_ring(tile, k - 1)
            nearest_m = min(haversine_m(middle, h3.h3_to_geo(h)) for h in ring)
            assert nearest_m > geography.TILE_RING * edge_m * k
        hexagon = h3.h3_to_center_child(tile, 11)
        largest_m2 = geography.LARGEST_HEXAGON * h3.hex_area(11, "m^2")
        assert h3.cell_area(hexagon, "m^2") < largest_m2


@settings(max_examples=25, deadline=None)
@given(
    azimuth_deg=st.none() | st.floats(0, 360),
    beamwidth_deg=st.floats(5, 350),
    range_m=st.floats(200, 6000),
    min_presence=st.sampled_from([0.02, 0.1, 0.3]),
)
def test_the_shortcut_for_faint_zones_changes_nothing(min_presence, **cell):
    everything = seen(WORLD, min_presence=0.0, **cell)
    clear = {zone_id: p for zone_id, p in everything.items() if p >= min_presence}
    assert seen(WORLD, min_presence=min_presence, **cell) == clear


@pytest.mark.parametrize("beamwidth_deg", [None, 15.0, 65.0, 120.0, 300.0])
def test_the_least_weight_is_never_above_the_true_one(beamwidth_deg):
    open_land = ground([], resolution=11, zone_attraction=20.0)
    for range_m in (100.0, 400.0, 1500.0, 5000.0):
        cell = geography._Footprint(LATITUDE, LONGITUDE, 33.0, beamwidth_deg, range_m)
        true = geography._open_weight(open_land, cell)
        assert 0 <= cell.least_weight(11) <= true
    assert cell.least_weight(11) > 0.3 * true


# --------------------------------------------------------------------------- what place means


def test_turning_a_sector_by_a_full_turn_changes_nothing():
    cell = {"azimuth_deg": 40.0, "beamwidth_deg": 65.0}
    once = seen(WORLD, **cell)
    assert once
    assert seen(WORLD, **cell | {"azimuth_deg": 400.0}) == once
    assert seen(WORLD, **cell | {"azimuth_deg": -320.0}) == once


def test_a_sector_sees_only_what_it_looks_at():
    ahead = {"azimuth_deg": 45.0, "beamwidth_deg": 60.0}
    behind = ahead | {"azimuth_deg": 225.0}
    assert "outlet" in seen(WORLD, **ahead)
    assert "outlet" not in seen(WORLD, **behind)


def test_the_hexagon_under_the_mast_always_belongs():
    latitude, longitude = h3.h3_to_geo(h3.geo_to_h3(LATITUDE, LONGITUDE, 11))
    cell = {"latitude": latitude, "longitude": longitude, "range_m": 10.0}
    assert seen(WORLD, **cell) == {"mall": 1.0}
    assert seen(WORLD, **cell, azimuth_deg=77.0, beamwidth_deg=1.0) == {"mall": 1.0}


def test_a_footprint_without_a_hexagon_sees_nothing():
    corner = h3.h3_to_geo_boundary(h3.geo_to_h3(LATITUDE, LONGITUDE, 11))[0]
    assert seen(WORLD, latitude=corner[0], longitude=corner[1], range_m=5.0) == {}


@pytest.mark.parametrize(
    "cell",
    [
        {"range_m": None},
        {"range_m": math.nan},
        {"range_m": 0.0},
        {"range_m": -100.0},
        {"latitude": None},
        {"longitude": math.nan},
    ],
)
def test_a_cell_without_a_place_or_range_sees_nothing(cell):
    assert seen(WORLD, **cell) == {}


def test_a_nested_zone_gets_its_share_and_so_does_the_one_around():
    shares = seen(NESTED, range_m=400.0)
    assert shares["centre"] > shares["shop"] > 0.3
    assert sum(shares.values()) > 1


def test_what_is_left_out_is_not_given_to_the_others():
    everything = seen(WORLD, min_presence=0.0)
    clear = seen(WORLD, min_presence=0.3)
    assert set(everything) == {"mall", "outlet"}
    assert clear == {"mall": everything["mall"]}


def test_more_attraction_means_a_larger_share():
    shares = [seen([MALL], zone_attraction=a, range_m=2000.0)["mall"] for a in (0.01, 1.0, 20.0)]
    assert shares == sorted(shares)
    assert shares[0] < shares[2]


def test_a_zone_that_holds_the_whole_footprint_has_it_all_however_little_it_attracts():
    everywhere = [zone("everywhere", box(-2000, -2000, 2000, 2000), attraction=1e-12)]
    assert seen(everywhere, range_m=500.0) == {"everywhere": 1.0}


def test_an_absurd_attraction_takes_everything():
    assert seen([zone("hype", shapely.from_wkb(MALL.wkb), attraction=1e308)]) == {"hype": 1.0}


def test_the_order_of_zones_does_not_matter():
    assert seen(NESTED) == pytest.approx(seen(NESTED[::-1]), rel=1e-12)


def test_the_ground_can_travel():
    land = ground(NESTED, resolution=11, zone_attraction=20.0)
    copy = pickle.loads(pickle.dumps(land))
    cell = {
        "latitude": LATITUDE,
        "longitude": LONGITUDE,
        "azimuth_deg": None,
        "beamwidth_deg": None,
        "range_m": 500.0,
        "min_presence": 0.02,
    }
    assert presence(copy, **cell) == presence(land, **cell)


# ---------------------------------------------------------------------------------- hexagons


@pytest.mark.parametrize("one", [MALL, RING, TWO_PARTS, TINY], ids=lambda one: one.zone_id)
@pytest.mark.parametrize("resolution", [9, 11])
def test_hexagons_belong_by_their_centres(one, resolution):
    assert zone_hexagons([one], resolution=resolution) == {
        one.zone_id: hexagons_of(one, resolution)
    }


def test_the_direction_a_ring_is_drawn_in_does_not_matter():
    mall = shapely.from_wkb(MALL.wkb)
    turned = [zone("mall", mall.reverse())]
    assert zone_hexagons(turned, resolution=11) == zone_hexagons([MALL], resolution=11)


def test_a_hole_is_not_part_of_the_zone():
    ring, hole = zone_hexagons([RING, MALL], resolution=11).values()
    assert ring
    assert not ring & hole


def test_a_zone_too_small_for_a_hexagon_gets_the_one_it_lies_in():
    middle = shapely.from_wkb(TINY.wkb).centroid
    holder = h3.geo_to_h3(middle.y, middle.x, 11)
    assert zone_hexagons([TINY], resolution=11) == {"tiny": frozenset({holder})}


# ------------------------------------------------------------------------------------- pairs


def test_pairs_are_both_ways_between_near_zones_and_elsewhere():
    far = zone("far", box(0, 31_000, 100, 31_100))
    assert zone_pairs([OUTLET, MALL, far], max_pair_km=30) == [
        ("elsewhere", "far"),
        ("elsewhere", "mall"),
        ("elsewhere", "outlet"),
        ("far", "elsewhere"),
        ("mall", "elsewhere"),
        ("mall", "outlet"),
        ("outlet", "elsewhere"),
        ("outlet", "mall"),
    ]


def test_a_zone_in_the_same_place_is_a_pair_and_the_zone_itself_is_not():
    twin = zone("twin", shapely.from_wkb(MALL.wkb))
    pairs = zone_pairs([MALL, twin], max_pair_km=1)
    assert ("mall", "twin") in pairs
    assert not [pair for pair in pairs if pair[0] == pair[1]]
    assert len(zone_pairs([MALL, twin], max_pair_km=0)) == 4
    assert zone_pairs([], max_pair_km=30) == []


def test_pairs_are_nearer_than_the_limit_by_the_haversine():
    other = zone("other", box(8_000, 6_000, 8_100, 6_100))
    middles = [shapely.from_wkb(one.wkb).centroid for one in (MALL, other)]
    apart_km = haversine_m(*((middle.y, middle.x) for middle in middles)) / 1000
    assert len(zone_pairs([MALL, other], max_pair_km=apart_km + 1e-6)) == 6
    assert len(zone_pairs([MALL, other], max_pair_km=apart_km - 1e-6)) == 4


# ----------------------------------------------------------------------------------- GeoJSON

SQUARE = [[[13.40, 52.51], [13.41, 52.51], [13.41, 52.52], [13.40, 52.52], [13.40, 52.51]]]
POLYGON = {"type": "Polygon", "coordinates": SQUARE}


def feature(zone_id="a", geometry=POLYGON, **properties):
    return {
        "type": "Feature",
        "properties": {"zone_id": zone_id, **properties},
        "geometry": geometry,
    }


def collection(*features):
    return json.dumps({"type": "FeatureCollection", "features": features})


def read(*features):
    return zones_from_geojson([("berlin.geojson", collection(*features))])


def the_fault(*features):
    zones, faults, count = read(*features)
    assert (zones, len(faults), count) == ([], 1, 1)
    return faults[0]


def test_a_feature_becomes_a_zone():
    zones, faults, count = read(
        feature(
            "ber:alexa-1",
            name="Alexa",
            centre_id="alexa",
            centre_name="Alexa Berlin",
            kind="mall",
            opening_hours="Mo-Sa 10:00-21:00",
            attraction=7,
            ignored=[1, 2],
        )
    )
    assert (faults, count) == ([], 1)
    assert zones == [
        Zone(
            zone_id="ber:alexa-1",
            name="Alexa",
            centre_id="alexa",
            centre_name="Alexa Berlin",
            kind="mall",
            opening_hours="Mo-Sa 10:00-21:00",
            attraction=7.0,
            wkb=shapely.to_wkb(shapely.Polygon(SQUARE[0])),
        )
    ]


def test_what_is_missing_null_or_blank_is_none_and_the_name_is_the_id():
    for absent in ({}, {"name": None, "kind": None, "attraction": None}, {"name": " ", "kind": ""}):
        zones, _, _ = read(feature("a", **absent))
        assert zones == [Zone("a", "a", None, None, None, None, None, zones[0].wkb)]


def test_names_are_free_text_and_stay_as_they_came():
    name = "<script>alert('x')</script> Ö; DROP TABLE zones --"
    assert read(feature("a", name=name))[0][0].name == name
    assert read(feature("a", name="half a pair \ud800"))[0][0].name == "half a pair ?"
    assert read(feature("a", name=1904))[0][0].name == "1904"


def test_zones_of_several_files_come_sorted_by_id():
    zones, faults, count = zones_from_geojson(
        [
            ("b.geojson", collection(feature("c"), feature("a"))),
            ("a.geojson", json.dumps(feature("b"))),
        ]
    )
    assert ([z.zone_id for z in zones], faults, count) == (["a", "b", "c"], [], 3)


def test_whole_numbers_are_ids_too():
    assert read(feature(12))[0][0].zone_id == "12"


def test_a_byte_order_mark_and_heights_are_fine():
    high = {
        "type": "Polygon",
        "coordinates": [[[*position, 34.5] for position in SQUARE[0]]],
    }
    text = "\ufeff" + collection(feature("a", high))
    zones, faults, _ = zones_from_geojson([("berlin.geojson", text)])
    assert not faults
    assert zones[0].wkb == shapely.to_wkb(shapely.Polygon(SQUARE[0]))


@pytest.mark.parametrize(
    "zone_id",
    [
        "a/b",
        "../../etc/passwd",
        "x'; DROP TABLE zones; --",
        "<b>bold</b>",
        "",
        " a",
        "a\n",
        "-a",
        "ä",
        "a" * 65,
        None,
        True,
        1.5,
        -1,
        10**70,
        ["a"],
        {"a": 1},
        "elsewhere",
    ],
)
def test_an_id_that_is_none_is_left_out(zone_id):
    fault = the_fault(feature(zone_id))
    assert "id" in fault.reason
    assert fault.subject.endswith(" in berlin.geojson")


@pytest.mark.parametrize("zone_id", ["a", "0", "a" * 64, "A.b_c:d-e", "Elsewhere"])
def test_an_id_of_plain_letters_is_kept(zone_id):
    assert read(feature(zone_id))[0][0].zone_id == zone_id


def polygon(*positions):
    return {"type": "Polygon", "coordinates": [list(positions)]}


@pytest.mark.parametrize(
    "geometry",
    [
        pytest.param(None, id="null"),
        pytest.param("POLYGON EMPTY", id="text"),
        pytest.param({}, id="without a type"),
        pytest.param({"type": "Point", "coordinates": [13.4, 52.5]}, id="a point"),
        pytest.param({"type": "LineString", "coordinates": SQUARE[0]}, id="a line"),
        pytest.param({"type": "GeometryCollection", "geometries": [POLYGON]}, id="a collection"),
        pytest.param({"type": "Polygon"}, id="without coordinates"),
        pytest.param({"type": "Polygon", "coordinates": []}, id="empty"),
        pytest.param({"type": "Polygon", "coordinates": [[]]}, id="an empty ring"),
        pytest.param({"type": "MultiPolygon", "coordinates": []}, id="no parts"),
        pytest.param({"type": "MultiPolygon", "coordinates": SQUARE}, id="one level too few"),
        pytest.param({"type": "Polygon", "coordinates": [SQUARE]}, id="one level too many"),
        pytest.param({"type": "Polygon", "coordinates": "13 52"}, id="coordinates in words"),
        pytest.param(polygon(*SQUARE[0][:4]), id="not closed"),
        pytest.param(polygon([13.4, 52.5], [13.5, 52.5], [13.4, 52.5]), id="too few positions"),
        pytest.param(
            polygon([13.4, 52.5], [13.5, 52.6], [13.5, 52.5], [13.4, 52.6], [13.4, 52.5]),
            id="self-crossing",
        ),
        pytest.param(
            polygon([13.4, 52.5], [13.4, 52.5], [13.4, 52.5], [13.4, 52.5]), id="only one point"
        ),
        pytest.param({"type": "MultiPolygon", "coordinates": [SQUARE, SQUARE]}, id="parts overlap"),
        pytest.param(polygon([13.4, 52.5], [math.nan, 52.5], [13.5, 52.6], [13.4, 52.5]), id="NaN"),
        pytest.param(
            polygon([13.4, 52.5], [math.inf, 52.5], [13.5, 52.6], [13.4, 52.5]), id="infinity"
        ),
        pytest.param(polygon([13.4, 52.5], [10**400, 52.5], [13.5, 52.6], [13.4, 52.5]), id="huge"),
        pytest.param(
            polygon([13.4, 52.5], ["13.5", "52.5"], [13.5, 52.6], [13.4, 52.5]), id="texts"
        ),
        pytest.param(polygon([13.4, 52.5], [None, 52], [13, 52], [13.4, 52.5]), id="a null in it"),
        pytest.param(polygon([13.4], [13.5], [13.6], [13.4]), id="one number each"),
        pytest.param(
            polygon([392000, 5820000], [392100, 5820000], [392100, 5820100], [392000, 5820000]),
            id="metres",
        ),
        pytest.param(polygon([13.4, 89], [13.5, 89], [13.5, 91], [13.4, 89]), id="beyond the pole"),
        pytest.param(polygon([5, 47], [15, 47], [15, 55], [5, 55], [5, 47]), id="a country"),
    ],
)
def test_a_broken_geometry_is_left_out(geometry):
    fault = the_fault(feature("a", geometry))
    assert fault.subject == "zone 'a' in berlin.geojson"
    assert fault.reason.startswith("geometry ")


@pytest.mark.parametrize("value", [0, -1, "20", True, math.nan, math.inf, 10**400, [20], {}])
def test_an_attraction_that_is_no_positive_number_is_left_out(value):
    assert the_fault(feature("a", attraction=value)).reason.startswith("attraction is ")


def test_every_feature_of_a_doubled_id_is_left_out_in_whichever_file():
    zones, faults, count = zones_from_geojson(
        [
            ("one.geojson", collection(feature("a"), feature(12), feature("b"))),
            ("two.geojson", collection(feature("a", None), feature("12"))),
        ]
    )
    assert ([z.zone_id for z in zones], count) == (["b"], 5)
    assert faults == [
        Fault("zone 'a' in one.geojson", "id is used by 2 features, expected one"),
        Fault("zone 12 in one.geojson", "id is used by 2 features, expected one"),
        Fault("zone 'a' in two.geojson", "id is used by 2 features, expected one"),
        Fault("zone '12' in two.geojson", "id is used by 2 features, expected one"),
    ]


@pytest.mark.parametrize("body", [None, 3, "text", [], {}, {"type": "Polygon"}, POLYGON])
def test_a_feature_that_is_none_is_left_out(body):
    fault = the_fault(body)
    assert fault.subject == "feature 1 in berlin.geojson"
    assert fault.reason.endswith("expected an object of type 'Feature'")


@pytest.mark.parametrize("properties", [None, [], "zone_id"])
def test_a_feature_without_properties_has_no_id(properties):
    fault = the_fault({"type": "Feature", "properties": properties, "geometry": POLYGON})
    assert fault == Fault("feature 1 in berlin.geojson", "has no zone_id")


@settings(max_examples=60)
@given(zone_id=st.text(max_size=200), file=st.text(max_size=200))
def test_a_fault_is_one_short_printable_line(zone_id, file):
    _, faults, _ = zones_from_geojson([(file, collection(feature(zone_id, None)))])
    (fault,) = faults
    assert fault.subject.isprintable()
    assert fault.reason.isprintable()
    assert 0 < len(fault.subject) <= 80


def test_control_characters_in_a_fault_are_spelled_out():
    fault = the_fault(feature("a\x1b[31m\nINFO all is well\u202e"))
    assert fault.subject == r"zone 'a\x1b[31m\nINFO all is well\u202e' in berlin.geojson"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no JSON"),
        ("PK\x03\x04", "no JSON"),
        ('{"type": "FeatureCollection", "features": [', "no JSON"),
        ("[" * 100_000, "JSON nested too deeply"),
        ("9" * 5000, "a number too long to read"),
        ("null", "null"),
        ("[]", "a list"),
        ("{}", "an object without a type"),
        ('{"type": "Topology", "objects": {}}', "type 'Topology'"),
        (json.dumps(POLYGON), "type 'Polygon'"),
        ('{"type": "FeatureCollection"}', "a FeatureCollection without a list of features"),
        ('{"type": "FeatureCollection", "features": {}}', "a FeatureCollection without a list"),
    ],
)
def test_a_file_that_is_no_collection_is_named(text, found):
    with pytest.raises(NotGeoJson) as error:
        zones_from_geojson([("good.geojson", collection()), ("bad\n.geojson", text)])
    message = str(error.value)
    assert message.startswith(rf"bad\n.geojson: found {found}")
    assert message.endswith("expected an RFC 7946 FeatureCollection")


def test_an_empty_collection_has_no_zones():
    assert read() == ([], [], 0)
    assert zones_from_geojson([]) == ([], [], 0)


# ------------------------------------------------------------------------------------- Spark

CELLS = (
    "cell_id string, latitude double, longitude double, azimuth_deg double,"
    " beamwidth_deg double, range_m double, indoor_zone_id string"
)
EAST = place(0, 200)
ROWS = [
    ("omni", LATITUDE, LONGITUDE, None, None, 500.0, None),
    ("half-known", LATITUDE, LONGITUDE, 90.0, None, 500.0, None),
    ("sector", LATITUDE, LONGITUDE, 45.0, 65.0, 800.0, None),
    ("indoor", 48.1, 11.5, None, None, 40.0, "outlet"),
    ("indoor of nobody", *EAST, None, None, 400.0, "torn down"),
    ("far", 48.1, 11.5, None, None, 500.0, None),
    ("blind", LATITUDE, LONGITUDE, None, None, None, None),
]


METHOD = {"resolution": 11, "zone_attraction": 20.0, "min_presence": 0.02}


def test_cells_tell_of_zones_or_are_only_heard_there(spark):
    cells = local_frame(spark, ROWS, CELLS)
    frame = cell_zones(cells, WORLD, indoor_zone_ids=["outlet"], **METHOD)
    assert frame.schema.simpleString() == (
        "struct<cell_id:string,zone_id:string,probability:double>"
    )
    found = {(row.cell_id, row.zone_id): row.probability for row in frame.collect()}
    told = {("indoor", "outlet"): 1.0}
    heard = set()
    for cell_id, latitude, longitude, azimuth_deg, beamwidth_deg, range_m, _ in ROWS:
        if cell_id in ("omni", "half-known", "sector", "indoor of nobody"):
            shares = brute_force(
                WORLD,
                min_presence=0.02,
                latitude=latitude,
                longitude=longitude,
                azimuth_deg=azimuth_deg,
                beamwidth_deg=beamwidth_deg,
                range_m=range_m,
            )
            told |= {(cell_id, zone_id): p for zone_id, p in shares.items() if zone_id != "outlet"}
        if range_m is not None:
            heard |= {
                (cell_id, one.zone_id)
                for one in WORLD
                if any(
                    haversine_m((latitude, longitude), h3.h3_to_geo(hexagon)) <= range_m
                    for hexagon in hexagons_of(one, 11)
                )
            }
    assert {pair: p for pair, p in found.items() if p is not None} == pytest.approx(told, rel=1e-9)
    assert {pair for pair, p in found.items() if p is None} == heard - set(told)
    assert found["omni", "mall"] == found["half-known", "mall"]
    assert heard - set(told)


def test_indoor_cells_alone_tell_of_their_zone_and_of_those_round_it(spark):
    food_court = zone("food court", box(-30, -30, 30, 30))
    rows = [
        ("deep inside", LATITUDE, LONGITUDE, None, None, 60.0, "food court"),
        ("mast", LATITUDE, LONGITUDE, None, None, 500.0, None),
    ]
    cells = local_frame(spark, rows, CELLS)
    frame = cell_zones(cells, [food_court, MALL], indoor_zone_ids=["food court"], **METHOD)
    assert {tuple(row) for row in frame.collect()} == {
        ("deep inside", "food court", 1.0),
        ("deep inside", "mall", 1.0),
        ("mast", "food court", None),
        ("mast", "mall", None),
    }


def test_a_zone_lies_in_another_with_nine_tenths_of_its_area():
    inside = zone("inside", box(-30, -30, 30, 30))
    sticking_out = zone("sticking out", box(-30, 95, 30, 155))  # 55 of 60 metres
    half_out = zone("half out", box(-30, 120, 30, 180))
    apart = zone("apart", box(-30, 300, 30, 400))
    found = nested([MALL, inside, sticking_out, half_out, apart])
    assert found == {
        "mall": {"mall"},
        "inside": {"inside", "mall"},
        "sticking out": {"sticking out", "mall"},
        "half out": {"half out"},
        "apart": {"apart"},
    }
    assert nested([]) == {}


def test_no_cells_and_no_zones_give_no_rows(spark):
    cells = local_frame(spark, ROWS, CELLS)
    assert cell_zones(cells.limit(0), WORLD, indoor_zone_ids=[], **METHOD).collect() == []
    assert cell_zones(cells, [], indoor_zone_ids=["outlet"], **METHOD).collect() == []


def test_an_area_is_the_hexagon_that_holds_the_position(spark):
    rows = [
        (LATITUDE, LONGITUDE),
        (None, LONGITUDE),
        (LATITUDE, None),
        (math.nan, 0.0),
        (91.0, 0.0),
        (0.0, 181.0),
    ]
    positions = local_frame(spark, rows, "latitude double, longitude double")
    areas = positions.select(area(positions.latitude, positions.longitude, resolution=7))
    assert [row[0] for row in areas.collect()] == [h3.geo_to_h3(LATITUDE, LONGITUDE, 7)] + [
        None
    ] * 5
