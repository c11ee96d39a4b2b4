"""Records that are what their files say, of a data set of six sentences: they pass ``bench validate``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from factories import make_record, store

from bench import ENGINE
from bench.config import preset
from bench.data import datasets
from bench.data.corpus import ParallelText, Splits
from bench.data.datasets import Dataset
from bench.measure.degenerate import degenerate, length_ratio
from bench.measure.statistics import sentence_statistics
from bench.nmt.model import Transformer, parameter_counts
from bench.registry import load_methods
from bench.results import Phase, Record
from bench.store import content_hash

QUICK = preset("quick")
WORDS = ("Haus", "Hund", "Katze", "Baum", "Fluss", "Berg")
TARGET = {name: [f"das {name} ist {word} , nicht {number} ." for number, word in enumerate(WORDS)]
          for name in ("dev", "test")}  # fmt: skip
SOURCE = {name: [f"the {name} is {word}" for word in WORDS] for name in TARGET}
OUTPUT = {name: [line.replace("nicht", "kaum") for line in lines] for name, lines in TARGET.items()}
OUTPUT["test"][2] = ""
OUTPUT["test"][3] = SOURCE["test"][3]


def output(method: str = "word_level", seed: int = 1) -> dict[str, list[str]]:
    """``OUTPUT`` as this method and seed have it: of no two models are all outputs the same."""
    said = "" if (method, seed) == ("word_level", 1) else f" {method} {seed}"
    return {name: [*lines[:-1], lines[-1] + said] for name, lines in OUTPUT.items()}


def load(folder: Path) -> Splits:
    text = {name: ParallelText(tuple(SOURCE[name]), tuple(TARGET[name])) for name in TARGET}
    return Splits(ParallelText(("a",), ("b",)), text["dev"], {"test": text["test"]})


def six_sentences() -> Dataset:
    """A data set to stand in place of the embedded one."""
    return Dataset("synthetic", "", ("src", "tgt"), "", "", load)


def valid(seed: int = 1, **fields) -> Record:
    """A record that is what its files say."""
    method = fields.get("method", "word_level")
    lines = fields.get("hypotheses", output(method, seed))
    identity = content_hash(datasets.DATASETS["synthetic"].identity())
    whole = {
        "artifacts": {
            "student": (model := f"a{seed}" if method == "word_level" else f"{method}-{seed}"),
            "scores": "e5",
            "teacher": "d4",
            "sweep": "b2",
            "metric-legacy-bleu": "c3",
        },
        "phases": (
            Phase(name="student training", kind="training", seconds=60.0, artifact=model),
            Phase(name="decoding", kind="evaluation", seconds=2.0, artifact="e5"),
            Phase(name="teacher training", kind="teacher", seconds=90.0, artifact="d4"),
        ),
        "walls": {model: 60.0, "e5": 2.0, "d4": 90.0},
        "model": QUICK.student,
        "parameters": parameter_counts(Transformer(QUICK.student, QUICK.tokenizer.vocabulary))._asdict(),
        "test_access": {"test": (datetime(2026, 1, 2, tzinfo=UTC),)},
    }
    whole |= {
        "data_sha256": identity,
        "recipe": {"seeds": 1},
        "engine": ENGINE,
        "hypotheses": lines,
        "references": TARGET,
    }
    fields = whole | fields
    record, scores = make_record(seed=seed, **fields), {}
    for name, made in record.scores.items():
        counts = sentence_statistics(lines[name], TARGET[name])
        more = {
            "degenerate": degenerate(lines[name], SOURCE[name], TARGET[name], counts),
            "length_ratio": length_ratio(counts),
        }
        scores[name] = made.model_copy(update=more)
    known = load_methods().found[method]().settings.model_dump(mode="json")
    own = record.method.model_copy(update={"settings": record.method.settings if method == "word_level" else known})
    return record.model_copy(update={"scores": scores, "method": own, "budget": spent(record, 180_400)})


def spent(record: Record, tokens: float | None, **more):
    return record.budget.model_copy(update={"spent": tokens} | more)


def written(folder: Path, *records: Record) -> Path:
    for record in records:
        store(folder, record, hypotheses=output(record.method.name, record.seed), references=TARGET)
    return folder
