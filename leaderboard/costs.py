"""What a row costs, three ways and altogether; in CO2e and money only by factors that the user states."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bench.results import Phase, Record
from leaderboard.spread import Spread

EXTENTS = {
    "student": ("the training of the student alone", {"training"}),
    "with the teacher's share": (
        "and what the method needed of the teacher: its passes during the training or once before it, or the decoding "
        "of the corpus",
        {"training", "distillation"},
    ),
    "with the teacher's training": (
        "and the teacher's own training, divided over the rows of its table that came out of it",
        {"training", "distillation", "teacher"},
    ),
    "everything": (
        "and tokenizer, encoding, the trials behind the settings, and evaluation",
        {"training", "distillation", "teacher", "common", "tuning", "evaluation"},
    ),
}
"""The totals: which kinds of phase each of them adds up."""
KILOWATT_HOUR = 3.6e6


@dataclass(frozen=True)
class Factors:
    """What turns energy into CO2e, and device time into money."""

    grams_per_kwh: float | None = None
    """Of CO2e, of the grid that the machine is fed from."""
    price_per_hour: float | None = None
    """Of one device."""
    currency: str = ""

    def grams(self, joules: float | None) -> float | None:
        """CO2e of so much energy; None where the energy was not measured, or no factor is stated."""
        if joules is None or self.grams_per_kwh is None:
            return None
        return joules / KILOWATT_HOUR * self.grams_per_kwh

    def price(self, device_seconds: float) -> float | None:
        """Of so much device time; None where no price is stated."""
        return None if self.price_per_hour is None else device_seconds / 3600 * self.price_per_hour


@dataclass(frozen=True)
class Total:
    """A row's share of some kinds of phase, the mean over its seeds."""

    name: str
    what: str
    seconds: Spread
    """Device-seconds."""
    flops: float | None
    joules: float | None
    """None where a phase was not measured."""


def totals(records: Sequence[Record]) -> tuple[Total, ...]:
    """The totals of a row by its finished records; none where there is no such record.

    A phase that several rows share is divided by their number.
    """
    if not records:
        return ()
    return tuple(_total(name, what, kinds, records) for name, (what, kinds) in EXTENTS.items())


def added(rows: Sequence[Sequence[Total]]) -> tuple[Total, ...]:
    """The totals of several rows together: what one run for all of them took, where they share it."""
    return tuple(
        replace(
            of_all[0],
            seconds=Spread(sum(each.seconds.mean for each in of_all), None, 1),
            flops=_sum(each.flops for each in of_all),
            joules=_sum(each.joules for each in of_all),
        )
        for of_all in zip(*rows)
    )


def _total(name: str, what: str, kinds: set[str], records: Sequence[Record]) -> Total:
    counted = [[phase for phase in record.phases if phase.kind in kinds] for record in records]
    seconds = Spread.of([sum(phase.charged for phase in phases) for phases in counted])
    assert seconds is not None  # there is a record
    return Total(
        name, what, seconds, _mean(counted, lambda phase: phase.flops), _mean(counted, lambda phase: phase.joules)
    )


def _mean(counted: Sequence[Sequence[Phase]], value: Callable[[Phase], float | None]) -> float | None:
    sums = []
    for phases in counted:
        known = [(found, phase.shared_by) for phase in phases if (found := value(phase)) is not None]
        if len(known) < len(phases):
            return None
        sums.append(sum(found / sharers for found, sharers in known))
    return statistics.fmean(sums)


def _sum(values: Iterable[float | None]) -> float | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None
