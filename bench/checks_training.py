"""What the contract demands of short runs with the real trainer, each as a function that raises when a method fails."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from bench.checks import ContractError
from bench.config import SearchConfig, TrainConfig
from bench.data.batches import EncodedCorpus
from bench.losses import label_smoothed_cross_entropy
from bench.method import Method, Runner, Step, Term, total
from bench.nmt.batch import Batch
from bench.nmt.export import WEIGHTS, load_model, save_model
from bench.nmt.model import Transformer
from bench.nmt.search import translate_ids
from bench.toy import (
    LABEL_SMOOTHING,
    STUDENT,
    TEACHER,
    TRAINING,
    VOCABULARY,
    Toy,
    toy_batch,
    toy_corpora,
    toy_pairs,
    toy_trainer,
)
from bench.train.trainer import Trainer, TrainingError

SHORT = TRAINING.model_copy(update={"target_tokens": 600, "evaluations": 1})
"""A handful of updates."""


def round_trip(method: type[Method]) -> None:
    """What the trainer delivers is a plain student, the same after saving and loading."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trainer, _ = _trained(method, toy_corpora(folder), folder / "run", SHORT)
        network, sources, search = trainer.student.model.eval(), toy_pairs(3)[0], SearchConfig(beam=2)
        save_model(network, folder / "saved")
        plain = Transformer(network.config, VOCABULARY).state_dict()
        if extra := set(load_file(folder / "saved" / WEIGHTS)) ^ set(plain):
            raise ContractError(f"what is saved differs from a plain student by {', '.join(sorted(extra))}")
        loaded = load_model(folder / "saved")
    for delivery in trainer.method.deliveries(STUDENT, TEACHER):
        translations = [
            translate_ids(model.truncated(delivery.depth), sources, search, device="cpu") for model in (network, loaded)
        ]
        if translations[0] != translations[1]:
            raise ContractError(f"delivery {delivery.name!r} translates otherwise after it was saved and loaded")


def training(method: type[Method]) -> None:
    """In a short training the loss falls and the student learns, and an interruption changes nothing."""
    held_out = toy_batch(16, seed=99)
    before = _cross_entropy(Toy.of(method()).student, held_out)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpora = toy_corpora(folder)
        whole, losses = _trained(method, corpora, folder / "whole")
        first = [value for stage, value in losses if stage == 0]
        start, end = sum(first[:5]) / 5, sum(first[-5:]) / 5
        # Fewer updates than that cannot tell a trend from chance.
        if len(first) >= 10 and not end < start:
            raise ContractError(
                f"the loss does not fall: {start:.4g} a token at first, {end:.4g} after {len(first)} updates"
            )
        after = _cross_entropy(whole.student, held_out)
        if not after < before:
            raise ContractError(
                f"the student does not learn: its cross-entropy goes from {before:.4g} to {after:.4g} a token"
            )
        _trained(method, corpora, folder / "resumed", calls=len(losses) * 2 // 3)
        resumed, _ = _trained(method, corpora, folder / "resumed")
    weights = resumed.network.state_dict()
    for name, value in whole.network.state_dict().items():
        if not torch.equal(value, weights[name]):
            raise ContractError(
                f"a training that was interrupted ends with another {name}: let what changes over time follow from "
                "step.update and step.epoch, or keep it in modules()"
            )


class _InterruptionError(Exception):
    """Stands for a kill between two updates."""


def _trained(
    method: type[Method],
    corpora: tuple[EncodedCorpus, EncodedCorpus],
    folder: Path,
    config: TrainConfig = TRAINING,
    *,
    calls: int | None = None,
) -> tuple[Trainer, list[tuple[int, float]]]:
    """Train, going on from what is in ``folder``, and stop short after ``calls`` of the loss.

    Returns the trainer, and for each call the stage and the loss per token.
    """
    trainer = toy_trainer(method(), corpora, folder, config)
    loss = trainer.method.loss
    losses: list[tuple[int, float]] = []

    def watched(step: Step) -> Mapping[str, Term]:
        if len(losses) == calls:
            raise _InterruptionError
        terms = loss(step)
        losses.append((step.stage, total(terms).item() / step.batch.tokens))
        return terms

    trainer.method.loss = watched  # type: ignore[method-assign]
    try:
        trainer.train()
    except _InterruptionError:
        pass
    except TrainingError as error:
        raise ContractError(f"training fails: {error}") from error
    return trainer, losses


def _cross_entropy(student: Runner, batch: Batch) -> float:
    """Of the whole network with the labels, in nats a token."""
    student.model.eval()
    with torch.no_grad():
        log_p = student.forward(batch).log_probabilities
    return label_smoothed_cross_entropy(log_p, batch.labels, LABEL_SMOOTHING).item() / batch.tokens
