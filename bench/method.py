"""The contract of a distillation method: one class in one file under ``methods/``.

A method must say who it is (``name``, ``title`` and its ``Settings``) and give its ``loss`` for a batch. Everything
else has a harmless default:

    class WordLevel(Method):
        name = "word_level"
        title = "Word-level KD"
        teacher = TeacherUse.FROZEN

        class Settings(Method.Settings):
            alpha: float = setting(0.5, "Weight of the teacher's term.", ge=0, le=1, search=Range(0.1, 1.0))

        def loss(self, step):
            def terms(at, student, teacher):
                return {
                    "nll": Term(at.cross_entropy(student), 1 - self.settings.alpha),
                    "kd": Term(divergence(teacher, student), self.settings.alpha),
                }

            return step.over_positions(terms, step.student.forward(step.batch), step.teacher.forward(step.batch))

A method file imports this module, ``bench.losses`` and PyTorch, and nothing else of the harness.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

from bench.config import Choice, Depth, Frozen, ModelConfig, Range, explain
from bench.errors import UsageError, unknown_name
from bench.nmt.batch import PAD, Batch
from bench.nmt.linear import linear
from bench.nmt.model import Decoded, Encoded, Maps, Transformer
from bench.positions import Positions, Source, Term, over_positions

__all__ = [
    "PAD", "Batch", "Choice", "Delivery", "Depth", "Forward", "Maps", "Method", "ModelConfig", "Paper", "Positions",
    "Range", "Runner", "Stage", "Step", "TeacherText", "TeacherUse", "Term", "TrainingText", "UsageError", "setting",
    "total",
]  # fmt: skip


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    citation: str
    year: int
    link: str


class TeacherUse(StrEnum):
    """What a method needs a teacher for while the student trains."""

    NONE = "none"
    """No teacher passes; the training text may still come from one."""
    FROZEN = "frozen"
    """A pre-trained teacher answers for each batch; it is in eval mode and gets no gradient."""
    JOINT = "joint"
    """The teacher is part of what is trained; there is no pre-trained one."""


def setting(default: Any, description: str, *, search: Range | Choice | None = None, **rules: Any) -> Any:
    """A hyper-parameter: the paper's value, what it does, where tuning looks, and pydantic's rules (``ge=0``)."""
    return Field(default, description=description, json_schema_extra={"search": search} if search else None, **rules)  # type: ignore[dict-item]


class TrainingText(Frozen):
    """Which target side a student learns from.

    ``original`` is the corpus as it is. ``teacher`` replaces each target by what the teacher's beam search gives for
    its source: the best hypothesis, the one of ``n_best`` closest to the reference by smoothed sentence BLEU
    (sequence-level interpolation), or all ``n_best`` as pairs of their own (Kim & Rush 2016).
    """

    origin: Literal["original", "teacher"] = "original"
    beam: int = Field(5, ge=1)
    n_best: int = Field(1, ge=1)
    choose: Literal["best", "closest", "all"] = "best"

    @model_validator(mode="after")
    def _beam_gives_n_best(self) -> TrainingText:
        if self.n_best > self.beam:
            raise ValueError(f"a beam of {self.beam} cannot give n_best={self.n_best} hypotheses")
        return self


class TeacherText(Frozen):
    """A base class for a method's ``Settings``, with which its loss can be combined with sequence-level data."""

    data: Literal["original", "seqkd", "seqinter"] = setting(
        "original", "Targets: the references, the teacher's best hypotheses, or those closest to the references."
    )
    interpolation_k: int = setting(35, "seqinter: hypotheses among which the closest is chosen.", ge=1)

    def training_text(self) -> TrainingText:
        """The text that ``data`` stands for. The beam is 5 for seqkd and K for seqinter (Kim & Rush 2016)."""
        if self.data == "original":
            return TrainingText()
        if self.data == "seqkd":
            return TrainingText(origin="teacher")
        return TrainingText(origin="teacher", beam=self.interpolation_k, n_best=self.interpolation_k, choose="closest")


class Stage(Frozen):
    """One training run of a method, with its own optimiser and schedule; it starts from the best of the one before."""

    name: str = "training"
    share: float = Field(1.0, gt=0, le=1, description="Part of the budget; a method's shares sum to one.")
    text: TrainingText = TrainingText()
    learning_rate_scale: float = Field(1.0, gt=0)


class Delivery(Frozen):
    """A student that comes out of the training: the trained model, or its first layers."""

    name: str
    depth: Depth


def total(terms: Mapping[str, Term]) -> Tensor:
    """The loss that the terms make together, summed over target tokens."""
    return torch.stack([term.weight * term.value for term in terms.values()]).sum()


@dataclass(frozen=True)
class Forward:
    """What a model says about a batch. Only what is read is computed: logits are projected on first use."""

    encoded: Encoded
    decoded: Decoded
    batch: Batch
    runner: Runner

    @cached_property
    def logits(self) -> Tensor:
        """(n, vocabulary) at the packed target positions; with a gradient if the pass had one, wherever first read."""
        with self.runner.scope(), torch.set_grad_enabled(self.decoded.states.requires_grad):
            return self.runner.model.project(self.batch.pack(self.decoded.states))

    @cached_property
    def log_probabilities(self) -> Tensor:
        """(n, vocabulary) in float32; for losses that look at all positions together."""
        with torch.set_grad_enabled(self.decoded.states.requires_grad):
            return self.logits.float().log_softmax(dim=-1)

    @property
    def source(self) -> Source:
        """Where ``Step.over_positions`` takes logits from: those that are there, or else the states."""
        vocabulary = self.runner.model.vocabulary
        if "logits" in self.__dict__:
            return Source(self.logits, None, lambda logits: logits, nullcontext, vocabulary)
        matrix = self.runner.model.output_matrix
        if not self.decoded.states.requires_grad:
            matrix = matrix.detach()
        return Source(self.batch.pack(self.decoded.states), matrix, linear, self.runner.scope, vocabulary)


class Runner:
    """A model as a method sees it: it runs passes, and a frozen one never tracks gradients.

    Args:
        model: the network; ``frozen`` puts it in eval mode for good.
        autocast: makes the mixed-precision context of a pass, where there is one.
        observed: makes the context that charges for a pass, where somebody keeps account of it.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        frozen: bool = False,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        observed: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.model = model.eval().requires_grad_(False) if frozen else model
        self.frozen = frozen
        self._autocast, self._observed = autocast, observed

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @contextmanager
    def scope(self) -> Iterator[None]:
        """The context of every pass: mixed precision, and no gradients for a frozen model."""
        with self._observed(), self._autocast(), torch.no_grad() if self.frozen else nullcontext():
            yield

    def forward(
        self,
        batch: Batch,
        *,
        prefix: Tensor | None = None,
        prefix_mask: Tensor | None = None,
        encoded: Encoded | None = None,
        depth: Depth | None = None,
        attention: Collection[Maps] = (),
        hidden: bool = False,
    ) -> Forward:
        """Run the model over ``batch``.

        Args:
            prefix: (batch, target) decoder input in place of the gold one.
            prefix_mask: (batch, target) bool, false where a decoder input must not be attended to.
            encoded: an earlier pass's ``encoded``, to save the encoder pass.
            depth: use the first layers only.
            attention: also return the maps of "encoder", "self" or "cross" attention (which takes longer).
            hidden: also return every layer's states.
        """
        with self.scope():
            if encoded is None:
                maps = "encoder" in attention
                encoded = self.model.encode(batch.source, depth=depth, attention=maps, hidden=hidden)
            decoded = self.model.decode(
                batch.prefix if prefix is None else prefix,
                encoded,
                depth=depth,
                prefix_mask=prefix_mask,
                attention=attention,
                hidden=hidden,
            )
        return Forward(encoded, decoded, batch, self)

    def encoded_at(self, encoded: Encoded, depth: Depth) -> Encoded:
        """The encoder's part of a pass at ``depth``, out of a deeper one with ``hidden``: its layers are not run again.

        Both parts then have the same dropout.
        """
        with self.scope():
            return self.model.encoded_at(encoded, depth)


@dataclass(frozen=True)
class Step:
    """What a loss may look at: a batch, the models, and where training stands."""

    batch: Batch
    student: Runner
    teacher: Runner | None
    """The frozen teacher; None unless the method declares ``TeacherUse.FROZEN``."""
    label_smoothing: float
    random: random.Random
    """For the method's own draws: seeded by run, stage, update and micro-batch, so that a resumed run repeats them."""
    modules: nn.Module | None = None
    """The method's own trainable modules."""
    stage: int = 0
    update: int = 1
    """Counts from 1 within the stage."""
    epoch: int = 1
    """Counts from 1 within the stage."""

    @property
    def positions(self) -> Positions:
        """The n real target positions of the batch."""
        return Positions(self.batch.labels, self.label_smoothing)

    def over_positions(self, terms: Callable[..., Mapping[str, Term]], *passes: Forward) -> dict[str, Term]:
        """The terms of a loss that is a sum over positions, without a (n, vocabulary) tensor in memory.

        ``terms(at, *log_probabilities)`` gives the terms of a chunk of positions: ``at`` has their ``labels`` and the
        ``cross_entropy`` with these, and each pass's log-probabilities there are (chunk, vocabulary). Chunks come in
        order. Nothing but the passes may learn through ``terms``, and training must minimise them with the weights
        given here. A pass whose ``logits`` were read before is taken from these. See ``bench.positions``.
        """
        return over_positions(terms, self.positions, [each.source for each in passes])


class Method(ABC):
    """A distillation method. Required: ``name``, ``title``, ``Settings`` (may stay empty) and ``loss``."""

    name: ClassVar[str]
    """The name on the command line, the same as the file's."""
    title: ClassVar[str]
    """The name on the page."""
    summary: ClassVar[str] = ""
    """What it does, in a sentence or two for the page."""
    description: ClassVar[str] = ""
    """A few sentences more for the method's own page: why it works, and what it needs."""
    equation: ClassVar[str] = ""
    r"""The loss in LaTeX for the method's own page, a line for each equation: ``\mathcal{L} = \alpha \sum_t x_t``."""
    paper: ClassVar[Paper | None] = None
    teacher: ClassVar[TeacherUse] = TeacherUse.NONE
    distributions_only: ClassVar[bool] = False
    """Whether all it asks of a frozen teacher at gold prefixes is log-probabilities, which can be cached. What it asks
    beside that is answered by the teacher all the same."""
    plain: ClassVar[Mapping[str, Any] | None] = None
    """The settings that switch distillation off, so that the loss is the plain student's; None if there are none."""

    class Settings(Frozen):
        """The hyper-parameters, each a ``setting``."""

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        """Validate ``settings``.

        Raises:
            UsageError: an unknown name, or a value that breaks a rule.
        """
        given = dict(settings or {})
        for key in given:
            if key not in self.Settings.model_fields:
                raise unknown_name(f"setting of {self.name}", key, self.Settings.model_fields)
        try:
            self.settings: Any = self.Settings.model_validate(given)
        except ValidationError as error:
            raise UsageError(f"{self.name}: {explain(error)}") from error

    @abstractmethod
    def loss(self, step: Step) -> Mapping[str, Term]:
        """The named terms of the loss for one batch; training minimises the sum of ``weight * value`` per token."""

    def text(self) -> TrainingText:
        """The training text of the only stage: what ``TeacherText`` settings ask for, otherwise the corpus as it is."""
        return self.settings.training_text() if isinstance(self.settings, TeacherText) else TrainingText()

    def stages(self) -> tuple[Stage, ...]:
        """The training runs, in order."""
        return (Stage(text=self.text()),)

    def architecture(self, student: ModelConfig, teacher: ModelConfig) -> ModelConfig:
        """The network to train; the student's unless the method trains a larger one and delivers parts of it."""
        return student

    def deliveries(self, student: ModelConfig, teacher: ModelConfig) -> tuple[Delivery, ...]:
        """The students that come out; the checkpoint with the lowest dev loss summed over them is kept."""
        return (Delivery(name="student", depth=student.depth),)

    def modules(self, student: ModelConfig, teacher: ModelConfig) -> nn.Module | None:
        """Extra trainable modules that exist in training only.

        Where several processes train together, parameters are shared and buffers are not: nothing that is counted in
        one, as by batch normalisation, may bear on the loss.
        """
        return None

    def ranked(self) -> int:
        """How many of the teacher's likeliest tokens the loss tells apart; cached signals must have as many."""
        return 0

    def padding_invariant(self) -> bool:
        """Whether adding padding leaves the loss unchanged."""
        return True

    def divisible(self) -> bool:
        """Whether a micro-batch may be cut or shared out, for the objective of its parts together is its own."""
        return self.padding_invariant()
