"""Where a training stands, and what it amounts to in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """Where training stands; with the tensors, all that a resume needs."""

    stage: int = 0
    update: int = 0
    epoch: int = 1
    cursor: int = 0
    """Updates done in this epoch."""
    tokens: int = 0
    """Target tokens seen in this stage."""
    before: float = 0.0
    """Seconds that the earlier stages took."""
    slowest: float = 0.0
    """Seconds of the longest evaluation so far, where the budget is in seconds."""
    evaluations: int = 0
    """Evaluation points of this stage that have gone by."""
    best: float | None = None
    best_update: int = 0
    stale: int = 0
    """Evaluations since the best."""
    kept: list[str] = field(default_factory=list)
    """Files of the evaluated checkpoints still needed: the best, or the last to be averaged."""
    stopped: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    cells: int = 0
    """Entries of the batches seen in this stage, both sides, padding included."""
    real_cells: int = 0
    """How many of them were tokens."""
    saves: int = 0
    total_updates: int = 0
    total_tokens: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)
    """The state of fp16's gradient scaler."""
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    """What the ledger had been charged with."""
    flops: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The operations counted so far."""

    @property
    def evaluated(self) -> bool:
        """Whether the network as it stands has been evaluated."""
        last = self.history[-1] if self.history else {}
        return (last.get("stage"), last.get("update")) == (self.stage, self.update)

    def next_stage(self, index: int, before: float) -> Progress:
        """The start of stage ``index``, ``before`` seconds after that of the training."""
        return Progress(
            stage=index,
            before=before,
            slowest=self.slowest,
            history=self.history,
            stages=self.stages,
            total_updates=self.total_updates,
            total_tokens=self.total_tokens,
            saves=self.saves,
            flops=self.flops,
        )


@dataclass(frozen=True)
class Trained:
    """What a training reports."""

    target_tokens: int
    updates: int
    epochs: float
    padding_share: float
    best_update: int
    best_dev_loss: float | None
    stages: tuple[dict[str, Any], ...]
    history: tuple[dict[str, Any], ...]
    formula_flops: float
    """Six operations for each target token and parameter that takes part in a product."""
    splits: int
    """Parts of each micro-batch that a process ran one after the other."""
    processes: int
    """How many trained together."""
