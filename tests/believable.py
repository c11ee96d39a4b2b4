"""Records that are what their files say, of a data set of six sentences: they pass ``bench validate``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from factories import make_record, store

from bench.data import datasets
from bench.data.corpus import ParallelText, Splits
from bench.data.datasets import Dataset
from bench.measure.degenerate import degenerate, length_ratio
from bench.measure.statistics import sentence_statistics
from bench.results import Phase, Record
from bench.store import content_hash

WORDS = ("Haus", "Hund", "Katze", "Baum", "Fluss", "Berg")
TARGET = {name: [f"das {name} ist {word} , nicht {number} ." for number, word in enumerate(WORDS)]
          for name in ("dev", "test")}  # fmt: skip
SOURCE = {name: [f"the {name} is {word}" for word in WORDS] for name in TARGET}
OUTPUT = {name: [line.replace("nicht", "kaum") for line in lines] for name, lines in TARGET.items()}
OUTPUT["test"][2] = ""
OUTPUT["test"][3] = SOURCE["test"][3]


def load(folder: Path) -> Splits:
    text = {name: ParallelText(tuple(SOURCE[name]), tuple(TARGET[name])) for name in TARGET}
    return Splits(ParallelText(("a",), ("b",)), text["dev"], {"test": text["test"]})


def six_sentences() -> Dataset:
    """A data set to stand in place of the embedded one."""
    return Dataset("synthetic", "", ("src", "tgt"), "", "", load)


def valid(seed: int = 1, **fields) -> Record:
    """A record that is what its files say."""
    identity = content_hash(datasets.DATASETS["synthetic"].identity())
    whole = {
        "artifacts": {"student": (model := f"a{seed}"), "scores": "e5", "sweep": "b2", "metric-legacy-bleu": "c3"},
        "phases": (
            Phase(name="student training", kind="training", seconds=60.0, artifact=model),
            Phase(name="decoding", kind="evaluation", seconds=2.0, artifact="e5"),
        ),
        "walls": {model: 60.0, "e5": 2.0},
        "test_access": {"test": (datetime(2026, 1, 2, tzinfo=UTC),)},
    }
    whole |= {"data_sha256": identity, "recipe": {"seeds": 1}, "hypotheses": OUTPUT, "references": TARGET}
    fields = whole | fields
    record, scores = make_record(seed=seed, **fields), {}
    for name, made in record.scores.items():
        counts = sentence_statistics(OUTPUT[name], TARGET[name])
        more = {
            "degenerate": degenerate(OUTPUT[name], SOURCE[name], TARGET[name], counts),
            "length_ratio": length_ratio(counts),
        }
        scores[name] = made.model_copy(update=more)
    return record.model_copy(update={"scores": scores} | {"budget": spent(record, 180_400)})


def spent(record: Record, tokens: float | None, **more):
    return record.budget.model_copy(update={"spent": tokens} | more)


def written(folder: Path, *records: Record) -> Path:
    return store(folder, *records, hypotheses=OUTPUT, references=TARGET)
