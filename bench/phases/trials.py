"""What a trial is judged by, and what a sweep comes to."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.config import Depth, SearchConfig
from bench.measure.quality import score
from bench.nmt.export import load_model
from bench.phases.base import DEV, Phase, PhaseError, read_lines, translate
from bench.results import Trial, best_trial


def dev(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """Translate dev text with every student delivered: what a trial is judged by."""
    search = SearchConfig.model_validate(phase.task.inputs["search"])
    model = load_model(phase.need("student").folder)
    tokenizer, sources, ledger = phase.tokenizer(), phase.corpus(DEV).sources(), phase.ledger
    references = read_lines(phase.need("corpus").folder / DEV / "target.txt")
    bleus = []
    for number, depth in enumerate(phase.task.inputs["depths"]):
        progress = phase.progress(len(sources), f"decoding dev {number + 1}/{len(phase.task.inputs['depths'])}")
        cut = model.truncated(Depth(*depth)).to(phase.place.device)
        phase.count_decoding("decoding", cut, sources, search, sources)
        with ledger.phase("decoding"):
            lines = translate(cut, tokenizer, sources, search, phase.place.device, progress)
        with ledger.phase("scoring"):
            bleus.append(score(lines, references).bleu)
    return {"bleu": statistics.fmean(bleus), "bleus": bleus}


def sweep(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """Write down what came of all trials, as the driver's study has it, and the winner's values."""
    study: dict[str, Any] = phase.attempt.given
    if "cause" in study:
        raise PhaseError(study["cause"], study["state"])
    trials = [Trial.model_validate(trial) for trial in study["trials"]]
    if (winner := best_trial(trials)) is None:
        first = trials[0]
        raise PhaseError(f"every trial failed, {len(trials)} of {len(trials)}; the first: {first.reason}", first.state)
    return {**study, "winner": winner.number, "point": dict(winner.values)}
