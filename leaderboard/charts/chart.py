"""What every chart consists of. All places are per cent of its width from the left and of its height from the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from leaderboard.charts.axes import Ticks
from leaderboard.charts.labels import Label
from leaderboard.charts.looks import Entry, Look
from leaderboard.charts.pareto import Point
from leaderboard.ranking import Row


@dataclass(frozen=True)
class Scale:
    """An axis as it is drawn."""

    title: str
    ticks: Ticks


@dataclass(frozen=True)
class Mark:
    """A point with its figures."""

    x: float
    y: float
    look: Look
    rows: tuple[Row, ...]
    """That it stands for, all of them highlighted together; the first is where it leads to."""
    tip: tuple[str, ...]
    """Its name and figures, a line each: what is shown of it, and read aloud."""
    range: tuple[float, float] | None = None
    """The ends of its interval, the lower value first."""
    label: Label | None = None


@dataclass(frozen=True)
class Line:
    """A line through points, with marks at some of them."""

    kind: Literal["curve", "thin", "family", "front"]
    points: tuple[Point, ...]
    look: Look | None = None
    rows: tuple[Row, ...] = ()
    marks: tuple[Mark, ...] = ()

    @property
    def path(self) -> str:
        """The points as the attribute of an SVG polyline."""
        return " ".join(f"{x:g},{y:g}" for x, y in self.points)


@dataclass(frozen=True)
class Level:
    """A value of reference: a line right across."""

    y: float
    text: str


@dataclass(frozen=True)
class Numbers:
    """The chart's figures as a table; its first column is text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be drawn."""

    name: str
    """Unique on its page."""
    title: str
    text: str
    """What is drawn, and how to read it."""
    across: Scale
    up: Scale
    numbers: Numbers
    height: int = 280
    lines: tuple[Line, ...] = ()
    marks: tuple[Mark, ...] = ()
    levels: tuple[Level, ...] = ()
    legend: tuple[Entry, ...] = ()


def ids(rows: Sequence[Row]) -> str:
    """The rows' names, by which a page finds what belongs to them."""
    return " ".join(row.sample.row for row in rows)
