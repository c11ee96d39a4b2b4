"""Names beside the marks of a chart, where they have room at every width that the page can have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

WIDTHS = (440, 700, 1000, 1400)
"""Pixels across for which names must not touch; on narrower pages they are not shown."""
CHARACTER, LINE = 6.6, 14
"""Pixels that a character takes across at most, on average, and a line up."""
LONGEST = 26
"""Characters of a name; a longer one is cut."""
MARK = 6
"""Half of a mark, in pixels."""
MOST = 24
"""Names in one chart."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True)
class Label:
    """A name and where it lies from its mark, in pixels."""

    text: str
    x: int
    y: int
    """Of its base line."""
    anchor: Literal["start", "middle", "end"]

    def box(self, x: float, y: float) -> Box:
        """What it covers beside a mark at (x, y)."""
        width = CHARACTER * len(self.text)
        left = x + self.x - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        return left, y + self.y - LINE + 3, left + width, y + self.y + 3


@dataclass(frozen=True)
class Spot:
    """A mark that may get a name: its place and the ends of its interval in per cent from left and top."""

    x: float
    y: float
    low: float
    high: float
    name: str


def place_labels(spots: Sequence[Spot], order: Sequence[int], height: int) -> dict[int, Label]:
    """The names that have room, by the number of their spot.

    Args:
        order: which spots get a name first.
        height: of the chart, in pixels.
    """
    taken: dict[int, list[Box]] = {width: [] for width in WIDTHS}
    for width in WIDTHS:
        taken[width] += [box for spot in spots for box in _own(spot, width, height)]
    found: dict[int, Label] = {}
    for number in order[:MOST]:
        spot = spots[number]
        for label in _candidates(spot.name):
            boxes = {width: label.box(spot.x * width / 100, spot.y * height / 100) for width in WIDTHS}
            if all(_inside(box, width, height) and _free(box, taken[width]) for width, box in boxes.items()):
                for width, box in boxes.items():
                    taken[width].append(box)
                found[number] = label
                break
    return found


def _candidates(name: str) -> tuple[Label, ...]:
    text = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\u2026"
    return (
        Label(text, 10, 4, "start"),
        Label(text, -10, 4, "end"),
        Label(text, 0, -10, "middle"),
        Label(text, 0, 20, "middle"),
        Label(text, -6, -12, "start"),
        Label(text, 6, -12, "end"),
        Label(text, -6, 22, "start"),
        Label(text, 6, 22, "end"),
    )


def _own(spot: Spot, width: int, height: int) -> tuple[Box, Box]:
    """What a mark and its interval cover."""
    x, y, low, high = spot.x * width / 100, spot.y * height / 100, spot.low * height / 100, spot.high * height / 100
    return (x - MARK, y - MARK, x + MARK, y + MARK), (x - 4, high, x + 4, low)


def _inside(box: Box, width: int, height: int) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height


def _free(box: Box, others: Sequence[Box]) -> bool:
    left, top, right, bottom = box
    return all(right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top for other in others)
