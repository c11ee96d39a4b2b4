"""The stopwatch: what it measures, and what is left of it after a kill."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from micro import ROOT

from bench.measure.stopwatch import Stopwatch


def test_it_measures_the_block_and_stops_with_it(tmp_path):
    with Stopwatch(tmp_path / "seconds") as watch:
        began = time.perf_counter()
        time.sleep(0.05)
        during = watch.seconds
        took = time.perf_counter() - began
    assert during >= 0.05
    assert took <= watch.seconds < took + 0.5
    after = watch.seconds
    time.sleep(0.01)
    assert watch.seconds == after


def test_what_had_gone_by_before_the_block_counts(tmp_path):
    with Stopwatch(tmp_path / "seconds", 5.0) as watch:
        pass
    assert 5 <= watch.seconds < 6


def test_a_failed_attempt_counts_in_the_next(tmp_path):
    path = tmp_path / "seconds"
    first = Stopwatch(path)

    def attempt():
        with first:
            time.sleep(0.03)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        attempt()
    again = Stopwatch(path)
    assert again.before == pytest.approx(first.seconds, abs=1e-3)
    with again:
        time.sleep(0.01)
    assert again.seconds >= first.seconds + 0.01 - 1e-3
    path.unlink()
    assert Stopwatch(path).before == 0


def test_it_ticks_while_it_runs(tmp_path):
    ticks = []
    with Stopwatch(tmp_path / "seconds", tick=lambda: ticks.append(1), every=0.01):
        time.sleep(0.2)
    assert len(ticks) >= 2


def test_a_killed_attempt_leaves_its_time(tmp_path):
    path = tmp_path / "seconds"
    program = """
import sys, time
from pathlib import Path
from bench.measure.stopwatch import Stopwatch
with Stopwatch(Path(sys.argv[1]), every=0.02):
    print("begun", flush=True)
    time.sleep(60)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == b"begun\n"
    began = time.perf_counter()
    time.sleep(0.3)
    process.kill()
    lived = time.perf_counter() - began
    process.communicate()
    assert 0.1 < Stopwatch(path).before < lived + 0.5


@pytest.mark.parametrize("content", ["", "soon", "-3"])
def test_a_damaged_file_counts_for_nothing(tmp_path, content):
    path = Path(tmp_path / "seconds")
    path.write_text(content)
    assert Stopwatch(path).before == 0
