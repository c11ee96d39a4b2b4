"""The figure of cost over size: its points, its drawing, and one point measured in a process of its own."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from xml.etree import ElementTree

import pytest
from scaling import METHODS, SIZES, Measured, Point, figure, measure_all, on, page, points, read, table

from bench.measure.rounds import Figure

USUAL = Point("baseline", copies=1, vocabulary=4000, width=256)


def invented(point: Point) -> Measured:
    """A rate and a memory that tell the point."""
    factor = 1 if point.method == "baseline" else 2
    tokens = 4_000_000 / (point.width + point.vocabulary * point.copies) / factor
    return Measured(point, 100 * point.copies, Figure(tokens, 0.1), Figure(0.5, 0.2), factor * point.width * 2**20)


MEASURED = [invented(point) for point in points()]


def test_each_axis_is_varied_with_the_others_at_their_usual_size():
    assert len(points()) == len(set(points())) == 14
    assert points()[0] == USUAL
    for axis, sizes in SIZES.items():
        for method in METHODS:
            found = [each.point for each in on(axis, method, reversed(MEASURED))]
            assert found == [replace(USUAL, method=method, **{axis: size}) for size in sizes]


def test_the_figure_shows_each_point_in_its_panel_and_nothing_twice():
    drawing = ElementTree.fromstring(figure(MEASURED))
    names = [element.tag.rpartition("}")[2] for element in drawing.iter()]
    assert names.count("circle") == 6 * 3 + 1  # three points in each panel, and one in the legend
    said = [element.text for element in drawing.iter() if element.text and element.text.strip()]
    assert said.count("16,000") == 2
    assert said.count(f"{4_000_000 / 4256:,.0f}") == 3


def test_a_larger_value_is_drawn_higher():
    drawing = ElementTree.fromstring(figure(MEASURED))
    marks = [e.get("transform") for e in drawing.iter() if e.tag.endswith("circle")]
    heights = [float(mark.rpartition(",")[2].rstrip(")")) for mark in marks[1:]]
    memory = heights[-3:]  # of the widths 128, 256 and 512; the base of the panel is twice as far from the second
    base = memory[0] + (memory[0] - memory[1])
    assert base - memory[2] == pytest.approx(4 * (base - memory[0]), abs=0.3)


def test_the_page_has_a_row_for_each_point_and_survives_json():
    assert table(MEASURED).count("\n") == 2 + 14
    assert "| word-level KD | 16 x | 1,600 | 4,000 | 256 | 31 (10%) | 50% | 512 MiB |" in page(MEASURED, "a machine")
    assert [read(json.loads(json.dumps(asdict(each)))) for each in MEASURED] == MEASURED


def test_a_point_is_measured_in_a_process_of_its_own():
    small = Point("word_level", copies=2, vocabulary=60, width=16)
    (found,) = measure_all([small], pairs=40, rounds=1)
    assert (found.point, found.pairs) == (small, 80)
    assert found.tokens.median > 0
    assert 0 < found.peak_share.median < 1
    assert found.memory > 50 * 2**20
