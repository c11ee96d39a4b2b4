"""A tiny world in which methods are checked in seconds: a corpus, a student, a trained teacher, and steps to take."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bench.config import ModelConfig
from bench.method import Method, Runner, Step, TeacherUse, total
from bench.nmt.batch import EOS, Batch
from bench.nmt.model import Transformer

VOCABULARY = 24
FIRST_WORD = EOS + 1
STUDENT = ModelConfig(width=16, ffn=32, heads=2, encoder_layers=2, decoder_layers=2, norm="pre", dropout=0.0)
TEACHER = ModelConfig(width=24, ffn=48, heads=4, encoder_layers=3, decoder_layers=3, norm="pre", dropout=0.0)
LABEL_SMOOTHING = 0.1
LEARNING_RATE = 5e-3
TEACHER_UPDATES = 60


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
            step = Step(batch, Runner(model), None, LABEL_SMOOTHING)
            loss = step.cross_entropy(step.student.forward(batch).logits) / batch.tokens
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
            modules=self.modules,
            random=random.Random(seed),
            **where,
        )

    def loss(self, batch: Batch, *, seed: int = 0, **where: Any) -> Tensor:
        """The whole loss of a batch, summed over target tokens."""
        return total(self.method.loss(self.step(batch, seed=seed, **where)))

    def parameters(self) -> list[nn.Parameter]:
        """What training moves."""
        parts = [self.student.model] + ([self.modules] if self.modules is not None else [])
        return [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]

    def train(self, batches: Iterable[Batch], *, stage: int = 0, learning_rate: float = LEARNING_RATE) -> list[float]:
        """One update of Adam for each batch; returns the loss per token before each."""
        optimiser = torch.optim.Adam(self.parameters(), lr=learning_rate)
        losses = []
        for update, batch in enumerate(batches, start=1):
            loss = self.loss(batch, seed=update, stage=stage, update=update) / batch.tokens
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return losses
