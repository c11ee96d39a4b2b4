"""Decoding position by position: keys and values that are kept, and attention from one new position.

PyTorch's fused attention is made for many queries. For the single one of each hypothesis it takes several times as
long on a CPU as plain sums and products over keys that lie position by position, as they are kept here.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROOM = 32
"""New positions that a growing cache makes room for at least."""


class Cache:
    """Keys and values of the source and of the positions decoded so far, for several hypotheses (beams) a sentence.

    Beams share their sentence's keys of the source; each has its own past. When beams move or sentences leave, only the
    new order is noted; the past is copied into it once, before the next position, from one buffer into another.
    """

    def __init__(self, source: Tensor, mask: Tensor | None, heads: int, beams: int) -> None:
        """An empty past.

        Args:
            source: (layers, batch, source, 2 * width) keys and values of the encoder's states.
            mask: (batch, source) bool, true at real positions; None if all are.
        """
        layers, batch, positions, both = source.shape
        self.layers = layers
        self.beams = beams
        self.length = 0
        self._batch, self._heads, self._width = batch, heads, both // 2
        split = source.view(layers, batch, positions, 2, heads, -1)
        self._source = split.permute(0, 3, 1, 4, 2, 5).contiguous()
        """(layers, 2, batch, heads, source, width of a head)"""
        self._mask: Tensor | None = None
        """(batch, heads, 1, source): what is added to scores, minus infinity at padding."""
        if mask is not None:
            blocked = source.new_zeros(mask.shape).masked_fill(~mask, -math.inf)
            self._mask = blocked[:, None, None].expand(-1, heads, -1, -1).contiguous()
        self._scale = self._source.size(-1) ** -0.5
        self._fused = source.device.type != "cpu" or source.dtype != torch.float32
        """On a GPU each plain operation would cost a launch; half precision needs exact sums."""
        self._rows = batch * beams
        self._order: Tensor | None = None
        """The hypotheses of the past, (rows to be,), that the next position goes on from; None for all as they are."""
        self._used = self._spare = source.new_empty(0)

    def advance(self) -> None:
        """Make room for one more position, with the past in its new order."""
        order, rows = self._order, self._rows if self._order is None else len(self._order)
        if order is not None or self._size(self.length + 1, rows) > self._used.numel():
            if self._size(self.length + 1, rows) > self._spare.numel() or self._spare is self._used:
                self._spare = self._used.new_empty(self._size(self.length + max(ROOM, self.length), rows))
            old = self._past(self._used, self._rows).flatten(0, 2)
            new = self._past(self._spare, rows).flatten(0, 2)
            if order is None:
                new.copy_(old)
            else:
                torch.index_select(old, 1, order, out=new)
            self._used, self._spare, self._rows, self._order = self._spare, self._used, rows, None
        self.length += 1
        past = self._past(self._used, self._rows)
        self._newest = past[-1].unbind(0)
        self._kept = past.view(*past.shape[:-1], self._heads, -1).permute(1, 2, 0, 3, 4, 5).unbind(0)

    def attend(self, layer: int, query_key_value: Tensor) -> Tensor:
        """Self-attention of the newest position, (batch * beams, 3 * width) to (batch * beams, width).

        Its keys and values join the past.
        """
        parts = query_key_value.view(self._rows, 3, -1)
        self._newest[layer].copy_(parts[:, 1:].transpose(0, 1))
        keys, values = self._kept[layer].unbind(0)  # (positions, rows, heads, width of a head) each
        query = parts[:, 0].unflatten(1, (self._heads, -1))
        if self._fused:
            keys, values = keys.permute(1, 2, 0, 3), values.permute(1, 2, 0, 3)
            mixed = F.scaled_dot_product_attention(query.unsqueeze(2), keys, values)
        else:
            scores = (keys * query).sum(dim=-1, keepdim=True).mul_(self._scale)
            mixed = (values * scores.softmax(dim=0)).sum(dim=0)
        return mixed.view(self._rows, self._width)

    def attend_source(self, layer: int, query: Tensor) -> Tensor:
        """Attention of the newest position to the source: (batch * beams, width) to the same."""
        query = query.view(self._batch, self.beams, self._heads, -1).transpose(1, 2)
        keys, values = self._source[layer]
        if self._fused:
            mixed = F.scaled_dot_product_attention(query, keys, values, self._mask)
        else:
            flat, keys = query.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2)
            if self._mask is None:
                scores = flat.bmm(keys).mul_(self._scale)
            else:
                scores = torch.baddbmm(self._mask.flatten(0, 1), flat, keys, alpha=self._scale)
            mixed = scores.softmax(dim=-1).bmm(values.flatten(0, 1)).view_as(query)
        return mixed.transpose(1, 2).reshape(self._rows, self._width)

    def move(self, parents: Tensor) -> None:
        """Let beam b of each sentence go on from beam ``parents[sentence, b]``.

        Args:
            parents: (batch, beams to be).
        """
        first = torch.arange(0, self._batch * self.beams, self.beams, device=parents.device)
        self._reorder((first.unsqueeze(1) + parents).flatten())
        self.beams = parents.size(1)

    def select(self, sentences: Tensor) -> None:
        """Keep these sentences only."""
        rows = torch.arange(self._batch * self.beams, device=sentences.device)
        self._reorder(rows.view(-1, self.beams)[sentences].flatten())
        self._source = self._source.index_select(2, sentences)
        self._batch = len(sentences)
        if self._mask is not None:
            self._mask = self._mask.index_select(0, sentences)

    def _reorder(self, rows: Tensor) -> None:
        self._order = rows if self._order is None else self._order[rows]

    def _size(self, positions: int, rows: int) -> int:
        return positions * self.layers * 2 * rows * self._width

    def _past(self, buffer: Tensor, rows: int) -> Tensor:
        """(positions, layers, 2, rows, width): what lies in a buffer."""
        return buffer[: self._size(self.length, rows)].view(self.length, self.layers, 2, rows, self._width)
