"""Scaled dot-product attention with several heads (Vaswani et al. 2017, section 3.2), of projections as they lie.

PyTorch's fused attention is made for long sequences. For sentences of some tens of tokens, products of each head's
small matrices take 0.6 of its time forward and backward on a processor with AVX2 (14 tokens; 0.7 at 100). Other
processors were not measured, and keep to the fused one; nor was forward alone, which goes the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from bench.nmt.cache import suit_plain_operations
from bench.nmt.linear import mkl_is_faster

# cuDNN's attention, which PyTorch prefers on some GPUs, makes a plan for each new shape, and takes longer for that than
# for the attention. Batches of sentences have new shapes all the time, and so has each position of a search.
torch.backends.cuda.enable_cudnn_sdp(False)

LONGEST = 128
"""Keys up to which attention is written out: it keeps the probabilities of each query, fused attention does not."""


def attention(
    *projected: Tensor, heads: int, mask: Tensor | None = None, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """What queries gather, (batch, queries, width).

    Args:
        projected: queries, keys and values side by side, (batch, length, 3 * width); or queries, (batch, queries,
            width), and keys and values, (batch, keys, 2 * width).
        mask: bool, broadcast to (batch, heads, queries, keys), true where a key may be attended to: one for each query
            at least.
        causal: no key after its query.
        dropout: of the probabilities.

    It need not have a second derivative.

    Raises:
        ValueError: both ``mask`` and ``causal``.
    """
    if causal and mask is not None:
        raise ValueError("attention is causal or has a mask of its own, not both")
    if not dropout and _suits_products(projected[-1]):
        if causal:
            queries, keys = projected[0].size(1), projected[-1].size(1)
            mask = torch.ones(queries, keys, dtype=torch.bool).tril()
        gathered: Tensor = _Attention.apply(heads, mask, *projected)
        return gathered
    query, key, value = by_head(*projected, heads=heads)
    return merged(F.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout, is_causal=causal))


def by_head(*projected: Tensor, heads: int) -> list[Tensor]:
    """Queries, keys and values as (batch, heads, length, width of a head)."""
    parts = (each.chunk(count, dim=2) for each, count in zip(projected, _counts(projected), strict=True))
    return [part.unflatten(2, (heads, -1)).transpose(1, 2) for several in parts for part in several]


def merged(mixed: Tensor) -> Tensor:
    """(batch, heads, queries, width of a head) to (batch, queries, width)."""
    return mixed.transpose(1, 2).flatten(2)


def _counts(projected: Sequence[Tensor]) -> tuple[int, ...]:
    """How many of queries, keys and values lie side by side in each."""
    return (3,) if len(projected) == 1 else (1, 2)


def _split(states: Tensor, count: int, heads: int) -> Tensor:
    """(batch, length, count * width) to (count, batch, heads, length, width of a head)."""
    batch, length, _ = states.shape
    return states.view(batch, length, count, heads, -1).permute(2, 0, 3, 1, 4)


def _suits_products(keys: Tensor) -> bool:
    """Whether products of matrices are the faster way."""
    plain = suit_plain_operations(keys) and not torch.is_autocast_enabled("cpu")
    return plain and keys.size(1) <= LONGEST and mkl_is_faster()


class _Attention(torch.autograd.Function):
    """Attention by products of each head's matrices, and its gradient from the probabilities."""

    @staticmethod
    def forward(context: Any, heads: int, mask: Tensor | None, *projected: Tensor) -> Tensor:
        split = [
            _split(each, count, heads).contiguous().flatten(1, 2)
            for each, count in zip(projected, _counts(projected), strict=True)
        ]
        query, key, value = (part for each in split for part in each.unbind())
        scores = _scaled(query, key.transpose(1, 2), query.size(-1) ** -0.5)
        if mask is not None:  # adding is faster than masked_fill_ with a mask that is broadcast
            scores.unflatten(0, (-1, heads)).add_(scores.new_zeros(mask.shape).masked_fill_(~mask, -math.inf))
        p = scores.softmax(dim=-1)
        context.save_for_backward(p, *split)
        context.heads = heads
        return merged(p.bmm(value).unflatten(0, (-1, heads)))

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        p, *split = context.saved_tensors
        query, key, value = (part for each in split for part in each.unbind())
        gradients = [torch.empty_like(each) for each in split]
        of_query, of_key, of_value = (part for each in gradients for part in each.unbind())
        of_mixed = _split(upstream, 1, context.heads).flatten(0, 2)
        torch.bmm(p.transpose(1, 2), of_mixed, out=of_value)
        of_scores = torch._softmax_backward_data(of_mixed.bmm(value.transpose(1, 2)), p, -1, p.dtype)
        scale = query.size(-1) ** -0.5
        _scaled(of_scores, key, scale, into=of_query)
        _scaled(of_scores.transpose(1, 2), query, scale, into=of_key)
        return None, None, *(_joined(each, context.heads) for each in gradients)


def _scaled(left: Tensor, right: Tensor, scale: float, into: Tensor | None = None) -> Tensor:
    """``scale`` times the products of matrices, in one step."""
    return torch.baddbmm(left.new_zeros(()), left, right, beta=0, alpha=scale, out=into)


def _joined(split: Tensor, heads: int) -> Tensor:
    """(count, batch * heads, length, width of a head) to (batch, length, count * width)."""
    return split.unflatten(1, (-1, heads)).permute(1, 3, 0, 2, 4).flatten(2)
