"""Reading, pairing and cleaning parallel text."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.corpus import (
    ParallelText,
    Splits,
    cleaned,
    counted,
    decode_lines,
    disjoint_lines,
    parallel,
    read_lines,
    without_empty,
    without_pairs,
)
from bench.errors import DataError

# Characters at which str.splitlines would break a line, but a corpus does not.
INNER_BREAKS = "\u2028\u2029\x85\x0b\x0c\x1c"


def text_of(*pairs: tuple[str, str]) -> ParallelText:
    return ParallelText(tuple(source for source, _ in pairs), tuple(target for _, target in pairs))


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\n\nthree\n\n", ["one", "", "three", ""]),
        (b"\xef\xbb\xbfone\r\ntwo \t\r\nthree", ["one", "two", "three"]),
        ("  leading\u2028inner\x85 \n".encode(), ["  leading\u2028inner\x85"]),
    ],
)
def test_lines_end_at_newlines_only(raw: bytes, lines: list[str]) -> None:
    assert decode_lines(raw, "it") == lines


@given(st.lists(st.text(alphabet="ab ö" + INNER_BREAKS, max_size=8).map(lambda line: line + "x"), min_size=1))
def test_lines_survive_writing_and_reading_whatever_the_line_end(lines: list[str]) -> None:
    for end in ("\n", "\r\n"):
        joined = end.join(lines)
        assert decode_lines(joined.encode("utf-8"), "it") == lines
        assert decode_lines((joined + end).encode("utf-8-sig"), "it") == lines


def test_plain_and_gzipped_files_read_alike(tmp_path: Path) -> None:
    raw = "eins\r\nzwei ü".encode()
    (tmp_path / "text").write_bytes(raw)
    (tmp_path / "text.gz").write_bytes(gzip.compress(raw))
    assert read_lines(tmp_path / "text") == read_lines(tmp_path / "text.gz") == ["eins", "zwei ü"]


def test_bad_utf8_is_reported_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"\xef\xbb\xbffine\nfine\nstra\xdfe\n")
    with pytest.raises(DataError, match=r"latin1\.txt, line 3: not UTF-8"):
        read_lines(path)


@pytest.mark.parametrize("raw", [b"no gzip at all", gzip.compress(b"cut short" * 50)[:-12]], ids=["none", "cut"])
def test_damaged_gzip_is_reported(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"text\.gz is not a whole gzip file"):
        read_lines(path)


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt cannot be read: No such file"):
        read_lines(tmp_path / "none.txt")


def test_unequal_sides_are_refused_with_both_counts() -> None:
    with pytest.raises(DataError, match="dev: 2 source lines but 1 target lines"):
        parallel(["a", "b"], ["x"], "dev")


def test_first_takes_a_prefix_and_zero_takes_all() -> None:
    text = parallel("abc", "xyz", "it")
    assert list(text.first(2).pairs()) == [("a", "x"), ("b", "y")]
    assert text.first(0) == text == text.first(9)
    assert len(text) == 3


def test_addition_appends() -> None:
    assert text_of(("a", "x")) + text_of(("b", "y")) == text_of(("a", "x"), ("b", "y"))


def test_pairs_with_an_empty_side_go() -> None:
    text = text_of(("a", "x"), ("", "y"), ("c", " \u00a0"), ("d", "z"))
    assert without_empty(text) == text_of(("a", "x"), ("d", "z"))


def test_unwanted_pairs_go_only_when_both_sides_match() -> None:
    text = text_of(("a", "x"), ("a", "y"), ("b", "x"), ("a", "x"))
    assert without_pairs(text, {("a", "x")}) == text_of(("a", "y"), ("b", "x"))


def test_disjoint_lines_compare_either_side_without_case_and_punctuation() -> None:
    seen = text_of(("Ein Haus.", "A house."), ("Der Hund", "The dog"))
    pool = text_of(
        ("ein  haus", "something else"),  # source recurs
        ("ein Hausboot", "A houseboat"),
        ("Anderes", "\u201ethe DOG\u201c!"),  # target recurs
        ("Ein Haus 2", "A house +"),  # digits and symbols are no punctuation
    )
    assert disjoint_lines(pool, seen) == [2, 4]
    assert disjoint_lines(pool, seen, text_of(("x", "a houseboat"))) == [4]


def test_cleaning_drops_leaks_from_train_only_and_counts_all() -> None:
    splits = Splits(
        train=text_of(("a", "x"), ("b", "y"), ("c", "z"), ("", "q"), ("a", "x"), ("t", "u")),
        dev=text_of(("a", "x"), ("dev", "")),
        tests={"one": text_of(("b", "y")), "two": text_of(("b", "other"), ("t", "u"), (" ", "v"))},
        notes=("mended",),
    )
    done = cleaned(splits, "mine")
    assert done.train == text_of(("c", "z"))
    assert done.dev == text_of(("a", "x"))
    assert done.tests == {"one": text_of(("b", "y")), "two": text_of(("b", "other"), ("t", "u"))}
    assert done.notes == (
        "mended",
        "1 dev pair with an empty side dropped",
        "1 two pair with an empty side dropped",
        "1 training pair with an empty side dropped",
        "4 training pairs equal to a dev or test pair dropped",
    )
    assert cleaned(done, "mine") == done


def test_dev_pairs_that_are_tested_on_are_told() -> None:
    both = text_of(("a", "x"), ("b", "y"))
    splits = Splits(train=text_of(("c", "z")), dev=both, tests={"one": text_of(("b", "y"), ("d", "w"))})
    done = cleaned(splits, "mine")
    assert done.dev == both
    assert done.notes == ("1 dev pair equal to a test pair: what is chosen on dev is chosen on these too",)


def test_a_split_with_nothing_left_is_refused() -> None:
    with pytest.raises(DataError, match="mine: the training set has no usable pair"):
        cleaned(Splits(text_of(("a", "x")), text_of(("a", "x")), {"test": text_of(("b", "y"))}), "mine")


words = st.sampled_from(["", " ", "a", "b", "c"])
texts = st.lists(st.tuples(words, words), max_size=12).map(lambda pairs: text_of(*pairs))


@given(train=texts, dev=texts, test=texts)
def test_cleaned_splits_share_no_pair_and_have_no_empty_side(
    train: ParallelText, dev: ParallelText, test: ParallelText
) -> None:
    anchor = text_of(("only in train", "x"))
    held = text_of(("only held out", "x"))
    done = cleaned(Splits(train + anchor, dev + held, {"test": test + held}), "mine")
    held_out = {*done.dev.pairs(), *done.tests["test"].pairs()}
    assert not held_out & set(done.train.pairs())
    assert all(
        side.strip() for text in (done.train, done.dev, *done.tests.values()) for p in text.pairs() for side in p
    )
    expected = [pair for pair in train.pairs() if all(map(str.strip, pair)) and pair not in held_out]
    assert list(done.train.first(len(expected)).pairs() if expected else []) == expected
    assert len(done.train) == len(expected) + 1


@pytest.mark.parametrize(("number", "shown"), [(0, "0 pairs"), (1, "1 pair"), (1362, "1,362 pairs")])
def test_counts_are_words(number: int, shown: str) -> None:
    assert counted(number, "pair") == shown
