"""Physical amounts as text for the pages and the terminal."""

from __future__ import annotations

import math


def operations(count: float) -> str:
    """Floating-point operations: ``12.3 GFLOP``."""
    return _scaled(count, "FLOP")


def energy(joules: float) -> str:
    """Energy: ``3.21 kJ``."""
    return _scaled(joules, "J")


def grams(mass: float) -> str:
    """Mass: ``12.3 g`` or ``1.20 kg``."""
    return _scaled(mass, "g")


def memory(count: int) -> str:
    """Bytes: ``312 MB``, of a million each."""
    return _scaled(count, "B")


def _scaled(value: float, unit: str) -> str:
    """Three significant digits with the decimal prefix that suits."""
    if value < 1:
        return f"{value:.3g} {unit}"
    power = min(int(math.log10(float(f"{value:.3g}"))) // 3, 6)
    digits = max(0, 2 - int(math.log10(float(f"{value:.3g}"))) + 3 * power)
    return f"{value / 1000**power:,.{digits}f} {['', 'k', 'M', 'G', 'T', 'P', 'E'][power]}{unit}"
