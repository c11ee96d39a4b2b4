"""Published figures: each has a source, a known method and data set, and stands apart from measured rows."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from factories import plain, seeds
from pages import site, table
from pydantic import ValidationError

from bench.data.datasets import DATASETS
from bench.registry import load_methods
from leaderboard.published import published


def test_every_figure_has_a_source_and_is_of_a_known_method_and_data_set():
    found, methods = published(), load_methods().found
    assert {each.method for each in found} <= set(methods)
    assert {each.dataset for each in found} <= set(DATASETS)
    for each in found:
        assert each.source.link == methods[each.method].paper.link or each.source.basis == "paper"
        assert all(-5 < gain < (21 if each.metric.startswith("COMET") else 10) for *_, gain in each.rows)


AVERAGES = {
    ("word_level", "iwslt14-de-en", "BLEU"): ("35.95", "34.68"),
    ("aio_kd", "iwslt14-de-en", "BLEU"): ("36.91", "34.68"),
    ("word_level", "wmt16-en-ro", "BLEU"): ("34.07", "31.34"),
    ("sequence_level", "wmt16-en-ro", "BLEU"): ("32.90", "31.34"),
    ("aio_kd", "wmt16-en-ro", "BLEU"): ("35.03", "31.34"),
    ("aio_kd, Seq-KD", "wmt16-en-ro", "BLEU"): ("35.27", "31.34"),
    ("word_level", "wmt14-en-de", "BLEU"): ("27.51", "27.31"),
    ("aio_kd", "wmt14-en-de", "BLEU"): ("28.40", "27.31"),
    ("word_level", "iwslt14-de-en", "COMET"): ("42.51", "38.03"),
    ("aio_kd", "iwslt14-de-en", "COMET"): ("44.78", "38.03"),
    ("word_level", "wmt16-en-ro", "COMET"): ("49.65", "35.98"),
    ("aio_kd", "wmt16-en-ro", "COMET"): ("53.56", "35.98"),
    ("word_level", "wmt14-en-de", "COMET"): ("44.96", "43.24"),
    ("aio_kd", "wmt14-en-de", "COMET"): ("46.85", "43.24"),
}
"""The means that the AIO-KD paper states over its 15 depths: of the method, and of the plain students."""


def test_each_table_of_depths_has_the_mean_that_its_paper_states():
    found = {}
    for each in published():
        if len(each.scores) == 15:
            name = each.method + ", Seq-KD" * ("Seq-KD" in each.students)
            means = (sum(column) / 15 for column in list(zip(*each.scores))[1:])
            found[name, each.dataset, each.metric.split()[0].rstrip(",")] = tuple(means)
    assert found.keys() == AVERAGES.keys()
    for key, means in found.items():
        assert means == pytest.approx([Decimal(mean) for mean in AVERAGES[key]], abs=Decimal("0.0101")), key


def test_other_figures_are_those_of_their_abstracts():
    gains = {(each.method, each.dataset): each.gains[0][1] for each in published() if each.gains}
    assert gains == {
        ("tie_kd", "wmt14-en-de"): Decimal("1.04"), ("tie_kd", "wmt16-en-ro"): Decimal("1.11"),
        ("a2d", "wmt22-de-dsb"): Decimal("3.61"), ("a2d", "wmt14-en-de"): Decimal("0.63"),
    }  # fmt: skip


def test_figures_keep_the_decimals_of_their_source(tmp_path):
    records = [*plain(dataset="wmt14-en-de"), *seeds("word_level", [1.0, 2.0, 3.0], dataset="wmt14-en-de")]
    text = table(site(tmp_path, records)).text
    assert "15.414.7+0.7\n" in text
    assert "19.017.6+1.4\n" in text


ENTRY = """
[sources.a]
citation = "A"
link = "https://example.org"
place = "table 1"
basis = "paper"
[[figures]]
method = "m"
dataset = "d"
source = "a"
metric = "BLEU"
students = "layers"
"""


def test_an_entry_is_read(tmp_path):
    (tmp_path / "x.toml").write_text(ENTRY + 'scores = [["2-2", 20.5, 20.0]]')
    (found,) = published(tmp_path / "x.toml")
    assert found.rows == (("2-2", Decimal("20.5"), Decimal("20.0"), Decimal("0.5")),)


@pytest.mark.parametrize(
    "content",
    [
        ENTRY,
        ENTRY + 'scores = [["2-2", 120.5, 20.0]]',
        ENTRY + 'scores = [["2-2", 20.5, 20.0]]\ngains = [["2-2", 0.5]]',
        ENTRY.replace("https:", "javascript:") + 'gains = [["2-2", 0.5]]',
        ENTRY.replace('place = "table 1"', 'place = ""') + 'gains = [["2-2", 0.5]]',
    ],
)
def test_an_entry_without_a_figure_or_a_source_is_refused(tmp_path, content):
    (tmp_path / "x.toml").write_text(content)
    with pytest.raises(ValidationError):
        published(tmp_path / "x.toml")


def test_they_stand_in_a_section_of_their_own(tmp_path: Path):
    dataset = "iwslt14-de-en"
    pages = site(tmp_path, [*plain(dataset=dataset), *seeds("word_level", [12.0, 13.0, 14.0], dataset=dataset)])
    (table,) = (page for name, page in pages.items() if name.startswith("tables/"))
    measured, _, elsewhere = table.text.partition("Published elsewhere, under other recipes: not comparable")
    assert "34.93" in elsewhere
    assert "34.93" not in measured
    assert "Word level, BLEU, case-sensitive, tokenised" in elsewhere
    assert "aio_kd, BLEU" in elsewhere  # it has no rows here, so no page to link to
    assert "Published elsewhere" in pages["methods/word_level.html"].text
    assert "Published elsewhere" not in pages["methods/baseline.html"].text
