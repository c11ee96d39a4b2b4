"""What is measured of a row besides its scores: further metrics, those asked for now or before, and its speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.plan import Row, Task
from bench.results import FurtherScore, Phase, Record, Speed
from bench.store import Store

PREFIX = "metric-"
"""Of the names that the artifacts of further metrics have in a record."""
SPEED = "speed"
"""The name of the artifact behind a record's speed."""


@dataclass(frozen=True)
class Scored:
    """One further metric of a row and seed."""

    artifact: str
    scores: Mapping[str, FurtherScore]
    """By test set."""


Further = Mapping[str, Scored]
"""By the metric's name."""


@dataclass(frozen=True)
class Timed:
    """The speed of a row, and what measuring it took."""

    artifact: str
    speed: Speed
    phases: tuple[Phase, ...]
    wall: float


def own_artifacts(record: Record) -> dict[str, str]:
    """What the row rests on: its artifacts without those of further metrics and of its speed."""
    return {name: key for name, key in record.artifacts.items() if not name.startswith(PREFIX) and name != SPEED}


def lacking(record: Record, row: Row) -> tuple[Task, ...]:
    """The tasks of the metrics that are asked for and not in the record."""
    return tuple(task for task in row.metrics if record.artifacts.get(_name(task)) != task.key)


def of_record(record: Record) -> Further:
    """The further metrics that a record has."""
    return {
        name: Scored(key, {test: each for test, score in record.scores.items() for each in score.further
                           if PREFIX + each.name == name})
        for name, key in record.artifacts.items()
        if name.startswith(PREFIX)
    }  # fmt: skip


def of_store(store: Store, row: Row) -> Further:
    """The metrics that are asked for and were computed."""
    found = {}
    for task in row.metrics:
        if artifact := store.find(task.kind, task.key):
            details = artifact.details
            values = {
                test: FurtherScore(**details["further"], value=value) for test, value in details["values"].items()
            }
            found[_name(task)] = Scored(task.key, values)
    return found


def with_further(record: Record, found: Further) -> Record:
    """The record with these further metrics and no others, by name."""
    names = sorted(found)
    scores = {
        test: score.model_copy(
            update={"further": tuple(found[name].scores[test] for name in names if test in found[name].scores)}
        )
        for test, score in record.scores.items()
    }
    artifacts = {name: key for name, key in record.artifacts.items() if not name.startswith(PREFIX)}
    artifacts |= {name: found[name].artifact for name in names}
    return record.model_copy(update={"scores": scores, "artifacts": artifacts})


def speed_of(record: Record) -> Timed | None:
    """The speed that a record has."""
    artifact = record.artifacts.get(SPEED)
    if artifact is None or record.speed is None:
        return None
    phases = tuple(phase for phase in record.phases if phase.artifact == artifact)
    return Timed(artifact, record.speed, phases, record.walls.get(artifact, 0.0))


def with_speed(record: Record, timed: Timed | None) -> Record:
    """The record with this speed in place of any other; without any where it is None."""
    former = record.artifacts.get(SPEED, "")
    artifacts = {name: key for name, key in record.artifacts.items() if name != SPEED}
    phases = tuple(phase for phase in record.phases if phase.artifact != former)
    walls = {key: wall for key, wall in record.walls.items() if key != former}
    if timed:
        artifacts |= {SPEED: timed.artifact}
        phases += timed.phases
        walls |= {timed.artifact: timed.wall}
    speed = timed.speed if timed else None
    return record.model_copy(update={"speed": speed, "artifacts": artifacts, "phases": phases, "walls": walls})


def _name(task: Task) -> str:
    return PREFIX + str(task.inputs["metric"])
