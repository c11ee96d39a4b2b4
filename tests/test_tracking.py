"""Tracking beside a run: rows and trials are told of, and no failure, silence or death of the tracker reaches it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from micro import ROOT, arguments, done, records, request, results, run_here
from plugins import SOME_FAIL, searching
from workers import alive, wait_for

from bench.track import Experiment, Tracking

WORKING = """
import json
from pathlib import Path
class ExperimentConfig:
    def __init__(self, **options):
        self.folder = Path(options["offline_directory"])
def get_config(name):
    return None
def start(experiment_config, experiment_key, **options):
    return Experiment(experiment_config.folder, experiment_key)
class Experiment:
    alive = True
    def __init__(self, folder, key):
        self.path, self.calls = folder / "made.zip", {"key": key, "log_metrics": []}
    def __getattr__(self, name):
        return lambda value, step=None, **options: self.calls.setdefault(name, []).append(value)
    def end(self):
        self.path.write_text(json.dumps(self.calls))
"""
"""A ``comet_ml`` whose archives are JSON of what was logged."""
BROKEN = """
from pathlib import Path
Path(__file__).with_name("imported").touch()
def __getattr__(name):
    raise RuntimeError("broken")
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a ``comet_ml`` in place of the real one for processes started from here."""

    def place(code: str) -> Path:
        folder = tmp_path / "fake"
        folder.mkdir(exist_ok=True)
        (folder / "comet_ml.py").write_text(code)
        monkeypatch.syspath_prepend(folder)
        return folder

    return place


def made(number: int) -> Experiment:
    return Experiment(f"made-{number}", "title", (), {"number": number}, {}, {})


def test_experiments_are_tracked_one_after_the_other(tmp_path: Path, fake: Callable[[str], Path]) -> None:
    fake(WORKING)
    warnings: list[str] = []
    with Tracking(tmp_path / "comet", warnings.append) as tracking:
        for number in (1, 2, 1):
            tracking.track(partial(made, number))
    assert warnings == []
    archives = sorted((tmp_path / "comet").glob("*.zip"))
    assert [path.name for path in archives] == ["made-1.zip", "made-2.zip"]
    assert [json.loads(path.read_text())["log_parameters"] for path in archives] == [[{"number": 1}], [{"number": 2}]]


@pytest.mark.parametrize(
    ("describe", "said"),
    [
        (partial(int, "x\ny"), "ValueError: invalid literal for int() with base 10: 'x"),
        (partial(time.sleep, 1000), "no answer for 3 s"),
        (partial(os._exit, 3), "its process ended"),
        (lambda: made(1), "pickle"),
    ],
    ids=["failure", "silence", "death", "not picklable"],
)
def test_the_first_failure_is_one_warning_and_the_last(
    describe: Callable[[], Experiment], said: str, tmp_path: Path
) -> None:
    warnings: list[str] = []
    began = time.monotonic()
    with Tracking(tmp_path / "comet", warnings.append, patience=3) as tracking:
        for each in (describe, describe, partial(made, 1)):
            tracking.track(each)
    assert time.monotonic() - began < 40
    assert len(warnings) == 1
    assert warnings[0].startswith("tracking is off for the rest of this run, which is not affected: ")
    assert said in warnings[0]
    assert not (tmp_path / "comet").exists()


def test_a_run_that_is_stopped_waits_for_no_tracker(tmp_path: Path) -> None:
    warnings: list[str] = []
    began = time.monotonic()

    def stopped() -> None:
        with Tracking(tmp_path / "comet", warnings.append, patience=600) as tracking:
            tracking.track(partial(time.sleep, 1000))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert time.monotonic() - began < 60
    assert warnings == []


HANGING = """
import os, time
open("pid.new", "w").write(str(os.getpid()))
os.rename("pid.new", "pid")
time.sleep(1000)
"""


def test_a_tracker_that_hangs_dies_with_its_run(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from functools import partial\n"
        "from pathlib import Path\n"
        "from bench.track import Tracking\n"
        "tracking = Tracking(Path('comet'), print)\n"
        "tracking.track(partial(exec, sys.argv[1]))\n"
        "time.sleep(1000)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen([sys.executable, "-c", code, HANGING], cwd=tmp_path, env=environment)
    try:
        wait_for((tmp_path / "pid").exists, "the tracker's process")
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    tracker = int((tmp_path / "pid").read_text())
    wait_for(lambda: not alive(tracker), "the tracker's end")


def test_a_run_tracks_its_rows_and_trials_and_those_that_failed_and_goes_on_where_it_was(
    tmp_path: Path, fake: Callable[[str], Path]
) -> None:
    fake(WORKING)
    (tmp_path / "plug").mkdir()
    searching(tmp_path / "plug", "picky", SOME_FAIL)
    wanted = request(tmp_path, "picky", trials=2, tracker="comet", methods_dir=tmp_path / "plug")
    run_here(wanted)
    folder = wanted.runs / "comet"
    archives = {path.name: path for path in folder.glob("*.zip")}
    rows = {record.row: record for record in records(wanted.runs)}
    dataset = next(iter(rows.values())).dataset
    tracked = {name: json.loads(path.read_text()) for name, path in archives.items()}
    assert {f"{dataset}.{row}.s1.zip" for row in rows} == {name for name in archives if name.endswith(".s1.zip")}
    trials = {name: each for name, each in tracked.items() if not name.endswith(".s1.zip")}
    assert len(trials) == 4
    (picky,) = (record for record in rows.values() if record.method.name == "picky")
    assert picky.sweep is not None
    for trial in picky.sweep.trials:
        (found,) = (
            each for name, each in trials.items() if f".picky.{picky.preset}." in name and f".t{trial.number}." in name
        )
        (parameters,), (notes,) = found["log_parameters"], found["log_others"]
        assert parameters["values"] == trial.values
        assert (notes["state"], notes.get("reason")) == (trial.state, trial.reason)
        assert (len(found["log_metrics"]) > 1) is (trial.state == "ok")  # a failed training has no curve
    assert {trial.state for trial in picky.sweep.trials} == {"ok", "exception"}
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / next(iter(trials)).replace(".zip", ".json")).unlink()
    _, printed = run_here(wanted)
    assert "tracking is off" not in printed
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    new = next(iter(trials)).removesuffix(".zip")
    assert {name for name in after if after[name] != before[name]} == {f"{new}.zip", f"{new}.json"}
    assert json.loads((folder / f"{new}.zip").read_text())["key"] == tracked[f"{new}.zip"]["key"]


def test_a_run_is_the_same_without_a_tracker_and_with_one_that_raises_on_every_call(
    tmp_path: Path, fake: Callable[[str], Path]
) -> None:
    folder = fake(BROKEN)
    wanted = request(tmp_path, "baseline")
    environment = {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
    plain = done("run", *arguments(wanted), cwd=tmp_path, env=environment)
    assert plain.returncode == 0, plain.stderr
    assert not (folder / "imported").exists()
    before = results(wanted.runs)
    tracked = done("run", *arguments(wanted), "--tracker", "comet", cwd=tmp_path, env=environment)
    assert tracked.returncode == 0, tracked.stderr
    assert (folder / "imported").exists()
    assert tracked.stdout.count("tracking is off for the rest of this run") == 1
    assert "Traceback" not in tracked.stdout + tracked.stderr
    assert results(wanted.runs) == before
    assert len(before) == 2
