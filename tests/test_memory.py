"""Freed memory serves the next update."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource
from pathlib import Path
import torch
from bench.registry import load_methods
from bench.toy import toy_corpora, toy_trainer
from bench.train.memory import keep_freed_memory

{first}

def update():
    return [torch.ones(1_000_000) for _ in range(8)]  # 4 MB each: glibc maps these one by one

update(), update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    update()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
NOTHING, KEEP = "", "keep_freed_memory()"
TRAINER = "place = Path({folder!r}); toy_trainer(load_methods().get('baseline')({{}}), toy_corpora(place), place)"
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries allocate otherwise")


def faults(first: str) -> int:
    """Page faults of ten updates that each make and free 32 MB, in a process that does ``first``."""
    code = CODE.format(first=first)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_kept_from_the_making_of_a_trainer_on(tmp_path: Path) -> None:
    asked, trainer = faults(KEEP), faults(TRAINER.format(folder=str(tmp_path)))
    assert max(asked, trainer) < faults(NOTHING) / 10
