"""One task for several processes of this machine: torchrun starts them, and the caller hears how they fare.

torchrun runs as a program of its own, not through ``elastic_launch`` in this process. That would start the members as
children of a process that may be daemonic and so may have none, would replace its signal handlers, and would block it,
so that progress had to be told from another thread, where an error of the listener stops nothing. Each member has a
socket to the caller: it takes its task from there, tells progress and outcome there, and ends when it is closed, which
it is however the caller ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any, NoReturn

import torch

from bench.errors import TaskError, UsageError

POLL_SECONDS = 0.5
CAUSE_SECONDS = 2.0
END_SECONDS = 60.0
LOG_CHARACTERS = 20_000


class MemberError(TaskError):
    """A member failed with an error that cannot be raised here, or ended without one; the message says why in a line.

    Args:
        state: what a trial or a row that fails so is recorded as.
    """

    def __init__(self, reason: str, state: str = "exception") -> None:
        super().__init__(reason)
        self.state = state


class MemberLog(Exception):  # noqa: N818
    """The cause of an error brought back from a member: its traceback there."""


def together(
    processes: int,
    function: Callable[..., Any],
    *args: Any,
    device: str = "cpu",
    report: Callable[..., None] | None = None,
) -> Any:
    """What ``function(*args, device=..., report=...)`` returns in the first of ``processes`` processes.

    They are the default group of torch.distributed, by gloo and on a GPU also by NCCL, and share the caller's threads.
    All of them have ended when this returns, or raises.

    Args:
        function: picklable, like its arguments and its result.
        device: that of the first process; on a GPU each gets one of its own, counted from there.
        report: is called here with what the first process tells its ``report``; the others have None.

    Raises:
        UsageError: there are not so many devices.
        MemberError: a process ended without an outcome, or with an error that does not travel.
        Exception: what a member raised first, with its traceback there as the cause.
    """
    first, there = torch.device(device).index or 0, torch.cuda.device_count()
    if device != "cpu" and there < first + processes:
        raise UsageError(f"{processes} processes need as many devices from cuda:{first} on, and there are {there}.")
    task = pickle.dumps((function, args))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        log = stack.enter_context(tempfile.TemporaryFile())
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(folder / "caller"))
        server.listen(processes)
        torchrun = stack.enter_context(_torchrun(processes, folder, device, log))
        members: list[Connection] = []
        while len(members) < processes:
            over = torchrun.poll() is not None
            if wait([server], POLL_SECONDS):
                members.append(stack.enter_context(Connection(server.accept()[0].detach())))
            elif over:
                raise _lost(f"only {len(members)} of {processes} processes started", log)
        for member in members:
            with contextlib.suppress(OSError):  # one that has gone already is missed below
                member.send_bytes(task)
        result = _heard(members, torchrun, report, log)
        with contextlib.suppress(subprocess.TimeoutExpired):
            torchrun.wait(END_SECONDS)
        return result


@contextlib.contextmanager
def _torchrun(processes: int, folder: Path, device: str, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The launcher of the members; it is stopped in the end, and they with it."""
    threads = str(max(1, torch.get_num_threads() // processes))
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={processes}"),
            *("--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1", "--max-restarts=0"),
            *(f"--log-dir={folder}", "-m", "bench.train.member", str(folder / "caller"), device),
        ],
        env=os.environ | environment | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,  # Ctrl-C is the caller's to hear
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _heard(
    members: list[Connection],
    torchrun: subprocess.Popen[bytes],
    report: Callable[..., None] | None,
    log: IO[bytes],
) -> Any:
    """Listen to the members until all are done; the first one's result."""
    ranks: dict[Connection, int] = {}
    results: dict[int, Any] = {}
    errors: dict[Connection, dict[str, Any]] = {}
    lost: list[int] = []
    while len(results) < len(members):
        over = torchrun.poll() is not None
        busy = [member for member in members if ranks.get(member) not in results and member not in errors]
        if not wait(busy, POLL_SECONDS) and over and not errors:
            raise _lost("torchrun ended before its processes", log)
        for member in busy:
            messages, gone = _received(member)
            for kind, value in messages:
                if kind == "rank":
                    ranks[member] = value
                elif kind == "result":
                    results[ranks[member]] = value
                elif kind == "error":
                    errors[member] = value
                elif report is not None:
                    report(*value)
            if gone and member not in errors and ranks.get(member) not in results:
                lost.append(ranks.get(member, 0))
        if causes := [error for error in errors.values() if not error["follows"]]:
            _raise(min(causes, key=lambda error: error["time"]))
        if lost:
            name = f"process {lost[0] + 1} of {len(members)}"
            raise _lost(f"{name} ended without a word (killed, or out of memory?)", log)
        if errors:  # what they follow from comes to light a little later, if at all
            first = min(errors.values(), key=lambda error: error["time"])
            if len(errors) + len(results) == len(members) or time.time() - first["time"] > CAUSE_SECONDS:
                _raise(first)
    return results[0]


def _received(member: Connection) -> tuple[list[tuple[str, Any]], bool]:
    """What has come from a member, and whether it has hung up."""
    messages: list[tuple[str, Any]] = []
    try:
        while member.poll():
            messages.append(pickle.loads(member.recv_bytes()))
    except (EOFError, OSError):
        return messages, True
    return messages, False


def _lost(reason: str, log: IO[bytes]) -> MemberError:
    error = MemberError(reason, state="killed")
    log.seek(0)
    error.__cause__ = MemberLog(log.read().decode("utf-8", "replace")[-LOG_CHARACTERS:])
    return error


def _raise(told: dict[str, Any]) -> NoReturn:
    try:
        error = pickle.loads(told["error"])
    except Exception:  # of a class that does not pickle, or is not known here
        error = MemberError(told["reason"], told["state"])
    raise error from MemberLog(told["log"])
