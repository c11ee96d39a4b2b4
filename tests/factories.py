"""Records made up for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import ENGINE
from bench.config import Depth, ModelConfig, preset
from bench.measure.quality import score
from bench.measure.statistics import sentence_statistics, statistics_content
from bench.records import Stored, write_record
from bench.registry import built_in_hashes
from bench.results import (
    CurvePoint,
    DeliveryRecord,
    EngineSpeed,
    Environment,
    Latency,
    MethodRecord,
    PaperRecord,
    Parameters,
    Phase,
    Record,
    Score,
    Speed,
    StoredFile,
    Sweep,
    Timing,
    Training,
    Trial,
    file_content,
    hypotheses_file,
    row_id,
    statistics_file,
)
from leaderboard.differences import differences
from leaderboard.ranking import aggregate
from leaderboard.standings import Standings

STUDENT = Depth(2, 2)
SIGNATURES = {
    "bleu_signature": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.5.1",
    "chrf_signature": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.5.1",
}


def make_hypotheses(seed: int = 1, sets: tuple[str, ...] = ("test", "dev"), sentences: int = 3) -> dict[str, list[str]]:
    """Made-up output lines for each test set."""
    return {name: [f"Satz {number} von {name}, Lauf {seed}." for number in range(sentences)] for name in sets}


def make_curve(shift: float = 0.0) -> tuple[CurvePoint, ...]:
    """The curve of made-up records, whose losses are ``shift`` higher."""
    points = ((100, 60_000, 4.5, 4.2), (200, 120_000, 3.5, 3.0), (300, 175_000, 3.21, 2.6), (310, 180_400, 3.25, 2.7))
    return tuple(
        CurvePoint(
            stage=0,
            update=update,
            target_tokens=tokens,
            dev_loss=loss + shift,
            dev_nll=nll + shift,
            terms={"nll": nll + 0.5, "kd": nll - 0.5},
        )
        for update, tokens, loss, nll in points
    )


def make_record(
    method: str = "word_level",
    seed: int = 1,
    bleu: float = 20.0,
    *,
    chrf: float = 45.0,
    role: str = "method",
    dataset: str = "synthetic",
    depth: Depth = STUDENT,
    digest: str = "0badcafe",
    training_seconds: float = 60.0,
    shared_by: int = 1,
    hypotheses: Mapping[str, list[str]] | None = None,
    references: Mapping[str, list[str]] | None = None,
    recipe: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Record:
    """A finished record; ``fields`` replace any of its fields, ``recipe`` values of the quick preset.

    With ``references`` its scores and statistics are really those of the hypotheses; otherwise they are made up.

    The recipe is of the record's track.
    """
    how = preset("quick").recipe() | dict(recipe or {})
    if fields.get("track") == "open":
        how["tuning"] = how["tuning"] | {"track": "open"}
    row = row_id(method, depth, fields.get("preset", "quick"), digest)
    lines = hypotheses if hypotheses is not None else make_hypotheses(seed)
    shape = ModelConfig(width=64, ffn=128, heads=4, encoder_layers=depth.encoder, decoder_layers=depth.decoder)
    values: dict[str, Any] = {
        "row": row,
        "dataset": dataset,
        "languages": ("src", "tgt"),
        "preset": "quick",
        "role": role,
        "method": MethodRecord(
            name=method,
            title=method.replace("_", " ").capitalize(),
            summary="The student learns from the teacher.",
            paper=PaperRecord(citation="A. Author and B. Author", year=2016, link="https://example.org/paper"),
            settings={"alpha": 0.5, "divergence": "forward_kl"},
            source_sha256=built_in_hashes().get(method, "5" * 64),
        ),
        "delivery": DeliveryRecord(name="student", depth=depth),
        "seed": seed,
        "status": "ok",
        "model": shape,
        "parameters": Parameters(total=213_504, non_embedding=187_904),
        "recipe": how,
        "scores": {
            name: make_score(row, seed, name, each, bleu, chrf, references[name] if references else None)
            for name, each in lines.items()
        },
        "primary": "test",
        "energy": "not measured: made up",
        "budget": {"kind": "tokens", "limit": 180_000, "spent": 180_400},
        "data_sha256": "d" * 64,
        "engine": {"student": ENGINE["student"]},
        "training": Training(
            target_tokens=180_400,
            updates=310,
            epochs=2.4,
            padding_share=0.04,
            best_update=300,
            best_dev_loss=3.21,
            stages=({"name": "training", "tokens": 180_400, "updates": 310},),
            curve=make_curve(),
        ),
        "phases": (
            Phase(name="tokenizer", kind="common", seconds=2.0, shared_by=10),
            Phase(
                name="teacher training",
                kind="teacher",
                seconds=120.0,
                target_tokens=600_000,
                shared_by=6,
            ),
            Phase(
                name="training", kind="training", seconds=training_seconds, target_tokens=180_400, shared_by=shared_by
            ),
            Phase(name="decoding", kind="evaluation", seconds=5.0),
        ),
        "artifacts": {"model": "0123abcd", "teacher": "a1"},
        "environment": Environment(
            bench="0.1.0",
            python="3.11.9",
            torch="2.13.0",
            sacrebleu="2.5.1",
            sentencepiece="0.2.0",
            platform="Linux-6.1-x86_64",
            cpu="Example CPU at 2 GHz",
            cores=2,
            threads=1,
            workers=2,
            device="cpu",
            precision="fp32",
            git_commit="c0ffee" * 6 + "c0de",
        ),
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "command": f"python -m bench run --methods {method} --dataset {dataset} --preset quick",
    }
    return Record(**(values | fields))


def make_score(
    row: str, seed: int, name: str, lines: list[str], bleu: float, chrf: float, references: list[str] | None
) -> Score:
    """The score of some lines: the real one where there are references, else a made-up one."""
    values: dict[str, Any] = {"bleu": bleu, "chrf": chrf, **SIGNATURES}
    if references is not None:
        values = vars(score(lines, references))
        content = statistics_content(sentence_statistics(lines, references))
        values = values | {"statistics": StoredFile.of(statistics_file(row, seed, name), content)}
    hypotheses = StoredFile.of(hypotheses_file(row, seed, name), file_content(lines))
    return Score(**values, sentences=len(lines), hypotheses=hypotheses)


def make_failed(method: str = "word_level", seed: int = 1, reason: str = "out of memory", **fields: Any) -> Record:
    """A failed record."""
    empty = {"model": None, "parameters": None, "training": None, "scores": {}, "phases": ()}
    failed = {"status": "failed", "reason": reason, "failure": "out of memory", "error_log": f"Traceback\n{reason}"}
    return make_record(method, seed, **(empty | failed | fields))


def make_sweep(
    bleus: Sequence[float | None] = (18.0, 21.0, 20.0),
    method: str = "word_level",
    seconds: float = 60.0,
    *,
    rates: Sequence[float] = (),
    **fields: Any,
) -> Sweep:
    """A sweep whose trials took ``seconds`` each and had these dev BLEU scores; None is a trial that failed.

    Args:
        rates: the learning rates of its trials, in place of those that all made-up sweeps have alike.
    """
    rates = rates or [0.003 + number / 1000 for number in range(len(bleus))]
    trials = [
        Trial(
            number=number,
            values={"training.learning_rate": rates[number], f"{method}.alpha": 0.5 + number / 100},
            seconds=seconds,
            **(
                {"state": "out of memory", "reason": "no memory left"}
                if bleu is None
                else {"state": "ok", "bleu": bleu, "target_tokens": 180_000}
            ),
        )
        for number, bleu in enumerate(bleus)
    ]
    values: dict[str, Any] = {
        "sampler": "qmc",
        "pruner": None,
        "seed": 1,
        "space": {
            "training.learning_rate": {"low": 0.001, "high": 0.01, "log": True},
            f"{method}.alpha": {"low": 0.0, "high": 1.0, "log": False},
        },
        "trials": trials,
        "winner": max(range(len(bleus)), key=lambda number: (bleus[number] or 0.0, -number)),
        "importances": {"training.learning_rate": 0.75, f"{method}.alpha": 0.25},
        "versions": {"optuna": "4.6.0"},
    }
    return Sweep(**(values | fields))


def tuned(
    method: str, values: list[float], sweep: Sweep, recipe: Mapping[str, Any] | None = None, **fields: Any
) -> list[Record]:
    """Finished records of one row whose settings are the sweep's winner, and which share its cost."""
    alpha = sweep.best.values.get(f"{method}.alpha", 0.5)
    tuning = preset("quick", {"tuning.trials": len(sweep.trials)}).recipe()["tuning"]
    phase = Phase(name="trials", kind="tuning", seconds=sweep.seconds, artifact=f"sweep-{method}")
    records = seeds(method, values, sweep=sweep, recipe={"tuning": tuning} | dict(recipe or {}), **fields)
    return [
        record.model_copy(
            update={
                "method": record.method.model_copy(update={"settings": record.method.settings | {"alpha": alpha}}),
                "phases": (*record.phases, phase),
            }
        )
        for record in records
    ]


def store(
    folder: Path,
    *records: Record,
    hypotheses: Mapping[str, list[str]] | None = None,
    references: Mapping[str, list[str]] | None = None,
) -> Path:
    """Write records below ``folder``, one folder per data set, with their files; the arguments are the records'."""
    for record in records:
        lines, files = hypotheses if hypotheses is not None else make_hypotheses(record.seed), dict[str, str]()
        for name, stored in record.scores.items():
            files[stored.hypotheses.file] = file_content(lines[name])
            if stored.statistics and references:
                files[stored.statistics.file] = statistics_content(sentence_statistics(lines[name], references[name]))
        write_record(folder / record.dataset, record, files)
    return folder


def seeds(method: str, values: list[float], **fields: Any) -> list[Record]:
    """Finished records of one row with these BLEU scores, for seeds 1, 2, ..."""
    return [make_record(method, seed, bleu, **fields) for seed, bleu in enumerate(values, start=1)]


def plain(values: tuple[float, ...] = (10.0, 11.0, 12.0), **fields: Any) -> list[Record]:
    """Finished records of the plain student."""
    return seeds("baseline", list(values), role="baseline", **fields)


def standings(records: Iterable[Record]) -> Standings:
    """Of the only table of these records, which have no files."""
    stored = {(each.dataset, each.row, each.seed): Stored(each, Path()) for each in records}
    (table,) = aggregate(each.record for each in stored.values())
    return Standings(table, differences(table, stored))


def make_timing(sentences: float = 50.0, **fields: Any) -> Timing:
    values: dict[str, Any] = {
        "beam": 4,
        "mode": "best batch",
        "batch_tokens": 2048,
        "passes": 5,
        "seconds": 100 / sentences,
        "spread": 0.01,
        "source_words": 10 * sentences,
        "target_tokens": 15 * sentences,
        "sentences": sentences,
        "signature": "dev:cpu|eng:pytorch-2.13.0",
    }
    return Timing(**values | fields)


def make_speed(sentences: float = 50.0, fingerprint: str = "a", **fields: Any) -> Speed:
    """One way of decoding by PyTorch; CTranslate2 is missing."""
    latency = Latency(p50=20.0, p90=31.0, p99=44.5)
    timings = (
        make_timing(7.0, mode="fixed batch", batch_tokens=512),
        make_timing(999.0, beam=1),
        make_timing(sentences),
        make_timing(5.0, mode="one sentence", batch_tokens=0, latency=latency),
    )
    engines = (
        EngineSpeed(
            engine="pytorch",
            precision="float32",
            timings=timings,
            equal_outputs=1.0,
            bleu_difference=0.0,
            length_ratio=1.05,
            disk_bytes=1_200_000,
            host_memory=300_000_000,
        ),
        EngineSpeed(engine="ctranslate2", precision="int8", failure="not installed: pip install ctranslate2"),
    )
    values: dict[str, Any] = {
        "fingerprint": fingerprint * 64,
        "machine": {"cpu": "Example CPU"},
        "protocol": {"warmup": 3},
        "source_sha256": "e" * 64,
        "shared": None,
        "engines": engines,
    }
    return Speed(**values | fields)
