"""Degenerate outputs: each definition by cases on both sides of its border."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure.degenerate import degenerate, length_ratio
from bench.measure.statistics import sentence_statistics

REFERENCE, SOURCE = "der Hund läuft heute schnell", "the dog runs fast today"


def counted(hypothesis: str, *, source: str = SOURCE, reference: str = REFERENCE) -> set[str]:
    """In which ways one output is degenerate."""
    found = degenerate([hypothesis], [source], [reference], sentence_statistics([hypothesis], [reference]))
    return {name for name, count in found.model_dump().items() if count}


@pytest.mark.parametrize("line", ["", "  \t", "\u200b\u2009\u00ad", "\u2028"])
def test_an_output_without_a_visible_character_is_empty(line):
    assert counted(line) == {"empty"}


@pytest.mark.parametrize("line", [".", "\u200bx", "ß"])
def test_any_visible_character_fills_an_output(line):
    assert counted(line) == set()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ja ja ja", False),
        ("ja ja ja ja", True),
        ("ja ja ja Ja", False),
        ("x a b a b a b a", False),
        ("x a b a b a b a b", True),
        ("a b c d " * 4, True),
        ("a b c d " * 3, False),
        ("a b c d e " * 4, False),
        ("ja, ja, ja, ja", False),
        ("a b a b c a b a b", False),
    ],
)
def test_four_times_in_a_row_is_repeated(line, expected):
    long = " ".join(f"w{number}" for number in range(20))
    assert ("repeated" in counted(line, reference=long)) == expected


def test_a_repetition_that_the_reference_has_too_is_none():
    assert counted("no no no no !", reference="nein nein nein nein !") == set()


@given(st.lists(st.sampled_from("ab"), max_size=14).map(" ".join))
def test_repetitions_are_those_that_a_pattern_finds(line):
    pattern = r"(?:^| )((?:[ab] ){0,3}[ab])(?: \1){3}(?= |$)"
    assert ("repeated" in counted(line)) == bool(re.search(pattern, line))


def test_a_copy_differs_from_its_source_in_case_and_white_space_at_most():
    assert counted("The  dog runs FAST today ") == {"copied"}
    assert counted("The dog runs fast, today") == set()


def test_what_the_reference_copies_too_is_no_fault():
    assert counted("ISO 9000", source="ISO 9000", reference="iso 9000") == set()


@pytest.mark.parametrize(
    ("words", "reference_words", "expected"),
    [(10, 5, False), (11, 5, True), (7, 3, False), (8, 3, True), (5, 1, False), (6, 1, True)],
)
def test_over_length_is_more_than_twice_and_five_more(words, reference_words, expected):
    line, reference = (" ".join(f"w{i}" for i in range(count)) for count in (words, reference_words))
    assert ("over_length" in counted(line, reference=reference)) == expected


def test_length_is_counted_as_bleu_counts_it():
    # 13a makes 3 words of "a,b": 12 by 5.
    assert counted("a,b a,b c,d c,d", reference="x y z v w") == {"over_length"}
    assert length_ratio(sentence_statistics(["a,b", "c"], ["a b", "c d"])) == 1.0
    assert length_ratio(sentence_statistics(["a", ""], ["a b", "c d"])) == 0.25
    assert length_ratio(sentence_statistics(["a"], [""])) is None


def test_counts_are_over_all_sentences():
    lines, sources, references = ["", "no no no no", SOURCE, ""], [SOURCE] * 4, [REFERENCE] * 4
    found = degenerate(lines, sources, references, sentence_statistics(lines, references))
    assert found.model_dump() == {"empty": 2, "repeated": 1, "copied": 1, "over_length": 0}


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="longer"):
        degenerate(["a"], ["a", "b"], ["a"], sentence_statistics(["a"], ["a"]))
    with pytest.raises(ValueError, match="statistics of 2 sentences for 1"):
        degenerate(["a"], ["a"], ["a"], sentence_statistics(["a", "b"], ["a", "b"]))
