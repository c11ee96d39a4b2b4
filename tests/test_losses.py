"""Losses against values worked out by hand, and their properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.losses import divergence, label_smoothed_cross_entropy, soft_cross_entropy

TEACHER, STUDENT = [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]
KINDS = ("forward_kl", "reverse_kl", "js", "tvd")


def logits(probabilities: list[float]) -> Tensor:
    """Logits of one position, shifted so that a loss that forgets to normalise is found out."""
    return torch.tensor([probabilities]).log() + 3.0


def random_logits(seed: int, positions: int = 4, vocabulary: int = 7) -> Tensor:
    return torch.randn(positions, vocabulary, generator=torch.Generator().manual_seed(seed))


def test_label_smoothing_spreads_over_the_other_tokens() -> None:
    loss = label_smoothed_cross_entropy(logits([0.7, 0.1, 0.1, 0.1]), torch.tensor([0]), 0.1)
    assert loss.item() == pytest.approx(0.551266, abs=1e-6)


def test_without_smoothing_it_is_the_negative_log_likelihood() -> None:
    loss = label_smoothed_cross_entropy(logits([0.7, 0.1, 0.1, 0.1]), torch.tensor([0]), 0.0)
    assert loss.item() == pytest.approx(-math.log(0.7), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "temperature", "expected"),
    [
        ("forward_kl", 1.0, 0.025267),
        ("reverse_kl", 1.0, 0.025815),
        ("js", 1.0, 0.006367),
        ("tvd", 1.0, 0.1),
        ("forward_kl", 2.0, 0.005969),
    ],
)
def test_divergences_of_a_worked_pair(kind, temperature: float, expected: float) -> None:
    assert divergence(logits(TEACHER), logits(STUDENT), kind, temperature).item() == pytest.approx(expected, abs=1e-6)


def test_soft_cross_entropy_is_the_divergence_and_the_entropy_of_the_teacher() -> None:
    assert soft_cross_entropy(logits(TEACHER), logits(STUDENT)).item() == pytest.approx(1.054920, abs=1e-6)
    assert soft_cross_entropy(logits(TEACHER), logits(TEACHER)).item() == pytest.approx(1.029653, abs=1e-6)


def test_soft_cross_entropy_takes_a_temperature_for_each_side_or_one_for_both() -> None:
    teacher, student = logits(TEACHER), logits(STUDENT)
    expected = -((teacher / 2).softmax(-1) * (student / 4).log_softmax(-1)).sum()
    assert soft_cross_entropy(teacher, student, 2.0, 4.0).item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(soft_cross_entropy(teacher, student, 2.0), soft_cross_entropy(teacher, student, 2.0, 2.0))


def test_kl_and_soft_cross_entropy_pull_the_student_alike() -> None:
    gradients = []
    for loss in (divergence, soft_cross_entropy):
        student = logits(STUDENT).requires_grad_()
        loss(logits(TEACHER), student).backward()
        assert student.grad is not None
        gradients.append(student.grad[0].tolist())
    assert gradients[0] == pytest.approx([-0.1, 0.1, 0.0], abs=1e-6)
    assert gradients[1] == pytest.approx(gradients[0], abs=1e-6)


def test_kl_pulls_an_attached_teacher_too() -> None:
    teacher = logits(TEACHER).requires_grad_()
    divergence(teacher, logits(STUDENT)).backward()
    assert teacher.grad is not None
    assert teacher.grad[0].tolist() == pytest.approx([0.098938, -0.093885, -0.005053], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000), temperature=st.floats(0.5, 4.0))
def test_a_divergence_is_zero_at_equality_only(kind, seed: int, temperature: float) -> None:
    teacher = random_logits(seed)
    assert divergence(teacher, teacher + 1.0, kind, temperature).item() == pytest.approx(0.0, abs=1e-5)
    assert divergence(teacher, random_logits(seed + 1), kind, temperature).item() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000))
def test_losses_add_up_over_positions(kind, seed: int) -> None:
    teacher, student, labels = random_logits(seed), random_logits(seed + 1), torch.arange(4)
    whole = divergence(teacher, student, kind)
    parts = sum(divergence(teacher[i : i + 1], student[i : i + 1], kind) for i in range(4))
    assert whole.item() == pytest.approx(float(parts), rel=1e-4)
    whole = label_smoothed_cross_entropy(student, labels, 0.1)
    parts = sum(label_smoothed_cross_entropy(student[i : i + 1], labels[i : i + 1], 0.1) for i in range(4))
    assert whole.item() == pytest.approx(float(parts), rel=1e-4)


@given(seed=st.integers(0, 10_000))
def test_js_and_tvd_are_symmetric_and_bounded(seed: int) -> None:
    one, other = 5 * random_logits(seed), 5 * random_logits(seed + 1)
    for kind, bound in (("js", 4 * math.log(2)), ("tvd", 4.0)):
        there, back = divergence(one, other, kind).item(), divergence(other, one, kind).item()
        assert there == pytest.approx(back, rel=1e-3)
        assert there <= bound + 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_logits_give_the_loss_in_full_precision(kind) -> None:
    teacher, student = random_logits(1), random_logits(2)
    half = divergence(teacher.bfloat16(), student.bfloat16(), kind)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(divergence(teacher, student, kind).item(), rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_certain_teachers_and_students_stay_finite(kind) -> None:
    teacher, student = torch.tensor([[200.0, 0.0, 0.0]]), torch.tensor([[0.0, 200.0, 0.0]]).requires_grad_()
    loss = divergence(teacher, student, kind)
    loss.backward()
    assert math.isfinite(loss.item())
    assert bool(student.grad.isfinite().all())
