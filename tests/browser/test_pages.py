"""Every page opens in silence at any width, runs nothing of what a record says, prints, and can be read by anyone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import NARROW, WIDE, Site, hostile
from playwright.sync_api import Browser, Page

KINDS = {
    "overview": ("index.html",),
    "rules": ("rules.html",),
    "methods": ("methods.html",),
    "table": ("tables/data-01/",),
    "row": ("rows/data-01/aio_kd.2-2",),
    "failed row": ("rows/attack/n.",),
    "method": ("methods/aio_kd.html",),
    "hypotheses": ("hypotheses/data-01/word_level", ".test.html"),
}
"""A page of each kind."""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PAPER = {"table": {"width": 1047, "height": 718}}
UPRIGHT = {"width": 718, "height": 1047}
"""CSS pixels of an A4 page within margins of a centimetre; tables are printed on its side."""


def test_every_page_opens_without_a_word_and_fits_its_window(page: Page, site: Site):
    assert len(site.pages) > 60
    wide = []
    for address in site.pages:
        page.set_viewport_size(WIDE)
        page.goto(site.address(address))
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)
            if over := page.evaluate(OVERFLOW):
                wide.append((address, size["width"], over))
        assert page.evaluate("window.owned") is None
    assert wide == []


def test_what_a_record_says_is_shown_and_not_carried_out(page: Page, site: Site):
    title = hostile("attack")[:20]
    for address in (site.find("tables/attack/"), site.find("rows/attack/m."), "methods/m.html"):
        page.goto(site.address(address))
        assert title in page.locator("main, header").all_inner_texts()[0] + page.locator("main").inner_text()
        for mark in page.locator("svg.drawing .mark").all()[:20]:
            mark.focus()
            if "owned" in (mark.get_attribute("aria-label") or ""):
                assert "owned" in page.locator(".tip").inner_text()
        assert page.locator("img, script[src], iframe").count() == 0
        assert page.evaluate("window.owned") is None
    page.goto(site.address(site.find("tables/attack/")))
    page.get_by_label("Filter").fill(title)
    page.locator("thead button").first.click()
    assert page.evaluate("window.owned") is None


def test_without_scripts_tables_charts_and_figures_are_there(browser: Browser, site: Site):
    with browser.new_context(java_script_enabled=False, offline=True, viewport=WIDE) as context:
        tab = context.new_page()
        tab.goto(site.address(site.table))
        assert tab.locator(".board tbody tr:visible").count() == 12
        assert tab.locator(".board thead button, .tools:visible").count() == 0
        assert tab.locator("svg.drawing:visible .mark").count() > 12
        tab.get_by_text("The same as a table").locator("visible=true").first.click()
        assert tab.locator("figure.chart table:visible").count() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_the_paper(page: Page, site: Site, kind: str):
    page.set_viewport_size(PAPER.get(kind, UPRIGHT))
    page.emulate_media(media="print")
    page.goto(site.address(site.find(*KINDS[kind])))
    assert page.evaluate(OVERFLOW) == 0
    beyond = """() => [...document.querySelectorAll("main table, main svg, main pre, main p")]
        .filter((each) => each.checkVisibility() && each.getBoundingClientRect().right > innerWidth + 1)
        .map((each) => each.outerHTML.slice(0, 80))"""
    assert page.evaluate(beyond) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_accessibility_checker_finds_nothing(page: Page, site: Site, kind: str, scheme: str):
    page.emulate_media(color_scheme=scheme)
    page.goto(site.address(site.find(*KINDS[kind])))
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["impact"], [node["html"][:160] for node in each["nodes"]][:3]) for each in found] == []
