"""The student without distillation: what every method is compared with."""

from __future__ import annotations

from bench.method import Method, Step, Term


class Baseline(Method):
    """Label-smoothed cross-entropy on the references (Vaswani et al. 2017), tuned as every method is."""

    name = "baseline"
    title = "Plain student"
    summary = "Trained on the references alone, with label-smoothed cross-entropy and no teacher."
    plain = {}

    def loss(self, step: Step) -> dict[str, Term]:
        return step.over_positions(
            lambda at, student: {"nll": Term(at.cross_entropy(student))}, step.student.forward(step.batch)
        )
