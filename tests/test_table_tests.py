"""The test of a whole table: worked values, what is pooled, calibration under effects of seeds, and power."""

from __future__ import annotations

import numpy as np
import pytest
from calibration import simulated
from test_significance import all_or_nothing, random, share

from bench.measure.statistics import corpus_bleu
from leaderboard.significance import holm
from leaderboard.table_tests import compare_rows


def around(*centres: float) -> list[list[np.ndarray]]:
    """Rows of three seeds of one sentence each, whose chrF has variance 1."""
    return [[share(centre + each) for each in (-1, 0, 1)] for centre in centres]


class TestSeeds:
    def test_worked_value_of_two_rows(self):
        """Means 2 apart, variance 1, three seeds each: t = 2 / sqrt(2 / 3) = 2.449 with 4 degrees, p = 0.0705."""
        test = compare_rows(around(50, 52), "ab", "chrf")
        assert test.p()[0, 1] == pytest.approx(0.0705, abs=2e-4)
        low, high = test.difference(1, 0)
        assert (low, high) == pytest.approx((2 - 2.776 * 0.8165, 2 + 2.776 * 0.8165), abs=1e-3)
        assert test.interval(0) == pytest.approx((50 - 2.776 * 0.5774, 50 + 2.776 * 0.5774), abs=1e-3)

    def test_a_third_row_makes_the_spread_better_known(self):
        """The same t of 2.449 has p = 0.0498 with 6 degrees."""
        test = compare_rows(around(50, 52, 90), "abc", "chrf")
        assert test.freedom == 6
        assert test.p()[0, 1] == pytest.approx(0.0498, abs=2e-4)

    def test_rows_of_one_training_count_once(self):
        """Two trainings, 4 degrees, however many rows the second delivers; their variances 1 and 4 count as 2.5."""
        wide = [share(70 + each) for each in (-2, 0, 2)]
        test = compare_rows([*around(50, 52), wide], "abb", "chrf")
        assert test.freedom == 4
        assert test.of_seeds * 3 == pytest.approx([(1 + 2.5) / 2, (1 + 2.5) / 2, 4], rel=1e-3)

    def test_a_row_that_varies_more_keeps_its_variance(self):
        wide = [share(70 + each) for each in (-4, 0, 4)]
        test = compare_rows([*around(50, 52), wide], "abc", "chrf")
        assert test.of_seeds * 3 == pytest.approx([6, 6, 16], rel=1e-3)

    def test_one_seed_takes_the_spread_of_the_others(self):
        test = compare_rows([*around(50, 52), [share(60)]], "abc", "chrf")
        assert test.freedom == 4
        assert test.of_seeds == pytest.approx([1 / 3, 1 / 3, 1], rel=1e-3)

    def test_equal_rows_have_p_1_and_rows_that_never_vary_differ_for_sure(self):
        steady = [[share(50)] * 3, [share(50)] * 3, [share(51)] * 3]
        assert compare_rows(steady, "abc", "chrf").p().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


class TestSentences:
    def test_models_alone_are_as_uncertain_as_their_sentences(self):
        """One seed each: the error of the difference is that of a bootstrap, here by its definition."""
        a, b = all_or_nothing([1, 1, 0, 1] * 30), all_or_nothing([1, 0, 0, 1] * 30)
        draws = random(3).integers(120, size=(4000, 120))
        spread = np.std(corpus_bleu(a[draws].sum(axis=1)) - corpus_bleu(b[draws].sum(axis=1)), ddof=1)
        test = compare_rows([[a], [b]], "ab", "bleu")
        low, high = test.difference(0, 1)
        assert (high - low) / 2 == pytest.approx(1.98 * spread, rel=0.06)

    def test_what_is_hard_for_both_rows_has_no_part(self):
        hard = [1, 0] * 60
        a, b = all_or_nothing(hard), all_or_nothing([0, *hard[1:]])
        test = compare_rows([[a], [b]], "ab", "bleu")
        low, high = test.difference(0, 1)
        alone = test.interval(0)
        assert high - low < 0.3 * (alone[1] - alone[0])

    def test_the_result_is_the_same_each_time_and_symmetric(self):
        systems = [simulated(random(seed), 3, spread=0.01) for seed in range(3)]
        one, other = (compare_rows(systems, "abc", "bleu") for _ in range(2))
        assert (one.p() == other.p()).all()
        assert one.p() == pytest.approx(one.p().T)

    def test_models_of_other_sentences_are_refused(self):
        with pytest.raises(ValueError, match=r"\[20, 300\] sentences"):
            compare_rows([simulated(random(), 2), simulated(random(), 2, sentences=20)], "ab", "bleu")


@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_false_differences_are_as_rare_as_the_level_says(spread):
    """Sixty tables of five equal rows of three seeds: pairs by themselves, and tables with any difference by Holm."""
    above = np.triu_indices(5, 1)
    stream, single, tables = random(7), [], []
    for _ in range(60):
        systems = [simulated(stream, 3, spread=spread, sentences=100) for _ in range(5)]
        p = compare_rows(systems, range(5), "bleu", replicates=300).p()[above]
        single += (p <= 0.05).tolist()
        tables.append(min(holm(p)) <= 0.05)
    assert np.mean(single) < 0.07
    assert np.mean(tables) < 0.12


def test_three_seeds_find_what_seeds_cannot_explain():
    """Rows three deviations of a seed apart, in a table of twelve: found after correcting for all 66 pairs."""
    systems = [simulated(random(number), 3, spread=0.02, effect=0.1 * (number == 0)) for number in range(12)]
    p = compare_rows(systems, range(12), "bleu").p()
    above = np.triu_indices(12, 1)
    adjusted = np.ones_like(p)
    adjusted[above] = holm(p[above])
    assert (adjusted[0, 1:] <= 0.05).mean() > 0.8
    assert (adjusted[1:][:, 1:] > 0.05).all()
