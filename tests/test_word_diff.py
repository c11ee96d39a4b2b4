"""Marks on a hypothesis: the words that reference and plain student do not have, and the line itself unchanged."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from leaderboard.word_diff import LONGEST, Run, foreign, marked, runs

WORDS = st.lists(st.sampled_from("abc"), max_size=8).map(tuple)
LINES = st.text(alphabet="ab \t\u00a0\u2028", max_size=12)


def test_words_that_the_reference_lacks_are_off():
    found = runs("the cat sat on the mat", "the dog sat on a mat")
    assert found == (
        Run("the "),
        Run("cat", off=True),
        Run(" sat on "),
        Run("the", off=True),
        Run(" mat"),
    )


def test_words_are_marked_against_both_and_neighbours_alike_are_one_run():
    found = runs("a big red bus came", reference="a large bus came", plain="a bus came late")
    assert found == (Run("a "), Run("big red", off=True, changed=True), Run(" bus came"))
    found = runs("a big bus", reference="a big bus", plain="a bus")
    assert found == (Run("a "), Run("big", changed=True), Run(" bus"))


def test_moved_words_keep_one_place():
    assert foreign(tuple("abc"), tuple("cab")) == (False, False, True)
    assert foreign(tuple("xay"), tuple("bab")) == (True, False, True)


def test_nothing_to_compare_with_marks_nothing():
    assert runs("a b") == (Run("a b"),)
    assert runs("", "a b", "c") == ()
    assert runs("a b", "") == (Run("a b", off=True),)


def test_lines_too_long_to_compare_are_shown_unmarked():
    long = " ".join(map(str, range(LONGEST + 1)))
    assert runs(long, "something else") == (Run(long),)


@given(LINES, st.none() | LINES, st.none() | LINES)
def test_the_runs_are_the_line(line, reference, plain):
    found = runs(line, reference, plain)
    assert "".join(run.text for run in found) == line
    assert all((a.off, a.changed) != (b.off, b.changed) for a, b in pairwise(found))


@given(WORDS, WORDS)
def test_what_has_a_partner_is_a_common_subsequence(words, other):
    left = iter(other)
    kept = [word for word, alone in zip(words, foreign(words, other)) if not alone]
    assert all(word in left for word in kept)
    assert foreign(words, words) == (False,) * len(words)


def test_marks_are_elements_and_the_text_is_text():
    line = (
        Run("a <b> "),
        Run("c\x00", off=True),
        Run(" & "),
        Run("d", changed=True),
        Run("<e>", off=True, changed=True),
    )
    assert marked(line) == "a &lt;b&gt; <u>c\ufffd</u> &amp; <mark>d</mark><mark><u>&lt;e&gt;</u></mark>"
    assert marked(()) == ""
