"""The static leaderboard: which pages and files it has, and how a new one takes the place of the old one.

Its pages open from disk without a network and trust no string of a record.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import DataError, UsageError
from bench.records import Stored
from bench.results import Record
from leaderboard.addresses import OVERVIEW, RULES_PAGE, hypotheses_page, row_page, table_page
from leaderboard.again import again
from leaderboard.badges import badges
from leaderboard.catalog import Catalog
from leaderboard.costs import Factors
from leaderboard.differences import differences
from leaderboard.entries import entries
from leaderboard.exports import to_csv, to_json
from leaderboard.method_pages import write_method_pages
from leaderboard.overview import groups
from leaderboard.pages import Site, Source
from leaderboard.published import on_dataset
from leaderboard.ranking import Row, aggregate, machine
from leaderboard.reviews import Review
from leaderboard.side_by_side import Outputs, side_by_side
from leaderboard.standings import Standings

PARTS = ("index.html", "rules.html", "methods.html", "tables", "rows", "methods", "hypotheses", "records", "badges")
"""All that a site consists of; a folder with anything else in it is never replaced."""
FILE_NAME = 255
"""Bytes that a file's name can have."""
NO_FACTORS = Factors()
NO_CATALOG = Catalog()
ROWS = 1_000_000
"""More rows than any run has: a phase that claims to be shared by more is no figure to show."""


@dataclass(frozen=True)
class Written:
    """The hypotheses of a row on one test set, seed by seed."""

    test_set: str
    files: tuple[tuple[int, str], ...]
    """Seed and file name."""
    lines: tuple[tuple[str, ...], ...]
    """Sentence by sentence, the seeds' hypotheses."""
    page: str


def build(
    records: Iterable[Stored],
    out: Path,
    *,
    notes: Sequence[str] = (),
    factors: Factors = NO_FACTORS,
    catalog: Catalog = NO_CATALOG,
    reviews: Sequence[Review] = (),
) -> Path:
    """Write the site to the folder ``out`` and return its ``index.html``.

    The site is built beside ``out`` and takes its place whole; an earlier site there is replaced.

    Args:
        notes: sentences for the reader, such as what could not be read.
        factors: what the user states of the price of energy and devices.
        catalog: what is known of methods and data sets beside the records.
        reviews: what maintainers say of rows.

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
        _write_site(work, stored, told, factors, catalog, reviews)
        _swap(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out / OVERVIEW


def _unfit(record: Record) -> str | None:
    """Which number of a record, valid as it is, no page can be made of."""
    if len(record.file) > FILE_NAME:
        return "its seed is too long a number"
    if any(phase.shared_by > ROWS for phase in record.phases):
        return f"it claims that more than {ROWS:,} rows share a phase"
    return None


def _write_site(
    work: Path,
    stored: Mapping[tuple[str, str, int], Stored],
    notes: list[str],
    factors: Factors,
    catalog: Catalog,
    reviews: Sequence[Review],
) -> None:
    records = [each.record for each in stored.values()]
    newest = max((record.created for record in records), default=None)
    machines = {machine(record.environment) for record in records if record.status == "ok"}
    site = Site.at(work, Source(len(records), len(machines), newest), factors)
    standings = [Standings(table, differences(table, stored)) for table in aggregate(records, reviews=reviews)]
    titles = {row.sample.method.name: row.sample.method.title for each in standings for row in each.table.rows}
    for each in standings:
        _write_table(site, each, titles, catalog)
        plain = _outputs(each.table.baseline, stored) if each.table.baseline else {}
        for row in each.table.rows:
            members = [stored[record.dataset, record.row, record.seed] for record in row.records]
            against = {} if row is each.table.baseline else plain
            _write_row(site, each, row, members, against, notes, catalog)
    write_method_pages(site, standings, catalog)
    for badge in badges(standings):
        site.write(badge.address, site.environment.get_template("badge.svg").render(badge=badge))
    site.render("rules.html", RULES_PAGE)
    site.render("index.html", OVERVIEW, groups=groups(standings), notes=notes)


def _write_table(site: Site, standings: Standings, titles: Mapping[str, str], catalog: Catalog) -> None:
    address = table_page(standings.table)
    files = {suffix: address.removesuffix("html") + suffix for suffix in ("csv", "json")}
    found = entries(standings)
    site.write(files["csv"], to_csv(list(found.values())))
    site.write(files["json"], to_json(standings.table, list(found.values())))
    site.render(
        "table.html",
        address,
        standings=standings,
        table=standings.table,
        differences=standings.differences,
        entries=found,
        files=files,
        published=on_dataset(standings.table.sample.dataset),
        titles=titles,
        names={name: method.title for name, method in catalog.methods.items()},
    )


def _outputs(row: Row, stored: Mapping[tuple[str, str, int], Stored]) -> dict[int, Outputs]:
    """The outputs of a row's finished seeds."""
    return {record.seed: Outputs(stored[record.dataset, record.row, record.seed]) for record in row.finished}


def _write_row(
    site: Site,
    standings: Standings,
    row: Row,
    members: Sequence[Stored],
    plain: Mapping[int, Outputs],
    notes: list[str],
    catalog: Catalog,
) -> None:
    written = _write_files(site, row, members, notes)
    shown = {"table": standings.table, "differences": standings.differences, "row": row}
    own = {member.record.seed: Outputs(member) for member in members}
    for output in written:
        seeds = [seed for seed, _ in output.files]
        text = catalog.sentences(row.sample, output.test_set)
        beside = side_by_side(output.test_set, own, plain, output.lines, seeds, text)
        dataset = catalog.datasets.get(row.sample.dataset)
        site.render("hypotheses.html", output.page, output=output, beside=beside, dataset=dataset, **shown)
    site.render("row.html", row_page(row), outputs=written, again=again(row.sample, catalog), **shown)


def _write_files(site: Site, row: Row, members: Sequence[Stored], notes: list[str]) -> list[Written]:
    """Copy a row's records and its hypotheses, and gather the latter; files that fail their check are noted."""
    by_set: dict[str, list[tuple[int, str, list[str]]]] = {}
    for member in members:
        record = member.record
        site.write(f"records/{record.dataset}/{record.file}", record.model_dump_json(indent=2) + "\n")
        for test_set, score in record.scores.items():
            try:
                lines = member.hypotheses(test_set)
            except DataError as error:
                notes.append(str(error))
                continue
            content = "".join(f"{line}\n" for line in lines)
            site.write(f"hypotheses/{record.dataset}/{score.hypotheses.file}", content)
            by_set.setdefault(test_set, []).append((record.seed, score.hypotheses.file, lines))
    return [
        Written(
            test_set=test_set,
            files=tuple((seed, file) for seed, file, _ in seeds),
            lines=tuple(zip(*(lines for _, _, lines in seeds), strict=False)),
            page=hypotheses_page(row, test_set),
        )
        for test_set, seeds in by_set.items()
    ]


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
