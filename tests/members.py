"""What the processes of the tests of distributed training do; it must be importable in another process."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from bench.config import TrainConfig
from bench.data.batches import EncodedCorpus
from bench.registry import load_methods
from bench.store import write_text
from bench.toy import TRAINING, VOCABULARY, toy_corpora, toy_pairs, toy_trainer
from bench.train import trainer
from bench.train.trainer import Trainer, TrainingError


@dataclass(frozen=True)
class Case:
    """A training to compare between groups of processes."""

    method: str = "baseline"
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    dropout: float = 0.0
    alike: bool = False
    """Whether all sentences have one length."""

    def trainer(self, folder: Path, *, splits: int = 1, device: str = "cpu", **more: Any) -> Trainer:
        """Its trainer, which goes on from the checkpoints in ``folder``."""
        method = load_methods().get(self.method)(self.settings)
        corpora = (alike_corpora if self.alike else toy_corpora)(folder / f"text-{os.getpid()}")
        # A large epsilon, as Adam would make a full step of the rounding in a gradient that should be zero.
        plain = TRAINING.model_dump() | {"target_tokens": 1000, "accumulation": 2, "epsilon": 1e-3}
        config, place = TrainConfig(**(plain | self.recipe)), folder / "scratch"
        return toy_trainer(method, corpora, place, config, dropout=self.dropout, device=device, splits=splits, **more)


@dataclass(frozen=True)
class Curve:
    """What came out of a training."""

    history: tuple[dict[str, Any], ...]
    weights: dict[str, Tensor]
    facts: dict[str, Any]
    agreed: bool
    """Whether all processes have the same history and the same weights."""


CASES = {
    "baseline": Case(),
    "word_level": Case("word_level"),
    "a2d": Case("a2d", {"mask_pads": True, "align_reduction": "mean_per_map", "beta": 100.0}, alike=True),
    "a2d of mixed lengths": Case("a2d", {"mask_pads": True, "align_reduction": "mean_per_map", "beta": 100.0}),
    "aio_kd": Case("aio_kd", {"eta": 1e9, "mutual": "full"}),
    "aio_kd, detaching": Case("aio_kd"),
    "linear schedule": Case(recipe={"schedule": "linear", "clip_norm": 0.1}),
    "one sentence": Case(recipe={"batch_tokens": 8, "accumulation": 1, "target_tokens": 300}),
    "average": Case(recipe={"average": 2}),
    "patience": Case(recipe={"patience": 1, "learning_rate": 1e-30}),
}
"""Trainings whose curve does not depend on the number of processes, or hardly where a loss is no sum over tokens."""


def alike_corpora(folder: Path) -> tuple[EncodedCorpus, EncodedCorpus]:
    """The toy corpora with sentences of one length only."""
    made = []
    for name, seed in (("train", 1), ("dev", 2)):
        pairs = [pair for pair in zip(*toy_pairs(600, seed)) if len(pair[0]) == 6]
        EncodedCorpus.write(folder / name, pairs, VOCABULARY)
        made.append(EncodedCorpus.open(folder / name))
    return made[0], made[1]


def curve(case: Case, folder: Path, *, device: str = "cpu", report: Any = None, **more: Any) -> Curve:
    """Train, and look at what came of it in all processes."""
    made = case.trainer(folder, device=device, report=report, **more)
    trained = made.train()
    weights = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
    agreed = True
    if made.group.size > 1:
        everybody: list[Any] = [None] * made.group.size
        dist.all_gather_object(everybody, (trained.history, {name: w.tolist() for name, w in weights.items()}))
        agreed = all(each == everybody[0] for each in everybody)
    facts = {name: getattr(trained, name) for name in ("target_tokens", "updates", "best_update", "processes")}
    return Curve(trained.history, weights, facts, agreed)


def all_curves(folder: Path, killed: Path, **where: Any) -> dict[str, Curve]:
    """Every case, and what two processes only are asked for."""
    curves = {name: curve(case, folder / name, **where) for name, case in CASES.items()}
    curves["dropout"] = curve(Case(dropout=0.2), folder / "dropout", splits=1, **where)
    curves["splits"] = curve(Case(), folder / "splits", splits=3, **where)
    timed = Case(recipe={"seconds": 0.3, "evaluations": 2})
    curves["seconds"] = curve(timed, folder / "seconds", **where)
    bleu = Case(recipe={"select": "bleu"})
    curves["bleu"] = curve(bleu, folder / "bleu", dev_bleu=lambda depth: 10.0 * (1 + dist.get_rank()), **where)
    curves["resumed"] = curve(Case(dropout=0.2), folder / "resumed", splits=1, **where)
    curves["killed"] = curve(Case(), killed, **where)
    return curves


def interruptible(case: Case, folder: Path, *, device: str, report: Any) -> Curve:
    """A training that keeps a checkpoint of every update, and says so; its processes leave their numbers."""
    write_text(folder / f"{dist.get_rank()}.pid", str(os.getpid()))
    trainer.CHECKPOINT_SECONDS = trainer.REPORT_SECONDS = 0.0
    return curve(case, folder, device=device, report=report)


def one_fails(*, device: str, report: Any) -> None:
    """The second process fails while the first one waits for it, and the caller is busy."""
    if report:
        report(0, 1, "waiting")
    else:
        raise TrainingError("loss is not finite at update 3: kd\nand more")
    dist.barrier()


def linger(folder: Path, *, device: str, report: Any) -> None:
    write_text(folder / f"{dist.get_rank()}.pid", str(os.getpid()))
    time.sleep(120)


def call_and_wait(folder: Path) -> None:
    """A caller that is killed while its processes work."""
    from bench.train.distributed import together

    together(2, linger, folder)
