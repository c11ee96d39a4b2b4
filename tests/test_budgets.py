"""What students get alike: a run by target tokens, by wall-clock time, and by device-hours."""

from __future__ import annotations

import os
from dataclasses import replace

import micro
import pytest

from bench.errors import UsageError
from bench.run import prepare


def trained(record) -> float:
    """Seconds that a budget counts: of the training itself, without the task around it."""
    names = ("student training", "online teacher passes", "dev evaluation", "checkpointing")
    return sum(phase.seconds for phase in record.phases if phase.kind != "teacher" and phase.name in names)


def test_equal_wall_clock_is_kept_and_recorded(corpus, tmp_path):
    request = micro.request(tmp_path, "tie_kd", corpus=corpus, budget=("wall-clock", 1.5))
    outcome, _ = micro.run_here(request)
    assert outcome.failures == {}
    found = {record.method.name: record for record in micro.records(request.runs)}
    for name in ("baseline", "tie_kd"):
        budget = found[name].budget
        assert (budget.kind, budget.limit) == ("wall-clock", 1.5)
        assert 0.75 < budget.spent < 2.5  # a closing evaluation may take less than was kept for it
        assert budget.spent == pytest.approx(trained(found[name]))
    assert found["teacher"].budget.kind == "tokens"
    assert found["baseline"].training.target_tokens > found["tie_kd"].training.target_tokens
    micro.believed(request)


def test_an_equal_time_is_one_on_the_same_share_of_the_same_machine(corpus, tmp_path):
    def rows(**more):
        prepared = prepare(micro.request(tmp_path, corpus=corpus, **more))
        return prepared.plan.preset.budget.place, {row.id for row in prepared.plan.rows}

    place, ids = rows(budget=("wall-clock", 1.5), workers=2)
    assert f"{os.cpu_count()} cores, cpu; tasks at a time 2, " in place
    for share in ({"workers": 1}, {"workers": 2, "processes": 2}):
        other, others = rows(budget=("wall-clock", 1.5), **share)
        assert other != place
        assert not ids & others
    assert rows(workers=2) == rows(workers=1)  # tokens are the same everywhere
    with pytest.raises(UsageError, match="filled in by the run"):
        rows(budget=("wall-clock", 1.5), settings={"budget.place": "a fast one"})


def test_the_teacher_that_is_charged_was_trained_on_the_same_share(corpus, tmp_path):
    def keys(**options):
        plan = prepare(micro.request(tmp_path, "sequence_level", corpus=corpus, **options)).plan
        return {task.kind: task.key for task in plan.tasks if task.kind in ("teacher", "text", "corpus")}

    hours, more = (keys(budget=("device-hours", 1.0), workers=workers) for workers in (1, 2))
    assert {kind for kind in hours if hours[kind] == more[kind]} == {"corpus"}
    free = [keys(workers=1), keys(workers=2), keys(budget=("wall-clock", 1.0), workers=1)]
    assert free[0] == free[1] == free[2]


def test_in_device_hours_a_student_pays_for_its_teacher(corpus, tmp_path):
    seconds_given = 10  # the teacher alone takes 1 to 5
    hours = seconds_given / 3600
    request = micro.request(tmp_path, "sequence_level", corpus=corpus, budget=("device-hours", hours))
    outcome, _ = micro.run_here(request)
    assert outcome.failures == {}
    found = {record.method.name: record for record in micro.records(request.runs)}
    for name in ("baseline", "sequence_level"):
        assert found[name].budget.kind == "device-hours"
        assert 0.7 * hours < found[name].budget.spent < 1.3 * hours

    def seconds(name, *kinds):
        return sum(phase.seconds for phase in found[name].phases if phase.kind in kinds)

    assert trained(found["baseline"]) == pytest.approx(seconds_given, rel=0.3)
    charged = trained(found["sequence_level"]) + seconds("sequence_level", "teacher", "distillation")
    assert found["sequence_level"].budget.spent == pytest.approx(charged / 3600)
    micro.believed(request)


def test_a_teacher_that_takes_the_whole_budget_leaves_no_student(corpus, tmp_path):
    request = micro.request(tmp_path, "word_level", corpus=corpus, budget=("device-hours", 1e-6))
    outcome, _ = micro.run_here(request)
    (reason,) = outcome.failures.values()
    assert "device-seconds of the 0.0036 that the budget gives" in reason
    assert {r.method.name for r in micro.records(request.runs) if r.status == "ok"} == {"teacher", "baseline"}


def test_tokens_can_be_given_as_a_budget(corpus, tmp_path):
    with pytest.raises(UsageError, match=r"training\.target_tokens is given twice"):
        prepare(micro.request(tmp_path, corpus=corpus, budget=("tokens", 900)))
    free = replace(micro.request(tmp_path, corpus=corpus), settings={}, budget=("tokens", 900.0))
    with pytest.raises(UsageError, match=r"whole number, not 900\.5"):
        prepare(replace(free, budget=("tokens", 900.5)))
    plan = prepare(free).plan
    assert (plan.preset.budget.kind, plan.preset.training.target_tokens) == ("tokens", 900)
