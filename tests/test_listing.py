"""Lists of what there is, for people and as JSON."""

import json
from dataclasses import asdict

import torch
from factories import make_failed, make_record, store

from bench import config, environment, listing
from bench.data.datasets import DATASETS


def named(entries):
    return {entry.name: entry for entry in entries}


def test_methods_come_with_settings_values_and_search_ranges():
    found = named(listing.methods(None))
    assert set(found) >= {"a2d", "aio_kd", "baseline", "sequence_level", "tie_kd", "word_level"}
    facts = found["word_level"].facts
    assert facts["teacher"] == "frozen"
    assert facts["settings"]["alpha"]["search"].keys() == {"low", "high", "log"}
    assert facts["settings"]["data"] == {
        "default": "original", "description": facts["settings"]["data"]["description"], "search": None,
    }  # fmt: skip
    assert found["baseline"].description.startswith("Plain student")
    assert json.loads(json.dumps([asdict(entry) for entry in found.values()], default=str))


def test_a_broken_method_is_listed_with_its_reason(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0")
    entry = named(listing.methods(tmp_path))["broken"]
    assert entry.description.startswith("cannot be used: ")
    assert "ZeroDivisionError" in entry.description


def test_every_data_set_says_languages_and_licence():
    found = named(listing.datasets())
    assert set(found) == set(DATASETS)
    assert "(en to de); licence: " in found["multi30k-en-de"].description


def test_presets_come_with_all_values():
    found = named(listing.presets())
    assert found["quick"].facts == config.presets()["quick"].model_dump(mode="json")
    assert found["quick"].description == config.presets()["quick"].description


def test_runs_are_rows_and_seeds_with_score_or_reason(tmp_path):
    assert listing.runs(tmp_path) == []
    store(tmp_path / "records", make_record(seed=1, bleu=21.456), make_failed("a2d", seed=2, reason="no luck"))
    assert {entry.name: (entry.description, entry.facts["status"]) for entry in listing.runs(tmp_path)} == {
        "synthetic/word_level.2-2.quick.0badcafe@1": ("BLEU 21.46 on test", "ok"),
        "synthetic/a2d.2-2.quick.0badcafe@2": ("failed: no luck", "failed"),
    }


def test_a_damaged_record_is_listed_with_what_is_wrong(tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "x.json").write_text("{")
    (entry,) = listing.runs(tmp_path)
    assert entry.name == "left out"
    assert "x.json: not JSON" in entry.description


def test_doctor_tells_what_is_missing_and_how_to_add_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    monkeypatch.setattr(environment, "installed", lambda package: None)
    found = named(listing.doctor(tmp_path / "not" / "there"))
    assert found["data synthetic"].description == "ready"
    assert found["data multi30k-en-de"].description == "not here: python -m bench data fetch multi30k-en-de"
    assert "pip install ctranslate2" in found["ctranslate2"].description
    assert "GiB free" in found["run folder"].description
    assert str(tmp_path) in found["data folder"].description
    assert found["torch"].description.startswith(torch.__version__)


def test_doctor_names_each_gpu_and_the_versions_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Example GPU {index}")
    monkeypatch.setattr(environment, "installed", lambda package: "4.5.0")
    found = named(listing.doctor(tmp_path))
    assert found["cuda:1"].description == "Example GPU 1"
    assert found["default slots"].description.startswith("2 tasks at a time")
    assert found["torch"].description == torch.__version__
    assert found["ctranslate2"].description == "4.5.0"
