"""Whether a record's name, artifacts and trials are those that its own recipe and settings lead to.

A row is named after what defines it, an artifact after what goes into it, and the official track's trials come from a
list that nobody chooses: all three follow from the recipe, the method's settings and the text. Where this version of
the program is the one that wrote the record, it plans the row anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from bench.config import Preset, explain
from bench.errors import UsageError
from bench.further import own_artifacts
from bench.method import Method
from bench.plan import Plan, Planner, Row, row_engine
from bench.registry import Methods
from bench.results import Record
from bench.sweep.space import space_of, with_point
from bench.sweep.study import versions


def unplanned(record: Record, data: Mapping[str, Any], plain: type[Method], method: Method) -> Iterator[str]:
    """What of a finished record does not follow from the rest of it, one sentence each.

    Args:
        data: what identifies the text that it was run on.
        plain: the method of the plain student, with whose code teachers are trained.
        method: the record's own, with its settings, from the file that it was run with.
    """
    try:
        preset = Preset.model_validate(record.recipe)
    except ValidationError as error:
        yield f"its recipe is none of this program's: {explain(error)}."
        return
    if preset.recipe() != record.recipe:
        yield "its recipe does not say what a recipe of its values says."
        return
    if record.engine != row_engine(preset):
        return  # another version of the code would have to say
    if said := _searched(record, preset):
        yield said
        return
    try:
        plan = _plan(record, preset, data, plain, method)
    except UsageError as error:
        yield f"its recipe and its settings do not go together: {error}"
        return
    row = next((row for row in plan.rows if _is_of(record, row)), None)
    if row is None:
        yield f"its method delivers no {record.delivery.name!r} of {record.delivery.depth}."
        return
    if row.id != record.row:
        yield f"its recipe and its settings are those of the row {row.id}."
    yield from _artifacts(record, row)
    yield from _trials(record, preset, plan)


def _searched(record: Record, preset: Preset) -> str | None:
    """What of its search is not as its recipe has it."""
    tuning, sweep = preset.tuning, record.sweep
    if record.role == "teacher":
        return "it is a teacher's, and has a search." if sweep else None
    if (asked := tuning.trials if tuning.trials > 1 else 0) != (made := len(sweep.trials) if sweep else 0):
        return f"its recipe asks for {asked} trials, and it has {made}."
    pruner = None if tuning.pruner == "none" else tuning.pruner
    if sweep and (sweep.sampler, sweep.pruner, sweep.seed) != (tuning.sampler, pruner, tuning.seed):
        return "the sampler, the pruner or the seed of its search is not that of its recipe."
    return None


def _plan(record: Record, preset: Preset, data: Mapping[str, Any], plain: type[Method], method: Method) -> Plan:
    """The plan of the record's row, with the settings that its search began from."""
    name, sweep, pinned = method.name, record.sweep, frozenset[str]()
    if sweep:
        method = with_point(method, sweep.trials[0].values)
        pinned = frozenset(each.name for each in space_of(method, preset).dimensions) - sweep.space.keys()
    device = "cpu" if record.environment.device == "cpu" else "cuda"
    methods = Methods({"baseline": plain, name: type(method)}, {})
    planner = Planner(record.dataset, data, preset, methods, device, pinned)
    # The trials learn from the teacher of the first seed.
    return planner.plan([name], {name: method.settings.model_dump()}, sorted({1, record.seed}))


def _is_of(record: Record, row: Row) -> bool:
    delivery = record.delivery
    known = row.role, row.seed, row.delivery.name, row.delivery.depth
    return known == (record.role, record.seed, delivery.name, delivery.depth)


def _artifacts(record: Record, row: Row) -> Iterator[str]:
    """Whether it rests on the artifacts that its row rests on."""
    named, expected = own_artifacts(record), row.artifacts
    if record.role == "method" and named.get("teacher") != expected.get("teacher"):
        return  # the plain student's file was another one then, which is told of the teacher's own record
    if odd := sorted(name for name in named.keys() | expected.keys() if named.get(name) != expected.get(name)):
        yield f"its {', '.join(odd)} are not the artifacts that its recipe and its settings lead to."


def _trials(record: Record, preset: Preset, plan: Plan) -> Iterator[str]:
    """Whether it was searched where its method and its recipe say, at the points of the official list."""
    if not (sweep := record.sweep):
        return
    space = next(each.space for each in plan.sweeps if each.method == record.method.name)
    if sweep.space != space.as_json():
        yield "it was not searched where its method and its recipe say."
    elif record.track == "official" and sweep.versions == versions():  # others may draw other points
        points = space.points(len(sweep.trials), preset.tuning.seed)
        if odd := [trial.number for trial, point in zip(sweep.trials, points, strict=True) if trial.values != point]:
            yield f"trial {odd[0]} did not have the values of the official list."
