"""A table in the hands of a reader: sort, filter, columns, the address that keeps the view, and the files beside it."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from conftest import Site, opened
from playwright.sync_api import Page, expect

ROWS = ".board tbody tr"


@pytest.fixture
def table(page: Page, site: Site) -> Page:
    page.goto(site.address(site.table))
    return page


def values(page: Page, key: str) -> list[str]:
    """Of a column, in the order of the visible rows."""
    script = """(key) => {
      const board = document.querySelector(".board");
      const place = [...board.tHead.rows[0].cells].findIndex((cell) => cell.dataset.key === key);
      return [...board.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[place].dataset.value);
    }"""
    return page.evaluate(script, key)


def heading(page: Page, key: str):
    return page.locator(f".board thead [data-key={key}]").first


def numbers(page: Page, key: str) -> list[float]:
    return [float(value) for value in values(page, key) if value]


def test_a_click_on_a_heading_sorts_by_value_and_a_second_one_turns_it(table: Page):
    assert heading(table, "bleu").get_attribute("aria-sort") == "descending"
    heading(table, "student_seconds").locator("button").click()
    ascending = numbers(table, "student_seconds")
    assert ascending == sorted(ascending) != sorted(ascending, key=str)[::-1]
    assert heading(table, "student_seconds").get_attribute("aria-sort") == "ascending"
    assert heading(table, "bleu").get_attribute("aria-sort") is None
    heading(table, "student_seconds").locator("button").click()
    assert numbers(table, "student_seconds") == ascending[::-1]
    assert heading(table, "student_seconds").get_attribute("aria-sort") == "descending"


def test_every_column_sorts_by_its_numbers_and_rows_without_one_stay_last(table: Page):
    for key in [each.get_attribute("data-key") for each in table.locator(".board").first.locator("thead th").all()]:
        if not heading(table, key).is_visible() or key in ("method", "shape", "date", "status"):
            continue
        for _ in range(2):
            heading(table, key).locator("button").click()
            found, way = numbers(table, key), heading(table, key).get_attribute("aria-sort")
            assert found == sorted(found, reverse=way == "descending"), key
            assert all(values(table, key)[: len(found)]), key


def test_keys_sort_as_the_mouse_does(table: Page):
    button = heading(table, "chrf").locator("button")
    button.focus()
    table.keyboard.press("Enter")
    assert numbers(table, "chrf") == sorted(numbers(table, "chrf"), reverse=True)
    table.keyboard.press("Space")
    assert numbers(table, "chrf") == sorted(numbers(table, "chrf"))
    assert button.evaluate("(each) => each === document.activeElement")


def test_the_filter_takes_all_words_and_says_how_many_rows_are_left(table: Page):
    table.get_by_label("Filter").fill("AIO 3-")
    assert table.locator(f"{ROWS}:visible").count() == 2
    expect(table.locator("#told")).to_have_text("2 of 12 rows")
    # The year of every row's date: the filter asks for names, not for figures.
    table.get_by_label("Filter").fill("2026")
    expect(table.locator("#told")).to_have_text("0 of 12 rows")
    table.get_by_label("Filter").fill("no such row")
    expect(table.locator("#told")).to_have_text("0 of 12 rows")


def test_kinds_of_rows_and_methods_can_be_left_out(table: Page):
    table.locator(".menu summary", has_text="Rows").click()
    table.get_by_label("teacher", exact=True).uncheck()
    assert "teacher" not in [each.get_attribute("data-role") for each in table.locator(f"{ROWS}:visible").all()]
    table.locator("#methods input[value=aio_kd]").uncheck()
    assert table.locator(f"{ROWS}:visible").count() == 12 - 1 - 6
    table.keyboard.press("Escape")
    assert table.locator("#methods").is_hidden()
    assert table.evaluate("document.activeElement.textContent") == "Rows"


def test_the_address_keeps_the_view_and_reset_forgets_it(table: Page, site: Site):
    table.locator(".menu summary", has_text="Columns").click()
    table.locator("#columns input[value=energy_joules]").uncheck()
    table.locator("#columns input[value=date]").uncheck()
    table.locator("#columns input[value=non_embedding]").check()
    table.keyboard.press("Escape")
    heading(table, "chrf").locator("button").click()
    heading(table, "chrf").locator("button").click()
    table.get_by_label("Filter").fill("aio")

    def seen(tab: Page) -> object:
        shown = [key for key in ("energy_joules", "date", "non_embedding", "chrf") if heading(tab, key).is_visible()]
        return values(tab, "method"), values(tab, "chrf"), shown, tab.get_by_label("Filter").input_value()

    view = seen(table)
    assert view[2:] == (["non_embedding", "chrf"], "aio")
    assert "q=aio" in unquote(table.url)
    table.reload()
    assert seen(table) == view
    other = opened(table.context.new_page(), site)
    other.goto(table.url)
    assert seen(other) == view
    other.get_by_role("button", name="Reset").click()
    assert "#" not in other.url
    assert other.locator(f"{ROWS}:visible").count() == 12
    assert heading(other, "date").is_visible()


def test_the_link_to_a_view_can_be_copied(table: Page):
    table.context.grant_permissions(["clipboard-read", "clipboard-write"])
    table.get_by_label("Filter").fill("aio")
    table.get_by_role("button", name="Copy link").click()
    expect(table.locator("#told")).to_contain_text("clipboard")
    assert table.evaluate("navigator.clipboard.readText()") == table.url


def test_a_download_is_the_file_beside_the_page(table: Page, site: Site):
    beside = site.folder / site.table
    with table.expect_download() as started:
        table.get_by_role("link", name="CSV", exact=True).click()
    assert started.value.path().read_bytes() == beside.with_suffix(".csv").read_bytes()
    # From a file, Chromium shows what it can show, whatever the link says.
    table.get_by_role("link", name="JSON", exact=True).click()
    table.wait_for_url(beside.with_suffix(".json").as_uri())
    assert table.locator("pre").inner_text() == beside.with_suffix(".json").read_text(encoding="utf-8")
