"""The measurement of speed as a user makes it: what is compared with what, on models that are tiny."""

from __future__ import annotations

import json
import multiprocessing
import os

import micro
import pytest
import torch

from bench import pace, probe
from bench.config import preset
from bench.data.batches import token_batches
from bench.environment import installed
from bench.errors import TaskError
from bench.measure.flops import counted
from bench.measure.rounds import Figure, Sample
from bench.pace import PLAIN, TEACHER, beside, described, measure_pace, random_corpus, training_parts, trainings_of
from bench.pace_search import search_works
from bench.registry import Methods, load_methods
from bench.train.steps import Steps

SETTINGS = micro.SETTINGS | {"training.batch_tokens": 400, "search.batch_sentences": 6}
SETTINGS |= {"student.encoder_layers": 2, "student.decoder_layers": 2}
TINY = preset("quick", SETTINGS)
HERE = torch.device("cpu")
LENGTH = 5


@pytest.fixture(scope="module", autouse=True)
def brief():
    """Small matrices, short sentences, one thread, and nothing repeated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "CPU_SIZE", 32)
        patch.setattr(pace, "usable_cores", lambda: 1)
        patch.setattr("bench.measure.rounds.LEAST_SECONDS", 0.0)
        for name in ("bench.pace", "bench.pace_search"):
            patch.setattr(f"{name}.ASSUMED_LENGTH", float(LENGTH))
        yield


@pytest.fixture(scope="module")
def measured(brief):
    return measure_pace(TINY, "cpu", rounds=2)


def steps(name, text, settings=None):
    method = load_methods().get(name)(settings)
    return Steps(method, TINY.training, TINY.student, TINY.teacher, vocabulary=40, text=text, device=HERE)


def test_everything_is_measured(measured):
    names = [each.name for each in measured.training]
    assert names[:2] == [PLAIN, TEACHER]
    more = {"aio_kd, shared encoder", "tie_kd, cached signals", "word_level, cached signals"}
    assert set(names[2:]) == {"a2d", "aio_kd", "sequence_level", "tie_kd", "word_level"} | more
    assert list(measured.products) == ["bench.nmt.linear", "torch.mm"]
    assert [(each.beam, each.batch) for each in measured.searching] == [(2, 6), (1, 6), (2, 1), (1, 1)]
    assert measured.training[0].ratio == Figure(1.0, 0.0)
    for each in measured.training:
        assert each.tokens.median > 0
        assert each.peak_share.median > 0
    assert all((each.ratio is None) == (installed("ctranslate2") is None) for each in measured.searching)


def test_the_tables_show_every_number(measured):
    lines = list(described(measured))
    first = measured.training[2]
    (line,) = [line for line in lines if line.startswith(first.name)]
    assert line.split()[1::2] == [
        f"{first.tokens.median:,.0f}",
        f"{first.ratio.median:.2f}",
        f"{first.peak_share.median:.0%}",
    ]
    (line,) = [line for line in lines if line.startswith("greedy, one at a time")]
    assert f"{measured.searching[-1].sentences.median:.1f} (" in line
    assert len([line for line in lines if "batch of 6" in line]) == 2


def test_ratios_are_taken_in_each_round():
    """Tokens, seconds and operations of two rounds, of which the second ran on a machine of half the speed."""
    found = {
        PLAIN: [Sample(1.0, 100.0, 50.0), Sample(2.0, 100.0, 50.0)],
        beside("other"): [Sample(2.0, 100.0, 50.0), Sample(4.0, 100.0, 50.0)],
        "other": [Sample(4.0, 100.0, 120.0), Sample(8.0, 100.0, 120.0)],
    }
    products = [[Sample(1.0, 80.0, 0.0), Sample(1.0, 50.0, 0.0)], [Sample(1.0, 100.0, 0.0), Sample(1.0, 40.0, 0.0)]]
    plain, other = trainings_of([PLAIN, "other"], found, products)
    assert (plain.name, plain.tokens, plain.ratio) == (PLAIN, Figure(75.0, 50 / 75), Figure(1.0, 0.0))
    assert plain.peak_share == Figure(0.5, 0.0)  # the peaks are 100 and 50
    # By the plain student beside it, which was twice as slow then.
    assert (other.tokens, other.ratio, other.peak_share) == (Figure(18.75, 2 / 3), Figure(0.5, 0.0), Figure(0.3, 0.0))


def test_useful_operations_are_those_of_a_batch_without_padding(monkeypatch, tmp_path):
    monkeypatch.setattr(probe, "SPREAD", 0.0)  # all sentences have the same length
    text = random_corpus(tmp_path, 40, pairs=100)
    assert (text.lengths == LENGTH).all()
    batches, made = token_batches(text.lengths, 100, seed=1, epoch=1), steps("word_level", text)
    (part,) = training_parts(made, batches, 2, 0)
    assert part.units == sum(len(rows) for rows in batches[:2]) * LENGTH
    assert part.flops == pytest.approx(counted(part.run))


def test_padding_is_not_useful(tmp_path):
    text = random_corpus(tmp_path, 40, pairs=30)
    rows = text.lengths[:, 0].argsort()
    (part,) = training_parts(made := steps("baseline", text), [rows], 1, 0)
    assert part.units == text.target_tokens
    assert counted(part.run) > 1.2 * part.flops
    assert made.update([rows]) == part.units


def test_each_stage_counts_by_its_share_and_each_round_draws_anew(monkeypatch, tmp_path):
    monkeypatch.setattr(probe, "SPREAD", 0.0)
    text = random_corpus(tmp_path, 40, pairs=30)
    batches, made = token_batches(text.lengths, 40, seed=1, epoch=1), steps("aio_kd", text, {"min_depth": 1})
    rounds = [training_parts(made, batches, 1, number) for number in range(6)]
    assert [part.share for part in rounds[0]] == [0.5, 0.5]
    assert len({part.flops / part.units for part, _ in rounds}) > 1  # other truncations


def test_a_corpus_repeats_its_pairs_and_has_the_same_ones_each_time(tmp_path):
    once, thrice = (random_corpus(tmp_path / str(n), 40, pairs=10, copies=n) for n in (1, 3))
    assert thrice.sources() == 3 * once.sources()
    assert (once.lengths[:, 0] == once.lengths[:, 1]).all()
    assert len({tuple(source) for source in once.sources()}) == 10


@pytest.mark.skipif(installed("ctranslate2") is None, reason="needs ctranslate2")
def test_both_engines_make_all_steps_for_every_sentence(tmp_path):
    ours, theirs = [], []
    notes: list[str] = []
    with search_works(TINY, HERE, 1, 7, tmp_path, notes) as works:
        for search, work in works.items():
            (part,) = work(0)
            found = part.run()
            if search.engine == "ctranslate2":
                theirs += [len(pieces) for pieces in found]
            else:
                ours += [len(hypotheses[0].ids) + 1 for hypotheses in found]
            assert part.units == (6 if search.batch == 6 else 4)
    # Ours leaves out the end of sentence, which takes a step of its own; CTranslate2 stops where it would come.
    assert ours == theirs == [7] * 2 * (6 + 4)
    assert notes == []


@pytest.mark.skipif(installed("ctranslate2") is None, reason="needs ctranslate2")
def test_the_other_engine_has_a_process_of_its_own_that_ends_with_its_works(tmp_path):
    with search_works(TINY, HERE, 1, 7, tmp_path, []) as works:
        (theirs,) = multiprocessing.active_children()
        (part,) = next(work for search, work in works.items() if search.engine == "ctranslate2")(0)
        before = os.times()
        part.run()
    after = os.times()
    assert after.children_user > before.children_user, "its time is no other's"
    assert theirs.exitcode == 0


@pytest.mark.skipif(installed("ctranslate2") is None, reason="needs ctranslate2")
def test_the_end_of_the_other_engines_process_is_reported(tmp_path):
    with search_works(TINY, HERE, 1, 7, tmp_path, []) as works:
        (theirs,) = multiprocessing.active_children()
        theirs.kill()
        (part,) = next(work for search, work in works.items() if search.engine == "ctranslate2")(0)
        with pytest.raises(TaskError, match="has ended before it answered"):
            part.run()


@pytest.mark.skipif(installed("ctranslate2") is None, reason="needs ctranslate2")
def test_where_the_other_engine_cannot_run_a_note_says_why(tmp_path, monkeypatch):
    notes: list[str] = []
    monkeypatch.setattr("bench.pace_search.precisions", lambda _: {"pytorch": "float32", "ctranslate2": "float3"})
    monkeypatch.setattr("bench.pace_search.export_ctranslate2", lambda *_: None)
    with search_works(TINY, HERE, 1, 7, tmp_path, notes) as works:
        assert {search.engine for search in works} == {"pytorch"}
    assert len(notes) == 1
    assert notes[0].startswith("CTranslate2 cannot run on cpu: ")


def only_baseline():
    return Methods({"baseline": load_methods().get("baseline")}, {})


def test_without_ctranslate2_its_columns_are_empty(monkeypatch):
    monkeypatch.setattr("bench.pace_search.installed", lambda package: None)
    monkeypatch.setattr(pace, "load_methods", only_baseline)
    found = measure_pace(TINY, "cpu", rounds=1)
    assert {(each.ctranslate2, each.ratio) for each in found.searching} == {(None, None)}
    assert "CTranslate2 is not installed: pip install ctranslate2" in found.notes
    (line,) = [line for line in described(found) if line.startswith("greedy, batch")]
    assert line.split()[-2:] == ["-", "-"]


def test_a_method_that_the_preset_does_not_fit_is_left_out_with_the_reason():
    shallow = preset("quick", SETTINGS | {"teacher.encoder_layers": 1, "teacher.decoder_layers": 1})
    found = measure_pace(shallow, "cpu", rounds=1)
    assert "aio_kd" not in [each.name for each in found.training]
    assert [note for note in found.notes if note.startswith("aio_kd: ") and "min_depth" in note]


def test_nothing_changes_for_who_measures(monkeypatch):
    monkeypatch.setattr(pace, "load_methods", only_baseline)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    measure_pace(TINY, "cpu", rounds=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_doctor_prints_the_same_as_text_and_as_json(call, monkeypatch, measured):
    asked = []

    def measure(sizes, device, *, announce):
        asked.append((sizes.name, device))
        announce("warming up")
        return measured

    monkeypatch.setattr(pace, "measure_pace", measure)
    code, out, err = call("doctor", "--speed")
    assert (code, err) == (0, "warming up\n")
    assert out.splitlines() == list(described(measured))
    code, out, _ = call("doctor", "--speed", "--json", "--preset", "quick", "--device", "cpu")
    found = json.loads(out)
    assert found["training"][1]["name"] == TEACHER
    assert found["training"][1]["ratio"]["median"] == measured.training[1].ratio.median
    assert asked == [("small", "auto"), ("quick", "cpu")]


def test_doctor_lists_as_json(call, tmp_path):
    code, out, _ = call("doctor", "--runs", tmp_path, "--json")
    assert code == 0
    assert "processor" in [entry["name"] for entry in json.loads(out)]
