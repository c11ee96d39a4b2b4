"""Records on disk: how they are written, read, upgraded from earlier schemas, and found by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from bench.config import explain
from bench.errors import DataError, UsageError, unknown_name
from bench.measure.statistics import parse_statistics
from bench.results import SCHEMA_VERSION, Record, StoredFile
from bench.store import write_text


def _from_1(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew no tuning, no budget but target tokens, and no states of failure."""
    recipe = {**data.get("recipe", {}), "tuning": {"trials": 1}, "budget": {"kind": "tokens", "amount": 0.0}}
    training = "teacher_training" if data.get("role") == "teacher" else "training"
    tokens = recipe.get(training, {}).get("target_tokens", 0)
    spent = (data.get("training") or {}).get("target_tokens")
    failed = {"failure": "exception"} if data.get("status") == "failed" else {}
    budget = {"kind": "tokens", "limit": tokens, "spent": spent}
    return {**data, **failed, "schema_version": 2, "recipe": recipe, "budget": budget}


_PHASES_2 = {
    "tokenizer: tokenizer": "tokenizer",
    "corpus: encoding": "encoding",
    "teacher: training": "teacher training",
    "teacher: dev evaluation": "dev evaluation",
    "teacher: checkpointing": "checkpointing",
    "text: choosing": "choosing",
    "student: training": "student training",
    "student: dev evaluation": "dev evaluation",
    "student: checkpointing": "checkpointing",
    "scores: decoding": "final decoding",
    "scores: scoring": "scoring",
}
"""The names of phases in version 2 and what they are called since."""


def _from_2(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 knew no energy, no speed, and no statistics of sentences; its phases had other names."""
    processes = (data.get("training") or {}).get("processes", 1)
    names = dict(_PHASES_2)
    if any(phase["kind"] == "teacher" for phase in data.get("phases", ())):
        names["student: training"] = "student training, with any passes of the teacher"
    phases = [
        {
            **phase,
            "name": names.get(phase["name"], phase["name"]),
            "devices": processes if phase["kind"] in ("training", "teacher") else 1,
        }
        for phase in data.get("phases", ())
    ]
    return {**data, "schema_version": 3, "phases": phases, "energy": "not measured: recorded before energy was"}


def _from_3(data: dict[str, Any]) -> dict[str, Any]:
    """Version 3 knew no curves."""
    return {**data, "schema_version": 4}


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2, 3: _from_3}
"""The step from each earlier schema version to the next; whoever raises ``SCHEMA_VERSION`` adds the step here."""


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
        path, content = self._read("hypotheses", score.hypotheses)
        lines = content.split("\n")[:-1]
        if len(lines) != score.sentences:
            raise DataError(f"hypotheses {path} have {len(lines)} lines, the record says {score.sentences}.")
        return lines

    def statistics(self, test_set: str) -> NDArray[np.int64] | None:
        """(sentences, 28) counts of a test set, as ``bench.measure.statistics`` has them; None if it has none.

        Raises:
            DataError: the file is missing, or is not what the record's hash and count say.
        """
        score = self.record.scores[test_set]
        if score.statistics is None:
            return None
        path, content = self._read("statistics", score.statistics)
        try:
            found = parse_statistics(content)
        except ValueError as error:
            raise DataError(f"statistics {path} cannot be used: {error}.") from error
        if len(found) != score.sentences:
            raise DataError(f"statistics {path} are of {len(found)} sentences, the record says {score.sentences}.")
        return found

    def _read(self, what: str, stored: StoredFile) -> tuple[Path, str]:
        path = self.folder / stored.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{what} {path} cannot be read: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != stored.sha256:
            raise DataError(f"{what} {path} were changed: their SHA-256 is not the record's.")
        try:
            return path, content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{what} {path} are not UTF-8 text.") from error


class Reading(NamedTuple):
    """What was found in some folders: the records by data set, row and seed, and a sentence for each file set aside."""

    records: tuple[Stored, ...]
    problems: tuple[str, ...]


def write_record(folder: Path, record: Record, files: Mapping[str, str]) -> Path:
    """Write ``record`` and the files of its scores into ``folder`` (one per data set) and return the record's path.

    Each file appears whole or not at all, and the record last, so that a record never lacks what belongs to it.

    Args:
        files: content by name of all files that the record names.

    Raises:
        ValueError: they are not those that the record's hashes describe.
    """
    described = {file.file: file for score in record.scores.values() for file in score.files}
    if files.keys() != described.keys():
        raise ValueError(f"files {sorted(files)} for a record that names {sorted(described)}")
    for name, content in files.items():
        if StoredFile.of(name, content) != described[name]:
            raise ValueError(f"the content of {name!r} is not that of the record")
    for name, content in files.items():
        write_text(folder / name, content)
    return rewrite_record(folder, record)


def rewrite_record(folder: Path, record: Record) -> Path:
    """Write a record whose files are there already, and return its path."""
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
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"it is no record of schema version {step}: {error}.") from error
    try:
        return Record.model_validate(data).read_from(version)
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
                    f"{older.folder / older.record.file}: left out, for the newer record of this row and seed in "
                    f"{stored.folder}."
                )
            found[key] = stored
    return Reading(tuple(found[key] for key in sorted(found)), tuple(problems))


def check_files(stored: Stored) -> list[str]:
    """A sentence for each file of hypotheses or statistics that is missing or not what the record says."""
    problems = []
    for test_set in stored.record.scores:
        for read in (stored.hypotheses, stored.statistics):
            try:
                read(test_set)
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
