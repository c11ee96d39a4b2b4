"""Scores against values worked out by hand."""

import math

import pytest

from bench.measure.quality import score, sentence_bleu


def test_a_perfect_corpus_scores_exactly_100():
    lines = ["The cat sat on the mat.", "A dog barked at the moon tonight."]
    quality = score(lines, lines)
    assert quality.bleu == pytest.approx(100.0)
    assert quality.bleu <= 100.0
    assert quality.chrf == pytest.approx(100.0)
    assert quality.chrf <= 100.0


def test_bleu_of_a_worked_example():
    # "the cat sat on the mat ." against "the cat is on the mat .": 6/7 unigrams, 4/6 bigrams, 2/5 trigrams (on the
    # mat, the mat .), 1/4 4-grams; equal lengths.
    quality = score(["the cat sat on the mat."], ["the cat is on the mat."])
    assert quality.bleu == pytest.approx(100 * math.prod((6 / 7, 4 / 6, 2 / 5, 1 / 4)) ** 0.25)


def test_short_output_is_penalised_by_length():
    # All n-grams match; 5 of 8 tokens.
    quality = score(["a b c d e"], ["a b c d e f g h"])
    assert quality.bleu == pytest.approx(100 * math.exp(1 - 8 / 5))


def test_signatures_name_the_metric():
    quality = score(["a"], ["a"])
    assert "tok:13a" in quality.bleu_signature
    assert "case:mixed" in quality.bleu_signature
    assert "nc:6" in quality.chrf_signature
    assert "nw:0" in quality.chrf_signature
    assert "version:" in quality.bleu_signature
    assert "version:" in quality.chrf_signature


def test_scores_do_not_depend_on_earlier_calls():
    first = score(["one two three four"], ["one two three five"])
    score(["x"], ["y"])
    assert score(["one two three four"], ["one two three five"]) == first


def test_empty_output_scores_zero():
    quality = score(["", ""], ["some words", "and others"])
    assert (quality.bleu, quality.chrf) == (0.0, 0.0)


@pytest.mark.parametrize(("hypotheses", "references"), [(["a"], ["a", "b"]), ([], [])])
def test_unequal_or_no_sentences_are_refused(hypotheses, references):
    with pytest.raises(ValueError, match="references"):
        score(hypotheses, references)


def test_sentence_bleu_of_worked_examples():
    # Matches 2/3, 1/2, 0/1; the zero is smoothed to 1/2 of one n-gram; no 4-grams, so three orders count.
    assert sentence_bleu("a b x", "a b c") == pytest.approx(100 * (2 / 3 * 1 / 2 * 1 / 2) ** (1 / 3))
    assert sentence_bleu("a b", "a b") == pytest.approx(100.0)
    assert sentence_bleu("", "a b") == 0.0


def test_sentence_bleu_ranks_an_n_best_list():
    reference = "the small dog runs over the green field"
    candidates = ["the small dog runs over a field", "a dog runs", "the small dog runs over the green field today"]
    assert max(candidates, key=lambda line: sentence_bleu(line, reference)) == candidates[2]
