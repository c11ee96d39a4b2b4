"""Geometry of the dot plots; the templates draw them as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from leaderboard.ranking import Row

_MARGIN = 0.06
_STEPS = 5
"""About how many ticks an axis has."""


@dataclass(frozen=True)
class Strip:
    """One row of the plot; all positions are per cent of the width."""

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
    low, high = min(values), max(values)
    span = max(high - low, 0.1) * (1 + 2 * _MARGIN)
    start = (low + high - span) / 2

    def place(value: float) -> float:
        return round(100 * (value - start) / span, 2)

    strips = tuple(
        Strip(
            row=row,
            mean=place(bleu.mean),
            low=place(bleu.mean - (bleu.deviation or 0.0)),
            high=place(bleu.mean + (bleu.deviation or 0.0)),
            seeds=tuple(place(record.scores[record.primary].bleu) for record in row.finished),
        )
        for row, bleu in scored
    )
    ticks = tuple((place(value), label) for value, label in _ticks(start, start + span))
    return DotPlot(strips, ticks, None if reference is None else place(reference))


def _ticks(start: float, end: float) -> list[tuple[float, str]]:
    """Round values between two ends, 1, 2 or 5 times a power of ten apart."""
    rough = (end - start) / _STEPS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    digits = max(0, -math.floor(math.log10(step)))
    first, last = math.ceil(start / step), math.floor(end / step)
    return [(number * step, f"{number * step:.{digits}f}") for number in range(first, last + 1)]
