"""Every method's loss in mixed precision is close to its loss in full precision."""

from functools import partial

import pytest
import torch

from bench.method import Method, Runner
from bench.registry import load_methods
from bench.toy import Toy, toy_batch

METHODS = load_methods().found
STAGES = [(name, stage) for name in sorted(METHODS) for stage in range(len(METHODS[name]().stages()))]
A2D_CLEAN = {"mask_pads": True, "align_reduction": "mean_per_map"}


def autocast(toy: Toy, dtype: torch.dtype) -> Toy:
    """The same models, run as the trainer runs them in mixed precision."""
    context = partial(torch.autocast, "cpu", dtype=dtype)
    teacher = Runner(toy.teacher.model, frozen=True, autocast=context) if toy.teacher else None
    return Toy(toy.method, Runner(toy.student.model, autocast=context), teacher, toy.modules)


def compare(method: Method, stage: int, dtype: torch.dtype, tolerance: float) -> None:
    batch, full = toy_batch(16), Toy.of(method)
    half = autocast(full, dtype)
    assert half.student.forward(batch).logits.dtype == dtype
    expected, loss = full.loss(batch, stage=stage), half.loss(batch, stage=stage)
    assert loss.dtype == torch.float32
    assert loss.item() != expected.item()
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    loss.backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in half.student.model.parameters())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 2e-3)], ids=str)
@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_the_loss_in_half_precision_is_close(name: str, stage: int, dtype: torch.dtype, tolerance: float) -> None:
    compare(METHODS[name](), stage, dtype, tolerance)


@pytest.mark.parametrize("norm", ["flat_softmax", "row_softmax", "row_prob"])
def test_so_is_each_way_to_compare_attention(norm: str) -> None:
    compare(METHODS["a2d"](A2D_CLEAN | {"align_norm": norm, "beta": 100}), 0, torch.bfloat16, 2e-2)


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "js", "tvd", "cross_entropy"])
def test_so_is_each_way_to_compare_outputs(kind: str) -> None:
    compare(METHODS["word_level"]({"divergence": kind, "alpha": 1}), 0, torch.bfloat16, 2e-2)
