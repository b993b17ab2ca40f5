"""Reports of searches, made and read."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from fairseq_dartsformer.cli import report as command

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """A page read strictly: every element is closed in its turn, and none runs code on an event.

    Attributes:
        tags: of its elements, in order.
        ids: of those that have one.
        addresses: what the page would fetch or lead to, itself included.
        cells: text of each cell, term, paragraph or heading, in order.
    """

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.cells: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(attrs)
        if tag in ("td", "th", "dt", "dd", "p", "pre", "h1", "h2"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self._attributes(attrs)

    def _attributes(self, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            elif name in ("src", "href", "xlink:href", "action", "data"):
                self.addresses.append(value)
            else:
                self.addresses += re.findall(r"url\(([^)]*)\)", value or "")
            assert not name.startswith("on"), name

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data

    @property
    def facts(self) -> dict[str, str]:
        """Name and value at the top of the page."""
        words = [" ".join(cell.split()) for cell in self.cells]
        start, count = words.index("updates"), self.tags.count("dt")
        return dict(zip(words[start::2][:count], words[start + 1 :: 2][:count], strict=True))


def page_of(folder: Path, *arguments: object) -> tuple[Page, str]:
    """Write a report to ``folder``, by ``dartsformer-report ARGUMENTS...``, and read it."""
    output = folder / "report.html"
    command.main(command.get_parser().parse_args([*map(str, arguments), "-o", str(output)]))
    html = output.read_text()
    return Page(html), html
