"""A run so small that all methods finish in seconds: a few dozen pairs, tiny models. Also what its folder holds."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

import bench
from bench.records import Stored, read_records
from bench.request import Request
from bench.results import Record
from bench.run import Outcome, run
from bench.validation import Validator

ROOT = Path(bench.__file__).resolve().parent.parent
SETTINGS: dict[str, Any] = {
    "tokenizer.vocabulary": 40,
    "training.target_tokens": 600,
    "training.batch_tokens": 64,
    "training.evaluations": 4,
    "teacher_training.target_tokens": 600,
    "teacher_training.batch_tokens": 64,
    "teacher_training.evaluations": 4,
    "search.beam": 2,
    "search.max_ratio": 1.0,
    "search.max_extra": 3,
    **{f"{model}.{name}": 16 for model in ("teacher", "student") for name in ("width", "ffn")},
    **{f"{model}.heads": 2 for model in ("teacher", "student")},
    **{f"{model}.{side}_layers": n for model, n in (("teacher", 2), ("student", 1)) for side in ("encoder", "decoder")},
}
ALL_METHODS = {
    "aio_kd.min_depth": 1,
    "sequence_level.mode": "interpolation",
    "sequence_level.interpolation_k": 3,
}
"""Settings of methods for the micro run of all of them."""


def write_corpus(folder: Path, *, train: int = 60, dev: int = 6, test: int = 6) -> Path:
    """Write ``corpus.{train,dev,test}.{aa,bb}``: words, and the same words in reverse; returns the prefix."""
    draw, prefix = random.Random(7), folder / "corpus"
    words = ["ka", "lo", "mi", "ne", "su", "ta", "rû", "ge", "hi"]
    for split, count in (("train", train), ("dev", dev), ("test", test)):
        lines = [draw.choices(words, k=draw.randint(2, 5)) for _ in range(count)]
        write_lines(Path(f"{prefix}.{split}.aa"), [" ".join(line) for line in lines])
        write_lines(Path(f"{prefix}.{split}.bb"), [" ".join(reversed(line)) for line in lines])
    return prefix


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def request(
    folder: Path, *methods: str, corpus: Path | None = None, settings: dict[str, Any] | None = None, **more: Any
) -> Request:
    """A micro run of ``methods`` with its run folder below ``folder``; ``corpus`` is a prefix written before."""
    given: dict[str, Any] = {
        "dataset": str(corpus or write_corpus(folder)),
        "languages": ("aa", "bb"),
        "seeds": 1,
        "workers": 2,
        "device": "cpu",
        "runs": folder / "runs",
        "speed": False,
    }
    return Request(methods=methods or ("baseline",), settings=SETTINGS | (settings or {}), **(given | more))


def run_here(wanted: Request) -> tuple[Outcome, str]:
    """Carry out a run from this process; also what it printed."""
    out = io.StringIO()
    outcome = run(wanted, Console(file=out, width=200))
    return outcome, out.getvalue()


def copied(wanted: Request, folder: Path, **changes: Any) -> Request:
    """A request with a copy of its run folder below ``folder``, which may be changed."""
    shutil.copytree(wanted.runs, folder / "runs")
    return replace(wanted, runs=folder / "runs", **changes)


def arguments(wanted: Request) -> list[str]:
    """The request as the command line gives it, after ``run`` or ``plan``."""
    words = ["--methods", ",".join(wanted.methods), "--dataset", wanted.dataset, "--preset", wanted.preset]
    words += ["--langs", ",".join(wanted.languages or ()), "--device", wanted.device, "--runs", str(wanted.runs)]
    words += ["--seeds", str(wanted.seeds), "--workers", str(wanted.workers)]
    for option in ("trials", "track", "sampler", "pruner", "storage"):
        if (value := getattr(wanted, option)) is not None:
            words += [f"--{option}", str(value)]
    if not wanted.speed:
        words += ["--no-speed"]
    for metric in wanted.metrics:
        words += ["--metric", metric]
    if wanted.methods_dir:
        words += ["--methods-dir", str(wanted.methods_dir)]
    for key, value in wanted.settings.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return words


def started(*words: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """``python -m bench WORDS`` in a process group of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | options.pop("env", {})
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
    # A process started in the background of a script ignores interrupts, and its children inherit that.
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *words],
        cwd=cwd,
        env=environment,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **streams,
    )


def done(*words: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """``python -m bench WORDS``, carried out to its end."""
    process = started(*words, cwd=cwd, **options)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def results(runs: Path) -> dict[str, tuple[Any, ...]]:
    """For each record: BLEU and hypotheses of every set, or the reason of its failure."""
    found: dict[str, tuple[Any, ...]] = {}
    for stored in _stored(runs):
        record = stored.record
        scores = tuple((name, score.bleu, stored.hypotheses(name)) for name, score in record.scores.items())
        found[f"{record.row}@{record.seed}"] = scores or (record.reason,)
    return found


def records(runs: Path) -> list[Record]:
    """All records of a run folder."""
    return [stored.record for stored in _stored(runs)]


def _stored(runs: Path) -> tuple[Stored, ...]:
    reading = read_records([runs / "records"])
    assert reading.records
    assert not reading.problems, reading.problems
    return reading.records


def studies(runs: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What each record's sweep consists of, without the times."""
    return {
        f"{record.row}@{record.seed}": [
            (t.number, t.values, t.state, t.reason and t.reason.split("(")[0], t.bleu, t.target_tokens)
            for t in record.sweep.trials
        ]
        for record in records(runs)
        if record.sweep
    }


def believed(wanted: Request) -> int:
    """How many records a run has; ``validate`` finds no fault with any."""
    verdicts = Validator().validate([wanted.runs / "records"])
    problems = [problem for verdict in verdicts for problem in verdict.problems]
    assert not problems, problems
    return len(verdicts)


def interruptions(runs: Path) -> float:
    """Seconds lost to kills behind all rows, once each; all phases must add up to the artifacts' times."""
    lost: dict[str, float] = {}
    for record in records(runs):
        phases: dict[str, float] = defaultdict(float)
        for phase in record.phases:
            phases[phase.artifact] += phase.seconds
            if phase.kind == "interrupted":
                lost[phase.artifact] = phase.seconds
        assert phases.keys() == record.walls.keys() == set(record.artifacts.values()), record.row
        for artifact, wall in record.walls.items():
            apart = abs(phases[artifact] - wall)
            # 0.2 s are a busy machine's scheduler.
            assert apart < max(0.02 * wall, 0.2), (artifact, phases[artifact], wall)
    return sum(lost.values())
