"""TIE-KD: the ranking loss against worked values, and the rounds on predicted prefixes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.losses import divergence, label_smoothed_cross_entropy
from bench.method import PAD, Forward, Runner
from bench.nmt.batch import EOS, Batch
from bench.toy import Toy, toy_batch
from methods.tie_kd import TieKD, likeliest, next_prefix, ranking, smoothed_kl

TEACHER = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
STUDENT = torch.tensor([[0.2, 0.4, 0.1, 0.3]])
SAME_ORDER = torch.tensor([[0.4, 0.35, 0.15, 0.1]])


def ranked(teacher: Tensor, student: Tensor, k: int, **options: bool) -> tuple[Tensor, Tensor]:
    return ranking(teacher, student, likeliest(student, k), **options)


def random_pair(seed: int) -> tuple[Tensor, Tensor]:
    return tuple(torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(seed)).softmax(-1))


@pytest.mark.parametrize(
    ("k", "top_one", "top_k"), [(1, 0.0, 0.2), (2, 0.2, 0.3), (3, 0.2, 0.5), (4, 0.3, 0.5), (9, 0.3, 0.5)]
)
def test_ranking_of_a_worked_pair(k: int, top_one: float, top_k: float) -> None:
    assert [part.item() for part in ranked(TEACHER, STUDENT, k)] == pytest.approx([top_one, top_k], abs=1e-6)


def test_a_pair_that_both_parts_see_can_be_counted_once() -> None:
    parts = ranked(TEACHER, STUDENT, 2, exclude_overlap=True)
    assert [part.item() for part in parts] == pytest.approx([0.2, 0.1], abs=1e-6)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_agreement_on_the_order_costs_nothing_though_the_distributions_differ(k: int) -> None:
    assert [part.item() for part in ranked(TEACHER, SAME_ORDER, k)] == [0.0, 0.0]
    assert smoothed_kl(TEACHER, SAME_ORDER).item() == pytest.approx(0.030669, abs=1e-5)


def test_the_worked_total() -> None:
    kl, hr = smoothed_kl(TEACHER, STUDENT), sum(ranked(TEACHER, STUDENT, 2))
    ce = label_smoothed_cross_entropy(STUDENT.log(), torch.tensor([0]), 0.1)
    assert kl.item() == pytest.approx(0.343073, abs=1e-5)
    assert ce.item() == pytest.approx(1.595922, abs=1e-6)
    assert (0.5 * ce + 0.5 * (kl + hr)).item() == pytest.approx(1.219497, abs=5e-6)


@given(seed=st.integers(0, 10_000), k=st.integers(1, 9))
def test_ranking_equals_its_definition(seed: int, k: int) -> None:
    teacher, student = random_pair(seed)
    expected_one = expected_k = 0.0
    for p_t, p_s in zip(teacher.tolist(), student.tolist(), strict=True):
        a = sorted(range(9), key=lambda v: -p_t[v])[:k]
        b = sorted(range(9), key=lambda v: -p_s[v])[:k]
        expected_one += sum(max(0.0, p_s[v] - p_s[a[0]]) for v in a)
        expected_k += sum(max(0.0, p_s[w] - p_s[v]) for v in a for w in b if p_t[v] > p_t[w])
    top_one, top_k = ranked(teacher, student, k)
    assert top_one.item() == pytest.approx(expected_one, abs=1e-5)
    assert top_k.item() == pytest.approx(expected_k, abs=1e-5)


@given(seed=st.integers(0, 10_000), k=st.integers(1, 9))
def test_ranking_depends_on_the_teachers_order_only(seed: int, k: int) -> None:
    teacher, student = random_pair(seed)
    before, after = ranked(teacher, student, k), ranked(teacher**3, student, k)
    assert [part.item() for part in before] == [part.item() for part in after]


def test_ranking_pulls_the_student_on_both_sides_of_a_pair_and_not_the_teacher() -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    sum(ranked(teacher, student, 2)).backward()
    assert student.grad is not None
    # R1: -p(0) + p(1); R2: the pairs (0, 1) and (0, 3).
    assert student.grad[0].tolist() == pytest.approx([-3.0, 2.0, 0.0, 1.0])
    assert teacher.grad is None


def test_the_gradient_of_the_smoothed_divergence_is_that_of_its_definition() -> None:
    teacher, student = (each[0].double() for each in random_pair(3))
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: smoothed_kl(teacher, s), student, atol=1e-6)
    plain = (teacher * ((teacher + 1e-6).log() - (student + 1e-6).log())).sum()
    assert smoothed_kl(teacher, student).item() == pytest.approx(plain.item(), rel=1e-9)


def test_the_next_prefix_keeps_its_first_column() -> None:
    assert next_prefix(torch.tensor([[9, 1, 2, 3]]), torch.tensor([[4, 5, 6, 7]])).tolist() == [[9, 4, 5, 6]]


def test_one_round_is_the_loss_on_gold_prefixes() -> None:
    batch, toy = toy_batch(), Toy.of(TieKD({"iterations": 1, "kd_weight": 0.4, "top_k": 3}))
    assert toy.teacher is not None
    student, teacher = toy.student.forward(batch).log_probabilities, toy.teacher.forward(batch).log_probabilities
    p_t, p_s = teacher.softmax(-1), student.softmax(-1)
    kd = smoothed_kl(p_t, p_s) + sum(ranked(p_t, p_s, 3))
    expected = 0.6 * toy.step(batch).positions.cross_entropy(student) + 0.4 * kd
    assert toy.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_the_epsilon_the_divergence_is_exact() -> None:
    batch, toy = toy_batch(), Toy.of(TieKD({"iterations": 1, "use_log_eps": False}))
    assert toy.teacher is not None
    exact = divergence(toy.teacher.forward(batch).log_probabilities, toy.student.forward(batch).log_probabilities)
    assert toy.method.loss(toy.step(batch))["kd"].value.item() == pytest.approx(exact.item(), rel=1e-5)


def test_the_second_round_feeds_both_models_the_students_predictions() -> None:
    batch, toy = toy_batch(), Toy.of(TieKD({"iterations": 2, "use_log_eps": False}))
    assert toy.teacher is not None
    predicted = batch.unpack(toy.student.forward(batch).log_probabilities.argmax(-1))
    again = Batch(batch.source, next_prefix(batch.prefix, predicted), batch.target)
    first = divergence(toy.teacher.forward(batch).log_probabilities, toy.student.forward(batch).log_probabilities)
    second = divergence(toy.teacher.forward(again).log_probabilities, toy.student.forward(again).log_probabilities)
    assert bool((again.prefix != batch.prefix).any())
    assert toy.method.loss(toy.step(batch))["kd"].value.item() == pytest.approx((first + second).item(), rel=1e-4)


def test_a_student_that_predicts_every_gold_token_has_the_same_loss_in_each_round() -> None:
    toy = Toy.of(TieKD({"iterations": 3, "use_log_eps": False}))
    assert toy.teacher is not None
    batch = _greedy(toy.student, toy_batch())
    once = Toy(TieKD({"iterations": 1, "use_log_eps": False}), toy.student, toy.teacher, None)
    assert toy.loss(batch).item() == pytest.approx(once.loss(batch).item(), rel=1e-5)


def _greedy(student: Runner, batch: Batch) -> Batch:
    """``batch`` with targets that are the student's own argmax under their own prefix."""
    for _ in range(batch.target.size(1)):
        predicted = batch.unpack(student.forward(batch).log_probabilities.argmax(-1))
        batch = Batch(batch.source, next_prefix(batch.prefix, predicted), batch.target)
    labels = batch.unpack(student.forward(batch).log_probabilities.argmax(-1))
    # A predicted PAD would count as padding, and cannot be a label.
    assert bool((labels[batch.mask] != PAD).all())
    return Batch(batch.source, batch.prefix, labels)


def test_the_encoders_run_once_and_every_round_reaches_the_students() -> None:
    toy, batch = Toy.of(TieKD({"iterations": 3, "kd_weight": 1.0})), toy_batch()
    counts = {"student": 0, "teacher": 0}
    assert toy.teacher is not None
    for name, runner in (("student", toy.student), ("teacher", toy.teacher)):
        original = runner.model.encode

        def encode(*args, name=name, original=original, **options):
            counts[name] += 1
            return original(*args, **options)

        runner.model.encode = encode
    toy.loss(batch).backward()
    assert counts == {"student": 1, "teacher": 1}
    gradient = toy.student.model.encoder[0].inner.weight.grad
    assert bool(gradient.any())


def test_a_predicted_pad_is_hidden_from_later_positions_or_an_ordinary_token() -> None:
    words = [4, 5, 6, 7, EOS]
    batch = Batch.of([words], [words])
    losses = {}
    for pad_is_predicted in (False, True):
        for choice in ("masked", "visible"):
            toy = Toy.of(TieKD({"iterations": 2, "predicted_pad": choice}))
            _predict(toy.student, [4, PAD if pad_is_predicted else 5, 6, 7, EOS])
            losses[pad_is_predicted, choice] = toy.loss(batch).item()
    assert losses[False, "masked"] == pytest.approx(losses[False, "visible"], rel=1e-6)
    assert losses[True, "masked"] != pytest.approx(losses[True, "visible"], rel=1e-6)


def _predict(student: Runner, words: list[int]) -> None:
    """Make ``words`` the likeliest tokens of a single sentence, whatever the prefix."""
    forward, lift = student.forward, torch.zeros(len(words), student.model.vocabulary)
    lift[range(len(words)), words] = 100.0

    def lifted(batch: Batch, **options) -> Forward:
        result = forward(batch, **options)
        result.__dict__["logits"] = result.logits + lift
        return result

    student.forward = lifted
