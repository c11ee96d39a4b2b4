"""AIO-KD: a teacher and all its truncations trained at once, from scratch, in one network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from bench.losses import divergence
from bench.method import (
    Delivery,
    Depth,
    Forward,
    Method,
    ModelConfig,
    Paper,
    Positions,
    Range,
    Stage,
    Step,
    TeacherText,
    TeacherUse,
    Term,
    UsageError,
    setting,
)

Mutual = Literal["no_weight", "full", "detaching"]


def candidates(config: ModelConfig, min_depth: int) -> tuple[Depth, ...]:
    """The truncations (e, d) with min_depth <= d <= e, smallest first; the decoder is never the deeper side.

    Raises:
        UsageError: the network is not that deep.
    """
    if min_depth > min(config.depth):
        raise UsageError(
            f"aio_kd: min_depth={min_depth} needs a network with at least as many layers on each side, "
            f"but it is {config.depth}; lower min_depth or take a deeper teacher."
        )
    return tuple(
        Depth(encoder, decoder)
        for decoder in range(min_depth, config.decoder_layers + 1)
        for encoder in range(max(min_depth, decoder), config.encoder_layers + 1)
    )


def from_teacher(teacher: Tensor, student: Tensor, ratio: float, eta: float) -> Tensor:
    """KL(T||S) of log-probabilities; at ``ratio`` = CE_S / CE_T >= eta T is detached (dynamic gradient detaching)."""
    return divergence(teacher.detach() if ratio >= eta else teacher, student)


def mutual_learning(log_p: Sequence[Tensor], losses: Sequence[float], mode: Mutual, eta: float) -> Tensor:
    """KL(senior||junior) summed over the pairs of students; the senior has the lower cross-entropy, or came first.

    ``no_weight`` lets the gradient into both, ``detaching`` takes it from the senior once the junior's cross-entropy is
    eta times as high, and ``full`` is the mean of both directions, whoever is senior.

    Args:
        log_p: (n, vocabulary) log-probabilities of each student, at least two.
        losses: the cross-entropy of each.
    """
    total = log_p[0].new_zeros(())
    for first, second in combinations(range(len(log_p)), 2):
        senior, junior = (second, first) if losses[second] < losses[first] else (first, second)
        towards = log_p[senior]
        if mode == "detaching" and losses[junior] >= eta * losses[senior]:
            towards = towards.detach()
        pair = divergence(towards, log_p[junior])
        if mode == "full":
            pair = 0.5 * (pair + divergence(log_p[junior], log_p[senior]))
        total = total + pair
    return total


def combine(
    teacher_ce: Tensor, student_ce: Tensor, kd: Tensor, mutual: Tensor | None, alpha: float, beta: float
) -> dict[str, Term]:
    """CE_T + sum CE_k + alpha * mean KL(T||k) + beta * mean over pairs of ML.

    Args:
        teacher_ce: the whole network's cross-entropy.
        student_ce, kd: (K,) cross-entropy of each student, and its divergence from the teacher.
        mutual: the sum over the K(K-1)/2 pairs of students; None where there is no such term.
    """
    k = student_ce.numel()
    terms = {
        "teacher_nll": Term(teacher_ce),
        "student_nll": Term(student_ce.sum()),
        "kd": Term(kd.sum(), alpha / k),
    }
    if mutual is not None:
        terms["mutual"] = Term(mutual, beta * 2 / (k * (k - 1)))
    return terms


class AllInOne(Method):
    """CE of the network and of K random truncations, which also learn from it and, in stage 2, from each other.

    The network has the student's widths and the teacher's depth, so that what is delivered at the student's depth is
    the student that other methods train. Every truncation reruns the encoder, unless ``share_encoder`` is set. The
    gradient of the divergence also reaches the teacher's pass while a student is nearly as good (CE_S / CE_T < eta).
    Stage 2 starts from the best of stage 1.
    """

    name = "aio_kd"
    title = "AIO-KD"
    summary = "A network and its truncations learn together, without a pre-trained teacher: one run, many students."
    description = (
        "One network is trained from scratch; its first layers, cut at several depths, are students that share its "
        "weights. In each step some are drawn, learn from the references and from the whole network and, in a second "
        "stage, from each other: the senior of a pair is the one with the lower cross-entropy. The whole network "
        "learns from a student that is nearly as good as itself, and is detached from a worse one. K is the setting "
        "students."
    )
    equation = (
        r"\mathcal{L} = \mathcal{L}_{\text{CE}}^{T} + \sum_{k=1}^{K} \mathcal{L}_{\text{CE}}^{k} "
        r"+ \frac{\alpha}{K} \sum_{k=1}^{K} \sum_{t} \text{KL}(p_T \parallel p_k) "
        r"+ \frac{2 \beta}{K (K - 1)} \sum_{k < l} \sum_{t} \text{KL}(p_{\text{senior}} \parallel p_{\text{junior}})"
    )
    paper = Paper(
        "Miao et al.: Exploring All-In-One Knowledge Distillation Framework for Neural Machine Translation. EMNLP",
        2023,
        "https://aclanthology.org/2023.emnlp-main.178",
    )
    teacher = TeacherUse.JOINT

    class Settings(TeacherText):
        alpha: float = setting(5.5, "Weight of the divergence from the teacher.", ge=0, search=Range(0.5, 8.0))
        beta: float = setting(0.5, "Weight of mutual learning.", ge=0, search=Range(0.05, 1.0))
        eta: float = setting(
            1.1,
            "Ratio of cross-entropies from which gradients are detached; a very large one: never, 0: always.",
            ge=0,
            search=Range(1.0, 1.3),
        )
        students: int = setting(2, "Truncations drawn in each step, with replacement.", ge=1)
        min_depth: int = setting(2, "Fewest layers on either side.", ge=1)
        mutual: Mutual = setting(
            "no_weight", "Who is detached in mutual learning: nobody, both directions, a far senior."
        )
        share_encoder: bool = setting(
            False,
            "Run the encoder once for the network and its truncations, whose first layers then have the same dropout; "
            "released: no.",
        )
        first_stage_share: float = setting(
            0.5, "Part of the budget without mutual learning; 0: mutual learning from the start.", ge=0, lt=1
        )

    def stages(self) -> tuple[Stage, ...]:
        first, text = self.settings.first_stage_share, self.text()
        mutual = Stage(name="mutual", share=1 - first, text=text)
        return (Stage(name="teacher", share=first, text=text), mutual) if first else (mutual,)

    def architecture(self, student: ModelConfig, teacher: ModelConfig) -> ModelConfig:
        network = student.model_copy(
            update={"encoder_layers": teacher.encoder_layers, "decoder_layers": teacher.decoder_layers}
        )
        trained = candidates(network, self.settings.min_depth)
        if student.depth not in trained:
            among = ", ".join(map(str, trained))
            raise UsageError(
                f"aio_kd: the student's depth {student.depth} is not among those trained, {among}: lower min_depth, or "
                "take a student no deeper than the teacher, with at least as many encoder as decoder layers."
            )
        return network

    def deliveries(self, student: ModelConfig, teacher: ModelConfig) -> tuple[Delivery, ...]:
        network = self.architecture(student, teacher)
        return tuple(Delivery(name=str(depth), depth=depth) for depth in candidates(network, self.settings.min_depth))

    def loss(self, step: Step) -> dict[str, Term]:
        options = self.settings
        choices = candidates(step.student.config, options.min_depth)
        runner, batch, share = step.student, step.batch, options.share_encoder
        passes = [runner.forward(batch, hidden=share)]
        for depth in [step.random.choice(choices) for _ in range(options.students)]:
            encoded = runner.encoded_at(passes[0].encoded, depth) if share else None
            passes.append(runner.forward(batch, depth=depth, encoded=encoded))
        whole, *others = _entropies(step, passes)
        mutual = step.stage == len(self.stages()) - 1 and len(others) > 1

        def terms(at: Positions, teacher: Tensor, *students: Tensor) -> dict[str, Term]:
            kd = [
                from_teacher(teacher, log_p, ratio=loss / whole if whole else math.inf, eta=options.eta)
                for log_p, loss in zip(students, others, strict=True)
            ]
            return combine(
                at.cross_entropy(teacher),
                torch.stack([at.cross_entropy(log_p) for log_p in students]),
                torch.stack(kd),
                mutual_learning(students, others, options.mutual, options.eta) if mutual else None,
                options.alpha,
                options.beta,
            )

        return step.over_positions(terms, *passes)


def _entropies(step: Step, passes: Sequence[Forward]) -> list[float]:
    """The cross-entropy of each pass over the whole batch. Its logits stay, to be used again for the other terms."""
    for each in passes:
        each.logits  # noqa: B018

    def terms(at: Positions, *log_p: Tensor) -> dict[str, Term]:
        return {str(number): Term(at.cross_entropy(each)) for number, each in enumerate(log_p)}

    with torch.no_grad():
        return [term.value.item() for term in step.over_positions(terms, *passes).values()]
