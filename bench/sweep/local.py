"""Workers on this machine: a process for each attempt, with threads, a device and a limit of memory of its own."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bench.errors import TaskError, UsageError, no_space
from bench.sweep.pool import Attempt, Ended, Handle, Progress, Report, Work
from bench.sweep.slots import Slots

PACKAGE = Path(__file__).resolve().parent.parent.parent
GRACE_SECONDS = 5.0
"""How long a process may take to end after its last word."""
LAST_LINES = 40
"""Of standard error, where the reason of an abort is looked for: faulthandler's trace follows it."""
REASON_CHARACTERS = 500
"""Of an error's first line, what becomes the reason; the log has the rest."""
TAIL_BYTES = 16_000
"""How much of a process's standard error is kept for the log of its death."""
NO_MEMORY = re.compile(
    r"can(no|')t allocate memory|out of memory|\bbad_alloc\b|\bMemoryError\b|_ALLOC_FAILED\b|CUDA [mc]alloc", re.I
)
"""How PyTorch, its libraries and the C++ runtime say it where they raise no class of their own, or abort."""


@dataclass
class _Worker:
    """A process and what is heard of it."""

    process: BaseProcess
    messages: Connection
    errors: Connection
    slot: int
    tail: bytes = b""

    def sources(self) -> list[Any]:
        """What tells that there is something to hear. The sentinel too: a process that the task forked may keep the
        pipes open after the worker's death."""
        return [self.messages, self.process.sentinel, *([] if self.errors.closed else [self.errors])]

    def read_errors(self) -> None:
        """Pass on what the process wrote to standard error, and keep the end of it."""
        while not self.errors.closed:
            try:
                part = os.read(self.errors.fileno(), 65536)
            except BlockingIOError:
                return
            if not part:
                self.errors.close()
            self.tail = (self.tail + part)[-TAIL_BYTES:]
            with contextlib.suppress(OSError, ValueError):  # standard error may be closed
                sys.stderr.write(part.decode("utf-8", "replace"))


class LocalPool:
    """Processes on this machine, started from a server that has loaded the libraries once.

    Args:
        work: what they do; picklable.
        slots: how many at a time, with how many threads, on which devices, within how much memory.
    """

    def __init__(self, work: Work, slots: Slots) -> None:
        self._work, self._slots = work, slots
        self._context = _context(slots.threads)
        self._workers: dict[Handle, _Worker] = {}
        self._handles = itertools.count()

    @property
    def free(self) -> int:
        return self._slots.workers - len(self._workers)

    def start(self, task: Any, attempt: Attempt) -> Handle:
        slot = min(set(range(self._slots.workers)) - {worker.slot for worker in self._workers.values()})
        device = self._slots.devices[slot % len(self._slots.devices)]
        attempt = replace(attempt, device=device, since=time.monotonic())
        messages, message_sender = self._context.Pipe(duplex=False)
        errors, error_sender = self._context.Pipe(duplex=False)
        os.set_blocking(errors.fileno(), False)
        arguments = (task, attempt, self._work, self._slots, message_sender, error_sender)
        process = self._context.Process(target=_child, args=arguments, daemon=True)
        process.start()
        message_sender.close()
        error_sender.close()
        handle = next(self._handles)
        self._workers[handle] = _Worker(process, messages, errors, slot)
        return handle

    def poll(self, timeout: float) -> list[tuple[Handle, Progress | Ended]]:
        heard = {source: handle for handle, worker in self._workers.items() for source in worker.sources()}
        found = []
        for handle in sorted({heard[source] for source in wait(list(heard), timeout)}):
            message = self._hear(self._workers[handle])
            if isinstance(message, Ended):
                self._remove(handle, GRACE_SECONDS)
            if message:
                found.append((handle, message))
        return found

    def stop(self, handle: Handle) -> None:
        if handle in self._workers:  # Ctrl-C may fall between an attempt's end and the caller's hearing of it
            self._remove(handle, 0)

    def close(self) -> None:
        for handle in list(self._workers):
            self.stop(handle)

    def _hear(self, worker: _Worker) -> Progress | Ended | None:
        worker.read_errors()
        if worker.messages.poll():
            with contextlib.suppress(EOFError, OSError):
                return worker.messages.recv()
            worker.process.join(GRACE_SECONDS)
            worker.process.kill()  # one that has closed its pipes and goes on could never be heard again
            worker.process.join()
        if worker.process.exitcode is None:
            return None
        worker.read_errors()
        return _death(worker.process.exitcode, worker.tail.decode("utf-8", "replace"))

    def _remove(self, handle: Handle, grace: float) -> None:
        worker = self._workers[handle]
        worker.process.join(grace)  # a task may leave threads behind that would never end
        worker.process.kill()
        worker.process.join()
        worker.messages.close()
        worker.errors.close()
        del self._workers[handle]


def _death(code: int, said: str) -> Ended:
    """How a process ended that did not say so itself."""
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    reason, log = f"the process was {how}", _publishable(said)
    if code == -signal.SIGKILL:
        return Ended("killed", f"{reason} (out of memory?)", log)
    # The C++ runtime aborts where nobody catches a failed allocation, and OpenMP's exits: after having said so.
    last = log.splitlines()[-LAST_LINES:] if code > 0 or code == -signal.SIGABRT else []
    if line := next((line for line in last if NO_MEMORY.search(line)), None):
        return Ended("out of memory", f"out of memory: {reason}: {line}", log)
    return Ended("killed" if code < 0 else "exception", reason, log)


def _context(threads: int) -> Any:
    """Processes that start from a server which has loaded the libraries once; threads are set before it does."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # torch._dynamo: an optimiser imports it when it is made, which would cost every training seconds.
    context.set_forkserver_preload(["bench.phases", "torch._dynamo"])
    return context


def _child(task: Any, attempt: Attempt, work: Work, slots: Slots, messages: Connection, errors: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver hears it and stops us
    os.dup2(errors.fileno(), 2)
    errors.close()
    faulthandler.enable()
    import torch

    threading.Thread(target=die_with_parent, daemon=True).start()
    torch.set_num_threads(slots.threads)

    def report(done: int, total: int, note: str, value: tuple[int, float] | None = None) -> None:
        messages.send(Progress(done, total, note, value))

    with contextlib.suppress(BrokenPipeError):
        messages.send(_outcome(task, attempt, work, report, None if task.trusted else slots.memory))


def _outcome(task: Any, attempt: Attempt, work: Work, report: Report, memory: int | None) -> Ended:
    lift = _limit_memory(memory)
    try:
        work(task, attempt, report)
        return Ended("done")
    except UsageError as error:
        return Ended("usage", str(error))
    except Exception as error:
        lift()  # the frames of the traceback still hold what was allocated, and the report needs memory too
        if no_space(error):
            place = getattr(error, "filename", None) or "the run folder"
            return Ended("usage", f"no space left on the device that holds {place}.")
        return _failed(error)


def _limit_memory(memory: int | None) -> Callable[[], None]:
    """Make allocations fail that would give this process ``memory`` bytes more than it has; returns what lifts it.

    The limit is the one on data: what is private and writable. The one on address space would count the code of the
    libraries, memory-mapped corpora and what allocators only reserve; none on resident memory is enforced.
    """
    if memory is None or sys.platform != "linux":
        return lambda: None
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[5])
    limit = pages * resource.getpagesize() + memory
    hard = before[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, before)


def _failed(error: Exception) -> Ended:
    first = (str(error).strip().splitlines() or [""])[0]
    name, log = type(error).__name__, _publishable("".join(traceback.format_exception(error)))
    if isinstance(error, TaskError):  # the message says all there is to say
        state: Any = error.state
        return Ended(state, _publishable(first or name), log)
    state = "exception"
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or NO_MEMORY.search(str(error)):
        state = name = "out of memory"
    return Ended(state, _publishable(f"{name}: {first}" if first else name)[:REASON_CHARACTERS], log)


def _publishable(text: str) -> str:
    """A text as a record may hold it: UTF-8, even where it quotes what is not, and without folders of this machine."""
    for folder, short in ((f"{PACKAGE}{os.sep}", ""), (sys.prefix, "<python>"), (str(Path.home()), "~")):
        text = text.replace(folder, short)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def die_with_parent() -> None:
    """End this process when the driver is gone, however it went, so that no orphan goes on computing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
