"""What a process can tell of itself and of its GPU: peak memory, and whether queued work is done.

It loads PyTorch only where there is a GPU, for other engines are measured without it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peaks(device: str) -> None:
    """Forget earlier peaks, where the system can."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def host_peak() -> int:
    """Bytes of the most memory this process has had resident since the last reset, or its largest child ever."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    children = unit * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return max(children, 1024 * int(line.split()[1]))
    return max(children, unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def device_peak(device: str) -> int | None:
    """Bytes of the most memory that PyTorch has reserved on a GPU since the last reset; None on a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_reserved(device)


def synchronise(device: str) -> None:
    """Wait for what was queued on a GPU, so that its time is charged to the phase that asked for it."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def marker(device: str) -> Callable[[], Any] | None:
    """Puts a ``torch.cuda.Event`` among what is queued on a GPU; None on a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    def mark() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    return mark
