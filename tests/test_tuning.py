"""Whole sweeps, small: all methods get the same list, the winner is run with every seed, a kill changes nothing."""

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import micro
import pytest
from test_run import plug_in
from workers import wait_for

from bench.errors import UsageError
from bench.ledger import ledger
from bench.plan import TRIAL_SEED
from bench.records import read_records
from bench.run import missing, prepare
from bench.store import Store
from bench.validation import Validator


def children(pid: int) -> list[int]:
    """The processes that the fork server of a driver has started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    servers = {child for child, parent in parents.items() if parent == pid}
    return [child for child, parent in parents.items() if parent in servers]


SOME_FAIL = 'if self.settings.weight > 0.5: raise ValueError("too heavy")'
SETTINGS = """
    class Settings(Method.Settings):
        weight: float = setting(0.4, "A weight.", ge=0, le=1, search=Range(0.0, 1.0))

    def loss"""


@pytest.fixture(scope="module")
def tuned(corpus, tmp_path_factory):
    """A finished run of two methods and the plain student, three trials each, two seeds."""
    request = micro.request(
        tmp_path_factory.mktemp("tuned"), "word_level", "tie_kd", corpus=corpus, trials=3, seeds=2
    )  # fmt: skip
    outcome, printed = micro.run_here(request)
    assert outcome.failures == {}
    return request, outcome, printed


def records(runs: Path) -> list:
    reading = read_records([runs / "records"])
    assert reading.problems == ()
    return [stored.record for stored in reading.records]


def studies(runs: Path) -> dict[str, list]:
    """What each record's sweep consists of, without the times."""
    return {
        f"{record.row}@{record.seed}": [
            (t.number, t.values, t.state, t.reason and t.reason.split("(")[0], t.bleu, t.target_tokens)
            for t in record.sweep.trials
        ]
        for record in records(runs)
        if record.sweep
    }


def searching(folder: Path, name: str, deed: str) -> None:
    """A plug-in with one searched setting."""
    plug_in(folder, name, deed)
    path = folder / f"{name}.py"
    text = path.read_text().replace("\n    def loss", SETTINGS, 1)
    path.write_text(text.replace("import Method,", "import Method, Range, setting,"))


def test_every_row_says_how_its_settings_were_chosen(tuned):
    found = [record for record in records(tuned[0].runs) if record.role != "teacher"]
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
        for record in records(tuned[0].runs)
        if record.sweep
    }
    assert lists["baseline"] == lists["word_level"] == lists["tie_kd"]


def test_the_final_runs_take_the_winners_values_and_seeds_of_their_own(tuned):
    prepared = prepare(tuned[0])
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
    lines = [json.loads(line) for line in (tuned[0].runs / "test-access.jsonl").read_text().splitlines()]
    scores = {row.scores.key for row in prepare(tuned[0]).plan.rows}
    assert sorted(line["scores"] for line in lines) == sorted(scores)
    assert {line["set"] for line in lines} == {"test"}
    assert all(len(record.test_access["test"]) == 1 for record in records(tuned[0].runs))


def test_the_trials_are_charged_to_the_rows_that_rest_on_them(tuned):
    for record in records(tuned[0].runs):
        tuning = [phase for phase in record.phases if phase.kind == "tuning"]
        assert bool(tuning) == (record.role != "teacher")
        for phase in tuning:
            assert phase.seconds == pytest.approx(record.sweep.seconds)
            assert phase.shared_by == 2
        assert ("teacher" in {phase.kind for phase in record.phases}) == (record.role == "method")


def test_the_phase_of_the_trials_adds_up_what_they_took(tuned):
    request, _, _ = tuned
    prepared = prepare(request)
    for sweep in prepared.plan.sweeps:
        behind = [prepared.store.get(task.kind, task.key).details for trial in sweep.trials for task in trial]
        (phase,) = {
            phase.model_copy(update={"shared_by": 1})
            for record in records(request.runs)
            for phase in record.phases
            if phase.artifact == sweep.task.key
        }
        assert phase.flops == pytest.approx(sum(sum(details["flops"].values()) for details in behind))
        assert phase.flops > 0
        assert phase.host_memory == max(details["host_memory"] for details in behind)


def believed(request) -> int:
    verdicts = Validator().validate([request.runs / "records"])
    assert [problem for verdict in verdicts for problem in verdict.problems] == []
    return len(verdicts)


def test_tuned_records_are_believed(tuned):
    assert believed(tuned[0]) == 8


def test_the_same_run_again_does_nothing(tuned):
    outcome, _ = micro.run_here(tuned[0])
    assert (outcome.trained, outcome.failures) == (0, {})


def test_a_longer_sweep_goes_on_with_the_trials_of_a_shorter_one(tuned, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(tuned[0].runs, runs)
    more = micro.request(tmp_path, "word_level", corpus=Path(tuned[0].dataset), trials=4, seeds=2)
    todo = [task.label for task in missing(prepare(more)) if task.kind in ("teacher", "student")]
    assert sorted(todo) == [
        "baseline, seed 1", "baseline, seed 2", "baseline, trial 3",
        "word_level, seed 1", "word_level, seed 2", "word_level, trial 3",
    ]  # fmt: skip


def test_the_list_does_not_depend_on_workers_or_on_which_methods_take_part(tuned, corpus, tmp_path):
    request = micro.request(tmp_path, "word_level", corpus=corpus, trials=3, seeds=2, workers=4)
    micro.run_here(request)
    other, known = studies(request.runs), studies(tuned[0].runs)
    assert other == {name: known[name] for name in other}
    assert micro.results(request.runs) == {
        name: result for name, result in micro.results(tuned[0].runs).items() if not name.startswith("tie_kd")
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


def failed_trials(runs: Path) -> list[str]:
    """The lines of word-level journals that tell of a failed trial."""
    texts = [path.read_text() for path in (runs / "sweeps").glob("*word_level*.journal")]
    return [line for text in texts for line in text.splitlines() if '"state":3' in line]


def failed_weights(folder: Path) -> list[float]:
    """The weights of the plug-in's trials that a journal says have failed."""
    lines = [line for path in folder.glob("runs/sweeps/*mine*.journal") for line in path.read_text().split("\n")[:-1]]
    return [each["params"]["mine.weight"] for each in map(json.loads, lines) if each.get("state") == 3]


def test_a_value_given_as_it_is_makes_other_rows_all_the_same(tuned, tmp_path):
    """Trials that search less are no match for those that search more, whatever the value is held at."""
    ids = [{row.id for row in prepare(tuned[0]).plan.rows}]
    for name, value in (("student.dropout", 0.1), ("word_level.alpha", 0.5)):
        held = micro.request(
            tmp_path, "word_level", "tie_kd", corpus=Path(tuned[0].dataset), trials=3, seeds=2, settings={name: value}
        )  # fmt: skip
        plan = prepare(held).plan
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
    (record,) = [record for record in records(request.runs) if record.role == "baseline"]
    assert len(record.test_access["test"]) == 2


class TestFailures:
    def test_a_failed_trial_is_a_state_and_the_others_go_on(self, corpus, tmp_path):
        searching(tmp_path / "more", "mine", SOME_FAIL)
        request = micro.request(tmp_path, "mine", corpus=corpus, methods_dir=tmp_path / "more", trials=4)
        outcome, _ = micro.run_here(request)
        assert outcome.failures == {}
        (record,) = [each for each in records(request.runs) if each.method.name == "mine"]
        states = {trial.values["mine.weight"] > 0.5: trial.state for trial in record.sweep.trials}
        assert states == {True: "exception", False: "ok"}
        reasons = [trial.reason for trial in record.sweep.trials if trial.reason]
        assert all(reason == "ValueError: too heavy" for reason in reasons)
        assert record.method.settings["weight"] <= 0.5

    def test_a_method_all_of_whose_trials_fail_costs_its_rows_only(self, corpus, tmp_path):
        searching(tmp_path / "more", "mine", 'raise ValueError("never")')
        request = micro.request(tmp_path, "mine", corpus=corpus, methods_dir=tmp_path / "more", trials=2, seeds=2)
        outcome, _ = micro.run_here(request)
        assert len(outcome.failures) == 2
        reason = "sweep of mine: every trial failed, 2 of 2; the first: ValueError: never"
        assert all(each.endswith(reason) for each in outcome.failures.values())
        failed = [each for each in records(request.runs) if each.status == "failed"]
        assert {(each.method.name, each.failure) for each in failed} == {("mine", "exception")}
        assert len([each for each in records(request.runs) if each.status == "ok"]) == 4
        again, _ = micro.run_here(request)
        assert again.failures == outcome.failures
        assert again.trained == 9  # two trials with their dev scores, the sweep, two final runs with their scores

    def test_out_of_memory_is_tried_again_with_half_the_micro_batch(self, corpus, tmp_path):
        deed = 'if len(step.batch.source) > 5: raise MemoryError("too many pairs")'
        searching(tmp_path / "more", "mine", deed)
        request = micro.request(tmp_path, "mine", corpus=corpus, methods_dir=tmp_path / "more", trials=2,
                                settings={"training.batch_tokens": 30})  # fmt: skip
        outcome, _ = micro.run_here(request)
        assert outcome.failures == {}
        (record,) = [each for each in records(request.runs) if each.method.name == "mine"]
        assert {trial.state for trial in record.sweep.trials} == {"ok"}
        assert record.training.splits == 2

    def test_a_teacher_that_fails_is_no_failure_of_the_trials(self, corpus, tmp_path):
        request = micro.request(
            tmp_path, "word_level", corpus=corpus, trials=2, settings={"teacher_training.learning_rate": 1e30}
        )  # fmt: skip
        outcome, _ = micro.run_here(request)
        reasons = {name.partition(".")[0]: reason for name, reason in outcome.failures.items()}
        assert set(reasons) == {"teacher", "word_level"}
        assert all("teacher, seed 1: " in reason or "not finite" in reason for reason in reasons.values())
        assert not failed_trials(request.runs)

    def test_failed_trials_of_an_interrupted_sweep_stand(self, corpus, tmp_path):
        """The plug-in notes its starts; the run is killed once the journal holds a failed trial."""
        starts = tmp_path / "starts"
        note = f"open({str(starts)!r}, 'a').write(f'{{self.settings.weight}}\\n')"
        searching(tmp_path / "more", "mine", f"{note}\n        {SOME_FAIL}")
        request = micro.request(
            tmp_path, "mine", corpus=corpus, methods_dir=tmp_path / "more", trials=5, workers=1,
            settings={"training.target_tokens": 3000},
        )  # fmt: skip
        process = micro.started("run", *micro.arguments(request), cwd=tmp_path)
        wait_for(lambda: failed_weights(tmp_path), "a failed trial")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        known = failed_weights(tmp_path)
        outcome, _ = micro.run_here(request)
        assert outcome.failures == {}
        (record,) = [each for each in records(request.runs) if each.method.name == "mine"]
        assert {trial.state for trial in record.sweep.trials if trial.values["mine.weight"] in known} == {"exception"}
        started = [float(line) for line in starts.read_text().splitlines()]
        assert [started.count(weight) for weight in known] == [1] * len(known)


def made(folder: Path, kind: str) -> int:
    """Finished artifacts of a kind in a run folder."""
    return len(list((folder / "runs" / "artifacts" / kind).glob("[0-9a-f]*/manifest.json")))


def driver_alone(process) -> None:
    process.kill()


def whole_group(process) -> None:
    os.killpg(process.pid, signal.SIGKILL)


class TestInterruption:
    @pytest.mark.parametrize(
        ("kind", "count", "kill"),
        [
            ("student", 1, driver_alone),
            ("dev", 4, whole_group),
            ("sweep", 1, driver_alone),
            ("student", 11, whole_group),
        ],
    )
    def test_a_killed_sweep_ends_as_it_would_have(self, tuned, corpus, tmp_path, kind, count, kill):
        request = micro.request(tmp_path, "word_level", "tie_kd", corpus=corpus, trials=3, seeds=2)
        process = micro.started("run", *micro.arguments(request), cwd=tmp_path)
        wait_for(lambda: made(tmp_path, kind) >= count, f"{count} of {kind}")
        assert process.poll() is None
        kill(process)
        process.wait()
        assert made(tmp_path, "scores") < 8
        outcome, _ = micro.run_here(request)
        assert outcome.failures == {}
        assert micro.results(request.runs) == micro.results(tuned[0].runs)
        assert studies(request.runs) == studies(tuned[0].runs)

    def test_a_killed_worker_changes_nothing(self, tuned, corpus, tmp_path):
        request = micro.request(tmp_path, "word_level", "tie_kd", corpus=corpus, trials=3, seeds=2)
        process = micro.started("run", *micro.arguments(request), cwd=tmp_path)
        wait_for(lambda: made(tmp_path, "student") >= 2, "two trials")
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
        assert process.wait(timeout=120) == 0
        assert micro.results(request.runs) == micro.results(tuned[0].runs)
        assert studies(request.runs) == studies(tuned[0].runs)

    def test_an_interrupted_sweep_says_what_is_left(self, corpus, tmp_path):
        request = micro.request(tmp_path, corpus=corpus, trials=6)
        process = micro.started("run", *micro.arguments(request), cwd=tmp_path)
        wait_for(lambda: made(tmp_path, "dev") >= 1, "a trial")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert re.search(r"stopped: \d+ of 19 tasks are left\.", out)
        assert "The same command goes on" in err

    def test_an_open_sweep_goes_on_with_the_points_that_were_asked(self, corpus, tmp_path):
        request = micro.request(tmp_path, corpus=corpus, trials=6, track="open")
        process = micro.started("run", *micro.arguments(request), cwd=tmp_path)
        wait_for(lambda: made(tmp_path, "dev") >= 3, "three trials")
        whole_group(process)
        process.wait()
        (journal,) = (tmp_path / "runs" / "sweeps").glob("*.journal")
        lines = [json.loads(line) for line in journal.read_text().split("\n")[:-1]]
        asked = [line["params"] for line in lines if "params" in line]
        outcome, _ = micro.run_here(request)
        assert outcome.failures == {}
        (record,) = [record for record in records(request.runs) if record.sweep]
        assert [trial.values for trial in record.sweep.trials][: len(asked)] == asked
        assert len(record.sweep.trials) == 6


class TestOpenTrack:
    def test_it_is_marked_and_has_rows_of_its_own(self, tuned, corpus, tmp_path):
        request = micro.request(tmp_path, "word_level", corpus=corpus, trials=3, track="open", pruner="median")
        outcome, _ = micro.run_here(request)
        assert outcome.failures == {}
        found = [record for record in records(request.runs) if record.sweep]
        assert {(record.track, record.sweep.sampler, record.sweep.pruner) for record in found} == {
            ("open", "tpe", "median")
        }
        assert not {record.row for record in found} & {record.row for record in records(tuned[0].runs)}
        store = Store(request.runs / "artifacts")
        for record in found:
            trained = store.get("student", record.artifacts["student"])
            assert trained.details["point"] == record.sweep.best.values
            assert record.sweep.trials[0].values["training.learning_rate"] == 3e-3
        believed(request)

    def test_trials_that_fall_behind_are_stopped_and_the_others_go_on(self, corpus, tmp_path):
        request = micro.request(tmp_path, corpus=corpus, trials=9, track="open", pruner="halving", workers=1)
        outcome, _ = micro.run_here(request)
        assert outcome.failures == {}
        (record,) = [record for record in records(request.runs) if record.sweep]
        stopped = [trial for trial in record.sweep.trials if trial.state == "pruned"]
        assert stopped
        assert all(re.fullmatch(r"behind the other trials at evaluation \d", trial.reason) for trial in stopped)
        assert record.sweep.best.state == "ok"

    def test_it_needs_several_trials(self, corpus, tmp_path):
        with pytest.raises(UsageError, match="several trials to learn from"):
            prepare(micro.request(tmp_path, corpus=corpus, track="open"))

    def test_a_sweep_by_another_search_has_a_study_of_its_own(self, corpus, tmp_path):
        micro.run_here(micro.request(tmp_path, corpus=corpus, trials=2, track="open"))
        other = micro.request(tmp_path, corpus=corpus, trials=2, track="open", settings={"search.beam": 1})
        micro.run_here(other)
        assert len(list((other.runs / "sweeps").glob("*.journal"))) == 2

    def test_a_longer_sweep_goes_on_with_the_study(self, corpus, tmp_path):
        request = micro.request(tmp_path, corpus=corpus, trials=2, track="open")
        micro.run_here(request)
        shorter = studies(request.runs)
        longer = micro.request(tmp_path, corpus=corpus, trials=3, track="open")
        outcome, _ = micro.run_here(longer)
        new = {name: trials for name, trials in studies(request.runs).items() if name not in shorter}
        (old,), (now,) = shorter.values(), new.values()
        assert now[:2] == old
        assert outcome.trained == 5  # one trial and its dev score, the sweep, the final run and its scores


def test_energy_of_the_trials_leaves_out_what_was_lost_and_needs_all_the_rest(tuned, tmp_path):
    request, _, _ = tuned
    shutil.copytree(request.runs, tmp_path / "runs")
    prepared = prepare(replace(request, runs=tmp_path / "runs"))
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
