"""One update: micro-batches and their parts make the same one, and what is not finite stops it."""

import math

import pytest
import torch
from trainings import CONFIG, METHODS, StoppedError, make, same, weights

from bench.method import Method, Term
from bench.train import trainer
from bench.train.trainer import TrainingError, derived_seed


def test_accumulated_micro_batches_make_the_same_update_as_one_batch(corpora, tmp_path):
    tokens = int(corpora[0].lengths.max(axis=1).sum()) * 3
    # A large epsilon, as Adam would make a full step of the rounding in a gradient that should be zero.
    single = {"batch_tokens": tokens, "target_tokens": 1, "evaluations": 1, "clip_norm": 0.0, "epsilon": 0.1}
    one = CONFIG.model_copy(update=single)
    many = one.model_copy(update={"batch_tokens": 128, "accumulation": 10_000})
    made = [make(corpora, tmp_path / str(i), config=config, dropout=0.0) for i, config in enumerate((one, many))]
    reports = [each.train() for each in made]
    assert [report.updates for report in reports] == [1, 1]
    assert [report.target_tokens for report in reports] == [corpora[0].target_tokens] * 2
    for name, tensor in weights(made[0]).items():
        torch.testing.assert_close(weights(made[1])[name], tensor, rtol=1e-4, atol=1e-6)


PER_TOKEN = {
    "a2d": {"beta": 0.0, "mask_pads": True},
    # Whom a truncation learns from is otherwise decided batch by batch.
    "aio_kd": {"eta": 1e9, "mutual": "full"},
}
"""Settings with which a method's loss is a sum over tokens."""


@pytest.mark.parametrize("splits", [3, 1000])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_split_micro_batch_makes_the_same_update(corpora, tmp_path, name, splits):
    config = CONFIG.model_copy(update={"target_tokens": 600, "accumulation": 2, "epsilon": 1e-3})
    reports, seen = [], []
    for number in (1, splits):
        method = METHODS[name](PER_TOKEN.get(name))
        made = make(corpora, tmp_path / str(number), config=config, method=method, dropout=0.0, splits=number)
        loss, batches = method.loss, []
        method.loss = lambda step, loss=loss, batches=batches: batches.append((step.update, step.batch)) or loss(step)
        reports.append(made.train())
        seen.append([sorted(pairs(batches, update)) for update in range(1, reports[-1].updates + 1)])
        assert reports[-1].splits == number
    assert seen[0] == seen[1]
    assert len(batches) >= 2 * splits or max(len(batch.source) for _, batch in batches) == 1
    whole, parts = reports
    assert parts.padding_share < whole.padding_share
    assert len(whole.history) == len(parts.history)
    for ours, theirs in zip(whole.history, parts.history):
        assert theirs == pytest.approx(ours, rel=1e-4)


def pairs(batches, update):
    """The pairs that an update saw, without their padding."""
    rows = [row for number, batch in batches if number == update for row in zip(batch.source, batch.target)]
    return [tuple(tuple(side[side.ne(0)].tolist()) for side in row) for row in rows]


def test_the_parts_of_a_micro_batch_share_the_methods_draws_but_not_dropout(corpora, tmp_path):
    config = CONFIG.model_copy(update={"target_tokens": 100, "evaluations": 1})
    made = make(corpora, tmp_path, config=config, splits=3)
    loss, draws, seeds = made.method.loss, {}, []

    def watched(step):
        draws.setdefault(step.update, set()).add(step.random.random())
        seeds.append(torch.initial_seed())
        return loss(step)

    made.method.loss = watched
    report = made.train()
    assert [len(drawn) for drawn in draws.values()] == [1] * report.updates
    assert len(set(seeds)) == len(seeds) > 2 * report.updates


class Faulty(Method):
    name = "faulty"
    title = "A loss that breaks"
    value = math.nan

    def loss(self, step):
        good = step.positions.cross_entropy(step.student.forward(step.batch).log_probabilities)
        return {"nll": Term(good), "kd": Term(good * self.value if step.update == 3 else good)}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_names_the_term(corpora, tmp_path, value):
    method = Faulty()
    method.value = value
    with pytest.raises(TrainingError, match="loss is not finite at update 3: kd") as error:
        make(corpora, tmp_path, method=method).train()
    assert error.value.state == "not finite"


class Vertical(Method):
    name = "vertical"
    title = "A finite loss with an infinite gradient"

    def loss(self, step):
        loss = step.positions.cross_entropy(step.student.forward(step.batch).log_probabilities)
        return {"nll": Term((loss - loss.detach()).abs().sqrt() + 1)}


def test_a_gradient_that_is_not_finite_stops(corpora, tmp_path):
    with pytest.raises(TrainingError, match="gradient is not finite at update 1"):
        make(corpora, tmp_path, method=Vertical()).train()


def test_fp16_goes_on_with_its_scale(corpora, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    config = CONFIG.model_copy(update={"precision": "fp16", "target_tokens": 1200})

    def scaled(folder):
        made = make(corpora, folder, config=config)
        made.scaler.set_growth_interval(4)  # so that the scale moves within a short training
        return made

    whole = scaled(tmp_path / "whole")
    whole.train()
    part = scaled(tmp_path / "part")
    loss, calls = part.method.loss, []

    def stopping(step):
        calls.append(1)
        if len(calls) > 10:
            raise StoppedError
        return loss(step)

    part.method.loss = stopping
    with pytest.raises(StoppedError):
        part.train()
    resumed = scaled(tmp_path / "part")
    resumed.train()
    assert resumed.scaler.get_scale() == whole.scaler.get_scale() != 65536.0
    assert same(weights(whole), weights(resumed))


def test_an_fp16_gradient_that_never_fits_stops(corpora, tmp_path):
    made = make(corpora, tmp_path, config=CONFIG.model_copy(update={"precision": "fp16"}), method=Vertical())
    with pytest.raises(TrainingError, match="not finite at any fp16 scale"):
        made.train()


def test_derived_seeds_differ_by_every_part():
    seeds = {derived_seed(1, "a", 2), derived_seed(1, "a", 3), derived_seed(2, "a", 2), derived_seed(1, "b", 2)}
    assert len(seeds) == 4
    assert derived_seed(1, "a", 2) == derived_seed(1, "a", 2)
    assert all(0 <= seed < 2**63 for seed in seeds)
