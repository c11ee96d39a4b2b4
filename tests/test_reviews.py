"""Maintainers' reviews: a row's status, what is withdrawn from the ranking, and what no review may say."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from factories import make_failed, make_record, plain, store
from pages import Page
from reviewed import CONTENT, ENTRY, PLAIN, ROW, SUPERSEDED, WORD

from bench.errors import DataError
from bench.results import Record
from leaderboard.ranking import Row, aggregate
from leaderboard.reviews import Review, content_of, read_reviews
from leaderboard.status import status


def review(verdict: str = "re-scored", **fields) -> Review:
    more = {"re-scored": {"content": CONTENT}, "re-run": {"content": CONTENT}, "superseded": {"by_row": PLAIN}}
    values = {"dataset": "synthetic", "row": WORD, "verdict": verdict, "by": "A. Maintainer", "date": date(2026, 1, 2)}
    return Review(**(values | {"note": "All was well."} | more.get(verdict, {}) | fields))


def row(*reviews: Review, records: list[Record] | None = None) -> Row:
    (table,) = aggregate([*plain(), *(records or ROW)], reviews=reviews)
    return next(each for each in table.rows if each.sample.row == WORD)


@pytest.mark.parametrize(
    ("reviews", "expected"),
    [
        ([], "self-reported"),
        ([review()], "re-scored"),
        ([review(seeds=(1, 2))], "self-reported"),
        ([review(seeds=(1, 2)), review(seeds=(3,))], "re-scored"),
        ([review("re-run", seeds=(2,))], "re-run"),
        ([review(), review("re-run", seeds=(2,))], "re-run"),
        ([review("re-run", seeds=(4,))], "self-reported"),
        ([review(row=PLAIN)], "self-reported"),
        ([review(dataset="other")], "self-reported"),
        ([review(), review("superseded")], "superseded"),
        ([review("re-run"), review("superseded"), review("unreliable", seeds=(1,))], "unreliable"),
    ],
)
def test_the_status_is_the_strongest_that_covers_the_row(reviews, expected):
    assert status(row(*reviews)) == expected


def with_other_outputs(record: Record) -> Record:
    """As a contributor would write it: all else is as it was, the date too."""
    score = record.scores["test"]
    changed = score.model_copy(update={"hypotheses": score.hypotheses.model_copy(update={"sha256": "0" * 64})})
    return record.model_copy(update={"scores": record.scores | {"test": changed}})


@pytest.mark.parametrize(
    "changed",
    [[*ROW[:2], with_other_outputs(ROW[2])], ROW[:2], [*ROW, make_record(seed=4)]],
    ids=["other outputs", "without a seed", "another seed"],
)
def test_a_review_vouches_for_the_content_that_was_looked_at_and_no_other(changed):
    said = [review(), review("re-run"), review("re-run", seeds=(1,))]
    assert status(row(*said)) == "re-run"
    assert status(row(*said, records=changed)) == "self-reported"
    assert status(row(review("unreliable"), records=changed)) == "unreliable"


def test_the_content_is_what_was_put_out_and_not_when_nor_how_fast():
    later = [record.model_copy(update={"created": datetime(2027, 1, 1, tzinfo=UTC), "phases": ()}) for record in ROW]
    assert content_of(later[::-1]) == content_of([*ROW, make_failed(seed=4)]) == CONTENT
    assert len({CONTENT, content_of(ROW[:2]), content_of([]), content_of(plain())}) == 4
    assert re.fullmatch("[0-9a-f]{12}", CONTENT)


def test_a_page_tells_of_a_review_that_no_longer_counts(tmp_path, call):
    records = store(tmp_path / "records", *plain(), *ROW)
    written(records, ENTRY.replace(CONTENT, "0" * 12))
    call("publish", "--results", records, "--out", tmp_path / "site")
    text = Page(tmp_path / "site" / "rows" / "synthetic" / f"{WORD}.html").text
    assert "self-reported" in text
    assert "the row has changed since, and this does not count" in text


def test_a_row_without_a_finished_seed_was_never_scored_again():
    assert status(row(review(), records=[make_failed("word_level")])) == "self-reported"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (review("unreliable", note="Its test text was in training."),
         "marked unreliable (A. Maintainer, 2026-01-02): Its test text was in training"),
        (review("unreliable", seeds=(1, 3)), "marked unreliable for seed 1, 3 (A. Maintainer, 2026-01-02): All was"),
        (review("superseded"), f"superseded by {PLAIN} (A. Maintainer, 2026-01-02): All was well"),
    ],
)  # fmt: skip
def test_a_withdrawn_row_is_shown_apart_with_the_note(given, reason):
    (table,) = aggregate([*plain(), *ROW], reviews=[given])
    assert [each.sample.row for each in table.placed] == [PLAIN]
    (apart,) = table.unplaced
    assert apart.unplaced[0].startswith(reason)
    assert not apart.unplaced[0].endswith(".")


def test_nothing_is_compared_with_a_withdrawn_plain_student():
    records = [*plain(), *ROW]
    (table,) = aggregate(records, reviews=[review("unreliable", row=PLAIN)])
    assert table.baseline is None
    assert [each.difference for each in table.rows] == [None, None]
    other = plain((9.0, 9.0, 9.0), digest="0badbeef")
    (table,) = aggregate([*records, *other], reviews=[review("unreliable", row=PLAIN)])
    assert table.baseline.sample.row == "baseline.2-2.quick.0badbeef"
    assert next(each for each in table.placed if each.sample.row == WORD).difference.mean == 5.0


def written(folder: Path, text: str) -> Path:
    (folder / "reviews.toml").write_text(text, encoding="utf-8")
    return folder


def test_the_file_is_read(tmp_path):
    assert read_reviews(tmp_path) == ()
    superseded = SUPERSEDED + f'by_row = "{PLAIN}"\nseeds = [1, 2]\n'
    found = read_reviews(written(tmp_path, f"# ours\n{ENTRY}\n{superseded}"))
    assert found == (review(), review("superseded", seeds=(1, 2)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[review]\n", "is not TOML"),
        (ENTRY.replace("2026-01-02", "2026-01-02T10:00:00Z"), "review.0.date: "),
        (ENTRY.replace("2026-01-02", "1767312000"), "review.0.date: "),
        (ENTRY.replace("re-scored", "rescored"), "review.0.verdict: Input should be 're-scored', 're-run'"),
        (SUPERSEDED, "a superseded row has a by_row, and no other one has"),
        (ENTRY.replace("re-scored", "superseded"), "the content that python -m bench validate prints, and no other"),
        (ENTRY.replace("content", "# content"), "the content that python -m bench validate prints, and no other"),
        (ENTRY.replace(CONTENT, CONTENT[:11]), "review.0.content: "),
        (ENTRY + f'by_row = "{PLAIN}"', "a superseded row has a by_row, and no other one has"),
        (SUPERSEDED + f'by_row = "{WORD}"', "cannot be superseded by itself"),
        (ENTRY.replace("All was well.", " "), "review.0.note: "),
        (ENTRY.replace("All was well.", "a\\u001b[31mb"), "review.0.note: "),
        (ENTRY.replace("All was well.", "x" * 1001), "review.0.note: "),
        (ENTRY.replace('row = "', 'row = "../'), "review.0.row: "),
        (ENTRY + "seeds = []", "review.0.seeds: "),
        (ENTRY + "rank = 1", "review.0.rank: Extra inputs are not permitted"),
        (ENTRY.replace("[[review]]", "[[reviews]]"), "reviews: Extra inputs are not permitted"),
    ],
)
def test_what_no_review_may_say_is_named(tmp_path, text, message):
    with pytest.raises(DataError) as refused:
        read_reviews(written(tmp_path, text))
    assert message in str(refused.value)
    assert str(tmp_path / "reviews.toml") in str(refused.value)


def test_the_page_tells_status_and_note_and_trusts_neither(tmp_path, call):
    records = store(tmp_path / "records", *plain(), *ROW)
    written(records, ENTRY.replace("All was well.", "<b>well</b>"))
    code, _, _ = call("publish", "--results", records, "--out", tmp_path / "site")
    assert code == 0
    text = Page(tmp_path / "site" / "rows" / "synthetic" / f"{WORD}.html").text
    assert "re-scored" in text
    assert "<b>well</b>" in text
    assert "does not count" not in text
    assert "self-reported" in Page(tmp_path / "site" / "rows" / "synthetic" / f"{PLAIN}.html").text


def test_nothing_is_published_past_a_file_of_reviews_that_cannot_be_read(tmp_path, refused):
    records = store(tmp_path / "records", *plain())
    written(records, "[[review]]")
    assert "reviews.toml: review.0.dataset: Field required" in refused(
        "publish", "--results", records, "--out", tmp_path / "site"
    )
    assert not (tmp_path / "site").exists()
