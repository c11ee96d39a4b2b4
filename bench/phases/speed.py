"""The speed of several rows' students, measured in one go."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
from bench.measure.speed import THREADS, VERSION, Job, Measured, result_file
from bench.nmt.export import export_ctranslate2, load_model, save_model
from bench.nmt.model import Transformer
from bench.phases.base import DEV, Phase, PhaseError, read_lines
from bench.results import EngineSpeed, Speed, file_content
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
    """Measure the students of all rows, one after another; ``folder`` stays empty.

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
    engines, rows = ENGINES[device.partition(":")[0]], dict[str, Any]()
    progress = phase.progress(len(inputs["rows"]) * len(engines), "timing")
    with phase.ledger.phase("timing"):
        for number, row in enumerate(inputs["rows"]):
            outcomes = []
            for outcome in _measured(phase, row, protocol, text):
                outcomes.append(outcome)
                if progress:
                    progress(number * len(engines) + len(outcomes))
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


def _measured(phase: Phase, row: Mapping[str, Any], protocol: SpeedConfig, text: _Text) -> Iterator[_Outcome]:
    """Each engine's figures for one row's student."""
    device = phase.place.device
    for engine, precision in ENGINES[device.partition(":")[0]]:
        try:
            kind, key = row["model"]
            model = load_model(phase.store.get(kind, key).folder).truncated(Depth(*row["depth"]))
            config = EngineConfig(
                engine=engine,
                precision=precision,
                model=Path(),
                tokenizer=phase.store.get("tokenizer", row["tokenizer"]).folder / "tokenizer.model",
                search=SearchConfig.model_validate(phase.task.inputs["search"]),
                max_positions=model.config.max_positions,
                device=device,
            )
            yield _engine(model, config, protocol, text)
        except Exception as error:  # another engine, and another row, may do better
            reason = str(error) if isinstance(error, (PhaseError, UsageError)) else f"{type(error).__name__}: {error}"
            yield _Outcome(EngineSpeed(engine=engine, precision=precision, failure=reason.splitlines()[0]))


def _engine(model: Transformer, config: EngineConfig, protocol: SpeedConfig, text: _Text) -> _Outcome:
    """Export the student for an engine and measure it in a process of its own."""
    package = {"pytorch": "torch", "ctranslate2": "ctranslate2"}[config.engine]
    if (version := installed(package)) is None:
        raise PhaseError(f"not installed: pip install {package}")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        if config.engine == "pytorch":
            save_model(model, folder)
        else:
            export_ctranslate2(model, Tokenizer.load(config.tokenizer).pieces, folder, config.precision)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        cuda = config.device.startswith("cuda")
        job = Job(
            engine=config.model_copy(update={"model": folder}),
            lines=text.lines,
            protocol=protocol,
            signature={
                "dev": _device_name(config.device),
                "eng": f"{config.engine}-{version}",
                "prec": config.precision,
                "src": text.sha256[:12],
                "lp": f"{config.search.length_penalty:g}",
                "max": f"{config.search.max_ratio:g}x+{config.search.max_extra}",
            },
            gpu=f"GPU-{torch.cuda.get_device_properties(config.device).uuid}" if cuda else None,
        )
        found = _in_a_process(job, Path(work) / "job.json")
    speed = EngineSpeed(
        engine=config.engine,
        precision=config.precision,
        timings=found.timings,
        length_ratio=found.length_ratio,
        disk_bytes=None if config.precision == "bfloat16" else size,  # which is stored in fp32
        host_memory=found.host_memory,
        device_memory=found.device_memory,
    )
    return _Outcome(speed, found.hypotheses, found.shared)


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
