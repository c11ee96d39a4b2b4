"""The sweeps of a run: gives each trial its values, keeps what comes of it, and hands the whole to the sweep's task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.plan import SweepPlan, Task
from bench.results import Trial
from bench.store import Store
from bench.sweep.executor import Failure
from bench.sweep.study import Study, open_study, versions


@dataclass(frozen=True)
class _Search:
    """A sweep that is under way."""

    plan: SweepPlan
    study: Study
    evaluations: int

    def numbers(self, task: Task) -> list[int]:
        """The trials that a task belongs to; several, where their points are equal."""
        return [number for number, pair in enumerate(self.plan.trials) if task.key in (pair[0].key, pair[1].key)]


class Tuning(AbstractContextManager["Tuning"]):
    """Keeps the studies of the sweeps that are not finished.

    Args:
        sweeps: those whose winner is not known yet.
        folder: where journals are kept.
        storage: the address of another Optuna storage, in place of journals.

    Raises:
        UsageError: the storage cannot be used, or another run is keeping one of the studies.
    """

    def __init__(
        self, sweeps: Sequence[SweepPlan], dataset: str, preset: Any, store: Store, folder: Path, storage: str | None
    ) -> None:
        self._store = store
        self._searches: dict[str, _Search] = {}
        for plan in sweeps:
            # On the open track a longer sweep goes on with the study of a shorter one; an official list is its own.
            identity = plan.task if preset.tuning.track == "official" else plan.trials[0][0]
            name = f"{dataset}.{plan.method}.{identity.key[:8]}"
            study = open_study(name, plan.space, preset.tuning, storage or folder / f"{name}.journal")
            search = _Search(plan, study, preset.training.evaluations)
            for task in (plan.task, *(each for pair in plan.trials for each in pair)):
                self._searches[task.key] = search
            self._catch_up(search)

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for search in self._searches.values():
            search.study.close()

    def known(self) -> dict[str, Failure]:
        """The trials that have failed before, by the key of their training: they are not run again."""
        failures = {}
        for search in set(self._searches.values()):
            for trial in search.study.trials():
                if trial.state != "ok":
                    key = search.plan.trials[trial.number][0].key
                    failures[key] = Failure(trial.reason or "", state=trial.state, seconds=trial.seconds)
        return failures

    def assign(self, task: Task) -> Any:
        """What only the driver knows and the task needs: an asked trial's values, or what came of all trials."""
        if not (search := self._searches.get(task.key)):
            return None
        if task.kind == "sweep":
            trials = [trial.model_dump(mode="json") for trial in search.study.trials()]
            return {"trials": trials, "importances": search.study.importances(), "versions": versions()}
        return search.study.begin(search.numbers(task)[0]) if "asked" in task.inputs else None

    def advanced(self, task: Task, done: int, total: int, value: float | None) -> str | None:
        """Tell the study of a trial's evaluation; why the trial should be stopped, if it should."""
        search = self._searches.get(task.key)
        if search is None or value is None or task.kind != "student":
            return None
        step = round(search.evaluations * done / total)
        if not search.study.report(search.numbers(task)[0], step, value):
            return None
        return f"behind the other trials at evaluation {step} of {search.evaluations}"

    def finished(self, task: Task, failure: Failure | None) -> None:
        """Tell the study how a trial ended: with its dev BLEU, or with the failure of its training or decoding."""
        search = self._searches.get(task.key)
        if search is None or task.kind == "sweep":
            return
        if failure and task.kind == "dev" and failure.origin:
            return  # that its training failed was told before
        for number in search.numbers(task):
            if failure:
                values = dict(search.study.begin(number))
                reason, state = str(failure), failure.state
                trial = Trial(number=number, values=values, state=state, reason=reason, seconds=failure.seconds)
                search.study.finish(trial)
            elif task.kind == "dev":
                search.study.finish(self._outcome(search, number))

    def _catch_up(self, search: _Search) -> None:
        """Tell the study of trials that ended when nobody was there to tell it: the artifacts are the truth."""
        for number, (_, dev) in enumerate(search.plan.trials):
            if self._store.find(dev.kind, dev.key):
                search.study.finish(self._outcome(search, number))

    def _outcome(self, search: _Search, number: int) -> Trial:
        student, dev = (self._store.get(task.kind, task.key) for task in search.plan.trials[number])
        values = student.details["point"] if "asked" in student.inputs else search.study.begin(number)
        # A trial whose point was tried before is the same artifacts, which cost nothing more.
        anew = number == search.numbers(search.plan.trials[number][0])[0]
        seconds = sum(sum(artifact.details["seconds"].values()) for artifact in (student, dev)) if anew else 0.0
        return Trial(
            number=number,
            values=dict(values),
            state="ok",
            bleu=dev.details["bleu"],
            seconds=seconds,
            target_tokens=student.details["target_tokens"],
        )
