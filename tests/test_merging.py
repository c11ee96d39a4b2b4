"""Records of several machines and folders become one site: seeds join, speeds stay apart, the newer record counts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from factories import make_record, make_speed, plain, seeds, store
from pages import Page

from bench.records import read_records
from bench.results import Record
from leaderboard.ranking import aggregate
from leaderboard.speeds import headlines, together

ROW = "word_level.2-2.quick.0badcafe"


def elsewhere(record: Record, **fields) -> Record:
    """The same row from another machine."""
    machine = record.environment.model_copy(update={"cpu": "Other CPU", "cores": 64})
    return record.model_copy(update={"environment": machine} | fields)


def published(call, tmp_path: Path, *folders: Path) -> Path:
    options = [word for folder in folders for word in ("--results", folder)]
    code, _, _ = call("publish", *options, "--out", tmp_path / "site")
    assert code == 0
    return tmp_path / "site"


def test_seeds_of_two_machines_are_one_row_whose_speed_is_shown_by_fingerprint(tmp_path):
    first, second, third = seeds("word_level", [13.0, 14.0, 15.0])
    first = first.model_copy(update={"speed": make_speed(50.0, "a")})
    third = elsewhere(third, speed=make_speed(900.0, "b"))
    base = [record.model_copy(update={"speed": make_speed(40.0, "a")}) for record in plain()]
    other = seeds("tie_kd", [1.0, 1.0, 1.0], speed=make_speed(45.0, "a"))
    here, there = store(tmp_path / "a", *base, *other, first, second), store(tmp_path / "b", third)
    (table,) = aggregate(each.record for each in read_records([here, there]).records)
    row = next(each for each in table.placed if each.sample.row == ROW)
    assert [record.seed for record in row.records] == [1, 2, 3]
    assert row.bleu.mean == 14.0
    assert together(table) == "a" * 64
    assert [each.timing.sentences for each in headlines(row, "a" * 64) if each.timing] == [50.0]
    assert len(table.machines) == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_records_of_a_row_and_seed_the_newer_is_shown_and_the_other_told(tmp_path, call, order):
    old = make_record(bleu=13.0)
    new = elsewhere(make_record(bleu=17.0), created=old.created + timedelta(days=1))
    folders = store(tmp_path / "a", old), store(tmp_path / "b", new)
    site = published(call, tmp_path, *(folders[place] for place in order))
    assert "17.0" in Page(site / "rows" / "synthetic" / f"{ROW}.html").text
    told = f"{old.file}: left out, for the newer record of this row and seed in {folders[1] / 'synthetic'}."
    assert told in Page(site / "index.html").text


def test_the_same_record_twice_is_nothing_to_tell(tmp_path, call):
    folders = store(tmp_path / "a", make_record()), store(tmp_path / "b", make_record())
    assert "left out" not in Page(published(call, tmp_path, *folders) / "index.html").text


def test_a_row_keeps_its_address_whatever_else_is_published(tmp_path, call):
    address = f"rows/synthetic/{ROW}.html"
    alone, more = store(tmp_path / "a", make_record()), store(tmp_path / "b", *plain(), make_record("tie_kd"))
    assert (published(call, tmp_path, alone) / address).is_file()
    assert (published(call, tmp_path, more, alone) / address).is_file()
