"""The pages of methods, and the list of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.results import PaperRecord
from leaderboard.addresses import METHODS, method_page, table_page
from leaderboard.catalog import Catalog, Setting
from leaderboard.costs import Total
from leaderboard.equations import Equation, equations
from leaderboard.pages import Site
from leaderboard.published import Figures, of_method
from leaderboard.ranking import Row, Table
from leaderboard.standings import Standings


@dataclass(frozen=True)
class Standing:
    """One row of a method, and what it cost beside the plain student of its table."""

    standings: Standings
    row: Row
    costs: tuple[float | None, ...]
    """The three totals by the plain student's; None where they cannot be compared."""
    family: tuple[int, float] | None
    """Of a run that gave several students: their number, and what their training took together, by the plain one's."""

    @property
    def place(self) -> str:
        """Where its table lies."""
        return table_page(self.standings.table)


@dataclass(frozen=True)
class MethodPage:
    """A method as its page shows it: from the installed method, else from its newest record alone."""

    name: str
    title: str
    summary: str
    paper: PaperRecord | None
    installed: bool
    description: str
    equations: tuple[Equation, ...]
    settings: tuple[Setting, ...]
    standings: tuple[Standing, ...]
    published: tuple[Figures, ...]


def write_method_pages(site: Site, standings: Sequence[Standings], catalog: Catalog) -> None:
    """Write a page for each method that has rows, and the list of all."""
    found: dict[str, list[Standing]] = {}
    for each in standings:
        for row in each.table.rows:
            found.setdefault(row.sample.method.name, []).append(_standing(each, row))
    pages = [_page(name, tuple(rows), catalog) for name, rows in sorted(found.items())]
    for page in pages:
        site.render("method.html", method_page(page.name), method=page)
    site.render("methods.html", METHODS, methods=pages)


def _page(name: str, standings: tuple[Standing, ...], catalog: Catalog) -> MethodPage:
    newest = max((each.row.sample for each in standings), key=lambda record: record.created).method
    known = catalog.methods.get(name)
    return MethodPage(
        name=name,
        title=known.title if known else newest.title,
        summary=known.summary if known else newest.summary,
        paper=known.paper if known else newest.paper,
        installed=known is not None,
        description=known.description if known else "",
        equations=equations(known.equation) if known else (),
        settings=known.settings if known else (),
        standings=standings,
        published=of_method(name),
    )


def _standing(standings: Standings, row: Row) -> Standing:
    table = standings.table
    plain, own = _comparable_costs(table, row)
    costs = tuple(_ratio(a, b) for a, b in zip(own[:3], plain[:3])) if plain else (None, None, None)
    members, together = table.family(row), table.family_costs(row)
    ratio = _ratio(together[0], plain[0]) if plain and len(members) > 1 else None
    return Standing(standings, row, costs, None if ratio is None else (len(members), ratio))


def _comparable_costs(table: Table, row: Row) -> tuple[tuple[Total, ...], tuple[Total, ...]]:
    """The costs of the plain student and of a row; none unless both come from the same kind of machine."""
    if table.baseline is None or not row.costs or row.machine is None or row.machine != table.baseline.machine:
        return (), ()
    return table.baseline.costs, row.costs


def _ratio(own: Total, plain: Total) -> float | None:
    return own.seconds.mean / plain.seconds.mean if plain.seconds.mean else None
