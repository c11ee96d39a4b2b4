"""The record of one row and seed: its schema, and how records are written, read and found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AwareDatetime,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from bench.config import Depth, Frozen, ModelConfig, Positive, explain
from bench.errors import DataError, UsageError, unknown_name
from bench.store import write_text

SCHEMA_VERSION = 2


def _from_1(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew no tuning, no budget but target tokens, and no states of failure."""
    recipe = {**data.get("recipe", {}), "tuning": {"trials": 1}, "budget": {"kind": "tokens", "amount": 0.0}}
    training = "teacher_training" if data.get("role") == "teacher" else "training"
    tokens = recipe.get(training, {}).get("target_tokens", 0)
    spent = (data.get("training") or {}).get("target_tokens")
    failed = {"failure": "exception"} if data.get("status") == "failed" else {}
    budget = {"kind": "tokens", "limit": tokens, "spent": spent}
    return {**data, **failed, "schema_version": 2, "recipe": recipe, "budget": budget}


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
"""The step from each earlier schema version to the next; whoever raises ``SCHEMA_VERSION`` adds the step here."""

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
        digest = hashlib.sha256(_file_content(lines).encode("utf-8")).hexdigest()
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


@dataclass(frozen=True)
class Stored:
    """A record and the folder that holds it and its hypotheses."""

    record: Record
    folder: Path

    def hypotheses(self, test_set: str) -> list[str]:
        """The hypotheses of a test set.

        Raises:
            DataError: the file is missing, or is not what the record's hash and count say.
        """
        score = self.record.scores[test_set]
        path = self.folder / score.hypotheses.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"hypotheses {path} cannot be read: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != score.hypotheses.sha256:
            raise DataError(f"hypotheses {path} were changed: their SHA-256 is not the record's.")
        lines = content.decode("utf-8").split("\n")[:-1]
        if len(lines) != score.sentences:
            raise DataError(f"hypotheses {path} have {len(lines)} lines, the record says {score.sentences}.")
        return lines


class Reading(NamedTuple):
    """What was found in some folders: the records by data set, row and seed, and a sentence for each file set aside."""

    records: tuple[Stored, ...]
    problems: tuple[str, ...]


def row_id(method: str, depth: Depth, preset: str, digest: str) -> str:
    """The row's name, the same for all seeds. ``digest`` starts with 8 hexadecimal digits of what defines the row."""
    if len(digest) < 8 or not set(digest) <= set("0123456789abcdef"):
        raise ValueError(f"a row needs at least 8 hexadecimal digits, got {digest!r}")
    return f"{method}.{depth}.{preset}.{digest[:8]}"


def write_record(folder: Path, record: Record, hypotheses: Mapping[str, Sequence[str]]) -> Path:
    """Write ``record`` and its hypotheses into ``folder`` (one per data set) and return the record's path.

    Each file appears whole or not at all, and the record last, so that a record never lacks its hypotheses.

    Raises:
        ValueError: the hypotheses are not those that the record's hashes describe.
    """
    if hypotheses.keys() != record.scores.keys():
        raise ValueError(f"hypotheses of {sorted(hypotheses)} for scores of {sorted(record.scores)}")
    for test_set, lines in hypotheses.items():
        if Hypotheses.of(record.row, record.seed, test_set, lines) != record.scores[test_set].hypotheses:
            raise ValueError(f"the hypotheses of {test_set!r} are not those of the record")
    for test_set, lines in hypotheses.items():
        write_text(folder / record.scores[test_set].hypotheses.file, _file_content(lines))
    path = folder / record.file
    write_text(path, record.model_dump_json(indent=2) + "\n")
    return path


def parse_record(text: str | bytes) -> Record:
    """A record from its JSON; one of an earlier schema is upgraded.

    Raises:
        DataError: not JSON, of a newer schema, or against a rule of the schema.
    """
    try:
        data = json.loads(text)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode("utf-8")  # Python reads NaN and lone surrogates.
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error}).") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise DataError("no record: it has no schema_version.")
    if version > SCHEMA_VERSION:
        raise DataError(
            f"written by a newer version (schema {version}; this one reads up to {SCHEMA_VERSION}): update it."
        )
    for step in range(version, SCHEMA_VERSION):
        if step not in UPGRADES:
            raise DataError(f"schema version {version} never existed.")
        try:
            data = UPGRADES[step](data)
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(f"it is no record of schema version {step}: {error}.") from error
    try:
        return Record.model_validate(data)
    except ValidationError as error:
        raise DataError(f"{explain(error)}.") from error


def read_records(folders: Iterable[Path]) -> Reading:
    """All records below ``folders``. A damaged file is named among the problems and the rest is read.

    Of two records of the same data set, row and seed the newer counts.

    Raises:
        UsageError: a folder does not exist.
    """
    found: dict[tuple[str, str, int], Stored] = {}
    problems: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"there is no folder of records {str(folder)!r}.")
        for path in sorted(folder.rglob("*.json")):
            try:
                stored = Stored(parse_record(path.read_bytes()), path.parent)
            except DataError as error:
                problems.append(f"{path}: {error}")
                continue
            except OSError as error:
                problems.append(f"{path}: {error.strerror}.")
                continue
            key = (stored.record.dataset, stored.record.row, stored.record.seed)
            if (other := found.get(key)) and other.record != stored.record:
                older, stored = sorted((other, stored), key=lambda each: each.record.created)
                problems.append(
                    f"{older.folder / older.record.file}: left out, a newer record of this row and seed exists."
                )
            found[key] = stored
    return Reading(tuple(found[key] for key in sorted(found)), tuple(problems))


def check_hypotheses(stored: Stored) -> list[str]:
    """A sentence for each hypotheses file that is missing or not what the record says."""
    problems = []
    for test_set in stored.record.scores:
        try:
            stored.hypotheses(test_set)
        except DataError as error:
            problems.append(str(error))
    return problems


def find_row(records: Iterable[Stored], query: str) -> list[Stored]:
    """The records of one row, by seed: ``[DATASET/]ROW[@SEED]``, where ROW may be cut at any of its dots.

    ``multi30k-en-de/word_level.2-2@1`` is seed 1 of the only word-level row of that depth on that data set.

    Raises:
        UsageError: no such row or seed, or more than one row fits; the candidates are listed.
    """
    records = list(records)
    dataset, _, rest = query.rpartition("/")
    name, at, seed = rest.partition("@")
    known = sorted({(each.record.dataset, each.record.row) for each in records})
    within = [key for key in known if not dataset or key[0] == dataset]
    fitting = [key for key in within if key[1] == name] or [key for key in within if key[1].startswith(f"{name}.")]
    if not fitting:
        raise unknown_name("row", query, ("/".join(key) for key in known))
    if len(fitting) > 1:
        raise UsageError(
            f"row {query!r} may be any of: {', '.join('/'.join(key) for key in fitting)}. Give more of the name."
        )
    row = sorted(
        (each for each in records if (each.record.dataset, each.record.row) == fitting[0]),
        key=lambda each: each.record.seed,
    )
    if not at:
        return row
    chosen = [each for each in row if str(each.record.seed) == seed]
    if not chosen:
        raise unknown_name(f"seed of row {'/'.join(fitting[0])}", seed, (str(each.record.seed) for each in row))
    return chosen


def _file_content(lines: Sequence[str]) -> str:
    if any("\n" in line for line in lines):
        raise ValueError("a hypothesis must be one line")
    return "".join(f"{line}\n" for line in lines)
