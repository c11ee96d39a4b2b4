"""Adam and its learning-rate schedules, as in fairseq."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from bench.config import TrainConfig


def adam(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    """Adam with decoupled weight decay, in one fused kernel."""
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate(config: TrainConfig, update: int, progress: float) -> float:
    """The rate of the ``update``-th update (from 1).

    It rises linearly to the peak over the warm-up. Then ``inverse_sqrt`` falls as the square root of the update
    (Vaswani et al. 2017), and ``linear`` falls with ``progress``, the share of the token budget used, to zero at 1.
    """
    warmup = max(config.warmup_updates, 1)
    rising = update / warmup
    falling = 1.0 - progress if config.schedule == "linear" else math.sqrt(warmup / update)
    return config.learning_rate * max(0.0, min(rising, falling))
