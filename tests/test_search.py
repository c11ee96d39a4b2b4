"""Search against exhaustive enumeration and an uncached decoder, and what must not depend on the batch."""

from __future__ import annotations

import gc
import math
from functools import partial
from itertools import product
from typing import Any, NamedTuple, cast
from unittest.mock import patch
from weakref import ref

import pytest
import torch

from bench.config import Depth, ModelConfig, SearchConfig
from bench.errors import UsageError
from bench.nmt.batch import BOS, EOS, PAD, UNK
from bench.nmt.cache import Memory, Past
from bench.nmt.layers import Layer
from bench.nmt.model import Transformer
from bench.nmt.search import _largest, search, translate_ids
from bench.nmt.step import _multiplied

SOURCES = [[4, 5, EOS], [6, EOS], [5, 4, 6, 6, 5, EOS], [7, 7, 4, EOS], [EOS], [6, 5, EOS]]


def random_model(seed: int, vocabulary: int = 8, *, sharpness: float = 3.0, **shape: object) -> Transformer:
    """A small model whose random distributions are far from uniform."""
    torch.manual_seed(seed)
    settings = {"width": 16, "ffn": 32, "heads": 2, "encoder_layers": 2, "decoder_layers": 2, "tie": "none"}
    model = Transformer(ModelConfig.model_validate(settings | shape), vocabulary).eval()
    with torch.no_grad():
        output_matrix(model).mul_(sharpness)
    return model


def output_matrix(model: Transformer) -> torch.Tensor:
    assert model.output is not None
    return model.output.weight


def endless(model: Transformer) -> Transformer:
    """The model with an EOS that is always the least likely token."""
    with torch.no_grad():
        cast(Layer, model.decoder[-1]).feed_forward_norm.bias.fill_(1.0)
        output_matrix(model)[EOS] = -20.0
    return model


def padded(sources: list[list[int]], width: int = 0) -> torch.Tensor:
    width = max(width, *map(len, sources))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in sources])


def log_probabilities(model: Transformer, source: list[int], prefix: list[int]) -> list[float]:
    """Of the next token, from a full pass without a cache."""
    with torch.no_grad():
        states = model.decode(torch.tensor([[BOS, *prefix]]), model.encode(torch.tensor([source]))).states
        return model.project(states[0, -1]).log_softmax(-1).tolist()


def exhaustive(model: Transformer, source: list[int], config: SearchConfig) -> list[tuple[float, tuple[int, ...]]]:
    """Every hypothesis with its score, best first."""
    words = range(EOS + 1, model.vocabulary)
    scored = []
    for length in range(config.max_length(len(source))):
        for ids in product(words, repeat=length):
            steps = [*ids, EOS]
            total = sum(log_probabilities(model, source, list(ids[:i]))[step] for i, step in enumerate(steps))
            scored.append((total / len(steps) ** config.length_penalty, ids))
    return sorted(scored, reverse=True)


class Slow(NamedTuple):
    """What ``slow_beam`` finds."""

    finished: list[tuple[float, tuple[int, ...]]]
    """Scores and ids of all that ended, best first."""
    steps: int
    ahead: bool
    """Whether a hypothesis that had not ended was, so far, better than all that had."""

    def best(self, count: int) -> tuple[list[tuple[int, ...]], Any]:
        """Their ids, and their scores as what others are approximately equal to."""
        scores, ids = zip(*self.finished[:count], strict=True)
        return list(ids), pytest.approx(scores, abs=1e-4)


def slow_beam(model: Transformer, source: list[int], config: SearchConfig) -> Slow:
    """Beam search by plain lists, one sentence at a time, all prefixes recomputed at each step."""
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    finished: list[tuple[float, tuple[int, ...]]] = []
    limit, length = config.max_length(len(source)), 0
    while len(finished) < config.beam and length < limit:
        length += 1
        grown = []
        for total, ids in live:
            found = log_probabilities(model, source, list(ids))
            words = [EOS] if length == limit else range(EOS, model.vocabulary)
            grown += [(total + found[word], (*ids, word)) for word in words]
        grown = sorted(grown, reverse=True)[: 2 * config.beam]
        for total, ids in grown[: config.beam]:
            if ids[-1] == EOS:
                finished.append((total / length**config.length_penalty, ids[:-1]))
        live = [item for item in grown if item[1][-1] != EOS][: config.beam]
    finished.sort(reverse=True)
    return Slow(finished, length, any(total / length**config.length_penalty > finished[0][0] for total, _ in live))


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_beam_as_wide_as_the_space_finds_the_best_of_all(seed: int, length_penalty: float) -> None:
    model = random_model(seed, vocabulary=7)
    config = SearchConfig(beam=40, length_penalty=length_penalty, max_ratio=0.5, max_extra=3)
    source = [5, 4, EOS]
    assert config.max_length(len(source)) == 4
    expected = exhaustive(model, source, config)
    found = search(model, padded([source]), config, n_best=40)[0]
    assert [h.ids for h in found] == [ids for _, ids in expected[:40]]
    assert [h.score for h in found] == pytest.approx([score for score, _ in expected[:40]], abs=1e-5)


@pytest.mark.parametrize(("beam", "length_penalty"), [(2, 1.0), (3, 0.0), (4, 0.6), (5, 1.5)])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_beam_search_equals_a_slow_one_without_cache(beam: int, length_penalty: float, norm: str) -> None:
    model = random_model(beam, vocabulary=12, norm=norm)
    config = SearchConfig(beam=beam, length_penalty=length_penalty, max_ratio=1.0, max_extra=4)
    for source, found in zip(SOURCES, search(model, padded(SOURCES), config, n_best=beam), strict=True):
        ids, scores = slow_beam(model, source, config).best(beam)
        assert [h.ids for h in found] == ids
        assert [h.score for h in found] == scores


def test_beam_one_takes_the_likeliest_token_at_each_step() -> None:
    config = SearchConfig(beam=1, max_ratio=1.0, max_extra=6)
    ends = set()
    for model in (random_model(seed, vocabulary=12) for seed in range(12)):
        for source, (found,) in zip(SOURCES, search(model, padded(SOURCES), config), strict=True):
            ids: list[int] = []
            total = 0.0
            while True:
                step = log_probabilities(model, source, ids)
                full = len(ids) + 1 == config.max_length(len(source))
                word = EOS if full else max(range(EOS, 12), key=step.__getitem__)
                total += step[word]
                if word == EOS:
                    break
                ids.append(word)
            ends.add(full)
            assert found.ids == tuple(ids)
            assert found.log_probability == pytest.approx(total, abs=1e-4)
            assert found.score == pytest.approx(total / (len(ids) + 1), abs=1e-5)
    assert ends == {True, False}, "the models should both end by themselves and be cut off"


@pytest.mark.parametrize("beam", [1, 4])
def test_a_sentence_is_translated_the_same_in_any_batch(beam: int) -> None:
    model = random_model(7, vocabulary=20)
    config = SearchConfig(beam=beam, max_ratio=1.5, max_extra=5)
    together = search(model, padded(SOURCES, width=11), config, n_best=beam)
    for source, expected in zip(SOURCES, together, strict=True):
        alone = search(model, torch.tensor([source]), config, n_best=beam)[0]
        assert [h.ids for h in alone] == [h.ids for h in expected]
        assert [h.score for h in alone] == pytest.approx([h.score for h in expected], abs=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("beam", [1, 4])
def test_a_sentence_by_itself_is_translated_as_in_a_batch(beam: int, norm: str) -> None:
    model = random_model(7, vocabulary=20, norm=norm)
    together = SearchConfig(beam=beam, max_ratio=1.5, max_extra=5)
    expected = translate_ids(model, SOURCES, together, n_best=beam, device="cpu")
    one = together.model_copy(update={"batch_sentences": 1})
    with patch("bench.nmt.step._multiplied", side_effect=_multiplied) as multiplied:
        found = translate_ids(model, SOURCES, one, n_best=beam, device="cpu", alone=True)
    assert multiplied.call_count == len(SOURCES) * 2, "every source, for each layer"
    for alone, other in zip(found, expected, strict=True):
        assert [h.ids for h in alone] == [h.ids for h in other]
        assert [h.score for h in alone] == pytest.approx([h.score for h in other], abs=1e-5)


@pytest.mark.parametrize("beam", [1, 4])
def test_padding_of_a_sentence_by_itself_is_not_attended_to(beam: int) -> None:
    model, config = random_model(7, vocabulary=20), SearchConfig(beam=beam)
    bare, padding = (search(model, padded([[4, 5, EOS]], width), config, alone=True)[0][0] for width in (3, 6))
    assert padding.ids == bare.ids
    assert padding.score == pytest.approx(bare.score, abs=1e-5)


def test_a_sentence_left_over_from_batches_goes_through_the_sums_of_the_others() -> None:
    model = random_model(7, vocabulary=20)
    config = SearchConfig(beam=4, batch_sentences=5)
    assert len(SOURCES) == 6
    with patch("bench.nmt.step._multiplied") as multiplied:
        translate_ids(model, SOURCES, config, device="cpu")
    assert not multiplied.called


def test_searches_that_share_memory_find_what_they_find_alone() -> None:
    model = random_model(7, vocabulary=20)
    wide, narrow = SearchConfig(beam=4, max_ratio=1.5, max_extra=5), SearchConfig(beam=1)
    shallow = Depth(1, 1)
    cases = [(SOURCES[:1], narrow, None, True), (SOURCES, wide, None, False), (SOURCES[:1], wide, None, True)]
    cases += [
        ([SOURCES[-1] * 4], wide, shallow, False),
        (SOURCES * 3, wide, None, False),
        (SOURCES, narrow, None, False),
    ]
    memory = Memory(model.output_matrix)
    for sources, config, depth, alone in cases:
        run = partial(search, model, padded(sources, max(map(len, sources))), config, depth=depth, alone=alone)
        assert run(memory=memory) == run()
        with torch.inference_mode():  # what is left there must not matter
            memory.used.fill_(math.nan)
            memory.spare.fill_(math.nan)


def test_memory_is_of_one_past_at_a_time() -> None:
    model = random_model(7, vocabulary=20)
    with torch.inference_mode():
        encoded, memory = model.encode(padded(SOURCES, width=11)), Memory(model.output_matrix)
        older, newer = (model.start(encoded, memory=memory) for _ in range(2))
        first = torch.full((len(SOURCES), 1), BOS)
        model.step(first, newer)
        with pytest.raises(RuntimeError, match="newer"):
            model.step(first, older)


def test_memory_is_free_as_soon_as_nobody_holds_it() -> None:
    model = random_model(7, vocabulary=20)
    with torch.inference_mode():
        decoding = model.start(model.encode(padded(SOURCES, width=11)))
        model.step(torch.full((len(SOURCES), 1), BOS), decoding)
        buffer = ref(decoding.past._memory.used)
        gc.disable()
        try:
            del decoding
            assert buffer() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("beam", [1, 4])
def test_batches_go_on_in_the_memory_of_the_first(beam: int) -> None:
    model, config = (
        random_model(7, vocabulary=20),
        SearchConfig(beam=beam, batch_sentences=2, max_ratio=1.0, max_extra=3),
    )
    memories, left = [], []

    def noted(past: Past, like: torch.Tensor, **rest: Any) -> None:
        start(past, like, **rest)
        memories.append(past._memory)
        left.append((past._memory.used, past._memory.spare))

    start = Past.__init__
    with patch.object(Past, "__init__", noted):
        translate_ids(model, SOURCES, config, device="cpu")
    assert len(memories) == 3
    assert len(set(map(id, memories))) == 1
    second, last = left[1], (memories[0].used, memories[0].spare)
    assert {id(buffer) for buffer in second} == {id(buffer) for buffer in last}, "the later and shorter ones fit"


def test_translate_ids_restores_the_order_and_counts_the_sentences_done() -> None:
    model = random_model(8, vocabulary=20)
    config = SearchConfig(beam=3, batch_sentences=4, max_extra=4)
    done: list[int] = []
    found = translate_ids(model, SOURCES, config, n_best=2, device="cpu", progress=done.append)
    assert done == [4, 6]
    for source, hypotheses in zip(SOURCES, found, strict=True):
        alone = search(model, torch.tensor([source]), config, n_best=2)[0]
        assert [h.ids for h in hypotheses] == [h.ids for h in alone]
    assert translate_ids(model, [], config, device="cpu") == []


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_a_search_stops_at_as_many_finished_hypotheses_as_the_beam_is_wide(length_penalty: float) -> None:
    config = SearchConfig(beam=5, length_penalty=length_penalty, max_ratio=1.0, max_extra=10)
    early = ahead = more = sooner = 0
    for model in (random_model(seed) for seed in range(4)):
        for source in SOURCES:
            slow = slow_beam(model, source, config)
            with patch.object(model, "step", wraps=model.step) as step:
                (found,) = search(model, padded([source]), config, n_best=5)
            ids, scores = slow.best(5)
            assert [h.ids for h in found] == ids
            assert [h.score for h in found] == scores
            assert step.call_count == slow.steps
            with patch.object(model, "step", wraps=model.step) as step:
                assert search(model, padded([source]), config) == [found[:1]]
            assert step.call_count <= slow.steps
            early += slow.steps < config.max_length(len(source))
            ahead += slow.ahead
            more += len(slow.finished) > 5
            sooner += step.call_count < slow.steps
    assert 0 < early < 24
    assert ahead > 0 or length_penalty == 0, "a better one that is still to come is not waited for"
    assert more > 0
    assert sooner > 0, "what cannot become the best is not waited for"


def test_a_sentence_at_its_limit_leaves_the_batch_however_few_have_finished() -> None:
    model, config = random_model(0), SearchConfig(beam=3, max_ratio=0.5, max_extra=1)
    sources = [[EOS], [4, 5, 6, 7, 5, EOS]]
    assert [config.max_length(len(source)) for source in sources] == [1, 4]
    with patch.object(model, "step", wraps=model.step) as step:
        found = search(model, padded(sources), config, n_best=3)
    assert [len(call.args[0]) for call in step.call_args_list][:2] == [2, 1]
    assert [len(hypotheses) for hypotheses in found] == [1, 3]


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_fewer_hypotheses_are_the_first_of_more(length_penalty: float) -> None:
    config = SearchConfig(beam=5, length_penalty=length_penalty, max_ratio=3.0, max_extra=20)
    for model in (random_model(seed, vocabulary=30, sharpness=2.0) for seed in range(4)):
        one, two, five = (search(model, padded(SOURCES), config, n_best=n_best) for n_best in (1, 2, 5))
        assert one == [hypotheses[:1] for hypotheses in five]
        assert two == [hypotheses[:2] for hypotheses in five]


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("vocabulary", [96, 70])
def test_continuations_found_block_by_block_are_the_same(
    beam: int, vocabulary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    step, live = torch.randn(6, beam, vocabulary).log_softmax(-1), torch.randn(6, beam)
    step[:, :, :EOS] = -math.inf
    live[0, 1:] = -math.inf
    expected = _largest(step, live, beam)
    monkeypatch.setattr("bench.nmt.search.LARGE", 0)
    found = _largest(step, live, beam)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    scores, parents, tokens = found
    totals = (step + live.unsqueeze(2)).flatten(1).sort(dim=1, descending=True).values[:, :beam]
    torch.testing.assert_close(scores, totals)
    torch.testing.assert_close(step[torch.arange(6)[:, None], parents, tokens] + live.gather(1, parents), scores)


@pytest.mark.parametrize("beam", [2, 5])
def test_a_search_block_by_block_equals_a_slow_one(beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.nmt.search.LARGE", 0)
    # The last block is not full, and at the limit there is but one token left.
    model, config = random_model(beam, vocabulary=200), SearchConfig(beam=beam, max_ratio=1.0, max_extra=4)
    for source, found in zip(SOURCES, search(model, padded(SOURCES), config, n_best=beam), strict=True):
        ids, scores = slow_beam(model, source, config).best(beam)
        assert [h.ids for h in found] == ids
        assert [h.score for h in found] == scores


@pytest.mark.parametrize("beam", [1, 4])
def test_translate_ids_sees_weights_that_changed_since_its_last_call(beam: int) -> None:
    model = random_model(14, vocabulary=20)
    config = SearchConfig(beam=beam, max_extra=4)
    before = translate_ids(model, SOURCES, config, device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    after = translate_ids(model, SOURCES, config, device="cpu")
    assert before != after
    expected = search(model, padded(SOURCES), config)
    assert [h.ids for (h,) in after] == [h.ids for (h,) in expected]


def test_n_best_is_sorted_distinct_and_clean() -> None:
    model = random_model(9, vocabulary=30, sharpness=1.0)
    config = SearchConfig(beam=6, max_extra=6)
    for source, found in zip(SOURCES, search(model, padded(SOURCES), config, n_best=6), strict=True):
        assert len(found) == 6
        assert len({h.ids for h in found}) == 6
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for hypothesis in found:
            assert not {PAD, UNK, BOS, EOS} & set(hypothesis.ids)
            assert len(hypothesis.ids) + 1 <= config.max_length(len(source))
            length = len(hypothesis.ids) + 1
            assert hypothesis.score == pytest.approx(hypothesis.log_probability / length)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_model_that_never_ends_is_cut_off_at_its_own_limit(beam: int) -> None:
    model = endless(random_model(10, vocabulary=12))
    config = SearchConfig(beam=beam, max_ratio=2.0, max_extra=3)
    for source, found in zip(SOURCES, search(model, padded(SOURCES), config), strict=True):
        assert len(found[0].ids) + 1 == config.max_length(len(source))


def test_the_limit_never_exceeds_the_models_positions() -> None:
    model = endless(random_model(10, vocabulary=12, max_positions=9))
    config = SearchConfig(beam=3, max_ratio=5.0)
    assert all(len(h.ids) + 1 == 9 for found in search(model, padded(SOURCES), config, n_best=3) for h in found)


@pytest.mark.parametrize("beam", [1, 3])
def test_depth_searches_with_the_first_layers(beam: int) -> None:
    model = random_model(11, vocabulary=20)
    config = SearchConfig(beam=beam, max_extra=5)
    shallow = search(model.truncated(Depth(1, 1)), padded(SOURCES), config)
    assert search(model, padded(SOURCES), config, depth=Depth(1, 1)) == shallow
    assert search(model, padded(SOURCES), config) != shallow


@pytest.mark.parametrize("training", [True, False])
def test_search_uses_no_dropout_and_gives_the_mode_back(training: bool) -> None:
    model = random_model(12, vocabulary=20, dropout=0.5).train(training)
    config = SearchConfig(beam=2, max_extra=5)
    assert search(model, padded(SOURCES), config) == search(model, padded(SOURCES), config)
    assert model.training is training


def test_equal_scores_are_ranked_alike_every_time() -> None:
    model = random_model(13, vocabulary=12)
    with torch.no_grad():
        output_matrix(model).zero_()
    config = SearchConfig(beam=4, length_penalty=0.0, max_extra=3)
    first = search(model, padded(SOURCES), config, n_best=4)
    assert search(model, padded(SOURCES), config, n_best=4) == first
    assert first[0][0].ids == ()
    assert first[0][0].score == pytest.approx(-math.log(12))


@pytest.mark.parametrize("n_best", [0, 4])
def test_n_best_beyond_the_beam_is_refused(n_best: int) -> None:
    with pytest.raises(UsageError, match="n_best must lie between 1 and the beam"):
        search(random_model(0), padded(SOURCES), SearchConfig(beam=3), n_best=n_best)


@pytest.mark.parametrize("beam", [1, 3])
def test_an_end_that_cannot_come_is_reported(beam: int) -> None:
    model = random_model(0)
    unending = torch.zeros(model.vocabulary).index_fill(0, torch.tensor(EOS), -math.inf)
    step = model.step
    endless = patch.object(model, "step", lambda *given: step(*given) + unending)
    with endless, pytest.raises(FloatingPointError, match="not finite"):
        search(model, padded(SOURCES), SearchConfig(beam=beam, max_extra=2))


@pytest.mark.parametrize("beam", [1, 3])
def test_a_diverged_model_is_reported(beam: int) -> None:
    model = random_model(0)
    with torch.no_grad():
        output_matrix(model).fill_(math.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        search(model, padded(SOURCES), SearchConfig(beam=beam, max_extra=2))
