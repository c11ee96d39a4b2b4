"""The processes that train one model together, as each of them sees the others. One process alone is a group too."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Group:
    """The default group of torch.distributed, which must take tensors on the CPU; this process alone if there is none.

    Every method but the properties is a collective: all processes call it, in the same order.
    """

    def __init__(self) -> None:
        initialised = dist.is_available() and dist.is_initialized()
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if initialised else (0, 1)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes, reports and keeps the time."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of everybody's values, in place; the same bits for all."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agreed(self, value: float) -> float:
        """The leader's value."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(shared, src=0)
        return shared.item()

    def barrier(self) -> None:
        """Wait for all."""
        self.sum(torch.zeros(()))

    def joined(self, module: nn.Module, *, ragged: bool) -> nn.Module:
        """The module with gradients that are the mean over the group; its weights become the leader's.

        Args:
            ragged: whether an update may leave parameters without a gradient, which costs a search in every pass.
        """
        if self.size == 1:
            return module
        joined = DistributedDataParallel(module, find_unused_parameters=ragged)
        joined.broadcast_buffers = False  # a Transformer's are tables of positions, the same everywhere
        return joined


def alone(module: nn.Module, *, unless: bool) -> AbstractContextManager[None]:
    """A pass whose gradients stay in this process, to be shared with those of a later one; ``unless`` it is that."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) and not unless else nullcontext()
