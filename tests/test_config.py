"""Recipes: presets, overrides, and what is refused before any work."""

import pytest
from pydantic import ValidationError

from bench.config import SECTIONS, Depth, ModelConfig, Preset, Range, SearchConfig, TrainConfig, preset, presets
from bench.errors import UsageError

SHAPE = {"width": 16, "ffn": 32, "heads": 2, "encoder_layers": 3, "decoder_layers": 2}
TRAINING = {"target_tokens": 10, "batch_tokens": 10, "learning_rate": 1.0, "warmup_updates": 0}


def test_the_presets_of_the_design_exist_and_students_are_not_deeper_than_teachers():
    assert list(presets()) == ["quick", "tiny", "small", "iwslt", "base"]
    for name, each in presets().items():
        assert each.name == name
        assert each.seeds >= 3
        assert all(mine <= theirs for mine, theirs in zip(each.student.depth, each.teacher.depth))


def test_a_preset_takes_over_what_it_does_not_say_itself():
    iwslt, base = presets()["iwslt"], presets()["base"]
    assert base.tokenizer.max_pieces == iwslt.tokenizer.max_pieces == 256
    assert base.training.batch_tokens == iwslt.training.batch_tokens
    assert (iwslt.tokenizer.vocabulary, base.tokenizer.vocabulary) == (10000, 32000)
    assert base.description != iwslt.description


def test_overrides_change_the_named_values_only():
    plain = preset("quick")
    changed = preset("quick", {"student.width": 128, "train_pairs": 50, "training.betas": [0.8, 0.9]})
    assert changed.student == plain.student.model_copy(update={"width": 128})
    assert changed.train_pairs == 50
    assert changed.training.betas == (0.8, 0.9)
    assert changed.teacher == plain.teacher
    assert preset("quick") == plain


def test_the_sections_are_the_parts_with_settings_of_their_own():
    parts = "tokenizer teacher student teacher_training training search tuning budget signals speed"
    assert " ".join(SECTIONS) == parts


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"student.witdh": 8}, r"unknown preset setting 'student.witdh'\. Did you mean 'student.width'\?"),
        ({"student.width.more": 8}, "unknown preset setting 'student.width.more'"),
        ({"sudent.width": 8}, "Did you mean 'student.width'"),
        ({"name": "mine"}, r"unknown preset setting 'name'\. (?!.*Did you mean 'name')"),
        ({"student.width": 0}, "preset 'quick': student.width: .*greater than or equal to 1, got 0"),
        ({"student.width": "wide"}, "student.width: .*integer.*got 'wide'"),
        ({"student.width": 6, "student.heads": 4}, "student: width 6 is not divisible by 4 heads"),
        ({"student": 3}, "preset 'quick': student: "),
        ({"training.learning_rate": float("nan")}, "training.learning_rate: .*finite"),
        ({"training.label_smoothing": 1.0}, "training.label_smoothing: .*less than 1, got 1.0"),
        ({"training.schedule": "cosine"}, "'inverse_sqrt' or 'linear', got 'cosine'"),
        ({"seeds": 0}, "seeds: .*got 0"),
        ({"student.width": 0, "seeds": 0}, "student.width: .*; seeds: "),
        ({"tuning.space.training.learning_rate.high": 1e-4}, "no range to search: 0.001 to 0.0001, by logarithm"),
        ({"tuning.space.student.dropout.high": 1.5}, "dropout: .*less than 1"),
        ({"tuning.space": {"search": {"beam": {"low": 1, "high": 2}}}}, "no value 'search.beam' to tune"),
        ({"tuning.space": {"training": {"rate": {"low": 1, "high": 2}}}}, "no value 'training.rate' to tune"),
        ({"tuning.sampler": "tpe"}, "the official track has one list"),
        ({"tuning.pruner": "median"}, "the official track has one list"),
        ({"tuning.track": "open"}, "the open track needs a sampler"),
        ({"budget.kind": "wall-clock"}, "wall-clock takes a positive amount"),
        ({"budget.amount": 5}, "tokens takes no amount"),
        ({"training.seconds": 5}, "a budget of kind wall-clock"),
    ],
)
def test_a_wrong_override_is_refused_in_one_sentence(overrides, message):
    with pytest.raises(UsageError, match=message) as error:
        preset("quick", overrides)
    assert "\n" not in str(error.value)


def test_an_unknown_preset_gets_the_legal_ones_and_the_nearest():
    with pytest.raises(UsageError, match=r"unknown preset 'quik'\. Did you mean 'quick'\? Known: base, iwslt, quick"):
        preset("quik")


@pytest.mark.parametrize("changed", [{"width": 15, "heads": 2}, {"width": 15, "heads": 5}, {"dropout": 1.0}])
def test_an_impossible_shape_is_refused(changed):
    with pytest.raises(ValidationError):
        ModelConfig(**(SHAPE | changed))
    assert ModelConfig(**(SHAPE | {"width": 15, "heads": 5, "positions": "learned"})).width == 15


def test_values_are_frozen_and_unknown_ones_refused():
    with pytest.raises(ValidationError, match="frozen"):
        SearchConfig().beam = 3
    with pytest.raises(ValidationError, match="Extra inputs"):
        TrainConfig(**TRAINING, momentum=0.9)


def test_a_shape_is_cut_to_depths_within_its_own():
    shape = ModelConfig(**SHAPE)
    assert shape.depth == Depth(3, 2)
    assert str(shape.depth) == "3-2"
    assert shape.at_depth(Depth(2, 1)) == ModelConfig(**(SHAPE | {"encoder_layers": 2, "decoder_layers": 1}))
    for depth in (Depth(4, 1), Depth(0, 1), Depth(1, 3)):
        with pytest.raises(ValueError, match="does not lie within 3-2"):
            shape.at_depth(depth)


def test_the_longest_output_grows_with_the_source():
    assert SearchConfig(max_ratio=1.5, max_extra=8).max_length(5) == 15


@pytest.mark.parametrize("ends", [(1.0, 1.0), (2.0, 1.0), (0.0, 1.0, True), (-1.0, 1.0, True)])
def test_a_range_has_two_ends_and_a_logarithm(ends):
    with pytest.raises(ValueError, match="no range to search"):
        Range(*ends)


def test_a_point_changes_what_it_names_and_nothing_else():
    before = preset("quick")
    after = before.at({"training.learning_rate": 1e-3, "student.dropout": 0.2})
    assert (after.training.learning_rate, after.student.dropout) == (1e-3, 0.2)
    assert after.at({"training.learning_rate": 3e-3, "student.dropout": 0.1}) == before
    for point in ({"training.dropout": 0.1}, {"teacher.width": 8}, {"student.dropout": 1.0}):
        with pytest.raises(ValueError, match=r"to tune|less than 1"):
            before.at(point)


def test_a_recipe_without_a_search_does_not_say_where_it_would_look():
    assert preset("quick").recipe()["tuning"] == {"trials": 1}
    tuned = preset("quick", {"tuning.trials": 2}).recipe()["tuning"]
    assert tuned["space"]["student"]["dropout"] == {"low": 0.0, "high": 0.3, "log": False}
    other = preset("quick", {"tuning.space.student.dropout.high": 0.2})
    assert other.recipe() == preset("quick").recipe()


def test_a_recipe_with_exact_signals_is_what_it_was_before_there_were_others():
    quick = preset("quick")
    assert "signals" not in quick.recipe()
    assert "signals" not in quick.model_dump(mode="json")
    assert Preset.model_validate(quick.model_dump(mode="json")) == quick
    cached = preset("quick", {"signals.kind": "cached", "signals.top_k": 8})
    assert cached.recipe()["signals"] == {"kind": "cached", "top_k": 8}
    assert {key: value for key, value in cached.recipe().items() if key != "signals"} == quick.recipe()
