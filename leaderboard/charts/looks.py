"""How the rows of a table look in all of its charts: one colour and mark for all rows of one training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leaderboard.ranking import Row, runs

MARKS = (
    "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0z",
    "M-4,-4h8v8h-8z",
    "M0,-5.5l5.2,9h-10.4z",
    "M0,-5.8l5.8,5.8l-5.8,5.8l-5.8,-5.8z",
    "M0,5.5l5.2,-9h-10.4z",
    "M-2,-5.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5z",
)
"""SVG paths around the origin: circle, square, triangle, diamond, triangle upside down, cross."""
COLOURS = 5
"""Classes ``colour-0`` and on of the style sheet; with 6 marks they make 30 looks distinct."""


@dataclass(frozen=True)
class Look:
    """A class of the style sheet and a mark."""

    style: str
    mark: str


@dataclass(frozen=True)
class Entry:
    """A line of a legend."""

    look: Look
    rows: tuple[Row, ...]
    name: str
    figure: str = ""


PLAIN, TEACHER = Look("plain", MARKS[0]), Look("plain", MARKS[3])
"""Of the rows of reference: hollow, the plain student's a circle, the teacher's a diamond."""


def numbered(number: int) -> Look:
    """One of the 30 looks; after these they come again."""
    return Look(f"colour-{number % COLOURS}", MARKS[number % len(MARKS)])


def look_alone(row: Row) -> Look:
    """Of a row on a page of its own."""
    return {"baseline": PLAIN, "teacher": TEACHER}.get(row.sample.role) or numbered(0)


def families(rows: Sequence[Row]) -> tuple[tuple[Row, ...], ...]:
    """The rows by the training runs that they came out of, in their order; most families are of one row."""
    found: list[list[Row]] = []
    place: dict[str, int] = {}
    for row in rows:
        own = runs(row)
        number = next((place[run] for run in sorted(own) if run in place), len(found))
        if number == len(found):
            found.append([])
        found[number].append(row)
        place |= dict.fromkeys(own, number)
    return tuple(map(tuple, found))


def looks(rows: Sequence[Row]) -> Mapping[str, Look]:
    """The look of each row, by its id."""
    found: dict[str, Look] = {}
    number = 0
    for family in families(rows):
        method = family[0].sample.role == "method"
        look = numbered(number) if method else look_alone(family[0])
        number += method
        found |= {row.sample.row: look for row in family}
    return found


def legend(rows: Sequence[Row], looks: Mapping[str, Look]) -> tuple[Entry, ...]:
    """An entry for each training run behind the rows, as many as there are looks."""
    found = [Entry(looks[family[0].sample.row], family, family_name(family)) for family in families(rows)]
    return tuple(found[: COLOURS * len(MARKS)])


def full_name(row: Row) -> str:
    """Title, depth, and what sets the row apart: ``AIO-KD 4-2, alpha = 0.3``."""
    return ", ".join([f"{row.sample.method.title} {row.sample.delivery.depth}", *row.own])


def family_name(family: Sequence[Row]) -> str:
    """The title alone where one run gave several students."""
    return full_name(family[0]) if len(family) == 1 else run_name(family[0])


def run_name(row: Row) -> str:
    """Of all that came out of the row's run, or of its sweep: title, and what sets it apart."""
    return ", ".join([row.sample.method.title, *row.own])
