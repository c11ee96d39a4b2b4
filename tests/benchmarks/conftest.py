"""Measures the benchmarks in units of a reference, prints how they compare to the baseline, and fails what is too slow.

Seconds of different machines, or of a machine that is busy at times, cannot be compared. So each benchmark's median is
divided by that of a reference, taken just before and just after it: of a fixed matrix product, or of what the benchmark
names, such as the plain student's step.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from benchmarks.ratios import HEADER, Comparison, compare, load, save

SIZE = 768
"""Of the square fp32 matrices whose product is the reference."""
REFERENCE_SECONDS = 0.5
"""How long the reference is timed before a benchmark, and again after it."""
WARM_UP = 3

RATIOS = pytest.StashKey[dict[str, float]]()
COMPARED = pytest.StashKey[list[Comparison]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--save-baseline", action="store_true", help="store the measured ratios as the new baseline")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RATIOS] = {}
    torch.set_num_threads(1)


@pytest.fixture
def measured(benchmark: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """pytest-benchmark's fixture, whose result becomes a ratio: by a matrix product, or ``against`` other work."""
    before: list[float] = []
    work: list[Callable[[], object]] = []

    def run(*words: Any, against: Callable[[], object] | None = None, **options: Any) -> Any:
        work.append(against or _product())
        before.extend(_timed(work[0]))
        return benchmark(*words, **options)

    yield run
    reference = statistics.median([*before, *_timed(work[0])])
    request.config.stash[RATIOS][request.node.name] = benchmark.stats["median"] / reference


def _product() -> Callable[[], object]:
    left, right = (torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    return lambda: torch.mm(left, right)


def _timed(work: Callable[[], object]) -> list[float]:
    """Seconds of each call."""
    seconds: list[float] = []
    for _ in range(WARM_UP):
        work()
    while sum(seconds) < REFERENCE_SECONDS or len(seconds) < WARM_UP:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


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
        terminalreporter.section("medians by that of their reference")
        for line in (HEADER, *compared):
            terminalreporter.write_line(str(line))
