"""Measures the benchmarks in units of a reference, prints how they compare to the baseline, and fails what is too slow.

Seconds of different machines, or of a machine that is busy at times, cannot be compared. So each round of a benchmark
is divided by what a reference took just before it: a fixed matrix product, or what the benchmark names, such as the
plain student's step. The median over rounds counts.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from benchmarks.ratios import HEADER, Comparison, compare, load, save

SIZE = 768
"""Of the square fp32 matrices whose product is the reference."""
SECONDS, FEWEST_ROUNDS, MOST_ROUNDS = 3.0, 7, 100
"""How long a benchmark and its reference are measured."""
REFERENCE_SECONDS = 0.02
"""A shorter reference is repeated within a round."""
WARM_UP = 2

RATIOS = pytest.StashKey[dict[str, float]]()
COMPARED = pytest.StashKey[list[Comparison]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--save-baseline", action="store_true", help="store the measured ratios as the new baseline")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RATIOS] = {}
    torch.set_num_threads(1)


@pytest.fixture
def measured(benchmark: Any, request: pytest.FixtureRequest) -> Any:
    """pytest-benchmark's fixture, whose result becomes a ratio: by a matrix product, or ``against`` other work."""

    def run(work: Callable[..., Any], *words: Any, against: Callable[[], object] | None = None, **options: Any) -> Any:
        reference, references = against or _product(), list[float]()
        _seconds(reference)
        times = math.ceil(REFERENCE_SECONDS / _seconds(reference))
        work(*words, **options)
        together = _seconds(lambda: work(*words, **options)) + times * _seconds(reference)
        rounds = min(MOST_ROUNDS, max(FEWEST_ROUNDS, int(SECONDS / together)))

        def before() -> None:
            references.append(sum(_seconds(reference) for _ in range(times)) / times)

        result = benchmark.pedantic(work, words, options, setup=before, rounds=rounds, warmup_rounds=WARM_UP)
        quotients = [took / by for took, by in zip(benchmark.stats.stats.data, references[-rounds:], strict=True)]
        request.config.stash[RATIOS][request.node.name] = statistics.median(quotients)
        return result

    return run


def _product() -> Callable[[], object]:
    left, right = (torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    return lambda: torch.mm(left, right)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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
        terminalreporter.section("rounds by their reference, median")
        for line in (HEADER, *compared):
            terminalreporter.write_line(str(line))
