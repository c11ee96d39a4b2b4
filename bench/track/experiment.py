"""What a tracker is told of a row or a trial: settings, curves, figures, tables and files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.config import Preset
from bench.curves import TERM, read_curve
from bench.measure.statistics import statistics_content
from bench.records import Stored, parse_record
from bench.results import Phase, Record, Score, Speed, Sweep, Trial, file_content, shared_part
from bench.store import content_hash

SUMMED = ("seconds", "device_seconds", "target_tokens", "flops", "joules")
HIGHEST = ("host_memory", "device_memory")
LEDGER = ("name", "kind", "seconds", "devices", *SUMMED[1:], *HIGHEST, "shared_by", "charged", "artifact")
"""The columns of the table of phases."""


@dataclass(frozen=True)
class Experiment:
    """All that is tracked of one row and seed, or of one trial. Names with slashes are folders in the tracker."""

    name: str
    """Also a file name; the same whenever the row, or the trial, is tracked from one run folder."""
    title: str
    tags: tuple[str, ...]
    parameters: Mapping[str, Any]
    notes: Mapping[str, str]
    """How it ended, and what else is text."""
    figures: Mapping[str, float]
    curves: tuple[tuple[int, Mapping[str, float]], ...] = ()
    """At each evaluation the target tokens seen by then, and its values."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Content by name; tables are CSV."""

    def digests(self) -> dict[str, str]:
        """A hash of each part, by which a later run sees what is new."""
        return {
            part: content_hash(getattr(self, part)) for part in ("parameters", "notes", "figures", "curves", "files")
        }


@dataclass(frozen=True)
class TrialOrigin:
    """What a trial belongs to."""

    dataset: str
    languages: tuple[str, str]
    preset: Preset
    method: str
    settings: Mapping[str, Any]
    """The method's own before the trial's values."""
    sweep: str
    """The key of the sweep's artifact."""


def row_experiment(record: Path, history: Path | None) -> Experiment:
    """The experiment of a row and seed, from its record's file and its training's history.

    Raises:
        DataError: the record or a file that belongs to it cannot be used.
        OSError: a file cannot be read.
    """
    stored = Stored(parse_record(record.read_bytes()), record.parent)
    row = stored.record
    return Experiment(
        name=f"{row.dataset}.{row.row}.s{row.seed}",
        title=f"{row.row}.s{row.seed}",
        tags=(row.dataset, row.preset, row.method.name, row.role),
        parameters=_parameters(row),
        notes=_notes(row),
        figures=_figures(row),
        curves=_curves(history),
        files=_files(stored),
    )


def trial_experiment(
    trial: Trial, origin: TrialOrigin, phases: Sequence[Phase] = (), history: Path | None = None
) -> Experiment:
    """The experiment of a trial, finished or not.

    Raises:
        OSError: its history cannot be read.
    """
    shared, method = shared_part(origin.method, trial.values), origin.method
    own = {name.removeprefix(f"{method}."): value for name, value in trial.values.items() if name not in shared}
    preset = origin.preset.at(shared)
    figures = {"dev/bleu": trial.bleu, "device_seconds": trial.seconds, "target_tokens": trial.target_tokens}
    return Experiment(
        name=f"{origin.dataset}.{method}.{origin.preset.name}.{origin.sweep[:8]}.t{trial.number}",
        title=f"{method}.{origin.preset.name}.{origin.sweep[:8]}.t{trial.number}",
        tags=(origin.dataset, origin.preset.name, method, "trial"),
        parameters={
            "dataset": origin.dataset,
            "languages": "-".join(origin.languages),
            "preset": origin.preset.name,
            "role": "trial",
            "method": method,
            "trial": trial.number,
            "values": dict(trial.values),
            "settings": {**origin.settings, **own},
            "recipe": preset.recipe(),
        },
        notes={"state": trial.state, **_given({"reason": trial.reason}), "sweep": origin.sweep},
        figures=_given(figures) | _ledger_figures(phases),
        curves=_curves(history),
        files={"ledger.csv": _ledger_table(phases)} if phases else {},
    )


def _parameters(row: Record) -> dict[str, Any]:
    chosen = {"row", "dataset", "preset", "track", "role", "seed", "recipe"}
    return row.model_dump(mode="json", include=chosen) | {
        "languages": "-".join(row.languages),
        "method": row.method.name,
        "settings": row.method.settings,
        "depth": str(row.delivery.depth),
        "parameters": row.parameters.model_dump() if row.parameters else {},
        "environment": row.environment.model_dump(mode="json", exclude_none=True),
        # The recipe holds the values that no trial replaced.
        "values": row.sweep.best.values if row.sweep else {},
    }


def _notes(row: Record) -> dict[str, str]:
    notes = {"state": row.failure or row.status, "reason": row.reason, "command": row.command, "energy": row.energy}
    return _given(notes | ({"speed fingerprint": row.speed.fingerprint} if row.speed else {}))


def _figures(row: Record) -> dict[str, float]:
    found: dict[str, float | None] = {"budget/limit": row.budget.limit, "budget/spent": row.budget.spent}
    for test_set, score in row.scores.items():
        found |= {f"{test_set}/{name}": value for name, value in _score_values(score).items()}
    if row.training:
        numbers = row.training.model_dump(exclude={"stages", "curve"})
        found |= {f"training/{name}": value for name, value in numbers.items()}
    if row.speed:
        for name, value in _speed_figures(row.speed):
            found[f"speed/{name}"] = value
    return _given(found) | _ledger_figures(row.phases)


def _files(stored: Stored) -> dict[str, str]:
    """The record with what belongs to it, and its tables."""
    row = stored.record
    files = {row.file: row.model_dump_json(indent=2) + "\n"}
    for test_set, score in row.scores.items():
        lines, statistics = stored.hypotheses(test_set), stored.statistics(test_set)
        files[score.hypotheses.file] = file_content(lines)
        if score.statistics and statistics is not None:
            files[score.statistics.file] = statistics_content(statistics)
        files[f"sentences.{test_set}.csv"] = _table(("sentence", "hypothesis"), enumerate(lines, start=1))
    if row.scores:
        scores = [
            {"test set": name, **_score_values(score), **_signatures(score)} for name, score in row.scores.items()
        ]
        files["scores.csv"] = _table_of(scores)
    if row.phases:
        files["ledger.csv"] = _ledger_table(row.phases)
    if row.sweep:
        files["trials.csv"] = _trials_table(row.sweep)
    if row.speed:
        files["speed.csv"] = _table_of(_speed_rows(row.speed))
    return files


def _score_values(score: Score) -> dict[str, float | None]:
    values: dict[str, float | None] = {"bleu": score.bleu, "chrf": score.chrf, "sentences": score.sentences}
    values["length_ratio"] = score.length_ratio
    if score.degenerate:
        values |= score.degenerate.model_dump()
    return values | {each.name: each.value for each in score.further}


def _signatures(score: Score) -> dict[str, str]:
    signatures = {"bleu signature": score.bleu_signature, "chrf signature": score.chrf_signature}
    return signatures | {f"{each.name} signature": each.signature for each in score.further}


def _ledger_figures(phases: Iterable[Phase]) -> dict[str, float]:
    """The phases' values, those of one name and charge taken together."""
    found: dict[str, float] = {}
    for phase in phases:
        for column in (*SUMMED, *HIGHEST):
            if (value := getattr(phase, column)) is not None:
                name = f"ledger/{phase.kind}/{phase.name}/{column}"
                found[name] = max(found.get(name, 0.0), value) if column in HIGHEST else found.get(name, 0.0) + value
    return found


def _ledger_table(phases: Iterable[Phase]) -> str:
    return _table(LEDGER, ([getattr(phase, column) for column in LEDGER] for phase in phases))


def _trials_table(sweep: Sweep) -> str:
    return _table_of(
        [
            {"trial": trial.number, "winner": trial.number == sweep.winner}
            | trial.model_dump(mode="json", exclude={"number", "values"})
            | trial.values
            for trial in sweep.trials
        ]
    )


def _speed_rows(speed: Speed) -> list[dict[str, Any]]:
    """A line for each timing, and one for each engine that has none."""
    rows = []
    for engine in speed.engines:
        about = engine.model_dump(mode="json", exclude={"timings"})
        for timing in engine.timings:
            values = timing.model_dump(mode="json", exclude={"latency"})
            latency = timing.latency.model_dump() if timing.latency else {}
            rows.append(about | values | {f"latency {name}": value for name, value in latency.items()})
        if not engine.timings:
            rows.append(about)
    return rows


def _speed_figures(speed: Speed) -> Iterator[tuple[str, float]]:
    for engine in speed.engines:
        place = f"{engine.engine}/{engine.precision}"
        for name, value in engine.model_dump(exclude={"engine", "precision", "timings", "failure"}).items():
            if value is not None:
                yield f"{place}/{name}", value
        for timing in engine.timings:
            way = f"{place}/beam {timing.beam}/{timing.mode}"
            for name in ("source_words", "target_tokens", "sentences", "spread"):
                yield f"{way}/{name}", getattr(timing, name)
            for name, value in (timing.latency.model_dump() if timing.latency else {}).items():
                yield f"{way}/latency_{name}", value


def _curves(history: Path | None) -> tuple[tuple[int, dict[str, float]], ...]:
    """Each evaluation's values at the target tokens seen by then, counted over all stages."""
    found: list[tuple[int, dict[str, float]]] = []
    for point in read_curve(history) if history else ():
        own = point.model_dump(exclude={"stage", "target_tokens", "terms"})
        terms = {f"{TERM}{name}": value for name, value in point.terms.items()}
        values = {f"curve/{name}": value for name, value in (own | terms).items()}
        found.append((point.target_tokens, _given(values)))
    return tuple(found)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are there."""
    return {name: value for name, value in values.items() if value is not None}


def _table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with every column that a row has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return _table(columns, ([row.get(name) for name in columns] for row in rows))


def _table(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
