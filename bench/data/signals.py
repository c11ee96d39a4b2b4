"""What a frozen teacher says at the target positions of a text, on disk: its likeliest tokens and the rest's share.

For each of the text's target tokens, in their order, one file has the ids of the k tokens that the teacher finds
likeliest after the gold prefix, the likeliest first; another has their log-probabilities and, last, the logarithm of
what is left for all other tokens. In half precision logarithms keep what probabilities lose: 0.9998 would be rounded to
1, and the rest with it to nothing. Both files are memory-mapped, so that a text of any size costs no memory.

What is read stands for a whole distribution: the rest is spread evenly over the other tokens, padding and the beginning
of a sentence among them. A divergence from it knows how much the teacher gives to those tokens together, but not to
which: its gradient pulls the student's tail to an even one.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.batches import EncodedCorpus, Indices
from bench.errors import DataError, no_space
from bench.nmt.batch import Batch

IDS_FILE, SHARES_FILE = "ids.npy", "shares.npy"


@dataclass(frozen=True)
class TaughtBatch(Batch):
    """A batch that comes with what the teacher says at its n packed positions, after the gold prefixes."""

    likeliest: Tensor
    """(n, k) ids."""
    shares: Tensor
    """(n, k + 1) log-probabilities of these tokens and, last, of all others together; half precision."""


class TaughtText(EncodedCorpus):
    """A text whose batches come with the teacher's signals."""

    def __init__(self, text: EncodedCorpus, folder: Path) -> None:
        """Map the signals that were written into ``folder`` for ``text``.

        Raises:
            DataError: there are none, or not of this text.
        """
        super().__init__(text._source, text._target)
        try:
            self._ids, self._shares = (np.load(folder / name, mmap_mode="r") for name in (IDS_FILE, SHARES_FILE))
            fits = self._shares.shape == (text.target_tokens, self._ids.shape[1] + 1)
        except (OSError, ValueError, EOFError, IndexError) as error:
            raise DataError(f"{folder} holds no signals of a teacher: {error}.") from error
        if not fits or len(self._ids) != len(self._shares):
            raise DataError(f"the signals in {folder} are damaged, or those of another text: their sizes do not fit.")

    @property
    def kept(self) -> int:
        """How many of the teacher's likeliest tokens there are at each position."""
        return int(self._ids.shape[1])

    def batch(self, indices: Indices) -> TaughtBatch:
        plain, places = super().batch(indices), self.places(indices)
        signals = torch.from_numpy(self._ids[places].astype(np.int64)), torch.from_numpy(self._shares[places])
        return TaughtBatch(plain.source, plain.prefix, plain.target, *signals)


class SignalsWriter:
    """Takes the teacher's distributions on a text in any order of its pairs."""

    def __init__(self, folder: Path, tokens: int, vocabulary: int, top_k: int) -> None:
        """Make room in ``folder`` for a text of so many target ``tokens``.

        Raises:
            DataError: the disk has not enough of it.
        """
        self._kept = min(top_k, vocabulary)
        ids = np.dtype(np.uint16 if vocabulary < 2**16 else np.int32)
        self._ids = _room(folder / IDS_FILE, ids, (tokens, self._kept))
        self._shares = _room(folder / SHARES_FILE, np.dtype(np.float16), (tokens, self._kept + 1))

    def write(self, places: NDArray[np.int64], logits: Tensor) -> None:
        """Keep what matters of the (n, vocabulary) logits of the target tokens at ``places``."""
        ids, shares = strongest(logits, self._kept)
        self._ids[places] = ids.cpu().numpy()
        self._shares[places] = shares.half().cpu().numpy()

    def finish(self) -> int:
        """Have all of it on the disk; returns its size in bytes."""
        self._ids.flush()
        self._shares.flush()
        return self._ids.nbytes + self._shares.nbytes


def strongest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ids of the k likeliest tokens, (n, k), and their log-probabilities with that of the rest, (n, k + 1)."""
    log_p = logits.float().log_softmax(dim=-1)
    top, ids = log_p.topk(k, dim=-1)
    # 1 minus the sum of the others would be nothing but rounding where the teacher is sure.
    rest = log_p.scatter(-1, ids, -torch.inf).logsumexp(dim=-1, keepdim=True)
    return ids, torch.cat([top, rest], dim=-1)


def spread(likeliest: Tensor, shares: Tensor, vocabulary: int) -> Tensor:
    """(n, vocabulary) log-probabilities in float32 with the rest spread evenly over the tokens not named."""
    shares = shares.float().log_softmax(dim=-1)  # half precision is a little off one
    others = max(1, vocabulary - likeliest.size(-1))
    even = (shares[:, -1:] - math.log(others)).expand(-1, vocabulary)
    return even.scatter(-1, likeliest, shares[:, :-1])


def signals_bytes(tokens: int, vocabulary: int, top_k: int) -> int:
    """The size on disk of the signals on a text of so many target tokens."""
    kept = min(top_k, vocabulary)
    return tokens * (kept * (2 if vocabulary < 2**16 else 4) + 2 * (kept + 1))


def _room(path: Path, dtype: np.dtype[Any], shape: tuple[int, int]) -> np.memmap[Any, np.dtype[Any]]:
    """A new array on disk with all its blocks: to write where the disk has no room for one would kill the process."""
    array: np.memmap[Any, np.dtype[Any]] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    try:
        with path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):  # not on every system
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink()  # what was taken of the disk goes back at once
        if not no_space(error):
            raise
        raise DataError(
            f"the disk has no room for the {array.nbytes / 1e9:.3g} GB of {path}: lower signals.top_k, or let the "
            "teacher run with --teacher-signals exact."
        ) from error
    return array
