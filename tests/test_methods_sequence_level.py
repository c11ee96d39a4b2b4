"""Sequence-level distillation."""

import pytest
import torch

from bench.errors import UsageError
from bench.method import TeacherUse, TrainingText
from bench.toy import Toy, toy_batch
from methods.baseline import Baseline
from methods.sequence_level import SequenceLevel


def test_the_loss_is_that_of_plain_training_and_needs_no_teacher_passes() -> None:
    batch = toy_batch()
    assert SequenceLevel.teacher is TeacherUse.NONE
    assert torch.equal(Toy.of(SequenceLevel()).loss(batch), Toy.of(Baseline()).loss(batch))


def test_by_default_it_learns_from_the_best_of_a_beam_of_five() -> None:
    (stage,) = SequenceLevel().stages()
    assert stage.text == TrainingText(origin="teacher", beam=5, n_best=1, choose="best")
    assert stage.learning_rate_scale == 1


def test_interpolation_fine_tunes_on_the_closest_hypothesis_at_a_tenth_of_the_rate() -> None:
    first, second = SequenceLevel({"mode": "interpolation", "finetune_share": 0.3}).stages()
    assert first.text == SequenceLevel().stages()[0].text
    assert second.text == TrainingText(origin="teacher", beam=35, n_best=35, choose="closest")
    assert (first.share, second.share) == pytest.approx((0.7, 0.3))
    assert (first.learning_rate_scale, second.learning_rate_scale) == (1.0, 0.1)


def test_the_closest_of_one_is_the_best_of_a_beam_of_one() -> None:
    settings = {"mode": "interpolation", "beam": 1, "interpolation_k": 1}
    first, second = SequenceLevel(settings).stages()
    assert first.text == second.text.model_copy(update={"choose": "best"})


@pytest.mark.parametrize(("beam", "n_best", "widened"), [(5, 3, 5), (5, 8, 8)])
def test_n_best_keeps_all_hypotheses_of_a_beam_that_is_wide_enough(beam: int, n_best: int, widened: int) -> None:
    (stage,) = SequenceLevel({"mode": "n_best", "beam": beam, "n_best": n_best}).stages()
    assert stage.text == TrainingText(origin="teacher", beam=widened, n_best=n_best, choose="all")


@pytest.mark.parametrize("given", [{"mode": "all"}, {"beam": 0}, {"finetune_share": 1.0}, {"finetune_scale": 0.0}])
def test_wrong_settings_are_refused(given: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(given))):
        SequenceLevel(given)
