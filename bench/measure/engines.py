"""The engines that speed is measured with: the project's own decoder and CTranslate2, behind one interface.

Both do the same search on the same batches. What CTranslate2 does otherwise, and how it is brought into line:

- With a length penalty of 0 its beam search stops once the likeliest hypothesis of a step has ended and it has all that
  it was asked for, where ours and otherwise its own stops once as many have ended as the beam is wide.
- It has one length limit for all sentences of a call, ours has one for each. A call is given the largest limit of its
  batch, whose sentences are of like length. Of a sentence's hypotheses the best counts that ended within its own
  limit; only where there is none the very best is cut there. For greedy search that is exact; for a beam that runs
  into the limit it need not be, since ours prices the forced end of sentence.
- It spreads the probability of PAD, UNK and BOS, which are never generated, over the other pieces; ours lets it lapse.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.config import Frozen, SearchConfig
from bench.data.tokenizer import Tokenizer
from bench.nmt.ids import EOS, PAD

THREADS = 1
"""Of an engine on a CPU, in one worker: what both engines have alike. With two, int8 is slowed down on small machines
by threads that wait for each other, which says nothing of the engine."""

EngineName = Literal["pytorch", "ctranslate2"]


class EngineConfig(Frozen):
    """An engine to load, with all it needs."""

    engine: EngineName
    precision: str
    model: Path
    """Folder of ``save_model`` or of ``export_ctranslate2``, cut to the student's depth."""
    tokenizer: Path
    search: SearchConfig
    max_positions: int
    """The longest output, whatever ``search`` allows."""
    device: str


@dataclass(frozen=True)
class Translation:
    """What came of some lines."""

    lines: tuple[str, ...]
    source_pieces: int
    """With the end of each sentence."""
    target_pieces: int
    """With the end of each sentence."""


class Engine(ABC):
    """Translates text: tokenises, searches in batches of like length, detokenises."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.tokenizer = Tokenizer.load(config.tokenizer)

    def translate(self, lines: Sequence[str], *, beam: int, batch_tokens: int) -> Translation:
        """The best hypothesis for each line.

        Args:
            beam: 1 is greedy.
            batch_tokens: sentences times the pieces of the longest stay within it; 0: one sentence at a time.
        """
        sources = self.tokenizer.encode(lines)
        outputs: list[Sequence[int]] = [()] * len(sources)
        for chosen in batches([len(source) for source in sources], batch_tokens):
            found = self._search([sources[i] for i in chosen], beam, alone=not batch_tokens)
            for i, ids in zip(chosen, found, strict=True):
                outputs[i] = ids
        return Translation(
            tuple(self.tokenizer.decode(outputs)),
            sum(map(len, sources)),
            sum(len(ids) + 1 for ids in outputs),
        )

    @abstractmethod
    def _search(self, sources: list[list[int]], beam: int, *, alone: bool) -> list[Sequence[int]]:
        """Target ids without EOS for a batch of source ids that end with EOS; ``alone``: every batch is a sentence."""

    def _limit(self, source: Sequence[int]) -> int:
        """The longest output of a sentence, the end of sentence included."""
        return min(self.config.search.max_length(len(source)), self.config.max_positions)


class PyTorchEngine(Engine):
    """The project's decoder (``bench.nmt.search``). On a CPU it keeps each weight in several arrangements."""

    def __init__(self, config: EngineConfig) -> None:
        import torch

        from bench.nmt.cache import Memory
        from bench.nmt.export import load_model
        from bench.nmt.linear import pack

        super().__init__(config)
        torch.set_num_threads(THREADS)
        self._model = load_model(config.model).to(config.device, getattr(torch, config.precision))
        pack(self._model.matrices())
        self._memory = Memory(self._model.output_matrix)

    def _search(self, sources: list[list[int]], beam: int, *, alone: bool) -> list[Sequence[int]]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        from bench.nmt.search import search

        rows = [torch.tensor(source) for source in sources]
        batch = pad_sequence(rows, batch_first=True, padding_value=PAD).to(self.config.device)
        config = self.config.search.model_copy(update={"beam": beam})
        found = search(self._model, batch, config, alone=alone, memory=self._memory)
        return [hypotheses[0].ids for hypotheses in found]


class CTranslate2Engine(Engine):
    """CTranslate2 (Klein et al. 2020)."""

    def __init__(self, config: EngineConfig) -> None:
        import ctranslate2

        super().__init__(config)
        device, _, index = config.device.partition(":")
        self._translator: Any = ctranslate2.Translator(
            str(config.model),
            device=device,
            device_index=int(index or 0),
            compute_type=config.precision,
            inter_threads=1,
            intra_threads=THREADS,
        )
        self._pieces = self.tokenizer.pieces
        self._ids = {piece: i for i, piece in enumerate(self._pieces)}

    def _search(self, sources: list[list[int]], beam: int, *, alone: bool) -> list[Sequence[int]]:
        limits = [self._limit(source) for source in sources]
        results = self._translator.translate_batch(
            [[self._pieces[i] for i in source if i != EOS] for source in sources],
            beam_size=beam,
            num_hypotheses=beam,
            length_penalty=self.config.search.length_penalty,
            max_input_length=0,
            max_decoding_length=max(limits),
            min_decoding_length=0,
            return_end_token=True,
        )
        return [self._chosen(result.hypotheses, limit) for result, limit in zip(results, limits, strict=True)]

    def _chosen(self, hypotheses: list[list[str]], limit: int) -> list[int]:
        """The best hypothesis that ends within the limit; the best one cut to it where there is none."""
        end = self._pieces[EOS]
        ended = (pieces[:-1] for pieces in hypotheses if pieces and pieces[-1] == end and len(pieces) <= limit)
        return [self._ids[piece] for piece in next(ended, hypotheses[0][: limit - 1])]


def load_engine(config: EngineConfig) -> Engine:
    """The engine, ready to translate."""
    return {"pytorch": PyTorchEngine, "ctranslate2": CTranslate2Engine}[config.engine](config)


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of sentences in batches, longest first: rows times the longest stay within ``batch_tokens``.

    A longer sentence is a batch of its own; with 0 each one is, in the order given.
    """
    if not batch_tokens:
        yield from ([i] for i in range(len(lengths)))
        return
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // lengths[order[start]])
        yield order[start : start + rows]
        start += rows
