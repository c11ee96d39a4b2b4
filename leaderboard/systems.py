"""What is compared: the finished seeds of a row with the statistics of their sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.errors import DataError, UsageError, unknown_name
from bench.measure.statistics import COLUMNS
from bench.records import Stored
from bench.results import Record
from leaderboard.ranking import Spread
from leaderboard.significance import METRICS, Metric

Outcome = Literal["better", "worse", "level"]
REFERENCE_COLUMNS = [place for place, name in enumerate(COLUMNS) if name.startswith("reference_")]


@dataclass(frozen=True)
class System:
    """The finished seeds of a row, and their statistics on a test set."""

    records: tuple[Record, ...]
    test_set: str
    statistics: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, row: Sequence[Stored], test_set: str) -> System:
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


def outcome_of(difference: float, p: float, alpha: float) -> Outcome:
    """What a system is whose score is so much above another's, with the ``p`` of their test."""
    if p > alpha or difference == 0:
        return "level"
    return "better" if difference > 0 else "worse"


def alike(models: Mapping[str, System], plain: str | None) -> set[str]:
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


def unlike(a: System, b: System) -> str | None:
    """The first thing that keeps the scores of two rows from being compared."""
    other = b.texts
    return next((what for what, values in a.texts.items() if len(values | other[what]) > 1), None)
