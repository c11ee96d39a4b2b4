"""Which rows of a table differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from bench.errors import DataError
from bench.records import Stored
from bench.ruleset import RULES, Ruleset
from leaderboard.ranking import Row, Table, runs
from leaderboard.significance import groups, holm
from leaderboard.systems import Outcome, System, alike, outcome_of
from leaderboard.table_tests import compare_rows

LETTERED = 50
"""Rows of a table whose groups of equals are told by letters; among many more there are too many groups to tell."""


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
        return Pair(difference, p, outcome_of(difference, p, self._alpha))

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


def differences(table: Table, stored: Mapping[tuple[str, str, int], Stored], rules: Ruleset = RULES) -> Differences:
    """Test the rows of a table on its first test set.

    Args:
        stored: the records by data set, row and seed.
    """
    models: dict[str, System] = {}
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
                models[record.row] = System.of(members, record.primary)
        except DataError:
            untested[record.row] = "a file of its statistics is missing or was changed"
    plain = table.baseline.sample.row if table.baseline else None
    like = alike(models, plain)
    for name in [name for name in models if name not in like]:
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
    none = Differences((), untested, Pairs({}, np.ones((0, 0)), rules.alpha), {}, {}, intervals)
    if not names:
        return none
    trainings = [frozenset(runs(row)) or row.sample.row for row in ordered]
    systems = [models[name].statistics for name in names]
    test = compare_rows(systems, trainings, "bleu", replicates=rules.replicates)
    means = dict(zip(names, test.means.tolist()))
    intervals |= {name: test.interval(place, rules.level) for place, name in enumerate(names)}
    if max(means.values()) < rules.floor:
        # Of outputs that say nothing, seeds vary so little that any difference is significant, and means nothing.
        said = f"no student of the table reaches {rules.floor:g} BLEU: none has learned to translate"
        return replace(none, untested=untested | dict.fromkeys(names, said), intervals=intervals)
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
            outcome = outcome_of(difference, corrected, rules.alpha)
            against[names[place]] = AgainstPlain(difference, corrected, outcome, low, high)
    return Differences(tuple(ordered), untested, pairs, letters, against, intervals)
