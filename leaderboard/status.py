"""How far others than those who measured a row have checked it."""

from __future__ import annotations

from leaderboard.ranking import Row
from leaderboard.reviews import WITHDRAWN, content_of


def status(row: Row) -> str:
    """How far a row's figures were checked by others than those who measured them.

    ``unreliable`` and ``superseded`` before all; else ``re-run`` where any of its seeds was run again, ``re-scored``
    where the outputs of all of them were scored again, and ``self-reported``. Both speak only of the content that was
    looked at: a row that has changed since, or has got another seed, is ``self-reported``.
    """
    for verdict in WITHDRAWN:
        if any(each.verdict == verdict for each in row.reviews):
            return verdict
    found = {verdict: [each for each in row.reviews if each.verdict == verdict] for verdict in ("re-run", "re-scored")}
    content = content_of(row.finished)
    if any(each.covers(record, content) for each in found["re-run"] for record in row.finished):
        return "re-run"
    rescored = found["re-scored"]
    if row.finished and all(any(each.covers(record, content) for each in rescored) for record in row.finished):
        return "re-scored"
    return "self-reported"
