"""Translation quality by sacreBLEU on detokenised text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU, CHRF

_SENTENCE_BLEU = BLEU(smooth_method="exp", effective_order=True)


@dataclass(frozen=True)
class Quality:
    """Corpus BLEU (13a tokenisation) and chrF2, 0 to 100, each with the signature that makes it reproducible."""

    bleu: float
    bleu_signature: str
    chrf: float
    chrf_signature: str


def score(hypotheses: Sequence[str], references: Sequence[str]) -> Quality:
    """Score detokenised ``hypotheses`` against one reference each (Papineni et al. 2002; Popović 2015; Post 2018).

    Raises:
        ValueError: no sentences, or unequal numbers of them.
    """
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    bleu, chrf = BLEU(), CHRF()
    # sacreBLEU's mean of logarithms can end a hair above 100 for a perfect corpus.
    return Quality(
        bleu=min(100.0, bleu.corpus_score(hypotheses, [references]).score),
        bleu_signature=str(bleu.get_signature()),
        chrf=min(100.0, chrf.corpus_score(hypotheses, [references]).score),
        chrf_signature=str(chrf.get_signature()),
    )


def sentence_bleu(hypothesis: str, reference: str) -> float:
    """Smoothed sentence BLEU, 0 to 100, which picks the hypothesis of an n-best list that is closest to the reference.

    Exponential smoothing, and only the n-gram orders that the hypothesis has (sequence-level interpolation, Kim &
    Rush 2016, section 3.3, leaves the smoothing open).
    """
    return min(100.0, _SENTENCE_BLEU.sentence_score(hypothesis, [reference]).score)
