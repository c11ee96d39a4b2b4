"""The search of a random model, by the project's own decoder and by CTranslate2, as works to be timed side by side.

A random model does not end its sentences, so all have the same fixed limit: both engines make the same number of steps
and no sentence leaves a batch early.
"""

from __future__ import annotations

import importlib
import multiprocessing
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench.config import Preset, SearchConfig
from bench.environment import installed
from bench.errors import TaskError, UsageError
from bench.estimates import ASSUMED_LENGTH
from bench.measure.engines import EngineName
from bench.measure.rounds import Part, Work
from bench.nmt.batch import EOS
from bench.nmt.export import export_ctranslate2
from bench.nmt.linear import pack
from bench.nmt.model import Transformer
from bench.nmt.search import translate_ids
from bench.probe import SEED, random_lengths
from bench.train.trainer import new_network

SINGLES = 4
"""Sentences that are translated one at a time."""


class Search(NamedTuple):
    """One way to translate."""

    engine: EngineName
    beam: int
    batch: int
    """Sentences."""

    def by(self, engine: EngineName) -> Search:
        """The same with another engine."""
        return self._replace(engine=engine)


def precisions(device: torch.device) -> dict[str, str]:
    """Of the search, by engine."""
    if device.type == "cpu":
        return {"pytorch": "float32", "ctranslate2": "float32"}
    return {"pytorch": "bfloat16", "ctranslate2": "float16"}


@contextmanager
def search_works(
    preset: Preset, device: torch.device, threads: int, limit: int, folder: Path, notes: list[str]
) -> Iterator[dict[Search, Work]]:
    """The teacher's search by engine, beam and batch, with the same limit for all sentences and engines."""
    vocabulary, draw = preset.tokenizer.vocabulary, random.Random(SEED)
    model = new_network(preset.teacher, vocabulary, seed=2).eval()
    with torch.no_grad():  # the end of sentence is never likely, so that every output goes on up to the limit
        (model.output or model.embedding).weight[EOS] = 0.0
    lengths = random_lengths(ASSUMED_LENGTH, preset.search.batch_sentences).tolist()
    sources = [[*draw.choices(range(EOS + 1, vocabulary), k=length - 1), EOS] for length in lengths]
    works: dict[Search, Work] = {}
    beams = sorted({preset.search.beam, 1}, reverse=True)
    translator = _translator(model, threads, device, folder / "ctranslate2", notes)
    theirs = partial(_translated_by, translator, limit, preset.search) if translator else None
    model = model.to(device, getattr(torch, precisions(device)["pytorch"]))
    pack(model.matrices())  # as the other engine's are before its clock starts
    ours = partial(_translated, model, device)
    for batch, lines in ((len(sources), sources), (1, sources[:SINGLES])):
        for beam in beams:
            fixed = {"beam": beam, "max_ratio": 1e-9, "max_extra": limit, "batch_sentences": batch}
            run = partial(ours, lines, preset.search.model_copy(update=fixed))
            works[Search("pytorch", beam, batch)] = partial(_part, run, len(lines))
            if theirs:
                works[Search("ctranslate2", beam, batch)] = partial(
                    _part, partial(theirs, lines, beam, batch), len(lines)
                )
    try:
        yield works
    finally:
        if translator:
            translator.close()


def _part(run: Callable[[], object], units: int, _: int) -> list[Part]:
    return [Part(run, units)]


def _translated(model: Transformer, device: torch.device, sources: list[list[int]], config: SearchConfig) -> list[Any]:
    return translate_ids(model, sources, config, device=device, alone=config.batch_sentences == 1)


def _translator(
    model: Transformer, threads: int, device: torch.device, folder: Path, notes: list[str]
) -> Translator | None:
    """CTranslate2 with the same weights and threads; None where it cannot be had, with a note."""
    if not installed("ctranslate2"):
        notes.append("CTranslate2 is not installed: pip install ctranslate2")
        return None
    export_ctranslate2(model, [_piece(i) for i in range(model.vocabulary)], folder)
    where = {
        "device": device.type,
        "device_index": device.index or 0,
        "compute_type": precisions(device)["ctranslate2"],
        "inter_threads": 1,
        "intra_threads": threads,
    }
    try:
        return Translator(folder, where)
    except UsageError as error:
        notes.append(f"CTranslate2 cannot run on {device}: {error}")
        return None


def _translated_by(
    translator: Translator, limit: int, search: SearchConfig, sources: list[list[int]], beam: int, batch: int
) -> list[list[str]]:
    lines = [[_piece(i) for i in source[:-1]] for source in sources]
    options = {
        "beam_size": beam,
        "length_penalty": search.length_penalty,
        "max_input_length": 0,
        "max_decoding_length": limit,
        "min_decoding_length": 0,
    }
    return translator.translate([lines[start : start + batch] for start in range(0, len(lines), batch)], options)


def _piece(token: int) -> str:
    return f"p{token}"


class Translator:
    """CTranslate2 in a process of its own, until it is closed.

    With PyTorch in one process the threads of both outnumber the cores, and an OpenMP that counts them no longer lets
    any spin at a barrier: one sentence at a time, PyTorch took three times as long and CTranslate2 seven times.

    Args:
        where: how ``ctranslate2.Translator`` is made.

    Raises:
        UsageError: it cannot be made so.
    """

    def __init__(self, folder: Path, where: dict[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, str(folder), where), daemon=True)
        self._process.start()
        theirs.close()
        if problem := self._answer():
            self.close()
            raise UsageError(problem)

    def close(self) -> None:
        """End its process."""
        self._connection.close()
        self._process.join()

    def translate(self, batches: list[list[list[str]]], options: dict[str, Any]) -> list[list[str]]:
        """The best hypothesis of each line, batch after batch.

        Raises:
            TaskError: its process has ended.
        """
        found: list[list[str]] = self._answer(batches, options)
        return found

    def _answer(self, *asked: Any) -> Any:
        """To what is asked, or to having been made."""
        try:
            if asked:
                self._connection.send(asked)
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise TaskError("CTranslate2's process has ended before it answered") from error


def _serve(connection: Connection, folder: str, where: dict[str, Any]) -> None:
    """What the process does: says why it cannot translate, or None, and translates until nobody asks any more."""
    try:
        translator: Any = importlib.import_module("ctranslate2").Translator(folder, **where)
        translator.translate_batch([[""]], max_decoding_length=1)  # a GPU's libraries are looked for only now
    except (RuntimeError, ValueError) as error:
        connection.send(str(error))
        return
    connection.send(None)
    with suppress(EOFError):
        while True:
            batches, options = connection.recv()
            found = [result for batch in batches for result in translator.translate_batch(batch, **options)]
            connection.send([result.hypotheses[0] for result in found])
