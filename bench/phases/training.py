"""Trainings: the teacher, and every student, by one process or by several together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.config import Depth, ModelConfig, SearchConfig, TrainConfig
from bench.curves import HISTORY
from bench.data.batches import EncodedCorpus
from bench.data.signals import TaughtText
from bench.errors import UsageError
from bench.measure.cost import Ledger
from bench.measure.energy import energy_meter
from bench.measure.flops import decoding_flops
from bench.measure.process import device_peak, marker, synchronise
from bench.measure.quality import score
from bench.method import Method
from bench.nmt.export import load_model, save_model
from bench.nmt.model import Transformer
from bench.phases.base import DEV, MEMBERS, SETUP, Phase, PhaseError, Place, device_seconds, read_lines, translate
from bench.plan import FROM_TEACHER, Task
from bench.registry import load_methods, source_hash
from bench.results import shared_part
from bench.store import SCRATCH, Store, write_json
from bench.sweep.pool import Attempt
from bench.sweep.space import Point, with_point
from bench.train import distributed
from bench.train.trainer import EVALUATION, Report, Trainer, new_network
from bench.train.update import derived_seed

POINT = "point.json"
"""In a trial's work folder: the values of the training that left it."""


def teacher(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """Train the teacher like a plain student of its own shape and budget."""
    inputs = phase.task.inputs
    shape = ModelConfig.model_validate(inputs["architecture"])
    method = load_methods().get("baseline")()
    config = TrainConfig.model_validate(inputs["training"])
    texts = [phase.corpus("train")]
    return _train(phase, folder, method, config, shape, shape, shape, seed=inputs["seed"], teacher=None, texts=texts)


def student(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """Train a method's network: a trial's, or one that a row rests on."""
    inputs = phase.task.inputs
    method = load_methods(phase.place.methods_dir).get(inputs["method"])(inputs["settings"])
    if source_hash(type(method)) != inputs["source"]:
        raise UsageError(f"the file of {method.name} was changed after the run had started: run it again.")
    point = _point(phase)
    method = with_point(method, point)
    shared = shared_part(method.name, point)
    teacher_shape = ModelConfig.model_validate(inputs["teacher_architecture"])
    student_shape = ModelConfig.model_validate(_with(inputs["student_architecture"], "student", shared))
    config = TrainConfig.model_validate(_with(inputs["training"], "training", shared))
    if "device_hours" in inputs:
        config = config.model_copy(update={"seconds": _seconds_left(phase, inputs["device_hours"])})
    shape = method.architecture(student_shape, teacher_shape)
    texts = [phase.training_text(key) for key in inputs["texts"]]
    teacher: Transformer | Callable[[], Transformer] | None = None
    if inputs["teacher"]:
        load = partial(load_model, phase.store.get("teacher", inputs["teacher"]).folder)
        teacher = load if "signals" in inputs else load()
    if "signals" in inputs:
        folders = [phase.store.get("signals", key).folder for key in inputs["signals"]]
        taught = [TaughtText(*each) for each in zip(texts, folders, strict=True)]
        texts = [*taught]
        # A trial of the open track may ask for more than the plan knew of.
        if (kept := min(text.kept for text in taught)) < min(method.ranked(), phase.tokenizer().size):
            raise PhaseError(f"it ranks {method.ranked()} of the teacher's tokens, and the signals have {kept}")
    # A stream of its own: by that of its teacher it would start from the teacher's first weights, as far as their
    # shapes agree, with the same batches in the same order, which only who learns from a teacher can gain by.
    seed = derived_seed(inputs["seed"], "student")
    trained = _train(
        phase, folder, method, config, shape, student_shape, teacher_shape, seed=seed, teacher=teacher, texts=texts
    )
    return {**trained, "point": dict(point), "settings": method.settings.model_dump(mode="json")}


def together(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """The training of a teacher or a student by several processes."""
    place = phase.place
    arguments = (phase.task, place, phase.attempt, folder)
    told = distributed.together(place.processes, _member, *arguments, device=place.device, report=phase.report)
    phase.ledger.absorb(told["costs"], told["restored"])
    return told["details"]


def forget_others(folder: Path, point: Point) -> None:
    """Drop what a killed training with other values has left in a trial's work folder.

    The address of a trial of the open track does not tell its values: a study that is begun anew may ask for others.
    """
    scratch = folder / SCRATCH
    file, values = scratch / POINT, json.loads(json.dumps(dict(point)))
    if not file.is_file() or json.loads(file.read_text(encoding="utf-8")) != values:
        shutil.rmtree(scratch, ignore_errors=True)
        write_json(file, values)


def _point(phase: Phase) -> Point:
    """The values that a sweep gives this training in place of its inputs': the winner's, or those asked for."""
    if "sweep" in phase.task.inputs:
        return phase.store.get("sweep", phase.task.inputs["sweep"]).details["point"]
    return phase.attempt.given if "asked" in phase.task.inputs else {}


def _seconds_left(phase: Phase, hours: float) -> float:
    """What a budget of device-hours leaves for this training after all that it needs of the teacher."""
    needed = [need for need in phase.task.lineage if need.kind in FROM_TEACHER]
    charged = sum(device_seconds(phase.store.get(need.kind, need.key)) for need in needed)
    left = 3600 * hours - charged
    if left <= 0:
        raise PhaseError(
            f"the teacher alone took {charged:.4g} device-seconds of the {3600 * hours:.4g} that the budget gives"
        )
    return left / phase.place.processes


def _train(
    phase: Phase,
    folder: Path,
    method: Method,
    config: TrainConfig,
    shape: ModelConfig,
    student: ModelConfig,
    teacher_shape: ModelConfig,
    *,
    seed: int,
    teacher: Transformer | Callable[[], Transformer] | None,
    texts: Sequence[EncodedCorpus],
) -> Mapping[str, Any]:
    device, tokenizer = torch.device(phase.place.device), phase.tokenizer()
    network = new_network(shape, tokenizer.size, seed)
    selection = SearchConfig.model_validate(phase.task.inputs["selection"] or {"beam": 1})
    dev_text = read_lines(phase.need("corpus").folder / DEV / "target.txt")
    dev = phase.corpus(DEV)

    flops: dict[Depth, float] = {}

    def dev_bleu(depth: Depth) -> float:
        if depth not in flops:
            each = decoding_flops(network, dev.sources(), selection, device, depth)
            flops[depth] = each * sum(map(len, dev.sources()))
        phase.ledger.add_flops(EVALUATION, flops[depth])
        return score(translate(network, tokenizer, dev.sources(), selection, device, depth=depth), dev_text).bleu

    trainer = Trainer(
        method,
        config,
        network,
        teacher=teacher,
        modules=method.modules(student, teacher_shape),
        depths=[delivery.depth for delivery in method.deliveries(student, teacher_shape)],
        texts=texts,
        dev=dev,
        dev_bleu=dev_bleu,
        seed=seed,
        device=device,
        folder=folder / SCRATCH,
        report=phase.report,
        splits=phase.attempt.splits,
        ledger=phase.ledger,
    )
    trained = trainer.train()
    if trainer.group.leads:
        save_model(network, folder)
        write_json(folder / HISTORY, list(trained.history))
    summary = asdict(trained)
    del summary["history"]
    return summary | {"architecture": shape.model_dump(mode="json"), "training": config.model_dump(mode="json")}


def _with(config: Mapping[str, Any], section: str, point: Point) -> dict[str, Any]:
    """A section of the recipe with the values that a point has for it."""
    found = {name.partition(".")[2]: value for name, value in point.items() if name.startswith(f"{section}.")}
    return {**config, **found}


def _member(
    task: Task, place: Place, attempt: Attempt, folder: Path, *, device: str, report: Report | None
) -> Mapping[str, Any]:
    """What one of several processes does of a training."""
    # The first process reads the meters of all devices.
    meter = energy_meter(place.devices, place.workers, place.each_gpu)
    ledger = Ledger(meter.joules, partial(synchronise, device), marker(device))
    phase = Phase(task, replace(place, device=device), Store(place.store), report, attempt, ledger)
    with ledger.phase(SETUP):
        details = teacher(phase, folder) if task.kind == "teacher" else student(phase, folder)
    details = {**details, MEMBERS: device_peak(device)}
    return {"details": details, "costs": ledger.snapshot(), "restored": ledger.restored}
