"""From records to verdicts: two rows in full, and which rows of a table differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.errors import DataError, UsageError, unknown_name
from bench.measure.statistics import COLUMNS
from bench.records import Stored
from bench.results import Record
from bench.ruleset import RULES, Ruleset
from leaderboard.ranking import Row, Spread, Table, runs
from leaderboard.recipes import comparable
from leaderboard.significance import (
    METRICS,
    Metric,
    approximate_randomisation,
    groups,
    hierarchical_bootstrap,
    holm,
)
from leaderboard.table_tests import compare_rows

Outcome = Literal["better", "worse", "level"]
LETTERED = 50
"""Rows of a table whose groups of equals are told by letters; among many more there are too many groups to tell."""
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


class Pairs(Mapping[tuple[str, str], Pair]):
    """All ordered pairs of the tested rows of a table, from an array: a thousand rows have a million of them."""

    def __init__(self, means: Mapping[str, float], p: NDArray[np.float64], alpha: float) -> None:
        """
        Args:
            means: the mean score of each row.
            p: (rows, rows) corrected p-values, symmetric, in the order of ``means``.
        """
        self._means, self._p, self._alpha = means, p, alpha
        self._places = {name: place for place, name in enumerate(means)}

    def __getitem__(self, names: tuple[str, str]) -> Pair:
        one, other = names
        if one == other:
            raise KeyError(names)
        difference, p = self._means[one] - self._means[other], float(self._p[self._places[one], self._places[other]])
        return Pair(difference, p, _outcome(difference, p, self._alpha))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return permutations(self._means, 2)

    def __len__(self) -> int:
        return len(self._means) * (len(self._means) - 1)

    def better(self, names: Sequence[str]) -> dict[str, int]:
        """For each of ``names``, how many of the others among them are significantly better."""
        places = [self._places[name] for name in names]
        means = np.array([self._means[name] for name in names])
        real = (self._p[np.ix_(places, places)] <= self._alpha) & (means[None, :] > means[:, None])
        return dict(zip(names, real.sum(axis=1).tolist()))


@dataclass(frozen=True)
class Differences:
    """Which rows of a table differ significantly in the metric that orders it. Rows are named by their ids."""

    tested: tuple[Row, ...]
    """The placed students that can be tested, in the table's order."""
    untested: Mapping[str, str]
    """Why a row is not tested; for tested rows, why they are not tested against the plain student."""
    pairs: Pairs
    """Each tested row compared with each other one, both ways; corrected for all pairs of the table."""
    letters: Mapping[str, tuple[str, ...]]
    """Rows with a letter in common are not significantly different. There are none in a table of too many rows."""
    against_plain: Mapping[str, AgainstPlain]
    """Each tested row compared with the plain student; corrected for these tests only."""
    intervals: Mapping[str, tuple[float, float]]
    """Of each tested row's mean score, and of the teacher's, over seeds and sentences."""


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

    # A teacher is another architecture with another budget: its seeds say nothing of the students'.
    intervals = {}
    for row in table.placed:
        if row.sample.role == "teacher" and row.sample.row in models:
            untested[row.sample.row] = "the teacher is no student"
            alone = compare_rows([models[row.sample.row].statistics], [None], "bleu", replicates=rules.replicates)
            intervals[row.sample.row] = alone.interval(0, rules.level)
    ordered = [row for row in table.placed if row.sample.row in models and row.sample.role != "teacher"]
    names = [row.sample.row for row in ordered]
    if not names:
        return Differences((), untested, Pairs({}, np.ones((0, 0)), rules.alpha), {}, {}, intervals)
    trainings = [frozenset(runs(row)) or row.sample.row for row in ordered]
    systems = [models[name].statistics for name in names]
    test = compare_rows(systems, trainings, "bleu", replicates=rules.replicates)
    means = dict(zip(names, test.means.tolist()))
    p = test.p()
    above = np.triu_indices(len(names), 1)
    adjusted = np.ones_like(p)
    adjusted[above] = adjusted.T[above] = holm(p[above])
    pairs = Pairs(means, adjusted, rules.alpha)
    real = {(a, b) for a, b in combinations(names, 2) if pairs[a, b].outcome != "level"}
    letters = groups(names, real) if len(names) <= LETTERED else {}

    against: dict[str, AgainstPlain] = {}
    if plain in models:
        own = names.index(plain)
        others = [place for place in range(len(names)) if place != own]
        for place, corrected in zip(others, holm(p[others, own]).tolist()):
            difference = float(test.means[place] - test.means[own])
            low, high = test.difference(place, own, rules.level)
            outcome = _outcome(difference, corrected, rules.alpha)
            against[names[place]] = AgainstPlain(difference, corrected, outcome, low, high)
    intervals |= {name: test.interval(place, rules.level) for place, name in enumerate(names)}
    return Differences(tuple(ordered), untested, pairs, letters, against, intervals)


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
    texts = {name: each.texts for name, each in models.items()}
    known = {
        name: tuple(value for values in of.values() for value in values)
        for name, of in texts.items()
        if all(len(values) == 1 for values in of.values())
    }
    if plain is not None and plain in models:
        measure = known.get(plain)
    else:
        measure = next((each for each, _ in Counter(known.values()).most_common(1)), None)
    return {name for name, each in known.items() if each == measure}


def _unlike(a: _Models, b: _Models) -> str | None:
    """The first thing that keeps the scores of two rows from being compared."""
    other = b.texts
    return next((what for what, values in a.texts.items() if len(values | other[what]) > 1), None)
