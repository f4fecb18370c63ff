"""What the maps of a page show: zones and areas as shapes on a plane, without any tiles."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely

from transforms.charts import DEEP, HATCH, INK, LINE, PALE, VOID, Row, colour, shape
from transforms.estimates import MISSING, Estimate
from transforms.geography import area_outlines

_MARGIN, _LEAST_MARGIN = 0.12, 0.01
"""Round what a map is to show: in parts of its size, and in degrees."""
_LARGEST, _SMALLEST = 0.035, 0.008
"""Radius of a zone's circle, in parts of the map's size."""
_NEAR = 0.04
"""How far apart, in parts of the map's size, two numbers can be read."""


@dataclass(frozen=True)
class Atlas:
    """Outlines of zones (well-known binary, by zone_id) and the areas that are counted (H3)."""

    zones: Mapping[str, bytes]
    areas: Collection[str]

    @cached_property
    def _ground(self) -> Mapping[str, shapely.Geometry]:
        return {area: self._flat(outline) for area, outline in area_outlines(self.areas).items()}

    @cached_property
    def _outlines(self) -> Mapping[str, shapely.Geometry]:
        return {zone: self._flat(shapely.from_wkb(wkb)) for zone, wkb in self.zones.items()}

    @cached_property
    def _middles(self) -> Mapping[str, shapely.Point]:
        return {zone: shapely.centroid(outline) for zone, outline in self._outlines.items()}

    @cached_property
    def _latitude(self) -> float:
        """Of the middle of the zones; the plane is true there (equirectangular projection)."""
        middles = shapely.centroid(shapely.from_wkb(list(self.zones.values())))
        return float(np.mean(shapely.get_y(middles))) if self.zones else 0.0

    def _flat(self, geometry: shapely.Geometry) -> shapely.Geometry:
        scale = np.array([math.cos(math.radians(self._latitude)), 1.0])
        return shapely.transform(geometry, lambda degrees: degrees * scale)

    def city(self, visitors: Mapping[str, Estimate]) -> list[Row]:
        """All zones on the areas: circles whose area is the number of visitors, hatched or blank
        where there is none.
        """
        if not self._outlines:
            return []
        window = _around(self._middles.values())
        size = _size(window)
        told = {zone: visitors.get(zone, MISSING) for zone in sorted(self._middles)}
        most = max((one.value for one in told.values() if one.published), default=0.0)
        rows = self._areas(self._ground, window, fill=PALE)
        for zone, one in sorted(told.items(), key=lambda item: item[1].published, reverse=True):
            share = one.value / most if one.published and most > 0 else 0.0
            radius = max(_SMALLEST, _LARGEST * math.sqrt(share)) * size
            fill, stroke = (DEEP, "#ffffff") if one.published else (VOID[one.state][0], INK)
            rows.append(_shape(self._middles[zone].buffer(radius), fill=fill, stroke=stroke))
        return rows

    def numbered(self, zones: Sequence[str]) -> list[Row]:
        """A number above each of the zones, from 1 on, for `city`; those in one place share it."""
        size = _size(_around(self._middles.values()))
        labels: list[tuple[shapely.Point, str]] = []
        for number, zone in enumerate(zones, start=1):
            middle = self._middles.get(zone)
            if middle is None:
                continue
            near = (at for at, (one, _) in enumerate(labels) if one.distance(middle) < _NEAR * size)
            at = next(near, None)
            if at is None:
                labels.append((middle, f"{number}"))
            else:
                labels[at] = (labels[at][0], f"{labels[at][1]}, {number}")
        off = (_LARGEST + 0.015) * size
        return [{"x": middle.x, "y": middle.y + off, "text": text} for middle, text in labels]

    def catchment(self, zone_id: str, visitors: Mapping[str, Estimate]) -> list[Row]:
        """Where the visitors of a zone live: areas by their number, all others hatched; nothing
        without any number.
        """
        known = {area: one for area, one in visitors.items() if area in self._ground}
        shown = {area: one.value for area, one in known.items() if one.published}
        if not shown:
            return []
        most = max(shown.values())
        middle = self._middles.get(zone_id)
        window = _around([*(self._ground[area] for area in shown), *self._middles.values()])
        rows = self._areas({area for area in self._ground if area not in shown}, window, fill=HATCH)
        rows += [
            _shape(self._ground[area], fill=colour(value / most if most > 0 else 0.0))
            for area, value in sorted(shown.items())
        ]
        if middle:
            for radius, fill in ((0.024, "#ffffff"), (0.015, INK)):
                rows.append(_shape(middle.buffer(radius * _size(window)), fill=fill, stroke=fill))
        return rows

    def _areas(self, areas: Collection[str], window: shapely.Geometry, *, fill: str) -> list[Row]:
        """Areas as one shape, as far as they lie in the window."""
        near = [self._ground[area] for area in areas if self._ground[area].intersects(window)]
        # Neighbours share their corners but for rounding.
        whole = shapely.union_all([outline.buffer(1e-6) for outline in near])
        return [_shape(whole.intersection(window), fill=fill, stroke=LINE)] if near else []


def _shape(geometry: shapely.Geometry, *, fill: str, stroke: str = "#ffffff") -> Row:
    return shape(shapely.geometry.mapping(geometry), fill=fill, stroke=stroke)


def _around(geometries: Collection[shapely.Geometry]) -> shapely.Geometry:
    """A window that shows them all, with something round them."""
    west, south, east, north = shapely.union_all(list(geometries)).bounds
    margin = max(_MARGIN * max(east - west, north - south), _LEAST_MARGIN)
    return shapely.box(west - margin, south - margin, east + margin, north + margin)


def _size(window: shapely.Geometry) -> float:
    west, south, east, north = window.bounds
    return max(east - west, north - south)
