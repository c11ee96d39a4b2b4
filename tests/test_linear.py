"""Affine maps: the same as PyTorch's, whichever library computes them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.measure.flops import counted
from bench.nmt import linear as module
from bench.nmt.linear import LARGE, SMALL, Linear, fixed, linear, pack, packed

ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
MKL = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this PyTorch has no MKL")


def processor(capability: str) -> Any:
    """What PyTorch takes the processor for, whatever the tests run on."""
    return patch.object(torch.backends.cpu, "get_cpu_capability", return_value=capability)


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    """A processor on which oneDNN is worth it."""
    with processor("AVX512"):
        yield


class Called(TorchDispatchMode):
    """The names of the operators that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(operator.overloadpacket.__name__)
        return operator(*args, **(kwargs or {}))


every_processor = pytest.mark.parametrize("capability", ["AVX2", "AVX512"])


def drawn(*shape: int, gradient: bool = True) -> Tensor:
    return torch.randn(*shape, requires_grad=gradient)


def through_onednn(*tensors: Any) -> bool:
    """Whether the map of these goes through oneDNN."""
    with patch.object(module, "_product", wraps=module._product) as product:
        linear(*tensors)
    return bool(product.called)


@ONEDNN
@pytest.mark.parametrize(("outputs", "inputs"), [(96, 256), (256, 96)])
@pytest.mark.parametrize("leading", [(64,), (4, 16)])
@pytest.mark.parametrize("biased", [True, False])
def test_onednn_gives_values_and_gradients_of_pytorch(
    outputs: int, inputs: int, leading: tuple[int, ...], biased: bool
) -> None:
    torch.manual_seed(1)
    arguments = [drawn(*leading, inputs), drawn(outputs, inputs), drawn(outputs) if biased else None]
    assert through_onednn(*arguments)
    wanted = [each for each in arguments if each is not None]
    upstream = torch.randn(*leading, outputs)
    result, expected = linear(*arguments), F.linear(*arguments)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-4)
    ours, theirs = (torch.autograd.grad(each, wanted, upstream) for each in (result, expected))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=2e-4)


@ONEDNN
def test_only_the_gradients_asked_for_are_computed() -> None:
    states, weight = drawn(64, 256), drawn(96, 256, gradient=False)
    result = linear(states, weight)
    with patch.object(module, "_weight_gradient") as gradient:
        result.sum().backward()
    assert states.grad is not None
    assert not gradient.called


@ONEDNN
def test_what_is_not_contiguous_is_multiplied_as_it_reads() -> None:
    states, weight = drawn(256, 64).t(), drawn(256, 96).t()
    assert through_onednn(states, weight)
    torch.testing.assert_close(linear(states, weight), F.linear(states, weight), rtol=1e-5, atol=1e-4)


@ONEDNN
@every_processor
def test_the_same_product_twice_gives_the_same_bits(capability: str) -> None:
    states, weight = drawn(300, 256), drawn(512, 256)
    with processor(capability):
        first, second = (torch.autograd.grad(linear(states, weight).square().sum(), (states, weight)) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("states", "weight"),
    [
        (torch.zeros(LARGE // 64 - 1, 8), torch.zeros(8, 8)),
        (torch.zeros(LARGE, 8, dtype=torch.float64), torch.zeros(8, 8, dtype=torch.float64)),
        (torch.zeros(LARGE, 8, dtype=torch.bfloat16), torch.zeros(8, 8, dtype=torch.bfloat16)),
    ],
    ids=["small", "double", "bfloat16"],
)
def test_pytorch_keeps_small_products_and_other_types(states: Tensor, weight: Tensor) -> None:
    assert not through_onednn(states, weight)
    assert linear(states, weight).dtype == states.dtype


@ONEDNN
@MKL
def test_without_avx512_mkl_multiplies_all_but_packed_weights() -> None:
    layer, states = Linear(64, 64), drawn(1024, 64)
    with processor("AVX2"):
        assert not through_onednn(states, layer.weight)
        with packed([layer.weight]), torch.no_grad():
            assert through_onednn(states, layer.weight)


def test_mixed_precision_is_left_to_pytorch() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(drawn(1024, 64), drawn(64, 64)).dtype == torch.bfloat16


def test_a_switch_of_pytorch_turns_onednn_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not through_onednn(drawn(1024, 64), drawn(64, 64))


@every_processor
@pytest.mark.parametrize("rows", [8, 1024])
def test_operations_are_counted_alike(rows: int, capability: str) -> None:
    layer, states = Linear(64, 32), drawn(rows, 64)
    with processor(capability):
        assert counted(lambda: layer(states)) == 2 * rows * 64 * 32
        assert counted(lambda: layer(states).sum().backward()) == 3 * 2 * rows * 64 * 32


@ONEDNN
@pytest.mark.parametrize("rows", [(1,), (1, 1), (2, 5), (70,)])
@pytest.mark.parametrize("biased", [True, False])
def test_packed_weights_give_the_same_map(rows: tuple[int, ...], biased: bool) -> None:
    torch.manual_seed(2)
    layer = Linear(24, 40, bias=biased)
    states = drawn(*rows, 24)
    with packed([layer.weight]), torch.no_grad():
        assert hasattr(layer.weight, "packed")
        torch.testing.assert_close(layer(states), F.linear(states, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)


@ONEDNN
def test_packed_weights_still_learn() -> None:
    layer, states = Linear(24, 40), drawn(3, 24)
    with packed([layer.weight]):
        layer(states).sum().backward()
    assert layer.weight.grad is not None


@ONEDNN
def test_packing_ends_with_its_block_and_leaves_what_was_packed_before() -> None:
    first, second = Linear(8, 8), Linear(8, 8)
    pack([first.weight])
    with pytest.raises(KeyError), packed([first.weight, second.weight]):
        raise KeyError
    assert hasattr(first.weight, "packed")
    assert not hasattr(second.weight, "packed")


def test_other_precisions_are_not_packed() -> None:
    layer = Linear(8, 8).double()
    with packed([layer.weight]), torch.no_grad():
        assert layer(torch.ones(1, 8, dtype=torch.float64)).dtype == torch.float64


@ONEDNN
def test_operations_of_packed_products_are_counted() -> None:
    layer = Linear(24, 40)
    for rows in (1, 6):
        with packed([layer.weight]), torch.no_grad():
            assert counted(lambda rows=rows: layer(torch.ones(rows, 24))) == 2 * rows * 24 * 40


@ONEDNN
def test_a_second_derivative_is_an_error_and_not_zero() -> None:
    states, weight = drawn(64, 256), drawn(96, 256)
    (gradient,) = torch.autograd.grad(linear(states, weight).square().sum(), states, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@ONEDNN
def test_copies_of_a_weight_that_has_changed_are_left_aside() -> None:
    weight = torch.nn.Parameter(torch.randn(96, 256))
    pack([weight])
    with torch.no_grad():
        weight.mul_(2)
        states = torch.randn(4, 256)
        torch.testing.assert_close(linear(states, weight), F.linear(states, weight), rtol=1e-5, atol=1e-4)


def test_operations_are_counted_where_pytorch_has_no_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    layer, states = Linear(64, 32), drawn(1024, 64)
    assert counted(lambda: layer(states)) == 2 * 1024 * 64 * 32


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("few", "small", "threads"), [(False, 0, 2), (True, SMALL, 2), (True, 0, 1), (True, 0, 2)])
@pytest.mark.parametrize("rows", [1, 7])
def test_a_fixed_map_is_the_map_packed_or_not(
    bias: bool, rows: int, few: bool, small: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", small)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(3)
    layer, states = Linear(48, 80, bias=bias), torch.randn(rows, 48)
    fix = partial(fixed, layer.weight, layer.bias, few=few)
    expected = torch.nn.functional.linear(states, layer.weight, layer.bias)
    torch.testing.assert_close(fix()(states), expected, rtol=1e-5, atol=1e-5)
    with packed([layer.weight]):
        torch.testing.assert_close(fix()(states), expected, rtol=1e-5, atol=1e-5)
        layer.weight.mul_(2)  # the copies are stale now
        torch.testing.assert_close(
            fix()(states),
            torch.nn.functional.linear(states, layer.weight, layer.bias),
            rtol=1e-5,
            atol=1e-5,
        )


@ONEDNN
@MKL
@torch.no_grad()
@pytest.mark.parametrize(
    ("threads", "few", "rows", "route"),
    [
        (1, False, 1, "addmm"),
        (2, False, 1, "addmm"),
        (2, False, 2, "_linear_pointwise"),
        (1, True, 1, "addmm"),
        (2, True, 1, "baddbmm"),
        (7, True, 1, "_linear_pointwise"),
        (1, True, 2, "addmm"),
        (2, True, 2, "addmm"),
        (2, True, 3, "_linear_pointwise"),
    ],
)
def test_rows_take_the_fastest_arrangement(
    threads: int, few: bool, rows: int, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 80 outputs two threads take two parts each; seven would have fewer parts than threads."""
    monkeypatch.setattr(module, "SMALL", 2 * 48 * 80 if rows > 1 else 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(4)
    layer, states = Linear(48, 80), torch.randn(rows, 48)
    with packed([layer.weight]):
        apply = fixed(layer.weight, layer.bias, few=few)
        with Called() as called:
            found = apply(states)
        assert counted(lambda: apply(states)) == 2 * rows * 48 * 80
    assert called.names & {"addmm", "baddbmm", "_linear_pointwise"} == {route}
    torch.testing.assert_close(found, F.linear(states, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)


@ONEDNN
@MKL
@torch.no_grad()
def test_two_parts_a_thread_cover_all_outputs_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    weight = torch.nn.Parameter(torch.arange(80.0).view(80, 1).expand(80, 48).contiguous())
    pack([weight])
    assert fixed(weight, None, few=True)(torch.full((1, 48), 1 / 48)).tolist() == [pytest.approx(list(range(80)))]
