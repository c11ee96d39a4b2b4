"""Goes through files and folders of records and says what is wrong with which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.errors import DataError, UsageError
from bench.records import Stored, parse_record
from bench.texts import Texts
from bench.validation.folder import Contents, contents, review_problems, row_problems, row_warnings
from bench.validation.record import Check
from leaderboard.recipes import seeds_asked
from leaderboard.reviews import FILE as REVIEWS
from leaderboard.reviews import content_of
from leaderboard.text import one_line


@dataclass(frozen=True)
class Verdict:
    """What was found of one file."""

    path: Path
    problems: tuple[str, ...]
    """Why it is refused, one sentence each; empty for one that passes."""
    skipped: tuple[str, ...] = ()
    """What could not be checked, and why."""
    warnings: tuple[str, ...] = ()
    """What the reader should know, though nothing is refused for it."""
    row: str | None = None
    """``DATASET/ROW``; None for what is no record."""
    seed: int | None = None
    rescored: bool = False
    """Whether all its scores were computed again from outputs and references, and are right."""
    content: str | None = None
    """Of its row, as reviews have it, where the whole row was given and scored again."""


@dataclass
class Validator:
    """Checks records; a data set is read once for all of them."""

    data_dir: Path | None = None
    _texts: Texts = field(init=False)

    def __post_init__(self) -> None:
        self._texts = Texts(self.data_dir)

    def validate(self, paths: Iterable[Path]) -> tuple[Verdict, ...]:
        """What is found of each record among files and below folders; of folders, also of what else lies in them.

        Raises:
            UsageError: a path does not exist, or there is no record under any of them.
        """
        paths = list(paths)
        found = contents(paths)
        if not found.records:
            raise UsageError("there is no record, that is, no .json file, under what was given.")
        read = {path: _parsed(path) for path in found.records}
        known = {path: stored for path, stored in read.items() if isinstance(stored, Stored)}
        rows = row_problems(known)
        warned = row_warnings(known) if any(path.is_dir() for path in paths) else {}
        verdicts = []
        for path, stored in read.items():
            if isinstance(stored, str):
                verdicts.append(Verdict(path, (stored,)))
            else:
                verdicts.append(self._verdict(path, stored, rows[path], warned.get(path, ())))
        return (*_with_content(verdicts, known), *_others(found, known))

    def _verdict(self, path: Path, stored: Stored, problems: Sequence[str], warnings: tuple[str, ...]) -> Verdict:
        record = stored.record
        check = Check(stored, self._texts.get(record.dataset))
        problems = (*problems, *check.problems())
        row, rescored = f"{record.dataset}/{record.row}", check.rescored and not problems
        return Verdict(path, problems, tuple(check.skipped()), warnings, row, record.seed, rescored)


def summary(verdicts: Sequence[Verdict]) -> list[str]:
    """A line for each refused file, each reason of a warning or why something was not checked, and each row that was
    scored again; and one for all records.
    """
    records = [verdict for verdict in verdicts if verdict.path.suffix == ".json"]
    lines = [f"refused: {each.path}: {' '.join(each.problems)}" for each in verdicts if each.problems]
    for word, said in (
        ("warning", [warning for verdict in verdicts for warning in verdict.warnings]),
        ("not checked", [reason for verdict in verdicts for reason in verdict.skipped]),
    ):
        lines += [f"{word}: of {said.count(reason)} records, {reason}" for reason in dict.fromkeys(said)]
    rows: dict[str, list[Verdict]] = {}
    for verdict in records:
        if verdict.row and verdict.rescored:
            rows.setdefault(verdict.row, []).append(verdict)
    for row, each in rows.items():
        content = f", content {each[0].content}" if each[0].content else ""
        lines.append(f"scored again: {row}, seeds {', '.join(str(v.seed) for v in each)}{content}")
    lines = [one_line(line) for line in lines]  # no string of a record must look like a line of ours
    return [*lines, f"{sum(not verdict.problems for verdict in records)} of {len(records)} records pass."]


def _parsed(path: Path) -> Stored | str:
    """A record, or why it is none."""
    try:
        return Stored(parse_record(path.read_bytes()), path.parent)
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error.strerror}."


def _with_content(verdicts: Iterable[Verdict], known: Mapping[Path, Stored]) -> Iterator[Verdict]:
    """The verdicts with the content of rows whose finished seeds were all scored again: what a review may vouch for."""
    verdicts = list(verdicts)
    rows: dict[str | None, list[Verdict]] = {}
    for verdict in verdicts:
        rows.setdefault(verdict.row, []).append(verdict)
    contents = dict[str | None, str]()
    for row, each in rows.items():
        records = [known[verdict.path].record for verdict in each if verdict.path in known]
        finished = {record.seed for record in records if record.status == "ok"}
        whole = records and len({record.seed for record in records}) >= max(map(seeds_asked, records))
        if whole and finished == {verdict.seed for verdict in each if verdict.rescored}:
            contents[row] = content_of(records)
    return (replace(verdict, content=contents.get(verdict.row)) for verdict in verdicts)


def _others(found: Contents, known: Mapping[Path, Stored]) -> list[Verdict]:
    """What is found of files that are no records."""
    named = {stored.folder / file.file for stored in known.values() for score in stored.record.scores.values()
             for file in score.files}  # fmt: skip
    unread = [path.with_suffix("") for path in found.records if path not in known]
    strays = [
        path
        for path in found.others
        if path not in named and not any(str(path).startswith(f"{record}.") for record in unread)
    ]
    verdicts = [Verdict(path, ("it belongs to no record.",)) for path in strays]
    verdicts += [Verdict(path, ("it is a link, and only plain files are taken.",)) for path in found.links]
    for folder in found.folders:
        problems, warnings = review_problems(folder, known)
        if problems or warnings:
            verdicts.append(Verdict(folder / REVIEWS, problems, warnings=warnings))
    return verdicts
