"""Sweeps that are interrupted or killed at any moment end as they would have, and say what is left."""

import contextlib
import json
import os
import re
import signal
from pathlib import Path

import micro
import pytest
from workers import processes, wait_for


def made(folder: Path, kind: str) -> int:
    """Finished artifacts of a kind in a run folder."""
    return len(list((folder / "runs" / "artifacts" / kind).glob("[0-9a-f]*/manifest.json")))


def children(pid: int) -> list[int]:
    """The processes that the fork server of a driver has started and that have not ended."""
    parents = {child: int(fields[1]) for child, fields in processes() if fields[0] != "Z"}
    servers = {child for child, parent in parents.items() if parent == pid}
    return [child for child, parent in parents.items() if parent in servers]


def killed(workers: list[int]) -> int:
    """How many of them were still there to be killed."""
    found = 0
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
            found += 1
    return found


def driver_alone(process) -> None:
    process.kill()


def whole_group(process) -> None:
    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("kind", "count", "kill"),
    [
        ("student", 1, driver_alone),
        ("dev", 4, whole_group),
        ("sweep", 1, driver_alone),
        ("student", 11, whole_group),
    ],
)
def test_a_killed_sweep_ends_as_it_would_have(tuned, corpus, tmp_path, kind, count, kill):
    request = micro.request(tmp_path, "word_level", "tie_kd", corpus=corpus, trials=3, seeds=2)
    process = micro.started("run", *micro.arguments(request), cwd=tmp_path)
    wait_for(lambda: made(tmp_path, kind) >= count, f"{count} of {kind}")
    assert process.poll() is None
    kill(process)
    process.wait()
    assert made(tmp_path, "scores") < 8
    outcome, _ = micro.run_here(request)
    assert outcome.failures == {}
    assert micro.results(request.runs) == micro.results(tuned.request.runs)
    assert micro.studies(request.runs) == micro.studies(tuned.request.runs)


def test_a_killed_worker_changes_nothing(tuned, corpus, tmp_path):
    request = micro.request(tmp_path, "word_level", "tie_kd", corpus=corpus, trials=3, seeds=2)
    process = micro.started("run", *micro.arguments(request), cwd=tmp_path)
    wait_for(lambda: made(tmp_path, "student") >= 2, "two trials")
    wait_for(lambda: killed(children(process.pid)), "a worker to kill")
    assert process.wait(timeout=120) == 0
    assert micro.results(request.runs) == micro.results(tuned.request.runs)
    assert micro.studies(request.runs) == micro.studies(tuned.request.runs)


def test_an_interrupted_sweep_says_what_is_left(corpus, tmp_path):
    request = micro.request(tmp_path, corpus=corpus, trials=6)
    process = micro.started("run", *micro.arguments(request), cwd=tmp_path)
    wait_for(lambda: made(tmp_path, "dev") >= 1, "a trial")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"stopped: \d+ of 19 tasks are left\.", out)
    assert "The same command goes on" in err


def test_an_open_sweep_goes_on_with_the_points_that_were_asked(corpus, tmp_path):
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
    (record,) = [record for record in micro.records(request.runs) if record.sweep]
    assert [trial.values for trial in record.sweep.trials][: len(asked)] == asked
    assert len(record.sweep.trials) == 6
