"""What the contract of a method demands, each as a function that raises when a method breaks it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from bench.config import Frozen, explain
from bench.errors import UsageError
from bench.method import Choice, Method, Range, Stage, TeacherUse, Term
from bench.nmt.batch import PAD, Batch
from bench.sweep.space import shared_by_trials
from bench.toy import STUDENT, TEACHER, Toy, toy_batch

CLOSE = 1e-4
"""Relative difference that rounding may make."""


class ContractError(Exception):
    """A method breaks the contract; the message says how, in one sentence."""


class SkippedError(Exception):
    """A check does not apply to a method; the message says why."""


def identity(method: type[Method]) -> None:
    """It says who it is."""
    name = getattr(method, "name", None)
    if not (isinstance(name, str) and name.isidentifier() and name == name.lower()):
        raise ContractError(f"name must be a lower-case identifier, got {name!r}")
    if not getattr(method, "title", None):
        raise ContractError("title is missing")
    if not isinstance(method.teacher, TeacherUse):
        raise ContractError(f"teacher must be a TeacherUse, got {method.teacher!r}")


def settings(method: type[Method]) -> None:
    """Defaults and search ranges obey the settings' rules, and unknown names are refused."""
    if not issubclass(method.Settings, Frozen):
        raise ContractError("Settings must extend Method.Settings")
    try:
        method({"no_such_setting": 1})
    except UsageError:
        pass
    else:
        raise ContractError("Settings accepts a name that it does not have")
    defaults = method().settings
    try:
        method.Settings.model_validate(defaults.model_dump())
    except ValidationError as error:
        raise ContractError(f"a default breaks its own rule: {explain(error)}") from error
    for name, field in method.Settings.model_fields.items():
        if not field.description:
            raise ContractError(f"setting {name} has no description")
        extra = field.json_schema_extra
        search = extra.get("search") if isinstance(extra, dict) else None
        if search is not None:
            _searched(method, name, getattr(defaults, name), search)
    if method.plain is not None:
        method(method.plain)


def _searched(method: type[Method], name: str, default: object, search: object) -> None:
    if isinstance(search, Range):
        if not (isinstance(default, int | float) and search.low <= default <= search.high):
            raise ContractError(f"setting {name}: its default {default!r} lies outside its search range {search}")
        tried: tuple[object, ...] = (search.low, search.high)
    elif isinstance(search, Choice):
        if default not in search.values:
            raise ContractError(
                f"setting {name}: its default {default!r} is not among the values searched, {search.values}"
            )
        tried = search.values
    else:
        raise ContractError(f"setting {name}: search must be a Range or a Choice, got {search!r}")
    for value in tried:
        try:
            changed = method({name: value})
        except UsageError as error:
            raise ContractError(f"setting {name}: {value!r} is searched but not allowed: {error}") from error
        if shared_by_trials(changed, STUDENT, TEACHER) != shared_by_trials(method(), STUDENT, TEACHER):
            raise ContractError(
                f"setting {name}: {value!r} is searched but changes the text, the network, the teacher's use or what "
                "is delivered, which all trials share"
            )


def loss(method: type[Method]) -> None:
    """The loss is finite, and deterministic for a seed."""
    for stage in range(len(method().stages())):
        first, second = (_terms(method, toy_batch(), stage=stage, dropout=0.1) for _ in range(2))
        for name, term in first.items():
            if not (isinstance(term, Term) and isinstance(term.value, Tensor) and term.value.dim() == 0):
                raise ContractError(f"term {name!r} is not a Term with a scalar tensor")
            if not (math.isfinite(term.value.item()) and math.isfinite(term.weight)):
                raise ContractError(f"term {name!r} is not finite: {term.weight} * {term.value.item()}")
        if _values(first) != _values(second):
            changed = _differing(_values(first), _values(second), tolerance=0.0)
            raise ContractError(
                f"the loss is not deterministic: term {changed!r} differs between two runs with the same seed; "
                "draw from step.random or from PyTorch only"
            )


def padding(method: type[Method]) -> None:
    """Appended padding does not change the loss."""
    if not method().padding_invariant():
        raise SkippedError("the method declares that padding changes its loss")
    batch = toy_batch()
    padded = Batch(*(F.pad(getattr(batch, field.name), (0, 3), value=PAD) for field in dataclasses.fields(batch)))
    for stage in range(len(method().stages())):
        changed = _differing(
            _values(_terms(method, batch, stage=stage)), _values(_terms(method, padded, stage=stage)), tolerance=CLOSE
        )
        if changed is not None:
            raise ContractError(
                f"appended padding changes term {changed!r}; use packed positions, or override padding_invariant"
            )


def gradients(method: type[Method]) -> None:
    """In every stage gradients reach the student, and no frozen teacher; in some stage each of the method's modules."""
    unused: list[str] | None = None
    for stage, where in _stages(method):
        toy = Toy.of(method())
        loss = toy.loss(toy_batch(), stage=stage)
        if not loss.requires_grad:
            raise ContractError(f"the loss carries no gradient{where}")
        loss.backward()
        if not any(p.grad is not None and p.grad.any() for p in toy.student.model.parameters()):
            raise ContractError(f"no gradient reaches the student{where}")
        parts = {"student": toy.student.model, "modules": toy.modules}
        for part, name, parameter in _named(parts):
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                raise ContractError(f"the gradient of the {part}'s {name} is not finite{where}")
        for _, name, parameter in _named({"teacher": toy.teacher.model if toy.teacher else None}):
            if parameter.grad is not None or parameter.requires_grad:
                raise ContractError(f"a gradient reaches the frozen teacher's {name}{where}")
        own = _named({"modules": toy.modules})
        missed = [name for _, name, parameter in own if parameter.requires_grad and parameter.grad is None]
        unused = missed if unused is None else [name for name in unused if name in missed]
    if unused:
        raise ContractError(f"no gradient reaches the method's own {', '.join(unused)}: no stage's loss uses it")


def plain(method: type[Method]) -> None:
    """With distillation switched off, loss and gradients are those of plain training."""
    if method.plain is None:
        raise SkippedError("the method has no settings that switch distillation off")
    batch = toy_batch()
    toy = Toy.of(method(method.plain))
    for stage in range(len(toy.method.stages())):
        parameters = dict(toy.student.model.named_parameters())
        step = toy.step(batch, stage=stage)
        expected = step.positions.cross_entropy(step.student.forward(batch).log_probabilities)
        given = toy.loss(batch, stage=stage)
        if not math.isclose(given.item(), expected.item(), rel_tol=CLOSE):
            raise ContractError(
                f"with the settings {dict(method.plain)} the loss is {given.item():.6g}, but plain training's "
                f"{expected.item():.6g}"
            )
        gradients = [
            torch.autograd.grad(loss, list(parameters.values()), allow_unused=True) for loss in (expected, given)
        ]
        for name, wanted, found in zip(parameters, *gradients, strict=True):
            wanted, found = (torch.zeros(()) if value is None else value for value in (wanted, found))
            if not torch.allclose(found, wanted.expand_as(found), rtol=CLOSE, atol=CLOSE):
                raise ContractError(
                    f"with the settings {dict(method.plain)} the gradient of {name} is not plain training's"
                )


def unchanged(method: type[Method]) -> None:
    """The loss leaves batch, student, teacher and settings as they were."""
    for stage, where in _stages(method):
        toy, batch = Toy.of(method()), toy_batch()
        before = _snapshot(toy, batch)
        toy.loss(batch, stage=stage)
        after = _snapshot(toy, batch)
        for name, value in before.items():
            other = after[name]
            if not (torch.equal(value, other) if isinstance(value, Tensor) else value == other):
                raise ContractError(f"the loss changes {name}{where}")


def stages(method: type[Method]) -> None:
    """The stages share the whole budget."""
    stages = method().stages()
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise ContractError(f"stages must be one or more Stage, got {stages!r}")
    shares = [stage.share for stage in stages]
    if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise ContractError(f"the shares of the stages are {shares}, which do not sum to 1")
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ContractError(f"two stages have the same name: {names}")


def deliveries(method: type[Method]) -> None:
    """What is delivered lies within what is trained."""
    trained, instance = Toy.of(method()).student.config, method()
    delivered = instance.deliveries(STUDENT, TEACHER)
    if not delivered:
        raise ContractError("nothing is delivered")
    names = [delivery.name for delivery in delivered]
    if len(set(names)) < len(names):
        raise ContractError(f"two deliveries have the same name: {names}")
    for delivery in delivered:
        try:
            trained.at_depth(delivery.depth)
        except ValueError as error:
            raise ContractError(f"delivery {delivery.name!r}: {error}") from error


def _stages(method: type[Method]) -> list[tuple[int, str]]:
    """The index of each stage, and the words that name it where there are several."""
    stages = method().stages()
    return [(i, f" in stage {stage.name!r}" if len(stages) > 1 else "") for i, stage in enumerate(stages)]


def _terms(method: type[Method], batch: Batch, *, stage: int, dropout: float = 0.0) -> Mapping[str, Term]:
    """The terms from fresh models and a fresh instance, so that two calls differ by nothing but their arguments."""
    terms = Toy.of(method(), dropout=dropout)
    found = terms.method.loss(terms.step(batch, stage=stage))
    if not (isinstance(found, Mapping) and found):
        raise ContractError(f"the loss must be a mapping of at least one term, got {found!r}")
    return found


def _values(terms: Mapping[str, Term]) -> dict[str, float]:
    return {name: term.weight * term.value.item() for name, term in terms.items()}


def _differing(one: Mapping[str, float], other: Mapping[str, float], tolerance: float) -> str | None:
    """The first term that is not the same in both, in its name or its value."""
    for name in (*one, *other):
        if name not in one or name not in other:
            return name
        if not math.isclose(one[name], other[name], rel_tol=tolerance, abs_tol=tolerance):
            return name
    return None


def _named(parts: Mapping[str, nn.Module | None]) -> list[tuple[str, str, nn.Parameter]]:
    return [
        (part, name, parameter)
        for part, module in parts.items()
        if module is not None
        for name, parameter in module.named_parameters()
    ]


def _snapshot(toy: Toy, batch: Batch) -> dict[str, Any]:
    """Copies of everything that a loss must leave alone, by the name in which a reader knows it."""
    found: dict[str, Any] = {f"batch.{f.name}": getattr(batch, f.name).clone() for f in dataclasses.fields(batch)}
    for part, runner in (("student", toy.student), ("teacher", toy.teacher)):
        if runner is not None:
            found |= {f"the {part}'s {name}": value.clone() for name, value in runner.model.state_dict().items()}
            found[f"the {part}'s training mode"] = runner.model.training
    settings = toy.method.settings.model_copy(deep=True)
    return found | {f"the setting {name}": getattr(settings, name) for name in type(settings).model_fields}
