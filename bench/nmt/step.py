"""The decoder as search runs it: one new position of every hypothesis at a time, thousands of times, without gradients.

For a few hypotheses, finding modules and their weights takes as long as the sums. Here all that stays the same from
position to position is found once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.nmt.cache import Cache
from bench.nmt.layers import DecoderLayer
from bench.nmt.linear import fixed


class StepLayer:
    """A decoder layer for one new position of every hypothesis, with the weights that it has when this is made."""

    def __init__(self, layer: DecoderLayer) -> None:
        self._pre_norm = layer.pre_norm
        self._activation = layer.activation
        self._query_key_value = fixed(layer.attention.query_key_value)
        self._attended = fixed(layer.attention.output)
        self._query = fixed(layer.cross.query)
        self._gathered = fixed(layer.cross.output)
        self._inner, self._outer = fixed(layer.inner), fixed(layer.outer)
        self._attention_norm = _norm(layer.attention_norm)
        self._cross_norm = _norm(layer.cross_norm)
        self._feed_forward_norm = _norm(layer.feed_forward_norm)

    def __call__(self, states: Tensor, cache: Cache, index: int) -> Tensor:
        """(batch * beams, width) to the same.

        Args:
            index: the layer's place in the cache.
        """
        if not self._pre_norm:
            return self._post_norm(states, cache, index)
        states = states + self._attended(cache.attend(index, self._query_key_value(self._attention_norm(states))))
        states = states + self._gathered(cache.attend_source(index, self._query(self._cross_norm(states))))
        return states + self._outer(self._activation(self._inner(self._feed_forward_norm(states))))

    def _post_norm(self, states: Tensor, cache: Cache, index: int) -> Tensor:
        attended = self._attended(cache.attend(index, self._query_key_value(states)))
        states = self._attention_norm(states + attended)
        states = self._cross_norm(states + self._gathered(cache.attend_source(index, self._query(states))))
        return self._feed_forward_norm(states + self._outer(self._activation(self._inner(states))))


class Decoding(NamedTuple):
    """A batch of sources that is being translated."""

    layers: tuple[StepLayer, ...]
    cache: Cache


def _norm(norm: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
    shape, weight, bias, epsilon = list(norm.normalized_shape), norm.weight, norm.bias, norm.eps
    return lambda states: torch.layer_norm(states, shape, weight, bias, epsilon)
