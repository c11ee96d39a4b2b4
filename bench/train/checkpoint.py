"""Training state on disk: safetensors and JSON, complete or absent, so that a killed training goes on exactly.

On a GPU that is up to rounding: it adds up some sums in an order of its own each time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

STATE = "state-"


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to ``path`` atomically."""
    temporary = path.with_name(f".{path.name}")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
    os.replace(temporary, path)


def save_state(
    folder: Path, number: int, network: nn.Module, optimiser: torch.optim.Optimizer, progress: Mapping[str, Any]
) -> None:
    """Write a whole training state as ``state-NUMBER`` and drop the earlier ones."""
    place = folder / f"{STATE}{number:09d}"
    work = folder / f".{place.name}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    save_tensors(work / "network.safetensors", _unshared(network))
    save_tensors(work / "optimiser.safetensors", _flatten(optimiser))
    (work / "progress.json").write_text(json.dumps(progress, allow_nan=False), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    os.replace(work, place)
    for old in folder.glob(f"{STATE}*"):
        if old != place:
            shutil.rmtree(old, ignore_errors=True)


def latest_state(folder: Path) -> Path | None:
    """The newest complete state, or None."""
    return max(folder.glob(f"{STATE}*"), default=None, key=lambda place: place.name)


def read_progress(state: Path) -> dict[str, Any]:
    """The JSON part of a state."""
    return json.loads((state / "progress.json").read_text(encoding="utf-8"))


def restore(state: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Put a saved state back into a network and an optimiser of the same shape."""
    load_network(network, load_file(state / "network.safetensors"))
    _unflatten(optimiser, load_file(state / "optimiser.safetensors"))


def load_network(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors written by :func:`save_state` or :func:`network_tensors`; tied ones are stored once."""
    expected = set(_unshared(network))
    if set(tensors) != expected:
        raise ValueError(f"checkpoint and network differ in {sorted(set(tensors) ^ expected)}")
    network.load_state_dict(dict(tensors), strict=False)


def network_tensors(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's tensors, tied ones once."""
    return {name: tensor.detach().clone() for name, tensor in _unshared(network).items()}


def mean_tensors(checkpoints: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The element-wise mean of checkpoints of one shape (checkpoint averaging), accumulated in float64."""
    first = checkpoints[0]
    return {
        name: torch.stack([c[name].double() for c in checkpoints]).mean(0).to(first[name].dtype)
        if first[name].is_floating_point()
        else first[name]
        for name in first
    }


def _unshared(network: nn.Module) -> dict[str, Tensor]:
    seen: set[int] = set()
    tensors = {}
    for name, tensor in network.state_dict().items():
        if tensor.data_ptr() not in seen or not tensor.numel():
            seen.add(tensor.data_ptr())
            tensors[name] = tensor
    return tensors


def _flatten(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(value) for index, slot in state.items() for name, value in slot.items()}


def _unflatten(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
