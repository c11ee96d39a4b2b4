"""The pages of methods, and the list of them."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboard.addresses import METHODS, method_page
from leaderboard.pages import Site
from leaderboard.ranking import Row
from leaderboard.standings import Standings


def write_method_pages(site: Site, standings: Sequence[Standings]) -> None:
    """Write a page for each method that has rows, and the list of all."""
    found: dict[str, list[tuple[Standings, Row]]] = {}
    for each in standings:
        for row in each.table.rows:
            found.setdefault(row.sample.method.name, []).append((each, row))
    for name, rows in sorted(found.items()):
        site.render("method.html", method_page(name), method=rows[0][1].sample.method, rows=rows)
    site.render("methods.html", METHODS, methods={name: found[name][0][1].sample.method for name in sorted(found)})
