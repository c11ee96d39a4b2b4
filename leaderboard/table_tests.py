"""All rows of a table against each other, over seeds and sentences at once.

Three seeds say little about how much seeds vary, and a table has many pairs of rows: from the six models of one pair,
after correcting for all pairs, only a chasm can be told from luck. The rows of a table are trained by one recipe, so
what seeds do to them is estimated from all of them together, as the analysis of variance does.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from bench.ruleset import RULES
from leaderboard.significance import EQUAL, METRICS, SEED, Metric, System, column_scores, count_sentences, resamples


@dataclass(frozen=True)
class TableTest:
    """The mean scores of a table's rows, and how uncertain they and their differences are."""

    means: NDArray[np.float64]
    """(rows,) over seeds."""
    of_seeds: NDArray[np.float64]
    """(rows,) squared standard errors of the means: other seeds would have given other models."""
    freedom: int
    """Degrees of freedom that ``of_seeds`` rests on; 0 where no row has several seeds, and the test speaks of these
    models only."""
    of_sentences: NDArray[np.float64]
    """(rows, rows) covariances of the means: other sentences would have given other scores, to all rows alike."""
    sentences: int

    def p(self) -> NDArray[np.float64]:
        """(rows, rows) two-sided p of each difference, by Student's t with Satterthwaite's degrees of freedom.

            t = (mean(A) - mean(B)) / sqrt(seeds(A) + seeds(B) + var(sentences))

        where the last is the variance of the difference over sentences, so that what is hard for both rows has no part.
        """
        differences = np.abs(self.means[:, None] - self.means)
        seeds = self.of_seeds[:, None] + self.of_seeds
        variances = np.diag(self.of_sentences)
        sentences = np.maximum(variances[:, None] + variances - 2 * self.of_sentences, 0)
        found = np.ones_like(differences)
        apart = differences > EQUAL
        error, freedom = np.sqrt(seeds + sentences)[apart], self._freedom(seeds, sentences)[apart]
        with np.errstate(divide="ignore"):  # without any variance the difference is certain
            found[apart] = 2 * stdtr(freedom, -differences[apart] / error)
        return found

    def interval(self, row: int, level: float = RULES.level) -> tuple[float, float]:
        """Of a row's mean: holds in ``level`` of all cases what many seeds have on sentences like these."""
        return self._interval(float(self.means[row]), self.of_seeds[row], self.of_sentences[row, row], level)

    def difference(self, row: int, other: int, level: float = RULES.level) -> tuple[float, float]:
        """The interval of the difference of two rows' means."""
        covariance = self.of_sentences[np.ix_((row, other), (row, other))]
        sentences = max(float(np.trace(covariance) - 2 * covariance[0, 1]), 0.0)
        between = float(self.means[row] - self.means[other])
        return self._interval(between, self.of_seeds[row] + self.of_seeds[other], sentences, level)

    def _interval(self, middle: float, seeds: float, sentences: float, level: float) -> tuple[float, float]:
        freedom = self._freedom(np.array(seeds), np.array(sentences))
        half = float(-stdtrit(freedom, (1 - level) / 2) * np.sqrt(seeds + sentences))
        return middle - half, middle + half

    def _freedom(self, seeds: NDArray[np.float64], sentences: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = seeds**2 / max(self.freedom, 1) + sentences**2 / max(self.sentences - 1, 1)
        whole = (seeds + sentences) ** 2
        found: NDArray[np.float64] = np.divide(whole, parts, out=np.ones_like(whole), where=parts > 0)
        return found


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
    variances of its rows, since rows of one training have their luck in common. A row that varies more than that keeps
    its own variance, so that a method with unstable seeds gains nothing by the company of steady ones; what such a row
    is said to differ from is still somewhat too much, for its own variance is taken as if it were as well known. The
    variance over sentences comes from resamples with replacement, the same sentences for all rows. A seed's luck with
    the sentences is in both, which makes the test strict rather than lax.

    Args:
        systems: the rows.
        trainings: for each row what it has in common with the others out of the same training.

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
    numbers = np.array([len(each) for each in scores])
    own = np.array([each.var(ddof=1) if len(each) > 1 else 0.0 for each in scores])
    freedom, pooled = 0, 0.0
    for training in dict.fromkeys(trainings):
        rows = [row for row, each in enumerate(trainings) if each == training and numbers[row] > 1]
        if rows:
            degrees = int(numbers[rows].max()) - 1
            freedom, pooled = freedom + degrees, pooled + degrees * own[rows].mean()
    variances = np.maximum(own, pooled / freedom if freedom else 0.0)
    return TableTest(
        means=np.array([each.mean() for each in scores]),
        of_seeds=variances / numbers,
        freedom=freedom,
        of_sentences=np.atleast_2d(np.cov(np.array(redrawn))),
        sentences=sentences,
    )
