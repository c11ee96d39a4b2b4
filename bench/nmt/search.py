"""Greedy and beam search, in batches that shrink as sentences finish."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bench.config import Depth, SearchConfig
from bench.errors import UsageError
from bench.nmt.batch import BOS, EOS, PAD
from bench.nmt.cache import Memory
from bench.nmt.linear import packed
from bench.nmt.model import Transformer
from bench.nmt.step import Decoding

BLOCK = 32
"""Tokens whose maximum is taken first."""
LARGE = 2**13
"""Log-probabilities from which that pays: of a trained model's 20,000 (beam 5, vocabulary 4,000) ``topk`` takes ten
times as long as of random ones."""


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
    model: Transformer,
    source: Tensor,
    config: SearchConfig,
    *,
    n_best: int = 1,
    depth: Depth | None = None,
    alone: bool = False,
    memory: Memory | None = None,
) -> list[list[Hypothesis]]:
    """Translate (batch, source) ids, padded on the right; each sentence's hypotheses come best first.

    A hypothesis has at most ``config.max_length`` tokens of its own sentence (and ``max_positions`` of the model), the
    EOS included, which is forced at the end. PAD, UNK and BOS are never generated. A beam of 1 takes the likeliest
    token at every step. A wider beam stops as fairseq (Ott et al. 2019) and CTranslate2 (Klein et al. 2020) do: after
    the step at which as many hypotheses have finished as the beam is wide, though a live one might still have become
    the best. All that finish in this step count, as in CTranslate2; fairseq counts the first ``beam``. Where no live
    hypothesis could become one of the ``n_best`` best, the search stops earlier, with the same answer. Where the
    vocabulary is tiny, or the limit, there may be fewer than ``n_best``.

    Args:
        alone: a batch of one sentence may go through sums that are faster there and differ in their last digits. By
            default it does not, so that a sentence's words do not depend on how many others there are.
        memory: for the decoder's past, where one search after another goes on using it.

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
        decoding = model.start(encoded, depth=depth, alone=alone, memory=memory)
        if config.beam == 1:
            found = _greedy(model, decoding, limits, config)
        else:
            found = _beam(model, decoding, limits, config, n_best)
    if not all(hypotheses and math.isfinite(hypotheses[0].score) for hypotheses in found):
        raise FloatingPointError("the model's scores are not finite: its training has diverged")
    return found


def translate_ids(
    model: Transformer,
    sources: list[list[int]],
    config: SearchConfig,
    *,
    n_best: int = 1,
    device: torch.device | str,
    depth: Depth | None = None,
    alone: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[list[Hypothesis]]:
    """Translate lists of ids, each ending with EOS, in batches of similar length; the answer is in input order.

    Args:
        device: where the model is.
        depth: use the first layers only.
        alone: as for ``search``.
        progress: called after each batch with the number of sentences done so far.
    """
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]), reverse=True)
    found: dict[int, list[Hypothesis]] = {}
    memory = Memory(model.output_matrix)
    with packed(model.matrices()):
        for start in range(0, len(order), config.batch_sentences):
            chosen = order[start : start + config.batch_sentences]
            rows = [torch.tensor(sources[i]) for i in chosen]
            source = pad_sequence(rows, batch_first=True, padding_value=PAD).to(device)
            best = search(model, source, config, n_best=n_best, depth=depth, alone=alone, memory=memory)
            found.update(zip(chosen, best, strict=True))
            if progress:
                progress(len(found))
    return [found[i] for i in range(len(sources))]


def _greedy(model: Transformer, decoding: Decoding, limits: list[int], config: SearchConfig) -> list[list[Hypothesis]]:
    device = model.output_matrix.device
    found = torch.full((len(limits), 1, max(limits)), EOS, device=device)
    log_probability = torch.full((len(limits), 1), -math.inf, device=device)
    active = torch.arange(len(limits), device=device)
    limit, newest = torch.tensor(limits, device=device), torch.full_like(active, BOS).unsqueeze(1)
    words, total = torch.full_like(found, EOS), torch.zeros_like(log_probability)
    for length in range(1, max(limits) + 1):
        step = _log_probabilities(model, newest, decoding, last=limit == length if length in limits else None)
        best, newest = step.squeeze(1).max(dim=1, keepdim=True)
        total += best
        words[:, :, length - 1] = newest
        ended = (newest.squeeze(1) == EOS).nonzero().squeeze(1)
        if len(ended) == 0:
            continue
        found[active[ended]], log_probability[active[ended]] = words[ended], total[ended]
        if len(ended) == len(active):
            break
        going = (newest.squeeze(1) != EOS).nonzero().squeeze(1)
        kept = (active, limit, newest, words, total)
        active, limit, newest, words, total = (tensor[going] for tensor in kept)
        decoding.select(going)
    return _hypotheses(found, log_probability, config)


def _beam(
    model: Transformer, decoding: Decoding, limits: list[int], config: SearchConfig, n_best: int
) -> list[list[Hypothesis]]:
    beam, device = config.beam, model.output_matrix.device
    finished = _Finished(len(limits), n_best, max(limits), device)
    active = torch.arange(len(limits), device=device)
    limit = torch.tensor(limits, device=device)
    normalizer = limit.double() ** config.length_penalty
    newest = torch.full((len(limits), 1), BOS, device=device)
    words = torch.full((len(limits), 1, max(limits)), EOS, device=device)
    live = torch.zeros(len(limits), 1, device=device)
    for length in range(1, max(limits) + 1):
        step = _log_probabilities(model, newest, decoding, last=limit == length if length in limits else None)
        scores, parents, newest = _largest(step, live, 2 * beam)  # at least ``beam`` of them do not end
        ended = newest == EOS
        if bool(ended.any()):
            ending = torch.where(ended & (scores > -math.inf), scores, -math.inf)[:, :beam]
            finished.add(active, words, parents[:, :beam], ending, length**config.length_penalty)
            order = ended.to(torch.int8).argsort(dim=1, stable=True)
            scores = scores.masked_fill(ended, -math.inf).gather(1, order)
            parents, newest = parents.gather(1, order), newest.gather(1, order)
        live, parents, newest = scores[:, :beam], parents[:, :beam], newest[:, :beam]
        words = words.gather(1, parents.unsqueeze(2).expand(-1, -1, words.size(2)))
        words[:, :, length - 1] = newest
        decoding.past.move(parents)

        # At best the likeliest one ends at its limit for free. At the limit none is alive, however few have finished.
        able = live[:, 0].double() / normalizer > finished.scores[active, -1]
        going = (able & (finished.count[active] < beam)).nonzero().squeeze(1)
        if len(going) == 0:
            break
        if len(going) < len(active):
            kept = (active, limit, normalizer, words, live, newest)
            active, limit, normalizer, words, live, newest = (tensor[going] for tensor in kept)
            decoding.select(going)
    return _hypotheses(finished.words, finished.log_probability, config)


class _Finished:
    """The best finished hypotheses of each sentence, best first; equal ones in the order in which they ended."""

    def __init__(self, sentences: int, n_best: int, longest: int, device: torch.device) -> None:
        self.log_probability = torch.full((sentences, n_best), -math.inf, device=device)
        self.scores = self.log_probability.double()
        self.words = torch.full((sentences, n_best, longest), EOS, device=device)
        self.count = torch.zeros(sentences, dtype=torch.long, device=device)
        """All that have finished, the best or not."""

    def add(
        self, sentences: Tensor, words: Tensor, parents: Tensor, log_probability: Tensor, normalizer: float
    ) -> None:
        """Let hypotheses in.

        Args:
            sentences: (batch,).
            words: (batch, beams, longest) of the live hypotheses.
            parents: (batch, candidates): the beams that end.
            log_probability: (batch, candidates), EOS included; minus infinity where none ends.
            normalizer: divides log-probabilities to scores.
        """
        self.count[sentences] += (log_probability > -math.inf).sum(dim=1)
        scores = torch.cat((self.scores[sentences], log_probability.double() / normalizer), dim=1)
        scores, kept = scores.sort(dim=1, descending=True, stable=True)
        kept = kept[:, : self.scores.size(1)]
        self.scores[sentences] = scores[:, : self.scores.size(1)]
        self.log_probability[sentences] = torch.cat((self.log_probability[sentences], log_probability), 1).gather(
            1, kept
        )
        ended = words.gather(1, parents.unsqueeze(2).expand(-1, -1, words.size(2)))
        known = torch.cat((self.words[sentences], ended), dim=1)
        self.words[sentences] = known.gather(1, kept.unsqueeze(2).expand(-1, -1, words.size(2)))


def _log_probabilities(model: Transformer, newest: Tensor, decoding: Decoding, last: Tensor | None) -> Tensor:
    """Of each hypothesis's next token: (batch, beams, vocabulary); minus infinity for what must not come.

    Args:
        newest: (batch, beams).
        last: (batch,) bool, true where only EOS may come; None if that is nowhere.
    """
    found = model.step(newest, decoding).float().log_softmax(dim=-1)
    found[..., :EOS] = -math.inf  # PAD, UNK and BOS
    if last is not None:
        found[..., EOS + 1 :].masked_fill_(last[:, None, None], -math.inf)
    return found


def _largest(step: Tensor, live: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations.

    On a CPU ``topk`` is slow over a vocabulary. The largest values lie in the blocks of the largest maxima, and maxima
    are found ten times as fast.

    Args:
        step: (batch, beams, vocabulary) log-probabilities of the next token.
        live: (batch, beams) log-probabilities so far.
        count: how many; there are fewer where there are no more.

    Returns:
        Log-probabilities, parent beams and tokens, each (batch, count), best first; equal ones by beam and token. Which
        ones are left out of several equal to the last is up to ``topk``.
    """
    blocks = -(-step.size(2) // BLOCK)
    if step.numel() < LARGE or step.is_cuda or blocks * step.size(1) <= count:
        stride = step.size(2)
        scores, best = (step + live.unsqueeze(2)).flatten(1).topk(min(count, step[0].numel()))
    else:
        stride = blocks * BLOCK
        values = F.pad(step, (0, stride - step.size(2)), value=-math.inf).view(len(step), -1, BLOCK)
        maxima = values.amax(dim=2).view(len(step), -1, blocks) + live.unsqueeze(2)
        chosen = maxima.flatten(1).topk(count).indices
        values = values.gather(1, chosen.unsqueeze(2).expand(-1, -1, BLOCK))
        scores, inside = (values + live.gather(1, chosen // blocks).unsqueeze(2)).flatten(1).topk(count)
        best = chosen.gather(1, inside // BLOCK) * BLOCK + inside % BLOCK
    best, by_index = best.sort(dim=1)
    scores, by_score = scores.gather(1, by_index).sort(dim=1, descending=True, stable=True)
    best = best.gather(1, by_score)
    return scores, best // stride, best % stride


def _hypotheses(words: Tensor, log_probability: Tensor, config: SearchConfig) -> list[list[Hypothesis]]:
    """Of each sentence: from (batch, hypotheses, longest), each with an EOS at least, and (batch, hypotheses)."""
    found = []
    for rows, probabilities in zip(words.tolist(), log_probability.tolist(), strict=True):
        ended = [(row[: row.index(EOS)], p) for row, p in zip(rows, probabilities, strict=True) if p > -math.inf]
        found.append([Hypothesis(tuple(ids), p / (len(ids) + 1) ** config.length_penalty, p) for ids, p in ended])
    return found


@contextmanager
def _inference(model: Transformer) -> Iterator[None]:
    training = model.training
    if training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if training:
            model.train()
