"""What was asked for, checked: the plan, where it runs, and what is still to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bench.config import SECTIONS, Preset, preset
from bench.data.datasets import Dataset, get_dataset
from bench.environment import environment, resolve_device
from bench.errors import UsageError, unknown_name
from bench.measure.metrics import chosen_metric
from bench.phases import Place
from bench.plan import Plan, Planner
from bench.registry import Methods, load_methods
from bench.store import Store
from bench.sweep.slots import Slots, default_slots


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    methods: tuple[str, ...]
    """Names, or ``all``."""
    dataset: str = "synthetic"
    languages: tuple[str, str] | None = None
    preset: str = "quick"
    seeds: int | None = None
    trials: int | None = None
    track: Literal["official", "open"] | None = None
    sampler: Literal["tpe", "gp"] | None = None
    pruner: Literal["none", "median", "halving", "hyperband"] | None = None
    budget: tuple[str, float] | None = None
    """Kind and amount: ``("wall-clock", 60.0)`` seconds, ``("device-hours", 0.1)``, or ``("tokens", 200_000)``."""
    teacher_signals: Literal["exact", "cached"] | None = None
    storage: str | None = None
    """The address of an Optuna storage, in place of journals in the run folder."""
    metrics: tuple[str, ...] = ()
    """Further ones, for rows that are there as well: ``legacy-bleu``, ``comet:PATH``."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """``method.key`` or ``section.key`` of the preset, to its value."""
    workers: int | None = None
    processes: int = 1
    """That train one model together."""
    silence: float = 1800.0
    """Seconds without a sign of progress after which a task is stopped."""
    cluster: str = "local"
    """``local``, ``ray`` to start a Ray cluster here, or the address of one."""
    device: str = "auto"
    runs: Path = Path("runs")
    data_dir: Path | None = None
    methods_dir: Path | None = None
    tracker: Literal["none", "comet"] = "none"
    speed: bool = True
    """Whether the rows' speed is measured, once all are scored."""


@dataclass(frozen=True)
class Prepared:
    """A checked request: the plan, where it runs, and what is still to do."""

    request: Request
    dataset: Dataset
    plan: Plan
    place: Place
    methods: Methods
    slots: Slots
    store: Store

    @property
    def identity(self) -> Mapping[str, Any]:
        """What identifies the text, as the tokenizer's task has it."""
        return self.plan.rows[0].scores.upstream[0].inputs["data"]

    @property
    def records(self) -> Path:
        """The folder of this data set's records."""
        return self.request.runs / "records" / self.plan.dataset


def resolve(request: Request) -> Prepared:
    """The request with every name looked up and every value checked.

    Raises:
        UsageError: an unknown name, a value out of range, missing or damaged files.
    """
    methods = load_methods(request.methods_dir)
    names = list(methods.found) if request.methods == ("all",) else list(request.methods)
    for name in names:
        methods.get(name)
    by_method, overrides = _split_settings(request.settings, methods)
    _taking_part(by_method, ["baseline", *names])
    options = _options(request)
    if given := [name for name in options if name in overrides]:
        raise UsageError(f"{given[0]} is given twice: by --set and by an option that stands for it.")
    # What the user gave is held fixed. The recipe says so: rows that were searched otherwise are no match.
    pinned = frozenset(request.settings)
    chosen = preset(request.preset, overrides | options).without(pinned)
    dataset = get_dataset(request.dataset, request.languages)
    metrics = tuple(dict.fromkeys(chosen_metric(each, dataset.languages[1]) for each in request.metrics))
    device = resolve_device(request.device)
    here = default_slots(device)
    if device != "cpu" and request.processes > len(here.devices):
        raise UsageError(f"--processes {request.processes} needs as many GPUs; there are {len(here.devices)}.")
    if device != "cpu" and request.processes > 1 and request.cluster != "local":
        raise UsageError("--processes does not go with --cluster on GPUs: a worker of a cluster has one GPU at most.")
    slots = _slots(request, here)
    if chosen.budget.place:
        raise UsageError("budget.place is filled in by the run, and cannot be given.")
    if chosen.budget.kind != "tokens":
        if request.cluster not in ("local", "ray"):
            raise UsageError(
                "a budget of time is of one machine, and the workers of a cluster may be of several: leave out "
                "--cluster, or give a budget of tokens."
            )
        budget = chosen.budget.model_copy(update={"place": _share(device, slots, request.processes)})
        chosen = chosen.model_copy(update={"budget": budget})
    identity, kind = dataset.identity(request.data_dir), device.split(":")[0]
    planner = Planner(dataset.name, identity, chosen, methods, kind, pinned, request.processes, metrics)
    plan = planner.plan(names, by_method, range(1, chosen.seeds + 1), named=request.methods != ("all",))
    store = Store(request.runs / "artifacts")
    # Workers may have another working directory, on a cluster also another machine.
    place = Place(
        store.root.absolute(),
        request.dataset if request.languages is None else str(Path(request.dataset).absolute()),
        request.languages,
        request.data_dir and request.data_dir.absolute(),
        request.methods_dir and request.methods_dir.absolute(),
        device,
        slots.workers,
        math.ceil(slots.workers / len(slots.devices)) if device != "cpu" else 1,
        request.processes,
        metrics,
    )
    return Prepared(request, dataset, plan, place, methods, slots, store)


def _share(device: str, slots: Slots, processes: int) -> str:
    """The machine and what a training has of it, in words: on these depends how far it gets in a time."""
    machine = environment(device, "", slots.workers)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['device']}; tasks at a time {slots.workers}, threads of "
        f"each {slots.threads}, processes of a training {processes}"
    )


def _slots(request: Request, here: Slots) -> Slots:
    """This machine's slots, as many as the request says: of one process each, or of several that train together."""
    workers = request.workers or max(1, here.workers // request.processes)
    slots = here.dealt(workers)
    return replace(
        slots,
        memory=None if slots.memory is None else slots.memory // request.processes,
        devices=slots.devices[:: request.processes],  # the others are those of its companions
        silence=request.silence,
    )


def _options(request: Request) -> dict[str, Any]:
    """The options that stand for values of the preset."""
    options: dict[str, Any] = {
        "seeds": request.seeds,
        "tuning.trials": request.trials,
        "tuning.track": request.track,
        "tuning.sampler": request.sampler or ("tpe" if request.track == "open" else None),
        "tuning.pruner": request.pruner,
        "signals.kind": request.teacher_signals,
    }
    if request.budget:
        kind, amount = request.budget
        by_tokens = kind == "tokens"
        if by_tokens and amount != int(amount):
            raise UsageError(f"a budget of tokens is a whole number, not {amount}.")
        options |= {"training.target_tokens": int(amount)} if by_tokens else {}
        options |= {"budget.kind": kind, "budget.amount": 0.0 if by_tokens else amount}
    return {name: value for name, value in options.items() if value is not None}


def _split_settings(settings: Mapping[str, Any], methods: Methods) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    by_method: dict[str, dict[str, Any]] = {}
    overrides: dict[str, Any] = {}
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        if head in methods.found and rest:
            by_method.setdefault(head, {})[rest] = value
        elif head in SECTIONS or key in Preset.model_fields:
            overrides[key] = value
        else:
            raise unknown_name("setting", key, [f"{name}.…" for name in (*methods.found, *SECTIONS)])
    return by_method, overrides


def _taking_part(by_method: Iterable[str], names: Iterable[str]) -> None:
    for method in by_method:
        if method not in names:
            raise UsageError(f"--set gives settings of {method}, which --methods leaves out: add it there.")
