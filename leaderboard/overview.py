"""What the overview shows: a card for each table, by data set."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from leaderboard.ranking import Row, Table
from leaderboard.standings import Standings

MOST_CARDS = 60
"""Of more tables than these, only the first of each data set have cards, so that the page stays light."""
FIRST_CARDS = 3
MOST_LEADERS = 6
"""That a card names."""


@dataclass(frozen=True)
class Card:
    """A table at a glance."""

    standings: Standings

    @property
    def table(self) -> Table:
        """The table."""
        return self.standings.table

    @property
    def leaders(self) -> tuple[Row, ...]:
        """The first of its leaders, by mean score."""
        return self.standings.leaders[:MOST_LEADERS]

    @property
    def more(self) -> int:
        """How many leaders are not named."""
        return len(self.standings.leaders) - len(self.leaders)

    @property
    def references(self) -> tuple[Row, ...]:
        """Plain student and teacher, as far as they are placed; any if no row is."""
        rows = self.table.placed or self.table.rows
        plain = [row for row in rows if row is self.table.baseline]
        return (*plain, *(row for row in rows if row.sample.role == "teacher" and row.bleu))

    @property
    def seeds(self) -> tuple[int, int]:
        """The fewest and the most finished seeds of its placed rows, or of all if none is placed."""
        counts = [len(row.finished) for row in self.table.placed or self.table.rows]
        return min(counts), max(counts)

    @property
    def date(self) -> str:
        """Of its newest record."""
        return max(record.created for row in self.table.rows for record in row.records).strftime("%Y-%m-%d")

    @property
    def unranked(self) -> str:
        """Why nothing is ranked; empty where something is."""
        if self.standings.ranks:
            return ""
        if not self.table.placed:
            return f"No row could be placed: {_commonest('; '.join(row.unplaced) for row in self.table.rows)}."
        students = [row for row in self.table.placed if row.sample.role != "teacher"]
        if len(students) < 2:
            return "There are not two complete students to compare."
        return f"No row could be tested: {_commonest(map(self.standings.untested, students))}."


def _commonest(reasons: Iterable[str]) -> str:
    """The reason that most rows have, cut where it is long."""
    ((reason, _),) = Counter(sorted(reasons)).most_common(1)
    return textwrap.shorten(reason, 160, placeholder=" …")


@dataclass(frozen=True)
class Group:
    """The tables of a data set."""

    dataset: str
    languages: tuple[str, str]
    cards: tuple[Card, ...]
    further: tuple[Table, ...]
    """That have no card."""


def groups(standings: Sequence[Standings]) -> tuple[Group, ...]:
    """All tables by data set: ranked ones of the official track first, then the newest first."""

    def order(card: Card) -> tuple[bool, bool]:
        return not card.standings.ranks, card.table.sample.track == "open"

    found, limit = [], None if len(standings) <= MOST_CARDS else FIRST_CARDS
    for dataset, members in groupby(standings, lambda each: each.table.sample.dataset):
        newest = sorted(map(Card, members), key=lambda card: card.date, reverse=True)
        cards = sorted(newest, key=order)
        further = () if limit is None else tuple(card.table for card in cards[limit:])
        found.append(Group(dataset, cards[0].table.sample.languages, tuple(cards[:limit]), further))
    return tuple(found)
