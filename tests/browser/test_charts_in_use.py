"""Charts in the hands of a reader: figures at the mouse and at the keys, rows that stand out, and choices."""

from __future__ import annotations

import pytest
from conftest import Site
from playwright.sync_api import Page, expect


@pytest.fixture
def charts(page: Page, site: Site) -> Page:
    page.goto(site.address(site.table))
    return page


def marks(page: Page):
    """Of the first chart."""
    return page.locator("svg.drawing").locator("visible=true").first.locator(".mark")


def lines(mark) -> list[str]:
    return mark.get_attribute("aria-label").split(",\n")


def test_the_mouse_brings_a_marks_figures_within_the_window(charts: Page):
    tip, mark = charts.locator(".tip"), marks(charts).nth(2)
    assert tip.is_hidden()
    mark.locator(".reach").hover(force=True)
    shown = charts.locator(".mark.shown")
    assert tip.locator("p").all_inner_texts() == lines(shown)
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    charts.mouse.move(5, 5)
    assert tip.is_hidden()


def test_keys_go_from_mark_to_mark_and_escape_hides_the_figures(charts: Page):
    tip, count = charts.locator(".tip"), marks(charts).count()
    places = [float(each.locator("svg").get_attribute("x").rstrip("%")) for each in marks(charts).all()]
    charts.locator("svg.drawing").locator("visible=true").first.locator(".mark[tabindex='0']").focus()
    seen = []
    for _ in range(count):
        focused = charts.locator(".mark:focus")
        assert tip.locator("p").all_inner_texts() == lines(focused)
        seen.append(float(focused.locator("svg").get_attribute("x").rstrip("%")))
        charts.keyboard.press("ArrowRight")
    assert seen == sorted(places)
    charts.keyboard.press("Home")
    assert tip.locator("p").all_inner_texts() == lines(charts.locator(".mark:focus"))
    charts.keyboard.press("Escape")
    assert tip.is_hidden()


def test_a_mark_leads_to_its_row(charts: Page):
    mark = marks(charts).first
    row = mark.get_attribute("data-rows").split()[0]
    mark.focus()
    charts.keyboard.press("Enter")
    charts.wait_for_url(f"**/rows/data-01/{row}.html")


def test_a_row_of_the_legend_stands_out_in_all_charts_and_in_the_table(charts: Page):
    button = charts.locator(".legend button").first
    rows = button.locator("xpath=..").get_attribute("data-rows").split()
    button.click()
    charts.mouse.move(5, 5)
    assert button.get_attribute("aria-pressed") == "true"
    lit = {each.get_attribute("data-rows") for each in charts.locator(".board tr.lit").all()}
    assert lit == set(rows)
    assert charts.locator("svg.drawing .faded").count() > 0
    for each in charts.locator("svg.drawing [data-rows]:not(.faded)").all():
        assert set(each.get_attribute("data-rows").split()) & set(rows)
    button.click()
    charts.mouse.move(5, 5)
    assert button.get_attribute("aria-pressed") == "false"
    expect(charts.locator(".lit, svg.drawing .faded")).to_have_count(0)


def test_a_radio_chooses_the_chart_that_is_shown(charts: Page):
    choice = charts.locator(".choice").first
    labels = choice.locator("fieldset label").all()
    assert len(labels) > 1
    titles = set()
    for label in labels:
        label.click()
        shown = choice.locator(".option").locator("visible=true")
        assert shown.count() == 1
        titles.add(shown.locator("figcaption strong").inner_text())
    assert len(titles) == len(labels)
    labels[0].locator("input").focus()
    charts.keyboard.press("ArrowRight")
    assert labels[1].locator("input").is_checked()
