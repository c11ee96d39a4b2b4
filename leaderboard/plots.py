"""Geometry of the plots; the templates draw them as inline SVG. All positions are per cent of width or height."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from leaderboard.ranking import Row
from leaderboard.sweeps import Curve

_MARGIN = 0.06
_STEPS = 5
"""About how many ticks an axis has."""
_MARKED = 8
"""At most so many points of a line carry its mark."""
MARKS = (
    "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0z",
    "M-4,-4h8v8h-8z",
    "M0,-5.5l5.2,9h-10.4z",
    "M0,-5.8l5.8,5.8l-5.8,5.8l-5.8,-5.8z",
    "M0,5.5l5.2,-9h-10.4z",
    "M-2,-5.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5z",
)
"""SVG paths around the origin: circle, square, triangle, diamond, triangle upside down, cross."""
COLOURS = 5
"""Classes ``colour-0`` and on of the style sheet; with 6 marks they make 30 lines distinct."""


@dataclass(frozen=True)
class Strip:
    """One row of the dot plot."""

    row: Row
    mean: float
    low: float
    high: float
    """``mean`` plus and minus one standard deviation over seeds."""
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class DotPlot:
    """BLEU of several rows on one axis: a dot per seed, the mean, and the plain student's mean as reference."""

    strips: tuple[Strip, ...]
    ticks: tuple[tuple[float, str], ...]
    reference: float | None


@dataclass(frozen=True)
class Line:
    """The curve of one sweep."""

    curve: Curve
    look: str
    """Name of a class of the style sheet; the plain student has one of its own."""
    mark: str
    points: tuple[tuple[float, float], ...]
    """From the left and from the top."""

    @property
    def segments(self) -> tuple[tuple[tuple[float, float], tuple[float, float]], ...]:
        """The pieces between neighbouring points."""
        return tuple(pairwise(self.points))

    @property
    def marked(self) -> tuple[tuple[float, float], ...]:
        """The points that carry the line's mark: all of a short one, and always the last."""
        return self.points[:: -_every(len(self.points))]


@dataclass(frozen=True)
class LinePlot:
    """Several sweeps against what they cost."""

    lines: tuple[Line, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]
    """Ticks of the axes."""


@dataclass(frozen=True)
class _Axis:
    start: float
    span: float

    @classmethod
    def over(cls, values: Iterable[float], least: float) -> _Axis:
        """An axis with a margin at both ends, over at least so much."""
        values = list(values)
        low, high = min(values), max(values)
        span = max(high - low, least) * (1 + 2 * _MARGIN)
        return cls((low + high - span) / 2, span)

    def place(self, value: float) -> float:
        return round(100 * (value - self.start) / self.span, 2)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Round values, 1, 2 or 5 times a power of ten apart."""
        rough = self.span / _STEPS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        digits = max(0, -math.floor(math.log10(step)))
        first, last = math.ceil(self.start / step), math.floor((self.start + self.span) / step)
        numbers = (number * step for number in range(first, last + 1))
        return tuple((self.place(number), f"{number:.{digits}f}") for number in numbers)


def dot_plot(rows: Sequence[Row], reference: float | None) -> DotPlot | None:
    """The plot of all rows that have scores; None if there are fewer than two.

    Args:
        reference: the plain student's mean BLEU.
    """
    scored = [(row, row.bleu) for row in rows if row.bleu]
    if len(scored) < 2:
        return None
    values = [record.scores[record.primary].bleu for row, _ in scored for record in row.finished]
    values += [bleu.mean + sign * (bleu.deviation or 0.0) for _, bleu in scored for sign in (-1, 1)]
    values += [] if reference is None else [reference]
    axis = _Axis.over(values, least=0.1)
    strips = tuple(
        Strip(
            row=row,
            mean=axis.place(bleu.mean),
            low=axis.place(bleu.mean - (bleu.deviation or 0.0)),
            high=axis.place(bleu.mean + (bleu.deviation or 0.0)),
            seeds=tuple(axis.place(record.scores[record.primary].bleu) for record in row.finished),
        )
        for row, bleu in scored
    )
    return DotPlot(strips, axis.ticks(), None if reference is None else axis.place(reference))


def tuning_plot(curves: Sequence[Curve], against: Literal["trials", "hours"]) -> LinePlot:
    """Expected best dev BLEU of all sweeps of a table, against the number of trials or their device-hours."""

    def costs(curve: Curve) -> Sequence[float]:
        return range(1, len(curve.best) + 1) if against == "trials" else curve.hours

    most = max(len(curve.best) for curve in curves)
    start = [] if against == "trials" else [0.0]
    across = _Axis.over([*start, *(cost for curve in curves for cost in costs(curve))], least=1e-6)
    up = _Axis.over([value for curve in curves for value in curve.best], least=0.1)
    methods = [curve for curve in curves if curve.row.sample.role != "baseline"]

    def line(curve: Curve) -> Line:
        number = methods.index(curve) if curve in methods else None
        return Line(
            curve=curve,
            look="plain" if number is None else f"colour-{number % COLOURS}",
            mark=MARKS[0 if number is None else number % len(MARKS)],
            points=tuple(
                (across.place(cost), round(100 - up.place(value), 2))
                for cost, value in zip(costs(curve), curve.best, strict=True)
            ),
        )

    trials = tuple((across.place(k), str(k)) for k in range(most, 0, -_every(most)))
    return LinePlot(
        lines=tuple(map(line, curves)),
        across=trials if against == "trials" else across.ticks(),
        up=tuple((round(100 - place, 2), label) for place, label in up.ticks()),
    )


def _every(points: int) -> int:
    """Of so many points every how many-th is marked."""
    return math.ceil(points / _MARKED)
