"""Peak memory: it rises with what is allocated, and can be forgotten."""

import subprocess
import sys

import pytest

from bench.measure.process import device_peak

PEAKS = """
import numpy as np
from bench.measure.process import host_peak, reset_peaks

reset_peaks("cpu")
before = host_peak()
block = np.ones(100_000_000, dtype=np.int8)
risen = host_peak()
del block
reset_peaks("cpu")
print(before, risen, host_peak())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a peak")
def test_the_peak_is_that_since_the_reset():
    """In a process of its own: one that has trained gives memory out again that it never gave back."""
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    before, risen, after = map(int, done.stdout.split())
    assert risen >= before + 80_000_000
    assert after < risen


def test_a_cpu_has_no_device_memory():
    assert device_peak("cpu") is None
