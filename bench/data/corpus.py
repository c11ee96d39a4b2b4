"""Parallel text in memory: reading lines, pairing the two sides, and keeping the splits apart."""

from __future__ import annotations

import codecs
import gzip
import re
import sys
import unicodedata
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import compress
from pathlib import Path

from bench.errors import DataError


@dataclass(frozen=True)
class ParallelText:
    """Sentence pairs: ``source[i]`` and ``target[i]`` translate each other. Built by :func:`parallel`."""

    source: tuple[str, ...]
    target: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.source)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The pairs in order."""
        return zip(self.source, self.target, strict=True)

    def first(self, count: int) -> ParallelText:
        """The first ``count`` pairs; 0: all, as in a preset."""
        return ParallelText(self.source[:count], self.target[:count]) if count else self

    def select(self, keep: Iterable[bool]) -> ParallelText:
        """The pairs whose flag is true, in order; one flag for each pair."""
        flags = list(keep)
        return ParallelText(tuple(compress(self.source, flags)), tuple(compress(self.target, flags)))

    def __add__(self, other: ParallelText) -> ParallelText:
        return ParallelText(self.source + other.source, self.target + other.target)


@dataclass(frozen=True)
class Splits:
    """A data set ready for use.

    Attributes:
        train, dev: the sides for training and for every choice made on the way.
        tests: the test sets by name; the first one is the primary one, all are scored.
        notes: what was dropped or mended on loading, one sentence each.
    """

    train: ParallelText
    dev: ParallelText
    tests: dict[str, ParallelText]
    notes: tuple[str, ...] = ()


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, plain or ``.gz``, as :func:`decode_lines` splits them.

    Raises:
        DataError: the file cannot be read, is a damaged gzip file, or is not UTF-8.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return decode_lines(raw, str(path))


def decode_lines(raw: bytes, what: str) -> list[str]:
    r"""Lines of UTF-8 text without a byte-order mark, ``\r`` and blanks at their ends.

    Only ``\n`` ends a line: ``str.splitlines`` would also split at characters that occur inside sentences
    (U+2028, U+0085). A newline at the very end adds no line.

    Raises:
        DataError: bytes that are not UTF-8, with the line's number.
    """
    try:
        text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        # Counted in what was decoded: the mark that was taken off holds no newline.
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{what}, line {line}: not UTF-8 text.") from error
    lines = [line.rstrip(" \t\r") for line in text.split("\n")]
    return lines[:-1] if text.endswith("\n") or not text else lines


def parallel(source: Iterable[str], target: Iterable[str], what: str) -> ParallelText:
    """Pairs from the lines of two sides.

    Raises:
        DataError: the sides have different numbers of lines; ``what`` names them.
    """
    text = ParallelText(tuple(source), tuple(target))
    if len(text.source) != len(text.target):
        raise DataError(f"{what}: {len(text.source):,} source lines but {len(text.target):,} target lines.")
    return text


def without_empty(text: ParallelText) -> ParallelText:
    """The pairs that have something other than white space on both sides."""
    return text.select(bool(source.strip() and target.strip()) for source, target in text.pairs())


def without_pairs(text: ParallelText, unwanted: Collection[tuple[str, str]]) -> ParallelText:
    """The pairs that are not among ``unwanted``, compared character by character."""
    return text.select(pair not in unwanted for pair in text.pairs())


def disjoint_lines(text: ParallelText, *others: ParallelText) -> list[int]:
    """Line numbers (from 1) of the pairs of which neither side occurs in ``others``.

    Sides are compared after lower-casing, dropping punctuation (Unicode categories P*) and squeezing white space, so a
    pair goes when either side recurs in another guise.
    """
    sources = {_normal(line) for other in others for line in other.source}
    targets = {_normal(line) for other in others for line in other.target}
    return [
        number
        for number, (source, target) in enumerate(text.pairs(), start=1)
        if _normal(source) not in sources and _normal(target) not in targets
    ]


def cleaned(splits: Splits, name: str) -> Splits:
    """What every data set goes through: no pair with an empty side, and no dev or test pair in training.

    Pairs are dropped, never changed, and each number dropped becomes a note. So do dev pairs that are test pairs too.

    Raises:
        DataError: nothing is left of a split of the data set ``name``.
    """
    notes = list(splits.notes)

    def filled(text: ParallelText, what: str) -> ParallelText:
        kept = without_empty(text)
        if dropped := len(text) - len(kept):
            notes.append(f"{counted(dropped, f'{what} pair')} with an empty side dropped")
        return kept

    dev = filled(splits.dev, "dev")
    tests = {test: filled(text, test) for test, text in splits.tests.items()}
    filled_train = filled(splits.train, "training")
    train = without_pairs(filled_train, {pair for text in (dev, *tests.values()) for pair in text.pairs()})
    if leaked := len(filled_train) - len(train):
        notes.append(f"{counted(leaked, 'training pair')} equal to a dev or test pair dropped")
    if told := len(dev) - len(without_pairs(dev, {pair for text in tests.values() for pair in text.pairs()})):
        notes.append(f"{counted(told, 'dev pair')} equal to a test pair: what is chosen on dev is chosen on these too")
    for what, text in {"training": train, "dev": dev, **tests}.items():
        if not len(text):
            raise DataError(f"{name}: the {what} set has no usable pair.")
    return Splits(train, dev, tests, tuple(notes))


def counted(number: int, noun: str) -> str:
    """``1 pair`` or ``1,362 pairs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _normal(line: str) -> str:
    return " ".join(_punctuation().sub("", line.lower()).split())


@cache
def _punctuation() -> re.Pattern[str]:
    characters = map(chr, range(sys.maxunicode + 1))
    return re.compile(f"[{re.escape(''.join(c for c in characters if unicodedata.category(c)[0] == 'P'))}]+")
