"""Floating-point operations, counted by PyTorch's own counter on a sample and extended to the whole.

A multiply-add is two operations. Counted are matrix products and attention, which are all but a per cent or so. They
count as they are carried out: fused attention computes its scores again for the gradient, so that it counts a sixth
more than attention that is written out (``bench.nmt.attention``). While a CPU decodes, the decoder's attention to
itself is no matrix product and is not counted: about 1 % at 13 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from bench.config import Depth, SearchConfig
from bench.nmt.model import Transformer
from bench.nmt.search import translate_ids

FIRST_UPDATES, EVERY_UPDATES = 2, 100
"""The updates that are counted, in each stage: counting makes one about three times as slow."""
SENTENCES = 8
"""Decoded once more to count what decoding takes."""


def counter() -> FlopCounterMode:
    """PyTorch's counter, which has no formula of its own for the fused attention of CPUs and for oneDNN's products."""
    fused = torch.ops.aten
    return FlopCounterMode(
        display=False,
        custom_mapping={
            fused._scaled_dot_product_flash_attention_for_cpu: _attention,
            fused._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
            **({torch.ops.mkldnn._linear_pointwise: _linear} if torch.backends.mkldnn.is_available() else {}),
        },
    )


@dataclass
class TrainingFlops:
    """Counts some updates of a training and extends them, stage by stage, to all by their target tokens.

    Args:
        state: that of an earlier process, as :attr:`state` had it.
    """

    state: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By stage: the tokens counted, and the operations by phase."""
    _open: FlopCounterMode | None = None
    _inner: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def update(self, phase: str, stage: int, update: int, tokens: int) -> Iterator[None]:
        """Count an update of so many target tokens, if it is one of the sample; charged to ``phase``."""
        if update > FIRST_UPDATES and update % EVERY_UPDATES:
            yield
            return
        self._inner = {}
        with counter() as self._open:
            yield
        inner, counted = self._inner, float(self._open.get_total_flops())
        self._open = None
        sample = self.state.setdefault(str(stage), {"tokens": 0, "flops": {}})
        sample["tokens"] += tokens
        for name, flops in {**inner, phase: counted - sum(inner.values())}.items():
            sample["flops"][name] = sample["flops"].get(name, 0.0) + flops

    @contextmanager
    def part(self, phase: str) -> Iterator[None]:
        """Charge what is counted inside to ``phase`` in place of the update's."""
        if self._open is None:
            yield
            return
        before = self._open.get_total_flops()
        yield
        self._inner[phase] = self._inner.get(phase, 0.0) + self._open.get_total_flops() - before

    def total(self, tokens: Sequence[int]) -> dict[str, float]:
        """The operations of all updates, by phase.

        Args:
            tokens: target tokens of each stage.
        """
        found: dict[str, float] = {}
        for stage, sample in self.state.items():
            for name, flops in sample["flops"].items():
                found[name] = found.get(name, 0.0) + flops * tokens[int(stage)] / max(1, sample["tokens"])
        return found


def counted(work: Callable[[], Any]) -> float:
    """The operations of one piece of work."""
    with counter() as counting:
        work()
    return float(counting.get_total_flops())


def decoding_flops(
    model: Transformer,
    sources: Sequence[list[int]],
    search: SearchConfig,
    device: torch.device | str,
    depth: Depth | None = None,
    n_best: int = 1,
) -> float:
    """The operations of decoding for each piece of the source; a few sentences of all lengths are decoded for it."""
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    chosen = [sources[order[(2 * i + 1) * len(order) // (2 * SENTENCES)]] for i in range(SENTENCES)]
    return counted(lambda: translate_ids(model, chosen, search, n_best=n_best, device=device, depth=depth)) / sum(
        map(len, chosen)
    )


def formula_flops(parameters: int, tokens: int) -> float:
    """6 operations for each parameter and token: 2 in the forward pass and 4 in the backward (Kaplan et al. 2020).

    Embeddings take no part but for the projection, and attention's own products are left out.
    """
    return 6.0 * parameters * tokens


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *rest: Any, **options: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(
    grad: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *rest: Any, **options: Any
) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


def _linear(states: torch.Size, weight: torch.Size, *rest: Any, **options: Any) -> int:
    return 2 * states.numel() * weight[0]
