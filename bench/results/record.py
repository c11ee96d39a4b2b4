"""The record of one row and seed."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, JsonValue, PrivateAttr, StringConstraints, model_validator

from bench.config import Depth, Frozen, ModelConfig, Positive
from bench.results.base import LONGEST, Count, Label, Name, Sha256, State
from bench.results.cost import MOST_FLOPS, BudgetRecord, Phase
from bench.results.curve import MOST_POINTS, CurvePoint
from bench.results.quality import Score, hypotheses_file, statistics_file
from bench.results.speed import Speed
from bench.results.sweep import Sweep

SCHEMA_VERSION = 4


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
    formula_flops: float | None = Field(None, ge=0, le=MOST_FLOPS)
    """Six operations for each target token and parameter of the trained network that takes part in a product."""
    curve: tuple[CurvePoint, ...] = Field((), max_length=MOST_POINTS)
    """Its evaluations on dev, in order; empty in records of schema 3 and before."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for earlier, later in pairwise(self.curve):
            if later.stage < earlier.stage or later.target_tokens <= earlier.target_tokens:
                raise ValueError("the points of its curve are not in the order of the training")
        return self


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

    schema_version: Literal[4] = 4
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
    walls: dict[str, Annotated[float, Field(ge=0, le=LONGEST)]] = {}
    """Seconds that the making of each artifact took, killed attempts included, by a clock apart from its phases'."""
    energy: str
    """The meters behind the phases' energy, or ``not measured`` with the reason."""
    speed: Speed | None = None
    """Of the row's first finished seed only."""
    artifacts: dict[str, str] = {}
    environment: Environment
    created: AwareDatetime
    command: str
    _written: int = PrivateAttr(SCHEMA_VERSION)

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
            if score.hypotheses.file != (expected := hypotheses_file(self.row, self.seed, test_set)):
                raise ValueError(f"the hypotheses of {test_set!r} must be called {expected!r}")
            expected = statistics_file(self.row, self.seed, test_set)
            if score.statistics and score.statistics.file != expected:
                raise ValueError(f"the statistics of {test_set!r} must be called {expected!r}")
        return self

    @property
    def written(self) -> int:
        """The schema version of the file that it was read from: before the present one, it was upgraded."""
        return self._written

    def read_from(self, version: int) -> Self:
        """The same record, which knows that its file is of this schema version; no file can say so of itself."""
        record = self.model_copy()
        record._written = version
        return record

    @property
    def file(self) -> str:
        """The record's file name."""
        return f"{self.row}.s{self.seed}.json"


def row_id(method: str, depth: Depth, preset: str, digest: str) -> str:
    """The row's name, the same for all seeds. ``digest`` starts with 8 hexadecimal digits of what defines the row."""
    if len(digest) < 8 or not set(digest) <= set("0123456789abcdef"):
        raise ValueError(f"a row needs at least 8 hexadecimal digits, got {digest!r}")
    return f"{method}.{depth}.{preset}.{digest[:8]}"
