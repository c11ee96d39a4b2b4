"""What a site may tell beside its records: of installed methods, of data sets, and their sentences.

Whoever builds the site fills it in. Without it the pages are made of the records alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.results import PaperRecord, Record


@dataclass(frozen=True)
class Setting:
    """A hyper-parameter of a method."""

    name: str
    default: str
    """The value without tuning, as text."""
    searched: str
    """Where tuning looks, as text; empty where it does not."""
    description: str


@dataclass(frozen=True)
class Method:
    """A method that is installed where the site is built; its texts are its author's."""

    title: str
    summary: str
    description: str
    equation: str
    """LaTeX, a line for each equation."""
    paper: PaperRecord | None
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Dataset:
    """What the registry says of a data set."""

    title: str
    licence: str
    citation: str
    link: str
    fetched: bool
    """Whether its files have to be fetched before a run."""


@dataclass(frozen=True)
class Sentences:
    """The text of a test set, sentence by sentence, and the terms under which it is shown."""

    source: tuple[str, ...]
    reference: tuple[str, ...]
    terms: str


def no_sentences(record: Record, test_set: str) -> Sentences | str:
    """The answer where there is no text at all."""
    return "this page was built from records alone"


@dataclass(frozen=True)
class Catalog:
    """All that is known beside the records, by the names that records use."""

    methods: Mapping[str, Method] = field(default_factory=dict)
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    sentences: Callable[[Record, str], Sentences | str] = no_sentences
    """The text of a record's test set, or why it is not shown, as the end of a sentence."""
