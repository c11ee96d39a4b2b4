"""What records must be together: whole rows, each seed once, in the folder of their data set, nothing else there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import DataError, UsageError
from bench.records import Stored
from bench.registry import built_in_hashes
from bench.results import Record, Speed
from bench.results.cost import UNCHARGED
from bench.ruleset import RULES
from bench.validation.making import model_of
from bench.validation.record import MOST_SEEDS
from leaderboard.recipes import comparable, seeds_asked
from leaderboard.reviews import FILE as REVIEWS
from leaderboard.reviews import Review, content_of, read_reviews

PERFECT = 99.5
"""BLEU from which on outputs are little else than the references."""
LEAST_CHARGED = 0.5
"""The share of its model's time below which what is charged to a row looks too little."""
Key = tuple[str, str, int]
"""Data set, row and seed."""


@dataclass(frozen=True)
class Contents:
    """What was given to be validated, each file once, in order."""

    records: tuple[Path, ...]
    others: tuple[Path, ...]
    """Files within given folders that should belong to a record."""
    links: tuple[Path, ...]
    """Within given folders; they are not followed."""
    folders: tuple[Path, ...]


def contents(paths: Iterable[Path]) -> Contents:
    """The records, and what else lies in the folders among ``paths``.

    Raises:
        UsageError: a path does not exist.
    """
    records, others, links, folders = dict[Path, Path](), list[Path](), list[Path](), list[Path]()
    for given in paths:
        if not given.exists():
            raise UsageError(f"there is no {str(given)!r}.")
        if not given.is_dir():
            records.setdefault(given.resolve(), given)
            continue
        folders.append(given)
        for place, names, files in os.walk(given):
            names.sort()
            for path in (Path(place) / name for name in sorted((*names, *files))):
                if path.is_symlink():
                    links.append(path)
                elif path.suffix == ".json" and path.is_file():
                    records.setdefault(path.resolve(), path)
                elif path.is_file() and path != given / REVIEWS:
                    others.append(path)
    return Contents(tuple(records.values()), tuple(others), tuple(links), tuple(folders))


def row_problems(known: Mapping[Path, Stored]) -> dict[Path, tuple[str, ...]]:
    """What is wrong with the place of each record: its name, its folder, its row's other seeds, another like it or of
    the same model, and speeds said to have been measured together with its own.
    """
    first: dict[Key, Path] = {}
    models: dict[tuple[str, str], Record] = {}
    outputs: dict[tuple[str, str, str], int] = {}
    unequal = _unequal_speeds(known)
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for path, stored in known.items():
        record = stored.record
        first.setdefault(_key(record), path)
        seeds[record.dataset, record.row].add(record.seed)
    found: dict[Path, tuple[str, ...]] = {}
    for path, stored in known.items():
        record, problems = stored.record, list[str]()
        model = record.artifacts.get(model_of(record), "")
        other_record = models.setdefault((comparable(record), model), record) if model else record
        if _training(other_record) != _training(record):
            problems.append(
                f"its model is that of {other_record.row}, seed {other_record.seed}: a row and a seed are a training "
                "of their own."
            )
        if said := _outputs(record):
            seed = outputs.setdefault((record.dataset, record.row, said), record.seed)
            if seed != record.seed:
                problems.append(f"its outputs are those of seed {seed}.")
        if path.name != record.file:
            problems.append(f"the file must be called {record.file!r}.")
        if path.absolute().parent.name != record.dataset:
            problems.append(f"it is of {record.dataset!r} and must lie in the folder of that name.")
        if (other := first[_key(record)]) != path and known[other].record != record:
            problems.append(f"{other} is another record of this row and seed.")
        if missing := _missing(stored, seeds[record.dataset, record.row]):
            problems.append(
                f"of the {seeds_asked(record)} seeds of its row there is no record of {', '.join(map(str, missing))}."
            )
        if record.speed and (parts := unequal.get(record.speed.fingerprint)):
            problems.append(
                f"its speed has the fingerprint of others whose {', '.join(parts)} is not the same: they were not "
                "measured together."
            )
        found[path] = tuple(problems)
    return found


def _charged(record: Record) -> float:
    """The share of its model's own time that is charged: the rest is said to be lost to kills, or spent on counting."""
    own = [phase for phase in record.phases if phase.artifact == record.artifacts.get(model_of(record))]
    charged = sum(phase.seconds for phase in own if phase.kind not in UNCHARGED)
    return charged / whole if (whole := sum(phase.seconds for phase in own)) else 1.0


def _training(record: Record) -> tuple[str, str, int]:
    """The same for the rows that one training delivers, and for no others of a table."""
    return record.method.name, record.row.rpartition(".")[2], record.seed


def _outputs(record: Record) -> str | None:
    """The hash of a finished record's outputs; None for those so poor or so good that two models may give the same."""
    found = record.scores.get(record.primary)
    return found.hypotheses.sha256 if found and RULES.floor <= found.bleu < PERFECT else None


def _unequal_speeds(known: Mapping[Path, Stored]) -> dict[str, list[str]]:
    """What differs between the speeds of one fingerprint that one go gives to all of them, by fingerprint."""
    goes: dict[str, list[Speed]] = defaultdict(list)
    for stored in known.values():
        if speed := stored.record.speed:
            goes[speed.fingerprint].append(speed)
    found = {}
    for fingerprint, speeds in goes.items():
        parts = ("machine", "protocol", "source_sha256")
        found[fingerprint] = [
            part for part in parts if any(getattr(each, part) != getattr(speeds[0], part) for each in speeds)
        ]
    return found


def row_warnings(known: Mapping[Path, Stored]) -> dict[Path, tuple[str, ...]]:
    """Why a record that is right will not be ranked, has nothing to be compared with, or was made by other code."""
    sources = built_in_hashes()
    finished = [stored.record for stored in known.values() if stored.record.status == "ok"]
    first: dict[tuple[str, str], Record] = {}
    plain = {comparable(record) for record in finished if record.role == "baseline"}
    teachers = {record.artifacts.get("teacher") for record in finished if record.role == "teacher"}
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for record in finished:
        seeds[record.dataset, record.row].add(record.seed)
    found: dict[Path, tuple[str, ...]] = {}
    for path, stored in known.items():
        record, warnings = stored.record, list[str]()
        required = RULES.required_seeds(min(seeds_asked(record), MOST_SEEDS))
        if (count := len(seeds[record.dataset, record.row])) < required:
            warnings.append(f"{count} of the {required} seeds that a ranked row needs have finished.")
        if record.status == "ok" and record.role == "method" and comparable(record) not in plain:
            warnings.append(f"no plain student of their table has finished ({record.dataset}, {record.preset}).")
        teacher = record.artifacts.get("teacher")
        if record.status == "ok" and record.role == "method" and teacher and teacher not in teachers:
            warnings.append("no record of the teacher that it rests on has been given.")
        said = _outputs(record)
        if said and (other := first.setdefault((comparable(record), said), record)).row != record.row:
            warnings.append(f"its outputs are those of {other.row}, seed {other.seed}.")
        name = "baseline" if record.role == "teacher" else record.method.name
        if sources.get(name, record.method.source_sha256) != record.method.source_sha256:
            warnings.append(f"the file of the method {name} was another one than that of this version.")
        if again := sorted(text for text, times in record.test_access.items() if len(times) > 1):
            warnings.append(f"{', '.join(again)} was decoded more than once.")
        if record.status == "ok" and (share := _charged(record)) < LEAST_CHARGED:
            warnings.append(f"{100 * share:.0f} % of the time of its {model_of(record)} is charged to it.")
        found[path] = tuple(warnings)
    return found


def review_problems(folder: Path, known: Mapping[Path, Stored]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is wrong with a folder's reviews, and which do not count, for they are of other content of their row."""
    try:
        reviews = read_reviews(folder)
    except DataError as error:
        return (str(error),), ()
    rows: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for path, stored in known.items():
        if folder in path.parents:
            rows[stored.record.dataset, stored.record.row].append(stored.record)
    problems, warnings = list[str](), list[str]()
    for review in reviews:
        own = rows.get((review.dataset, review.row), [])
        problems += [f"{_named(review)}: there is no record of {lost}." for lost in _lost(review, own, rows)]
        if own and review.content and review.content != (present := content_of(own)):
            warnings.append(
                f"{_named(review)} does not count: it is of content {review.content}, the row's is {present}."
            )
    return tuple(problems), tuple(warnings)


def _named(review: Review) -> str:
    return f"the review of {review.dataset}/{review.row} as {review.verdict}"


def _lost(review: Review, own: list[Record], rows: Mapping[tuple[str, str], list[Record]]) -> list[str]:
    """What a review speaks of and is not there."""
    if not own:
        return [f"{review.dataset}/{review.row}"]
    lost = [f"its seed {seed}" for seed in sorted(set(review.seeds or ()) - {record.seed for record in own})]
    if review.by_row and (review.dataset, review.by_row) not in rows:
        lost.append(f"{review.dataset}/{review.by_row}")
    return lost


def _missing(stored: Stored, given: set[int]) -> list[int]:
    """The seeds that the record's run asked for and that are neither among those given nor beside it."""
    record = stored.record
    if not 1 <= seeds_asked(record) <= MOST_SEEDS:
        return []
    wanted = set(range(1, seeds_asked(record) + 1)) - given
    return sorted(seed for seed in wanted if not (stored.folder / f"{record.row}.s{seed}.json").is_file())


def _key(record: Record) -> Key:
    return record.dataset, record.row, record.seed
