"""Which rows are timed together, what comes of it, and that nothing that goes wrong there costs a row."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import micro
import pytest

import bench.phases.speed
from bench.config import SearchConfig, SpeedConfig, preset
from bench.further import with_speed
from bench.measure.engines import EngineConfig
from bench.measure.speed import Job, Measured, Way, result_file
from bench.phases import PhaseError, carry_out
from bench.phases.speed import _in_a_process
from bench.recorder import finished_record
from bench.request import Request
from bench.results import Record
from bench.run import missing, prepare
from bench.timing import absent, record_speed, timing

QUICK = {"speed.sentences": 4, "speed.latency_sentences": 1, "speed.minimum_seconds": 0.0}


def records(request: Request) -> dict[tuple[str, int], Record]:
    return {(record.method.name, record.seed): record for record in micro.records(request.runs)}


def made_up(job: Job) -> Measured:
    """As if the engine had been measured; int8 says something else of one sentence in four."""
    odd = job.engine.precision == "int8"
    beams = {1, job.engine.search.beam}
    return Measured(
        ways=tuple(
            Way(
                beam=beam,
                mode=mode,
                batch_tokens=0 if mode == "one sentence" else 64,
                seconds=(1.0, 2.0),
                sentences=(0.5,) if mode == "one sentence" else (),
                target_pieces=4,
            )
            for beam in beams
            for mode in ("fixed batch", "one sentence")
        ),
        hypotheses=tuple("odd" if odd and not i % 4 else f"line {i}" for i, _ in enumerate(job.lines)),
        length_ratio=1.0,
        host_memory=1,
        device_memory=None,
        shared="a neighbour" if odd else None,
    )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """No engine is run; the jobs that there would have been."""
    jobs: list[Job] = []

    def process(job: Job, file: Path) -> Measured:
        jobs.append(job)
        return made_up(job)

    monkeypatch.setattr(bench.phases.speed, "_in_a_process", process)
    monkeypatch.setattr(bench.phases.speed, "installed", lambda package: "1.0")
    monkeypatch.setattr(bench.phases.speed, "export_ctranslate2", lambda model, pieces, out, precision: out.mkdir())
    return jobs


@pytest.fixture
def copy(finished, tmp_path: Path) -> Request:
    """A copy of the micro run of all methods, none of them timed."""
    return micro.copied(finished.request, tmp_path, speed=True)


def timed(request: Request) -> str:
    """Time the rows of a run in this process; the address of the artifact."""
    prepared = prepare(request)
    task = timing(prepared)
    carry_out(task, prepared.place)
    record_speed(prepared, task)
    return task.key


@pytest.mark.timeout(120)
def test_a_run_times_all_rows_in_one_go_and_only_once(corpus: Path, tmp_path: Path):
    wanted = replace(micro.request(tmp_path, corpus=corpus, settings=QUICK), speed=True)
    outcome, printed = micro.run_here(wanted)
    assert outcome.failures == {}
    assert "speed of 2 rows: done" in printed
    found = records(wanted)
    assert {record.speed.fingerprint for record in found.values()} == {found["teacher", 1].speed.fingerprint}
    for record in found.values():
        speed = record.speed
        assert [(each.engine, each.precision) for each in speed.engines] == [
            ("pytorch", "float32"), ("ctranslate2", "float32"), ("ctranslate2", "int8"),
        ]  # fmt: skip
        ours, *theirs = speed.engines
        assert (ours.equal_outputs, ours.bleu_difference) == (1.0, 0.0)
        assert {(each.beam, each.mode) for each in ours.timings} == {
            (beam, mode) for beam in (1, 2) for mode in ("fixed batch", "best batch", "one sentence")
        }
        assert all(each.disk_bytes > 0 and each.host_memory > 10e6 for each in speed.engines if not each.failure)
        assert all(each.failure is None or "not installed" in each.failure for each in theirs)
        assert speed.protocol["threads"] == 1
        assert "|thr:1|" in ours.timings[0].signature
        assert prepare(wanted).store.get("speed", record.artifacts["speed"]).details["seconds"]["timing"] > 0
    before = {path: path.stat().st_mtime_ns for path in (wanted.runs / "records").rglob("*.json")}
    again, printed = micro.run_here(wanted)
    assert (again.trained, "tasks to do" in printed) == (0, False)
    assert {path: path.stat().st_mtime_ns for path in (wanted.runs / "records").rglob("*.json")} == before


def test_without_speed_nothing_is_timed(finished):
    assert all(record.speed is None for record in records(finished.request).values())
    assert not (finished.request.runs / "artifacts" / "speed").exists()


def test_the_outputs_of_each_engine_are_compared_with_the_decoders(copy: Request, fake: list[Job]):
    key = timed(copy)
    speed = records(copy)["baseline", 1].speed
    assert [each.equal_outputs for each in speed.engines] == [1.0, 1.0, pytest.approx(4 / 6)]
    assert [each.bleu_difference for each in speed.engines[:2]] == [0.0, 0.0]
    assert speed.shared == "ctranslate2 int8: a neighbour"
    assert len(fake) == 3 * 9 * 3
    assert records(copy)["baseline", 1].artifacts["speed"] == key


def test_rows_of_earlier_runs_are_timed_again_with_a_new_one(copy: Request, fake: list[Job]):
    folder = copy.runs / "records" / "corpus"
    late = sorted(folder.glob("word_level.*"))
    texts = {path: path.read_bytes() for path in late}
    for path in late:
        path.unlink()
    earlier = timed(copy)
    before = records(copy)["baseline", 1]
    first = before.speed.fingerprint
    for path, text in texts.items():
        path.write_bytes(text)
    assert timed(copy) != earlier
    found = records(copy)
    assert {record.speed.fingerprint for record in found.values()} == {found["word_level", 1].speed.fingerprint}
    after = found["baseline", 1]
    assert after.speed.fingerprint != first
    same = with_speed(before, None).model_copy(update={"created": after.created})
    assert with_speed(after, None) == same  # on which a second contribution rests


def test_a_run_of_fewer_methods_needs_no_new_timing(copy: Request, fake: list[Job]):
    key = timed(copy)
    fewer = replace(copy, methods=("baseline",), settings=micro.SETTINGS)
    assert timing(prepare(fewer)).key == key
    assert absent(prepare(fewer), timing(prepare(fewer))) == ()


def test_another_protocol_is_another_go_but_no_other_row(copy: Request, fake: list[Job]):
    key = timed(copy)
    other = replace(copy, settings={**copy.settings, "speed.sentences": 3})
    assert missing(prepare(other)) == ()
    assert timing(prepare(other)).key != key
    assert "speed" not in preset("quick").recipe()


def test_each_go_has_a_fingerprint_of_its_own(copy: Request, fake: list[Job]):
    key = timed(copy)
    first = records(copy)["baseline", 1].speed.fingerprint
    shutil.rmtree(copy.runs / "artifacts" / "speed")
    assert timed(copy) == key
    assert records(copy)["baseline", 1].speed.fingerprint != first


def test_an_engine_that_fails_spoils_nothing(copy: Request, fake: list[Job], monkeypatch: pytest.MonkeyPatch):
    def process(job: Job, file: Path) -> Measured:
        if job.engine.precision == "int8":
            raise PhaseError("the process that measured ended: killed by SIGKILL")
        return made_up(job)

    monkeypatch.setattr(bench.phases.speed, "_in_a_process", process)
    timed(copy)
    for record in records(copy).values():
        assert [each.failure for each in record.speed.engines] == [
            None, None, "the process that measured ended: killed by SIGKILL",
        ]  # fmt: skip
        assert record.speed.engines[2].timings == ()


def test_an_engine_that_is_not_installed_says_how_to_get_it(
    copy: Request, fake: list[Job], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bench.phases.speed, "installed", lambda package: None if package == "ctranslate2" else "1")
    timed(copy)
    failures = [each.failure for each in records(copy)["baseline", 1].speed.engines]
    assert failures == [None, *["not installed: pip install ctranslate2"] * 2]


def test_a_row_whose_model_is_gone_is_left_as_it_was(copy: Request, fake: list[Job]):
    before = records(copy)["word_level", 1]
    shutil.rmtree(copy.runs / "artifacts" / "student" / before.artifacts["student"])
    timed(copy)
    assert records(copy)["word_level", 1] == before
    assert records(copy)["baseline", 1].speed


def test_without_any_model_there_is_nothing_to_time(copy: Request):
    for kind in ("student", "teacher"):
        shutil.rmtree(copy.runs / "artifacts" / kind)
    assert timing(prepare(copy)) is None


def test_all_are_measured_in_turn_there_and_back(copy: Request, fake: list[Job]):
    timed(copy)
    jobs = [(each.engine.engine, each.engine.precision) for each in fake]
    assert jobs[:3] == [("pytorch", "float32"), ("ctranslate2", "float32"), ("ctranslate2", "int8")]
    there, back, again = jobs[:27], jobs[27:54], jobs[54:]
    assert there == jobs[:3] * 9
    assert back == there[::-1]
    assert again == there
    assert [each.best is None for each in fake] == [True] * 27 + [False] * 54
    figures = records(copy)["baseline", 1].speed.engines[0].timings
    assert {each.passes for each in figures} == {6}


def test_an_engine_that_fails_in_a_later_round_has_no_figures(
    copy: Request, fake: list[Job], monkeypatch: pytest.MonkeyPatch
):
    def process(job: Job, file: Path) -> Measured:
        fake.append(job)
        if len(fake) == 40:
            raise PhaseError("gone")
        return made_up(job)

    monkeypatch.setattr(bench.phases.speed, "_in_a_process", process)
    timed(copy)
    found = [engine for record in records(copy).values() for engine in record.speed.engines]
    assert [(each.failure, each.timings) for each in found if each.failure] == [("gone", ())]
    assert len(fake) == 3 * 27 - 1


def test_a_timing_that_was_cut_off_is_repeated_as_a_whole(
    copy: Request, fake: list[Job], monkeypatch: pytest.MonkeyPatch
):
    def process(job: Job, file: Path) -> Measured:
        fake.append(job)
        if len(fake) == 30:  # in the second round
            raise KeyboardInterrupt
        return made_up(job)

    monkeypatch.setattr(bench.phases.speed, "_in_a_process", process)
    with pytest.raises(KeyboardInterrupt):
        timed(copy)
    assert all(record.speed is None for record in records(copy).values())
    timed(copy)
    assert len(fake) == 30 + 3 * 27
    assert len({record.speed.fingerprint for record in records(copy).values()}) == 1


def test_a_lost_record_gets_its_speed_back(copy: Request, fake: list[Job]):
    timed(copy)
    expected = records(copy)["baseline", 1].speed
    next((copy.runs / "records" / "corpus").glob("baseline.*.json")).unlink()
    assert micro.run_here(copy)[0].trained == 0
    assert records(copy)["baseline", 1].speed == expected


def test_only_the_first_finished_seed_has_a_speed(copy: Request, fake: list[Job]):
    """As where the first seed had failed and was then run again: the second one's speed goes."""
    path = next((copy.runs / "records" / "corpus").glob("baseline.*.json"))
    timed(copy)
    first = records(copy)["baseline", 1]
    other = first.model_copy(update={"seed": 2, "scores": {}})
    path.with_name(other.file).write_text(
        other.model_copy(update={"status": "failed", "reason": "x", "failure": "exception"}).model_dump_json()
    )
    prepared = prepare(copy)
    assert record_speed(prepared, timing(prepared)) == {(first.row, 2)}
    assert records(copy)["baseline", 2].speed is None
    assert "speed" not in records(copy)["baseline", 2].artifacts
    assert records(copy)["baseline", 1] == first


def test_the_plan_ahead_is_the_one_carried_out(corpus: Path, tmp_path: Path, finished):
    """What is planned before anything was run is what is due when all has finished."""
    fresh = prepare(replace(finished.request, runs=tmp_path / "runs"))
    assert timing(fresh) is None
    assert timing(fresh, planned=True).key == timing(prepare(finished.request)).key


def job(folder: Path) -> Job:
    config = EngineConfig(
        engine="pytorch", precision="float32", model=folder / "none", tokenizer=folder / "none",
        search=SearchConfig(), max_positions=9, device="cpu",
    )  # fmt: skip
    return Job(engine=config, lines=("a",), protocol=SpeedConfig(), signature={}, gpu=None)


def test_a_process_that_fails_leaves_its_reason(tmp_path: Path):
    with pytest.raises(PhaseError, match="cannot be read as a SentencePiece model"):
        _in_a_process(job(tmp_path), tmp_path / "job.json")
    assert not result_file(tmp_path / "job.json").exists()


def test_a_process_that_is_killed_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    killing = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda words, **how: start([sys.executable, "-c", killing], **how))
    with pytest.raises(PhaseError, match="killed by SIGKILL"):
        _in_a_process(job(tmp_path), tmp_path / "job.json")


def test_a_measuring_process_ends_with_whoever_started_it():
    code = "import time; from bench.measure.speed import _end_with_parent; _end_with_parent(); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, cwd=micro.ROOT)
    child.stdin.close()
    assert child.wait(timeout=30) == 1


def test_a_damaged_model_is_its_own_rows_failure(copy: Request, fake: list[Job]):
    before = records(copy)["word_level", 1]
    model = copy.runs / "artifacts" / "student" / before.artifacts["student"] / "model.safetensors"
    model.write_bytes(model.read_bytes()[:100])
    timed(copy)
    found = records(copy)
    assert all("is damaged" in engine.failure for engine in found["word_level", 1].speed.engines)
    assert found["baseline", 1].speed.engines[0].timings


def test_a_record_that_is_written_anew_keeps_its_speed(copy: Request, fake: list[Job]):
    timed(copy)
    before = records(copy)["baseline", 1]
    prepared = prepare(copy)
    row = next(row for row in prepared.plan.rows if row.id == before.row)
    after, _ = finished_record(prepared, row)
    assert after.speed == before.speed
    assert (after.artifacts, after.phases, after.walls) == (before.artifacts, before.phases, before.walls)


def test_what_timing_took_is_in_the_ledger_and_charged_to_nothing(copy: Request, fake: list[Job]):
    before = records(copy)["baseline", 1]
    key = timed(copy)
    after = records(copy)["baseline", 1]
    added = [phase for phase in after.phases if phase not in before.phases]
    assert {(phase.artifact, phase.kind, phase.shared_by, phase.charged) for phase in added} == {
        (key, "measuring", 9, 0)
    }
    assert sum(phase.seconds for phase in added) == pytest.approx(after.walls[key], rel=0.02, abs=0.2)


def test_a_record_that_names_no_addresses_is_not_timed(copy: Request, fake: list[Job]):
    file = next((copy.runs / "records" / "corpus").glob("word_level.*.json"))
    whole = json.loads(file.read_text())
    for artifacts in ({}, {"student": "../../evil", "tokenizer": "../x"}):
        file.write_text(json.dumps(whole | {"artifacts": artifacts}))
        timed(copy)
        assert "word_level" not in {row["row"].split(".")[0] for row in timing(prepare(copy)).inputs["rows"]}
