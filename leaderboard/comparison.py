"""Two rows compared in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import UsageError
from bench.records import Stored
from bench.ruleset import RULES, Ruleset
from leaderboard.ranking import Spread
from leaderboard.recipes import comparable
from leaderboard.significance import Metric, approximate_randomisation, hierarchical_bootstrap
from leaderboard.systems import Outcome, System, outcome_of, unlike


@dataclass(frozen=True)
class Side:
    """One row of a comparison, by the seeds that are compared."""

    row: str
    seeds: tuple[int, ...]
    score: Spread


@dataclass(frozen=True)
class Comparison:
    """Two rows on one test set: ``difference`` is a's mean score minus b's."""

    a: Side
    b: Side
    dataset: str
    test_set: str
    metric: Metric
    signature: str
    sentences: int
    difference: float
    level: float
    low: float
    """Of the interval of the difference that holds the true one in ``level`` of all cases."""
    high: float
    p: float
    """Two-sided, of this one comparison."""
    alpha: float
    models_only: bool
    """Whether each side has one seed, so that nothing is said of the methods."""
    same_recipe: bool
    """Whether both could stand in one table, so that nothing but the method differs."""

    @property
    def outcome(self) -> Outcome:
        """What ``a`` is, compared with ``b``."""
        return outcome_of(self.difference, self.p, self.alpha)


def compare(
    row_a: Sequence[Stored],
    row_b: Sequence[Stored],
    test_set: str | None = None,
    metric: Metric = "bleu",
    rules: Ruleset = RULES,
) -> Comparison:
    """Compare two rows by their finished seeds.

    Args:
        row_a: the records of a row, or of some seeds of it.
        test_set: default: the one that the rows are ranked by.

    Raises:
        UsageError: nothing finished, no such test set, other texts or signatures, or a model that is in both rows.
        DataError: records without statistics, or whose files are missing or were changed.
    """
    a, b = (System.of(row, test_set or row_a[0].record.primary) for row in (row_a, row_b))
    if not a.records[0].scores[a.test_set].sentences:
        raise UsageError(f"{a.test_set} has no sentences.")
    if odd := unlike(a, b):
        raise UsageError(f"{a.row} and {b.row} cannot be compared on {a.test_set}: {odd} differs.")
    if a.row == b.row and a.name != b.name and set(a.name[1]) & set(b.name[1]):
        raise UsageError(f"some seeds of {a.row} are on both sides; name others.")
    if 1 in (sizes := (len(a.records), len(b.records))) and sizes != (1, 1):
        raise UsageError("one model cannot be compared with a row of several seeds: name one seed of each, ROW@SEED.")
    first, second = sorted((a, b), key=lambda each: each.name)
    low, high = _interval(a, b, metric, rules)
    record = a.records[0]
    score = record.scores[a.test_set]
    return Comparison(
        a=Side(a.row, tuple(a.name[1]), a.spread(metric)),
        b=Side(b.row, tuple(b.name[1]), b.spread(metric)),
        dataset=record.dataset,
        test_set=a.test_set,
        metric=metric,
        signature=score.bleu_signature if metric == "bleu" else score.chrf_signature,
        sentences=score.sentences,
        difference=a.spread(metric).mean - b.spread(metric).mean,
        level=rules.level,
        low=low,
        high=high,
        p=approximate_randomisation(first.statistics, second.statistics, metric, trials=rules.randomisations),
        alpha=rules.alpha,
        models_only=len(a.records) == 1,
        same_recipe=comparable(record) == comparable(b.records[0]),
    )


def _interval(a: System, b: System, metric: Metric, rules: Ruleset) -> tuple[float, float]:
    """Of a's mean score minus b's. It is the same for both orders of the two."""
    if b.name < a.name:
        low, high = _interval(b, a, metric, rules)
        return -high, -low
    return hierarchical_bootstrap(a.statistics, b.statistics, metric, replicates=rules.replicates, level=rules.level)
