"""How fast a row translates, by the protocol of ``bench.measure.speed``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.config import Frozen, Positive
from bench.results.base import LONGEST, Bytes, Count, Label, Sha256

MOST = 1e12
"""That a rate or a ratio can claim."""


class Latency(Frozen):
    """Milliseconds from a sentence to its translation, over all sentences of all passes."""

    p50: float = Field(gt=0, le=LONGEST)
    p90: float = Field(gt=0, le=LONGEST)
    p99: float = Field(gt=0, le=LONGEST)


Mode = Literal["fixed batch", "best batch", "one sentence"]


class Timing(Frozen):
    """Repeated passes over the source file in one way; rates are those of the median pass."""

    beam: Positive
    """1 is greedy."""
    mode: Mode
    batch_tokens: Count
    """Source pieces in a batch at most; 0 for one sentence at a time."""
    passes: Positive
    """Of all rounds, after those that warmed up."""
    seconds: float = Field(gt=0, le=LONGEST, description="Of the median pass.")
    spread: float = Field(ge=0, le=MOST, description="Slowest less fastest round, by the median.")
    source_words: float = Field(ge=0, le=MOST, description="A second.")
    target_tokens: float = Field(ge=0, le=MOST, description="A second; pieces with the end of sentence.")
    sentences: float = Field(ge=0, le=MOST, description="A second.")
    latency: Latency | None = None
    signature: str
    """All that the figure depends on, as one line."""


class EngineSpeed(Frozen):
    """One engine at one precision."""

    engine: Literal["pytorch", "ctranslate2"]
    precision: Label
    timings: tuple[Timing, ...] = ()
    equal_outputs: float | None = Field(None, ge=0, le=1)
    """Share of the sentences for which it gives what the project's decoder gives in fp32 (beam search)."""
    bleu_difference: float | None = Field(None, ge=-100, le=100)
    """Its BLEU on the source file less that of the project's decoder in fp32 (beam search)."""
    length_ratio: float | None = Field(None, ge=0, le=MOST)
    """Target pieces by source pieces (beam search)."""
    disk_bytes: Bytes | None = None
    host_memory: Bytes | None = None
    """Peak bytes of the process that translated."""
    device_memory: Bytes | None = None
    """Peak bytes on the GPU; None on a CPU."""
    failure: str | None = None
    """Why there are no figures."""


class Speed(Frozen):
    """The speed of one row's student, of one seed. Rows with the same ``fingerprint`` can be compared, others not."""

    fingerprint: Sha256
    """Of the machine, the versions, the protocol, and the go in which the rows were measured together."""
    machine: dict[str, str]
    protocol: dict[str, int | float | str]
    source_sha256: Sha256
    """Of the source file."""
    shared: str | None
    """What else ran on the device meanwhile; None if nothing was seen."""
    engines: tuple[EngineSpeed, ...]
