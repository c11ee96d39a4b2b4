"""The loss on dev, by which checkpoints are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.config import Depth, TrainConfig
from bench.data.batches import EncodedCorpus, evaluation_batches
from bench.losses import cross_entropies
from bench.measure.flops import counted
from bench.method import Runner
from bench.positions import Positions, Term, over_positions
from bench.train.group import Group


class CrossEntropy(NamedTuple):
    """Cross-entropy per target token, in nats."""

    smoothed: float
    """With the recipe's label smoothing: what training minimises."""
    nll: float
    """Without: comparable between recipes."""


class DevLoss:
    """Measures the loss of a network on dev, the mean over the delivered depths; a group shares the work.

    Args:
        student: the network as it stands.
        depths: the students delivered.
    """

    def __init__(
        self,
        student: Runner,
        dev: EncodedCorpus,
        depths: Sequence[Depth],
        config: TrainConfig,
        group: Group,
        device: torch.device,
    ) -> None:
        self._student, self._dev, self._depths, self._config = student, dev, depths, config
        self._group, self._device = group, device
        self._batches = evaluation_batches(dev.lengths, config.batch_tokens)[group.rank :: group.size]
        self.flops = 0.0
        """Operations of one measurement, as its first batch tells; known after the first."""

    @torch.inference_mode()
    def __call__(self) -> CrossEntropy:
        """The loss now."""
        totals = torch.zeros(2, dtype=torch.float64, device=self._device)
        for rows in self._batches:
            totals += self._losses(rows)
        if not self.flops and self._batches:
            first = self._batches[0]
            flops = counted(lambda: self._losses(first))
            self.flops = flops * self._dev.target_tokens / int(self._dev.lengths[first, 1].sum())
        count = self._dev.target_tokens * len(self._depths)
        return CrossEntropy(*(total / count for total in self._group.sum(totals).tolist()))

    def _losses(self, rows: NDArray[np.int64]) -> Tensor:
        """Smoothed and plain cross-entropy of some pairs, summed over target tokens and depths."""
        batch = self._dev.batch(rows).to(self._device)
        smoothing = self._config.label_smoothing

        def terms(at: Positions, *depths: Tensor) -> dict[str, Term]:
            losses = torch.stack([torch.stack(cross_entropies(log_p, at.labels, smoothing)) for log_p in depths])
            return dict(zip(CrossEntropy._fields, map(Term, losses.sum(dim=0)), strict=True))

        passes = [self._student.forward(batch, depth=depth).source for depth in self._depths]
        found = over_positions(terms, Positions(batch.labels, smoothing), passes)
        return torch.stack([term.value for term in found.values()]).double()
