"""The layers of the Transformer: attention (fused, or with its maps) and residual sublayers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.config import ModelConfig
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
        query: Tensor,
        key_value: Tensor,
        mask: Tensor | None,
        *,
        causal: bool = False,
        maps: list[Tensor] | None = None,
    ) -> Tensor:
        """What the queries gather.

        Args:
            query: (batch, queries, width).
            key_value: (batch, keys, 2 * width).
            mask: bool, broadcast to (batch, heads, queries, keys), true where a key may be attended to.
            causal: no key after its query; without ``mask`` or ``maps`` only.
            maps: gets the (batch, heads, queries, keys) probabilities before dropout; None for fused attention.
        """
        key, value = key_value.chunk(2, dim=-1)
        query, key, value = self._heads(query), self._heads(key), self._heads(value)
        dropout = self.dropout if self.training else 0.0
        if maps is None:
            mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout, is_causal=causal)
        else:
            scores = (query * query.size(-1) ** -0.5) @ key.transpose(2, 3)
            maps.append((scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(dim=-1))
            mixed = F.dropout(maps[-1], dropout).to(value.dtype) @ value
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _heads(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        return states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)


class SelfAttention(Attention):
    """Attention of a sequence to itself."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.query_key_value = projection(config.width, 3)

    def split(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (batch, length, width), keys and values (batch, length, 2 * width)."""
        width = states.size(-1)
        query, key_value = self.query_key_value(states).split((width, 2 * width), dim=-1)
        return query, key_value


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
        query, key_value = self.attention.split(self.enter(states, self.attention_norm))
        change = self.attention.attend(query, key_value, mask, causal=causal, maps=maps)
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
        plain causal mask of fused attention; maps need the mask itself.
        """
        states = self.attend(states, mask, causal=mask is None, maps=maps)
        return self.feed_forward(self.attend_source(states, source, source_mask, cross_maps))

    def attend_source(
        self, states: Tensor, key_value: Tensor, source_mask: Tensor | None, maps: list[Tensor] | None
    ) -> Tensor:
        """The cross-attention sublayer."""
        query = self.cross.query(self.enter(states, self.cross_norm))
        change = self.cross.attend(query, key_value, source_mask, maps=maps)
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
