"""What every phase has: its task, the artifacts it rests on, where it runs, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.config import Depth, SearchConfig
from bench.data.batches import EncodedCorpus
from bench.data.tokenizer import Tokenizer
from bench.errors import TaskError
from bench.measure.cost import Ledger
from bench.measure.flops import decoding_flops
from bench.measure.metrics import Metric
from bench.nmt.model import Transformer
from bench.nmt.search import translate_ids
from bench.plan import Task
from bench.store import Artifact, Store, write_text
from bench.sweep.pool import Attempt
from bench.train.trainer import Report

DEV = "dev"
START, SETUP, COUNTING, INTERRUPTED = OVERHEAD = ("start", "set-up", "counting", "interrupted")
"""Phases of any task beside its work: its process, reading and writing what it needs, counting the operations of a
sample, and what killed attempts had done in vain."""
UNCHARGED = (COUNTING, INTERRUPTED)
"""Those that no budget is charged with: what measuring takes is not a method's cost."""
MEMBERS = "members' device memory"
"""In what a training by several processes returns: the peak of the first one's GPU."""


@dataclass(frozen=True)
class Place:
    """Where a task runs: all that a worker needs besides the task itself."""

    store: Path
    dataset: str
    languages: tuple[str, str] | None = None
    data_dir: Path | None = None
    methods_dir: Path | None = None
    device: str = "cpu"
    workers: int = 1
    """Tasks that run at a time."""
    each_gpu: int = 1
    """Of these on each GPU that has any."""
    processes: int = 1
    """Processes that carry out one training together, each on a GPU of its own where ``device`` is one."""
    metrics: tuple[Metric, ...] = ()
    """The further ones, by which hypotheses are scored."""

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices of a training."""
        if self.device == "cpu":
            return ("cpu",)
        first = torch.device(self.device).index or 0
        return tuple(f"cuda:{first + number}" for number in range(self.processes))


class PhaseError(TaskError):
    """A phase of some rows cannot be carried out; the message says why in one line, ``state`` in which way."""

    def __init__(self, reason: str, state: str = "exception") -> None:
        super().__init__(reason)
        self.state = state


@dataclass(frozen=True)
class Phase:
    """One task that is being carried out."""

    task: Task
    place: Place
    store: Store
    report: Report | None
    attempt: Attempt
    ledger: Ledger
    """What it takes, from its first moment: all that is charged to no other phase is the set-up's."""

    def need(self, *kinds: str) -> Artifact:
        """The finished artifact of one of these kinds among all that the task rests on."""
        found = [task for task in self.task.upstream if task.kind in kinds and task is not self.task]
        return self.store.get(found[-1].kind, found[-1].key)

    def tokenizer(self) -> Tokenizer:
        """The one that the task's corpus was encoded with."""
        return Tokenizer.load(self.need("tokenizer").folder / "tokenizer.model")

    def corpus(self, split: str) -> EncodedCorpus:
        """A split of the encoded corpus."""
        return EncodedCorpus.open(self.need("corpus").folder / split)

    def training_text(self, key: str | None) -> EncodedCorpus:
        """A text that the teacher made, or the corpus's training text."""
        return EncodedCorpus.open(self.store.get("text", key).folder / "train") if key else self.corpus("train")

    def count_decoding(
        self,
        name: str,
        model: Transformer,
        sample: Sequence[list[int]],
        search: SearchConfig,
        *texts: Sequence[list[int]],
        n_best: int = 1,
    ) -> None:
        """Charge the operations of decoding ``texts`` to the phase ``name``, as a few sentences of ``sample`` tell."""
        with self.ledger.phase(COUNTING):
            each = decoding_flops(model, sample, search, self.place.device, n_best=n_best)
        self.ledger.add_flops(name, each * sum(len(source) for text in texts for source in text))

    def progress(self, total: int, note: str) -> Callable[[int], None] | None:
        """Tells whoever listens how many of ``total`` are done."""
        report = self.report
        return None if report is None else lambda done: report(done, total, note)


def device_seconds(artifact: Artifact) -> float:
    """Wall seconds that an artifact took, times the devices that worked on it, without what is charged to nothing."""
    seconds = sum(value for name, value in artifact.details["seconds"].items() if name not in UNCHARGED)
    return seconds * artifact.details.get("processes", 1)


def translate(
    model: Transformer,
    tokenizer: Tokenizer,
    sources: list[list[int]],
    search: SearchConfig,
    device: Any,
    progress: Callable[[int], None] | None = None,
    depth: Depth | None = None,
) -> list[str]:
    """The best hypothesis for each source, detokenised."""
    found = translate_ids(model, sources, search, device=device, progress=progress, depth=depth)
    return tokenizer.decode([hypotheses[0].ids for hypotheses in found])


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """One sentence a line, ended by a newline."""
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_lines(path: Path) -> list[str]:
    """The sentences of a file written by :func:`write_lines`."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n")
