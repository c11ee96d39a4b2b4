"""The command line: wrong input gets one clear sentence and exit code 2."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import micro
import pytest
import torch
from standins import fake_multi30k, raising

from bench import cli, request
from bench import run as run_module
from bench.data.datasets import DATASETS
from bench.errors import UsageError
from bench.sweep.slots import Slots


class TestWrongNames:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["rnu"], "unknown command 'rnu'. Did you mean 'run'? Known: check, compare, data"),
            (["run", "--methods", "word_levle"], "unknown method 'word_levle'. Did you mean 'word_level'? Known: a2d"),
            (["run", "--methods", ","], "--methods names no method"),
            (["run", "--dataset", "syntetic"], "unknown data set 'syntetic'. Did you mean 'synthetic'? Known: "),
            (["plan", "--preset", "quik"], "unknown preset 'quik'. Did you mean 'quick'? Known: base, iwslt"),
            (["run", "--set", "word_level.alhpa=1"], "unknown setting of word_level 'alhpa'. Did you mean 'alpha'?"),
            (["run", "--set", "student.witdh=1"], "unknown preset setting 'student.witdh'. Did you mean"),
            (["run", "--set", "nothing=1"], "unknown setting 'nothing'"),
            (["list", "methds"], "'methds' is not one of 'methods', 'datasets', 'presets', 'runs'"),
            (["check", "word_levle"], "Did you mean 'word_level'?"),
            (["data", "info", "multi30k"], "unknown data set 'multi30k'. Did you mean 'multi30k-en-de'?"),
            (["data", "gte", "synthetic"], "'gte' is not one of 'fetch', 'verify', 'info'"),
            (["run", "--sedes", "3"], "No such option"),
            (["doctor", "--speed", "--preset", "smal"], "unknown preset 'smal'. Did you mean 'small'?"),
            (["doctor", "--preset", "small"], "--preset and --device are options of doctor --speed."),
        ],
        ids=" ".join,
    )
    def test_get_the_legal_ones_or_the_nearest(self, refused, words, message):
        assert message in refused(*words)


class TestWrongValues:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--set", "word_level.alpha=1.5"], "word_level: alpha: Input should be less than or equal to 1, got 1.5"),
            (["--set", "word_level.alpha=lots"], "word_level: alpha: "),
            (["--teacher-signals", "kept"], "'kept' is not one of 'exact', 'cached'"),
            (["--set", "signals.kind=kept"], "preset 'quick': signals.kind: Input should be 'exact' or 'cached'"),
            (["--set", "signals.top_k=8"], "signals: top_k is of cached signals, and these are exact: got 8"),
            (["--teacher-signals", "cached", "--set", "signals.top_k=0"], "signals.top_k: Input should be greater"),
            (["--teacher-signals", "cached", "--set", "signals.kind=exact"], "signals.kind is given twice"),
            (["--set", "training.learning_rate=0"], "preset 'quick': training.learning_rate: "),
            (["--set", "training.learning_rate=NaN"], "preset 'quick': training.learning_rate: "),
            (["--set", "student.width=64", "--set", "student.heads=3"], "width 64 is not divisible by 3 heads"),
            (["--set", "student.width"], "--set takes NAME.KEY=VALUE, got 'student.width'."),
            (["--set", "=5"], "--set takes NAME.KEY=VALUE, got '=5'."),
            (["--methods", "tie_kd", "--set", "word_level.alpha=1"], "word_level, which --methods leaves out"),
            (["--seeds", "0"], "0 is not in the range x>=1"),
            (["--seeds", "many"], "'many' is not a valid integer"),
            (["--workers", "0"], "0 is not in the range x>=1"),
            (["--trials", "0"], "0 is not in the range x>=1"),
            (["--silence", "0"], "0.0 is not in the range x>0"),
            (["--trials", "2", "--sampler", "tpe"], "the official track has one list for all methods"),
            (["--trials", "2", "--pruner", "median"], "the official track has one list for all methods"),
            (["--track", "open"], "the open track needs several trials to learn from"),
            (["--set", "tuning.trials=2", "--trials", "2"], "tuning.trials is given twice"),
            (
                ["--budget", "hours:5"],
                "--budget takes tokens[:N], wall-clock:SECONDS or device-hours:HOURS; got 'hours:5'",
            ),
            (["--budget", "wall-clock:-5"], "--budget takes tokens[:N]"),
            (["--budget", "wall-clock:nan"], "--budget takes tokens[:N]"),
            (["--budget", "wall-clock:5", "--cluster", "ray://host:10001"], "a budget of time is of one machine"),
            (["--budget", "tokens:1.5"], "a budget of tokens is a whole number, not 1.5."),
            (["--methods", "a2d", "--processes", "2"], "so --processes cannot share one out"),
            (["--langs", "de"], "--langs takes source and target with a comma between, as in de,en; got 'de'."),
            (["--langs", "de,en,fr"], "--langs takes source and target"),
            (["--langs", ",en"], "--langs takes source and target"),
            (["--langs", "aa,bb"], "--langs is for files of your own"),
            (["--dataset", "my/files"], "say their languages too"),
            (["--dataset", "my/files", "--langs", "aa,aa"], "two different language codes"),
            (["--dataset", "my/files", "--langs", "aa,bb"], "no file my/files.train.aa[.gz]"),
            (["--device", "gpu"], "there is no device 'gpu' on this machine. There is: cpu"),
            (["--data-dir", "no/folder"], "'no/folder' does not exist"),
            (["--methods-dir", "no/folder"], "'no/folder' does not exist"),
        ],
        ids=" ".join,
    )
    @pytest.mark.parametrize("command", ["run", "plan"])
    def test_are_named_before_any_work(self, refused, tmp_path, monkeypatch, command, words, message):
        monkeypatch.chdir(tmp_path)
        assert message in refused(command, *words)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
    def test_a_gpu_that_is_not_there(self, refused):
        assert "there is no device 'cuda' on this machine. There is: cpu." in refused("run", "--device", "cuda")

    def test_a_run_folder_that_is_a_file_or_lies_in_one(self, refused, tmp_path):
        path = tmp_path / "file"
        path.touch()
        assert "is a file" in refused("run", "--runs", path)
        assert "cannot be used: Not a directory." in refused("run", "--runs", path / "runs")

    def test_a_broken_method_that_is_asked_for(self, refused, tmp_path):
        (tmp_path / "mine.py").write_text("import no_such_package")
        said = refused("run", "--methods", "mine", "--methods-dir", tmp_path)
        assert "method 'mine' cannot be used: " in said
        assert "No module named 'no_such_package'" in said


class TestWrongFiles:
    def test_missing(self, call, tmp_path):
        prefix = micro.write_corpus(tmp_path)
        Path(f"{prefix}.dev.bb").unlink()
        code, _, err = call("run", *micro.arguments(micro.request(tmp_path, corpus=prefix)))
        assert (code, err) == (2, f"error: data set 'corpus': no file {prefix}.dev.bb[.gz].\n")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"one line\n", "6 source lines but 1 target lines."),
            (b"ka\nlo\n\xff\nka\nka\nka\n", ".test.bb, line 3: not UTF-8 text."),
            (b"\n" * 6, "the test set has no usable pair."),
        ],
        ids=["unequal", "not UTF-8", "empty"],
    )
    def test_unequal_damaged_or_empty(self, call, tmp_path, content, message):
        prefix = micro.write_corpus(tmp_path)
        Path(f"{prefix}.test.bb").write_bytes(content)
        code, _, err = call("run", *micro.arguments(micro.request(tmp_path, corpus=prefix)))
        assert code == 2
        assert err.startswith("error: ")
        assert err.endswith(f"{message}\n")
        assert len(err.splitlines()) == 1

    def test_not_what_the_checksum_says(self, refused, tmp_path):
        said = refused("run", "--dataset", "multi30k-en-de", "--data-dir", fake_multi30k(tmp_path))
        first = DATASETS["multi30k-en-de"].files[0]
        assert f"{first.name} has " in said
        assert f" instead of {first.checksum}" in said

    def test_not_downloaded(self, refused, tmp_path):
        said = refused("plan", "--dataset", "multi30k-en-de", "--data-dir", tmp_path)
        assert "python -m bench data fetch multi30k-en-de" in said


class TestFullDisk:
    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (OSError(errno.ENOSPC, "No space left on device", "/a/file"), "the device that holds /a/file."),
            (OSError(errno.EDQUOT, "Disk quota exceeded"), "the device that holds the output."),
            (RuntimeError("I/O error: No space left on device (os error 28)"), "the device that holds the output."),
        ],
    )
    def test_is_named(self, refused, monkeypatch, error, message):
        monkeypatch.setattr(run_module, "run", raising(error))
        assert refused("run") == f"error: no space left on {message}"

    def test_any_other_error_is_a_fault_of_the_program_and_shows_where(self, monkeypatch):
        monkeypatch.setattr(run_module, "run", raising(OSError(errno.EIO, "Input/output error")))
        monkeypatch.setattr(sys, "argv", ["bench", "run"])
        with pytest.raises(OSError, match="Input/output error"):
            cli.main()


@pytest.mark.parametrize(
    ("options", "each"),
    [
        ({"workers": 4}, 2),
        ({"workers": 3}, 2),
        ({"workers": 2}, 1),
        ({"workers": 1, "processes": 2}, 1),
        ({"workers": 2, "processes": 2}, 2),
    ],
)
def test_tasks_know_how_many_share_a_gpu(monkeypatch, tmp_path, options, each):
    monkeypatch.setattr(request, "resolve_device", lambda wanted: "cuda")
    monkeypatch.setattr(request, "default_slots", lambda device: Slots(2, 1, devices=("cuda:0", "cuda:1")))
    found = request.resolve(micro.request(tmp_path, **options))
    assert (found.place.workers, found.place.each_gpu) == (found.slots.workers, each)


def test_a_worker_of_a_cluster_has_one_gpu_at_most(monkeypatch, tmp_path):
    monkeypatch.setattr(request, "resolve_device", lambda wanted: "cuda")
    monkeypatch.setattr(request, "default_slots", lambda device: Slots(2, 1, devices=("cuda:0", "cuda:1")))
    for given, message in (
        ({"processes": 3}, "needs as many GPUs; there are 2"),
        ({"processes": 2, "cluster": "ray"}, "a worker of a cluster has one GPU at most"),
    ):
        with pytest.raises(UsageError, match=message):
            request.resolve(micro.request(tmp_path, **given))
