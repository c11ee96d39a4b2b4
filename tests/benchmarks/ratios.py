"""Times as multiples of a fixed piece of work on the same machine at the same time, and how they compare to before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.store import write_json

BASELINE = Path(__file__).with_name("baseline.json")
SLOWER = 1.5
"""The quotient of new and stored ratio above which a benchmark is marked."""
FAILED = 2.0
"""The quotient above which the run fails."""


@dataclass(frozen=True)
class Comparison:
    """A benchmark's median in units of the reference's, now and as stored."""

    name: str
    now: float
    stored: float | None
    """None for one that the baseline does not know."""

    @property
    def quotient(self) -> float | None:
        """How many times as long it takes as it did."""
        return None if self.stored is None else self.now / self.stored

    @property
    def verdict(self) -> Literal["new", "", "slower", "too slow"]:
        """What to say of it."""
        if self.quotient is None:
            return "new"
        if self.quotient > FAILED:
            return "too slow"
        return "slower" if self.quotient > SLOWER else ""

    def __str__(self) -> str:
        stored = "-" if self.stored is None else f"{self.stored:.3g}"
        quotient = "-" if self.quotient is None else f"{self.quotient:.2f}"
        return f"{self.name:<44}{self.now:>10.3g}{stored:>10}{quotient:>10}  {self.verdict}".rstrip()


HEADER = f"{'benchmark':<44}{'now':>10}{'stored':>10}{'quotient':>10}"


def compare(now: Mapping[str, float], stored: Mapping[str, float]) -> list[Comparison]:
    """What was measured, the worst first and what is new at the end; what was not measured now is left out."""
    found = [Comparison(name, ratio, stored.get(name)) for name, ratio in now.items()]
    return sorted(found, key=lambda each: (each.quotient is None, -(each.quotient or 0.0), each.name))


def load(path: Path = BASELINE) -> dict[str, float]:
    """The stored ratios by name; none where there is no baseline yet."""
    if not path.exists():
        return {}
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return found


def save(now: Mapping[str, float], path: Path = BASELINE) -> None:
    """Store new ratios; those of benchmarks that were not run stay."""
    ratios = load(path) | {name: float(f"{ratio:.4g}") for name, ratio in now.items()}
    write_json(path, dict(sorted(ratios.items())))
