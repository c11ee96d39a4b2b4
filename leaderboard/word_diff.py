"""Which words of a hypothesis the reference, or another hypothesis, does not have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from markupsafe import Markup, escape

from leaderboard.text import printable

LONGEST = 300
"""Words of a line that is still compared: the time to compare grows with the square of the length."""
_TAGS = {(False, False): ("", ""), (True, False): ("<u>", "</u>"), (False, True): ("<mark>", "</mark>"),
         (True, True): ("<mark><u>", "</u></mark>")}  # fmt: skip
"""Around a run that is off, changed, or both."""


@dataclass(frozen=True, slots=True)
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
    words, gaps = tuple(line.split()), re.split(r"\S+", line)
    pieces, before = [(gaps[0], (False, False))], None
    for word, flag, gap in zip(words, zip(_foreign(words, reference), _foreign(words, plain)), gaps[1:]):
        if flag == before:
            pieces[-2:] = [(pieces[-2][0] + pieces[-1][0] + word, flag), (gap, (False, False))]  # one run goes on
        else:
            pieces += [(word, flag), (gap, (False, False))]
        before = flag
    return _joined(pieces)


def marked(line: Sequence[Run]) -> Markup:
    """A line in runs as HTML: ``u`` around what is off, ``mark`` around what is changed."""
    parts = []
    for run in line:
        start, end = _TAGS[run.off, run.changed]
        parts += [start, escape(run.text), end]
    return Markup(printable("".join(parts)))


def _joined(pieces: Sequence[tuple[str, tuple[bool, bool]]]) -> tuple[Run, ...]:
    """Pieces with their marks, neighbours that are marked alike as one."""
    found: list[Run] = []
    text, mark = "", (False, False)
    for piece, flag in pieces:
        if flag != mark and piece:
            if text:
                found.append(Run(text, *mark))
            text, mark = "", flag
        text += piece
    return (*found, Run(text, *mark)) if text else tuple(found)


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
