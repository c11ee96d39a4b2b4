"""Statistics of sweeps by hand-computed cases, by counting, and by properties."""

import itertools
import statistics

import pytest
from factories import make_sweep, plain, seeds, tuned
from hypothesis import given
from hypothesis import strategies as st

from bench.config import Depth
from bench.results import Phase
from leaderboard.ranking import aggregate
from leaderboard.sweeps import best_curve, curves, expected_best, extent, shared_values, shown_trials

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


def test_the_published_trial_is_always_among_the_official_ones():
    # With 15 one of 10, 20, 12 (15, 20, 15), or two (20, 15, 20).
    assert best_curve(make_sweep([15.0, 10.0, 20.0, 12.0]), "official") == pytest.approx((15.0, 50 / 3, 55 / 3, 20.0))
    assert best_curve(make_sweep([15.0]), "official") == (15.0,)


@given(RESULTS, st.integers(1, 8))
def test_an_official_curve_is_the_mean_over_all_choices_of_the_other_trials(values, k):
    others = itertools.combinations(values[1:], min(k, len(values)) - 1)
    maxima = [max(values[0], *subset, 0.0) for subset in others]
    found = best_curve(make_sweep(values), "official")
    assert found[min(k, len(values)) - 1] == pytest.approx(statistics.fmean(maxima))


def test_trials_of_the_open_track_are_taken_in_their_order():
    assert best_curve(make_sweep([12.0, None, 20.0, 15.0]), "open") == (12.0, 12.0, 20.0, 20.0)


def test_a_failed_trial_counts_as_nothing():
    # The first with one of the others: 10 and 20, or 10 and 0.
    assert best_curve(make_sweep([10.0, 20.0, None]), "official") == pytest.approx((10.0, 15.0, 20.0))
    assert best_curve(make_sweep([None, 20.0, 10.0]), "official") == pytest.approx((0.0, 15.0, 20.0))


def test_curves_of_a_table_have_the_cost_of_its_trials():
    sweep = make_sweep([10.0, 12.0, 14.0], "baseline", seconds=1800.0)
    own = Phase(name="training", kind="training", seconds=60.0, artifact="student")
    teacher = (
        Phase(name="teacher training", kind="teacher", seconds=3600.0, devices=2, shared_by=6),
        Phase(name="teacher decoding", kind="distillation", seconds=1800.0, shared_by=3),
        Phase(name="online teacher passes", kind="distillation", seconds=900.0, artifact="student"),
    )
    records = [
        *tuned("baseline", [10.0] * 3, sweep, role="baseline", phases=(own,)),
        *tuned("word_level", [11.0] * 3, make_sweep([20.0, 18.0, 16.0], seconds=3600.0), phases=(*teacher, own)),
    ]
    (table,) = aggregate(records)
    best, plain_student = curves(table)
    assert (best.row.sample.method.name, plain_student.row.sample.method.name) == ("word_level", "baseline")
    assert best.hours == pytest.approx((3.5, 4.5, 5.5))
    assert plain_student.hours == pytest.approx((0.5, 1.0, 1.5))
    assert plain_student.best == pytest.approx((10.0, 13.0, 14.0))


def test_only_placed_rows_have_curves_unless_there_are_none():
    sweep = make_sweep([5.0, 5.0, 5.0])
    placed, unplaced = tuned("word_level", [1.0] * 3, sweep), tuned("tie_kd", [9.0], make_sweep([9.0] * 3, "tie_kd"))
    tuning = {"tuning": placed[0].recipe["tuning"]}
    teacher = seeds("teacher", [30.0] * 3, role="teacher", depth=Depth(4, 4), recipe=tuning)
    for records, names in (
        ([*placed, *unplaced, *teacher], ["word_level"]),
        ([*placed[:1], *unplaced, *teacher], ["tie_kd", "word_level"]),
    ):
        (table,) = aggregate(records)
        assert [curve.row.sample.method.name for curve in curves(table)] == names


@pytest.mark.parametrize(
    ("lengths", "shown"),
    [
        ([1], (1,)),
        ([7], (1, 2, 3, 4, 5, 6, 7)),
        ([12, 9, 12], (1, 2, 3, 4, 5, 6, 8, 9, 10, 12)),
        ([250], (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200, 250)),
    ],
)
def test_long_curves_are_shown_at_some_numbers_of_trials(lengths, shown):
    assert shown_trials(lengths) == shown


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
