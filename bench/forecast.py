"""How long a run will take: the time of each task from past runs or a short probe, and the order on the slots."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from bench.estimates import Basis, Estimate, Estimator
from bench.plan import Kind, Task
from bench.request import Prepared
from bench.sweep.executor import Node, turn, urgency

ORDER: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class PhaseForecast:
    """All tasks of one kind."""

    kind: Kind
    there: int
    to_do: int
    device_seconds: float
    """Of what is to do: wall seconds times the processes that share a task."""
    basis: Basis
    """The weakest that any of its estimates rests on."""


@dataclass(frozen=True)
class Forecast:
    """How long a run will take; trainings are taken to use up their budget."""

    estimates: Mapping[str, Estimate]
    """By task key, for what is there and what is to do."""
    phases: tuple[PhaseForecast, ...]
    """In the order of work."""
    wall_seconds: float
    device_hours: float
    critical_path_seconds: float
    """The longest chain of tasks that wait for each other: no number of slots is faster."""
    notes: tuple[str, ...] = ()
    """What was assumed, one sentence each."""


def forecast(
    prepared: Prepared,
    todo: Sequence[Task],
    *,
    probe_seconds: float = 1.0,
    announce: Callable[[str], None] = lambda _: None,
) -> Forecast:
    """How long ``todo`` will take on the slots of the plan.

    What a past run of the same run folder on the same kind of machine did tells it; where there is none, random models
    of the planned shapes are timed here.

    Args:
        probe_seconds: about how long each distinct training is timed.
        announce: is told what is being timed.
    """
    estimator = Estimator(prepared, probe_seconds, announce)
    known = {task.key: task for task in (*prepared.plan.tasks, *todo)}.values()
    keys = {task.key for task in todo}
    there = {
        task.key: Estimate(0.0, "there")
        for task in known
        if task.key not in keys and prepared.store.find(task.kind, task.key)
    }
    estimates = there | {task.key: estimator.estimate(task) for task in todo}
    seconds = {key: each.seconds for key, each in estimates.items()}
    charged = {task.key: seconds[task.key] * estimator.processes(task) for task in todo}
    phases = []
    for kind in ORDER:
        found = [task for task in known if task.kind == kind and task.key in estimates]
        mine = [task for task in found if task.key in keys]
        if found:
            basis = max((estimates[task.key].basis for task in mine or found), key=get_args(Basis).index)
            phases.append(
                PhaseForecast(kind, len(found) - len(mine), len(mine), sum(charged[task.key] for task in mine), basis)
            )
    # Speed is measured alone on the machine, after all else.
    together = [task for task in todo if task.kind != "speed"]
    alone = sum(seconds[task.key] for task in todo if task.kind == "speed")
    timed = [replace(task, work=seconds[task.key]) for task in together]
    return Forecast(
        estimates=estimates,
        phases=tuple(phases),
        wall_seconds=simulate(together, seconds, prepared.slots.workers) + alone,
        device_hours=sum(charged.values()) / 3600,
        critical_path_seconds=max(urgency(timed).values(), default=0.0) + alone,
        notes=tuple(estimator.notes),
    )


def simulate(tasks: Iterable[Node], seconds: Mapping[str, float], workers: int) -> float:
    """Wall seconds until all tasks are done where ``workers`` run at a time, in the executor's order.

    Args:
        tasks: each after what it needs; a need that is not among them is there.
        seconds: how long each takes, by key.
    """
    waiting = {task.key: task for task in tasks}
    first = urgency(waiting.values())
    running: list[tuple[float, str]] = []
    now = 0.0
    unfinished = set(waiting)
    while unfinished:
        ready = [task for task in waiting.values() if not any(need.key in unfinished for need in task.needs)]
        for task in sorted(ready, key=lambda task: turn(task, first))[: workers - len(running)]:
            del waiting[task.key]
            heapq.heappush(running, (now + seconds[task.key], task.key))
        now, key = heapq.heappop(running)
        unfinished.remove(key)
    return now


def described(expected: Forecast) -> list[str]:
    """A forecast as lines to read."""
    lines = ["forecast     there  to do  device-hours  from"]
    for each in expected.phases:
        hours = each.device_seconds / 3600
        lines.append(f"{each.kind:11}  {each.there:5}  {each.to_do:5}  {hours:12.3f}  {each.basis}")
    wall, least = _duration(expected.wall_seconds), _duration(expected.critical_path_seconds)
    lines.append(
        f"about {wall} on these slots, {expected.device_hours:.2f} device-hours; on any slots at least {least}."
    )
    return lines + [f"assumed: {note}" for note in expected.notes]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
