"""How the C library hands out memory for training on a CPU."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's names and numbers for ``mallopt``."""
LARGEST = 2**31 - 1  # bytes: mallopt takes an int
OLD_LARGEST = 32 * 2**20
"""Where the first of them may be no larger, as in earlier versions of glibc."""


@cache
def keep_freed_memory() -> None:
    """Have freed memory serve the next update, in this process from now on; only glibc is told so.

    By default glibc maps every tensor of some size anew and gives it back to the system when it is freed. An update
    makes and frees the same tensors as the one before, so each would be cleared by the kernel page by page once an
    update: 6 % of the time of AIO-KD, whose students of one update come one after the other. Only the C library's
    allocation changes, no result. Peak memory was the same with it; but the process keeps what it has taken.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        if not library.mallopt(M_MMAP_THRESHOLD, LARGEST):
            library.mallopt(M_MMAP_THRESHOLD, OLD_LARGEST)
        library.mallopt(M_TRIM_THRESHOLD, LARGEST)
