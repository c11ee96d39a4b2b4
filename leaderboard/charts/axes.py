"""Axes: from values to places in per cent, and the ticks in between."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MARGIN = 0.06
"""Of the values' extent, left free at both ends."""
STEPS = 5
"""About how many ticks an axis has."""
LARGEST, SMALLEST = 1e15, 1e-15
"""What a value, without its sign, can be at most, and on a logarithmic axis at least."""
DOUBLING = math.log10(2)
"""The least extent of a logarithmic axis, in powers of ten."""
_PREFIXES = ("", " k", " M", " G", " T", " P")

Ticks = tuple[tuple[float, str], ...]
"""Place in per cent, and label."""


def drawable(value: float | None, *, logarithmic: bool = False) -> float | None:
    """The value as a number that every axis of the kind can place; None for another one, and where there is none."""
    try:
        number = math.nan if value is None else float(value)
    except OverflowError:  # an integer with more digits than a float can have
        return None
    if logarithmic:
        return number if SMALLEST <= number <= LARGEST else None
    return number if abs(number) <= LARGEST else None


@dataclass(frozen=True)
class Axis:
    """An axis from ``start`` over ``span``: of the values, or of their decimal logarithms."""

    start: float
    span: float
    logarithmic: bool = False

    @classmethod
    def over(cls, values: Iterable[float], least: float) -> Axis:
        """A linear axis with a margin at both ends, over at least so much.

        Args:
            values: at least one, all of them drawable.
        """
        values = list(values)
        low, high = min(values), max(values)
        span = max(high - low, least, 1e-9 * max(abs(low), abs(high))) * (1 + 2 * MARGIN)
        return cls((low + high - span) / 2, span)

    @classmethod
    def ratios(cls, values: Iterable[float]) -> Axis:
        """A logarithmic axis, on which equal ratios are equally long; over at least a doubling."""
        linear = cls.over(map(math.log10, values), least=DOUBLING)
        return cls(linear.start, linear.span, logarithmic=True)

    def place(self, value: float) -> float:
        """Per cent of the axis from its start."""
        measure = math.log10(value) if self.logarithmic else value
        return round(100 * (measure - self.start) / self.span, 2)

    def ticks(self) -> Ticks:
        """Round values with their labels: 1, 2 or 5 times a power of ten, or on long logarithmic axes fewer."""
        if not self.logarithmic:
            return self._labelled(*_round(self.start, self.start + self.span))
        end = self.start + self.span
        if self.span < 1:
            return self._labelled(*_round(10**self.start, 10**end))
        factors = (1, 2, 5) if self.span < 1.7 else (1, 3) if self.span < 3 else (1,)
        stride = max(1, math.ceil(self.span / STEPS))
        powers = range(math.floor(self.start), math.ceil(end) + 1)
        values = [factor * 10.0**power for power in powers if power % stride == 0 for factor in factors]
        inside = [value for value in values if self.start <= math.log10(value) <= end]
        return tuple((self.place(value), label(value, value)) for value in inside)

    def _labelled(self, values: Iterable[float], step: float) -> Ticks:
        return tuple((self.place(value), label(value, step)) for value in values)


def from_top(ticks: Iterable[tuple[float, str]]) -> Ticks:
    """Ticks of an upright axis, whose places are told from the top."""
    return tuple((round(100 - place, 2), text) for place, text in ticks)


def label(value: float, step: float) -> str:
    """A tick as text, with the digits that tell it from one a ``step`` away: ``0.25``, ``1,500`` or ``20 k``."""
    power = 0
    while abs(value) >= 1e4 * 1000**power / (10 if power else 1) and power < len(_PREFIXES) - 1:
        power += 1
    scale = 1000.0**power
    digits = max(0, -math.floor(math.log10(step / scale) + 1e-9))
    if digits > 4:
        return f"{value:.3g}"
    text = f"{value / scale:,.{digits}f}"
    return text.replace("-", "\u2212") + _PREFIXES[power]


def every(count: int, most: int) -> int:
    """Of so many points every how many-th is taken, so that there are at most ``most``."""
    return max(1, math.ceil(count / most))


def _round(low: float, high: float) -> tuple[list[float], float]:
    """Round values between two others, and how far they lie apart."""
    rough = (high - low) / STEPS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)], step
