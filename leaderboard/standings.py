"""The standings of a table: which of its rows differ, and the rank that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from leaderboard import speeds
from leaderboard.differences import Differences
from leaderboard.ranking import Row, Table


@dataclass(frozen=True)
class Standings:
    """A table and which of its rows differ. A table is of one track only, and so are its ranks."""

    table: Table
    differences: Differences

    @cached_property
    def ranks(self) -> Mapping[str, int]:
        """The rank of each row that has one, by the row's id: 1 + the number of rows that are significantly better.

        Ties need not be transitive, and this needs no rule to make them so (as in Chiang et al. 2024, Chatbot Arena).
        The teacher is no student: it has no rank and is not counted. A row that was not tested has none, nor has any
        where there are not two of them.
        """
        students = [row.sample.row for row in self.differences.tested if row.sample.role != "teacher"]
        if len(students) < 2:
            return {}
        return {name: 1 + better for name, better in self.differences.pairs.better(students).items()}

    @cached_property
    def fingerprint(self) -> str | None:
        """Of the speeds that the table shows."""
        return speeds.together(self.table)

    @cached_property
    def engines(self) -> tuple[tuple[str, str], ...]:
        """Engine and precision of each of these speeds."""
        return speeds.engines(self.table, self.fingerprint) if self.fingerprint else ()

    @property
    def leaders(self) -> tuple[Row, ...]:
        """The rows of rank 1: those that no row is significantly better than."""
        return tuple(row for row in self.table.placed if self.ranks.get(row.sample.row) == 1)

    def unranked(self, row: Row) -> str:
        """Why a row has no rank; empty for one that has."""
        if row.sample.row in self.ranks:
            return ""
        if row.unplaced:
            return "; ".join(row.unplaced)
        if row.sample.role == "teacher":
            return "the teacher is no student"
        return f"not tested: {self.untested(row)}"

    def untested(self, row: Row) -> str:
        """Why a placed row has no test."""
        return self.differences.untested.get(row.sample.row, "there is no other student to test it against")
