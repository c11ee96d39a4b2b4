"""The values a method gets and gives: logits on first use, training texts, steps."""

import pytest
import torch
from pydantic import ValidationError

from bench.method import Method, Step, TeacherText, TrainingText
from bench.toy import LABEL_SMOOTHING, Toy, toy_batch
from methods.baseline import Baseline
from methods.word_level import WordLevel


def test_logits_first_read_without_gradients_still_have_their_graph() -> None:
    toy, batch = Toy.of(Baseline()), toy_batch()
    result = toy.student.forward(batch)
    with torch.no_grad():
        assert result.logits.argmax(dim=-1).shape == (batch.tokens,)
    result.logits.logsumexp(dim=-1).sum().backward()
    reached = [p for p in toy.student.model.parameters() if p.grad is not None and p.grad.any()]
    assert any(p is toy.student.model.embedding.weight for p in reached)
    assert len(reached) > 10
    assert torch.equal(result.logits, toy.student.forward(batch).logits)


def test_logits_of_a_pass_without_gradients_have_none() -> None:
    toy, batch = Toy.of(WordLevel()), toy_batch()
    assert toy.teacher is not None
    with torch.no_grad():
        passed = toy.student.forward(batch)
    assert not passed.logits.requires_grad
    assert not toy.teacher.forward(batch).logits.requires_grad
    with torch.inference_mode():
        assert not toy.student.forward(batch).logits.requires_grad


@pytest.mark.parametrize(("beam", "n_best"), [(1, 2), (5, 6)])
def test_more_hypotheses_than_the_beam_holds_are_refused(beam: int, n_best: int) -> None:
    with pytest.raises(ValidationError, match=f"a beam of {beam} cannot give n_best={n_best} hypotheses"):
        TrainingText(origin="teacher", beam=beam, n_best=n_best, choose="all")
    assert TrainingText(origin="teacher", beam=beam, n_best=beam, choose="all").n_best == beam


def test_settings_with_teacher_text_choose_the_text_of_the_only_stage() -> None:
    class Combined(Baseline):
        class Settings(TeacherText):
            pass

    assert Combined().text() == TrainingText()
    (stage,) = Combined({"data": "seqinter", "interpolation_k": 3}).stages()
    assert stage.text == TrainingText(origin="teacher", beam=3, n_best=3, choose="closest")


def test_other_settings_leave_the_corpus_as_it_is() -> None:
    class Other(Baseline):
        class Settings(Method.Settings):
            data: str = "seqkd"

    assert Other().text() == TrainingText()


def test_a_step_must_say_where_its_random_numbers_come_from() -> None:
    toy = Toy.of(Baseline())
    with pytest.raises(TypeError, match="random"):
        Step(toy_batch(), toy.student, None, LABEL_SMOOTHING)
