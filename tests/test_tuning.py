"""Whole sweeps, small: all methods get the same list, the winner is run with every seed, the trials are charged."""

import json
import shutil
from dataclasses import replace

import micro
import pytest

from bench.ledger import ledger
from bench.plan import TRIAL_SEED
from bench.run import missing, prepare


def test_every_row_says_how_its_settings_were_chosen(tuned):
    found = [record for record in micro.records(tuned.request.runs) if record.role != "teacher"]
    assert len(found) == 6
    for record in found:
        sweep = record.sweep
        assert (record.track, sweep.sampler, sweep.pruner, len(sweep.trials)) == ("official", "qmc", None, 3)
        assert sweep.best.bleu == max(trial.bleu for trial in sweep.trials)
        assert sweep.trials[0].values["training.learning_rate"] == 3e-3
        assert sweep.space.keys() == sweep.trials[0].values.keys()
        for name, value in sweep.best.values.items():
            method, _, key = name.partition(".")
            assert record.method.settings[key] == value if method == record.method.name else True
        assert record.recipe["tuning"]["trials"] == 3


def test_all_methods_try_the_same_shared_values(tuned):
    lists = {
        record.method.name: [
            {name: value for name, value in trial.values.items() if not name.startswith(record.method.name)}
            for trial in record.sweep.trials
        ]
        for record in micro.records(tuned.request.runs)
        if record.sweep
    }
    assert lists["baseline"] == lists["word_level"] == lists["tie_kd"]


def test_the_final_runs_take_the_winners_values_and_seeds_of_their_own(tuned):
    prepared = prepare(tuned.request)
    for row in prepared.plan.rows:
        if row.role == "teacher":
            continue
        final = prepared.store.get("student", row.model.key)
        point = prepared.store.get("sweep", row.sweep.key).details["point"]
        assert final.details["point"] == point
        assert final.details["training"]["learning_rate"] == point["training.learning_rate"]
        assert final.details["architecture"]["dropout"] == point["student.dropout"]
        assert final.inputs["seed"] == row.seed != TRIAL_SEED
    for sweep in prepared.plan.sweeps:
        trained = [prepared.store.get("student", student.key) for student, _ in sweep.trials]
        assert {each.inputs["seed"] for each in trained} == {TRIAL_SEED}
        assert len({each.inputs["teacher"] for each in trained}) == 1
        assert [each.details["training"]["label_smoothing"] for each in trained] == [
            point["training.label_smoothing"] for point in sweep.space.points(3, 1)
        ]


def test_test_text_is_decoded_once_for_each_final_run_and_never_for_a_trial(tuned):
    lines = [json.loads(line) for line in (tuned.request.runs / "test-access.jsonl").read_text().splitlines()]
    scores = {row.scores.key for row in prepare(tuned.request).plan.rows}
    assert sorted(line["scores"] for line in lines) == sorted(scores)
    assert {line["set"] for line in lines} == {"test"}
    assert all(len(record.test_access["test"]) == 1 for record in micro.records(tuned.request.runs))


def test_the_trials_are_charged_to_the_rows_that_rest_on_them(tuned):
    for record in micro.records(tuned.request.runs):
        tuning = [phase for phase in record.phases if phase.kind == "tuning"]
        assert bool(tuning) == (record.role != "teacher")
        for phase in tuning:
            assert phase.seconds == pytest.approx(record.sweep.seconds)
            assert phase.shared_by == 2
        assert ("teacher" in {phase.kind for phase in record.phases}) == (record.role == "method")


def test_the_phase_of_the_trials_adds_up_what_they_took(tuned):
    request = tuned.request
    prepared = prepare(request)
    for sweep in prepared.plan.sweeps:
        behind = [prepared.store.get(task.kind, task.key).details for trial in sweep.trials for task in trial]
        (phase,) = {
            phase.model_copy(update={"shared_by": 1})
            for record in micro.records(request.runs)
            for phase in record.phases
            if phase.artifact == sweep.task.key
        }
        assert phase.flops == pytest.approx(sum(sum(details["flops"].values()) for details in behind))
        assert phase.flops > 0
        assert phase.host_memory == max(details["host_memory"] for details in behind)


def test_tuned_records_are_believed(tuned):
    assert micro.believed(tuned.request) == 8


def test_the_same_run_again_does_nothing(tuned, tmp_path):
    outcome, _ = micro.run_here(micro.copied(tuned.request, tmp_path))
    assert (outcome.trained, outcome.failures) == (0, {})


def test_a_longer_sweep_goes_on_with_the_trials_of_a_shorter_one(tuned, tmp_path):
    more = micro.copied(tuned.request, tmp_path, methods=("word_level",), trials=4)
    todo = [task.label for task in missing(prepare(more)) if task.kind in ("teacher", "student")]
    assert sorted(todo) == [
        "baseline, seed 1", "baseline, seed 2", "baseline, trial 3",
        "word_level, seed 1", "word_level, seed 2", "word_level, trial 3",
    ]  # fmt: skip


def test_the_list_does_not_depend_on_workers_or_on_which_methods_take_part(tuned, corpus, tmp_path):
    request = micro.request(tmp_path, "word_level", corpus=corpus, trials=3, seeds=2, workers=4)
    micro.run_here(request)
    other, known = micro.studies(request.runs), micro.studies(tuned.request.runs)
    assert other == {name: known[name] for name in other}
    assert micro.results(request.runs) == {
        name: result for name, result in micro.results(tuned.request.runs).items() if not name.startswith("tie_kd")
    }


def test_a_value_that_the_user_gave_is_held_fixed(corpus, tmp_path):
    request = micro.request(
        tmp_path, "word_level", corpus=corpus, trials=2, settings={"word_level.alpha": 0.25, "student.dropout": 0.0}
    )  # fmt: skip
    plan = prepare(request).plan
    (sweep,) = [each for each in plan.sweeps if each.method == "word_level"]
    assert not {"word_level.alpha", "student.dropout"} & sweep.space.published.keys()
    assert {task.inputs["settings"]["alpha"] for task, _ in sweep.trials} == {0.25}
    assert {task.inputs["student_architecture"]["dropout"] for task, _ in sweep.trials} == {0.0}


def test_a_value_given_as_it_is_makes_other_rows_all_the_same(tuned):
    """Trials that search less are no match for those that search more, whatever the value is held at."""
    ids = [{row.id for row in prepare(tuned.request).plan.rows}]
    for name, value in (("student.dropout", 0.1), ("word_level.alpha", 0.5)):
        plan = prepare(replace(tuned.request, settings=tuned.request.settings | {name: value})).plan
        ids.append({row.id for row in plan.rows})
        assert ("dropout" in plan.preset.recipe()["tuning"]["space"]["student"]) == (name != "student.dropout")
    assert not ids[0] & ids[1]
    assert {row.partition(".")[0] for row in ids[0] - ids[2]} == {"word_level"}


def test_test_text_that_is_decoded_again_shows_in_the_record(corpus, tmp_path):
    request = micro.request(tmp_path, corpus=corpus)
    micro.run_here(request)
    shutil.rmtree(request.runs / "artifacts" / "scores")
    for record in request.runs.glob("records/*/baseline*.json"):
        record.unlink()
    micro.run_here(request)
    (record,) = [record for record in micro.records(request.runs) if record.role == "baseline"]
    assert len(record.test_access["test"]) == 2


def test_energy_of_the_trials_leaves_out_what_was_lost_and_needs_all_the_rest(tuned, tmp_path):
    prepared = prepare(micro.copied(tuned.request, tmp_path))
    row = next(row for row in prepared.plan.rows if row.sweep)
    manifests = [
        prepared.store.get(task.kind, task.key).folder / "manifest.json"
        for task in row.sweep.upstream
        if task.kind in ("student", "dev")
    ]

    def joules(used: dict[str, float | None]) -> float | None:
        for path in manifests:
            manifest = json.loads(path.read_text())
            manifest["details"]["joules"] = used
            path.write_text(json.dumps(manifest))
        (phase,) = [phase for phase in ledger(prepared, row) if phase.name == "trials"]
        return phase.joules

    assert joules({"training": 2.0, "set-up": 1.0, "interrupted": None}) == 3 * len(manifests)
    assert joules({"training": None, "set-up": 1.0}) is None
