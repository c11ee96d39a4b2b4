"""Statistics of sweeps by hand-computed cases, by counting, and by properties."""

import itertools
import statistics

import pytest
from factories import make_sweep, plain, tuned
from hypothesis import given
from hypothesis import strategies as st

from bench.config import Depth
from leaderboard.ranking import aggregate
from leaderboard.sweeps import best_curve, curves, expected_best, extent, shared_values

RESULTS = st.lists(st.floats(0, 100), min_size=1, max_size=8)


def test_expected_best_by_hand():
    # Pairs of 1, 2, 4: (1, 2), (1, 4), (2, 4), whose maxima are 2, 4, 4.
    assert [expected_best([4.0, 1.0, 2.0], k) for k in (1, 2, 3)] == pytest.approx([7 / 3, 10 / 3, 4.0])


@given(RESULTS)
def test_expected_best_of_one_is_the_mean_and_of_all_the_maximum(values):
    assert expected_best(values, 1) == pytest.approx(statistics.fmean(values))
    assert expected_best(values, len(values)) == max(values)


@given(RESULTS)
def test_expected_best_never_falls_with_more_trials(values):
    found = [expected_best(values, k) for k in range(1, len(values) + 1)]
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(found))


@given(RESULTS, st.integers(1, 8))
def test_expected_best_is_the_mean_over_all_subsets(values, k):
    if k > len(values):
        with pytest.raises(ValueError, match=f"best of {k} out of {len(values)}"):
            expected_best(values, k)
        return
    maxima = [max(subset) for subset in itertools.combinations(values, k)]
    assert expected_best(values, k) == pytest.approx(statistics.fmean(maxima))


def test_expected_best_of_many_trials_stays_a_number():
    values = [float(number % 50) for number in range(3_000)]
    assert expected_best(values, 1_500) == pytest.approx(49.0)
    with pytest.raises(ValueError, match="best of 0"):
        expected_best(values, 0)


def test_a_failed_trial_counts_as_nothing():
    # Pairs of 20, 0, 10 have the maxima 20, 20, 10.
    assert best_curve(make_sweep([20.0, None, 10.0])) == pytest.approx((10.0, 50 / 3, 20.0))


def test_curves_of_a_table_have_the_cost_of_its_trials():
    sweep = make_sweep([10.0, 12.0, 14.0], "baseline", seconds=1800.0)
    records = [
        *tuned("baseline", [10.0] * 3, sweep, role="baseline"),
        *tuned("word_level", [11.0] * 3, make_sweep([20.0, 18.0, 16.0], seconds=3600.0)),
    ]
    (table,) = aggregate(records)
    best, plain_student = curves(table)
    assert (best.row.sample.method.name, plain_student.row.sample.method.name) == ("word_level", "baseline")
    assert best.hours == pytest.approx((1.0, 2.0, 3.0))
    assert plain_student.hours == pytest.approx((0.5, 1.0, 1.5))
    assert plain_student.best == pytest.approx((12.0, 40 / 3, 14.0))


def test_the_students_of_one_sweep_are_one_curve():
    sweep = make_sweep(method="aio_kd")
    records = [
        *tuned("aio_kd", [10.0] * 3, sweep, depth=Depth(2, 2)),
        *tuned("aio_kd", [11.0] * 3, sweep, depth=Depth(3, 3)),
        *tuned("word_level", [11.0] * 3, make_sweep([5.0, 5.0, 5.0])),
    ]
    (table,) = aggregate(records)
    assert [curve.row.sample.method.name for curve in curves(table)] == ["aio_kd", "word_level"]


def test_a_table_without_a_search_has_no_curves():
    (table,) = aggregate(plain())
    assert curves(table) == ()


@pytest.mark.parametrize(
    ("searched", "said"),
    [
        ({"low": 0.001, "high": 0.01, "log": True}, "0.001 to 0.01, by logarithm"),
        ({"low": 0, "high": 3, "log": False}, "0 to 3"),
        ({"values": ["forward_kl", 2]}, "forward_kl, 2"),
        ("anything", "anything"),
    ],
)
def test_ranges_in_words(searched, said):
    assert extent(searched) == said


def test_the_values_that_all_methods_share_are_told_from_a_methods_own():
    record = tuned("word_level", [1.0], make_sweep([18.0, 21.0]))[0]
    assert shared_values(record) == {"training.learning_rate": 0.004}
    assert record.method.settings["alpha"] == 0.51
    assert shared_values(plain()[0]) == {}
