"""The curve of a training: read from its artifact, thinned, and kept in order by the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from factories import make_curve, make_record
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.curves import read_curve
from bench.results import CurvePoint, Record, thinned


def point(update: int, dev_loss: float = 3.0, stage: int = 0, **fields: object) -> CurvePoint:
    values = {"stage": stage, "update": update, "target_tokens": 100 * update, "dev_loss": dev_loss, "dev_nll": 2.0}
    return CurvePoint.model_validate(values | fields)


def test_target_tokens_are_counted_over_all_stages(tmp_path: Path) -> None:
    history = [
        {"stage": 0, "update": 10, "tokens": 100, "dev_loss": 3.5, "dev_nll": 3.0, "train_nll": 4.0},
        {"stage": 0, "update": 20, "tokens": 210, "dev_loss": 3.0, "dev_nll": 2.5, "train_nll": 3.0},
        {"stage": 1, "update": 5, "tokens": 50, "dev_loss": 2.5, "dev_nll": 2.0, "dev_bleu": 9.5, "train_kd": 0.5},
    ]
    (tmp_path / "history.json").write_text(json.dumps(history))
    curve = read_curve(tmp_path / "history.json")
    assert [each.target_tokens for each in curve] == [100, 210, 260]
    assert [each.update for each in curve] == [10, 20, 5]
    assert [each.terms for each in curve] == [{"nll": 4.0}, {"nll": 3.0}, {"kd": 0.5}]
    assert [each.dev_bleu for each in curve] == [None, None, 9.5]


def test_a_short_curve_stays_as_it_is() -> None:
    assert thinned(make_curve()) == make_curve()


def test_a_long_curve_keeps_first_best_and_last_and_others_evenly() -> None:
    curve = [point(update, 1.0 if update == 38 else 3.0) for update in range(1, 101)]
    kept = [each.update for each in thinned(curve, most=8)]
    assert len(kept) == 8
    assert {1, 38, 100} < set(kept)
    # The five others lie a fifth of the curve apart, or one more where a kept point lies between.
    others = [update for update in kept if update not in (1, 38, 100)]
    assert others == [2, 21, 41, 61, 80]


@given(
    st.lists(st.tuples(st.floats(0, 9), st.none() | st.floats(0, 100)), min_size=1, max_size=60),
    st.integers(0, 2),
    st.integers(10, 20),
)
def test_what_chooses_the_checkpoint_is_never_thinned_away(
    values: list[tuple[float, float | None]], breaks: int, most: int
) -> None:
    size = len(values) // (breaks + 1) + 1
    curve = [point(n + 1, loss, n // size, dev_bleu=bleu) for n, (loss, bleu) in enumerate(values)]
    kept = thinned(curve, most)
    assert len(kept) == min(len(curve), most)
    assert sorted(kept, key=lambda each: each.update) == list(kept)
    for stage in {each.stage for each in curve}:
        before, after = ([each for each in all_ if each.stage == stage] for all_ in (curve, kept))
        assert after[-1] == before[-1]
        assert min(before, key=lambda each: each.dev_loss) in after
        assert max(before, key=lambda each: each.dev_bleu or 0.0) in after


def test_more_stages_than_points_cannot_be_thinned() -> None:
    with pytest.raises(ValueError, match="more than 3"):
        thinned([point(n, stage=n) for n in range(1, 6)], most=3)


@pytest.mark.parametrize(
    "curve",
    [
        [point(2), point(1)],
        [point(1), point(1)],
        [point(1, stage=1), point(2, stage=0)],
    ],
    ids=["backwards", "twice", "stages"],
)
def test_a_curve_out_of_order_is_refused(curve: list[CurvePoint]) -> None:
    values = make_record().model_dump()
    values["training"]["curve"] = [each.model_dump() for each in curve]
    with pytest.raises(ValidationError, match="order of the training"):
        Record.model_validate(values)


def test_a_curve_without_end_is_refused() -> None:
    values = make_record().model_dump()
    values["training"]["curve"] = [point(n).model_dump() for n in range(1, 502)]
    with pytest.raises(ValidationError, match="at most 500"):
        Record.model_validate(values)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["dev_loss", "dev_nll", "dev_bleu"])
def test_numbers_that_are_none_are_refused(field: str, bad: float) -> None:
    with pytest.raises(ValidationError):
        point(1, **{field: bad})
    with pytest.raises(ValidationError):
        point(1, terms={"kd": bad})
