"""HTML pages from the package's own templates: one look, every value escaped, nothing loaded.

`page.html.j2` is what all pages share; a page extends it. A page may not name a value that it
was not given.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template


@cache
def template(name: str) -> Template:
    """A template beside this module; read through the package, which may be a zip."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def source(name: str) -> str:
    """A text that is part of the package."""
    return files("transforms").joinpath(name).read_text(encoding="utf-8")
