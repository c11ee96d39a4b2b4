"""What maintainers say of published rows: scored again, run again, superseded, or unreliable.

The reviews of a folder of records lie in its ``reviews.toml``, which only maintainers change.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from bench.config import Frozen, explain
from bench.errors import DataError
from bench.results import Count, Name, Record
from leaderboard.recipes import canonical

FILE = "reviews.toml"
WITHDRAWN = ("unreliable", "superseded")
"""Verdicts after which a row is never ranked, the graver first."""

Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*\w[^\x00-\x1f\x7f]*$", max_length=1000)]
Day = Annotated[date, Field(strict=True)]
"""As TOML writes it, without a time."""


class Review(Frozen):
    """One verdict of a maintainer on a row, or on some of its seeds."""

    dataset: Name
    row: Name
    seeds: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """None for all."""
    verdict: Literal["re-scored", "re-run", "superseded", "unreliable"]
    by: Line
    date: Day
    note: Line
    """For the reader of the page: what was done and found."""
    content: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")] | None = None
    """Of a row that was scored or run again: what :func:`content_of` gave of it then."""
    by_row: Name | None = None
    """Of a superseded row: the one of the same data set that takes its place."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.verdict in WITHDRAWN) == (self.content is not None):
            raise ValueError(
                "a re-scored or re-run row has the content that python -m bench validate prints, and no other one has"
            )
        if (self.verdict == "superseded") != (self.by_row is not None):
            raise ValueError("a superseded row has a by_row, and no other one has")
        if self.by_row == self.row:
            raise ValueError("a row cannot be superseded by itself")
        return self

    def covers(self, record: Record, content: str) -> bool:
        """Whether it vouches for a record of its row, whose content is this now."""
        return (self.seeds is None or record.seed in self.seeds) and self.content == content

    @property
    def reason(self) -> str:
        """Why the row is not ranked, where its verdict is one of ``WITHDRAWN``; without a full stop."""
        named = f"superseded by {self.by_row}" if self.by_row else f"marked {self.verdict}"
        which = f" for seed {', '.join(map(str, self.seeds))}" if self.seeds else ""
        return f"{named}{which} ({self.by}, {self.date}): {self.note.rstrip('.')}"


def content_of(records: Iterable[Record]) -> str:
    """12 hexadecimal digits of the outputs and statistics of all finished seeds of a row, and of nothing else of it.

    A review vouches for these, not for a name or a date, which whoever writes a record chooses.
    """
    files = {
        (record.seed, file.file, file.sha256)
        for record in records
        if record.status == "ok"
        for score in record.scores.values()
        for file in score.files
    }
    return hashlib.sha256(canonical(sorted(files)).encode()).hexdigest()[:12]


Reviewed = Mapping[tuple[str, str], tuple[Review, ...]]
"""Reviews by data set and row."""


class _File(Frozen):
    review: tuple[Review, ...] = ()


def read_reviews(folder: Path) -> tuple[Review, ...]:
    """The reviews of a folder of records; none where it has no file of them.

    Raises:
        DataError: the file cannot be read, or an entry breaks a rule.
    """
    path = folder / FILE
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).review
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not TOML: {error}.") from error
    except ValidationError as error:
        raise DataError(f"{path}: {explain(error)}.") from error


def indexed(reviews: Iterable[Review]) -> Reviewed:
    """Reviews by data set and row, each row's by date."""
    found: dict[tuple[str, str], tuple[Review, ...]] = {}
    for each in sorted(reviews, key=lambda each: each.date):
        found[each.dataset, each.row] = (*found.get((each.dataset, each.row), ()), each)
    return found


def withdrawn(reviews: Sequence[Review]) -> tuple[str, ...]:
    """Why a row with these reviews is never ranked; nothing for one that may be."""
    return tuple(each.reason for verdict in WITHDRAWN for each in reviews if each.verdict == verdict)
