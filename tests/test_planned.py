"""``bench validate`` plans each record anew: what does not follow from its recipe, settings and text is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from believable import QUICK, six_sentences, valid, written
from factories import make_sweep

from bench.config import preset
from bench.plan import Planner, row_engine
from bench.registry import built_in_hashes, load_methods
from bench.results import DeliveryRecord, Record, Sweep
from bench.sweep.space import COORDINATES, Space
from bench.sweep.study import versions
from bench.validation import Validator
from bench.validation.making import method_of
from bench.validation.planned import unplanned

DATA = six_sentences().identity()
SETTINGS = {"temperature": 2.0}
TRIALS, SEED = 3, 2
Change = Callable[[Record], Record]


def planned(name: str = "word_level", trials: int = 1, *, pinned: tuple[str, ...] = ()) -> Record:
    """The record of a row that was really planned, though not run. The last of its trials won."""
    quick, settings = preset("quick", {"tuning.trials": trials}), {"word_level": SETTINGS}
    others = [] if name in ("teacher", "baseline") else [name]
    by_hand = {f"word_level.{key}" for key in SETTINGS}  # what a run is given it does not search
    planner = Planner("synthetic", DATA, quick, load_methods(), "cpu", by_hand.union(pinned))
    plan = planner.plan(others, {key: each for key, each in settings.items() if key == name}, (1, SEED))
    row = next(row for row in plan.rows if (row.method, row.seed) == (name, SEED))
    own, sweep = dict(row.settings), None
    if row.sweep:
        space = next(each.space for each in plan.sweeps if each.method == name)
        sweep = searched(name, space, trials)
        own |= {key.partition(".")[2]: value for key, value in sweep.best.values.items() if key.startswith(f"{name}.")}
    record = valid(SEED, digest=row.id.rpartition(".")[2])
    method = {
        "name": name,
        "settings": own,
        "source_sha256": built_in_hashes()["baseline" if name == "teacher" else name],
    }
    return record.model_copy(
        update={
            "row": row.id,
            "role": row.role,
            "method": record.method.model_copy(update=method),
            "delivery": DeliveryRecord(name=row.delivery.name, depth=row.delivery.depth),
            "recipe": quick.recipe(),
            "engine": row_engine(quick),
            "artifacts": row.artifacts | {"metric-legacy-bleu": "c3", "speed": "b2"},
            "sweep": sweep,
        }
    )


def searched(name: str, space: Space, trials: int) -> Sweep:
    """A sweep over the official list."""
    made = make_sweep([10.0 + number for number in range(trials)], name)
    points = zip(made.trials, space.points(trials, made.seed), strict=True)
    tried = tuple(trial.model_copy(update={"values": dict(point)}) for trial, point in points)
    return made.model_copy(update={"trials": tried, "space": space.as_json(), "versions": versions()})


def found(record: Record) -> list[str]:
    method = method_of(record)
    assert method
    return list(unplanned(record, DATA, load_methods().get("baseline"), method))


@pytest.mark.parametrize("name", ["word_level", "sequence_level", "aio_kd", "baseline", "teacher"])
@pytest.mark.parametrize("trials", [1, TRIALS])
def test_what_was_planned_is_planned_so_again(name, trials):
    assert found(planned(name, trials)) == []


def test_what_was_held_fixed_is_held_fixed_again():
    assert found(planned(trials=TRIALS, pinned=("word_level.alpha",))) == []
    assert planned(trials=TRIALS, pinned=("word_level.alpha",)).row != planned(trials=TRIALS).row


def with_fields(**changes: Any) -> Change:
    return lambda record: record.model_copy(update=changes)


def with_settings(**changes: Any) -> Change:
    def change(record: Record) -> Record:
        method = record.method.model_copy(update={"settings": record.method.settings | changes})
        return record.model_copy(update={"method": method})

    return change


def with_recipe(section: str, **changes: Any) -> Change:
    return lambda record: record.model_copy(
        update={"recipe": record.recipe | {section: record.recipe[section] | changes}}
    )


def with_artifact(name: str) -> Change:
    return lambda record: record.model_copy(update={"artifacts": record.artifacts | {name: "f" * 64}})


def with_trial(number: int, **values: Any) -> Change:
    def change(record: Record) -> Record:
        trials = list(record.sweep.trials)
        trials[number] = trials[number].model_copy(update={"values": trials[number].values | values})
        return with_sweep(trials=tuple(trials))(record)

    return change


def with_sweep(**changes: Any) -> Change:
    return lambda record: record.model_copy(update={"sweep": record.sweep.model_copy(update=changes)})


OTHER_ROW = "its recipe and its settings are those of the row"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_settings(temperature=1.0), OTHER_ROW),
        (with_recipe("training", learning_rate=0.01), OTHER_ROW),
        (with_recipe("training", learning_rate=0.01), "its scores, student are not the artifacts"),
        (with_recipe("teacher_training", learning_rate=0.01), OTHER_ROW),
        (with_artifact("scores"), "its scores are not the artifacts"),
        (with_artifact("text-12345678"), "its text-12345678 are not the artifacts"),
        (with_fields(delivery=DeliveryRecord(name="student", depth=(3, 2))), "delivers no 'student' of 3-2"),
        (with_recipe("search", beam=0), "its recipe is none of this program's: search.beam"),
        (with_fields(recipe={"name": "quick"}), "its recipe is none of this program's: description"),
        (with_fields(recipe={key: value for key, value in QUICK.recipe().items() if key != "seeds"}),
         "its recipe does not say what a recipe of its values says"),
        (with_fields(recipe=QUICK.recipe() | {"tuning": {"trials": 10**12}}), "this program's: tuning.trials"),
        (with_fields(recipe=preset("quick", {"tuning.trials": 6}).recipe()),
         "its recipe asks for 6 trials, and it has 0"),
        (with_recipe("teacher_training", target_tokens=10**400), "its recipe and its settings do not go together"),
        (with_recipe("teacher", encoder_layers=10**6), "none of this program's: teacher.encoder_layers"),
        (with_recipe("teacher", width=10**200), "none of this program's: teacher.width"),
        (with_fields(role="baseline"), "its method delivers no 'student' of 2-2 as a baseline"),
        (with_settings(data="seqinter", interpolation_k=10**400), "its recipe and its settings do not go together"),
    ],
)  # fmt: skip
def test_what_does_not_follow_is_named(change: Change, message: str):
    assert message in " ".join(found(change(planned())))


def test_the_plain_student_of_another_seed_rests_on_other_artifacts():
    assert found(with_fields(seed=3)(planned("baseline"))) == [
        "its scores, student are not the artifacts that its recipe and its settings lead to."
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_trial(1, **{"training.learning_rate": 0.5}), "trial 1 did not have the values of the official list"),
        (with_trial(1, **{"word_level.alpha": 0.123}), "trial 1 did not have the values of the official list"),
        (with_sweep(space={"training.learning_rate": {"low": 0.1, "high": 0.2, "log": True}}),
         "it was not searched where its method and its recipe say"),
        (with_sweep(seed=2), "the seed of its search is not that of its recipe"),
        (lambda record: with_sweep(trials=record.sweep.trials[:2], winner=1)(record),
         "its recipe asks for 3 trials, and it has 2"),
        (with_settings(data="seqkd"), "are not the artifacts"),
        (with_trial(0, **{"word_level.alpha": 0.123}), "its search did not begin at what is published"),
        (lambda record: with_trial(0, **{"word_level.alpha": 0.123})(with_sweep(versions={"optuna": "1.0"})(record)),
         "its search did not begin at what is published"),
        (lambda record: with_settings(data="seqinter", interpolation_k=10**400)(with_fields(role="baseline")(record)),
         "its recipe and its settings do not go together"),
        (with_sweep(space={"word_level.alpha": {"low": 0.0, "high": 1.0, "log": False}}), "it was not searched where"),
        (with_recipe("tuning", trials=1), "its recipe does not say what a recipe of its values says"),
        (with_fields(recipe=QUICK.recipe()), "its recipe asks for no search, and it has one"),
    ],
)  # fmt: skip
def test_trials_that_somebody_chose_are_named(change: Change, message: str):
    assert message in " ".join(found(change(planned(trials=TRIALS))))


def test_points_that_other_packages_drew_are_not_compared(monkeypatch):
    present = planned(trials=TRIALS)
    with monkeypatch.context() as patched:
        patched.setattr("bench.sweep.space.draw", lambda count, seed: ((0.25,) * COORDINATES, (0.5,) * COORDINATES))
        drawn = planned(trials=TRIALS)
    assert drawn.row == present.row
    assert drawn.artifacts["student"] != present.artifacts["student"]
    assert "the official list" in " ".join(found(drawn))
    other = with_sweep(versions={"optuna": "1.0", "scipy": "1.0"})
    assert found(other(drawn)) == []
    assert found(with_artifact("corpus")(other(drawn))) == [
        "its corpus are not the artifacts that its recipe and its settings lead to."
    ]


def test_a_search_on_the_open_track_began_at_what_is_published_too():
    """Where it went on, it decided by what came out."""
    drawn = planned(trials=TRIALS)
    tuning = drawn.recipe["tuning"] | {"track": "open", "sampler": "tpe"}
    opened = drawn.model_copy(
        update={
            "track": "open",
            "recipe": drawn.recipe | {"tuning": tuning},
            "sweep": drawn.sweep.model_copy(update={"sampler": "tpe"}),
        }
    )
    went_on = with_trial(1, **{"training.learning_rate": 0.0031})(opened)
    assert not any("search" in each or "list" in each for each in found(went_on))
    elsewhere = with_trial(0, **{"training.learning_rate": 0.0031})(opened)
    assert "its search did not begin at what is published." in found(elsewhere)


def test_a_teacher_of_a_search_without_end_is_not_planned():
    tuning = QUICK.tuning.model_dump(mode="json") | {"trials": 10**12, "track": "open", "sampler": "tpe"}
    (said,) = found(with_fields(recipe=QUICK.recipe() | {"tuning": tuning})(planned("teacher")))
    assert said.startswith("its recipe is none of this program's: tuning.trials")


def test_a_record_of_another_version_of_the_code_is_not_planned():
    other = with_fields(engine={**planned().engine, "student": 1})
    assert found(other(with_settings(temperature=1.0)(planned()))) == []


def test_what_follows_from_another_file_of_the_plain_student_is_not_compared():
    """Its file may have changed since without a change to what it trains; the teacher's own record must say so."""
    other = with_artifact("student")(with_artifact("teacher")(planned()))
    assert found(other) == []
    assert found(with_artifact("tokenizer")(other)) == [
        "its tokenizer are not the artifacts that its recipe and its settings lead to."
    ]
    assert "it rests on" in " ".join(found(with_artifact("text-12345678")(other)))


@pytest.mark.usefixtures("small")
def test_the_records_that_are_validated_are_planned(tmp_path):
    (path,) = written(tmp_path, planned()).rglob("*.json")
    assert not any(OTHER_ROW in problem for problem in Validator().validate([path])[0].problems)
    path.write_text(with_settings(temperature=1.0)(planned()).model_dump_json())
    assert any(OTHER_ROW in problem for problem in Validator().validate([path])[0].problems)
