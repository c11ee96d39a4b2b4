"""Which words of a hypothesis the reference, or another hypothesis, does not have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import groupby

LONGEST = 300
"""Words of a line that is still compared: the time to compare grows with the square of the length."""


@dataclass(frozen=True)
class Run:
    """Neighbouring words that are marked alike, with the white space between them."""

    text: str
    off: bool = False
    """The reference does not have them at this place."""
    changed: bool = False
    """Nor does the plain student's hypothesis."""


def runs(line: str, reference: str | None = None, plain: str | None = None) -> tuple[Run, ...]:
    """A line in runs, whose texts together are the line; without a text to compare with nothing is marked by it."""
    if (reference is None or line == reference) and (plain is None or line == plain):
        return (Run(line),)
    pieces = re.findall(r"\s+|\S+", line)
    words = tuple(piece for piece in pieces if not piece.isspace())
    flags = iter(zip(_foreign(words, reference), _foreign(words, plain)))
    marks = [None if piece.isspace() else next(flags) for piece in pieces]
    for place in range(1, len(marks) - 1):
        if marks[place] is None and marks[place - 1] == marks[place + 1]:
            marks[place] = marks[place - 1]  # white space within a run
    marked = groupby(zip(pieces, marks), lambda each: each[1] or (False, False))
    return tuple(Run("".join(piece for piece, _ in group), *flag) for flag, group in marked)


def _foreign(words: tuple[str, ...], other: str | None) -> Sequence[bool]:
    return [False] * len(words) if other is None else foreign(words, tuple(other.split()))


@lru_cache(maxsize=4096)
def foreign(words: tuple[str, ...], other: tuple[str, ...]) -> tuple[bool, ...]:
    """For each of ``words`` whether it has no partner when both are aligned (difflib, Ratcliff and Obershelp)."""
    if max(len(words), len(other)) > LONGEST:
        return (False,) * len(words)
    shortest, start, end = min(len(words), len(other)), 0, 0
    while start < shortest and words[start] == other[start]:
        start += 1
    while end < shortest - start and words[-1 - end] == other[-1 - end]:
        end += 1
    alone = [start <= place < len(words) - end for place in range(len(words))]
    middle, others = words[start : len(words) - end], other[start : len(other) - end]
    if not set(middle).isdisjoint(others):
        for first, _, size in SequenceMatcher(None, middle, others, autojunk=False).get_matching_blocks():
            for place in range(start + first, start + first + size):
                alone[place] = False
    return tuple(alone)
