"""What a record says of its making, against what its method, its recipe and its artifacts imply."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import Any

import torch
from pydantic import ValidationError

from bench import ENGINE
from bench.config import ModelConfig, Preset, explain, read_value
from bench.errors import UsageError
from bench.ledger import KINDS, NAMES, charge
from bench.method import Method, TeacherUse
from bench.nmt.model import ParameterCounts, Transformer, parameter_counts
from bench.registry import BUILT_IN, built_in_hashes, load_file
from bench.results import Record, shared_part
from bench.ruleset import RULES
from leaderboard.again import ForeignError, options_of
from leaderboard.recipes import flatten

WORK = {
    "teacher": NAMES["teacher", "training"],
    "student": NAMES["student", "training"],
    "text": "teacher decoding",
    "signals": "teacher signals",
}
"""The phase that an artifact's own work is, by its kind."""
STAND_FOR = {
    "--seeds": "seeds",
    "--trials": "tuning.trials",
    "--track": "tuning.track",
    "--sampler": "tuning.sampler",
    "--pruner": "tuning.pruner",
    "--teacher-signals": "signals.kind",
}
"""The values of a recipe that options stand for."""
PLACE = "budget.place"
"""The value of a recipe that the run fills in."""
RANGES = "tuning.space."
"""What the names of searched ranges begin with."""


def claims(record: Record) -> Iterator[str]:
    """What does not hold, one sentence each."""
    yield from _command(record)
    if record.status == "ok":
        yield from _charges(record)
        present = record.engine.get(model_of(record)) == ENGINE[model_of(record)]
        if present:
            yield from _parameters(record)
        try:
            method = method_of(record)
        except UsageError as error:
            yield f"its settings are none of its method's: {error}"
            return
        if method:
            yield from _teacher(record, method)
            yield from _stages(record, method)
        if method and present:  # of an earlier version of the code its own would have to say
            yield from _shape(record, method)


def model_of(record: Record) -> str:
    """The name of the artifact that its model is from."""
    return "teacher" if record.role == "teacher" else "student"


def _command(record: Record) -> Iterator[str]:
    """What the command that is shown as the record's contradicts. One that is none of the program's is not shown."""
    try:
        options = options_of(record.command)
    except ForeignError:
        return
    given = dict(options)
    name = "baseline" if record.role == "teacher" else record.method.name
    if not {name, "all"} & set(given.get("--methods", name).split(",")):
        yield f"its command does not run {name}."
    for option, own in (("--dataset", record.dataset), ("--preset", record.preset)):
        if given.get(option, own) != own:
            yield f"its command has {option} {given[option]}, and it is of {own}."
    by_hand, by_option = _asked(options)
    head = f"{record.method.name}."
    mine = {} if record.role == "teacher" else {key: value for key, value in by_hand.items() if key.startswith(head)}
    shared = {key: value for key, value in by_hand.items() if key not in mine} | by_option
    try:
        yield from _recipe_values(record, shared, pinned=by_hand)
        yield from _method_values(record, mine)
    except (UsageError, RecursionError) as error:
        yield f"its command asks for what it could not be made with: {error}"


def _recipe_values(record: Record, given: dict[str, Any], pinned: Collection[str]) -> Iterator[str]:
    """The values that its command gives, read as a run reads them, and that its recipe does not have."""
    if PLACE in flatten(given):
        raise UsageError(f"{PLACE} is filled in by a run.")
    try:
        preset = Preset.model_validate(record.recipe)
    except ValidationError:  # of another version of the program, or of none: what it says, as it stands
        own = flatten(record.recipe)
        yield from _other(own, own | {key: value for key, value in flatten(given).items() if key in own}, given)
        return
    kept = {key: value for key, value in given.items() if not key.startswith(RANGES) or _searches(preset, key)}
    yield from _other(preset.recipe(), preset.overridden(kept).without(pinned).recipe(), kept)


def _searches(preset: Preset, name: str) -> bool:
    """Whether a recipe has what the name of a range is of: those that nothing is drawn from are left out of it."""
    section, _, rest = name.removeprefix(RANGES).partition(".")
    ranges = preset.tuning.space.get(section)
    return ranges is not None and (not rest or rest.partition(".")[0] in ranges)


def _method_values(record: Record, given: dict[str, Any]) -> Iterator[str]:
    """The same of the settings of its method. What another file makes of its values, that would have to say."""
    try:
        method = method_of(record)
    except UsageError:
        return  # which is told of the settings
    if given and method:
        name, own = record.method.name, method.settings.model_dump(mode="json")
        made = type(method)(own | {key.removeprefix(f"{name}."): value for key, value in given.items()})
        yield from _other({name: own}, {name: made.settings.model_dump(mode="json")}, given)


def _other(own: dict[str, Any], asked: dict[str, Any], given: Collection[str]) -> Iterator[str]:
    """The values that a command asks for and a row does not have; where one entails others, that which is given."""
    own, asked = flatten(own), flatten(asked)
    names = sorted((own.keys() | asked.keys()) - {PLACE})
    other = [name for name in names if own.get(name) != asked.get(name)]
    for name in [name for name in other if name in given] or other:
        yield f"its command asks for {name} = {json.dumps(asked.get(name))}, and it was not made with that."


def _asked(options: Iterable[tuple[str, str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values that a command gives, by dotted name: by hand, and by options that stand for them."""
    by_hand, by_option = dict[str, Any](), dict[str, Any]()
    for option, text in options:
        if option == "--set":
            name, _, value = text.partition("=")
            by_hand[name] = read_value(value)
        elif option == "--budget":
            kind, _, amount = text.partition(":")
            if amount:
                by_option["training.target_tokens" if kind == "tokens" else "budget.amount"] = read_value(amount)
            by_option["budget.kind"] = kind
        elif option in STAND_FOR:
            by_option[STAND_FOR[option]] = read_value(text)
    return by_hand, by_option


def _charges(record: Record) -> Iterator[str]:
    """Whether each phase is charged as what it is, and the work behind each artifact is among them."""
    named = {key: name for name, key in record.artifacts.items()}
    for phase in record.phases:
        if name := named.get(phase.artifact or ""):
            own = name == model_of(record)
            kind = charge("training" if own else KINDS.get(name.partition("-")[0], "measuring"), phase.name, own=own)
            if phase.kind != kind:
                yield f"the phase {phase.name!r} of its {name} is charged as {phase.kind}, and it is {kind}."
    there = {(phase.artifact, phase.name) for phase in record.phases if phase.seconds > 0}
    for name, key in record.artifacts.items():
        if (work := WORK.get(name.partition("-")[0])) and (key, work) not in there:
            yield f"its {name} has no phase {work!r}."
    trials = sum(phase.seconds for phase in record.phases if phase.kind == "tuning")
    searched = record.sweep.seconds if record.sweep else 0.0
    if RULES.unaccounted(searched, trials):
        yield f"its trials took {searched:.2f} s by its sweep, and {trials:.2f} s by its ledger."


def _parameters(record: Record) -> Iterator[str]:
    """Whether a model of its shape has so many parameters, with a vocabulary that its recipe allows."""
    model, told = record.model, record.parameters
    if model is None or told is None:
        return
    one, two = (_counted(model, vocabulary) for vocabulary in (1, 2))
    vocabulary, rest = divmod(told.total - one.total, two.total - one.total)
    allowed = _section(record, "tokenizer").get("vocabulary")
    fits = isinstance(allowed, int) and 0 <= vocabulary < allowed and not rest
    if told.non_embedding != one.non_embedding or not fits:
        yield (
            f"a model of its shape and vocabulary does not have {told.total:,} parameters, of which "
            f"{told.non_embedding:,} outside the embeddings."
        )


@cache
def _counted(model: ModelConfig, vocabulary: int) -> ParameterCounts:
    with torch.device("meta"):
        return parameter_counts(Transformer(model, vocabulary))


def method_of(record: Record) -> Method | None:
    """Its method with its settings, where that is one of this version of the program; a teacher's is the plain one.

    Raises:
        UsageError: that method cannot have the record's settings.
    """
    name = record.method.name if record.role != "teacher" else "baseline"
    if built_in_hashes().get(name) != record.method.source_sha256:
        return None
    return load_file(BUILT_IN / f"{name}.py")(None if record.role == "teacher" else record.method.settings)


def _teacher(record: Record, method: Method) -> Iterator[str]:
    """Whether it rests on a teacher if its method does."""
    if record.role != "method":
        return
    from_text = any(stage.text.origin == "teacher" for stage in method.stages())
    kinds = {name.partition("-")[0] for name in record.artifacts}
    cached = _section(record, "signals").get("kind") == "cached"
    needed = {
        "teacher": method.teacher is TeacherUse.FROZEN or from_text,
        "text": from_text,
        "signals": method.teacher is TeacherUse.FROZEN and method.distributions_only and cached,
    }
    for kind, needs in needed.items():
        if needs and kind not in kinds:
            yield f"{record.method.name} needs a {kind} artifact, and it names none."


def _stages(record: Record, method: Method) -> Iterator[str]:
    """Whether its training had the stages of its method, each of which may exceed the budget by a batch."""
    if record.training is None:
        return
    made, asked = [str(stage.get("name")) for stage in record.training.stages], [each.name for each in method.stages()]
    if made != asked:
        names = ", ".join(dict.fromkeys(made))
        yield f"its training had {len(made)} stages ({names}), and its method's are: {', '.join(asked)}."


def _shape(record: Record, method: Method) -> Iterator[str]:
    """Whether it has the shape that method and recipe give it."""
    point = record.sweep.best.values if record.sweep else {}
    searched = {
        name.partition(".")[2]: value
        for name, value in shared_part(record.method.name, point).items()
        if name.startswith("student.")
    }
    try:
        student = ModelConfig.model_validate(_section(record, "student") | searched)
        teacher = ModelConfig.model_validate(_section(record, "teacher"))
        whole = teacher if record.role == "teacher" else method.architecture(student, teacher)
        depths = [each.depth for each in method.deliveries(student, teacher)]
    except (ValidationError, UsageError) as error:
        said = explain(error) if isinstance(error, ValidationError) else error
        yield f"its recipe has no shapes that its method could have: {said}."
        return
    depth = record.delivery.depth
    expected = whole.model_copy(update={"encoder_layers": depth.encoder, "decoder_layers": depth.decoder})
    if record.model != expected or depth not in ([teacher.depth] if record.role == "teacher" else depths):
        yield "its model does not have the shape that its recipe and its method give it."


def _section(record: Record, name: str) -> dict[str, Any]:
    section = record.recipe.get(name)
    return section if isinstance(section, dict) else {}
