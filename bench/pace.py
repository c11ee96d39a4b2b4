"""How fast this machine multiplies matrices, trains with each method and searches, side by side and as ratios.

Weights and text are random, so that no data set is needed. All is timed in interleaved rounds (``bench.measure.rounds``).
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.config import Preset, SearchConfig
from bench.data.batches import EncodedCorpus, token_batches
from bench.environment import cpu_name, installed
from bench.errors import UsageError
from bench.estimates import ASSUMED_LENGTH
from bench.measure.flops import counted
from bench.measure.process import synchronise
from bench.measure.rounds import Figure, Part, Sample, Work, interleaved, ratio
from bench.method import Method
from bench.nmt.batch import EOS
from bench.nmt.export import export_ctranslate2
from bench.nmt.linear import linear
from bench.nmt.model import Transformer
from bench.nmt.search import translate_ids
from bench.probe import PAIRS, SEED, random_lengths, undisturbed
from bench.registry import load_methods
from bench.train.steps import Steps
from bench.train.trainer import chosen_precision, new_network

ROUNDS = 5
SINGLES = 4
"""Sentences that are translated one at a time."""
CPU_SIZE, GPU_SIZE = 2048, 8192
"""Of the square matrices whose product is the peak; a GPU is not busy with small ones."""
PLAIN, TEACHER = "plain student", "plain teacher"
LIBRARIES = ("bench.nmt.linear", "torch.mm")


@dataclass(frozen=True)
class Training:
    """How fast one network trains."""

    name: str
    tokens: Figure
    """Target tokens a second, without padding."""
    ratio: Figure
    """By the plain student's."""
    peak_share: Figure
    """Operations a second without those on padding, by the faster of the matrix products."""


@dataclass(frozen=True)
class Searching:
    """How fast the teacher translates, every output being as long as the limit."""

    beam: int
    batch: int
    sentences: Figure
    """A second, with the project's own search."""
    ctranslate2: Figure | None
    """A second; None where it cannot run here."""
    ratio: Figure | None
    """Ours by CTranslate2's."""


@dataclass(frozen=True)
class Pace:
    """All that was measured, and of what."""

    preset: str
    device: str
    threads: int
    rounds: int
    precision: str
    """Of training and of the products."""
    size: int
    """Rows and columns of the matrices."""
    length: float
    """Mean tokens of a sentence, on both sides."""
    limit: int
    """Tokens of each output of the search."""
    products: dict[str, Figure]
    """Operations a second, by library."""
    training: tuple[Training, ...]
    searching: tuple[Searching, ...]
    engines: tuple[str, ...]
    """The engines of the search and their precision."""
    notes: tuple[str, ...]
    """What could not be measured, and why."""


def measure_pace(
    preset: Preset,
    device: torch.device,
    threads: int,
    *,
    rounds: int = ROUNDS,
    announce: Callable[[str], object] = lambda _: None,
) -> Pace:
    """Measure the products, the training of plain student, teacher and every method, and the teacher's search."""
    notes: list[str] = []
    precision, size = chosen_precision(preset.training, device), CPU_SIZE if device.type == "cpu" else GPU_SIZE
    limit = round(ASSUMED_LENGTH)
    with undisturbed(device, threads), tempfile.TemporaryDirectory() as folder:
        announce(f"building models of the preset {preset.name}")
        products = _products(device, precision, size)
        trainings = _trainings(preset, device, Path(folder), notes)
        searches = _searches(preset, device, threads, limit, Path(folder), notes)
        works: dict[Any, Work] = {**products, **trainings, **searches}
        found = interleaved(works, rounds, partial(_seconds, device), announce=announce)
    return Pace(
        preset=preset.name,
        device=cpu_name() if device.type == "cpu" else torch.cuda.get_device_name(device),
        threads=threads,
        rounds=rounds,
        precision=precision,
        size=size,
        length=ASSUMED_LENGTH,
        limit=limit,
        products={name: Figure.of(each.rate for each in found[name]) for name in products},
        training=trainings_of({name: found[name] for name in trainings}, [found[name] for name in products]),
        searching=tuple(
            _searching(beam, batch, found[key], found.get(("ctranslate2", beam, batch)))
            for key in searches
            for engine, beam, batch in [key]
            if engine == "pytorch"
        ),
        engines=tuple(f"{engine} in {name}" for engine, name in _precisions(device).items()),
        notes=tuple(notes),
    )


def trainings_of(found: Mapping[str, Sequence[Sample]], products: Sequence[Sequence[Sample]]) -> tuple[Training, ...]:
    """Rates and ratios from the samples of each training, the plain student's among them, and of each product."""
    peaks = [max(each.rate for each in at_once) for at_once in zip(*products, strict=True)]
    plain = [each.rate for each in found[PLAIN]]
    return tuple(
        Training(
            name,
            tokens=Figure.of(each.rate for each in samples),
            ratio=ratio((each.rate for each in samples), plain),
            peak_share=ratio((each.flop_rate for each in samples), peaks),
        )
        for name, samples in found.items()
    )


def _searching(beam: int, batch: int, ours: Sequence[Sample], theirs: Sequence[Sample] | None) -> Searching:
    return Searching(
        beam,
        batch,
        sentences=Figure.of(each.rate for each in ours),
        ctranslate2=Figure.of(each.rate for each in theirs) if theirs else None,
        ratio=ratio((each.rate for each in ours), (each.rate for each in theirs)) if theirs else None,
    )


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    synchronise(str(device))
    began = time.perf_counter()
    work()
    synchronise(str(device))
    return time.perf_counter() - began


def _products(device: torch.device, precision: str, size: int) -> dict[str, Work]:
    """The product of two matrices as the models make it, and by PyTorch's default library."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    left, right = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))

    def work(product: Callable[..., torch.Tensor]) -> Work:
        return lambda _: [Part(torch.no_grad()(partial(product, left, right)), 2.0 * size**3)]

    return dict(zip(LIBRARIES, (work(linear), work(torch.mm)), strict=True))


def random_corpus(folder: Path, vocabulary: int, pairs: int = PAIRS, copies: int = 1) -> EncodedCorpus:
    """Pairs of random ids, log-normal in length and equally long on both sides, repeated ``copies`` times."""
    draw, lengths = np.random.default_rng(SEED), random_lengths(ASSUMED_LENGTH, pairs).tolist()

    def line(length: int) -> list[int]:
        return [*draw.integers(EOS + 1, vocabulary, length - 1).tolist(), EOS]

    text = [(line(length), line(length)) for length in lengths]
    EncodedCorpus.write(folder, (pair for _ in range(copies) for pair in text), vocabulary)
    return EncodedCorpus.open(folder)


def _trainings(preset: Preset, device: torch.device, folder: Path, notes: list[str]) -> dict[str, Work]:
    """An update of each training; in a round all have the same pairs, and what is drawn at random differs by round."""
    vocabulary = preset.tokenizer.vocabulary
    text = random_corpus(folder / "text", vocabulary)
    # Short sentences or long ones alone would not be like the whole.
    batches = token_batches(text.lengths, preset.training.batch_tokens, seed=SEED, epoch=1)
    frozen = new_network(preset.teacher, vocabulary, seed=2).to(device)
    known = load_methods().found
    baseline = known["baseline"]()

    def work(method: Method, whole: bool = False) -> Work:
        student = preset.teacher if whole else preset.student
        config = preset.teacher_training if whole else preset.training
        shapes = (student, preset.teacher)
        steps = Steps(method, config, *shapes, vocabulary=vocabulary, text=text, device=device, frozen=frozen)
        return partial(training_parts, steps, batches, config.accumulation)

    works = {PLAIN: work(baseline), TEACHER: work(baseline, whole=True)}
    for name, method in known.items():
        if name != "baseline":
            try:
                works[name] = work(method())
            except UsageError as error:
                notes.append(f"{name}: {error}")
    return works


def training_parts(steps: Steps, batches: Sequence[Any], accumulation: int, number: int) -> list[Part]:
    """An update of each stage, with its useful operations: those of a sentence of mean length, for as many tokens."""
    start = number * accumulation
    chosen = [batches[i % len(batches)] for i in range(start, start + accumulation)]
    rows = np.concatenate(chosen)
    lengths = steps.text.lengths[rows, 1]
    middle = rows[[np.abs(lengths - lengths.mean()).argmin()]]
    parts = []
    for stage, described in enumerate(steps.stages):
        update = partial(steps.update, stage=stage, number=number + 1)
        alone = counted(partial(update, [middle])) / int(steps.text.lengths[middle, 1].sum())
        tokens = int(lengths.sum())
        parts.append(Part(partial(update, chosen), tokens, alone * tokens, described.share))
    return parts


def _precisions(device: torch.device) -> dict[str, str]:
    cpu = device.type == "cpu"
    return {"pytorch": "float32", "ctranslate2": "float32"} if cpu else {"pytorch": "bfloat16", "ctranslate2": "float16"}


def _searches(
    preset: Preset, device: torch.device, threads: int, limit: int, folder: Path, notes: list[str]
) -> dict[tuple[str, int, int], Work]:
    """The teacher's search by engine, beam and batch, with the same limit for all sentences and engines."""
    vocabulary, draw = preset.tokenizer.vocabulary, random.Random(SEED)
    model = new_network(preset.teacher, vocabulary, seed=2).eval()
    with torch.no_grad():  # the end of sentence is never likely, so that every output goes on up to the limit
        (model.output or model.embedding).weight[EOS] = 0.0
    lengths = random_lengths(ASSUMED_LENGTH, preset.search.batch_sentences).tolist()
    sources = [[*draw.choices(range(EOS + 1, vocabulary), k=length - 1), EOS] for length in lengths]
    works: dict[tuple[str, int, int], Work] = {}
    beams = sorted({preset.search.beam, 1}, reverse=True)
    theirs = _ctranslate2(model, limit, threads, device, folder / "ctranslate2", preset.search, notes)
    ours = partial(_translated, model.to(device, getattr(torch, _precisions(device)["pytorch"])), device)
    for batch, lines in ((len(sources), sources), (1, sources[:SINGLES])):
        for beam in beams:
            fixed = {"beam": beam, "max_ratio": 1e-9, "max_extra": limit, "batch_sentences": batch}
            run = partial(ours, lines, preset.search.model_copy(update=fixed))
            works["pytorch", beam, batch] = partial(_part, run, len(lines))
            if theirs:
                works["ctranslate2", beam, batch] = partial(_part, partial(theirs, lines, beam, batch), len(lines))
    return works


def _part(run: Callable[[], object], units: int, _: int) -> list[Part]:
    return [Part(run, units)]


def _translated(model: Transformer, device: torch.device, sources: list[list[int]], config: SearchConfig) -> list[Any]:
    return translate_ids(model, sources, config, device=device)


def _ctranslate2(
    model: Transformer,
    limit: int,
    threads: int,
    device: torch.device,
    folder: Path,
    search: SearchConfig,
    notes: list[str],
) -> Callable[[list[list[int]], int, int], list[Any]] | None:
    """CTranslate2's search with the same weights, limit and threads; None where it is not installed or not for this device."""
    if not installed("ctranslate2"):
        notes.append("CTranslate2 is not installed: pip install ctranslate2")
        return None
    import ctranslate2

    pieces = [f"p{i}" for i in range(model.vocabulary)]
    export_ctranslate2(model, pieces, folder)
    precision = _precisions(device)["ctranslate2"]
    try:
        translator = ctranslate2.Translator(
            str(folder), device=device.type, device_index=device.index or 0, compute_type=precision,
            inter_threads=1, intra_threads=threads,
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        notes.append(f"CTranslate2 cannot run on {device}: {error}")
        return None

    def run(sources: list[list[int]], beam: int, batch: int) -> list[Any]:
        lines = [[pieces[i] for i in source[:-1]] for source in sources]
        found: list[Any] = []
        for start in range(0, len(lines), batch):
            found += translator.translate_batch(
                lines[start : start + batch], beam_size=beam, length_penalty=search.length_penalty,
                max_input_length=0, max_decoding_length=limit, min_decoding_length=0,
            )  # fmt: skip
        return found

    return run


def described(pace: Pace) -> Iterator[str]:
    """The tables, line by line."""
    threads = f"{pace.threads} thread{'s' if pace.threads > 1 else ''}"
    yield f"{pace.device}, {threads}, {pace.precision}; preset {pace.preset}; median of {pace.rounds} rounds (spread)"
    yield ""
    yield f"{f'product of {pace.size} x {pace.size} matrices':<36}{'GFLOP/s':>18}"
    for library, figure in pace.products.items():
        yield f"{library:<36}{_shown(figure, 1e-9, ',.0f'):>18}"
    yield ""
    yield f"{'training':<24}{'tokens/s':>18}{'by plain student':>20}{'useful FLOP/s by peak':>24}"
    for each in pace.training:
        yield f"{each.name:<24}{_shown(each.tokens, 1, ',.0f'):>18}{_shown(each.ratio, 1, '.2f'):>20}{_shown(each.peak_share, 1, '.0%'):>24}"
    yield ""
    yield f"{f'search, {pace.limit} tokens an output':<36}{'sentences/s':>18}{'CTranslate2':>18}{'ratio':>18}"
    for found in pace.searching:
        name = f"{'greedy' if found.beam == 1 else f'beam {found.beam}'}, {f'batch of {found.batch}' if found.batch > 1 else 'one at a time'}"
        theirs = _shown(found.ctranslate2, 1, ".1f") if found.ctranslate2 else "-"
        quotient = _shown(found.ratio, 1, ".2f") if found.ratio else "-"
        yield f"{name:<36}{_shown(found.sentences, 1, '.1f'):>18}{theirs:>18}{quotient:>18}"
    if pace.notes:
        yield ""
        yield from pace.notes


def _shown(figure: Figure, scale: float, form: str) -> str:
    return f"{format(figure.median * scale, form)} ({figure.spread:.0%})"
