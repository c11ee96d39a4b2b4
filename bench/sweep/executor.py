"""Schedules a graph of tasks over a pool of workers: one task's failure, or its process's death, is its alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from bench.errors import UsageError
from bench.sweep.local import LocalPool
from bench.sweep.pool import Attempt, Ended, Handle, Pool, Progress, State, Work
from bench.sweep.slots import Slots

POLL_SECONDS = 0.5
DEATHS = 3
"""How often a task's process may be killed before the task has failed."""
LOSSES = 10
"""How often a task's worker may be lost, which is not the task's fault, before the task has failed."""


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
    @property
    def prompt(self) -> bool:
        """Whether it goes before all longer work, because something is learnt from it."""

    @property
    def trusted(self) -> bool:
        """Whether no plug-in's code runs in it, so that it needs no limits of memory and silence."""

    @property
    def divisible(self) -> bool:
        """Whether a training's micro-batches can be cut in parts, to need less memory."""

    @property
    def tolerant(self) -> bool:
        """Whether the task is carried out also where tasks that it needs have failed, once none is under way."""


@dataclass(frozen=True)
class Failure:
    """Why a task did not finish: one line for the reader, and the log."""

    reason: str
    log: str = ""
    origin: str = ""
    """The label of the task that failed first, where that was another one."""
    state: State = "exception"
    seconds: float = 0.0
    """Wall time spent on the task, all attempts together."""

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}" if self.origin else self.reason


class Watcher(Protocol):
    """Is told how the tasks fare, and may steer them."""

    def assign(self, task: Any) -> Any:
        """What only the driver knows and the task is to be given; asked once, just before its first attempt."""

    def started(self, task: Any) -> None:
        """An attempt has begun: the first, or another one after the worker died or ran out of memory."""

    def advanced(self, task: Any, done: int, total: int, note: str, value: tuple[int, float] | None) -> str | None:
        """The task is so far; a sentence in return stops it as pruned, with that reason."""

    def finished(self, task: Any, failure: Failure | None) -> None:
        """The task is done, has failed, or will not be started."""


def execute(
    tasks: Iterable[Node],
    work: Work,
    slots: Slots,
    watcher: Watcher,
    *,
    pool: Pool | None = None,
    known: Mapping[str, Failure] | None = None,
) -> dict[str, Failure]:
    """Carry out all tasks, each after what it needs; the prompt ones first, then the one with the most work behind it.

    An attempt at a divisible task that ran out of memory is repeated once with each micro-batch cut in half. One whose
    process was killed is repeated until ``DEATHS`` in a row have died at the same place. Nothing else is tried again.

    Args:
        pool: the workers; by default processes on this machine, as ``slots`` says. A pool that is given stays open.
        known: failures of an earlier run that stand, by task key: these tasks are not started.

    Returns:
        The failures by task key. A task whose need failed fails with that reason and is not started, unless it is
        tolerant.

    Raises:
        UsageError: a task met wrong input or a full disk: what nobody but the user can mend, so the rest is stopped.
        KeyboardInterrupt: after the workers have been stopped.
    """
    with contextlib.ExitStack() as stack:
        if pool is None:
            pool = stack.enter_context(contextlib.closing(LocalPool(work, slots)))
        run = _Run({task.key: task for task in tasks}, pool, slots.silence, watcher)
        stack.callback(run.stop)
        return run.to_the_end(known or {})


def urgency(tasks: Iterable[Node]) -> dict[str, float]:
    """The work on the longest chain from each task to the end of the graph, by task key.

    Args:
        tasks: each after what it needs.
    """
    behind: dict[str, float] = {}
    tasks = list(tasks)
    # The reverse order meets every dependent first.
    for task in reversed(tasks):
        behind[task.key] = behind.get(task.key, 0.0) + task.work
        for need in task.needs:
            behind[need.key] = max(behind.get(need.key, 0.0), behind[task.key])
    return {task.key: behind[task.key] for task in tasks}


def turn(task: Node, behind: Mapping[str, float]) -> tuple[bool, float]:
    """Where a task that is ready stands in line, given :func:`urgency`; the smallest goes first."""
    return not task.prompt, -behind[task.key]


@dataclass
class _Course:
    """What has become of a task that was started."""

    attempt: Attempt
    deaths: int = 0
    losses: int = 0
    spent: float = 0.0
    """Seconds of the attempts that have ended."""
    began: float = 0.0
    heard: float = 0.0
    furthest: int = 0
    """When the attempt under way began, and when it last said something."""


@dataclass
class _Run:
    """The state of one execution."""

    waiting: dict[str, Node]
    pool: Pool
    silence: float
    watcher: Watcher
    running: dict[Handle, Node] = field(default_factory=dict)
    courses: dict[str, _Course] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    failures: dict[str, Failure] = field(default_factory=dict)

    def to_the_end(self, known: Mapping[str, Failure]) -> dict[str, Failure]:
        first = urgency(self.waiting.values())
        for key in [key for key in self.waiting if key in known]:
            self._fail(self.waiting.pop(key), known[key])
        while True:
            self._cascade()
            if not self.waiting and not self.running:
                return self.failures
            settled = {*self.done, *self.failures}
            ready = [
                task
                for task in self.waiting.values()
                if all(need.key in settled or need.key not in first for need in task.needs)
            ]
            for task in sorted(ready, key=lambda task: turn(task, first))[: self.pool.free]:
                self._start(task)
            for handle, message in self.pool.poll(POLL_SECONDS):
                if handle in self.running:
                    self._hear(handle, message)
            self._stop_silent()

    def stop(self) -> None:
        for handle in self.running:
            self.pool.stop(handle)
        self.running.clear()

    def _start(self, task: Node) -> None:
        if task.key not in self.courses:
            self.courses[task.key] = _Course(Attempt(self.watcher.assign(task)))
        course = self.courses[task.key]
        del self.waiting[task.key]
        self.running[self.pool.start(task, course.attempt)] = task
        course.began = course.heard = time.monotonic()
        self.watcher.started(task)

    def _hear(self, handle: Handle, message: Progress | Ended) -> None:
        task = self.running[handle]
        course = self.courses[task.key]
        if isinstance(message, Ended):
            self._end(handle, message)
            return
        course.heard = time.monotonic()
        if message.done > course.furthest:  # what it went through before does not count against it
            course.furthest, course.deaths = message.done, 0
        wish = self.watcher.advanced(task, message.done, message.total, message.note, message.value)
        if wish is not None:
            self.pool.stop(handle)
            self._end(handle, Ended("pruned", wish))

    def _end(self, handle: Handle, ended: Ended) -> None:
        """An attempt is over: the task is done, has failed, or is tried again."""
        task = self.running.pop(handle)
        course = self.courses[task.key]
        course.spent += time.monotonic() - course.began
        state, reason = ended.state, ended.reason
        if state == "done":
            self.done.add(task.key)
            self.watcher.finished(task, None)
            return
        if state == "usage":
            raise UsageError(reason)
        if state == "lost":
            course.losses += 1
            if course.losses < LOSSES:
                self.waiting[task.key] = task
                return
            state, reason = "killed", f"{reason}, the last of {LOSSES} workers"
        elif state == "killed":
            course.deaths += 1
            if course.deaths < DEATHS:
                self.waiting[task.key] = task
                return
            reason = f"{reason}, the last of {DEATHS} attempts"
        elif state == "out of memory" and task.divisible:
            if course.attempt.splits == 1:
                course.attempt = replace(course.attempt, splits=2)
                self.waiting[task.key] = task
                return
            reason = f"{reason}; half the micro-batch did not fit either"
        self._fail(task, Failure(reason, ended.log, state=state, seconds=course.spent))

    def _stop_silent(self) -> None:
        now = time.monotonic()
        for handle, task in list(self.running.items()):
            if now - self.courses[task.key].heard > self.silence and not task.trusted:
                self.pool.stop(handle)
                self._end(handle, Ended("timed out", f"no progress for {self.silence:g} s"))

    def _cascade(self) -> None:
        """Fail what waits for a failed task, with the name of the one that failed first."""
        for task in list(self.waiting.values()):
            cause = next((need for need in task.needs if need.key in self.failures), None)
            if cause is not None and not task.tolerant:
                failure = self.failures[cause.key]
                del self.waiting[task.key]
                self._fail(task, replace(failure, origin=failure.origin or cause.label, seconds=0.0))

    def _fail(self, task: Node, failure: Failure) -> None:
        self.failures[task.key] = failure
        self.watcher.finished(task, failure)
