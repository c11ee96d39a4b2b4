"""The conformance suite of a method: what ``bench check`` runs, and what an outside package can run in its own tests.

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    def test_my_method(check):
        result = check(MyMethod)
        assert result.passed or result.skipped, result.detail

Every check works on a toy corpus with tiny models on the CPU; the whole suite takes seconds.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bench import checks, checks_training
from bench.checks import ContractError, SkippedError
from bench.errors import UsageError
from bench.method import Method


@dataclass(frozen=True)
class CheckResult:
    """What came of one check: its name, whether it holds, and in one sentence what was found."""

    name: str
    passed: bool
    detail: str
    skipped: bool = False

    def __str__(self) -> str:
        state = "skipped" if self.skipped else "passed" if self.passed else "FAILED"
        return f"{self.name}: {state}: {self.detail}"


@dataclass(frozen=True)
class Check:
    """One property of a method. Calling it never raises: whatever goes wrong is in the result."""

    name: str
    run: Callable[[type[Method]], None]
    """Raises if the property does not hold; its docstring is the property."""

    def __call__(self, method: type[Method]) -> CheckResult:
        try:
            with _undisturbed():
                self.run(method)
        except SkippedError as reason:
            return CheckResult(self.name, passed=False, detail=str(reason), skipped=True)
        except (ContractError, UsageError) as reason:
            return CheckResult(self.name, passed=False, detail=str(reason))
        except Exception as error:
            return CheckResult(self.name, passed=False, detail=_where(error, method))
        return CheckResult(self.name, passed=True, detail=self.run.__doc__ or self.name)

    def __str__(self) -> str:
        return self.name


def check_method(method: type[Method], *, echo: Callable[[CheckResult], None] | None = None) -> list[CheckResult]:
    """Run every check on ``method``; ``echo`` is given each result as it comes."""
    results = []
    for check in CHECKS:
        results.append(check(method))
        if echo is not None:
            echo(results[-1])
    return results


CHECKS = tuple(
    Check(run.__name__, run)
    for run in (
        checks.identity,
        checks.settings,
        checks.loss,
        checks.padding,
        checks.gradients,
        checks.plain,
        checks.unchanged,
        checks.stages,
        checks.deliveries,
        checks_training.round_trip,
        checks_training.training,
    )
)
"""The whole suite, in order."""


@contextmanager
def _undisturbed() -> Iterator[None]:
    """One thread, which is fastest for tensors this small; afterwards the random state is what it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def _where(error: Exception, method: type[Method]) -> str:
    """What the method raised, and where in its file."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    path = getattr(sys.modules[method.__module__], "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f"{said} ({path}, line {lines[-1]})" if lines else said
