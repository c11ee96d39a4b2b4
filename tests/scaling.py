"""What training costs over the size of corpus, vocabulary and model: rate and peak memory. Run by hand, on a machine
that does nothing else, for about 5 minutes:

    python tests/scaling.py [DOCS]

writes ``scaling.json``, ``scaling.svg`` and ``scaling.md`` into the folder DOCS (docs by default). The corpus is one
text of random ids, repeated; the models are those of the preset ``small``, with other widths. Each point has a process
of its own, so that its memory is its own, and times its updates and a matrix product in turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Literal

from bench.measure.rounds import Figure

Axis = Literal["copies", "vocabulary", "width"]
SIZES: dict[Axis, tuple[int, ...]] = {
    "copies": (1, 4, 16),
    "vocabulary": (4000, 16000, 32000),
    "width": (128, 256, 512),
}
USUAL = {"copies": 1, "vocabulary": 4000, "width": 256}
TITLES: dict[Axis, str] = {
    "copies": "times the corpus", "vocabulary": "pieces in the vocabulary", "width": "width of the models"
}  # fmt: skip
METHODS = {"baseline": "plain student", "word_level": "word-level KD"}
PAIRS, ROUNDS = 29_000, 5
HEAD_WIDTH = 64


@dataclass(frozen=True)
class Point:
    """One size and method."""

    method: str
    copies: int
    vocabulary: int
    width: int


@dataclass(frozen=True)
class Measured:
    """What training takes there."""

    point: Point
    pairs: int
    tokens: Figure
    """Target tokens a second, without padding."""
    peak_share: Figure
    """Useful operations a second by those of a matrix product."""
    memory: int
    """Bytes of host memory at the most, pages of the corpus that the system could take back included."""


def points() -> list[Point]:
    """Each axis with the others at their usual sizes, each point once."""
    sizes = [USUAL | {axis: size} for axis, found in SIZES.items() for size in found]
    return list(dict.fromkeys(Point(method, **each) for each in sizes for method in METHODS))


def on(axis: Axis, method: str, measured: Iterable[Measured]) -> list[Measured]:
    """The points of one line of the figure, smallest first."""
    found = [
        each
        for each in measured
        if each.point.method == method
        and all(getattr(each.point, other) == size for other, size in USUAL.items() if other != axis)
    ]
    return sorted(found, key=lambda each: getattr(each.point, axis))


def measure(point: Point, folder: Path, rounds: int) -> Measured:
    """Train on the encoded corpus in ``folder`` for some updates, after all of it has been read once."""
    import torch

    from bench.config import preset
    from bench.data.batches import EncodedCorpus, token_batches
    from bench.measure.process import host_peak
    from bench.measure.rounds import interleaved, ratio
    from bench.pace import peaks_of, product_works, seconds, training_parts
    from bench.probe import SEED
    from bench.registry import load_methods
    from bench.sweep.slots import usable_cores
    from bench.train.steps import Steps

    torch.set_num_threads(usable_cores())
    shape = {"width": point.width, "ffn": 4 * point.width, "heads": max(1, point.width // HEAD_WIDTH)}
    sizes = preset(
        "small", {f"{model}.{name}": size for model in ("student", "teacher") for name, size in shape.items()}
    )
    method, text, device = load_methods().get(point.method)(), EncodedCorpus.open(folder), torch.device("cpu")
    steps = Steps(
        method, sizes.training, sizes.student, sizes.teacher, vocabulary=point.vocabulary, text=text, device=device
    )
    batches = token_batches(text.lengths, sizes.training.batch_tokens, seed=SEED, epoch=1)
    for rows in batches:
        text.batch(rows)
    works = {"training": partial(training_parts, steps, batches, 1), **product_works(device, "fp32")}
    found = interleaved(works, rounds, partial(seconds, device))
    training, *products = found.values()
    return Measured(
        point,
        len(text),
        Figure.of(each.rate for each in training),
        ratio((each.flop_rate for each in training), peaks_of(products)),
        host_peak(),
    )


def measure_apart(point: Point, folder: Path, rounds: int) -> Measured:
    """The same in a process of its own."""
    command = [sys.executable, __file__, json.dumps(asdict(point)), str(folder), str(rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return read(json.loads(done.stdout))


def read(found: dict[str, dict[str, float]]) -> Measured:
    """From the JSON form of a point."""
    figures = {name: Figure(**found[name]) for name in ("tokens", "peak_share")}
    return Measured(**found | figures | {"point": Point(**found["point"])})


def measure_all(chosen: Sequence[Point], pairs: int, rounds: int) -> Iterator[Measured]:
    """Every point, on corpora that are written once for each size."""
    from bench.pace import random_corpus

    with tempfile.TemporaryDirectory() as folder:
        for point in chosen:
            corpus = Path(folder) / f"{point.copies}-{point.vocabulary}"
            if not corpus.exists():
                random_corpus(corpus, point.vocabulary, pairs, point.copies)
            yield measure_apart(point, corpus, rounds)


def table(measured: Sequence[Measured]) -> str:
    """All points in Markdown."""
    lines = ["| | corpus | pairs | vocabulary | width | tokens/s (spread) | useful FLOP/s by peak | peak memory |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for each in measured:
        at = each.point
        lines += [
            f"| {METHODS[at.method]} | {at.copies} x | {each.pairs:,} | {at.vocabulary:,} | {at.width} "
            f"| {each.tokens.median:,.0f} ({each.tokens.spread:.0%}) | {each.peak_share.median:.0%} "
            f"| {each.memory / 2**20:,.0f} MiB |"
        ]
    return "\n".join(lines) + "\n"


def page(measured: Sequence[Measured], machine: str) -> str:
    """The Markdown page of the figure."""
    return f"""# Cost over size

How fast the preset `small` trains (width 256, 2-2 layers; word-level KD with a teacher of 4-4), and how much memory it
takes, when the corpus, the vocabulary or the models grow. Rates are medians of rounds within one process. Different
points ran at different minutes: what compares best is their share of the matrix product's rate, taken in the same
rounds. Memory includes PyTorch itself and the pages of the memory-mapped corpus, all of which is read once.

![Rate and memory over corpus, vocabulary and width](scaling.svg)

{table(measured)}
Measured on {machine}, by `python tests/scaling.py`; the numbers are in [scaling.json](scaling.json).
"""


PANEL_WIDTH, PANEL_HEIGHT, MARGIN = 230, 150, 62
COLOURS = {"baseline": "#0067a5", "word_level": "#c1440e"}
MARKS = {"baseline": '<circle r="4" {at}/>', "word_level": '<rect x="-4" y="-4" width="8" height="8" {at}/>'}


def figure(measured: Sequence[Measured]) -> str:
    """The SVG: rate above, memory below, one panel for each axis; every scale starts at zero."""
    width, height = 3 * (PANEL_WIDTH + MARGIN) + MARGIN, 2 * (PANEL_HEIGHT + MARGIN) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for place, (method, name) in enumerate(METHODS.items()):
        parts += [_mark(method, MARGIN + 130 * place, 16), _text(MARGIN + 130 * place + 10, 20, name, "start")]
    for column, axis in enumerate(SIZES):
        lines = {method: on(axis, method, measured) for method in METHODS}
        left, base = MARGIN + column * (PANEL_WIDTH + MARGIN), MARGIN + PANEL_HEIGHT
        rates = {method: [each.tokens.median for each in line] for method, line in lines.items()}
        memory = {method: [each.memory / 2**20 for each in line] for method, line in lines.items()}
        parts += _panel(left, base, "tokens/s", axis, rates)
        parts += _panel(left, base + PANEL_HEIGHT + MARGIN, "peak memory, MiB", axis, memory)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(left: float, base: float, title: str, axis: Axis, lines: dict[str, list[float]]) -> Iterator[str]:
    """One line for each method over the sizes of an axis, equally far apart."""
    places = [left + PANEL_WIDTH * (i + 0.5) / len(SIZES[axis]) for i in range(len(SIZES[axis]))]
    top = 1.2 * max(value for line in lines.values() for value in line)
    highest = [max(values) for values in zip(*lines.values(), strict=True)]
    yield f'<path d="M{left},{base - PANEL_HEIGHT}V{base}H{left + PANEL_WIDTH}" fill="none" stroke="#888"/>'
    yield _text(left, base - PANEL_HEIGHT - 8, title, "start")
    yield _text(left + PANEL_WIDTH / 2, base + 32, TITLES[axis], "middle")
    for x, size in zip(places, SIZES[axis], strict=True):
        yield _text(x, base + 16, f"{size:,}", "middle")
    for method, values in lines.items():
        heights = [base - PANEL_HEIGHT * value / top for value in values]
        path = "L".join(f"{x:.1f},{y:.1f}" for x, y in zip(places, heights, strict=True))
        yield f'<path d="M{path}" fill="none" stroke="{COLOURS[method]}" stroke-width="1.5"/>'
        for x, y, value, most in zip(places, heights, values, highest, strict=True):
            yield _mark(method, x, y)
            yield _text(x, y - 8 if value == most else y + 16, f"{value:,.0f}", "middle")


def _mark(method: str, x: float, y: float) -> str:
    return MARKS[method].format(at=f'transform="translate({x:.1f},{y:.1f})" fill="{COLOURS[method]}"')


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222">{escape(text)}</text>'


def main(docs: Path) -> None:
    """Measure all points and write what came of it."""
    from bench.environment import cpu_name
    from bench.store import write_json, write_text
    from bench.sweep.slots import usable_cores

    measured = []
    for each in measure_all(points(), PAIRS, ROUNDS):
        measured.append(each)
        print(table([each]).splitlines()[-1], flush=True)
    docs.mkdir(parents=True, exist_ok=True)
    write_json(docs / "scaling.json", [asdict(each) for each in measured])
    write_text(docs / "scaling.svg", figure(measured))
    write_text(docs / "scaling.md", page(measured, f"{cpu_name()}, {usable_cores()} threads"))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        chosen, corpus, count = sys.argv[1:]
        print(json.dumps(asdict(measure(Point(**json.loads(chosen)), Path(corpus), int(count)))))
    else:
        main(Path(*sys.argv[1:2] or ["docs"]))
