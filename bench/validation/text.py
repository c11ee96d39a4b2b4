"""Whether the strings of a record are what belongs there: no markup, nothing unprintable, nothing absurdly long.

Pages escape whatever they show; this keeps such strings out of the published records in the first place. Hypotheses
are not looked at: what a model writes is a finding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bench.results import Record

LONGEST_TEXT = 2_000
"""Characters of any string without a limit of its own."""
LIMITS = {
    "method.title": 120,
    "method.summary": 600,
    "method.paper.citation": 600,
    "method.paper.link": 300,
    "delivery.name": 120,
    "error_log": 100_000,
}
LOG = "error_log"
"""Shown as it was printed: it has lines, and may quote anything."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
"""Control characters, line separators, marks and overrides of the direction of text, and what is no character."""
_MARKUP = re.compile(r"<[A-Za-z/!?]|&(?:#\d+|#[xX][0-9A-Fa-f]+|[A-Za-z][A-Za-z0-9]*);|javascript:", re.IGNORECASE)
_PYTHON = re.compile(r"<(?:class '[\w.]+'|lambda|module|string|stdin|(?:[\w. ]|<locals>|<lambda>)+ at 0x[0-9A-Fa-f]+)>")
"""What Python's own messages have in angle brackets."""
_LINK = re.compile(r"https?://[^\s<>\"']+")


def foreign(record: Record) -> Iterator[str]:
    """A sentence for each string of a record, or name within its mappings, that does not belong there."""
    for name, value in _strings(record.model_dump(mode="json"), ""):
        longest = LIMITS.get(name, LONGEST_TEXT)
        if len(value) > longest:
            yield f"{name} has {len(value):,} characters, at most {longest:,} are allowed."
        shown = value.translate({ord("\n"): " ", ord("\t"): " "}) if name == LOG else value
        if found := _CONTROL.search(shown):
            yield f"{name} holds the unprintable character U+{ord(found[0]):04X}."
        if name != LOG and (found := _MARKUP.search(_PYTHON.sub("", value))):
            yield f"{name} holds markup, at {found[0]!r}."
    if (paper := record.method.paper) and not _LINK.fullmatch(paper.link):
        yield "method.paper.link is no web address."


def _strings(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """All strings below a JSON value with their dotted names; of a mapping's names, those that are not plain."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            plain = re.fullmatch(r"[\w.-]{1,200}", key)
            if not plain:
                yield f"a name within {name}", key
            yield from _strings(part, ".".join(filter(None, (name, key if plain else "?"))))
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part, name)
