"""Writes a record for each row and seed, as soon as it is scored or has failed."""

from __future__ import annotations

import contextlib
import glob
import json
import shlex
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.config import SECTIONS
from bench.curves import training_of
from bench.environment import environment
from bench.errors import DataError
from bench.further import lacking, of_record, of_store, own_artifacts, speed_of, with_further, with_speed
from bench.ledger import ledger
from bench.measure.energy import NOT_MEASURED
from bench.phases.base import DEV, device_seconds
from bench.phases.decoding import test_accesses
from bench.plan import FROM_TEACHER, Row, Task, row_engine
from bench.progress import Display
from bench.records import Stored, check_files, parse_record, write_record
from bench.registry import source_hash
from bench.request import Prepared, Request
from bench.results import (
    BudgetRecord,
    DeliveryRecord,
    Environment,
    MethodRecord,
    Parameters,
    Record,
    Score,
    StoredFile,
    Sweep,
    hypotheses_file,
    statistics_file,
)
from bench.store import Artifact, content_hash
from bench.sweep.executor import Failure
from bench.track import Tracking
from bench.tracked import track_row, track_sweeps, track_trials
from bench.train.trainer import PHASES
from bench.tuning import Tuning


@dataclass
class Recorder:
    """Watches the executor and writes each row's record as soon as its scores are there."""

    prepared: Prepared
    display: Display | None = None
    tuning: Tuning | None = None
    tracking: Tracking | None = None
    failures: dict[str, str] = field(default_factory=dict)
    unscored: dict[str, str] = field(default_factory=dict)
    """Row, seed and further metric, of rows that are recorded without it."""

    def assign(self, task: Task) -> Any:
        return self.tuning.assign(task) if self.tuning else None

    def started(self, task: Task) -> None:
        if self.display:
            self.display.started(task)

    def advanced(self, task: Task, done: int, total: int, note: str, value: tuple[int, float] | None) -> str | None:
        if self.display:
            self.display.advanced(task, done, total, note)
        return self.tuning.advanced(task, value) if self.tuning and value else None

    def finished(self, task: Task, failure: Failure | None) -> None:
        if self.display:
            self.display.finished(task, failure)
        if self.tuning:
            self.tuning.finished(task, failure)
        for row in self.prepared.plan.rows:
            if row.scores.key == task.key:
                self.record(row, failure)
            elif any(metric.key == task.key for metric in row.metrics):
                self.score(row, task, failure)
        if task.kind == "sweep" and self.tuning and self.tracking:
            track_trials(self.tracking, self.prepared, task, self.tuning.trials(task))

    def record_all(self) -> None:
        """Record every row that can be, and have the tracker know of all that is there."""
        for row in self.prepared.plan.rows:
            self.record(row)
        if self.tracking:
            track_sweeps(self.tracking, self.prepared)

    def record(self, row: Row, failure: Failure | None = None) -> None:
        """Write the record of a row that has failed, or whose artifacts are all there; leave one that says the same."""
        prepared, store = self.prepared, self.prepared.store
        if failure:
            self.failures[f"{row.id}, seed {row.seed}"] = _reason(row, failure)
            write_record(prepared.records, failed_record(prepared, row, failure), {})
            return
        if stored := recorded(prepared, row):
            further = any(store.find(task.kind, task.key) for task in lacking(stored.record, row))
            more = _asked(stored.record) < seeds_of(prepared, row)
            if further or more or _lacks_curve(prepared, row, stored.record):
                write_record(prepared.records, *completed_record(prepared, row, stored))
        elif all(store.find(task.kind, task.key) for task in row.scores.lineage):
            write_record(prepared.records, *finished_record(prepared, row))
        else:
            return
        if self.tracking:
            track_row(self.tracking, prepared, row, prepared.records / _file(row))

    def timed(self, changed: Collection[tuple[str, int]]) -> None:
        """Have the tracker know of the rows, by name and seed, whose speed was put into their records."""
        for row in self.prepared.plan.rows:
            if self.tracking and (row.id, row.seed) in changed:
                track_row(self.tracking, self.prepared, row, self.prepared.records / _file(row))

    def score(self, row: Row, task: Task, failure: Failure | None) -> None:
        """Add a further metric to a row's record. Without it the row is as good as it was."""
        name = f"{row.id}, seed {row.seed}"
        if failure is None:
            self.record(row)
        elif name not in self.failures:
            self.unscored[f"{name}, {task.inputs['metric']}"] = str(failure)


def finished_record(prepared: Prepared, row: Row) -> tuple[Record, dict[str, str]]:
    """The record of a row whose artifacts are all there, and its files, content by name."""
    store = prepared.store
    scores, model = store.get("scores", row.scores.key), store.get(row.model.kind, row.model.key)
    identity = _identity(prepared, row)
    if row.sweep:
        sweep = _sweep(prepared, row)
        settings = model.details["settings"]
        identity |= {"sweep": sweep, "method": identity["method"].model_copy(update={"settings": settings})}
    values, files = _scores(row, scores)
    depth = row.delivery.depth
    record = Record(
        **identity,
        status="ok",
        energy=model.details["energy"],
        budget=_budget(prepared, row, model),
        test_access={name: _accesses(prepared, row, name) for name in values if name != DEV},
        model=model.details["architecture"] | {"encoder_layers": depth.encoder, "decoder_layers": depth.decoder},
        parameters=Parameters(**scores.details["parameters"]),
        scores=values,
        training=training_of(model),
        phases=ledger(prepared, row),
        walls={
            task.key: store.get(task.kind, task.key).details["wall"]
            for task in row.scores.lineage
            if task.kind != "sweep"  # which only gathers: its phase is its trials
        },
        artifacts=row.artifacts,
        environment=Environment(
            **model.details["environment"] | {"sacrebleu": scores.details["environment"]["sacrebleu"]}
        ),
    )
    earlier = _stored(prepared, row)
    same = earlier is not None and earlier.record.artifacts.get("scores") == row.scores.key
    if earlier is None or not same:
        return with_further(record, of_store(store, row)), files
    record = with_further(record, {**of_record(earlier.record), **of_store(store, row)})
    return with_speed(record, speed_of(earlier.record)), files


def completed_record(prepared: Prepared, row: Row, stored: Stored) -> tuple[Record, dict[str, str]]:
    """A row's record with what it lacks and is there by now, and its files, content by name.

    That is further metrics that were computed since, a larger number of seeds that are asked for now, and the curve of
    its training, which an earlier version did not write. The metrics it has stay in it. What they took is not charged
    to the row, which is the same without them.
    """
    record = with_further(stored.record, {**of_record(stored.record), **of_store(prepared.store, row)})
    again = {name: _identity(prepared, row)[name] for name in ("created", "command")}
    again["recipe"] = {**record.recipe, "seeds": seeds_of(prepared, row)}
    if _lacks_curve(prepared, row, record):
        again["training"] = training_of(prepared.store.get(row.model.kind, row.model.key))
    named = (file.file for score in record.scores.values() for file in score.files)
    files = {name: (stored.folder / name).read_bytes().decode("utf-8") for name in named}
    return record.model_copy(update=again), files


def seeds_of(prepared: Prepared, row: Row) -> int:
    """The seeds that a row's records are to say were asked for: the most that it was ever asked for here.

    The number never falls: who has seen the scores must not choose it anew.
    """
    told = [prepared.plan.preset.seeds]
    for path in prepared.records.glob(f"{glob.escape(row.id)}.s*.json"):
        with contextlib.suppress(DataError, FileNotFoundError):
            told.append(_asked(parse_record(path.read_bytes())))
    return max(told)


def _asked(record: Record) -> int:
    """The seeds that a record of this program's own says were asked for."""
    return int(str(record.recipe["seeds"]))


def _lacks_curve(prepared: Prepared, row: Row, record: Record) -> bool:
    """Whether a record that has no curve could have one."""
    missing = record.training is not None and not record.training.curve
    return missing and prepared.store.find(row.model.kind, row.model.key) is not None


def _scores(row: Row, scores: Artifact) -> tuple[dict[str, Score], dict[str, str]]:
    """The scores by test set, and the files that belong to them, content by name."""
    found: dict[str, Score] = {}
    files: dict[str, str] = {}
    for name, values in scores.details["sets"].items():
        hypotheses, statistics = (each(row.id, row.seed, name) for each in (hypotheses_file, statistics_file))
        files[hypotheses] = (scores.folder / f"{name}.txt").read_text(encoding="utf-8")
        files[statistics] = (scores.folder / f"{name}.tsv").read_text(encoding="utf-8")
        stored = (StoredFile.of(file, files[file]) for file in (hypotheses, statistics))
        found[name] = Score(**values, **dict(zip(("hypotheses", "statistics"), stored)))
    return found, files


def failed_record(prepared: Prepared, row: Row, failure: Failure) -> Record:
    """The record of a row that could not be finished."""
    return Record(
        **_identity(prepared, row),
        status="failed",
        budget=_budget(prepared, row, None),
        reason=_reason(row, failure),
        failure=failure.state,
        energy=f"{NOT_MEASURED}: the row has failed",
        error_log=failure.log or None,
        environment=Environment(**environment(prepared.place.device, "unknown", prepared.slots.workers)),
    )


def _reason(row: Row, failure: Failure) -> str:
    """Why the row failed: in its own training, or in another task, which is named."""
    return failure.reason if failure.origin == row.model.label else str(failure)


def _identity(prepared: Prepared, row: Row) -> dict[str, Any]:
    """What a record says of its row before anything is run."""
    method = prepared.methods.get("baseline" if row.role == "teacher" else row.method)
    paper, request = method.paper, prepared.request
    preset = prepared.plan.preset.overridden({"seeds": seeds_of(prepared, row)})
    if preset.seeds > prepared.plan.preset.seeds:
        settings = {name: value for name, value in request.settings.items() if name != "seeds"}
        request = replace(request, seeds=preset.seeds, settings=settings)
    if prepared.plan.preset.budget.kind != "tokens":
        # How far a training gets in a time depends on how many run beside it.
        request = replace(request, workers=prepared.slots.workers)
    summary = "The model the students learn from, trained alone." if row.role == "teacher" else method.summary
    return {
        "row": row.id,
        "dataset": prepared.plan.dataset,
        "languages": prepared.dataset.languages,
        "data_sha256": content_hash(prepared.identity),
        "preset": prepared.plan.preset.name,
        "track": prepared.plan.preset.tuning.track,
        "role": row.role,
        "method": MethodRecord(
            name=row.method,
            title=row.title,
            summary=summary,
            paper={"citation": paper.citation, "year": paper.year, "link": paper.link} if paper else None,
            settings=dict(row.settings),
            source_sha256=source_hash(method),
        ),
        "delivery": DeliveryRecord(name=row.delivery.name, depth=row.delivery.depth),
        "seed": row.seed,
        "primary": prepared.dataset.primary,
        "engine": row_engine(prepared.plan.preset),
        "recipe": preset.recipe(),
        "created": datetime.now(UTC).replace(microsecond=0),
        "command": command(request, prepared.place.device, row.method),
    }


def recorded(prepared: Prepared, row: Row) -> Stored | None:
    """The row's record, if it is there, whole, with its hypotheses, and made from these artifacts.

    Further metrics, which it may have or lack, make no difference, nor does how many seeds its run asked for.
    """
    if (stored := _stored(prepared, row)) is None:
        return None
    record = stored.record
    accesses = {name: len(_accesses(prepared, row, name)) for name in record.test_access}
    logged = accesses == {name: len(times) for name, times in record.test_access.items()}
    whole = logged and own_artifacts(record) == row.artifacts and not check_files(stored)
    return stored if whole else None


def is_recorded(prepared: Prepared, row: Row) -> bool:
    """Whether :func:`recorded` finds the row's record."""
    return recorded(prepared, row) is not None


def _stored(prepared: Prepared, row: Row) -> Stored | None:
    try:
        return Stored(parse_record((prepared.records / _file(row)).read_bytes()), prepared.records)
    except (FileNotFoundError, DataError):
        return None


def _accesses(prepared: Prepared, row: Row, test_set: str) -> list[str]:
    return test_accesses(prepared.request.runs, row.scores.key, test_set)


def _sweep(prepared: Prepared, row: Row) -> Sweep:
    """How the row's settings were chosen, as the sweep's artifact has it."""
    assert row.sweep is not None
    details, tuning = prepared.store.get("sweep", row.sweep.key).details, prepared.plan.preset.tuning
    space = next(sweep.space for sweep in prepared.plan.sweeps if sweep.task.key == row.sweep.key)
    return Sweep(
        sampler=tuning.sampler,
        pruner=None if tuning.pruner == "none" else tuning.pruner,
        seed=tuning.seed,
        space=space.as_json(),
        **{name: details[name] for name in ("trials", "winner", "importances", "versions")},
    )


def _budget(prepared: Prepared, row: Row, model: Artifact | None) -> BudgetRecord:
    """The budget that the row's training had, and what it took of it. A teacher has a number of tokens of its own."""
    preset, spent = prepared.plan.preset, None
    if row.role == "teacher" or preset.budget.kind == "tokens":
        training = preset.teacher_training if row.role == "teacher" else preset.training
        spent = model.details["target_tokens"] if model else None
        return BudgetRecord(kind="tokens", limit=training.target_tokens, spent=spent)
    if model:
        spent = sum(model.details["seconds"].get(name, 0.0) for name in PHASES)
        if preset.budget.kind == "device-hours":
            needed = [task for task in row.model.lineage if task.kind in FROM_TEACHER]
            charged = sum(device_seconds(prepared.store.get(task.kind, task.key)) for task in needed)
            spent = (charged + spent * model.details["processes"]) / 3600
    return BudgetRecord(kind=preset.budget.kind, limit=preset.budget.amount, spent=spent)


def _file(row: Row) -> str:
    return f"{row.id}.s{row.seed}.json"


def command(request: Request, device: str, method: str) -> str:
    """The line that makes a row again. Folders of this machine are left out."""
    words = ["python", "-m", "bench", "run", "--methods", "baseline" if method == "teacher" else method]
    words += ["--dataset", request.dataset if request.languages is None else Path(request.dataset).name]
    if request.languages:
        words += ["--langs", ",".join(request.languages)]
    words += ["--preset", request.preset, "--device", device.split(":")[0]]
    for option in ("seeds", "trials", "track", "sampler", "pruner"):
        if (value := getattr(request, option)) is not None:
            words += [f"--{option}", str(value)]
    if request.workers:
        words += ["--workers", str(request.workers)]
    if request.processes > 1:
        words += ["--processes", str(request.processes)]
    if request.budget:
        kind, amount = request.budget
        words += ["--budget", f"{kind}:{int(amount) if kind == 'tokens' else amount}"]
    if request.teacher_signals:
        words += ["--teacher-signals", request.teacher_signals]
    for metric in request.metrics:
        kind, colon, path = metric.partition(":")
        words += ["--metric", f"{kind}{colon}{Path(path).name}"]
    for key, value in request.settings.items():
        head, _, rest = key.partition(".")
        if head == method or head in SECTIONS or not rest:
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)
