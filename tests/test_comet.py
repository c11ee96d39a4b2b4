"""Experiments of comet-ml: how one is made, online or as an archive, and continued."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import types
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from factories import make_record, make_sweep, store
from micro import ROOT

from bench.config import preset
from bench.results import Phase, Trial
from bench.track.comet import NOTHING_BY_ITSELF, PROJECT, QUIET, CometTracker
from bench.track.experiment import Experiment, TrialOrigin, row_experiment, trial_experiment

HISTORY = [
    {"stage": 0, "update": 10, "tokens": 100, "dev_loss": 3.5, "dev_nll": 3.25},
    {"stage": 1, "update": 5, "tokens": 50, "dev_loss": 3.0, "dev_nll": 2.75},
]
ORIGIN = TrialOrigin("synthetic", ("src", "tgt"), preset("quick"), "word_level", {"alpha": 0.5}, "5eed" * 16)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of the developer's own; what the tracker sets is undone."""
    for name in (*QUIET, "COMET_API_KEY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(
        name="synthetic.word_level.2-2.quick.0badcafe.s1",
        title="word_level.2-2.quick.0badcafe.s1",
        tags=("synthetic", "quick"),
        parameters={"method": "word_level", "settings": {"alpha": 0.5}},
        notes={"state": "ok"},
        figures={"test/bleu": 21.5},
        curves=((100, {"curve/dev_loss": 3.5}), (210, {"curve/dev_loss": 3.25})),
        files={"scores.csv": "a,b\n1,2\n", "hypotheses.txt": "Satz\n"},
    )


def changed(experiment: Experiment, **parts: Any) -> Experiment:
    return Experiment(**{**vars(experiment), **parts})


class FakeComet(types.ModuleType):
    """Stands in for ``comet_ml``; it writes down every call and raises in the one called ``broken``."""

    def __init__(self, *, key: str | None = None, broken: str = "", archive: bool = False) -> None:
        super().__init__("comet_ml")
        self.key, self.broken, self.archive = key, broken, archive
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.url, self.alive = "https://example.org/experiment", True

    def get_config(self, name: str) -> str | None:
        return {"comet.api_key": self.key, "comet.project_name": None}[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append((name, args, options))
            if name == self.broken:
                raise ConnectionError(f"{name} is\nbroken")
            if name == "end" and self.archive:
                Path(self.options("ExperimentConfig")["offline_directory"], "made-by-comet.zip").write_bytes(b"PK")
            return self

        return call

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, options) for called, args, options in self.calls if called == name]

    def options(self, name: str) -> dict[str, Any]:
        return self.named(name)[0][1]

    def metrics(self) -> list[tuple[dict[str, float], int | None]]:
        return [(args[0], options.get("step")) for args, options in self.named("log_metrics")]


def tracker(folder: Path, fake: FakeComet, monkeypatch: pytest.MonkeyPatch) -> CometTracker:
    monkeypatch.setitem(sys.modules, "comet_ml", fake)
    return CometTracker(folder)


def logged(fake: FakeComet) -> dict[str, int]:
    """How often each kind of thing was logged."""
    names = ("log_parameters", "log_others", "log_metrics", "log_asset_data")
    return {name: len(calls) for name in names if (calls := fake.named(name))}


def test_an_online_experiment_holds_everything(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, folder = FakeComet(key="secret"), tmp_path / "comet"
    made = tracker(folder, fake, monkeypatch)
    made.track(experiment)
    start, config = fake.options("start"), fake.options("ExperimentConfig")
    assert (start["online"], start["experiment_key"]) == (True, made.key(experiment))
    assert (start["mode"], start["project_name"]) == ("get_or_create", PROJECT)
    assert (config["name"], config["tags"]) == (experiment.title, list(experiment.tags))
    assert fake.named("log_parameters") == [((experiment.parameters,), {})]
    assert fake.named("log_others") == [((experiment.notes,), {})]
    assert fake.metrics() == [*((values, step) for step, values in experiment.curves), (experiment.figures, None)]
    assert {options["name"]: args[0] for args, options in fake.named("log_asset_data")} == experiment.files
    assert all(options["overwrite"] for _, options in fake.named("log_asset_data"))
    assert fake.calls[-1][0] == "end"
    about = json.loads((folder / f"{experiment.name}.json").read_text())
    assert (about["key"], about["url"]) == (made.key(experiment), fake.url)


def test_nothing_is_logged_by_comet_itself(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeComet(key="secret")
    tracker(tmp_path / "comet", fake, monkeypatch).track(experiment)
    config = fake.options("ExperimentConfig")
    automatic = {name: value for name, value in config.items() if name.startswith(("log_", "auto_", "parse_"))}
    assert automatic == dict.fromkeys(automatic, False)
    assert len(automatic) == len(NOTHING_BY_ITSELF) - 1
    assert os.environ["COMET_ERROR_TRACKING_ENABLE"] == "false"
    assert os.environ["COMET_DISABLE_AUTO_LOGGING"] == "1"


def test_what_the_user_set_stays(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMET_TIMEOUT_UPLOAD", "7")
    tracker(tmp_path / "comet", FakeComet(), monkeypatch).track(experiment)
    assert os.environ["COMET_TIMEOUT_UPLOAD"] == "7"


@pytest.mark.parametrize("key", [None, "secret"], ids=["no key", "connection lost"])
def test_an_experiment_kept_on_disk_becomes_one_archive(
    key: str | None, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, folder = FakeComet(key=key, archive=True), tmp_path / "comet"
    tracker(folder, fake, monkeypatch).track(experiment)
    assert fake.options("start")["online"] is bool(key)
    assert {path.name for path in folder.iterdir()} == {
        "origin", f"{experiment.name}.zip", f"{experiment.name}.json",
    }  # fmt: skip


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "online"])
def test_what_has_not_changed_is_tracked_once_whatever_run_it_is(
    archive: bool, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeComet(key=None if archive else "secret", archive=archive)
    for _ in range(2):
        made = tracker(tmp_path / "comet", fake, monkeypatch)
        made.track(experiment)
        made.track(experiment)
    (tmp_path / "comet" / f"{experiment.name}.zip").unlink(missing_ok=True)  # as after an upload
    made.track(experiment)
    assert len(fake.named("start")) == 1


def test_an_experiment_that_has_changed_is_continued_online_with_what_is_new(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, folder = FakeComet(key="secret"), tmp_path / "comet"
    tracker(folder, fake, monkeypatch).track(experiment)
    assert logged(fake)["log_metrics"] == 1 + len(experiment.curves)
    key = fake.options("start")["experiment_key"]
    fake.calls.clear()
    measured = changed(experiment, figures={**experiment.figures, "speed": 7.0}, notes={"state": "ok", "new": "yes"})
    tracker(folder, fake, monkeypatch).track(measured)
    assert fake.options("start")["experiment_key"] == key
    # Points of a curve that is there already would be doubled.
    assert fake.metrics() == [(measured.figures, None)]
    assert logged(fake) == {"log_others": 1, "log_metrics": 1}
    fake.calls.clear()
    tracker(folder, fake, monkeypatch).track(measured)
    assert fake.calls == []


def test_a_row_that_has_changed_replaces_its_archive_by_a_whole_one_with_the_same_key(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, folder = FakeComet(archive=True), tmp_path / "comet"
    made = tracker(folder, fake, monkeypatch)
    made.track(experiment)
    everything = logged(fake)
    (folder / f"{experiment.name}.zip").write_bytes(b"the first one")
    made.track(changed(experiment, figures={"test/bleu": 22.0}))
    assert (folder / f"{experiment.name}.zip").read_bytes() == b"PK"
    assert logged(fake) == {name: 2 * count for name, count in everything.items()}
    first, second = (options["experiment_key"] for _, options in fake.named("start"))
    assert first == second


def test_an_archive_whose_experiment_goes_online_is_taken_away(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, offline, online = tmp_path / "comet", FakeComet(archive=True), FakeComet(key="secret")
    tracker(folder, offline, monkeypatch).track(experiment)
    tracker(folder, online, monkeypatch).track(changed(experiment, notes={"state": "failed"}))
    assert logged(online) == logged(offline)
    assert not (folder / f"{experiment.name}.zip").exists()


def test_keys_are_valid_and_are_those_of_a_name_in_a_folder(experiment: Experiment, tmp_path: Path) -> None:
    here, there = CometTracker(tmp_path / "here"), CometTracker(tmp_path / "there")
    other = changed(experiment, name="synthetic.word_level.2-2.quick.0badcafe.s2")
    keys = [here.key(experiment), here.key(other), there.key(experiment)]
    assert len(set(keys)) == 3
    assert all(key.isalnum() and 32 <= len(key) <= 50 for key in keys)
    assert CometTracker(tmp_path / "here").key(changed(experiment, figures={})) == keys[0]


BROKEN = ["ExperimentConfig", "start", "log_parameters", "log_others", "log_metrics", "log_asset_data", "end"]


@pytest.mark.parametrize("broken", BROKEN)
def test_an_experiment_that_failed_leaves_nothing_and_is_made_by_the_next_run(
    broken: str, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "comet"
    with pytest.raises(ConnectionError, match=broken):
        tracker(folder, FakeComet(broken=broken, archive=True), monkeypatch).track(experiment)
    assert [path.name for path in folder.iterdir()] == ["origin"]
    working = FakeComet(archive=True)
    tracker(folder, working, monkeypatch).track(experiment)
    assert (folder / f"{experiment.name}.zip").exists()


def test_a_refused_key_is_an_error(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """comet-ml says so in its log only, and then swallows all that it is told."""
    fake = FakeComet(key="wrong")
    fake.alive = False
    with pytest.raises(RuntimeError, match="API key"):
        tracker(tmp_path / "comet", fake, monkeypatch).track(experiment)


def test_a_damaged_note_of_what_was_tracked_means_that_nothing_was(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, folder = FakeComet(archive=True), tmp_path / "comet"
    for content in ("{", "[]", "{}"):
        folder.mkdir(exist_ok=True)
        (folder / f"{experiment.name}.json").write_text(content)
        tracker(folder, fake, monkeypatch).track(experiment)
    assert len(fake.named("start")) == 3


OFFLINE = """
import pickle, socket, sys
from pathlib import Path
attempts = []
def refuse(*arguments, **options):
    attempts.append(arguments)
    raise OSError("no network in this test")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from bench.track.comet import CometTracker
made = CometTracker(Path(sys.argv[2]))
for experiment in pickle.loads(Path(sys.argv[1]).read_bytes()):
    made.track(experiment)
print("attempts", attempts)
"""


@pytest.mark.skipif(find_spec("comet_ml") is None, reason="comet-ml is not installed")
def test_real_archives_hold_the_row_and_the_trial_and_need_no_network(
    tmp_path: Path,
) -> None:
    (tmp_path / "history.json").write_text(json.dumps(HISTORY))
    record = make_record(sweep=make_sweep())
    path = store(tmp_path / "records", record) / record.dataset / record.file
    experiment = row_experiment(path, tmp_path / "history.json")
    phases = (Phase(name="training", kind="tuning", seconds=9.0),)
    pruned = Trial(number=1, values={"word_level.alpha": 0.9}, state="pruned", reason="behind", seconds=9.0)
    trial = trial_experiment(pruned, ORIGIN, phases)
    (tmp_path / "experiments").write_bytes(pickle.dumps([experiment, trial]))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMET_")}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    folder = tmp_path / "comet"
    process = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(tmp_path / "experiments"), str(folder)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "attempts []\n", "")
    about, found = opened(folder / f"{experiment.name}.zip")
    assert about["offline_id"] == CometTracker(folder).key(experiment)
    assert (about["project_name"], about["resume_strategy"]) == (PROJECT, "get_or_create")
    assert sorted(about["tags"]) == ["method", "quick", "synthetic", "word_level"]
    metrics = found["metrics"]
    assert metrics["curve/dev_loss", 150] == 3.0
    figures = {name: value for (name, _), value in metrics.items()}
    assert {name: figures.get(name) for name in experiment.figures} == experiment.figures
    assert found["parameters"]["settings|alpha"] == 0.5
    assert found["parameters"]["recipe|training|batch_tokens"] == preset("quick").training.batch_tokens
    assert found["parameters"]["values|word_level.alpha"] == 0.51
    assert found["others"]["state"] == "ok"
    assert found["files"] == experiment.files
    assert {"scores.csv", "ledger.csv", "trials.csv", "sentences.test.csv"} < set(found["files"])
    assert found["kinds"] <= {"log_other", "parameter_msg", "metric_msg", "file_upload"}
    _, found = opened(folder / f"{trial.name}.zip")
    assert (found["others"]["state"], found["others"]["reason"]) == ("pruned", "behind")
    assert found["parameters"]["settings|alpha"] == 0.9
    assert found["files"] == trial.files


def opened(archive: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What comet-ml says of an archive, and what was logged in it."""
    with zipfile.ZipFile(archive) as unpacked:
        about = json.loads(unpacked.read("experiment.json"))
        lines = [json.loads(line) for line in unpacked.read("messages.json").decode().splitlines()]
        content = {name: unpacked.read(name) for name in unpacked.namelist()}
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_kind.setdefault(line["type"], []).append(line["payload"])
    metrics = [payload["metric"] for payload in by_kind["metric_msg"]]
    parameters = [payload.get("param") or payload["params"] for payload in by_kind["parameter_msg"]]
    uploads = by_kind["file_upload"]
    return about, {
        "kinds": set(by_kind),
        "metrics": {(each["metricName"], each["step"]): each["metricValue"] for each in metrics},
        "parameters": {each["paramName"]: each["paramValue"] for each in parameters},
        "others": {payload["key"]: payload["value"] for payload in by_kind["log_other"]},
        "files": {
            payload["additional_params"]["fileName"]: content[Path(payload["file_path"]).name].decode()
            for payload in uploads
        },
    }
