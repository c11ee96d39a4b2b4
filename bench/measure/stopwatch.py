"""The wall time of a piece of work over all attempts at it, also those that were killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.store import write_text

EVERY_SECONDS = 1.0
"""How often the time so far is written down: so much of a killed attempt can be missed."""
FIRST_SECONDS = 0.05
"""After which it is written first; then at twice the time until that is longer than ``EVERY_SECONDS``."""


class Stopwatch:
    """Measures the block it is used with, by a clock of its own, and keeps the time in a file while it runs.

    Args:
        path: of the file; whoever finishes the work removes it.
        late: seconds of this attempt that had gone by when the block begins.
        tick: is called as often as the time is written down.
    """

    def __init__(
        self,
        path: Path,
        late: float = 0.0,
        *,
        tick: Callable[[], object] = lambda: None,
        every: float = EVERY_SECONDS,
    ) -> None:
        self._path, self._late, self._tick, self._every = path, late, tick, every
        self._over = threading.Event()
        self.before = self._read()
        """Seconds of earlier attempts."""
        self._began = self._ended = 0.0

    def __enter__(self) -> Self:
        self._began = time.perf_counter() - self._late
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        self._began = time.perf_counter() - self._late  # a thread may take its time to start
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = time.perf_counter()
        self._over.set()
        self._thread.join()
        self._write()

    @property
    def seconds(self) -> float:
        """Of all attempts, up to now or to the end of the block."""
        return self.before + (self._ended or time.perf_counter()) - self._began

    def _keep(self) -> None:
        while not self._over.wait(min(self._every, max(FIRST_SECONDS, time.perf_counter() - self._began))):
            self._write()
            self._tick()

    def _write(self) -> None:
        write_text(self._path, f"{self.seconds:.3f}\n")

    def _read(self) -> float:
        try:
            return max(0.0, float(self._path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return 0.0
