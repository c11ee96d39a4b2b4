"""How to run a row again: the code it was made with, its data, and the command."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.results import Record
from leaderboard.catalog import Catalog

PROGRAM = ("python", "-m", "bench", "run")
SEARCHING = ("--trials", "--track", "--sampler", "--pruner")
"""Options of a search."""

_NAME = r"[A-Za-z0-9][\w.-]{0,159}"
_NUMBER = r"[0-9]{1,20}"
OPTIONS = {
    "--methods": rf"{_NAME}(,{_NAME})*",
    "--dataset": _NAME,
    "--langs": r"[\w-]{1,60},[\w-]{1,60}",
    "--preset": _NAME,
    "--device": r"(auto|cpu|cuda)(:[0-9]{1,3})?",
    "--seeds": _NUMBER,
    "--trials": _NUMBER,
    "--track": "official|open",
    "--sampler": r"[a-z]{1,20}",
    "--pruner": r"[a-z]{1,20}",
    "--workers": r"[1-9][0-9]{0,2}",
    "--processes": _NUMBER,
    "--budget": r"(tokens|wall-clock|device-hours)(:[0-9.e+-]{1,30})?",
    "--teacher-signals": "exact|cached",
    "--metric": rf"[a-z][a-z-]{{0,59}}(:{_NAME})?",
    "--set": r"\w+(\.\w+)*=.*",
}
"""What the recorder writes into a command, and what its values look like: names and numbers, no address, no folder.
All else that the program takes can reach other machines, other files or other people's code.
"""


@dataclass(frozen=True)
class Again:
    """What to enter in a clone of the repository."""

    steps: tuple[str, ...]
    """Empty where the record's command is none that the program writes."""
    winner: str | None
    """Trains with the settings that the search found, without searching again; None where nothing was searched for."""
    notes: tuple[str, ...]
    """What keeps these steps from being all, one sentence each."""


def again(record: Record, catalog: Catalog) -> Again:
    """The steps that make a record's row again.

    A record's command is somebody else's and will be pasted into a shell: it is taken apart, must be a call of this
    program with what the program itself would have written, and is quoted anew.
    """
    notes = list(_notes(record, catalog))
    try:
        given = options_of(record.command)
        values = record.sweep.best.values if record.sweep else {}
        found = [("--set", _assigned(name, value)) for name, value in values.items()]
        _check(found)
    except ForeignError as error:
        return Again((), None, (*notes, f"The record’s command is not shown: {error}."))
    shown = [(name, value) for name, value in given if not (name == "--metric" and ":" in value)]
    if len(shown) < len(given):
        notes.append(
            "It has a further score by a checkpoint, which is left out of the command: loading somebody else’s can run "
            "any code."
        )
    steps = []
    if commit := _commit(record):
        steps.append(f"git checkout {commit.group(1)}")
    steps.append("pip install -c constraints.txt .")
    if record.dataset in catalog.datasets and catalog.datasets[record.dataset].fetched:
        steps.append(f"python -m bench data fetch {record.dataset}")
    winner = None
    if record.sweep:
        kept = [(name, value) for name, value in shown if name not in SEARCHING]
        winner = _line([*kept, ("--trials", "1"), *found])
    return Again((*steps, _line(shown)), winner, tuple(notes))


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


class ForeignError(Exception):
    """Why a command is none that the program writes into a record, as the end of a sentence."""


def options_of(command: str) -> list[tuple[str, str]]:
    """The options of a recorded command with their values, as ``--name value`` or ``--name=value``.

    Raises:
        ForeignError: it is something else than such a command.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if tuple(words[: len(PROGRAM)]) != PROGRAM or not command.isprintable():
        raise ForeignError("it is no call of this program")
    found, rest = list[tuple[str, str]](), iter(words[len(PROGRAM) :])
    for word in rest:
        name, equals, value = word.partition("=")
        found.append((name, value if equals else next(rest, "")))
    _check(found)
    return found


def _check(options: Iterable[tuple[str, str]]) -> None:
    for name, value in options:
        if name not in OPTIONS:
            raise ForeignError("it has more in it than the program writes into a record")
        if not re.fullmatch(OPTIONS[name], value, re.ASCII if name != "--set" else 0) or not value.isprintable():
            raise ForeignError(f"its {name} has a value that the program does not write into a record")


def _assigned(name: str, value: object) -> str:
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def _line(options: Iterable[tuple[str, str]]) -> str:
    return shlex.join([*PROGRAM, *(part for option in options for part in option)])
