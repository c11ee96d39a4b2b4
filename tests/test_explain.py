"""``explain``: all that is known of a row, from records alone and beside the artifacts of a real run."""

import shutil

import micro
import pytest
from factories import make_failed, make_record, make_sweep, plain, store, tuned

import bench
from bench.errors import UsageError
from bench.explain import WIDTH, explain
from bench.results import Phase


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.fixture
def tuned_text(tmp_path):
    sweep = make_sweep([18.0, 21.0, None], seconds=1800.0)
    records = tuned("word_level", [12.0, 13.0], sweep, test_access={"test": ("2026-01-02T03:04:05Z",)})
    store(tmp_path / "records", *records)
    return explain(tmp_path, "word_level")


def test_a_sweep_is_told_trial_by_trial(tuned_text):
    found = lines(tuned_text)
    for line in (
        "Sweep: 3 trials, sampler qmc, seed 1, 1 h 30 min in all",
        "0 18.00 30 min 00 s published, training.learning_rate = 0.003, word_level.alpha = 0.5",
        "1 21.00 30 min 00 s winner, training.learning_rate = 0.004, word_level.alpha = 0.51",
        "expected best dev BLEU that fewer trials would have given: 1=18.00, 2=19.50, 3=21.00",
        "importances training.learning_rate 75 %, word_level.alpha 25 %",
    ):
        assert line in found, line
    assert "2 – 30 min 00 s out of memory: no memory left, training.learning_rate = 0.005" in " ".join(found)


def test_trials_of_the_open_track_are_taken_in_their_order(tmp_path):
    learning = {"sampler": "tpe", "pruner": "median"}
    sweep = make_sweep([18.0, 17.0, 21.0, *[20.0] * 6], **learning)
    store(tmp_path / "records", *tuned("word_level", [1.0], sweep, {"tuning": {"track": "open"}}, track="open"))
    said = "1=18.00, 2=18.00, 3=21.00, 4=21.00, 5=21.00, 6=21.00, 8=21.00, 9=21.00"
    assert f"best so far dev BLEU that fewer trials would have given: {said}" in " ".join(
        lines(explain(tmp_path, "word_level"))
    )


def test_settings_say_where_they_come_from(tuned_text):
    found = lines(tuned_text)
    assert "alpha 0.51 trial 1 of the sweep" in found
    assert "divergence forward_kl published" in found
    assert "training.learning_rate 0.004 trial 1 of the sweep" in found


def test_scores_and_costs_are_by_seed_and_the_trials_are_shared(tuned_text):
    found = lines(tuned_text)
    assert "1 test 12.00 45.00 decoded 2026-01-02 03:04:05" in found
    assert "2 test 13.00 45.00 decoded 2026-01-02 03:04:05" in found
    # Two seeds share 90 minutes of trials; with 0.2 + 20 + 60 + 5 seconds of its own each was charged 2785.2.
    assert found.count("trials tuning 1 h 30 min 2 45 min 00 s") == 2
    assert found.count("student 1 min 00 s") == 2
    assert found.count("with the teacher's training 1 min 20 s") == 2
    assert found.count("everything 46 min 25 s") == 2


def test_operations_memory_and_energy_are_told_where_they_were_measured(tmp_path):
    measured = Phase(
        name="student training", kind="training", seconds=60.0, flops=3e9, host_memory=400_000_000, joules=99.0
    )
    store(tmp_path / "records", make_record(phases=(measured,), energy="RAPL package-0"))
    found = lines(explain(tmp_path, "word_level"))
    assert "student training training 1 min 00 s 1 1 min 00 s 3.00 GFLOP 400 MB 99.0 J" in found
    assert "student 1 min 00 s 3.00 GFLOP 99.0 J" in found
    assert "energy: RAPL package-0" in found


def test_costs_are_shared_over_all_rows_that_are_there(tmp_path):
    phases = (Phase(name="teacher: training", kind="teacher", seconds=60.0, shared_by=9, artifact="t"),)
    store(tmp_path / "records", make_record(phases=phases), make_record("tie_kd", phases=phases))
    assert "teacher: training teacher 1 min 00 s 2 30.0 s" in lines(explain(tmp_path, "word_level"))


def test_one_seed_can_be_asked_for(tmp_path):
    store(tmp_path / "records", *plain())
    text = explain(tmp_path, "baseline@2")
    assert "Costs of seed 2" in text
    assert "Costs of seed 1" not in text
    with pytest.raises(UsageError, match="unknown row 'bsaeline'"):
        explain(tmp_path, "bsaeline")


def test_a_record_from_elsewhere_says_so(tuned_text):
    assert "the record comes from elsewhere, or they were removed" in " ".join(lines(tuned_text))


def test_a_failed_row_tells_state_and_reason(tmp_path):
    store(tmp_path / "records", make_failed(failure="timed out", reason="silent for an hour", artifacts={}))
    text = explain(tmp_path, "word_level")
    assert "failed (timed out): silent for an hour" in text
    assert "it is tried again from what is there" in text


def test_no_string_of_a_record_steers_the_terminal(tmp_path):
    text = "\x1b[2J\x1b]0;owned\x07 \u202eabc\r\n" + "word " * 60
    sweep = make_sweep(sampler=text, pruner=text, space={text: text}, importances={text: 1.0})
    sweep = sweep.model_copy(
        update={"trials": tuple(trial.model_copy(update={"values": {text: text}}) for trial in sweep.trials)}
    )
    record = make_record(sweep=sweep, track="open", command=text, artifacts={text: text})
    method = record.method.model_copy(update={"title": text, "settings": {text: text}})
    store(tmp_path / "records", record.model_copy(update={"method": method}))
    found = explain(tmp_path, "word_level")
    assert not [char for char in found if not (char.isprintable() or char == "\n")]
    assert "\ufffd[2J" in found


def test_the_text_fits_a_terminal(tuned_text, finished):
    rows = [explain(finished.request.runs, row) for row in ("teacher", "sequence_level", "aio_kd.2-1")]
    for text in (tuned_text, *rows):
        *_, command = [line for line in text.splitlines() if len(line) > WIDTH] or [""]
        assert all(len(line) <= WIDTH for line in text.splitlines() if line != command)
        assert command.strip().startswith("python -m bench run") or not command


def test_a_row_that_was_run_here_has_its_artifacts(finished):
    found = lines(explain(finished.request.runs, "sequence_level"))
    start = found.index("Artifacts of seed 1, and what the same command would do")
    kinds = [line.split()[0] for line in found[start + 1 :]]
    assert kinds[:2] == ["tokenizer", "corpus"]
    assert set(kinds) == {"tokenizer", "corpus", "teacher", "text", "student", "scores"}
    assert all(line.endswith("B would be used again") for line in found[start + 1 :])
    assert "mode interpolation given" in found
    assert any(line.endswith(" published") for line in found)


def test_a_run_after_a_raised_version_or_a_lost_artifact_is_foretold(finished, tmp_path, monkeypatch):
    runs = micro.copied(finished.request, tmp_path).runs
    shutil.rmtree(next(iter((runs / "artifacts" / "tokenizer").glob("[0-9a-f]*"))))
    found = explain(runs, "word_level.1-1")
    assert "not here" in found
    assert "missing, and not needed" in found
    monkeypatch.setitem(bench.ENGINE, "student", bench.ENGINE["student"] + 1)
    found = " ".join(lines(explain(runs, "word_level.1-1")))
    assert "would run again: the code behind student went from version" in found
    assert "would run again: it rests on student" in found


def test_changed_hypotheses_are_named(finished, tmp_path):
    shutil.copytree(finished.request.runs / "records", tmp_path / "records")
    shutil.copytree(finished.request.runs / "artifacts", tmp_path / "artifacts")
    (file,) = (tmp_path / "records").rglob("baseline*.test.txt")
    file.write_text("better\n")
    assert "were changed" in explain(tmp_path, "baseline")
