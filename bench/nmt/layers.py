"""The layers of the Transformer: attention, with its maps where they are wanted, and residual sublayers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.config import ModelConfig
from bench.nmt.attention import attention, by_head, merged
from bench.nmt.linear import Linear


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.attention_dropout
        self.output = projection(config.width, 1, gain=1.0)

    def attend(
        self,
        *projected: Tensor,
        mask: Tensor | None,
        causal: bool = False,
        maps: list[Tensor] | None = None,
    ) -> Tensor:
        """What the queries gather.

        Args:
            projected: queries, keys and values side by side, (batch, length, 3 * width); or queries, (batch, queries,
                width), and keys and values, (batch, keys, 2 * width).
            mask: bool, broadcast to (batch, heads, queries, keys), true where a key may be attended to.
            causal: no key after its query; without ``mask`` or ``maps`` only.
            maps: gets the (batch, heads, queries, keys) probabilities before dropout; faster without.
        """
        dropout = self.dropout if self.training else 0.0
        if maps is None:
            gathered = attention(*projected, heads=self.heads, mask=mask, causal=causal, dropout=dropout)
        else:
            query, key, value = by_head(*projected, heads=self.heads)
            scores = (query * query.size(-1) ** -0.5) @ key.transpose(2, 3)
            maps.append((scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(dim=-1))
            gathered = merged(F.dropout(maps[-1], dropout).to(value.dtype) @ value)
        return self.output(gathered)


class SelfAttention(Attention):
    """Attention of a sequence to itself."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.query_key_value = projection(config.width, 3)


class CrossAttention(Attention):
    """Attention of the target to the source."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.query = projection(config.width, 1)
        self.key_value = projection(config.width, 2)


class Layer(nn.Module):
    """What encoder and decoder layers share: self-attention, feed-forward network, residual connections, norms."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.dropout = config.dropout
        self.activation_dropout = config.activation_dropout
        self.activation = _relu if config.activation == "relu" else F.gelu
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.width)
        self.inner = Linear(config.width, config.ffn)
        self.outer = Linear(config.ffn, config.width)
        self.feed_forward_norm = nn.LayerNorm(config.width)
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def attend(
        self, states: Tensor, mask: Tensor | None, *, causal: bool = False, maps: list[Tensor] | None = None
    ) -> Tensor:
        """The self-attention sublayer."""
        projected = self.attention.query_key_value(self.enter(states, self.attention_norm))
        change = self.attention.attend(projected, mask=mask, causal=causal, maps=maps)
        return self.leave(states, change, self.attention_norm)

    def feed_forward(self, states: Tensor) -> Tensor:
        """The feed-forward sublayer."""
        inner = self.activation(self.inner(self.enter(states, self.feed_forward_norm)))
        change = self.outer(dropped(inner, self.activation_dropout, self.training))
        return self.leave(states, change, self.feed_forward_norm)

    def enter(self, states: Tensor, norm: nn.LayerNorm) -> Tensor:
        """A sublayer's input, normed in a pre-norm model."""
        return norm(states) if self.pre_norm else states

    def leave(self, states: Tensor, change: Tensor, norm: nn.LayerNorm) -> Tensor:
        """A sublayer's output: the residual connection, normed in a post-norm model."""
        states = states + dropped(change, self.dropout, self.training)
        return states if self.pre_norm else norm(states)


class EncoderLayer(Layer):
    """Self-attention and feed-forward network."""

    def forward(self, states: Tensor, mask: Tensor | None, maps: list[Tensor] | None) -> Tensor:
        return self.feed_forward(self.attend(states, mask, maps=maps))


class DecoderLayer(Layer):
    """Self-attention, cross-attention and feed-forward network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.cross = CrossAttention(config)
        self.cross_norm = nn.LayerNorm(config.width)

    def forward(
        self,
        states: Tensor,
        source: Tensor,
        source_mask: Tensor | None,
        mask: Tensor | None,
        maps: list[Tensor] | None,
        cross_maps: list[Tensor] | None,
    ) -> Tensor:
        """``source`` is the keys and values of the encoder's states, (batch, source, 2 * width). ``mask`` None is the
        plain causal mask; maps need the mask itself.
        """
        states = self.attend(states, mask, causal=mask is None, maps=maps)
        return self.feed_forward(self.attend_source(states, source, source_mask, cross_maps))

    def attend_source(
        self, states: Tensor, key_value: Tensor, source_mask: Tensor | None, maps: list[Tensor] | None
    ) -> Tensor:
        """The cross-attention sublayer."""
        query = self.cross.query(self.enter(states, self.cross_norm))
        change = self.cross.attend(query, key_value, mask=source_mask, maps=maps)
        return self.leave(states, change, self.cross_norm)


def dropped(states: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout. On a CPU the noise is 16 bits an element, which takes half of ``F.dropout``'s time."""
    if not (training and rate):
        return states
    if states.device.type != "cpu":
        return F.dropout(states, rate)
    count = states.numel()
    noise = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    kept = noise.view(states.shape) <= round((0.5 - rate) * 2**16) - 1
    return states * kept.to(states.dtype).mul_(1 / (1 - rate))


def _relu(states: Tensor) -> Tensor:
    return F.relu(states, inplace=not states.requires_grad)


def projection(width: int, parts: int, gain: float = 2**-0.5) -> Linear:
    """``parts`` square projections of one input; the default gain is as if query, key and value were one matrix."""
    linear = Linear(width, parts * width)
    for block in linear.weight.detach().split(width):
        nn.init.xavier_uniform_(block, gain=gain)
    nn.init.zeros_(linear.bias)
    return linear
