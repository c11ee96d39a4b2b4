"""TIE-KD: hierarchical ranking of the likeliest tokens, over several rounds on the student's own words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bench.losses import divergence
from bench.method import PAD, Choice, Method, Paper, Positions, Range, Step, TeacherText, TeacherUse, Term, setting

LOG_EPSILON = 1e-6


def likeliest(p: Tensor, k: int) -> Tensor:
    """(n, vocabulary) probabilities to the ids of the k largest of each position, likeliest first; all if k is more.

    Which of equal ones are taken is up to ``topk``.
    """
    return p.detach().topk(min(k, p.size(-1)), dim=-1).indices


def ranking(teacher: Tensor, student: Tensor, b: Tensor, *, exclude_overlap: bool = False) -> tuple[Tensor, Tensor]:
    """The two parts of the hierarchical ranking loss, each summed over positions.

    With A the teacher's and B the student's k likeliest tokens, and a_1 the teacher's first:

        R1 = sum over a in A of max(0, p_S(a) - p_S(a_1))
        R2 = sum over a in A, b in B with p_T(a) > p_T(b) of max(0, p_S(b) - p_S(a))

    R1 wants the teacher's first token to lead its top k; R2 wants that top k to be the student's too. Neither the
    selection nor the teacher carries a gradient.

    Args:
        teacher: (n, vocabulary) probabilities.
        student: (n, vocabulary) probabilities.
        b: (n, k) ids of the student's likeliest tokens, B.
        exclude_overlap: leave out of R2 the pairs (a_1, b) with b also in A, which R1 has counted.
    """
    k = b.size(1)
    with torch.no_grad():
        teacher_a, a = teacher.topk(k, dim=-1)
        ordered = teacher_a.unsqueeze(2) > teacher.gather(1, b).unsqueeze(1)
        if exclude_overlap:
            ordered[:, 0] &= ~(a.unsqueeze(2) == b.unsqueeze(1)).any(dim=1)
    student_a, student_b = student.gather(1, torch.cat((a, b), dim=1)).split(k, dim=1)
    top_one = (student_a - student_a[:, :1]).relu().sum()
    top_k = ((student_b.unsqueeze(1) - student_a.unsqueeze(2)).relu() * ordered).sum()
    return top_one, top_k


def smoothed_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(T||S) with 1e-6 added inside both logarithms, as released, summed over positions of (n, vocabulary)."""
    value: Tensor = _SmoothedKL.apply(teacher, student)
    return value


class _SmoothedKL(torch.autograd.Function):
    """The sum of t log((t + e) / (s + e)) and its gradient -t / (s + e): autograd would need three times as long."""

    @staticmethod
    def forward(context: Any, teacher: Tensor, student: Tensor) -> Tensor:
        smoothed = student + LOG_EPSILON
        context.save_for_backward(teacher, smoothed)
        return (teacher + LOG_EPSILON).div_(smoothed).log_().mul_(teacher).sum()

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: Tensor) -> tuple[None, Tensor]:
        teacher, smoothed = context.saved_tensors
        return None, (teacher / smoothed).mul_(-upstream)


def next_prefix(prefix: Tensor, predictions: Tensor) -> Tensor:
    """The decoder input of the next round: the first column stays, the predictions follow; both (batch, target)."""
    return torch.cat([prefix[:, :1], predictions[:, :-1]], dim=1)


class TieKD(Method):
    """(1 - w) * label-smoothed CE + w * mean over N rounds of (KL(T||S) + R1 + R2).

    Round 1 has the gold prefixes. Each further round feeds the student's argmax of the round before, under teacher
    forcing and with dropout on, to both decoders; nothing is decoded step by step. The encoders run once, so every
    round's gradient reaches the student's encoder.
    """

    name = "tie_kd"
    title = "TIE-KD"
    summary = "Word-level distillation with a ranking loss on the likeliest tokens, repeated on its own predictions."
    description = (
        "What a student mostly learns from a teacher is its likeliest word. So the loss has two parts more that rank "
        "words: the teacher's first word is to lead its k likeliest (set A), and these are to be the student's k "
        "likeliest too (set B). The same is asked again over further rounds, in which both models read the student's "
        "own predictions in place of the reference. Here w is the setting kd_weight, N iterations and k top_k."
    )
    equation = (
        r"\mathcal{L} = (1 - w) \, \mathcal{L}_{\text{CE}} "
        r"+ \frac{w}{N} \sum_{i=1}^{N} \sum_{t} \left( \text{KL}(p_T \parallel p_S) + R_1 + R_2 \right)"
        "\n"
        r"R_1 = \sum_{a \in A} \max(0, p_S(a) - p_S(a_1))"
        "\n"
        r"R_2 = \sum_{a \in A} \sum_{b \in B, \, p_T(a) > p_T(b)} \max(0, p_S(b) - p_S(a))"
    )
    paper = Paper(
        "Zhang et al.: Towards Understanding and Improving Knowledge Distillation for Neural Machine Translation. ACL",
        2023,
        "https://aclanthology.org/2023.acl-long.448",
    )
    teacher = TeacherUse.FROZEN
    distributions_only = True
    plain = {"kd_weight": 0.0}

    class Settings(TeacherText):
        kd_weight: float = setting(0.5, "Weight of the teacher's terms.", ge=0, le=1, search=Range(0.1, 0.9))
        top_k: int = setting(5, "Tokens ranked at each position.", ge=1, search=Choice((1, 3, 5, 10)))
        iterations: int = setting(
            3, "Rounds: the gold prefixes, then N-1 on predictions.", ge=1, search=Choice((1, 2, 3))
        )
        hr_exclude_overlap: bool = setting(False, "Count a pair in one part of the ranking loss only; released: no.")
        use_log_eps: bool = setting(True, "1e-6 inside the KL's logarithms, as released; otherwise the exact KL.")
        predicted_pad: Literal["masked", "visible"] = setting(
            "masked",
            "Whether a predicted padding token is hidden from later positions, as released, or an ordinary token; "
            "either way it takes up a position.",
        )

    def ranked(self) -> int:
        return int(self.settings.top_k)

    def loss(self, step: Step) -> dict[str, Term]:
        assert step.teacher is not None
        options, batch = self.settings, step.batch
        student, teacher = step.student.forward(batch), step.teacher.forward(batch)
        prefix = batch.prefix
        found: dict[str, Term] = {}
        for iteration in range(options.iterations):
            predicted: list[Tensor] = []
            terms = self._terms(predicted, gold=iteration == 0, last=iteration == options.iterations - 1)
            for name, term in step.over_positions(terms, student, teacher).items():
                found[name] = Term(found[name].value + term.value, term.weight) if name in found else term
            if predicted:
                prefix = next_prefix(prefix, batch.unpack(torch.cat(predicted)))
                visible = prefix.ne(PAD) if options.predicted_pad == "masked" else None
                student = step.student.forward(batch, prefix=prefix, prefix_mask=visible, encoded=student.encoded)
                teacher = step.teacher.forward(batch, prefix=prefix, prefix_mask=visible, encoded=teacher.encoded)
        return found

    def _terms(self, predicted: list[Tensor], *, gold: bool, last: bool) -> Callable[..., dict[str, Term]]:
        """The terms of a round; the student's likeliest tokens go to ``predicted`` unless it is the last."""
        options = self.settings
        share = options.kd_weight / options.iterations

        def terms(at: Positions, log_s: Tensor, log_t: Tensor) -> dict[str, Term]:
            teacher, student = log_t.exp(), log_s.exp()
            b = likeliest(student, options.top_k)
            if not last:
                predicted.append(b[:, 0])
            kl = smoothed_kl(teacher, student) if options.use_log_eps else divergence(log_t, log_s)
            one, k = ranking(teacher, student, b, exclude_overlap=options.hr_exclude_overlap)
            own = {"nll": Term(at.cross_entropy(log_s), 1 - options.kd_weight)} if gold else {}
            return {**own, "kd": Term(kl, share), "ranking_top_one": Term(one, share), "ranking_top_k": Term(k, share)}

        return terms
