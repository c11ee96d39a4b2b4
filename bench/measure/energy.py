"""Energy by hardware counters: RAPL of the processor, NVML of NVIDIA GPUs."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

RAPL = Path("/sys/class/powercap")
NOT_MEASURED = "not measured"


@dataclass
class Counter:
    """One hardware counter."""

    name: str
    read: Callable[[], float]
    """Joules since any start."""
    share: float
    """The part of it that is charged: others use the same hardware."""


class EnergyMeter:
    """All counters of the hardware that a task runs on. Several threads may read it.

    ``description`` names them, or says ``not measured`` and why; also why they can no longer be read.
    """

    def __init__(self, counters: Sequence[Counter], description: str) -> None:
        self._counters, self.description = tuple(counters), description
        self._lock = threading.Lock()

    def joules(self) -> float | None:
        """Used so far, from any start; None without a counter, and from the first failure on."""
        with self._lock:
            if not self._counters:
                return None
            try:
                return sum(counter.share * counter.read() for counter in self._counters)
            except Exception as error:  # whatever a meter does, the work that it measures goes on
                self._counters = ()
                self.description = f"{NOT_MEASURED}: {self.description} could be read no longer ({error})"
                return None


def energy_meter(devices: Sequence[str], sharing: int, each_gpu: int, *, folder: Path = RAPL) -> EnergyMeter:
    """The meter of a task.

    Args:
        devices: the GPUs it uses, as ``cuda:0``; or the CPU.
        sharing: tasks that run at a time on this machine. Each is charged an equal part of the processor's energy.
        each_gpu: those of them that run on one GPU, which are charged equal parts of its energy.
    """
    counters, said = [], []
    for counter_or_reason in (_rapl(folder, sharing), *(_nvml(each, each_gpu) for each in devices if each != "cpu")):
        if isinstance(counter_or_reason, str):
            said.append(f"{NOT_MEASURED}: {counter_or_reason}")
        else:
            counters += counter_or_reason
            said += [
                each.name + (f", 1/{1 / each.share:g} of it to each task" if each.share < 1 else "")
                for each in counter_or_reason
            ]
    return EnergyMeter(counters, "; ".join(dict.fromkeys(said)))


def _rapl(folder: Path, sharing: int) -> list[Counter] | str:
    """The packages of the processor. Their parts are counted within them, and they within the whole platform, which
    some machines have a counter of as well."""
    zones = sorted(folder.glob("intel-rapl:[0-9]*"), key=lambda path: path.name)
    try:
        packages = [path for path in zones if path.name.count(":") == 1 and _text(path / "name").startswith("package")]
        if not packages:
            return "this machine has no RAPL counters of its processor"
        return [Counter(f"RAPL {_text(path / 'name')}", _Wrapping(path), 1 / sharing) for path in packages]
    except (OSError, ValueError) as error:
        return f"the RAPL counters cannot be read ({type(error).__name__}): the system lets only root read them"


class _Wrapping:
    """A counter of microjoules that starts again from 0 at a limit."""

    def __init__(self, folder: Path) -> None:
        self._path, self._range = folder / "energy_uj", int(_text(folder / "max_energy_range_uj"))
        self._last, self._total = int(_text(self._path)), 0

    def __call__(self) -> float:
        now = int(_text(self._path))
        self._total += (now - self._last) % (self._range + 1)
        self._last = now
        return self._total / 1e6


def _nvml(device: str, each_gpu: int) -> list[Counter] | str:
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
        gpu = torch.device(device).index or 0
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(gpu).uuid}")
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except ImportError:
        return f"NVML of cuda:{torch.device(device).index or 0} needs the package nvidia-ml-py"
    except Exception as error:  # NVML's errors have a base class of their own, which only the package knows
        return f"NVML of {device} cannot be read ({error})"
    return [Counter(f"NVML {device}", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, 1 / each_gpu)]


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()
