"""Published figures: each has a source, a known method and data set, and stands apart from measured rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import plain, seeds
from pages import site
from pydantic import ValidationError

from bench.data.datasets import DATASETS
from bench.registry import load_methods
from leaderboard.published import of_method, on_dataset, published


def test_every_figure_has_a_source_and_is_of_a_known_method_and_data_set():
    found, methods = published(), load_methods().found
    assert {each.method for each in found} <= set(methods)
    assert {each.dataset for each in found} <= set(DATASETS)
    for each in found:
        assert each.source.link == methods[each.method].paper.link or each.source.basis == "paper"
        assert all(-5 < gain < 10 for *_, gain in each.rows)


def test_figures_are_those_of_the_papers():
    aio = {name: (score, plain) for each in of_method("aio_kd") if each.dataset == "wmt14-en-de"
           for name, score, plain, _ in each.rows}  # fmt: skip
    assert len(aio) == 15
    assert aio["2-2"] == (25.80, 26.08)
    assert sum(score for score, _ in aio.values()) / 15 == pytest.approx(28.40, abs=0.01)
    tie = [each for each in on_dataset("wmt16-en-ro") if each.method == "tie_kd"]
    assert [each.rows for each in tie] == [(("base", None, None, 1.11),)]


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
    assert found.rows == (("2-2", 20.5, 20.0, 0.5),)


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
