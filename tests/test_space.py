"""The search space, and the official list of points: the same for every method, order, number and machine."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import Choice, Range, preset
from bench.errors import UsageError
from bench.method import Method, TeacherText, setting
from bench.registry import load_methods
from bench.results import shared_part
from bench.sweep.space import COORDINATES, Dimension, draw, space_of, with_point

QUICK = preset("quick")
SHARED = ["training.learning_rate", "training.label_smoothing", "training.warmup_updates", "student.dropout"]
BUILT_IN = ("baseline", "word_level", "sequence_level", "tie_kd", "a2d", "aio_kd")


def space(name: str, pinned=()):
    return space_of(load_methods().get(name)(), QUICK, pinned)


@pytest.mark.parametrize(
    ("search", "integer", "coordinate", "value"),
    [
        (Range(1.0, 3.0), False, 0.0, 1.0),
        (Range(1.0, 3.0), False, 0.25, 1.5),
        (Range(0.01, 1.0, log=True), False, 0.5, 0.1),
        (Range(0.0, 1.0), False, 0.123456789, 0.1235),
        (Range(1, 3), True, 0.0, 1),
        (Range(1, 3), True, 0.34, 2),
        (Range(1, 3), True, 0.67, 3),
        (Range(1, 3), True, 0.9999999, 3),
        (Range(1, 7, log=True), True, 0.5, 2),  # 8 ** 0.5
        (Choice(("a", "b", "c")), False, 0.33, "a"),
        (Choice(("a", "b", "c")), False, 0.34, "b"),
        (Choice(("a", "b", "c")), False, 0.999, "c"),
    ],
)
def test_a_coordinate_is_a_value(search, integer, coordinate, value):
    assert Dimension("x", search, integer, 1).at(coordinate) == value


@given(
    st.floats(0, 1, exclude_max=True),
    st.floats(1e-6, 1e6),
    st.floats(1.001, 1e4),
    st.booleans(),
    st.booleans(),
)
def test_a_value_lies_within_its_range(coordinate, low, factor, log, integer):
    search = Range(round(low) + 1, round(low) + 2 + round(factor), log) if integer else Range(low, low * factor, log)
    value = Dimension("x", search, integer, search.low).at(coordinate)
    assert search.low <= value <= search.high
    assert isinstance(value, int) == integer


@given(st.lists(st.integers(), min_size=1, unique=True).map(tuple), st.floats(0, 1, exclude_max=True))
def test_each_choice_has_an_equal_part(values, coordinate):
    chosen = Dimension("x", Choice(values), False, values[0]).at(coordinate)
    assert values.index(chosen) == int(coordinate * len(values))


def test_the_space_is_the_shared_values_and_the_methods_own():
    assert [each.name for each in space("baseline").dimensions] == SHARED
    assert [each.name for each in space("tie_kd").dimensions] == [
        *SHARED, "tie_kd.kd_weight", "tie_kd.top_k", "tie_kd.iterations"
    ]  # fmt: skip
    assert space("tie_kd").as_json()["tie_kd.top_k"] == {"values": [1, 3, 5, 10]}
    assert space("baseline").as_json()["training.warmup_updates"] == {"low": 20, "high": 200, "log": True}


def test_the_list_begins_with_the_published_values():
    for name in BUILT_IN:
        method = load_methods().get(name)()
        first = space(name).points(2, seed=1)[0]
        assert with_point(method, first).settings == method.settings
        assert QUICK.at(shared_part(name, first)) == QUICK


def test_every_method_has_the_same_shared_values_in_each_trial():
    lists = [[shared_part(name, point) for point in space(name).points(8, seed=1)] for name in BUILT_IN]
    assert all(each == lists[0] for each in lists)
    assert len({tuple(point.values()) for point in lists[0]}) == 8


def test_a_shorter_list_begins_a_longer_one_and_a_seed_makes_another():
    longer = space("word_level").points(9, seed=1)
    assert space("word_level").points(4, seed=1) == longer[:4]
    assert space("word_level").points(9, seed=2)[1:] != longer[1:]
    assert space("word_level").points(1, seed=1) == longer[:1]


def test_the_list_is_the_same_in_another_process():
    program = "from bench.sweep.space import draw; print(draw(5, 3))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(draw(5, 3))
    assert done.stderr == ""


def test_the_points_fill_the_cube_evenly():
    """Of a Sobol sequence's first 16 points each sixteenth of every coordinate holds one."""
    for coordinate in zip(*draw(16, 1), strict=True):
        assert sorted(int(16 * value) for value in coordinate) == list(range(16))


def test_what_the_user_gave_is_not_searched():
    names = [each.name for each in space("word_level", {"word_level.alpha", "student.dropout", "x.y"}).dimensions]
    assert names == [*SHARED[:3], "word_level.temperature"]


class Searching(Method):
    name = "searching"
    title = "Searching"

    def loss(self, step):
        raise NotImplementedError


def test_a_setting_that_changes_what_trials_share_cannot_be_searched():
    class Texts(Searching):
        class Settings(TeacherText):
            data: str = setting("original", "The text.", search=Choice(("original", "seqkd")))

    with pytest.raises(UsageError, match=r"searching\.data = seqkd changes the text"):
        space_of(Texts(), QUICK)


def test_there_is_an_end_to_the_number_of_values():
    settings = {
        "__annotations__": {f"x{i}": float for i in range(COORDINATES - 3)},
        **{f"x{i}": setting(0.5, "A weight.", search=Range(0, 1)) for i in range(COORDINATES - 3)},
    }
    many = type("Many", (Searching,), {"Settings": type("Settings", (Method.Settings,), settings)})
    with pytest.raises(UsageError, match=f"{COORDINATES + 1} values to search; at most {COORDINATES}"):
        space_of(many(), QUICK)


def test_optunas_range_holds_the_published_value_wherever_it_lies():
    assert Dimension("x", Range(0.1, 0.9), False, 1.5).distribution().high == 1.5
    assert Dimension("x", Range(2, 4), True, 1).distribution().low == 1
    assert Dimension("x", Choice((1, 2)), False, 3).distribution().choices == (1, 2, 3)
    assert not Dimension("x", Range(0.1, 0.9, log=True), False, 0.0).distribution().log
