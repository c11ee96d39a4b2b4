"""How a training went: its curve, point by point."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from bench.config import Frozen, Positive
from bench.results.base import Count

MOST_POINTS = 500
"""Of a curve in a record; a longer one is thinned."""


class CurvePoint(Frozen):
    """One evaluation on dev. Dev losses are means per target token, in nats."""

    stage: Count
    """Of the method's stages, from 0."""
    update: Positive
    """Within the stage, from 1."""
    target_tokens: Count
    """Seen by then, over all stages."""
    dev_loss: float
    """With the recipe's label smoothing; the mean over the students delivered, as all of dev here."""
    dev_nll: float
    """Without."""
    dev_bleu: float | None = Field(None, ge=0, le=100, description="None where it does not choose the checkpoint.")
    terms: dict[str, float] = {}
    """The terms of the method's loss by name, before their weights, on the newest batch, divided by its tokens."""


def thinned(curve: Sequence[CurvePoint], most: int = MOST_POINTS) -> tuple[CurvePoint, ...]:
    """At most ``most`` points of a curve, spread evenly: first and last stay, and of each stage the best and the last.

    The best is the first with the lowest dev loss, or with the highest dev BLEU where that was measured.

    Raises:
        ValueError: these alone are more than ``most``.
    """
    if len(curve) <= most:
        return tuple(curve)
    kept = {0}
    for stage in {point.stage for point in curve}:
        own = [index for index, point in enumerate(curve) if point.stage == stage]
        kept |= {own[-1], min(own, key=lambda index: curve[index].dev_loss)}
        kept.add(max(own, key=lambda index: curve[index].dev_bleu or 0.0))
    if len(kept) > most:
        raise ValueError(f"{len(kept)} points to keep, more than {most}")
    others = [index for index in range(len(curve)) if index not in kept]
    room = most - len(kept)
    kept |= {others[number * len(others) // room] for number in range(room)}
    return tuple(curve[index] for index in sorted(kept))
