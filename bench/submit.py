"""From a finished run to files for a pull request: ``bench submit`` copies whole rows into the published store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError
from bench.further import with_speed
from bench.records import Stored, find_row, read_records
from bench.results import Record
from bench.ruleset import RULES
from bench.store import write_text
from bench.validation import Validator, Verdict
from leaderboard.recipes import comparable, seeds_asked
from leaderboard.reviews import Reviewed, indexed, read_reviews, withdrawn

ALL = "all"
Name = tuple[str, str]
"""Data set and row."""


@dataclass(frozen=True)
class Submission:
    """What was, or was not, put into the store."""

    rows: dict[Name, tuple[Path, ...]]
    """Each row's files in the store."""
    new: int
    """Files that were not there before."""
    replaced: int
    """Records whose speed took the place of an earlier one."""
    refused: tuple[str, ...]
    """Why nothing was copied; empty if all was."""
    notes: tuple[str, ...]
    """What was left out, taken along, or is missing."""
    verdicts: tuple[Verdict, ...] = ()
    """What ``validate`` found of the rows' records."""


def submit(runs: Path, queries: Sequence[str], store: Path, data_dir: Path | None = None) -> Submission:
    """Copy rows of a run, all seeds and files, into ``store``, after checking them as ``validate`` does.

    Either all rows are copied or none. Files that are there with the same content stay, so that the same command can be
    given again, and a record that has only been timed anew since takes the place of the earlier one. The plain student
    of a row's table comes along if the store has none that counts.

    Args:
        queries: rows as ``find_row`` takes them, or ``all`` for those that are complete.

    Raises:
        UsageError: no such row, or no store.
    """
    if not store.is_dir():
        raise UsageError(f"there is no folder {str(store)!r}: submit from a clone of the project, or give --results.")
    own, there = read_records([runs / "records"]).records, read_records([store]).records
    if ALL in queries and len(queries) > 1:
        raise UsageError(f"{ALL} stands alone; got {', '.join(queries)}.")
    rows = _rows(own if queries[0] == ALL else [each for query in queries for each in find_row(own, query)])
    refused, notes = list[str](), list[str]()
    for name, row in list(rows.items()):
        if reason := _incomplete(row, there):
            (notes if queries[0] == ALL else refused).append(f"{'/'.join(name)}: {reason}")
            del rows[name]
    notes += _take_plain_students(rows, own, there, indexed(read_reviews(store)))
    if not rows and not refused:
        refused.append("no row of this run is complete.")
    chosen = [each for row in rows.values() for each in row]
    verdicts = _validated(chosen, there, data_dir)
    refused += [f"{verdict.path}: {problem}" for verdict in verdicts for problem in verdict.problems]
    files = {name: [path for each in row for path in _files(each)] for name, row in rows.items()}
    places = {path: store / name[0] / path.name for name, paths in files.items() for path in paths}
    timed = _timed_anew(chosen, there)
    refused += _conflicts([each for path, each in zip(_paths(chosen), chosen) if path not in timed], store)
    notes += _told(timed.values())
    wanted = {} if refused else {path: to for path, to in places.items() if path in timed or not to.exists()}
    for path, place in wanted.items():
        write_text(place, path.read_bytes().decode("utf-8"))
    kept = {name: tuple(places[path] for path in paths) for name, paths in files.items()}
    replaced = len(wanted.keys() & timed.keys())
    return Submission(kept, len(wanted) - replaced, replaced, tuple(refused), tuple(notes), verdicts)


def described(submission: Submission, store: Path) -> list[str]:
    """What was copied, and what is left to do, as lines for the reader."""
    lines = []
    for (dataset, row), files in submission.rows.items():
        lines += [f"{dataset}/{row}: {len(files)} files", *(f"  {path}" for path in files)]
    count = sum(map(len, submission.rows.values()))
    timed = f", and {submission.replaced} have the speed of a later go" if submission.replaced else ""
    lines.append(f"{submission.new} of {count} files are new in {store}{timed}.")
    return [
        *lines,
        "next:",
        f"  python -m bench validate {store}",
        f"  git add {store}",
        '  git commit -m "Rows of ..."',
        "  git push, on a branch of your fork, and open a pull request: its checks validate the rows again.",
    ]


def _rows(records: Iterable[Stored]) -> dict[Name, list[Stored]]:
    rows: dict[Name, dict[int, Stored]] = {}
    for each in records:
        rows.setdefault((each.record.dataset, each.record.row), {})[each.record.seed] = each
    return {name: list(seeds.values()) for name, seeds in rows.items()}


def _incomplete(row: Sequence[Stored], there: Sequence[Stored]) -> str | None:
    """Why a row would not be ranked once it is in the store, whose own seeds of it count too."""
    name = (row[0].record.dataset, row[0].record.row)
    known = [each.record for each in (*row, *there) if (each.record.dataset, each.record.row) == name]
    finished = {record.seed for record in known if record.status == "ok"}
    required = max(RULES.required_seeds(seeds_asked(record)) for record in known)
    if len(finished) >= required:
        return None
    failed = [f"seed {record.seed} failed: {record.reason}" for record in known if record.status == "failed"]
    return "; ".join([f"{len(finished)} of the {required} seeds that a ranked row needs have finished", *failed]) + "."


def _take_plain_students(
    rows: dict[Name, list[Stored]], own: Sequence[Stored], there: Sequence[Stored], reviewed: Reviewed
) -> list[str]:
    """Add to ``rows`` the plain student of each of their tables that has none in the store, and tell of it.

    One that a review has withdrawn is none: nothing is compared with it.
    """
    notes = []
    for table, sample in {comparable(row[0].record): row[0].record for row in rows.values()}.items():

        def plain(record: Record, table: str = table) -> bool:
            counts = not withdrawn(reviewed.get((record.dataset, record.row), ()))
            return counts and record.role == "baseline" and record.status == "ok" and comparable(record) == table

        chosen = (each for row in rows.values() for each in row)
        if any(plain(each.record) for each in (*chosen, *there)):
            continue
        found = [row for row in _rows(own).values() if plain(row[0].record) and not _incomplete(row, there)]
        if found:
            record = found[0][0].record
            rows[record.dataset, record.row] = found[0]
            notes.append(f"{record.dataset}/{record.row} comes along: it is the plain student of the table.")
        else:
            notes.append(
                f"{sample.dataset}, {sample.preset}: neither the store nor this run has a complete plain student of "
                "this table, so there is nothing to compare its rows with."
            )
    return notes


def _paths(records: Iterable[Stored]) -> list[Path]:
    return [each.folder / each.record.file for each in records]


def _key(record: Record) -> tuple[str, str, int]:
    return record.dataset, record.row, record.seed


def _validated(chosen: Sequence[Stored], there: Sequence[Stored], data_dir: Path | None) -> tuple[Verdict, ...]:
    """What ``validate`` finds of the records, beside the other seeds of their rows that the store has."""
    if not chosen:
        return ()
    paths, given = _paths(chosen), {_key(each.record) for each in chosen}
    rows = {key[:2] for key in given}
    beside = [each for each in there if _key(each.record)[:2] in rows and _key(each.record) not in given]
    return tuple(
        verdict for verdict in Validator(data_dir).validate([*paths, *_paths(beside)]) if verdict.path in paths
    )


def _timed_anew(chosen: Sequence[Stored], there: Iterable[Stored]) -> dict[Path, Stored]:
    """By path, the records of which the store has what they were before a later go of timing.

    Each run times all rows of its table anew and writes that into the records of their first seeds
    (``bench.timing.record_speed``): speed, its phase and wall time, and when the record was written. Nothing else.
    """
    stored = {_key(each.record): each.record for each in there}
    found = {}
    for path, each in zip(_paths(chosen), chosen):
        earlier = stored.get(_key(each.record))
        if earlier is None or earlier.created >= each.record.created:
            continue
        untimed = with_speed(earlier, None).model_copy(update={"created": each.record.created})
        if untimed == with_speed(each.record, None):
            found[path] = each
    return found


def _told(timed: Iterable[Stored]) -> list[str]:
    seeds: dict[str, list[str]] = {}
    for each in timed:
        seeds.setdefault(f"{each.record.dataset}/{each.record.row}", []).append(str(each.record.seed))
    return [
        f"{name}, seed {', '.join(which)}: the speed takes the place of the store’s, which was measured earlier."
        for name, which in seeds.items()
    ]


def _files(stored: Stored) -> list[Path]:
    """A record's files, itself last, so that no record is ever seen without what it names."""
    names = [file.file for score in stored.record.scores.values() for file in score.files]
    return [stored.folder / name for name in (*names, stored.record.file)]


def _conflicts(chosen: Iterable[Stored], store: Path) -> list[str]:
    """Records that the store has otherwise: nobody's figures are replaced in passing."""
    problems = []
    for each in chosen:
        record, folder = each.record, store / each.record.dataset
        if any(
            (folder / path.name).exists() and (folder / path.name).read_bytes() != path.read_bytes()
            for path in _files(each)
            if path.exists()
        ):
            problems.append(
                f"{folder / record.file}: the store has another record of this row and seed. Keep it, or, where yours "
                f"is to take its place, remove it first (git rm '{folder}/{record.row}.s{record.seed}.*') and say why "
                "in the commit."
            )
    return problems
