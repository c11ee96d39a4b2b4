"""Work that is compared is timed in turn, round after round: a machine that slows down slows all of it down alike.

Ratios are taken within each round, so that they are steadier than the rates they compare.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

LEAST_SECONDS = 0.1
"""What takes less is repeated within a round."""
MOST_REPEATS = 1000


class Part(NamedTuple):
    """A piece of work to be timed."""

    run: Callable[[], object]
    units: float
    """How much it does: tokens, sentences, operations."""
    flops: float = 0.0
    share: float = 1.0
    """How much it counts among the parts of a work."""


class Sample(NamedTuple):
    """What one round gave for a work: the means of its parts by their shares."""

    seconds: float
    units: float
    flops: float

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds

    @property
    def flop_rate(self) -> float:
        """Operations a second."""
        return self.flops / self.seconds


Name = TypeVar("Name")
Work = Callable[[int], Sequence[Part]]
"""Gives what is to be timed in a round; 0 warms up."""
Timed = Callable[[Callable[[], object]], float]
"""Carries work out and gives its seconds, waiting for what it queued."""


@dataclass(frozen=True)
class Figure:
    """A number that each round gave."""

    median: float
    spread: float
    """Highest less lowest, by the median."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure:
        """Over all rounds, at least one."""
        found = list(values)
        median = statistics.median(found)
        return cls(median, (max(found) - min(found)) / median if median else 0.0)


def interleaved(
    works: Mapping[Name, Work], rounds: int, timed: Timed, *, announce: Callable[[str], object] = lambda _: None
) -> dict[Name, list[Sample]]:
    """Time all works in each round, there and back again; one round before warms up and is dropped.

    Short parts are repeated within a round, as often as the warm-up tells.
    """
    found: dict[Name, list[Sample]] = {name: [] for name in works}
    repeats: dict[tuple[Name, int], int] = {}
    for number in range(rounds + 1):
        announce(f"round {number} of {rounds}" if number else "warming up")
        for name in list(works)[:: 1 if number % 2 else -1]:
            seconds = units = flops = 0.0
            for place, part in enumerate(works[name](number)):
                times = repeats.get((name, place), 1)
                took = timed(_repeated(part.run, times)) / times
                if number == 0 and took < 10 * LEAST_SECONDS:
                    # The very first call may have taken long for what no later one does.
                    again = max(timed(part.run), LEAST_SECONDS / MOST_REPEATS)
                    repeats[name, place] = math.ceil(LEAST_SECONDS / again)
                seconds, units = seconds + part.share * took, units + part.share * part.units
                flops += part.share * part.flops
            if number:
                found[name].append(Sample(seconds, units, flops))
    return found


def ratio(one: Iterable[float], other: Iterable[float]) -> Figure:
    """Of two rates, round by round."""
    return Figure.of(a / b for a, b in zip(one, other, strict=True))


def _repeated(run: Callable[[], object], times: int) -> Callable[[], None]:
    def several() -> None:
        for _ in range(times):
            run()

    return several
