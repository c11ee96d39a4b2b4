"""A table as files to compute with: CSV and JSON, in full precision."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from leaderboard.entries import Entry, Value
from leaderboard.ranking import Table
from leaderboard.text import printable

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the start of a formula, in full width too (OWASP, CSV injection)."""


def to_csv(rows: Sequence[Entry]) -> str:
    """A line for each row, below the names of the values. Text that a spreadsheet would run gets an apostrophe."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([_defused(name) for name in rows[0]])
    writer.writerows([_defused(value) for value in _readable(row).values()] for row in rows)
    return text.getvalue()


def to_json(table: Table, rows: Sequence[Entry]) -> str:
    """What the table is of, and its rows."""
    record = table.sample
    described = {
        "dataset": record.dataset,
        "languages": list(record.languages),
        "test_set": record.primary,
        "preset": record.preset,
        "track": record.track,
        "trials": table.trials,
        "budget": table.budget.kind,
        "signatures": [printable(each) for each in table.signatures],
        "machines": [printable(each) for each in table.machines],
        "rows": [_readable(row) for row in rows],
    }
    return json.dumps(described, indent=1, ensure_ascii=False) + "\n"


def _readable(row: Entry) -> Entry:
    return {key: printable(value) if isinstance(value, str) else value for key, value in row.items()}


def _defused(value: Value) -> Value:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
