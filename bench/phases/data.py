"""The tokenizer, and the corpus as it encodes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.config import TokenizerConfig
from bench.data.batches import EncodedCorpus
from bench.data.corpus import Splits
from bench.data.datasets import get_dataset
from bench.data.tokenizer import Tokenizer
from bench.errors import UsageError
from bench.phases.base import DEV, Phase, write_lines


def tokenizer(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """Train the tokenizer on the training text of both languages."""
    train = _splits(phase).train
    with phase.ledger.phase("tokenizer"):
        config = TokenizerConfig.model_validate(phase.task.inputs["tokenizer"])
        Tokenizer.train([*train.source, *train.target], config, folder / "tokenizer.model")
    return {"vocabulary": Tokenizer.load(folder / "tokenizer.model").size}


def corpus(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """Encode every split, and keep the text beside it; training pairs that are too long are left out."""
    splits, tokenizer, ledger = _splits(phase), phase.tokenizer(), phase.ledger
    limit = phase.need("tokenizer").inputs["tokenizer"]["max_pieces"]
    with ledger.phase("encoding"):
        sizes = {}
        for name, text in {"train": splits.train, DEV: splits.dev, **splits.tests}.items():
            pairs = list(zip(tokenizer.encode(text.source), tokenizer.encode(text.target), strict=True))
            kept = [i for i, pair in enumerate(pairs) if name != "train" or max(map(len, pair)) <= limit]
            EncodedCorpus.write(folder / name, [pairs[i] for i in kept], tokenizer.size)
            write_lines(folder / name / "source.txt", [text.source[i] for i in kept])
            write_lines(folder / name / "target.txt", [text.target[i] for i in kept])
            sizes[name] = {"pairs": len(kept), "target_tokens": sum(len(pairs[i][1]) for i in kept)}
            sizes[name]["too_long"] = len(pairs) - len(kept)
    return {
        "sizes": sizes,
        "tests": list(splits.tests),
        "notes": list(splits.notes),
    }


def _splits(phase: Phase) -> Splits:
    """The corpus, cut to the preset's number of pairs. A task that needs the tokenizer asks for the same cut."""
    dataset, first = get_dataset(phase.place.dataset, phase.place.languages), phase.task.inputs
    planned = phase.task.upstream[0].inputs["data"]
    splits = dataset.load(phase.place.data_dir)
    if dataset.identity(phase.place.data_dir) != planned:
        raise UsageError(f"the files of {dataset.name} were changed after the run had started: run it again.")
    dev = splits.dev.first(first.get("dev_pairs", 0))
    return Splits(splits.train.first(first["train_pairs"]), dev, splits.tests, splits.notes)
