"""Delivered students: they translate as they were scored, and are the same elsewhere."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from factories import make_failed, store

from bench import deliver
from bench.config import SearchConfig
from bench.data.tokenizer import Tokenizer
from bench.deliver import load_delivered
from bench.errors import UsageError
from bench.nmt.export import load_model
from bench.nmt.search import translate_ids
from bench.records import read_records

ROWS = ("teacher", "baseline", "word_level.1-1", "aio_kd.2-1")


def stored(finished, row: str):
    from bench.records import find_row

    return find_row(read_records([finished.request.runs / "records"]).records, row)[0]


def sources(finished, split: str = "test") -> list[str]:
    return Path(f"{finished.request.dataset}.{split}.aa").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("split", ["test", "dev"])
def test_a_student_translates_as_it_was_scored(finished, row, split):
    delivered = load_delivered(finished.request.runs, row)
    found = list(delivered.translate(sources(finished, split), "cpu"))
    assert found == stored(finished, row).hypotheses(split)
    assert delivered.model.config.depth == delivered.record.delivery.depth


def test_long_input_is_translated_in_order_and_as_it_comes(finished, monkeypatch):
    monkeypatch.setattr(deliver, "LINES_AT_A_TIME", 4)
    delivered = load_delivered(finished.request.runs, "baseline")
    lines, read = [*sources(finished), "", "hi"] * 2, []

    def reading():
        for line in lines:
            read.append(line)
            yield line

    whole = [next(iter(delivered.translate([line], "cpu"))) for line in lines]
    translating = delivered.translate(reading(), "cpu")
    first = next(translating)
    assert len(read) == 4
    assert [first, *translating] == whole


def test_a_blank_line_stays_blank(finished):
    delivered = load_delivered(finished.request.runs, "baseline")
    first, second = sources(finished)[:2]
    found = list(delivered.translate([first, "", " \t", second, ""], "cpu"))
    assert found[1:3] == ["", ""]
    assert found[4] == ""
    assert [found[0], found[3]] == stored(finished, "baseline").hypotheses("test")[:2]
    assert list(delivered.translate(["", " "], "cpu")) == ["", ""]


@pytest.mark.parametrize("row", ["baseline", "aio_kd.2-1"])
def test_an_export_loads_back_and_gives_the_same(finished, tmp_path, row):
    delivered = load_delivered(finished.request.runs, row)
    out = tmp_path / "new" / "folder"
    delivered.export("safetensors", out)
    assert sorted(path.name for path in out.iterdir()) == [
        "model.json", "model.safetensors", "search.json", "tokenizer.model",
    ]  # fmt: skip
    assert [path.name for path in out.parent.iterdir()] == ["folder"]
    model, tokenizer = load_model(out), Tokenizer.load(out / "tokenizer.model")
    search = SearchConfig.model_validate(json.loads((out / "search.json").read_text()))
    found = translate_ids(model, tokenizer.encode(sources(finished)), search, device="cpu")
    assert tokenizer.decode([each[0].ids for each in found]) == stored(finished, row).hypotheses("test")
    for name, value in delivered.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


@pytest.mark.skipif(importlib.util.find_spec("ctranslate2") is None, reason="ctranslate2 is not installed")
def test_an_export_to_ctranslate2_gives_the_same(finished, tmp_path):
    import ctranslate2

    delivered = load_delivered(finished.request.runs, "baseline")
    delivered.export("ctranslate2", tmp_path / "out")
    tokenizer = Tokenizer.load(tmp_path / "out" / "tokenizer.model")
    translator = ctranslate2.Translator(str(tmp_path / "out"), inter_threads=1, intra_threads=1)
    ids, search = tokenizer.encode(sources(finished)), delivered.search.model_copy(update={"beam": 1})
    pieces = [[tokenizer.pieces[i] for i in line[:-1]] for line in ids]
    for line, ours in zip(pieces, translate_ids(delivered.model, ids, search, device="cpu"), strict=True):
        (theirs,) = translator.translate_batch(
            [line],
            beam_size=search.beam,
            max_decoding_length=search.max_length(len(line) + 1) - 1,  # ours counts the end of sentence
            min_decoding_length=0,
        )
        assert theirs.hypotheses[0] == [tokenizer.pieces[i] for i in ours[0].ids]


def test_an_existing_folder_is_left_alone(finished, tmp_path):
    (tmp_path / "mine").write_text("text")
    with pytest.raises(UsageError, match="exists already; name a new folder"):
        load_delivered(finished.request.runs, "baseline").export("safetensors", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_failed_export_leaves_nothing(finished, tmp_path, monkeypatch):
    def failing(model, folder):
        folder.mkdir()
        raise OSError("no luck")

    monkeypatch.setattr(deliver, "save_model", failing)
    with pytest.raises(OSError, match="no luck"):
        load_delivered(finished.request.runs, "baseline").export("safetensors", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_row_gets_the_nearest(finished):
    with pytest.raises(UsageError, match=r"unknown row 'corpus/basline'"):
        load_delivered(finished.request.runs, "corpus/basline")
    with pytest.raises(UsageError, match=r"may be any of: corpus/aio_kd\.1-1"):
        load_delivered(finished.request.runs, "aio_kd")


def test_a_row_whose_models_are_gone_names_the_command_that_makes_them(finished, tmp_path):
    shutil.copytree(finished.request.runs / "records", tmp_path / "records")
    with pytest.raises(
        UsageError, match=r"no student artifact .* run it again: python -m bench run --methods baseline"
    ):
        load_delivered(tmp_path, "baseline")


def test_of_several_seeds_the_first_finished_one_is_taken(finished, tmp_path):
    store(tmp_path / "records", make_failed(seed=1, reason="out of memory"), make_failed(seed=2, reason="no luck"))
    with pytest.raises(UsageError, match="word_level has no finished seed: out of memory"):
        load_delivered(tmp_path, "word_level")


def test_without_records_there_is_nothing_to_deliver(tmp_path):
    with pytest.raises(UsageError, match="there is no folder of records"):
        load_delivered(tmp_path, "baseline")
