"""The forecast: schedules worked out by hand, rates of past runs on this machine, probes that leave no trace."""

import math
import re
from dataclasses import replace

import micro
import pytest
import torch
from workers import Node

from bench import ENGINE
from bench.config import preset
from bench.data.datasets import DATASETS
from bench.environment import environment as environment_here
from bench.estimates import SPEED_START, START_SECONDS
from bench.forecast import forecast, simulate
from bench.plan import Planner
from bench.rates import PastRuns
from bench.registry import load_methods
from bench.run import missing, prepare
from bench.store import Store
from bench.timing import timing

BRIEF = 0.02
"""Seconds of a probe in tests that do not look at its time."""
HERE = {"cpu": "this processor", "device": "cpu", "threads": 1, "torch": "2.9.1"}
IDENTITY = {"name": "made-up", "languages": ["aa", "bb"], "files": {"train": "0" * 64}}
SIZES = {
    "train": {"pairs": 90, "target_tokens": 1000, "too_long": 10},
    "dev": {"pairs": 10, "target_tokens": 50, "too_long": 0},
    "test": {"pairs": 20, "target_tokens": 150, "too_long": 0},
}
RAISING = """
from bench.method import Method


class Raising(Method):
    name = "raising"
    title = "Raising"

    def loss(self, step):
        raise ValueError("no such luck")
"""


# The order on the slots.


def test_a_chain_takes_as_long_as_all_its_tasks_whatever_the_workers():
    a = Node("a")
    b = Node("b", (a,))
    c = Node("c", (b,))
    assert simulate([a, b, c], {"a": 1.0, "b": 2.0, "c": 4.0}, 1) == 7.0
    assert simulate([a, b, c], {"a": 1.0, "b": 2.0, "c": 4.0}, 3) == 7.0


def test_a_fan_is_dealt_to_the_workers_that_are_free():
    root = Node("root")
    leaves = [Node(key, (root,), work=work) for key, work in (("x", 3), ("y", 2), ("z", 1))]
    seconds = {"root": 1.0, "x": 3.0, "y": 2.0, "z": 2.0}
    assert simulate([root, *leaves], seconds, 1) == 8.0
    assert simulate([root, *leaves], seconds, 2) == 5.0  # x from 1 to 4, y from 1 to 3, z from 3 to 5
    assert simulate([root, *leaves], seconds, 3) == 4.0


def test_the_order_is_the_executors_by_planned_work_and_not_by_the_estimates():
    first, last = Node("first", work=2), Node("last", work=1)
    after = Node("after", (last,), work=0.5)
    seconds = {"first": 1.0, "last": 10.0, "after": 1.0}
    assert simulate([first, last, after], seconds, 1) == 12.0
    other = Node("other", work=1.8)
    # With two workers "first" and "other" start; the long chain has to wait for one of them.
    assert simulate([first, last, after, other], seconds | {"other": 1.0}, 2) == 12.0


def test_a_need_that_is_there_is_not_waited_for():
    assert simulate([Node("a", (Node("there"),))], {"a": 2.0}, 1) == 2.0
    assert simulate([], {}, 2) == 0.0


# Rates of past runs.


def plan_of(*names, **overrides):
    """A plan of the made-up data set with the quick preset."""
    planner = Planner("made-up", IDENTITY, preset("quick", overrides), load_methods(), "cpu")
    return planner.plan(names, {}, [1])


def task_of(plan, kind, label=""):
    return next(task for task in plan.tasks if task.kind == kind and label in task.label)


def make(store, task, **details):
    """Write the task's artifact as if a run had made it."""
    environment = HERE | details.pop("environment", {})
    store.make(task.kind, task.inputs, lambda _: {"environment": environment, **details})


def make_text(store, plan):
    make(store, task_of(plan, "tokenizer"), seconds={"tokenizer": 5.0}, vocabulary=400)
    make(store, task_of(plan, "corpus"), seconds={"encoding": 6.0}, sizes=SIZES, tests=["test"])


def make_training(store, task, rate, *, tokens=1000, **details):
    """A training with 4 evaluations at 0.1 s each, and 5 checkpoints at 0.2 s each."""
    seconds = {"training": rate * tokens, "dev evaluation": 0.4, "checkpointing": 5 * 0.2 + rate * tokens / 30 * 0.2}
    make(store, task, seconds=seconds, target_tokens=tokens, stages=[{}], **details)


def past(store, plan, processes=1):
    return PastRuns(store, HERE, processes, {task.key: task.inputs for task in plan.tasks})


def budgets(*numbers):
    """Plans that differ in the student's budget, so that each has a student's task of its own."""
    return [plan_of("word_level", **{"training.target_tokens": number}) for number in numbers]


def test_a_trainings_rates_are_the_medians_of_the_runs_on_this_machine(tmp_path):
    store, plans = Store(tmp_path), budgets(1000, 1001, 1002, 1003, 1004, 1005)
    make_text(store, plans[0])
    elsewhere = [{"cpu": "another"}, {"threads": 4}, {"torch": "2.8.1"}]
    students = [task_of(plan, "student", "word_level") for plan in plans]
    for student, rate in zip(students, (0.001, 0.002, 0.009)):
        make_training(store, student, rate)
    for student, environment in zip(students[3:], elsewhere):
        make_training(store, student, 7.0, environment=environment)
    cost = past(store, plans[0]).training(task_of(plan_of("word_level"), "student", "word_level").inputs)
    assert cost.token == pytest.approx(0.002)
    assert cost.evaluated == pytest.approx(0.1 / 50)
    assert cost.save == pytest.approx(0.2)


def test_a_patch_release_of_torch_is_the_same_machine(tmp_path):
    (plan,) = budgets(1000)
    store = Store(tmp_path)
    make_text(store, plan)
    student = task_of(plan, "student", "word_level")
    make_training(store, student, 0.003, environment={"torch": "2.9.0+cpu"})
    assert past(store, plan).training(student.inputs).token == pytest.approx(0.003)
    assert past(store, plan, processes=2).training(student.inputs) is None


def test_runs_of_earlier_code_tell_nothing(tmp_path, monkeypatch):
    store, (plan,) = Store(tmp_path), budgets(1000)
    make_text(store, plan)
    student = task_of(plan, "student", "word_level")
    make_training(store, student, 0.003)
    assert past(store, plan).training(student.inputs) is not None
    monkeypatch.setitem(ENGINE, "student", ENGINE["student"] + 1)
    assert past(store, plan).training(student.inputs) is None


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        ({"student.dropout": 0.3}, True),
        ({"training.learning_rate": 1e-3}, True),
        ({"training.evaluations": 9}, True),
        ({"student.width": 128}, False),
        ({"teacher.decoder_layers": 3}, False),
        ({"training.batch_tokens": 512}, False),
        ({"training.select": "bleu"}, False),
        ({"tokenizer.vocabulary": 500}, False),
    ],
)
def test_only_what_changes_the_time_of_a_step_must_be_equal(tmp_path, overrides, same):
    store, plan = Store(tmp_path), plan_of("word_level")
    make_text(store, plan)
    make_training(store, task_of(plan, "student", "word_level"), 0.001)
    other = plan_of("word_level", **overrides)
    found = past(store, other).training(task_of(other, "student", "word_level").inputs)
    assert (found is not None) == same


def test_a_teacher_of_the_students_shape_tells_of_the_plain_student_and_of_no_other_method(tmp_path):
    shape = {f"{model}.{side}_layers": 2 for model in ("teacher", "student") for side in ("encoder", "decoder")}
    store, plan = Store(tmp_path), plan_of("word_level", **shape)
    make_text(store, plan)
    make_training(store, task_of(plan, "teacher"), 0.004)
    found = past(store, plan)
    assert found.training(task_of(plan, "student", "baseline").inputs).token == pytest.approx(0.004)
    assert found.training(task_of(plan, "student", "word_level").inputs) is None


def test_runs_with_the_same_settings_count_before_others(tmp_path):
    store, (first, second, planned) = Store(tmp_path), budgets(1000, 1001, 1002)
    make_text(store, first)
    wanted = task_of(planned, "student", "word_level").inputs
    make_training(store, task_of(first, "student", "word_level"), 0.001, settings=wanted["settings"])
    make_training(store, task_of(second, "student", "word_level"), 0.009, settings={"alpha": 0.1})
    assert past(store, planned).training(wanted).token == pytest.approx(0.001)


def test_text_and_decoding_go_by_pairs_and_target_tokens(tmp_path):
    store, plan = Store(tmp_path), plan_of("sequence_level")
    make_text(store, plan)
    make(store, task_of(plan, "text"), seconds={"teacher decoding": 20.0})
    scores = task_of(plan, "scores", "baseline")
    make_training(store, task_of(plan, "student", "baseline"), 0.001)
    make(store, scores, seconds={"decoding": 3.0, "scoring": 1.0}, sets={"dev": {}, "test": {}})
    found = past(store, plan)
    assert found.tokenizer(task_of(plan, "tokenizer").inputs) == pytest.approx(5.0 / 100)
    assert found.corpus(task_of(plan, "corpus").inputs) == pytest.approx(6.0 / 120)
    assert found.text(task_of(plan, "text").inputs) == pytest.approx(20.0 / 1000)
    depth = preset("quick").student.depth
    assert found.decoding(scores.inputs, [depth]) == pytest.approx(4.0 / 200)
    assert found.decoding(task_of(plan, "scores", "sequence_level").inputs, [depth]) == pytest.approx(4.0 / 200)
    assert found.decoding(scores.inputs, [preset("quick").teacher.depth]) is None


def test_a_teachers_signals_go_by_target_tokens_and_make_another_training_of_those_that_use_them(tmp_path):
    store, plan = Store(tmp_path), plan_of("word_level", **{"signals.kind": "cached"})
    make_text(store, plan)
    task = task_of(plan, "signals")
    make(store, task, seconds={"teacher signals": 2.0, "start": 9.0}, target_tokens=1000)
    make_training(store, task_of(plan_of("word_level"), "student", "word_level"), 0.002)
    found = past(store, plan)
    assert found.signals(task.inputs) == pytest.approx(2.0 / 1000)
    more = task_of(plan_of("word_level", **{"signals.kind": "cached", "signals.top_k": 64}), "signals")
    assert found.signals(more.inputs) is None
    assert found.training(task_of(plan, "student", "word_level").inputs) is None
    assert past(store, plan).training(task_of(plan_of("word_level"), "student", "word_level").inputs) is not None


# The whole forecast.


def forecast_of(wanted, **options):
    prepared = prepare(wanted)
    todo = missing(prepared)
    return prepared, todo, forecast(prepared, todo, probe_seconds=BRIEF, **options)


def test_what_is_finished_takes_no_time(finished):
    prepared, todo, found = forecast_of(finished.request)
    assert not todo
    assert {phase.basis for phase in found.phases} == {"there"}
    assert sum(phase.there for phase in found.phases) == len(prepared.plan.tasks)
    assert found.wall_seconds == found.device_hours == found.critical_path_seconds == 0.0


def test_past_runs_tell_the_time_of_other_budgets(finished):
    settings = {**finished.request.settings, "training.target_tokens": 6000}
    _, todo, found = forecast_of(replace(finished.request, settings=settings))
    assert {found.estimates[task.key].basis for task in todo} == {"past run"}
    store = prepare(finished.request).store
    before = {
        artifact.inputs["method"]: artifact.details
        for task in prepare(finished.request).plan.tasks
        if task.kind == "student" and (artifact := store.find("student", task.key))
    }
    for task in todo:
        if task.kind == "student":
            details = before[task.inputs["method"]]
            seconds = details["seconds"]
            rest = seconds["dev evaluation"] + seconds["checkpointing"]
            training = seconds["training"] + seconds.get("online teacher passes", 0.0)
            ten_times = training / details["target_tokens"] * 6000
            assert found.estimates[task.key].seconds == pytest.approx(ten_times + rest + START_SECONDS, rel=0.05)
    phases = {phase.kind: phase for phase in found.phases}
    assert phases["teacher"].basis == "there"
    assert (phases["teacher"].there, phases["teacher"].to_do) == (1, 0)
    assert phases["student"].to_do == len(before)
    assert found.device_hours == pytest.approx(sum(phase.device_seconds for phase in found.phases) / 3600)
    assert found.critical_path_seconds <= found.wall_seconds <= 3600 * found.device_hours


def test_a_probe_gives_times_and_leaves_no_trace(tmp_path):
    wanted = micro.request(tmp_path, "all", settings=micro.ALL_METHODS, seeds=2)
    files = sorted(tmp_path.rglob("*"))
    state, threads, said = torch.get_rng_state(), torch.get_num_threads(), []
    _, todo, found = forecast_of(wanted, announce=said.append)
    assert {each.basis for each in found.estimates.values()} == {"probe"}
    assert set(found.estimates) == {task.key for task in todo}
    assert all(0 < each.seconds < math.inf for each in found.estimates.values())
    assert 0 < found.critical_path_seconds <= found.wall_seconds < math.inf
    assert sorted(tmp_path.rglob("*")) == files
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert len(said) == len(set(said))  # both seeds by one probe
    assert any("tokens are assumed" in note for note in found.notes)


def test_trials_are_timed_as_the_final_runs_are(tmp_path):
    said = []
    _, todo, found = forecast_of(micro.request(tmp_path, "word_level", trials=3), announce=said.append)
    counts = {phase.kind: phase.to_do for phase in found.phases}
    assert (counts["sweep"], counts["dev"], counts["student"]) == (2, 6, 8)
    assert len([line for line in said if "steps of" in line]) == 3  # teacher, plain student, the method
    students = [found.estimates[task.key].seconds for task in todo if task.inputs.get("method") == "word_level"]
    assert max(students[:3]) - min(students[:3]) < 1e-9


def test_a_method_that_fails_takes_the_plain_students_time(tmp_path, monkeypatch):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "raising.py").write_text(RAISING, encoding="utf-8")
    wanted = micro.request(tmp_path, "raising", methods_dir=tmp_path / "methods")
    _, todo, found = forecast_of(wanted)
    (task,) = [task for task in todo if task.inputs.get("method") == "raising"]
    assert found.estimates[task.key].basis == "probe"
    assert 0 < found.estimates[task.key].seconds < math.inf
    assert "plug-ins are not run to be timed; raising takes as long as baseline" in found.notes
    monkeypatch.setattr("bench.estimates.built_in", lambda method: True)
    _, _, found = forecast_of(wanted)
    assert any("raising could not be timed (ValueError: no such luck)" in note for note in found.notes)


def test_speed_is_measured_alone_after_all_else(tmp_path):
    prepared = prepare(micro.request(tmp_path, settings={"speed.sentences": 4, "speed.latency_sentences": 1}))
    todo, task = missing(prepared), timing(prepared, planned=True)
    found = forecast(prepared, (*todo, task), probe_seconds=0.05)
    speed = found.estimates[task.key]
    assert speed.basis == "probe"
    assert 2 * 3 * SPEED_START < speed.seconds < 600  # two rows with three engines each
    rest = sum(each.seconds for key, each in found.estimates.items() if key != task.key)
    assert speed.seconds < found.critical_path_seconds <= found.wall_seconds <= speed.seconds + rest
    assert [phase.kind for phase in found.phases][-1] == "speed"
    assert "each row's speed takes as long to measure as the plain student's" in found.notes


def test_a_past_timing_tells_how_long_a_row_takes(tmp_path):
    prepared = prepare(micro.request(tmp_path))
    task = timing(prepared, planned=True)
    past = {**task.inputs, "rows": task.inputs["rows"][:1]}
    here = environment_here("cpu", "fp32", 2) | {"threads": prepared.slots.threads}
    details = {"rows": {"a": {}}, "seconds": {"timing": 7.0}, "environment": here}
    prepared.store.make("speed", past, lambda folder: details)
    found = forecast(prepared, (task,)).estimates[task.key]
    assert (found.seconds, found.basis) == (2 * 7.0 + START_SECONDS, "past run")


def test_a_budget_in_time_is_what_a_student_takes(tmp_path):
    _, todo, found = forecast_of(micro.request(tmp_path, budget=("wall-clock", 60.0)))
    (student,) = [found.estimates[task.key] for task in todo if task.kind == "student"]
    assert (student.seconds, student.basis) == (60.0 + START_SECONDS, "known")


def test_a_budget_in_device_hours_is_charged_with_the_teacher(tmp_path):
    _, todo, found = forecast_of(micro.request(tmp_path, "word_level", budget=("device-hours", 1.0)))
    (teacher,) = [found.estimates[task.key].seconds for task in todo if task.kind == "teacher"]
    students = {task.inputs["method"]: found.estimates[task.key] for task in todo if task.kind == "student"}
    assert students["baseline"].seconds == pytest.approx(3600 + START_SECONDS)
    assert students["word_level"].seconds == pytest.approx(3600 - teacher + START_SECONDS)
    assert {each.basis for each in students.values()} == {"known"}


def test_a_plan_tells_what_the_teachers_signals_take_of_the_disk(tmp_path):
    # 60 pairs of 2 to 5 words; a vocabulary of 40 keeps 32 ids of 2 bytes and 33 shares of 2 bytes for each token.
    _, todo, found = forecast_of(micro.request(tmp_path, "word_level", teacher_signals="cached"))
    (task,) = [task for task in todo if task.kind == "signals"]
    assert found.estimates[task.key].basis == "probe"
    assert 0 < found.estimates[task.key].seconds - START_SECONDS < 5
    assert [phase.kind for phase in found.phases].index("signals") == 3
    (note,) = [note for note in found.notes if "signals" in note]
    assert re.fullmatch(r"a teacher's signals on a text take 0\.[01] MB of disk", note)


def test_text_that_takes_long_to_read_is_not_read(tmp_path):
    def loader(folder):
        raise AssertionError("was read")

    prepared = prepare(micro.request(tmp_path))
    large = replace(prepared.dataset, sizes={"train": 40_000, "dev": 300, "test": 300}, loader=loader)
    prepared = replace(prepared, dataset=large)
    found = forecast(prepared, missing(prepared), probe_seconds=BRIEF)
    assert any("about 40,000 training pairs" in note for note in found.notes)
    assert found.wall_seconds > 0


def test_the_sizes_of_large_data_sets_name_their_splits():
    given = {name: set(dataset.sizes) for name, dataset in DATASETS.items() if dataset.sizes}
    assert given == {name: {"train", "dev", DATASETS[name].primary} for name in given}
