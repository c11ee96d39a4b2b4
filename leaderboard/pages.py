"""How pages are rendered: templates, what they may call, and the policy that keeps a page from loading anything."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench.ruleset import RULES
from leaderboard import addresses, charts, speeds, text
from leaderboard.badges import badges
from leaderboard.costs import Factors
from leaderboard.entries import columns
from leaderboard.quality import KINDS, counted, further_scores, shares, warnings
from leaderboard.recipes import flatten
from leaderboard.reviews import content_of
from leaderboard.status import status
from leaderboard.sweeps import curves, extent, shared_values, value_names
from leaderboard.word_diff import LONGEST, marked

TEMPLATES = Path(__file__).with_name("templates")
INLINED = {
    "index.html": ("overview.css",),
    "table.html": ("table.css", "charts.css", "table.js", "charts.js"),
    "row.html": ("charts.css", "charts.js"),
    "hypotheses.html": ("hypotheses.css",),
    "method.html": ("methods.css",),
    "methods.html": ("methods.css",),
}
"""Scripts and styles that a page has beside ``style.css``. From a file, a browser lets a page load none."""
MOST_NOTES = 200
"""That the overview tells."""


@dataclass(frozen=True)
class Source:
    """What a site is built from, for the foot of each page."""

    records: int
    machines: int
    newest: datetime | None


@dataclass(frozen=True)
class Site:
    """The folder that a site is written to, and what its pages are rendered with."""

    folder: Path
    environment: Environment

    @classmethod
    def at(cls, folder: Path, source: Source, factors: Factors) -> Site:
        """A site in ``folder``."""
        return cls(folder, _environment(source, factors))

    def render(self, template: str, address: str, **values: Any) -> None:
        """Write the page at ``address``. Links in templates start with ``root``, the way back to the site's folder."""
        files = ("style.css", *INLINED.get(template, ()))
        contents = [(name, (TEMPLATES / name).read_text(encoding="utf-8")) for name in files]
        scripts = [content for name, content in contents if name.endswith(".js")]
        page = self.environment.get_template(template).render(
            root="../" * address.count("/"),
            styles=[Markup(content) for name, content in contents if name.endswith(".css")],
            scripts=[Markup(content) for content in scripts],
            policy=_policy(scripts),
            **values,
        )
        self.write(address, page)

    def write(self, address: str, content: str) -> None:
        """Write a file of the site."""
        path = self.folder / address
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8"))


def _policy(scripts: list[str]) -> str:
    """Nothing is loaded, nothing is sent, and no script runs but these."""
    digests = [base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii") for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src {allowed}"
    )


def _environment(source: Source, factors: Factors) -> Environment:
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    pages.globals |= {
        "source": source,
        "factors": factors,
        "addresses": addresses,
        "row_page": addresses.row_page,
        "table_page": addresses.table_page,
        "method_page": addresses.method_page,
        "charts": charts,
        "curves": curves,
        "value_names": value_names,
        "shared_values": shared_values,
        "flatten": flatten,
        "degenerate_kinds": KINDS,
        "degenerate_warnings": warnings,
        "counted": counted,
        "shares": shares,
        "further_scores": further_scores,
        "most_notes": MOST_NOTES,
        "measured": speeds.measured,
        "headlines": speeds.headlines,
        "columns": columns,
        "status": status,
        "content_of": content_of,
        "badges": badges,
        "speed_names": speeds.NAMES,
        "speed_warnings": speeds.warnings,
        "rules": RULES,
        "longest_marked": LONGEST,
    }
    pages.filters |= {
        "anchor": text.anchor,
        "language_tag": text.language_tag,
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
        "marked": marked,
        "verdict": text.verdict,
        "web_address": text.web_address,
    }
    return pages


def _finalize(value: Any) -> Any:
    """The last step before the autoescape, which deals with markup."""
    return text.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
