"""A row's hypotheses beside source, reference and the plain student's, and the sentences that gained or lost most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.errors import DataError
from bench.measure.statistics import corpus_chrf, sentence_bleu
from bench.records import Stored
from leaderboard.catalog import Sentences
from leaderboard.word_diff import Run, runs

T = TypeVar("T")

SHOWN_SENTENCES = 100
"""How many sentences a page shows from the first on; the files hold all."""
SHOWN_SEEDS = 3
"""How many seeds' hypotheses stand beside each other; the files hold all."""
EXTREMES = 10
"""How many sentences are shown for the largest gain, and for the largest loss."""


@dataclass(frozen=True)
class Gain:
    """A sentence's scores minus the plain student's, the mean over the seeds that both have."""

    bleu: float
    chrf: float


@dataclass(frozen=True)
class Sentence:
    """One sentence with all that is known of it."""

    number: int
    """Counts from 1."""
    source: str | None
    reference: str | None
    hypotheses: tuple[tuple[int, tuple[Run, ...] | None, tuple[Run, ...]], ...]
    """Seed, the plain student's hypothesis of that seed, and the row's own."""
    gain: Gain | None


@dataclass(frozen=True)
class SideBySide:
    """The page of a row's hypotheses on one test set."""

    total: int
    first: tuple[Sentence, ...]
    gained: tuple[Sentence, ...]
    """Largest gain first."""
    lost: tuple[Sentence, ...]
    """Largest loss first."""
    seeds: tuple[int, ...]
    """Those that are shown."""
    compared: tuple[int, ...]
    """Those that the gains are of."""
    terms: str | None
    """Under which source and reference are shown; None where they are not."""
    absent: str | None
    """Why source and reference are not shown."""


class Outputs:
    """A record's files on each test set, read once; those that are missing or were changed are left aside."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._hypotheses: dict[str, list[str] | None] = {}
        self._scores: dict[str, NDArray[np.float64] | None] = {}

    def hypotheses(self, test_set: str) -> list[str] | None:
        """The hypotheses, if they can be trusted."""
        if test_set not in self._hypotheses:
            self._hypotheses[test_set] = self._read(Stored.hypotheses, test_set)
        return self._hypotheses[test_set]

    def scores(self, test_set: str) -> NDArray[np.float64] | None:
        """(sentences, 2) sentence BLEU and chrF, if there are statistics that can be trusted."""
        if test_set not in self._scores:
            counts = self._read(Stored.statistics, test_set)
            scores = None if counts is None else np.stack([sentence_bleu(counts), corpus_chrf(counts)], axis=1)
            self._scores[test_set] = scores
        return self._scores[test_set]

    def _read(self, read: Callable[[Stored, str], T | None], test_set: str) -> T | None:
        try:
            return read(self._stored, test_set) if test_set in self._stored.record.scores else None
        except DataError:
            return None


def side_by_side(
    test_set: str,
    own: Mapping[int, Outputs],
    plain: Mapping[int, Outputs],
    lines: Sequence[Sequence[str]],
    seeds: Sequence[int],
    text: Sentences | str,
) -> SideBySide:
    """Set a row's hypotheses beside what there is to compare them with.

    Args:
        own: the row's outputs by seed.
        plain: those of the plain student; empty for the plain student itself.
        lines: sentence by sentence, the hypotheses of ``seeds``.
        text: source and reference, or why there are none.
    """
    if isinstance(text, Sentences) and len(text.reference) != len(lines):
        text = f"the text here has {len(text.reference):,} sentences, the record {len(lines):,}"
    others = {seed: found for seed in seeds if seed in plain and (found := plain[seed].hypotheses(test_set))}
    gains, compared = _gains(test_set, own, plain, len(lines))
    shown = seeds[:SHOWN_SEEDS]

    @cache  # one of the first may be among those with the largest gain as well
    def sentence(place: int) -> Sentence:
        source, reference = (text.source[place], text.reference[place]) if isinstance(text, Sentences) else (None, None)
        pairs = []
        for seed, line in zip(shown, lines[place]):
            other = others[seed][place] if len(others.get(seed, ())) == len(lines) else None
            pairs.append((seed, None if other is None else _of_plain(other, reference), runs(line, reference, other)))
        gain = None if gains is None else Gain(*map(float, gains[place]))
        return Sentence(place + 1, source, reference, tuple(pairs), gain)

    # Of equal sentence BLEU, chrF decides; of equals in both, the earlier sentence comes first.
    order, losses = (
        ([], []) if gains is None else (np.lexsort(-gains.T[::-1]).tolist(), np.lexsort(gains.T[::-1]).tolist())
    )
    return SideBySide(
        total=len(lines),
        first=tuple(map(sentence, range(min(len(lines), SHOWN_SENTENCES)))),
        gained=tuple(sentence(place) for place in order[:EXTREMES] if gains is not None and gains[place][0] > 0),
        lost=tuple(sentence(place) for place in losses[:EXTREMES] if gains is not None and gains[place][0] < 0),
        seeds=tuple(shown),
        compared=compared,
        terms=text.terms if isinstance(text, Sentences) else None,
        absent=None if isinstance(text, Sentences) else text,
    )


@lru_cache(maxsize=8192)
def _of_plain(line: str, reference: str | None) -> tuple[Run, ...]:
    """The plain student's hypotheses stand beside those of every row of a table."""
    return runs(line, reference)


def _gains(
    test_set: str, own: Mapping[int, Outputs], plain: Mapping[int, Outputs], sentences: int
) -> tuple[NDArray[np.float64] | None, tuple[int, ...]]:
    """(sentences, 2) gains of BLEU and chrF, and the seeds they are the mean of; None where no seed can be compared."""
    found: dict[int, NDArray[np.float64]] = {}
    for seed in sorted(own.keys() & plain.keys()):
        ours, theirs = own[seed].scores(test_set), plain[seed].scores(test_set)
        if ours is not None and theirs is not None and len(ours) == len(theirs) == sentences:
            found[seed] = ours - theirs
    return (np.mean(list(found.values()), axis=0) if found else None), tuple(found)
