"""The same run again: nothing is done twice, and what was lost or damaged is made again from what is there."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import micro
import pytest

from bench.recorder import Recorder
from bench.records import parse_record
from bench.run import missing, prepare
from bench.sweep.executor import Failure


def modified(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run that may be changed."""
    return micro.copied(finished.request, tmp_path)


def test_the_same_run_again_does_nothing_and_changes_nothing(copy):
    before = modified(copy.runs / "artifacts") | modified(copy.runs / "records")
    outcome, printed = micro.run_here(copy)
    assert (outcome.trained, outcome.failures, outcome.rows) == (0, {}, 9)
    assert "tasks to do" not in printed
    assert modified(copy.runs / "artifacts") | modified(copy.runs / "records") == before


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
    before = {record.row: record for record in micro.records(copy.runs)}
    for kind in ("student", "teacher", "text"):
        shutil.rmtree(copy.runs / "artifacts" / kind)
    more = replace(copy, seeds=2)
    assert {task.label.rpartition(", ")[2] for task in missing(prepare(more))} == {"seed 2"}
    for row in prepare(more).plan.rows:
        if row.seed == 1:
            Recorder(prepare(more)).record(row)
    for record in micro.records(copy.runs):
        old = before[record.row]
        assert record.recipe == old.recipe | {"seeds": 2}
        assert "--seeds 2" in record.command
        assert record.model_copy(update={k: getattr(old, k) for k in ("recipe", "command", "created")}) == old


def test_fewer_seeds_than_were_asked_for_before_change_no_record(copy):
    """Who has seen the scores of more seeds must not leave some of them out; nor does a further metric."""
    prepared = prepare(replace(copy, seeds=2))
    for row in prepared.plan.rows:
        Recorder(prepared).record(row)
    before = micro.records(copy.runs)
    assert {record.recipe["seeds"] for record in before} == {2}
    assert micro.run_here(copy)[0].trained == 0
    assert micro.records(copy.runs) == before
    micro.run_here(replace(copy, metrics=("legacy-bleu",)))
    for record in micro.records(copy.runs):
        assert record.recipe["seeds"] == 2
        assert "--seeds 2" in record.command
        assert "--metric legacy-bleu" in record.command


def test_lost_outputs_do_not_let_the_number_of_seeds_fall(copy):
    prepared = prepare(replace(copy, seeds=2))
    for row in prepared.plan.rows:
        Recorder(prepared).record(row)
    outputs = list(copy.runs.glob("records/*/*.txt"))
    assert outputs
    for path in outputs:
        path.unlink()
    micro.run_here(copy)
    found = micro.records(copy.runs)
    assert found
    assert {record.recipe["seeds"] for record in found} == {2}


def test_a_later_seed_is_asked_for_as_the_earlier_ones_were(copy):
    first = prepare(replace(copy, seeds=3))
    Recorder(first).record(first.plan.rows[0])
    later = prepare(replace(copy, settings=copy.settings | {"seeds": 2}, seeds=None))
    row = next(each for each in later.plan.rows if (each.id, each.seed) == (first.plan.rows[0].id, 2))
    Recorder(later).record(row, Failure("not run"))
    (record,) = [each for each in micro.records(copy.runs) if each.seed == 2]
    assert record.recipe["seeds"] == 3
    assert record.command.endswith("--seeds 3") or "--seeds 3 " in record.command
    assert "seeds=2" not in record.command


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
    outcome, printed = micro.run_here(replace(copy, methods_dir=tmp_path / "more"))
    assert (outcome.failures, outcome.trained) == ({}, 0)
    assert "left out: broken: " in printed
    assert "No module named 'no_such_package'" in printed
