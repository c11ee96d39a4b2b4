"""The training loop: token batches, one optimiser, dev evaluation, best or averaged checkpoint, exact resume."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file
from torch import nn

from bench.config import Depth, ModelConfig, TrainConfig
from bench.data.batches import EncodedCorpus, token_batches
from bench.measure.cost import Ledger
from bench.measure.flops import TrainingFlops, formula_flops
from bench.method import Method, Runner, Stage
from bench.nmt.model import Transformer, multiplied_parameters
from bench.train import checkpoint
from bench.train.cached import CachedTeacher
from bench.train.evaluation import DevLoss
from bench.train.group import Group
from bench.train.memory import keep_freed_memory
from bench.train.optim import adam, learning_rate
from bench.train.progress import Progress, Trained
from bench.train.update import TrainingError, Updater, derived_seed

TRAINING, TEACHER_PASSES, EVALUATION, CHECKPOINTING = PHASES = (
    "training",
    "online teacher passes",
    "dev evaluation",
    "checkpointing",
)
"""The phases of a training; a budget in seconds is for all of them together."""
CHECKPOINT_SECONDS = 30.0
REPORT_SECONDS = 0.5


class Report(Protocol):
    """Is told how a training goes."""

    def __call__(self, done: int, total: int, note: str, value: tuple[int, float] | None = None) -> None:
        """So much of the budget is done, in target tokens or in seconds. After an evaluation ``value`` is its number,
        from 1 over all stages, and a measure of the network as it stands: dev BLEU where that chooses the checkpoint,
        otherwise the negated dev cross-entropy.
        """


class Trainer:
    """Trains one network with one method.

    Processes of one torch.distributed group train it together, each with its part of every micro-batch, and end with
    the same weights. The first one writes the checkpoints, which a group of any other size can go on from.

    Args:
        network: the model to train, freshly initialised.
        teacher: the frozen teacher, where the method has one; or what loads it, if need be, where the texts have its
            signals.
        depths: the students delivered; what chooses the checkpoint is the mean over them.
        texts: the encoded training text of each stage.
        modules: the method's extra trainable modules.
        dev_bleu: gives the dev BLEU of the network as it stands at a depth; needed for ``select = "bleu"``.
        splits: run each micro-batch in so many parts, one after the other, to save memory. The pairs of an update stay
            the same, and so does a loss that is a sum over tokens; dropout falls otherwise.
        folder: where checkpoints are kept; training goes on from the newest one found there.
        ledger: is charged with what the training takes.
    """

    def __init__(
        self,
        method: Method,
        config: TrainConfig,
        network: Transformer,
        *,
        teacher: Transformer | Callable[[], Transformer] | None,
        depths: Sequence[Depth],
        texts: Sequence[EncodedCorpus],
        dev: EncodedCorpus,
        seed: int,
        device: torch.device,
        folder: Path,
        modules: nn.Module | None = None,
        dev_bleu: Callable[[Depth], float] | None = None,
        report: Report | None = None,
        splits: int = 1,
        ledger: Ledger | None = None,
    ) -> None:
        self.method, self.config, self.seed, self.device, self.folder = method, config, seed, device, folder
        self.texts, self.depths = texts, depths
        self.dev_bleu, self.report, self.splits = dev_bleu, report, splits
        self.precision = chosen_precision(config, device)
        if device.type == "cpu":
            keep_freed_memory()
        autocast = self._autocast()
        self.group = Group()
        self.network = nn.ModuleDict({"model": network.to(device)})
        self.modules = modules
        if modules is not None:
            self.network["method"] = modules.to(device)
        self.ledger, self.flops = ledger or Ledger(), TrainingFlops()
        self.student = Runner(network, autocast=autocast)
        self.teacher: Runner | None = None
        if isinstance(teacher, Transformer):
            self.teacher = Runner(teacher.to(device), frozen=True, autocast=autocast, observed=self._teacher_pass)
        elif teacher is not None:
            vocabulary = network.vocabulary
            self.teacher = CachedTeacher(teacher, device, vocabulary, autocast=autocast, observed=self._teacher_pass)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
        # What trains only parts of the network, or has modules of its own, may leave some out of an update.
        ragged = modules is not None or any(depth != network.config.depth for depth in depths)
        self.dev_loss = DevLoss(self.student, dev, depths, config, self.group, device)
        self.updater = Updater(
            method,
            config,
            self.network,
            student=self.student,
            teacher=self.teacher,
            modules=modules,
            scaler=self.scaler,
            seed=seed,
            device=device,
            splits=splits,
            group=self.group,
            ragged=ragged,
        )
        self.progress = Progress()
        self._saved = self._reported = time.perf_counter()

    def train(self) -> Trained:
        """Run all stages and leave the network with the weights to deliver.

        Raises:
            TrainingError: the loss or the gradient stopped being finite.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        optimiser = self._resume()
        with self.ledger.phase(TRAINING):
            for index, stage in enumerate(self.method.stages()):
                if index < self.progress.stage:
                    continue
                if index > self.progress.stage:
                    self.progress = self.progress.next_stage(index, self._spent())
                    optimiser = adam(self.network.parameters(), self.config)
                self._run_stage(index, stage, optimiser)
                self._deliver()
        done = self.progress
        for name, flops in self.flops.total([stage["tokens"] for stage in done.stages]).items():
            self.ledger.add_flops(name, flops)
        cells, real = (sum(stage[part] for stage in done.stages) for part in ("cells", "tokens_of_both_sides"))
        return Trained(
            target_tokens=done.total_tokens,
            updates=done.total_updates,
            epochs=sum(stage["epochs"] for stage in done.stages),
            padding_share=1 - real / cells,
            best_update=done.best_update,
            best_dev_loss=done.stages[-1]["best_dev_loss"],
            stages=tuple(done.stages),
            history=tuple(done.history),
            formula_flops=formula_flops(multiplied_parameters(self.student.model), done.total_tokens),
            splits=self.splits,
            processes=self.group.size,
        )

    def _run_stage(self, index: int, stage: Stage, optimiser: torch.optim.Optimizer) -> None:
        text, config, now = self.texts[index], self.config, self.progress
        goal, done = self._goal(stage), self._done()
        shuffle = derived_seed(self.seed, "order", index)
        self.network.train()
        while not self._over(done, goal):
            batches = token_batches(text.lengths, config.batch_tokens, seed=shuffle, epoch=now.epoch)
            groups = [batches[i : i + config.accumulation] for i in range(0, len(batches), config.accumulation)]
            for group in groups[now.cursor :]:
                now.update += 1
                rate = learning_rate(config, now.update, done / goal, stage.share) * stage.learning_rate_scale
                for slot in optimiser.param_groups:
                    slot["lr"] = rate
                parts = self.updater.cut(group)
                own = int(sum(text.lengths[part.rows, 1].sum() for part in self.updater.mine(parts)))
                with self.flops.update(TRAINING, index, now.update, own):
                    now.tokens += self.updater.update(
                        optimiser, text, parts, stage=index, update=now.update, epoch=now.epoch
                    )
                now.cursor += 1
                now.cells += sum(len(part.rows) * int(text.lengths[part.rows].max(axis=0).sum()) for part in parts)
                now.real_cells += int(sum(text.lengths[rows].sum() for rows in group))
                if self.report and time.perf_counter() - self._reported >= REPORT_SECONDS:
                    self._tell(f"loss {float(self.updater.loss):.3f}")
                done = self._done()
                if self._due(done, goal):
                    self._evaluate()
                    before, done = done, self._done()
                    if config.seconds:  # points that went by during the evaluation are not made up for
                        now.slowest = max(now.slowest, done - before)
                        now.evaluations = max(now.evaluations, int(done * config.evaluations / goal))
                    self._save(optimiser)
                elif time.perf_counter() - self._saved > CHECKPOINT_SECONDS:
                    self._save(optimiser)
                if self._over(done, goal):
                    break
            else:
                now.epoch, now.cursor = now.epoch + 1, 0
        if len(now.stages) == index:
            now.stages.append(
                {
                    "name": stage.name,
                    "tokens": now.tokens,
                    "updates": now.update,
                    "epochs": now.tokens / text.target_tokens,
                    "cells": now.cells,
                    "tokens_of_both_sides": now.real_cells,
                    "best_update": now.best_update,
                    "best_dev_loss": min(point["dev_loss"] for point in now.history if point["stage"] == index),
                    "stopped_early": now.stopped,
                }
            )
            now.total_tokens += now.tokens
            now.total_updates += now.update
            self._save(optimiser)

    def _goal(self, stage: Stage) -> float:
        """The stage's budget, in target tokens or in seconds."""
        config = self.config
        return config.seconds * stage.share if config.seconds else math.ceil(config.target_tokens * stage.share)

    def _done(self) -> float:
        """How much of the stage's budget is used, in the same unit."""
        now = self.progress
        return self.group.agreed(self._spent() - now.before) if self.config.seconds else now.tokens

    def _spent(self) -> float:
        """Seconds of this training so far, without what the task takes around it."""
        return self.ledger.seconds(PHASES)

    def _due(self, done: float, goal: float) -> bool:
        """Whether to evaluate now. A budget in seconds keeps back what the closing evaluation may take."""
        now, points = self.progress, self.config.evaluations
        due = done * points >= goal * min(now.evaluations + 1, points)
        return (due and done + 2 * now.slowest < goal) or done + now.slowest >= goal if self.config.seconds else due

    def _over(self, done: float, goal: float) -> bool:
        """Whether the stage has come to its end, which is always evaluated."""
        return self.progress.stopped or (done + self.progress.slowest >= goal and self.progress.evaluated)

    def _evaluate(self) -> None:
        now = self.progress
        with self.ledger.phase(EVALUATION):
            self.network.eval()
            loss = self.dev_loss()
            self.ledger.add_flops(EVALUATION, self.dev_loss.flops)
            if not math.isfinite(loss.smoothed):
                raise TrainingError(f"dev loss is not finite at update {now.update}")
            point: dict[str, Any] = {"stage": now.stage, "update": now.update, "tokens": now.tokens}
            point |= {"dev_loss": loss.smoothed, "dev_nll": loss.nll}
            point |= {f"train_{name}": float(value) for name, value in self.updater.terms.items()}
            score, value = loss.smoothed, -loss.nll
            if self.config.select == "bleu":
                if self.dev_bleu is None:
                    raise ValueError("select = 'bleu' needs dev_bleu")
                bleu = statistics.fmean(self.dev_bleu(depth) for depth in self.depths) if self.group.leads else 0.0
                point["dev_bleu"] = self.group.agreed(bleu)
                score, value = -point["dev_bleu"], point["dev_bleu"]
            self.network.train()
        self._tell(f"dev loss {loss.smoothed:.3f}", (len(now.history) + 1, value))
        now.history.append(point)
        now.evaluations += 1
        better = now.best is None or score < now.best
        if better:
            now.best, now.best_update, now.stale = score, now.update, 0
        else:
            now.stale += 1
        now.stopped = 0 < self.config.patience <= now.stale
        if better or self.config.average:
            name = f"kept-{now.stage}-{now.update:09d}.safetensors"
            if self.group.leads:
                with self.ledger.phase(CHECKPOINTING):
                    checkpoint.save_tensors(self.folder / name, checkpoint.network_tensors(self.network))
            now.kept = [*now.kept, name][-max(self.config.average, 1) :]

    def _deliver(self) -> None:
        """Give the network the stage's best weights, or the mean of its last ones."""
        self.group.barrier()  # they must have been written
        kept = [load_file(self.folder / name, device=str(self.device)) for name in self.progress.kept]
        checkpoint.load_network(self.network, checkpoint.mean_tensors(kept) if self.config.average else kept[-1])

    def _save(self, optimiser: torch.optim.Optimizer) -> None:
        if not self.group.leads:
            return
        now = self.progress
        with self.ledger.phase(CHECKPOINTING):
            costs = self.ledger.snapshot()
            now.costs = {name: costs[name] for name in PHASES if name in costs}
            now.flops, now.scaler = self.flops.state, self.scaler.state_dict()
            now.saves += 1
            checkpoint.save_state(self.folder, now.saves, self.network, optimiser, asdict(now))
            for path in self.folder.glob("kept-*"):
                if path.name not in now.kept:
                    path.unlink()
        self._saved = time.perf_counter()

    def _resume(self) -> torch.optim.Optimizer:
        optimiser = adam(self.network.parameters(), self.config)
        if state := checkpoint.latest_state(self.folder):
            self.progress = Progress(**checkpoint.read_progress(state))
            checkpoint.restore(state, self.network, optimiser)
            self.scaler.load_state_dict(self.progress.scaler)
            self.ledger.restore(self.progress.costs)
            self.flops = TrainingFlops(self.progress.flops)
        self.group.barrier()  # the next save removes what is read here
        return optimiser

    @contextmanager
    def _teacher_pass(self) -> Iterator[None]:
        with self.ledger.part(TEACHER_PASSES), self.flops.part(TEACHER_PASSES):
            yield

    def _autocast(self) -> Callable[[], Any]:
        if self.precision == "fp32":
            return nullcontext
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return partial(torch.autocast, self.device.type, dtype=dtype)

    def _tell(self, note: str, *value: tuple[int, float]) -> None:
        if self.report is None:
            return
        self._reported = time.perf_counter()
        now, budget = self.progress, math.ceil(self.config.seconds) or self.config.target_tokens
        done = int(self._spent()) if self.config.seconds else now.total_tokens + now.tokens
        self.report(min(done, budget), budget, note, *value)


def new_network(config: ModelConfig, vocabulary: int, seed: int) -> Transformer:
    """A freshly initialised model; the same seed gives the same weights."""
    torch.manual_seed(derived_seed(seed, "weights"))
    return Transformer(config, vocabulary)


def chosen_precision(config: TrainConfig, device: torch.device) -> str:
    """The precision that ``auto`` stands for on this device, or the one that is named."""
    if config.precision != "auto":
        return config.precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
