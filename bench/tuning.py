"""The sweeps of a run: gives each trial its values, keeps what comes of it, and hands the whole to the sweep's task."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config import Preset
from bench.phases.base import device_seconds
from bench.plan import SweepPlan, Task
from bench.results import Trial
from bench.store import Store
from bench.sweep.executor import Failure
from bench.sweep.study import Study, open_study, versions


@dataclass(eq=False)
class _Search:
    """A sweep that is under way."""

    plan: SweepPlan
    study: Study
    cause: Failure | None = None
    """Why its trials could not be run, where that was no trial's doing."""

    def numbers(self, task: Task) -> list[int]:
        """The trials that a task belongs to; several, where their points are equal."""
        return [number for number, pair in enumerate(self.plan.trials) if task.key in (pair[0].key, pair[1].key)]


class Tuning(AbstractContextManager["Tuning"]):
    """Keeps the studies of the sweeps that are not finished.

    Args:
        sweeps: those whose winner is not known yet.
        folder: where journals are kept.
        storage: the address of another Optuna storage, in place of journals.
        processes: that carry out a training together, each on a device of its own.

    Raises:
        UsageError: the storage cannot be used, or another run is keeping one of the studies.
    """

    def __init__(
        self,
        sweeps: Sequence[SweepPlan],
        dataset: str,
        preset: Preset,
        store: Store,
        folder: Path,
        storage: str | None,
        *,
        processes: int = 1,
    ) -> None:
        self._store, self._processes = store, processes
        self._searches: list[_Search] = []
        self._by_task: dict[str, _Search] = {}
        self._open = ExitStack()
        # A storage may serve several run folders, each with artifacts and so with studies of its own.
        place = f".{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}" if storage else ""
        with ExitStack() as opened:
            for plan in sweeps:
                # On the open track a longer sweep goes on with the study of a shorter one; an official list is its own.
                # What a trial's dev BLEU follows from, search included, is in the address of its decoding of dev.
                identity = plan.task if preset.tuning.track == "official" else plan.trials[0][1]
                name = f"{dataset}.{plan.method}.{identity.key[:8]}{place}"
                study = open_study(name, plan.space, preset.tuning, folder / f"{name}.journal", storage)
                opened.callback(study.close)
                search = _Search(plan, study)
                self._searches.append(search)
                for task in (plan.task, *(each for pair in plan.trials for each in pair)):
                    self._by_task[task.key] = search
                self._catch_up(search)
            self._open = opened.pop_all()

    def __exit__(self, *_: Any) -> None:
        self._open.close()

    def trials(self, sweep: Task) -> tuple[Trial, ...]:
        """What came of a sweep's trials so far."""
        search = self._by_task.get(sweep.key)
        return search.study.trials() if search else ()

    def known(self) -> dict[str, Failure]:
        """The failures of before that stand, by the key of the trial's training, or of its decoding if that failed."""
        failures = {}
        for search in self._searches:
            for trial in search.study.trials():
                if trial.state != "ok":
                    student, dev = search.plan.trials[trial.number]
                    task = dev if self._store.find(student.kind, student.key) else student
                    failures[task.key] = Failure(trial.reason or "", state=trial.state, seconds=trial.seconds)
        return failures

    def assign(self, task: Task) -> Any:
        """What only the driver knows and the task needs: an asked trial's values, or what came of all trials."""
        if not (search := self._by_task.get(task.key)):
            return None
        if task.kind == "sweep":
            if search.cause:
                return {"cause": str(search.cause), "state": search.cause.state}
            trials = [trial.model_dump(mode="json") for trial in search.study.trials()]
            return {"trials": trials, "importances": search.study.importances(), "versions": versions()}
        return search.study.begin(search.numbers(task)[0]) if "asked" in task.inputs else None

    def advanced(self, task: Task, value: tuple[int, float]) -> str | None:
        """Tell the study of a trial's evaluation; why the trial should be stopped, if it should."""
        search = self._by_task.get(task.key)
        if search is None or task.kind != "student":
            return None
        number, measure = value
        if not search.study.report(search.numbers(task)[0], number, measure):
            return None
        return f"behind the other trials at evaluation {number}"

    def finished(self, task: Task, failure: Failure | None) -> None:
        """Tell the study how a trial ended: with its dev BLEU, or with the failure of its training or decoding."""
        search = self._by_task.get(task.key)
        if search is None or task.kind == "sweep":
            return
        if failure and failure.origin:
            # A decoding without its training, of which the study was told; or a training without its teacher.
            search.cause = failure if task.kind == "student" else search.cause
            return
        devices = self._processes if task.kind == "student" else 1
        for number in search.numbers(task):
            if failure:
                search.study.finish(self._failed(search, number, failure, devices))
            elif task.kind == "dev":
                search.study.finish(self._succeeded(search, number))

    def _catch_up(self, search: _Search) -> None:
        """Tell the study of trials that ended when nobody was there to tell it: the artifacts are the truth."""
        for number, (student, dev) in enumerate(search.plan.trials):
            if self._store.find(dev.kind, dev.key):
                search.study.finish(self._succeeded(search, number))
            elif "asked" in student.inputs and (trained := self._store.find(student.kind, student.key)):
                search.study.trained(number, trained.details["point"])

    def _succeeded(self, search: _Search, number: int) -> Trial:
        student, dev = (self._store.get(task.kind, task.key) for task in search.plan.trials[number])
        values = student.details["point"] if "asked" in student.inputs else search.study.begin(number)
        return Trial(
            number=number,
            values=dict(values),
            state="ok",
            bleu=dev.details["bleu"],
            seconds=self._seconds(search, number, 0.0),
            target_tokens=student.details["target_tokens"] if self._is_first(search, number) else 0,
        )

    def _failed(self, search: _Search, number: int, failure: Failure, devices: int) -> Trial:
        values = dict(search.study.begin(number))
        seconds = self._seconds(search, number, failure.seconds * devices)
        return Trial(number=number, values=values, state=failure.state, reason=failure.reason, seconds=seconds)

    def _is_first(self, search: _Search, number: int) -> bool:
        """Whether no earlier trial has the same point, and so the same training."""
        return number == search.numbers(search.plan.trials[number][0])[0]

    def _seconds(self, search: _Search, number: int, lost: float) -> float:
        """The device time a trial took: its artifacts and ``lost`` besides; none where an earlier one had its point."""
        if not self._is_first(search, number):
            return 0.0
        found = (self._store.find(task.kind, task.key) for task in search.plan.trials[number])
        return lost + sum(device_seconds(artifact) for artifact in found if artifact)
