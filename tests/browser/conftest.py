"""The site in Chromium, without a network. Where there is no browser, the tests are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import scale_site
import test_hostile_catalog
from chromium import launch
from factories import store
from playwright.sync_api import Browser, Error, Page, sync_playwright
from test_hostile_records import HOSTILE, hostile_records

from bench.records import read_records
from leaderboard.catalog import Catalog
from leaderboard.site import build

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
RECORDS, SENTENCES = 3 * (6 + 12), 40
"""A table of 6 rows, and one of 12 that was tuned, with speeds and a family of depths."""
ATTACKS = {"attack": ("markup", "script", "quotes"), "long": ("long",), "turned": ("right to left", "control")}


@dataclass
class Site:
    """A folder of pages, and what a browser said of them."""

    folder: Path
    said: list[str] = field(default_factory=list)
    """Console messages, errors, dialogs, and requests for anything but files."""

    @property
    def pages(self) -> list[str]:
        """The addresses of all pages."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*.html"))

    def address(self, page: str, fragment: str = "") -> str:
        """Of a page, as a browser opens it."""
        return (self.folder / page).as_uri() + fragment

    def find(self, *parts: str) -> str:
        """The first page whose address holds all of these."""
        return next(page for page in self.pages if all(part in page for part in parts))

    @property
    def table(self) -> str:
        """The page of the table of twelve rows."""
        return self.find("tables/data-01/")


def hostile(name: str) -> str:
    """Text that tells ``window.owned`` and opens a dialog if any of it is ever carried out."""
    return " ".join(HOSTILE[kind] for kind in ATTACKS[name]).replace("alert(1)", "alert(window.owned=1)")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    scale_site.generate(folder / "records", RECORDS, SENTENCES)
    for name in ATTACKS:
        for record in hostile_records(text := hostile(name)):
            lines = {"test": [text, text], "dev": [text, text]}
            store(folder / "records", record.model_copy(update={"dataset": name}), hypotheses=lines)
    found, problems = read_records([folder / "records"])
    assert not problems
    of_texts, of_methods = scale_site.catalog(SENTENCES), test_hostile_catalog.catalog(hostile("attack"))
    known = Catalog(of_methods.methods, of_methods.datasets, of_texts.sentences)
    return build(found, folder / "site", notes=[hostile("attack")], catalog=known).parent


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            found = launch(playwright)
        except Error as error:
            pytest.skip(f"no Chromium: {error.message.splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture
def site(built: Path) -> Site:
    return Site(built)


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A tab of 1280 pixels; what it says that it should not fails the test."""
    context = browser.new_context(viewport=WIDE, offline=True)
    tab = opened(context.new_page(), site)
    yield tab
    context.close()
    assert site.said == []


def opened(tab: Page, site: Site) -> Page:
    """The tab, with all that it says noted."""
    tab.on("console", lambda message: site.said.append(f"{tab.url}: {message.text}"))
    tab.on("pageerror", lambda error: site.said.append(f"{tab.url}: {error}"))
    tab.on("dialog", lambda dialog: (site.said.append(f"{tab.url}: {dialog.message}"), dialog.dismiss()))
    tab.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or site.said.append(asked.url))
    return tab
