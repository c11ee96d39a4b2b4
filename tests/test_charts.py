"""What the charts of a table and of a row draw: places by hand, caps, and whatever a record can hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import make_curve, make_record, make_sweep, plain, seeds, tuned
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import site

from bench.config import Depth
from bench.results import EngineSpeed, Parameters, Phase, Record, Speed, Timing
from leaderboard.charts import (
    Chart,
    cost_charts,
    dot_plot,
    family_charts,
    legend,
    looks,
    matrix,
    row_training,
    size_chart,
    speed_charts,
    table_training,
    tuning_charts,
)
from leaderboard.charts.looks import PLAIN, TEACHER, families
from leaderboard.charts.training import mean_series
from leaderboard.differences import Differences, Pair
from leaderboard.ranking import Table, aggregate
from leaderboard.sweeps import curves


def table_of(records: list[Record]) -> Table:
    (table,) = aggregate(records)
    return table


def drawn(table: Table, intervals: dict[str, tuple[float, float]] | None = None) -> list[Chart]:
    """All charts of a table's page and of its rows' pages."""
    known, between = looks(table.rows), intervals or {}
    pairs = (*cost_charts(table, known, between), *speed_charts(table, known, between))
    single = size_chart(table, known, between), table_training(table, known)
    found = [chart for _, chart in pairs] + [chart for chart in single if chart]
    found += family_charts(table, known, between) + tuning_charts(curves(table), known, table.machine)
    return found + [chart for row in table.rows for chart in row_training(row)]


def sized(records: list[Record], total: int) -> list[Record]:
    parameters = Parameters(total=total, non_embedding=total)
    return [record.model_copy(update={"parameters": parameters}) for record in records]


def family(depths: list[Depth], method: str = "aio_kd") -> list[Record]:
    """Rows of one run."""
    found = []
    for place, depth in enumerate(depths):
        run = (Phase(name="training", kind="training", seconds=60.0, artifact="a1"),)
        rows = seeds(method, [20.0 + place] * 3, depth=depth, phases=run)
        found += sized(rows, 1000 * (place + 1))
    return found


def test_the_dot_plot_by_hand():
    table = table_of(plain((10.0, 12.0, 14.0)) + seeds("m", [20.0, 20.0, 20.0]))
    top, bottom = dot_plot(table.rows, table.baseline.bleu.mean).strips
    assert top.mean == top.low == top.high == 94.64  # 20 at 0.06 of the span below the end
    assert bottom.seeds[0] == 5.36
    assert bottom.low < bottom.mean < bottom.high


def test_the_dot_plot_of_equal_scores_and_of_too_few():
    table = table_of(plain((10.0,) * 3) + seeds("m", [10.0] * 3))
    assert {strip.mean for strip in dot_plot(table.rows, 10.0).strips} == {50.0}
    assert dot_plot(table.rows[:1], 10.0) is None


def test_quality_and_size_by_hand():
    table = table_of(sized(plain((10.0,) * 3), 1_000) + sized(seeds("m", [20.0] * 3), 100_000))
    chart = size_chart(table, looks(table.rows), {"m.2-2.quick.0badcafe": (19.0, 20.0)})
    small, large = chart.marks
    assert (small.x, small.y, small.look, small.range) == (5.36, 94.64, PLAIN, (94.64, 94.64))
    assert (large.x, large.y, large.range) == (94.64, 5.36, (14.29, 5.36))
    assert large.tip == ("M 2-2", "BLEU 20.00, 19.00 to 20.00", "100 k parameters", "on the Pareto front")
    assert chart.lines[0].points == ((5.36, 100.0), (5.36, 94.64), (94.64, 94.64), (94.64, 5.36), (100.0, 5.36))
    assert [text for _, text in chart.across.ticks] == ["1,000", "3,000", "10 k", "30 k", "100 k"]
    assert chart.numbers.rows[0] == ("M 2-2", "20.00", "19.00 to 20.00", "100 k parameters", "yes")


def test_without_an_interval_it_is_the_deviation_over_seeds():
    table = table_of(plain((10.0,) * 3) + seeds("m", [18.0, 20.0, 22.0]))
    chart = size_chart(table, looks(table.rows), {})
    assert chart.marks[1].tip[1] == "BLEU 20.00, 18.00 to 22.00"
    assert "standard deviation" in chart.text


def test_a_chart_of_one_point_is_none():
    table = table_of(plain())
    assert size_chart(table, looks(table.rows), {}) is None
    assert cost_charts(table, looks(table.rows), {}) == ()
    assert speed_charts(table, looks(table.rows), {}) == ()


def test_the_unit_of_costs_follows_the_longest():
    def axis(seconds: float) -> str:
        table = table_of(plain(training_seconds=1.0) + seeds("m", [20.0] * 3, training_seconds=seconds))
        name, chart = cost_charts(table, looks(table.rows), {})[0]
        assert name == "student"
        return chart.across.title.split(",")[0]

    assert [axis(value) for value in (100, 119, 120, 7199, 7200)] == [
        "Cost in device-seconds", "Cost in device-seconds", "Cost in device-minutes", "Cost in device-minutes",
        "Cost in device-hours",
    ]  # fmt: skip


def test_a_cost_of_nothing_makes_the_axis_linear():
    table = table_of(plain(training_seconds=0.0) + seeds("m", [20.0] * 3, training_seconds=100.0))
    _, chart = cost_charts(table, looks(table.rows), {})[0]
    assert "log scale" not in chart.across.title
    assert chart.marks[0].x == 5.36


def test_a_student_stands_at_what_its_whole_run_took():
    """Its share would make one of three students cheaper than the plain student, though it takes twice as long."""
    runs = [
        record.model_copy(update={"phases": (Phase(name="t", kind="training", seconds=120.0, artifact=str(seed)),)})
        for depth in (Depth(2, 2), Depth(3, 2), Depth(3, 3))
        for seed, record in enumerate(seeds("m", [20.0] * 3, depth=depth))
    ]
    table = table_of([*plain(training_seconds=60.0), *runs])
    assert {row.costs[0].seconds.mean for row in table.rows if row.sample.method.name == "m"} == {40.0}
    _, chart = cost_charts(table, looks(table.rows), {})[0]
    tips = {mark.tip[0]: mark.tip[2:] for mark in chart.marks}
    assert tips["M 3-3"] == ("2 min 00 s of device time, for all 3 students of its run", "on the Pareto front")
    assert tips["Baseline 2-2"] == ("1 min 00 s of device time", "on the Pareto front")
    assert "each stands at what the whole run took" in chart.text
    apart = table_of([*plain(), *seeds("n", [20.0] * 3)])
    _, alone = cost_charts(apart, looks(apart.rows), {})[0]
    assert "whole run took" not in alone.text


def fast(record: Record, sentences: float, fingerprint: str = "f" * 64) -> Record:
    timing = Timing(
        beam=4, mode="best batch", batch_tokens=4096, passes=5, seconds=2.0, spread=0.5,
        source_words=500.0, target_tokens=800.0, sentences=sentences, signature="a|b",
    )  # fmt: skip
    engine = EngineSpeed(engine="pytorch", precision="float32", timings=(timing,))
    speed = Speed(
        fingerprint=fingerprint, machine={}, protocol={}, source_sha256="e" * 64, shared=None, engines=(engine,)
    )
    return record.model_copy(update={"speed": speed})


def test_only_speeds_of_one_go_are_set_side_by_side():
    rows = [fast(record, 100.0 * n) for n in (1, 2) for record in seeds(f"m{n}", [10.0 * n] * 3)]
    elsewhere = [fast(record, 900.0, "a" * 64) for record in seeds("far", [30.0] * 3)]
    table = table_of([*plain(), *rows, *elsewhere])
    ((name, chart),) = speed_charts(table, looks(table.rows), {})
    assert name == "PyTorch"
    assert {mark.tip[0] for mark in chart.marks} == {"M1 2-2", "M2 2-2"}
    assert chart.marks[1].tip[2] == "200.0 sentences a second, beam 4, best batch; spread 50 %"
    assert "more is better \u2192" in chart.across.title


def test_an_engine_with_other_outputs_says_how_far_their_bleu_is():
    def quantised(record: Record, difference: float) -> Record:
        found = fast(record, 100.0)
        (engine,) = found.speed.engines
        changed = engine.model_copy(
            update={"engine": "ctranslate2", "precision": "int8", "bleu_difference": difference}
        )
        return found.model_copy(update={"speed": found.speed.model_copy(update={"engines": (engine, changed)})})

    names = {"m": -1.25, "n": 0.001}
    rows = [quantised(record, change) for name, change in names.items() for record in seeds(name, [20.0] * 3)]
    table = table_of([*plain(), *rows])
    charts = dict(speed_charts(table, looks(table.rows), {}))
    tips = {mark.tip[0]: mark.tip[2] for mark in charts["CTranslate2 int8"].marks}
    assert "; BLEU \u22121.25 against float32;" in tips["M 2-2"]
    assert "against float32" not in tips["N 2-2"]
    assert "outputs are others" in charts["CTranslate2 int8"].text
    assert "outputs are others" not in charts["PyTorch"].text


def test_rows_of_one_run_look_alike_and_are_joined():
    table = table_of([*plain(), *seeds("m", [5.0] * 3), *family([Depth(2, 2), Depth(3, 2), Depth(3, 3)])])
    known = looks(table.rows)
    assert len({known[row.sample.row] for row in table.rows if row.sample.method.name == "aio_kd"}) == 1
    assert len(set(known.values())) == 3
    assert [len(each) for each in families(table.rows)] == [3, 1, 1]
    (thin,) = [line for line in size_chart(table, known, {}).lines if line.kind == "family"]
    assert len(thin.points) == 3
    assert [entry.name for entry in legend(table.rows, known)] == ["Aio kd", "Baseline 2-2", "M 2-2"]


def test_reference_rows_have_looks_of_their_own():
    table = table_of([*plain(), *seeds("teacher", [30.0] * 3, role="teacher"), *seeds("m", [5.0] * 3)])
    known = looks(table.rows)
    assert [known[row.sample.row] for row in table.rows[:2]] == [TEACHER, PLAIN]


def test_a_family_by_hand():
    records = [*plain((10.0,) * 3), *seeds("teacher", [30.0] * 3, role="teacher")]
    table = table_of([*records, *family([Depth(2, 2), Depth(3, 2), Depth(3, 3)])])
    (chart,) = family_charts(table, looks(table.rows), {})
    # 10 to 30 over 22.4, from 8.8.
    assert [(mark.x, mark.y) for mark in chart.marks] == [(5.36, 50.0), (50.0, 45.54), (94.64, 41.07)]
    assert [text for _, text in chart.across.ticks] == ["2-2", "3-2", "3-3"]
    assert [(level.y, level.text) for level in chart.levels] == [
        (94.64, "plain student 10.00"),
        (5.36, "teacher 30.00"),
    ]


def test_tuning_by_hand():
    sweeps = make_sweep([10.0] * 3, "baseline", 1800.0), make_sweep([20.0] * 3, "m", 3600.0)
    baseline = tuned("baseline", [9.0] * 3, sweeps[0], role="baseline", phases=())
    table = table_of([*baseline, *tuned("m", [9.0] * 3, sweeps[1], phases=())])
    by_trials, by_hours = tuning_charts(curves(table), looks(table.rows), table.machine)
    method, plain_student = by_trials.lines
    assert (method.look.style, plain_student.look) == ("colour-0", PLAIN)
    assert method.points == ((5.36, 5.36), (50.0, 5.36), (94.64, 5.36))
    assert plain_student.points == ((5.36, 94.64), (50.0, 94.64), (94.64, 94.64))
    assert by_trials.across.ticks == ((94.64, "3"), (50.0, "2"), (5.36, "1"))
    assert by_trials.up.ticks == ((94.64, "10"), (50.0, "15"), (5.36, "20"))
    method, plain_student = by_hours.lines  # 1, 2, 3 and 0.5, 1, 1.5 hours on an axis from 0 to 3
    assert [x for x, _ in method.points] == [35.12, 64.88, 94.64]
    assert [x for x, _ in plain_student.points] == [20.24, 35.12, 50.0]
    assert by_hours.across.ticks == ((5.36, "0"), (35.12, "1"), (64.88, "2"), (94.64, "3"))
    assert method.marks[0].tip == ("M", "Expected best dev BLEU 20.00", "1 trial", "1 device-hours")


def test_what_trials_cost_on_another_machine_is_not_set_beside():
    here, far = (tuned(name, [9.0] * 3, make_sweep(method=name)) for name in "mn")
    environment = far[0].environment.model_copy(update={"cpu": "Other CPU"})
    more = tuned("o", [9.0] * 3, make_sweep(method="o"))
    table = table_of([*here, *more, *(each.model_copy(update={"environment": environment}) for each in far)])
    by_trials, by_hours = tuning_charts(curves(table), looks(table.rows), table.machine)
    assert (len(by_trials.lines), len(by_hours.lines)) == (3, 2)


def test_many_methods_and_many_trials_stay_distinct():
    sweep = make_sweep([10.0 + number for number in range(50)], "m")
    table = table_of([record for n in range(30) for record in tuned(f"m{n}", [1.0], sweep)])
    chart, _ = tuning_charts(curves(table), looks(table.rows), table.machine)
    assert len({line.look for line in chart.lines}) == 30
    for line in chart.lines:
        assert len(line.points) == 50
        assert len(line.marks) <= 8
        assert (line.marks[-1].x, line.marks[-1].y) == line.points[-1]
    assert len(chart.across.ticks) <= 8


def with_curve(record: Record, curve: tuple) -> Record:
    return record.model_copy(update={"training": record.training.model_copy(update={"curve": curve})})


def test_the_mean_over_seeds_by_hand():
    higher = tuple(
        point.model_copy(update={"target_tokens": point.target_tokens + 10}) for point in make_curve(shift=1.0)
    )
    records = [with_curve(make_record(), make_curve()), with_curve(make_record(seed=2), higher[:3])]
    found = mean_series(records, lambda point: point.dev_nll)
    assert found == ((60_005.0, 4.7), (120_005.0, 3.5), (175_005.0, pytest.approx(3.1)))
    records.append(with_curve(make_record(seed=3), (higher[0], higher[1].model_copy(update={"stage": 1}))))
    assert len(mean_series(records, lambda point: point.dev_nll)) == 1
    assert mean_series([with_curve(make_record(), ())], lambda point: point.dev_nll) == ()


def test_training_of_a_table_and_of_a_row():
    table = table_of([*plain(), *family([Depth(2, 2), Depth(3, 2)])])
    known = looks(table.rows)
    chart = table_training(table, known)
    assert [(line.kind, len(line.points), len(line.rows)) for line in chart.lines] == [("curve", 4, 2), ("curve", 4, 1)]
    loss, terms = row_training(table.baseline)
    assert [line.kind for line in loss.lines] == ["thin"] * 3 + ["curve"]
    assert [entry.name for entry in loss.legend] == ["Mean"]
    assert [entry.name for entry in terms.legend] == ["nll", "kd"]
    measured = tuple(point.model_copy(update={"dev_bleu": 9.0}) for point in make_curve())
    bleu = table_of([with_curve(record, measured) for record in plain()])
    assert [chart.title for chart in row_training(bleu.baseline)][1] == "Dev BLEU"


def test_rows_without_curves_have_no_chart():
    table = table_of([with_curve(record, ()) for record in plain()])
    assert table_training(table, looks(table.rows)) is None
    assert row_training(table.baseline) == ()


def test_the_matrix_is_shaded_by_the_size_of_what_is_significant():
    table = table_of([*seeds("a", [30.0] * 3), *seeds("b", [24.0] * 3), *seeds("c", [23.0] * 3)])
    names = [row.sample.row for row in table.rows]
    gaps = {(0, 1): (6.0, "better"), (0, 2): (7.0, "better"), (1, 2): (1.0, "level")}
    turned = {"better": "worse", "level": "level"}
    pairs = {}
    for (a, b), (gap, outcome) in gaps.items():
        pairs[names[a], names[b]] = Pair(gap, 0.01, outcome)
        pairs[names[b], names[a]] = Pair(-gap, 0.01, turned[outcome])
    found = matrix(Differences(table.placed, {}, pairs, {}, {}, {}))
    assert [[cell and cell.shade for cell in line] for line in found.cells] == [
        [None, 3, 3],
        [3, None, 0],
        [3, 0, None],
    ]
    assert found.cells[2][0].pair.outcome == "worse"
    assert found.left_out == 0


def places(chart: Chart) -> Iterator[float]:
    for mark in [*chart.marks, *(mark for line in chart.lines for mark in line.marks)]:
        yield from (mark.x, mark.y, *(mark.range or ()))
    for line in chart.lines:
        yield from (each for point in line.points for each in point)
    yield from (level.y for level in chart.levels)
    yield from (place for scale in (chart.across, chart.up) for place, _ in scale.ticks)


def sound(chart: Chart) -> None:
    """Whether all that it draws lies within it."""
    found = list(places(chart))
    assert all(math.isfinite(place) and -0.01 <= place <= 100.01 for place in found)
    assert not any(word in line.path for line in chart.lines for word in ("nan", "inf", "e"))


ANY = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 1e308, -1e308, 5e-324]))
SECONDS = st.one_of(st.floats(0, 1e10), st.sampled_from([0.0, 5e-324, 1e10]))
COUNT = st.one_of(st.integers(0, 10**6), st.sampled_from([0, 1, 10**15, 10**16, 10**400]))


@st.composite
def hostile(draw: st.DrawFn) -> list[Record]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        total, seconds = draw(COUNT), draw(SECONDS)
        for record in seeds(f"m{number}", draw(st.lists(st.floats(0, 100), min_size=3, max_size=3))):
            base = draw(COUNT)
            curve = tuple(
                point.model_copy(
                    update={
                        "dev_nll": draw(ANY),
                        "dev_bleu": draw(st.none() | st.floats(0, 100)),
                        "target_tokens": base + place,
                        "terms": {"kd": draw(ANY)},
                    }
                )
                for place, point in enumerate(make_curve())
            )
            parts = {
                "parameters": Parameters(total=total, non_embedding=total),
                "phases": (Phase(name="training", kind="training", seconds=seconds),),
            }
            changed = with_curve(record, curve).model_copy(update=parts)
            found.append(fast(changed, draw(st.floats(0, 1e12))) if draw(st.booleans()) else changed)
    return found


@settings(max_examples=25, deadline=None)
@given(hostile())
def test_nothing_but_sound_places_is_ever_drawn(records):
    for chart in drawn(table_of(records)):
        sound(chart)


def test_hundreds_of_rows_make_charts_of_bearable_size():
    def row(number: int, seed: int) -> Record:
        record = make_record("m", seed, 20.0 + number / 100, digest=f"{number:08x}")
        parameters = Parameters(total=2000 - number, non_embedding=1)
        method = record.method.model_copy(update={"settings": {"alpha": number}})
        return record.model_copy(update={"parameters": parameters, "method": method})

    table = table_of([row(number, seed) for number in range(300) for seed in (1, 2, 3)])
    known = looks(table.rows)
    chart = size_chart(table, known, {})
    assert len(table.placed) == 300
    assert len(chart.marks) == 200
    assert "100 rows further down are left out" in chart.text
    assert len(table_training(table, known).lines) == 30
    assert len(legend(table.placed, known)) == 30


HOSTILE = "\"'><script>alert(1)</script>,\n</svg>\u202e\x00{{ 7 * 7 }}"


def test_hostile_names_change_nothing_of_the_pages(tmp_path: Path):
    def named(title: str, term: str) -> list[Record]:
        found = []
        for record in [*plain(), *seeds("m", [12.0, 13.0, 14.0])]:
            curve = tuple(point.model_copy(update={"terms": {term: 1.0}}) for point in make_curve())
            method = record.method.model_copy(update={"title": title})
            found.append(with_curve(record, curve).model_copy(update={"method": method}))
        return found

    tame = site(tmp_path / "tame", named("Title", "kd"))
    wild = site(tmp_path / "wild", named(HOSTILE, HOSTILE))
    charts = [name for name in tame if name.startswith(("tables/", "rows/"))]
    assert len(charts) == 3
    for name in charts:
        assert wild[name].shape == tame[name].shape
        assert wild[name].values("data-rows") == tame[name].values("data-rows")
    (page,) = [wild[name] for name in charts if name.startswith("tables/")]
    assert any("<script>alert(1)</script>" in text for text in page.values("aria-label"))
    assert not any("\u202e" in text or "\x00" in text for text in page.values("aria-label"))


def test_every_mark_is_a_link_with_a_name_and_every_chart_has_its_table(tmp_path: Path):
    pages = site(tmp_path, [*plain(), *family([Depth(2, 2), Depth(3, 2)])])
    (table,) = [page for name, page in pages.items() if name.startswith("tables/")]
    drawings = [attributes for tag, attributes in table.elements if attributes.get("class") == "drawing"]
    marks = [attributes for tag, attributes in table.elements if tag == "a" and "mark" in attributes.get("class", "")]
    assert len(drawings) >= 6
    assert table.text.count("The same as a table") == len(drawings)
    names = {attributes["id"] for _, attributes in table.elements if "id" in attributes}
    assert all({each["aria-labelledby"], each["aria-describedby"]} <= names for each in drawings)
    assert marks
    assert all(each["aria-label"] and (table.path.parent / each["href"]).is_file() for each in marks)
