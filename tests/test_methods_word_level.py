"""Word-level distillation."""

import copy

import pytest
import torch

from bench.errors import UsageError
from bench.losses import divergence, soft_cross_entropy
from bench.method import Batch, Runner, TrainingText
from bench.toy import Toy, toy_batch
from methods.baseline import Baseline
from methods.word_level import WordLevel


def test_alpha_zero_is_plain_training_bit_for_bit() -> None:
    batch = toy_batch()
    assert torch.equal(Toy.of(WordLevel({"alpha": 0})).loss(batch), Toy.of(Baseline()).loss(batch))


def test_alpha_one_does_not_look_at_the_labels() -> None:
    batch, toy = toy_batch(), Toy.of(WordLevel({"alpha": 1}))
    other = Batch(batch.source, batch.prefix, torch.where(batch.mask, 5, batch.target))
    assert torch.equal(toy.loss(batch), toy.loss(other))


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "js", "tvd", "cross_entropy"])
def test_the_loss_mixes_cross_entropy_and_the_chosen_divergence(kind: str) -> None:
    batch, toy = toy_batch(), Toy.of(WordLevel({"alpha": 0.3, "temperature": 2.0, "divergence": kind}))
    step = toy.step(batch)
    assert toy.teacher is not None
    student, teacher = toy.student.forward(batch).log_probabilities, toy.teacher.forward(batch).log_probabilities
    pair = (teacher / 2).log_softmax(-1), (student / 2).log_softmax(-1)
    kd = soft_cross_entropy(*pair) if kind == "cross_entropy" else divergence(*pair, kind)
    expected = 0.7 * step.positions.cross_entropy(student) + 0.3 * kd
    assert toy.loss(batch).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    toy = Toy.of(WordLevel({"alpha": 1}))
    assert toy.teacher is not None
    student = Runner(copy.deepcopy(toy.teacher.model).requires_grad_(True))
    twin = Toy(toy.method, student, toy.teacher, None)
    assert twin.loss(toy_batch()).item() == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, TrainingText()),
        ({"data": "seqkd"}, TrainingText(origin="teacher", beam=5)),
        ({"data": "seqinter"}, TrainingText(origin="teacher", beam=35, n_best=35, choose="closest")),
        (
            {"data": "seqinter", "interpolation_k": 8},
            TrainingText(origin="teacher", beam=8, n_best=8, choose="closest"),
        ),
    ],
)
def test_it_combines_with_sequence_level_data(given: dict, expected: TrainingText) -> None:
    assert WordLevel(given).stages()[0].text == expected


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"alpha": 1.5}, "alpha"),
        ({"temperature": 0}, "temperature"),
        ({"divergence": "jsd"}, "'js'"),
        ({"data": "teacher"}, "seqkd"),
        ({"alhpa": 0.5}, "'alpha'"),
    ],
)
def test_wrong_settings_are_explained(given: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        WordLevel(given)
