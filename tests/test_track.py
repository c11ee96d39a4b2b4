"""What a tracker is told of a row and of a trial."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from factories import make_failed, make_record, make_sweep, store

from bench.config import preset
from bench.errors import DataError
from bench.measure.statistics import parse_statistics
from bench.records import parse_record
from bench.results import EngineSpeed, Latency, Phase, Record, Speed, Timing, Trial
from bench.track.experiment import Experiment, TrialOrigin, row_experiment, trial_experiment

HISTORY = [
    {"stage": 0, "update": 10, "tokens": 100, "dev_loss": 3.5, "dev_nll": 3.25, "train_nll": 4.0},
    {"stage": 0, "update": 20, "tokens": 210, "dev_loss": 3.25, "dev_nll": 3.0, "train_nll": 3.75},
    {"stage": 1, "update": 5, "tokens": 50, "dev_loss": 3.0, "dev_nll": 2.75, "train_nll": 3.5, "train_kd": 0.5},
]


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.json"
    path.write_text(json.dumps(HISTORY))
    return path


def written(folder: Path, record: Record, **more: Any) -> Path:
    """The file of a record, stored with what belongs to it."""
    return store(folder / "records", record, **more) / record.dataset / record.file


@pytest.fixture
def experiment(tmp_path: Path, history: Path) -> Experiment:
    """Of a row with a sweep."""
    return row_experiment(written(tmp_path, make_record(bleu=21.5, chrf=44.25, sweep=make_sweep())), history)


def table(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content)))


LATENCY = Latency(p50=9.0, p90=12.0, p99=15.5)
FAST = Timing(
    beam=1, mode="fixed batch", batch_tokens=4096, passes=5, seconds=2.0, spread=0.01,
    source_words=500.0, target_tokens=800.0, sentences=40.0, signature="a|b",
)  # fmt: skip
SLOW = FAST.model_copy(update={"mode": "one sentence", "batch_tokens": 0, "latency": LATENCY})
SPEED = Speed(
    fingerprint="f" * 64,
    machine={"cpu": "Example"},
    protocol={"passes": 5},
    source_sha256="e" * 64,
    shared=None,
    engines=(
        EngineSpeed(engine="pytorch", precision="fp32", timings=(FAST, SLOW), disk_bytes=1000),
        EngineSpeed(engine="ctranslate2", precision="int8", failure="not installed"),
    ),
)


def test_a_row_is_tracked_with_settings_curves_and_scores(experiment: Experiment) -> None:
    assert experiment.name == "synthetic.word_level.2-2.quick.0badcafe.s1"
    assert experiment.tags == ("synthetic", "quick", "word_level", "method")
    parameters = experiment.parameters
    assert parameters["settings"] == {"alpha": 0.5, "divergence": "forward_kl"}
    assert (parameters["method"], parameters["depth"], parameters["seed"]) == ("word_level", "2-2", 1)
    assert parameters["recipe"]["training"] == preset("quick").training.model_dump(mode="json")
    assert parameters["values"] == {"training.learning_rate": 0.004, "word_level.alpha": 0.51}  # of the winner
    # A curve's step is the target tokens seen over all stages: 100, 210, and 50 more of the second stage.
    assert experiment.curves == (
        (100, {"curve/update": 10, "curve/dev_loss": 3.5, "curve/dev_nll": 3.25, "curve/train_nll": 4.0}),
        (210, {"curve/update": 20, "curve/dev_loss": 3.25, "curve/dev_nll": 3.0, "curve/train_nll": 3.75}),
        (260, {
            "curve/update": 5, "curve/dev_loss": 3.0, "curve/dev_nll": 2.75,
            "curve/train_nll": 3.5, "curve/train_kd": 0.5,
        }),
    )  # fmt: skip
    figures = experiment.figures
    assert (figures["test/bleu"], figures["test/chrf"], figures["dev/bleu"]) == (21.5, 44.25, 21.5)
    assert (figures["training/updates"], figures["budget/spent"]) == (310, 180_400)
    assert experiment.notes["state"] == "ok"
    assert experiment.notes["energy"] == "not measured: made up"


def test_the_ledger_is_tracked_phase_by_phase(tmp_path: Path, history: Path) -> None:
    decoding = {"name": "final decoding", "kind": "evaluation", "artifact": "a1"}
    phases = (
        Phase(name="student training", kind="training", seconds=60.0, devices=2, target_tokens=100, flops=1e9,
              host_memory=10, device_memory=20, joules=30.5, shared_by=4),
        Phase(**decoding, seconds=5.0, host_memory=7, target_tokens=0),
        Phase(**decoding, seconds=1.5, host_memory=6),
    )  # fmt: skip
    found = row_experiment(written(tmp_path, make_record(phases=phases)), history)
    ledger = {name: value for name, value in found.figures.items() if name.startswith("ledger/")}
    training, evaluation = "ledger/training/student training", "ledger/evaluation/final decoding"
    assert ledger == {
        f"{training}/seconds": 60.0,
        f"{training}/device_seconds": 120.0,
        f"{training}/target_tokens": 100,
        f"{training}/flops": 1e9,
        f"{training}/host_memory": 10,
        f"{training}/device_memory": 20,
        f"{training}/joules": 30.5,
        f"{evaluation}/seconds": 6.5,  # the same work of two artifacts is added up, and the higher peak counts
        f"{evaluation}/device_seconds": 6.5,
        f"{evaluation}/target_tokens": 0,
        f"{evaluation}/host_memory": 7,
    }
    rows = table(found.files["ledger.csv"])
    assert [row["name"] for row in rows] == ["student training", "final decoding", "final decoding"]
    assert (rows[0]["charged"], rows[0]["joules"], rows[1]["joules"]) == ("30.0", "30.5", "")


def test_a_row_is_tracked_with_its_files_and_tables(tmp_path: Path, history: Path) -> None:
    lines = {"test": ['Ein "Satz", mit Komma.', "Noch einer."], "dev": ["Drei."]}
    references = {"test": ["Ein Satz mit Komma.", "Noch einer."], "dev": ["Drei."]}
    record = make_record(hypotheses=lines, references=references, sweep=make_sweep((18.0, None, 20.0)), speed=SPEED)
    path = written(tmp_path, record, hypotheses=lines, references=references)
    files = row_experiment(path, history).files
    assert parse_record(files[record.file]) == record
    stem = f"{record.row}.s1"
    assert files[f"{stem}.test.txt"] == "".join(f"{line}\n" for line in lines["test"])
    assert len(parse_statistics(files[f"{stem}.test.tsv"])) == 2
    assert [row["hypothesis"] for row in table(files["sentences.test.csv"])] == lines["test"]
    scores = {row["test set"]: row for row in table(files["scores.csv"])}
    assert float(scores["dev"]["bleu"]) == record.scores["dev"].bleu
    assert scores["test"]["bleu signature"] == record.scores["test"].bleu_signature
    trials = table(files["trials.csv"])
    assert [(row["trial"], row["state"], row["bleu"], row["winner"]) for row in trials] == [
        ("0", "ok", "18.0", "False"), ("1", "out of memory", "", "False"), ("2", "ok", "20.0", "True"),
    ]  # fmt: skip
    assert trials[1]["reason"] == "no memory left"
    assert trials[2]["word_level.alpha"] == "0.52"
    assert [(row["engine"], row["mode"], row["latency p99"], row["failure"]) for row in table(files["speed.csv"])] == [
        ("pytorch", "fixed batch", "", ""),
        ("pytorch", "one sentence", "15.5", ""),
        ("ctranslate2", "", "", "not installed"),
    ]


def test_speeds_are_tracked_where_the_record_has_them(tmp_path: Path, history: Path) -> None:
    found = row_experiment(written(tmp_path, make_record(speed=SPEED)), history)
    speeds = {name: value for name, value in found.figures.items() if name.startswith("speed/")}
    assert speeds["speed/pytorch/fp32/beam 1/fixed batch/source_words"] == 500.0
    assert speeds["speed/pytorch/fp32/beam 1/one sentence/latency_p90"] == 12.0
    assert speeds["speed/pytorch/fp32/disk_bytes"] == 1000
    assert not any("ctranslate2" in name for name in speeds)
    assert found.notes["speed fingerprint"] == "f" * 64
    without = row_experiment(written(tmp_path, make_record()), history)
    assert not any(name.startswith("speed") for name in (*without.figures, *without.files, *without.notes))


def test_a_failed_row_is_tracked_with_its_reason(tmp_path: Path) -> None:
    found = row_experiment(written(tmp_path, make_failed()), None)
    assert (found.notes["state"], found.notes["reason"]) == ("out of memory", "out of memory")
    assert found.curves == ()
    assert set(found.files) == {make_failed().file}
    assert found.name == row_experiment(written(tmp_path, make_record()), None).name


def test_damaged_hypotheses_are_not_tracked(tmp_path: Path) -> None:
    path = written(tmp_path, make_record())
    path.with_name(make_record().scores["test"].hypotheses.file).write_text("something else\n")
    with pytest.raises(DataError, match="SHA-256"):
        row_experiment(path, None)


ORIGIN = TrialOrigin("synthetic", ("src", "tgt"), preset("quick"), "word_level", {"alpha": 0.5, "top": 3}, "5eed" * 16)


def test_a_trial_is_tracked_with_its_values(history: Path) -> None:
    values = {"training.learning_rate": 0.0071, "word_level.alpha": 0.9}
    trial = Trial(number=4, values=values, state="ok", bleu=12.5, seconds=9.0, target_tokens=300)
    phases = (Phase(name="training", kind="tuning", seconds=9.0),)
    found = trial_experiment(trial, ORIGIN, phases, history)
    assert found.name == "synthetic.word_level.quick.5eed5eed.t4"
    assert found.tags == ("synthetic", "quick", "word_level", "trial")
    assert found.parameters["values"] == values
    assert found.parameters["settings"] == {"alpha": 0.9, "top": 3}
    assert found.parameters["recipe"]["training"]["learning_rate"] == 0.0071
    assert found.figures == {
        "dev/bleu": 12.5, "device_seconds": 9.0, "target_tokens": 300,
        "ledger/tuning/training/seconds": 9.0, "ledger/tuning/training/device_seconds": 9.0,
    }  # fmt: skip
    assert [step for step, _ in found.curves] == [100, 210, 260]
    assert table(found.files["ledger.csv"])[0]["name"] == "training"


@pytest.mark.parametrize("state", ["pruned", "not finite"])
def test_a_trial_that_did_not_finish_is_tracked_with_its_state_and_reason(state: Any) -> None:
    trial = Trial(number=0, values={}, state=state, reason="behind the others", seconds=2.0)
    found = trial_experiment(trial, ORIGIN)
    assert found.notes == {"state": state, "reason": "behind the others", "sweep": "5eed" * 16}
    assert found.figures == {"device_seconds": 2.0}
    assert (found.curves, found.files) == ((), {})
