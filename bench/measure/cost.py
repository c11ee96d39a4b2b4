"""Where the time goes: a ledger of named phases that survives a resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

Meter = Callable[[], float | None]
"""Joules used so far, from any start; None where that is not known."""


class Mark(Protocol):
    """A place among a device's queued work, as ``torch.cuda.Event`` is one."""

    def elapsed_time(self, later: Any, /) -> float:
        """Milliseconds from this one to a later one, once both have been reached."""


@dataclass
class Cost:
    """What a phase took."""

    seconds: float = 0.0
    joules: float | None = 0.0
    """None where a part of it was not measured."""
    flops: float = 0.0

    def add(self, other: Cost) -> None:
        """Take what another piece of the phase took."""
        self.seconds += other.seconds
        self.joules = None if self.joules is None or other.joules is None else self.joules + other.joules
        self.flops += other.flops

    def give(self, seconds: float) -> Cost:
        """Give a part of it away: so many seconds, if there are as many, and their share of the joules."""
        seconds = min(seconds, self.seconds)
        joules = self.joules * seconds / self.seconds if self.joules and self.seconds else self.joules
        self.seconds -= seconds
        self.joules = None if self.joules is None or joules is None else self.joules - joules
        return Cost(seconds, joules)


class Ledger:
    """What each phase took. A phase opened inside another is charged to itself only, so the phases add up.

    Args:
        meter: read at each change of phase; without one there are no joules.
        synchronise: waits for work that was queued elsewhere, as on a GPU; called before each reading of the clock.
        mark: puts a mark among that work; None where nothing is queued.
    """

    def __init__(
        self,
        meter: Meter = lambda: None,
        synchronise: Callable[[], None] = lambda: None,
        mark: Callable[[], Mark] | None = None,
    ) -> None:
        self._meter, self._synchronise, self._mark = meter, synchronise, mark
        self._parts: list[tuple[str, Mark, Mark]] = []
        self.costs: dict[str, Cost] = {}
        self.restored = 0.0
        """Seconds that were charged before this process."""
        self._open: list[str] = []
        self._since, self._joules = 0.0, meter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge what is spent inside to ``name``."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The same for short pieces of the open phase, in which no other phase is opened.

        Where work is queued, to wait for it twice a piece would stop the device each time. There the pieces are told
        by marks, and leave the open phase when that is next charged.
        """
        if self._mark is None:
            with self.phase(name):
                yield
            return
        begun = self._mark()
        try:
            yield
        finally:
            self._parts.append((name, begun, self._mark()))

    def add_flops(self, name: str, flops: float) -> None:
        """Charge floating-point operations to a phase."""
        self._cost(name).flops += flops

    def add_seconds(self, name: str, seconds: float, joules: float | None) -> None:
        """Charge time that passed elsewhere to a phase."""
        self._cost(name).add(Cost(seconds, joules))

    def restore(self, costs: Mapping[str, Mapping[str, Any]]) -> None:
        """Add what an earlier process had charged, as its :meth:`snapshot` has it."""
        for name, cost in costs.items():
            self._cost(name).add(Cost(**cost))
            self.restored += cost["seconds"]

    def absorb(self, costs: Mapping[str, Mapping[str, Any]], restored: float) -> None:
        """Take over what another process charged while this one waited for it in its open phase.

        Args:
            costs: the other's snapshot.
            restored: seconds of it that had been charged before.
        """
        self._charge()
        waited = self._cost(self._open[-1])
        waited.seconds -= sum(cost["seconds"] for cost in costs.values()) - restored
        waited.joules = 0.0  # the other process read the same meters
        for name, cost in costs.items():
            self._cost(name).add(Cost(**cost))
        self.restored += restored

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """The costs so far, the open phase included, as JSON."""
        self._charge()
        return {name: asdict(cost) for name, cost in self.costs.items()}

    def seconds(self, names: Collection[str] | None = None) -> float:
        """The seconds of these phases so far, of all if None, without waiting for queued work."""
        within = sum(cost.seconds for name, cost in self.costs.items() if names is None or name in names)
        running = bool(self._open) and (names is None or self._open[-1] in names)
        return within + (time.perf_counter() - self._since if running else 0.0)

    def _cost(self, name: str) -> Cost:
        return self.costs.setdefault(name, Cost())

    def _charge(self) -> None:
        self._synchronise()
        now, joules = time.perf_counter(), self._meter()
        if self._open:
            used = None if joules is None or self._joules is None else joules - self._joules
            spent = Cost(now - self._since, used)
            for name, begun, ended in self._parts:
                self._cost(name).add(spent.give(begun.elapsed_time(ended) / 1000))
            self._parts.clear()
            self._cost(self._open[-1]).add(spent)
        self._since, self._joules = now, joules


def column(costs: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """One of the figures of a snapshot, by phase."""
    return {phase: cost[name] for phase, cost in costs.items()}
