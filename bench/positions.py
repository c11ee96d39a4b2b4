"""Sums over target positions, a few positions at a time: losses over a vocabulary without tensors full of it.

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
from torch.autograd.function import once_differentiable

from bench.losses import label_smoothed_cross_entropy

CHUNK = {"cpu": 2**20, "cuda": 2**26}
"""Elements of a (positions, vocabulary) tensor of one chunk. On a CPU a few of them fit its cache; a GPU wants few and
large pieces of work."""
FEWEST = 128
"""Positions of a chunk at least: each adds a gradient as large as the output matrix."""


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
    each source there: (n, vocabulary), float32. Nothing else in it may want a gradient, and a term's weight is the same
    in every chunk. What comes out may be minimised with these weights only: it carries the gradient of the weighted
    sum, not that of each term.

    Raises:
        ValueError: a term depends on something else that learns, or changes its weight.
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
        self._part = self._rows.requires_grad_(self._wanted)
        self._shared: tuple[Tensor, ...] = ()
        if source.shared is not None:
            matrix = source.shared.detach()
            if learns and source.shared.requires_grad:
                # By columns, as bench.nmt.linear gives its gradient: one chunk's is added to another's as it lies.
                matrix = matrix.t().contiguous().t().requires_grad_()
            self._shared = (matrix,)
        self._sum: Tensor | None = None

    @property
    def learns(self) -> bool:
        """Whether any gradient is wanted."""
        return bool(self.inputs)

    @property
    def inputs(self) -> list[Tensor]:
        """What the newest chunk's gradient is to be taken of."""
        return [tensor for tensor in (self._part, *self._shared) if tensor.requires_grad]

    def log_p(self, rows: slice) -> Tensor:
        """(n, vocabulary) log-probabilities of some positions."""
        self._part = self._rows[rows].detach().requires_grad_(self._wanted)
        with self._source.scope():
            logits = self._source.project(self._part, *self._shared)
        return logits.float() if self._source.normalised else logits.float().log_softmax(dim=-1)

    def keep(self, rows: slice, found: Iterator[Tensor | None]) -> None:
        """Store the gradients of ``inputs`` in the newest chunk."""
        if self._gradient is not None and (own := next(found)) is not None:
            self._gradient[rows] = own
        if len(self.inputs) > self._wanted and (shared := next(found)) is not None:
            self._sum = shared if self._sum is None else self._sum.add_(shared)

    @property
    def gradients(self) -> tuple[Tensor | None, ...]:
        """Of each of the source's tensors, over all chunks."""
        return (self._gradient, *(self._sum for _ in self._shared))


class _Work:
    """All that :class:`_Summed` carries out."""

    def __init__(self, terms: Terms, positions: Positions, sources: Sequence[Source], leaves: list[_Leaves]) -> None:
        self._terms, self._positions, self._leaves = terms, positions, leaves
        device, vocabulary = positions.labels.device.type, max(source.vocabulary for source in sources)
        self._rows = max(FEWEST, CHUNK.get(device, CHUNK["cuda"]) // vocabulary)
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
            inputs = [tensor for leaves in self._leaves for tensor in leaves.inputs]
            if rows.start == 0:
                _check_inputs(total, inputs)
            if total.requires_grad:
                found = iter(torch.autograd.grad(total, inputs, allow_unused=True))
                for leaves in self._leaves:
                    leaves.keep(rows, found)
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.value.detach()
                if self.weights.setdefault(name, term.weight) != term.weight:
                    raise ValueError(f"the weight of term {name!r} is not the same in every chunk of positions")
        self.gradients = tuple(gradient for leaves in self._leaves for gradient in leaves.gradients)
        return torch.stack(list(sums.values()))

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, self._positions.labels.numel(), self._rows):
            yield slice(start, start + self._rows)


def _check_inputs(total: Tensor, inputs: Sequence[Tensor]) -> None:
    """Nothing but ``inputs`` may get a gradient: that of anything else would be lost."""
    known, seen, waiting = {id(tensor) for tensor in inputs}, set(), [total.grad_fn]
    while waiting:
        if (node := waiting.pop()) is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in known:
            raise ValueError(
                "a term over positions depends on something besides its passes that learns, such as the method's own "
                "modules: take the passes' log_probabilities for it"
            )
        waiting += [following for following, _ in node.next_functions]


class _Summed(torch.autograd.Function):
    """Computes the gradient along with the value, and hands it out when asked."""

    @staticmethod
    def forward(context: Any, work: _Work, *tensors: Tensor) -> Tensor:
        values = work()
        context.gradients = work.gradients
        # Not by ``new_tensor``, which would wait for all that is queued on a GPU.
        weights = torch.tensor(list(work.weights.values()), dtype=values.dtype)
        context.weights = weights.to(values.device, non_blocking=True)
        return values

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        weights = context.weights
        factor = (upstream @ weights) / (weights @ weights).clamp_min(torch.finfo(weights.dtype).tiny)
        apart = (upstream - factor * weights).abs().max() > 1e-4 * upstream.abs().max()
        torch._assert_async(~apart, "terms over positions are minimised with the weights that they were given")
        return None, *(None if gradient is None else gradient * factor for gradient in context.gradients)
