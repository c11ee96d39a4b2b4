"""What a row took: its budget, and the ledger of its phases."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.config import Frozen
from bench.results.base import LONGEST, Bytes, Count

MOST_FLOPS, MOST_JOULES = 1e30, 1e20
"""What a phase can claim: more than any computer has done."""


class BudgetRecord(Frozen):
    """What was held equal between the trained students, its limit, and what this row's training took of it."""

    kind: Literal["tokens", "wall-clock", "device-hours"]
    limit: float = Field(ge=0, description="Target tokens, seconds of training, or device-hours with all charges.")
    spent: float | None = Field(None, ge=0, description="In the same unit; None for a row that failed.")


UNCHARGED = ("measuring", "interrupted")
"""The kinds of phase that no row is charged with."""


class Phase(Frozen):
    """One piece of work behind a row.

    ``kind`` says what it is charged as: ``training`` of the row's own model, ``tuning`` (the trials behind its
    settings), ``distillation`` (what the method needed from the teacher apart from that: decoding the corpus, its
    signals on a text, or its passes during the training), ``teacher`` (its training), ``common`` (tokenizer, encoding),
    ``evaluation`` (final decoding, scoring). Two kinds are charged to nothing: ``measuring`` (timing, counting
    of operations), and ``interrupted``, what attempts that were killed, or ran out of memory, had done in vain.
    """

    name: str
    kind: Literal["training", "tuning", "distillation", "teacher", "common", "evaluation", "measuring", "interrupted"]
    seconds: float = Field(ge=0, le=LONGEST, description="Wall time.")
    devices: int = Field(1, ge=1, le=1_000_000)
    """That worked on it together."""
    target_tokens: Count | None = None
    flops: float | None = Field(
        None, ge=0, le=MOST_FLOPS, description="Floating-point operations, two for a multiply-add."
    )
    host_memory: Bytes | None = None
    """Peak bytes of the process that carried out the phase's task, or of the largest of several."""
    device_memory: Bytes | None = None
    """Peak bytes on its GPU; None on a CPU."""
    joules: float | None = Field(
        None, ge=0, le=MOST_JOULES, description="None where no meter could be read; the record says why."
    )
    shared_by: int = Field(1, ge=1, description="Rows of its run that used the phase; the page counts anew.")
    artifact: str | None = None

    @property
    def device_seconds(self) -> float:
        """Wall time times devices."""
        return self.seconds * self.devices

    @property
    def charged(self) -> float:
        """The row's share in device-seconds."""
        return 0.0 if self.kind in UNCHARGED else self.device_seconds / self.shared_by
