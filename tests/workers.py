"""Tasks for the executor's tests; what a worker runs must be importable in another process."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.store import write_text
from bench.sweep.executor import Failure, Slots, execute

PATIENCE = 60.0


@dataclass(frozen=True)
class Node:
    """A task that does one of ``DEEDS``, and leaves traces in ``folder``."""

    key: str
    needs: tuple[Node, ...] = ()
    work: float = 1.0
    deed: str = "nothing"
    folder: str = "."

    @property
    def label(self) -> str:
        return f"task {self.key}"


@dataclass
class Log:
    """A watcher that remembers."""

    order: list[str] = field(default_factory=list)
    news: list[tuple[str, int, int, str]] = field(default_factory=list)
    ended: dict[str, Failure | None] = field(default_factory=dict)

    def started(self, task: Node) -> None:
        self.order.append(task.key)

    def advanced(self, task: Node, done: int, total: int, note: str) -> None:
        self.news.append((task.key, done, total, note))

    def finished(self, task: Node, failure: Failure | None) -> None:
        self.ended[task.key] = failure


class Interrupting(Log):
    """A watcher that presses Ctrl-C at the first news."""

    def advanced(self, task: Node, done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt


def act(task: Node, report: Callable[[int, int, str], None]) -> None:
    """The work: first a trace with the process's number, then the deed."""
    write_text(Path(task.folder) / f"{task.key}.pid", str(os.getpid()))
    DEEDS[task.deed](task, report)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether the process still runs; one that has ended but was not collected does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def pid_of(folder: Path, key: str) -> int:
    """The process that carries out a task, once it has begun."""
    path = folder / f"{key}.pid"
    wait_for(lambda: path.exists() and path.read_text(), path.name)
    return int(path.read_text())


def drive(folder: str) -> None:
    """A driver with two workers that never end."""
    execute([Node(key, deed="sleep", folder=folder) for key in "ab"], act, Slots(2, 1), Log())


def _raise(error: BaseException) -> Callable[[Node, Any], None]:
    def deed(task: Node, report: Any) -> None:
        raise error

    return deed


def _report(task: Node, report: Callable[[int, int, str], None]) -> None:
    report(1, 2, "half")
    report(2, 2, "whole")


def _announce_and_sleep(task: Node, report: Callable[[int, int, str], None]) -> None:
    report(0, 1, "here")
    time.sleep(PATIENCE)


def _meet(task: Node, report: Any) -> None:
    """End only when another process does this too."""
    wait_for(lambda: len(list(Path(task.folder).glob("*.pid"))) > 1, "the other one", 20)


def _threads(task: Node, report: Any) -> None:
    import torch

    (Path(task.folder) / "threads").write_text(str(torch.get_num_threads()))


DEEDS: dict[str, Callable[[Node, Any], None]] = {
    "nothing": lambda task, report: None,
    "report": _report,
    "sleep": lambda task, report: time.sleep(PATIENCE),
    "announce": _announce_and_sleep,
    "meet": _meet,
    "threads": _threads,
    "raise": _raise(ValueError("a reason\nand more")),
    "raise nothing": _raise(ValueError()),
    "raise undecodable": _raise(ValueError("file \udcff")),
    "memory": _raise(MemoryError()),
    "device memory": _raise(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 TB")),
    "usage": _raise(UsageError("the vocabulary is too small.")),
    "full": _raise(OSError(errno.ENOSPC, "No space left on device", "/some/file")),
    "quota": _raise(OSError(errno.EDQUOT, "Quota exceeded")),
    "full array": _raise(OSError("1000 requested and 24 written")),
    "full tensors": _raise(RuntimeError("I/O error: No space left on device (os error 28)")),
    "other file": _raise(FileNotFoundError(errno.ENOENT, "No such file or directory", "/some/file")),
    "kill": lambda task, report: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda task, report: sys.exit(3),
    "vanish": lambda task, report: os._exit(0),
}
