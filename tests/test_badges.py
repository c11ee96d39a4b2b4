"""Badges: what they say, which table they speak of, and that nothing in a record breaks out of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from factories import make_record, plain, seeds, store
from hostile import HOSTILE
from pages import Page

from bench.config import Depth
from bench.records import read_records
from bench.results import Record
from leaderboard.badges import LONGEST, badges, shortened, width
from leaderboard.costs import Factors
from leaderboard.pages import Site, Source
from leaderboard.ranking import aggregate
from leaderboard.site import build

SVG = "{http://www.w3.org/2000/svg}"


def ranked(records: list[Record], ranks: Mapping[str, int]) -> SimpleNamespace:
    """Standings of one table in which methods have these ranks."""
    (table,) = aggregate(records)
    by_row = {row.sample.row: ranks[row.sample.method.name] for row in table.rows if row.sample.method.name in ranks}
    return SimpleNamespace(table=table, ranks=by_row)


def three(method: str, bleu: float, **fields) -> list[Record]:
    return seeds(method, [bleu - 1, bleu, bleu + 1], **fields)


def said(*standings) -> dict[str, tuple[str, str]]:
    return {badge.method: (badge.label, badge.message) for badge in badges(standings)}


def test_a_badge_says_rank_and_score_of_the_best_row():
    records = [*plain(), *three("m", 25.84), *three("m", 23.0, digest="0badbeef"), *three("n", 24.0)]
    standings = ranked(records, {"m": 1, "n": 2, "baseline": 3})
    standings.ranks["m.2-2.quick.0badbeef"] = 2
    assert said(standings) == {
        "baseline": ("synthetic quick", "rank 3 · 11.0 BLEU"),
        "m": ("synthetic quick", "rank 1 · 25.8 BLEU"),
        "n": ("synthetic quick", "rank 2 (2 tied) · 24.0 BLEU"),
    }
    found = {badge.method: badge for badge in badges([standings])}
    assert found["m"].title == "M: rank 1 of 4 rows, 25.8 BLEU on synthetic quick"
    assert found["n"].title == "N: rank 2, shared by 2 of 4 rows, 24.0 BLEU on synthetic quick"
    assert len({found["m"].color, found["n"].color}) == 2


def test_a_badge_speaks_of_a_row_of_the_plain_students_shape_or_names_the_shape():
    large = three("m", 30.0, depth=Depth(4, 4))
    alike = ranked([*plain(), *large, *three("m", 25.0)], {"m": 1, "baseline": 2})
    assert said(alike)["m"] == ("synthetic quick", "rank 1 (2 tied) · 25.0 BLEU")
    found = {badge.method: badge for badge in badges([ranked([*plain(), *large], {"m": 1, "baseline": 2})])}
    assert found["m"].message == "rank 1 · 30.0 BLEU 4-4"
    assert found["m"].title == "M 4-4: rank 1 of 2 rows, 30.0 BLEU on synthetic quick"


def test_who_is_first_with_all_others_is_not_shown_as_the_first():
    tied = badges([ranked([*plain(), *three("m", 20.0)], {"m": 1, "baseline": 1})])
    alone = badges([ranked([*plain(), *three("m", 20.0)], {"m": 1, "baseline": 2})])
    assert [badge.message for badge in tied] == ["rank 1 (2 tied) · 11.0 BLEU", "rank 1 (2 tied) · 20.0 BLEU"]
    assert tied[1].color == alone[0].color != alone[1].color


def test_a_teacher_has_no_badge_and_a_method_without_a_rank_says_so():
    records = [*plain(), make_record("m"), *three("teacher", 30.0, role="teacher")]
    assert said(ranked(records, {"baseline": 1})) == {
        "baseline": ("synthetic quick", "rank 1 · 11.0 BLEU"),
        "m": ("synthetic", "not ranked"),
    }


def test_of_several_tables_the_one_with_most_ranked_rows_speaks_then_the_newer():
    small = ranked([*plain(), *three("m", 30.0)], {"m": 1, "baseline": 2})
    recipe = {"training": {"target_tokens": 5}}
    large = ranked([*plain(recipe=recipe), *three("m", 20.0, recipe=recipe), *three("n", 21.0, recipe=recipe)],
                   {"n": 1, "m": 2, "baseline": 3})  # fmt: skip
    for order in ((small, large), (large, small)):
        assert said(*order)["m"] == ("synthetic quick", "rank 2 · 20.0 BLEU")
    later = {"created": datetime(2026, 5, 1, tzinfo=UTC)}
    newer = ranked([*plain(**later), *three("m", 29.0, **later)], {"m": 1, "baseline": 2})
    for order in ((small, newer), (newer, small)):
        assert said(*order)["m"][1] == "rank 1 · 29.0 BLEU"


def test_the_open_track_has_no_badge_of_its_own():
    records = [*plain(track="open"), *three("m", 20.0, track="open")]
    assert said(ranked(records, {"m": 1, "baseline": 2}))["m"] == ("synthetic", "not ranked")


def test_long_names_are_cut_and_the_title_has_them_whole():
    assert shortened("x" * LONGEST) == "x" * LONGEST
    assert shortened("x" * (LONGEST + 1)) == "x" * (LONGEST - 1) + "…"
    (badge,) = badges([ranked(three("m", 20.0, dataset="d" * 160), {"m": 1})])
    assert len(badge.label) > 160
    assert len(badge.parts[0][0]) == LONGEST
    assert "d" * 160 in badge.title


def test_the_width_of_a_text_grows_with_it():
    assert 0 == width("") < width("iii") < width("aaa") < width("MMM")


def drawing(path: Path) -> ElementTree.Element:
    return ElementTree.fromstring(path.read_bytes())


def site(folder: Path, records: list[Record]) -> Path:
    return build(read_records([store(folder / "records", *records)]).records, folder / "site").parent


def test_the_file_is_a_picture_with_a_title_whose_text_fits(tmp_path):
    root = drawing(site(tmp_path, [*plain(), *three("m", 20.0)]) / "badges" / "synthetic" / "m.svg")
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.findtext(f"{SVG}title") == "M: not ranked on synthetic"
    left, right = root.iter(f"{SVG}text")
    assert (left.text, right.text) == ("synthetic", "not ranked")
    whole = float(root.get("width"))
    assert float(left.get("x")) + float(left.get("textLength")) < float(right.get("x"))
    assert float(right.get("x")) + float(right.get("textLength")) < whole
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on") or "href" in name]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_titles_stay_text(tmp_path, kind):
    record = make_record("m")
    hostile = record.model_copy(update={"method": record.method.model_copy(update={"title": HOSTILE[kind]})})
    (badge,) = badges([ranked([hostile], {})])
    template = Site.at(tmp_path, Source(1, 1, None), Factors()).environment.get_template("badge.svg")
    root = ElementTree.fromstring(template.render(badge=badge))
    names = ("svg", "title", "rect", "path", "g", "text")
    assert {element.tag for element in root.iter()} == {SVG + name for name in names}
    assert root.findtext(f"{SVG}title").endswith(": not ranked on synthetic")


def test_a_method_page_shows_its_badges_and_how_to_embed_them(tmp_path):
    page = Page(site(tmp_path, [*plain(), make_record("m")]) / "methods" / "m.html")
    assert "[![m on synthetic](SITE/badges/synthetic/m.svg)](SITE/methods/m.html)" in page.text
    assert "baseline.svg" not in page.text
