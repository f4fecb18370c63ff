"""What differs from the demo world: weather, closures, a new mast, people leaving, hard radio.

A scenario is a set of facts about the world. It knows nothing of the method that estimates visits,
and the method nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from typing import Any


@dataclass(frozen=True)
class Scenario:
    """How a world differs from the plain demo world; the defaults change nothing.

    day: the local day it plays on, for those who have no other wish.

    Radio. shadowing_db: how much (standard deviation) each sector's signal at a place departs from
    what distance says; indoor_share: least and most part of the sessions inside a zone that its
    indoor cells catch, drawn by zone (None: the demo's own); leak_share: part of the sessions up to
    leak_m metres outside a zone that its indoor cells catch.

    People. visiting, staying, strolling: factors on how many go shopping, how long they stay, and
    how many pass by or spend time elsewhere; crowded: part of an area's residents that lives
    beside each of its centres, by zone id.

    Events. closed: zones that nobody visits though their opening hours say otherwise; dark: a zone
    whose cells are all down from dark_wall_h[0] to dark_wall_h[1]; mast_beside: a zone that a new
    site stands beside, mast_m metres east of its middle; leaving: a district of which leaving_share
    of the subscribers has opted out long ago.

    Map. centres: entries of the geography's centres that differ (by zone_id) or are new.
    """

    name: str = "demo"
    day: date | None = None
    shadowing_db: float = 0.0
    indoor_share: tuple[float, float] | None = None
    leak_share: float = 0.0
    leak_m: float = 0.0
    visiting: float = 1.0
    staying: float = 1.0
    strolling: float = 1.0
    crowded: Mapping[str, float] = field(default_factory=dict, hash=False)
    closed: tuple[str, ...] = ()
    dark: str | None = None
    dark_wall_h: tuple[int, int] = (15, 17)
    mast_beside: str | None = None
    mast_m: float = 150.0
    leaving: str | None = None
    leaving_share: float = 0.5
    centres: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)

    def parameters(self) -> dict[str, Any]:
        """What the world depends on, as JSON can hold it."""
        return asdict(self) | {"day": self.day and self.day.isoformat()}

    def facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The parsed geography file with this scenario's centres in it."""
        changed = {entry["zone_id"]: entry for entry in self.centres}
        listed = facts.get("centres", [])
        merged = [{**entry, **changed.pop(entry["zone_id"], {})} for entry in listed]
        # First, because a world is made of the first centres of the list.
        return {**facts, "centres": [*changed.values(), *merged]}


PLAIN = Scenario()


def scenarios(document: Mapping[str, Any]) -> dict[str, Scenario]:
    """The scenarios of a parsed scenario file by name; `common` holds in each of them.

    Raises ValueError for an entry that is none.
    """
    common = document.get("common", {})
    named = document.get("scenarios", {})
    return {name: _scenario({**common, **entry, "name": name}) for name, entry in named.items()}


def _scenario(entry: Mapping[str, Any]) -> Scenario:
    known = {one.name for one in fields(Scenario)}
    if unknown := sorted(set(entry) - known):
        raise ValueError(f"scenario {entry['name']!r}: unknown {unknown}")
    return Scenario(**{key: _frozen(value) for key, value in entry.items()})


def _frozen(value: Any) -> Any:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(value) if is_list else value
