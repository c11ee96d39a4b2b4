"""What all programs of ``rivals.py`` are given: text in pieces, and a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bench.config import Preset, preset
from bench.data.batches import EncodedCorpus
from bench.data.corpus import ParallelText
from bench.data.datasets import get_dataset
from bench.data.tokenizer import Tokenizer
from bench.nmt.export import load_model, save_model
from bench.nmt.model import Transformer
from bench.probe import SEED
from bench.registry import load_methods
from bench.train.trainer import Trainer, new_network

CPU = torch.device("cpu")
DATASET, TEST = "multi30k-en-de", "test_2016_flickr"
TEACHER_TOKENS = 1_500_000


@dataclass(frozen=True)
class Prepared:
    """What all are given."""

    sizes: Preset
    tokenizer: Tokenizer
    pairs: list[tuple[list[int], list[int]]]
    """The training text's ids."""
    train: EncodedCorpus
    test: ParallelText
    teacher: Transformer


def prepare(data: Path, work: Path) -> Prepared:
    """Encode Multi30k and train the teacher, or go on with what is in ``work``."""
    sizes, text = preset("small"), get_dataset(DATASET).load(data)
    model = work / "tokenizer.model"
    if not model.exists():
        work.mkdir(parents=True, exist_ok=True)
        Tokenizer.train([*text.train.source, *text.train.target], sizes.tokenizer, model)
    tokenizer = Tokenizer.load(model)
    pairs, dev = (
        list(zip(tokenizer.encode(split.source), tokenizer.encode(split.target), strict=True))
        for split in (text.train, text.dev)
    )
    corpora = []
    for name, rows in (("train", pairs), ("dev", dev)):
        EncodedCorpus.write(work / name, rows, tokenizer.size)
        corpora.append(EncodedCorpus.open(work / name))
    teacher = work / f"teacher-{TEACHER_TOKENS}"
    if not teacher.exists():
        save_model(train_teacher(sizes, tokenizer.size, *corpora, work), teacher)
    return Prepared(sizes, tokenizer, pairs, corpora[0], text.tests[TEST], load_model(teacher))


def train_teacher(sizes: Preset, vocabulary: int, train: EncodedCorpus, dev: EncodedCorpus, work: Path) -> Transformer:
    """The preset's teacher, after a quarter of its training."""
    config = sizes.teacher_training.model_copy(
        update={"target_tokens": TEACHER_TOKENS, "evaluations": 1, "select": "loss"}
    )
    network = new_network(sizes.teacher, vocabulary, SEED)
    Trainer(
        load_methods().get("baseline")(),
        config,
        network,
        teacher=None,
        depths=[sizes.teacher.depth],
        texts=[train],
        dev=dev,
        seed=SEED,
        device=CPU,
        folder=work / "training",
        report=print,
    ).train()
    return network
