"""Measures of published rows as a reader meets them: a number with its interval, or why not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import pandas as pd

from transforms.language import ENGLISH, Language

PUBLISHED: Final = "published"
SUPPRESSED: Final = "suppressed"
NO_DATA: Final = "no_data"
STATES: Final = (PUBLISHED, SUPPRESSED, NO_DATA)


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

    def number(self, language: Language = ENGLISH) -> str:
        """The value, as fine as its interval allows: 1238.2 (1183 to 1296) is 1,240."""
        return language.number(round(self.value / self._step) * self._step)

    def interval(self, language: Language = ENGLISH) -> str:
        """The interval, rounded outwards; empty when there is none."""
        if math.isnan(self.low) or math.isnan(self.high):
            return ""
        low = math.floor(round(self.low / self._step, 6)) * self._step
        high = math.ceil(round(self.high / self._step, 6)) * self._step
        return f"{language.number(low)}–{language.number(high)}"

    @property
    def _step(self) -> int:
        half = (self.high - self.low) / 2
        if math.isnan(half):
            half = abs(self.value) / 50
        return 10 ** math.floor(math.log10(half / 2)) if half >= 2 else 1


MISSING: Final = Estimate(NO_DATA)


def of_day(frame: pd.DataFrame, day: date, *, by: str = "day") -> pd.DataFrame:
    """The day's rows; an empty frame stays empty whatever its columns."""
    return frame[pd.to_datetime(frame[by]).dt.date == day] if not frame.empty else frame


def numbers(column: pd.Series) -> pd.Series:
    """Floats of a column that may hold Decimal, None or NaN."""
    found = pd.to_numeric(column.astype(object).where(column.notna(), math.nan), errors="coerce")
    return found.astype(float).replace([math.inf, -math.inf], math.nan)


def measure_of(frame: pd.DataFrame, measure: str, *, keys: Sequence[str]) -> pd.DataFrame:
    """`keys`, state, value, low, high of one measure.

    Numbers stay only where the row is published: a figure that slipped into a suppressed row is
    not shown.
    """
    if frame.empty:
        return pd.DataFrame(columns=[*keys, "state", "value", "low", "high"])
    value = numbers(frame[measure])
    published = frame["status"].eq(PUBLISHED).fillna(False).astype(bool) & value.notna()
    state = frame["status"].eq(NO_DATA).map({True: NO_DATA, False: SUPPRESSED}).astype(object)
    return frame[list(keys)].assign(
        state=state.mask(published, PUBLISHED),
        value=value.where(published),
        low=numbers(frame[f"{measure}_low"]).where(published),
        high=numbers(frame[f"{measure}_high"]).where(published),
    )


def estimates(frame: pd.DataFrame) -> list[Estimate]:
    """Of rows as `measure_of` has them."""
    columns = (frame[name] for name in ("state", "value", "low", "high"))
    return [Estimate(*row) for row in zip(*columns, strict=True)]


def by_zone(frame: pd.DataFrame, measure: str) -> dict[str, Estimate]:
    """One measure of a table that has a row for each zone."""
    if frame.empty:
        return {}
    return dict(zip(frame["zone_id"], estimates(measure_of(frame, measure, keys=())), strict=True))
