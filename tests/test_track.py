"""Tracking with comet-ml: what is logged, once for each row and seed, and that no failure of it reaches a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from factories import make_record, store
from micro import ROOT, arguments, done, request, results

from bench.records import parse_record
from bench.track import NOTHING_BY_ITSELF, PROJECT, QUIET, CometTracker, experiment_key

HISTORY = [
    {"stage": 0, "update": 10, "tokens": 100, "dev_loss": 3.5, "train_nll": 4.0},
    {"stage": 0, "update": 20, "tokens": 210, "dev_loss": 3.25, "train_nll": 3.75},
    {"stage": 1, "update": 5, "tokens": 50, "dev_loss": 3.0, "train_nll": 3.5, "train_kd": 0.5},
]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of the developer's own; what the tracker sets is undone."""
    for name in (*QUIET, "COMET_API_KEY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def row(tmp_path: Path) -> tuple[Path, Path]:
    """The files of a record and of its training history."""
    record = make_record(bleu=21.5, chrf=44.25)
    folder = store(tmp_path / "records", record) / record.dataset
    (tmp_path / "history.json").write_text(json.dumps(HISTORY))
    return folder / record.file, tmp_path / "history.json"


class FakeComet(types.ModuleType):
    """Stands in for ``comet_ml``; it writes down every call and raises in the one called ``broken``."""

    def __init__(self, *, key: str | None = None, broken: str = "", archive: bool = False) -> None:
        super().__init__("comet_ml")
        self.key, self.broken, self.archive = key, broken, archive
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.url = "https://example.org/experiment"

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


def tracker(folder: Path, fake: FakeComet, monkeypatch: pytest.MonkeyPatch) -> tuple[CometTracker, list[str]]:
    monkeypatch.setitem(sys.modules, "comet_ml", fake)
    warnings: list[str] = []
    return CometTracker(folder, warnings.append), warnings


def test_an_online_experiment_holds_the_whole_row(
    row: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, folder = FakeComet(key="secret"), tmp_path / "comet"
    record = parse_record(row[0].read_bytes())
    made, warnings = tracker(folder, fake, monkeypatch)
    made.track(*row)
    assert warnings == []
    start, config = fake.options("start"), fake.options("ExperimentConfig")
    assert (start["online"], start["experiment_key"]) == (True, experiment_key(record))
    assert (start["mode"], start["project_name"]) == ("get_or_create", PROJECT)
    assert config["tags"] == ["synthetic", "quick", "word_level"]
    ((parameters,), _) = fake.named("log_parameters")[0]
    assert parameters["settings"] == {"alpha": 0.5, "divergence": "forward_kl"}
    assert (parameters["method"], parameters["depth"], parameters["seed"]) == ("word_level", "2-2", 1)
    assert parameters["recipe"] == record.recipe
    # A curve's step is the target tokens seen over all stages: 100, 210, and 50 more of the second stage.
    assert [(values, step) for values, step in fake.metrics() if step is not None] == [
        ({"curve/update": 10, "curve/dev_loss": 3.5, "curve/train_nll": 4.0}, 100),
        ({"curve/update": 20, "curve/dev_loss": 3.25, "curve/train_nll": 3.75}, 210),
        ({"curve/update": 5, "curve/dev_loss": 3.0, "curve/train_nll": 3.5, "curve/train_kd": 0.5}, 260),
    ]
    final = {name: value for values, step in fake.metrics() if step is None for name, value in values.items()}
    assert (final["test/bleu"], final["test/chrf"], final["dev/bleu"]) == (21.5, 44.25, 21.5)
    assert final["seconds/teacher/teacher training"] == 120.0
    assert final["seconds/common/tokenizer"] == 2.0
    assets = {options["name"]: args[0] for args, options in fake.named("log_asset_data")}
    assert parse_record(assets.pop(record.file)) == record
    assert assets == {
        f"{record.row}.s1.{name}.txt": "".join(f"Satz {i} von {name}, Lauf 1.\n" for i in range(3))
        for name in ("test", "dev")
    }
    assert fake.calls[-1][0] == "end"
    (address,) = folder.iterdir()
    assert address.name == f"synthetic.{record.row}.s1.{experiment_key(record)[:8]}.url"
    assert address.read_text() == f"{fake.url}\n"


def test_nothing_is_logged_by_comet_itself(
    row: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeComet(key="secret")
    tracker(tmp_path / "comet", fake, monkeypatch)[0].track(*row)
    config = fake.options("ExperimentConfig")
    automatic = {name: value for name, value in config.items() if name.startswith(("log_", "auto_", "parse_"))}
    assert automatic == dict.fromkeys(automatic, False)
    assert len(automatic) == len(NOTHING_BY_ITSELF) - 1
    assert os.environ["COMET_ERROR_TRACKING_ENABLE"] == "false"
    assert os.environ["COMET_DISABLE_AUTO_LOGGING"] == "1"


def test_what_the_user_set_stays(row: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMET_TIMEOUT_UPLOAD", "7")
    tracker(tmp_path / "comet", FakeComet(), monkeypatch)[0].track(*row)
    assert os.environ["COMET_TIMEOUT_UPLOAD"] == "7"


@pytest.mark.parametrize("key", [None, "secret"], ids=["no key", "connection lost"])
def test_an_experiment_kept_on_disk_becomes_one_archive(
    key: str | None, row: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, folder = FakeComet(key=key, archive=True), tmp_path / "comet"
    tracker(folder, fake, monkeypatch)[0].track(*row)
    assert fake.options("start")["online"] is bool(key)
    assert [path.suffix for path in folder.iterdir()] == [".zip"]


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "online"])
def test_a_row_is_tracked_once_whatever_run_it_is(
    archive: bool, row: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeComet(key="secret", archive=archive)
    for _ in range(2):
        made, _ = tracker(tmp_path / "comet", fake, monkeypatch)
        made.track(*row)
        made.track(*row)
    assert len(fake.named("start")) == 1


def test_keys_are_valid_and_change_with_row_seed_and_artifacts() -> None:
    record = make_record()
    others = [
        make_record(seed=2),
        make_record(digest="1badcafe"),
        make_record(dataset="multi30k-en-de"),
        make_record(artifacts={"model": "other"}),
    ]
    keys = [experiment_key(each) for each in (record, *others)]
    assert len(set(keys)) == 5
    assert all(key.isalnum() and 32 <= len(key) <= 50 for key in keys)
    assert experiment_key(make_record(bleu=1.0)) == keys[0]


@pytest.mark.parametrize(
    "broken", ["ExperimentConfig", "start", "log_parameters", "log_metrics", "log_asset_data", "end"]
)
def test_a_failure_is_one_warning_and_switches_tracking_off(
    broken: str, row: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, folder = FakeComet(broken=broken, archive=True), tmp_path / "comet"
    made, warnings = tracker(folder, fake, monkeypatch)
    made.track(*row)
    calls = len(fake.calls)
    made.track(*row)
    assert len(fake.calls) == calls
    assert len(warnings) == 1
    assert f"ConnectionError: {broken} is broken" in warnings[0]
    assert list(folder.iterdir()) == []


def test_comet_missing_is_one_warning(row: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "comet_ml", None)
    warnings: list[str] = []
    CometTracker(tmp_path / "comet", warnings.append).track(*row)
    assert len(warnings) == 1
    assert "comet_ml" in warnings[0]


def test_a_run_is_the_same_without_a_tracker_and_with_one_that_raises_on_every_call(tmp_path: Path) -> None:
    """The fake package leaves a mark when it is imported."""
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "comet_ml.py").write_text(
        "from pathlib import Path\n"
        "Path(__file__).with_name('imported').touch()\n"
        "def __getattr__(name):\n"
        "    raise RuntimeError('broken')\n"
    )
    wanted = request(tmp_path, "baseline")
    environment = {"PYTHONPATH": os.pathsep.join((str(fake), str(ROOT)))}
    plain = done("run", *arguments(wanted), cwd=tmp_path, env=environment)
    assert plain.returncode == 0, plain.stderr
    assert not (fake / "imported").exists()
    before = results(wanted.runs)
    tracked = done("run", *arguments(wanted), "--tracker", "comet", cwd=tmp_path, env=environment)
    assert tracked.returncode == 0, tracked.stderr
    assert (fake / "imported").exists()
    assert tracked.stdout.count("tracking is off for the rest of this run") == 1
    assert "Traceback" not in tracked.stdout + tracked.stderr
    assert results(wanted.runs) == before
    assert len(before) == 2


OFFLINE = """
import socket, sys
from pathlib import Path
attempts = []
def refuse(*arguments, **options):
    attempts.append(arguments)
    raise OSError("no network in this test")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from bench.track import CometTracker
CometTracker(Path(sys.argv[3]), print).track(Path(sys.argv[1]), Path(sys.argv[2]))
print("attempts", attempts)
"""


@pytest.mark.skipif(find_spec("comet_ml") is None, reason="comet-ml is not installed")
def test_a_real_archive_is_written_without_network(row: tuple[Path, Path], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMET_")}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    folder = tmp_path / "comet"
    process = subprocess.run(
        [sys.executable, "-c", OFFLINE, *map(str, (*row, folder))],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "attempts []\n", "")
    record = parse_record(row[0].read_bytes())
    (archive,) = folder.iterdir()
    assert archive.name == f"synthetic.{record.row}.s1.{experiment_key(record)[:8]}.zip"
    with zipfile.ZipFile(archive) as opened:
        about = json.loads(opened.read("experiment.json"))
        lines = [json.loads(line) for line in opened.read("messages.json").decode().splitlines()]
        files = {opened.read(name) for name in opened.namelist()}
    assert about["offline_id"] == experiment_key(record)
    assert about["project_name"] == PROJECT
    assert sorted(about["tags"]) == ["quick", "synthetic", "word_level"]
    metrics = {
        (payload["metric"]["metricName"], payload["metric"]["step"]): payload["metric"]["metricValue"]
        for payload in (line["payload"] for line in lines if line["type"] == "metric_msg")
    }
    assert metrics["curve/dev_loss", 260] == 3.0
    assert any(name == "test/bleu" and value == 21.5 for (name, _), value in metrics.items())
    assert "".join(f"Satz {i} von test, Lauf 1.\n" for i in range(3)).encode() in files
    kinds = {line["type"] for line in lines}
    assert kinds <= {"log_other", "parameter_msg", "metric_msg", "file_upload"}
