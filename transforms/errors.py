"""What stops a night: every error says subject, found, expected and consequence in one line."""

from __future__ import annotations


class FootfallError(Exception):
    """A night that can't go on; `exit_code` is what the job ends with.

    The text never holds a subscriber's id: subjects are tables, files, zones and settings.
    """

    exit_code = 1

    def __init__(self, subject: str, *, found: str, expected: str, consequence: str) -> None:
        super().__init__(f"{subject}: found {found}, expected {expected}; {consequence}")
        self.parts = {
            "subject": subject,
            "found": found,
            "expected": expected,
            "consequence": consequence,
        }


class Failed(FootfallError):
    """Input is missing, unreadable or below quality (exit 1)."""

    exit_code = 1


class Unwritable(FootfallError):
    """The storage takes nothing: it is full, or may not be written to (exit 1)."""

    exit_code = 1


class Misused(FootfallError):
    """A wrong argument or setting (exit 2)."""

    exit_code = 2


class Refused(FootfallError):
    """The privacy or consent gate stays shut (exit 3)."""

    exit_code = 3
