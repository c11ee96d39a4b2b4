"""How each kind of task is carried out. A phase reads artifacts, writes one artifact, and says how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bench.config import TrainConfig
from bench.environment import environment
from bench.phases import data, decoding, metrics, training, trials
from bench.phases.base import Phase, PhaseError, Place
from bench.plan import Task
from bench.store import Artifact, Store
from bench.sweep.pool import Attempt
from bench.train.trainer import Report, chosen_precision

__all__ = ["PhaseError", "Place", "carry_out", "precision"]

MAKERS = {
    "tokenizer": data.tokenizer,
    "corpus": data.corpus,
    "teacher": training.teacher,
    "text": decoding.text,
    "student": training.student,
    "dev": trials.dev,
    "sweep": trials.sweep,
    "scores": decoding.scores,
    "metric": metrics.metric,
}
TRAININGS = ("teacher", "student")
"""They go on from their last checkpoint, and can be shared by several processes."""
FIRST = Attempt()


def carry_out(task: Task, place: Place, report: Report | None = None, attempt: Attempt = FIRST) -> Artifact:
    """Make the task's artifact unless it is there; what it needs must be there.

    Raises:
        UsageError: wrong input, which nobody but the user can mend.
        PhaseError: this task cannot be carried out.
    """
    phase = Phase(task, place, Store(place.store), report, attempt)
    trains = task.kind in TRAININGS
    maker = training.together if trains and place.processes > 1 else MAKERS[task.kind]
    where = environment(place.device, precision(task.inputs, place.device), place.workers)
    return phase.store.make(
        task.kind,
        task.inputs,
        lambda folder: {**maker(phase, folder), "environment": where},
        resumable=trains,
        waiting=lambda: report(0, 1, "waiting for another run") if report else None,
    )


def precision(inputs: Mapping[str, Any], device: str) -> str:
    """The number format a task computes in: what its training recipe says, else fp32."""
    recipe = inputs.get("training")
    return chosen_precision(TrainConfig.model_validate(recipe), torch.device(device)) if recipe else "fp32"
