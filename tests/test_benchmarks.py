"""The comparison of benchmarks with their baseline, and who runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.ratios import BASELINE, Comparison, compare, load, save
from micro import ROOT


@pytest.mark.parametrize(
    ("now", "stored", "quotient", "verdict"),
    [
        (3.0, 2.0, 1.5, ""),
        (3.1, 2.0, 1.55, "slower"),
        (4.0, 2.0, 2.0, "slower"),
        (4.1, 2.0, 2.05, "too slow"),
        (1.0, 2.0, 0.5, ""),
        (1.0, None, None, "new"),
    ],
)
def test_what_is_said_of_a_quotient(now: float, stored: float | None, quotient: float | None, verdict: str) -> None:
    found = Comparison("search", now, stored)
    assert found.quotient == (None if quotient is None else pytest.approx(quotient))
    assert found.verdict == verdict
    assert str(found).endswith(verdict or f"{quotient:.2f}")


def test_the_worst_comes_first_and_what_was_not_run_is_left_out() -> None:
    found = compare({"a": 1.0, "new": 9.0, "b": 6.0}, {"a": 1.0, "b": 2.0, "gone": 1.0})
    assert [(each.name, each.quotient) for each in found] == [("b", 3.0), ("a", 1.0), ("new", None)]


def test_a_part_of_the_benchmarks_stores_its_ratios_only(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    assert load(path) == {}
    save({"b": 2.0, "a": 1.23456789}, path)
    save({"b": 3.0}, path)
    assert load(path) == {"a": 1.235, "b": 3.0}
    assert list(json.loads(path.read_text())) == ["a", "b"]


def collected(*words: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *words]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return [line.rpartition("::")[2] for line in listed.stdout.splitlines() if "::" in line]


def test_only_who_names_the_benchmarks_runs_them_and_each_has_a_baseline() -> None:
    assert collected("--ignore-glob=tests/test_*.py") == []
    assert sorted(collected("tests/benchmarks")) == sorted(load(BASELINE))
