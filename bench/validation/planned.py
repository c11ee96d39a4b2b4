"""Whether a record's name, artifacts and trials are those that its own recipe and settings lead to.

A row is named after what defines it, an artifact after what goes into it, and the official track's trials come from a
list that nobody chooses: all three follow from the recipe, the method's settings and the text. Where this version of
the program is the one that wrote the record, it plans the row anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from bench import ENGINE
from bench.config import Preset, explain
from bench.errors import UsageError
from bench.further import own_artifacts
from bench.method import Method
from bench.plan import Plan, Planner, Row, row_engine
from bench.registry import Methods
from bench.results import Record
from bench.sweep.space import space_of, with_point
from bench.sweep.study import versions

UNTAUGHT = frozenset({"tokenizer", "corpus"})
"""Artifacts that no teacher has a part in."""
SEARCHED = ("sweep", "student", "scores")
"""Artifacts that rest on the points of a search."""


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
        if all(ENGINE.get(kind) == version for kind, version in record.engine.items()):
            yield f"its recipe is none of this program's: {explain(error)}."
        return
    if record.engine != row_engine(preset):
        return  # another version of the code would have to say
    if preset.recipe() != record.recipe:
        yield "its recipe does not say what a recipe of its values says."
        return
    if said := _searched(record, preset):
        yield said
        return
    try:
        plan = _plan(record, preset, data, plain, method)
        if why := plan.left_out.get(method.name):
            raise UsageError(why)
    except (UsageError, ValueError, ArithmeticError) as error:  # anybody may have written the numbers
        yield f"its recipe and its settings do not go together: {error}"
        return
    row = next((row for row in plan.rows if _is_of(record, row)), None)
    if row is None:
        yield f"its method delivers no {record.delivery.name!r} of {record.delivery.depth} as a {record.role}."
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
    made = len(sweep.trials) if sweep else 0
    if sweep and tuning.trials == 1:
        return "its recipe asks for no search, and it has one."
    if tuning.trials > 1 and tuning.trials != made:
        return f"its recipe asks for {tuning.trials} trials, and it has {made}."
    pruner = None if tuning.pruner == "none" else tuning.pruner
    if sweep and (sweep.sampler, sweep.pruner, sweep.seed) != (tuning.sampler, pruner, tuning.seed):
        return "the sampler, the pruner or the seed of its search is not that of its recipe."
    return None


def _plan(record: Record, preset: Preset, data: Mapping[str, Any], plain: type[Method], method: Method) -> Plan:
    """The plan of the record's row. A search began at what is published; what was given by hand was not searched."""
    name, sweep, pinned = method.name, record.sweep, frozenset[str]()
    if sweep:
        own = {each.name for each in space_of(method, preset).dimensions if each.name.startswith(f"{name}.")}
        published = type(method)().settings.model_dump()
        method = with_point(method, {each: published[each.partition(".")[2]] for each in own & sweep.space.keys()})
        pinned = frozenset(own - sweep.space.keys())  # a recipe does not have what it shares and was given by hand
    device = "cpu" if record.environment.device == "cpu" else "cuda"
    methods = Methods({"baseline": plain, name: type(method)}, {})
    planner = Planner(record.dataset, data, preset, methods, device, pinned)
    # The trials learn from the teacher of the first seed.
    return planner.plan([name], {name: method.settings.model_dump()}, sorted({1, record.seed}))


def _is_of(record: Record, row: Row) -> bool:
    delivery = record.delivery
    known = row.role, row.method, row.seed, row.delivery.name, row.delivery.depth
    return known == (record.role, record.method.name, record.seed, delivery.name, delivery.depth)


def _artifacts(record: Record, row: Row) -> Iterator[str]:
    """Whether it rests on the artifacts that its row rests on."""
    named, expected = own_artifacts(record), row.artifacts
    if record.role == "method" and named.get("teacher", "") != expected.get("teacher", ""):
        # The plain student's file was another one then, as the teacher's own record must say.
        if sorted(map(_kind, named)) != sorted(map(_kind, expected)):
            yield f"it rests on {', '.join(sorted(named))}, and its row on {', '.join(sorted(expected))}."
            return
        named, expected = ({name: each[name] for name in UNTAUGHT & each.keys()} for each in (named, expected))
    elif record.track == "official" and record.sweep and record.sweep.versions != versions():
        # Other packages may have drawn other points, on which these rest.
        named, expected = ({n: key for n, key in each.items() if n not in SEARCHED} for each in (named, expected))
    if odd := sorted(name for name in named.keys() | expected.keys() if named.get(name) != expected.get(name)):
        yield f"its {', '.join(odd)} are not the artifacts that its recipe and its settings lead to."


def _kind(name: str) -> str:
    return name.partition("-")[0]


def _trials(record: Record, preset: Preset, plan: Plan) -> Iterator[str]:
    """Whether it was searched where its method and its recipe say, at the points of the official list."""
    if not (sweep := record.sweep):
        return
    space = next(each.space for each in plan.sweeps if each.method == record.method.name)
    if sweep.space != space.as_json():
        yield "it was not searched where its method and its recipe say."
    elif sweep.trials[0].values != space.published:
        yield "its search did not begin at what is published."
    elif record.track == "official" and sweep.versions == versions():  # others may draw other points
        points = space.points(len(sweep.trials), preset.tuning.seed)
        if odd := [trial.number for trial, point in zip(sweep.trials, points, strict=True) if trial.values != point]:
            yield f"trial {odd[0]} did not have the values of the official list."
