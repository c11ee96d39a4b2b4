"""The teacher's signals: its distributions on a training text, kept once for all students, trials and epochs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.batches import evaluation_batches
from bench.data.signals import SignalsWriter
from bench.measure.flops import counted
from bench.method import Runner
from bench.nmt.export import load_model
from bench.phases.base import COUNTING, Phase

BATCH_TOKENS = 2048
"""Padded tokens in a batch, so that a corpus of any size needs no more memory than training does."""
SIGNALS = "teacher signals"


def signals(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """Run the frozen teacher once over a training text, with gold prefixes and in fp32."""
    inputs, ledger, device = phase.task.inputs, phase.ledger, phase.place.device
    text = phase.training_text(inputs["text"])
    model = load_model(phase.need("teacher").folder).to(device)
    teacher = Runner(model, frozen=True)
    writer = SignalsWriter(folder, text.target_tokens, model.vocabulary, inputs["top_k"])
    batches = evaluation_batches(text.lengths, BATCH_TOKENS)
    progress, done = phase.progress(text.target_tokens, "running the teacher"), 0

    def run(rows: NDArray[np.int64]) -> int:
        places = text.places(rows)
        writer.write(places, teacher.forward(text.batch(rows).to(device)).logits)
        return len(places)

    with ledger.phase(COUNTING):
        middle = batches[len(batches) // 2]
        flops = counted(lambda: run(middle)) * text.target_tokens / len(text.places(middle))
    ledger.add_flops(SIGNALS, flops)
    with ledger.phase(SIGNALS):
        for rows in batches:
            done += run(rows)
            if progress:
                progress(done)
        size = writer.finish()
    return {"target_tokens": text.target_tokens, "bytes": size}
