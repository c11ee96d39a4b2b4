"""Carries out a plan: tasks in parallel, a record for each finished row, the page at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from bench.config import explain
from bench.errors import UsageError
from bench.further import lacking
from bench.phases import PhaseError, Place, carry_out
from bench.plan import Task
from bench.progress import Display
from bench.publishing import known_here
from bench.recorder import Recorder, failed_record, recorded
from bench.records import read_records
from bench.request import Prepared, Request, resolve
from bench.store import locked
from bench.sweep.executor import Failure, execute
from bench.sweep.local import LocalPool
from bench.sweep.pool import Attempt, Pool, Report, Work
from bench.timing import absent, record_speed, timing
from bench.track import Tracking
from bench.tuning import Tuning
from leaderboard.site import build


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    page: Path
    rows: int
    trained: int
    """Tasks that were carried out; the others were there already."""
    failures: Mapping[str, str]
    """Row and seed, or a method for which nothing could be planned, to the reason."""
    unscored: Mapping[str, str] = field(default_factory=dict)
    """Row, seed and a further metric that failed, to the reason; the row is recorded without it."""


def prepare(request: Request) -> Prepared:
    """Check everything a user can get wrong, before any work.

    Raises:
        UsageError: an unknown name, a value out of range, missing or damaged files, text that no record could hold.
    """
    prepared = resolve(request)
    for row in prepared.plan.rows:
        try:
            failed_record(prepared, row, Failure("not run yet"))  # whatever no record could hold shows here
        except ValidationError as error:
            raise UsageError(f"{row.id} cannot be recorded: {explain(error)}") from error
    return prepared


def missing(prepared: Prepared) -> tuple[Task, ...]:
    """The tasks to carry out, each after what it needs.

    A row needs its scores, and where it has no record yet also all that the record tells of; besides, each further
    metric that its record lacks.
    """
    absent: dict[str, bool] = {}
    needed: dict[str, Task] = {}

    def visit(task: Task) -> None:
        if task.key not in absent:
            absent[task.key] = prepared.store.find(task.kind, task.key) is None
            if absent[task.key]:
                for need in task.needs:
                    visit(need)
                needed[task.key] = task

    for row in prepared.plan.rows:
        stored = recorded(prepared, row)
        for task in [row.scores] if stored else row.scores.lineage:
            visit(task)
        for task in lacking(stored.record, row) if stored else row.metrics:
            visit(task)
    return tuple(needed.values())


def run(request: Request, console: Console) -> Outcome:
    """Carry out what is missing, write a record for every row and build the page.

    Raises:
        UsageError: wrong input, or no space left.
    """
    prepared = prepare(request)
    plan, todo = prepared.plan, missing(prepared)
    broken = prepared.methods.broken if request.methods == ("all",) else {}
    left_out = [f"left out: {name}: {reason}" for name, reason in {**broken, **plan.left_out}.items()]
    for line in left_out:
        console.print(line, markup=False, highlight=False)
    recorder = Recorder(prepared, failures=dict(plan.left_out))
    with _tracking(request, console) as recorder.tracking:
        recorder.record_all()
        if todo:
            console.print(f"{len(todo)} of {len(plan.tasks)} tasks to do, {prepared.slots.workers} at a time.")
            _carry_out(prepared, todo, recorder, console)
            recorder.record_all()
    timed, told = _timed(prepared, recorder, console)
    reading = read_records([request.runs / "records"])
    page = build(
        reading.records,
        request.runs / "leaderboard",
        notes=[*reading.problems, *left_out, *told],
        catalog=known_here(prepared.methods.found, request.data_dir),
    )
    rows, trained = len(plan.rows) + len(plan.left_out), len(todo) + timed
    return Outcome(page, rows, trained, recorder.failures, recorder.unscored)


def _tracking(request: Request, console: Console) -> AbstractContextManager[Tracking | None]:
    if request.tracker == "none":
        return nullcontext()
    return Tracking(request.runs.absolute() / "comet", partial(console.print, markup=False, highlight=False))


def _timed(prepared: Prepared, recorder: Recorder, console: Console) -> tuple[int, list[str]]:
    """Measure the rows' speed, alone on the machine, unless it is there; how many tasks that took, and what went wrong.

    Without a speed a row is whole all the same, so that no row fails here.
    """
    request, place, slots = prepared.request, prepared.place, prepared.slots
    request.runs.mkdir(parents=True, exist_ok=True)
    # Two runs in one folder would disturb and then contradict each other.
    waiting = partial(console.print, "waiting for another run, which measures speed.", highlight=False)
    with locked(request.runs / ".timing.lock", waiting):
        task = timing(prepared)
        if task is None:
            return 0, []
        todo = absent(prepared, task) if request.speed else ()
        alone = replace(
            prepared,
            request=replace(request, workers=1),
            place=replace(place, workers=1, each_gpu=1),
            slots=replace(slots, workers=1),
        )
        failures = _carry_out(alone, todo, recorder, console) if todo else {}
        changed = record_speed(prepared, task)
    if changed:
        with _tracking(request, console) as recorder.tracking:
            recorder.timed(changed)
    told = [f"speed was not measured: {failures[task.key]}"] if task.key in failures else []
    for line in told:
        console.print(line, markup=False, highlight=False)
    return len(todo), told


def _carry_out(prepared: Prepared, todo: Sequence[Task], recorder: Recorder, console: Console) -> Mapping[str, Failure]:
    """Carry out tasks and tell the recorder; the failures by task key."""
    request, plan = prepared.request, prepared.plan
    keys = {task.key for task in todo}
    sweeps = [sweep for sweep in plan.sweeps if sweep.task.key in keys]
    folder = request.runs / "sweeps"
    work = partial(_work, place=prepared.place)
    with (
        Tuning(
            sweeps, plan.dataset, plan.preset, prepared.store, folder, request.storage, processes=request.processes
        ) as tuning,
        closing(_pool(prepared, work)) as pool,
        Display(len(todo), console) as display,
    ):
        recorder.display, recorder.tuning = display, tuning
        try:
            return execute(todo, work, prepared.slots, recorder, pool=pool, known=tuning.known())
        except KeyboardInterrupt:
            left = sum(prepared.store.find(task.kind, task.key) is None for task in todo)
            console.print(f"stopped: {left} of {len(todo)} tasks are left.", highlight=False)
            raise


def _pool(prepared: Prepared, work: Work) -> Pool:
    request, slots = prepared.request, prepared.slots
    if request.cluster == "local":
        return LocalPool(work, slots)
    from bench.sweep.cluster import RayPool

    return RayPool(work, slots, request.cluster, folder=request.runs, workers=request.workers)


def _work(task: Task, attempt: Attempt, report: Report, *, place: Place) -> None:
    try:
        carry_out(task, replace(place, device=attempt.device), report, attempt)
    except UsageError as error:
        if task.kind in ("tokenizer", "corpus"):
            raise  # every row rests on these, and they on nothing but the user's text and sizes
        raise PhaseError(str(error)) from error
