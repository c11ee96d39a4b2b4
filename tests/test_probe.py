"""What a probe measures, by a clock of the test's own."""

import pytest
import torch

from bench import probe
from bench.config import ModelConfig, SearchConfig, TrainConfig
from bench.method import Method, Stage, Term
from bench.probe import Probe

SHAPE = ModelConfig(width=16, ffn=16, heads=2, encoder_layers=1, decoder_layers=1)
TRAINING = TrainConfig(target_tokens=1, batch_tokens=400, learning_rate=1e-3, warmup_updates=0)
TICK = 1e-3


class Clock:
    """A clock that goes on by a tick at each look, and by what is added."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += TICK
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(probe, "time", made)
    return made


def probe_of(seconds):
    return Probe(vocabulary=40, length=10.0, device=torch.device("cpu"), threads=1, seconds=seconds)


class TwoStages(Method):
    """Its second stage takes three times as long for a token as the first."""

    name = "two_stages"
    title = "Two stages"
    clock: Clock
    per_token: float

    def stages(self):
        return (Stage(share=0.75), Stage(share=0.25))

    def loss(self, step):
        self.seen.append(step.batch.tokens)
        self.clock.now += self.per_token * step.batch.tokens * (1, 3)[step.stage]
        return {"nll": Term(step.positions.cross_entropy(step.student.forward(step.batch).log_probabilities))}


def two_stages(clock, per_token):
    method = TwoStages()
    method.clock, method.per_token, method.seen = clock, per_token, []
    return method


def test_the_stages_of_a_method_count_by_their_share(clock):
    method = two_stages(clock, 1e-3)
    cost = probe_of(8.0).training(method, SHAPE, SHAPE, TRAINING)
    assert cost.token == pytest.approx(0.75 * 1e-3 + 0.25 * 3e-3, rel=0.02)
    assert max(method.seen) > 300  # whole micro-batches


def test_where_a_step_takes_long_a_small_one_must_do(clock):
    method = two_stages(clock, 1.0)
    cost = probe_of(8.0).training(method, SHAPE, SHAPE, TRAINING)
    assert cost.token == pytest.approx(1.5, rel=0.02)
    assert len(method.seen) == 3  # the first, and one step of each stage
    assert max(method.seen) <= probe.FIRST_TOKENS


@pytest.mark.parametrize(
    ("beam", "max_ratio", "steps"),
    [(1, 1.5, 10), (2, 1.5, 10 + probe.BEAM_EXTRA), (2, 9.0, 10 + probe.BEAM_EXTRA), (2, 1.0, 11)],
)
def test_decoding_is_timed_by_steps_as_many_as_a_search_makes(clock, monkeypatch, beam, max_ratio, steps):
    def translate_ids(model, sources, config, **_):
        # A batch: half a second for each sentence to encode, and a step of 0.1 s and 0.01 s for each sentence.
        clock.now += 0.5 * len(sources) + (0.1 + 0.01 * len(sources)) * config.max_length(len(sources[0]))
        return [[]] * len(sources)

    monkeypatch.setattr(probe, "translate_ids", translate_ids)
    monkeypatch.setattr(probe, "SPREAD", 0.0)  # all sentences have ten tokens
    search = SearchConfig(beam=beam, batch_sentences=8, max_ratio=max_ratio, max_extra=1)
    for sentences, rows in ((80, 8), (4, 4)):
        batch = rows * 0.5 + steps * (0.1 + 0.01 * rows)
        seconds = probe_of(100.0).decoding(SHAPE, search, sentences)
        assert seconds == pytest.approx(batch / (10 * rows), rel=0.02)
