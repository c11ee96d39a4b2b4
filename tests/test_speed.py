"""The protocol of speed: which passes count, what is computed from them, and what else ran meanwhile."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import SearchConfig, SpeedConfig
from bench.measure import load
from bench.measure.engines import EngineConfig, Translation, batches
from bench.measure.speed import (
    Job,
    Measured,
    Passes,
    Way,
    best_batch,
    ladder,
    latency,
    measure,
    next_round,
    repeat,
    signature,
    timings,
)

LINES = ("one two three", "four", "five six")


def protocol(**values: float) -> SpeedConfig:
    return SpeedConfig(**({"sentences": 3, "latency_sentences": 2, "batch_tokens": 64, "minimum_seconds": 0} | values))


class Clock:
    """Time that goes on only where a fake engine says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeEngine:
    """Takes ``seconds(call)`` for each call, and notes what it was asked."""

    def __init__(self, clock: Clock, seconds) -> None:
        self.clock, self.seconds, self.calls = clock, seconds, []

    def translate(self, lines, *, beam: int, batch_tokens: int) -> Translation:
        call = (tuple(lines), beam, batch_tokens)
        self.calls.append(call)
        self.clock.now += self.seconds(call)
        return Translation(tuple(line.upper() for line in lines), 5 * len(lines), 4 * len(lines))


def passes_of(durations: list[float], **values: float) -> tuple[Passes, int]:
    """The passes that count where each takes the next of these seconds, and how many there were in all."""
    clock, left = Clock(), list(durations)

    def run() -> Translation:
        clock.now += left.pop(0)
        return Translation((), 1, 1)

    return repeat(run, protocol(**values), clock), len(durations) - len(left)


def test_warm_up_passes_are_dropped():
    passes, ran = passes_of([100, 50, 20, 1, 2, 3, 4, 5], rounds=2)
    assert passes.seconds == (1, 2, 3)
    assert ran == 6


@pytest.mark.parametrize(("rounds", "by_number", "by_time"), [(2, 4, 5), (3, 3, 4), (7, 1, 2)])
def test_passes_go_on_until_a_round_has_its_share_of_number_and_time(rounds: int, by_number: int, by_time: int):
    assert len(passes_of([1.0] * 20, rounds=rounds, passes=7)[0].seconds) == by_number
    least = {"rounds": rounds, "minimum_seconds": 9.5}
    assert len(passes_of([1.0] * 20, **least)[0].seconds) == by_time  # the warm-up not counted


def rounds_of(*seconds: tuple[float, ...], best: dict[int, tuple[float, ...]] | None = None) -> list[Measured]:
    """Rounds of greedy search in fixed batches, and in the best ones where a round has such passes."""
    found = []
    for number, each in enumerate(seconds):
        ways = [Way(beam=1, mode="fixed batch", batch_tokens=64, seconds=each, target_pieces=12)]
        ways.append(
            Way(beam=1, mode="one sentence", batch_tokens=0, seconds=(1.0,), sentences=(0.2, 0.8), target_pieces=8)
        )
        if best:
            ways.append(Way(beam=1, mode="best batch", batch_tokens=128, seconds=best[number], target_pieces=12))
        found.append(measured(tuple(ways)))
    return found


def test_median_and_spread_over_rounds_by_hand():
    fixed, best, one = timings(job(beam=1), rounds_of((2.0, 1.0), (4.0, 2.5, 3.0), (1.5,)))
    assert fixed.seconds == pytest.approx((2.0 + 2.5) / 2)  # of 1, 1.5, 2, 2.5, 3, 4
    assert fixed.spread == pytest.approx((3.0 - 1.5) / 2.25)  # the rounds' medians are 1.5, 3 and 1.5
    assert fixed.passes == 6
    assert (best.mode, best.batch_tokens, best.seconds) == ("best batch", 64, fixed.seconds)
    assert (one.passes, one.latency.p50) == (3, pytest.approx(500))


def test_a_batch_that_only_seemed_the_best_gives_way_to_the_fixed_one():
    seconds = [(2.0,), (2.0,), (2.0,)]
    _, best, _ = timings(job(beam=1), rounds_of(*seconds, best={0: (1.0,), 1: (3.0,), 2: (4.0,)}))
    assert (best.batch_tokens, best.seconds) == (64, 2.0)
    _, best, _ = timings(job(beam=1), rounds_of(*seconds, best={0: (1.0,), 1: (1.5,), 2: (4.0,)}))
    assert (best.batch_tokens, best.seconds) == (128, 1.5)


def test_percentiles_by_hand():
    """Of 0, 1, ..., 100 ms the p-th percentile is p; between two values it is interpolated."""
    found = latency([each / 1000 for each in reversed(range(101))])
    assert (found.p50, found.p90, found.p99) == pytest.approx((50, 90, 99))
    assert latency([0.010, 0.020]).p50 == pytest.approx(15)


def test_the_ladder_doubles_past_the_fixed_batch_up_to_the_whole_file():
    assert list(ladder(64, 300)) == [16, 32, 64, 128, 256, 512]
    assert list(ladder(64, 5)) == [16, 32, 64]
    assert list(ladder(1, 1)) == [1]


def test_the_best_batch_is_the_fastest_of_the_ladder():
    clock = Clock()
    engine = FakeEngine(clock, lambda call: abs(call[2] - 128) + 1)

    def translate(*, batch_tokens: int) -> Translation:
        return engine.translate(LINES, beam=1, batch_tokens=batch_tokens)

    assert best_batch(translate, protocol(), 300, clock) == 128


def test_a_batch_that_does_not_fit_ends_the_ladder():
    clock = Clock()

    def translate(*, batch_tokens: int) -> Translation:
        if batch_tokens > 32:
            raise RuntimeError("out of memory")
        clock.now += 1 / batch_tokens
        return Translation((), 1, 1)

    assert best_batch(translate, protocol(), 300, clock) == 32


def job(beam: int = 4, engine: str = "ctranslate2") -> Job:
    config = EngineConfig(
        engine=engine, precision="int8", model=Path("m"), tokenizer=Path("t"),
        search=SearchConfig(beam=beam), max_positions=100, device="cpu",
    )  # fmt: skip
    signed = {"dev": "A|B", "eng": f"{engine}-4", "prec": "int8"}
    return Job(engine=config, lines=LINES, protocol=protocol(), signature=signed, gpu=None)


def measured(ways: tuple[Way, ...]) -> Measured:
    return Measured(ways=ways, hypotheses=(), length_ratio=1, host_memory=1, device_memory=None, shared=None)


def test_each_way_is_timed_and_rates_are_of_the_median_pass():
    clock = Clock()
    # Greedy takes half as long; the fixed batch is 2 s, the best 1 s, one sentence 0.25 s.
    engine = FakeEngine(clock, lambda call: call[1] / 2 * {64: 4.0, 32: 1.0, 0: 0.25}.get(call[2], 8.0))
    given = job(beam=2)
    ways, result, memory = measure(given, engine, lambda: max(call[2] for call in engine.calls), clock)
    figures = timings(given, [measured(ways)] * 3)
    assert [(each.beam, each.mode, each.batch_tokens) for each in figures] == [
        (beam, mode, tokens)
        for beam in (1, 2)
        for mode, tokens in (("fixed batch", 64), ("best batch", 32), ("one sentence", 0))
    ]
    fixed, best, single = figures[3:]
    assert (fixed.seconds, best.seconds, single.seconds) == (4.0, 1.0, 0.5)
    assert {each.passes for each in figures} == {6}
    assert fixed.source_words == 6 / 4.0
    assert (best.source_words, best.target_tokens, best.sentences) == (6, 12, 3)
    assert single.sentences == 2 / 0.5
    assert (single.latency.p50, single.latency.p99) == (250, 250)
    assert fixed.latency is None
    assert memory == 64, "read before larger batches are tried"
    assert result.lines == tuple(line.upper() for line in LINES)


def test_latency_leaves_the_warm_up_out():
    clock = Clock()
    engine = FakeEngine(clock, lambda call: 0.0)
    engine.seconds = lambda call: 1.0 if call[2] or sum(c[2] == 0 for c in engine.calls) > 6 else 100.0
    ways, *_ = measure(job(beam=1), engine, lambda: None, clock)
    figures = timings(job(beam=1), [measured(ways)])
    assert len(figures) == 3, "a beam of 1 is greedy: it is not measured twice"
    assert figures[2].latency.p99 == 1000


def test_the_fixed_batch_is_not_measured_again_where_it_is_the_best():
    clock = Clock()
    engine = FakeEngine(clock, lambda call: {64: 1.0}.get(call[2], 2.0))
    ways, *_ = measure(job(beam=1), engine, lambda: None, clock)
    assert [call[2] for call in engine.calls].count(64) == 3 + 2 + 3
    assert [way.mode for way in ways] == ["fixed batch", "one sentence"]


def test_later_rounds_use_the_best_batches_of_the_first():
    clock = Clock()
    engine = FakeEngine(clock, lambda call: {32: 0.75 * call[1], 64: 1.0}.get(call[2], 2.0))
    first, *_ = measure(job(beam=2), engine, lambda: None, clock)
    again = next_round(job(beam=2), measured(first))
    assert again.best == {1: 32, 2: 64}
    assert Job.model_validate_json(again.model_dump_json()) == again
    engine.calls.clear()
    second, *_ = measure(again, engine, lambda: None, clock)
    assert {call[2] for call in engine.calls} == {0, 32, 64}
    assert [(way.beam, way.mode, way.batch_tokens) for way in second] == [
        (way.beam, way.mode, way.batch_tokens) for way in first
    ]


def test_a_signature_says_all_that_a_speed_depends_on():
    clock = Clock()
    engine = FakeEngine(clock, lambda call: 1.0 if call[2] == 64 else 2.0)
    ways, *_ = measure(job(), engine, lambda: None, clock)
    figures = timings(job(), [measured(ways)] * 3)
    assert figures[3].signature == (
        "dev:A/B|eng:ctranslate2-4|prec:int8|sent:3|batch:tok64|beam:4|thr:1|rnd:3|warm:3|rep:5+|min:0s|ver:5"
    )
    assert "|sent:2|batch:1|beam:1|thr:1|" in figures[2].signature
    assert "|batch:best-tok64|" in figures[1].signature
    assert signature({"a": "1|2", "b": "3"}) == "a:1/2|b:3"


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 200))
def test_batches_hold_every_sentence_once_within_the_limit(lengths: list[int], batch_tokens: int):
    found = list(batches(lengths, batch_tokens))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= batch_tokens
    assert [lengths[i] for batch in found for i in batch] == sorted(lengths, reverse=True)


def test_one_sentence_at_a_time_comes_in_order():
    assert list(batches([3, 9, 1], 0)) == [[0], [1], [2]]


@pytest.mark.parametrize(("others", "said"), [(0.0, None), (0.49, None), (0.6, "0.06 cores"), (15.0, "1.50 cores")])
def test_more_than_five_percent_of_a_core_is_told(others: float, said: str | None):
    """Of 10 seconds in which the engine needs one core."""
    found = load.described_load(others, 10.0)
    assert found is None if said is None else said in found


def test_what_other_processes_use_is_what_this_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ticks, stat = load.os.sysconf("SC_CLK_TCK"), tmp_path / "stat"
    monkeypatch.setattr(load, "CPU_TIMES", stat)
    now, own = [100.0], [1.0]
    monkeypatch.setattr(load.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(load.time, "process_time", lambda: own[0])

    def write(user: float, idle: float) -> None:
        stat.write_text(f"cpu  {user * ticks:.0f} 0 0 {idle * ticks:.0f} 5 0 0 0 0 0\ncpu0 1\n")

    write(50, 10)
    watch = load.CpuWatch()
    now[0], own[0] = 110.0, 9.0
    write(58, 30)
    assert watch.shared() is None  # 8 s more, all of them its own; waiting is nobody's work
    write(61, 30)
    assert re.search(r"0\.30 cores", watch.shared())


def test_a_process_that_was_started_and_has_ended_is_no_other():
    before = load._own_seconds()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert load._own_seconds() - before > 0.25


def test_a_system_that_tells_nothing_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(load, "CPU_TIMES", tmp_path / "none")
    assert "not known" in load.CpuWatch().shared()


def test_a_gpu_without_a_meter_is_not_said_to_be_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = load.gpu_use("GPU-0")
    assert "not known" in found.shared
    assert found.memory is None


def test_other_users_of_a_gpu_are_counted(monkeypatch: pytest.MonkeyPatch):
    users = [SimpleNamespace(pid=1, usedGpuMemory=7)]  # seen from a container: not this process's own number
    nvml = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: {b"GPU-0": "handle"}[uuid],
        nvmlDeviceGetComputeRunningProcesses=lambda handle: {"handle": users}[handle],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert load.gpu_use("GPU-0") == (None, 7)
    users.append(SimpleNamespace(pid=load.os.getpid(), usedGpuMemory=9))
    assert load.gpu_use("GPU-0") == ("1 other processes used the GPU meanwhile", 9)
