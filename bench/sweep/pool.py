"""What the executor and the pools of workers say to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bench.results import State

Report = Callable[..., None]
"""``report(done, total, note, value=None)``: how far a task is; after a training's evaluation ``value`` is its number
and a measure on dev, higher is better."""


@dataclass(frozen=True)
class Attempt:
    """What a task is told besides itself."""

    given: Any = None
    """What only the driver knows and the task needs; picklable."""
    splits: int = 1
    """Into how many parts each micro-batch is cut: 2 after the task ran out of memory."""
    device: str = "cpu"
    """Where it computes; the pool fills this in."""
    since: float | None = None
    """``time.monotonic()`` when the pool was asked, where the worker has the same clock."""


Work = Callable[[Any, Attempt, Report], Any]
"""Carries out a task. Must be picklable. An exception with an attribute ``state`` fails the task in that state."""


@dataclass(frozen=True)
class Progress:
    """How far an attempt is."""

    done: int
    total: int
    note: str
    value: tuple[int, float] | None = None


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: well, in a state of failure, or with ``usage``, what only the user can mend; ``lost`` is
    the worker's own end and not the task's fault."""

    state: State | Literal["done", "usage", "lost"]
    reason: str = ""
    log: str = ""


Handle = int
"""Names an attempt to the pool that carries it out."""


class Pool(Protocol):
    """Workers that carry out attempts at tasks, one at a time each."""

    @property
    def free(self) -> int:
        """How many attempts can be started now."""

    def start(self, task: Any, attempt: Attempt) -> Handle:
        """Begin an attempt on a free worker, on that worker's device."""

    def poll(self, timeout: float) -> list[tuple[Handle, Progress | Ended]]:
        """What there is to hear, waiting for it ``timeout`` seconds at most. After ``Ended`` the handle is void."""

    def stop(self, handle: Handle) -> None:
        """Stop an attempt; nothing more is heard of it."""

    def close(self) -> None:
        """Stop all attempts and give back what the pool holds."""
