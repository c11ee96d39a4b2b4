"""The programs of ``rivals.py`` timed in turn: training by two of them, translation by all three."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rivals_fairseq import Fairseq, fairseq_task, ours, theirs
from rivals_prepared import CPU, Prepared

from bench.config import SearchConfig
from bench.data.batches import token_batches
from bench.data.corpus import ParallelText
from bench.data.tokenizer import Tokenizer
from bench.measure.quality import score
from bench.measure.rounds import Figure, Part, Sample, Work, interleaved, ratio
from bench.nmt.export import export_ctranslate2
from bench.nmt.linear import pack
from bench.nmt.model import Transformer
from bench.nmt.search import translate_ids
from bench.pace import PLAIN, TEACHER, peaks_of, product_works, seconds, training_parts
from bench.pace_search import Translator
from bench.probe import SEED
from bench.registry import load_methods
from bench.sweep.slots import usable_cores
from bench.train.steps import Steps

UPDATES = 4
BATCH, SINGLES = 64, 50
BEAMS = (5, 1)
PAUSE = 0.3
"""Seconds before a translation, after which no thread of the one before still waits for work."""
OURS_NAME, FAIRSEQ, CTRANSLATE2 = "ours", "fairseq", "CTranslate2"


@dataclass(frozen=True)
class Search:
    """One way to translate."""

    beam: int
    batch: int
    """Sentences."""


@dataclass(frozen=True)
class Translation:
    """How fast all translate one search."""

    search: Search
    sentences: int
    rates: dict[str, Figure]
    """Sentences a second."""
    ratios: dict[str, Figure]
    """Ours by the others'."""
    same: dict[str, float]
    """Share of the outputs that are ours."""
    bleu: dict[str, float]


@dataclass(frozen=True)
class Training:
    """How fast both train one network."""

    name: str
    tokens: dict[str, Figure]
    """Real target tokens a second."""
    ratio: Figure
    """Ours by fairseq's."""
    peak_share: Figure
    """Our useful operations a second by those of a matrix product."""


def compare_training(prepared: Prepared, python: str, folder: Path, rounds: int) -> list[Training]:
    """The plain student and the teacher, with the student's recipe and the same training text."""
    sizes, found = prepared.sizes, []
    for name, shape in ((PLAIN, sizes.student), (TEACHER, sizes.teacher)):
        steps = Steps(
            load_methods().get("baseline")(),
            sizes.training,
            shape,
            sizes.teacher,
            vocabulary=prepared.tokenizer.size,
            text=prepared.train,
            device=CPU,
        )
        batches = token_batches(prepared.train.lengths, sizes.training.batch_tokens, seed=SEED, epoch=1)
        with Fairseq(python, folder, fairseq_task(prepared, "training", shape, folder)) as other:
            works: dict[str, Work] = {
                OURS_NAME: partial(_our_updates, steps, batches),
                FAIRSEQ: lambda _, other=other: [Part(other.run, other.ready(UPDATES))],
                **product_works(CPU, "fp32"),
            }
            samples = interleaved(works, rounds, partial(seconds, CPU), announce=partial(_say, name))
        own, others, *products = samples.values()
        found.append(
            Training(
                name,
                {OURS_NAME: Figure.of(each.rate for each in own), FAIRSEQ: Figure.of(each.rate for each in others)},
                ratio((each.rate for each in own), (each.rate for each in others)),
                ratio((each.flop_rate for each in own), peaks_of(products)),
            )
        )
    return found


def _our_updates(steps: Steps, batches: Sequence[Any], number: int) -> list[Part]:
    """The updates of a round as one piece of work."""
    parts = [training_parts(steps, batches, 1, number * UPDATES + i)[0] for i in range(UPDATES)]

    def run() -> None:
        for part in parts:
            part.run()

    return [Part(run, sum(part.units for part in parts), sum(part.flops for part in parts))]


def compare_translation(prepared: Prepared, python: str, folder: Path, rounds: int) -> list[Translation]:
    """Beam and greedy search, in batches and one sentence at a time, with the teacher's weights."""
    sizes, test, model = prepared.sizes, prepared.test, prepared.teacher
    sources, pieces = prepared.tokenizer.encode(test.source), prepared.tokenizer.pieces
    places = {piece: i for i, piece in enumerate(pieces)}
    pack(model.matrices())
    export_ctranslate2(model, pieces, folder / "ctranslate2")
    where = {"device": "cpu", "compute_type": "float32", "inter_threads": 1, "intra_threads": usable_cores()}
    found = []
    with ExitStack() as opened:
        fairseq = opened.enter_context(
            Fairseq(python, folder, fairseq_task(prepared, "translation", sizes.teacher, folder))
        )
        ctranslate2 = Translator(folder / "ctranslate2", where)
        opened.callback(ctranslate2.close)
        for search in (Search(beam, batch) for batch in (BATCH, 1) for beam in BEAMS):
            lines = sources if search.batch > 1 else sources[:SINGLES]
            config = sizes.search.model_copy(update={"beam": search.beam, "batch_sentences": search.batch})
            engines: dict[str, Callable[[], list[list[int]]]] = {
                OURS_NAME: partial(by_us, model, lines, config),
                FAIRSEQ: partial(by_fairseq, fairseq),
                CTRANSLATE2: partial(by_ctranslate2, ctranslate2, places, pieces, lines, config),
            }
            fairseq.ready(
                {
                    "sources": theirs(lines),
                    "batch": search.batch,
                    "beam": search.beam,
                    "lenpen": config.length_penalty,
                    "min_len": 0,
                    # The end of sentence comes on top of them.
                    "max_len_a": config.max_ratio,
                    "max_len_b": config.max_extra - 1,
                }
            )
            outputs = {name: run() for name, run in engines.items()}
            works: dict[str, Work] = {name: partial(_translation, run, len(lines)) for name, run in engines.items()}
            samples = interleaved(works, rounds, partial(seconds, CPU), announce=partial(_say, str(search)))
            found.append(_translation_of(search, test, prepared.tokenizer, outputs, samples))
    return found


def _translation(run: Callable[[], object], sentences: int, _: int) -> list[Part]:
    time.sleep(PAUSE)
    return [Part(run, sentences)]


def _translation_of(
    search: Search,
    test: ParallelText,
    tokenizer: Tokenizer,
    outputs: Mapping[str, Sequence[Sequence[int]]],
    samples: Mapping[str, Sequence[Sample]],
) -> Translation:
    own, references = outputs[OURS_NAME], test.target[: len(outputs[OURS_NAME])]
    rates = {name: [each.rate for each in found] for name, found in samples.items()}
    return Translation(
        search,
        len(own),
        {name: Figure.of(each) for name, each in rates.items()},
        {name: ratio(rates[OURS_NAME], each) for name, each in rates.items() if name != OURS_NAME},
        {name: sum(map(_same, own, each)) / len(own) for name, each in outputs.items() if name != OURS_NAME},
        {name: score(tokenizer.decode(each), references).bleu for name, each in outputs.items()},
    )


def _same(one: Sequence[int], other: Sequence[int]) -> bool:
    return list(one) == list(other)


def by_us(model: Transformer, sources: list[list[int]], config: SearchConfig) -> list[list[int]]:
    """The best hypotheses of the project's search."""
    found = translate_ids(model, sources, config, device=CPU, alone=config.batch_sentences == 1)
    return [list(best.ids) for best, *_ in found]


def by_fairseq(fairseq: Fairseq) -> list[list[int]]:
    """Those of the search that was made ready."""
    return ours(fairseq.run())


def by_ctranslate2(
    translator: Translator,
    places: Mapping[str, int],
    pieces: Sequence[str],
    sources: Sequence[Sequence[int]],
    config: SearchConfig,
) -> list[list[int]]:
    """Those of CTranslate2, in batches of like length.

    Args:
        places, pieces: ids by piece, and pieces by id.
    """
    order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
    outputs: dict[int, list[int]] = {}
    for start in range(0, len(order), config.batch_sentences):
        chosen = order[start : start + config.batch_sentences]
        options = {
            "beam_size": config.beam,
            "length_penalty": config.length_penalty,
            "max_input_length": 0,
            "max_decoding_length": max(config.max_length(len(sources[i])) for i in chosen),
            "min_decoding_length": 0,
        }
        found = translator.translate([[[pieces[piece] for piece in sources[i][:-1]] for i in chosen]], options)
        outputs |= {i: [places[piece] for piece in best] for i, best in zip(chosen, found, strict=True)}
    return [outputs[i] for i in range(len(sources))]


def _say(what: str, step: str) -> None:
    print(f"{what}: {step}", file=sys.stderr, flush=True)
