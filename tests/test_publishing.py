"""What a site is told beside its records: installed methods, and text where it may be passed on and is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import make_record

from bench.data import datasets
from bench.data.corpus import ParallelText, Splits
from bench.data.datasets import DATASETS, Dataset
from bench.errors import DataError
from bench.publishing import known_here, sentences
from bench.registry import load_methods
from bench.store import content_hash
from bench.texts import Texts

SOURCE = {name: [f"{name} source {number}" for number in range(3)] for name in ("dev", "test")}
TARGET = {name: [f"{name} target {number}" for number in range(3)] for name in SOURCE}


def load(folder: Path) -> Splits:
    text = {name: ParallelText(tuple(SOURCE[name]), tuple(TARGET[name])) for name in SOURCE}
    return Splits(ParallelText(("a",), ("b",)), text["dev"], {"test": text["test"]})


def data(monkeypatch, passed_on: dict[str, str], loader=load) -> str:
    """In place of the embedded data set, one of three sentences; returns its identity."""
    found = Dataset("synthetic", "", ("src", "tgt"), "", "", loader, passed_on=passed_on)
    monkeypatch.setitem(datasets.DATASETS, "synthetic", found)
    return content_hash(found.identity())


def asked(record, test_set="test"):
    return sentences(Texts(), record, test_set)


def test_text_that_may_be_passed_on_is_given_with_its_terms(monkeypatch):
    record = make_record(data_sha256=data(monkeypatch, {"test": "CC0", "dev": "CC BY"}), recipe={"dev_pairs": 2})
    found = asked(record)
    assert (list(found.source), list(found.reference), found.terms) == (SOURCE["test"], TARGET["test"], "CC0")
    assert list(asked(record, "dev").reference) == TARGET["dev"][:2]


def test_other_text_stays_out_and_is_not_even_read(monkeypatch):
    def unread(folder: Path):
        raise AssertionError

    record = make_record(data_sha256=data(monkeypatch, {"dev": "CC0"}, unread))
    assert asked(record) == "the terms of the data set do not say that its text may be passed on"


def test_text_of_another_version_stays_out(monkeypatch):
    data(monkeypatch, {"test": "CC0"})
    assert "another version of the data set" in asked(make_record())


def test_text_that_is_not_here_names_no_folder(monkeypatch):
    def absent(folder: Path):
        raise DataError(f"{folder}/secret is missing.")

    data(monkeypatch, {"test": "CC0"}, absent)
    assert asked(make_record()) == "the data set was not on the machine that built this page"


def test_a_users_own_text_stays_out():
    assert asked(make_record(dataset="my-corpus")) == "the data set is its user’s own"


def test_a_set_that_the_text_lacks_is_said(monkeypatch):
    record = make_record(data_sha256=data(monkeypatch, {"extra": "CC0"}))
    assert asked(record, "extra") == "the data set has no such part"


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))
def test_text_is_passed_on_only_where_the_licence_is_known_to_allow_it(dataset):
    assert set(dataset.passed_on) == {
        "synthetic": {"dev", "test"},
        "wmt22-de-dsb": {"wmt25-dev-disjoint"},
    }.get(dataset.name, set())
    assert all(dataset.passed_on.values())


def test_methods_are_described_with_their_settings():
    found = known_here(load_methods().found)
    alpha = next(each for each in found.methods["word_level"].settings if each.name == "alpha")
    assert (alpha.default, alpha.searched) == ("0.5", "0.1 to 0.9")
    flag = next(each for each in found.methods["a2d"].settings if each.name == "mask_pads")
    assert (flag.default, flag.searched) == ("false", "")
    assert found.methods["baseline"].paper is None
    assert found.datasets["multi30k-en-de"].fetched
    assert not found.datasets["synthetic"].fetched
