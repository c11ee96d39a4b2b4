"""Attention: written out and fused it is the same, and each processor takes the faster."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor

import bench.nmt.attention as module
from bench.measure.flops import counted
from bench.nmt.attention import attention

BATCH, HEADS, WIDTH = 3, 2, 8
PADDED = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)[:, None, None]
FORMS: dict[str, tuple[tuple[int, ...], dict[str, object]]] = {
    "self": ((3,), {}),
    "self, causal": ((3,), {"causal": True}),
    "self, padded": ((3,), {"mask": PADDED}),
    "self, a mask of its own for each query": ((3,), {"mask": PADDED & torch.ones(5, 5, dtype=torch.bool).tril()}),
    "cross": ((1, 2), {}),
    "cross, causal": ((1, 2), {"causal": True}),
    "cross, padded": ((1, 2), {"mask": PADDED}),
}


def drawn(counts: tuple[int, ...]) -> list[Tensor]:
    """Projections; keys have five positions, queries of their own four."""
    torch.manual_seed(1)
    lengths = [5] if counts == (3,) else [4, 5]
    return [torch.randn(BATCH, length, count * WIDTH, requires_grad=True) for length, count in zip(lengths, counts)]


def by_hand(projected: list[Tensor], mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Head by head, as the paper has it."""
    query, key, value = torch.cat(projected, 2).split(WIDTH, 2) if len(projected) == 1 else (
        projected[0], *projected[1].split(WIDTH, 2)
    )  # fmt: skip
    gathered = []
    for q, k, v in zip(*(part.split(WIDTH // HEADS, 2) for part in (query, key, value)), strict=True):
        scores = q @ k.mT / math.sqrt(WIDTH // HEADS)
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, 0], -math.inf)
        gathered.append(scores.softmax(-1) @ v)
    return torch.cat(gathered, 2)


@pytest.mark.parametrize("written_out", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_attention_and_its_gradient_are_those_of_the_paper(
    form: str, written_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "mkl_is_faster", lambda: written_out)
    counts, options = FORMS[form]

    def found(of: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        projected = drawn(counts)
        result = of(projected)
        weights = torch.arange(result.numel(), dtype=torch.float32).view_as(result).cos()
        return result, *torch.autograd.grad((result * weights).sum(), projected)

    torch.testing.assert_close(
        found(lambda projected: attention(*projected, heads=HEADS, **options)),
        found(lambda projected: by_hand(projected, **options)),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("form", FORMS)
def test_without_gradients_it_is_that_of_the_paper(
    form: str, without_gradients: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "mkl_is_faster", lambda: True)
    counts, options = FORMS[form]
    projected = drawn(counts)
    with without_gradients():
        found = attention(*projected, heads=HEADS, **options)
    assert not found.requires_grad
    torch.testing.assert_close(found, by_hand(projected, **options).detach(), rtol=1e-5, atol=1e-6)


def test_causal_and_a_mask_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        attention(*drawn((3,)), heads=HEADS, mask=PADDED, causal=True)


BEYOND = module.LONGEST + 1


@pytest.mark.parametrize(
    ("written_out", "mkl", "dropout", "queries", "keys", "dtype", "autocast"),
    [
        (True, True, 0.0, 5, 5, torch.float32, False),
        (True, True, 0.0, BEYOND, 5, torch.float32, False),
        (True, True, 0.0, 5, module.LONGEST, torch.float32, False),
        (False, False, 0.0, 5, 5, torch.float32, False),
        (False, True, 0.1, 5, 5, torch.float32, False),
        (False, True, 0.0, 5, BEYOND, torch.float32, False),
        (False, True, 0.0, 5, 5, torch.bfloat16, False),
        (False, True, 0.0, 5, 5, torch.float32, True),
    ],
)
def test_it_is_written_out_where_that_is_faster(
    written_out: bool,
    mkl: bool,
    dropout: float,
    queries: int,
    keys: int,
    dtype: torch.dtype,
    autocast: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "mkl_is_faster", lambda: mkl)
    query = torch.randn(BATCH, queries, WIDTH, dtype=dtype, requires_grad=True)
    key_value = torch.randn(BATCH, keys, 2 * WIDTH, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = attention(query, key_value, heads=HEADS, dropout=dropout)
    nodes, names = [result.grad_fn], set()
    while nodes:
        if node := nodes.pop():
            names.add(node.name())
            nodes += [following for following, _ in node.next_functions]
    assert ("_AttentionBackward" in names) == written_out


def test_written_out_its_six_products_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "mkl_is_faster", lambda: True)
    (projected,) = drawn((3,))
    product = 2 * BATCH * 5 * 5 * WIDTH
    assert counted(lambda: attention(projected.detach(), heads=HEADS)) == 2 * product
    assert counted(lambda: attention(projected, heads=HEADS).sum().backward()) == 6 * product
