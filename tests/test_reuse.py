"""Why the phases behind a row would run again, on made-up artifacts."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from factories import make_record

from bench import ENGINE, reuse
from bench.registry import load_methods, source_hash
from bench.reuse import inspect
from bench.store import Store, write_text

METHODS = load_methods()
SOURCES = {name: source_hash(METHODS.get(name)) for name in ("baseline", "word_level")}


@pytest.fixture
def made(tmp_path):
    """A word-level row and its artifacts, each as the planner would address it."""
    store, keys = Store(tmp_path), {}

    def make(name, *needs, **inputs):
        kind = name.partition("-")[0]
        common = {"kind": kind, "engine": ENGINE[kind], "needs": [keys[need] for need in needs]}
        keys[name] = store.make(kind, common | inputs, lambda folder: {"seconds": {}}).key

    make("tokenizer")
    make("corpus", "tokenizer")
    make("teacher", "corpus", source=SOURCES["baseline"])
    make("student", "corpus", "teacher", source=SOURCES["word_level"], method="word_level")
    make("scores", "student", "corpus")
    record = make_record(artifacts=keys, engine=ENGINE)
    record = record.model_copy(
        update={"method": record.method.model_copy(update={"source_sha256": SOURCES["word_level"]})}
    )
    return SimpleNamespace(store=store, keys=keys, record=record)


def verdicts(made, **options) -> dict[str, str]:
    return {each.kind: each.verdict for each in inspect(made.record, made.store, METHODS, **options)}


def remove(made, *kinds):
    for kind in kinds:
        shutil.rmtree(made.store.root / kind / made.keys[kind])


def test_what_is_there_and_unchanged_is_used_again(made):
    assert set(verdicts(made).values()) == {"would be used again"}
    assert list(verdicts(made)) == ["tokenizer", "corpus", "teacher", "student", "scores"]


def test_a_raised_engine_version_runs_its_kind_again_and_what_rests_on_it(made, monkeypatch):
    monkeypatch.setitem(reuse.ENGINE, "teacher", ENGINE["teacher"] + 1)
    found = verdicts(made)
    versions = f"{ENGINE['teacher'] - 1} to {ENGINE['teacher']}"
    assert found["teacher"] == f"would run again: the code behind teacher went from version {versions}"
    assert (
        found["student"] == f"would run again: it rests on teacher {made.keys['teacher'][:8]}, which would be another"
    )
    assert found["scores"] == f"would run again: it rests on student {made.keys['student'][:8]}, which would be another"
    assert found["tokenizer"] == found["corpus"] == "would be used again"


def test_a_changed_method_file_runs_its_student_again_and_no_teacher(made, monkeypatch):
    monkeypatch.setattr(reuse, "source_hash", lambda method: SOURCES["baseline"])
    found = verdicts(made)
    assert found["student"] == "would run again: the file of method 'word_level' was changed"
    assert found["scores"].startswith("would run again: it rests on student")
    assert found["teacher"] == "would be used again"


def test_a_method_that_is_not_found_is_named(made):
    known = SimpleNamespace(found={"baseline": METHODS.get("baseline")}, get=METHODS.get)
    (student,) = [each for each in inspect(made.record, made.store, known) if each.kind == "student"]
    assert student.reasons == ("the method 'word_level' is not found here",)


def test_a_missing_artifact_runs_again_only_where_it_is_wanted(made):
    remove(made, "teacher")
    assert verdicts(made)["teacher"] == "missing, and not needed: what rests on it is there"
    assert verdicts(made)["student"] == "would be used again"
    assert verdicts(made, whole=False)["teacher"] == "would run again: its artifact is missing"
    remove(made, "scores")
    found = verdicts(made)
    assert found["scores"] == "would run again: its artifact is missing"
    assert found["student"] == found["corpus"] == "would be used again"
    remove(made, "student", "tokenizer")
    found = verdicts(made)
    assert found["student"] == found["teacher"] == "would run again: its artifact is missing"
    assert found["tokenizer"] == "missing, and not needed: what rests on it is there"


def test_of_a_missing_artifact_the_record_tells_the_version_and_the_source(made, monkeypatch):
    remove(made, "student", "scores")
    monkeypatch.setitem(reuse.ENGINE, "student", ENGINE["student"] + 1)
    monkeypatch.setattr(reuse, "source_hash", lambda method: "0" * 64)
    (student,) = [each for each in inspect(made.record, made.store, METHODS) if each.kind == "student"]
    missing, version, source, teacher = student.reasons
    assert missing == "its artifact is missing"
    assert version.startswith("the code behind student went from version")
    assert source == "the file of method 'word_level' was changed"
    assert teacher.startswith("it rests on teacher")


def test_what_a_row_rests_on_without_naming_it_counts(made, monkeypatch):
    """A sweep's trials are not among a row's artifacts; the manifest of the sweep names them."""
    store, keys = made.store, made.keys
    corpus = {"kind": "corpus", "engine": ENGINE["corpus"], "needs": [keys["tokenizer"]], "of": "trials"}
    hidden = store.make("corpus", corpus, lambda folder: {}).key
    student = {"kind": "student", "engine": ENGINE["student"], "needs": [hidden], "method": "word_level"}
    keys["student"] = store.make("student", student | {"source": SOURCES["word_level"]}, lambda folder: {}).key
    scores = {"kind": "scores", "engine": ENGINE["scores"], "needs": [keys["student"]]}
    keys["scores"] = store.make("scores", scores, lambda folder: {}).key
    made.record = made.record.model_copy(update={"artifacts": keys})
    assert set(verdicts(made).values()) == {"would be used again"}
    monkeypatch.setitem(reuse.ENGINE, "tokenizer", ENGINE["tokenizer"] + 1)
    assert verdicts(made)["student"] == f"would run again: it rests on corpus {hidden[:8]}, which would be another"


@pytest.mark.parametrize("key", ["../../..", "/", "", "x" * 64, "a" * 63])
def test_what_is_no_address_is_not_looked_up(tmp_path, key):
    write_text(tmp_path / "manifest.json", '{"inputs": {"needs": []}, "details": {}}')
    store = Store(tmp_path / "a" / "b" / "c")
    (tmp_path / "a" / "b" / "c" / "student").mkdir(parents=True)
    for name in ("student", "scores", "../.."):
        (finding,) = inspect(make_record(artifacts={name: key}), store, METHODS)
        assert finding.artifact is None


def test_inspecting_changes_nothing(made):
    def files():
        return {path: path.stat().st_mtime_ns for path in Path(made.store.root).rglob("*")}

    before = files()
    verdicts(made)
    assert files() == before
