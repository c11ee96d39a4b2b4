"""The decoder as search runs it: one new position of every hypothesis at a time, thousands of times, without gradients.

For a few hypotheses, finding modules and their weights takes as long as the sums. Here all that stays the same from
position to position is found once. Of a sentence that is translated by itself that is more: its source is multiplied
by the projections around cross-attention in advance. Its few rows are multiplied by weights in whichever arrangement is
read fastest (``bench.nmt.linear.fixed``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from bench.nmt.cache import Memory, Past, Sources, suit_plain_operations
from bench.nmt.layers import CrossAttention, DecoderLayer
from bench.nmt.linear import fixed

Map = Callable[[Tensor], Tensor]
"""(rows, inputs) to (rows, outputs)."""


class StepLayer:
    """A decoder layer for one new position of every hypothesis, with the weights that it has when this is made.

    Args:
        gather: the layer's cross-attention, its projections included.
        fix: gives the map of one of its linear modules.
    """

    def __init__(self, layer: DecoderLayer, gather: Map, fix: Callable[[nn.Linear], Map]) -> None:
        self._pre_norm = layer.pre_norm
        self._activation = layer.activation
        self._query_key_value = fix(layer.attention.query_key_value)
        self._attended = fix(layer.attention.output)
        self._gather = gather
        self._inner, self._outer = fix(layer.inner), fix(layer.outer)
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

    @classmethod
    def of(
        cls,
        layers: Sequence[DecoderLayer],
        states: Tensor,
        mask: Tensor | None,
        output: Tensor,
        *,
        beams: int,
        alone: bool,
        memory: Memory | None = None,
    ) -> Decoding:
        """The beginning, with the layers' weights of today.

        Args:
            states: (batch, source, width) of the encoder.
            mask: (batch, source) bool, true at real positions; None if all are.
            output: the output matrix.
            alone: a batch of one sentence may take other sums.
            memory: of pasts that nobody uses any more.
        """
        (sentences, length, width), heads = states.shape, layers[0].cross.heads
        # Of a longer source, what is multiplied in advance is more than the projections that it replaces.
        single = alone and sentences == 1
        multiplied = single and mask is None and heads * length <= width and suit_plain_operations(states)

        def fix(linear: nn.Linear) -> Map:
            return fixed(linear.weight, linear.bias, few=single)

        crosses, sources = [layer.cross for layer in layers], None
        if multiplied:
            gathers = [_multiplied(cross, states[0]) for cross in crosses]
        else:
            sources = Sources(torch.stack([cross.key_value(states) for cross in crosses]), mask, heads)
            gathers = [
                _gather(fix(cross.query), partial(sources.attend, index), fix(cross.output))
                for index, cross in enumerate(crosses)
            ]
        return cls(
            tuple(StepLayer(layer, gather, fix) for layer, gather in zip(layers, gathers, strict=True)),
            Past(
                states,
                layers=len(layers),
                sentences=sentences,
                beams=beams,
                heads=heads,
                products=multiplied,
                memory=memory,
            ),
            sources,
            fixed(output, None, few=single),
        )

    def select(self, sentences: Tensor) -> None:
        """Keep these sentences only.

        Raises:
            ValueError: there is one sentence only, whose source the layers know.
        """
        if self.sources is None:
            raise ValueError("a sentence that is translated by itself cannot be left out")
        self.sources.select(sentences)
        self.past.select(sentences)


def _gather(query: Map, attend: Map, output: Map) -> Map:
    return lambda states: output(attend(query(states)))


def _multiplied(cross: CrossAttention, source: Tensor) -> Map:
    """Cross-attention to one source, (source, width), whose keys and values are multiplied by the projections.

    With a head's projections W of queries and U of what is gathered, softmax(x W K^T) V U is softmax(x (W K^T)) (V U):
    at each position that leaves two products of width by heads * source, where there were two of width by width and
    two for attention. The query's bias gives each key a bias of its own.
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
