"""The key of the day: made at the start of a night, read where the work happens, then destroyed.

Beside it, one key that stays: objections are fingerprinted with it.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from datetime import date
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from transforms.errors import Misused, Refused

KEY_BYTES = 32
PLUGINS = "footfall.key_stores"
"""Entry points of this group are key stores by name: callables of `folder` and `day`, a date or
None for the key of the objections, which is made once and never destroyed by a night.
"""


class KeyStore(Protocol):
    """Where one day's key lives, in a file or in a key management service.

    It travels to the workers, which call it: it must be picklable, hold no key itself, and be
    able to reach the key from every worker.
    """

    def make(self) -> None:
        """Makes a fresh random key of `KEY_BYTES`; one that is there already is lost."""

    def __call__(self) -> bytes:
        """The key. Raises `Refused` when there is none or others can read it."""

    def destroy(self) -> None:
        """Makes the key unrecoverable; without a key there is nothing to do."""


def key_store(name: str, *, folder: str, day: date | None) -> KeyStore:
    """The store that the settings name: `file`, or an installed plug-in. Raises `Misused`.

    day: None for the key of the objections.
    """
    if name == "file":
        return KeyFile.of(folder, day)
    known = {plugin.name: plugin for plugin in entry_points(group=PLUGINS)}
    if name not in known:
        raise Misused(
            "settings keys.store",
            found=ascii(name),
            expected=f"one of {', '.join(sorted(['file', *known]))}",
            consequence="nothing was read",
        )
    store: KeyStore = known[name].load()(folder=folder, day=day)
    return store


def left_behind(name: str, *, folder: str, before: date) -> list[date]:
    """Days before `before` whose key is still there. Only files can be looked for."""
    if name != "file" or not Path(folder).exists():
        return []
    stems = [file.stem for file in Path(folder).glob("????-??-??.key")]
    days = [date.fromisoformat(stem) for stem in stems if _is_day(stem)]
    return sorted(day for day in days if day < before)


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


_OBJECTIONS = "objections"


@dataclass(frozen=True)
class KeyFile:
    """One key in a file (0600) of a folder (0700) that every worker sees.

    The value holds only the path, so it can travel to the workers; calling it reads the key.
    """

    path: str

    @classmethod
    def of(cls, folder: str, day: date | None) -> KeyFile:
        return cls(f"{folder}/{day.isoformat() if day else _OBJECTIONS}.key")

    def make(self) -> None:
        """A fresh random key; one left behind by a night that did not end is overwritten."""
        folder = Path(self.path).parent
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.destroy()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())

    def __call__(self) -> bytes:
        """The key. Raises `Refused` when there is none or others can read it."""
        path = Path(self.path)
        if not path.exists():
            raise self._refusal("none")
        if any(stat.S_IMODE(one.stat().st_mode) & 0o077 for one in (path, path.parent)):
            raise self._refusal("one that others can read")
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise self._refusal("one of the wrong length")
        return key

    def destroy(self) -> None:
        """Overwritten, then removed; without a key there is nothing to do."""
        path = Path(self.path)
        if not path.exists():
            return
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.write(bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()

    def _refusal(self, found: str) -> Refused:
        stem = Path(self.path).stem
        return Refused(
            "key of the objections" if stem == _OBJECTIONS else f"key of the day {stem}",
            found=found,
            expected=f"{KEY_BYTES} bytes that only the job can read",
            consequence="nobody is counted and nothing was released",
        )
