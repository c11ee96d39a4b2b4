"""Outputs that are no translation, counted from text alone, so that anybody can count them again."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.measure.statistics import COLUMNS
from bench.results.quality import Degenerate

LONGEST_NGRAM, TIMES = 4, 4
"""A repetition is an n-gram of 1 to 4 words that stands at least 4 times in a row."""
OVER_RATIO, OVER_WORDS = 2, 5
"""An output is over-long with more than twice the reference's words, and at least 5 more of them."""
INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs")
"""Unicode's categories of controls, format characters and white space."""
WORDS, REFERENCE_WORDS = COLUMNS.index("words"), COLUMNS.index("reference_words")


def degenerate(
    hypotheses: Sequence[str], sources: Sequence[str], references: Sequence[str], statistics: NDArray[Any]
) -> Degenerate:
    """How many outputs are degenerate, and in which way; one output may count in several.

    - ``empty``: it has no visible character, that is, none but controls, format characters and white space.
    - ``repeated``: some n-gram of 1 to 4 words, split at white space, stands at least 4 times in immediate succession,
      and none does so in the reference.
    - ``copied``: it equals its source when both are case-folded and their white space is squeezed, and the reference
      does not.
    - ``over_length``: it has more than twice the words of the reference, and at least 5 more, by BLEU's 13a
      tokenisation.

    Args:
        statistics: (sentences, 28) counts of these outputs, as ``bench.measure.statistics`` has them.

    Raises:
        ValueError: unequal numbers of sentences.
    """
    triples = list(zip(hypotheses, sources, references, strict=True))
    words, reference_words = statistics[:, WORDS], statistics[:, REFERENCE_WORDS]
    over = (words > OVER_RATIO * reference_words) & (words - reference_words >= OVER_WORDS)
    if len(over) != len(triples):
        raise ValueError(f"statistics of {len(over)} sentences for {len(triples)}")
    return Degenerate(
        empty=sum(all(unicodedata.category(char) in INVISIBLE for char in line) for line in hypotheses),
        repeated=sum(_repeats(line) and not _repeats(reference) for line, _, reference in triples),
        copied=sum(_folded(line) == _folded(source) != _folded(reference) for line, source, reference in triples),
        over_length=int(np.count_nonzero(over)),
    )


def length_ratio(statistics: NDArray[Any]) -> float | None:
    """Words of all outputs by words of all references (13a); None where the references have none."""
    words, reference_words = statistics[:, WORDS].sum(), statistics[:, REFERENCE_WORDS].sum()
    return float(words / reference_words) if reference_words else None


def _repeats(line: str) -> bool:
    """Whether an n-gram stands ``TIMES`` times in a row: then n * (TIMES - 1) words in a row equal the n-th before."""
    words = line.split()
    for n in range(1, LONGEST_NGRAM + 1):
        run = 0
        for word, earlier in zip(words[n:], words):
            run = run + 1 if word == earlier else 0
            if run == n * (TIMES - 1):
                return True
    return False


def _folded(line: str) -> str:
    return " ".join(line.casefold().split())
