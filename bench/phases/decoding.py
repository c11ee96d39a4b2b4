"""What is decoded: the training text by the teacher, dev and the test sets by a finished model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.config import SearchConfig
from bench.data.batches import EncodedCorpus
from bench.data.tokenizer import Tokenizer
from bench.measure.degenerate import degenerate, length_ratio
from bench.measure.quality import score, sentence_bleu
from bench.measure.statistics import sentence_statistics, statistics_content
from bench.method import TrainingText
from bench.nmt.batch import EOS
from bench.nmt.export import load_model
from bench.nmt.model import parameter_counts
from bench.nmt.search import Hypothesis, translate_ids
from bench.phases.base import DEV, Phase, read_lines, translate, write_lines
from bench.plan import depth_of
from bench.store import write_text

TEST_ACCESS = "test-access.jsonl"
"""In the run folder: one line for each time that a test set is decoded."""


def text(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """Decode the training sources, and nothing else, with the teacher."""
    wanted = TrainingText.model_validate(phase.task.inputs["text"])
    search = SearchConfig.model_validate(phase.task.inputs["search"])
    corpus, tokenizer, ledger = phase.corpus("train"), phase.tokenizer(), phase.ledger
    sources, n_best = corpus.sources(), 1 if wanted.choose == "best" else wanted.n_best
    model = load_model(phase.need("teacher").folder).to(phase.place.device)
    phase.count_decoding("teacher decoding", model, sources, search, sources, n_best=n_best)
    with ledger.phase("teacher decoding"):
        found = translate_ids(
            model,
            sources,
            search,
            n_best=n_best,
            device=phase.place.device,
            progress=phase.progress(len(sources), "decoding"),
        )
    with ledger.phase("choosing"):
        if wanted.choose == "closest":
            references = read_lines(phase.need("corpus").folder / "train" / "target.txt")
            found = [
                [_closest(hypotheses, reference, tokenizer)]
                for hypotheses, reference in zip(found, references, strict=True)
            ]
    pairs = [(source, [*h.ids, EOS]) for source, group in zip(sources, found, strict=True) for h in group if h.ids]
    EncodedCorpus.write(folder / "train", pairs, tokenizer.size)
    outputs = [(source, h) for source, group in zip(sources, found, strict=True) for h in group]
    return {
        "pairs": len(pairs),
        "target_tokens": sum(len(target) for _, target in pairs),
        "empty": sum(not h.ids for _, h in outputs),
        "truncated": sum(len(h.ids) + 1 >= search.max_length(len(source)) for source, h in outputs),
        "over_twice_the_source": sum(len(h.ids) > 2 * len(source) for source, h in outputs),
    }


def scores(phase: Phase, folder: Path) -> Mapping[str, Any]:
    """Translate dev and the test sets, once, and score the detokenised text."""
    search = SearchConfig.model_validate(phase.task.inputs["search"])
    model = load_model(phase.need("teacher", "student").folder).truncated(depth_of(phase.task)).to(phase.place.device)
    tokenizer, corpus, ledger = phase.tokenizer(), phase.need("corpus"), phase.ledger
    sets: dict[str, Any] = {}
    # By dev text alone: test text is decoded only once.
    texts = [phase.corpus(name).sources() for name in (DEV, *corpus.details["tests"])]
    phase.count_decoding("decoding", model, texts[0], search, *texts)
    for name in (DEV, *corpus.details["tests"]):
        sources = phase.corpus(name).sources()
        if name != DEV:
            log_test_access(phase.place.store.parent, phase.task.key, name)
        with ledger.phase("decoding"):
            progress = phase.progress(len(sources), f"decoding {name}")
            lines = translate(model, tokenizer, sources, search, phase.place.device, progress)
        with ledger.phase("scoring"):
            originals, references = (read_lines(corpus.folder / name / f"{side}.txt") for side in ("source", "target"))
            statistics = sentence_statistics(lines, references)
            write_text(folder / f"{name}.tsv", statistics_content(statistics))
            sets[name] = {
                **asdict(score(lines, references)),
                "sentences": len(lines),
                "degenerate": degenerate(lines, originals, references, statistics).model_dump(),
                "length_ratio": length_ratio(statistics),
            }
        write_lines(folder / f"{name}.txt", lines)
    return {"sets": sets, "parameters": parameter_counts(model)._asdict()}


def log_test_access(runs: Path, key: str, test_set: str) -> None:
    """Note that a test set is about to be decoded for a ``scores`` artifact. Appending a line is atomic."""
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "scores": key, "set": test_set}
    with (runs / TEST_ACCESS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def test_accesses(runs: Path, key: str, test_set: str) -> list[str]:
    """When a test set was decoded for a ``scores`` artifact, as ISO times."""
    try:
        lines = (runs / TEST_ACCESS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = [json.loads(line) for line in lines if key in line and test_set in line]
    return [each["time"] for each in found if (each["scores"], each["set"]) == (key, test_set)]


def _closest(hypotheses: list[Hypothesis], reference: str, tokenizer: Tokenizer) -> Hypothesis:
    """Sequence-level interpolation: the hypothesis most like the reference; the likelier one of equals."""
    lines = tokenizer.decode([h.ids for h in hypotheses])
    return hypotheses[max(range(len(lines)), key=lambda i: (sentence_bleu(lines[i], reference), -i))]
