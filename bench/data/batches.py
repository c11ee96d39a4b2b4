"""Encoded corpora on disk, and the batches drawn from them.

A corpus of any size costs no memory: both sides lie in flat, memory-mapped arrays. All lengths count the EOS.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from bench.errors import DataError
from bench.nmt.batch import BOS, EOS, PAD, Batch

SIDES = ("source", "target")
COUNTS_FILE = "corpus.json"
_CHUNK = 20_000
_MIXED_TOKENS = 2.0  # pairs mix with those whose shorter side differs by less than this: variety against padding

Indices = Sequence[int] | NDArray[np.integer[Any]]
Lengths = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class _Side:
    """One side of a corpus: sentence i is ``ids[offsets[i]:offsets[i + 1]]``."""

    ids: NDArray[np.integer[Any]]
    offsets: NDArray[np.int64]

    def rows(self, indices: NDArray[np.int64]) -> list[list[int]]:
        return [self.ids[start:end].tolist() for start, end in zip(self.offsets[indices], self.offsets[indices + 1])]

    def grid(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sentences as (rows, longest) ids, padded on the right with PAD."""
        places, real = self.places(indices)
        padded = np.full(real.shape, PAD, dtype=np.int64)
        padded[real] = self.ids[places]
        return padded

    def places(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where the tokens of the sentences are among the ids, one sentence after the other, and in their grid."""
        starts = self.offsets[indices]
        lengths = self.offsets[indices + 1] - starts
        columns = np.arange(lengths.max())
        real = columns < lengths[:, None]
        return (starts[:, None] + columns)[real], real


class EncodedCorpus:
    """Sentence pairs as ids, memory-mapped from the folder that ``write`` filled."""

    def __init__(self, source: _Side, target: _Side) -> None:
        self._source, self._target = source, target
        self.lengths: NDArray[np.int32] = np.stack(
            [np.diff(side.offsets).astype(np.int32) for side in (source, target)], axis=1
        )
        """(pairs, 2) tokens of source and target."""

    @staticmethod
    def write(folder: Path, pairs: Iterable[tuple[list[int], list[int]]], vocabulary: int) -> None:
        """Store pairs of id lists, each ending with EOS, in ``folder``. The counts come last and mark it complete.

        Raises:
            DataError: there are no pairs.
            ValueError: a list does not end with EOS, or an id is PAD or lies outside the vocabulary.
        """
        folder.mkdir(parents=True, exist_ok=True)
        dtype = np.dtype(np.uint16 if vocabulary < 2**16 else np.int32)
        writers = [_SideWriter(folder, side, dtype, vocabulary) for side in SIDES]
        try:
            for chunk in _chunks(pairs):
                for writer, rows in zip(writers, zip(*chunk)):
                    writer.append(rows)
            tokens = [writer.finish() for writer in writers]
        finally:
            for writer in writers:
                writer.close()
        if not all(tokens):
            raise DataError(f"there are no sentence pairs to store in {folder}.")
        counts = {"pairs": writers[0].rows, "vocabulary": vocabulary, **dict(zip(SIDES, tokens))}
        (folder / COUNTS_FILE).write_text(json.dumps(counts), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> EncodedCorpus:
        """Map a written corpus.

        Raises:
            DataError: the folder holds no complete corpus.
        """
        try:
            counts = json.loads((folder / COUNTS_FILE).read_text(encoding="utf-8"))
            source, target = (
                _Side(
                    ids=np.load(folder / f"{side}.npy", mmap_mode="r"),
                    offsets=np.load(folder / f"{side}.offsets.npy", mmap_mode="r"),
                )
                for side in SIDES
            )
            complete = all(
                len(part.ids) == counts[side] == part.offsets[-1] and len(part.offsets) == counts["pairs"] + 1
                for side, part in zip(SIDES, (source, target))
            )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(f"{folder} holds no encoded corpus: {error}.") from error
        if not complete:
            raise DataError(f"the encoded corpus in {folder} is damaged: its arrays do not have the stated sizes.")
        return cls(source, target)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def target_tokens(self) -> int:
        """Target tokens of one epoch, EOS included."""
        return len(self._target.ids)

    def batch(self, indices: Indices) -> Batch:
        """The pairs at ``indices``, in that order, padded into one batch."""
        chosen = np.asarray(indices, dtype=np.int64)
        target = self._target.grid(chosen)
        prefix = np.empty_like(target)
        prefix[:, 0] = BOS
        prefix[:, 1:] = np.where(target[:, 1:] == PAD, PAD, target[:, :-1])
        return Batch(*map(torch.from_numpy, (self._source.grid(chosen), prefix, target)))

    def places(self, indices: Indices) -> NDArray[np.int64]:
        """Where the pairs' target tokens are among all of the corpus, in the order of a batch's packed positions."""
        return self._target.places(np.asarray(indices, dtype=np.int64))[0]

    def sources(self, indices: Indices | None = None) -> list[list[int]]:
        """Source ids, each list ending with EOS; of the whole corpus where no indices are given."""
        return self._source.rows(np.arange(len(self)) if indices is None else np.asarray(indices, dtype=np.int64))


def token_batches(lengths: Lengths, batch_tokens: int, *, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """One epoch's batches as arrays of pair indices: a pure function of its arguments.

    Pairs of like length share a batch. Which of them meet changes with the epoch, and the batches come in random
    order. Rows times the longest sentence of either side stays within ``batch_tokens``; a pair longer than that is a
    batch of its own.

    Args:
        lengths: (pairs, 2) tokens of source and target.
        batch_tokens: most padded tokens of the longer side.
        seed: not negative, as is the epoch.
    """
    random = np.random.default_rng([seed, epoch])
    order = _by_length(lengths, random.uniform(0, _MIXED_TOKENS, len(lengths)))
    # A first batch of random size moves the borders of all others, or else small corpora would repeat their batches.
    shortest = lengths.max(axis=1).min(initial=batch_tokens)
    head = int(random.random() * batch_tokens / shortest)
    batches = _cut(lengths, order[:head], batch_tokens) + _cut(lengths, order[head:], batch_tokens)
    return [batches[i] for i in random.permutation(len(batches))]


def evaluation_batches(lengths: Lengths, batch_tokens: int) -> list[NDArray[np.int64]]:
    """The same limit without chance: shortest pairs first, equals in corpus order."""
    return _cut(lengths, _by_length(lengths, np.zeros(len(lengths))), batch_tokens)


def padding_share(lengths: Lengths, batches: Iterable[NDArray[np.int64]]) -> float:
    """Share of padding among all cells of both sides, from 0 (none) to 1; 0 where there are no batches."""
    cells = real = 0
    for batch in batches:
        rows = lengths[batch]
        cells += len(batch) * int(rows.max(axis=0).sum())
        real += int(rows.sum())
    return 1.0 - real / cells if cells else 0.0


def _by_length(lengths: Lengths, jitter: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices in the order of the longer side; where it is equal, the difference of the sides plus ``jitter`` decides.

    Given the longer side, the difference says which side that is and how long the other one is.
    """
    return np.lexsort((lengths[:, 0] - lengths[:, 1] + jitter, lengths.max(axis=1)))


def _cut(lengths: Lengths, order: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Consecutive batches of an order in which the longer side never shrinks, each as large as the limit lets it."""
    longest = lengths.max(axis=1)[order].astype(np.int64)
    batches, start = [], 0
    while start < len(order):
        window = longest[start : start + max(1, batch_tokens // longest[start])]
        padded = window * np.arange(1, len(window) + 1)
        rows = max(1, int(np.searchsorted(padded, batch_tokens, side="right")))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def _chunks(pairs: Iterable[tuple[list[int], list[int]]]) -> Iterator[list[tuple[list[int], list[int]]]]:
    iterator = iter(pairs)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


class _SideWriter:
    """Appends sentences to a growing ``.npy`` file, so that writing needs no more memory than one chunk."""

    def __init__(self, folder: Path, side: str, dtype: np.dtype[Any], vocabulary: int) -> None:
        self._dtype, self._vocabulary, self._side = dtype, vocabulary, side
        self._offsets_path = folder / f"{side}.offsets.npy"
        self._offsets = [np.zeros(1, dtype=np.int64)]
        self._file = (folder / f"{side}.npy").open("wb")
        self._write_header(0)
        self._data_start = self._file.tell()
        self.rows = 0

    def append(self, rows: Sequence[list[int]]) -> None:
        if not all(row and row[-1] == EOS for row in rows):
            raise ValueError(f"every {self._side} sentence must end with EOS ({EOS})")
        ids = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
        if ids.min() <= PAD or ids.max() >= self._vocabulary:
            raise ValueError(f"{self._side} ids must lie in 1..{self._vocabulary - 1}, got {ids.min()}..{ids.max()}")
        self._file.write(ids.astype(self._dtype).tobytes())
        ends = np.cumsum(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)))
        self._offsets.append(self._offsets[-1][-1] + ends)
        self.rows += len(rows)

    def finish(self) -> int:
        """Complete both files and return the number of tokens."""
        offsets = np.concatenate(self._offsets)
        np.save(self._offsets_path, offsets)
        self._file.seek(0)
        self._write_header(int(offsets[-1]))
        # numpy keeps room in the header for the first axis to grow, so that this overwrites no data
        if self._file.tell() != self._data_start:
            raise RuntimeError(f"numpy {np.__version__} wrote headers of different sizes")
        return int(offsets[-1])

    def close(self) -> None:
        self._file.close()

    def _write_header(self, tokens: int) -> None:
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (tokens,)}
        npy.write_array_header_1_0(self._file, header)
