"""What the leaderboard is told beside its records: of the methods and data sets that are installed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench.data.datasets import DATASETS
from bench.method import Method
from bench.results import PaperRecord, Record
from bench.texts import Texts
from leaderboard import catalog
from leaderboard.catalog import Catalog, Sentences
from leaderboard.sweeps import extent


def known_here(methods: Mapping[str, type[Method]], data_dir: Path | None = None) -> Catalog:
    """The catalog of a site that is built on this machine.

    Args:
        methods: by name, those that can be used here.
        data_dir: the folder of downloaded corpora; default: the cache.
    """
    datasets = {
        name: catalog.Dataset(each.title, each.licence, each.citation, each.link, fetched=bool(each.files))
        for name, each in DATASETS.items()
    }
    described = {name: _method(each) for name, each in methods.items()}
    return Catalog(described, datasets, partial(sentences, Texts(data_dir)))


def sentences(texts: Texts, record: Record, test_set: str) -> Sentences | str:
    """The text of a record's test set if it may be passed on, is here, and is the text of the record; else why not.

    What is said goes onto a page that others read, so it names no folder of this machine.
    """
    if record.dataset not in DATASETS:
        return "the data set is its user’s own"
    terms = DATASETS[record.dataset].passed_on.get(test_set)
    if terms is None:
        return "the terms of the data set do not say that its text may be passed on"
    text = texts.get(record.dataset)
    if isinstance(text, str):
        return "the data set was not on the machine that built this page"
    if text.identity != record.data_sha256:
        return "the machine that built this page had another version of the data set than the record’s"
    pairs = text.sets(record).get(test_set)
    return Sentences(pairs.source, pairs.target, terms) if pairs else "the data set has no such part"


def _method(method: type[Method]) -> catalog.Method:
    paper = method.paper
    return catalog.Method(
        title=method.title,
        summary=method.summary,
        description=method.description,
        equation=method.equation,
        paper=PaperRecord(citation=paper.citation, year=paper.year, link=paper.link) if paper else None,
        settings=tuple(_settings(method)),
    )


def _settings(method: type[Method]) -> list[catalog.Setting]:
    found = []
    for name, field in method.Settings.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        search = extra.get("search")
        searched = "" if search is None else extent(asdict(search))  # type: ignore[call-overload]
        default = field.get_default(call_default_factory=True)
        shown = default if isinstance(default, str) else json.dumps(default, default=str)
        found.append(catalog.Setting(name, shown, searched, field.description or ""))
    return found
