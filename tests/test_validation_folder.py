"""``bench validate`` of folders: rows are whole, strings are plain, and nothing lies there that does not belong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from believable import TARGET, output, valid, written
from factories import make_failed, make_speed, store
from reviewed import CONTENT, ENTRY, SUPERSEDED, WORD

from bench.results import PaperRecord, Record
from bench.validation import Validator, Verdict, summary
from bench.validation.text import LIMITS, LONGEST_TEXT, foreign
from leaderboard.reviews import content_of

pytestmark = pytest.mark.usefixtures("small")


def row(**fields) -> list[Record]:
    """Three seeds."""
    return [valid(seed, recipe={"seeds": 3}, **fields) for seed in (1, 2, 3)]


def baseline() -> list[Record]:
    return row(method="baseline", role="baseline")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of two whole rows."""
    return written(tmp_path / "results", *row(), *baseline())


def refusals(call, *words: object) -> list[str]:
    """The lines of ``bench validate`` that refuse a file."""
    code, out, _ = call("validate", *words)
    lines = [line for line in out.splitlines() if line.startswith("refused: ")]
    assert code == bool(lines)
    return lines


def test_whole_rows_pass_and_the_rows_that_were_scored_again_are_told(results, call):
    code, out, _ = call("validate", results)
    assert code == 0
    assert out.splitlines() == [
        "warning: of 3 records, no record of the teacher that it rests on has been given.",
        f"scored again: synthetic/baseline.2-2.quick.0badcafe, seeds 1, 2, 3, content {content_of(baseline())}",
        f"scored again: synthetic/{WORD}, seeds 1, 2, 3, content {content_of(row())}",
        "6 of 6 records pass.",
    ]


SAME_MODEL = f"its model is that of {WORD}, seed 1: a row and a seed are a training of their own."


def test_the_model_of_one_seed_is_not_that_of_another(tmp_path):
    first, second, third = row()
    copied = valid(3, recipe={"seeds": 3}, **{name: getattr(first, name) for name in ("artifacts", "phases", "walls")})
    for last, problems in ((third, []), (copied, [SAME_MODEL])):
        folder = written(tmp_path / str(len(problems)), first, second, last)
        assert [problem for verdict in Validator().validate([folder]) for problem in verdict.problems] == problems


def test_a_row_is_not_entered_a_second_time_under_another_name(tmp_path):
    folder = written(tmp_path, *row())
    for seed in (1, 2, 3):
        lines = output("another", seed)
        again = valid(seed, recipe={"seeds": 3}, digest="11111111", hypotheses=lines)
        store(folder, again, hypotheses=lines, references=TARGET)
    found = [problem for verdict in Validator().validate([folder]) for problem in verdict.problems]
    assert found == [f"its model is that of {WORD}, seed {seed}: a row and a seed are a training of their own."
                     for seed in (1, 2, 3)]  # fmt: skip


def test_the_outputs_of_one_seed_are_not_those_of_another(tmp_path):
    first, second, _ = row()
    lines = output(seed=1)
    copied = valid(3, recipe={"seeds": 3}, hypotheses=lines)
    folder = written(tmp_path, first, second)
    store(folder, copied, hypotheses=lines, references=TARGET)
    (found,) = [problem for verdict in Validator().validate([folder]) for problem in verdict.problems]
    assert found == "its outputs are those of seed 1."


def test_the_outputs_of_one_row_in_another_are_told(tmp_path):
    told = "its outputs are those of tie_kd.2-2.quick.0badcafe, seed 1."
    folder = written(tmp_path, *row(), *row(method="tie_kd")[1:])
    lines = output(seed=1)
    store(folder, valid(1, recipe={"seeds": 3}, method="tie_kd", hypotheses=lines), hypotheses=lines, references=TARGET)
    warnings = [warning for verdict in Validator().validate([folder]) for warning in verdict.warnings]
    assert warnings.count(told) == 1


def test_another_version_of_a_method_is_told(tmp_path):
    told = "the file of the method word_level was another one than that of this version."
    changed = valid().method.model_copy(update={"source_sha256": "0" * 64})
    for record, times in ((valid(), 0), (valid().model_copy(update={"method": changed}), 1)):
        (verdict,) = Validator().validate([written(tmp_path / str(times), record)])
        assert (verdict.problems, verdict.warnings.count(told)) == ((), times)


def test_time_that_is_charged_to_nothing_is_told(tmp_path):
    """What a kill lost is not the row's; where it is most of a training, the reader should know."""

    def with_lost(seconds: float) -> Record:
        first, *others = valid().phases
        lost = first.model_copy(update={"name": "interrupted", "kind": "interrupted", "seconds": seconds})
        return valid(phases=(first, lost, *others), walls=valid().walls | {first.artifact: first.seconds + seconds})

    for place, seconds, told in (("a", 60.0, False), ("b", 61.0, True)):
        (verdict,) = Validator().validate([written(tmp_path / place, with_lost(seconds))])
        assert verdict.problems == ()
        assert ("50 % of the time of its student is charged to it." in verdict.warnings) == told


def test_test_text_that_was_decoded_twice_is_told(tmp_path):
    times = (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC))
    (verdict,) = Validator().validate([written(tmp_path, valid(test_access={"test": times}))])
    assert "test was decoded more than once." in verdict.warnings


def changed_hypotheses(folder: Path) -> str:
    path = folder / f"{WORD}.s2.test.txt"
    path.write_text(path.read_text().replace("Haus", "Heim"))
    return f"hypotheses {path} were changed: their SHA-256 is not the record's."


def changed_score(folder: Path) -> str:
    path = folder / f"{WORD}.s2.json"
    record = json.loads(path.read_text())
    score = record["scores"]["test"]["bleu"]
    record["scores"]["test"]["bleu"] = score + 0.5
    path.write_text(json.dumps(record))
    return f"test: BLEU is recorded as {score + 0.5:.6f}, the statistics give {score:.6f}."


def missing_seed(folder: Path) -> str:
    for path in folder.glob(f"{WORD}.s3.*"):
        path.unlink()
    return "of the 3 seeds of its row there is no record of 3."


@pytest.mark.parametrize("change", [changed_hypotheses, changed_score, missing_seed])
def test_what_was_changed_is_refused_by_the_command_with_the_reason(results, call, change: Callable[[Path], str]):
    reason = change(results / "synthetic")
    lines = refusals(call, results)
    assert lines
    assert all(reason in line for line in lines)
    assert f"{WORD}.s2.json: " in " ".join(lines)


def test_files_that_belong_to_no_record_are_refused(results, call):
    stray, hidden, nested = results / "notes.txt", results / "synthetic" / ".x", results / "synthetic" / "a" / "b.tsv"
    nested.parent.mkdir()
    for path in (stray, hidden, nested):
        path.write_text("")
    assert sorted(refusals(call, results)) == sorted(
        f"refused: {path}: it belongs to no record." for path in (stray, hidden, nested)
    )
    code, out, _ = call("validate", results)
    assert (code, out.splitlines()[-1]) == (1, "6 of 6 records pass.")


def test_the_files_of_a_record_that_cannot_be_read_are_not_held_against_it(results, call):
    path = results / "synthetic" / f"{WORD}.s3.json"
    path.write_text("{")
    assert [line.split(": ")[1] for line in refusals(call, results)] == [str(path)]


def test_links_are_refused_and_not_followed(results, tmp_path, call):
    outside = written(tmp_path / "outside", *row(method="tie_kd"))
    (results / "linked").symlink_to(outside, target_is_directory=True)
    link = results / "synthetic" / "x.json"
    link.symlink_to(outside / "synthetic" / "tie_kd.2-2.quick.0badcafe.s1.json")
    assert refusals(call, results) == [
        f"refused: {path}: it is a link, and only plain files are taken." for path in (results / "linked", link)
    ]


def test_a_record_lies_in_the_folder_of_its_data_set(results, call):
    (results / "synthetic").rename(results / "other")
    lines = refusals(call, results)
    assert len(lines) == 6
    assert all("it is of 'synthetic' and must lie in the folder of that name." in line for line in lines)


def test_two_records_of_a_row_and_seed_are_one_too_many_unless_they_are_the_same(results, tmp_path, call):
    copy = written(tmp_path / "copy", *row())
    assert refusals(call, results, copy) == []
    other = written(tmp_path / "other", valid(2, recipe={"seeds": 3}, created=datetime(2026, 5, 1, tzinfo=UTC)))
    (line,) = refusals(call, results, other)
    path = f"synthetic/{WORD}.s2.json"
    assert line == f"refused: {other / path}: {results / path} is another record of this row and seed."


def test_seeds_in_several_folders_make_a_row_whole(tmp_path, call):
    first, second, third = row()
    here, there = written(tmp_path / "a", first), written(tmp_path / "b", second, third)
    assert refusals(call, here)[0].endswith("there is no record of 2, 3.")
    assert refusals(call, here, there) == []


def test_a_teacher_without_a_record_is_told(tmp_path):
    """Its key may be anybody's: what rests on a teacher of another file than the present one is not planned anew."""
    told = "no record of the teacher that it rests on has been given."
    folder = written(tmp_path, *row(), valid(method="baseline", role="baseline"))
    assert [told in each.warnings for each in verdicts(folder)] == [False, True, True, True]
    teacher = valid(method="baseline", role="teacher", artifacts={"teacher": row()[0].artifacts["teacher"]})
    written(tmp_path, teacher)
    assert not any(told in each.warnings for each in verdicts(folder))


def verdicts(folder: Path) -> tuple[Verdict, ...]:
    return Validator().validate([folder])


def test_what_will_not_be_ranked_or_compared_is_a_warning(tmp_path):
    failed = make_failed(seed=3, data_sha256=valid().data_sha256, recipe={"seeds": 3})
    folder = written(tmp_path, *row()[:2], failed)
    found = verdicts(folder)
    assert [each.problems for each in found] == [()] * 3
    assert summary(found) == [
        "warning: of 3 records, 2 of the 3 seeds that a ranked row needs have finished.",
        "warning: of 2 records, no plain student of their table has finished (synthetic, quick).",
        "warning: of 2 records, no record of the teacher that it rests on has been given.",
        f"scored again: synthetic/{WORD}, seeds 1, 2, content {content_of(row()[:2])}",
        "3 of 3 records pass.",
    ]
    written(tmp_path, *baseline())
    assert "no plain student" not in " ".join(summary(verdicts(folder)))
    written(tmp_path, row()[2])
    assert not any("seeds that a ranked row needs" in line for line in summary(verdicts(folder)))


# --- Strings ---------------------------------------------------------------------------------------------------------


def titled(text: str) -> Record:
    record = valid()
    return record.model_copy(update={"method": record.method.model_copy(update={"title": text})})


def cited(**fields) -> Record:
    record = valid()
    paper = PaperRecord(**({"citation": "A", "year": 2020, "link": "https://example.org/a?b=c&d"} | fields))
    return record.model_copy(update={"method": record.method.model_copy(update={"paper": paper})})


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (titled("<b>Best</b>"), "method.title holds markup, at '<b'."),
        (titled("a</td>"), "method.title holds markup, at '</'."),
        (titled("<!-- x"), "method.title holds markup, at '<!'."),
        (titled("&#60;b&#62;"), "method.title holds markup, at '&#60;'."),
        (titled("a\x00b"), "method.title holds the unprintable character U+0000."),
        (titled("a\u202eb"), "method.title holds the unprintable character U+202E."),
        (titled("two\nlines"), "method.title holds the unprintable character U+000A."),
        (titled("x" * 121), "method.title has 121 characters, at most 120 are allowed."),
        (cited(citation="x" * 601), "method.paper.citation has 601 characters, at most 600 are allowed."),
        (cited(link="javascript:alert(1)"), "method.paper.link is no web address."),
        (cited(link="https://a b"), "method.paper.link is no web address."),
        (valid(command="x" * (LONGEST_TEXT + 1)), "command has 2,001 characters, at most 2,000 are allowed."),
        (valid(recipe={"seeds": 1, "nested": {"a": ["b", {"c": "<img src=x>"}]}}),
         "recipe.nested.a.c holds markup, at '<i'."),
        (valid(recipe={"seeds": 1, "<script>": 1}), "a name within recipe holds markup, at '<s'."),
        (make_failed(reason="<script>alert(1)</script>"), "reason holds markup, at '<s'."),
        (make_failed(error_log="a\x1b[31m"), "error_log holds the unprintable character U+001B."),
        (make_failed(error_log="x" * 100_001), "error_log has 100,001 characters"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_strings_that_do_not_belong_in_a_record_are_named_by_their_field(record, problem):
    assert any(found.startswith(problem) for found in foreign(record)), list(foreign(record))


@pytest.mark.parametrize(
    "record",
    [
        valid(),
        titled("Größe < 5 & alpha > 3; R&D"),
        cited(citation="Müller, O’Neill & Łukasz: “a” — b. ACL"),
        make_failed(reason="unsupported: <class 'int'> and <function f.<locals>.g at 0x7f>"),
        make_failed(error_log='File "<frozen x>", line 1, in <module>\n\tx = <b>\n'),
    ],
)
def test_what_people_and_python_write_is_no_markup(record):
    assert list(foreign(record)) == []


def test_each_limit_is_of_a_field_that_there_is():
    names = {name for name, _ in _fields(make_failed().model_dump(mode="json"))}
    assert LIMITS.keys() <= names


def _fields(value: dict, prefix: str = ""):
    for key, part in value.items():
        yield prefix + key, part
        if isinstance(part, dict):
            yield from _fields(part, f"{prefix}{key}.")


# --- Reviews ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ENTRY, None),
        (ENTRY.replace("synthetic", "other"), f"as re-scored: there is no record of other/{WORD}."),
        (ENTRY + "seeds = [1, 4]", f"the review of synthetic/{WORD} as re-scored: there is no record of its seed 4."),
        (
            SUPERSEDED + 'by_row = "a.b"',
            "as superseded: there is no record of synthetic/a.b",
        ),
        ("review", "reviews.toml is not TOML"),
    ],
)
def test_a_review_names_a_row_that_is_there(results, call, text, problem):
    (results / "reviews.toml").write_text(text)
    lines = refusals(call, results)
    assert len(lines) == (problem is not None)
    if problem:
        assert lines[0].startswith(f"refused: {results / 'reviews.toml'}: ")
        assert problem in lines[0]


def test_a_review_counts_with_the_content_that_is_printed_and_with_other_is_a_warning(results, call):
    (results / "reviews.toml").write_text(ENTRY)
    code, out, _ = call("validate", results)
    assert code == 0
    (present,) = re.findall(rf"^scored again: synthetic/{WORD}, seeds 1, 2, 3, content (\w+)$", out, re.MULTILINE)
    warning = f"the review of synthetic/{WORD} as re-scored does not count: it is of content {CONTENT}, the row's is"
    assert f"{warning} {present}." in out
    (results / "reviews.toml").write_text(ENTRY.replace(CONTENT, present))
    code, out, _ = call("validate", results)
    assert (code, "does not count" in out) == (0, False)


def test_no_content_is_printed_of_a_part_of_a_row(results, call):
    code, out, _ = call("validate", results / "synthetic" / f"{WORD}.s1.json")
    assert (code, out.splitlines()[0]) == (0, f"scored again: synthetic/{WORD}, seeds 1")
    changed_score(results / "synthetic")
    code, out, _ = call("validate", results)
    assert f"scored again: synthetic/{WORD}, seeds 1, 3" in out.splitlines()


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, None),
        ({"machine": {"cpu": "Another"}}, "machine"),
        ({"protocol": {"repeats": 1}}, "protocol"),
        ({"source_sha256": "0" * 64}, "source_sha256"),
        ({"fingerprint": "b", "machine": {"cpu": "Another"}}, None),
    ],
)
def test_speeds_of_one_fingerprint_were_measured_together(tmp_path, call, fields, part):
    """A speed that compares with others is nobody's word for it: the machine, the protocol and the text are equal."""
    timed = [
        own[0].model_copy(update={"speed": speed})
        for own, speed in ((row(), make_speed()), (baseline(), make_speed(80.0, **fields)))
    ]
    folder = written(tmp_path, *timed, *row()[1:], *baseline()[1:])
    lines = refusals(call, folder)
    assert len(lines) == (2 if part else 0)
    for line in lines:
        assert f"its speed has the fingerprint of others whose {part} is not the same" in line


@pytest.mark.parametrize(("hours", "refused"), [(0, False), (23, False), (25, True), (24 * 365 * 900, True)])
def test_no_record_is_of_the_day_after_tomorrow(tmp_path, hours, refused):
    created = (datetime.now(UTC) + timedelta(hours=hours)).replace(microsecond=0)
    (verdict,) = verdicts(written(tmp_path, valid(created=created)))
    assert bool(verdict.problems) == refused
    assert all(problem.endswith("UTC, is in the future.") for problem in verdict.problems)


def test_reviews_within_a_data_set_are_no_reviews(results, call):
    (results / "synthetic" / "reviews.toml").write_text(ENTRY)
    assert refusals(call, results)[0].endswith("it belongs to no record.")
