"""Which rows may be placed in a table: what the rules ask of a row, and why one does not meet it."""

from __future__ import annotations

from collections.abc import Sequence

from bench.results import SCHEMA_VERSION, Record, shared_part
from bench.ruleset import Ruleset
from leaderboard.recipes import canonical, comparable, largest_batch, seeds_asked, trials_asked


def reasons(seeds: Sequence[Record], plain: Sequence[Record], rules: Ruleset) -> tuple[str, ...]:
    """Why a row cannot be placed; nothing for one that can.

    Args:
        seeds: all records of the row.
        plain: the finished records of its table's plain student.
    """
    found = [f"seed {record.seed} failed: {record.reason}" for record in seeds if record.status == "failed"]
    if any(record.written < SCHEMA_VERSION for record in seeds):
        found.append("its records were written by an earlier version, which said less of its costs")
    ok = [record for record in seeds if record.status == "ok"]
    required = max(rules.required_seeds(asked) for asked in map(seeds_asked, seeds))
    if len(ok) < required:
        found.append(f"{len(ok)} of {required} seeds finished")
    ways = {canonical([comparable(record), record.engine, record.method.source_sha256]) for record in seeds}
    if len(ways) > 1 or len(set(map(_manner, ok))) > 1:
        found.append(
            "its seeds were not run alike: recipe, settings, sweep, the method's source, the engine's version, the "
            "precision, or the parts or processes of the training differ"
        )
    tried = {len(record.sweep.trials) if record.sweep else 1 for record in ok if record.role != "teacher"}
    if odd := sorted(tried - {trials_asked(seeds[0])}):
        found.append(f"number of trials: {odd[0]} in place of the recipe's {trials_asked(seeds[0])}")
    if plain and any(_off_the_list(record, plain[0]) for record in ok):
        found.append("its trials had other shared values than the plain student's")
    if over := [str(record.seed) for record in ok if _overspent(record, rules)]:
        found.append(f"over {100 * rules.overrun:g} % more than its budget was spent for seed {', '.join(over)}")
    return tuple(found)


def _manner(record: Record) -> str:
    """What a row's finished seeds have alike; failed ones need not have come so far.

    Seeds that somebody adds elsewhere rest on a sweep of their own there: on the same trials, which take another time
    and may differ in a score's last digits.
    """
    sweep, training = record.sweep, record.training
    trials = [trial.values for trial in sweep.trials] if sweep else None
    return canonical(
        [
            record.method.settings,
            trials,
            sweep and sweep.winner,
            training and (training.splits, training.processes),
            record.environment.precision,
        ]
    )


def _off_the_list(record: Record, plain: Record) -> bool:
    """Whether a trial had other shared values than the same trial of the plain student. An open track has no list."""
    if record.track == "open" or not record.sweep or not plain.sweep:
        return False
    pairs = zip(record.sweep.trials, plain.sweep.trials, strict=False)  # their numbers are compared elsewhere
    return any(
        shared_part(record.method.name, trial.values) != shared_part(plain.method.name, other.values)
        for trial, other in pairs
    )


def _overspent(record: Record, rules: Ruleset) -> bool:
    budget = record.budget
    batch = largest_batch(record) if budget.kind == "tokens" else 0
    return budget.spent is not None and rules.overspent(budget.limit, budget.spent, batch)
