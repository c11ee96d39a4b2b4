"""What sweeps tell from their records: the dev BLEU to expect of so many trials, and what these cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.results import Record, Sweep
from leaderboard.ranking import Row, Table


def expected_best(values: Sequence[float], k: int) -> float:
    """The expected maximum of ``k`` of the values, drawn without replacement.

    The i-th smallest of n values is the largest of C(i - 1, k - 1) of the C(n, k) subsets. That such a curve says more
    than the best value alone is due to Dodge et al. 2019 (Show Your Work), who draw with replacement; for all n trials
    their estimate lies below the best result that these gave. Without replacement it is that result, and the estimate
    for fewer is unbiased (Tang et al. 2020).

    Raises:
        ValueError: ``k`` is not between 1 and the number of values.
    """
    count = len(values)
    if not 1 <= k <= count:
        raise ValueError(f"the best of {k} out of {count} values is not defined")
    subsets = math.comb(count, k)
    return math.fsum(
        value * (math.comb(below, k - 1) / subsets) for below, value in enumerate(sorted(values)) if below >= k - 1
    )


def best_curve(sweep: Sweep) -> tuple[float, ...]:
    """The expected best dev BLEU of 1, 2, ... and all of a sweep's trials.

    A failed trial counts as 0 BLEU: it was paid for and gave nothing. Left out, a method whose settings often fail
    would look better for it.
    """
    values = [trial.bleu or 0.0 for trial in sweep.trials]
    return tuple(expected_best(values, k) for k in range(1, len(values) + 1))


@dataclass(frozen=True)
class Curve:
    """What the sweep of one method found."""

    row: Row
    """One that came out of it; a method that delivers several students has more."""
    sweep: Sweep

    @cached_property
    def best(self) -> tuple[float, ...]:
        """Expected best dev BLEU of 1, 2, ... trials."""
        return best_curve(self.sweep)

    @property
    def hours_each(self) -> float:
        """Mean cost of a trial in device-hours: the wall time of one slot."""
        return self.sweep.seconds / len(self.sweep.trials) / 3600

    @property
    def hours(self) -> tuple[float, ...]:
        """Device-hours of 1, 2, ... trials of mean cost."""
        return tuple(k * self.hours_each for k in range(1, len(self.sweep.trials) + 1))


def curves(table: Table) -> tuple[Curve, ...]:
    """The sweeps behind a table's rows, each once, the best first."""
    found: list[Curve] = []
    for row in table.rows:
        name, sweep = row.sample.method.name, row.sweep
        if sweep and not any((each.row.sample.method.name, each.sweep) == (name, sweep) for each in found):
            found.append(Curve(row, sweep))
    return tuple(sorted(found, key=lambda curve: (-curve.best[-1], curve.row.sample.method.name)))


def value_names(sweep: Sweep) -> tuple[str, ...]:
    """The dotted names that its trials have values for."""
    return tuple(dict.fromkeys(name for trial in sweep.trials for name in trial.values))


def shared_values(record: Record) -> dict[str, Any]:
    """The winner's values that are not settings of the row's method: they took the place of the recipe's."""
    values = record.sweep.best.values if record.sweep else {}
    return {name: value for name, value in values.items() if not name.startswith(f"{record.method.name}.")}


def extent(searched: Any) -> str:
    """A range or a list of values of a sweep's space, in words: ``0.001 to 0.01, by logarithm``."""
    match searched:
        case {"low": low, "high": high, **rest}:
            return f"{low} to {high}" + (", by logarithm" if rest.get("log") else "")
        case {"values": [*values]}:
            return ", ".join(map(str, values))
    return str(searched)
