"""BLEU of several rows on one axis, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leaderboard.charts.axes import Axis
from leaderboard.ranking import Row


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
    axis = Axis.over(values, least=0.1)
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
