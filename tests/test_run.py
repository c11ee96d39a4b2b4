"""Whole runs, small: all is recorded, nothing is done twice, a kill changes nothing, a failure costs its rows."""

import json
import os
import shutil
import signal
import subprocess
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import micro
import pytest
from workers import wait_for

from bench import phases
from bench import request as request_module
from bench import store as store_module
from bench.errors import UsageError
from bench.recorder import Recorder, command
from bench.records import check_files, parse_record, read_records
from bench.run import missing, prepare
from bench.train.update import Updater

PLUG_IN = """
import os
import signal
from pathlib import Path

from bench.method import Method, Term, UsageError


class Mine(Method):
    name = "{name}"
    title = "Mine"

    def stages(self):
        {planning}
        return super().stages()

    def loss(self, step):
        nll = step.positions.cross_entropy(step.student.forward(step.batch).log_probabilities)
        {deed}
        return {{"nll": Term(nll)}}
"""


def plug_in(folder: Path, name: str, deed: str = "pass", *, planning: str = "pass") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(PLUG_IN.format(name=name, deed=deed, planning=planning), encoding="utf-8")


def records(runs: Path) -> list:
    reading = read_records([runs / "records"])
    assert reading.problems == ()
    return [stored.record for stored in reading.records]


def modified(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_run_of_all_methods_fills_every_row(finished):
    outcome = finished.outcome
    assert outcome.failures == {}
    assert outcome.page.is_file()
    found = records(finished.request.runs)
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
    by_method = {record.method.name: record for record in records(finished.request.runs)}
    shares = {
        name: {phase.kind: phase.shared_by for phase in record.phases if phase.kind != "measuring"}
        for name, record in by_method.items()
    }
    # Word-level, sequence-level, TIE-KD and A2D learn from the teacher; all nine rows from one corpus.
    assert shares["word_level"] == {"common": 9, "teacher": 4, "training": 1, "distillation": 1, "evaluation": 1}
    assert shares["aio_kd"] == {"common": 9, "training": 3, "evaluation": 1}
    assert shares["teacher"]["training"] == 1


def test_the_phases_of_each_artifact_add_up_to_the_time_it_took(finished):
    assert interruptions(finished.request.runs) == 0


def interruptions(runs):
    """Seconds lost to kills behind all rows, once each; all phases must add up to the artifacts' times."""
    lost = {}
    for record in records(runs):
        phases = defaultdict(float)
        for phase in record.phases:
            phases[phase.artifact] += phase.seconds
            if phase.kind == "interrupted":
                lost[phase.artifact] = phase.seconds
        assert phases.keys() == record.walls.keys() == set(record.artifacts.values())
        for artifact, wall in record.walls.items():
            assert phases[artifact] == pytest.approx(wall, rel=0.02, abs=0.2)  # of a busy machine's scheduler
    return sum(lost.values())


def test_operations_memory_and_tokens_are_in_the_ledger(finished):
    for record in records(finished.request.runs):
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


def test_the_same_run_again_does_nothing_and_changes_nothing(finished):
    before = modified(finished.request.runs / "artifacts") | modified(finished.request.runs / "records")
    outcome, printed = micro.run_here(finished.request)
    assert (outcome.trained, outcome.failures, outcome.rows) == (0, {}, 9)
    assert "tasks to do" not in printed
    assert modified(finished.request.runs / "artifacts") | modified(finished.request.runs / "records") == before


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run that may be changed."""
    runs = tmp_path / "runs"
    shutil.copytree(finished.request.runs, runs)
    return request_module.Request(**(vars(finished.request) | {"runs": runs}))


def test_lost_or_damaged_records_are_written_again_without_training(copy):
    folder = copy.runs / "records" / "corpus"
    expected = micro.results(copy.runs)
    first, second, third = sorted(folder.glob("*.json"))[:3]
    first.unlink()
    second.write_text(second.read_text()[:100])
    (folder / parse_record(third.read_bytes()).scores["test"].hypotheses.file).write_text("something else\n")
    assert micro.run_here(copy)[0].trained == 0
    assert micro.results(copy.runs) == expected


def test_a_record_of_a_version_without_curves_gets_the_curve_of_its_model(copy):
    folder = copy.runs / "records"
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    for path, content in before.items():
        record = json.loads(content)
        assert record["training"].pop("curve")
        path.write_text(json.dumps(record | {"schema_version": 3}))
    gone = next(path for path in before if path.name.startswith("word_level"))
    key = json.loads(before[gone])["artifacts"]["student"]
    shutil.rmtree(copy.runs / "artifacts" / "student" / key)
    assert micro.run_here(copy)[0].trained == 0
    for path, content in before.items():
        found, expected = parse_record(path.read_bytes()), parse_record(content)
        assert found.training.curve == (() if path == gone else expected.training.curve)
        assert (found.scores, found.phases, found.artifacts) == (expected.scores, expected.phases, expected.artifacts)


def test_a_finished_row_needs_only_its_scores(copy):
    """Models may be removed to save space: nothing is trained for a row that is recorded."""
    for kind in ("student", "teacher", "text", "corpus"):
        shutil.rmtree(copy.runs / "artifacts" / kind)
    assert micro.run_here(copy)[0].trained == 0


def test_another_number_of_seeds_trains_no_finished_row_again(copy):
    """Not even one whose models were removed; its record says how many are asked for now."""
    before = {stored.record.row: stored.record for stored in read_records([copy.runs / "records"]).records}
    for kind in ("student", "teacher", "text"):
        shutil.rmtree(copy.runs / "artifacts" / kind)
    more = replace(copy, seeds=2)
    assert {task.label.rpartition(", ")[2] for task in missing(prepare(more))} == {"seed 2"}
    for row in prepare(more).plan.rows:
        if row.seed == 1:
            Recorder(prepare(more)).record(row)
    for stored in read_records([copy.runs / "records"]).records:
        record, old = stored.record, before[stored.record.row]
        assert record.recipe == old.recipe | {"seeds": 2}
        assert "--seeds 2" in record.command
        assert record.model_copy(update={k: getattr(old, k) for k in ("recipe", "command", "created")}) == old


def test_lost_scores_are_made_from_the_models_that_are_there(copy):
    expected = micro.results(copy.runs)
    shutil.rmtree(copy.runs / "artifacts" / "scores")
    todo = missing(prepare(copy))
    assert {task.kind for task in todo} == {"scores"}
    assert micro.run_here(copy)[0].trained == 9
    assert micro.results(copy.runs) == expected


def test_a_file_that_cannot_be_imported_breaks_nothing_and_is_told(copy, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "broken.py").write_text("import no_such_package")
    outcome, printed = micro.run_here(request_module.Request(**(vars(copy) | {"methods_dir": tmp_path / "more"})))
    assert (outcome.failures, outcome.trained) == ({}, 0)
    assert "left out: broken: " in printed
    assert "No module named 'no_such_package'" in printed


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
    by_name = {record.method.name: record for record in records(tmp_path / "runs")}
    assert {name: record.reason for name, record in by_name.items() if record.status == "failed"} == reasons
    assert "ZeroDivisionError" in by_name["raises"].error_log
    assert {name for name, record in by_name.items() if record.status == "ok"} == {"teacher", "baseline", "works"}
    assert "raises, seed 1: failed: ZeroDivisionError" in printed
    theirs = {
        name: found for name, found in micro.results(finished.request.runs).items() if name[:4] in ("teac", "base")
    }
    assert theirs.items() <= micro.results(tmp_path / "runs").items()


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
    assert "failed" in [record.status for record in records(wanted.runs)]
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
    interruptions(wanted.runs)  # asserts that the phases add up, whatever the kills have cost


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
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False


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


class TestPrepare:
    """What is refused before any work."""

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"word_levle.alpha": 0.5}, r"unknown setting 'word_levle.alpha'\. Did you mean 'word_level\.…'"),
            ({"word_level": 1}, "unknown setting 'word_level'"),
            ({"trian_pairs": 1}, "unknown setting 'trian_pairs'"),
            ({"tie_kd.top_k": 5}, "--set gives settings of tie_kd, which --methods leaves out"),
            ({"word_level.alpha": -1}, "word_level: alpha: .*got -1"),
            ({"student.width": 15}, "width 15 is not divisible by 2 heads"),
        ],
    )
    def test_wrong_settings(self, tmp_path, corpus, settings, message):
        with pytest.raises(UsageError, match=message):
            prepare(micro.request(tmp_path, "word_level", corpus=corpus, settings=settings))
        assert not (tmp_path / "runs").exists()

    def test_settings_of_the_plain_student_need_no_name(self, tmp_path, corpus):
        with pytest.raises(UsageError, match="unknown setting of baseline 'x'"):
            prepare(micro.request(tmp_path, "word_level", corpus=corpus, settings={"baseline.x": 1}))

    def test_a_data_set_whose_name_no_record_could_hold(self, tmp_path):
        prefix = micro.write_corpus(tmp_path)
        for path in tmp_path.glob("corpus.*"):
            path.rename(tmp_path / path.name.replace("corpus", "my corpus"))
        with pytest.raises(UsageError, match=r"cannot be recorded: dataset: .*got 'my corpus'"):
            prepare(micro.request(tmp_path, corpus=prefix.with_name("my corpus")))

    def test_a_method_that_no_record_could_hold(self, tmp_path, corpus):
        plug_in(tmp_path / "more", "mine")
        path = tmp_path / "more" / "mine.py"
        path.write_text(path.read_text().replace('title = "Mine"', "title = 5"))
        with pytest.raises(UsageError, match=r"mine.* cannot be recorded: title: .*string, got 5"):
            prepare(micro.request(tmp_path, "mine", corpus=corpus, methods_dir=tmp_path / "more"))

    def test_unequal_sides(self, tmp_path):
        prefix = micro.write_corpus(tmp_path)
        micro.write_lines(Path(f"{prefix}.dev.bb"), ["one line"])
        with pytest.raises(UsageError, match="6 source lines but 1 target lines"):
            micro.run_here(micro.request(tmp_path, corpus=prefix))

    def test_the_threads_are_shared_out(self, tmp_path, corpus, monkeypatch):
        monkeypatch.setattr(request_module, "default_slots", lambda device: request_module.Slots(8, 1))
        slots = [prepare(micro.request(tmp_path, corpus=corpus, workers=n)).slots for n in (None, 2, 100)]
        assert [(each.workers, each.threads) for each in slots] == [(8, 1), (2, 4), (100, 1)]


def test_the_command_of_a_record_makes_its_row_again(tmp_path):
    request = request_module.Request(
        methods=("all",), dataset=str(tmp_path / "my.corpus"), languages=("aa", "bb"), seeds=2, workers=3,
        runs=tmp_path,
        settings={"word_level.alpha": 0.5, "tie_kd.top_k": 5, "train_pairs": 9, "training.betas": [0.5, 0.6],
                  "word_level.divergence": "reverse kl", "a2d.x": True},
    )  # fmt: skip
    assert command(request, "cuda:1", "word_level") == (
        "python -m bench run --methods word_level --dataset my.corpus --langs aa,bb --preset quick --device cuda "
        "--seeds 2 --workers 3 --set word_level.alpha=0.5 --set train_pairs=9 --set 'training.betas=[0.5, 0.6]' "
        "--set 'word_level.divergence=reverse kl'"
    )
    assert "--methods baseline" in command(request, "cpu", "teacher")
    assert "--set a2d.x=true" in command(request, "cpu", "a2d")
