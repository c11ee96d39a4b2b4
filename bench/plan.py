"""What a run consists of: a graph of tasks, each addressed by the content of its inputs, and the rows they lead to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from bench import ENGINE
from bench.config import Depth, ModelConfig, Preset, TrainConfig
from bench.errors import UsageError
from bench.measure.metrics import Metric
from bench.method import Delivery, Method, TeacherUse, TrainingText
from bench.registry import Methods, source_hash
from bench.results import row_id, shared_part
from bench.store import content_hash
from bench.sweep.space import Point, Space, space_of, with_point

Kind = Literal[
    "tokenizer", "corpus", "teacher", "text", "signals", "student", "dev", "sweep", "scores", "metric", "speed"
]

FROM_TEACHER: tuple[Kind, ...] = ("teacher", "text", "signals")
"""What a student can need of a teacher: the model, its translations of the training text, and its distributions."""

TRIAL_SEED = 0
"""Of every trial: a seed that no final run has, so that no final run is one that was selected."""


@dataclass(frozen=True, eq=False)
class Task:
    """One phase: a pure function from its inputs and the artifacts it needs to one artifact."""

    kind: Kind
    label: str
    inputs: Mapping[str, Any]
    needs: tuple[Task, ...] = ()
    work: float = 1.0
    """A rough size, to start the long ones first."""
    divisible: bool = False
    """Whether its micro-batches can be cut in parts: its loss is a sum over target tokens."""

    @cached_property
    def key(self) -> str:
        """The address of the artifact."""
        return content_hash(self.inputs)

    @property
    def tolerant(self) -> bool:
        """Whether it can be carried out although some of what it needs has failed."""
        return self.kind == "sweep"

    @property
    def prompt(self) -> bool:
        """Whether it goes first: a sampler learns from a trial's dev BLEU."""
        return self.kind == "dev"

    @property
    def trusted(self) -> bool:
        """Whether no method's code runs in it."""
        return self.kind != "student"

    @cached_property
    def upstream(self) -> tuple[Task, ...]:
        """All tasks this one rests on, itself last."""
        return self._gathered(lambda task: task.upstream)

    @cached_property
    def lineage(self) -> tuple[Task, ...]:
        """The same without the trials behind a sweep: what the result consists of."""
        return self._gathered(lambda task: (task,) if task.kind == "sweep" else task.lineage)

    def _gathered(self, parts: Callable[[Task], tuple[Task, ...]]) -> tuple[Task, ...]:
        seen: dict[str, Task] = {}
        for need in self.needs:
            seen |= {task.key: task for task in parts(need)}
        return (*seen.values(), self)


@dataclass(frozen=True)
class SweepPlan:
    """The search for one method's settings."""

    method: str
    space: Space
    trials: tuple[tuple[Task, Task], ...]
    """Training and dev decoding of each trial, by number. Trials with equal points are the same tasks."""
    task: Task
    """Gathers what came of them and names the winner."""


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard for one seed."""

    id: str
    """The same for every seed."""
    role: Literal["teacher", "baseline", "method"]
    method: str
    title: str
    settings: Mapping[str, Any]
    """The published or given ones; a sweep may choose others."""
    delivery: Delivery
    seed: int
    model: Task
    scores: Task
    sweep: Task | None = None
    metrics: tuple[Task, ...] = ()
    """One for each further metric that was asked for; they rest on the scores and are no part of the row."""

    @property
    def artifacts(self) -> dict[str, str]:
        """The addresses of what it consists of, by the names that its record has for them."""
        return {
            f"{task.kind}-{task.key[:8]}" if task.kind in ("text", "signals") else task.kind: task.key
            for task in self.scores.lineage
        }


@dataclass(frozen=True)
class Plan:
    """The rows that a run is to fill."""

    dataset: str
    preset: Preset
    rows: tuple[Row, ...]
    sweeps: tuple[SweepPlan, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Methods whose own code failed before anything could be planned for them, with the reason."""

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Every task once, each after what it needs."""
        found: dict[str, Task] = {}
        for row in self.rows:
            for last in (row.scores, *row.metrics):
                for task in last.upstream:
                    found.setdefault(task.key, task)
        return tuple(found.values())


@dataclass(frozen=True)
class Planner:
    """Builds the tasks of one data set and preset; equal tasks of different rows become one.

    Args:
        identity: what identifies the corpus: names, versions and checksums.
        device: the kind of device, ``cpu`` or ``cuda``; a model trained on another kind is another artifact.
    """

    dataset: str
    identity: Mapping[str, Any]
    preset: Preset
    methods: Methods
    device: str
    pinned: Collection[str] = ()
    """Dotted names that no sweep searches, because the user gave their values."""
    processes: int = 1
    """That train one model together."""
    metrics: Sequence[Metric] = ()
    """Further ones, by which each row's hypotheses are scored."""
    _tasks: dict[str, Task] = field(default_factory=dict)

    def plan(
        self,
        names: Iterable[str],
        settings: Mapping[str, Mapping[str, Any]],
        seeds: Iterable[int],
        *,
        named: bool = True,
    ) -> Plan:
        """The plan that compares ``names`` with the given settings; the teacher and the plain student always take part.

        Args:
            named: whether the user named these methods. One that does not fit the preset's shapes is then an error;
                otherwise it is left out with its reason.

        Raises:
            UsageError: an unknown method, a setting that breaks a rule, or a named method that does not fit.
        """
        chosen = ["baseline", *(name for name in dict.fromkeys(names) if name != "baseline")]
        rows: list[Row] = []
        sweeps: list[SweepPlan] = []
        left_out: dict[str, str] = {}
        seeds = tuple(seeds)
        for seed in seeds:
            plain = self.methods.get("baseline")(settings.get("baseline"))
            rows.append(self._row("teacher", plain, self._whole(self.preset.teacher), seed, self._teacher(seed)))
        for name in chosen:
            try:
                method = self.methods.get(name)(settings.get(name))
                sweep = self._sweep(method, seeds[0]) if self.preset.tuning.trials > 1 else None
                rows += [row for seed in seeds for row in self._method(method, seed, sweep)]
                sweeps += [sweep] if sweep else []
            except UsageError as error:
                if named or name in settings:
                    raise
                left_out[name] = str(error)
            except Exception as error:
                left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        return Plan(self.dataset, self.preset, tuple(rows), tuple(sweeps), left_out)

    def _method(self, method: Method, seed: int, sweep: SweepPlan | None) -> list[Row]:
        decided = sweep.task if sweep else None
        student = self._student(self.preset, method, seed, seed, f"{method.name}, seed {seed}", sweep=decided)
        role = "baseline" if method.name == "baseline" else "method"
        deliveries = method.deliveries(self.preset.student, self.preset.teacher)
        return [self._row(role, method, delivery, seed, student, sweep) for delivery in deliveries]

    def _sweep(self, method: Method, first: int) -> SweepPlan:
        """All trials of a method: with the teacher of the first seed, and a student's seed of their own."""
        tuning = self.preset.tuning
        space = space_of(method, self.preset, self.pinned)
        # The number of trials is no part of a trial: a longer sweep begins with those of a shorter one.
        study = {**tuning.model_dump(mode="json", exclude={"trials", "space"}), "space": space.as_json()}
        depths = [list(each.depth) for each in method.deliveries(self.preset.student, self.preset.teacher)]
        if tuning.track == "official":
            drawn = enumerate(space.points(tuning.trials, tuning.seed))
            trials = tuple(self._trial(method, first, number, depths, point=point) for number, point in drawn)
        else:
            numbers = range(tuning.trials)
            trials = tuple(
                self._trial(method, first, number, depths, asked={"study": study, "trial": number})
                for number in numbers
            )
        inputs: dict[str, Any] = {"method": method.name, "study": study, "trials": tuning.trials}
        needs = {dev.key: dev for _, dev in trials}
        task = self._task("sweep", f"sweep of {method.name}", inputs, *needs.values(), work=0.01)
        return SweepPlan(method.name, space, trials, task)

    def _trial(
        self,
        method: Method,
        first: int,
        number: int,
        depths: list[list[int]],
        *,
        point: Point | None = None,
        asked: Mapping[str, Any] | None = None,
    ) -> tuple[Task, Task]:
        """One training with the values of a point, or those asked for when it starts, and its dev BLEU."""
        label, point = f"{method.name}, trial {number}", point or {}
        preset, tried = self.preset.at(shared_part(method.name, point)), with_point(method, point)
        student = self._student(preset, tried, TRIAL_SEED, first, label, asked=asked)
        inputs = {
            "depths": depths,
            "search": self.preset.search.model_dump(mode="json"),
            "device": self.device,
        }
        size = _size(self.preset.teacher)
        return student, self._task("dev", f"dev BLEU of {label}", inputs, student, self._corpus(), work=size * 1e5)

    @staticmethod
    def _whole(shape: ModelConfig) -> Delivery:
        return Delivery(name="teacher", depth=shape.depth)

    def _task(
        self, kind: Kind, label: str, inputs: dict[str, Any], *needs: Task, work: float = 1.0, divisible: bool = False
    ) -> Task:
        keys = {"kind": kind, "engine": ENGINE[kind], "needs": [need.key for need in needs]}
        task = Task(kind, label, keys | inputs, needs, work, divisible)
        return self._tasks.setdefault(task.key, task)

    def _tokenizer(self) -> Task:
        inputs = {
            "data": self.identity,
            "tokenizer": self.preset.tokenizer.model_dump(mode="json"),
            "train_pairs": self.preset.train_pairs,
        }
        return self._task("tokenizer", "tokenizer", inputs)

    def _corpus(self) -> Task:
        inputs = {"train_pairs": self.preset.train_pairs, "dev_pairs": self.preset.dev_pairs}
        return self._task("corpus", "encoded corpus", inputs, self._tokenizer())

    def _teacher(self, seed: int) -> Task:
        shape, training = self.preset.teacher, self.preset.teacher_training
        inputs = {
            "source": source_hash(self.methods.get("baseline")),
            "architecture": shape.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
            "selection": self._selection(training),
            "seed": seed,
            "device": self.device,
            **self._charged(),
        }
        work = training.target_tokens * _size(shape) * 3
        return self._task("teacher", f"teacher, seed {seed}", inputs, self._corpus(), work=work, divisible=True)

    def _charged(self) -> dict[str, str]:
        """Where the teacher's work is done, if its time is taken from a student's: then it has to be done there."""
        return {"place": self.preset.budget.place} if self.preset.budget.kind == "device-hours" else {}

    def _selection(self, training: TrainConfig) -> dict[str, Any] | None:
        """The search behind dev BLEU, greedy, where that chooses the checkpoint."""
        greedy = self.preset.search.model_copy(update={"beam": 1})
        return greedy.model_dump(mode="json") if training.select == "bleu" else None

    def _text(self, text: TrainingText, seed: int) -> Task | None:
        if text.origin == "original":
            return None
        search = self.preset.search.model_copy(update={"beam": text.beam})
        inputs = {"text": text.model_dump(mode="json"), "search": search.model_dump(mode="json"), "device": self.device}
        inputs |= self._charged()
        label = f"teacher's text (beam {text.beam}, {text.choose}), seed {seed}"
        work = self.preset.teacher_training.target_tokens * _size(self.preset.teacher) * text.beam / 10
        return self._task("text", label, inputs, self._corpus(), self._teacher(seed), work=work)

    def _signals(self, text: Task | None, seed: int) -> Task:
        """The teacher's distributions on a text that it made, or on the corpus, for all students and trials alike."""
        inputs = {"top_k": self.preset.signals.top_k, "text": text.key if text else None, "device": self.device}
        inputs |= self._charged()
        label = f"teacher's signals{' on its text' if text else ''}, seed {seed}"
        needs = (self._corpus(), self._teacher(seed), *([text] if text else []))
        work = self.preset.teacher_training.target_tokens * _size(self.preset.teacher) / 10
        return self._task("signals", label, inputs, *needs, work=work)

    def _student(
        self,
        preset: Preset,
        method: Method,
        seed: int,
        teacher_seed: int,
        label: str,
        *,
        sweep: Task | None = None,
        asked: Mapping[str, Any] | None = None,
    ) -> Task:
        """One training of a method's network.

        Args:
            sweep: what decides on the values that this training takes in place of the preset's and the method's.
            asked: the open track's study and the trial's number, for values that are known only when it starts.
        """
        if self.processes > 1 and not method.divisible():
            raise UsageError(
                f"{method.name}: its loss depends on which pairs share a batch, so --processes cannot share one out."
            )
        shape = method.architecture(preset.student, preset.teacher)
        texts = [self._text(stage.text, teacher_seed) for stage in method.stages()]
        teacher = self._teacher(teacher_seed) if method.teacher is TeacherUse.FROZEN else None
        cached = preset.signals.kind == "cached" and teacher is not None and method.distributions_only
        if cached and method.ranked() > preset.signals.top_k:
            raise UsageError(
                f"{method.name}: it ranks {method.ranked()} of the teacher's tokens, but signals.top_k keeps only "
                f"{preset.signals.top_k}."
            )
        signals = [self._signals(text, teacher_seed) for text in texts] if cached else []
        training = preset.training
        if preset.budget.kind == "wall-clock":
            training = training.model_copy(update={"seconds": preset.budget.amount})
        inputs = {
            "method": method.name,
            "source": source_hash(type(method)),
            "settings": method.settings.model_dump(mode="json"),
            "architecture": shape.model_dump(mode="json"),
            "teacher_architecture": preset.teacher.model_dump(mode="json"),
            "student_architecture": preset.student.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
            "selection": self._selection(preset.training),
            "teacher": teacher.key if teacher else None,
            "texts": [text.key if text else None for text in texts],
            "seed": seed,
            "device": self.device,
        }
        inputs |= {"signals": [each.key for each in signals]} if signals else {}
        inputs |= {"sweep": sweep.key} if sweep else {}
        inputs |= {"asked": asked} if asked else {}
        # In device-hours the student pays for the teacher it learns from: what is left is known when that is there.
        inputs |= {"device_hours": preset.budget.amount} if preset.budget.kind == "device-hours" else {}
        inputs |= {"place": preset.budget.place} if preset.budget.place else {}
        needs = {task.key: task for task in (self._corpus(), teacher, *texts, *signals, sweep) if task is not None}
        passes = {TeacherUse.NONE: 3.0, TeacherUse.FROZEN: 7.0, TeacherUse.JOINT: 9.0}[method.teacher]
        work = preset.training.target_tokens * _size(shape) * passes
        return self._task("student", label, inputs, *needs.values(), work=work, divisible=method.divisible())

    def _row(
        self, role: Any, method: Method, delivery: Delivery, seed: int, model: Task, sweep: SweepPlan | None = None
    ) -> Row:
        name = "teacher" if role == "teacher" else method.name
        search = self.preset.search.model_dump(mode="json")
        inputs = {"depth": list(delivery.depth), "search": search, "device": self.device}
        label = f"scores of {name} {delivery.depth}, seed {seed}"
        scores = self._task("scores", label, inputs, model, self._corpus(), work=_size(self.preset.teacher) * 1e5)
        settings = {} if role == "teacher" else method.settings.model_dump(mode="json")
        recipe = {
            "data": self.identity,
            "device": self.device,
            "source": source_hash(type(method)),
            "settings": settings,
            "space": sweep.space.as_json() if sweep else None,
            "engine": row_engine(self.preset),
            **{key: value for key, value in self.preset.recipe().items() if key not in ("description", "seeds")},
        }
        return Row(
            id=row_id(name, delivery.depth, self.preset.name, content_hash(recipe)),
            role=role,
            method=name,
            title="Teacher" if role == "teacher" else method.title,
            settings=settings,
            delivery=delivery,
            seed=seed,
            model=model,
            scores=scores,
            sweep=sweep.task if sweep else None,
            metrics=tuple(self._metric(metric, scores) for metric in self.metrics),
        )

    def _metric(self, metric: Metric, scores: Task) -> Task:
        inputs = {"metric": metric.name, "signature": metric.signature}
        label = f"{metric.name} of {scores.label.removeprefix('scores of ')}"
        return self._task("metric", label, inputs, scores, self._corpus(), work=0.01)


def row_engine(preset: Preset) -> dict[str, int]:
    """The versions that a row depends on: further metrics and its speed are measured of it, and make it no other row.

    Nor does what its run has no use for.
    """
    without = ("metric", "speed") if preset.signals.kind == "cached" else ("metric", "speed", "signals")
    return {kind: version for kind, version in ENGINE.items() if kind not in without}


def depth_of(task: Task) -> Depth:
    """The depth that a ``scores`` task decodes at."""
    return Depth(*task.inputs["depth"])


def _size(shape: ModelConfig) -> float:
    """Layer weights of a model, in millions: what a training step's time goes with."""
    attention, ffn = 4 * shape.width**2, 2 * shape.width * shape.ffn
    return (shape.encoder_layers * (attention + ffn) + shape.decoder_layers * (2 * attention + ffn)) / 1e6
