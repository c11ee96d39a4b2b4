"""A table with the verdicts of its tests, which its pages are made from."""

from __future__ import annotations

from dataclasses import dataclass

from leaderboard.comparison import Differences
from leaderboard.ranking import Table


@dataclass(frozen=True)
class Standings:
    """A table and which of its rows differ."""

    table: Table
    differences: Differences
