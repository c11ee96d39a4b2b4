"""What a run consists of: a graph of tasks, each addressed by the content of its inputs, and the rows they lead to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from bench import ENGINE
from bench.config import Depth, ModelConfig, Preset, TrainConfig
from bench.errors import UsageError
from bench.method import Delivery, Method, TeacherUse, TrainingText
from bench.registry import Methods, source_hash
from bench.results import row_id
from bench.store import content_hash

Kind = Literal["tokenizer", "corpus", "teacher", "text", "student", "scores"]


@dataclass(frozen=True, eq=False)
class Task:
    """One phase: a pure function from its inputs and the artifacts it needs to one artifact."""

    kind: Kind
    label: str
    inputs: Mapping[str, Any]
    needs: tuple[Task, ...] = ()
    work: float = 1.0
    """A rough size, to start the long ones first."""

    @cached_property
    def key(self) -> str:
        """The address of the artifact."""
        return content_hash(self.inputs)

    @property
    def tolerant(self) -> bool:
        """Whether it is carried out although tasks that it needs have failed."""
        return self.kind == "sweep"

    def upstream(self) -> list[Task]:
        """All tasks this one rests on, itself last."""
        seen: dict[str, Task] = {}
        for need in self.needs:
            seen |= {task.key: task for task in need.upstream()}
        return [*seen.values(), self]


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard for one seed."""

    id: str
    """The same for every seed."""
    role: Literal["teacher", "baseline", "method"]
    method: str
    title: str
    settings: Mapping[str, Any]
    delivery: Delivery
    seed: int
    model: Task
    scores: Task


@dataclass(frozen=True)
class Plan:
    """The rows that a run is to fill."""

    dataset: str
    preset: Preset
    rows: tuple[Row, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Methods whose own code failed before anything could be planned for them, with the reason."""

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Every task once, each after what it needs."""
        found: dict[str, Task] = {}
        for row in self.rows:
            for task in row.scores.upstream():
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
        left_out: dict[str, str] = {}
        seeds = tuple(seeds)
        for seed in seeds:
            plain = self.methods.get("baseline")(settings.get("baseline"))
            rows.append(self._row("teacher", plain, self._whole(self.preset.teacher), seed, self._teacher(seed)))
        for name in chosen:
            try:
                method = self.methods.get(name)(settings.get(name))
                rows += [row for seed in seeds for row in self._method(method, seed)]
            except UsageError as error:
                if named or name in settings:
                    raise
                left_out[name] = str(error)
            except Exception as error:
                left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        return Plan(self.dataset, self.preset, tuple(rows), left_out)

    def _method(self, method: Method, seed: int) -> list[Row]:
        student = self._student(method, seed)
        role = "baseline" if method.name == "baseline" else "method"
        deliveries = method.deliveries(self.preset.student, self.preset.teacher)
        return [self._row(role, method, delivery, seed, student) for delivery in deliveries]

    @staticmethod
    def _whole(shape: ModelConfig) -> Delivery:
        return Delivery(name="teacher", depth=shape.depth)

    def _task(self, kind: Kind, label: str, inputs: dict[str, Any], *needs: Task, work: float = 1.0) -> Task:
        keys = {"kind": kind, "engine": ENGINE[kind], "needs": [need.key for need in needs]}
        task = Task(kind, label, keys | inputs, needs, work)
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
        }
        work = training.target_tokens * _size(shape) * 3
        return self._task("teacher", f"teacher, seed {seed}", inputs, self._corpus(), work=work)

    def _selection(self, training: TrainConfig) -> dict[str, Any] | None:
        """The search behind dev BLEU, greedy, where that chooses the checkpoint."""
        greedy = self.preset.search.model_copy(update={"beam": 1})
        return greedy.model_dump(mode="json") if training.select == "bleu" else None

    def _text(self, text: TrainingText, seed: int) -> Task | None:
        if text.origin == "original":
            return None
        search = self.preset.search.model_copy(update={"beam": text.beam})
        inputs = {"text": text.model_dump(mode="json"), "search": search.model_dump(mode="json"), "device": self.device}
        label = f"teacher's text (beam {text.beam}, {text.choose}), seed {seed}"
        work = self.preset.teacher_training.target_tokens * _size(self.preset.teacher) * text.beam / 10
        return self._task("text", label, inputs, self._corpus(), self._teacher(seed), work=work)

    def _student(self, method: Method, seed: int) -> Task:
        preset = self.preset
        shape = method.architecture(preset.student, preset.teacher)
        texts = [self._text(stage.text, seed) for stage in method.stages()]
        teacher = self._teacher(seed) if method.teacher is TeacherUse.FROZEN else None
        needs = {task.key: task for task in (self._corpus(), teacher, *texts) if task is not None}
        inputs = {
            "method": method.name,
            "source": source_hash(type(method)),
            "settings": method.settings.model_dump(mode="json"),
            "architecture": shape.model_dump(mode="json"),
            "teacher_architecture": preset.teacher.model_dump(mode="json"),
            "student_architecture": preset.student.model_dump(mode="json"),
            "training": preset.training.model_dump(mode="json"),
            "selection": self._selection(preset.training),
            "teacher": teacher.key if teacher else None,
            "texts": [text.key if text else None for text in texts],
            "seed": seed,
            "device": self.device,
        }
        passes = {TeacherUse.NONE: 3.0, TeacherUse.FROZEN: 7.0, TeacherUse.JOINT: 9.0}[method.teacher]
        work = preset.training.target_tokens * _size(shape) * passes
        return self._task("student", f"{method.name}, seed {seed}", inputs, *needs.values(), work=work)

    def _row(self, role: Any, method: Method, delivery: Delivery, seed: int, model: Task) -> Row:
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
            "engine": ENGINE,
            **self.preset.model_dump(mode="json", exclude={"description", "seeds"}),
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
        )


def depth_of(task: Task) -> Depth:
    """The depth that a ``scores`` task decodes at."""
    return Depth(*task.inputs["depth"])


def _size(shape: ModelConfig) -> float:
    """Layer weights of a model, in millions: what a training step's time goes with."""
    attention, ffn = 4 * shape.width**2, 2 * shape.width * shape.ffn
    return (shape.encoder_layers * (attention + ffn) + shape.decoder_layers * (2 * attention + ffn)) / 1e6
