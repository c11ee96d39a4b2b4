"""Peak memory: it rises with what is allocated, and can be forgotten."""

import sys

import numpy as np
import pytest

from bench.measure.process import device_peak, host_peak, reset_peaks


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a peak")
def test_the_peak_is_that_since_the_reset():
    reset_peaks("cpu")
    before = host_peak()
    block = np.ones(100_000_000, dtype=np.int8)
    risen = host_peak()
    assert risen >= before + 0.8 * block.nbytes
    del block
    reset_peaks("cpu")
    assert host_peak() < risen


def test_a_cpu_has_no_device_memory():
    assert device_peak("cpu") is None
