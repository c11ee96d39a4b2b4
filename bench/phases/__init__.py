"""How each kind of task is carried out. A phase reads artifacts, writes one artifact, and says how long it took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.config import TrainConfig
from bench.environment import environment
from bench.measure.cost import Ledger, column
from bench.measure.energy import EnergyMeter, energy_meter
from bench.measure.process import device_peak, host_peak, marker, reset_peaks, synchronise
from bench.measure.stopwatch import Stopwatch
from bench.phases import data, decoding, metrics, signals, speed, training, trials
from bench.phases.base import INTERRUPTED, MEMBERS, SETUP, START, Phase, PhaseError, Place
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
    "signals": signals.signals,
    "student": training.student,
    "dev": trials.dev,
    "sweep": trials.sweep,
    "scores": decoding.scores,
    "metric": metrics.metric,
    "speed": speed.speed,
}
TRAININGS = ("teacher", "student")
"""They go on from their last checkpoint, and can be shared by several processes."""
OFF_DEVICE = ("tokenizer", "corpus", "sweep", "speed")
"""They compute on the CPU, or leave the GPU to processes of their own, whose memory they would take."""
FIRST = Attempt()


def carry_out(task: Task, place: Place, report: Report | None = None, attempt: Attempt = FIRST) -> Artifact:
    """Make the task's artifact unless it is there; what it needs must be there.

    Raises:
        UsageError: wrong input, which nobody but the user can mend.
        PhaseError: this task cannot be carried out.
    """
    # Clocks of two machines say nothing of each other, so that only a worker of this one knows when it was asked.
    late = 0.0 if attempt.since is None else max(0.0, time.monotonic() - attempt.since)
    store = Store(place.store)
    attempts = store.root / task.kind / f".{task.key}.seconds"
    trains = task.kind in TRAININGS
    together = trains and place.processes > 1
    own = "cpu" if together or task.kind in OFF_DEVICE else place.device
    if own != "cpu":
        torch.cuda.set_device(own)  # PyTorch answers what a device is capable of for the present one
    where = environment(place.device, precision(task.inputs, place.device), place.workers)

    def make(folder: Path) -> Mapping[str, Any]:
        meter = energy_meter(place.devices, place.workers, place.each_gpu)
        ledger = Ledger(meter.joules, partial(synchronise, own), marker(own))
        phase = Phase(task, place, store, report, attempt, ledger)
        if "asked" in task.inputs:
            training.forget_others(folder, attempt.given)
        maker = training.together if together else MAKERS[task.kind]
        stopwatch = Stopwatch(attempts, late, tick=meter.joules)  # a counter that starts again must be read in time
        reset_peaks(own)
        ledger.add_seconds(START, late, 0.0)
        with stopwatch, ledger.phase(SETUP):
            details = dict(maker(phase, folder))
        stopwatch.before = max(stopwatch.before, ledger.restored)  # a checkpoint may be younger than its last reading
        # What a killed attempt had done since its last checkpoint is lost, and was paid for.
        ledger.add_seconds(INTERRUPTED, stopwatch.before - ledger.restored, None)
        memory = max((each for each in (details.pop(MEMBERS, None), device_peak(own)) if each), default=None)
        measured = {"host_memory": host_peak(), "device_memory": memory, "wall": stopwatch.seconds}
        return {**details, "environment": where, **_costs(ledger, meter), **measured}

    artifact = store.find(task.kind, task.key) or store.make(
        task.kind,
        task.inputs,
        make,
        resumable=trains,
        waiting=lambda: report(0, 1, "waiting for another run") if report else None,
    )
    attempts.unlink(missing_ok=True)
    return artifact


def _costs(ledger: Ledger, meter: EnergyMeter) -> dict[str, Any]:
    """What a manifest tells of its phases. What was measured of none of them has None in place of figures."""
    costs = {name: cost for name, cost in ledger.snapshot().items() if cost["seconds"]}
    joules = column(costs, "joules")
    return {
        "seconds": column(costs, "seconds"),
        "flops": {name: flops for name, flops in column(costs, "flops").items() if flops},
        "joules": joules if meter.joules() is not None else None,
        "energy": meter.description,
    }


def precision(inputs: Mapping[str, Any], device: str) -> str:
    """The number format a task computes in: what its training recipe says, else fp32."""
    recipe = inputs.get("training")
    return chosen_precision(TrainConfig.model_validate(recipe), torch.device(device)) if recipe else "fp32"
