"""How to run a row again: the code it was made with, its data, and the command."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.results import Record
from leaderboard.catalog import Catalog

PROGRAM = ("python", "-m", "bench", "run")
SEARCHING = ("--trials", "--track", "--sampler", "--pruner", "--storage")
"""Options of a search, each with a value."""


@dataclass(frozen=True)
class Again:
    """What to enter in a clone of the repository."""

    steps: tuple[str, ...]
    """Empty where the record's command is none of this program."""
    winner: str | None
    """Trains with the settings that the search found, without searching again; None where nothing was searched for."""
    notes: tuple[str, ...]
    """What keeps these steps from being all, one sentence each."""


def again(record: Record, catalog: Catalog) -> Again:
    """The steps that make a record's row again.

    A record's command is somebody else's and will be pasted into a shell: it is taken apart, must be a call of this
    program, and is quoted anew, so that nothing in it but this program can run.
    """
    notes = tuple(_notes(record, catalog))
    words = _words(record.command)
    if words is None:
        return Again((), None, (*notes, "The record’s command is no call of this program and is not shown."))
    steps = []
    if commit := _commit(record):
        steps.append(f"git checkout {commit.group(1)}")
    steps.append("pip install -c constraints.txt .")
    if record.dataset in catalog.datasets and catalog.datasets[record.dataset].fetched:
        steps.append(f"python -m bench data fetch {record.dataset}")
    winner = shlex.join(_settled(words, record.sweep.best.values)) if record.sweep else None
    return Again((*steps, shlex.join(words)), winner, notes)


def _commit(record: Record) -> re.Match[str] | None:
    return re.fullmatch(r"([0-9a-f]{40})(-dirty)?", record.environment.git_commit or "")


def _notes(record: Record, catalog: Catalog) -> Iterator[str]:
    commit = _commit(record)
    if commit is None:
        yield f"It was made by version {record.environment.bench}, from no commit that is known."
    elif commit.group(2):
        yield "The code had been changed since that commit: the row may come out differently."
    if catalog.datasets and record.dataset not in catalog.datasets:
        yield "The data set is the user’s own: its files are needed, and the path to them before its name."
    if catalog.methods and record.role == "method" and record.method.name not in catalog.methods:
        yield "The method does not come with this program: its file is needed, in the folder given by --methods-dir."


def _words(command: str) -> list[str] | None:
    """The words of a call of this program; None if it is something else."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    return words if tuple(words[: len(PROGRAM)]) == PROGRAM and "\n" not in command else None


def _settled(words: list[str], values: Mapping[str, object]) -> list[str]:
    """The command with the values of a trial in place of the search for them."""
    kept, rest = [], iter(words)
    for word in rest:
        if word in SEARCHING:
            next(rest, None)
        else:
            kept.append(word)
    given = (f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items())
    return [*kept, "--trials", "1", *(part for each in given for part in ("--set", each))]
