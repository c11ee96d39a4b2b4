"""The record of one row and seed: its schema."""

from bench.results.base import LONGEST, Count, Label, Name, Sha256, State
from bench.results.cost import BudgetRecord, Phase
from bench.results.curve import CurvePoint, thinned
from bench.results.quality import (
    Degenerate,
    FurtherScore,
    Score,
    StoredFile,
    file_content,
    hypotheses_file,
    statistics_file,
)
from bench.results.record import (
    SCHEMA_VERSION,
    DeliveryRecord,
    Environment,
    MethodRecord,
    PaperRecord,
    Parameters,
    Record,
    Training,
    row_id,
)
from bench.results.speed import EngineSpeed, Latency, Speed, Timing
from bench.results.sweep import Sweep, Trial, best_trial, shared_part

__all__ = [
    "LONGEST",
    "SCHEMA_VERSION",
    "BudgetRecord",
    "Count",
    "CurvePoint",
    "Degenerate",
    "DeliveryRecord",
    "EngineSpeed",
    "Environment",
    "FurtherScore",
    "Label",
    "Latency",
    "MethodRecord",
    "Name",
    "PaperRecord",
    "Parameters",
    "Phase",
    "Record",
    "Score",
    "Sha256",
    "Speed",
    "State",
    "StoredFile",
    "Sweep",
    "Timing",
    "Training",
    "Trial",
    "best_trial",
    "file_content",
    "hypotheses_file",
    "row_id",
    "shared_part",
    "statistics_file",
    "thinned",
]
