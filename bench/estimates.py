"""How long each task of a plan will take: from past runs, otherwise from a probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch

from bench.config import Depth, ModelConfig, SearchConfig, SpeedConfig, TrainConfig
from bench.data.corpus import Splits
from bench.data.signals import signals_bytes
from bench.data.synthetic import generate
from bench.environment import environment
from bench.errors import UsageError
from bench.method import Method, TeacherUse, TrainingText
from bench.phases.base import device_seconds
from bench.phases.speed import ENGINES
from bench.plan import FROM_TEACHER, Kind, Task
from bench.probe import Probe, ScoringCost, TextCost, text_cost
from bench.rates import PastRuns, Sizes, TrainingCost, TrainingWork, shape_of
from bench.registry import built_in
from bench.request import Prepared
from bench.store import Artifact, content_hash

Basis = Literal["there", "known", "past run", "probe"]
"""What an estimate rests on, the firmest first."""

START_SECONDS = 0.3
"""What a task takes besides what it charges to its phases: its process, and loading what it needs."""
SWEEP_SECONDS = 0.1
METRIC_SECONDS = 5.0
"""Of a further metric that was never computed here."""
SPEED_GREEDY, SPEED_OTHERS, SPEED_LADDER, SPEED_START = 1.4, 0.1, 8, 2.0
"""Of a row's speed: greedy search and beam by the beam's time, another engine's time by the project's decoder's, passes
that look for the best batch, and seconds to start an engine."""
SAMPLE_PAIRS = 2000
"""Training pairs that are encoded to see how long sentences are."""
ASSUMED_LENGTH = 26.0
"""Tokens of a sentence, where no text is read."""

T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """How long one task will take."""

    seconds: float
    """Wall time on one slot; 0 where the artifact is there."""
    basis: Basis


@dataclass
class Estimator:
    """Estimates tasks one by one; what was found out once is not asked again."""

    prepared: Prepared
    probe_seconds: float
    announce: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    timed: dict[str, Any] = field(default_factory=dict)
    """What probes gave, by what was timed."""

    def estimate(self, task: Task) -> Estimate:
        """How long a task that is to do will take."""
        kinds: dict[Kind, Callable[[Task], Estimate]] = {
            "tokenizer": self._tokenizer,
            "corpus": self._corpus,
            "teacher": self._training,
            "text": self._text,
            "signals": self._signals,
            "student": self._training,
            "dev": self._scores,
            "sweep": lambda _: Estimate(SWEEP_SECONDS, "known"),
            "scores": self._scores,
            "metric": self._metric,
            "speed": self._speed,
        }
        found = kinds[task.kind](task)
        return replace(found, seconds=found.seconds + START_SECONDS)

    def processes(self, task: Task) -> int:
        """How many processes carry out a task together."""
        return self.prepared.place.processes if task.kind in ("teacher", "student") else 1

    @cached_property
    def past(self) -> PastRuns:
        place, slots = self.prepared.place, self.prepared.slots
        here = {**environment(place.device, "unknown", slots.workers), "threads": slots.threads}
        planned = {task.key: task.inputs for task in self.prepared.plan.tasks}
        return PastRuns(self.prepared.store, here, place.processes, planned)

    @cached_property
    def probe(self) -> Probe:
        tokenizer = self._there("tokenizer")
        return Probe(
            vocabulary=tokenizer.details["vocabulary"] if tokenizer else self.prepared.plan.preset.tokenizer.vocabulary,
            length=self.sizes["train"]["target_tokens"] / self.sizes["train"]["pairs"],
            device=torch.device(self.prepared.place.device),
            threads=self.prepared.slots.threads,
            seconds=self.probe_seconds,
        )

    @cached_property
    def sizes(self) -> Sizes:
        """Pairs and target tokens of each split: counted where the corpus is encoded, otherwise from a sample."""
        if corpus := self._there("corpus"):
            return corpus.details["sizes"]
        length = self._text_cost.length
        return {name: {"pairs": pairs, "target_tokens": round(pairs * length)} for name, pairs in self._pairs.items()}

    @cached_property
    def _splits(self) -> Splits | None:
        """The text, unless reading it takes long."""
        prepared = self.prepared
        return None if prepared.dataset.sizes else prepared.dataset.load(prepared.request.data_dir)

    @cached_property
    def _pairs(self) -> Mapping[str, int]:
        splits, preset = self._splits, self.prepared.plan.preset
        if splits:
            pairs = {"train": len(splits.train), "dev": len(splits.dev), **{k: len(t) for k, t in splits.tests.items()}}
        else:
            pairs = dict(self.prepared.dataset.sizes)
        limits = {"train": preset.train_pairs, "dev": preset.dev_pairs}
        return {name: min(count, limits.get(name) or count) for name, count in pairs.items()}

    @cached_property
    def _text_cost(self) -> TextCost:
        config = self.prepared.plan.preset.tokenizer
        if self._splits:
            sample = self._splits.train.first(SAMPLE_PAIRS)
            cost = text_cost(sample, config)
            self.notes.append(
                f"sentences of {cost.length:.1f} tokens are assumed, as the first {len(sample):,} training pairs have"
            )
            return cost
        stand_in = generate(train=SAMPLE_PAIRS, dev=1, test=1).train
        cost = text_cost(stand_in, config.model_copy(update={"vocabulary": max(400, config.vocabulary)}))
        self.notes.append(
            f"about {self._pairs['train']:,} training pairs with sentences of {ASSUMED_LENGTH:.0f} tokens are assumed"
        )
        return cost._replace(length=ASSUMED_LENGTH)

    def _there(self, kind: Kind) -> Artifact | None:
        """The finished artifact of the plan's only task of this kind."""
        (task,) = {task.key: task for task in self.prepared.plan.tasks if task.kind == kind}.values()
        return self.prepared.store.find(kind, task.key)

    def _tokenizer(self, task: Task) -> Estimate:
        pairs = self.sizes["train"]["pairs"]
        if rate := self.past.tokenizer(task.inputs):
            return Estimate(pairs * rate, "past run")
        return Estimate(pairs * self._text_cost.tokenizer, "probe")

    def _corpus(self, task: Task) -> Estimate:
        pairs = sum(split["pairs"] for split in self.sizes.values())
        if rate := self.past.corpus(task.inputs):
            return Estimate(pairs * rate, "past run")
        return Estimate(pairs * self._text_cost.encoding, "probe")

    def _training(self, task: Task) -> Estimate:
        config = TrainConfig.model_validate(task.inputs["training"])
        if "device_hours" in task.inputs:
            needed = [need for need in task.lineage if need.kind in FROM_TEACHER]
            left = 3600 * task.inputs["device_hours"] - sum(self._charged(need) for need in needed)
            return Estimate(max(0.0, left) / self.prepared.place.processes, "known")
        if config.seconds:
            return Estimate(config.seconds, "known")
        basis: Basis = "past run"
        if not (cost := self.past.training(task.inputs)):
            basis, cost = "probe", self._once(self.past.steps_of(task.inputs), lambda: self._timed(task, config))
        stages = len(self._method(task).stages())
        work = TrainingWork(
            config.target_tokens, stages * config.evaluations, stages, self.sizes["dev"]["target_tokens"]
        )
        return Estimate(cost.seconds(work), basis)

    def _charged(self, task: Task) -> float:
        """What a budget of device-hours is charged for a task."""
        if artifact := self.prepared.store.find(task.kind, task.key):
            return device_seconds(artifact)
        return self.estimate(task).seconds * self.processes(task)

    def _method(self, task: Task) -> Method:
        name = task.inputs.get("method", "baseline")
        return self.prepared.methods.get(name)(task.inputs.get("settings"))

    def _timed(self, task: Task, config: TrainConfig) -> TrainingCost:
        """The cost of a training by a probe; the plain student's where the method's own code fails."""
        inputs = task.inputs
        teacher, student = (
            ModelConfig.model_validate(inputs.get(f"{name}_architecture", inputs["architecture"]))
            for name in ("teacher", "student")
        )
        method = self._method(task)
        self.announce(f"timing a few steps of {task.label}")
        try:
            cost = self._cost(method, student, teacher, config, self._kept if "signals" in inputs else None)
        except Exception as error:
            if method.name == "baseline":
                raise UsageError(f"a model of the shape {student} cannot be timed here: {error}") from error
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            self.notes.append(f"{method.name} could not be timed ({said}); the plain student's time is taken")
            cost = self.probe.training(self.prepared.methods.get("baseline")(), student, teacher, config)
        if inputs["selection"]:
            search = SearchConfig.model_validate(inputs["selection"])
            shape = ModelConfig.model_validate(inputs["architecture"])
            depths = [delivery.depth for delivery in method.deliveries(student, teacher)]
            greedy = sum(self._decoding(shape, depth, search, "dev") for depth in depths)
            cost = replace(
                cost, evaluated=cost.evaluated + greedy + len(depths) * self._scoring.corpus / self.probe.length
            )
        return replace(cost, token=cost.token / self.prepared.place.processes)

    def _cost(
        self, method: Method, student: ModelConfig, teacher: ModelConfig, config: TrainConfig, signals: int | None
    ) -> TrainingCost:
        """By a probe. A plug-in, which may do anything, is not run here: it gets the time of a method of its kind."""
        if built_in(type(method)):
            return self.probe.training(method, student, teacher, config, signals=signals)
        stand_in = {TeacherUse.NONE: "baseline", TeacherUse.FROZEN: "word_level", TeacherUse.JOINT: "aio_kd"}[
            method.teacher
        ]
        note = f"plug-ins are not run to be timed; {method.name} takes as long as {stand_in}"
        self.notes.extend([note] if note not in self.notes else [])
        return self.probe.training(self.prepared.methods.get(stand_in)(), student, teacher, config, signals=signals)

    def _scores(self, task: Task) -> Estimate:
        inputs = task.inputs
        depths = [Depth(*depth) for depth in inputs.get("depths") or [inputs["depth"]]]
        sets = ["dev"] if task.kind == "dev" else [name for name in self.sizes if name != "train"]
        tokens = sum(self.sizes[name]["target_tokens"] for name in sets)
        if rate := self.past.decoding(inputs, depths):
            return Estimate(tokens * rate, "past run")
        single = [self.past.decoding(inputs, [depth]) for depth in depths]
        if all(single):
            return Estimate(tokens * sum(filter(None, single)), "past run")
        (model,) = [need for need in task.needs if need.kind in ("teacher", "student")]
        shape, search = (
            ModelConfig.model_validate(model.inputs["architecture"]),
            SearchConfig.model_validate(inputs["search"]),
        )
        scoring = self._scoring.corpus / self.probe.length
        rate = sum(self._decoding(shape, depth, search, *sets) + scoring for depth in depths)
        return Estimate(tokens * rate, "probe")

    def _metric(self, task: Task) -> Estimate:
        tokens = sum(sizes["target_tokens"] for name, sizes in self.sizes.items() if name != "train")
        if rate := self.past.metric(task.inputs):
            return Estimate(tokens * rate, "past run")
        note = f"each further metric takes {METRIC_SECONDS:g} s; COMET may take minutes"
        self.notes.extend([note] if note not in self.notes else [])
        return Estimate(METRIC_SECONDS, "known")

    def _speed(self, task: Task) -> Estimate:
        rows, protocol = len(task.inputs["rows"]), SpeedConfig.model_validate(task.inputs["protocol"])
        if rate := self.past.speed(task.inputs):
            return Estimate(rows * rate, "past run")
        self.announce("timing the search as speed will be measured")
        preset, length = self.prepared.plan.preset, self.probe.length
        alone = preset.search.model_copy(update={"batch_sentences": 1})
        batched, single = (
            sentences * length * self.probe.decoding(preset.student, search, sentences)
            for search, sentences in ((preset.search, protocol.sentences), (alone, protocol.latency_sentences))
        )
        passes = protocol.rounds * (protocol.warmup + protocol.passes_of_round)
        ours = SPEED_GREEDY * ((2 * passes + SPEED_LADDER) * batched + passes * single)
        others = len(ENGINES[task.inputs["device"]]) - 1
        theirs = others * (SPEED_OTHERS * ours + 2 * 3 * protocol.minimum_seconds)
        self.notes.append("each row's speed takes as long to measure as the plain student's")
        return Estimate(rows * (ours + theirs + (1 + others) * protocol.rounds * SPEED_START), "probe")

    def _text(self, task: Task) -> Estimate:
        train = self.sizes["train"]
        if rate := self.past.text(task.inputs):
            return Estimate(train["target_tokens"] * rate, "past run")
        (teacher,) = [need for need in task.needs if need.kind == "teacher"]
        shape = ModelConfig.model_validate(teacher.inputs["architecture"])
        text = TrainingText.model_validate(task.inputs["text"])
        search = SearchConfig.model_validate(task.inputs["search"])
        rate = self._decoding(shape, shape.depth, search, "train")
        choosing = train["pairs"] * text.n_best * self._scoring.sentence if text.choose == "closest" else 0.0
        return Estimate(train["target_tokens"] * rate + choosing, "probe")

    def _signals(self, task: Task) -> Estimate:
        """The teacher's run over a text; where that is the teacher's own, it is taken to be as long as the corpus."""
        tokens = self.sizes["train"]["target_tokens"]
        size = signals_bytes(tokens, self.probe.vocabulary, self._kept)
        note = f"a teacher's signals on a text take {size / 1e6:,.1f} MB of disk"
        self.notes.extend([note] if note not in self.notes else [])
        if rate := self.past.signals(task.inputs):
            return Estimate(tokens * rate, "past run")
        preset = self.prepared.plan.preset

        def timed() -> TrainingCost:
            self.announce("timing the teacher's passes")
            plain = self.prepared.methods.get("baseline")()
            return self.probe.training(plain, preset.teacher, preset.teacher, preset.teacher_training)

        # Keeping the likeliest tokens takes about as long as computing the loss of an evaluation.
        cost = self._once(["signals", shape_of(preset.teacher.model_dump(mode="json"))], timed)
        return Estimate(tokens * cost.evaluated, "probe")

    @property
    def _kept(self) -> int:
        return self.prepared.plan.preset.signals.top_k

    def _decoding(self, shape: ModelConfig, depth: Depth, search: SearchConfig, *sets: str) -> float:
        """Seconds of decoding a target token of these sets, by a probe with as many sentences as the largest has.

        Depths that differ in the encoder alone, which runs once where the decoder makes many steps, are timed as one.
        """
        sentences = max(self.sizes[name]["pairs"] for name in sets)
        cut = shape.at_depth(Depth(shape.encoder_layers, depth.decoder))

        def timed() -> float:
            self.announce(f"timing the search with {cut.depth} layers at beam {search.beam}")
            return self.probe.decoding(cut, search, sentences)

        model = shape_of(cut.model_dump(mode="json"))
        return self._once(["decoding", model, search.model_dump(mode="json"), sentences], timed)

    @cached_property
    def _scoring(self) -> ScoringCost:
        return self.probe.scoring()

    def _once(self, what: Any, make: Callable[[], T]) -> T:
        key = content_hash(what)
        if key not in self.timed:
            self.timed[key] = make()
        found: T = self.timed[key]
        return found
