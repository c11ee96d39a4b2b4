"""The decoder as search runs it: one new position of every hypothesis at a time, thousands of times, without gradients.

For a few hypotheses, finding modules and their weights takes as long as the sums. Here all that stays the same from
position to position is found once. Of a sentence that is translated by itself that is more: its source is multiplied
by the projections around cross-attention in advance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from bench.nmt.cache import Past, Sources, plainly
from bench.nmt.layers import CrossAttention, DecoderLayer
from bench.nmt.linear import fixed

Map = Callable[[Tensor], Tensor]
"""(rows, width) to the same."""


class StepLayer:
    """A decoder layer for one new position of every hypothesis, with the weights that it has when this is made.

    Args:
        gather: the layer's cross-attention, its projections included.
    """

    def __init__(self, layer: DecoderLayer, gather: Map) -> None:
        self._pre_norm = layer.pre_norm
        self._activation = layer.activation
        self._query_key_value = fixed(layer.attention.query_key_value.weight, layer.attention.query_key_value.bias)
        self._attended = fixed(layer.attention.output.weight, layer.attention.output.bias)
        self._gather = gather
        self._inner = fixed(layer.inner.weight, layer.inner.bias)
        self._outer = fixed(layer.outer.weight, layer.outer.bias)
        self._attention_norm = _norm(layer.attention_norm)
        self._cross_norm = _norm(layer.cross_norm)
        self._feed_forward_norm = _norm(layer.feed_forward_norm)

    def __call__(self, states: Tensor, past: Past, index: int) -> Tensor:
        """(batch * beams, width) to the same.

        Args:
            index: the layer's place in the past.
        """
        if not self._pre_norm:
            return self._post_norm(states, past, index)
        states = states + self._attended(past.attend(index, self._query_key_value(self._attention_norm(states))))
        states = states + self._gather(self._cross_norm(states))
        return states + self._outer(self._activation(self._inner(self._feed_forward_norm(states))))

    def _post_norm(self, states: Tensor, past: Past, index: int) -> Tensor:
        attended = self._attended(past.attend(index, self._query_key_value(states)))
        states = self._attention_norm(states + attended)
        states = self._cross_norm(states + self._gather(states))
        return self._feed_forward_norm(states + self._outer(self._activation(self._inner(states))))


@dataclass(frozen=True)
class Decoding:
    """A batch of sources that is being translated."""

    layers: tuple[StepLayer, ...]
    past: Past
    sources: Sources | None
    """None for a sentence by itself, whose source the layers know."""
    project: Map
    """The newest states, (batch * beams, width), to logits (batch * beams, vocabulary)."""

    def select(self, sentences: Tensor) -> None:
        """Keep these sentences only; there must be several."""
        assert self.sources is not None
        self.sources.select(sentences)
        self.past.select(sentences)


def decoding(
    layers: Sequence[DecoderLayer],
    states: Tensor,
    mask: Tensor | None,
    output: Tensor,
    *,
    beams: int,
    alone: bool,
) -> Decoding:
    """What it takes to decode ``beams`` hypotheses of each sentence position by position, with today's weights.

    Args:
        states: (batch, source, width) of the encoder.
        mask: (batch, source) bool, true at real positions; None if all are.
        output: the output matrix.
        alone: the only sentence of a batch is translated by itself, which takes other sums.
    """
    crosses, heads = [layer.cross for layer in layers], layers[0].cross.heads
    alone = alone and len(states) == 1 and plainly(states) and heads * states.size(1) <= states.size(2)
    past = Past(states, layers=len(layers), sentences=len(states), beams=beams, heads=heads, products=alone)
    sources: Sources | None = None
    if alone:
        gathers = [_multiplied(cross, states[0]) for cross in crosses]
    else:
        sources = Sources(torch.stack([cross.key_value(states) for cross in crosses]), mask, heads)
        gathers = [_gather(cross, partial(sources.attend, index)) for index, cross in enumerate(crosses)]
    steps = tuple(StepLayer(layer, gather) for layer, gather in zip(layers, gathers, strict=True))
    return Decoding(steps, past, sources, fixed(output, None))


def _gather(cross: CrossAttention, attend: Map) -> Map:
    query, output = fixed(cross.query.weight, cross.query.bias), fixed(cross.output.weight, cross.output.bias)
    return lambda states: output(attend(query(states)))


def _multiplied(cross: CrossAttention, source: Tensor) -> Map:
    """Cross-attention to one source, (source, width), whose keys and values are multiplied by the projections.

    With the query and output matrices W, U of a head, x (W K) V U = x (W K) (V U): what is left at each position are
    two products of width by heads * source, in place of two of width by width and two for the attention.
    """
    (length, width), heads = source.shape, cross.heads
    keys, values = cross.key_value(source).view(length, 2, heads, -1).permute(1, 2, 0, 3)  # (heads, source, per head)
    keys = keys * keys.size(-1) ** -0.5
    score = keys.bmm(cross.query.weight.view(heads, -1, width)).flatten(0, 1).t().contiguous()
    score_bias = keys.bmm(cross.query.bias.view(heads, -1, 1)).flatten()
    mixed = values.bmm(cross.output.weight.view(width, heads, -1).permute(1, 2, 0)).flatten(0, 1)
    bias = cross.output.bias

    def gather(states: Tensor) -> Tensor:
        scores = torch.addmm(score_bias, states, score).view(-1, heads, length)
        return torch.addmm(bias, scores.softmax(dim=-1).view(-1, heads * length), mixed)

    return gather


def _norm(norm: nn.LayerNorm) -> Map:
    shape, weight, bias, epsilon = list(norm.normalized_shape), norm.weight, norm.bias, norm.eps
    return lambda states: torch.layer_norm(states, shape, weight, bias, epsilon)
