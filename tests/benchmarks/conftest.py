"""Measures the benchmarks in units of a reference, prints how they compare to the baseline, and fails what is too slow.

Seconds of different machines, or of a machine that is busy at times, cannot be compared. So each benchmark's median is
divided by that of a fixed matrix product, taken just before and just after it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from benchmarks.ratios import HEADER, Comparison, compare, load, save

SIZE = 768
"""Of the square fp32 matrices whose product is the reference."""
PRODUCTS = 30
"""How many are timed before a benchmark and again after it."""
WARM_UP = 5

RATIOS = pytest.StashKey[dict[str, float]]()
COMPARED = pytest.StashKey[list[Comparison]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--save-baseline", action="store_true", help="store the measured ratios as the new baseline")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RATIOS] = {}
    torch.set_num_threads(1)


@pytest.fixture
def measured(benchmark: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """pytest-benchmark's fixture, whose result becomes a ratio."""
    before = _products()
    yield benchmark
    reference = statistics.median([*before, *_products()])
    request.config.stash[RATIOS][request.node.name] = benchmark.stats["median"] / reference


def _products() -> list[float]:
    """Seconds of each product."""
    left, right = (torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    seconds = []
    for _ in range(WARM_UP + PRODUCTS):
        began = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:]


def pytest_sessionfinish(session: pytest.Session) -> None:
    ratios = session.config.stash[RATIOS]
    compared = session.config.stash[COMPARED] = compare(ratios, load())
    if session.config.getoption("--save-baseline"):
        if session.exitstatus == pytest.ExitCode.OK:
            save(ratios)
    elif any(each.verdict == "too slow" for each in compared):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if compared := config.stash[COMPARED]:
        terminalreporter.section("medians by that of the reference")
        for line in (HEADER, *compared):
            terminalreporter.write_line(str(line))
