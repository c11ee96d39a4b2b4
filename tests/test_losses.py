"""Losses against values worked out by hand, and their properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.losses import divergence, label_smoothed_cross_entropy, soft_cross_entropy, tempered

TEACHER, STUDENT = [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]
KINDS = ("forward_kl", "reverse_kl", "js", "tvd")


def logs(probabilities: list[float]) -> Tensor:
    """The log-probabilities of one position."""
    return torch.tensor([probabilities]).log()


def drawn(seed: int, positions: int = 4, vocabulary: int = 7, scale: float = 1.0) -> Tensor:
    """Random log-probabilities."""
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(positions, vocabulary, generator=generator)).log_softmax(dim=-1)


def test_label_smoothing_spreads_over_the_other_tokens() -> None:
    loss = label_smoothed_cross_entropy(logs([0.7, 0.1, 0.1, 0.1]), torch.tensor([0]), 0.1)
    assert loss.item() == pytest.approx(0.551266, abs=1e-6)


def test_without_smoothing_it_is_the_negative_log_likelihood() -> None:
    loss = label_smoothed_cross_entropy(logs([0.7, 0.1, 0.1, 0.1]), torch.tensor([0]), 0.0)
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
    assert divergence(
        tempered(logs(TEACHER), temperature), tempered(logs(STUDENT), temperature), kind
    ).item() == pytest.approx(expected, abs=1e-6)


def test_soft_cross_entropy_is_the_divergence_and_the_entropy_of_the_teacher() -> None:
    assert soft_cross_entropy(logs(TEACHER), logs(STUDENT)).item() == pytest.approx(1.054920, abs=1e-6)
    assert soft_cross_entropy(logs(TEACHER), logs(TEACHER)).item() == pytest.approx(1.029653, abs=1e-6)


def test_a_temperature_divides_logits() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    torch.testing.assert_close(tempered(logits.log_softmax(-1), 2.0), (logits / 2).log_softmax(-1))
    assert tempered(logits, 1.0) is logits


def test_kl_and_soft_cross_entropy_pull_the_student_alike() -> None:
    gradients = []
    for loss in (divergence, soft_cross_entropy):
        student = logs(STUDENT).requires_grad_()
        loss(logs(TEACHER), student.log_softmax(-1)).backward()
        assert student.grad is not None
        gradients.append(student.grad[0].tolist())
    assert gradients[0] == pytest.approx([-0.1, 0.1, 0.0], abs=1e-6)
    assert gradients[1] == pytest.approx(gradients[0], abs=1e-6)


def test_kl_pulls_an_attached_teacher_too() -> None:
    teacher = logs(TEACHER).requires_grad_()
    divergence(teacher.log_softmax(-1), logs(STUDENT)).backward()
    assert teacher.grad is not None
    assert teacher.grad[0].tolist() == pytest.approx([0.098938, -0.093885, -0.005053], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000), temperature=st.floats(0.5, 4.0))
def test_a_divergence_is_zero_at_equality_only(kind, seed: int, temperature: float) -> None:
    teacher, student = tempered(drawn(seed), temperature), tempered(drawn(seed + 1), temperature)
    assert divergence(teacher, teacher.clone(), kind).item() == pytest.approx(0.0, abs=1e-5)
    assert divergence(teacher, student, kind).item() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000))
def test_losses_add_up_over_positions(kind, seed: int) -> None:
    teacher, student, labels = drawn(seed), drawn(seed + 1), torch.arange(4)
    whole = divergence(teacher, student, kind)
    parts = sum(divergence(teacher[i : i + 1], student[i : i + 1], kind) for i in range(4))
    assert whole.item() == pytest.approx(float(parts), rel=1e-4)
    whole = label_smoothed_cross_entropy(student, labels, 0.1)
    parts = sum(label_smoothed_cross_entropy(student[i : i + 1], labels[i : i + 1], 0.1) for i in range(4))
    assert whole.item() == pytest.approx(float(parts), rel=1e-4)


@given(seed=st.integers(0, 10_000))
def test_js_and_tvd_are_symmetric_and_bounded(seed: int) -> None:
    one, other = drawn(seed, scale=5), drawn(seed + 1, scale=5)
    for kind, bound in (("js", 4 * math.log(2)), ("tvd", 4.0)):
        there, back = divergence(one, other, kind).item(), divergence(other, one, kind).item()
        assert there == pytest.approx(back, rel=1e-3)
        assert there <= bound + 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_certain_teachers_and_students_stay_finite(kind) -> None:
    teacher, student = torch.tensor([[200.0, 0.0, 0.0]]), torch.tensor([[0.0, 200.0, 0.0]], requires_grad=True)
    loss = divergence(teacher.log_softmax(-1), student.log_softmax(-1), kind)
    loss.backward()
    assert math.isfinite(loss.item())
    assert bool(student.grad.isfinite().all())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_divergences_are_those_of_their_definitions(kind) -> None:
    pair = [drawn(seed, positions=2, vocabulary=4).double().requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(lambda *logits: divergence(*(each.log_softmax(-1) for each in logits), kind), pair)
    detached = divergence(pair[0].detach(), pair[1], kind)
    detached.backward()
    assert pair[0].grad is None
    assert pair[1].grad is not None
