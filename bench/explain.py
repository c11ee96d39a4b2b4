"""All that is known of one row, as plain text for a terminal: ``bench explain``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bench.records import Stored, check_files, find_row, read_records
from bench.registry import Methods, load_methods
from bench.results import Record, Sweep
from bench.reuse import Finding, inspect
from bench.store import Store
from leaderboard.costs import totals
from leaderboard.ranking import shared
from leaderboard.recipes import flatten
from leaderboard.sweeps import best_curve, extent, shared_values, shown_trials, value_names
from leaderboard.text import amount, duration, energy, memory, one_line, operations

WIDTH = 100
"""Columns of the text; a longer word stays whole, and so does the command, to be copied."""


def explain(runs: Path, query: str, methods_dir: Path | None = None) -> str:
    """A row's settings, scores, costs, artifacts and sweep, and why each of its phases would run again.

    Args:
        query: ``[DATASET/]ROW[@SEED]``; without a seed, all of the row's seeds.
        methods_dir: where its method is found, if it is neither built in nor installed.

    Raises:
        UsageError: no such row, or no such folder.
    """
    found = read_records([runs / "records"]).records
    charged = shared(each.record for each in found)
    row = find_row([replace(each, record=record) for each, record in zip(found, charged, strict=True)], query)
    store, methods = Store(runs / "artifacts"), load_methods(methods_dir)
    sample = next((each.record for each in row if each.record.status == "ok"), row[0].record)
    lines = [*_identity(sample), "", *_settings(sample, methods), "", *_scores([each.record for each in row])]
    if sample.sweep:
        lines += ["", *_sweep(sample.sweep, sample.track)]
    for stored in row:
        lines += ["", *_costs(stored.record), "", *_artifacts(stored, store, methods)]
    return "\n".join(line.rstrip() for line in lines)


def _identity(record: Record) -> list[str]:
    facts = [
        ("role", record.role),
        ("text", f"{record.dataset}, {record.languages[0]} to {record.languages[1]}"),
        ("preset", record.preset),
        ("track", record.track),
        ("student", f"{record.delivery.name}, {record.delivery.depth}"),
        ("budget", amount(record.budget.limit, record.budget.kind)),
    ]
    if any(name.startswith("signals") for name in record.artifacts):
        facts.append(("signals", f"cached, the teacher's {_kept(record)} likeliest tokens"))
    title = f"{record.dataset}/{record.row}: {one_line(record.method.title)}"
    return [title, *_table(facts), "", "Made by", f"  {one_line(record.command)}"]


def _kept(record: Record) -> Any:
    signals = record.recipe.get("signals")
    return signals.get("top_k") if isinstance(signals, dict) else None


def _settings(record: Record, methods: Methods) -> list[str]:
    """Each setting and where it comes from."""
    name, sweep = record.method.name, record.sweep
    chosen = f"trial {sweep.winner} of the sweep" if sweep else ""
    searched = sweep.space if sweep else {}
    published = flatten(methods.get(name)().settings.model_dump(mode="json")) if name in methods.found else {}

    def origin(key: str, value: Any) -> str:
        if f"{name}.{key}" in searched:
            return chosen
        return "published" if key in published and published[key] == value else "given"

    rows = [(key, value, origin(key, value)) for key, value in flatten(record.method.settings).items()]
    rows += [(key, value, chosen) for key, value in shared_values(record).items()]
    return ["Settings", *(_table(rows) if rows else ["  none of its own"])]


def _scores(records: Sequence[Record]) -> list[str]:
    rows: list[Sequence[Any]] = []
    for record in records:
        if record.status == "failed":
            rows.append((record.seed, "", "", "", f"failed ({record.failure}): {record.reason}"))
        rows += [
            (record.seed, name, f"{score.bleu:.2f}", f"{score.chrf:.2f}", _accesses(record, name))
            for name, score in record.scores.items()
        ]
    return ["Scores", *_table(rows, ("seed", "text", "BLEU", "chrF", ""), "><>><")]


def _accesses(record: Record, test_set: str) -> str:
    if not record.test_access.get(test_set):
        return ""
    return "decoded " + ", ".join(f"{time:%Y-%m-%d %H:%M:%S}" for time in record.test_access[test_set])


def _sweep(sweep: Sweep, track: Literal["official", "open"]) -> list[str]:
    pruner = f", pruner {sweep.pruner}" if sweep.pruner else ""
    rows = []
    for trial in sweep.trials:
        notes = ["published"] if trial.number == 0 else []
        notes += ["winner"] if trial.number == sweep.winner else []
        notes += [f"{trial.state}: {trial.reason}"] if trial.reason else []
        notes += [f"{name} = {trial.values[name]}" for name in value_names(sweep) if name in trial.values]
        bleu = f"{trial.bleu:.2f}" if trial.bleu is not None else "–"
        rows.append((trial.number, bleu, duration(trial.seconds), ", ".join(notes)))
    curve = best_curve(sweep, track)
    best = ", ".join(f"{k}={curve[k - 1]:.2f}" for k in shown_trials([len(curve)]))
    label = "best so far" if track == "open" else "expected best"
    facts = [(label, f"dev BLEU that fewer trials would have given: {best}")]
    if sweep.importances:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in sweep.importances.items())
        facts.append(("importances", shares))
    facts += [("searched", "; ".join(f"{name}: {extent(value)}" for name, value in sweep.space.items()))]
    return [
        f"Sweep: {len(sweep.trials)} trials, sampler {one_line(sweep.sampler)}{one_line(pruner)}, seed {sweep.seed}, "
        f"{duration(sweep.seconds)} in all",
        *_table(rows, ("trial", "dev BLEU", "time", ""), ">>><"),
        *_table(facts),
    ]


def _costs(record: Record) -> list[str]:
    rows: list[Sequence[Any]] = [
        (phase.name, phase.kind, duration(phase.seconds), phase.shared_by, duration(phase.charged),
         operations(phase.flops) if phase.flops else "", memory(phase.host_memory) if phase.host_memory else "",
         energy(phase.joules) if phase.joules is not None else "")
        for phase in record.phases
    ]  # fmt: skip
    if not rows:
        return [f"Costs of seed {record.seed}", "  none recorded"]
    header = ("phase", "charged as", "wall time", "rows", "share", "operations", "memory", "energy")
    sums = [
        (total.name, duration(total.seconds.mean), operations(total.flops) if total.flops is not None else "",
         energy(total.joules) if total.joules is not None else "")
        for total in totals([record])
    ]  # fmt: skip
    return [
        f"Costs of seed {record.seed}",
        *_table(rows, header, "<<>>>>>"),
        "Totals of the row's share, in device time",
        *_table(sums, align="<>>"),
        *_wrapped(f"energy: {one_line(record.energy)}", "  "),
    ]


def _artifacts(stored: Stored, store: Store, methods: Methods) -> list[str]:
    """The artifacts of one seed: where they are, and what the same command would do with them."""
    record, damaged = stored.record, check_files(stored)
    title = f"Artifacts of seed {record.seed}, and what the same command would do"
    if not record.artifacts:
        return [title, "  a failed row names none: it is tried again from what is there"]
    findings = inspect(record, store, methods, whole=not damaged)
    if not any(finding.artifact for finding in findings):
        said = (
            f"none of the {len(findings)} is under {store.root}: the record comes from elsewhere, or they were removed"
        )
        return [title, *_wrapped(said, "  ")]
    rows = [(finding.kind, finding.key[:12], _size(finding), finding.verdict) for finding in findings]
    return [title, *_table(rows, align="<<><"), *(line for each in damaged for line in _wrapped(each, "  "))]


def _size(finding: Finding) -> str:
    """The size of an artifact on disk."""
    if finding.artifact is None:
        return "not here"
    count = float(sum(file.stat().st_size for file in finding.artifact.folder.rglob("*") if file.is_file()))
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _table(rows: Iterable[Sequence[Any]], header: Sequence[str] = (), align: str = "") -> list[str]:
    """Rows as aligned columns; the last is wrapped. ``align`` has ``<`` or ``>`` for each column."""
    cells = [[one_line(cell) for cell in row] for row in ([header] if header else []) + list(rows)]
    *widths, _ = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for *first, last in cells:
        start = "  " + "".join(
            f"{cell:{way}{width}}  " for cell, way, width in zip(first, align or "<" * len(widths), widths)
        )
        lines += _wrapped(last, start)
    return lines


def _wrapped(text: str, start: str) -> list[str]:
    """Text after ``start``, its further lines below its own beginning."""
    indent = " " * min(len(start), WIDTH // 2)
    return textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [start]
