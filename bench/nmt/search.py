"""Greedy and beam search, in batches that shrink as sentences finish."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bench.config import Depth, SearchConfig
from bench.errors import UsageError
from bench.nmt.batch import BOS, EOS, PAD
from bench.nmt.model import Encoded, Transformer


@dataclass(frozen=True)
class Hypothesis:
    """A translation that the search finished."""

    ids: tuple[int, ...]
    """Target ids without EOS."""
    score: float
    """``log_probability / length ** length_penalty``; the length counts the EOS."""
    log_probability: float
    """Natural logarithm, EOS included."""


def search(
    model: Transformer, source: Tensor, config: SearchConfig, *, n_best: int = 1, depth: Depth | None = None
) -> list[list[Hypothesis]]:
    """Translate (batch, source) ids, padded on the right; each sentence's hypotheses come best first.

    A hypothesis has at most ``config.max_length`` tokens of its own sentence (and ``max_positions`` of the model), the
    EOS included, which is forced at the end. PAD, UNK and BOS are never generated. A beam of 1 takes the likeliest
    token at every step. A wider beam goes on until no live hypothesis can still beat the ``beam`` best finished ones.
    Where the vocabulary is tiny there may be fewer than ``n_best`` hypotheses.

    Raises:
        UsageError: ``n_best`` is larger than the beam.
        FloatingPointError: the model's scores are not numbers.
    """
    if not 1 <= n_best <= config.beam:
        raise UsageError(f"n_best must lie between 1 and the beam ({config.beam}), got {n_best}.")
    with _inference(model):
        encoded = model.encode(source, depth=depth)
        limits = [
            min(config.max_length(length), model.config.max_positions) for length in encoded.mask.sum(dim=1).tolist()
        ]
        if config.beam == 1:
            found = _greedy(model, encoded, limits, config, depth)
        else:
            found = _beam(model, encoded, limits, config, depth)
    if not all(hypotheses and math.isfinite(hypotheses[0].score) for hypotheses in found):
        raise FloatingPointError("the model's scores are not finite: its training has diverged")
    return [hypotheses[:n_best] for hypotheses in found]


def translate_ids(
    model: Transformer,
    sources: list[list[int]],
    config: SearchConfig,
    *,
    n_best: int = 1,
    device: torch.device | str,
    depth: Depth | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[list[Hypothesis]]:
    """Translate lists of ids, each ending with EOS, in batches of similar length; the answer is in input order.

    Args:
        device: where the model is.
        depth: use the first layers only.
        progress: called after each batch with the number of sentences done so far.
    """
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]), reverse=True)
    found: dict[int, list[Hypothesis]] = {}
    for start in range(0, len(order), config.batch_sentences):
        chosen = order[start : start + config.batch_sentences]
        rows = [torch.tensor(sources[i]) for i in chosen]
        source = pad_sequence(rows, batch_first=True, padding_value=PAD).to(device)
        found.update(zip(chosen, search(model, source, config, n_best=n_best, depth=depth), strict=True))
        if progress:
            progress(len(found))
    return [found[i] for i in range(len(sources))]


def _greedy(
    model: Transformer, encoded: Encoded, limits: list[int], config: SearchConfig, depth: Depth | None
) -> list[list[Hypothesis]]:
    cache = model.start(encoded, depth=depth)
    device = encoded.mask.device
    active = torch.arange(len(limits), device=device)
    limit = torch.tensor(limits, device=device)
    newest = torch.full((len(limits), 1), BOS, device=device)
    words = torch.full((len(limits), max(limits)), EOS, device=device)
    log_probability = torch.zeros(len(limits), device=device)
    for position in range(max(limits)):
        logits = model.project(model.decode(newest, encoded, cache=cache).states).squeeze(1).float()
        total = logits.logsumexp(dim=-1)
        _forbid(logits)
        word = logits.argmax(dim=-1).masked_fill_(limit == position + 1, EOS)
        log_probability[active] += logits.gather(1, word.unsqueeze(1)).squeeze(1) - total
        words[active, position] = word
        going = word.ne(EOS).nonzero().squeeze(1)
        if len(going) == 0:
            break
        if len(going) < len(active):
            active, limit, word, encoded = active[going], limit[going], word[going], encoded.select(going)
            cache.select(going)
        newest = word.unsqueeze(1)
    rows = [row[: row.index(EOS)] for row in words.tolist()]
    return [[_hypothesis(row, p, config)] for row, p in zip(rows, log_probability.tolist(), strict=True)]


def _beam(
    model: Transformer, encoded: Encoded, limits: list[int], config: SearchConfig, depth: Depth | None
) -> list[list[Hypothesis]]:
    beam, device = config.beam, encoded.mask.device
    cache = model.start(encoded, beams=beam, depth=depth)
    finished: list[list[Hypothesis]] = [[] for _ in limits]
    active = list(range(len(limits)))
    words = torch.full((len(limits), beam, 1), BOS, device=device)
    live = torch.full((len(limits), beam), -math.inf, device=device)
    live[:, 0] = 0.0  # the beams start as one: only the first counts
    for length in count(1):
        logits = model.project(model.decode(words[:, :, -1], encoded, cache=cache).states).float()
        last = [row for row, sentence in enumerate(active) if limits[sentence] == length]
        scores, parents, newest = _candidates(logits, live, last)

        ended = newest.eq(EOS)
        rows, ranks = (ended[:, :beam] & (scores[:, :beam] > -math.inf)).nonzero(as_tuple=True)
        found = words[rows, parents[rows, ranks], 1:].tolist()
        for row, ids, log_probability in zip(rows.tolist(), found, scores[rows, ranks].tolist(), strict=True):
            kept = finished[active[row]]
            insort(kept, _hypothesis(ids, log_probability, config), key=lambda known: -known.score)
            del kept[beam:]

        order = ended.to(torch.int8).argsort(dim=1, stable=True)[:, :beam]
        live = scores.masked_fill(ended, -math.inf).gather(1, order)
        parents, newest = parents.gather(1, order), newest.gather(1, order)
        words = torch.cat((words.gather(1, parents.unsqueeze(2).expand_as(words)), newest.unsqueeze(2)), dim=2)
        cache.move(parents)

        going = [
            row
            for row, (sentence, best) in enumerate(zip(active, live[:, 0].tolist(), strict=True))
            if _can_improve(best, finished[sentence], limits[sentence], config)
        ]
        if not going:
            break
        if len(going) < len(active):
            keep = torch.tensor(going, device=device)
            active, words, live, encoded = [active[row] for row in going], words[keep], live[keep], encoded.select(keep)
            cache.select(keep)
    return finished


def _candidates(logits: Tensor, live: Tensor, last: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The 2 * beam best continuations, which hold at least ``beam`` that are not EOS.

    Args:
        logits: (batch, beam, vocabulary), overwritten.
        live: (batch, beam) log-probabilities so far.
        last: the rows that must end now.

    Returns:
        Log-probabilities, parent beams and tokens, each (batch, candidates), best first; equal ones by beam and token.
    """
    beam = live.size(1)
    total = logits.logsumexp(dim=-1, keepdim=True)
    _forbid(logits)
    if last:
        logits[last, :, EOS + 1 :] = -math.inf
    top, word = logits.topk(min(2 * beam, logits.size(-1) - EOS), dim=-1)
    word, by_word = word.sort(dim=-1)
    scores = (live.unsqueeze(2) + (top.gather(2, by_word) - total)).flatten(1)
    scores, best = scores.sort(dim=1, descending=True, stable=True)
    scores, best = scores[:, : 2 * beam], best[:, : 2 * beam]
    return scores, best // word.size(2), word.flatten(1).gather(1, best)


def _can_improve(best: float, finished: list[Hypothesis], limit: int, config: SearchConfig) -> bool:
    """Whether a live hypothesis of log-probability ``best`` might enter the finished ones: at most it ends for free."""
    if best == -math.inf or len(finished) < config.beam:
        return best > -math.inf
    return best / limit**config.length_penalty > finished[-1].score


def _forbid(logits: Tensor) -> None:
    logits[..., :EOS] = -math.inf  # PAD, UNK and BOS


def _hypothesis(ids: list[int], log_probability: float, config: SearchConfig) -> Hypothesis:
    score = log_probability / (len(ids) + 1) ** config.length_penalty
    return Hypothesis(tuple(ids), score, log_probability)


@contextmanager
def _inference(model: Transformer) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
