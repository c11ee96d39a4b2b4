"""Plans: equal tasks are one, and a change reaches what rests on it and nothing else."""

import pytest

import bench
from bench.config import preset
from bench.errors import UsageError
from bench.plan import Planner, depth_of
from bench.registry import load_methods

NAMES = ("baseline", "word_level", "sequence_level")
IDENTITY = {"name": "made-up", "languages": ["aa", "bb"], "files": {"train": "0" * 64}}
SOURCE = """
from bench.method import Method, Term


class Mine(Method):
    name = "mine"
    title = "Mine"

    def loss(self, step):
        return {"nll": Term(step.positions.cross_entropy(step.student.forward(step.batch).log_probabilities))}
"""
STUDENT = preset("quick").student.depth
LABELS = {
    "tokenizer", "encoded corpus", "teacher", "text", "student baseline", "student word_level",
    "student sequence_level", "scores teacher", "scores baseline", "scores word_level", "scores sequence_level",
}  # fmt: skip
WITH_TEACHER = {"student word_level", "student sequence_level", "scores word_level", "scores sequence_level"}
STUDENTS = {label for label in LABELS if "student " in label or label.startswith("scores ")} - {"scores teacher"}


def make(names=NAMES, *, settings=None, seeds=(1,), overrides=None, identity=IDENTITY, device="cpu", methods_dir=None):
    chosen = preset("quick", overrides)
    return Planner("made-up", identity, chosen, load_methods(methods_dir), device).plan(names, settings or {}, seeds)


def keys(plan) -> dict[str, str]:
    """The key of each task by what it is for."""
    found = {task.label.partition(",")[0]: task.key for task in plan.tasks if task.kind in ("tokenizer", "corpus")}
    for row in plan.rows:
        found[f"scores {row.method}"] = row.scores.key
        found["teacher" if row.role == "teacher" else f"student {row.method}"] = row.model.key
    (found["text"],) = {task.key for task in plan.tasks if task.kind == "text"}
    return found


def changed(before, after) -> set[str]:
    one, other = keys(before), keys(after)
    assert one.keys() == other.keys() == LABELS
    return {label for label in one if one[label] != other[label]}


def test_a_plan_has_every_task_once_and_after_what_it_needs():
    plan = make(seeds=(1, 2))
    assert len({task.key for task in plan.tasks}) == len(plan.tasks)
    kinds = [task.kind for task in plan.tasks]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "tokenizer": 1, "corpus": 1, "teacher": 2, "text": 2, "student": 6, "scores": 8,
    }  # fmt: skip
    place = {task.key: position for position, task in enumerate(plan.tasks)}
    assert all(place[need.key] < place[task.key] for task in plan.tasks for need in task.needs)
    assert all(task.work > 0 for task in plan.tasks)


def test_the_same_request_gives_the_same_keys():
    assert keys(make()) == keys(make())


def test_the_teacher_and_the_plain_student_always_take_part_once():
    plan = make(("word_level", "baseline", "word_level"))
    assert [(row.role, row.method) for row in plan.rows] == [
        ("teacher", "teacher"), ("baseline", "baseline"), ("method", "word_level"),
    ]  # fmt: skip


def test_the_same_text_of_the_teacher_is_made_once():
    settings = {"word_level": {"data": "seqkd"}, "sequence_level": {}}
    assert [task.kind for task in make(settings=settings).tasks].count("text") == 1
    apart = settings | {"sequence_level": {"beam": 3}}
    assert [task.kind for task in make(settings=apart).tasks].count("text") == 2


@pytest.mark.parametrize(
    ("change", "reached"),
    [
        ({"overrides": {"training.learning_rate": 1e-4}}, STUDENTS),
        ({"overrides": {"student.width": 32}}, STUDENTS),
        ({"overrides": {"teacher_training.learning_rate": 1e-4}}, WITH_TEACHER | {"teacher", "text", "scores teacher"}),
        ({"overrides": {"teacher.width": 32}}, LABELS - {"tokenizer", "encoded corpus"}),
        ({"overrides": {"search.beam": 2}}, {label for label in LABELS if label.startswith("scores ")}),
        (
            {"overrides": {"search.length_penalty": 0.5}},
            {label for label in LABELS if label.startswith("scores ")} | {"text", "student sequence_level"},
        ),
        ({"overrides": {"tokenizer.vocabulary": 300}}, LABELS),
        ({"overrides": {"train_pairs": 100}}, LABELS),
        ({"overrides": {"dev_pairs": 10}}, LABELS - {"tokenizer"}),
        ({"overrides": {"description": "other words", "seeds": 5}}, set()),
        ({"identity": IDENTITY | {"files": {"train": "1" * 64}}}, LABELS),
        ({"device": "cuda"}, LABELS - {"tokenizer", "encoded corpus"}),
        ({"seeds": (2,)}, LABELS - {"tokenizer", "encoded corpus"}),
        ({"settings": {"word_level": {"alpha": 0.25}}}, {"student word_level", "scores word_level"}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # sets have no order of their own
)
def test_a_change_reaches_what_rests_on_it_and_nothing_else(change, reached):
    assert changed(make(), make(**change)) == reached


@pytest.mark.parametrize(
    ("kind", "reached"),
    [
        ("tokenizer", LABELS),
        ("teacher", WITH_TEACHER | {"teacher", "text", "scores teacher"}),
        ("text", {"text", "student sequence_level", "scores sequence_level"}),
        ("student", STUDENTS),
        ("scores", {label for label in LABELS if label.startswith("scores ")}),
    ],
)
def test_a_new_version_of_a_phase_makes_it_and_what_rests_on_it_anew(monkeypatch, kind, reached):
    before = make()
    monkeypatch.setitem(bench.ENGINE, kind, bench.ENGINE[kind] + 1)
    assert changed(before, make()) == reached


def test_a_changed_method_file_is_another_row(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    before = make(("mine",), methods_dir=tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE + "\n# another\n")
    after = make(("mine",), methods_dir=tmp_path)
    same = [one.id == other.id and one.scores.key == other.scores.key for one, other in zip(before.rows, after.rows)]
    assert [row.method for row in before.rows] == ["teacher", "baseline", "mine"]
    assert same == [True, True, False]


def test_a_row_has_one_name_for_all_seeds_and_another_for_any_other_recipe():
    plan = make(seeds=(1, 2, 3))
    names = {row.method: row.id for row in plan.rows}
    assert {(row.method, row.id) for row in plan.rows} == set(names.items())
    assert len({row.scores.key for row in plan.rows}) == len(plan.rows)
    assert names["word_level"].startswith(f"word_level.{STUDENT}.quick.")
    assert {row.id for row in make(overrides={"seeds": 7}).rows} == set(names.values())
    for other in (
        {"overrides": {"training.target_tokens": 5}},
        {"device": "cuda"},
        {"identity": IDENTITY | {"name": "other"}},
    ):
        assert not {row.id for row in make(**other).rows} & set(names.values())
    tuned = {row.method: row.id for row in make(settings={"word_level": {"alpha": 0.1}}).rows}
    assert {method for method in names if names[method] != tuned[method]} == {"word_level"}


def test_one_joint_training_delivers_several_rows():
    rows = [row for row in make(("aio_kd",)).rows if row.method == "aio_kd"]
    assert len({row.model.key for row in rows}) == 1
    depths = [row.delivery.depth for row in rows]
    assert STUDENT in depths
    assert len(depths) == len({row.id for row in rows}) == len({row.scores.key for row in rows}) > 2
    assert [depth_of(row.scores) for row in rows] == depths
    assert {task.kind for task in rows[0].model.upstream} == {"tokenizer", "corpus", "student"}


def test_upstream_ends_with_the_task_itself_and_repeats_nothing():
    row = next(row for row in make().rows if row.method == "sequence_level")
    kinds = [task.kind for task in row.scores.upstream]
    assert kinds == ["tokenizer", "corpus", "teacher", "text", "student", "scores"]


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (("word_levle",), {}, "Did you mean 'word_level'"),
        (("word_level",), {"word_level": {"alhpa": 1}}, "unknown setting of word_level 'alhpa'. Did you mean 'alpha'"),
        (("word_level",), {"word_level": {"alpha": 2}}, "word_level: alpha: .*less than or equal to 1, got 2"),
        (("aio_kd",), {"aio_kd": {"min_depth": 9}}, "min_depth=9 needs a network with at least as many layers"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(names, settings, message):
    with pytest.raises(UsageError, match=message):
        make(names, settings=settings)


def test_a_method_whose_own_code_fails_is_left_out_with_the_reason(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE + "\n    def stages(self):\n        raise LookupError('none\\nat all')\n")
    plan = make(("mine", "word_level"), methods_dir=tmp_path, seeds=(1, 2))
    assert plan.left_out == {"mine": "LookupError: none"}
    assert {row.method for row in plan.rows} == {"teacher", "baseline", "word_level"}


def cached(**more):
    """A plan whose students learn from cached signals."""
    names = ("baseline", "word_level", "tie_kd", "a2d", "sequence_level", "aio_kd")
    return make(names, overrides={"signals.kind": "cached"} | more.pop("overrides", {}), **more)


def signals(plan, method) -> list[str]:
    (row,) = [row for row in plan.rows if row.method == method and row.seed == 1][:1]
    return [task.key for task in row.model.needs if task.kind == "signals"]


def test_a_teachers_signals_are_made_once_for_all_students_and_trials_that_can_use_them():
    plan = cached(seeds=(1, 2))
    assert signals(plan, "word_level") == signals(plan, "tie_kd")
    assert not any(signals(plan, method) for method in ("baseline", "a2d", "sequence_level", "aio_kd", "teacher"))
    assert [task.kind for task in plan.tasks].count("signals") == 2
    tuned = cached(seeds=(1, 2), overrides={"tuning.trials": 3})
    assert {task.key for task in tuned.tasks if task.kind == "signals"} == {
        task.key for task in plan.tasks if task.kind == "signals"
    }
    students = [task for task in tuned.tasks if task.kind == "student" and task.inputs["method"] == "word_level"]
    assert all([need.kind for need in task.needs].count("signals") == 1 for task in students)
    assert len(students) == 3 + 2


def test_a_text_of_the_teachers_own_has_signals_of_its_own():
    plan = cached(settings={"word_level": {"data": "seqkd"}})
    assert signals(plan, "word_level") != signals(plan, "tie_kd")
    (task,) = [task for task in plan.tasks if task.key in signals(plan, "word_level")]
    assert [need.kind for need in task.needs] == ["corpus", "teacher", "text"]


def test_how_many_tokens_are_kept_makes_other_signals():
    assert signals(cached(), "tie_kd") != signals(cached(overrides={"signals.top_k": 7}), "tie_kd")


def test_no_more_of_the_teachers_tokens_are_ranked_than_are_kept():
    with pytest.raises(UsageError, match=r"tie_kd: it ranks 5 of the teacher's tokens, but signals.top_k keeps only 4"):
        cached(overrides={"signals.top_k": 4})
    assert signals(cached(overrides={"signals.top_k": 5}), "tie_kd")


def test_cached_signals_make_other_rows_of_the_same_artifacts_where_they_are_not_used(monkeypatch):
    exact, plan = make(), cached()
    rows = {row.method: row for row in exact.rows}
    for row in plan.rows:
        if row.method in rows:
            assert row.id != rows[row.method].id
            assert (row.scores.key == rows[row.method].scores.key) == (row.method != "word_level")
    monkeypatch.setitem(bench.ENGINE, "signals", bench.ENGINE["signals"] + 1)
    assert [row.id for row in make().rows] == [row.id for row in exact.rows]
    assert not {row.id for row in cached().rows} & {row.id for row in plan.rows}
