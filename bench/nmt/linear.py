"""Affine maps of states, by whichever library multiplies matrices fastest.

On a CPU PyTorch multiplies fp32 matrices with MKL, which leaves half of the vector width unused on AMD's processors
that have AVX-512. oneDNN, which comes with PyTorch too, uses it on processors of any make: at this project's shapes it
takes about half the time there. Each call of it costs some 15 microseconds more, so that small products stay where they
are. With AVX2 only, MKL is the faster of the two, most of all at gradients of weights: there oneDNN multiplies by
weights that were packed for decoding, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LARGE = 2**20
"""Multiplications from which oneDNN's own overhead is made up for. The choice depends on shapes and on what
PyTorch takes the processor for, so that the same training on the same machine gives the same bits."""
SMALL = 2**17
"""Multiplications up to which MKL by columns, on one thread, beats oneDNN's overhead and that of several threads; as
measured on a processor with AVX2."""
PARTS = 2
"""Of a larger weight for each thread; as measured there."""
PACKING_ROWS = 64
"""Rows of states that weights are arranged for; the arrangement serves one row as well as hundreds."""


class Linear(nn.Linear):
    """``nn.Linear`` by :func:`linear`."""

    def forward(self, states: Tensor) -> Tensor:
        return linear(states, self.weight, self.bias)


def linear(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``states @ weight.T + bias``: (..., inputs), (outputs, inputs) and (outputs,) to (..., outputs).

    It has no second derivative where oneDNN multiplies.
    """
    arranged = None if torch.is_grad_enabled() else _arranged(weight)
    if arranged is not None:
        one = states.numel() == states.size(-1)
        return F.linear(states, arranged.columns, bias) if one else _product(states, arranged.blocks, bias)
    if not _suits_onednn(states, weight):
        return F.linear(states, weight, bias)
    if torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad):
        result: Tensor = _OneDnnLinear.apply(states, weight, bias)
        return result
    return _product(states, weight, bias)


def fixed(weight: Tensor, bias: Tensor | None, *, few: bool = False) -> Callable[[Tensor], Tensor]:
    """:func:`linear` for (rows, inputs) with the weights as they are now, for use without gradients.

    What is the same in each call is found once: for a single row that takes as long as the product.

    Args:
        few: a packed weight is used in whichever arrangement a handful of rows reads fastest, so that the last digits
            depend on their number and on that of the threads.
    """
    arranged = _arranged(weight)
    if arranged is None:
        return lambda states: linear(states, weight, bias)
    blocks, columns = arranged.blocks, arranged.columns.t()
    product = torch.ops.mkldnn._linear_pointwise.default

    def by_columns(states: Tensor) -> Tensor:
        return states.mm(columns) if bias is None else torch.addmm(bias, states, columns)

    def by_blocks(states: Tensor) -> Tensor:
        result: Tensor = product(states, blocks, bias, "none", [], "")
        return result

    if not few:
        return lambda states: by_columns(states) if len(states) == 1 else by_blocks(states)
    threads, small = torch.get_num_threads(), SMALL // weight.numel()
    parts = math.gcd(len(weight), PARTS * threads) if torch.backends.mkl.is_available() else 1
    single: Callable[[Tensor], Tensor] = by_columns
    if threads > 1:
        single = by_blocks if parts < threads else _by_parts(arranged, parts, bias)

    def fastest(states: Tensor) -> Tensor:
        if len(states) <= small:
            return by_columns(states)
        return single(states) if len(states) == 1 else by_blocks(states)

    return fastest


def _by_parts(arranged: _Packed, parts: int, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """A product of a single row. MKL gives parts to threads; that of a row and a whole matrix it gives to one."""
    biases = None if bias is None else bias.detach().view(parts, 1, -1)

    def by_parts(states: Tensor) -> Tensor:
        weight = arranged.parts(parts)
        repeated = states.expand(parts, 1, -1)
        return (repeated.bmm(weight) if biases is None else torch.baddbmm(biases, repeated, weight)).view(1, -1)

    return by_parts


def pack(weights: Iterable[nn.Parameter]) -> None:
    """Keep with each weight of a CPU copies in other arrangements, which products without gradients use.

    Decoding multiplies few rows at a time, so that reading the weights takes most of the time. oneDNN's own arrangement
    halves that; for a single row a product by columns does. The copies of a weight that changes are left aside.
    """
    for weight in weights:
        if _can_onednn(weight):
            weight.packed = _Packed(weight.detach(), weight._version)  # type: ignore[attr-defined]


@contextmanager
def packed(weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Weights that are packed for as long as they do not change; what was packed before stays so."""
    new = [weight for weight in weights if not hasattr(weight, "packed")]
    try:
        pack(new)
        yield
    finally:
        for weight in new:
            if hasattr(weight, "packed"):
                del weight.packed


class _Packed:
    """Copies of a weight in other arrangements."""

    def __init__(self, weight: Tensor, version: int) -> None:
        self.version = version
        self.blocks = torch.ops.mkldnn._reorder_linear_weight(weight, PACKING_ROWS)
        """As oneDNN multiplies it."""
        self.columns = weight.t().contiguous().t()
        self._parts: dict[int, Tensor] = {}

    def parts(self, count: int) -> Tensor:
        """(count, inputs, outputs / count), which is copied when it is first multiplied by."""
        if count not in self._parts:
            self._parts[count] = self.columns.t().unflatten(1, (count, -1)).transpose(0, 1).contiguous()
        return self._parts[count]


def _arranged(weight: Tensor) -> _Packed | None:
    """What ``pack`` made of a weight; None if it did not, or the weight changed since."""
    packed: _Packed | None = getattr(weight, "packed", None)
    return None if packed is None or packed.version != weight._version else packed


def _suits_onednn(states: Tensor, weight: Tensor) -> bool:
    large = states.dtype == torch.float32 and states.numel() * weight.size(0) >= LARGE
    return large and _can_onednn(weight) and not mkl_is_faster()


def mkl_is_faster() -> bool:
    """Whether this processor's fp32 products are best left to MKL."""
    return torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX2"


def _can_onednn(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
    )


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """``left @ right.T + bias``; neither needs to be contiguous."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return result


class _OneDnnLinear(torch.autograd.Function):
    """oneDNN's products forward and backward; PyTorch has none that can be differentiated."""

    @staticmethod
    def forward(context: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(states, weight)
        return _product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        states, weight = context.saved_tensors
        of_states, of_weight, of_bias = context.needs_input_grad
        rows, inputs = gradient.flatten(0, -2), states.flatten(0, -2)
        return (
            _product(gradient, weight.t()) if of_states else None,
            _weight_gradient(rows, inputs) if of_weight else None,
            rows.sum(dim=0) if of_bias else None,
        )


def _weight_gradient(gradient: Tensor, inputs: Tensor) -> Tensor:
    """(n, outputs) and (n, inputs) to (outputs, inputs), by columns where these are the longer side: that is faster."""
    if gradient.size(1) > inputs.size(1):
        return _product(inputs.t(), gradient.t()).t()
    return _product(gradient.t(), inputs.t())
