"""Affine maps of states, by whichever library multiplies matrices fastest.

On a CPU PyTorch multiplies fp32 matrices with MKL, which leaves half of an AMD processor's vector width unused. oneDNN,
which comes with PyTorch too, uses it on processors of any make: at this project's shapes it takes about half the time
there. Each call of it costs some 15 microseconds more, so that small products stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LARGE = 2**20
"""Multiplications from which oneDNN's own overhead is made up for. The choice depends on shapes alone, so that the same
training gives the same bits."""
PACKING_ROWS = 64
"""Rows of states that weights are arranged for; the arrangement serves one row as well as hundreds."""


class Linear(nn.Linear):
    """``nn.Linear`` by :func:`linear`."""

    def forward(self, states: Tensor) -> Tensor:
        return linear(states, self.weight, self.bias)


def linear(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``states @ weight.T + bias``: (..., inputs), (outputs, inputs) and (outputs,) to (..., outputs)."""
    arranged = None if torch.is_grad_enabled() else _arranged(weight)
    if arranged is not None:
        blocks, columns = arranged
        one = states.numel() == states.size(-1)
        return F.linear(states, columns, bias) if one else _product(states, blocks, bias)
    if not _suits_onednn(states, weight):
        return F.linear(states, weight, bias)
    if torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad):
        result: Tensor = _OneDnnLinear.apply(states, weight, bias)
        return result
    return _product(states, weight, bias)


def fixed(weight: Tensor, bias: Tensor | None, *, by_columns: bool = True) -> Callable[[Tensor], Tensor]:
    """:func:`linear` for (rows, inputs) with the weights as they are now, for use without gradients.

    What is the same in each call is found once: for a single row that takes as long as the product.

    Args:
        by_columns: multiply a single row by a packed weight's columns, which more than one thread cannot speed up.
    """
    arranged = _arranged(weight)
    if arranged is None:
        return lambda states: linear(states, weight, bias)
    blocks, columns = arranged
    product, turned = torch.ops.mkldnn._linear_pointwise.default, columns.t()

    def apply(states: Tensor) -> Tensor:
        if by_columns and len(states) == 1:
            return states.mm(turned) if bias is None else torch.addmm(bias, states, turned)
        result: Tensor = product(states, blocks, bias, "none", [], "")
        return result

    return apply


def pack(weights: Iterable[nn.Parameter]) -> None:
    """Keep with each weight of a CPU two copies in other arrangements, which products without gradients use.

    Decoding multiplies few rows at a time, so that reading the weights takes most of the time. oneDNN's own arrangement
    halves that; for a single row a product by columns does. The copies of a weight that changes are left aside.
    """
    for weight in weights:
        if _can_onednn(weight):
            blocks = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), PACKING_ROWS)
            columns = weight.detach().t().contiguous().t()
            weight.packed = weight._version, blocks, columns  # type: ignore[attr-defined]


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


def _arranged(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """What ``pack`` made of a weight, by blocks and by columns; None if it did not, or the weight changed since."""
    packed: tuple[int, Tensor, Tensor] | None = getattr(weight, "packed", None)
    return None if packed is None or packed[0] != weight._version else packed[1:]


def _suits_onednn(states: Tensor, weight: Tensor) -> bool:
    return states.dtype == torch.float32 and states.numel() * weight.size(0) >= LARGE and _can_onednn(weight)


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
