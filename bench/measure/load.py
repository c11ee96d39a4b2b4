"""What else runs on a machine while something is measured."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

CPU_TIMES = Path("/proc/stat")
TOLERATED = 0.05
"""Of the processor time that a measurement needs, what others may use before the device counts as shared."""


class CpuWatch:
    """Watches from its making on how much processor time others use. Where the system does not say, it says so.

    Processes that this one started are others until they have ended.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy, self._own = _busy_seconds(), _own_seconds()

    def shared(self) -> str | None:
        """What else ran, as a sentence; None if nothing worth mentioning."""
        busy = _busy_seconds()
        if busy is None or self._busy is None:
            return "whether other processes ran is not known on this system"
        wall, own = time.perf_counter() - self._start, _own_seconds() - self._own
        return described_load(busy - self._busy - own, wall)


def described_load(others: float, wall: float) -> str | None:
    """Seconds of processor time that others used in ``wall`` seconds, as a sentence; None if hardly any."""
    share = others / wall if wall > 0 else 0.0
    return f"other processes used {share:.2f} cores meanwhile" if share > TOLERATED else None


def _own_seconds() -> float:
    """Processor time of this process and of those it started that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _busy_seconds() -> float | None:
    """Processor time that the whole machine has used, all cores together; None where the system does not say."""
    try:
        user, nice, system, _, _, *interrupts = map(int, CPU_TIMES.read_text().split("\n", 1)[0].split()[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


class GpuUse(NamedTuple):
    """What NVML says of a GPU."""

    shared: str | None
    memory: int | None
    """Bytes that this process holds; engines keep what they once took, so it is the peak. None where it is not told."""


def gpu_use(uuid: str) -> GpuUse:
    """Who uses the GPU now, this process included."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
        users = nvml.nvmlDeviceGetComputeRunningProcesses(nvml.nvmlDeviceGetHandleByUUID(uuid.encode()))
    except ImportError:
        return GpuUse("whether others used the GPU is not known: pip install nvidia-ml-py", None)
    except nvml.NVMLError as error:
        return GpuUse(f"whether others used the GPU is not known: {error}", None)
    # Within a container the process numbers are others; a single one is this process whatever its number.
    own = users if len(users) == 1 else [user for user in users if user.pid == os.getpid()]
    shared = f"{len(users) - 1} other processes used the GPU meanwhile" if len(users) > 1 else None
    return GpuUse(shared, own[0].usedGpuMemory if own else None)
