"""The students of one training run, by depth."""

from __future__ import annotations

from collections.abc import Mapping

from leaderboard.charts.axes import Axis, from_top
from leaderboard.charts.chart import Chart, Level, Line, Mark, Numbers, Scale
from leaderboard.charts.looks import Look, families, family_name, full_name
from leaderboard.charts.scatter import LEAST_BLEU, Intervals, bleu_range, interval
from leaderboard.ranking import Row, Table
from leaderboard.text import size

MOST_FAMILIES = 10
"""With a chart of their own on one page."""


def family_charts(table: Table, looks: Mapping[str, Look], intervals: Intervals) -> tuple[Chart, ...]:
    """BLEU by depth for each run of the table that gave several students; rows without parameters have no place."""
    placed = [row for row in table.placed if row.bleu and row.parameters]
    found = [family for family in families(placed) if len(family) > 1][:MOST_FAMILIES]
    return tuple(_chart(table, family, looks, intervals, number) for number, family in enumerate(found))


def _chart(
    table: Table, family: tuple[Row, ...], looks: Mapping[str, Look], intervals: Intervals, number: int
) -> Chart:
    ordered = sorted(family, key=lambda row: (_size(row), row.sample.delivery.depth))
    levels = [
        (name, row.bleu.mean)
        for name, row in (("plain student", table.baseline), ("teacher", _teacher(table)))
        if row and row.bleu
    ]
    ranges = [bleu_range(row, intervals) for row in ordered]
    across = Axis.over(range(len(ordered)), least=1.0)
    up = Axis.over([*(end for ends in ranges for end in ends), *(value for _, value in levels)], least=LEAST_BLEU)
    look, title = looks[ordered[0].sample.row], family_name(family)
    marks, numbers = [], []
    for place, (row, (low, high)) in enumerate(zip(ordered, ranges, strict=True)):
        assert row.bleu is not None
        y, bottom, top = (round(100 - up.place(value), 2) for value in (row.bleu.mean, low, high))
        figures = (f"{row.bleu.mean:.2f}", f"{low:.2f} to {high:.2f}", size(_size(row)))
        tip = (full_name(row), f"BLEU {figures[0]}, {figures[1]}", f"{figures[2]} parameters")
        marks.append(Mark(across.place(place), y, look, (row,), tip, (bottom, top)))
        numbers.append((str(row.sample.delivery.depth), figures[0], interval(row, low, high, intervals), figures[2]))
    return Chart(
        name=f"family-{number}",
        title=f"{title}: every student of one run",
        text="From the smallest student to the largest. Upright lines: the interval of BLEU or, without one, a "
        "standard deviation over seeds each way. Dashed: the plain student and the teacher.",
        across=Scale("Depth, encoder-decoder", tuple((m.x, n[0]) for m, n in zip(marks, numbers, strict=True))),
        up=Scale(f"BLEU on {table.sample.primary}; more is better \u2191", from_top(up.ticks())),
        numbers=Numbers(("Depth", "BLEU", "Interval", "Parameters"), tuple(numbers)),
        lines=(Line("curve", tuple((mark.x, mark.y) for mark in marks), look, tuple(ordered)),),
        marks=tuple(marks),
        levels=tuple(Level(round(100 - up.place(value), 2), f"{name} {value:.2f}") for name, value in levels),
    )


def _size(row: Row) -> int:
    return row.parameters.total if row.parameters else 0


def _teacher(table: Table) -> Row | None:
    return next((row for row in table.placed if row.sample.role == "teacher"), None)
