"""The protocol by which speed is measured, and the process that measures one engine at one precision.

``python -m bench.measure.speed JOB`` reads a :class:`Job` and writes a :class:`Measured` beside it. Each engine and
precision has a process of its own, so that its memory is its own; it ends with whoever started it, when its standard
input does.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from bench.config import Frozen, SpeedConfig
from bench.measure.engines import PATIENCE, THREADS, Engine, EngineConfig, Translation, load_engine
from bench.measure.load import CpuWatch, gpu_use
from bench.measure.process import host_peak
from bench.results.speed import Latency, Timing
from bench.store import write_text

VERSION = 2
"""Of the protocol and of the project's own decoder; part of each signature."""
TRIED = 2
"""Passes over each size of the ladder, the better of which counts."""
LADDER = 2
"""The best batch is looked for from the fixed size halved so many times, doubling up to the whole file at once."""

Clock = Callable[[], float]
Memory = TypeVar("Memory")


class Job(Frozen):
    """One engine to measure."""

    engine: EngineConfig
    lines: tuple[str, ...]
    protocol: SpeedConfig
    signature: dict[str, str]
    """Its first parts: device, engine and precision."""
    gpu: str | None
    """The UUID of the GPU; None on a CPU."""


class Measured(Frozen):
    """What came of it."""

    timings: tuple[Timing, ...]
    hypotheses: tuple[str, ...]
    """Of beam search, in the fixed batch."""
    length_ratio: float
    """Target pieces by source pieces."""
    host_memory: int | None
    device_memory: int | None
    shared: str | None


@dataclass(frozen=True)
class Passes:
    """The passes that count."""

    seconds: tuple[float, ...]
    result: Translation
    """Of the last one: they are all alike."""

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """Slowest less fastest, by the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def repeat(run: Callable[[], Translation], protocol: SpeedConfig, clock: Clock = time.perf_counter) -> Passes:
    """Warm-up passes, which are dropped; then passes until there are enough and they have taken long enough."""
    for _ in range(protocol.warmup):
        run()
    seconds: list[float] = []
    while True:
        result, took = _timed(run, clock)
        seconds.append(took)
        if len(seconds) >= protocol.passes and sum(seconds) >= protocol.minimum_seconds:
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
) -> tuple[tuple[Timing, ...], Translation, Memory]:
    """All timings of one engine, greedy and with the search's beam; what beam search gave in the fixed batch; and the
    peak memory by then, before batches are tried that nobody would use."""
    protocol, timings = job.protocol, dict[tuple[int, str], Timing]()
    size, beams, fixed = job.protocol.batch_tokens, sorted({1, job.engine.search.beam}), dict[int, Passes]()
    for beam in beams:
        translate = partial(engine.translate, job.lines, beam=beam)
        fixed[beam] = repeat(partial(translate, batch_tokens=size), protocol, clock)
        timings[beam, "one"] = _one_by_one(job, engine, beam, clock)
    memory = peak()
    for beam in beams:
        translate, known = partial(engine.translate, job.lines, beam=beam), fixed[beam]
        best = best_batch(translate, protocol, known.result.source_pieces, clock)
        # The fixed batch is not measured twice where it is the best, also where a closer look shows that it is.
        passes = known if best == size else repeat(partial(translate, batch_tokens=best), protocol, clock)
        best, passes = (size, known) if known.median <= passes.median else (best, passes)
        timings[beam, "fixed"] = _timing(job, known, job.lines, beam, "fixed batch", size)
        timings[beam, "best"] = _timing(job, passes, job.lines, beam, "best batch", best)
    ordered = tuple(timings[beam, way] for beam in beams for way in ("fixed", "best", "one"))
    return ordered, fixed[beams[-1]].result, memory


def _one_by_one(job: Job, engine: Engine, beam: int, clock: Clock) -> Timing:
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
    counted = taken[-len(passes.seconds) * len(lines) :]
    return _timing(job, passes, lines, beam, "one sentence", 0, latency(counted))


def latency(seconds: Sequence[float]) -> Latency:
    """Percentiles in milliseconds, interpolated between the two nearest."""
    p50, p90, p99 = (float(value) for value in np.percentile(seconds, (50, 90, 99)) * 1000)
    return Latency(p50=p50, p90=p90, p99=p99)


def signature(parts: Mapping[str, str]) -> str:
    """One line such as sacreBLEU's: ``dev:cpu|eng:pytorch-2.13.0|…``."""
    return "|".join(f"{name}:{value.replace('|', '/')}" for name, value in parts.items())


def _timing(
    job: Job,
    passes: Passes,
    lines: Sequence[str],
    beam: int,
    mode: Literal["fixed batch", "best batch", "one sentence"],
    batch_tokens: int,
    latency: Latency | None = None,
) -> Timing:
    protocol, median = job.protocol, passes.median
    batch = {"fixed batch": f"tok{batch_tokens}", "best batch": f"best-tok{batch_tokens}", "one sentence": "1"}[mode]
    parts = job.signature | {"sent": str(len(lines)), "batch": batch, "beam": str(beam)}
    if job.engine.engine == "ctranslate2" and beam > 1:
        parts["patience"] = str(PATIENCE)
    parts |= {
        "thr": str(THREADS),
        "warm": str(protocol.warmup),
        "rep": f"{protocol.passes}+",
        "min": f"{protocol.minimum_seconds:g}s",
        "ver": str(VERSION),
    }
    return Timing(
        beam=beam,
        mode=mode,
        batch_tokens=batch_tokens,
        passes=len(passes.seconds),
        seconds=median,
        spread=passes.spread,
        source_words=sum(len(line.split()) for line in lines) / median,
        target_tokens=passes.result.target_pieces / median,
        sentences=len(lines) / median,
        latency=latency,
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

    def peak() -> tuple[int | None, int | None]:
        return host_peak(), gpu_use(job.gpu).memory if job.gpu else None

    timings, result, (host_memory, device_memory) = measure(job, engine, peak)
    return Measured(
        timings=timings,
        hypotheses=result.lines,
        length_ratio=result.target_pieces / result.source_pieces,
        host_memory=host_memory,
        device_memory=device_memory,
        shared=gpu_use(job.gpu).shared if job.gpu else cpu.shared(),
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
