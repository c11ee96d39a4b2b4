"""How many tasks run at a time on this machine, and what each of them may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
MEMORY_INFO = Path("/proc/meminfo")
MEMORY_SHARE = 0.9
"""Of the memory that is free, what the tasks get; the rest is the driver's and the system's."""


@dataclass(frozen=True)
class Slots:
    """How many tasks run at a time, and what each has."""

    workers: int
    threads: int
    devices: tuple[str, ...] = ("cpu",)
    """Worker i runs on device i modulo their number, so more workers than devices share them."""
    memory: int | None = None
    """Bytes of host memory that a task's process may take beyond the libraries it starts with; None: no limit."""
    silence: float = 1800.0
    """Seconds without a word from a task after which it is stopped."""

    def dealt(self, workers: int) -> Slots:
        """The same cores and memory, dealt out to another number of workers."""
        threads = max(1, self.workers * self.threads // workers)
        memory = None if self.memory is None else self.memory * self.workers // workers
        return replace(self, workers=workers, threads=threads, memory=memory)


def default_slots(device: str) -> Slots:
    """One process of one thread for each core, which for small models beats fewer processes of more threads; one
    process for each GPU, with its part of the cores.

    Args:
        device: ``cpu``; ``cuda`` for every visible GPU; ``cuda:1`` for that one.
    """
    cores = usable_cores()
    if device == "cpu":
        memory = available_memory()
        return Slots(cores, 1, memory=None if memory is None else int(memory * MEMORY_SHARE) // cores)
    if device == "cuda":
        import torch

        devices = tuple(f"cuda:{i}" for i in range(max(1, torch.cuda.device_count())))
    else:
        devices = (device,)
    # No limit of memory: a process that uses a GPU maps far more than it takes.
    return Slots(len(devices), max(1, cores // len(devices)), devices)


def usable_cores() -> int:
    """The cores that this process may use: those it is bound to, within a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text(encoding="utf-8").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or "max"
        return cores


def available_memory() -> int | None:
    """Bytes of host memory that this process may still take: what the machine has free, within the limits of its
    control groups; None where the system does not say."""
    try:
        info = dict(line.split(":", 1) for line in MEMORY_INFO.read_text(encoding="utf-8").splitlines())
        free = int(info["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    return max(0, min([free, *_left_in_groups()]))


def _left_in_groups() -> Iterator[int]:
    """What each control group of this process, and each one around it, still allows; none where there is no limit."""
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, limit, usage, cache = CONTROL_GROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):  # version 1
            root, cache = CONTROL_GROUPS / "memory", "total_inactive_file"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        while group.is_relative_to(root):
            try:
                stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
                # What the system keeps of files is counted as used, but is given up when asked for.
                used = int((group / usage).read_text()) - int(stat[cache])
                yield int((group / limit).read_text()) - used
            except (OSError, ValueError, KeyError):  # no such group here, or "max"
                pass
            group = group.parent
