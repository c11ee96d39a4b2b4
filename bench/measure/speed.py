"""The protocol by which speed is measured, and the process that measures one engine at one precision for one round.

A machine's own speed wanders, by the minute and by more than methods differ. So what is compared is measured in turn,
round after round, and a figure is the median over all of its rounds.

``python -m bench.measure.speed JOB`` reads a :class:`Job` and writes a :class:`Measured` beside it. Each round of an
engine and precision has a process of its own, so that its memory is its own; it ends with whoever started it, when its
standard input does.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from bench.config import Frozen, SpeedConfig
from bench.measure.engines import THREADS, Engine, EngineConfig, Translation, load_engine
from bench.measure.load import CpuWatch, gpu_use
from bench.measure.process import host_peak
from bench.results.speed import Latency, Mode, Timing
from bench.store import write_text

VERSION = 5
"""Of the protocol and of the project's own decoder; part of each signature."""
TRIED = 2
"""Passes over each size of the ladder, the better of which counts."""
LADDER = 2
"""The best batch is looked for from the fixed size halved so many times, doubling up to the whole file at once."""

Clock = Callable[[], float]
Memory = TypeVar("Memory")


class Job(Frozen):
    """One engine to measure for a round."""

    engine: EngineConfig
    lines: tuple[str, ...]
    protocol: SpeedConfig
    signature: dict[str, str]
    """Its first parts: device, engine and precision."""
    gpu: str | None
    """The UUID of the GPU; None on a CPU."""
    best: dict[int, int] | None = None
    """The best batch of each beam, which the first round finds."""


class Way(Frozen):
    """The passes of one round over the source file in one way."""

    beam: int
    mode: Mode
    batch_tokens: int
    seconds: tuple[float, ...]
    """Of each pass."""
    sentences: tuple[float, ...] = ()
    """Seconds of each sentence of these passes, where sentences come one at a time."""
    target_pieces: int
    """Of a pass: they are all alike."""


class Measured(Frozen):
    """What came of it."""

    ways: tuple[Way, ...]
    hypotheses: tuple[str, ...]
    """Of beam search, in the fixed batch."""
    length_ratio: float
    """Target pieces by source pieces."""
    host_memory: int | None
    device_memory: int | None
    shared: str | None


@dataclass(frozen=True)
class Passes:
    """The passes of a round that count."""

    seconds: tuple[float, ...]
    result: Translation
    """Of the last one: they are all alike."""


def repeat(run: Callable[[], Translation], protocol: SpeedConfig, clock: Clock = time.perf_counter) -> Passes:
    """Warm-up passes, which are dropped; then passes until there are enough for a round and they took long enough."""
    for _ in range(protocol.warmup):
        run()
    seconds: list[float] = []
    enough, long_enough = protocol.passes_of_round, protocol.minimum_seconds / protocol.rounds
    while True:
        result, took = _timed(run, clock)
        seconds.append(took)
        if len(seconds) >= enough and sum(seconds) >= long_enough:
            return Passes(tuple(seconds), result)


def best_batch(
    translate: Callable[..., Translation], protocol: SpeedConfig, pieces: int, clock: Clock = time.perf_counter
) -> int:
    """The batch size, in padded source pieces, of the fastest of a doubling ladder: each by the better of two warm
    passes.

    Args:
        translate: translates the file in batches of ``batch_tokens``.
        pieces: about how many the file has: the ladder ends with the first size that holds them all.
    """
    tried: dict[int, float] = {}
    for size in ladder(protocol.batch_tokens, pieces):
        run = partial(translate, batch_tokens=size)
        try:
            run()
            tried[size] = min(_timed(run, clock)[1] for _ in range(TRIED))
        except Exception:
            # Too large for the device's memory, most likely; any other fault shows in the fixed batch as well.
            break
    return min(tried, key=tried.__getitem__, default=protocol.batch_tokens)


def ladder(batch_tokens: int, pieces: int) -> Iterator[int]:
    """Batch sizes to try, the fixed one among them."""
    size = max(1, batch_tokens >> LADDER)
    while size <= batch_tokens or size < 2 * pieces:
        yield size
        size *= 2


def measure(
    job: Job, engine: Engine, peak: Callable[[], Memory], clock: Clock = time.perf_counter
) -> tuple[tuple[Way, ...], Translation, Memory]:
    """A round of one engine, greedy and with the search's beam; what beam search gave in the fixed batch; and the peak
    memory by then, before batches are tried that nobody would use. The best batch has no passes of its own where it is
    the fixed one."""
    protocol, size, ways = job.protocol, job.protocol.batch_tokens, list[Way]()
    fixed: dict[int, Passes] = {}
    for beam in _beams(job):
        translate = partial(engine.translate, job.lines, beam=beam)
        fixed[beam] = repeat(partial(translate, batch_tokens=size), protocol, clock)
        ways += [_way(fixed[beam], beam, "fixed batch", size), _one_by_one(job, engine, beam, clock)]
    memory = peak()
    for beam in _beams(job):
        translate, pieces = partial(engine.translate, job.lines, beam=beam), fixed[beam].result.source_pieces
        best = job.best[beam] if job.best else best_batch(translate, protocol, pieces, clock)
        if best != size:
            passes = repeat(partial(translate, batch_tokens=best), protocol, clock)
            ways.append(_way(passes, beam, "best batch", best))
    return tuple(ways), fixed[_beams(job)[-1]].result, memory


def next_round(job: Job, found: Measured) -> Job:
    """The job once more, with the best batches that a round of it found."""
    size = job.protocol.batch_tokens
    best = {way.beam: way.batch_tokens for way in found.ways if way.mode == "best batch"}
    return job.model_copy(update={"best": {beam: best.get(beam, size) for beam in _beams(job)}})


def timings(job: Job, rounds: Sequence[Measured]) -> tuple[Timing, ...]:
    """The figures over all rounds: of each beam those of the fixed batch, the best one, and one sentence at a time."""
    found: dict[tuple[int, Mode], list[Way]] = defaultdict(list)
    for way in (way for measured in rounds for way in measured.ways):
        found[way.beam, way.mode].append(way)
    ordered = []
    for beam in _beams(job):
        fixed, one = found[beam, "fixed batch"], found[beam, "one sentence"]
        best = found[beam, "best batch"]
        if not best or _median(fixed) <= _median(best):  # what seemed the best at first need not be it
            best = fixed
        ordered += [_timing(job, fixed, "fixed batch"), _timing(job, best, "best batch")]
        ordered.append(_timing(job, one, "one sentence"))
    return tuple(ordered)


def _beams(job: Job) -> list[int]:
    return sorted({1, job.engine.search.beam})


def _way(passes: Passes, beam: int, mode: Mode, batch_tokens: int, sentences: Sequence[float] = ()) -> Way:
    return Way(
        beam=beam,
        mode=mode,
        batch_tokens=batch_tokens,
        seconds=passes.seconds,
        sentences=tuple(sentences),
        target_pieces=passes.result.target_pieces,
    )


def _median(rounds: Sequence[Way]) -> float:
    """Of all passes, in seconds."""
    return float(np.median([each for way in rounds for each in way.seconds]))


def _one_by_one(job: Job, engine: Engine, beam: int, clock: Clock) -> Way:
    """Sentences that come one at a time, and how long each takes."""
    lines = job.lines[: job.protocol.latency_sentences]
    taken: list[float] = []

    def run() -> Translation:
        found = []
        for line in lines:
            each, seconds = _timed(partial(engine.translate, [line], beam=beam, batch_tokens=0), clock)
            found.append(each)
            taken.append(seconds)
        return Translation(
            tuple(line for each in found for line in each.lines),
            sum(each.source_pieces for each in found),
            sum(each.target_pieces for each in found),
        )

    passes = repeat(run, job.protocol, clock)
    return _way(passes, beam, "one sentence", 0, taken[-len(passes.seconds) * len(lines) :])


def latency(seconds: Sequence[float]) -> Latency:
    """Percentiles in milliseconds, interpolated between the two nearest."""
    p50, p90, p99 = (float(value) for value in np.percentile(seconds, (50, 90, 99)) * 1000)
    return Latency(p50=p50, p90=p90, p99=p99)


def signature(parts: Mapping[str, str]) -> str:
    """One line such as sacreBLEU's: ``dev:cpu|eng:pytorch-2.13.0|…``."""
    return "|".join(f"{name}:{value.replace('|', '/')}" for name, value in parts.items())


def _timing(job: Job, rounds: Sequence[Way], mode: Mode) -> Timing:
    protocol, median = job.protocol, _median(rounds)
    beam, batch_tokens = rounds[0].beam, rounds[0].batch_tokens
    lines = job.lines[: protocol.latency_sentences] if mode == "one sentence" else job.lines
    medians, each = [_median([way]) for way in rounds], [seconds for way in rounds for seconds in way.sentences]
    batch = {"fixed batch": f"tok{batch_tokens}", "best batch": f"best-tok{batch_tokens}", "one sentence": "1"}[mode]
    parts = job.signature | {"sent": str(len(lines)), "batch": batch, "beam": str(beam)}
    parts |= {
        "thr": str(THREADS),
        "rnd": str(protocol.rounds),
        "warm": str(protocol.warmup),
        "rep": f"{protocol.passes}+",
        "min": f"{protocol.minimum_seconds:g}s",
        "ver": str(VERSION),
    }
    return Timing(
        beam=beam,
        mode=mode,
        batch_tokens=batch_tokens,
        passes=sum(len(way.seconds) for way in rounds),
        seconds=median,
        spread=(max(medians) - min(medians)) / median,
        source_words=sum(len(line.split()) for line in lines) / median,
        target_tokens=rounds[0].target_pieces / median,
        sentences=len(lines) / median,
        latency=latency(each) if each else None,
        signature=signature(parts),
    )


def _timed(run: Callable[[], Translation], clock: Clock) -> tuple[Translation, float]:
    # Every engine hands over text, so whatever was queued on a GPU is done.
    start = clock()
    result = run()
    return result, clock() - start


def carried_out(job: Job) -> Measured:
    """Load the engine, which is not timed, and measure it."""
    engine, cpu = load_engine(job.engine), CpuWatch()
    before = gpu_use(job.gpu).shared if job.gpu else None

    def peak() -> tuple[int | None, int | None]:
        return host_peak(), gpu_use(job.gpu).memory if job.gpu else None

    ways, result, (host_memory, device_memory) = measure(job, engine, peak)
    return Measured(
        ways=ways,
        hypotheses=result.lines,
        length_ratio=result.target_pieces / result.source_pieces,
        host_memory=host_memory,
        device_memory=device_memory,
        shared=(before or gpu_use(job.gpu).shared) if job.gpu else cpu.shared(),
    )


def result_file(job: Path) -> Path:
    """Where the process writes what came of a job."""
    return job.with_suffix(".measured.json")


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):  # unbuffered: a buffer's lock, held here, would abort the interpreter's end
        pass
    os._exit(1)


def main(job: Path) -> None:
    """Carry out the job in this file."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    found = carried_out(Job.model_validate_json(job.read_bytes()))
    write_text(result_file(job), found.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
