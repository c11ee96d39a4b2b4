"""Carries out a plan: tasks in parallel, a record for each finished row, the page at the end."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from rich.console import Console

from bench.config import SECTIONS, Preset, explain, preset
from bench.data.datasets import get_dataset
from bench.environment import environment, resolve_device
from bench.errors import DataError, UsageError, unknown_name
from bench.phases import Place, carry_out
from bench.plan import Plan, Planner, Row, Task
from bench.progress import Display
from bench.registry import Methods, load_methods, source_hash
from bench.results import (
    DeliveryRecord,
    Environment,
    Hypotheses,
    MethodRecord,
    Parameters,
    Phase,
    Record,
    Score,
    Stored,
    Training,
    check_hypotheses,
    parse_record,
    read_records,
    write_record,
)
from bench.store import Store
from bench.sweep.executor import Failure, Slots, default_slots, execute
from bench.track import CometTracker
from leaderboard.site import build


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    methods: tuple[str, ...]
    """Names, or ``all``."""
    dataset: str = "synthetic"
    languages: tuple[str, str] | None = None
    preset: str = "quick"
    seeds: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """``method.key`` or ``section.key`` of the preset, to its value."""
    workers: int | None = None
    device: str = "auto"
    runs: Path = Path("runs")
    data_dir: Path | None = None
    methods_dir: Path | None = None
    tracker: Literal["none", "comet"] = "none"


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    page: Path
    rows: int
    trained: int
    """Tasks that were carried out; the others were there already."""
    failures: Mapping[str, str]
    """Row and seed, or a method for which nothing could be planned, to the reason."""


@dataclass(frozen=True)
class Prepared:
    """A checked request: the plan, where it runs, and what is still to do."""

    request: Request
    languages: tuple[str, str]
    plan: Plan
    place: Place
    methods: Methods
    slots: Slots
    store: Store

    @property
    def missing(self) -> tuple[Task, ...]:
        """The tasks to carry out: those of unscored rows that have no artifact yet, each after what it needs."""
        absent: dict[str, bool] = {}
        needed: dict[str, Task] = {}

        def visit(task: Task) -> None:
            if task.key not in absent:
                absent[task.key] = self.store.find(task.kind, task.key) is None
                if absent[task.key]:
                    for need in task.needs:
                        visit(need)
                    needed[task.key] = task

        for row in self.plan.rows:
            visit(row.scores)
        return tuple(needed.values())


def prepare(request: Request) -> Prepared:
    """Check everything a user can get wrong, before any work.

    Raises:
        UsageError: an unknown name, a value out of range, missing or damaged files.
    """
    methods = load_methods(request.methods_dir)
    names = list(methods.found) if request.methods == ("all",) else list(request.methods)
    for name in names:
        methods.get(name)
    by_method, overrides = _split_settings(request.settings, methods)
    _taking_part(by_method, ["baseline", *names])
    chosen = preset(request.preset, overrides)
    dataset = get_dataset(request.dataset, request.languages)
    device = resolve_device(request.device)
    slots = default_slots(device)
    if request.workers:
        slots = Slots(request.workers, max(1, slots.workers * slots.threads // request.workers))
    planner = Planner(dataset.name, dataset.identity(request.data_dir), chosen, methods, device.split(":")[0])
    plan = planner.plan(names, by_method, range(1, (request.seeds or chosen.seeds) + 1))
    store = Store(request.runs / "artifacts")
    place = Place(store.root, request.dataset, request.languages, request.data_dir, request.methods_dir, device)
    prepared = Prepared(request, dataset.languages, plan, place, methods, slots, store)
    for row in plan.rows:
        try:
            _failed(prepared, row, Failure("not run yet"))  # whatever no record could hold shows here
        except ValidationError as error:
            raise UsageError(f"{row.id} cannot be recorded: {explain(error)}") from error
    return prepared


def run(request: Request, console: Console) -> Outcome:
    """Carry out what is missing, write a record for every row and build the page.

    Raises:
        UsageError: wrong input, or no space left.
    """
    prepared = prepare(request)
    plan, missing = prepared.plan, prepared.missing
    if request.methods == ("all",):
        for name, reason in prepared.methods.broken.items():
            console.print(f"left out: {name}: {reason}", markup=False, highlight=False)
    recorder = _Recorder(prepared, failures=dict(plan.left_out))
    if request.tracker == "comet":
        recorder.tracker = CometTracker(request.runs / "comet", partial(console.print, markup=False, highlight=False))
    for row in plan.rows:
        recorder.record(row)
    if missing:
        console.print(f"{len(missing)} of {len(plan.tasks)} tasks to do, {prepared.slots.workers} at a time.")
        with Display(len(missing), console) as display:
            recorder.display = display
            execute(missing, partial(_work, place=prepared.place), prepared.slots, recorder)
    reading = read_records([request.runs / "records"])
    page = build(reading.records, request.runs / "leaderboard", notes=list(reading.problems))
    return Outcome(page, len(plan.rows) + len(plan.left_out), len(missing), recorder.failures)


class PhaseError(Exception):
    """A phase of some rows cannot be carried out; the message says why in one line."""


def _work(task: Task, report: Any, *, place: Place) -> None:
    try:
        carry_out(task, place, report)
    except UsageError as error:
        if task.kind in ("tokenizer", "corpus"):
            raise  # every row rests on these, and they on nothing but the user's text and sizes
        raise PhaseError(str(error)) from error


def _split_settings(settings: Mapping[str, Any], methods: Methods) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    by_method: dict[str, dict[str, Any]] = {}
    overrides: dict[str, Any] = {}
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        if head in methods.found and rest:
            by_method.setdefault(head, {})[rest] = value
        elif head in SECTIONS or key in Preset.model_fields:
            overrides[key] = value
        else:
            raise unknown_name("setting", key, [f"{name}.…" for name in (*methods.found, *SECTIONS)])
    return by_method, overrides


def _taking_part(by_method: Iterable[str], names: Iterable[str]) -> None:
    for method in by_method:
        if method not in names:
            raise UsageError(f"--set gives settings of {method}, which --methods leaves out: add it there.")


@dataclass
class _Recorder:
    """Watches the executor and writes each row's record as soon as its scores are there."""

    prepared: Prepared
    display: Display | None = None
    tracker: CometTracker | None = None
    failures: dict[str, str] = field(default_factory=dict)

    def started(self, task: Task) -> None:
        if self.display:
            self.display.started(task)

    def advanced(self, task: Task, done: int, total: int, note: str) -> None:
        if self.display:
            self.display.advanced(task, done, total, note)

    def finished(self, task: Task, failure: Failure | None) -> None:
        if self.display:
            self.display.finished(task, failure)
        for row in self.prepared.plan.rows:
            if row.scores.key == task.key:
                self.record(row, failure)

    def record(self, row: Row, failure: Failure | None = None) -> None:
        """Write the record of a row that is scored or has failed; leave one that says the same."""
        prepared = self.prepared
        folder = prepared.request.runs / "records" / prepared.plan.dataset
        if failure:
            self.failures[f"{row.id}, seed {row.seed}"] = failure.reason
            write_record(folder, _failed(prepared, row, failure), {})
        elif prepared.store.find("scores", row.scores.key):
            if not _recorded(folder, row):
                write_record(folder, *self._finished(row))
            if self.tracker:
                model = prepared.store.get(row.model.kind, row.model.key)
                self.tracker.track(folder / f"{row.id}.s{row.seed}.json", model.folder / "history.json")

    def _finished(self, row: Row) -> tuple[Record, dict[str, list[str]]]:
        prepared, store = self.prepared, self.prepared.store
        scores, model = store.get("scores", row.scores.key), store.get(row.model.kind, row.model.key)
        lines = {
            name: (scores.folder / f"{name}.txt").read_text(encoding="utf-8").split("\n")[:-1]
            for name in scores.details["sets"]
        }
        corpus = next(task for task in row.scores.upstream() if task.kind == "corpus")
        shape = prepared.plan.preset.teacher if row.role == "teacher" else None
        architecture = shape.model_dump(mode="json") if shape else row.model.inputs["architecture"]
        depth = row.delivery.depth
        trained = {name: model.details[name] for name in Training.model_fields}
        record = Record(
            **_identity(prepared, row),
            status="ok",
            model=architecture | {"encoder_layers": depth.encoder, "decoder_layers": depth.decoder},
            parameters=Parameters(**scores.details["parameters"]),
            scores={
                name: Score(**values, hypotheses=Hypotheses.of(row.id, row.seed, name, lines[name]))
                for name, values in scores.details["sets"].items()
            },
            primary=store.get("corpus", corpus.key).details["tests"][0],
            training=Training(**trained),
            phases=tuple(phase for task in row.scores.upstream() for phase in self._phases(row, task)),
            artifacts=_artifacts(row),
            environment=Environment(**model.details["environment"]),
        )
        return record, lines

    def _phases(self, row: Row, task: Task) -> list[Phase]:
        """What a task cost, and over how many rows of this plan the cost is divided."""
        artifact = self.prepared.store.get(task.kind, task.key)
        rows = self.prepared.plan.rows
        if task.kind == "teacher" and row.role != "teacher":
            rows = tuple(other for other in rows if other.role != "teacher")
        own = task.key == row.model.key
        kind: Any = {"teacher": "training" if own else "teacher", "student": "training", "text": "distillation"}.get(
            task.kind, "evaluation" if task.kind == "scores" else "common"
        )
        shared = 1 if own and task.kind == "teacher" else sum(task in other.scores.upstream() for other in rows)
        tokens = artifact.details.get("target_tokens")
        return [
            Phase(
                name=name if name.startswith("teacher") else f"{task.kind}: {name}",
                kind=kind,
                seconds=seconds,
                target_tokens=tokens if name in ("training", "teacher decoding") else None,
                shared_by=shared,
                artifact=task.key,
            )
            for name, seconds in artifact.details["seconds"].items()
        ]


def _failed(prepared: Prepared, row: Row, failure: Failure) -> Record:
    return Record(
        **_identity(prepared, row),
        status="failed",
        reason=failure.reason,
        error_log=failure.log or None,
        primary="test",
        environment=Environment(**environment(prepared.place.device, "unknown")),
    )


def _identity(prepared: Prepared, row: Row) -> dict[str, Any]:
    """What a record says of its row before anything is run."""
    method = prepared.methods.get("baseline" if row.role == "teacher" else row.method)
    paper = method.paper
    summary = "The model the students learn from, trained alone." if row.role == "teacher" else method.summary
    return {
        "row": row.id,
        "dataset": prepared.plan.dataset,
        "languages": prepared.languages,
        "preset": prepared.plan.preset.name,
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
        "recipe": prepared.plan.preset.model_dump(mode="json"),
        "created": datetime.now(UTC).replace(microsecond=0),
        "command": command(prepared.request, row.method),
    }


def _recorded(folder: Path, row: Row) -> bool:
    """Whether the row's record is there, whole, with its hypotheses, and made from these artifacts."""
    path = folder / f"{row.id}.s{row.seed}.json"
    try:
        stored = Stored(parse_record(path.read_bytes()), folder)
    except (FileNotFoundError, DataError):
        return False
    return stored.record.artifacts == _artifacts(row) and not check_hypotheses(stored)


def _artifacts(row: Row) -> dict[str, str]:
    return {
        f"{task.kind}-{task.key[:8]}" if task.kind == "text" else task.kind: task.key for task in row.scores.upstream()
    }


def command(request: Request, method: str) -> str:
    """The line that makes a row again. Folders of this machine are left out."""
    words = ["python", "-m", "bench", "run", "--methods", "baseline" if method == "teacher" else method]
    words += ["--dataset", request.dataset if request.languages is None else Path(request.dataset).name]
    if request.languages:
        words += ["--langs", ",".join(request.languages)]
    words += ["--preset", request.preset]
    if request.seeds:
        words += ["--seeds", str(request.seeds)]
    for key, value in request.settings.items():
        head, _, rest = key.partition(".")
        if head == method or head in SECTIONS or not rest:
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)
