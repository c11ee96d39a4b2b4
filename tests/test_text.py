"""Amounts, times and differences as the pages write them."""

import pytest
from factories import plain, seeds

from leaderboard.ranking import Difference, aggregate
from leaderboard.text import amount, duration, signed, size, spread, verdict


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (180_000, "tokens", "180,000 target tokens"),
        (90.0, "wall-clock", "1 min 30 s of training"),
        (0.25, "device-hours", "0.25 device-hours"),
    ],
)
def test_budgets(value, kind, text):
    assert amount(value, kind) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (125, "2 min 05 s"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(812, "812"), (213_504, "214 k"), (999_600, "1.0 M"), (61_400_000, "61.4 M")]
)
def test_sizes(count, text):
    assert size(count) == text


def test_numbers_with_spread():
    (table,) = aggregate(plain() + seeds("m", [9.0, 10.0, 11.0]))
    _, row = table.placed
    assert spread(row.bleu) == "10.00 ± 1.00"
    assert signed(row.difference) == "\u22121.00 ± 0.00"
    assert verdict(row.difference) == "below"
    assert verdict(Difference(0.004, None, 1, 1, 0)) == "level"
    assert verdict(Difference(0.005001, None, 1, 1, 0)) == "above"
