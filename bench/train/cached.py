"""A frozen teacher that has spoken before: what it said of a text is read, and it runs only for what was not kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bench.data.signals import TaughtBatch, spread
from bench.method import Forward, Runner
from bench.nmt.batch import Batch
from bench.nmt.model import Decoded, Encoded, Transformer
from bench.positions import Source


class CachedTeacher(Runner):
    """A teacher whose logits at gold prefixes come with the batch; all else is its own.

    Args:
        load: gives the model, which is asked for when a pass needs it and not before.
        device: where it is to run.
        vocabulary: tokens of a distribution.
        autocast, observed: as for a ``Runner``.
    """

    def __init__(
        self,
        load: Callable[[], Transformer],
        device: torch.device,
        vocabulary: int,
        *,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        observed: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.frozen, self.vocabulary = True, vocabulary
        self._load, self._device = load, device
        self._autocast, self._observed = autocast, observed

    @cached_property
    def model(self) -> Transformer:  # type: ignore[override]
        # Wherever training loads it, and goes on from, its own random numbers are the same.
        with torch.random.fork_rng(devices=[]):
            return self._load().to(self._device).eval().requires_grad_(False)

    def forward(self, batch: Batch, *, encoded: Encoded | None = None, **asked: Any) -> Forward:
        """As a ``Runner``; whatever is asked for beside the plain pass is the model's to answer."""
        if isinstance(batch, TaughtBatch) and not asked:
            return _Remembered(batch, self, encoded)
        return super().forward(batch, encoded=encoded, **asked)


class _Remembered(Forward):
    """A pass over a batch with signals, of which the model computes only what is asked for beside the logits."""

    taught: TaughtBatch
    vocabulary: int

    def __init__(self, taught: TaughtBatch, teacher: CachedTeacher, encoded: Encoded | None) -> None:
        self.__dict__.update(batch=taught, taught=taught, runner=teacher, vocabulary=teacher.vocabulary)
        if encoded is not None:
            self.__dict__["encoded"] = encoded

    @cached_property
    def logits(self) -> Tensor:
        """(n, vocabulary) log-probabilities, with the rest spread evenly."""
        with self.runner.scope():
            return spread(self.taught.likeliest, self.taught.shares, self.vocabulary)

    @property
    def log_probabilities(self) -> Tensor:
        """The same, in float32."""
        return self.logits

    @property
    def source(self) -> Source:
        """The same, a few positions at a time."""
        taught, vocabulary = self.taught, self.vocabulary
        places = torch.arange(taught.tokens, device=taught.likeliest.device)

        def some(rows: Tensor) -> Tensor:
            return spread(taught.likeliest[rows], taught.shares[rows], vocabulary)

        return Source(places, None, some, self.runner.scope, vocabulary, normalised=True)

    @cached_property
    def encoded(self) -> Encoded:
        with self.runner.scope():
            return self.runner.model.encode(self.batch.source)

    @cached_property
    def decoded(self) -> Decoded:
        encoded = self.encoded
        with self.runner.scope():
            return self.runner.model.decode(self.batch.prefix, encoded)
