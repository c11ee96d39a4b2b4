"""A padded batch of sentence pairs, and the packed order in which its real target positions are counted."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from bench.nmt.ids import BOS, EOS, PAD, UNK

__all__ = ["BOS", "EOS", "PAD", "UNK", "Batch"]


@dataclass(frozen=True)
class Batch:
    """Sentence pairs, padded on the right with PAD.

    Losses work on *packed* positions: the n real target positions in row-major order, so that padding costs
    nothing and cannot change a loss.
    """

    source: Tensor
    """(batch, source) ids, ending with EOS."""
    prefix: Tensor
    """(batch, target) decoder input: BOS, then the target without its EOS."""
    target: Tensor
    """(batch, target) ids to predict, ending with EOS."""

    @classmethod
    def of(cls, sources: list[list[int]], targets: list[list[int]]) -> Batch:
        """Pad lists of ids, each ending with EOS."""
        source, target = _padded(sources), _padded(targets)
        prefix = target.roll(1, dims=1).masked_fill(target.eq(PAD).roll(1, dims=1), PAD)
        prefix[:, 0] = BOS
        prefix = prefix.masked_fill(target.eq(PAD), PAD)
        return cls(source, prefix, target)

    @property
    def mask(self) -> Tensor:
        """(batch, target) bool, true at real target positions."""
        return self.target.ne(PAD)

    @cached_property
    def positions(self) -> Tensor:
        """(n,) flat indices of the real target positions; found on the CPU, so that no GPU has to wait for them."""
        return self.mask.flatten().nonzero().squeeze(1)

    @cached_property
    def labels(self) -> Tensor:
        """(n,) gold ids at the packed positions."""
        return self.pack(self.target)

    @property
    def tokens(self) -> int:
        """n, the number of real target positions, EOS included."""
        return self.positions.numel()

    def pack(self, values: Tensor) -> Tensor:
        """(batch, target, ...) to (n, ...): the real target positions only."""
        return values.flatten(0, 1).index_select(0, self.positions)

    def unpack(self, values: Tensor, fill: int = PAD) -> Tensor:
        """(n,) to (batch, target), with ``fill`` at the padding."""
        grid = values.new_full((self.target.numel(),), fill)
        return grid.index_copy(0, self.positions, values).view_as(self.target)

    def to(self, device: torch.device | str) -> Batch:
        moved = type(self)(*(_sent(getattr(self, field.name), device) for field in fields(self)))
        moved.__dict__["positions"] = _sent(self.positions, device)
        return moved


def _sent(values: Tensor, device: torch.device | str) -> Tensor:
    """On the device. To a GPU it goes from pinned memory, out of which a copy waits for nothing that is queued."""
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _padded(rows: list[list[int]]) -> Tensor:
    grid = torch.full((len(rows), max(map(len, rows))), PAD)
    for i, row in enumerate(rows):
        grid[i, : len(row)] = torch.tensor(row)
    return grid
