"""What of a plan a tracker is told: its recorded rows, and the trials of its sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.curves import HISTORY
from bench.ledger import phases_of
from bench.plan import Row, Task
from bench.request import Prepared
from bench.results import Trial
from bench.store import Artifact
from bench.track import Tracking, TrialOrigin, row_experiment, trial_experiment


def track_row(tracking: Tracking, prepared: Prepared, row: Row, record: Path) -> None:
    """Tell of a row that was recorded; of one whose model was deleted since, nothing new could be said."""
    model = _find(prepared, row.model)
    if model or not _find(prepared, row.scores):
        tracking.track(partial(row_experiment, record.absolute(), _history(model)))


def track_sweeps(tracking: Tracking, prepared: Prepared) -> None:
    """Tell of the trials of every finished sweep."""
    for sweep in prepared.plan.sweeps:
        if ended := _find(prepared, sweep.task):
            trials = [Trial.model_validate(trial) for trial in ended.details["trials"]]
            track_trials(tracking, prepared, sweep.task, trials)


def track_trials(tracking: Tracking, prepared: Prepared, task: Task, trials: Sequence[Trial]) -> None:
    """Tell of trials of a sweep, which is named by its task."""
    plan = prepared.plan
    sweep = next(sweep for sweep in plan.sweeps if sweep.task.key == task.key)
    settings = next(row.settings for row in plan.rows if row.sweep and row.sweep.key == task.key)
    origin = TrialOrigin(plan.dataset, prepared.dataset.languages, plan.preset, sweep.method, settings, task.key)
    for trial in trials:
        found = [_find(prepared, each) for each in sweep.trials[trial.number]]
        phases = tuple(phase for artifact in found if artifact for phase in phases_of(artifact, "tuning"))
        tracking.track(partial(trial_experiment, trial, origin, phases, _history(found[0])))


def _find(prepared: Prepared, task: Task) -> Artifact | None:
    return prepared.store.find(task.kind, task.key)


def _history(model: Artifact | None) -> Path | None:
    """Where the curves of a training are; absolute, for the tracker's process."""
    return (model.folder / HISTORY).absolute() if model else None
