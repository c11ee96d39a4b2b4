"""Sequence-level distillation: ordinary training on the teacher's translations (Kim & Rush 2016)."""

from __future__ import annotations

from typing import Literal

from bench.method import Method, Paper, Stage, Step, Term, TrainingText, setting


class SequenceLevel(Method):
    """Label-smoothed CE with the teacher's beam output in place of the references.

    ``best`` is the paper's Seq-KD. ``interpolation`` is its Seq-KD followed by Seq-Inter: a second stage fine-tunes on
    the hypothesis closest to the reference among K. ``n_best`` trains on several hypotheses of every source.
    """

    name = "sequence_level"
    title = "Sequence-level KD"
    summary = "The student is trained as usual, on the teacher's translations of the training sources."
    description = (
        "The teacher translates the training sources once by beam search, and the student learns from these "
        "translations in place of the references: they vary less, and so are easier to imitate. Interpolation goes on "
        "with the hypothesis closest to the reference among many."
    )
    equation = (
        r"\mathcal{L} = \mathcal{L}_{\text{CE}}(\hat{y}), \quad \hat{y} \approx \text{argmax}_{y} \; p_T(y \mid x)"
    )
    paper = Paper(
        "Kim and Rush: Sequence-Level Knowledge Distillation. EMNLP", 2016, "https://aclanthology.org/D16-1139"
    )

    class Settings(Method.Settings):
        mode: Literal["best", "interpolation", "n_best"] = setting(
            "best", "Which of the teacher's hypotheses are used."
        )
        beam: int = setting(5, "Beam of the teacher's search; widened where more hypotheses are asked for.", ge=1)
        n_best: int = setting(5, "n_best: hypotheses kept for each source.", ge=1)
        interpolation_k: int = setting(35, "interpolation: hypotheses among which the closest is chosen.", ge=1)
        finetune_share: float = setting(0.2, "interpolation: the second stage's part of the budget.", gt=0, lt=1)
        finetune_scale: float = setting(0.1, "interpolation: the second stage's learning rate, as a factor.", gt=0)

    def stages(self) -> tuple[Stage, ...]:
        options = self.settings
        if options.mode == "n_best":
            return (Stage(text=_hypotheses(options.beam, options.n_best, "all")),)
        best = TrainingText(origin="teacher", beam=options.beam)
        if options.mode == "best":
            return (Stage(text=best),)
        return (
            Stage(name="best", share=1 - options.finetune_share, text=best),
            Stage(
                name="closest",
                share=options.finetune_share,
                text=_hypotheses(options.beam, options.interpolation_k, "closest"),
                learning_rate_scale=options.finetune_scale,
            ),
        )

    def loss(self, step: Step) -> dict[str, Term]:
        return step.over_positions(
            lambda at, student: {"nll": Term(at.cross_entropy(student))}, step.student.forward(step.batch)
        )


def _hypotheses(beam: int, n: int, choose: Literal["closest", "all"]) -> TrainingText:
    return TrainingText(origin="teacher", beam=max(beam, n), n_best=n, choose=choose)
