"""What is charged to a row: the phases of all that it rests on, each with the rows that share it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.phases.base import COUNTING, INTERRUPTED, UNCHARGED
from bench.plan import Row, Task
from bench.request import Prepared
from bench.results import Phase
from bench.store import Artifact
from bench.train.trainer import TEACHER_PASSES

KINDS = {
    "tokenizer": "common",
    "corpus": "common",
    "teacher": "teacher",
    "text": "distillation",
    "signals": "distillation",
    "student": "training",
    "sweep": "tuning",
    "scores": "evaluation",
}
"""As what the work of each kind of task is charged to a row, where the phase itself does not say."""
NAMES = {
    ("teacher", "training"): "teacher training",
    ("student", "training"): "student training",
    ("scores", "decoding"): "final decoding",
}
"""What a phase is called in a record, where its task's own name for it would be unclear there."""
COUNTED = ("training", "teacher decoding", "teacher signals")
"""The phases whose target tokens the artifact tells."""


def ledger(prepared: Prepared, row: Row) -> tuple[Phase, ...]:
    """The phases of a row whose artifacts are all there."""
    return tuple(phase for task in row.scores.lineage for phase in _phases(prepared, row, task))


def _phases(prepared: Prepared, row: Row, task: Task) -> list[Phase]:
    """What a task took, and over how many rows of this plan that is divided."""
    artifact = prepared.store.get(task.kind, task.key)
    rows = prepared.plan.rows
    if task.kind == "teacher" and row.role != "teacher":
        rows = tuple(other for other in rows if other.role != "teacher")
    own = task.key == row.model.key
    kind = "training" if own else KINDS[task.kind]
    shared = 1 if own and task.kind == "teacher" else sum(task in other.scores.lineage for other in rows)
    if task.kind == "sweep":
        return [_trials(prepared, task, artifact, shared)]
    return phases_of(artifact, kind, own=own, shared_by=shared)


def phases_of(artifact: Artifact, kind: str, *, own: bool = False, shared_by: int = 1) -> list[Phase]:
    """The phases of one artifact.

    Args:
        kind: what they are charged as, where the phase itself does not say.
        own: whether it is the model of the row that is charged.
    """
    details = artifact.details
    joules = details["joules"] or {}
    return [
        Phase(
            name=NAMES.get((artifact.kind, name), name),
            kind=charge(kind, name, own=own),
            seconds=seconds,
            devices=details.get("processes", 1),
            target_tokens=details.get("target_tokens") if name in COUNTED else None,
            flops=None if kind == "measuring" else details["flops"].get(name, 0.0),
            host_memory=details["host_memory"],
            device_memory=details["device_memory"],
            joules=joules.get(name),
            shared_by=shared_by,
            artifact=artifact.key,
        )
        for name, seconds in details["seconds"].items()
    ]


def charge(kind: str, name: str, *, own: bool) -> Any:
    """What a phase is charged as: a frozen teacher's passes are what the method needs of the teacher.

    Args:
        kind: what its artifact is charged as.
        name: the phase's.
        own: whether it is of the row's own model.
    """
    if name == INTERRUPTED:
        return "interrupted"
    if name == COUNTING:
        return "measuring"
    return "distillation" if own and name == TEACHER_PASSES else kind


def _trials(prepared: Prepared, task: Task, artifact: Artifact, shared: int) -> Phase:
    """All trials of a sweep as one phase; a trial's seconds are wall time times devices.

    A trial that failed has no artifact, so that only its time is known, and the sums of the rest are not told.
    """
    behind = [each for each in task.upstream if each.kind in ("student", "dev")]
    found = [found.details for each in behind if (found := prepared.store.find(each.kind, each.key))]
    whole = len(found) == len(behind)
    joules = [
        used
        for details in found
        for name, used in (details["joules"] or {"": None}).items()
        if name not in UNCHARGED  # what was lost is not known, and charged to nothing
    ]
    return Phase(
        name="trials",
        kind="tuning",
        seconds=sum(trial["seconds"] for trial in artifact.details["trials"]),
        target_tokens=sum(trial["target_tokens"] or 0 for trial in artifact.details["trials"]),
        flops=sum(sum(details["flops"].values()) for details in found) if whole else None,
        host_memory=_most(details["host_memory"] for details in found),
        device_memory=_most(details["device_memory"] for details in found),
        joules=sum(joules) if whole and None not in joules else None,
        shared_by=shared,
        artifact=task.key,
    )


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
