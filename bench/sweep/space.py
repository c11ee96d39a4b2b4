"""Where a method's settings are searched, and the points that the official track tries."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from bench.config import Choice, ModelConfig, Preset, Range
from bench.errors import UsageError
from bench.method import Method

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

COORDINATES = 32
"""Of each drawn point. The shared values take the first ones, a method's own those after them."""
DIGITS = 4
"""Significant digits of a drawn number: what a table can show is what was run."""

Point = Mapping[str, Any]
"""Values by dotted name: ``training.learning_rate``, or ``word_level.alpha`` for a method's own."""


@dataclass(frozen=True)
class Dimension:
    """One searched value."""

    name: str
    search: Range | Choice
    integer: bool
    published: Any

    def at(self, coordinate: float) -> Any:
        """The value at a coordinate from 0 to just below 1."""
        if isinstance(self.search, Choice):
            return self.search.values[int(coordinate * len(self.search.values))]
        # An integer range is one wider, so that its last number gets as much room as the others.
        low, high = self.search.low, self.search.high + (1 if self.integer else 0)
        if self.search.log:
            value = math.exp(math.log(low) + coordinate * (math.log(high) - math.log(low)))
        else:
            value = low + coordinate * (high - low)
        if self.integer:
            return int(min(max(math.floor(value), low), self.search.high))
        return min(max(float(f"{value:.{DIGITS}g}"), low), high)

    def distribution(self) -> BaseDistribution:
        """As Optuna has it, wide enough for the published value too."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if isinstance(self.search, Choice):
            known = self.published in self.search.values
            return CategoricalDistribution(self.search.values if known else (*self.search.values, self.published))
        low, high = min(self.search.low, self.published), max(self.search.high, self.published)
        log = self.search.log and low > 0
        return IntDistribution(int(low), int(high), log) if self.integer else FloatDistribution(low, high, log)


@dataclass(frozen=True)
class Space:
    """All that is searched for one method: the shared values first."""

    dimensions: tuple[Dimension, ...]

    @property
    def published(self) -> Point:
        """The point that every study begins with."""
        return {each.name: each.published for each in self.dimensions}

    def at(self, coordinates: Sequence[float]) -> Point:
        """The values at a point of the unit cube; a coordinate that no dimension takes is left unused."""
        return {each.name: each.at(coordinate) for each, coordinate in zip(self.dimensions, coordinates, strict=False)}

    def points(self, trials: int, seed: int) -> list[Point]:
        """The official list: the published values, then the drawn ones. A shorter list begins a longer one."""
        return [self.published, *map(self.at, draw(trials - 1, seed))]

    def as_json(self) -> dict[str, Any]:
        """The ranges by name."""
        return {
            each.name: {"values": list(each.search.values)} if isinstance(each.search, Choice) else asdict(each.search)
            for each in self.dimensions
        }


def space_of(method: Method, preset: Preset, pinned: Collection[str] = ()) -> Space:
    """The shared ranges of the preset and the method's own, without what is held fixed.

    Args:
        pinned: dotted names that are not searched, because the user gave their values.

    Raises:
        UsageError: too many values, an end of a range that the method refuses, or one that changes what the method
            trains on or delivers, which trials must share.
    """
    shared = [
        Dimension(name, search, isinstance(value, int), value)
        for name, search in preset.tuning.ranges.items()
        if name not in pinned
        for value in [getattr(getattr(preset, name.partition(".")[0]), name.partition(".")[2])]
    ]
    own = []
    for key, info in type(method).Settings.model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        search: Any = extra.get("search")
        if search is not None and f"{method.name}.{key}" not in pinned:
            own.append(Dimension(f"{method.name}.{key}", search, info.annotation is int, getattr(method.settings, key)))
    if len(shared) + len(own) > COORDINATES:
        raise UsageError(f"{method.name}: {len(shared) + len(own)} values to search; at most {COORDINATES} can be.")
    for dimension in own:
        _check(method, dimension, preset)
    return Space((*shared, *own))


def with_point(method: Method, point: Point) -> Method:
    """The method with its own values of a point."""
    mine = {name.partition(".")[2]: value for name, value in point.items() if name.startswith(f"{method.name}.")}
    return type(method)(method.settings.model_dump() | mine)


@cache
def draw(count: int, seed: int) -> tuple[tuple[float, ...], ...]:
    """The first ``count`` points of a scrambled Sobol sequence in the unit cube (Owen 1998), by Optuna's QMC sampler.

    All methods take their values from the same points, so that the shared ones are the same in trial i of each.
    """
    import optuna
    from optuna.distributions import FloatDistribution

    cube: dict[str, BaseDistribution] = {f"x{i:02}": FloatDistribution(0.0, 1.0) for i in range(COORDINATES)}
    with quiet():
        sampler = optuna.samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=seed)
        study = optuna.create_study(sampler=sampler)
        # The sampler learns its space from a finished trial; without one its first draw would be a random one.
        study.add_trial(optuna.trial.create_trial(params=dict.fromkeys(cube, 0.5), distributions=cube, value=0.0))
        points = [study.ask(cube).params for _ in range(count)]
    return tuple(tuple(point[name] for name in cube) for point in points)


def shared_by_trials(method: Method, student: ModelConfig, teacher: ModelConfig) -> tuple[Any, ...]:
    """What a searched setting must leave as it is: texts, the teacher's use, the network and what is delivered."""
    return (
        [stage.text for stage in method.stages()],
        method.teacher,
        method.architecture(student, teacher),
        method.deliveries(student, teacher),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its lines on each trial, and without its word that a part of it is still called experimental."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _check(method: Method, dimension: Dimension, preset: Preset) -> None:
    search, shapes = dimension.search, (preset.student, preset.teacher)
    ends: tuple[Any, ...] = search.values if isinstance(search, Choice) else (search.low, search.high)
    if dimension.integer and isinstance(search, Range):
        if ends != tuple(map(int, ends)):
            raise UsageError(f"{dimension.name} is a whole number: so are the ends of its range, not {ends}.")
        ends = tuple(map(int, ends))
    for value in ends:
        tried = with_point(method, {dimension.name: value})
        if shared_by_trials(tried, *shapes) != shared_by_trials(method, *shapes):
            raise UsageError(
                f"{dimension.name} = {value} changes the text, the network, the teacher's use or what is delivered: "
                "such a setting cannot be searched, so declare it without a range."
            )
