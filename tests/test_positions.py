"""Sums over positions in chunks: the values and gradients of the same loss written down plainly."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from bench import positions as module
from bench.config import ModelConfig
from bench.losses import divergence
from bench.method import Depth, Positions, Runner, Step, Term, total
from bench.nmt.model import Transformer
from bench.toy import LABEL_SMOOTHING, STUDENT, TEACHER, VOCABULARY, toy_batch

WEIGHTS = {"nll": 0.7, "kd": 0.3}


def terms(at: Positions, student: Tensor, teacher: Tensor) -> dict[str, Term]:
    return {
        "nll": Term(at.cross_entropy(student), WEIGHTS["nll"]),
        "kd": Term(divergence(teacher, student), WEIGHTS["kd"]),
    }


def models(vocabulary: int = VOCABULARY, **changed: object) -> tuple[Runner, Runner]:
    """A student and a frozen teacher."""
    torch.manual_seed(1)
    shapes = (shape.model_copy(update={"dropout": 0.0, **changed}) for shape in (STUDENT, TEACHER))
    student, teacher = (Transformer(ModelConfig.model_validate(dict(shape)), vocabulary) for shape in shapes)
    return Runner(student), Runner(teacher, frozen=True)


def made(student: Runner, teacher: Runner) -> Step:
    return Step(toy_batch(), student, teacher, LABEL_SMOOTHING, random.Random(1))


def gradients(model: nn.Module, found: Mapping[str, Term]) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    (3.0 * total(found)).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("rows", [1, 7, 10_000])
@pytest.mark.parametrize("read_before", [False, True])
@pytest.mark.parametrize("tie", ["all", "none"])
def test_values_and_gradients_are_those_of_the_plain_form(
    rows: int, read_before: bool, tie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEWEST", 1)
    monkeypatch.setitem(module.CHUNK, "cpu", rows * VOCABULARY)
    student, teacher = models(tie=tie)
    step = made(student, teacher)
    passes = student.forward(step.batch), teacher.forward(step.batch)
    plain = terms(step.positions, *(each.log_probabilities for each in passes))
    expected = gradients(student.model, plain)
    again = student.forward(step.batch), teacher.forward(step.batch)
    if read_before:
        assert again[0].logits.requires_grad
    found = step.over_positions(terms, *again)
    for name, term in found.items():
        assert term.weight == WEIGHTS[name]
        torch.testing.assert_close(term.value, plain[name].value, rtol=1e-5, atol=1e-5)
    for wanted, own in zip(expected, gradients(student.model, found), strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-5)
    assert all(p.grad is None for p in teacher.model.parameters())


def test_chunks_come_in_order_and_cover_each_position_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST", 1)
    monkeypatch.setitem(module.CHUNK, "cpu", 5 * VOCABULARY)
    step, seen = made(*models()), []

    def watched(at: Positions, student: Tensor) -> dict[str, Term]:
        seen.append(at.labels)
        torch.testing.assert_close(student.exp().sum(dim=-1), torch.ones(len(at.labels)))
        return {"nll": Term(at.cross_entropy(student))}

    step.over_positions(watched, step.student.forward(step.batch))
    assert [len(labels) for labels in seen[:-1]] == [5] * (len(seen) - 1)
    assert torch.equal(torch.cat(seen), step.batch.labels)


def test_no_tensor_over_the_vocabulary_is_larger_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary, sizes, widths = 997, [], (STUDENT.width, TEACHER.width)
    monkeypatch.setattr(module, "FEWEST", 1)
    monkeypatch.setitem(module.CHUNK, "cpu", 4 * vocabulary)
    step = made(*models(vocabulary))

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            found = function(*args, **(kwargs or {}))
            if isinstance(found, Tensor) and found.shape[1:] == (vocabulary,) and len(found) not in widths:
                sizes.append(found.size(0))
            return found

    assert step.batch.tokens > 4
    assert step.batch.tokens not in widths
    with Watch():
        total(step.over_positions(terms, step.student.forward(step.batch), step.teacher.forward(step.batch))).backward()
    assert sizes
    assert max(sizes) <= 4


def test_a_term_alone_or_with_another_weight_cannot_be_minimised() -> None:
    step = made(*models())
    for spoil in (lambda found: found["kd"].value, lambda found: found["kd"].value + found["nll"].value):
        found = step.over_positions(terms, step.student.forward(step.batch), step.teacher.forward(step.batch))
        with pytest.raises(RuntimeError, match="weights that they were given"):
            spoil(found).backward()


def test_terms_without_weight_give_no_gradient_and_no_error() -> None:
    step = made(*models())
    found = step.over_positions(
        lambda at, student: {"nll": Term(at.cross_entropy(student), 0.0)}, step.student.forward(step.batch)
    )
    assert not any(gradient.any() for gradient in gradients(step.student.model, found))


def test_nothing_is_kept_for_a_gradient_that_nobody_wants() -> None:
    step = made(*models())
    with torch.no_grad():
        found = step.over_positions(terms, step.student.forward(step.batch), step.teacher.forward(step.batch))
    assert not any(term.value.requires_grad for term in found.values())


def test_a_pass_that_was_detached_gets_no_gradient_but_the_other_does() -> None:
    step = made(*models())
    whole, part = (step.student.forward(step.batch) for _ in range(2))

    def pull(at: Positions, senior: Tensor, junior: Tensor) -> dict[str, Term]:
        return {"kd": Term(divergence(senior.detach(), junior)), "nll": Term(at.cross_entropy(junior))}

    for each in (whole, part):
        each.logits.retain_grad()
    total(step.over_positions(pull, whole, part)).backward()
    assert not whole.logits.grad.any()
    assert part.logits.grad.any()


def test_a_chunk_has_many_positions_however_large_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.CHUNK, "cpu", 1)
    step, calls = made(*models()), []

    def watched(at: Positions, student: Tensor) -> dict[str, Term]:
        calls.append(len(at.labels))
        return {"nll": Term(at.cross_entropy(student))}

    step.over_positions(watched, step.student.forward(step.batch))
    assert calls == [step.batch.tokens]
    assert step.batch.tokens <= module.FEWEST


def test_a_module_in_the_terms_is_refused_for_its_gradient_would_be_lost() -> None:
    step, scale = made(*models()), nn.Linear(1, 1)
    with pytest.raises(ValueError, match="besides its passes that learns"):
        step.over_positions(
            lambda at, student: {"nll": Term(scale.weight.sum() * at.cross_entropy(student))},
            step.student.forward(step.batch),
        )
    outer = step.student.forward(step.batch)
    with pytest.raises(ValueError, match="besides its passes that learns"):
        step.over_positions(
            lambda at, student: {"nll": Term(outer.decoded.states.mean() * at.cross_entropy(student))}, outer
        )


def test_a_weight_that_changes_between_chunks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST", 1)
    monkeypatch.setitem(module.CHUNK, "cpu", 5 * VOCABULARY)
    step = made(*models())
    with pytest.raises(ValueError, match="weight of term 'nll'"):
        step.over_positions(
            lambda at, student: {"nll": Term(at.cross_entropy(student), at.labels[0].item())},
            step.student.forward(step.batch),
        )


@pytest.mark.parametrize("read_before", [False, True])
def test_a_pass_without_gradients_trains_nothing(read_before: bool) -> None:
    step = made(*models())
    with torch.no_grad():
        own = step.student.forward(step.batch, depth=Depth(1, 1))
    if read_before:
        assert not own.logits.requires_grad
    found = step.over_positions(lambda at, log_p: {"kd": Term(at.cross_entropy(log_p))}, own)
    assert not found["kd"].value.requires_grad
