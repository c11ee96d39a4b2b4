"""The overview: which cards it has, what they tell, and that it stays light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from factories import make_record, plain, seeds, standings
from pages import Page

from bench.results import Record
from leaderboard.costs import Factors
from leaderboard.differences import Differences, Pairs
from leaderboard.overview import FIRST_CARDS, MOST_CARDS, MOST_LEADERS, Card, groups
from leaderboard.pages import Site, Source
from leaderboard.standings import Standings


def ranked(records: list[Record]) -> Standings:
    """The only table of these records, in which no row differs from another."""
    table = standings(records).table
    means = {row.sample.row: row.bleu.mean for row in table.placed}
    pairs = Pairs(means, np.ones((len(means), len(means))), 0.05)
    return Standings(table, Differences(table.placed, {}, pairs, {}, {}, {}))


def preset(number: int, dataset: str = "synthetic") -> list[Record]:
    return plain(recipe={"training": {"batch_tokens": number}}, dataset=dataset)


def rendered(folder: Path, found: list[Standings]) -> Page:
    site = Site.at(folder, Source(1, 1, None), Factors())
    site.render("index.html", "index.html", groups=groups(found), notes=[])
    return Page(folder / "index.html")


def test_a_card_names_its_first_leaders_and_counts_the_others():
    card = Card(ranked([record for number in range(9) for record in seeds(f"m{number}", [30.0 - number] * 3)]))
    assert [row.sample.method.name for row in card.leaders] == [f"m{number}" for number in range(MOST_LEADERS)]
    assert card.more == 3
    assert card.unranked == ""


def test_a_card_sets_plain_student_and_teacher_beside_them():
    card = Card(ranked([*plain(), *seeds("t", [20.0] * 3, role="teacher"), *seeds("m", [12.0] * 3)]))
    assert [row.sample.role for row in card.references] == ["baseline", "teacher"]
    assert (card.seeds, card.date) == ((3, 3), "2026-01-02")


def test_a_card_sets_no_row_that_is_not_placed_beside_those_that_are():
    teacher = make_record("t", 1, role="teacher")
    assert [row.sample.role for row in Card(ranked([*plain(), teacher])).references] == ["baseline"]
    assert [row.sample.role for row in Card(standings([teacher])).references] == ["teacher"]


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([make_record("m", 1)], "No row could be placed: 1 of 3 seeds finished."),
        (plain(), "There are not two complete students to compare."),
        ([*plain(), *seeds("m", [12.0] * 3)], "No row could be tested: its records have no statistics of sentences."),
    ],
)
def test_a_card_without_ranks_tells_why(records, reason):
    assert Card(standings(records)).unranked == reason


def test_ranked_tables_come_first_and_the_open_track_last():
    official = ranked([*plain(), *seeds("m", [12.0] * 3)])
    track = {"track": "open", "recipe": {"tuning": {"track": "open"}}}
    opened = ranked([*plain(**track), *seeds("m", [12.0] * 3, **track)])
    unranked = standings(preset(7))
    (group,) = groups([unranked, opened, official])
    assert [card.standings for card in group.cards] == [official, opened, unranked]
    assert (group.dataset, group.languages, group.further) == ("synthetic", ("src", "tgt"), ())


def test_many_tables_are_listed_and_the_page_stays_light(tmp_path):
    found = [standings(preset(number, f"set{number % 3}")) for number in range(300)]
    found.sort(key=lambda each: each.table.sample.dataset)
    page = rendered(tmp_path, found)
    assert [len(group.further) for group in groups(found)] == [100 - FIRST_CARDS] * 3
    assert "97 more tables" in page.text
    assert page.path.stat().st_size < 300_000
    assert len(groups(found[:MOST_CARDS])[0].cards) == MOST_CARDS
