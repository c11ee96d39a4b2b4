"""Each row of a table against each other one, for a table whose cells are shaded by the difference."""

from __future__ import annotations

import math
from dataclasses import dataclass

from leaderboard.differences import Differences, Pair
from leaderboard.ranking import Row

MOST_ROWS = 30
"""That the matrix shows, the best ones."""
SHADES = 3
"""Classes ``shade-1`` to ``shade-3`` of the style sheet."""


@dataclass(frozen=True)
class Cell:
    """A row, at the left, compared with another one, above."""

    pair: Pair
    shade: int
    """From 1 to :data:`SHADES`, by the size of the difference; 0 for one that is not significant."""


@dataclass(frozen=True)
class Matrix:
    """The comparisons, line by line; None on the diagonal."""

    rows: tuple[Row, ...]
    cells: tuple[tuple[Cell | None, ...], ...]
    left_out: int
    """Tested rows further down the table."""


def matrix(differences: Differences) -> Matrix:
    """The matrix of the best tested rows."""
    rows = differences.tested[:MOST_ROWS]
    names = [row.sample.row for row in rows]
    found = {(a, b): differences.pairs[a, b] for a in names for b in names if a != b}
    largest = max((abs(pair.difference) for pair in found.values() if pair.outcome != "level"), default=0.0)
    cells = tuple(
        tuple(Cell(found[a, b], _shade(found[a, b], largest)) if a != b else None for b in names) for a in names
    )
    return Matrix(rows, cells, len(differences.tested) - len(rows))


def _shade(pair: Pair, largest: float) -> int:
    return 0 if pair.outcome == "level" else max(1, math.ceil(SHADES * abs(pair.difference) / largest))
