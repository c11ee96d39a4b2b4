"""How fast this machine multiplies matrices, trains with each method and searches, side by side and as ratios.

Weights and text are random, so that no data set is needed. All is timed in interleaved rounds
(``bench.measure.rounds``).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.config import Preset, SignalsConfig
from bench.data.batches import EncodedCorpus, evaluation_batches, token_batches
from bench.data.signals import SignalsWriter, TaughtText
from bench.environment import cpu_name, resolve_device
from bench.errors import UsageError
from bench.estimates import ASSUMED_LENGTH
from bench.measure.flops import counted
from bench.measure.load import CpuWatch
from bench.measure.process import synchronise
from bench.measure.rounds import Figure, Part, Sample, Work, interleaved, ratio
from bench.method import Method, Runner
from bench.nmt.batch import EOS
from bench.nmt.linear import linear
from bench.nmt.model import Transformer
from bench.pace_search import Search, precisions, search_works
from bench.probe import PAIRS, SEED, random_lengths, undisturbed
from bench.registry import built_in, load_methods
from bench.sweep.slots import usable_cores
from bench.train.steps import Steps
from bench.train.trainer import chosen_precision, new_network

ROUNDS = 5
CPU_SIZE, GPU_SIZE = 2048, 8192
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
    """What could not be measured, and what disturbed the rest."""


def measure_pace(
    preset: Preset, device: str, *, rounds: int = ROUNDS, announce: Callable[[str], object] = lambda _: None
) -> Pace:
    """Measure the products, the training of plain student, teacher and every method, and the teacher's search.

    All cores are used; nothing else should run.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        UsageError: no such device on this machine.
    """
    return _measured(preset, torch.device(resolve_device(device)), usable_cores(), rounds, announce)


def _measured(
    preset: Preset, device: torch.device, threads: int, rounds: int, announce: Callable[[str], object]
) -> Pace:
    notes: list[str] = []
    precision, limit = chosen_precision(preset.training, device), round(ASSUMED_LENGTH)
    watch = CpuWatch()
    with undisturbed(device, threads), tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        announce(f"building models of the preset {preset.name}")
        products = product_works(device, precision)
        trainings = _trainings(preset, device, Path(folder), notes)
        searches = opened.enter_context(search_works(preset, device, threads, limit, Path(folder), notes))
        works: dict[Any, Work] = {**products, PLAIN: trainings[PLAIN]}
        for name in [name for name in trainings if name != PLAIN]:
            works |= {beside(name): trainings[PLAIN], name: trainings[name]}
        works |= searches
        found = interleaved(works, rounds, partial(seconds, device), announce=announce)
    if shared := watch.shared():
        notes.append(f"rates and even ratios are not to be trusted: {shared}")
    return Pace(
        preset=preset.name,
        device=cpu_name() if device.type == "cpu" else torch.cuda.get_device_name(device),
        threads=threads,
        rounds=rounds,
        precision=precision,
        size=matrix_size(device),
        length=ASSUMED_LENGTH,
        limit=limit,
        products={name: Figure.of(each.rate for each in found[name]) for name in products},
        training=trainings_of(trainings, found, [found[name] for name in products]),
        searching=tuple(
            _searching(search, found[search], found.get(search.by("ctranslate2")))
            for search in searches
            if search.engine == "pytorch"
        ),
        engines=tuple(f"{engine} in {name}" for engine, name in precisions(device).items()),
        notes=tuple(notes),
    )


def beside(name: str) -> str:
    """The plain student's training once more, next to that of ``name``: machines wander within seconds."""
    return f"{PLAIN} beside {name}"


def trainings_of(
    names: Iterable[str], found: Mapping[Any, Sequence[Sample]], products: Sequence[Sequence[Sample]]
) -> tuple[Training, ...]:
    """Rates and ratios from the samples of each training, of the plain student's beside it, and of each product."""
    peaks = peaks_of(products)
    return tuple(
        Training(
            name,
            tokens=Figure.of(each.rate for each in found[name]),
            ratio=ratio(
                (each.rate for each in found[name]), (each.rate for each in found.get(beside(name), found[PLAIN]))
            ),
            peak_share=ratio((each.flop_rate for each in found[name]), peaks),
        )
        for name in names
    )


def peaks_of(products: Sequence[Sequence[Sample]]) -> list[float]:
    """Operations a second of the faster library, by round."""
    return [max(each.rate for each in at_once) for at_once in zip(*products, strict=True)]


def _searching(search: Search, ours: Sequence[Sample], theirs: Sequence[Sample] | None) -> Searching:
    return Searching(
        search.beam,
        search.batch,
        sentences=Figure.of(each.rate for each in ours),
        ctranslate2=Figure.of(each.rate for each in theirs) if theirs else None,
        ratio=ratio((each.rate for each in ours), (each.rate for each in theirs)) if theirs else None,
    )


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Of a piece of work, with what it queued on a GPU."""
    synchronise(str(device))
    began = time.perf_counter()
    work()
    synchronise(str(device))
    return time.perf_counter() - began


def matrix_size(device: torch.device) -> int:
    """Rows and columns of the matrices whose product is the peak; a GPU is not busy with small ones."""
    return CPU_SIZE if device.type == "cpu" else GPU_SIZE


def product_works(device: torch.device, precision: str) -> dict[str, Work]:
    """The product of two matrices as the models make it, and by PyTorch's default library."""
    size = matrix_size(device)
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
    frozen = new_network(preset.teacher, vocabulary, seed=2).to(device)
    known = load_methods().found
    baseline = known["baseline"]()

    def work(method: Method, whole: bool = False, text: EncodedCorpus = text) -> Work:
        student = preset.teacher if whole else preset.student
        config = preset.teacher_training if whole else preset.training
        shapes = (student, preset.teacher)
        batches = token_batches(text.lengths, config.batch_tokens, seed=SEED, epoch=1)
        steps = Steps(method, config, *shapes, vocabulary=vocabulary, text=text, device=device, frozen=frozen)
        return partial(training_parts, steps, batches, config.accumulation)

    works = {PLAIN: work(baseline), TEACHER: work(baseline, whole=True)}
    for name, method in known.items():
        if not built_in(method):
            notes.append(f"{name}: a plug-in, which may do anything, is not run here")
        elif name != "baseline":
            try:
                works[name] = work(method())
                if method.distributions_only:
                    works[f"{name}, cached signals"] = work(method(), text=_taught(text, frozen, preset, folder))
            except UsageError as error:
                notes.append(f"{name}: {error}")
    with suppress(UsageError, KeyError):  # the one that is not shared has a note
        works["aio_kd, shared encoder"] = work(known["aio_kd"]({"share_encoder": True}))
    return works


def _taught(text: EncodedCorpus, teacher: Transformer, preset: Preset, folder: Path) -> TaughtText:
    """The text with the teacher's signals."""
    folder = folder / "signals"
    if not folder.exists():
        folder.mkdir()
        writer = SignalsWriter(folder, text.target_tokens, teacher.vocabulary, SignalsConfig().top_k)
        runner, device = Runner(teacher, frozen=True), teacher.embedding.weight.device
        for rows in evaluation_batches(text.lengths, preset.training.batch_tokens):
            writer.write(text.places(rows), runner.forward(text.batch(rows).to(device)).logits)
        writer.finish()
    return TaughtText(text, folder)


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


def described(pace: Pace) -> Iterator[str]:
    """The tables, line by line."""
    threads = f"{pace.threads} thread{'s' if pace.threads > 1 else ''}"
    yield f"{pace.device}, {threads}, {pace.precision}; preset {pace.preset}; median of {pace.rounds} rounds (spread)"
    yield ""
    yield _line(f"product of {pace.size} x {pace.size} matrices", "GFLOP/s")
    for library, figure in pace.products.items():
        yield _line(library, _shown(figure, ",.0f", 1e-9))
    yield ""
    yield _line("training", "tokens/s", "by plain student", "useful FLOP/s by peak")
    for each in pace.training:
        yield _line(each.name, _shown(each.tokens, ",.0f"), _shown(each.ratio, ".2f"), _shown(each.peak_share, ".0%"))
    yield ""
    yield _line(f"search, {pace.limit} tokens an output", "sentences/s", "CTranslate2", "ours by CTranslate2")
    for found in pace.searching:
        batch = f"batch of {found.batch}" if found.batch > 1 else "one at a time"
        yield _line(
            f"{'greedy' if found.beam == 1 else f'beam {found.beam}'}, {batch}",
            _shown(found.sentences, ".1f"),
            _shown(found.ctranslate2, ".1f"),
            _shown(found.ratio, ".2f"),
        )
    yield f"({', '.join(pace.engines)})"
    if pace.notes:
        yield ""
        yield from pace.notes


def _line(name: str, *columns: str) -> str:
    return f"{name:<34}" + "".join(f"{column:>24}" for column in columns)


def _shown(figure: Figure | None, form: str, scale: float = 1.0) -> str:
    return f"{format(figure.median * scale, form)} ({figure.spread:.0%})" if figure else "-"
