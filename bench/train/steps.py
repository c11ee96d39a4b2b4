"""The updates of a training one by one, without its loop: for whoever times or counts them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.config import ModelConfig, TrainConfig
from bench.data.batches import EncodedCorpus
from bench.data.signals import TaughtText
from bench.method import Method, TeacherUse
from bench.nmt.model import Transformer
from bench.train.optim import adam
from bench.train.trainer import Trainer, new_network


class Steps:
    """A trainer with random weights, whose updates are made on demand. It writes no file.

    Args:
        student, teacher: the shapes that the method is given.
        text: what all stages learn from, with or without the teacher's signals.
        frozen: the teacher of a method that has one; by default a random one of its own.
    """

    def __init__(
        self,
        method: Method,
        config: TrainConfig,
        student: ModelConfig,
        teacher: ModelConfig,
        *,
        vocabulary: int,
        text: EncodedCorpus,
        device: torch.device,
        frozen: Transformer | None = None,
    ) -> None:
        self.stages = method.stages()
        self.text = text
        trained = new_network(method.architecture(student, teacher), vocabulary, seed=1)
        given = frozen or new_network(teacher, vocabulary, seed=2) if method.teacher is TeacherUse.FROZEN else None
        trainer = Trainer(
            method,
            config,
            trained,
            teacher=(lambda: given) if given and isinstance(text, TaughtText) else given,
            modules=method.modules(student, teacher),
            depths=[delivery.depth for delivery in method.deliveries(student, teacher)],
            texts=[text] * len(self.stages),
            dev=text,
            seed=1,
            device=device,
            folder=Path(),
        )
        trainer.network.train()
        self._updater, self._optimiser = trainer.updater, adam(trainer.network.parameters(), config)

    def update(self, batches: Sequence[NDArray[np.int64]], *, stage: int = 0, number: int = 1) -> int:
        """One update on micro-batches, given as rows of the text; returns their target tokens.

        Args:
            number: of the update, from which follows all that is drawn at random.
        """
        parts = self._updater.cut(batches)
        return self._updater.update(self._optimiser, self.text, parts, stage=stage, update=number, epoch=1)
