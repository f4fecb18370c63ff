"""The language of a page: its words, numbers and dates.

Words are written in English in the code and the templates; `<language>.po` beside this module has
them in another language (gettext's format, which translators have tools for). What is not in it
stays English.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, cached_property

from babel.dates import format_date, format_datetime, get_day_names
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

from transforms.package_files import source

_DAYS = {"en": "EEEE, d MMMM y", "de": "EEEE, d. MMMM y"}
_SHORT_DAYS = {"en": "d MMMM y", "de": "d. MMMM y"}


@dataclass(frozen=True)
class Language:
    """One that pages are written in: `en` or `de`."""

    code: str

    def word(self, text: str) -> str:
        """A text in this language."""
        found = self._catalog.get(text) if self._catalog else None
        return str(found.string) if found and found.string else text

    def words(self, one: str, many: str, number: int) -> str:
        """A text that depends on a number."""
        found = self._catalog.get(one) if self._catalog else None
        if found and isinstance(found.string, tuple) and all(found.string):
            return found.string[number != 1]
        return one if number == 1 else many

    @cached_property
    def _catalog(self) -> Catalog | None:
        return None if self.code == ENGLISH.code else catalog(self.code)

    def number(self, value: float, *, digits: int = 0, signed: bool = False) -> str:
        """With separators, and always so many digits after the point.

        >>> ENGLISH.number(1240), GERMAN.number(1240), GERMAN.number(-0.5, digits=1)
        ('1,240', '1.240', '−0,5')
        """
        pattern = "#,##0" + ("." + "0" * digits if digits else "")
        told = format_decimal(value, format=pattern, locale=self.code).replace("-", "−")
        return f"+{told}" if signed and value >= 0 else told

    def day(self, day: date) -> str:
        """With its weekday.

        >>> ENGLISH.day(date(2026, 11, 1)), GERMAN.day(date(2026, 11, 1))
        ('Sunday, 1 November 2026', 'Sonntag, 1. November 2026')
        """
        return format_date(day, _DAYS[self.code], locale=self.code)

    def date(self, day: date) -> str:
        return format_date(day, _SHORT_DAYS[self.code], locale=self.code)

    def instant(self, at: datetime) -> str:
        return format_datetime(at, f"{_SHORT_DAYS[self.code]}, HH:mm", locale=self.code)

    @property
    def weekdays(self) -> tuple[str, ...]:
        """Short names, Monday first.

        >>> GERMAN.weekdays
        ('Mo', 'Di', 'Mi', 'Do', 'Fr', 'Sa', 'So')
        """
        names = get_day_names("abbreviated", "stand-alone", locale=self.code)
        return tuple(names[number] for number in range(7))


@cache
def catalog(code: str) -> Catalog:
    return read_po(source(f"{code}.po").splitlines(keepends=True), locale=code)


ENGLISH, GERMAN = LANGUAGES = (Language("en"), Language("de"))
