"""The record of one row and seed: its schema, and how records are written, read and found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from bench.config import Depth, Frozen, ModelConfig, Positive

SCHEMA_VERSION = 2


State = Literal["exception", "not finite", "out of memory", "timed out", "killed", "pruned"]
"""How a training, or another task, can fail to finish."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=160)]
"""Safe as a file name."""
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
"""A name without dots, so that names joined by dots stay distinct."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
LONGEST = 1e10
"""Seconds that a record can claim: some three centuries."""


class PaperRecord(Frozen):
    """Where a method was published."""

    citation: str
    year: int
    link: str


class MethodRecord(Frozen):
    """The method and its settings as they were run."""

    name: Label
    title: str
    summary: str
    paper: PaperRecord | None
    settings: dict[str, JsonValue]
    source_sha256: Sha256


class DeliveryRecord(Frozen):
    """Which of the method's students the row is."""

    name: str
    depth: Depth


class Parameters(Frozen):
    """Parameter counts of the delivered model."""

    total: Count
    non_embedding: Count


class Hypotheses(Frozen):
    """The file of detokenised hypotheses beside the record, one line each, and its hash."""

    file: Name
    sha256: Sha256

    @classmethod
    def of(cls, row: str, seed: int, test_set: str, lines: Sequence[str]) -> Hypotheses:
        """The entry for ``lines``; ``write_record`` writes the file."""
        digest = hashlib.sha256(file_content(lines).encode("utf-8")).hexdigest()
        return cls(file=f"{row}.s{seed}.{test_set}.txt", sha256=digest)


class Score(Frozen):
    """Corpus scores of one test set, 0 to 100, with sacreBLEU's signatures."""

    bleu: float = Field(ge=0, le=100)
    bleu_signature: str
    chrf: float = Field(ge=0, le=100)
    chrf_signature: str
    sentences: Count
    hypotheses: Hypotheses


class Training(Frozen):
    """What the training of the row's model amounted to."""

    target_tokens: Count
    updates: Count
    epochs: float = Field(ge=0)
    padding_share: float = Field(ge=0, le=1)
    best_update: Count
    best_dev_loss: float | None
    stages: tuple[dict[str, JsonValue], ...]
    splits: Positive = 1
    """Parts that each micro-batch was run in: 2 after the training had run out of memory."""
    processes: Positive = 1
    """That trained the model together."""


class Trial(Frozen):
    """One trial of a sweep: a training with one set of values, judged by dev BLEU."""

    number: Count
    values: dict[str, JsonValue]
    """By dotted name: the shared ones as the preset names them, the method's own as ``method.setting``."""
    state: Literal["ok"] | State
    reason: str | None = None
    bleu: float | None = Field(None, ge=0, le=100, description="Dev BLEU, the mean over the students delivered.")
    seconds: float = Field(ge=0, le=LONGEST, description="Of training and dev decoding, wall time times devices.")
    target_tokens: Count | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.state == "ok") != (self.bleu is not None) or (self.state == "ok") == (self.reason is not None):
            raise ValueError(f"trial {self.number}: a finished trial has a BLEU, and only another one a reason")
        return self


def shared_part(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What of a trial's values, by dotted name, is not the method's own."""
    return {name: value for name, value in values.items() if not name.startswith(f"{method}.")}


def best_trial(trials: Iterable[Trial]) -> Trial | None:
    """The trial with the highest dev BLEU, of equals the first; None if none has finished."""
    finished = [trial for trial in trials if trial.bleu is not None]
    return max(finished, key=lambda trial: (trial.bleu or 0.0, -trial.number), default=None)


class Sweep(Frozen):
    """How a row's settings were chosen."""

    sampler: str
    pruner: str | None
    seed: Count
    space: dict[str, JsonValue]
    """The ranges by dotted name; what is not named here was held fixed."""
    trials: tuple[Trial, ...]
    winner: Count
    importances: dict[str, float] | None
    """Share of each searched value in reaching the best trials (PED-ANOVA); None for too few trials to tell."""
    versions: dict[str, str]
    """Of the packages that drew the values."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if [trial.number for trial in self.trials] != list(range(len(self.trials))):
            raise ValueError("trials are numbered from 0 without a gap")
        if (best := best_trial(self.trials)) is None or best.number != self.winner:
            raise ValueError(f"trial {self.winner} is not the one with the highest dev BLEU")
        return self

    @property
    def best(self) -> Trial:
        """The winner."""
        return self.trials[self.winner]

    @property
    def seconds(self) -> float:
        """Wall time times devices of all trials."""
        return sum(trial.seconds for trial in self.trials)


class BudgetRecord(Frozen):
    """What was held equal between the trained students, its limit, and what this row's training took of it."""

    kind: Literal["tokens", "wall-clock", "device-hours"]
    limit: float = Field(ge=0, description="Target tokens, seconds of training, or device-hours with all charges.")
    spent: float | None = Field(None, ge=0, description="In the same unit; None for a row that failed.")


class Phase(Frozen):
    """One piece of work behind a row and its wall time.

    ``kind`` says what it is charged as: ``training`` of the row's own model, ``tuning`` (the trials behind its
    settings), ``distillation`` (what the method needed from the teacher apart from that, such as decoding the corpus),
    ``teacher`` (the teacher's training), ``common`` (tokenizer, encoding) or ``evaluation`` (final decoding, scoring).
    """

    name: str
    kind: Literal["training", "tuning", "distillation", "teacher", "common", "evaluation"]
    seconds: float = Field(ge=0, le=LONGEST)
    target_tokens: Count | None = None
    shared_by: int = Field(1, ge=1, description="Rows of its run that used the phase; the page counts anew.")
    artifact: str | None = None

    @property
    def charged(self) -> float:
        """The row's share in seconds."""
        return self.seconds / self.shared_by


class Environment(Frozen):
    """The machine and the versions."""

    bench: str
    python: str
    torch: str
    sacrebleu: str
    sentencepiece: str
    platform: str
    cpu: str
    cores: Count
    threads: Count
    workers: Count
    """Tasks that ran at a time."""
    device: str
    precision: str
    git_commit: str | None


class Record(Frozen):
    """One row and seed of the leaderboard."""

    schema_version: Literal[2] = 2
    row: Name
    dataset: Name
    languages: tuple[Label, Label]
    data_sha256: Sha256
    """Of the data set's identity: its files and the code that reads them."""
    preset: Label
    track: Literal["official", "open"] = "official"
    budget: BudgetRecord
    sweep: Sweep | None = None
    """None where nothing was searched for: the settings are the published ones, or those given."""
    role: Literal["teacher", "baseline", "method"]
    method: MethodRecord
    delivery: DeliveryRecord
    seed: Count
    status: Literal["ok", "failed"]
    reason: Annotated[str, StringConstraints(pattern=r"^[^\r\n]+$")] | None = None
    failure: State | None = None
    error_log: str | None = None
    model: ModelConfig | None = None
    parameters: Parameters | None = None
    recipe: dict[str, JsonValue]
    engine: dict[str, int]
    """The versions of the code behind each kind of artifact (``bench.ENGINE``)."""
    scores: dict[Label, Score] = {}
    primary: Label
    test_access: dict[Label, tuple[AwareDatetime, ...]] = {}
    """Every time that each test set was decoded for this row and seed: once, unless decoding was interrupted."""
    training: Training | None = None
    phases: tuple[Phase, ...] = ()
    artifacts: dict[str, str] = {}
    environment: Environment
    created: AwareDatetime
    command: str

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        stem, _, digest = self.row.rpartition(".")
        if f"{stem}.{digest}" != row_id(self.method.name, self.delivery.depth, self.preset, digest):
            raise ValueError(f"row {self.row!r} is not <method>.<depth>.<preset>.<8 hexadecimal digits> of this record")
        if self.created.utcoffset() != timedelta(0):
            raise ValueError("created must be a UTC time")
        if not (self.status == "failed") == (self.reason is not None) == (self.failure is not None):
            raise ValueError("a failed record needs a reason and a state of failure, and only a failed one has them")
        if self.sweep and self.track == "official" and (self.sweep.sampler, self.sweep.pruner) != ("qmc", None):
            raise ValueError("a sweep of the official track draws from qmc and prunes nothing")
        tuning = self.recipe.get("tuning")
        if self.track != (tuning.get("track", "official") if isinstance(tuning, dict) else "official"):
            raise ValueError("the track is not the recipe's")
        if self.status == "ok":
            if missing := [name for name in ("model", "parameters", "training") if getattr(self, name) is None]:
                raise ValueError(f"a finished record needs {', '.join(missing)}")
            if self.primary not in self.scores:
                raise ValueError(f"the primary test set {self.primary!r} has no score")
        for test_set, score in self.scores.items():
            if score.hypotheses.file != (expected := f"{self.row}.s{self.seed}.{test_set}.txt"):
                raise ValueError(f"the hypotheses of {test_set!r} must be called {expected!r}")
        return self

    @property
    def file(self) -> str:
        """The record's file name."""
        return f"{self.row}.s{self.seed}.json"


def row_id(method: str, depth: Depth, preset: str, digest: str) -> str:
    """The row's name, the same for all seeds. ``digest`` starts with 8 hexadecimal digits of what defines the row."""
    if len(digest) < 8 or not set(digest) <= set("0123456789abcdef"):
        raise ValueError(f"a row needs at least 8 hexadecimal digits, got {digest!r}")
    return f"{method}.{depth}.{preset}.{digest[:8]}"


def file_content(lines: Sequence[str]) -> str:
    if any("\n" in line for line in lines):
        raise ValueError("a hypothesis must be one line")
    return "".join(f"{line}\n" for line in lines)
