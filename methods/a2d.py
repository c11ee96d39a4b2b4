"""Align-to-Distill: the student's attention heads learn which mixtures of them match which of the teacher's."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.losses import soft_cross_entropy, tempered
from bench.method import (
    Forward,
    Maps,
    Method,
    ModelConfig,
    Paper,
    Positions,
    Range,
    Step,
    TeacherText,
    TeacherUse,
    Term,
    setting,
)

Norm = Literal["flat_softmax", "row_softmax", "row_prob"]
Reduction = Literal["sum", "mean_per_map"]

EXCLUDED = -1e9
"""Takes the place of a cell that does not count, before a softmax."""
SMALLEST = 1e-9
"""Attention probabilities below this count as this, where their logarithm is taken."""


def attention_divergence(
    teacher: Tensor, student: Tensor, norm: Norm, reduction: Reduction = "sum", cells: Tensor | None = None
) -> Tensor:
    """KL(T||S) between attention maps that were made distributions by a softmax.

    ``flat_softmax`` takes it over all cells of a map, the row modes over each query's keys. ``row_prob`` expects
    logarithms of attention probabilities, which the softmax turns back into these. ``sum`` adds up sentences, maps and
    rows; ``mean_per_map`` is the mean over sentences and maps, a map's value being the mean over its rows.

    Args:
        teacher, student: (batch, maps, queries, keys).
        cells: (batch, queries, keys) bool, false where a cell does not count; None if all do.
    """
    if cells is not None:
        excluded = ~cells.unsqueeze(1)
        teacher, student = teacher.masked_fill(excluded, EXCLUDED), student.masked_fill(excluded, EXCLUDED)
    if norm == "flat_softmax":
        teacher, student = teacher.flatten(2), student.flatten(2)
    log_t, log_s = F.log_softmax(teacher, dim=-1), F.log_softmax(student, dim=-1)
    kl = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(dim=-1)
    if reduction == "sum":
        return kl.sum()
    if norm != "flat_softmax":
        # A row without a single cell is uniform on both sides and adds nothing, but it must not count as a row.
        rows = kl.new_tensor(kl.size(2)) if cells is None else cells.any(dim=2).sum(dim=1, keepdim=True)
        kl = kl.sum(dim=2) / rows
    return kl.mean()


class Alignment(nn.Module):
    """A 1x1 convolution for each kind of attention: the student's heads in, as many maps as the teacher's heads out.

    The released code has 24 output channels (6 layers of 4 heads); here they follow the teacher. With
    ``mix_teacher`` the teacher's maps pass a convolution of their own that stays as it was drawn.
    """

    def __init__(self, kinds: tuple[str, ...], student: ModelConfig, teacher: ModelConfig, mix_teacher: bool) -> None:
        super().__init__()
        self.student, self.teacher = nn.ModuleDict(), nn.ModuleDict()
        for kind in kinds:
            outputs = _maps(teacher, kind)
            self.student[kind] = nn.Conv2d(_maps(student, kind), outputs, kernel_size=1)
            if mix_teacher:
                self.teacher[kind] = nn.Conv2d(outputs, outputs, kernel_size=1).requires_grad_(False)


class AlignToDistill(Method):
    """(1 - a) * label-smoothed CE + a * CE(p_T, p_S) + b * decay^(epoch - 1) * (D_encoder + (D_self + D_cross) / 2).

    Here a is alpha and b is beta. D compares the teacher's attention maps with the student's after the alignment, which
    trains with the student and is not delivered. The defaults are the released code's behaviour, but for its random
    mixture of the teacher's heads (``teacher_conv=frozen_random``): softmax over whole maps with padding and future
    positions included, D summed over sentences and maps, the response averaged over padding too.

    The clean form, whose D does not grow with the batch, is ``mask_pads=true align_reduction=mean_per_map beta=3600``.
    The release adds up 24 maps of about 150 sentences (4,096 tokens), so that 3,600 times their mean weighs the same.
    """

    name = "a2d"
    title = "Align-to-Distill"
    summary = "Besides the output, the student's attention heads are aligned with the teacher's by a trained mixture."
    description = (
        "Which of the teacher's attention heads should teach which of the student's is not fixed by hand: a 1x1 "
        "convolution W, trained along and not delivered, mixes the student's maps A into as many as the teacher has. "
        "The weight of this alignment falls with each epoch, by the factor decay, which is γ, while the student also "
        "imitates the teacher's output. As released, D adds up the batch's sentences b and the maps m, padding "
        "included, and is divided by nothing."
    )
    equation = (
        r"\mathcal{L} = (1 - \alpha) \, \mathcal{L}_{\text{CE}} + \alpha \sum_{t} \text{CE}(p_T, p_S) "
        r"+ \beta \, \gamma^{\text{epoch} - 1} "
        r"\left( D_{\text{enc}} + \frac{1}{2} \left( D_{\text{self}} + D_{\text{cross}} \right) \right)"
        "\n"
        r"D = \sum_{b} \sum_{m} \text{KL} \left( \text{softmax}(A_T^{b,m}) "
        r"\parallel \text{softmax}((W A_S^{b})^{m}) \right)"
    )
    paper = Paper(
        "Jin et al.: Align-to-Distill: Trainable Attention Alignment for Knowledge Distillation in Neural Machine "
        "Translation. LREC-COLING",
        2024,
        "https://aclanthology.org/2024.lrec-main.64",
    )
    teacher = TeacherUse.FROZEN
    plain = {"alpha": 0.0, "beta": 0.0, "mask_pads": True}

    class Settings(TeacherText):
        alpha: float = setting(0.5, "Weight of the teacher's output distribution.", ge=0, le=1, search=Range(0.1, 0.9))
        beta: float = setting(1.0, "Weight of the attention terms at first.", ge=0, search=Range(1e-3, 10.0, log=True))
        decay: float = setting(0.9, "Factor on beta after each epoch.", gt=0, le=1, search=Range(0.7, 1.0))
        decay_updates: int = setting(0, "Decay evenly, by that factor over this many updates; 0: by epochs.", ge=0)
        decoder_maps: Literal["both", "self", "cross", "none"] = setting("both", "Decoder attention that is aligned.")
        align_norm: Norm = setting(
            "flat_softmax",
            "Distributions compared: a softmax over a whole map, over each row, or the attention itself (row_prob).",
        )
        align_reduction: Reduction = setting("sum", "Over sentences and maps.")
        mask_pads: bool = setting(False, "Leave padding out of maps and means; the row modes always do for maps.")
        teacher_conv: Literal["none", "frozen_random"] = setting(
            "none", "frozen_random: a fixed random mixture of the teacher's heads is the target, as in the release."
        )
        teacher_temperature: float = setting(1.0, "Divides the teacher's logits.", gt=0)
        student_temperature: float = setting(1.0, "Divides the student's logits in the teacher's term.", gt=0)

    def padding_invariant(self) -> bool:
        return self.settings.mask_pads

    def divisible(self) -> bool:
        # A sum over sentences, times the tokens of a part, loses weight with each cut; a mean does not.
        options = self.settings
        return options.mask_pads and (not options.beta or options.align_reduction == "mean_per_map")

    def modules(self, student: ModelConfig, teacher: ModelConfig) -> nn.Module | None:
        if not self.settings.beta:
            return None
        return Alignment(self._kinds, student, teacher, self.settings.teacher_conv == "frozen_random")

    def loss(self, step: Step) -> dict[str, Term]:
        assert step.teacher is not None
        options, batch = self.settings, step.batch
        aligned = self._kinds if options.beta else ()
        student = step.student.forward(batch, attention=aligned)
        teacher = step.teacher.forward(batch, attention=aligned)
        # Training divides by the n real tokens. The released response is a mean over all B*T positions: n / (B*T).
        scale = 1.0 if options.mask_pads else batch.tokens / batch.target.numel()

        def response(at: Positions, log_s: Tensor, log_t: Tensor) -> dict[str, Term]:
            pair = tempered(log_t, options.teacher_temperature), tempered(log_s, options.student_temperature)
            return {
                "nll": Term(at.cross_entropy(log_s), (1 - options.alpha) * scale),
                "kd": Term(soft_cross_entropy(*pair), options.alpha * scale),
            }

        terms = step.over_positions(response, student, teacher)
        if aligned:
            elapsed = (step.update - 1) / options.decay_updates if options.decay_updates else step.epoch - 1
            weight = options.beta * options.decay**elapsed
            half = 0.5 if options.decoder_maps == "both" else 1.0
            for kind in self._kinds:
                # D is no sum over tokens: times n, so that it comes out of training's division as it is.
                value = batch.tokens * self._divergence(kind, step.modules, teacher, student)
                terms[f"attention_{kind}"] = Term(value, weight if kind == "encoder" else half * weight)
        return terms

    @property
    def _kinds(self) -> tuple[Maps, ...]:
        decoder = self.settings.decoder_maps
        return ("encoder", *{"both": ("self", "cross"), "none": ()}.get(decoder, (decoder,)))

    def _divergence(self, kind: str, alignment: nn.Module | None, teacher: Forward, student: Forward) -> Tensor:
        assert isinstance(alignment, Alignment)
        options = self.settings
        target, ours = _attention(teacher, kind), _attention(student, kind)
        if options.align_norm == "row_prob":
            # Mixing logarithms keeps the mixture a distribution, and leaves a single head as it is.
            target, ours = target.clamp_min(SMALLEST).log(), ours.clamp_min(SMALLEST).log()
        if kind in alignment.teacher:
            target = alignment.teacher[kind](target)
        ours = alignment.student[kind](ours)
        rows = options.align_norm != "flat_softmax"
        cells = _cells(student, kind, causal=rows) if rows or options.mask_pads else None
        return attention_divergence(target, ours, options.align_norm, options.align_reduction, cells)


def _maps(config: ModelConfig, kind: str) -> int:
    return config.heads * (config.encoder_layers if kind == "encoder" else config.decoder_layers)


def _attention(result: Forward, kind: str) -> Tensor:
    maps = {
        "encoder": result.encoded.attention,
        "self": result.decoded.self_attention,
        "cross": result.decoded.cross_attention,
    }[kind]
    assert maps is not None
    return maps.float()


def _cells(result: Forward, kind: str, *, causal: bool) -> Tensor:
    """(batch, queries, keys) bool: both are real and, where ``causal``, no decoder key lies ahead of its query."""
    source, target = result.encoded.mask, result.batch.mask
    queries, keys = {"encoder": (source, source), "self": (target, target), "cross": (target, source)}[kind]
    cells = queries.unsqueeze(2) & keys.unsqueeze(1)
    return torch.tril(cells) if causal and kind == "self" else cells
