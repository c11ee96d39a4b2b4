"""The recipe as frozen, validated values: model shapes, training, search, tokenizer, and the presets that name them."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from bench.errors import UsageError, unknown_name

PRESET_FILE = Path(__file__).with_name("presets.toml")

Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=1, le=2**16)]
Layers = Annotated[int, Field(ge=1, le=2**7)]
"""What can be built at all: records, which anybody may have written, have shapes too."""

DEFAULT_TOP_K = 32


class Frozen(BaseModel):
    """An immutable value object that refuses unknown fields and non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Grown(Frozen):
    """A value that got fields after artifacts had been kept under addresses that follow from its JSON form.

    That form leaves out such a field where it has its default, so that the addresses, and the names of rows, stay.
    """

    later: ClassVar[tuple[str, ...]]

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if info.mode == "json":
            for name in self.later:
                if getattr(self, name) == type(self).model_fields[name].default:
                    values.pop(name, None)
        return values


class Depth(NamedTuple):
    """How many of the first encoder and decoder layers are used."""

    encoder: int
    decoder: int

    def __str__(self) -> str:
        return f"{self.encoder}-{self.decoder}"


@dataclass(frozen=True)
class Range:
    """Where a number is searched in tuning: evenly, or evenly in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"no range to search: {self.low} to {self.high}{', by logarithm' if self.log else ''}")


@dataclass(frozen=True)
class Choice:
    """The values tried in tuning."""

    values: tuple[str | int | float | bool | None, ...]

    def __post_init__(self) -> None:
        if bad := [value for value in self.values if not isinstance(value, str | int | float | bool | None)]:
            raise ValueError(f"only text, numbers and true or false can be searched, not {bad[0]!r}")


class ModelConfig(Frozen):
    """Shape of an encoder-decoder Transformer (Vaswani et al. 2017)."""

    width: Size
    ffn: Size
    heads: Positive
    encoder_layers: Layers
    decoder_layers: Layers
    norm: Literal["pre", "post"] = "post"
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    max_positions: Size = 1024
    tie: Literal["all", "decoder", "none"] = Field(
        "all", description="Shared embeddings: source, target and output; target and output; or none."
    )
    activation: Literal["relu", "gelu"] = "relu"
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.0
    activation_dropout: Probability = 0.0

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")
        if self.positions == "sinusoidal" and self.width % 2:
            raise ValueError(f"sinusoidal positions need an even width, got {self.width}")
        return self

    @property
    def depth(self) -> Depth:
        return Depth(self.encoder_layers, self.decoder_layers)

    def at_depth(self, depth: Depth) -> ModelConfig:
        """The same shape with the first ``depth`` layers only."""
        if not (1 <= depth.encoder <= self.encoder_layers and 1 <= depth.decoder <= self.decoder_layers):
            raise ValueError(f"depth {depth} does not lie within {self.depth}")
        return self.model_copy(update={"encoder_layers": depth.encoder, "decoder_layers": depth.decoder})


class TrainConfig(Grown):
    """How a model is trained. Target tokens are counted with the end of sentence and without padding."""

    later = ("seconds",)

    target_tokens: Positive
    seconds: float = Field(
        0.0,
        ge=0,
        description="Stop after so much wall time of training, dev evaluation and checkpoints included, in place of "
        "target_tokens; 0: by tokens.",
    )
    batch_tokens: Positive = Field(description="Padded tokens of the longer side in one micro-batch.")
    accumulation: Positive = 1
    learning_rate: float = Field(gt=0)
    schedule: Literal["inverse_sqrt", "linear"] = "inverse_sqrt"
    warmup_updates: int = Field(ge=0)
    betas: tuple[Probability, Probability] = (0.9, 0.98)
    epsilon: float = Field(1e-9, gt=0)
    weight_decay: float = Field(0.0, ge=0, description="Decoupled (AdamW).")
    clip_norm: float = Field(0.0, ge=0, description="Largest gradient norm; 0 leaves gradients as they are.")
    label_smoothing: Probability = 0.1
    evaluations: Positive = Field(10, description="Dev evaluations, evenly spaced over the budget of each stage.")
    select: Literal["loss", "bleu"] = Field(
        "loss", description="What chooses the best checkpoint: dev loss, or dev BLEU of greedy search."
    )
    average: int = Field(0, ge=0, description="Deliver the mean of the last N evaluated checkpoints; 0: the best one.")
    patience: int = Field(0, ge=0, description="Stop after N evaluations without improvement; 0: never.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on a GPU that has it, otherwise fp32."
    )


class SearchConfig(Frozen):
    """Beam search; a beam of 1 is greedy. Scores are log-probabilities divided by length ** length_penalty."""

    beam: Positive = 5
    length_penalty: float = Field(1.0, ge=0)
    max_ratio: float = Field(1.5, gt=0, description="Longest output: max_ratio x source length + max_extra tokens.")
    max_extra: int = Field(10, ge=1)
    batch_sentences: Positive = 64

    def max_length(self, source_length: int) -> int:
        return int(self.max_ratio * source_length) + self.max_extra


class TokenizerConfig(Frozen):
    """SentencePiece, trained on the training side of both languages together."""

    vocabulary: int = Field(ge=16)
    model: Literal["unigram", "bpe"] = "bpe"
    max_pieces: Positive = Field(128, description="Training pairs with a longer side are left out.")


class TuningConfig(Frozen):
    """How each method's settings are chosen: by so many trials, judged by dev BLEU; one trial is the published ones."""

    trials: int = Field(
        1,
        ge=1,
        le=1000,  # to draw the points of the official list takes the square of their number
        description="Trainings for each method, the first with the published settings.",
    )
    track: Literal["official", "open"] = Field(
        "official", description="official: one drawn list for all methods; open: a sampler that learns from results."
    )
    sampler: Literal["qmc", "tpe", "gp"] = Field("qmc", description="qmc: scrambled Sobol points.")
    pruner: Literal["none", "median", "halving", "hyperband"] = Field(
        "none", description="Stops trials that fall behind; open track only."
    )
    seed: int = Field(1, ge=0)
    space: dict[str, dict[str, Range]] = Field(
        {}, description="The ranges that all methods share, by section and name, as in training.learning_rate."
    )

    @model_validator(mode="after")
    def _tracks_keep_apart(self) -> TuningConfig:
        if self.track == "official" and (self.sampler, self.pruner) != ("qmc", "none"):
            raise ValueError("the official track has one list for all methods: another sampler or a pruner is open")
        if self.track == "open" and self.sampler == "qmc":
            raise ValueError("the open track needs a sampler that learns from results: tpe or gp")
        if self.track == "open" and self.trials == 1:
            raise ValueError("the open track needs several trials to learn from")
        return self

    @property
    def ranges(self) -> dict[str, Range]:
        """The shared ranges by dotted name."""
        return {f"{section}.{name}": found for section, names in self.space.items() for name, found in names.items()}


class BudgetConfig(Grown):
    """What is held equal between the students: target tokens, or an amount of time."""

    later = ("place",)

    kind: Literal["tokens", "wall-clock", "device-hours"] = Field(
        "tokens",
        description="tokens: training.target_tokens; wall-clock: seconds of a student's training; device-hours: the "
        "teacher's training and decoding charged too, where the method needs them.",
    )
    amount: float = Field(0.0, ge=0, description="Seconds, or hours; 0 for tokens.")
    place: str = Field("", description="Of an amount of time: on which machine, and on which share of it. The run's.")

    @model_validator(mode="after")
    def _amount_fits(self) -> BudgetConfig:
        if (self.kind == "tokens") != (self.amount == 0):
            raise ValueError(f"a budget of {self.kind} takes {'no' if self.kind == 'tokens' else 'a positive'} amount")
        if self.kind == "tokens" and self.place:
            raise ValueError("a budget of tokens is the same everywhere and has no place")
        return self


class SignalsConfig(Frozen):
    """How a frozen teacher's next-token distributions at gold prefixes reach the methods that ask for nothing else."""

    kind: Literal["exact", "cached"] = Field(
        "exact",
        description="exact: the teacher runs over every batch; cached: it runs once over each text, and what it finds "
        "likeliest is kept.",
    )
    top_k: Positive = Field(
        DEFAULT_TOP_K,
        description="Tokens kept at each position; the rest of the probability is spread evenly over all others. A "
        "method that ranks more of the teacher's tokens is refused.",
    )

    @model_validator(mode="after")
    def _top_k_has_a_use(self) -> SignalsConfig:
        if self.kind == "exact" and self.top_k != DEFAULT_TOP_K:
            raise ValueError(f"top_k is of cached signals, and these are exact: got {self.top_k}")
        return self


class SpeedConfig(Frozen):
    """How the rows' speed is measured. It bears on no score, so it is no part of what a row is."""

    sentences: Positive = Field(500, description="The first N of dev are translated.")
    latency_sentences: Positive = Field(100, description="Of these, the first N are also translated one at a time.")
    batch_tokens: Positive = Field(4096, description="Padded source pieces in a batch, where the batch is fixed.")
    rounds: int = Field(3, ge=2, description="All engines of all rows are measured in turn, so many times.")
    warmup: int = Field(3, ge=3, description="Passes that are dropped in each round.")
    passes: int = Field(5, ge=5, description="Passes that count, over all rounds, at least.")
    minimum_seconds: float = Field(1.0, ge=0, description="That these take together, at least.")

    @property
    def passes_of_round(self) -> int:
        """Passes that count in each round, at least."""
        return math.ceil(self.passes / self.rounds)


class Preset(Grown):
    """Everything a run needs besides the data set and the methods."""

    later = ("signals",)

    name: str
    description: str
    tokenizer: TokenizerConfig
    teacher: ModelConfig
    student: ModelConfig
    teacher_training: TrainConfig
    training: TrainConfig
    search: SearchConfig
    train_pairs: int = Field(0, ge=0, description="Use the first N training pairs; 0: all.")
    dev_pairs: int = Field(0, ge=0, description="Use the first N dev pairs; 0: all.")
    seeds: Positive = 3
    tuning: TuningConfig = TuningConfig()
    budget: BudgetConfig = BudgetConfig()
    signals: SignalsConfig = SignalsConfig()
    speed: SpeedConfig = SpeedConfig()

    @model_validator(mode="after")
    def _space_fits(self) -> Preset:
        for name, found in self.tuning.ranges.items():
            for value in (found.low, found.high):
                self._with({name: value})
        return self

    @model_validator(mode="after")
    def _budgets_agree(self) -> Preset:
        if self.training.seconds or self.teacher_training.seconds:
            raise ValueError("seconds of training are a budget of kind wall-clock, which all students share")
        return self

    def at(self, point: Mapping[str, Any]) -> Preset:
        """This preset with the shared values of a point of the search space, by dotted name.

        Raises:
            ValueError: no such value, or out of range.
        """
        return self.model_copy(update=self._with(point))

    def _with(self, point: Mapping[str, Any]) -> dict[str, Frozen]:
        changed: dict[str, dict[str, Any]] = {}
        for dotted, value in point.items():
            section, _, name = dotted.partition(".")
            if section not in TUNABLE or name not in type(getattr(self, section)).model_fields:
                raise ValueError(f"no value {dotted!r} to tune; there are those of {' and '.join(TUNABLE)}")
            changed.setdefault(section, {})[name] = value
        return {
            section: type(config := getattr(self, section)).model_validate(config.model_dump() | values)
            for section, values in changed.items()
        }

    def overridden(self, overrides: Mapping[str, Any]) -> Preset:
        """This preset with values such as ``{"student.width": 128, "train_pairs": 5000}``, by dotted name.

        Raises:
            UsageError: no such value, or out of range.
        """
        changed = self.model_dump()
        for dotted, value in overrides.items():
            *sections, leaf = dotted.split(".")
            target = changed
            for section in sections:
                inner = target.get(section)
                target = inner if isinstance(inner, dict) else {}
            if leaf not in target or leaf == "name":
                raise unknown_name("preset setting", dotted, (key for key in _dotted(changed) if key != "name"))
            target[leaf] = value
        try:
            return Preset.model_validate(changed)
        except ValidationError as error:
            raise UsageError(f"preset {self.name!r}: {explain(error)}") from error

    def without(self, pinned: Collection[str]) -> Preset:
        """This preset with none of the values ``pinned`` by dotted name among those that are searched."""
        space = {
            section: {name: found for name, found in names.items() if f"{section}.{name}" not in pinned}
            for section, names in self.tuning.space.items()
        }
        return self.model_copy(update={"tuning": self.tuning.model_copy(update={"space": space})})

    def recipe(self) -> dict[str, Any]:
        """The preset as JSON, for hashing and for records. Without a search, where it would look is left out.

        How speed is measured is left out too: a speed carries its own protocol.
        """
        values = self.model_dump(mode="json", exclude={"speed"})
        return values if self.tuning.trials > 1 else values | {"tuning": {"trials": 1}}


TUNABLE = ("training", "student")
"""The sections whose values all methods can share in a search."""

SECTIONS = tuple(
    name
    for name, field in Preset.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Frozen)
)
"""The parts of a preset that ``--set SECTION.key=value`` can override."""


@cache
def presets() -> dict[str, Preset]:
    """The presets of ``presets.toml``, by name. A preset may extend another: only what differs is written."""
    raw = tomllib.loads(PRESET_FILE.read_text(encoding="utf-8"))

    def resolve(name: str) -> dict[str, Any]:
        own = dict(raw[name])
        parent = own.pop("extends", None)
        return _merged(resolve(parent), own) if parent else own

    return {name: Preset(name=name, **resolve(name)) for name in raw}


def preset(name: str, overrides: dict[str, Any] | None = None) -> Preset:
    """The preset ``name``, with overrides by dotted name.

    Raises:
        UsageError: no such preset, no such value, or one out of range.
    """
    if name not in presets():
        raise unknown_name("preset", name, presets())
    return presets()[name].overridden(overrides or {})


def read_value(text: str) -> Any:
    """The value that is given to ``--set`` as text: what is JSON is read as JSON, anything else is a string."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def explain(error: ValidationError) -> str:
    """A pydantic error as one sentence: which field, which rule, what was received."""
    parts = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        shown = "" if item["type"] in ("missing", "value_error") else f", got {item['input']!r}"
        parts.append(f"{where}: {item['msg'].removeprefix('Value error, ')}{shown}")
    return "; ".join(parts)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in own.items()
    }


def _dotted(values: dict[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in values.items():
        names += _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return names
