"""How often the comparison of two rows is wrong, and how often it sees a difference. Run by hand:

    python tests/calibration.py                     on simulated models
    python tests/calibration.py tables              whole tables of simulated scores, by the test of the pages
    python tests/calibration.py RECORDS:ROW              on pairs of groups of seeds of one and the same row
    python tests/calibration.py RECORDS:ROW OTHER:ROW    and on pairs of groups of seeds of two rows

RECORDS is a folder of records with many finished seeds of ROW, and their statistics. Under no difference the share of
tests at or below 5 % and of intervals without 0 should be 5 %; under a difference, the larger the better.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bench.measure.statistics import CHARACTER_ORDERS, COLUMNS, ORDERS
from bench.records import find_row, read_records
from bench.ruleset import RULES
from leaderboard.significance import System, approximate_randomisation, hierarchical_bootstrap, holm
from leaderboard.table_tests import TableTest, luck_of_seeds

PAIRS, TRIALS, SENTENCES = 200, 2_000, 300


def simulated(
    random: Generator, seeds: int, *, effect: float = 0.0, spread: float = 0.0, sentences: int = SENTENCES
) -> list[NDArray[np.int64]]:
    """A system's models: each n-gram matches by its sentence's difficulty, the system's effect and its seed's.

    The texts are the same for all systems. An effect of 0.01 is about 1.5 points of BLEU.
    """
    text = np.random.default_rng(1)
    length, difficulty = text.integers(6, 30, sentences), text.beta(8, 4, sentences)
    models = []
    for shift in effect + spread * random.standard_normal(seeds):
        chance = np.clip(difficulty + shift, 0, 1)
        counts = np.zeros((sentences, len(COLUMNS)), dtype=np.int64)
        counts[:, 1] = length
        counts[:, 0] = matches = np.maximum(length + random.integers(-2, 3, sentences), 4)
        for order in range(ORDERS):
            total = counts[:, 0] - order
            matches = random.binomial(np.minimum(matches, total), chance)
            counts[:, 2 + order], counts[:, 2 + ORDERS + order] = matches, total
        for order in range(CHARACTER_ORDERS):
            output, reference = 5 * counts[:, 0] - order, 5 * length - order
            match = random.binomial(np.minimum(output, reference), chance**order)
            counts[:, 2 + 2 * ORDERS + 3 * order :][:, :3] = np.stack([output, reference, match], axis=1)
        models.append(counts)
    return models


def rates(pairs: Iterable[tuple[System, System]]) -> str:
    """The share of pairs that the test, and that the interval, calls different."""
    tests, intervals = [], []
    for a, b in pairs:
        tests.append(approximate_randomisation(a, b, "bleu", trials=TRIALS) <= RULES.alpha)
        low, high = hierarchical_bootstrap(a, b, "bleu")
        intervals.append(not low <= 0 <= high)
    return f"test {100 * np.mean(tests):5.1f} %   interval {100 * np.mean(intervals):5.1f} %"


def _simulations(random: Generator) -> None:
    for seeds, spread, effect in product((1, 3, 5), (0.0, 0.01, 0.05), (0.0, 0.01, 0.05)):
        drawn = (
            (simulated(random, seeds, spread=spread), simulated(random, seeds, effect=effect, spread=spread))
            for _ in range(PAIRS)
        )
        print(f"seeds {seeds}  spread {spread:4}  effect {effect:4}: {rates(drawn)}", flush=True)
    for seeds, narrow in product((3, 5), (0.0, 0.02)):  # beside a row whose seeds vary more
        drawn = ((simulated(random, seeds, spread=narrow), simulated(random, seeds, spread=0.05)) for _ in range(PAIRS))
        print(f"seeds {seeds}  spread {narrow:4} against 0.05: {rates(drawn)}", flush=True)


def _models(argument: str) -> list[NDArray[np.int64]]:
    folder, _, row = argument.rpartition(":")
    finished = [each for each in find_row(read_records([Path(folder)]).records, row) if each.record.status == "ok"]
    found = [each.statistics(each.record.primary) for each in finished]
    return [each for each in found if each is not None]


def _group(random: Generator, models: Sequence[NDArray[np.int64]], size: int) -> list[NDArray[np.int64]]:
    return [models[place] for place in random.permutation(len(models))[:size]]


def _recorded(random: Generator, rows: list[list[NDArray[np.int64]]]) -> None:
    for number, models in enumerate(rows, start=1):
        for seeds in (each for each in (1, 3, 5) if 2 * each <= len(models)):
            both = (_group(random, models, 2 * seeds) for _ in range(PAIRS))
            found = rates((each[:seeds], each[seeds:]) for each in both)
            print(f"row {number} ({len(models)} seeds), groups of {seeds}: {found}", flush=True)
    if len(rows) == 2:
        for seeds in (each for each in (3, 5) if each <= min(map(len, rows))):
            found = rates((_group(random, rows[0], seeds), _group(random, rows[1], seeds)) for _ in range(PAIRS))
            print(f"row 1 against row 2, groups of {seeds}: {found}", flush=True)


TABLES = 2_000
SPREADS = {
    "12 alike": (1.0,) * 12, "6 alike": (1.0,) * 6, "12, plain student 2 times": (2.0,) + (1.0,) * 11,
    "12, plain student 3 times": (3.0,) + (1.0,) * 11, "6, plain student 3 times": (3.0,) + (1.0,) * 5,
    "12, another row 5 times": (1.0, 5.0) + (1.0,) * 10,
}  # fmt: skip
"""How much the seeds of a table's rows vary; the plain student comes first."""


def _tables(random: Generator) -> None:
    """The share of tables of equal rows, three seeds each, in which a test that is corrected finds a difference."""
    for name, spreads in SPREADS.items():
        size = len(spreads)
        plain, pairs, above = 0, 0, np.triu_indices(size, 1)
        for _ in range(TABLES):
            scores = random.standard_normal((size, 3)) * np.array(spreads)[:, None]
            of_seeds, freedom = luck_of_seeds(list(scores), range(size))
            p = TableTest(scores.mean(axis=1), of_seeds, freedom, np.zeros((size, size)), sentences=2).p()
            plain += min(holm(p[0, 1:])) <= RULES.alpha
            pairs += min(holm(p[above])) <= RULES.alpha
        print(
            f"{name:26}  against the plain student {plain / TABLES:5.1%}   all pairs {pairs / TABLES:5.1%}", flush=True
        )


if __name__ == "__main__":
    if sys.argv[1:] == ["tables"]:
        _tables(np.random.default_rng(2))
    elif rows := sys.argv[1:]:
        _recorded(np.random.default_rng(2), [_models(row) for row in rows])
    else:
        _simulations(np.random.default_rng(2))
