"""What a site of many records costs: time and memory to build it, bytes of its pages, time in a browser. Run by hand:

    python tests/scale_site.py [RECORDS]

builds a site of 10,000 generated records, or of so many, in a process of its own, and prints what that took. The times
in a browser need Chromium and the package playwright (``pip install -e ".[browser]"``); without them they are left out.
The records are a believable mix: tables of 6 to 100 rows on 20 data sets, three seeds a row, two texts of 500 sentences
with their statistics, speeds, curves, sweeps, a family of depths from one run, and rows with a seed too few.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from itertools import cycle
from pathlib import Path

import numpy as np
from factories import make_record, make_speed, make_sweep
from numpy.typing import NDArray

from bench.config import Depth, preset
from bench.measure.process import host_peak
from bench.measure.statistics import corpus_bleu, corpus_chrf, sentence_statistics, statistics_content
from bench.records import read_records, write_record
from bench.results import CurvePoint, Phase, Record, StoredFile, Sweep, file_content, statistics_file
from leaderboard.catalog import Catalog, Sentences
from leaderboard.site import build

RECORDS, DATASETS, SEEDS, SENTENCES, POINTS = 10_000, 20, (1, 2, 3), 500, 30
SIZES = (6, 12, 25, 50, 100)
"""Rows of the tables, in turn."""
METHODS = ("word_level", "sequence_level", "tie_kd", "a2d", "my_method")
DEPTHS = (Depth(2, 2), Depth(3, 2), Depth(3, 3), Depth(4, 3), Depth(4, 4), Depth(6, 6))
"""Of the students of one run."""
TEXTS = ("test", "dev")
INCOMPLETE = 20
"""Of so many rows of a method one lacks a seed."""


@dataclass(frozen=True)
class Cost:
    """What a site takes, in bytes and seconds."""

    records: int
    tables: int
    pages: int
    build_seconds: float
    build_cpu_seconds: float
    reading_seconds: float
    peak_memory: int
    overview: int
    largest_table: int
    largest_table_rows: int
    everything: int


@dataclass(frozen=True)
class Felt:
    """Milliseconds in a browser."""

    overview: float
    """From navigation to the end of the load event."""
    table: float
    """The same for the largest table."""
    sort: float
    """From its first sort's click until the frame that shows it is done."""


class Texts:
    """Sentences in several qualities with their statistics, so that no record's text has to be counted anew."""

    def __init__(self, sentences: int) -> None:
        random = np.random.default_rng(1)
        words = np.array(
            ["".join(random.choice(list("abdegiklmnorstu"), size=int(n))) for n in random.integers(2, 9, 900)]
        )
        lines = [words[random.zipf(1.4, size=int(n)) % len(words)] for n in random.integers(6, 24, sentences)]
        self.reference = [" ".join(line) for line in lines]
        self.source = [" ".join(reversed(line)) for line in lines]
        self.variants = []
        for share in np.linspace(0.0, 0.6, 24):
            changed = [
                np.where(random.random(len(line)) < share, random.choice(words, len(line)), line) for line in lines
            ]
            self.variants.append([" ".join(line) for line in changed])
        self.statistics = np.stack([sentence_statistics(lines, self.reference) for lines in self.variants])

    def output(self, quality: float, random: np.random.Generator) -> tuple[list[str], NDArray[np.int64]]:
        """Lines and their statistics; the higher the quality, the better most of them."""
        centre = (1 - quality) * len(self.variants)
        chosen = np.clip(random.normal(centre, 5.0, len(self.reference)), 0, len(self.variants) - 1).astype(int)
        lines = [self.variants[variant][place] for place, variant in enumerate(chosen)]
        return lines, self.statistics[chosen, np.arange(len(chosen))]


@cache
def texts(sentences: int = SENTENCES) -> Texts:
    """The only ones of so many sentences."""
    return Texts(sentences)


@dataclass(frozen=True)
class Place:
    """A row to be: its table, and what it is."""

    table: int
    row: int
    method: str
    role: str
    depth: Depth
    run: str
    """Of the training that it came out of."""

    @property
    def digest(self) -> str:
        """Eight digits that no other row of its method and depth has."""
        return sha256(f"{self.table} {self.row}".encode()).hexdigest()[:8]


def places(records: int) -> Iterator[Place]:
    """The rows that so many records make, table by table."""
    left, table = records // len(SEEDS), 0
    for size in cycle(SIZES):
        size = min(size, left)
        for row in range(size):
            run = f"t{table}r{row}"
            if row == 0:
                yield Place(table, row, "baseline", "baseline", Depth(2, 2), run)
            elif row == 1:
                yield Place(table, row, "teacher", "teacher", Depth(4, 4), run)
            elif size >= 12 and row < 2 + len(DEPTHS):
                yield Place(table, row, "aio_kd", "method", DEPTHS[row - 2], f"t{table}aio")
            else:
                yield Place(table, row, METHODS[row % len(METHODS)], "method", Depth(2, 2), run)
        left, table = left - size, table + 1
        if left < SIZES[0]:
            return


def make(place: Place, seed: int, sentences: int) -> tuple[Record, dict[str, str]]:
    """A record with the contents of its files."""
    random = np.random.default_rng((place.table, place.row, seed))
    luck = np.random.default_rng((place.table, place.row)).random()
    base = {"baseline": 0.3, "teacher": 0.9}.get(place.role, 0.3 + 0.4 * luck)
    outputs = {name: texts(sentences).output(base + random.normal(0, 0.01), random) for name in TEXTS}
    tuning = place.table % 2 == 1 and place.role != "teacher"
    sweep = _sweep(place) if tuning else None
    recipe = preset("quick", {"tuning.trials": 8}).recipe() if place.table % 2 == 1 else preset("quick").recipe()
    recipe["training"] = recipe["training"] | {"warmup": 100 + place.table // DATASETS}
    record = make_record(
        place.method, seed, role=place.role, dataset=f"data-{place.table % DATASETS:02}", depth=place.depth,
        digest=place.digest, hypotheses={name: lines for name, (lines, _) in outputs.items()}, recipe=recipe,
        sweep=sweep, phases=_phases(place, seed, 60.0 + 30 * random.random()),
        speed=make_speed(40 + 20 * random.random()) if seed == 1 else None,
    )  # fmt: skip
    files, scores = {}, {}
    for name, (lines, counts) in outputs.items():
        content, file = statistics_content(counts), statistics_file(record.row, seed, name)
        figures = {"bleu": float(corpus_bleu(counts.sum(0))), "chrf": float(corpus_chrf(counts.sum(0)))}
        score = record.scores[name]
        scores[name] = score.model_copy(update=figures | {"statistics": StoredFile.of(file, content)})
        files |= {score.hypotheses.file: file_content(lines), file: content}
    settings = {"alpha": round(luck, 3), "divergence": "forward_kl", "temperature": 1 + place.row % 4}
    method = record.method.model_copy(update={"settings": settings})
    training = record.training.model_copy(update={"curve": _curve(luck)}) if record.training else None
    return record.model_copy(update={"scores": scores, "method": method, "training": training}), files


def _sweep(place: Place) -> Sweep:
    rates = np.random.default_rng(place.table).uniform(0.001, 0.01, 8).tolist()
    bleus = np.random.default_rng((place.table, place.row)).uniform(18, 22, 8).tolist()
    return make_sweep(bleus, place.method, rates=rates)


def _phases(place: Place, seed: int, seconds: float) -> tuple[Phase, ...]:
    teacher = Phase(name="teacher training", kind="teacher", seconds=120.0, artifact=f"t{place.table}s{seed}")
    own = Phase(name="student training", kind="training", seconds=seconds, artifact=f"{place.run}s{seed}")
    tokenizer = Phase(name="tokenizer", kind="common", seconds=2.0, artifact=f"k{place.table}")
    return (tokenizer, own) if place.role == "baseline" else (tokenizer, teacher, own)


def _curve(luck: float) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(
            stage=0, update=10 * number, target_tokens=6_000 * number, dev_loss=3 + luck + 4 / number,
            dev_nll=2.5 + luck + 4 / number, terms={"nll": 3 + 4 / number, "kd": 2 + 4 / number},
        )
        for number in range(1, POINTS + 1)
    )  # fmt: skip


def generate(folder: Path, records: int, sentences: int = SENTENCES) -> None:
    """Write a store of at most so many records, whose texts have so many sentences."""
    for place in places(records):
        incomplete = place.role == "method" and place.row % INCOMPLETE == INCOMPLETE - 1
        for seed in SEEDS[: 2 if incomplete else None]:
            record, files = make(place, seed, sentences)
            write_record(folder / record.dataset, record, files)


def catalog(sentences: int = SENTENCES) -> Catalog:
    """Source and reference of the generated records."""
    made = texts(sentences)
    found = Sentences(tuple(made.source), tuple(made.reference), "made up")
    return Catalog(sentences=lambda record, test_set: found)


def measure(store: Path, site: Path, sentences: int) -> Cost:
    """Read the store and build its site, in this process."""
    prepared = catalog(sentences)
    start = time.perf_counter()
    found, problems = read_records([store])
    read, used = time.perf_counter(), time.process_time()
    index = build(found, site, notes=problems, catalog=prepared)
    built, used_to_build, peak = time.perf_counter(), time.process_time() - used, host_peak()
    table = largest_table(site)
    return Cost(
        records=len(found),
        tables=len(list((site / "tables").rglob("*.html"))),
        pages=sum(1 for _ in site.rglob("*.html")),
        build_seconds=built - read,
        build_cpu_seconds=used_to_build,
        reading_seconds=read - start,
        peak_memory=peak,
        overview=index.stat().st_size,
        largest_table=table.stat().st_size,
        largest_table_rows=len(json.loads(table.with_suffix(".json").read_text(encoding="utf-8"))["rows"]),
        everything=sum(path.stat().st_size for path in site.rglob("*") if path.is_file()),
    )


def largest_table(site: Path) -> Path:
    """The page of the most bytes among those of tables."""
    return max((site / "tables").rglob("*.html"), key=lambda path: path.stat().st_size)


SORT = """() => new Promise((done) => {
    const button = document.querySelector('.board th[data-key="chrf"] button'), start = performance.now();
    button.click();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""
LOAD = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def felt(site: Path) -> Felt:
    """Open the overview and the largest table in a browser, and sort the latter."""
    from chromium import launch
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.goto((site / "index.html").as_uri())
        page.wait_for_function(f"{LOAD} > 0")
        overview = page.evaluate(LOAD)
        page.goto(largest_table(site).as_uri())
        page.wait_for_function(f"{LOAD} > 0")
        found = Felt(overview, page.evaluate(LOAD), page.evaluate(SORT))
        browser.close()
    return found


def measure_apart(store: Path, site: Path, sentences: int = SENTENCES) -> Cost:
    """The same in a process of its own, so that the memory is its own."""
    command = [sys.executable, __file__, str(store), str(site), str(sentences)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Cost(**json.loads(done.stdout))


def main(records: int) -> None:
    """Generate, build, and print what that took."""
    with tempfile.TemporaryDirectory() as folder:
        store, site = Path(folder) / "records", Path(folder) / "site"
        generate(store, records)
        for name, value in asdict(measure_apart(store, site)).items():
            print(f"{name}: {value:,.1f}" if isinstance(value, float) else f"{name}: {value:,}", flush=True)
        try:
            shown = asdict(felt(site))
        except ImportError:
            print("playwright is not installed: not opened in a browser")
        else:
            print("\n".join(f"{name}, ms in a browser: {value:,.0f}" for name, value in shown.items()))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(asdict(measure(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS)
