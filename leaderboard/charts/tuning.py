"""Dev BLEU against the number of trials, and against what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from leaderboard.charts.axes import Axis, every, from_top
from leaderboard.charts.chart import Chart, Line, Mark, Numbers, Scale
from leaderboard.charts.looks import Entry, Look, run_name
from leaderboard.sweeps import Curve, shown_trials

MARKED = 8
"""At most so many points of a line carry its mark."""
MOST_LINES = 30
"""That a chart draws, the best ones: as many as there are looks."""


def tuning_charts(curves: Sequence[Curve], looks: Mapping[str, Look], machine: str | None) -> tuple[Chart, ...]:
    """Charts of the sweeps of a table: of all by trials, and of those made on ``machine`` by device-hours."""
    here = [curve for curve in curves if machine and curve.row.machine == machine]
    by_trials = (_chart(curves[:MOST_LINES], looks, "trials"),) if curves else ()
    return (*by_trials, *([_chart(here[:MOST_LINES], looks, "hours")] if here else []))


def _chart(curves: Sequence[Curve], looks: Mapping[str, Look], against: Literal["trials", "hours"]) -> Chart:
    def costs(curve: Curve) -> Sequence[float]:
        return range(1, len(curve.best) + 1) if against == "trials" else curve.hours

    open_track = curves[0].row.sample.track == "open"
    measure = "Best dev BLEU so far" if open_track else "Expected best dev BLEU"
    most = max(len(curve.best) for curve in curves)
    start = [] if against == "trials" else [0.0]
    across = Axis.over([*start, *(cost for curve in curves for cost in costs(curve))], least=1e-6)
    up = Axis.over([value for curve in curves for value in curve.best], least=0.1)

    def line(curve: Curve) -> Line:
        points = [
            (across.place(cost), round(100 - up.place(value), 2))
            for cost, value in zip(costs(curve), curve.best, strict=True)
        ]
        name, look = run_name(curve.row), looks[curve.row.sample.row]
        marks = [
            Mark(
                points[number][0],
                points[number][1],
                look,
                (curve.row,),
                (name, f"{measure} {curve.best[number]:.2f}", f"{number + 1} {'trials' if number else 'trial'}",
                 f"{curve.hours[number]:.3g} device-hours"),
            )
            for number in range(len(points) - 1, -1, -every(len(points), MARKED))
        ]  # fmt: skip
        return Line("curve", tuple(points), look, (curve.row,), tuple(reversed(marks)))

    trials = tuple((across.place(number), str(number)) for number in range(most, 0, -every(most, MARKED)))
    order = " The trials are in the order in which they were made." if open_track else ""
    incomplete = " Incomplete: none of these rows is placed." if curves[0].row.unplaced else ""
    cost = (
        " What they cost: first the teacher\u2019s training and decoding in full, where the method needs them, by wall "
        "time; then so many trials of mean cost, wall time times devices."
    )
    return Chart(
        name=f"tuning-{against}",
        title=f"{measure} by {'number of trials' if against == 'trials' else 'cost of the trials'}",
        text=f"{'' if against == 'trials' else cost}{order}{incomplete}".strip(),
        across=Scale(
            "Trials" if against == "trials" else "Device-hours", trials if against == "trials" else across.ticks()
        ),
        up=Scale(f"{measure}; more is better \u2191", from_top(up.ticks())),
        numbers=_numbers(curves),
        lines=tuple(map(line, curves)),
        legend=tuple(
            Entry(looks[curve.row.sample.row], (curve.row,), run_name(curve.row), f"{curve.best[-1]:.2f}")
            for curve in curves
        ),
    )


def _numbers(curves: Sequence[Curve]) -> Numbers:
    shown = shown_trials(len(curve.best) for curve in curves)
    rows = tuple(
        (
            run_name(curve.row),
            f"{curve.hours_before:.3g}",
            f"{curve.hours_each:.3g}",
            f"{sum(trial.state == 'ok' for trial in curve.sweep.trials)} of {len(curve.sweep.trials)}",
            *(f"{curve.best[k - 1]:.2f}" if k <= len(curve.best) else "\u2013" for k in shown),
        )
        for curve in curves
    )
    before = ("Method", "Device-hours before", "Device-hours a trial", "Finished trials")
    return Numbers((*before, *(f"Best of {k}" for k in shown)), rows)
