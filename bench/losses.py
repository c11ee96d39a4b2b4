"""Losses over packed token positions that methods share.

Every function takes log-probabilities of shape ``(n, vocabulary)`` in float32 and returns the *sum* over the n
positions as a scalar; the trainer divides by the number of target tokens in the update.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Divergence = Literal["forward_kl", "reverse_kl", "js", "tvd"]


def tempered(log_p: Tensor, temperature: float) -> Tensor:
    """The log-probabilities of the distributions whose logits are divided by ``temperature``."""
    return log_p if temperature == 1 else (log_p / temperature).log_softmax(dim=-1)


def label_smoothed_cross_entropy(log_p: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Label-smoothed cross-entropy in the form of fairseq 0.12.

    With e = smoothing / (V - 1): (1 - smoothing - e) * NLL + e * sum over the vocabulary of -log p. The smoothing mass
    is spread over the V - 1 other tokens, where older versions spread it over all V.

    Args:
        labels: (n,) gold ids.
    """
    return cross_entropies(log_p, labels, smoothing)[0]


def cross_entropies(log_p: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The label-smoothed cross-entropy and the plain one."""
    nll = F.nll_loss(log_p, labels, reduction="sum")
    if not smoothing:
        return nll, nll
    spread = smoothing / (log_p.size(-1) - 1)
    return (1 - smoothing - spread) * nll - spread * log_p.sum(), nll


def divergence(teacher: Tensor, student: Tensor, kind: Divergence = "forward_kl") -> Tensor:
    """How far the student's next-token distributions are from the teacher's, in nats, summed over positions.

    ``forward_kl`` is KL(T||S), ``reverse_kl`` KL(S||T), ``js`` the Jensen-Shannon divergence with equal weights, and
    ``tvd`` the total variation distance, as in f-DISTILL (Wen et al. 2023). All are zero only at equality.
    """
    if kind == "forward_kl":
        return _kl(teacher, student)
    if kind == "reverse_kl":
        return _kl(student, teacher)
    if kind == "tvd":
        return 0.5 * (teacher.exp() - student.exp()).abs().sum()
    log_mean = teacher.logaddexp(student) - math.log(2)
    return 0.5 * (_kl(teacher, log_mean) + _kl(student, log_mean))


def soft_cross_entropy(teacher: Tensor, student: Tensor) -> Tensor:
    """-sum p_T log p_S: the forward KL plus the teacher's entropy, hence not zero at equality."""
    return -(teacher.exp() * student).sum()


def _kl(of: Tensor, to: Tensor) -> Tensor:
    """KL(of||to)."""
    value: Tensor = _KullbackLeibler.apply(of, to)
    return value


class _KullbackLeibler(torch.autograd.Function):
    """The sum of p (log p - log q) and its gradients p (log p - log q + 1) and -p, in half of autograd's steps."""

    @staticmethod
    def forward(context: Any, log_p: Tensor, log_q: Tensor) -> Tensor:
        p, apart = log_p.exp(), log_p - log_q
        context.save_for_backward(p, apart)
        return (p * apart).sum()

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None]:
        p, apart = context.saved_tensors
        of_p, of_q = context.needs_input_grad
        return (apart + 1).mul_(p).mul_(upstream) if of_p else None, p * -upstream if of_q else None
