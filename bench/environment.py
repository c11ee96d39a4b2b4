"""The machine and the versions behind a number."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from bench import __version__
from bench.errors import UsageError


def environment(device: str, precision: str, workers: int) -> dict[str, Any]:
    """What a record says of where it was made, as plain JSON; ``workers`` tasks ran at a time."""
    return {
        "bench": __version__,
        "python": platform.python_version(),
        **{package: installed(package) or "missing" for package in ("torch", "sacrebleu", "sentencepiece")},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "workers": workers,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "precision": precision,
        "git_commit": git_commit(),
    }


def resolve_device(wanted: str) -> str:
    """``auto`` as what it stands for; any other name checked. ``cuda`` is every visible GPU, ``cuda:1`` that one.

    Raises:
        UsageError: no such device on this machine.
    """
    count = torch.cuda.device_count()
    if wanted == "auto":
        return "cuda" if count else "cpu"
    legal = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if wanted not in legal:
        raise UsageError(f"there is no device {wanted!r} on this machine. There is: {', '.join(legal)}.")
    return wanted


def installed(package: str) -> str | None:
    """A package's version, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def cpu_name() -> str:
    """The processor's name, and the widest vector instructions that PyTorch uses: a virtual machine's processors may
    all have one name, and yet differ twofold in speed and in their results' last digits."""
    return f"{_model_name()}, {torch.backends.cpu.get_cpu_capability()}"


def _model_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@cache
def git_commit() -> str | None:
    """The commit of the checkout this package runs from, with ``-dirty`` where its code was changed since; None where
    it runs from no checkout."""
    here = Path(__file__).resolve().parent
    # An installed package may lie inside somebody else's repository: its commit would say nothing.
    top = _git(here, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != here.parent:
        return None
    changed = _git(here.parent, "status", "--porcelain", "--", "bench", "methods")
    return f"{_git(here, 'rev-parse', 'HEAD')}{'-dirty' if changed else ''}"


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
