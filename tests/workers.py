"""Tasks for the executor's tests; what a worker runs must be importable in another process."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import TaskError, UsageError
from bench.store import write_text
from bench.sweep.cluster import RayPool
from bench.sweep.executor import Failure, execute
from bench.sweep.pool import Attempt, Report
from bench.sweep.slots import Slots

PATIENCE = 60.0
LONGEST_WAIT = 200.0
"""Seconds until a test gives up on what others do: slow machines with busy neighbours take over a minute."""
PIECE, PIECES = 1 << 20, 4096
"""Bytes, and how many of them: 4 GiB in all, which is past any limit of the tests."""


@dataclass(frozen=True)
class Node:
    """A task that does one of ``DEEDS``, and leaves traces in ``folder``."""

    key: str
    needs: tuple[Node, ...] = ()
    work: float = 1.0
    deed: str = "nothing"
    folder: str = "."
    tolerant: bool = False
    divisible: bool = True
    trusted: bool = False
    prompt: bool = False

    @property
    def label(self) -> str:
        return f"task {self.key}"


@dataclass
class Log:
    """A watcher that remembers, and gives each task what ``given`` has for it."""

    given: dict[str, Any] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    news: list[tuple[str, int, int, str, float | None]] = field(default_factory=list)
    ended: dict[str, Failure | None] = field(default_factory=dict)

    def assign(self, task: Node) -> Any:
        return self.given.pop(task.key, None)  # once

    def started(self, task: Node) -> None:
        self.order.append(task.key)

    def advanced(self, task: Node, done: int, total: int, note: str, value: tuple[int, float] | None) -> str | None:
        self.news.append((task.key, done, total, note, value))
        return None

    def finished(self, task: Node, failure: Failure | None) -> None:
        self.ended[task.key] = failure


class Interrupting(Log):
    """A watcher that presses Ctrl-C at the first news."""

    def advanced(self, task: Node, done: int, total: int, note: str, value: tuple[int, float] | None) -> str | None:
        raise KeyboardInterrupt


def act(task: Node, attempt: Attempt, report: Report) -> None:
    """The work: first a trace with the process's number and one of the attempt, then the deed."""
    write_text(Path(task.folder) / f"{task.key}.pid", str(os.getpid()))
    with _attempts(task).open("a", encoding="utf-8") as file:
        file.write(json.dumps(vars(attempt)) + "\n")
    DEEDS[task.deed](task, report)


def _attempts(task: Node) -> Path:
    return Path(task.folder) / f"{task.key}.attempts"


def attempts_at(task: Node) -> list[Attempt]:
    """What each attempt at the task was told."""
    return [Attempt(**json.loads(line)) for line in _attempts(task).read_text(encoding="utf-8").splitlines()]


def wait_for(condition: Callable[[], Any], what: str, seconds: float = LONGEST_WAIT) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


def processes() -> Iterator[tuple[int, list[str]]]:
    """All that run: the number of each, and from its state on what the kernel tells (proc_pid_stat(5))."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            text = path.read_text()
            yield int(path.parent.name), text.rpartition(")")[2].split()


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


def drive_on_ray(folder: str) -> None:
    """The same on a Ray cluster that is started for it."""
    slots = Slots(2, 1)
    with contextlib.closing(RayPool(act, slots, "ray", folder=Path(folder))) as pool:
        execute([Node(key, deed="sleep", folder=folder) for key in "ab"], act, slots, Log(), pool=pool)


class DivergenceError(TaskError):
    state = "not finite"


def _raise(error: BaseException) -> Callable[[Node, Any], None]:
    def deed(task: Node, report: Any) -> None:
        raise error

    return deed


def _report(task: Node, report: Report) -> None:
    report(1, 2, "half")
    report(2, 2, "whole", value=(1, 0.5))


def _announce_and_sleep(task: Node, report: Report) -> None:
    report(0, 1, "here")
    time.sleep(PATIENCE)


def _meet(task: Node, report: Any) -> None:
    """End only when another process does this too."""
    wait_for(lambda: len(list(Path(task.folder).glob("*.pid"))) > 1, "the other one", PATIENCE)


def _threads(task: Node, report: Any) -> None:
    import torch

    (Path(task.folder) / "threads").write_text(str(torch.get_num_threads()))


def _busy(task: Node, report: Report) -> None:
    """Two seconds of work that is heard of all the time."""
    for tenth in range(20):
        report(tenth, 20, "busy")
        time.sleep(0.1)


def _kill(task: Node, report: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_once(task: Node, report: Any) -> None:
    if len(attempts_at(task)) == 1:
        _kill(task, report)


def _kill_at_each_step(task: Node, report: Callable[..., None]) -> None:
    """Five steps; the process is killed after each of them, and the next one starts from there."""
    step = len(attempts_at(task))
    report(step, 5, "a step")
    if step < 5:
        _kill(task, report)


def _need_splits(task: Node, report: Any) -> None:
    if attempts_at(task)[-1].splits == 1:
        raise MemoryError


def _say_and_crash(task: Node, report: Any) -> None:
    print(f"the last words of {__file__}", file=sys.stderr)
    ctypes.string_at(0)


def _leave_a_thread(task: Node, report: Any) -> None:
    threading.Thread(target=time.sleep, args=(PATIENCE,)).start()


def _leave_a_process(task: Node, report: Any) -> None:
    """Die, while a process of one's own keeps all pipes open."""
    if os.fork() == 0:
        time.sleep(15)
        os._exit(0)
    _kill(task, report)


def _grow_in_c(task: Node, report: Any) -> None:
    """C++'s operator new, whose exception nobody catches: the process aborts."""
    new = ctypes.CDLL("libstdc++.so.6")._Znwm
    new.restype, new.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    for _ in range(PIECES):
        new(PIECE)


def _grow(piece: Callable[[int], Any]) -> Callable[[Node, Any], None]:
    def deed(task: Node, report: Any) -> None:
        held = [piece(i) for i in range(PIECES)]
        raise AssertionError(f"{len(held)} MiB and no limit")

    return deed


def _grow_a_string(task: Node, report: Any) -> None:
    text = "x" * PIECE
    for _ in range(PIECES.bit_length()):
        text += text
    raise AssertionError(f"{len(text)} characters and no limit")


def _numbers(i: int) -> list[int]:
    return list(range(i << 15, (i + 1) << 15))


def _array(i: int) -> Any:
    import numpy as np

    return np.zeros(PIECE, np.uint8)


def _tensor(i: int) -> Any:
    import torch

    return torch.zeros(PIECE, dtype=torch.uint8)


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
    "NCCL's memory": _raise(RuntimeError("NCCL error: unhandled cuda error\nFailed to CUDA calloc async 24 bytes")),
    "usage": _raise(UsageError("the vocabulary is too small.")),
    "full": _raise(OSError(errno.ENOSPC, "No space left on device", "/some/file")),
    "quota": _raise(OSError(errno.EDQUOT, "Quota exceeded")),
    "full array": _raise(OSError("1000 requested and 24 written")),
    "full tensors": _raise(RuntimeError("I/O error: No space left on device (os error 28)")),
    "other file": _raise(FileNotFoundError(errno.ENOENT, "No such file or directory", "/some/file")),
    "kill": _kill,
    "kill once": _kill_once,
    "kill at each step": _kill_at_each_step,
    "need splits": _need_splits,
    "diverge": _raise(DivergenceError("loss is not finite at update 3: kd")),
    "busy": _busy,
    "quiet": lambda task, report: time.sleep(1.5),
    "say and crash": _say_and_crash,
    "leave a thread": _leave_a_thread,
    "leave a process": _leave_a_process,
    "grow lists": _grow(_numbers),
    "grow bytes": _grow(lambda i: bytearray(PIECE)),
    "grow a string": _grow_a_string,
    "grow arrays": _grow(_array),
    "grow tensors": _grow(_tensor),
    "grow in C++": _grow_in_c,
    "exit": lambda task, report: sys.exit(3),
    "vanish": lambda task, report: os._exit(0),
}
