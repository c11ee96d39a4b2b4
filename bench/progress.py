"""What a person sees of a run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from bench.sweep.executor import Failure

LINE_SECONDS = 15.0


class Display:
    """A watcher of the executor. On a terminal it draws one bar for the whole run and one for each running task."""

    def __init__(self, total: int, console: Console) -> None:
        self.console = console
        self._total, self._count = total, 0
        self._bars: dict[str, TaskID] = {}
        self._since: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._first: dict[str, tuple[int, float]] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._whole = self._progress.add_task("all tasks", total=total, note="")

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()

    def started(self, task: Any) -> None:
        if task.key in self._bars:  # tried again
            self._progress.remove_task(self._bars.pop(task.key))
            self._first.pop(task.key, None)
        self._since[task.key] = self._told[task.key] = time.monotonic()
        self._bars[task.key] = self._progress.add_task(f"  {task.label}", total=None, note="")

    def advanced(self, task: Any, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        # A task that goes on from a checkpoint starts at more than nothing, which says nothing of its speed.
        before, since = self._first.setdefault(task.key, (done, now))
        speed = (done - before) / max(now - since, 1e-9)
        shown = f"{speed:,.{0 if speed >= 10 else 1}f}/s  {note}"
        self._progress.update(self._bars[task.key], completed=done, total=total, note=shown)
        if not self.console.is_terminal and now - self._told[task.key] >= LINE_SECONDS:
            self._told[task.key] = now
            left = f", {(total - done) / speed:.0f} s left" if speed else ""
            line = f"    {task.label}: {done / total:.0%}, {shown}{left}"
            self.console.print(line, highlight=False, markup=False)

    def finished(self, task: Any, failure: Failure | None) -> None:
        self._count += 1
        if task.key in self._bars:
            self._progress.remove_task(self._bars.pop(task.key))
            seconds = f"{time.monotonic() - self._since[task.key]:.1f} s"
        else:
            seconds = "not started"
        self._progress.update(self._whole, completed=self._count)
        state = f"failed: {failure}" if failure else "done"
        line = f"[{self._count}/{self._total}] {task.label}: {state} ({seconds})"
        self.console.print(line, highlight=False, markup=False, style="red" if failure else None)


class Downloads:
    """What a person sees of downloads: a bar for each file on a terminal, nothing but the final lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )

    def __enter__(self) -> Downloads:
        self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self.console.print(line, highlight=False, markup=False)

    def advance(self, file: str, here: int, total: int | None) -> None:
        """So many bytes of a file are here, of ``total`` where the server says so."""
        if file not in self._bars:
            self._bars[file] = self._progress.add_task(file, total=total)
        self._progress.update(self._bars[file], completed=here, total=total)
