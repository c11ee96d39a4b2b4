"""Which rows' speed is to be measured together, and how it gets into their records."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from bench import ENGINE
from bench.further import Timed, with_speed
from bench.ledger import phases_of
from bench.plan import Row, Task
from bench.recorder import failed_record
from bench.records import Stored, read_records, rewrite_record
from bench.request import Prepared
from bench.results import Record, Speed
from bench.store import Artifact
from bench.sweep.executor import Failure
from leaderboard.recipes import comparable


def timing(prepared: Prepared, *, planned: bool = False) -> Task | None:
    """The task that measures all rows of the plan's table in one go: also those that earlier runs added to it, since a
    speed compares with no other than those of its go. None where there is no row whose model is left to measure.

    Args:
        planned: whether the rows that have not finished count as well: what is to be measured if they do.
    """
    rows = _finished(prepared)
    unfinished = {row.id: _of_row(row) for row in reversed(prepared.plan.rows) if row.id not in rows} if planned else {}
    rows |= unfinished
    if not rows:
        return None
    preset = prepared.plan.preset
    corpus = next(task for task in prepared.plan.rows[0].scores.upstream if task.kind == "corpus")
    inputs = {
        "kind": "speed",
        "engine": ENGINE["speed"],
        "needs": [corpus.key],
        "protocol": preset.speed.model_dump(mode="json"),
        "search": preset.search.model_dump(mode="json"),
        "device": prepared.place.device.partition(":")[0],
        "rows": [rows[name] for name in sorted(rows)],
    }
    return Task("speed", f"speed of {len(rows)} rows", inputs, (corpus,))


def absent(prepared: Prepared, task: Task) -> tuple[Task, ...]:
    """The task and what it rests on, as far as it is to be carried out."""
    store = prepared.store
    if store.find(task.kind, task.key):
        return ()
    return tuple(each for each in task.upstream if store.find(each.kind, each.key) is None)


def record_speed(prepared: Prepared, task: Task) -> set[tuple[str, int]]:
    """Write what was measured into the records of its rows: into that of the seed that was, and out of the others'.

    Returns:
        Row and seed of the records that were changed.
    """
    artifact = prepared.store.find(task.kind, task.key)
    if artifact is None:
        return set()
    seeds = {row["row"]: row["seed"] for row in task.inputs["rows"]}
    changed = set()
    for stored in _table(prepared):
        record = stored.record
        if record.row not in artifact.details["rows"]:
            continue
        timed = with_speed(record, _timed(record, artifact) if record.seed == seeds[record.row] else None)
        if timed != record:
            now = datetime.now(UTC).replace(microsecond=0)
            rewrite_record(stored.folder, timed.model_copy(update={"created": now}))
            changed.add((record.row, record.seed))
    return changed


def _timed(record: Record, artifact: Artifact) -> Timed:
    """What the go has of a row."""
    rows = artifact.details["rows"]
    phases = tuple(phases_of(artifact, "measuring", shared_by=len(rows)))
    return Timed(artifact.key, Speed.model_validate(rows[record.row]), phases, artifact.details["wall"])


def _table(prepared: Prepared) -> list[Stored]:
    """The records of the run folder that stand in one table with the plan's rows."""
    if not prepared.records.is_dir():
        return []
    mine = comparable(failed_record(prepared, prepared.plan.rows[0], Failure("not run")))
    return [each for each in read_records([prepared.records]).records if comparable(each.record) == mine]


def _finished(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """The first finished seed of each row whose model and tokenizer are there."""
    found: dict[str, dict[str, Any]] = {}
    for stored in _table(prepared):
        entry = _of_record(stored.record)
        if entry and all(map(prepared.store.find, *zip(entry["model"], ("tokenizer", entry["tokenizer"])))):
            found.setdefault(stored.record.row, entry)
    return found


def _of_record(record: Record) -> dict[str, Any] | None:
    """None where it has not finished, or names no addresses: a record is nobody's word for a folder."""
    kind = "teacher" if record.role == "teacher" else "student"
    model, tokenizer = (record.artifacts.get(name, "") for name in (kind, "tokenizer"))
    if record.status != "ok" or not all(re.fullmatch("[0-9a-f]{64}", key) for key in (model, tokenizer)):
        return None
    return _entry(record.row, record.seed, (kind, model), tokenizer, record.delivery.depth)


def _of_row(row: Row) -> dict[str, Any]:
    model, tokenizer = (row.model.kind, row.model.key), row.scores.upstream[0].key
    return _entry(row.id, row.seed, model, tokenizer, row.delivery.depth)


def _entry(row: str, seed: int, model: tuple[str, str], tokenizer: str, depth: tuple[int, int]) -> dict[str, Any]:
    """What the task is told of a row, as JSON has it."""
    return {"row": row, "seed": seed, "model": list(model), "tokenizer": tokenizer, "depth": list(depth)}
