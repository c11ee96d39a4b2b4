"""One optimiser step: micro-batches in parts, shared out among processes, and the check that all is finite."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.config import TrainConfig
from bench.data.batches import EncodedCorpus
from bench.errors import TaskError
from bench.method import Method, Runner, Step
from bench.method import total as weighted_total
from bench.train.group import Group, alone

SMALLEST_SCALE = 2.0**-14


class TrainingError(TaskError):
    """Training cannot go on; the message says why in one line."""

    state = "not finite"
    """What a trial or a row that fails so is recorded as."""


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on all parts and on nothing else."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Part(NamedTuple):
    """Pairs of one micro-batch that one process runs at once."""

    micro: int
    """The number of the micro-batch within the update."""
    number: int
    """Of the part within the micro-batch."""
    rows: NDArray[np.int64]


class Updater:
    """Makes the updates of a training. A group's processes make each of them together, and stay the same.

    Args:
        student, teacher, modules: what a loss may look at.
        network: all that is trained.
        ragged: whether an update may leave parameters without a gradient.
    """

    def __init__(
        self,
        method: Method,
        config: TrainConfig,
        network: nn.Module,
        *,
        student: Runner,
        teacher: Runner | None,
        modules: nn.Module | None,
        scaler: torch.amp.GradScaler,
        seed: int,
        device: torch.device,
        splits: int,
        group: Group,
        ragged: bool,
    ) -> None:
        self.network, self.config, self.student, self.teacher, self.modules = network, config, student, teacher, modules
        self.scaler, self.seed, self.device, self.group = scaler, seed, device, group
        self.parts = splits * group.size
        self.losses = group.joined(_Loss(method, network), ragged=ragged)
        self.loss, self.terms = torch.zeros(()), dict[str, Tensor]()
        """The newest update's loss and its terms by name, per target token."""

    def cut(self, batches: Sequence[NDArray[np.int64]]) -> list[Part]:
        """The micro-batches of an update, given as rows of the text, in parts; an empty part is none."""
        return [
            Part(micro, number, rows)
            for micro, batch in enumerate(batches)
            for number, rows in enumerate(np.array_split(batch, self.parts))
            if rows.size
        ]

    def mine(self, parts: Sequence[Part]) -> list[Part]:
        """Those that this process of the group works on."""
        return [part for part in parts if part.number % self.group.size == self.group.rank]

    def update(
        self,
        optimiser: torch.optim.Optimizer,
        text: EncodedCorpus,
        parts: Sequence[Part],
        *,
        stage: int,
        update: int,
        epoch: int,
    ) -> int:
        """One optimiser step over the parts of its micro-batches; returns the target tokens seen.

        Raises:
            TrainingError: the loss or the gradient is not finite.
        """
        tokens = int(sum(text.lengths[part.rows, 1].sum() for part in parts))
        total = torch.zeros((), device=self.device)
        values: dict[str, Tensor] = {}
        mine = self.mine(parts)
        # A process with nothing to do takes part in sharing the gradients all the same.
        weight = 1.0 if mine else 0.0
        mine = mine or [parts[0]]
        for part in mine:
            seed = derived_seed(self.seed, "update", stage, update, part.micro)
            torch.manual_seed(seed if self.parts == 1 else derived_seed(seed, part.number))
            step = Step(
                batch=text.batch(part.rows).to(self.device),
                student=self.student,
                teacher=self.teacher,
                label_smoothing=self.config.label_smoothing,
                modules=self.modules,
                stage=stage,
                update=update,
                epoch=epoch,
                random=random.Random(seed),
            )
            with alone(self.losses, unless=part is mine[-1]):
                loss, terms = self.losses(step)
                loss = weight * loss / tokens
                self.scaler.scale(loss * self.group.size).backward()  # the group takes the mean
            total += loss.detach()
            for name, value in terms.items():
                values[name] = values.get(name, 0.0) + weight * value / tokens
        self.loss, self.terms = self._summed(total, values)
        self.scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm or math.inf)
        self._check_finite(update, norm)
        self.scaler.step(optimiser)
        self.scaler.update()
        optimiser.zero_grad(set_to_none=True)
        return tokens

    def _summed(self, total: Tensor, values: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its terms over the whole group."""
        if self.group.size == 1:
            return total, values
        names = sorted(values)
        total, *sums = self.group.sum(torch.stack([total, *(values[name] for name in names)]))
        return total, dict(zip(names, sums, strict=True))

    def _check_finite(self, update: int, norm: Tensor) -> None:
        # Reading a number makes a GPU wait, so there it is looked at now and then: a NaN does not go away by itself.
        if self.device.type == "cuda" and update % 50:
            return
        if not torch.isfinite(self.loss):
            bad = [name for name, value in self.terms.items() if not torch.isfinite(value)] or ["the weighted sum"]
            raise TrainingError(f"loss is not finite at update {update}: {', '.join(bad)}")
        if self.scaler.is_enabled():
            # In fp16 a gradient that overflows is skipped and the scale halved; one that never fits is a failure.
            if self.scaler.get_scale() < SMALLEST_SCALE:
                raise TrainingError(f"gradient is not finite at any fp16 scale by update {update}")
        elif not torch.isfinite(norm):
            raise TrainingError(f"gradient is not finite at update {update}")


class _Loss(nn.Module):
    """A method's loss as the pass of a module that owns what is trained, so that a group can share its gradients."""

    def __init__(self, method: Method, network: nn.Module) -> None:
        super().__init__()
        self.method, self.network = method, network

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, summed over target tokens, and the values of its terms by name."""
        terms = self.method.loss(step)
        return weighted_total(terms), {name: term.value.detach() for name, term in terms.items()}
