"""Further metrics of what a row has translated already: nothing is decoded for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.phases.base import Phase, PhaseError, read_lines


def metric(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """Score the stored hypotheses of dev and the test sets by a further metric."""
    name, ledger = phase.task.inputs["metric"], phase.ledger
    chosen = next(each for each in phase.place.metrics if each.name == name)
    hypotheses, corpus = phase.need("scores"), phase.need("corpus").folder
    values: dict[str, float] = {}
    with ledger.phase("loading"):
        score = chosen.scorer(phase.place.device)
    with ledger.phase("scoring"):
        for done, test_set in enumerate(hypotheses.details["sets"]):
            if phase.report:
                phase.report(done, len(hypotheses.details["sets"]), f"scoring {test_set}")
            sources, references = (read_lines(corpus / test_set / f"{side}.txt") for side in ("source", "target"))
            values[test_set] = score(sources, read_lines(hypotheses.folder / f"{test_set}.txt"), references)
            if not math.isfinite(values[test_set]):
                raise PhaseError(f"{name} of {test_set} is {values[test_set]}", "not finite")
    return {
        "further": {"name": name, "signature": chosen.signature, "legacy": chosen.legacy},
        "values": values,
    }
