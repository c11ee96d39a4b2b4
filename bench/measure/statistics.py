"""What BLEU and chrF are computed from, sentence by sentence, so that any resampling of sentences can be scored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU, CHRF

ORDERS, CHARACTER_ORDERS = 4, 6
BLEU_COLUMNS = (
    "words",
    "reference_words",
    *(f"correct_{n}" for n in range(1, ORDERS + 1)),
    *(f"total_{n}" for n in range(1, ORDERS + 1)),
)
CHRF_COLUMNS = tuple(
    f"{part}_{n}"
    for n, part in product(range(1, CHARACTER_ORDERS + 1), ("characters", "reference_characters", "match"))
)
COLUMNS = BLEU_COLUMNS + CHRF_COLUMNS
"""Counts of a sentence: words and n-grams of words by BLEU's 13a tokenisation, n-grams of characters for chrF2."""
CHRF_BETA = 2
_COUNTS = re.compile(rf"(?:[0-9]+(?:\t[0-9]+){{{len(COLUMNS) - 1}}}\n)*")
_TOO_LONG = re.compile("[0-9]{13}")


def sentence_statistics(hypotheses: Sequence[str], references: Sequence[str]) -> NDArray[np.int64]:
    """(sentences, 28) counts in the order of ``COLUMNS``, from sacreBLEU's own tokenisation and matching."""
    parts = [metric._extract_corpus_statistics(list(hypotheses), [list(references)]) for metric in (BLEU(), CHRF())]
    return np.hstack([np.asarray(part, dtype=np.int64) for part in parts])


def possible(statistics: NDArray[np.int64], hypotheses: Sequence[str]) -> NDArray[np.bool_]:
    """(sentences,) whether (sentences, 28) counts can be those of the hypotheses against references nobody has here.

    What they count of the hypotheses alone must agree, and no more can match than there is. sacreBLEU counts the
    hypothesis's character n-grams only of orders that the reference has.
    """
    bleu, alone = len(BLEU_COLUMNS), sentence_statistics(hypotheses, hypotheses)
    correct, total = statistics[:, 2 : 2 + ORDERS], statistics[:, 2 + ORDERS : bleu]
    output, reference, match = (statistics[:, bleu + part :: 3] for part in range(3))
    agrees = (statistics[:, 0] == alone[:, 0]) & (total == alone[:, 2 + ORDERS : bleu]).all(axis=1)
    agrees &= (output == np.where(reference > 0, alone[:, bleu::3], 0)).all(axis=1)
    fits: NDArray[np.bool_] = agrees & (correct <= total).all(axis=1) & (match <= output).all(axis=1)
    return fits


def corpus_bleu(sums: NDArray[Any]) -> NDArray[np.float64]:
    """BLEU, 0 to 100, of each (..., 28) sum of statistics: exponential smoothing, as sacreBLEU's default.

    An order that no output is long enough for makes the score 0.
    """
    long_enough = (np.asarray(sums)[..., 2 + ORDERS : 2 + 2 * ORDERS] > 0).all(axis=-1)
    return np.where(long_enough, _bleu(sums, ORDERS), 0.0)


def sentence_bleu(statistics: NDArray[Any]) -> NDArray[np.float64]:
    """BLEU, 0 to 100, of each sentence of (..., 28) statistics, as sacreBLEU's ``sentence_bleu``.

    Only the orders that the output is long enough for count ("effective order"), so that a short sentence is not 0.
    """
    totals = np.asarray(statistics)[..., 2 + ORDERS : 2 + 2 * ORDERS]
    return _bleu(statistics, (totals > 0).sum(axis=-1))


def _bleu(sums: NDArray[Any], orders: NDArray[Any] | int) -> NDArray[np.float64]:
    """The geometric mean of the first ``orders`` precisions of each, times the brevity penalty."""
    sums = np.asarray(sums, dtype=np.float64)
    words, reference = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS : 2 + 2 * ORDERS]
    # Each order without a match counts half as much as the one before it without one.
    smoothed = np.cumsum(correct == 0, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(correct == 0, 1 / (2.0**smoothed * total), correct / total)
        brevity = np.where(words < reference, np.exp(1 - reference / words), 1.0)
        logs = np.where(total == 0, 0.0, np.log(precision))
        score = 100 * brevity * np.exp(logs.sum(axis=-1) / orders)
    return np.where((correct.sum(axis=-1) == 0) | (words == 0), 0.0, np.minimum(score, 100.0))


def corpus_chrf(sums: NDArray[Any]) -> NDArray[np.float64]:
    """chrF2, 0 to 100, of each (..., 28) sum of statistics, over the orders that both sides have (Popović 2015)."""
    counts = np.asarray(sums, dtype=np.float64)[..., len(BLEU_COLUMNS) :]
    output, reference, match = (counts[..., part::3] for part in range(3))
    there = (output > 0) & (reference > 0)
    orders = np.maximum(there.sum(axis=-1), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(there, match / output, 0.0).sum(axis=-1) / orders
        recall = np.where(there, match / reference, 0.0).sum(axis=-1) / orders
        score = (1 + CHRF_BETA**2) * precision * recall / (CHRF_BETA**2 * precision + recall)
    return np.where(precision + recall == 0, 0.0, np.minimum(100 * score, 100.0))


def statistics_content(statistics: NDArray[np.int64]) -> str:
    """Statistics as the text of a file: tab-separated, a line for each sentence below the columns' names."""
    rows = ("\t".join(map(str, row)) for row in statistics.tolist())
    return "".join(f"{line}\n" for line in ("\t".join(COLUMNS), *rows))


def parse_statistics(text: str) -> NDArray[np.int64]:
    """Statistics from the text of a file.

    Raises:
        ValueError: other columns, or something else than counts.
    """
    header, _, lines = text.partition("\n")
    if header != "\t".join(COLUMNS):
        raise ValueError("its columns are not those of the statistics of a sentence")
    if not _COUNTS.fullmatch(lines):
        raise ValueError("it holds something else than counts")
    if _TOO_LONG.search(lines):
        raise ValueError("a count is longer than any text")
    return np.fromstring(lines, dtype=np.int64, sep=" ").reshape(-1, len(COLUMNS))
