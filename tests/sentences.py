"""Sentences by their statistics, for tests of significance."""

import numpy as np

from bench.measure.statistics import COLUMNS, sentence_statistics
from leaderboard.significance import METRICS


def random(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def all_or_nothing(right: list[int]) -> np.ndarray:
    """Statistics of sentences of four words, each a perfect translation or without a match."""
    outputs = ["a b c d" if each else "w x y z" for each in right]
    return sentence_statistics(outputs, ["a b c d"] * len(right))


def share(chrf: float) -> np.ndarray:
    """Statistics of one sentence whose chrF is this, to four decimals: as much precision as recall at each order."""
    counts = np.zeros((1, len(COLUMNS)), dtype=np.int64)
    own = counts[:, METRICS["chrf"][1]]
    own[:, 0::3] = own[:, 1::3] = 1_000_000
    own[:, 2::3] = round(10_000 * chrf)
    return counts
