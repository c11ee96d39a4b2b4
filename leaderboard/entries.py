"""A table's columns, and each row's values in full precision: what the page sorts by, and what its files hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from leaderboard import speeds
from leaderboard.ranking import Row
from leaderboard.spread import Spread
from leaderboard.standings import Standings
from leaderboard.status import status

Value: TypeAlias = int | float | str | None
Entry: TypeAlias = dict[str, Value]
COSTS = ("student", "teacher_share", "teacher_training", "everything")
"""The totals of ``leaderboard.costs``, in their order."""


@dataclass(frozen=True)
class Column:
    """A column of the table on the page."""

    key: str
    """In the page's address, and the entry's value that the column is sorted by."""
    heading: str
    note: str = ""
    """What the heading does not say."""
    shown: bool = True
    """Unless the reader chooses otherwise."""
    ascending: bool = False
    """Whether the smallest value comes first when the column is first sorted."""
    engine: tuple[str, str] | None = None
    """Engine and precision, for a speed."""


def columns(standings: Standings) -> tuple[Column, ...]:
    """The columns of a table: rank and method first, which are always shown."""
    lettered = bool(standings.differences.letters)
    return (
        Column("rank", "Rank", "1 + the number of rows that are significantly better", ascending=True),
        Column("method", "Method", ascending=True),
        Column("bleu", "BLEU", "mean over seeds"),
        Column("difference", "To plain student", "BLEU, with the verdict of the test"),
        *(
            [Column("group", "Group", "rows that share a letter are not significantly different", False, True)]
            * lettered
        ),
        Column("chrf", "chrF", "mean over seeds"),
        Column("shape", "Shape", "layers of encoder and decoder", ascending=True),
        Column("parameters", "Parameters", ascending=True),
        Column("non_embedding", "Without embeddings", "parameters", False, ascending=True),
        *_speed_columns(standings),
        Column("student_seconds", "Student", "device time of its own training", ascending=True),
        Column("teacher_share_seconds", "+ teacher’s share", "device time", ascending=True),
        Column("teacher_training_seconds", "+ its training", "device time", ascending=True),
        Column("everything_seconds", "Everything", "device time, trials and evaluation too", False, True),
        Column("operations", "Operations", "floating-point, with the teacher’s training", False, True),
        Column("energy_joules", "Energy", "with the teacher’s training", ascending=True),
        Column("seeds", "Seeds"),
        Column("trials", "Trials", "behind the settings", standings.table.trials > 1),
        Column("date", "Date", "of the newest record"),
        Column("status", "Status", ascending=True),
    )


def _speed_columns(standings: Standings) -> Iterator[Column]:
    for engine, precision in standings.engines:
        shown = (engine, precision) in speeds.HEADLINES
        heading = speeds.column(engine, precision)
        yield Column(
            speed_key(engine, precision), heading, "beam search, best batch", shown, engine=(engine, precision)
        )


def speed_key(engine: str, precision: str) -> str:
    """The name of a speed's column."""
    return f"{engine}_{precision}_sentences_per_second"


def entries(standings: Standings) -> dict[str, Entry]:
    """The entry of each row of a table, by the row's id."""
    return {row.sample.row: entry(standings, row) for row in standings.table.rows}


def entry(standings: Standings, row: Row) -> Entry:
    """All figures of a row as plain values under names that say their units; None for what there is not."""
    record, name, found = row.sample, row.sample.row, standings.differences
    against, interval = found.against_plain.get(name), found.intervals.get(name)
    values: Entry = {
        "rank": standings.ranks.get(name),
        "row": name,
        "method": record.method.title,
        "method_name": record.method.name,
        "role": record.role,
        "settings": "; ".join(row.own),
        **_spread("bleu", row.bleu),
        "bleu_low": interval[0] if interval else None,
        "bleu_high": interval[1] if interval else None,
        "difference": row.difference.mean if row.difference else None,
        "difference_deviation": row.difference.deviation if row.difference else None,
        "difference_low": against.low if against else None,
        "difference_high": against.high if against else None,
        "difference_p": against.p if against else None,
        "verdict": against.outcome if against else None,
        "group": "".join(found.letters.get(name, ())) or None,
        **_spread("chrf", row.chrf),
        "shape": str(record.delivery.depth),
        "width": record.model.width if record.model else None,
        "parameters": row.parameters.total if row.parameters else None,
        "non_embedding": row.parameters.non_embedding if row.parameters else None,
        **_speeds(standings, row),
    }
    timed = standings.table.timed(row)
    for place, cost in enumerate(COSTS):
        values[f"{cost}_seconds"] = timed[place].seconds.mean if timed else None
    values |= {
        "operations": row.costs[2].flops if row.costs else None,
        "energy_joules": timed[2].joules if timed else None,
        "machine": row.machine,
        "seeds": len(row.finished),
        "trials": len(row.sweep.trials) if row.sweep else 1,
        "date": max(each.created for each in row.records).strftime("%Y-%m-%d"),
        "status": status(row),
        "not_ranked": standings.unranked(row) or None,
    }
    return values


def _spread(name: str, value: Spread | None) -> Entry:
    return {name: value.mean if value else None, f"{name}_deviation": value.deviation if value else None}


def _speeds(standings: Standings, row: Row) -> Entry:
    if standings.fingerprint is None:
        return {}
    found = speeds.headlines(row, standings.fingerprint, standings.engines)
    return {
        speed_key(*engine): figure.timing.sentences if figure.timing else None
        for engine, figure in zip(standings.engines, found)
    }
