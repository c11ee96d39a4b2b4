"""The static leaderboard: pages that open from disk without a network and trust no string of a record."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench.errors import DataError, UsageError
from bench.records import Stored
from bench.results import Record
from bench.ruleset import RULES
from leaderboard import speeds, text
from leaderboard.comparison import differences
from leaderboard.costs import Factors
from leaderboard.plots import dot_plot, tuning_plot
from leaderboard.quality import KINDS, counted, further_scores, shares, warnings
from leaderboard.ranking import Row, aggregate
from leaderboard.recipes import flatten
from leaderboard.sweeps import curves, extent, shared_values, shown_trials, value_names

TEMPLATES = Path(__file__).with_name("templates")
PARTS = ("index.html", "rows", "hypotheses", "records")
"""All that a site consists of; a folder with anything else in it is never replaced."""
FILE_NAME = 255
"""Bytes that a file's name can have."""
NO_FACTORS = Factors()
ROWS = 1_000_000
"""More rows than any run has: a phase that claims to be shared by more is no figure to show."""
SHOWN_SENTENCES = 500
"""How many sentences a page of hypotheses shows; the files hold all."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, halves of characters, and what would turn the direction of the text that follows."""


@dataclass(frozen=True)
class Outputs:
    """The hypotheses of a row on one test set, seed by seed."""

    test_set: str
    files: tuple[tuple[int, str], ...]
    """Seed and file name."""
    lines: tuple[tuple[str, ...], ...]
    """Sentence by sentence, the seeds' hypotheses."""
    page: str


def build(records: Iterable[Stored], out: Path, *, notes: Sequence[str] = (), factors: Factors = NO_FACTORS) -> Path:
    """Write the site to the folder ``out`` and return its ``index.html``.

    The site is built beside ``out`` and takes its place whole; an earlier site there is replaced.

    Args:
        notes: sentences for the reader, such as what could not be read.
        factors: what the user states of the price of energy and devices.

    Raises:
        UsageError: ``out`` holds something else than a site.
    """
    told, stored = list(notes), dict[tuple[str, str, int], Stored]()
    for each in records:
        if reason := _unfit(each.record):
            told.append(f"{each.record.dataset}/{each.record.row}: a record was left out, for {reason}.")
        else:
            stored[each.record.dataset, each.record.row, each.record.seed] = each
    out = out.resolve()
    _refuse_foreign(out)
    work = out.with_name(f".{out.name}.{os.getpid()}.new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        _write_site(work, stored, told, factors)
        _swap(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out / "index.html"


def _unfit(record: Record) -> str | None:
    """Which number of a record, valid as it is, no page can be made of."""
    if len(record.file) > FILE_NAME:
        return "its seed is too long a number"
    if any(phase.shared_by > ROWS for phase in record.phases):
        return f"it claims that more than {ROWS:,} rows share a phase"
    return None


def _write_site(work: Path, stored: dict[tuple[str, str, int], Stored], notes: list[str], factors: Factors) -> None:
    pages = _environment()
    pages.globals["factors"] = factors
    tables = aggregate(each.record for each in stored.values())
    found = [differences(table, stored) for table in tables]
    for table, differing in zip(tables, found):
        for row in table.rows:
            members = [stored[record.dataset, record.row, record.seed] for record in row.records]
            outputs = _write_files(work, row, members, notes)
            for output in outputs:
                _render(
                    pages, "hypotheses.html", work / output.page, root="../../", table=table, row=row, output=output
                )
            shown = {"table": table, "row": row, "outputs": outputs, "differences": differing}
            _render(pages, "row.html", work / row_page(row), root="../../", **shown)
    newest = max((each.record.created for each in stored.values()), default=None)
    known = {"tables": tables, "differences": found, "notes": notes, "newest": newest}
    _render(pages, "index.html", work / "index.html", root="", **known)


def row_page(row: Row) -> str:
    """The address of a row's page within the site."""
    return f"rows/{row.sample.dataset}/{row.sample.row}.html"


def _write_files(work: Path, row: Row, members: Sequence[Stored], notes: list[str]) -> list[Outputs]:
    """Copy a row's records and its hypotheses, and gather the latter; files that fail their check are noted."""
    by_set: dict[str, list[tuple[int, str, list[str]]]] = {}
    for member in members:
        record = member.record
        _write(work / "records" / record.dataset / record.file, record.model_dump_json(indent=2) + "\n")
        for test_set, score in record.scores.items():
            try:
                lines = member.hypotheses(test_set)
            except DataError as error:
                notes.append(str(error))
                continue
            _write(work / "hypotheses" / record.dataset / score.hypotheses.file, "".join(f"{line}\n" for line in lines))
            by_set.setdefault(test_set, []).append((record.seed, score.hypotheses.file, lines))
    return [
        Outputs(
            test_set=test_set,
            files=tuple((seed, file) for seed, file, _ in seeds),
            lines=tuple(zip(*(lines for _, _, lines in seeds), strict=False)),
            page=f"hypotheses/{row.sample.dataset}/{row.sample.row}.{test_set}.html",
        )
        for test_set, seeds in by_set.items()
    ]


def _render(pages: Environment, template: str, path: Path, **values: Any) -> None:
    _write(path, pages.get_template(template).render(values))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{str(out)!r} is a file; the leaderboard needs a folder.")
    foreign = sorted(entry.name for entry in out.iterdir() if entry.name not in PARTS) if out.is_dir() else []
    if foreign:
        raise UsageError(
            f"{str(out)!r} holds {foreign[0]!r}, which is no part of a leaderboard; give a folder of its own."
        )


def _swap(work: Path, out: Path) -> None:
    old = work.with_suffix(".old")
    if out.exists():
        os.replace(out, old)
    os.replace(work, out)
    shutil.rmtree(old, ignore_errors=True)


def _environment() -> Environment:
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    script = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    pages.globals |= {
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{digest}'",
        "row_page": row_page,
        "dot_plot": dot_plot,
        "tuning_plot": tuning_plot,
        "curves": curves,
        "shown_trials": shown_trials,
        "value_names": value_names,
        "shared_values": shared_values,
        "flatten": flatten,
        "degenerate_kinds": KINDS,
        "degenerate_warnings": warnings,
        "counted": counted,
        "shares": shares,
        "further_scores": further_scores,
        "shown_sentences": SHOWN_SENTENCES,
        "measured": speeds.measured,
        "together": speeds.together,
        "headlines": speeds.headlines,
        "speed_headlines": speeds.HEADLINES,
        "speed_column": speeds.column,
        "speed_names": speeds.NAMES,
        "speed_warnings": speeds.warnings,
        "rules": RULES,
    }
    pages.filters |= {
        "accesses": text.accesses,
        "spread": text.spread,
        "signed": text.signed,
        "plus_minus": text.plus_minus,
        "search": speeds.search,
        "duration": text.duration,
        "operations": text.operations,
        "energy": text.energy,
        "grams": text.grams,
        "money": text.money,
        "memory": text.memory,
        "size": text.size,
        "amount": text.amount,
        "extent": extent,
        "verdict": text.verdict,
        "web_address": text.web_address,
    }
    return pages


def _printable(value: Any) -> Any:
    """Make unprintable characters visible; the autoescape that follows deals with markup."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else _UNPRINTABLE.sub("\ufffd", value)
