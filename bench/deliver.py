"""A finished row as something to use: its student, tokenizer and search, for translating and exporting."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bench.config import SearchConfig
from bench.data.tokenizer import Tokenizer
from bench.errors import UsageError
from bench.nmt.export import export_ctranslate2, load_model, save_model
from bench.nmt.model import Transformer
from bench.nmt.search import translate_ids
from bench.records import Stored, find_row, read_records
from bench.results import Record
from bench.store import Store, write_json

LINES_AT_A_TIME = 256


@dataclass(frozen=True)
class Delivered:
    """A student cut to its depth, with what it needs to translate."""

    record: Record
    model: Transformer
    tokenizer: Tokenizer
    tokenizer_file: Path
    search: SearchConfig

    def translate(self, lines: Iterable[str], device: str) -> Iterator[str]:
        """Translate lines of source text, in order, a few hundred at a time; a blank line stays one."""
        model = self.model.to(device)
        waiting = iter(lines)
        while chunk := list(islice(waiting, LINES_AT_A_TIME)):
            # No model was trained on a sentence without words: what it says of one is made up.
            sources = self.tokenizer.encode([line for line in chunk if line.strip()])
            found = translate_ids(model, sources, self.search, device=device, alone=len(sources) == 1)
            outputs = iter(self.tokenizer.decode([hypotheses[0].ids for hypotheses in found]))
            yield from (next(outputs) if line.strip() else "" for line in chunk)

    def export(self, form: str, out: Path) -> None:
        """Write the student, its tokenizer and its record's settings into the new folder ``out``.

        Raises:
            UsageError: the folder exists, or the format's package is not installed.
        """
        if out.exists():
            raise UsageError(f"{out} exists already; name a new folder.")
        work = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            if form == "ctranslate2":
                export_ctranslate2(self.model, self.tokenizer.pieces, work)
            else:
                save_model(self.model, work)
            shutil.copyfile(self.tokenizer_file, work / "tokenizer.model")
            write_json(work / "search.json", self.search.model_dump(mode="json"))
            os.replace(work, out)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def load_delivered(runs: Path, query: str) -> Delivered:
    """The student of the row that ``query`` names; of its first finished seed where none is named.

    Raises:
        UsageError: no such row, or its artifacts are gone.
    """
    stored = _first_finished(find_row(read_records([runs / "records"]).records, query), query)
    record, store = stored.record, Store(runs / "artifacts")
    kind = "teacher" if record.role == "teacher" else "student"
    try:
        model = load_model(store.get(kind, record.artifacts[kind]).folder)
        tokenizer_file = store.get("tokenizer", record.artifacts["tokenizer"]).folder / "tokenizer.model"
    except LookupError as error:
        raise UsageError(f"{query}: {error.args[0]}; run it again: {record.command}") from error
    search = SearchConfig.model_validate(record.recipe["search"])
    depth = record.delivery.depth
    return Delivered(record, model.truncated(depth), Tokenizer.load(tokenizer_file), tokenizer_file, search)


def _first_finished(row: list[Stored], query: str) -> Stored:
    for stored in row:
        if stored.record.status == "ok":
            return stored
    raise UsageError(f"{query} has no finished seed: {row[0].record.reason}")
