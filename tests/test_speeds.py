"""Speeds on the pages: side by side only if measured together, with what speaks against them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from factories import make_record, make_speed, make_timing, plain, seeds, standings, store

from bench.records import read_records
from bench.results import EngineSpeed, Record, Speed
from leaderboard.entries import columns, entry
from leaderboard.ranking import Table, aggregate
from leaderboard.site import build
from leaderboard.speeds import column, engines, headlines, measured, search, together, warnings


def with_speed(record: Record, speed: Speed, days: int = 0) -> Record:
    return record.model_copy(update={"speed": speed, "created": record.created + timedelta(days=days)})


def table_of(*speeds: Speed | None) -> Table:
    """A table of rows with these speeds, by falling BLEU."""
    records = []
    for number, speed in enumerate(speeds):
        first, *rest = seeds(f"row{number}", [30.0 - number] * 3)
        records += [with_speed(first, speed) if speed else first, *rest]
    (table,) = aggregate(records)
    return table


def test_a_row_shows_beam_search_in_the_best_batch() -> None:
    table = table_of(make_speed(50.0))
    ours, other = headlines(table.placed[0], "a" * 64)
    assert (ours.timing.sentences, ours.note) == (50.0, "")
    assert (other.timing, other.note) == (None, "failed")


def test_a_table_shows_the_speeds_that_most_rows_have_in_common() -> None:
    table = table_of(make_speed(1.0, "a"), make_speed(2.0, "b"), make_speed(3.0, "b"), None)
    assert together(table) == "b" * 64
    shown = [headlines(row, "b" * 64)[0] for row in table.placed]
    assert [figure.timing and figure.timing.sentences for figure in shown] == [None, 2.0, 3.0, None]
    assert [figure.note for figure in shown] == ["measured elsewhere", "", "", "not measured"]


def test_of_fingerprints_with_equally_many_rows_the_newer_is_shown() -> None:
    records = [*seeds("one", [20.0] * 3), *seeds("two", [21.0] * 3)]
    records[0], records[3] = (
        with_speed(records[0], make_speed(fingerprint="b")),
        with_speed(records[3], make_speed(fingerprint="a"), days=1),
    )
    (table,) = aggregate(records)
    assert together(table) == "a" * 64


def test_the_newest_record_with_a_speed_counts() -> None:
    first, second, third = seeds("one", [20.0] * 3)
    records = [with_speed(first, make_speed(1.0)), with_speed(second, make_speed(2.0), days=1), third]
    ((row,),) = [table.rows for table in aggregate(records)]
    record, speed = measured(row)
    assert (record.seed, speed.engines[0].timings[2].sentences) == (2, 2.0)


def test_without_speeds_there_is_nothing_to_show() -> None:
    assert together(table_of(None)) is None


def test_what_speaks_against_a_timing_is_said() -> None:
    assert warnings(make_speed(), make_timing(spread=0.05)) == ()
    assert warnings(make_speed(), make_timing(spread=0.12)) == ("spread 12 %",)
    assert warnings(make_speed(shared="another process"), make_timing()) == ("shared device",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (column("pytorch", "float32"), "Sentences/s, PyTorch"),
        (column("ctranslate2", "int8"), "Sentences/s, CTranslate2 int8"),
        (search(make_timing(beam=1)), "greedy"),
        (search(make_timing(beam=5)), "beam 5"),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert text == expected


def test_the_pages_tell_speeds_latency_memory_and_signatures(tmp_path: Path) -> None:
    first, *rest = plain()
    hostile = make_record(speed=make_speed(shared="<script>alert(1)</script>"))
    store(tmp_path / "records", with_speed(first, make_speed(51.25)), *rest, hostile)
    site = build(read_records([tmp_path / "records"]).records, tmp_path / "site").parent
    (board,), page = site.glob("tables/synthetic/*.html"), (site / "rows/synthetic" / f"{first.row}.html").read_text()
    assert "Sentences/s, PyTorch" in board.read_text()
    assert "Sentences/s, CTranslate2" not in board.read_text()  # no row has a figure for it
    assert "51.2" in board.read_text()
    for said in ("20.0, 31.0, 44.5 ms", "1.20 MB", "300 MB", "100.0 %", "dev:cpu|eng:pytorch-2.13.0", "not installed"):
        assert said in page
    assert "<script>alert" not in (site / "rows/synthetic" / f"{hostile.row}.html").read_text()


def test_a_table_has_a_column_for_each_engine_that_has_a_figure_of_that_go() -> None:
    further = EngineSpeed(engine="ctranslate2", precision="int16", timings=(make_timing(80.0),))
    wide = make_speed(50.0)
    wide = wide.model_copy(update={"engines": (*wide.engines, further)})
    elsewhere = EngineSpeed(engine="ctranslate2", precision="bfloat16", timings=(make_timing(90.0),))
    other = make_speed(60.0, "b").model_copy(update={"engines": (elsewhere,)})
    table = table_of(wide, make_speed(40.0), other)
    assert engines(table, "a" * 64) == (("pytorch", "float32"), ("ctranslate2", "int16"))
    found = standings(record for row in table.rows for record in row.records)
    speeds = [column for column in columns(found) if column.engine]
    assert [column.shown for column in speeds] == [True, False]
    values = [entry(found, row) for row in table.rows]
    assert [row["pytorch_float32_sentences_per_second"] for row in values] == [50.0, 40.0, None]
    assert [row["ctranslate2_int16_sentences_per_second"] for row in values] == [80.0, None, None]


def test_a_table_without_speeds_has_no_columns_of_them(tmp_path: Path) -> None:
    store(tmp_path / "records", *plain())
    site = build(read_records([tmp_path / "records"]).records, tmp_path / "site").parent
    (board,) = site.glob("tables/synthetic/*.html")
    assert "Sentences/s" not in board.read_text()
