"""Word-level distillation: the student matches the teacher's next-token distributions (Kim & Rush 2016)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from bench.losses import divergence, soft_cross_entropy, tempered
from bench.method import Method, Paper, Positions, Range, Step, TeacherText, TeacherUse, Term, setting


class WordLevel(Method):
    """(1 - alpha) * label-smoothed CE + alpha * divergence(teacher, student), under teacher forcing.

    The paper has the soft cross-entropy, whose gradient is that of the forward KL; the KL is the default because it is
    zero at equality. The other divergences are those of f-DISTILL (Wen et al. 2023). The temperature divides the logits
    of both sides; there is no T^2 factor, so a higher temperature also lowers the term's gradient.
    """

    name = "word_level"
    title = "Word-level KD"
    summary = "At every target position the student imitates the teacher's distribution over the next token."
    description = (
        "The teacher's distribution tells more than the one reference: which other words would have been good there, "
        "and how hard the choice is. Both models read the reference up to each position, and the student's loss is a "
        "mixture of its cross-entropy on the reference and of its divergence from the teacher."
    )
    equation = (
        r"\mathcal{L} = (1 - \alpha) \, \mathcal{L}_{\text{CE}} "
        r"+ \alpha \sum_{t} \text{KL} \left( p_T(\cdot \mid x, y_{<t}) \parallel p_S(\cdot \mid x, y_{<t}) \right)"
    )
    paper = Paper(
        "Kim and Rush: Sequence-Level Knowledge Distillation. EMNLP", 2016, "https://aclanthology.org/D16-1139"
    )
    teacher = TeacherUse.FROZEN
    distributions_only = True
    plain = {"alpha": 0.0}

    class Settings(TeacherText):
        alpha: float = setting(0.5, "Weight of the teacher's term.", ge=0, le=1, search=Range(0.1, 0.9))
        temperature: float = setting(
            1.0, "Divides the logits of teacher and student.", gt=0, search=Range(0.5, 4.0, log=True)
        )
        divergence: Literal["forward_kl", "reverse_kl", "js", "tvd", "cross_entropy"] = setting(
            "forward_kl", "How the two distributions are compared."
        )

    def loss(self, step: Step) -> dict[str, Term]:
        assert step.teacher is not None
        options = self.settings

        def terms(at: Positions, student: Tensor, teacher: Tensor) -> dict[str, Term]:
            pair = tempered(teacher, options.temperature), tempered(student, options.temperature)
            soft = options.divergence == "cross_entropy"
            kd = soft_cross_entropy(*pair) if soft else divergence(*pair, options.divergence)
            return {"nll": Term(at.cross_entropy(student), 1 - options.alpha), "kd": Term(kd, options.alpha)}

        return step.over_positions(terms, step.student.forward(step.batch), step.teacher.forward(step.batch))
