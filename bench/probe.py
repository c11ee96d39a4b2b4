"""Times random models for a moment: how fast this machine trains, decodes, encodes and scores before any run has."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.config import ModelConfig, SearchConfig, TokenizerConfig, TrainConfig
from bench.data.batches import token_batches
from bench.data.corpus import ParallelText
from bench.data.signals import TaughtBatch
from bench.data.tokenizer import Tokenizer
from bench.losses import cross_entropies
from bench.measure.quality import score, sentence_bleu
from bench.method import Method, Runner, Step, TeacherUse, total
from bench.nmt.batch import EOS, Batch
from bench.nmt.model import Transformer
from bench.nmt.search import translate_ids
from bench.rates import TrainingCost
from bench.train import checkpoint
from bench.train.cached import CachedTeacher
from bench.train.optim import adam
from bench.train.trainer import chosen_precision

SEED = 1
SPREAD = 0.35
"""Standard deviation of the logarithm of sentence lengths, as drawn; 0.31 to 0.43 in three corpora."""
PAIRS = 2000
FIRST_TOKENS = 64
"""The micro-batch of the first steps, which tell how large a one there is time for."""
BEAM_EXTRA = 1
"""Steps by which a beam search is longer than a greedy one: 1.1 to 1.8 with a teacher of BLEU 30 on Multi30k."""
SAVED_BYTES = 32 * 2**20
"""Most that is written to see how fast checkpoints are."""


class TextCost(NamedTuple):
    """What text costs before training, in seconds, and how long it becomes."""

    tokenizer: float
    """Training the tokenizer, for each pair."""
    encoding: float
    """For each pair."""
    length: float
    """Mean target tokens of a sentence, EOS included."""


class ScoringCost(NamedTuple):
    """Seconds of scoring a sentence."""

    corpus: float
    sentence: float
    """By sentence BLEU, as one of an n-best list."""


def text_cost(sample: ParallelText, config: TokenizerConfig) -> TextCost:
    """Train a tokenizer on a sample of training pairs and encode them.

    Raises:
        UsageError: the vocabulary is too small for the sample's characters.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        began = time.perf_counter()
        Tokenizer.train([*sample.source, *sample.target], config, path)
        trained = time.perf_counter()
        tokenizer = Tokenizer.load(path)
        tokenizer.encode(sample.source)
        targets = tokenizer.encode(sample.target)
        encoded = time.perf_counter()
    pairs = len(sample)
    return TextCost((trained - began) / pairs, (encoded - trained) / pairs, sum(map(len, targets)) / pairs)


def random_lengths(mean: float, count: int) -> NDArray[np.int32]:
    """Tokens of so many sentences, EOS included: log-normal, the same ones each time."""
    drawn = np.random.default_rng(SEED).lognormal(np.log(mean) - SPREAD**2 / 2, SPREAD, count)
    return np.rint(drawn).clip(2).astype(np.int32)


@contextmanager
def undisturbed(device: torch.device, threads: int) -> Iterator[None]:
    """So many threads and a fixed seed; afterwards both are what they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(SEED)
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Probe:
    """Timings with random weights and random token ids; nothing is kept, and torch is left as it was.

    Sentences have log-normal lengths, the same on both sides; batches are cut as in training.

    Args:
        vocabulary: number of pieces.
        length: mean tokens of a sentence, EOS included.
        seconds: about how long to look at each thing, after a warm-up.
    """

    vocabulary: int
    length: float
    device: torch.device
    threads: int
    seconds: float

    def training(
        self,
        method: Method,
        student: ModelConfig,
        teacher: ModelConfig,
        config: TrainConfig,
        *,
        signals: int | None = None,
    ) -> TrainingCost:
        """The cost of training with the method's own loss, its stages weighted by their share of the budget.

        Where a whole micro-batch would take too long, a smaller one is timed. Evaluation is by dev loss alone.

        Args:
            signals: how many of the teacher's likeliest tokens are cached at each position; None: its passes are exact.
        """
        with undisturbed(self.device, self.threads):
            models = _Models.of(self, method, student, teacher, config, signals)
            stages = [(stage.share, index) for index, stage in enumerate(method.stages())]
            batches = self._batches(min(FIRST_TOKENS, config.batch_tokens), signals)
            first = self._rate(models.passes(batches, 0), 0.0)
            if (affordable := int(self.seconds / first / len(stages))) > FIRST_TOKENS:
                batches = self._batches(min(affordable, config.batch_tokens), signals)
            token = sum(
                share * self._rate(models.passes(batches, index), share * self.seconds) for share, index in stages
            )
            # The update itself takes the same time for any number of tokens.
            update = self._rate(models.update, self.seconds / 8)
            token += update / (config.batch_tokens * config.accumulation)
            evaluated = self._rate(models.evaluation(batches[0]), self.seconds / 8)
            return TrainingCost(token, evaluated, self._save(models.network))

    def decoding(self, shape: ModelConfig, search: SearchConfig, sentences: int) -> float:
        """Seconds of decoding a target token of a text with so many sentences.

        Random models hardly end a sentence, so single steps are timed. A greedy search is taken to make as many as the
        source has tokens, and a beam ``BEAM_EXTRA`` more.
        """
        lengths = np.sort(random_lengths(self.length, min(sentences, PAIRS)))[::-1]
        groups = [lengths[i : i + search.batch_sentences] for i in range(0, len(lengths), search.batch_sentences)]
        with undisturbed(self.device, self.threads):
            model = Transformer(shape, self.vocabulary).to(self.device)
            rows = len(groups[0])
            start, step = self._steps(model, search, rows)
            _, single = self._steps(model, search, 1)
        row = max(0.0, step - single) / max(1, rows - 1)
        rest = max(0.0, single - row)
        # A step takes the rest and so much for each row; the longest sentence tells how many steps a batch has.
        seconds = sum(
            _steps_of(search, group[0]) * rest + sum(_steps_of(search, n) for n in group) * row for group in groups
        )
        return float(seconds / lengths.sum() + start / (rows * self.length))

    def _steps(self, model: Transformer, search: SearchConfig, rows: int) -> tuple[float, float]:
        """Seconds of encoding a batch, and of a step of the search with none of its sentences ended."""
        length = max(2, round(self.length))
        ids = self._ids(rows * length).reshape(rows, length)
        ids[:, -1] = EOS
        sources = ids.tolist()

        def run(limit: int) -> Callable[[], float]:
            # An output ends after max_extra tokens, whatever the length of the source.
            short = search.model_copy(update={"max_ratio": 1e-9, "max_extra": limit})
            return lambda: len(translate_ids(model, sources, short, device=self.device)) / rows

        first = self._rate(run(1), self.seconds / 16)
        several = max(2, min(_steps_of(search, length), int(self.seconds / 8 / first)))
        step = max(0.0, self._rate(run(several), self.seconds / 8) - first) / (several - 1)
        return max(0.0, first - step), step

    def scoring(self) -> ScoringCost:
        """Score invented words, two pieces to a word."""
        draw = random.Random(SEED)
        words = ["".join(draw.choices("abcdefghiklmnoprstu", k=6)) for _ in range(200)]
        lines = [[" ".join(draw.choices(words, k=max(1, round(self.length / 2)))) for _ in range(100)] for _ in "hr"]
        corpus = self._rate(lambda: len(lines[0]) if score(*lines) else 0, self.seconds / 8)
        pairs = list(zip(*lines, strict=True))
        sentence = self._rate(lambda: len([sentence_bleu(*pair) for pair in pairs]), self.seconds / 8)
        return ScoringCost(corpus, sentence)

    def _batches(self, batch_tokens: int, signals: int | None) -> list[Batch]:
        lengths = random_lengths(self.length, PAIRS)
        rows = token_batches(np.stack([lengths, lengths], axis=1), batch_tokens, seed=SEED, epoch=1)
        batches = [self._batch([int(lengths[i]) for i in chosen]) for chosen in rows[:16]]
        return batches if signals is None else [self._taught(batch, signals) for batch in batches]

    def _batch(self, lengths: list[int]) -> Batch:
        sides = ([[*self._ids(length - 1).tolist(), EOS] for length in lengths] for _ in range(2))
        return Batch.of(*sides).to(self.device)

    def _taught(self, batch: Batch, signals: int) -> TaughtBatch:
        kept = min(signals, self.vocabulary)
        ids = torch.arange(kept, device=self.device).expand(batch.tokens, kept)
        shares = torch.zeros(batch.tokens, kept + 1, dtype=torch.half, device=self.device)
        return TaughtBatch(batch.source, batch.prefix, batch.target, ids, shares)

    def _ids(self, count: int) -> torch.Tensor:
        return torch.randint(EOS + 1, self.vocabulary, (count,), generator=torch.Generator().manual_seed(SEED + count))

    def _save(self, network: nn.Module) -> float:
        """Seconds of writing the network and the two moments of each weight."""
        tensors, size = checkpoint.network_tensors(network), 0
        chosen: dict[str, torch.Tensor] = {}
        for name, tensor in tensors.items():
            if not chosen or size + tensor.nbytes <= SAVED_BYTES:
                chosen[name], size = tensor, size + tensor.nbytes
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.safetensors"

            def write() -> float:
                checkpoint.save_tensors(path, chosen)
                return size

            return 3 * sum(tensor.nbytes for tensor in tensors.values()) * self._rate(write, self.seconds / 16)

    def _rate(self, work: Callable[[], float], seconds: float) -> float:
        """Seconds for each unit of ``work``, which returns how many it did: the median over calls.

        The first call warms up; it counts only where there is no time for another one.
        """
        first, took = self._timed(work)
        if took > self.seconds / 2:
            return first
        rates: list[float] = []
        left = seconds
        while not rates or left > 0:
            rate, took = self._timed(work)
            rates.append(rate)
            left -= took
        return statistics.median(rates)

    def _timed(self, work: Callable[[], float]) -> tuple[float, float]:
        """Seconds for each unit of one call, and of the whole call."""
        began = self._clock()
        units = work()
        took = self._clock() - began
        return took / units, took

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@dataclass(frozen=True)
class _Models:
    """What takes part in a training step."""

    method: Method
    config: TrainConfig
    network: nn.ModuleDict
    student: Runner
    teacher: Runner | None
    modules: nn.Module | None
    optimiser: torch.optim.Optimizer
    depths: list[Any]

    @classmethod
    def of(
        cls,
        probe: Probe,
        method: Method,
        student: ModelConfig,
        teacher: ModelConfig,
        config: TrainConfig,
        signals: int | None,
    ) -> _Models:
        def model(shape: ModelConfig) -> Transformer:
            return Transformer(shape, probe.vocabulary).to(probe.device)

        autocast = _autocast(config, probe.device)
        trained, modules = model(method.architecture(student, teacher)), method.modules(student, teacher)
        network = nn.ModuleDict({"model": trained} | ({"method": modules.to(probe.device)} if modules else {}))

        def runner(frozen: Transformer) -> Runner:
            if signals is None:
                return Runner(frozen, frozen=True, autocast=autocast)
            return CachedTeacher(lambda: frozen, probe.device, probe.vocabulary, autocast=autocast)

        frozen = model(teacher) if method.teacher is TeacherUse.FROZEN else None
        return cls(
            method=method,
            config=config,
            network=network,
            student=Runner(trained, autocast=autocast),
            teacher=None if frozen is None else runner(frozen),
            modules=modules,
            optimiser=adam(network.parameters(), config),
            depths=[delivery.depth for delivery in method.deliveries(student, teacher)],
        )

    def passes(self, batches: list[Batch], stage: int) -> Callable[[], float]:
        """One forward and backward pass at each call; gradients stay for ``update``."""
        self.network.train()
        calls = 0

        def run() -> float:
            nonlocal calls
            batch = batches[calls % len(batches)]
            calls += 1
            step = Step(
                batch=batch,
                student=self.student,
                teacher=self.teacher,
                label_smoothing=self.config.label_smoothing,
                random=random.Random(calls),
                modules=self.modules,
                stage=stage,
                update=calls,
            )
            self.network.zero_grad(set_to_none=True)
            (total(self.method.loss(step)) / batch.tokens).backward()
            return batch.tokens

        return run

    def update(self) -> float:
        """The optimiser's part of a step, with the gradients of the last pass."""
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm or 1.0)
        self.optimiser.step()
        return 1.0

    def evaluation(self, batch: Batch) -> Callable[[], float]:
        """The dev loss of every delivered student on a batch."""
        self.network.eval()

        def run() -> float:
            with torch.inference_mode():
                for depth in self.depths:
                    log_p = self.student.forward(batch, depth=depth).log_probabilities
                    float(cross_entropies(log_p, batch.labels, self.config.label_smoothing)[0])
            return batch.tokens

        return run


def _steps_of(search: SearchConfig, length: int) -> int:
    """Steps that a sentence of so many tokens is searched for."""
    return length if search.beam == 1 else min(length + BEAM_EXTRA, search.max_length(length))


def _autocast(config: TrainConfig, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    precision = chosen_precision(config, device)
    if precision == "fp32":
        return nullcontext
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return lambda: torch.autocast(device.type, dtype=dtype)
