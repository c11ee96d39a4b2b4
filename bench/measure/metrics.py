"""Further metrics, which no table is ordered by: BLEU as older papers computed it, and COMET.

COMET, the metric of the package unbabel-comet, is not comet-ml, the tracker.
"""

from __future__ import annotations

import hashlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sacrebleu.metrics import BLEU

from bench.environment import installed
from bench.errors import UsageError, unknown_name

LEGACY_BLEU, COMET = "legacy-bleu", "comet"
COMET_BATCH = 16
"""Sentences, the package's own default."""

Scorer = Callable[[Sequence[str], Sequence[str], Sequence[str]], float]
"""From sources, hypotheses and references, sentence by sentence, to the score of the whole."""


class Metric(ABC):
    """A metric that was asked for and can be computed here."""

    legacy = False
    """Whether it is there only to be set beside older papers."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is recorded as, different for metrics whose scores cannot be compared."""

    @property
    @abstractmethod
    def signature(self) -> str:
        """All that its scores depend on, as one line."""

    @abstractmethod
    def scorer(self, device: str) -> Scorer:
        """What computes it, loaded once for all texts."""


@dataclass(frozen=True)
class LegacyBleu(Metric):
    """Lower-cased BLEU over text tokenised as by Moses' ``tokenizer.perl``, as ``multi-bleu.perl -lc`` was given it.

    For the side of older papers only: it depends on the tokenizer, which papers seldom name (Post 2018). Aggressive
    splitting of dashes and escaping are off. Languages without a list of abbreviations get the English one.
    """

    language: str
    """Of the target side."""
    legacy = True

    @property
    def name(self) -> str:
        return LEGACY_BLEU

    @cached_property
    def signature(self) -> str:
        bleu = self._bleu()
        bleu.corpus_score(["a"], [["a"]])  # only then does it know the number of references
        return f"{bleu.get_signature()}|moses:{self.language}|sacremoses:{installed('sacremoses')}"

    def scorer(self, device: str) -> Scorer:
        from sacremoses import MosesTokenizer

        moses = MosesTokenizer(lang=self.language)

        def tokenised(lines: Sequence[str]) -> list[str]:
            return [moses.tokenize(line, aggressive_dash_splits=False, escape=False, return_str=True) for line in lines]

        def scored(sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]) -> float:
            score: float = self._bleu().corpus_score(tokenised(hypotheses), [tokenised(references)]).score
            return min(100.0, score)

        return scored

    @staticmethod
    def _bleu() -> BLEU:
        return BLEU(lowercase=True, tokenize="none", force=True)


@dataclass(frozen=True)
class Comet(Metric):
    """COMET (Rei et al. 2020) with a checkpoint on this machine; nothing is downloaded.

    The tokenizer and the configuration of its encoder must be in the cache of Hugging Face, or where its settings say.
    A checkpoint is a pickle, and loading one can run any code: use only those whose origin you trust.
    """

    checkpoint: Path
    sha256: str

    @property
    def name(self) -> str:
        return f"{COMET}-{self.sha256[:8]}"

    @property
    def signature(self) -> str:
        file, version = self.checkpoint.name, installed("unbabel-comet")
        return f"comet|checkpoint:{file}|sha256:{self.sha256[:12]}|version:{version}"

    def scorer(self, device: str) -> Scorer:
        if _sha256(self.checkpoint) != self.sha256:
            raise UsageError(f"{self.checkpoint} was changed after the run had started: run it again.")
        os.environ["HF_HUB_OFFLINE"] = "1"  # transformers asks its hub even for what is told to be local
        from comet import load_from_checkpoint

        for name in ("comet", "pytorch_lightning"):  # their advice would run through the progress shown
            logging.getLogger(name).setLevel(logging.ERROR)
        model = load_from_checkpoint(str(self.checkpoint), local_files_only=True)
        index = int(device.partition(":")[2] or 0)
        place = {"gpus": 1, "devices": [index]} if device.startswith("cuda") else {"gpus": 0}

        def scored(sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]) -> float:
            triples = zip(sources, hypotheses, references, strict=True)
            samples = [dict(zip(("src", "mt", "ref"), triple)) for triple in triples]
            # A worker's process may have no children, so the text is prepared in it.
            found = model.predict(samples, batch_size=COMET_BATCH, progress_bar=False, num_workers=0, **place)
            return float(found.system_score)

        return scored


def chosen_metric(wanted: str, language: str) -> Metric:
    """The metric that ``--metric`` names: ``legacy-bleu``, or ``comet:PATH`` with a checkpoint of unbabel-comet.

    Args:
        language: the target side's.

    Raises:
        UsageError: an unknown name, or something that it needs is missing.
    """
    kind, _, path = wanted.partition(":")
    if kind == COMET:
        return _comet(path)
    if wanted != LEGACY_BLEU:
        raise unknown_name("metric", wanted, (LEGACY_BLEU, f"{COMET}:PATH"))
    if not installed("sacremoses"):
        raise UsageError(f"--metric {LEGACY_BLEU} needs sacremoses: pip install sacremoses")
    return LegacyBleu(language)


def _comet(path: str) -> Comet:
    if not path:
        raise UsageError(f"--metric {COMET} needs a checkpoint of unbabel-comet on this machine: {COMET}:PATH.")
    if not installed("unbabel-comet"):
        raise UsageError(
            f"--metric {COMET} needs unbabel-comet, the metric (not comet-ml, the tracker), in an environment with "
            "NumPy 1: pip install unbabel-comet 'setuptools<81'"
        )
    checkpoint = Path(path).absolute()
    if not checkpoint.is_file():
        raise UsageError(f"--metric {COMET}: there is no checkpoint {path!r}.")
    if not (settings := checkpoint.parent.parent / "hparams.yaml").is_file():
        raise UsageError(
            f"--metric {COMET}: there is no {settings}; unbabel-comet looks for it beside the checkpoint's folder."
        )
    return Comet(checkpoint, _sha256(checkpoint))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
