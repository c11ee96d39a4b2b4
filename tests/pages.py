"""A site built from made-up records, as a browser would read it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from factories import store

from bench.records import read_records
from bench.results import Record
from leaderboard.site import build


class Page(HTMLParser):
    """The elements of a page with their attributes, and its visible text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.elements, self.text = path, [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] not in ("style", "script"):
            self.text += data

    def values(self, attribute):
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    @property
    def shape(self):
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]


def site(folder: Path, records: list[Record], **arguments) -> dict[str, Page]:
    store(folder / "records", *records)
    stored, problems = read_records([folder / "records"])
    index = build(stored, folder / "site", notes=arguments.get("notes", problems))
    return {path.relative_to(index.parent).as_posix(): Page(path) for path in index.parent.rglob("*.html")}


def table(pages: dict[str, Page], name: str = "") -> Page:
    """The only page of a table whose address holds ``name``."""
    (found,) = (page for address, page in pages.items() if address.startswith("tables/") and name in address)
    return found
