"""The study of one method: which points were tried and what came of them, kept by the driver alone.

Optuna's storage holds it: by default a journal file in the run folder, which an interrupted run reads again.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from bench.config import TuningConfig
from bench.errors import UsageError
from bench.results import Trial
from bench.sweep.space import Point, Space, quiet

if TYPE_CHECKING:
    import optuna

TRIALS_FOR_IMPORTANCES = 10
"""With fewer finished trials nothing can be said of what mattered."""
EARLY = "early trial "
STARTUP_TRIALS = 5
"""Random trials before an open track's sampler begins to learn."""


class Study(ABC):
    """What both tracks share. A trial's number is its place in the study, in Optuna's storage too.

    A trial that ends before one with a smaller number waits for it: noted as an attribute of the study, which outlives
    a killed driver.

    Args:
        name: tells studies of one storage apart.
        journal: the file that keeps the study, and beside it the lock that keeps other runs away.
        storage: the address of another Optuna storage in place of the file.

    Raises:
        UsageError: the storage cannot be used, or another run is keeping this study.
    """

    def __init__(
        self, name: str, space: Space, tuning: TuningConfig, journal: Path, storage: str | None = None
    ) -> None:
        import optuna

        self.name, self.space, self.tuning = name, space, tuning
        self._trained: dict[int, Point] = {}
        self._distributions = {each.name: each.distribution() for each in space.dimensions}
        self._lock = _held(journal)
        try:
            with quiet():
                self._storage = _opened(storage) if storage else _journal(journal)
                self._study = self._load()
                if len(found := self.trials()) == tuning.trials and all(trial.bleu is None for trial in found):
                    # Nothing came of it. Run again, it is tried again, as a failed row without a sweep is.
                    optuna.delete_study(study_name=name, storage=self._storage)
                    self._study = self._load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other runs have the study."""
        self._lock.release()

    @abstractmethod
    def begin(self, number: int) -> Point:
        """The point of a trial that is about to start."""

    def trained(self, number: int, point: Point) -> None:
        """Tell of a trial that was trained with this point and has not ended: the journal may not know of it."""
        self._trained[number] = point

    @abstractmethod
    def _keep(self, trial: Trial) -> bool:
        """Put a finished trial in its place, if all those before it are there; one that is kept stays as it is."""

    def finish(self, trial: Trial) -> None:
        """Keep what came of a trial. A trial that was kept before stays as it is."""
        with quiet():
            if not self._keep(trial):
                self._study.set_user_attr(f"{EARLY}{trial.number}", trial.model_dump(mode="json"))
            while waiting := [each for each in self._early() if self._keep(each)]:
                for each in waiting:
                    self._study.set_user_attr(f"{EARLY}{each.number}", None)

    def report(self, number: int, step: int, value: float) -> bool:
        """Keep a trial's value (higher is better) at an evaluation; whether the trial should be stopped."""
        return False

    def trials(self) -> tuple[Trial, ...]:
        """The finished trials by number, of as many as the recipe has: an open study may hold those of a longer one."""
        return tuple(
            Trial(number=each.number, values=each.params, bleu=_bleu(each), **each.user_attrs)
            for each in self._finished()
        )

    def importances(self) -> dict[str, float] | None:
        """Each value's share in reaching the best tenth of trials (PED-ANOVA, Watanabe et al. 2023)."""
        import optuna

        found = [each for each in self._finished() if _bleu(each) is not None]
        if len(found) < TRIALS_FOR_IMPORTANCES or not self._distributions:
            return None
        with quiet():
            study = optuna.create_study(direction="maximize")
            study.add_trials(found)
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        return {name: float(share) for name, share in shares.items()}

    def _load(self) -> optuna.Study:
        import optuna

        return optuna.create_study(
            study_name=self.name, storage=self._storage, direction="maximize", load_if_exists=True
        )

    def _finished(self) -> list[optuna.trial.FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)[: self.tuning.trials]
        return [each for each in trials if each.state.is_finished()]

    def _early(self) -> list[Trial]:
        """The trials that ended before one with a smaller number."""
        attributes = self._study.user_attrs
        found = [value for name, value in attributes.items() if name.startswith(EARLY) and value]
        return sorted(map(Trial.model_validate, found), key=lambda trial: trial.number)

    def _frozen(self, trial: Trial) -> optuna.trial.FrozenTrial:
        import optuna

        return optuna.trial.create_trial(
            params=dict(trial.values),
            distributions=self._distributions,
            state=_state(trial),
            value=trial.bleu,
            user_attrs=_attributes(trial),
        )


class DrawnStudy(Study):
    """The official track: the points are given, and the study grows in their order, whichever trial ends first."""

    def __init__(
        self, name: str, space: Space, tuning: TuningConfig, journal: Path, storage: str | None = None
    ) -> None:
        self._points = space.points(tuning.trials, tuning.seed)
        super().__init__(name, space, tuning, journal, storage)

    def begin(self, number: int) -> Point:
        return self._points[number]

    def _keep(self, trial: Trial) -> bool:
        held = len(self._study.get_trials(deepcopy=False))
        if trial.number == held:
            self._study.add_trial(self._frozen(trial))
        return trial.number <= held


class SampledStudy(Study):
    """The open track: each point is asked from a sampler that has seen what came of the trials before.

    A sampler that is made anew repeats its first draws, so each question has a sampler of its own, seeded by the
    study's seed and the number of trials it holds. It is asked in memory: in the storage a trial appears with all its
    values at once, whenever the driver is killed.
    """

    def begin(self, number: int) -> Point:
        with quiet():
            while len(trials := self._study.get_trials(deepcopy=False)) <= number:
                # One that has ended already, and whose place the journal has lost, has its point.
                if ended := next((each for each in self._early() if each.number == len(trials)), None):
                    self.finish(ended)
                else:
                    point = self._trained.get(len(trials)) or self._asked(trials)
                    self._study.add_trial(self._running(point))
        return trials[number].params

    def _asked(self, trials: list[optuna.trial.FrozenTrial]) -> Point:
        import optuna

        if not trials:
            return self.space.published
        asked = optuna.create_study(direction="maximize", sampler=self._sampler(len(trials)))
        asked.add_trials(trials)
        point: Point = asked.ask(self._distributions).params
        return point

    def _running(self, point: Point) -> optuna.trial.FrozenTrial:
        import optuna

        running = optuna.trial.TrialState.RUNNING
        return optuna.trial.create_trial(params=dict(point), distributions=self._distributions, state=running)

    def _keep(self, trial: Trial) -> bool:
        import optuna

        trials = self._study.get_trials(deepcopy=False)
        if trial.number == len(trials):  # its artifact outlived the journal
            self._study.add_trial(self._frozen(trial))
        elif trial.number < len(trials) and not trials[trial.number].state.is_finished():
            handle = optuna.trial.Trial(self._study, trials[trial.number]._trial_id)
            for name, value in _attributes(trial).items():
                handle.set_user_attr(name, value)
            self._study.tell(trial.number, trial.bleu, state=_state(trial))
        return trial.number <= len(trials)

    def report(self, number: int, step: int, value: float) -> bool:
        import optuna

        frozen = self._study.get_trials(deepcopy=False)[number]
        if frozen.state.is_finished():
            return False
        with quiet():
            self._study.pruner = self._pruner()
            handle = optuna.trial.Trial(self._study, frozen._trial_id)
            if step not in frozen.intermediate_values:  # a training that goes on from a checkpoint repeats some
                handle.report(value, step)
            return bool(handle.should_prune())

    def _sampler(self, held: int) -> optuna.samplers.BaseSampler:
        import optuna

        digest = hashlib.sha256(f"{self.tuning.seed}/{held}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        if self.tuning.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True
        )

    def _pruner(self) -> optuna.pruners.BasePruner:
        import optuna

        return {
            "none": optuna.pruners.NopPruner,
            "median": optuna.pruners.MedianPruner,
            "halving": optuna.pruners.SuccessiveHalvingPruner,
            "hyperband": optuna.pruners.HyperbandPruner,
        }[self.tuning.pruner]()


def open_study(name: str, space: Space, tuning: TuningConfig, journal: Path, storage: str | None = None) -> Study:
    """The study of this name, begun anew where there is none; see :class:`Study`."""
    kind = DrawnStudy if tuning.track == "official" else SampledStudy
    return kind(name, space, tuning, journal, storage)


def versions() -> dict[str, str]:
    """Of the packages that draw the values."""
    return {package: version(package) for package in ("optuna", "scipy")}


def _state(trial: Trial) -> optuna.trial.TrialState:
    import optuna

    states = optuna.trial.TrialState
    return {"ok": states.COMPLETE, "pruned": states.PRUNED}.get(trial.state, states.FAIL)


def _bleu(trial: optuna.trial.FrozenTrial) -> float | None:
    """Of a finished trial; Optuna gives a pruned one its last report as value, which is no BLEU."""
    return trial.value if trial.state.name == "COMPLETE" else None


def _attributes(trial: Trial) -> dict[str, Any]:
    return trial.model_dump(mode="json", include={"state", "reason", "seconds", "target_tokens"})


def _held(journal: Path) -> FileLock:
    journal.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(journal.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"another run keeps the study {journal.stem}: wait for it, or give another --runs.") from None
    return lock


def _mend(journal: Path) -> None:
    """Drop the half-written last line of a driver that was killed; Optuna would append to it."""
    if not journal.exists():
        return
    content = journal.read_bytes()
    if not content.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)  # Optuna's own, left by a killed driver


def _journal(path: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    _mend(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _opened(address: str) -> Any:
    import optuna

    try:
        return optuna.storages.get_storage(address)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the storage {_without_password(address)} cannot be used: {type(error).__name__}: {said}"
        ) from error


def _without_password(address: str) -> str:
    head, at, rest = address.rpartition("@")
    return f"{head.partition('://')[0]}://...@{rest}" if at else address
