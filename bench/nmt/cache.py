"""Decoding position by position: keys and values that are kept, and attention from one new position.

PyTorch's fused attention is made for many queries. For the single one of each hypothesis it takes several times as
long on a CPU as plain sums and products over keys that lie position by position, as they are kept here. For the few
hypotheses of one sentence, where each operation costs more than its sums, products of small matrices are faster still.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROOM = 32
"""New positions that a growing past makes room for at least."""


class Memory:
    """Two buffers for pasts, which one search after another may go on using: the first touch of memory that is new to a
    process takes longer than what is copied there. Once filled in inference mode, they are for inference mode only.

    Args:
        like: of which device and precision they and all their pasts are.
    """

    def __init__(self, like: Tensor) -> None:
        self.used = self.spare = like.new_empty(0)
        self.owner: object = None
        """What the newest past knows itself by; an older one must not go on."""


class Past:
    """Keys and values of the positions decoded so far, for several hypotheses (beams) a sentence.

    When beams move or sentences leave, only the new order is noted; the past is copied into it once, before the next
    position, from one buffer into another.
    """

    def __init__(
        self,
        like: Tensor,
        *,
        layers: int,
        sentences: int,
        beams: int,
        heads: int,
        products: bool,
        memory: Memory | None = None,
    ) -> None:
        """An empty past.

        Args:
            like: (..., width) states, of which device and precision are taken.
            products: attend by products of matrices, where the states suit plain operations.
            memory: of pasts that nobody uses any more. On a GPU it is left alone: PyTorch keeps that device's itself.
        """
        self.beams = beams
        self.length = 0
        self._layers, self._sentences, self._heads, self._width = layers, sentences, heads, like.size(-1)
        self._scale = (self._width // heads) ** -0.5
        self._fused = not suit_plain_operations(like)
        self._products = products and not self._fused
        self._zero = like.new_zeros(1, 1, 1)
        self._rows = sentences * beams
        self._order: Tensor | None = None
        """The hypotheses of the past, (rows to be,), that the next position goes on from; None for all as they are."""
        self._memory = Memory(like) if memory is None or like.is_cuda else memory
        # Not the past itself: in a circle, memory would wait for the collector of garbage.
        self._me = self._memory.owner = object()

    def advance(self) -> None:
        """Make room for one more position, with the past in its new order.

        Raises:
            RuntimeError: a newer past has taken the memory over.
        """
        if self._memory.owner is not self._me:
            raise RuntimeError("this past's memory is in use by a newer one")
        order, rows = self._order, self._rows if self._order is None else len(self._order)
        memory, size = self._memory, self._size(self.length + 1, rows)
        if order is not None or size > memory.used.numel():
            if size > memory.spare.numel() or memory.spare is memory.used:
                memory.spare = memory.used[:0]  # the old one need not live beside the new one
                memory.spare = memory.used.new_empty(self._size(self.length + max(ROOM, self.length), rows))
            old = self._past(memory.used, self._rows).flatten(0, 2)
            new = self._past(memory.spare, rows).flatten(0, 2)
            if order is None:
                new.copy_(old)
            else:  # row by row: threads share an index_select along the first dimension only
                starts = torch.arange(0, len(old) * self._rows, self._rows, device=order.device)
                every = (starts.unsqueeze(1) + order).flatten()
                torch.index_select(old.flatten(0, 1), 0, every, out=new.flatten(0, 1))
            memory.used, memory.spare, self._rows, self._order = memory.spare, memory.used, rows, None
        self.length += 1
        past = self._past(memory.used, self._rows)
        self._newest = past[-1].unbind(0)
        if self._products:
            kept = past.view(*past.shape[:3], self._rows * self._heads, -1).permute(1, 2, 3, 0, 4)
        else:
            kept = past.view(*past.shape[:-1], self._heads, -1).permute(1, 2, 0, 3, 4, 5)
        self._kept = kept.unbind(0)

    def attend(self, layer: int, query_key_value: Tensor) -> Tensor:
        """Self-attention of the newest position, (batch * beams, 3 * width) to (batch * beams, width).

        Its keys and values join the past.
        """
        query, *both = query_key_value.view(self._rows, 3, -1).unbind(1)
        torch.stack(both, out=self._newest[layer])
        keys, values = self._kept[layer].unbind(0)
        if self._products:  # (rows * heads, positions, width of a head) each
            query = query.reshape(self._rows * self._heads, 1, -1)
            scores = torch.baddbmm(self._zero, query, keys.transpose(1, 2), beta=0, alpha=self._scale)
            return scores.softmax(dim=-1).bmm(values).view(self._rows, self._width)
        query = query.unflatten(1, (self._heads, -1))  # (positions, rows, heads, width of a head) each
        if self._fused:
            keys, values = keys.permute(1, 2, 0, 3), values.permute(1, 2, 0, 3)
            mixed = F.scaled_dot_product_attention(query.unsqueeze(2), keys, values)
        else:
            scores = (keys * query).sum(dim=-1, keepdim=True).mul_(self._scale)
            mixed = (values * scores.softmax(dim=0)).sum(dim=0)
        return mixed.view(self._rows, self._width)

    def move(self, parents: Tensor) -> None:
        """Let beam b of each sentence go on from beam ``parents[sentence, b]``.

        Args:
            parents: (batch, beams to be).
        """
        first = torch.arange(0, self._sentences * self.beams, self.beams, device=parents.device)
        self._reorder((first.unsqueeze(1) + parents).flatten())
        self.beams = parents.size(1)

    def select(self, sentences: Tensor) -> None:
        """Keep these sentences only."""
        rows = torch.arange(self._sentences * self.beams, device=sentences.device)
        self._reorder(rows.view(-1, self.beams)[sentences].flatten())
        self._sentences = len(sentences)

    def _reorder(self, rows: Tensor) -> None:
        self._order = rows if self._order is None else self._order[rows]

    def _size(self, positions: int, rows: int) -> int:
        return positions * self._layers * 2 * rows * self._width

    def _past(self, buffer: Tensor, rows: int) -> Tensor:
        """(positions, layers, 2, rows, width): what lies in a buffer."""
        return buffer[: self._size(self.length, rows)].view(self.length, self._layers, 2, rows, self._width)


class Sources:
    """Keys and values of a batch of sources; a sentence's beams share them."""

    def __init__(self, key_value: Tensor, mask: Tensor | None, heads: int) -> None:
        """Arrange them by heads.

        Args:
            key_value: (layers, batch, source, 2 * width) keys and values of the encoder's states.
            mask: (batch, source) bool, true at real positions; None if all are.
        """
        layers, batch, positions, _ = key_value.shape
        split = key_value.view(layers, batch, positions, 2, heads, -1)
        self._key_value = split.permute(0, 3, 1, 4, 2, 5).contiguous()
        """(layers, 2, batch, heads, source, width of a head)"""
        self._mask: Tensor | None = None
        """(batch, heads, 1, source): what is added to scores, minus infinity at padding."""
        if mask is not None:
            blocked = key_value.new_zeros(mask.shape).masked_fill(~mask, -math.inf)
            self._mask = blocked[:, None, None].expand(-1, heads, -1, -1).contiguous()
        self._scale = self._key_value.size(-1) ** -0.5
        self._fused = not suit_plain_operations(key_value)

    def attend(self, layer: int, query: Tensor) -> Tensor:
        """Attention of each hypothesis's newest position to its source: (batch * beams, width) to the same."""
        keys, values = self._key_value[layer]
        batch, heads, _, width = keys.shape
        query = query.view(batch, -1, heads, width).transpose(1, 2)
        if self._fused:
            mixed = F.scaled_dot_product_attention(query, keys, values, self._mask)
        else:
            flat, keys = query.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2)
            if self._mask is None:
                scores = flat.bmm(keys).mul_(self._scale)
            else:
                scores = torch.baddbmm(self._mask.flatten(0, 1), flat, keys, alpha=self._scale)
            mixed = scores.softmax(dim=-1).bmm(values.flatten(0, 1)).view_as(query)
        return mixed.transpose(1, 2).reshape(-1, heads * width)

    def select(self, sentences: Tensor) -> None:
        """Keep these sentences only."""
        self._key_value = self._key_value.index_select(2, sentences)
        if self._mask is not None:
            self._mask = self._mask.index_select(0, sentences)


def suit_plain_operations(states: Tensor) -> bool:
    """Whether attention is written out: on a GPU each operation costs a launch, and half precision needs exact sums."""
    return states.device.type == "cpu" and states.dtype == torch.float32
