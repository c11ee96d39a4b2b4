"""Quality against what it takes: speed, cost and size, with the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from leaderboard.charts.axes import Axis, drawable, from_top
from leaderboard.charts.chart import Chart, Line, Mark, Numbers, Scale
from leaderboard.charts.labels import Label, Spot, place_labels
from leaderboard.charts.looks import Look, families, full_name
from leaderboard.charts.pareto import front, staircase
from leaderboard.costs import EXTENTS
from leaderboard.ranking import Row, Table
from leaderboard.speeds import column, engines, headlines, search, together
from leaderboard.text import duration, plus_minus, size

FRONT = (
    "The dashed staircase is the Pareto front of the students: none on it is beaten by another student that is better "
    "in one respect and as good in the other. A thin line joins the students of one run. Hollow marks: rows of "
    "reference. The teacher, which is no student, is drawn beside them."
)
"""What all these charts have alike."""
MOST_ROWS = 200
"""That a chart draws: the best by BLEU, and the front."""
MOST_CHOICES = 6
"""Charts to choose from in one place, as many as the style sheet can tell apart."""
HEIGHT = 320
LEAST_BLEU = 0.1
"""That an upright axis covers."""
OTHER_OUTPUTS = (
    "BLEU is that of the project’s own search in float32. This engine’s outputs are others: how far their BLEU "
    "is from it, on the few dev sentences that were timed, stands at the marks for which it is not 0.00."
)
WHOLE_RUNS = (
    "Where a run gave several students, each stands at what the whole run took, with what was evaluated of all of them "
    "and their shares of what rows have in common. The table has the shares of each."
)
UNITS = ((3600.0, "device-hours"), (60.0, "device-minutes"), (1.0, "device-seconds"))

Intervals = Mapping[str, tuple[float, float]]
"""Of BLEU, by the row's id."""


@dataclass(frozen=True)
class _Point:
    row: Row
    x: float
    bleu: float
    low: float
    high: float
    figures: tuple[str, ...]


@dataclass(frozen=True)
class _Measure:
    """What is drawn across."""

    name: str
    title: str
    axis: str
    more: bool
    """Whether more of it is better."""
    value: Callable[[Row], tuple[float | None, str]]
    """Of a row: the value in the axis's unit, and as text."""
    note: str = ""
    """What the chart's caption says of it."""


def size_chart(table: Table, looks: Mapping[str, Look], intervals: Intervals) -> Chart | None:
    """BLEU against the number of parameters; None for fewer than two points."""

    def value(row: Row) -> tuple[float | None, str]:
        count = row.parameters.total if row.parameters else None
        return drawable(count), "" if count is None else f"{size(count)} parameters"

    return _chart(table, looks, intervals, _Measure("size", "Quality and size", "Parameters", False, value))


def cost_charts(table: Table, looks: Mapping[str, Look], intervals: Intervals) -> tuple[tuple[str, Chart], ...]:
    """BLEU against each total of the costs, by the total's name; those that have a chart.

    A student stands at the costs of its whole run, not at its share of them: nobody who needs one student can train a
    sixth of six.
    """
    found, costs = [], {row.sample.row: table.family_costs(row) for row in table.placed if table.timed(row)}
    families = {row.sample.row: len(table.family(row)) for row in table.placed}
    note = f" {WHOLE_RUNS}" if any(count > 1 for count in families.values()) else ""
    for place, name in enumerate(EXTENTS):
        seconds = {row: totals[place].seconds.mean for row, totals in costs.items() if totals}
        longest = max(seconds.values(), default=0.0)
        unit, unit_name = next((each for each in UNITS if longest >= 2 * each[0]), UNITS[-1])

        def value(row: Row, seconds: Mapping[str, float] = seconds, unit: float = unit) -> tuple[float | None, str]:
            if (found := seconds.get(row.sample.row)) is None:
                return None, ""
            students = families[row.sample.row]
            run = f", for all {students} students of its run" if students > 1 else ""
            return drawable(found / unit), f"{duration(found)} of device time{run}"

        measure = _Measure(f"cost-{place}", f"Quality and cost: {name}", f"Cost in {unit_name}", False, value, note)
        if drawn := _chart(table, looks, intervals, measure):
            found.append((name, drawn))
    return tuple(found)


def speed_charts(table: Table, looks: Mapping[str, Look], intervals: Intervals) -> tuple[tuple[str, Chart], ...]:
    """BLEU against sentences a second of each engine that was measured, by the engine's name, of one fingerprint."""
    fingerprint, found = together(table), []
    if fingerprint is None:
        return ()
    measured = engines(table, fingerprint)
    shown = {row.sample.row: headlines(row, fingerprint, measured) for row in table.placed}
    for place, (engine, precision) in enumerate(measured):
        other = {row: round(figures[place].bleu_difference or 0.0, 2) for row, figures in shown.items()}

        def value(row: Row, place: int = place, other: Mapping[str, float] = other) -> tuple[float | None, str]:
            figure = shown[row.sample.row][place]
            if figure.timing is None:
                return None, ""
            said = [f"{figure.timing.sentences:,.1f} sentences a second, {search(figure.timing)}, best batch"]
            if other[row.sample.row]:
                said.append(f"BLEU {plus_minus(other[row.sample.row])} against float32")
            return drawable(figure.timing.sentences), "; ".join((*said, *([figure.note] if figure.note else [])))

        name = column(engine, precision).partition(", ")[2]
        axis = "Sentences a second, beam search"
        note = f" {OTHER_OUTPUTS}" if any(other.values()) else ""
        measure = _Measure(f"speed-{place}", f"Quality and speed: {name}", axis, True, value, note)
        if drawn := _chart(table, looks, intervals, measure):
            found.append((name, drawn))
    return tuple(found[:MOST_CHOICES])


def _chart(table: Table, looks: Mapping[str, Look], intervals: Intervals, measure: _Measure) -> Chart | None:
    points = _points(table.placed, intervals, measure)
    if len(points) < 2:
        return None
    students = [n for n, point in enumerate(points) if point.row.sample.role != "teacher"]
    best = [students[n] for n in front([(points[n].x, points[n].bleu) for n in students], more=measure.more)]
    shown = sorted({*range(min(len(points), MOST_ROWS)), *best[:MOST_ROWS]})
    ratios = all(drawable(points[n].x, logarithmic=True) for n in shown)
    xs = [points[n].x for n in shown]
    across = Axis.ratios(xs) if ratios else Axis.over(xs, least=1e-6)
    up = Axis.over([value for n in shown for value in (points[n].low, points[n].high)], least=LEAST_BLEU)
    spots = {n: _spot(points[n], across, up) for n in shown}
    labels = _labels(points, shown, spots, best)
    marks = {n: _mark(points[n], spots[n], looks, labels.get(n), n in best) for n in shown}
    corners = [(spots[n].x, spots[n].y) for n in best if n in spots]
    direction = "more is better \u2192" if measure.more else "\u2190 less is better"
    return Chart(
        name=measure.name,
        title=measure.title,
        text=_caption([points[n] for n in shown], intervals, len(points) - len(shown)) + measure.note,
        across=Scale(f"{measure.axis}{', log scale' if ratios else ''}; {direction}", across.ticks()),
        up=Scale(f"BLEU on {table.sample.primary}; more is better \u2191", from_top(up.ticks())),
        numbers=_numbers(points, intervals, best, measure),
        height=HEIGHT,
        lines=(
            Line("front", staircase(corners, more=measure.more)),
            *_families([points[n] for n in shown], spots={points[n].row.sample.row: spots[n] for n in shown}),
        ),
        marks=tuple(marks[n] for n in reversed(shown)),  # the best on top of the others
    )


def _points(rows: Sequence[Row], intervals: Intervals, measure: _Measure) -> list[_Point]:
    found = []
    for row in rows:
        x, text = measure.value(row)
        if row.bleu is None or x is None:
            continue
        low, high = bleu_range(row, intervals)
        figures = (f"BLEU {row.bleu.mean:.2f}, {low:.2f} to {high:.2f}", text)
        found.append(_Point(row, x, row.bleu.mean, low, high, figures))
    return found


def bleu_range(row: Row, intervals: Intervals) -> tuple[float, float]:
    """The interval of a row's BLEU; where it has none, one standard deviation each way."""
    assert row.bleu is not None
    away = row.bleu.deviation or 0.0
    return intervals.get(row.sample.row, (row.bleu.mean - away, row.bleu.mean + away))


def _spot(point: _Point, across: Axis, up: Axis) -> Spot:
    y, low, high = (round(100 - up.place(value), 2) for value in (point.bleu, point.low, point.high))
    return Spot(across.place(point.x), y, low, high, full_name(point.row))


def _labels(
    points: Sequence[_Point], shown: Sequence[int], spots: Mapping[int, Spot], best: Sequence[int]
) -> dict[int, Label]:
    """Names first for the front and the rows of reference, then from the best down."""
    order = sorted(
        range(len(shown)),
        key=lambda place: (
            shown[place] not in best and points[shown[place]].row.sample.role == "method",
            -points[shown[place]].bleu,
        ),
    )
    found = place_labels([spots[n] for n in shown], order, HEIGHT)
    return {shown[place]: each for place, each in found.items()}


def _mark(point: _Point, spot: Spot, looks: Mapping[str, Look], label: Label | None, best: bool) -> Mark:
    return Mark(
        x=spot.x,
        y=spot.y,
        look=looks[point.row.sample.row],
        rows=(point.row,),
        tip=(full_name(point.row), *point.figures, *(("on the Pareto front",) if best else ())),
        range=(spot.low, spot.high),
        label=label,
    )


def _families(points: Sequence[_Point], spots: Mapping[str, Spot]) -> tuple[Line, ...]:
    """A thin line through the students of each run that gave several."""
    found = []
    for family in families([point.row for point in points]):
        if len(family) > 1:
            places = sorted((spots[row.sample.row].x, spots[row.sample.row].y) for row in family)
            found.append(Line("family", tuple(places), rows=family))
    return tuple(found)


def _caption(points: Sequence[_Point], intervals: Intervals, left_out: int) -> str:
    tested = {point.row.sample.row in intervals for point in points}
    deviation = "one standard deviation over seeds each way"
    bars = "the interval of BLEU" if True in tested else deviation
    if len(tested) > 1:
        bars += f" or, without one, {deviation}"
    more = f" {left_out:,} rows further down are left out." if left_out else ""
    return f"Upright lines: {bars}.{more}"


def interval(row: Row, low: float, high: float, intervals: Intervals) -> str:
    """As a table has it: an interval, or what stands in for one."""
    return f"{low:.2f} to {high:.2f}{'' if row.sample.row in intervals else ' (sd)'}"


def _numbers(points: Sequence[_Point], intervals: Intervals, best: Sequence[int], measure: _Measure) -> Numbers:
    rows = tuple(
        (full_name(point.row), f"{point.bleu:.2f}", interval(point.row, point.low, point.high, intervals),
         point.figures[1], "yes" if number in best else "no")
        for number, point in enumerate(points[:MOST_ROWS])
    )  # fmt: skip
    return Numbers(("Row", "BLEU", "Interval", measure.axis, "On the front"), rows)
