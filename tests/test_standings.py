"""Ranks by hand-computed cases: ties that are not transitive, reference rows, and rows that have none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from factories import make_record, plain, seeds
from hypothesis import given
from hypothesis import strategies as st

from bench.config import Depth
from leaderboard.differences import Differences, Pairs
from leaderboard.ranking import aggregate
from leaderboard.standings import Standings


def standings(means: Mapping[str, float], different: set[str], roles: Mapping[str, str] | None = None) -> Standings:
    """Rows A, B, ... with these means, of which those pairs, as ``AB``, differ significantly."""
    roles = roles or {}
    records = [
        record
        for name, mean in means.items()
        for record in seeds(name, [mean] * 3, role=roles.get(name, "method"), depth=Depth(2, 2))
    ]
    (table,) = aggregate(records)
    ids = {row.sample.method.name: row.sample.row for row in table.rows}
    p = np.ones((len(means), len(means)))
    for a, b in different:
        one, other = list(means).index(a), list(means).index(b)
        p[one, other] = p[other, one] = 0.01
    pairs = Pairs({ids[name]: mean for name, mean in means.items()}, p, 0.05)
    return Standings(table, Differences(table.placed, {}, pairs, {}, {}, {}))


def ranks(found: Standings) -> dict[str, int]:
    return {name.partition(".")[0]: rank for name, rank in found.ranks.items()}


FALLING = {"A": 30.0, "B": 20.0, "C": 10.0}


@pytest.mark.parametrize(
    ("different", "expected"),
    [
        (set(), {"A": 1, "B": 1, "C": 1}),
        ({"AB", "AC", "BC"}, {"A": 1, "B": 2, "C": 3}),
        # B is tied with both, A and C differ: the chain gives B rank 1 and C, which one row beats, rank 2.
        ({"AC"}, {"A": 1, "B": 1, "C": 2}),
        # Two are tied behind one that beats both: they share rank 2, and there would be no rank 3.
        ({"AB", "AC"}, {"A": 1, "B": 2, "C": 2}),
        # Two are tied before one that both beat: the next rank is 3.
        ({"AC", "BC"}, {"A": 1, "B": 1, "C": 3}),
        # The second varies so much that nothing can be said of it, though the third is beaten by the first.
        ({"AB"}, {"A": 1, "B": 2, "C": 1}),
    ],
)
def test_a_rank_is_one_more_than_the_rows_that_are_significantly_better(different, expected):
    assert ranks(standings(FALLING, different)) == expected


def test_a_difference_of_equal_means_beats_nobody():
    assert ranks(standings({"A": 20.0, "B": 20.0}, {"AB"})) == {"A": 1, "B": 1}


def test_the_teacher_has_no_rank_and_lowers_none_and_the_plain_student_is_ranked():
    roles = {"T": "teacher", "P": "baseline"}
    found = standings({"T": 50.0, "A": 30.0, "P": 20.0}, {"TA", "TP", "AP"}, roles)
    assert ranks(found) == {"A": 1, "P": 2}
    assert [row.sample.method.name for row in found.leaders] == ["A"]
    teacher = found.table.rows[0]
    assert found.unranked(teacher) == "the teacher is no student"
    assert found.unranked(found.leaders[0]) == ""


def test_one_student_alone_has_no_rank():
    found = standings({"T": 50.0, "A": 30.0}, {"TA"}, {"T": "teacher"})
    assert (ranks(found), found.leaders) == ({}, ())
    assert found.unranked(found.table.rows[1]) == "not tested: there is no other student to test it against"


def test_leaders_are_all_rows_of_rank_1_by_mean():
    found = standings(FALLING, {"AC"})
    assert [row.sample.method.name for row in found.leaders] == ["A", "B"]


def test_a_row_that_is_not_placed_tells_why():
    (table,) = aggregate([*plain(), make_record("late", 1)])
    none = Pairs({}, np.ones((0, 0)), 0.05)
    found = Standings(table, Differences((), {}, none, {}, {}, {}))
    assert found.unranked(table.unplaced[0]) == "1 of 3 seeds finished"


class TestPairs:
    def test_both_ways_and_the_number(self):
        pairs = Pairs({"A": 3.0, "B": 1.0}, np.array([[1.0, 0.02], [0.02, 1.0]]), 0.05)
        assert (pairs["A", "B"].difference, pairs["A", "B"].outcome) == (2.0, "better")
        assert (pairs["B", "A"].difference, pairs["B", "A"].outcome) == (-2.0, "worse")
        assert set(pairs) == {("A", "B"), ("B", "A")}
        assert len(pairs) == 2
        assert ("A", "A") not in pairs
        assert ("A", "C") not in pairs

    @given(st.integers(1, 8).flatmap(lambda n: st.lists(st.floats(0, 1), min_size=n * n, max_size=n * n)))
    def test_counts_are_those_of_the_pairs_one_by_one(self, values):
        size = int(len(values) ** 0.5)
        p = np.triu(np.array(values).reshape(size, size), 1)
        pairs = Pairs({str(each): float(each // 2) for each in range(size)}, p + p.T, 0.5)
        names = [str(each) for each in range(0, size, 2)]
        counted = {one: sum(pairs[other, one].outcome == "better" for other in names if other != one) for one in names}
        assert pairs.better(names) == counted
