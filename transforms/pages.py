"""HTML pages from the package's own templates: one look, every value escaped, nothing loaded.

`page.html.j2` is what all pages share; a page extends it. A page may not name a value that it
was not given. Words of a page that stand in `{% trans %}` or `_()` are put into its language.
"""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from transforms.language import ENGLISH, Language
from transforms.package_files import source


@cache
def template(name: str, language: Language = ENGLISH) -> Template:
    """A template beside this module; read through the package, which may be a zip."""
    return _environment(language).get_template(name)


@cache
def _environment(language: Language) -> Environment:
    environment = Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(language.word, language.words, newstyle=True)  # type: ignore[attr-defined]
    environment.globals["language"] = language
    return environment
