"""An HTML page as its readers get it."""

from __future__ import annotations

from html.parser import HTMLParser


def words(html: str) -> str:
    """What a reader sees of the page's own text, on one line."""
    return " ".join(Reading(html).text.replace("\xa0", " ").split())


class Reading(HTMLParser):
    """The page as a browser parses it: its text, its elements, and whether all were closed."""

    void = frozenset({"meta", "br"})
    apart = frozenset({"td", "th", "tr", "dt", "dd", "div", "p", "h1", "h2", "h3", "h4", "a"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += " " if tag in self.apart else ""
        self.handle_startendtag(tag, attrs)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
