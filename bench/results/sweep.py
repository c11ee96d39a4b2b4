"""How a row's settings were chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from bench.config import Frozen
from bench.results.base import LONGEST, Count, State


class Trial(Frozen):
    """One trial of a sweep: a training with one set of values, judged by dev BLEU."""

    number: Count
    values: dict[str, JsonValue]
    """By dotted name: the shared ones as the preset names them, the method's own as ``method.setting``."""
    state: Literal["ok"] | State
    reason: str | None = None
    bleu: float | None = Field(None, ge=0, le=100, description="Dev BLEU, the mean over the students delivered.")
    seconds: float = Field(ge=0, le=LONGEST, description="Of training and dev decoding, wall time times devices.")
    target_tokens: Count | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.state == "ok") != (self.bleu is not None) or (self.state == "ok") == (self.reason is not None):
            raise ValueError(f"trial {self.number}: a finished trial has a BLEU, and only another one a reason")
        return self


def shared_part(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What of a trial's values, by dotted name, is not the method's own."""
    return {name: value for name, value in values.items() if not name.startswith(f"{method}.")}


def best_trial(trials: Iterable[Trial]) -> Trial | None:
    """The trial with the highest dev BLEU, of equals the first; None if none has finished."""
    finished = [trial for trial in trials if trial.bleu is not None]
    return max(finished, key=lambda trial: (trial.bleu or 0.0, -trial.number), default=None)


class Sweep(Frozen):
    """How a row's settings were chosen."""

    sampler: str
    pruner: str | None
    seed: Count
    space: dict[str, JsonValue]
    """The ranges by dotted name; what is not named here was held fixed."""
    trials: tuple[Trial, ...]
    winner: Count
    importances: dict[str, float] | None
    """Share of each searched value in reaching the best trials (PED-ANOVA); None for too few trials to tell."""
    versions: dict[str, str]
    """Of the packages that drew the values."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if [trial.number for trial in self.trials] != list(range(len(self.trials))):
            raise ValueError("trials are numbered from 0 without a gap")
        if (best := best_trial(self.trials)) is None or best.number != self.winner:
            raise ValueError(f"trial {self.winner} is not the one with the highest dev BLEU")
        return self

    @property
    def best(self) -> Trial:
        """The winner."""
        return self.trials[self.winner]

    @property
    def seconds(self) -> float:
        """Wall time times devices of all trials."""
        return sum(trial.seconds for trial in self.trials)
