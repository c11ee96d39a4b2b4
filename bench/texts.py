"""Data sets as they are on this machine, for what looks at the sentences behind a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.data.corpus import ParallelText
from bench.data.datasets import DATASETS
from bench.errors import DataError
from bench.results import Record
from bench.ruleset import RULES
from bench.store import content_hash


@dataclass(frozen=True)
class Text:
    """A data set as it is here."""

    data: Mapping[str, Any]
    """What identifies it: names, versions and checksums."""
    dev: ParallelText
    tests: Mapping[str, ParallelText]

    @cached_property
    def identity(self) -> str:
        """The hash of that, as records have it."""
        return content_hash(self.data)

    def sets(self, record: Record) -> dict[str, ParallelText]:
        """All that a row of the record's recipe is scored on; dev is cut as its preset says."""
        pairs = record.recipe.get("dev_pairs", 0)
        return {RULES.selection: self.dev.first(pairs if isinstance(pairs, int) else 0), **self.tests}


@dataclass(frozen=True)
class Texts:
    """Reads registered data sets without a network, each once.

    Args:
        data_dir: the folder of downloaded corpora; default: the cache.
    """

    data_dir: Path | None = None
    _read: dict[str, Text | str] = field(default_factory=dict, init=False)

    def get(self, name: str) -> Text | str:
        """The data set, or why it is not here, as the end of a sentence."""
        if name not in self._read:
            self._read[name] = self._load(name)
        return self._read[name]

    def _load(self, name: str) -> Text | str:
        if name not in DATASETS:
            return f"{name} is no data set that comes with the program"
        try:
            splits = DATASETS[name].load(self.data_dir)
            data = DATASETS[name].identity(self.data_dir)
        except DataError as error:
            return str(error).rstrip(".")
        return Text(data, splits.dev, splits.tests)
