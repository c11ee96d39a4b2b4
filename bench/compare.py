"""Two rows set against each other, as plain text or JSON: ``bench compare``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.records import find_row, read_records
from bench.ruleset import RULES
from leaderboard.comparison import Comparison, Side, compare
from leaderboard.significance import Metric

NAMES = {"bleu": "BLEU", "chrf": "chrF"}


def compare_rows(
    folders: Sequence[Path],
    row_a: str,
    row_b: str,
    test_set: str | None,
    metric: Metric,
    announce: Callable[[str], None],
) -> Comparison:
    """Compare two rows, each ``[DATASET/]ROW[@SEED]``, of the records in ``folders``.

    Args:
        announce: told of each file that is set aside.

    Raises:
        UsageError: no such folder or row, or rows that cannot be compared.
    """
    reading = read_records(folders)
    for problem in reading.problems:
        announce(problem)
    if not reading.records:
        raise UsageError(f"there are no records in {', '.join(map(str, folders))}.")
    return compare(find_row(reading.records, row_a), find_row(reading.records, row_b), test_set, metric)


def described(found: Comparison) -> list[str]:
    """A comparison as lines of text."""
    width = max(len(found.a.row), len(found.b.row))
    seeds = max(len(_seeds(side)) for side in (found.a, found.b))

    def line(letter: str, side: Side) -> str:
        deviation = "" if side.score.deviation is None else f" ± {side.score.deviation:.2f}"
        return f"  {letter}  {side.row:{width}}  {_seeds(side):{seeds}}  {side.score.mean:.2f}{deviation}"

    return [
        f"{found.dataset}, {found.test_set}, {found.sentences:,} sentences: {NAMES[found.metric]}, mean ± standard "
        "deviation over seeds",
        line("A", found.a),
        line("B", found.b),
        f"  A - B  {found.difference:+.2f}  {100 * found.level:g} % interval {found.low:+.2f} to {found.high:+.2f}  "
        f"p = {found.p:.4f}",
        *verdict(found),
        f"{NAMES[found.metric]} {found.signature}",
    ]


def as_json(found: Comparison) -> dict[str, Any]:
    """A comparison as JSON."""
    return asdict(found) | {"outcome": found.outcome, "verdict": " ".join(verdict(found))}


def verdict(found: Comparison) -> list[str]:
    """What may be said of the two rows, and what may not, as sentences."""
    said = {
        "better": f"A is significantly better than B (p at most {found.alpha:g}).",
        "worse": f"A is significantly worse than B (p at most {found.alpha:g}).",
        "level": f"No significant difference (p above {found.alpha:g}).",
    }
    sentences = [said[found.outcome]]
    if found.models_only:
        sentences.append("One seed: this says something of these two models only, not of the methods.")
    elif min(len(found.a.seeds), len(found.b.seeds)) < RULES.seeds:
        sentences.append(f"Rows of fewer than {RULES.seeds} seeds are not ranked.")
    if not found.same_recipe:
        sentences.append("The rows are of different tables: their recipes differ, not only their methods.")
    return sentences


def _seeds(side: Side) -> str:
    return f"seed{'s' if len(side.seeds) > 1 else ''} {', '.join(map(str, side.seeds))}"
