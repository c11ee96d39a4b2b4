"""What a unit of each kind of work took in past runs on a machine like this one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import ENGINE
from bench.config import Depth
from bench.phases.base import OVERHEAD
from bench.store import MANIFEST, Artifact, Inputs, Store
from bench.train.trainer import CHECKPOINT_SECONDS, CHECKPOINTING, EVALUATION, TEACHER_PASSES, TRAINING

Sizes = Mapping[str, Mapping[str, int]]
"""``pairs`` and ``target_tokens`` of each split, as a corpus artifact has them."""


@dataclass(frozen=True)
class TrainingWork:
    """How much a training does."""

    tokens: float
    """Target tokens, all stages together."""
    evaluations: int
    stages: int
    dev_tokens: int
    """Target tokens of dev text."""

    def saves(self, training: float) -> float:
        """Checkpoints: one after each evaluation and stage, and others now and then."""
        return self.evaluations + self.stages + training / CHECKPOINT_SECONDS


@dataclass(frozen=True)
class TrainingCost:
    """Seconds that a training takes for each unit of its work."""

    token: float
    """A target token trained on."""
    evaluated: float
    """A target token of dev in one evaluation, all delivered students together."""
    save: float
    """A checkpoint."""

    @classmethod
    def of(cls, seconds: Mapping[str, float], work: TrainingWork) -> TrainingCost:
        """From the seconds that a training charged to its phases."""
        training = seconds[TRAINING] + seconds.get(TEACHER_PASSES, 0.0)
        return cls(
            training / work.tokens,
            seconds.get(EVALUATION, 0.0) / (work.evaluations * work.dev_tokens),
            seconds.get(CHECKPOINTING, 0.0) / work.saves(training),
        )

    def seconds(self, work: TrainingWork) -> float:
        """What a training of so much work takes; one that stops early takes less."""
        training = work.tokens * self.token
        evaluation = work.evaluations * work.dev_tokens * self.evaluated
        return training + evaluation + work.saves(training) * self.save


class PastRuns:
    """The artifacts of a store that this code made on a machine like this one: what they tell of planned tasks.

    Each answer is the median over the artifacts that did the same kind of work with the same shapes, or None where
    there are none.

    Args:
        environment: that of a task of the planned run.
        processes: that train one model together.
        planned: the inputs of the planned tasks by key, for looking up what each rests on.
    """

    def __init__(
        self, store: Store, environment: Mapping[str, Any], processes: int, planned: Mapping[str, Inputs]
    ) -> None:
        self._finished = {artifact.key: artifact for artifact in _finished(store)}
        self._inputs = {key: artifact.inputs for key, artifact in self._finished.items()} | dict(planned)
        self._machine, self._processes = _machine(environment), processes

    def tokenizer(self, inputs: Inputs) -> float | None:
        """Seconds of training a tokenizer, for each training pair."""
        corpora = {corpus.inputs["needs"][0]: corpus for corpus in self._of("corpus")}
        return _median(
            _seconds(each) / (train["pairs"] + train["too_long"])
            for each in self._of("tokenizer")
            if each.inputs["tokenizer"] == inputs["tokenizer"] and each.key in corpora
            for train in [corpora[each.key].details["sizes"]["train"]]
        )

    def corpus(self, inputs: Inputs) -> float | None:
        """Seconds of encoding, for each pair of all splits."""
        return _median(
            _seconds(each) / sum(split["pairs"] for split in each.details["sizes"].values())
            for each in self._like(inputs, self._pieces, "corpus")
        )

    def training(self, inputs: Inputs) -> TrainingCost | None:
        """The cost of a training by the same method with the same shapes; with the same settings where there is one."""
        alike = [
            each
            for each in self._like(inputs, self.steps_of, "teacher", "student")
            if each.details.get("processes", 1) == self._processes and self._sizes(each)
        ]
        settings = inputs.get("settings")
        exact = [each for each in alike if settings and each.details.get("settings") == settings]
        costs = [self._cost(each) for each in exact or alike]
        if not costs:
            return None
        return TrainingCost(*map(statistics.median, zip(*((c.token, c.evaluated, c.save) for c in costs), strict=True)))

    def decoding(self, inputs: Inputs, depths: Sequence[Depth]) -> float | None:
        """Seconds of decoding and scoring at all these depths, for each target token of the references."""
        wanted = {**inputs, "depths": [list(depth) for depth in depths]}
        return _median(
            _seconds(each) / sum(sizes[name]["target_tokens"] for name in each.details.get("sets", ["dev"]))
            for each in self._like(wanted, self._decoding, "scores", "dev")
            if (sizes := self._sizes(each))
        )

    def metric(self, inputs: Inputs) -> float | None:
        """Seconds of a further metric, for each target token of the references."""
        return _median(
            _seconds(each) / sum(sizes[name]["target_tokens"] for name in each.details["values"])
            for each in self._like(inputs, lambda its: its["metric"], "metric")
            if (sizes := self._sizes(each))
        )

    def speed(self, inputs: Inputs) -> float | None:
        """Seconds of measuring speed, for each row."""
        return _median(
            _seconds(each) / len(each.details["rows"])
            for each in self._like(inputs, lambda its: [its["protocol"], its["search"], its["needs"]], "speed")
            if each.details["rows"]
        )

    def text(self, inputs: Inputs) -> float | None:
        """Seconds of the teacher's decoding, for each target token of the original training text."""
        return _median(
            _seconds(each) / sizes["train"]["target_tokens"]
            for each in self._like(inputs, self._text, "text")
            if (sizes := self._sizes(each))
        )

    def signals(self, inputs: Inputs) -> float | None:
        """Seconds of the teacher's run over a text, for each target token of it."""
        return _median(
            _seconds(each) / each.details["target_tokens"] for each in self._like(inputs, self._signals, "signals")
        )

    def _of(self, *kinds: str) -> Iterator[Artifact]:
        for artifact in self._finished.values():
            present = artifact.kind in kinds and artifact.inputs["engine"] == ENGINE[artifact.kind]
            if present and _machine(artifact.details["environment"]) == self._machine:
                yield artifact

    def _like(self, inputs: Inputs, what: Callable[[Inputs], Any], *kinds: str) -> Iterator[Artifact]:
        wanted = what(inputs)
        return (artifact for artifact in self._of(*kinds) if what(artifact.inputs) == wanted)

    def _need(self, inputs: Inputs, *kinds: str) -> Inputs:
        """The inputs of what a task rests on; empty where nobody knows of it any more."""
        needs = (self._inputs.get(key, {}) for key in inputs.get("needs", ()))
        return next((need for need in needs if need.get("kind") in kinds), {})

    def _sizes(self, artifact: Artifact) -> Sizes | None:
        needs = (self._finished.get(key) for key in artifact.inputs["needs"])
        return next((need.details["sizes"] for need in needs if need and need.kind == "corpus"), None)

    def _cost(self, artifact: Artifact) -> TrainingCost:
        done, sizes = artifact.details, self._sizes(artifact)
        config, stages = done.get("training", artifact.inputs["training"]), len(done["stages"])
        # One that stopped early made only the evaluations up to there.
        share = 1.0 if config.get("seconds") else min(1.0, done["target_tokens"] / config["target_tokens"])
        evaluations = max(stages, round(share * stages * config["evaluations"]))
        dev_tokens = sizes["dev"]["target_tokens"] if sizes else 1
        return TrainingCost.of(done["seconds"], TrainingWork(done["target_tokens"], evaluations, stages, dev_tokens))

    # What must be equal for times to be comparable.

    def _pieces(self, inputs: Inputs) -> Any:
        corpus = inputs if inputs["kind"] == "corpus" else self._need(inputs, "corpus")
        return self._need(corpus, "tokenizer").get("tokenizer")

    def steps_of(self, inputs: Inputs) -> Any:
        """All that the time of a training's steps depends on, but for settings that are tuned.

        A teacher is trained as a plain student is.
        """
        recipe = [inputs["training"][name] for name in ("batch_tokens", "accumulation", "precision")]
        teacher = shape_of(inputs["teacher_architecture"]) if inputs.get("teacher") else None
        model = inputs.get("method", "baseline"), shape_of(inputs["architecture"]), teacher
        return model, recipe, inputs["selection"], self._pieces(inputs), "signals" in inputs

    def _decoding(self, inputs: Inputs) -> Any:
        model = shape_of(self._need(inputs, "teacher", "student").get("architecture", {}))
        depths = inputs["depths"] if "depths" in inputs else [inputs["depth"]]
        widths = {name: value for name, value in model.items() if not name.endswith("_layers")}
        return widths, depths, inputs["search"], self._pieces(inputs)

    def _text(self, inputs: Inputs) -> Any:
        teacher = shape_of(self._need(inputs, "teacher").get("architecture", {}))
        return teacher, inputs["text"], inputs["search"], self._pieces(inputs)

    def _signals(self, inputs: Inputs) -> Any:
        teacher = shape_of(self._need(inputs, "teacher").get("architecture", {}))
        return teacher, inputs["top_k"], self._pieces(inputs)


def _machine(environment: Mapping[str, Any]) -> Any:
    """Processor, device, threads of a task, and the minor version of torch."""
    release = str(environment["torch"]).split(".")[:2]
    return environment["cpu"], environment["device"], environment["threads"], release


def shape_of(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """An architecture without its dropout rates, which tuning changes and time hardly depends on."""
    return {name: value for name, value in architecture.items() if "dropout" not in name}


def _seconds(artifact: Artifact) -> float:
    """Of the work itself, which grows with the text."""
    return float(sum(value for name, value in artifact.details["seconds"].items() if name not in OVERHEAD))


def _median(values: Iterator[float]) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None


def _finished(store: Store) -> Iterator[Artifact]:
    for path in sorted(store.root.glob(f"[!.]*/[!.]*/{MANIFEST}")):
        if artifact := store.find(path.parent.parent.name, path.parent.name):
            yield artifact
