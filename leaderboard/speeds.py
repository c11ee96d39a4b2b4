"""Speeds of rows as the pages show them: side by side only where they were measured together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.results import EngineSpeed, Record, Speed, Timing
from bench.ruleset import RULES
from leaderboard.ranking import Row, Table

HEADLINES = (("pytorch", "float32"), ("ctranslate2", "int8"))
"""What a table shows unasked: the project's own decoder, and what a shipped student would run on."""
NAMES = {"pytorch": "PyTorch", "ctranslate2": "CTranslate2"}


@dataclass(frozen=True)
class Headline:
    """A row's figure for one column of a table: beam search in the best batch."""

    timing: Timing | None
    """None where there is none to show beside the others."""
    note: str
    """What the reader must know of it; empty if nothing."""
    bleu_difference: float | None = None
    """BLEU of the engine's outputs for the timed sentences, less that of the project's own in float32."""


def measured(row: Row, fingerprint: str | None = None) -> tuple[Record, Speed] | None:
    """A record of the row that has a speed, and the speed: of this fingerprint if there is one, else the newest."""
    found = [(record, record.speed) for record in row.finished if record.speed]
    return max(found, key=lambda pair: (pair[1].fingerprint == fingerprint, pair[0].created), default=None)


def together(table: Table) -> str | None:
    """The fingerprint whose speeds a table shows: that of most placed rows, or of most if no placed one has any; of
    equals the newest; None without any."""

    def of(rows: Iterable[Row]) -> list[tuple[Record, Speed]]:
        return [found for row in rows if (found := measured(row))]

    found = of(table.placed) or of(table.unplaced)
    counts = Counter(speed.fingerprint for _, speed in found)
    newest = {speed.fingerprint: record.created for record, speed in sorted(found, key=lambda pair: pair[0].created)}
    return max(counts, key=lambda each: (counts[each], newest[each]), default=None)


def engines(table: Table, fingerprint: str) -> tuple[tuple[str, str], ...]:
    """Each engine and precision that a table has a column for: those with a figure in that go, the headlines first."""
    found = {
        (each.engine, each.precision)
        for row in table.rows
        if (of := measured(row, fingerprint)) and of[1].fingerprint == fingerprint
        for each in of[1].engines
        if _best(each)
    }
    return tuple(each for each in HEADLINES if each in found) + tuple(sorted(found - set(HEADLINES)))


def headlines(row: Row, fingerprint: str, columns: Sequence[tuple[str, str]] = HEADLINES) -> tuple[Headline, ...]:
    """A row's figures for the columns of a table that shows the speeds of one fingerprint."""
    found = measured(row, fingerprint)
    if found is None:
        return tuple(Headline(None, "not measured") for _ in columns)
    speed = found[1]
    if speed.fingerprint != fingerprint:
        return tuple(Headline(None, "measured elsewhere") for _ in columns)
    return tuple(_headline(speed, engine, precision) for engine, precision in columns)


def column(engine: str, precision: str) -> str:
    """The heading of a table's column."""
    return f"Sentences/s, {NAMES[engine]}{'' if precision == 'float32' else f' {precision}'}"


def warnings(speed: Speed, timing: Timing) -> tuple[str, ...]:
    """What speaks against a timing."""
    said = [f"spread {100 * timing.spread:.0f} %"] if timing.spread > RULES.spread else []
    return (*said, *(["shared device"] if speed.shared else []))


def search(timing: Timing) -> str:
    """``greedy`` or ``beam 4``."""
    return "greedy" if timing.beam == 1 else f"beam {timing.beam}"


def _headline(speed: Speed, engine: str, precision: str) -> Headline:
    each = next((each for each in speed.engines if (each.engine, each.precision) == (engine, precision)), None)
    timing = _best(each) if each else None
    if each is None or timing is None:
        return Headline(None, "failed" if each and each.failure else "not measured")
    return Headline(timing, "; ".join(warnings(speed, timing)), each.bleu_difference)


def _best(engine: EngineSpeed) -> Timing | None:
    """Beam search in the best batch."""
    found = [timing for timing in engine.timings if timing.mode == "best batch"]
    return max(found, key=lambda timing: timing.beam, default=None)
