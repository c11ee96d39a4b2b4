"""Whole runs, small: all rows are filled and recorded, a broken method costs its own, and what stops a run is told."""

import json
import os
import shutil
import subprocess

import micro
import pytest
from plugins import plug_in

from bench import phases
from bench.errors import UsageError
from bench.records import check_files, read_records
from bench.run import missing, prepare


def test_a_run_of_all_methods_fills_every_row(finished):
    outcome = finished.outcome
    assert outcome.failures == {}
    assert outcome.page.is_file()
    found = micro.records(finished.request.runs)
    names = {(record.method.name, str(record.delivery.depth)) for record in found}
    single = {"baseline", "word_level", "sequence_level", "tie_kd", "a2d"}
    assert names == {("teacher", "2-2"), *((name, "1-1") for name in single)} | {
        ("aio_kd", depth) for depth in ("1-1", "2-1", "2-2")
    }
    assert outcome.rows == len(found) == 9
    assert {record.status for record in found} == {"ok"}
    assert "left out" not in finished.printed


def test_a_record_says_what_was_done_and_what_it_cost(finished):
    for stored in read_records([finished.request.runs / "records"]).records:
        record = stored.record
        assert check_files(stored) == []
        assert record.primary == "test"
        assert {name: score.sentences for name, score in record.scores.items()} == {"dev": 6, "test": 6}
        assert record.languages == ("aa", "bb")
        assert record.training.target_tokens >= 600
        assert (record.model.encoder_layers, record.model.decoder_layers) == record.delivery.depth
        kinds = {phase.kind for phase in record.phases}
        assert {"training", "common", "evaluation"} <= kinds
        assert ("teacher" in kinds) == (record.method.name not in ("teacher", "baseline", "aio_kd"))
        # Its corpus is decoded, or the teacher is asked during the training.
        assert ("distillation" in kinds) == ("teacher" in kinds)
        assert all(record.artifacts.get(kind) for kind in ("tokenizer", "corpus", "scores"))


def test_what_several_rows_rest_on_is_charged_to_each_in_part(finished):
    by_method = {record.method.name: record for record in micro.records(finished.request.runs)}
    shares = {
        name: {phase.kind: phase.shared_by for phase in record.phases if phase.kind != "measuring"}
        for name, record in by_method.items()
    }
    # Word-level, sequence-level, TIE-KD and A2D learn from the teacher; all nine rows from one corpus.
    assert shares["word_level"] == {"common": 9, "teacher": 4, "training": 1, "distillation": 1, "evaluation": 1}
    assert shares["aio_kd"] == {"common": 9, "training": 3, "evaluation": 1}
    assert shares["teacher"]["training"] == 1


def test_the_phases_of_each_artifact_add_up_to_the_time_it_took(finished):
    assert micro.interruptions(finished.request.runs) == 0


def test_operations_memory_and_tokens_are_in_the_ledger(finished):
    for record in micro.records(finished.request.runs):
        phases = {phase.name: phase for phase in record.phases}
        trained = phases["teacher training" if record.role == "teacher" else "student training"]
        assert trained.target_tokens == record.training.target_tokens
        # Attention's own products come on top, source and target differ, and AIO-KD trains several networks at a time.
        assert trained.flops > 0.7 * record.training.formula_flops
        if record.role in ("teacher", "baseline"):
            assert trained.flops < 2 * record.training.formula_flops
        assert phases["final decoding"].flops > 0
        assert 10e6 < trained.host_memory < 10e9
        assert trained.device_memory is None
        if "online teacher passes" in phases:
            assert 0 < phases["online teacher passes"].flops < trained.flops
        assert all(phase.joules is None for phase in record.phases) == record.energy.startswith("not measured")


def test_a_broken_method_costs_its_rows_only(tmp_path, corpus, finished):
    more = tmp_path / "more"
    plug_in(more, "raises", "1 / 0")
    plug_in(more, "nans", "nll = nll * float('nan')")
    plug_in(more, "dies", "os.kill(os.getpid(), signal.SIGKILL)")
    plug_in(more, "refuses", "raise UsageError('this batch is not to its taste.')")
    plug_in(more, "unplanned", planning="raise LookupError('no stages')")
    plug_in(more, "works")
    names = ("raises", "nans", "dies", "refuses", "unplanned", "works")
    outcome, printed = micro.run_here(micro.request(tmp_path, *names, corpus=corpus, methods_dir=more))
    reasons = {
        "raises": "ZeroDivisionError: division by zero",
        "nans": "loss is not finite at update 1: nll",
        "dies": "the process was killed by SIGKILL (out of memory?), the last of 3 attempts",
        "refuses": "this batch is not to its taste.",
    }
    assert {name.split(".")[0]: reason for name, reason in outcome.failures.items()} == reasons | {
        "unplanned": "LookupError: no stages"
    }
    assert outcome.rows == 8
    by_name = {record.method.name: record for record in micro.records(tmp_path / "runs")}
    assert {name: record.reason for name, record in by_name.items() if record.status == "failed"} == reasons
    assert "ZeroDivisionError" in by_name["raises"].error_log
    assert {name for name, record in by_name.items() if record.status == "ok"} == {"teacher", "baseline", "works"}
    assert "raises, seed 1: failed: ZeroDivisionError" in printed
    theirs = {
        name: found for name, found in micro.results(finished.request.runs).items() if name[:4] in ("teac", "base")
    }
    assert theirs.items() <= micro.results(tmp_path / "runs").items()


def test_a_method_file_that_changes_during_the_run_is_noticed(tmp_path, corpus):
    plug_in(tmp_path / "more", "mine")
    prepared = prepare(micro.request(tmp_path, "mine", corpus=corpus, methods_dir=tmp_path / "more"))
    plug_in(tmp_path / "more", "mine", "nll = 2 * nll")
    student = next(task for task in missing(prepared) if task.label.startswith("mine"))
    with pytest.raises(UsageError, match="the file of mine was changed"):
        phases.carry_out(student, prepared.place)


def test_text_that_changes_during_the_run_is_noticed(tmp_path):
    prepared = prepare(micro.request(tmp_path))
    tokenizer = next(task for task in missing(prepared) if task.kind == "tokenizer")
    changed = next(path for path in prepared.dataset.own if ".train." in path.name)
    changed.write_text(changed.read_text().replace("\n", " more\n", 1))
    with pytest.raises(UsageError, match="were changed after the run had started"):
        phases.carry_out(tokenizer, prepared.place)


def test_dev_bleu_can_choose_the_checkpoint_of_every_delivered_depth(tmp_path, corpus):
    wanted = micro.request(
        tmp_path, "aio_kd", corpus=corpus, settings={"aio_kd.min_depth": 1, "training.select": "bleu"}
    )
    assert micro.run_here(wanted)[0].failures == {}
    histories = [json.loads(path.read_text()) for path in wanted.runs.glob("artifacts/student/*/history.json")]
    assert len(histories) == 2
    assert all(0 <= point["dev_bleu"] <= 100 for history in histories for point in history)


def test_wrong_sizes_for_the_text_stop_the_run(tmp_path, corpus):
    wanted = micro.request(tmp_path, corpus=corpus, settings={"tokenizer.vocabulary": 16})
    with pytest.raises(UsageError, match="vocabulary of 16 pieces is too small"):
        micro.run_here(wanted)


def test_a_full_disk_is_named_in_one_sentence(tmp_path, corpus):
    """For real: the teacher does not fit on the file system, where this user may mount one."""
    runs = tmp_path / "runs"
    runs.mkdir()
    wanted = micro.request(tmp_path, "word_level", corpus=corpus, settings={"teacher.ffn": 512})
    inside = ["unshare", "--mount", "bash", "-c", 'mount -t tmpfs -o size=400k tmpfs "$0" && exec "$@"', str(runs)]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    words = [micro.sys.executable, "-m", "bench", "run", *micro.arguments(wanted)]
    environment = os.environ | {"PYTHONPATH": str(micro.ROOT)}
    found = subprocess.run([*inside, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (2, "error: no space left on the device that holds the run folder.\n")
