"""What sweeps tell from their records: the dev BLEU to expect of so many trials, and what these cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

from bench.results import Record, Sweep, shared_part
from leaderboard.ranking import Row, Table, runs

NEEDED = ("teacher", "distillation")
"""The kinds of phases that a method's trials rest on: the teacher, and what it did for the method."""
SHOWN = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200, 300, 500, 1_000, 2_000, 3_000, 5_000, 10_000)
"""Numbers of trials with a column of their own in a table."""


def expected_best(values: Sequence[float], k: int) -> float:
    """The expected maximum of ``k`` of the values, drawn without replacement.

    The i-th smallest of n values is the largest of C(i - 1, k - 1) of the C(n, k) subsets. Its weight, the quotient, is
    k / n for the largest value and falls by (i - k) / (i - 1) from the i-th to the one below.

    That such a curve says more than the best value alone is due to Dodge et al. 2019 (Show Your Work), who draw with
    replacement; for all n trials their estimate lies below the best result that these gave. Without replacement it is
    that result, and the estimate for fewer is unbiased (Tang et al. 2020).

    Raises:
        ValueError: ``k`` is not between 1 and the number of values.
    """
    count = len(values)
    if not 1 <= k <= count:
        raise ValueError(f"the best of {k} out of {count} values is not defined")
    weight, terms = k / count, []
    for place, value in zip(range(count, k - 1, -1), sorted(values, reverse=True), strict=False):
        terms.append(weight * value)
        weight *= (place - k) / max(place - 1, 1)
    return math.fsum(terms)


def best_curve(sweep: Sweep, track: Literal["official", "open"]) -> tuple[float, ...]:
    """The best dev BLEU that 1, 2, ... and all of a sweep's trials would have given.

    On the official track the first trial is always the published one, and the others are drawn: the expected maximum of
    the first and of k - 1 of the others. On the open track each trial depends on those before it, so no other order
    could have been: the best so far.

    A failed trial counts as 0 BLEU: it was paid for and gave nothing. Left out, a method whose settings often fail
    would look better for it.
    """
    first, *others = values = [trial.bleu or 0.0 for trial in sweep.trials]
    if track == "open":
        return tuple(accumulate(values, max))
    either = [max(first, value) for value in others]
    return (first, *(expected_best(either, k) for k in range(1, len(either) + 1)))


def shown_trials(lengths: Iterable[int]) -> tuple[int, ...]:
    """The numbers of trials that a table shows of curves of these lengths: ever fewer, and the last of each."""
    lengths = set(lengths)
    return tuple(sorted({number for number in SHOWN if number < max(lengths)} | lengths))


@dataclass(frozen=True)
class Curve:
    """What the sweep of one method found."""

    row: Row
    """One that came out of it; a method that delivers several students has more."""
    sweep: Sweep

    @cached_property
    def best(self) -> tuple[float, ...]:
        """The best dev BLEU that 1, 2, ... trials would have given."""
        return best_curve(self.sweep, self.row.sample.track)

    @property
    def hours_before(self) -> float:
        """What the trials rest on, in device-hours: the teacher and its work for the method, each in full.

        A teacher's passes during the training belong to that one; each trial has its own, and counts them.
        """
        own = runs(self.row)
        before = (phase for phase in self.row.sample.phases if phase.kind in NEEDED and phase.artifact not in own)
        return sum(phase.device_seconds for phase in before) / 3600

    @property
    def hours_each(self) -> float:
        """Mean cost of a trial in device-hours: wall time times devices."""
        return self.sweep.seconds / len(self.sweep.trials) / 3600

    @property
    def hours(self) -> tuple[float, ...]:
        """Device-hours of 1, 2, ... trials of mean cost, with what comes before them."""
        return tuple(self.hours_before + k * self.hours_each for k in range(1, len(self.sweep.trials) + 1))


def curves(table: Table) -> tuple[Curve, ...]:
    """The sweeps behind a table's placed rows, each once, the best first; of all its rows, if none is placed."""
    found: list[Curve] = []
    for row in [row for row in table.placed if row.sweep] or table.unplaced:
        name, sweep = row.sample.method.name, row.sweep
        if sweep and not any((each.row.sample.method.name, each.sweep) == (name, sweep) for each in found):
            found.append(Curve(row, sweep))
    return tuple(sorted(found, key=lambda curve: (-curve.best[-1], curve.row.sample.method.name)))


def value_names(sweep: Sweep) -> tuple[str, ...]:
    """The dotted names that its trials have values for."""
    return tuple(dict.fromkeys(name for trial in sweep.trials for name in trial.values))


def shared_values(record: Record) -> dict[str, Any]:
    """The winner's values that are not settings of the row's method: they took the place of the recipe's."""
    return shared_part(record.method.name, record.sweep.best.values) if record.sweep else {}


def extent(searched: Any) -> str:
    """A range or a list of values of a sweep's space, in words: ``0.001 to 0.01, by logarithm``."""
    match searched:
        case {"low": low, "high": high, **rest}:
            return f"{low} to {high}" + (", by logarithm" if rest.get("log") else "")
        case {"values": [*values]}:
            return ", ".join(map(str, values))
    return str(searched)
