"""From records to verdicts: two rows in full, and which rows of a table differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.errors import DataError, UsageError, unknown_name
from bench.measure.statistics import COLUMNS
from bench.records import Stored
from bench.results import Record
from bench.ruleset import RULES, Ruleset
from leaderboard.ranking import Row, Spread, Table
from leaderboard.recipes import comparable
from leaderboard.significance import (
    METRICS,
    Metric,
    approximate_randomisation,
    groups,
    hierarchical_bootstrap,
    holm,
    randomisation_tests,
)

Outcome = Literal["better", "worse", "level"]
REFERENCE_COLUMNS = [place for place, name in enumerate(COLUMNS) if name.startswith("reference_")]


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
        return _outcome(self.difference, self.p, self.alpha)


@dataclass(frozen=True)
class Pair:
    """A row of a table compared with another one."""

    difference: float
    """Of the mean scores."""
    p: float
    """Two-sided, corrected for all tests of its family."""
    outcome: Outcome


@dataclass(frozen=True)
class AgainstPlain(Pair):
    """A row of a table compared with the plain student, with the interval of the difference."""

    low: float
    high: float


@dataclass(frozen=True)
class Differences:
    """Which rows of a table differ significantly in the metric that orders it. Rows are named by their ids."""

    tested: tuple[Row, ...]
    """The placed rows that can be tested, in the table's order."""
    untested: Mapping[str, str]
    """Why a row is not tested; for tested rows, why they are not tested against the plain student."""
    pairs: Mapping[tuple[str, str], Pair]
    """Each tested row compared with each other one, both ways; corrected for all pairs of the table."""
    letters: Mapping[str, tuple[str, ...]]
    """Rows with a letter in common are not significantly different."""
    against_plain: Mapping[str, AgainstPlain]
    """Each tested row compared with the plain student; corrected for these tests only."""


@dataclass(frozen=True)
class _Models:
    """What is compared of a row: its finished seeds, and their statistics on a test set."""

    records: tuple[Record, ...]
    test_set: str
    statistics: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, row: Sequence[Stored], test_set: str) -> _Models:
        """Read the finished seeds of a row.

        Raises:
            UsageError: none has finished, or the test set is none of theirs.
            DataError: a file of statistics is missing or was changed, or a record has none.
        """
        finished = [each for each in row if each.record.status == "ok"]
        if not finished:
            raise UsageError(f"{row[0].record.row} has no finished seed: {row[0].record.reason}")
        found = []
        for each in finished:
            if test_set not in each.record.scores:
                raise unknown_name(f"test set of {each.record.row}", test_set, each.record.scores)
            if (statistics := each.statistics(test_set)) is None:
                raise DataError(
                    f"the record of {each.record.row}, seed {each.record.seed}, has no statistics of sentences, which "
                    "a test is computed from; run it again."
                )
            found.append(statistics)
        return cls(tuple(each.record for each in finished), test_set, tuple(found))

    @property
    def row(self) -> str:
        return self.records[0].row

    @property
    def name(self) -> tuple[str, list[int]]:
        return self.row, [record.seed for record in self.records]

    @property
    def texts(self) -> dict[str, set[str | int | bytes]]:
        """What models have alike whose scores can be compared; several values where the seeds have it not."""
        scores = [record.scores[self.test_set] for record in self.records]
        return {
            "data set": {record.dataset for record in self.records},
            "version of the data set": {record.data_sha256 for record in self.records},
            "number of sentences": {score.sentences for score in scores},
            "signature of BLEU": {score.bleu_signature for score in scores},
            "signature of chrF": {score.chrf_signature for score in scores},
            "references": {statistics[:, REFERENCE_COLUMNS].tobytes() for statistics in self.statistics},
        }

    def scores(self, metric: Metric) -> list[float]:
        return [float(METRICS[metric][0](statistics.sum(axis=0))) for statistics in self.statistics]

    def spread(self, metric: Metric) -> Spread:
        """Of the metric over the seeds."""
        found = Spread.of(self.scores(metric))
        assert found is not None
        return found


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
    a, b = (_Models.of(row, test_set or row_a[0].record.primary) for row in (row_a, row_b))
    if not a.records[0].scores[a.test_set].sentences:
        raise UsageError(f"{a.test_set} has no sentences.")
    if odd := _unlike(a, b):
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


def differences(table: Table, stored: Mapping[tuple[str, str, int], Stored], rules: Ruleset = RULES) -> Differences:
    """Test the rows of a table on its first test set.

    Args:
        stored: the records by data set, row and seed.
    """
    models: dict[str, _Models] = {}
    untested: dict[str, str] = {}
    for row in table.rows:
        record = row.sample
        if row.unplaced:
            untested[record.row] = "the row is not placed"
            continue
        try:
            members = [stored[each.dataset, each.row, each.seed] for each in row.finished]
            if any(each.record.scores[record.primary].statistics is None for each in members):
                untested[record.row] = "its records have no statistics of sentences"
            elif not all(each.record.scores[record.primary].sentences for each in members):
                untested[record.row] = "its test set has no sentences"
            else:
                models[record.row] = _Models.of(members, record.primary)
        except DataError:
            untested[record.row] = "a file of its statistics is missing or was changed"
    plain = table.baseline.sample.row if table.baseline else None
    alike = _alike(models, plain)
    for name in [name for name in models if name not in alike]:
        del models[name]
        untested[name] = "its references or signatures are other ones"
    if plain in untested:
        untested = dict.fromkeys(models, f"the plain student: {untested[plain]}") | untested

    # The order of a pair's models has a part in chance; by name it is the same here as in a comparison of the two.
    names, systems = sorted(models), [models[name].statistics for name in sorted(models)]
    means = {name: models[name].spread("bleu").mean for name in names}
    places = list(combinations(range(len(names)), 2))
    p = randomisation_tests(systems, places, "bleu", trials=rules.randomisations)
    by_pair = {frozenset((names[a], names[b])): each for (a, b), each in zip(places, p)}

    ordered = [row for row in table.placed if row.sample.row in models]
    ids = [row.sample.row for row in ordered]
    pairs: dict[tuple[str, str], Pair] = {}
    for (a, b), adjusted in zip(by_pair, holm(list(by_pair.values()))):
        for one, other in ((a, b), (b, a)):
            difference = means[one] - means[other]
            pairs[one, other] = Pair(difference, adjusted, _outcome(difference, adjusted, rules.alpha))
    real = {(a, b) for a, b in combinations(ids, 2) if pairs[a, b].outcome != "level"}

    against: dict[str, AgainstPlain] = {}
    if plain in models:
        others = [name for name in ids if name != plain]
        for name, adjusted in zip(others, holm([by_pair[frozenset((name, plain))] for name in others])):
            difference = means[name] - means[plain]
            outcome = _outcome(difference, adjusted, rules.alpha)
            low, high = _interval(models[name], models[plain], "bleu", rules)
            against[name] = AgainstPlain(difference, adjusted, outcome, low, high)
    return Differences(tuple(ordered), untested, pairs, groups(ids, real), against)


def _outcome(difference: float, p: float, alpha: float) -> Outcome:
    if p > alpha or difference == 0:
        return "level"
    return "better" if difference > 0 else "worse"


def _interval(a: _Models, b: _Models, metric: Metric, rules: Ruleset) -> tuple[float, float]:
    """Of a's mean score minus b's. It is the same for both orders of the two."""
    if b.name < a.name:
        low, high = _interval(b, a, metric, rules)
        return -high, -low
    return hierarchical_bootstrap(a.statistics, b.statistics, metric, replicates=rules.replicates, level=rules.level)


def _alike(models: Mapping[str, _Models], plain: str | None) -> set[str]:
    """The rows whose scores can be compared: with the plain student, or else the most that can with each other."""
    measures = [each for name, each in models.items() if name == plain] or list(models.values())
    found = [{name for name, each in models.items() if _unlike(measure, each) is None} for measure in measures]
    return max(found, key=len, default=set())


def _unlike(a: _Models, b: _Models) -> str | None:
    """The first thing that keeps the scores of two rows from being compared."""
    other = b.texts
    return next((what for what, values in a.texts.items() if len(values | other[what]) > 1), None)
