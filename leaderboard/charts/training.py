"""How rows learn: dev loss, dev BLEU and the terms of the loss over the target tokens seen."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from bench.results import CurvePoint, Record
from leaderboard.charts.axes import Axis, drawable, every, from_top
from leaderboard.charts.chart import Chart, Line, Mark, Numbers, Scale
from leaderboard.charts.looks import Entry, Look, families, family_name, look_alone, numbered
from leaderboard.charts.tuning import MARKED, MOST_LINES
from leaderboard.ranking import Row, Table

SHOWN = 100
"""Points of a line that are drawn."""
LISTED = 12
"""Points of a line that the table below a chart has."""
MOST_TERMS = 12
"""Terms of a loss that a chart draws."""
LOSS = "Dev NLL, nats a target token; less is better \u2193"

Series = tuple[tuple[float, float], ...]
"""Target tokens and value."""
Value = Callable[[CurvePoint], float | None]


@dataclass(frozen=True)
class _Drawn:
    name: str
    series: Series
    look: Look
    rows: tuple[Row, ...]
    thin: bool = False


def mean_series(records: Sequence[Record], value: Value) -> Series:
    """The mean over seeds, evaluation by evaluation, as far as all seeds went alike.

    Seeds see the same number of target tokens but for the last batch; their mean stands for them.
    """
    curves = [record.training.curve for record in records if record.training and record.training.curve]
    alike = takewhile(lambda points: len({point.stage for point in points}) == 1, zip(*curves))
    found = []
    for points in alike:
        values = [drawable(value(point)) for point in points]
        tokens = [drawable(point.target_tokens) for point in points]
        if None not in values and None not in tokens:
            found.append((statistics.fmean(_known(tokens)), statistics.fmean(_known(values))))
    return tuple(found)


def table_training(table: Table, looks: Mapping[str, Look]) -> Chart | None:
    """Dev NLL of the rows of a table, the mean over seeds; rows of one run have one line. None without curves."""
    found = []
    for family in families(table.placed):
        if series := mean_series(family[0].finished, lambda point: point.dev_nll):
            found.append(_Drawn(family_name(family), series, looks[family[0].sample.row], family))
    found.sort(key=lambda drawn: min(value for _, value in drawn.series))
    text = "The mean over seeds at each evaluation on dev. Where one run gives several students, the mean over them."
    more = f" The {MOST_LINES} lowest of {len(found)}." if len(found) > MOST_LINES else ""
    return _chart("training", "Dev loss during the training", text + more, LOSS, found[:MOST_LINES])


def row_training(row: Row) -> tuple[Chart, ...]:
    """What is known of a row's training: dev NLL, dev BLEU where it was measured, and the terms of its loss."""
    look, seeds = look_alone(row), "Thin: each seed. Thick: their mean, as far as all of them went."
    if any(phase.kind == "training" and phase.shared_by > 1 for phase in row.sample.phases):
        seeds += " One run gave several students; this is the mean over them."
    charts = [
        _chart("dev-nll", "Dev loss", seeds, LOSS, _by_seed(row, look, lambda point: point.dev_nll)),
        _chart("dev-bleu", "Dev BLEU", seeds, "Dev BLEU; more is better \u2191",
               _by_seed(row, look, lambda point: point.dev_bleu)),
        _chart("terms", "Terms of the loss", "The mean over seeds, of the newest batch at each evaluation, as the "
               "method defines them and before their weights: not all are means over tokens.",
               "Value by target tokens", _terms(row)),
    ]  # fmt: skip
    return tuple(chart for chart in charts if chart)


def _by_seed(row: Row, look: Look, value: Value) -> list[_Drawn]:
    found = [
        _Drawn(f"Seed {record.seed}", series, look, (), thin=True)
        for record in row.finished
        if (series := mean_series([record], value))
    ]
    mean = mean_series(row.finished, value)
    return [*found, _Drawn("Mean", mean, look, ())] if mean else found


def _terms(row: Row) -> list[_Drawn]:
    points = [point for record in row.finished if record.training for point in record.training.curve]
    names = list(dict.fromkeys(name for point in points for name in point.terms))[:MOST_TERMS]
    found = []
    for number, name in enumerate(names):
        if series := mean_series(row.finished, lambda point, name=name: point.terms.get(name)):  # type: ignore[misc]
            found.append(_Drawn(name, series, numbered(number), ()))
    return found


def _chart(name: str, title: str, text: str, up_title: str, drawn: Sequence[_Drawn]) -> Chart | None:
    points = [point for each in drawn for point in each.series]
    if not points:
        return None
    across = Axis.over([0.0, *(tokens for tokens, _ in points)], least=1.0)
    up = Axis.over([value for _, value in points], least=0.01)
    listed = tuple(
        (each.name, f"{tokens:,.0f}", f"{value:.4g}") for each in drawn for tokens, value in _some(each.series, LISTED)
    )
    return Chart(
        name=name,
        title=title,
        text=text,
        across=Scale("Target tokens", across.ticks()),
        up=Scale(up_title, from_top(up.ticks())),
        numbers=Numbers(("Line", "Target tokens", up_title.partition(";")[0]), listed),
        lines=tuple(_line(each, across, up) for each in drawn),
        legend=tuple(
            Entry(each.look, each.rows, each.name, f"{each.series[-1][1]:.3g}") for each in drawn if not each.thin
        ),
    )


def _line(drawn: _Drawn, across: Axis, up: Axis) -> Line:
    def placed(series: Series) -> tuple[tuple[float, float], ...]:
        return tuple((across.place(tokens), round(100 - up.place(value), 2)) for tokens, value in series)

    marked = _some(drawn.series, MARKED)
    marks = tuple(
        Mark(x, y, drawn.look, drawn.rows, (drawn.name, f"{tokens:,.0f} target tokens", f"{value:.4g}"))
        for (x, y), (tokens, value) in zip(placed(marked), marked, strict=True)
    )
    points = placed(_some(drawn.series, SHOWN))
    return Line("thin" if drawn.thin else "curve", points, drawn.look, drawn.rows, () if drawn.thin else marks)


def _some(series: Series, most: int) -> Series:
    """At most so many points, the last among them."""
    return tuple(reversed(series[:: -every(len(series), most)]))


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
