"""What a person sees: bars on a terminal, plain lines elsewhere."""

import io

import pytest
from rich.console import Console
from workers import Node

from bench import progress
from bench.progress import Display
from bench.sweep.executor import Failure


class Task(Node):
    @property
    def label(self) -> str:
        return f"task [{self.key}]"


def shown(*, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=terminal, force_interactive=False)
    a, b, c = (Task(key) for key in "abc")
    with Display(3, console) as display:
        display.started(a)
        display.advanced(a, 500, 2000, "loss 3.1")
        display.advanced(a, 1000, 2000, "loss 2.9")
        display.finished(a, None)
        display.started(b)
        display.finished(b, Failure("ValueError: [not] good"))
        display.finished(c, Failure("ValueError: [not] good"))
    return out.getvalue()


def test_without_a_terminal_there_are_plain_lines(monkeypatch):
    assert shown(terminal=False, monkeypatch=monkeypatch).splitlines() == [
        "    task [a]: 50%, 50/s  loss 2.9, 20 s left",
        "[1/3] task [a]: done (30.0 s)",
        "[2/3] task [b]: failed: ValueError: [not] good (10.0 s)",
        "[3/3] task [c]: failed: ValueError: [not] good (not started)",
    ]


def test_what_is_left_is_told_once_there_is_a_speed(monkeypatch):
    clock = iter(range(0, 1000, 100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    out = io.StringIO()
    with Display(1, Console(file=out, width=100, force_terminal=False)) as display:
        task = Task("a")
        display.started(task)
        display.advanced(task, 6, 100, "decoding")
        display.advanced(task, 46, 100, "decoding")
    assert out.getvalue().splitlines() == [
        "    task [a]: 6%, 0.0/s  decoding",
        "    task [a]: 46%, 0.4/s  decoding, 135 s left",
    ]


def test_a_terminal_gets_no_lines_of_progress_between(monkeypatch):
    found = shown(terminal=True, monkeypatch=monkeypatch)
    assert "s left" not in found
    assert "[3/3] task [c]: failed" in found
