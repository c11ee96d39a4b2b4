"""The speed of several rows' students, measured in one go."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench.config import Depth, SearchConfig, SpeedConfig
from bench.data.tokenizer import Tokenizer
from bench.environment import cpu_name, installed
from bench.errors import UsageError
from bench.measure.engines import EngineConfig, EngineName
from bench.measure.quality import score
from bench.measure.speed import THREADS, VERSION, Job, Measured, next_round, result_file, timings
from bench.nmt.export import export_ctranslate2, load_model, save_model
from bench.phases.base import DEV, Phase, PhaseError, read_lines
from bench.results import EngineSpeed, Speed, Timing, file_content
from bench.store import content_hash, write_text

ENGINES: dict[str, tuple[tuple[EngineName, str], ...]] = {
    "cpu": (("pytorch", "float32"), ("ctranslate2", "float32"), ("ctranslate2", "int8")),
    "cuda": (
        ("pytorch", "float32"),
        ("pytorch", "bfloat16"),
        ("ctranslate2", "float32"),
        ("ctranslate2", "float16"),
        ("ctranslate2", "int8"),
        ("ctranslate2", "int8_float16"),
    ),
}
"""By kind of device; the outputs of the first are those that the others' are compared with."""
ENGINE_SECONDS = 7200.0
"""After which an engine is given up: far more than any protocol takes."""
PACKAGE = Path(__file__).resolve().parent.parent.parent


class _Text(NamedTuple):
    """What is translated."""

    lines: tuple[str, ...]
    references: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return sha256(file_content(self.lines).encode()).hexdigest()


class _Outcome(NamedTuple):
    """What came of one engine, and its outputs, which are compared with those of others."""

    speed: EngineSpeed
    hypotheses: tuple[str, ...] = ()
    shared: str | None = None
    """What else ran meanwhile."""


def speed(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """Measure the students of all rows in turn, round after round; ``folder`` stays empty.

    An engine that fails has the reason in place of figures.
    """
    inputs = phase.task.inputs
    protocol, device = SpeedConfig.model_validate(inputs["protocol"]), phase.place.device
    text = _text(phase, protocol)
    machine = _machine(device)
    measured = datetime.now(UTC).isoformat(timespec="microseconds")
    fingerprint = content_hash(
        {"machine": machine, "protocol": inputs["protocol"], "artifact": phase.task.key, "measured": measured}
    )
    subjects = [
        _Subject(phase, row, protocol, text, engine, precision)
        for row in inputs["rows"]
        for engine, precision in ENGINES[device.partition(":")[0]]
    ]
    progress = phase.progress(len(subjects) * protocol.rounds, "timing")
    with phase.ledger.phase("timing"):
        for number in range(protocol.rounds):
            # There and back: a machine that grows slower does not do so to the same rows in each round.
            for place, subject in enumerate(subjects[:: -1 if number % 2 else 1], start=1):
                subject.measure()
                if progress:
                    progress(number * len(subjects) + place)
    rows = {}
    for row in inputs["rows"]:
        outcomes = [subject.outcome() for subject in subjects if subject.row is row]
        rows[row["row"]] = Speed(
            fingerprint=fingerprint,
            machine=machine,
            protocol=inputs["protocol"] | {"threads": THREADS, "version": VERSION},
            source_sha256=text.sha256,
            shared=_shared(outcomes),
            engines=_compared(outcomes, text),
        ).model_dump(mode="json")
    return {"measured": measured, "rows": rows}


def _text(phase: Phase, protocol: SpeedConfig) -> _Text:
    """The beginning of dev: test text is decoded once, for the scores."""
    folder = phase.need("corpus").folder / DEV
    source, target = (tuple(read_lines(folder / name)[: protocol.sentences]) for name in ("source.txt", "target.txt"))
    return _Text(source, target)


def _machine(device: str) -> dict[str, str]:
    return {
        "cpu": cpu_name(),
        "cores": str(os.cpu_count() or 1),
        "platform": platform.platform(),
        "device": _device_name(device),
        "python": platform.python_version(),
        **{package: installed(package) or "missing" for package in ("torch", "ctranslate2", "sentencepiece")},
    }


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_name()


class _Subject:
    """One engine at one precision for one row's student, over all rounds."""

    def __init__(
        self,
        phase: Phase,
        row: Mapping[str, Any],
        protocol: SpeedConfig,
        text: _Text,
        engine: EngineName,
        precision: str,
    ) -> None:
        self.row = row
        self._phase, self._protocol, self._text = phase, protocol, text
        self._engine, self._precision = engine, precision
        self._rounds: list[Measured] = []
        self._timings: tuple[Timing, ...] = ()
        self._size = 0
        self._failure: str | None = None

    def measure(self) -> None:
        """Carry out the next round, unless one has failed: another engine, and another row, may do better."""
        if self._failure is None:
            try:
                self._measure()
            except Exception as error:
                told = isinstance(error, (PhaseError, UsageError))
                self._failure = (str(error) if told else f"{type(error).__name__}: {error}").splitlines()[0]

    def outcome(self) -> _Outcome:
        """What came of all rounds."""
        speed = EngineSpeed(engine=self._engine, precision=self._precision, failure=self._failure)
        if self._failure is not None:
            return _Outcome(speed)
        last, shared = self._rounds[-1], dict.fromkeys(each.shared for each in self._rounds if each.shared)
        update = {
            "timings": self._timings,
            "length_ratio": last.length_ratio,
            "disk_bytes": None if self._precision == "bfloat16" else self._size,  # which is stored in fp32
            "host_memory": max((each.host_memory for each in self._rounds if each.host_memory), default=None),
            "device_memory": max((each.device_memory for each in self._rounds if each.device_memory), default=None),
        }
        return _Outcome(speed.model_copy(update=update), last.hypotheses, ", ".join(shared) or None)

    def _measure(self) -> None:
        """Export the student for the engine and measure it in a process of its own."""
        package = {"pytorch": "torch", "ctranslate2": "ctranslate2"}[self._engine]
        if (version := installed(package)) is None:
            raise PhaseError(f"not installed: pip install {package}")
        store, device = self._phase.store, self._phase.place.device
        kind, key = self.row["model"]
        model = load_model(store.get(kind, key).folder).truncated(Depth(*self.row["depth"]))
        tokenizer = store.get("tokenizer", self.row["tokenizer"]).folder / "tokenizer.model"
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "model"
            if self._engine == "pytorch":
                save_model(model, folder)
            else:
                export_ctranslate2(model, Tokenizer.load(tokenizer).pieces, folder, self._precision)
            self._size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            search = SearchConfig.model_validate(self._phase.task.inputs["search"])
            cuda = device.startswith("cuda")
            job = Job(
                engine=EngineConfig(
                    engine=self._engine,
                    precision=self._precision,
                    model=folder,
                    tokenizer=tokenizer,
                    search=search,
                    max_positions=model.config.max_positions,
                    device=device,
                ),
                lines=self._text.lines,
                protocol=self._protocol,
                signature={
                    "dev": _device_name(device),
                    "eng": f"{self._engine}-{version}",
                    "prec": self._precision,
                    "src": self._text.sha256[:12],
                    "lp": f"{search.length_penalty:g}",
                    "max": f"{search.max_ratio:g}x+{search.max_extra}",
                },
                gpu=f"GPU-{torch.cuda.get_device_properties(device).uuid}" if cuda else None,
            )
            if self._rounds:
                job = next_round(job, self._rounds[0])
            self._rounds.append(_in_a_process(job, Path(work) / "job.json"))
        self._timings = timings(job, self._rounds)


def _in_a_process(job: Job, file: Path) -> Measured:
    """Carry out a job in a fresh process, whose number of threads is set before it loads any library.

    Raises:
        PhaseError: it failed; the reason is what it said last.
    """
    write_text(file, job.model_dump_json())
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    paths = [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, "-m", "bench.measure.speed", str(file)],
            stdin=subprocess.PIPE,  # never written to: its end tells the process that this one is gone
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=os.environ | threads | {"PYTHONPATH": os.pathsep.join(paths)},
        ) as process,
    ):
        try:
            code = process.wait(ENGINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise PhaseError(f"timed out after {ENGINE_SECONDS:g} s", "timed out") from None
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip().splitlines()
    if code:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise PhaseError(said[-1] if said and code > 0 else f"the process that measured ended: {how}")
    return Measured.model_validate_json(result_file(file).read_bytes())


def _shared(outcomes: Sequence[_Outcome]) -> str | None:
    """What else ran on the device, for each engine where anything did."""
    told = [f"{each.speed.engine} {each.speed.precision}: {each.shared}" for each in outcomes if each.shared]
    return "; ".join(told) or None


def _compared(outcomes: Sequence[_Outcome], text: _Text) -> tuple[EngineSpeed, ...]:
    """The engines' figures, with how their outputs compare to the first one's."""
    ours = outcomes[0].hypotheses
    if not ours:
        return tuple(each.speed for each in outcomes)
    bleu = score(ours, text.references).bleu
    found = []
    for each in outcomes:
        update: dict[str, float] = {}
        if each.hypotheses:
            equal = sum(a == b for a, b in zip(each.hypotheses, ours, strict=True))
            update = {
                "equal_outputs": equal / len(ours),
                "bleu_difference": score(each.hypotheses, text.references).bleu - bleu,
            }
        found.append(each.speed.model_copy(update=update))
    return tuple(found)
