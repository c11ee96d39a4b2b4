"""Per-sentence statistics: their sums give sacreBLEU's own scores, and their files come back or are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from bench.measure.statistics import (
    COLUMNS,
    corpus_bleu,
    corpus_chrf,
    parse_statistics,
    possible,
    sentence_bleu,
    sentence_statistics,
    statistics_content,
)

SENTENCES = st.lists(
    st.tuples(
        *[
            st.lists(st.sampled_from(["der", "Hund", ",", "die", "Katze", "läuft", "nicht", "."]), max_size=9).map(
                " ".join
            )
        ]
        * 2
    ),
    min_size=1,
    max_size=6,
)


@given(SENTENCES)
def test_the_sums_give_sacrebleus_scores(pairs):
    hypotheses, references = map(list, zip(*pairs))
    sums = sentence_statistics(hypotheses, references).sum(axis=0)
    assert corpus_bleu(sums) == pytest.approx(BLEU().corpus_score(hypotheses, [references]).score, abs=1e-9)
    assert corpus_chrf(sums) == pytest.approx(CHRF().corpus_score(hypotheses, [references]).score, abs=1e-9)


@given(SENTENCES)
def test_sentences_have_sacrebleus_sentence_scores(pairs):
    hypotheses, references = map(list, zip(*pairs))
    metric = BLEU(effective_order=True)
    expected = [metric.sentence_score(each, [reference]).score for each, reference in pairs]
    assert sentence_bleu(sentence_statistics(hypotheses, references)).tolist() == pytest.approx(expected, abs=1e-9)


@given(SENTENCES)
def test_counts_against_any_reference_are_possible_ones(pairs):
    hypotheses, references = map(list, zip(*pairs))
    assert possible(sentence_statistics(hypotheses, references), hypotheses).all()


@pytest.mark.parametrize("column", ["words", "total_2", "characters_3", "correct_1", "match_1"])
def test_counts_that_no_reference_could_give_are_found(column):
    hypotheses = ["der Hund läuft nicht", "die Katze"]
    statistics = sentence_statistics(hypotheses, ["der Hund läuft", "die Katze"])
    statistics[1, COLUMNS.index(column)] += 1
    assert possible(statistics, hypotheses).tolist() == [True, False]


def test_many_sums_are_scored_at_once():
    statistics = sentence_statistics(["a b c d e", "x y z", ""], ["a b c d f", "x y z", "nothing"])
    stacked = np.stack([statistics[:2].sum(axis=0), statistics.sum(axis=0), statistics[2]])
    assert corpus_bleu(stacked).tolist() == [float(corpus_bleu(each)) for each in stacked]
    assert corpus_chrf(stacked).tolist() == [float(corpus_chrf(each)) for each in stacked]
    assert corpus_bleu(stacked)[2] == 0
    assert corpus_chrf(stacked)[2] == 0


def test_a_perfect_corpus_has_100():
    sums = sentence_statistics(["eins zwei drei vier fünf"], ["eins zwei drei vier fünf"]).sum(axis=0)
    assert (corpus_bleu(sums), corpus_chrf(sums)) == (100, 100)


def test_a_file_of_statistics_comes_back():
    statistics = sentence_statistics(["der Hund läuft", ""], ["der Hund läuft .", "die Katze"])
    assert statistics.shape == (2, len(COLUMNS))
    assert parse_statistics(statistics_content(statistics)).tolist() == statistics.tolist()
    assert parse_statistics(statistics_content(statistics[:0])).shape == (0, len(COLUMNS))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("words", "wörter", 1), "columns"),
        (lambda text: "", "columns"),
        (lambda text: text.replace("\t3\t", "\t-3\t"), "counts"),
        (lambda text: text.replace("\t3\t", "\t3.5\t"), "counts"),
        (lambda text: text.replace("\t3\t", "\t"), "counts"),
        (lambda text: text.replace("\t3\t", "\t٣\t"), "counts"),
        (lambda text: text.replace("\t3\t", f"\t{10**20}\t"), "longer than any text"),
    ],
)
def test_a_damaged_file_is_refused(change, reason):
    text = statistics_content(sentence_statistics(["der Hund läuft"], ["der Hund läuft ."]))
    assert change(text) != text
    with pytest.raises(ValueError, match=reason):
        parse_statistics(change(text))
