"""All rows of a table against each other, over seeds and sentences at once.

Three seeds say little about how much seeds vary, and a table has many pairs of rows: from the six models of one pair,
after correcting for all pairs, only a chasm can be told from luck. The rows of a table are trained by one recipe, so
what seeds do to them is estimated from all of them together, as the analysis of variance does.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from bench.ruleset import RULES
from leaderboard.significance import EQUAL, METRICS, SEED, Metric, System, column_scores, count_sentences, resamples


@dataclass(frozen=True)
class TableTest:
    """The mean scores of a table's rows, and how uncertain they and their differences are.

    An array over (rows, rows) speaks of the difference of two rows, and on its diagonal of a row's mean by itself.
    """

    means: NDArray[np.float64]
    """(rows,) over seeds."""
    of_seeds: NDArray[np.float64]
    """(rows, rows) squared standard errors: other seeds would have given other models."""
    freedom: NDArray[np.float64]
    """(rows, rows) degrees of freedom of ``of_seeds``; 0 where only models are known, and nothing of their seeds."""
    of_sentences: NDArray[np.float64]
    """(rows, rows) squared standard errors: other sentences, the same for all rows, would have given other scores."""
    sentences: int

    def p(self) -> NDArray[np.float64]:
        """(rows, rows) two-sided p of each difference, by Student's t with Satterthwaite's degrees of freedom:

        t = difference of the means / sqrt(of_seeds + of_sentences).
        """
        differences = np.abs(self.means[:, None] - self.means)
        found = np.ones_like(differences)
        apart = differences > EQUAL
        with np.errstate(divide="ignore"):  # without any variance the difference is certain
            found[apart] = 2 * stdtr(self._freedom[apart], -differences[apart] / self._error[apart])
        return found

    def interval(self, row: int, level: float = RULES.level) -> tuple[float, float]:
        """Of a row's mean: is to hold, at this level, what many seeds have on sentences like these."""
        low, high = self._interval(float(self.means[row]), row, row, level)
        return max(low, 0.0), min(high, 100.0)

    def difference(self, row: int, other: int, level: float = RULES.level) -> tuple[float, float]:
        """The interval of the difference of two rows' means."""
        return self._interval(float(self.means[row] - self.means[other]), row, other, level)

    def _interval(self, middle: float, row: int, other: int, level: float) -> tuple[float, float]:
        half = float(-stdtrit(self._freedom[row, other], (1 - level) / 2) * self._error[row, other])
        return middle - half, middle + half

    @cached_property
    def _error(self) -> NDArray[np.float64]:
        error: NDArray[np.float64] = np.sqrt(self.of_seeds + self.of_sentences)
        return error

    @cached_property
    def _freedom(self) -> NDArray[np.float64]:
        """(rows, rows) of both parts together."""
        parts = _over(self.of_seeds**2, self.freedom) + self.of_sentences**2 / max(self.sentences - 1, 1)
        return np.divide(self._error**4, parts, out=np.ones_like(parts), where=parts > 0)


def compare_rows(
    systems: Sequence[System],
    trainings: Sequence[Hashable],
    metric: Metric,
    *,
    replicates: int = RULES.replicates,
    seed: int = SEED,
) -> TableTest:
    """What the rows of a table score, and how sure that is.

    The variance over seeds is pooled: each training counts with its degrees of freedom, seeds - 1, and the mean of the
    variances of its rows. A row that varies more keeps its own variance, and what it has above the pooled one is known
    from its own seeds only (Satterthwaite), so that a method with unstable seeds gains little by the company of steady
    ones. ``tests/calibration.py tables`` simulates three seeds without luck of sentences: any false difference after
    Holm is in 2 to 4 of 100 tables, and in 6 where the plain student's seeds vary twice or three times as much as the
    others'.

    Rows of one training share its luck: their differences are judged by what is left of their scores when each seed's
    and each row's mean are taken out (randomised blocks). Between trainings seeds are taken to be independent, which is
    strict for a difference, since equal seeds have the teacher and the order of the text in common; for a row's own
    interval it makes the pooled variance a little better known than it is.

    The variance over sentences comes from resamples with replacement. A seed's luck with the sentences is in both
    parts, which is strict too.

    Args:
        systems: the rows.
        trainings: for each row its training runs; equal ones for rows that came out of the same runs, whose models are
            in the same order then.

    Raises:
        ValueError: a system without models, or models of unequal numbers of sentences.
    """
    sentences = count_sentences(systems)
    weights, columns = resamples(sentences, replicates, np.random.default_rng(seed)), METRICS[metric][1]
    scores, redrawn = [], []
    for system in systems:
        counts = np.stack([model[:, columns] for model in system]).astype(np.float64)
        scores.append(column_scores(counts.sum(axis=1), metric))
        redrawn.append(column_scores(weights @ counts, metric).mean(axis=0))
    covariance = np.atleast_2d(np.cov(np.array(redrawn)))
    own = np.diag(covariance)
    of_sentences = np.maximum(own[:, None] + own - 2 * covariance, 0)
    np.fill_diagonal(of_sentences, own)
    of_seeds, freedom = luck_of_seeds(scores, trainings)
    return TableTest(np.array([each.mean() for each in scores]), of_seeds, freedom, of_sentences, sentences)


def luck_of_seeds(
    scores: Sequence[NDArray[np.float64]], trainings: Sequence[Hashable]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``of_seeds`` and ``freedom`` of a test, from the scores of each row's models."""
    numbers = np.array([len(each) for each in scores])
    own = np.array([each.var(ddof=1) if len(each) > 1 else 0.0 for each in scores])
    members: dict[Hashable, list[int]] = {}
    for row in np.flatnonzero(numbers > 1).tolist():
        members.setdefault(trainings[row], []).append(row)
    degrees = sum(int(numbers[rows].max()) - 1 for rows in members.values())
    pooled = sum((numbers[rows].max() - 1) * own[rows].mean() for rows in members.values()) / max(degrees, 1)

    common, excess = pooled / numbers, np.maximum(own - pooled, 0) / numbers
    doubt = _over(excess**2, numbers - 1.0)
    of_seeds = common[:, None] + common + excess[:, None] + excess
    freedom = _freedom(of_seeds, common[:, None] + common, doubt[:, None] + doubt, degrees)
    single, single_freedom = common + excess, _freedom(common + excess, common, doubt, degrees)
    for rows in members.values():
        if len(rows) > 1 and len(set(numbers[rows].tolist())) == 1:
            block = np.stack([scores[row] for row in rows])
            left = block - block.mean(axis=0) - block.mean(axis=1, keepdims=True) + block.mean()
            among = (len(rows) - 1) * (block.shape[1] - 1)
            of_seeds[np.ix_(rows, rows)] = 2 * (left**2).sum() / among / block.shape[1]
            freedom[np.ix_(rows, rows)] = among
    np.fill_diagonal(of_seeds, single)
    np.fill_diagonal(freedom, single_freedom)
    return of_seeds, freedom


def _freedom(
    whole: NDArray[np.float64], common: NDArray[np.float64], doubt: NDArray[np.float64], degrees: int
) -> NDArray[np.float64]:
    """Satterthwaite's, of a variance with a ``common`` part that is known by so many degrees, and the others' doubt."""
    parts = common**2 / max(degrees, 1) + doubt
    return np.divide(whole**2, parts, out=np.zeros_like(whole), where=parts > 0)


def _over(squares: NDArray[np.float64], freedom: NDArray[np.float64]) -> NDArray[np.float64]:
    """Their ratio, 0 without freedom: then there is no variance over seeds to be unsure of."""
    return np.divide(squares, freedom, out=np.zeros_like(squares), where=freedom > 0)
