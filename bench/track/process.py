"""Tracks in a process of its own, so that a tracker which fails, hangs or dies does so alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bench.sweep.local import die_with_parent
from bench.track.comet import CometTracker
from bench.track.experiment import Experiment

PATIENCE_SECONDS = 120.0
"""How long one experiment may take, its process's start included: more than comet-ml's own limits together."""
GRACE_SECONDS = 5.0
"""How long the process may take to end."""
REASON_CHARACTERS = 300
"""Of an error, what becomes the warning."""

Describe = Callable[[], Experiment]


class Tracking(AbstractContextManager["Tracking"]):
    """Hands experiments to a process of the lowest priority, one after the other.

    The first failure, or the first silence longer than ``patience``, is one warning and switches tracking off for the
    rest of the run. At its end the run waits for what is under way, at most ``patience`` for each experiment; a run
    that ends with an error does not wait. What was not tracked is tracked by the next run.

    Args:
        folder: of the tracker.
        warn: is told, once and from another thread, why tracking was switched off.
        patience: seconds.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None], patience: float = PATIENCE_SECONDS) -> None:
        self._folder, self._warn, self._patience = folder, warn, patience
        self._waiting: queue.SimpleQueue[Describe | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process: BaseProcess | None = None
        self._given_up = False

    def track(self, describe: Describe) -> None:
        """Have an experiment tracked. Returns at once and never raises; ``describe`` is called in the process.

        Args:
            describe: picklable.
        """
        self._waiting.put(describe)
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name="tracking", daemon=True)
            self._thread.start()

    def __exit__(self, error: Any, *_: Any) -> None:
        self._given_up = error is not None
        if self._given_up and self._process:
            self._process.kill()
        self._waiting.put(None)
        if self._thread:
            self._thread.join()

    def _deliver(self) -> None:
        """Give the process one experiment after the other, until all are done or one is not."""
        try:
            with contextlib.ExitStack() as stack:
                process, connection = self._started(stack)
                while not self._given_up and (describe := self._waiting.get()) is not None:
                    connection.send(describe)
                    if not connection.poll(self._patience):
                        process.kill()
                        raise TimeoutError(f"no answer for {self._patience:g} s")
                    if reason := connection.recv():
                        raise RuntimeError(reason)
        except Exception as error:
            if not self._given_up:
                said = "its process ended" if isinstance(error, EOFError | ConnectionError) else str(error)
                self._warn(f"tracking is off for the rest of this run, which is not affected: {said}")

    def _started(self, stack: contextlib.ExitStack) -> tuple[BaseProcess, Connection]:
        """A new process and the connection to it; the stack ends both."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, self._folder), daemon=True)
        process.start()
        self._process = process
        there.close()
        stack.callback(process.kill)
        stack.callback(process.join, GRACE_SECONDS)
        stack.callback(here.close)
        return process, here


def _serve(connection: Connection, folder: Path) -> None:
    """Track what comes until the driver closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver hears it and stops us
    threading.Thread(target=die_with_parent, daemon=True).start()
    os.nice(19)  # never at the expense of what is being measured
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    tracker = CometTracker(folder)
    with contextlib.suppress(EOFError, OSError):
        while True:
            describe = connection.recv()
            connection.send(_outcome(tracker, describe))
    os._exit(0)  # comet-ml's threads and its own wait at the end have nothing left to do


def _outcome(tracker: CometTracker, describe: Describe) -> str | None:
    """Why an experiment could not be tracked, in one line; None if it was."""
    try:
        tracker.track(describe())
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:REASON_CHARACTERS]
    return None
