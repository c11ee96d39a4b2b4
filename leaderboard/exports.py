"""A table as files to compute with: CSV and JSON, in full precision."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from leaderboard.entries import Value, entry
from leaderboard.ranking import Table
from leaderboard.standings import Standings
from leaderboard.text import printable

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula (OWASP, CSV injection)."""


def to_csv(standings: Standings) -> str:
    """A line for each row, below the names of the values. Text that a spreadsheet would run gets an apostrophe."""
    rows = _rows(standings)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([_cell(name) for name in rows[0]])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


def to_json(standings: Standings) -> str:
    """What the table is of, and its rows."""
    return json.dumps(_described(standings), indent=1, ensure_ascii=False) + "\n"


def _described(standings: Standings) -> dict[str, Any]:
    table: Table = standings.table
    record = table.sample
    return {
        "dataset": record.dataset,
        "languages": list(record.languages),
        "test_set": record.primary,
        "preset": record.preset,
        "track": record.track,
        "trials": table.trials,
        "budget": table.budget.kind,
        "signatures": [printable(each) for each in table.signatures],
        "machines": [printable(each) for each in table.machines],
        "rows": _rows(standings),
    }


def _rows(standings: Standings) -> list[dict[str, Value]]:
    entries = [entry(standings, row) for row in standings.table.rows]
    return [{key: printable(each) if isinstance(each, str) else each for key, each in row.items()} for row in entries]


def _cell(value: Value) -> Value:
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.startswith(FORMULA) else value
