"""What a training amounted to, and its curve, as its artifact has them."""

from __future__ import annotations

import json
from pathlib import Path

from bench.results import CurvePoint, Training, thinned
from bench.store import Artifact

HISTORY = "history.json"
"""The file of a training's evaluations, in its artifact."""
TERM = "train_"
"""How the names of the loss's terms begin in a history."""


def training_of(model: Artifact) -> Training:
    """What the training of a model amounted to, for its record.

    Raises:
        OSError: its history cannot be read.
    """
    values = {name: value for name, value in model.details.items() if name in Training.model_fields}
    return Training(**values, curve=thinned(read_curve(model.folder / HISTORY)))


def read_curve(history: Path) -> tuple[CurvePoint, ...]:
    """All evaluations of a training. Its history counts target tokens anew in each stage; a curve counts on.

    Raises:
        OSError: it cannot be read.
    """
    found: list[CurvePoint] = []
    before = last = stage = 0
    for values in json.loads(history.read_text(encoding="utf-8")):
        if values["stage"] != stage:
            before, stage = last, values["stage"]
        last = before + values["tokens"]
        own = {name: values[name] for name in ("stage", "update", "dev_loss", "dev_nll", "dev_bleu") if name in values}
        terms = {name.removeprefix(TERM): value for name, value in values.items() if name.startswith(TERM)}
        found.append(CurvePoint(**own, target_tokens=last, terms=terms))
    return tuple(found)
