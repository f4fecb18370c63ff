"""How foreign text and counts of people are put into words that may be seen by anybody."""

from __future__ import annotations

FEW = 10


def shown(text: object, *, length: int = 80) -> str:
    """Foreign text fit for one line of a log: printable, quoted, not too long.

    >>> shown("a\\nb")
    "'a\\\\nb'"
    """
    quoted = ascii(str(text))
    return quoted if len(quoted) <= length else f"{quoted[: length - 2]}…'"


def few(count: int) -> str:
    """A count in words that say nothing exact about a handful, not even by subtraction.

    >>> few(0), few(3), few(1234)
    ('0', 'fewer than 10', '1,230')
    """
    return f"fewer than {FEW}" if 0 < count < FEW else f"{count // FEW * FEW:,}"
