"""What papers state for the methods here: read from ``published.toml``, and kept apart from what was measured."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from bench.config import Frozen

FILE = Path(__file__).with_name("published.toml")

Said = Annotated[str, StringConstraints(min_length=1)]
Score = Annotated[Decimal, Field(ge=0, le=100)]
"""With the decimals that the source has."""


class Source(Frozen):
    """Where figures come from."""

    citation: Said
    link: Annotated[str, StringConstraints(pattern=r"^https://\S+$")]
    place: Said
    """The table or page."""
    basis: Literal["paper", "abstract", "notes"]
    """Whether they were read from the paper's table, from its abstract, or from somebody's notes on it."""


class Figures(Frozen):
    """What one source states of one method on one data set."""

    method: Said
    dataset: Said
    source: Source
    metric: Said
    """The variant of the score, as the source has it."""
    students: Said
    """What the students are, before their names."""
    scores: tuple[tuple[Said, Score, Score], ...] = ()
    """A student's name, its score, and the plain student's."""
    gains: tuple[tuple[Said, Decimal], ...] = ()
    """A student's name and the gain over the plain student, where the scores are not stated."""
    at_most: bool = False
    """Whether the source calls its gain the largest of several."""

    @model_validator(mode="after")
    def _states_something(self) -> Self:
        if bool(self.scores) == bool(self.gains):
            raise ValueError(f"{self.method} on {self.dataset}: either scores or gains are stated")
        return self

    @property
    def rows(self) -> tuple[tuple[str, Decimal | None, Decimal | None, Decimal], ...]:
        """Each student's name, score, plain student's score, and gain."""
        scored = tuple((name, score, plain, score - plain) for name, score, plain in self.scores)
        return scored or tuple((name, None, None, gain) for name, gain in self.gains)


@cache
def published(file: Path = FILE) -> tuple[Figures, ...]:
    """All figures, in the order of the file.

    Raises:
        KeyError: figures of a source that the file does not describe.
        ValidationError: a figure against a rule.
    """
    content = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    return tuple(
        Figures.model_validate(each | {"source": content["sources"][each["source"]]}) for each in content["figures"]
    )


def on_dataset(name: str) -> tuple[Figures, ...]:
    """What is stated for a data set."""
    return tuple(each for each in published() if each.dataset == name)


def of_method(name: str) -> tuple[Figures, ...]:
    """What is stated for a method."""
    return tuple(each for each in published() if each.method == name)
