"""Sweeps some of whose trials fail: a failure is a state, its reason is told, and it costs no other trial."""

import json
import os
import signal
from pathlib import Path

import micro
from plugins import SOME_FAIL, searching
from workers import wait_for


def failed_trials(runs: Path) -> list[str]:
    """The lines of word-level journals that tell of a failed trial."""
    texts = [path.read_text() for path in (runs / "sweeps").glob("*word_level*.journal")]
    return [line for text in texts for line in text.splitlines() if '"state":3' in line]


def failed_weights(folder: Path) -> list[float]:
    """The weights of the plug-in's trials that a journal says have failed."""
    lines = [line for path in folder.glob("runs/sweeps/*mine*.journal") for line in path.read_text().split("\n")[:-1]]
    return [each["params"]["mine.weight"] for each in map(json.loads, lines) if each.get("state") == 3]


def test_a_failed_trial_is_a_state_and_the_others_go_on(corpus, tmp_path):
    searching(tmp_path / "more", "mine", SOME_FAIL)
    request = micro.request(tmp_path, "mine", corpus=corpus, methods_dir=tmp_path / "more", trials=4)
    outcome, _ = micro.run_here(request)
    assert outcome.failures == {}
    (record,) = [each for each in micro.records(request.runs) if each.method.name == "mine"]
    states = {trial.values["mine.weight"] > 0.5: trial.state for trial in record.sweep.trials}
    assert states == {True: "exception", False: "ok"}
    reasons = [trial.reason for trial in record.sweep.trials if trial.reason]
    assert all(reason == "ValueError: too heavy" for reason in reasons)
    assert record.method.settings["weight"] <= 0.5


def test_a_method_all_of_whose_trials_fail_costs_its_rows_only(corpus, tmp_path):
    searching(tmp_path / "more", "mine", 'raise ValueError("never")')
    request = micro.request(tmp_path, "mine", corpus=corpus, methods_dir=tmp_path / "more", trials=2, seeds=2)
    outcome, _ = micro.run_here(request)
    assert len(outcome.failures) == 2
    reason = "sweep of mine: every trial failed, 2 of 2; the first: ValueError: never"
    assert all(each.endswith(reason) for each in outcome.failures.values())
    failed = [each for each in micro.records(request.runs) if each.status == "failed"]
    assert {(each.method.name, each.failure) for each in failed} == {("mine", "exception")}
    assert len([each for each in micro.records(request.runs) if each.status == "ok"]) == 4
    again, _ = micro.run_here(request)
    assert again.failures == outcome.failures
    assert again.trained == 9  # two trials with their dev scores, the sweep, two final runs with their scores


def test_out_of_memory_is_tried_again_with_half_the_micro_batch(corpus, tmp_path):
    deed = 'if len(step.batch.source) > 5: raise MemoryError("too many pairs")'
    searching(tmp_path / "more", "mine", deed)
    request = micro.request(tmp_path, "mine", corpus=corpus, methods_dir=tmp_path / "more", trials=2,
                            settings={"training.batch_tokens": 30})  # fmt: skip
    outcome, _ = micro.run_here(request)
    assert outcome.failures == {}
    (record,) = [each for each in micro.records(request.runs) if each.method.name == "mine"]
    assert {trial.state for trial in record.sweep.trials} == {"ok"}
    assert record.training.splits == 2


def test_a_teacher_that_fails_is_no_failure_of_the_trials(corpus, tmp_path):
    request = micro.request(
        tmp_path, "word_level", corpus=corpus, trials=2, settings={"teacher_training.learning_rate": 1e30}
    )  # fmt: skip
    outcome, _ = micro.run_here(request)
    reasons = {name.partition(".")[0]: reason for name, reason in outcome.failures.items()}
    assert set(reasons) == {"teacher", "word_level"}
    assert all("teacher, seed 1: " in reason or "not finite" in reason for reason in reasons.values())
    assert not failed_trials(request.runs)


def test_failed_trials_of_an_interrupted_sweep_stand(corpus, tmp_path):
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
    (record,) = [each for each in micro.records(request.runs) if each.method.name == "mine"]
    assert {trial.state for trial in record.sweep.trials if trial.values["mine.weight"] in known} == {"exception"}
    started = [float(line) for line in starts.read_text().splitlines()]
    assert [started.count(weight) for weight in known] == [1] * len(known)
