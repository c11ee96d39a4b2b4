"""Where a page lies in the site. An address depends on nothing but what the page shows, so it can be cited."""

from __future__ import annotations

import hashlib

from leaderboard.ranking import Row, Table
from leaderboard.recipes import budget_asked, comparable, trials_asked

OVERVIEW = "index.html"
RULES_PAGE = "rules.html"
METHODS = "methods.html"
MOST_TRIALS = 1_000_000
"""A recipe that claims more has them not in its table's address."""


def table_page(table: Table) -> str:
    """Of a table: preset, what a reader would tell it apart by, and 8 digits of what makes its rows comparable.

    The digits are always there. Left out where the rest is enough, they would have to be added once another table came.
    """
    record = table.sample
    trials, budget = trials_asked(record), budget_asked(record)
    parts = [record.preset]
    if record.track == "open":
        parts.append("open")
    if budget in ("wall-clock", "device-hours"):
        parts.append(budget)
    if 1 < trials < MOST_TRIALS:
        parts.append(f"{trials}-trials")
    digest = hashlib.sha256(comparable(record).encode("utf-8")).hexdigest()[:8]
    return f"tables/{record.dataset}/{'.'.join([*parts, digest])}.html"


def row_page(row: Row) -> str:
    """Of a row."""
    return f"rows/{row.sample.dataset}/{row.sample.row}.html"


def hypotheses_page(row: Row, test_set: str) -> str:
    """Of a row's hypotheses on one test set."""
    return f"hypotheses/{row.sample.dataset}/{row.sample.row}.{test_set}.html"


def method_page(name: str) -> str:
    """Of a method."""
    return f"methods/{name}.html"


def badge_file(dataset: str, method: str) -> str:
    """Of a method's badge on a data set."""
    return f"badges/{dataset}/{method}.svg"
