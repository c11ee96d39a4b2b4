"""A tiny world in which methods are checked in seconds: a corpus, a student, a trained teacher, and steps to take."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.config import ModelConfig, TrainConfig
from bench.data.batches import EncodedCorpus
from bench.method import Method, Runner, Step, TeacherUse, total
from bench.nmt.batch import EOS, Batch
from bench.nmt.model import Transformer
from bench.train.trainer import Trainer

VOCABULARY = 24
FIRST_WORD = EOS + 1
STUDENT = ModelConfig(width=16, ffn=32, heads=2, encoder_layers=2, decoder_layers=2, norm="pre", dropout=0.0)
TEACHER = ModelConfig(width=24, ffn=48, heads=4, encoder_layers=3, decoder_layers=3, norm="pre", dropout=0.0)
LABEL_SMOOTHING = 0.1
LEARNING_RATE = 5e-3
TEACHER_UPDATES = 60
TRAINING = TrainConfig(
    target_tokens=3600,
    batch_tokens=128,
    learning_rate=LEARNING_RATE,
    warmup_updates=5,
    clip_norm=1.0,
    label_smoothing=LABEL_SMOOTHING,
    evaluations=4,
    precision="fp32",
)
"""Some 30 updates, over three epochs of the toy corpus."""


def toy_pairs(count: int, seed: int = 0) -> tuple[list[list[int]], list[list[int]]]:
    """Sources of two to seven words, and their translations: the words in reverse, each by its neighbour."""
    draw = random.Random(seed)
    words = range(FIRST_WORD, VOCABULARY)
    sources = [draw.choices(words, k=draw.randint(2, 7)) for _ in range(count)]
    targets = [[FIRST_WORD + (word - FIRST_WORD + 1) % len(words) for word in reversed(line)] for line in sources]
    return [[*line, EOS] for line in sources], [[*line, EOS] for line in targets]


def toy_batch(sentences: int = 8, seed: int = 0) -> Batch:
    """A padded batch of toy pairs."""
    return Batch.of(*toy_pairs(sentences, seed))


@cache
def toy_teacher() -> Transformer:
    """A teacher after a short training; copy it before use."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Transformer(TEACHER, VOCABULARY)
        optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        for update in range(TEACHER_UPDATES):
            batch = toy_batch(16, update)
            step = Step(batch, Runner(model), None, LABEL_SMOOTHING, random.Random(update))
            loss = step.positions.cross_entropy(step.student.forward(batch).log_probabilities) / batch.tokens
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model


@dataclass(frozen=True)
class Toy:
    """A method with fresh models to train."""

    method: Method
    student: Runner
    teacher: Runner | None
    modules: nn.Module | None

    @classmethod
    def of(cls, method: Method, *, dropout: float = 0.0, seed: int = 0) -> Toy:
        """Models for ``method`` with weights drawn from ``seed``; only the network to train has dropout."""
        torch.manual_seed(seed)
        config = method.architecture(STUDENT, TEACHER).model_copy(update={"dropout": dropout})
        frozen = method.teacher is TeacherUse.FROZEN
        return cls(
            method,
            Runner(Transformer(config, VOCABULARY)),
            Runner(copy.deepcopy(toy_teacher()), frozen=True) if frozen else None,
            method.modules(STUDENT, TEACHER),
        )

    def step(self, batch: Batch, *, seed: int = 0, **where: Any) -> Step:
        """A step on ``batch``; ``where`` gives its stage, update and epoch."""
        return Step(
            batch,
            self.student,
            self.teacher,
            LABEL_SMOOTHING,
            random.Random(seed),
            modules=self.modules,
            **where,
        )

    def loss(self, batch: Batch, *, seed: int = 0, **where: Any) -> Tensor:
        """The whole loss of a batch, summed over target tokens."""
        return total(self.method.loss(self.step(batch, seed=seed, **where)))


def toy_corpora(folder: Path) -> tuple[EncodedCorpus, EncodedCorpus]:
    """Write the training and dev text of the toy language into ``folder``, encoded as a run has them."""
    made = []
    for name, count, seed in (("train", 200, 1), ("dev", 20, 2)):
        EncodedCorpus.write(folder / name, zip(*toy_pairs(count, seed), strict=True), VOCABULARY)
        made.append(EncodedCorpus.open(folder / name))
    return made[0], made[1]


def toy_trainer(
    method: Method,
    corpora: tuple[EncodedCorpus, EncodedCorpus],
    folder: Path,
    config: TrainConfig = TRAINING,
    *,
    dropout: float = 0.1,
    device: str = "cpu",
    **more: Any,
) -> Trainer:
    """The trainer of a run for ``method``, which goes on from the checkpoints in ``folder``; ``more`` is for it."""
    toy, (train, dev) = Toy.of(method, dropout=dropout), corpora
    return Trainer(
        method,
        config,
        toy.student.model,
        teacher=toy.teacher.model if toy.teacher else None,
        modules=toy.modules,
        depths=[delivery.depth for delivery in method.deliveries(STUDENT, TEACHER)],
        texts=[train] * len(method.stages()),
        dev=dev,
        seed=1,
        device=torch.device(device),
        folder=folder,
        **more,
    )
