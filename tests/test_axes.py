"""Axes, Pareto fronts and names beside marks: by hand, and for whatever numbers a record can hold."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.charts.axes import Axis, drawable, every, from_top, label
from leaderboard.charts.labels import MOST, WIDTHS, Spot, place_labels
from leaderboard.charts.pareto import front, staircase


def test_a_linear_axis_has_a_margin_and_round_ticks():
    axis = Axis.over([10.0, 20.0], least=0.1)  # over 11.2, from 9.4
    assert [axis.place(value) for value in (10, 15, 20)] == [5.36, 50.0, 94.64]
    assert axis.ticks() == ((5.36, "10"), (50.0, "15"), (94.64, "20"))
    assert from_top(axis.ticks()) == ((94.64, "10"), (50.0, "15"), (5.36, "20"))


def test_a_logarithmic_axis_makes_equal_ratios_equally_long():
    axis = Axis.ratios([1.0, 100.0])  # over 2.24 powers of ten, from -0.12
    assert [axis.place(value) for value in (1, 10, 100)] == [5.36, 50.0, 94.64]
    assert axis.ticks() == ((5.36, "1"), (26.66, "3"), (50.0, "10"), (71.3, "30"), (94.64, "100"))


def test_a_short_logarithmic_axis_has_the_ticks_of_a_linear_one():
    axis = Axis.ratios([200.0, 400.0])
    assert [text for _, text in axis.ticks()] == ["200", "250", "300", "350", "400"]
    assert axis.place(200.0) == 5.36


def test_a_long_logarithmic_axis_has_few_ticks():
    texts = [text for _, text in Axis.ratios([1e-15, 1e15]).ticks()]
    assert texts == ["1e-14", "1e-07", "1", "10 M", "100 T"]


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (0.25, 0.05, "0.25"),
        (1500, 500, "1,500"),
        (20_000, 20_000, "20 k"),
        (25_000, 5_000, "25 k"),
        (12_500, 500, "12.5 k"),
        (999_000, 1_000, "999 k"),
        (1_000_000, 500_000, "1.0 M"),
        (2e9, 1e9, "2 G"),
        (1e15, 1e15, "1 P"),
        (-5, 5, "\u22125"),
        (0, 1, "0"),
        (1e-9, 1e-9, "1e-09"),
    ],
)
def test_ticks_as_text(value, step, text):
    assert label(value, step) == text


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 1e16, -1e16, 10**400])
def test_what_no_axis_can_place(value):
    assert drawable(value) is None
    assert drawable(value, logarithmic=True) is None


def test_what_has_no_logarithm_can_stand_on_a_linear_axis():
    assert [drawable(value) for value in (0, -3)] == [0.0, -3.0]
    assert [drawable(value, logarithmic=True) for value in (0, -3, 1e-16, 7)] == [None, None, None, 7.0]


NUMBERS = st.one_of(st.floats(), st.integers(), st.sampled_from([0.0, -0.0, 1e308, 5e-324, 1e15, 1e-15, 10**400, 1.0]))


@given(st.lists(NUMBERS, min_size=1, max_size=20), st.booleans())
def test_every_place_is_on_the_axis_and_ticks_are_few(values, logarithmic):
    kept = [value for each in values if (value := drawable(each, logarithmic=logarithmic)) is not None]
    if not kept:
        return
    axis = Axis.ratios(kept) if logarithmic else Axis.over(kept, least=0.1)
    places = [axis.place(value) for value in kept]
    assert all(5 <= place <= 95 for place in places)
    ticks = axis.ticks()
    assert len(ticks) <= 12
    assert all(-0.01 <= place <= 100.01 and len(text) <= 12 for place, text in ticks)


def test_at_most_so_many_of_the_points():
    assert [every(count, 8) for count in (1, 8, 9, 50)] == [1, 1, 2, 7]


@pytest.mark.parametrize(
    ("points", "more", "expected"),
    [
        ([], True, ()),
        ([(1, 1)], True, (0,)),
        ([(1, 5), (2, 4), (3, 3)], True, (0, 1, 2)),
        ([(1, 5), (2, 4), (3, 3)], False, (0,)),
        ([(1, 3), (2, 4), (3, 5), (2.5, 3.5)], False, (0, 1, 2)),
        ([(2, 4), (2, 5)], True, (1,)),  # the same cost, less quality
        ([(1, 4), (2, 4)], True, (1,)),  # the same quality, more speed
        ([(1, 4), (2, 4)], False, (0,)),
        ([(1, 4), (1, 4), (0, 4)], True, (0, 1)),  # equals do not beat each other
    ],
)
def test_fronts_by_hand(points, more, expected):
    assert front(points, more=more) == expected


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12), st.booleans())
def test_a_front_is_what_nothing_beats(points, more):
    def beats(a, b):
        x = (a[0] - b[0]) * (1 if more else -1)
        return x >= 0 and a[1] >= b[1] and a != b

    expected = {n for n, point in enumerate(points) if not any(beats(other, point) for other in points)}
    assert set(front(points, more=more)) == expected


def test_the_staircase_bounds_what_is_attained():
    # Fewer is better: from the bottom at the cheapest, up with each dearer and better one, to the right edge.
    assert staircase([(10, 80), (50, 30)], more=False) == ((10, 100.0), (10, 80), (50, 80), (50, 30), (100.0, 30))
    # More is better: from the left edge at the best, down with each faster and worse one, to the bottom.
    assert staircase([(10, 30), (50, 80)], more=True) == ((0.0, 30), (10, 30), (10, 80), (50, 80), (50, 100.0))
    assert staircase([(10, 30), (10, 30)], more=True) == ((0.0, 30), (10, 30), (10, 100.0))
    assert staircase([], more=True) == ()


def spot(x: float, y: float, name: str) -> Spot:
    return Spot(x, y, min(y + 3, 100.0), max(y - 3, 0.0), name)


def test_a_name_stands_beside_its_mark_and_turns_at_the_edge():
    spots = [spot(20, 50, "left"), spot(99, 50, "a long name")]
    found = place_labels(spots, [0, 1], 300)
    assert [found[0].anchor, found[1].anchor] == ["start", "end"]


def test_a_long_name_is_cut():
    assert place_labels([spot(20, 50, "x" * 500)], [0], 300)[0].text == "x" * 25 + "\u2026"


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.text(max_size=40)), max_size=40),
    st.sampled_from([240, 320]),
)
def test_names_touch_neither_each_other_nor_the_edge(places, height):
    spots = [spot(*each) for each in places]
    found = place_labels(spots, range(len(spots)), height)
    assert len(found) <= MOST
    for width in WIDTHS:
        boxes = [each.box(spots[n].x * width / 100, spots[n].y * height / 100) for n, each in found.items()]
        assert all(left >= 0 and top >= 0 and right <= width and bottom <= height for left, top, right, bottom in boxes)
        for a, b in combinations(boxes, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
