"""What makes records comparable: their text, track and recipe; and what sets one recipe apart from others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bench import ENGINE
from bench.config import presets
from bench.results import Record


def comparable(record: Record) -> str:
    """The same for all records that may stand in one table, and for no other."""
    return canonical(
        [
            record.dataset,
            record.languages,
            record.data_sha256,
            record.preset,
            record.track,
            record.primary,
            _recipe(record.recipe),
            record.engine,
        ]
    )


def canonical(value: Any) -> str:
    """One text for equal JSON values."""
    return json.dumps(value, sort_keys=True)


def seeds_asked(record: Record) -> int:
    """The final runs that the record's run was to make of each row."""
    asked = record.recipe.get("seeds")
    return asked if isinstance(asked, int) else 0


def trials_asked(record: Record) -> int:
    """The trials that were to choose each row's settings; 1 where nothing was searched for."""
    asked = _section(record, "tuning").get("trials")
    return asked if isinstance(asked, int) else 1


def budget_asked(record: Record) -> str:
    """The kind of budget that the recipe gives to students."""
    return str(_section(record, "budget").get("kind", "tokens"))


def largest_batch(record: Record) -> int:
    """The most target tokens that the stages of the record's training can take beyond a budget: a batch each."""
    training = _section(record, "teacher_training" if record.role == "teacher" else "training")
    tokens, accumulation = training.get("batch_tokens", 0), training.get("accumulation", 1)
    if record.training is None or not (isinstance(tokens, int) and isinstance(accumulation, int)):
        return 0
    return tokens * accumulation * max(1, len(record.training.stages))


def own_recipe(record: Record, others: Iterable[Record]) -> tuple[str, ...]:
    """What sets the record's recipe apart, as ``key = value``: from its preset and from the code's versions as they are
    now, whether or not another table stands beside it, and in what neither says from the others of its data set and
    preset.

    A preset that is not known is taken from these others too. Budget, track and number of trials are not among it: a
    table names them anyway.
    """
    alike = [other for other in others if (other.dataset, other.preset) == (record.dataset, record.preset)]
    searches = [_search(other) for other in alike if trials_asked(other) > 1 and other.track == record.track]
    known, circumstances = presets().get(record.preset), _circumstances(record)
    return (
        *distinguishing(_fixed(record.recipe), map(_fixed, [known.recipe()] if known else (o.recipe for o in alike))),
        *distinguishing(circumstances, [*map(_circumstances, alike), circumstances | {"engine": ENGINE}]),
        *distinguishing(_search(record), searches),
    )


def distinguishing(values: dict[str, Any], others: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """What of ``values`` is not the same in all ``others``, as ``key = value``."""
    flat = [flatten(other) for other in others]
    return tuple(
        f"{key} = {value}" for key, value in flatten(values).items() if any(other.get(key) != value for other in flat)
    )


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted keys."""
    flat: dict[str, Any] = {}
    for key, part in value.items():
        flat |= flatten(part, f"{prefix}{key}.") if isinstance(part, dict) else {f"{prefix}{key}": part}
    return flat


def _recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without what does not bear on a score of one seed."""
    return {key: value for key, value in recipe.items() if key not in ("name", "description", "seeds")}


def _fixed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without search and budget."""
    return {key: value for key, value in _recipe(recipe).items() if key not in ("tuning", "budget")}


def _circumstances(record: Record) -> dict[str, Any]:
    """The versions of the code behind a record, and where it ran, if time was given."""
    place = _section(record, "budget").get("place")
    return {"engine": record.engine} | ({"machine": place} if place else {})


def _search(record: Record) -> dict[str, Any]:
    """Where the values of trials come from; nothing where there was no search."""
    if trials_asked(record) == 1:
        return {}
    tuning = {key: value for key, value in _section(record, "tuning").items() if key not in ("trials", "track")}
    return {"tuning": tuning}


def _section(record: Record, name: str) -> dict[str, Any]:
    section = record.recipe.get(name)
    return section if isinstance(section, dict) else {}
