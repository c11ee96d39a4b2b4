"""The student without distillation: what every method is compared with."""

from __future__ import annotations

from bench.method import Method, Step, Term


class Baseline(Method):
    """Label-smoothed cross-entropy on the references (Vaswani et al. 2017), tuned as every method is."""

    name = "baseline"
    title = "Plain student"
    summary = "Trained on the references alone, with label-smoothed cross-entropy and no teacher."
    description = (
        "What every method is compared with, trained and tuned by the same rules with the same budget. Label smoothing "
        "moves a part of the probability from each reference word to all other words of the vocabulary."
    )
    equation = (
        r"\mathcal{L}_{\text{CE}} = -\sum_{t} \left( (1 - \varepsilon - \varepsilon') \log p_S(y_t) "
        r"+ \varepsilon' \sum_{v \in V} \log p_S(v) \right), \quad \varepsilon' = \frac{\varepsilon}{|V| - 1}"
    )
    plain = {}

    def loss(self, step: Step) -> dict[str, Term]:
        return step.over_positions(
            lambda at, student: {"nll": Term(at.cross_entropy(student))}, step.student.forward(step.batch)
        )
