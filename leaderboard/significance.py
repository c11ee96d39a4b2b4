"""Whether rows differ: a paired randomisation test, a bootstrap interval, Holm's correction, and groups of equals.

A *system* is what one row amounts to: for each of its seeds a model, and for each model the (sentences, 28) counts of
``bench.measure.statistics``. All models are scored on the same sentences in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from bench.measure.statistics import BLEU_COLUMNS, COLUMNS, corpus_bleu, corpus_chrf
from bench.ruleset import RULES

Metric = Literal["bleu", "chrf"]
System: TypeAlias = Sequence[NDArray[np.int64]]
Score: TypeAlias = Callable[[NDArray[Any]], NDArray[np.float64]]

METRICS: dict[Metric, tuple[Score, slice]] = {
    "bleu": (corpus_bleu, slice(0, len(BLEU_COLUMNS))),
    "chrf": (corpus_chrf, slice(len(BLEU_COLUMNS), len(COLUMNS))),
}
"""Each metric's score of sums of statistics, and the columns it is computed from."""
SEED = 20_260_101
"""Of every random stream here. It is the project's own: ``SACREBLEU_SEED`` has no part in it."""
CHUNK = 100
"""Trials at a time, which bounds the memory. The random stream depends on it."""
EXACT = 2**24
"""Whole numbers below it are exact in single precision, and so are their sums in any order."""
EQUAL = 1e-9
"""A difference of scores below it is rounding."""


def approximate_randomisation(
    a: System, b: System, metric: Metric, *, trials: int = RULES.randomisations, seed: int = SEED
) -> float:
    """Two-sided p of the paired randomisation test of two systems.

    Each trial deals the outputs of all models of both systems out anew to as many pseudo-models, sentence by sentence
    and at random (approximate randomisation: Noreen 1989; for machine translation Riezler & Maxwell 2005), and
    p = (1 + trials at least as extreme) / (1 + trials), which is exact if all these outputs are exchangeable. Models of
    one method are not: each seed makes a model that is better or worse throughout, which a test that only compares
    means takes for a difference of the methods (Clark et al. 2011). The statistic is therefore the difference of the
    mean scores in units of its standard error over seeds,

        t = (mean(A) - mean(B)) / sqrt(var(A) / seeds(A) + var(B) / seeds(B)).

    Dealing out makes all pseudo-models equally variable and equally correlated, so that over many sentences t has the
    distribution in the trials that it has for models whose seeds have normal effects, equally large in both systems:
    the test keeps its level whatever those effects are. Where a system has one model, or neither varies, the statistic
    is the plain difference; with one model each this is the classical test, which speaks of these two models only.

    Raises:
        ValueError: a system without models, or models of unequal numbers of sentences.
    """
    sentences, models = count_sentences([a, b]), [*a, *b]
    counts = _counts(models, metric)
    observed = column_scores(counts.sum(axis=1, dtype=np.float64), metric)
    several = min(len(a), len(b)) > 1
    studentised = several and bool(_squared_error(observed[: len(a)], observed[len(a) :]) > EQUAL**2)
    extreme = _statistic(observed, len(a), studentised) * (1 - EQUAL)

    random, hits, numbers = np.random.default_rng((seed, len(models))), 0, np.arange(len(models), dtype=np.uint16)
    for start in range(0, trials, CHUNK):
        order = np.broadcast_to(numbers, (min(CHUNK, trials - start), sentences, len(models)))
        dealt = np.moveaxis(random.permuted(order, axis=-1), -1, 0)
        scores = np.empty((len(order), len(models)))
        for pseudo, given in enumerate(np.ascontiguousarray(dealt)):
            taken = (given[:, None] == numbers[:, None]).astype(counts.dtype)
            scores[:, pseudo] = column_scores(np.tensordot(taken, counts, axes=((1, 2), (0, 1))), metric)
        hits += int((_statistic(scores, len(a), studentised) >= extreme).sum())
    return (1 + hits) / (1 + trials)


def _counts(models: System, metric: Metric) -> NDArray[Any]:
    """(models, sentences, columns) counts."""
    counts = np.stack([model[:, METRICS[metric][1]] for model in models])
    exact = counts.max(axis=0).sum(axis=0).max() < EXACT
    return counts.astype(np.float32 if exact else np.float64)


def column_scores(sums: NDArray[Any], metric: Metric) -> NDArray[np.float64]:
    """The metric of each (..., columns) sum of its own columns."""
    score, columns = METRICS[metric]
    whole = np.zeros((*sums.shape[:-1], len(COLUMNS)))
    whole[..., columns] = sums
    return score(whole)


def _squared_error(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The squared standard error of the difference of the means of (..., seeds) scores."""
    error: NDArray[np.float64] = a.var(axis=-1, ddof=1) / a.shape[-1] + b.var(axis=-1, ddof=1) / b.shape[-1]
    return error


def _statistic(scores: NDArray[np.float64], first: int, studentised: bool) -> NDArray[np.float64]:
    """The absolute difference of the means of the ``first`` of (..., models) scores and the others.

    In standard errors where ``studentised``.
    """
    a, b = scores[..., :first], scores[..., first:]
    difference = np.abs(a.mean(axis=-1) - b.mean(axis=-1))
    difference = np.where(difference < EQUAL, 0.0, difference)
    if not studentised:
        return difference
    error = np.sqrt(_squared_error(a, b))
    # Pseudo-models that happen to score alike count as the most extreme, unless both sides are equal.
    apart = np.where(difference > 0, np.inf, 0.0)
    return np.divide(difference, error, out=apart, where=error > EQUAL)


def hierarchical_bootstrap(
    a: System,
    b: System,
    metric: Metric,
    *,
    replicates: int = RULES.replicates,
    level: float = RULES.level,
    seed: int = SEED,
) -> tuple[float, float]:
    """Interval of mean(A) - mean(B): the percentile bootstrap over sentences and over seeds.

    Each replicate draws sentences with replacement, the same for all models, and adds what drawing each system's seeds
    with replacement does to its mean. The seeds' deviations are those on all sentences, which hold each model's luck
    with them already; deviations on the sentences drawn would count it once more (Owen 2007). A bootstrap of few seeds
    is too narrow, for it takes their variance for that of all seeds, and without doubt: their deviations are enlarged
    by sqrt(S / (S - 1)), and by the ratio of Student's quantile, with Welch's degrees of freedom, to the normal one
    (Hesterberg 2015). A seed's deviation holds some luck with the sentences, which are drawn besides, so that the
    interval is too wide rather than too narrow where seeds matter little. With one model in each system only sentences
    are drawn.

    Raises:
        ValueError: a system without models, or models of unequal numbers of sentences.
    """
    systems = [a, b]
    sentences = count_sentences(systems)
    random = np.random.default_rng(seed)
    weights = resamples(sentences, replicates, random)
    tail = (1 - level) / 2
    counted = [_counts(system, metric) for system in systems]
    observed = [column_scores(counts.sum(axis=1, dtype=np.float64), metric) for counts in counted]
    freedom = _freedom(observed)
    doubt = stdtrit(freedom, tail) / ndtri(tail) if freedom else 1.0
    means = []
    for counts, scores in zip(counted, observed):
        mean = column_scores(weights @ counts, metric).mean(axis=0)
        if (size := len(scores)) > 1:
            luck = scores[random.integers(size, size=(replicates, size))].mean(axis=1) - scores.mean()
            mean = mean + luck * np.sqrt(size / (size - 1)) * doubt
        means.append(mean)
    low, high = np.quantile(means[0] - means[1], (tail, 1 - tail))
    return float(low), float(high)


def resamples(sentences: int, replicates: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(replicates, sentences) how often each replicate draws each sentence, with replacement."""
    drawn = random.integers(sentences, size=(replicates, sentences))
    return np.stack([np.bincount(each, minlength=sentences) for each in drawn]).astype(np.float64)


def _freedom(scores: Sequence[NDArray[np.float64]]) -> float:
    """Degrees of freedom of the standard error over seeds (Welch 1947); 0 where no system has several seeds.

    The smallest that its bounds allow where the seeds do not vary at all.
    """
    several = [each for each in scores if len(each) > 1]
    squares = [each.var(ddof=1) / len(each) for each in several]
    if sum(squares) <= EQUAL**2:
        return min((len(each) - 1 for each in several), default=0)
    return float(sum(squares) ** 2 / sum(s**2 / (len(each) - 1) for s, each in zip(squares, several)))


def count_sentences(systems: Sequence[System]) -> int:
    """The number of sentences that all models have."""
    numbers = {len(model) for system in systems for model in system}
    if not all(len(system) for system in systems) or len(numbers) != 1 or not min(numbers):
        raise ValueError(f"systems of {[len(system) for system in systems]} models with {sorted(numbers)} sentences")
    return numbers.pop()


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Each p of a family adjusted for it (Holm 1979): at most ``alpha`` means a difference, whatever others there are.

    The smallest is multiplied by their number, the next by one less, and so on; none is below the one before it.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order, adjusted = np.argsort(p, kind="stable"), np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, np.arange(len(p), 0, -1) * p[order]))
    return adjusted


def groups(names: Sequence[str], different: Collection[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The compact letter display: two names have a letter in common if and only if they are not different.

    By insertion and absorption (Piepho 2004). The letters follow the order of ``names``: the first has an ``a``.

    Args:
        different: pairs that are significantly different, in either order.
    """
    place = {name: number for number, name in enumerate(names)}
    columns = [frozenset(names)] if names else []
    for a, b in sorted(tuple(sorted(pair, key=place.__getitem__)) for pair in different):
        split = [
            part for column in columns for part in ((column - {a}, column - {b}) if {a, b} <= column else (column,))
        ]
        distinct = list(dict.fromkeys(split))
        columns = [column for column in distinct if not any(column < other for other in distinct)]
    columns.sort(key=lambda column: sorted(map(place.__getitem__, column)))
    return {name: tuple(_letter(number) for number, column in enumerate(columns) if name in column) for name in names}


def _letter(number: int) -> str:
    """``a`` to ``z``, then ``a1`` to ``z1`` and so on."""
    rounds, letter = divmod(number, 26)
    return chr(ord("a") + letter) + (str(rounds) if rounds else "")
