"""Degenerate outputs and further scores of a row, for its page and for the mark beside its name."""

from __future__ import annotations

from collections.abc import Sequence

from bench.results import Degenerate, FurtherScore, Record
from bench.ruleset import RULES, Ruleset

KINDS = {"empty": "empty", "repeated": "repeating", "copied": "copied", "over_length": "over-long"}
"""What is counted, and what such outputs are called."""


def counted(records: Sequence[Record]) -> list[tuple[str, Record, Degenerate]]:
    """The counts that there are, by test set and seed."""
    return [(name, each, found) for name, each in _by_set(records) if (found := each.scores[name].degenerate)]


def shares(found: Degenerate, sentences: int) -> list[tuple[int, float]]:
    """Count and share of each kind, in the order of :data:`KINDS`."""
    counts = [int(getattr(found, kind)) for kind in KINDS]
    return [(count, count / sentences if sentences else 0.0) for count in counts]


def further_scores(records: Sequence[Record]) -> list[tuple[FurtherScore, str, int]]:
    """Each with its test set and seed, by metric, test set and seed."""
    found = [(score, name, each.seed) for name, each in _by_set(records) for score in each.scores[name].further]
    return sorted(found, key=lambda entry: entry[0].name)


def warnings(records: Sequence[Record], rules: Ruleset = RULES) -> list[str]:
    """The kinds that too large a share of all seeds' outputs on the first test set is of, as ``7.2 % repeating``."""
    scores = [record.scores[record.primary] for record in records]
    known = [(score.degenerate, score.sentences) for score in scores if score.degenerate and score.sentences]
    total = sum(sentences for _, sentences in known)
    counts = {name: sum(getattr(each, kind) for each, _ in known) for kind, name in KINDS.items()}
    return [
        f"{100 * count / total:.1f} % {name}"
        for name, count in counts.items()
        if total and count / total > rules.degenerate
    ]


def _by_set(records: Sequence[Record]) -> list[tuple[str, Record]]:
    names = dict.fromkeys(name for record in records for name in record.scores)
    return [(name, record) for name in names for record in records if name in record.scores]
