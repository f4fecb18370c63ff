"""Who may have what: the buyers of `conf/buyers.toml`, validated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from transforms.errors import Misused
from transforms.geography import Zone
from transforms.settings import faults_of

BuyerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""Names a folder."""
ProductName = Literal[
    "zone_hours",
    "zone_days",
    "zone_dwell",
    "zone_flows",
    "zone_catchment",
    "zone_comparison",
    "zone_weeks",
    "zone_months",
    "zone_popularity",
]


class Licence(BaseModel):
    """What one buyer may have: `products` of `zones` and of all zones of `centres`, for the days
    from `first_day` to `last_day`. After the day `ends` nothing more is delivered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=200)
    products: tuple[ProductName, ...] = Field(min_length=1, strict=False)
    zones: tuple[str, ...] = Field(default=(), strict=False)
    centres: tuple[str, ...] = Field(default=(), strict=False)
    first_day: date
    last_day: date
    ends: date

    @model_validator(mode="after")
    def _makes_sense(self) -> Licence:
        if not (self.zones or self.centres):
            raise ValueError("needs zones or centres")
        if self.last_day < self.first_day:
            raise ValueError(f"last_day {self.last_day} is before first_day {self.first_day}")
        return self

    def zone_ids(self, zones: Iterable[Zone]) -> list[str]:
        """Of the zones there are, those the buyer may have."""
        return sorted(
            zone.zone_id
            for zone in zones
            if zone.zone_id in self.zones or zone.centre_id in self.centres
        )

    def unknown(self, zones: Iterable[Zone]) -> list[str]:
        """Names of the licence that no zone and no centre has."""
        known = {name for zone in zones for name in (zone.zone_id, zone.centre_id)}
        return sorted({*self.zones, *self.centres} - known)

    def covers(self, day: date) -> bool:
        return self.first_day <= day <= self.last_day

    def covers_all(self, first: date, last: date) -> bool:
        """Whether all days from the first to the last are."""
        return self.covers(first) and self.covers(last)


_BUYERS = TypeAdapter(Mapping[BuyerName, Licence])


def licences_from(raw: Mapping[str, Any], *, name: str) -> Mapping[str, Licence]:
    """By buyer. Raises `Misused` naming every fault at once; `name` is the file's."""
    try:
        return _BUYERS.validate_python(raw)
    except ValidationError as error:
        raise Misused(
            f"buyers {name}",
            found=faults_of(error),
            expected="for each buyer what the comments of conf/buyers.toml say",
            consequence="nothing was delivered",
        ) from None
