"""Runs that are killed or interrupted go on to the same result, and do nothing twice."""

import json
import os
import signal
import subprocess

import micro
import pytest
from plugins import plug_in
from workers import processes, wait_for

from bench import phases
from bench import store as store_module
from bench.run import missing, prepare
from bench.train.update import Updater


def test_a_failed_row_that_later_succeeds_goes_on_and_replaces_its_record(tmp_path, corpus):
    more, flag = tmp_path / "more", tmp_path / "flag"
    # A file decides, so that the method's source, and with it the row, stays the same.
    plug_in(
        more, "flaky", f"if step.update == 8 and Path({str(flag)!r}).exists(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    undisturbed = micro.request(tmp_path / "other", "flaky", corpus=corpus, methods_dir=more)
    micro.run_here(undisturbed)
    flag.touch()
    wanted = micro.request(tmp_path, "flaky", corpus=corpus, methods_dir=more)
    assert len(micro.run_here(wanted)[0].failures) == 1
    assert "failed" in [record.status for record in micro.records(wanted.runs)]
    (states,) = (wanted.runs / "artifacts" / "student").glob(".*.work/scratch/state-*")
    assert json.loads((states / "progress.json").read_text())["update"] > 0
    flag.unlink()
    outcome = micro.run_here(wanted)[0]
    assert (outcome.trained, outcome.failures) == (2, {})
    assert micro.results(wanted.runs) == micro.results(undisturbed.runs)


def test_a_run_killed_at_any_moment_goes_on_to_the_same_result(tmp_path, corpus, finished):
    """Killed as a whole, five times, then finished: BLEU and hypotheses are those of the undisturbed run."""
    wanted = micro.request(tmp_path, "sequence_level", "aio_kd", corpus=corpus, settings=micro.ALL_METHODS)
    artifacts, rows = wanted.runs / "artifacts", wanted.runs / "records" / "corpus"

    def stage_of_aio() -> bool:
        texts = [path.read_text() for path in artifacts.glob("student/.*.work/scratch/state-*/progress.json")]
        return any('"stage": 1' in text for text in texts)

    moments = {
        "the corpus is begun": lambda: any(artifacts.glob("corpus/*")),
        "the teacher has a checkpoint": lambda: any(artifacts.glob("teacher/.*.work/scratch/state-*")),
        "the teacher's text is there": lambda: any(artifacts.glob("text/[0-9a-f]*")),
        "the second stage has begun": stage_of_aio,
        "a record is written": lambda: any(rows.glob("*.json")),
    }
    killed = [
        kill_when(condition, what, micro.started("run", *micro.arguments(wanted), cwd=tmp_path))
        for what, condition in moments.items()
    ]
    assert sum(killed) >= 3, killed
    outcome, _ = micro.run_here(wanted)
    assert outcome.failures == {}
    expected, found = micro.results(finished.request.runs), micro.results(wanted.runs)
    assert len(found) == 6
    assert found.items() <= expected.items()
    micro.interruptions(wanted.runs)  # asserts that the phases add up, whatever the kills have cost


def kill_when(condition, what: str, driver: subprocess.Popen) -> bool:
    """Kill the driver and all its workers at the moment ``condition`` holds; whether it was still running then."""

    def due() -> bool:
        # A moment may pass unseen on a busy machine; the end of the run then stands for it.
        try:
            return condition() or driver.poll() is not None
        except FileNotFoundError:  # it went away while it was looked at
            return False

    wait_for(due, what)
    running = driver.poll() is None
    if running:
        os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    return running


def test_an_interrupt_stops_the_workers_and_says_how_to_go_on(tmp_path, corpus):
    wanted = micro.request(tmp_path, corpus=corpus, settings={"teacher_training.target_tokens": 10_000_000})
    driver = micro.started("run", *micro.arguments(wanted), cwd=tmp_path)
    wait_for(lambda: any((wanted.runs / "artifacts").glob("teacher/.*.work/scratch")), "the teacher's training")
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    try:
        _, err = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode == 130, err
    assert err.lstrip() == "error: interrupted; what is finished is kept. The same command goes on from here.\n"
    wait_for(lambda: not group_lives(driver.pid), "the end of the workers", 10)


def group_lives(group: int) -> bool:
    return any(int(fields[2]) == group and fields[0] != "Z" for _, fields in processes())


def test_a_kill_after_the_last_update_costs_no_training(tmp_path, corpus, monkeypatch):
    """Between the end of the training and the artifact, only what comes after the training is done again."""
    prepared = prepare(micro.request(tmp_path, corpus=corpus))
    teacher = next(task for task in missing(prepared) if task.kind == "teacher")
    for task in teacher.upstream[:-1]:
        phases.carry_out(task, prepared.place)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            phases.carry_out(teacher, prepared.place)
    monkeypatch.setattr(Updater, "update", killed)
    made = phases.carry_out(teacher, prepared.place)
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "history.json", "manifest.json", "model.json", "model.safetensors",
    ]  # fmt: skip
