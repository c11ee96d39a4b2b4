"""What the page says of degenerate outputs and further scores."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import make_record, plain, seeds, store
from pydantic import ValidationError

from bench.records import read_records
from bench.results import Degenerate, FurtherScore, Record
from leaderboard.quality import further_scores, warnings
from leaderboard.site import build

ROW = "rows/synthetic/word_level.2-2.quick.0badcafe.html"
NONE = {"empty": 0, "repeated": 0, "copied": 0, "over_length": 0}


def scored(record: Record, test_set: str = "test", **fields) -> Record:
    score = record.scores[test_set].model_copy(update=fields)
    return record.model_copy(update={"scores": record.scores | {test_set: score}})


def degenerate(record: Record, test_set: str = "test", sentences: int = 100, **counts: int) -> Record:
    return scored(record, test_set, degenerate=Degenerate(**(NONE | counts)), sentences=sentences, length_ratio=0.875)


def pages(folder: Path, *records: Record) -> tuple[str, str]:
    """The page of the table and that of the word-level row, on one line each."""
    store(folder / "records", *plain(), *records)
    index = build(read_records([folder / "records"]).records, folder / "site")
    (table,) = index.parent.glob("tables/synthetic/*.html")
    return tuple(" ".join(path.read_text(encoding="utf-8").split()) for path in (table, index.parent / ROW))


def test_counts_shares_and_length_ratio_stand_on_the_rows_page(tmp_path):
    first, second, third = seeds("word_level", [12.0, 13.0, 14.0])
    board, row = pages(tmp_path, degenerate(first, sentences=3, repeated=1), degenerate(second, sentences=3), third)
    table = row[row.index('aria-label="Degenerate outputs"') :]
    table = table[: table.index("</table>")]
    assert table.count('<th scope="row"') == 2
    assert '<td class="number">1<span class="under">33.3 %</span></td>' in table
    assert table.count('<td class="number">0.875</td>') == 2
    assert "⚠ of the outputs 16.7 % repeating" in board


def test_the_mark_needs_more_than_one_in_twenty_of_a_kind_on_the_first_test_set():
    record = make_record()
    assert warnings([degenerate(record, empty=5, copied=5)]) == []
    assert warnings([degenerate(record, empty=6)]) == ["6.0 % empty"]
    assert warnings([degenerate(record, copied=6, over_length=50)]) == ["6.0 % copied", "50.0 % over-long"]
    assert warnings([degenerate(record, "dev", empty=100)]) == []
    assert warnings([degenerate(record, empty=8), degenerate(record, empty=2)]) == []
    assert warnings([record]) == []


def test_rows_without_counts_have_no_table_and_no_mark(tmp_path):
    board, row = pages(tmp_path, *seeds("word_level", [12.0]))
    assert "Degenerate outputs" not in row
    assert "Further scores" not in row
    assert "⚠" not in board


def test_further_scores_carry_their_signature_and_legacy_ones_a_warning(tmp_path):
    legacy = FurtherScore(name="legacy-bleu", value=31.234, signature="tok:none|moses:de", legacy=True)
    comet = FurtherScore(name="comet-0badcafe", value=0.81234, signature="comet|checkpoint:model.ckpt")
    record = scored(make_record(), further=(legacy, comet))
    board, row = pages(tmp_path, record)
    table = row[row.index('aria-label="Further scores"') :]
    assert table.index("comet-0badcafe") < table.index("legacy-bleu")
    assert "0.8123" in table
    assert "31.23" in table
    assert "<code>tok:none|moses:de</code>" in table
    assert table.count("legacy: not comparable with the BLEU of the tables") == 1
    assert "legacy" not in board
    assert [entry[0].name for entry in further_scores([record])] == ["comet-0badcafe", "legacy-bleu"]


def test_more_degenerate_outputs_than_sentences_are_no_record():
    record = degenerate(make_record(), sentences=3, empty=4)
    with pytest.raises(ValidationError, match="more degenerate outputs of a kind than the 3 sentences"):
        Record.model_validate(record.model_dump())
