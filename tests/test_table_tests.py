"""The test of a whole table: worked values, what is pooled, calibration under effects of seeds, and power."""

from __future__ import annotations

import numpy as np
import pytest
from calibration import simulated
from scipy.special import stdtr
from sentences import all_or_nothing, random, share

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

    def test_a_row_is_said_to_have_no_impossible_score(self):
        test = compare_rows(around(1.5, 98.5), "ab", "chrf")
        assert (test.interval(0)[0], test.interval(1)[1]) == (0.0, 100.0)
        assert test.difference(1, 0)[1] > 97

    def test_a_third_row_makes_the_spread_better_known(self):
        """The same t of 2.449 has p = 0.0498 with 6 degrees."""
        test = compare_rows(around(50, 52, 90), "abc", "chrf")
        assert test.freedom[0, 0] == pytest.approx(6)
        assert test.p()[0, 1] == pytest.approx(0.0498, abs=2e-4)

    def test_rows_of_one_training_count_once(self):
        """Two trainings, 4 degrees, however many rows the second delivers; their variances 1 and 4 count as 2.5."""
        wide = [share(70 + each) for each in (-2, 0, 2)]
        test = compare_rows([*around(50, 52), wide], "abb", "chrf")
        pooled = (1 + 2.5) / 2
        assert np.diag(test.of_seeds) * 3 == pytest.approx([pooled, pooled, 4], rel=1e-3)
        assert np.diag(test.freedom)[:2] == pytest.approx([4, 4])

    def test_rows_of_one_training_differ_by_what_their_luck_does_not_explain(self):
        """Blocks of 3 seeds: differences of 1.9, 2 and 2.1, whose residuals are half their deviations: 0.0025 each way.

        Their squares add up to 4 * 0.0025 = 0.01 with 2 degrees of freedom, so the error is sqrt(2 * 0.005 / 3).
        """
        one, other = (
            [share(centre + luck + own) for luck, own in zip((-3, 0, 3), owns)]
            for centre, owns in ((50, (0, 0, 0)), (52, (-0.1, 0, 0.1)))
        )
        test = compare_rows([one, other, *around(60)], "aab", "chrf")
        assert (test.of_seeds[0, 1], test.freedom[0, 1]) == (pytest.approx(0.01 / 3, rel=0.01), 2)
        assert test.p()[0, 1] == pytest.approx(2 * stdtr(2, -2 / np.sqrt(0.01 / 3)), rel=0.02)
        assert compare_rows([one, other, *around(60)], "abc", "chrf").p()[0, 1] > 0.4, (
            "by themselves they could be luck"
        )

    def test_a_row_that_varies_more_keeps_its_variance_and_the_doubt_of_it(self):
        """16 against the pooled 6: the 10 above it rest on 2 degrees of freedom, the 6 on those of all rows."""
        wide = [share(70 + each) for each in (-4, 0, 4)]
        test = compare_rows([*around(50, 52), wide], "abc", "chrf")
        assert np.diag(test.of_seeds) * 3 == pytest.approx([6, 6, 16], rel=1e-3)
        noisy = 16**2 / (6**2 / 6 + 10**2 / 2)
        assert np.diag(test.freedom) == pytest.approx([6, 6, noisy], rel=1e-3)
        assert test.freedom[0, 2] == pytest.approx((6 + 16) ** 2 / ((6 + 6) ** 2 / 6 + 10**2 / 2), rel=1e-3)

    def test_one_seed_takes_the_spread_of_the_others(self):
        test = compare_rows([*around(50, 52), [share(60)]], "abc", "chrf")
        assert np.diag(test.of_seeds) == pytest.approx([1 / 3, 1 / 3, 1], rel=1e-3)
        assert np.diag(test.freedom) == pytest.approx([4, 4, 4])

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


@pytest.mark.parametrize(
    "spreads", [(0.0,) * 5, (0.02,) * 5, (0.02, 0.06, *(0.02,) * 3)], ids=["none", "equal", "one unsteady"]
)
def test_false_differences_are_as_rare_as_the_level_says(spreads):
    """A hundred tables of five rows that are equal but for their spread over three seeds.

    The share of tables in which anything differs from the first row, and in which any pair does, after Holm.
    """
    above = np.triu_indices(5, 1)
    stream, against_first, any_pair = random(7), [], []
    for _ in range(100):
        systems = [simulated(stream, 3, spread=spread, sentences=60) for spread in spreads]
        p = compare_rows(systems, range(5), "bleu", replicates=200).p()
        against_first.append(min(holm(p[0, 1:])) <= 0.05)
        any_pair.append(min(holm(p[above])) <= 0.05)
    assert np.mean(against_first) <= 0.08
    assert np.mean(any_pair) <= 0.06


def test_three_seeds_find_what_seeds_cannot_explain():
    """Rows five deviations of a seed apart, in a table of twelve: most are told apart after correcting for 66 pairs."""
    systems = [simulated(random(number), 3, spread=0.02, effect=0.1 * (number == 0)) for number in range(12)]
    p = compare_rows(systems, range(12), "bleu").p()
    above = np.triu_indices(12, 1)
    adjusted = np.ones_like(p)
    adjusted[above] = holm(p[above])
    assert (adjusted[0, 1:] <= 0.05).mean() > 0.7
    assert (adjusted[1:][:, 1:] > 0.05).all()
