"""Losses over packed token positions that methods share.

Every function takes logits of shape ``(n, vocabulary)`` and returns the *sum* over the n positions as a scalar in
float32; the trainer divides by the number of target tokens in the update.
"""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Divergence = Literal["forward_kl", "reverse_kl", "js", "tvd"]


def label_smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Label-smoothed cross-entropy in the form of fairseq 0.12.

    With e = smoothing / (V - 1): (1 - smoothing - e) * NLL + e * sum over the vocabulary of -log p. The smoothing mass
    is spread over the V - 1 other tokens, where older versions spread it over all V.

    Args:
        logits: (n, vocabulary).
        labels: (n,) gold ids.
    """
    return cross_entropies(logits, labels, smoothing)[0]


def cross_entropies(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The label-smoothed cross-entropy and the plain one, from one softmax."""
    log_p = F.log_softmax(logits.float(), dim=-1)
    nll = F.nll_loss(log_p, labels, reduction="sum")
    if not smoothing:
        return nll, nll
    spread = smoothing / (logits.size(-1) - 1)
    return (1 - smoothing - spread) * nll - spread * log_p.sum(), nll


def divergence(
    teacher_logits: Tensor, student_logits: Tensor, kind: Divergence = "forward_kl", temperature: float = 1.0
) -> Tensor:
    """How far the student's next-token distributions are from the teacher's, in nats, summed over positions.

    ``forward_kl`` is KL(T||S), ``reverse_kl`` KL(S||T), ``js`` the Jensen-Shannon divergence with equal weights, and
    ``tvd`` the total variation distance, as in f-DISTILL (Wen et al. 2023). All are zero only at equality.
    """
    log_t = F.log_softmax(teacher_logits.float() / temperature, dim=-1)
    log_s = F.log_softmax(student_logits.float() / temperature, dim=-1)
    if kind == "forward_kl":
        return F.kl_div(log_s, log_t, reduction="sum", log_target=True)
    if kind == "reverse_kl":
        return F.kl_div(log_t, log_s, reduction="sum", log_target=True)
    if kind == "tvd":
        return 0.5 * (log_t.exp() - log_s.exp()).abs().sum()
    log_mean = log_t.logaddexp(log_s) - math.log(2)
    return 0.5 * (
        F.kl_div(log_mean, log_t, reduction="sum", log_target=True)
        + F.kl_div(log_mean, log_s, reduction="sum", log_target=True)
    )


def soft_cross_entropy(
    teacher_logits: Tensor, student_logits: Tensor, temperature: float = 1.0, student_temperature: float | None = None
) -> Tensor:
    """-sum p_T log p_S: the forward KL plus the teacher's entropy, hence not zero at equality.

    Args:
        temperature: divides the teacher's logits, and the student's too unless those have a temperature of their own.
    """
    p = F.softmax(teacher_logits.float() / temperature, dim=-1)
    own = temperature if student_temperature is None else student_temperature
    log_s = F.log_softmax(student_logits.float() / own, dim=-1)
    return -(p * log_s).sum()
