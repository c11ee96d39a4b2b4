"""The teacher's cached signals: what is kept of its distributions, what comes back, and what training makes of it."""

import copy
import errno
import os
from dataclasses import replace

import micro
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from bench.data import signals
from bench.data.batches import EncodedCorpus, evaluation_batches
from bench.data.signals import SignalsWriter, TaughtText, signals_bytes, spread, strongest
from bench.errors import DataError
from bench.explain import explain
from bench.method import Runner, total
from bench.phases import carry_out
from bench.registry import load_methods
from bench.request import resolve
from bench.toy import STUDENT, TEACHER, TRAINING, VOCABULARY, Toy, toy_batch, toy_teacher
from bench.train import trainer
from bench.train.cached import CachedTeacher
from bench.train.trainer import Trainer

METHODS = load_methods().found
CPU = torch.device("cpu")


def written(folder, text: EncodedCorpus, top_k: int) -> TaughtText:
    """The text with the toy teacher's signals, as a run makes them."""
    folder.mkdir()
    writer = SignalsWriter(folder, text.target_tokens, VOCABULARY, top_k)
    teacher = Runner(copy.deepcopy(toy_teacher()), frozen=True)
    for rows in evaluation_batches(text.lengths, 64):
        writer.write(text.places(rows), teacher.forward(text.batch(rows)).logits)
    assert writer.finish() == signals_bytes(text.target_tokens, VOCABULARY, top_k)
    return TaughtText(text, folder)


@pytest.fixture(scope="module")
def texts(corpora, tmp_path_factory) -> dict[int, TaughtText]:
    """The toy training text with signals of several sizes."""
    folder = tmp_path_factory.mktemp("signals")
    return {k: written(folder / str(k), corpora[0], k) for k in (1, 3, 8, VOCABULARY)}


class Loading:
    """Loads the toy teacher, and knows how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self):
        self.count += 1
        return copy.deepcopy(toy_teacher())


def cached(load=None) -> CachedTeacher:
    return CachedTeacher(load or Loading(), CPU, VOCABULARY)


# What is kept.


def test_the_likeliest_are_kept_and_the_rest_is_spread_evenly():
    logits = torch.tensor([[0.1, 0.5, 0.04, 0.3, 0.06], [0.2, 0.2, 0.2, 0.1, 0.3]]).log() + 3
    ids, shares = strongest(logits, 2)
    assert ids[0].tolist() == [1, 3]
    assert ids[1, 0] == 4
    assert_close(shares.exp(), torch.tensor([[0.5, 0.3, 0.2], [0.3, 0.2, 0.5]]))
    back = spread(ids, shares.half(), 5).exp()
    assert_close(back[0], torch.tensor([0.2 / 3, 0.5, 0.2 / 3, 0.3, 0.2 / 3]), atol=3e-4, rtol=0)


def test_a_sure_teachers_rest_is_not_lost_to_rounding():
    logits = torch.tensor([[14.0, 0.0, 0.0, 0.0, 1.0]])  # 1 - p is 5.6e-6: in half precision p would be 1
    ids, shares = strongest(logits, 1)
    back = spread(ids, shares.half(), 5).double().exp()
    exact = logits.double().softmax(dim=-1)
    assert back[0, 1:].sum().item() == pytest.approx(exact[0, 1:].sum().item(), rel=0.01)


@given(st.integers(2, 40), st.integers(1, 40), st.floats(0.1, 8), st.integers(0, 2**32))
def test_what_comes_back_is_a_distribution_with_the_same_leaders(vocabulary, k, scale, seed):
    k = min(k, vocabulary)
    logits = scale * torch.randn(4, vocabulary, generator=torch.Generator().manual_seed(seed))
    ids, shares = strongest(logits, k)
    back = spread(ids, shares.half(), vocabulary)
    exact = logits.log_softmax(dim=-1)
    assert_close(back.exp().sum(dim=-1), torch.ones(4))
    assert_close(back.gather(1, ids), exact.gather(1, ids), atol=2e-3, rtol=2e-3)
    assert_close(exact.gather(1, ids), exact.topk(k).values)
    others = back.scatter(1, ids, torch.nan)
    if k < vocabulary:
        assert_close(others.exp().nansum(dim=-1), 1 - exact.topk(k).values.exp().sum(dim=-1), atol=2e-3, rtol=0)


def test_a_text_s_batch_has_the_signals_of_its_pairs_in_any_order(corpora, texts):
    rows = [17, 3, 199, 0, 42]
    batch = texts[3].batch(rows).to("cpu")
    plain = corpora[0].batch(rows)
    assert torch.equal(batch.target, plain.target)
    assert torch.equal(batch.prefix, plain.prefix)
    logits = Runner(copy.deepcopy(toy_teacher()), frozen=True).forward(plain).logits
    ids, shares = strongest(logits, 3)
    assert batch.likeliest.shape == (plain.tokens, 3)
    assert torch.equal(batch.likeliest, ids)
    assert_close(batch.shares.float(), shares, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("vocabulary", [300, 70_000])
def test_any_vocabulary_s_ids_fit(tmp_path, vocabulary):
    writer = SignalsWriter(tmp_path, 2, vocabulary, 2)
    logits = torch.zeros(2, vocabulary)
    logits[:, -1], logits[:, 7] = 9.0, 8.0
    writer.write(np.array([1, 0]), logits)
    assert (
        writer.finish()
        == signals_bytes(2, vocabulary, 2)
        == sum(np.load(tmp_path / name).nbytes for name in ("ids.npy", "shares.npy"))
    )
    assert np.load(tmp_path / "ids.npy").tolist() == [[vocabulary - 1, 7]] * 2


# What can be wrong with the files.


@pytest.mark.parametrize("name", [signals.IDS_FILE, signals.SHARES_FILE])
@pytest.mark.parametrize("harm", ["missing", "cut", "empty", "no array"])
def test_damaged_signals_are_refused(corpora, tmp_path, name, harm):
    written(tmp_path / "made", corpora[0], 3)
    path = tmp_path / "made" / name
    content = path.read_bytes()
    path.unlink()
    if harm != "missing":
        path.write_bytes({"cut": content[:-10], "empty": b"", "no array": b"PK" + content}[harm])
    with pytest.raises(DataError, match="made holds no signals of a teacher"):
        TaughtText(corpora[0], tmp_path / "made")


def test_signals_of_another_text_are_refused(corpora, tmp_path):
    written(tmp_path / "made", corpora[0], 3)
    with pytest.raises(DataError, match="of another text"):
        TaughtText(corpora[1], tmp_path / "made")
    np.save(tmp_path / "made" / signals.IDS_FILE, np.zeros(4, dtype=np.uint16))
    with pytest.raises(DataError, match="no signals of a teacher"):
        TaughtText(corpora[0], tmp_path / "made")


def test_a_full_disk_refuses_them_in_a_sentence_and_gets_its_room_back(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"no room for the 0\.064 GB of .*ids\.npy: lower signals\.top_k, or let"):
        SignalsWriter(tmp_path, 1_000_000, 400, 32)
    assert list(tmp_path.iterdir()) == []


# What a method gets of them.


def test_all_tokens_kept_are_the_exact_distribution(texts):
    batch = texts[VOCABULARY].batch(range(30))
    exact = Runner(copy.deepcopy(toy_teacher()), frozen=True).forward(batch).logits.softmax(dim=-1)
    assert_close(cached().forward(batch).logits.softmax(dim=-1), exact, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["word_level", "tie_kd"])
def test_the_loss_comes_nearer_to_the_exact_one_with_more_tokens_kept(texts, name):
    toy = Toy.of(METHODS[name]({"top_k": 3} if name == "tie_kd" else {}))

    def terms(batch, teacher):
        step = toy.step(batch)
        with torch.no_grad():
            return toy.method.loss(replace(step, teacher=teacher))

    exact = terms(texts[3].batch(range(40)), toy.teacher)
    found = {k: terms(text.batch(range(40)), cached()) for k, text in texts.items()}
    off = {k: abs(float(each["kd"].value - exact["kd"].value)) for k, each in found.items()}
    assert off[1] > off[3] > off[8] > off[VOCABULARY]
    assert float(total(found[VOCABULARY])) == pytest.approx(float(total(exact)), rel=1e-3)
    if name == "tie_kd":  # what it ranks is all among what is kept
        for ranked in ("ranking_top_one", "ranking_top_k"):
            assert float(found[8][ranked].value) == pytest.approx(float(exact[ranked].value), rel=0.02)


def test_what_is_not_kept_is_the_teachers_own(texts):
    load = Loading()
    teacher, own = cached(load), Runner(copy.deepcopy(toy_teacher()), frozen=True)
    batch = texts[3].batch(range(8))
    asked = teacher.forward(batch)
    assert asked.logits.shape == asked.log_probabilities.shape == (batch.tokens, VOCABULARY)
    torch.testing.assert_close(asked.log_probabilities.exp().sum(dim=-1), torch.ones(batch.tokens), atol=2e-3, rtol=0)
    assert load.count == 0
    exact = own.forward(batch)
    assert torch.equal(asked.encoded.states, exact.encoded.states)
    assert torch.equal(asked.decoded.states, exact.decoded.states)
    other = batch.prefix.clone()
    other[:, 1] = 5
    again = teacher.forward(batch, prefix=other, encoded=asked.encoded)
    assert torch.equal(again.logits, own.forward(batch, prefix=other).logits)
    maps, exact = (each.forward(batch, attention=("self",)) for each in (teacher, own))
    assert torch.equal(maps.decoded.self_attention, exact.decoded.self_attention)
    assert torch.equal(maps.logits, exact.logits)
    assert len(teacher.forward(batch, hidden=True).decoded.hidden) == TEACHER.decoder_layers
    unknown = toy_batch()
    assert torch.equal(teacher.forward(unknown).logits, own.forward(unknown).logits)
    assert load.count == 1
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


# Training.


class StoppedError(Exception):
    """Stands for a kill in the middle of an update."""


def make(name, text, dev, folder, load, *, dropout=0.1, splits=1) -> Trainer:
    method = METHODS[name]()
    return Trainer(
        method,
        TRAINING,
        Toy.of(method, dropout=dropout).student.model,
        teacher=load,
        depths=[STUDENT.depth],
        texts=[text],
        dev=dev,
        seed=1,
        device=CPU,
        folder=folder,
        splits=splits,
    )


@pytest.mark.parametrize(("name", "loads"), [("word_level", 0), ("tie_kd", 1)])
def test_a_stopped_training_goes_on_and_ends_bit_identically(corpora, texts, tmp_path, monkeypatch, name, loads):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    load = Loading()
    whole = make(name, texts[8], corpora[1], tmp_path / "whole", load)
    report = whole.train()
    assert load.count == loads
    part = make(name, texts[8], corpora[1], tmp_path / "part", Loading())
    loss, calls = part.method.loss, []

    def stopping(step):
        calls.append(1)
        if len(calls) > report.updates // 2:
            raise StoppedError
        return loss(step)

    part.method.loss = stopping
    with pytest.raises(StoppedError):
        part.train()
    resumed = make(name, texts[8], corpora[1], tmp_path / "part", Loading())
    assert resumed.train().history == report.history
    for mine, others in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(mine, others)


def test_parts_of_a_micro_batch_have_their_own_signals(corpora, texts, tmp_path):
    histories = []
    for splits in (1, 3):
        made = make("word_level", texts[8], corpora[1], tmp_path / str(splits), Loading(), dropout=0.0, splits=splits)
        histories.append(made.train().history)
    whole, parts = histories
    assert parts[0]["train_kd"] == pytest.approx(whole[0]["train_kd"], rel=1e-3)


# A whole run.


def test_a_run_with_cached_signals_says_so_and_charges_them(corpus, tmp_path):
    wanted = micro.request(
        tmp_path, "word_level", corpus=corpus, settings={"signals.top_k": 6}, teacher_signals="cached"
    )
    outcome, _ = micro.run_here(wanted)
    assert not outcome.failures
    found = {record.method.name: record for record in micro.records(wanted.runs)}
    record = found["word_level"]
    assert record.recipe["signals"] == {"kind": "cached", "top_k": 6}
    assert "--teacher-signals cached" in record.command
    (artifact,) = [key for name, key in record.artifacts.items() if name.startswith("signals-")]
    (phase,) = [each for each in record.phases if each.name == "teacher signals"]
    assert (phase.kind, phase.artifact, phase.shared_by) == ("distillation", artifact, 1)
    assert phase.target_tokens > 200
    assert phase.flops > 0
    assert all(each.name != "teacher signals" for each in found["baseline"].phases)
    said = explain(wanted.runs, "word_level")
    assert "signals  cached, the teacher's 6 likeliest tokens" in said
    assert "cached, the" not in explain(wanted.runs, "baseline")
    kinds = {line.split()[0] for line in said.partition("Artifacts of")[2].splitlines()[1:]}
    assert kinds == {"tokenizer", "corpus", "teacher", "signals", "student", "scores"}


def test_a_student_whose_signals_were_damaged_fails_with_the_reason(corpus, tmp_path):
    wanted = micro.request(tmp_path, "word_level", corpus=corpus, teacher_signals="cached")
    prepared = resolve(wanted)
    (row,) = [row for row in prepared.plan.rows if row.method == "word_level"]
    for task in row.model.upstream[:-1]:
        made = carry_out(task, prepared.place)
    assert made.kind == "signals"
    (made.folder / signals.SHARES_FILE).write_bytes(b"")
    with pytest.raises(DataError, match="holds no signals of a teacher"):
        carry_out(row.model, prepared.place)
