"""Affine maps of states, by whichever library multiplies matrices fastest.

On a CPU PyTorch multiplies fp32 matrices with MKL, which leaves half of an AMD processor's vector width unused. oneDNN,
which comes with PyTorch too, uses it on processors of any make: at this project's shapes it takes about half the time
there. Each call of it costs some 15 microseconds more, so that small products stay where they are.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGE = 2**20
"""Multiplications from which oneDNN's own overhead is made up for. The choice depends on shapes alone, so that the same
training gives the same bits."""


class Linear(nn.Linear):
    """``nn.Linear`` by :func:`linear`."""

    def forward(self, states: Tensor) -> Tensor:
        return linear(states, self.weight, self.bias)


def linear(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``states @ weight.T + bias``: (..., inputs), (outputs, inputs) and (outputs,) to (..., outputs)."""
    if not _suits_onednn(states, weight):
        return F.linear(states, weight, bias)
    if torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad):
        result: Tensor = _OneDnnLinear.apply(states, weight, bias)
        return result
    return _product(states, weight, bias)


def _suits_onednn(states: Tensor, weight: Tensor) -> bool:
    return (
        states.device.type == "cpu"
        and states.dtype == weight.dtype == torch.float32
        and states.numel() * weight.size(0) >= LARGE
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
