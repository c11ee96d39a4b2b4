"""Runs a graph of tasks in processes of their own: one task's failure, or death, is that task's alone."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, cast

from bench.errors import UsageError, no_space

POLL_SECONDS = 0.5
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
PACKAGE = Path(__file__).resolve().parent.parent.parent


class Node(Protocol):
    """What the executor needs to know of a task."""

    @property
    def key(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def needs(self) -> tuple[Any, ...]: ...
    @property
    def work(self) -> float: ...


@dataclass(frozen=True)
class Failure:
    """Why a task did not finish: one line for the reader, and the log."""

    reason: str
    log: str = ""
    origin: str = ""
    """The label of the task that failed first, where that was another one."""

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}" if self.origin else self.reason


@dataclass(frozen=True)
class Slots:
    """How many tasks run at a time, and how many threads each has."""

    workers: int
    threads: int


class Watcher(Protocol):
    """Is told how the tasks fare."""

    def started(self, task: Any) -> None: ...
    def advanced(self, task: Any, done: int, total: int, note: str) -> None: ...
    def finished(self, task: Any, failure: Failure | None) -> None: ...


Work = Callable[[Any, Callable[[int, int, str], None]], Any]
"""Carries out a task; the second argument takes done, total and a note. Must be picklable."""


def default_slots(device: str) -> Slots:
    """One process of one thread for each core, which for small models beats fewer processes of more threads; one
    process with all threads beside a GPU."""
    cores = usable_cores()
    return Slots(cores, 1) if device == "cpu" else Slots(1, cores)


def usable_cores() -> int:
    """The cores that this process may use: those it is bound to, within a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text(encoding="utf-8").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or "max"
        return cores


def execute(tasks: Iterable[Node], work: Work, slots: Slots, watcher: Watcher) -> dict[str, Failure]:
    """Carry out all tasks, each after what it needs; the one with the most work behind it first.

    Returns:
        The failures by task key. A task whose need failed fails with that reason and is not started.

    Raises:
        UsageError: a task met wrong input or a full disk: what nobody but the user can mend, so the rest is stopped.
        KeyboardInterrupt: after the workers have been stopped.
    """
    waiting = {task.key: task for task in tasks}
    urgency = _urgency(waiting)
    done: set[str] = set()
    failures: dict[str, Failure] = {}
    running: dict[Connection, tuple[Node, BaseProcess]] = {}
    context = _context(slots.threads)
    try:
        while waiting or running:
            _cascade(waiting, failures, watcher)
            ready = [t for t in waiting.values() if all(n.key in done or n.key not in urgency for n in t.needs)]
            for task in sorted(ready, key=lambda t: -urgency[t.key])[: slots.workers - len(running)]:
                del waiting[task.key]
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(task, work, slots.threads, sender), daemon=True)
                process.start()
                sender.close()
                running[receiver] = (task, process)
                watcher.started(task)
            for receiver in wait(list(running), timeout=POLL_SECONDS):
                receiver = cast(Connection, receiver)
                task, process = running[receiver]
                outcome = _receive(receiver, process, lambda *news, t=task: watcher.advanced(t, *news))
                if outcome is None:
                    continue
                del running[receiver]
                receiver.close()
                process.join()
                if outcome.get("usage"):
                    raise UsageError(outcome["usage"])
                failure = Failure(**outcome["failure"]) if outcome.get("failure") else None
                if failure:
                    failures[task.key] = failure
                else:
                    done.add(task.key)
                watcher.finished(task, failure)
    finally:
        for _, process in running.values():
            process.kill()
            process.join()
    return failures


def _cascade(waiting: dict[str, Node], failures: dict[str, Failure], watcher: Watcher) -> None:
    """Fail what waits for a failed task, with the name of the one that failed first."""
    for task in list(waiting.values()):
        for need in task.needs:
            if cause := failures.get(need.key):
                failures[task.key] = Failure(cause.reason, cause.log, cause.origin or need.label)
                del waiting[task.key]
                watcher.finished(task, failures[task.key])
                break


def _urgency(tasks: Mapping[str, Node]) -> dict[str, float]:
    """The work on the longest chain from each task to the end of the graph."""
    behind: dict[str, float] = dict.fromkeys(tasks, 0.0)
    # Tasks come after what they need, so the reverse order meets every dependent first.
    for task in reversed(list(tasks.values())):
        behind[task.key] += task.work
        for need in task.needs:
            if need.key in behind:
                behind[need.key] = max(behind[need.key], behind[task.key])
    return behind


def _receive(receiver: Connection, process: BaseProcess, advance: Callable[..., None]) -> dict[str, Any] | None:
    """The next message's outcome; None where it was mere progress."""
    try:
        message = receiver.recv()
    except (EOFError, OSError):
        process.join()
        code = process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = " (out of memory?)" if how.endswith("SIGKILL") else ""
        return {"failure": {"reason": f"the process was {how}{hint}"}}
    if "progress" in message:
        advance(*message["progress"])
        return None
    return message


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


def _child(task: Node, work: Work, threads: int, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver hears it and stops us
    import torch

    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)

    def report(done: int, total: int, note: str) -> None:
        sender.send({"progress": (done, total, note)})

    try:
        work(task, report)
        outcome: dict[str, Any] = {}
    except UsageError as error:
        outcome = {"usage": str(error)}
    except Exception as error:
        if no_space(error):
            place = getattr(error, "filename", None) or "the run folder"
            outcome = {"usage": f"no space left on the device that holds {place}."}
        else:
            outcome = {"failure": _failure(error)}
    with contextlib.suppress(BrokenPipeError):
        sender.send(outcome)


def _failure(error: Exception) -> dict[str, str]:
    first = (str(error).strip().splitlines() or [""])[0]
    name = "out of memory" if _out_of_memory(error) else type(error).__name__
    texts = {"reason": f"{name}: {first}" if first else name, "log": "".join(traceback.format_exception(error))}
    # A record is UTF-8, and a message may quote what is not. It is also published: no folders of this machine.
    for folder, short in ((f"{PACKAGE}{os.sep}", ""), (sys.prefix, "<python>"), (str(Path.home()), "~")):
        texts = {key: text.replace(folder, short) for key, text in texts.items()}
    return {key: text.encode("utf-8", "backslashreplace").decode("utf-8") for key, text in texts.items()}


def _out_of_memory(error: Exception) -> bool:
    # PyTorch raises its own class on a GPU, and a plain RuntimeError with this text on the CPU.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def _die_with_parent() -> None:
    """End this process when the driver is gone, however it went, so that no orphan goes on computing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
