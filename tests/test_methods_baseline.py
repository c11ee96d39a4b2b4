"""The plain student."""

import pytest

from bench.method import TrainingText
from bench.toy import STUDENT, TEACHER, Toy, toy_batch
from methods.baseline import Baseline


def test_the_loss_is_label_smoothed_cross_entropy_on_the_references() -> None:
    toy, batch = Toy.of(Baseline()), toy_batch()
    step = toy.step(batch)
    expected = step.positions.cross_entropy(toy.student.forward(batch).log_probabilities)
    assert toy.loss(batch).item() == pytest.approx(expected.item())
    assert list(toy.method.loss(step)) == ["nll"]


def test_it_trains_the_student_on_the_corpus_without_a_teacher() -> None:
    toy = Toy.of(Baseline())
    assert toy.teacher is None
    assert toy.method.text() == TrainingText()
    assert toy.method.architecture(STUDENT, TEACHER) == STUDENT
    assert [delivery.depth for delivery in toy.method.deliveries(STUDENT, TEACHER)] == [STUDENT.depth]
