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


def learning_rate(config: TrainConfig, update: int, progress: float, share: float = 1.0) -> float:
    """The rate of the ``update``-th update (from 1) of a stage.

    It rises linearly to the peak over the warm-up. Then ``inverse_sqrt`` falls as the square root of the update
    (Vaswani et al. 2017), and ``linear`` falls in a straight line with the budget used, to zero at its end.

    Args:
        progress: the share of the stage's budget used so far.
        share: the stage's part of the whole budget. The warm-up shrinks with it, so that every stage spends the same
            part of its updates at full rate.
    """
    warmup = max(round(config.warmup_updates * share), 1)
    if update <= warmup:
        return config.learning_rate * update / warmup
    if config.schedule == "inverse_sqrt":
        return config.learning_rate * math.sqrt(warmup / update)
    at_the_peak = progress * warmup / update
    return config.learning_rate * max(0.0, (1.0 - progress) / (1.0 - at_the_peak))
