"""``bench submit``: whole rows go into the store, checked, all or none, and nothing there is replaced."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from believable import valid, written
from factories import make_failed, make_speed

from bench import submit as submit_module
from bench.further import Timed, with_speed
from bench.records import read_records, rewrite_record
from bench.results import Phase, Record
from bench.submit import submit

pytestmark = pytest.mark.usefixtures("small")

WORD = "word_level.2-2.quick.0badcafe"
PLAIN = "baseline.2-2.quick.0badcafe"


def row(count: int = 3, method: str = "word_level", **fields) -> list[Record]:
    return [valid(seed, method=method, recipe={"seeds": count}, **fields) for seed in range(1, count + 1)]


def baseline() -> list[Record]:
    return row(method="baseline", role="baseline")


def failed(seed: int, method: str = "tie_kd") -> Record:
    return make_failed(method, seed, data_sha256=valid().data_sha256, recipe={"seeds": 3})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """An empty store."""
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run of a complete row, its plain student, and a row of which a seed has failed."""
    written(tmp_path / "runs" / "records", *row(), *baseline(), *row(method="tie_kd")[:2], failed(3))
    return tmp_path / "runs"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def files_of(name: str, seeds: int = 3) -> set[str]:
    ends = ("json", "dev.txt", "dev.tsv", "test.txt", "test.tsv")
    return {f"synthetic/{name}.s{seed}.{end}" for seed in range(1, seeds + 1) for end in ends}


def test_a_row_comes_with_all_seeds_and_files_and_its_plain_student(runs, results, call):
    code, out, err = call("submit", "word_level", "--runs", runs, "--results", results)
    assert code == 0
    assert content(results).keys() == files_of(WORD) | files_of(PLAIN)
    assert content(results).items() <= content(runs / "records").items()
    assert err == f"note: synthetic/{PLAIN} comes along: it is the plain student of the table.\n"
    assert f"  git add {results}\n" in out
    assert f"30 of 30 files are new in {results}." in out
    assert all(f"  {results / name}" in out for name in files_of(WORD))
    code, out, _ = call("validate", results)
    assert (code, out.splitlines()[-1]) == (0, "6 of 6 records pass.")


def test_the_same_command_again_changes_nothing(runs, results):
    first = submit(runs, ["word_level"], results)
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*.json")}
    again = submit(runs, ["word_level"], results)
    assert (first.new, again.new, again.refused) == (30, 0, ())
    assert content(results).keys() == files_of(WORD) | files_of(PLAIN)
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*.json")} == before


def test_all_takes_what_is_complete_and_tells_the_rest(runs, results):
    done = submit(runs, ["all"], results)
    assert content(results).keys() == files_of(WORD) | files_of(PLAIN)
    assert done.notes == (
        "synthetic/tie_kd.2-2.quick.0badcafe: 2 of the 3 seeds that a ranked row needs have finished; seed 3 failed: "
        "out of memory.",
    )


@pytest.mark.parametrize("queries", [["tie_kd"], ["word_level", "tie_kd"]])
def test_an_incomplete_row_that_is_named_is_refused_and_nothing_is_copied(runs, results, call, queries):
    code, out, err = call("submit", *queries, "--runs", runs, "--results", results)
    assert (code, out, content(results)) == (1, "", {})
    assert "refused: synthetic/tie_kd.2-2.quick.0badcafe: 2 of the 3 seeds" in err
    assert err.splitlines()[-1] == "nothing was copied."


def test_fewer_seeds_than_the_rules_ask_are_refused(tmp_path, results):
    written(tmp_path / "runs" / "records", valid(1), *baseline())
    assert submit(tmp_path / "runs", [WORD], results).refused == (
        f"synthetic/{WORD}: 1 of the 3 seeds that a ranked row needs have finished.",
    )


def test_a_row_that_does_not_validate_is_refused_with_the_reason(runs, results):
    file = f"{WORD}.s2.test.txt"
    path = runs / "records" / "synthetic" / file
    path.write_text(path.read_text().replace("Haus", "Heim"))
    done = submit(runs, ["all"], results)
    (reason,) = done.refused
    assert reason.startswith(f"{path.parent / WORD}.s2.json: hypotheses {path} were changed")
    assert content(results) == {}


def test_a_stored_record_is_never_replaced(runs, results, tmp_path):
    created = datetime(2026, 5, 1, tzinfo=UTC)
    written(results, *row(created=created))
    before = content(results)
    done = submit(runs, ["word_level"], results)
    assert len(done.refused) == 3
    assert done.refused[0] == (
        f"{results}/synthetic/{WORD}.s1.json: the store has another record of this row and seed. Keep it, or, where "
        f"yours is to take its place, remove it first (git rm '{results}/synthetic/{WORD}.s1.*') and say why in the "
        "commit."
    )
    assert content(results) == before


def timed(record: Record, fingerprint: str, days: int, **fields) -> Record:
    """As a go of timing leaves the record of a first seed."""
    phase = Phase(name="timing", kind="measuring", seconds=2.0, artifact=fingerprint * 8, shared_by=2)
    found = with_speed(record, Timed(fingerprint * 8, make_speed(fingerprint=fingerprint), (phase,), 2.0))
    return found.model_copy(update={"created": record.created + timedelta(days=days)} | fields)


@pytest.mark.parametrize("before", ["a", None], ids=["timed", "not timed"])
def test_a_second_contribution_brings_the_speeds_of_the_later_go(tmp_path, results, before, call):
    """A run that adds a method times all rows of the table anew, and so rewrites records that the store has."""
    first, *others = row()
    written(results, timed(first, before, 1) if before else first, *others, *baseline())
    newer = timed(first, "b", 2)
    written(tmp_path / "runs" / "records", newer, *others, *baseline(), *row(method="tie_kd"))
    stored = content(results)
    code, out, err = call("submit", "all", "--runs", tmp_path / "runs", "--results", results)
    assert code == 0
    assert (
        err
        == f"note: synthetic/{WORD}, seed 1: the speed takes the place of the store’s, which was measured earlier.\n"
    )
    assert f"15 of 45 files are new in {results}, and 1 have the speed of a later go." in out
    path = f"synthetic/{WORD}.s1.json"
    assert read_records([results]).records[-3].record == newer
    assert {name: text for name, text in content(results).items() if name in stored and name != path} == {
        name: text for name, text in stored.items() if name != path
    }
    assert submit(tmp_path / "runs", ["all"], results).replaced == 0
    assert call("validate", results)[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"command": "python -m bench run --methods word_level --workers 5"},
        {"energy": "RAPL"},
        {"created": valid().created - timedelta(days=1)},
        {"walls": valid().walls | {"a1": 60.5, "b" * 8: 2.0}},
    ],
    ids=["command", "energy", "an earlier go", "another wall time"],
)
def test_what_differs_in_more_than_a_later_speed_is_refused(tmp_path, results, change):
    first, *others = row()
    written(results, timed(first, "a", 1), *others, *baseline())
    written(tmp_path / "runs" / "records", timed(first, "b", 2, **change), *others)
    before = content(results)
    (reason,) = submit(tmp_path / "runs", ["word_level"], results).refused
    assert "the store has another record of this row and seed" in reason
    assert content(results) == before


def test_outputs_that_differ_are_no_matter_of_speed(tmp_path, results):
    first, *others = row()
    written(results, first, *others, *baseline())
    score = first.scores["test"]
    named = score.model_copy(update={"hypotheses": score.hypotheses.model_copy(update={"sha256": "0" * 64})})
    stored = first.model_copy(update={"scores": first.scores | {"test": named}})
    rewrite_record(results / "synthetic", stored)
    written(tmp_path / "runs" / "records", timed(first, "b", 2), *others)
    assert "the store has another record" in submit(tmp_path / "runs", ["word_level"], results).refused[0]


@pytest.mark.parametrize("verdict", ["unreliable", "superseded"])
def test_a_plain_student_that_was_withdrawn_does_not_count_as_there(runs, results, verdict):
    """Nothing is compared with it: the row would stand in a table without a plain student."""
    other = row(method="baseline", role="baseline", digest="0badbeef")
    written(results, *other)
    by_row = f'by_row = "{PLAIN}"' if verdict == "superseded" else ""
    text = f"""[[review]]
        dataset = "synthetic"
        row = "{other[0].row}"
        verdict = "{verdict}"
        by = "A. Maintainer"
        date = 2026-01-02
        note = "Its text leaked."
        {by_row}
    """
    (results / "reviews.toml").write_text(text)
    done = submit(runs, ["word_level"], results)
    assert (done.refused, done.rows.keys()) == ((), {("synthetic", WORD), ("synthetic", PLAIN)})
    (results / "reviews.toml").write_text(
        text.replace(other[0].row, PLAIN).replace(by_row, by_row.replace(PLAIN, WORD))
    )
    assert submit(runs, ["word_level"], results).notes == ()
    for path in results.glob("synthetic/baseline.*0badbeef*"):
        path.unlink()
    (note,) = submit(runs, ["word_level"], results).notes
    assert "neither the store nor this run has a complete plain student" in note


def test_seeds_are_added_to_a_row_whose_other_seeds_only_the_store_has(tmp_path, results):
    written(results, *row(5)[:3], *baseline())
    written(tmp_path / "runs" / "records", *row(5)[3:])
    done = submit(tmp_path / "runs", [WORD], results)
    assert (done.refused, done.new) == ((), 10)
    assert [(verdict.seed, verdict.rescored) for verdict in done.verdicts] == [(4, True), (5, True)]
    assert content(results).keys() == files_of(WORD, 5) | files_of(PLAIN)


def test_seeds_that_the_store_lacks_can_be_added_alone(tmp_path, results):
    written(results, *row(), *baseline())
    there = datetime(2026, 5, 1, tzinfo=UTC)
    written(tmp_path / "runs" / "records", *row(5, created=there))
    done = submit(tmp_path / "runs", [f"{WORD}@4", f"{WORD}@5"], results)
    assert (done.refused, done.notes, done.new) == ((), (), 10)
    assert content(results).keys() == files_of(WORD, 5) | files_of(PLAIN)


def test_one_seed_of_a_row_that_the_store_has_not_is_refused(runs, results):
    assert "1 of the 3 seeds" in submit(runs, [f"{WORD}@1"], results).refused[0]


def test_a_store_that_has_the_plain_student_needs_no_other(runs, results):
    written(results, *row(method="baseline", role="baseline", digest="0badbeef"))
    done = submit(runs, ["word_level"], results)
    assert done.notes == ()
    assert done.rows.keys() == {("synthetic", WORD)}


def test_a_table_without_a_plain_student_is_told(tmp_path, results):
    written(tmp_path / "runs" / "records", *row(), baseline()[0])
    done = submit(tmp_path / "runs", ["word_level"], results)
    assert done.refused == ()
    assert done.notes == (
        "synthetic, quick: neither the store nor this run has a complete plain student of this table, so there is "
        "nothing to compare its rows with.",
    )


def test_a_copy_that_is_cut_off_leaves_no_record_without_its_files_and_goes_on(runs, results, monkeypatch):
    copied, write = [], submit_module.write_text

    def killed(path: Path, text: str) -> None:
        if len(copied) == 7:
            raise KeyboardInterrupt
        copied.append(path)
        write(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(submit_module, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            submit(runs, ["word_level"], results)
    assert [name for name in content(results) if name.endswith("json")] == [f"synthetic/{WORD}.s1.json"]
    assert submit(runs, ["word_level"], results).new == 23
    assert content(results).keys() == files_of(WORD) | files_of(PLAIN)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wrod_level"], "unknown row 'wrod_level'. Known: synthetic/baseline"),
        (["all", "word_level"], "all stands alone; got all, word_level."),
        (["word_level", "--results", "nowhere"], "there is no folder 'nowhere': submit from a clone"),
        (["word_level", "--runs", "nowhere"], f"there is no folder of records 'nowhere{os.sep}records'"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(runs, results, refused, words, message):
    assert message in refused("submit", "--runs", runs, "--results", results, *words)


def test_a_run_of_nothing_complete_has_nothing_to_submit(tmp_path, results):
    written(tmp_path / "runs" / "records", failed(1))
    assert submit(tmp_path / "runs", ["all"], results).refused == ("no row of this run is complete.",)
