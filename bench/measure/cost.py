"""Where the time goes: a ledger of named phases that survives a resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Ledger:
    """Wall seconds by phase. A phase opened inside another is charged to itself only, so the phases add up.

    Args:
        seconds: what was charged before.
        synchronise: waits for work that was queued elsewhere, as on a GPU; called before each reading of the clock.
    """

    def __init__(self, seconds: dict[str, float] | None = None, synchronise: Callable[[], None] = lambda: None) -> None:
        self._synchronise = synchronise
        self.seconds: dict[str, float] = dict(seconds or {})
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time spent inside to ``name``."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def snapshot(self) -> dict[str, float]:
        """The seconds so far, the open phase included."""
        self._charge()
        return dict(self.seconds)

    def total(self) -> float:
        """The seconds of all phases so far, without waiting for queued work."""
        return sum(self.seconds.values()) + (time.perf_counter() - self._since if self._open else 0.0)

    def _charge(self) -> None:
        self._synchronise()
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now
