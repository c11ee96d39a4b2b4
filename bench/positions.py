"""Sums over target positions, a few positions at a time: losses over a vocabulary that never fill memory with it.

Tensors of shape (positions, vocabulary) are what makes a distillation step slow and large, and a loss that is written
down plainly makes a dozen of them, forward and backward. Here a chunk of positions, small enough for a processor's
cache, goes all the way before the next one starts: its states are projected, the terms computed, and their gradient
taken back to the states. What remains is a gradient of the states and one of the output matrix. This is the idea of
Liger-Kernel's fused losses (Hsu et al. 2024, arXiv 2410.10989) for any sum over positions, by PyTorch's own autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.losses import label_smoothed_cross_entropy

CHUNK = {"cpu": 2**20, "cuda": 2**28}
"""Elements of a (positions, vocabulary) tensor of one chunk. On a CPU a few of them fit its cache; a GPU wants few and
large pieces of work."""


@dataclass(frozen=True)
class Term:
    """One named part of a loss: a scalar summed over target tokens, and its weight."""

    value: Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class Positions:
    """Some of a batch's n real target positions."""

    labels: Tensor
    """(n,) gold ids."""
    smoothing: float

    def cross_entropy(self, log_p: Tensor) -> Tensor:
        """Label-smoothed cross-entropy of (n, vocabulary) log-probabilities with the gold labels, summed."""
        return label_smoothed_cross_entropy(log_p, self.labels, self.smoothing)


@dataclass(frozen=True)
class Source:
    """Where the logits of a pass come from."""

    rows: Tensor
    """(n, ...): what belongs to each position, such as its state."""
    shared: Tensor | None
    """(vocabulary, ...): what belongs to all, such as the output matrix."""
    project: Callable[[Tensor], Tensor] | Callable[[Tensor, Tensor], Tensor]
    """Some of the rows, and what is shared, to (n, vocabulary) logits."""
    scope: Callable[[], AbstractContextManager[Any]]
    """The context of projecting."""
    vocabulary: int
    normalised: bool = False
    """Whether the logits are log-probabilities as they are, which spares a softmax."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Whatever may want a gradient."""
        return (self.rows,) if self.shared is None else (self.rows, self.shared)


Terms = Callable[..., Mapping[str, Term]]


def over_positions(terms: Terms, positions: Positions, sources: Sequence[Source]) -> dict[str, Term]:
    """The terms that ``terms`` gives, summed over all positions.

    ``terms(positions, *log_probabilities)`` is called for chunk after chunk, in order, with the log-probabilities of
    each source there: (n, vocabulary), float32. A term's weight is the same in every chunk. What comes out may be
    minimised with these weights only: it carries the gradient of the weighted sum, not that of each term.
    """
    work = _Work(terms, positions, sources, [_Leaves(source) for source in sources])
    values: Tensor = _Summed.apply(work, *(tensor for source in sources for tensor in source.tensors))
    return {name: Term(value, weight) for (name, weight), value in zip(work.weights.items(), values, strict=True)}


class _Leaves:
    """A source as the chunks use it, cut off from what it came from."""

    def __init__(self, source: Source) -> None:
        self._source, learns = source, torch.is_grad_enabled()
        self._rows, self._wanted = source.rows.detach(), learns and source.rows.requires_grad
        self._gradient = torch.zeros_like(self._rows) if self._wanted else None
        self._part = self._rows
        self._shared: tuple[Tensor, ...] = ()
        if source.shared is not None:
            # By columns, as bench.nmt.linear gives its gradient, so that one chunk's is added to another's as it lies.
            matrix = source.shared.detach().t().contiguous().t()
            self._shared = (matrix.requires_grad_(learns and source.shared.requires_grad),)

    @property
    def learns(self) -> bool:
        """Whether any gradient is wanted."""
        return self._wanted or any(tensor.requires_grad for tensor in self._shared)

    def log_p(self, rows: slice) -> Tensor:
        """(n, vocabulary) log-probabilities of some positions."""
        self._part = self._rows[rows].detach().requires_grad_(self._wanted)
        with self._source.scope():
            logits = self._source.project(self._part, *self._shared)
        return logits.float() if self._source.normalised else logits.float().log_softmax(dim=-1)

    def keep(self, rows: slice) -> None:
        """Store the gradient of the newest positions."""
        if self._gradient is not None and self._part.grad is not None:
            self._gradient[rows] = self._part.grad

    @property
    def gradients(self) -> tuple[Tensor | None, ...]:
        """Of each of the source's tensors; the shared ones' have been added up on the way."""
        return (self._gradient, *(tensor.grad for tensor in self._shared))


class _Work:
    """All that :class:`_Summed` carries out."""

    def __init__(self, terms: Terms, positions: Positions, sources: Sequence[Source], leaves: list[_Leaves]) -> None:
        self._terms, self._positions, self._leaves = terms, positions, leaves
        device, vocabulary = positions.labels.device.type, max(source.vocabulary for source in sources)
        self._rows = max(1, CHUNK.get(device, CHUNK["cuda"]) // vocabulary)
        self.weights: dict[str, float] = {}
        self.gradients: tuple[Tensor | None, ...] = ()

    def __call__(self) -> Tensor:
        """The value of each term; leaves behind their weights, and the gradient of the weighted sum."""
        learns = any(leaves.learns for leaves in self._leaves)
        sums: dict[str, Tensor] = {}
        for rows in self._chunks():
            with torch.set_grad_enabled(learns):
                chunk = Positions(self._positions.labels[rows], self._positions.smoothing)
                terms = self._terms(chunk, *(leaves.log_p(rows) for leaves in self._leaves))
                total = torch.stack([term.weight * term.value for term in terms.values()]).sum()
            if total.requires_grad:
                total.backward()
            for leaves in self._leaves:
                leaves.keep(rows)
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.value.detach()
                self.weights[name] = term.weight
        self.gradients = tuple(gradient for leaves in self._leaves for gradient in leaves.gradients)
        return torch.stack(list(sums.values()))

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, self._positions.labels.numel(), self._rows):
            yield slice(start, start + self._rows)


class _Summed(torch.autograd.Function):
    """Computes the gradient along with the value, and hands it out when asked."""

    @staticmethod
    def forward(context: Any, work: _Work, *tensors: Tensor) -> Tensor:
        values = work()
        context.gradients = work.gradients
        context.weights = values.new_tensor(list(work.weights.values()))
        return values

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        weights = context.weights
        factor = (upstream @ weights) / (weights @ weights).clamp_min(torch.finfo(weights.dtype).tiny)
        apart = (upstream - factor * weights).abs().max() > 1e-4 * upstream.abs().max()
        torch._assert_async(~apart, "terms over positions are minimised with the weights that they were given")
        return None, *(None if gradient is None else gradient * factor for gradient in context.gradients)
