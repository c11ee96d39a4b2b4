"""Which points no other one beats in both respects, and the staircase that they make."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Point = tuple[float, float]


def front(points: Sequence[Point], *, more: bool) -> tuple[int, ...]:
    """The places of the points on the Pareto front, by x.

    A point is beaten by one that is as good in both respects and better in one. Equal points do not beat each other.

    Args:
        points: y is better the more of it there is.
        more: whether x is, too; otherwise less of it is better.
    """
    better_first = sorted(range(len(points)), key=lambda n: (-points[n][0] if more else points[n][0], -points[n][1]))
    found: list[int] = []
    for place in better_first:
        if not found or points[place][1] > points[found[-1]][1] or points[place] == points[found[-1]]:
            found.append(place)
    return tuple(sorted(found, key=lambda place: (points[place][0], place)))


def staircase(corners: Sequence[Point], *, more: bool) -> tuple[Point, ...]:
    """The border of what a front attains, from left to right in per cent from left and top, to the edges of the chart.

    Args:
        corners: the front's points by x, placed; where more of x is better, they descend, otherwise they climb.
    """
    distinct = list(dict.fromkeys(corners))
    if not distinct:
        return ()
    first, last = distinct[0], distinct[-1]
    found: list[Point] = [(0.0, first[1])] if more else [(first[0], 100.0)]
    found.append(first)
    for (x, y), (next_x, next_y) in pairwise(distinct):
        found += [(x, next_y) if more else (next_x, y), (next_x, next_y)]
    found.append((last[0], 100.0) if more else (100.0, last[1]))
    return tuple(found)
