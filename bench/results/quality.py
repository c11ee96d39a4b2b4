"""How well a row translates: its scores, and the files that they were computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from bench.config import Frozen
from bench.results.base import Count, Label, Name, Sha256


class StoredFile(Frozen):
    """A file beside the record, and its hash."""

    file: Name
    sha256: Sha256

    @classmethod
    def of(cls, file: str, content: str) -> StoredFile:
        """The entry for a file of that name and UTF-8 content; ``write_record`` writes it."""
        return cls(file=file, sha256=hashlib.sha256(content.encode("utf-8")).hexdigest())


class Degenerate(Frozen):
    """Sentences whose output is no translation, as ``bench.measure.degenerate`` counts them."""

    empty: Count
    repeated: Count
    copied: Count
    over_length: Count


class FurtherScore(Frozen):
    """A score of an optional metric, which no table is ordered by."""

    name: Label
    value: float
    signature: str
    legacy: bool = False
    """Whether it is there only to be set beside older papers."""


class Score(Frozen):
    """Corpus scores of one test set, 0 to 100, with sacreBLEU's signatures."""

    bleu: float = Field(ge=0, le=100)
    bleu_signature: str
    chrf: float = Field(ge=0, le=100)
    chrf_signature: str
    sentences: Count
    hypotheses: StoredFile
    """Detokenised, a line each."""
    statistics: StoredFile | None = None
    """What BLEU and chrF are computed from, sentence by sentence; None in records of schema 2 and before."""
    degenerate: Degenerate | None = None
    length_ratio: float | None = Field(None, ge=0, description="Words of the output by those of the reference (13a).")
    further: tuple[FurtherScore, ...] = ()

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.degenerate and max(self.degenerate.model_dump().values()) > self.sentences:
            raise ValueError(f"more degenerate outputs of a kind than the {self.sentences} sentences")
        return self

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """All files that it names."""
        return (self.hypotheses,) if self.statistics is None else (self.hypotheses, self.statistics)


def hypotheses_file(row: str, seed: int, test_set: str) -> str:
    """The name of the file of hypotheses."""
    return f"{row}.s{seed}.{test_set}.txt"


def statistics_file(row: str, seed: int, test_set: str) -> str:
    """The name of the file of statistics."""
    return f"{row}.s{seed}.{test_set}.tsv"


def file_content(lines: Sequence[str]) -> str:
    """The content of a file of hypotheses.

    Raises:
        ValueError: a hypothesis is more than one line.
    """
    if any("\n" in line for line in lines):
        raise ValueError("a hypothesis must be one line")
    return "".join(f"{line}\n" for line in lines)
