"""Badges: a small picture for each method and data set that says where the method ranks, to be shown elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leaderboard.addresses import badge_file
from leaderboard.ranking import Row
from leaderboard.standings import Standings

FIRST, RANKED, UNRANKED = "#2e7d32", "#1565c0", "#616161"
"""Behind white text, each with a contrast of more than 4.5. Who shares the first rank with all others is not first."""
LONGEST = 40
"""Characters of a part of a badge; its title has all of them."""

_NARROW, _WIDE = frozenset("fijlrtI.,:;'|!()[]-/ ·"), frozenset("mwMW%@")


@dataclass(frozen=True)
class Badge:
    """One badge: what it speaks of on the left, what it says on the right."""

    method: str
    dataset: str
    label: str
    message: str
    title: str
    color: str

    @property
    def address(self) -> str:
        """Where it lies in the site; it changes with neither rank nor table."""
        return badge_file(self.dataset, self.method)

    @property
    def parts(self) -> tuple[tuple[str, float], ...]:
        """What is shown of label and message, and how wide each is."""
        return tuple((text, width(text)) for text in map(shortened, (self.label, self.message)))


def badges(standings: Iterable[Standings]) -> tuple[Badge, ...]:
    """A badge for each method (and the plain student) and data set.

    A data set may have several tables. A badge speaks of the official table with the most ranked rows among those
    where the method has one (of equals, the one with the newest record), and of the method's best row of the plain
    student's shape there, or its best one if none has that.
    """
    rows: dict[tuple[str, str], list[tuple[Standings, Row]]] = {}
    for each in standings:
        for row in each.table.rows:
            if row.sample.role != "teacher":
                rows.setdefault((row.sample.dataset, row.sample.method.name), []).append((each, row))
    return tuple(_badge(dataset, method, found) for (dataset, method), found in sorted(rows.items()))


def shortened(text: str) -> str:
    """A part of a badge, cut where it is too long to be read."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def width(text: str) -> float:
    """About the pixels that a text takes in 11 pixels of Verdana; the picture has the text fitted to it in any font."""
    return sum(4.2 if each in _NARROW else 10.5 if each in _WIDE else 7.7 if each.isupper() else 6.9 for each in text)


def _badge(dataset: str, method: str, found: Sequence[tuple[Standings, Row]]) -> Badge:
    title = found[0][1].sample.method.title
    ranked = [(each, row) for each, row in found if row.sample.row in each.ranks and row.sample.track == "official"]
    if not ranked:
        return Badge(method, dataset, dataset, "not ranked", f"{title}: not ranked on {dataset}", UNRANKED)
    tables = {id(each): each for each, _ in ranked}.values()
    table = max(tables, key=lambda each: (len(each.ranks), _newest(each)))

    def order(row: Row) -> tuple[bool, int, float]:
        return table.table.reshaped(row), table.ranks[row.sample.row], _bleu(row)

    row = min((row for each, row in ranked if each is table), key=order)
    shape = f" {row.sample.delivery.depth}" if table.table.reshaped(row) else ""
    ranks, label = list(table.ranks.values()), f"{dataset} {row.sample.preset}"
    rank, bleu = table.ranks[row.sample.row], f"{-_bleu(row):.1f} BLEU"
    tied = ranks.count(rank)
    message = f"rank {rank}{f' ({tied} tied)' if tied > 1 else ''} · {bleu}{shape}"
    shared = f"shared by {tied} of" if tied > 1 else "of"
    said = f"{title}{shape}: rank {rank}{',' if tied > 1 else ''} {shared} {len(ranks)} rows, {bleu} on {label}"
    return Badge(method, dataset, label, message, said, FIRST if rank == 1 and tied < len(ranks) else RANKED)


def _newest(standings: Standings) -> str:
    return max(record.created for row in standings.table.rows for record in row.records).isoformat()


def _bleu(row: Row) -> float:
    """Negative, so that the best comes first."""
    return -row.bleu.mean if row.bleu else 0.0
