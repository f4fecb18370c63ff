"""Texts that are part of the package, which may be a zip."""

from __future__ import annotations

from importlib.resources import files


def source(name: str) -> str:
    """The text of a file beside this module."""
    return files("transforms").joinpath(name).read_text(encoding="utf-8")
