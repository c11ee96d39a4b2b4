"""Which rows' speed is to be measured together, and how it gets into their records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench import ENGINE
from bench.measure.speed import VERSION
from bench.plan import Task
from bench.recorder import failed_record
from bench.records import Stored, read_records, rewrite_record
from bench.request import Prepared
from bench.results import Record, Speed
from bench.sweep.executor import Failure
from leaderboard.recipes import comparable


def timing(prepared: Prepared, *, planned: bool = False) -> Task | None:
    """The task that measures all rows of the plan's table in one go: also those that earlier runs added to it, since a
    speed compares with no other than those of its go. None where there is no row, or no model is left to measure.

    Args:
        planned: whether the rows that have not finished count as well: what is to be measured if they do.
    """
    rows = {record.row: _finished(record) for record in _first_finished(prepared)}
    if planned:
        for row in prepared.plan.rows:
            tokenizer = row.scores.upstream[0].key
            rows.setdefault(
                row.id, _entry(row.id, row.seed, (row.model.kind, row.model.key), tokenizer, row.delivery.depth)
            )
    if not rows:
        return None
    preset, corpus = prepared.plan.preset, _corpus(prepared)
    inputs = {
        "kind": "speed",
        "engine": ENGINE["speed"],
        "needs": [corpus.key],
        "protocol": preset.speed.model_dump(mode="json"),
        "version": VERSION,
        "search": preset.search.model_dump(mode="json"),
        "primary": prepared.dataset.primary,
        "device": prepared.place.device.partition(":")[0],
        "rows": [rows[name] for name in sorted(rows)],
    }
    task = Task("speed", f"speed of {len(rows)} rows", inputs, (corpus,))
    store = prepared.store
    there = any(store.find(kind, key) for kind, key in (row["model"] for row in rows.values()))
    return task if planned or there or store.find("speed", task.key) else None


def record_speed(prepared: Prepared, task: Task) -> None:
    """Write what was measured into the records of its rows: into that of the seed that was, and out of the others'."""
    artifact = prepared.store.find(task.kind, task.key)
    if artifact is None:
        return
    seeds = {row["row"]: row["seed"] for row in task.inputs["rows"]}
    for stored in _table(prepared):
        record = stored.record
        if record.row not in artifact.details["rows"]:
            continue
        artifacts = {kind: key for kind, key in record.artifacts.items() if kind != task.kind}
        speed = None
        if record.seed == seeds[record.row]:
            speed = Speed.model_validate(artifact.details["rows"][record.row])
            artifacts[task.kind] = task.key
        if (speed, artifacts) != (record.speed, record.artifacts):
            rewrite_record(stored.folder, record.model_copy(update={"speed": speed, "artifacts": artifacts}))


def _corpus(prepared: Prepared) -> Task:
    return next(task for task in prepared.plan.rows[0].scores.upstream if task.kind == "corpus")


def _table(prepared: Prepared) -> list[Stored]:
    """The records of the run folder that stand in one table with the plan's rows."""
    if not prepared.records.is_dir():
        return []
    mine = comparable(failed_record(prepared, prepared.plan.rows[0], Failure("not run")))
    return [each for each in read_records([prepared.records]).records if comparable(each.record) == mine]


def _first_finished(prepared: Prepared) -> Iterable[Record]:
    """The first finished seed of each row."""
    found: dict[str, Record] = {}
    for stored in _table(prepared):
        if stored.record.status == "ok":
            found.setdefault(stored.record.row, stored.record)
    return found.values()


def _finished(record: Record) -> dict[str, Any]:
    kind = "teacher" if record.role == "teacher" else "student"
    model = (kind, record.artifacts[kind])
    return _entry(record.row, record.seed, model, record.artifacts["tokenizer"], record.delivery.depth)


def _entry(row: str, seed: int, model: tuple[str, str], tokenizer: str, depth: tuple[int, int]) -> dict[str, Any]:
    return {"row": row, "seed": seed, "model": list(model), "tokenizer": tokenizer, "depth": list(depth)}
