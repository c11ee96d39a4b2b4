"""From records to tables: means and spread over seeds, the difference to the plain student, and their order."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from bench.results import BudgetRecord, DeliveryRecord, Environment, Parameters, Record, Sweep
from bench.ruleset import RULES, Ruleset
from leaderboard.costs import Total, added, totals
from leaderboard.placement import reasons
from leaderboard.recipes import comparable, distinguishing, own_recipe, trials_asked
from leaderboard.reviews import Review, Reviewed, indexed, withdrawn
from leaderboard.spread import Spread


@dataclass(frozen=True)
class Difference:
    """A row's mean BLEU minus the plain student's.

    ``paired`` tells how many seeds were also subtracted one by one, which needs a plain student for each seed of the
    row. Without them it is 0, and there is no deviation and no count.
    """

    mean: float
    deviation: float | None
    paired: int
    above: int
    """Seeds above the plain student's, of those paired."""
    below: int


@dataclass(frozen=True)
class Row:
    """One row of a table: all seeds of one method, delivered depth and settings."""

    records: tuple[Record, ...]
    """By seed, failed ones included."""
    difference: Difference | None
    """None for the plain student itself, and where there is nothing to compare."""
    unplaced: tuple[str, ...] = ()
    """Why the row cannot be placed; empty for one that is."""
    own: tuple[str, ...] = ()
    """The settings that set it apart from the other rows of its method and depth, as ``key = value``."""
    reviews: tuple[Review, ...] = ()
    """What maintainers say of it, by date."""

    @cached_property
    def finished(self) -> tuple[Record, ...]:
        """The records that carry scores."""
        return tuple(record for record in self.records if record.status == "ok")

    @property
    def sample(self) -> Record:
        """A record to take from what is the same for all seeds; a finished one if there is any."""
        return (self.finished or self.records)[0]

    @cached_property
    def bleu(self) -> Spread | None:
        """BLEU on the first test set."""
        return Spread.of(_bleu(self.finished))

    @cached_property
    def chrf(self) -> Spread | None:
        """chrF on the first test set."""
        return Spread.of([record.scores[record.primary].chrf for record in self.finished])

    @property
    def sweep(self) -> Sweep | None:
        """How its settings were chosen; None where nothing was searched for, or nothing has finished."""
        return self.sample.sweep

    @property
    def parameters(self) -> Parameters | None:
        """Of the delivered model."""
        return self.sample.parameters

    @cached_property
    def machine(self) -> str | None:
        """Where it was trained; None where its seeds come from several machines."""
        found = {machine(record.environment) for record in self.finished}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def costs(self) -> tuple[Total, ...]:
        """What it took, three ways and altogether, as ``leaderboard.costs`` has them."""
        return totals(self.finished)


@dataclass(frozen=True)
class Table:
    """The comparable rows of one data set and recipe, by mean BLEU."""

    placed: tuple[Row, ...]
    unplaced: tuple[Row, ...]
    own: tuple[str, ...]
    """What sets this recipe apart from its preset, and from other tables of it, as ``key = value``."""
    baseline: Row | None = None
    """The plain student that all rows are compared with."""

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """All rows, the placed ones first."""
        return self.placed + self.unplaced

    @property
    def sample(self) -> Record:
        """A record to take from what all rows share: data set, languages, preset, recipe, first test set."""
        return self.rows[0].sample

    @property
    def trials(self) -> int:
        """The trials that each row but the teacher's was to be tuned by; 1 where nothing was searched for."""
        return trials_asked(self.sample)

    @property
    def budget(self) -> BudgetRecord:
        """What its students had alike; the teacher's budget where there is no student."""
        students = (row.sample for row in self.rows if row.sample.role != "teacher")
        return next(students, self.sample).budget

    def family(self, row: Row) -> tuple[Row, ...]:
        """The rows that came out of the same training runs and share what these took, itself among them.

        A row that was withdrawn shares with none.
        """
        if withdrawn(row.reviews):
            return (row,)
        own = {id(other) for run in runs(row) for other in self._by_run[run]} | {id(row)}
        return tuple(other for other in self.rows if id(other) in own) if len(own) > 1 else (row,)

    @cached_property
    def _by_run(self) -> dict[str, list[Row]]:
        """The rows that came out of each training run, without those that were withdrawn."""
        found: dict[str, list[Row]] = {}
        for row in (row for row in self.rows if not withdrawn(row.reviews)):
            for run in runs(row):
                found.setdefault(run, []).append(row)
        return found

    def family_costs(self, row: Row) -> tuple[Total, ...]:
        """What all rows of its family took together."""
        return added([other.costs for other in self.family(row) if other.costs])

    @property
    def signatures(self) -> tuple[str, ...]:
        """The distinct sacreBLEU signatures of its scores on the first test set."""
        scores = [record.scores[record.primary] for row in self.rows for record in row.finished]
        return tuple(
            sorted({each.bleu_signature for each in scores}) + sorted({each.chrf_signature for each in scores})
        )

    @cached_property
    def machine(self) -> str | None:
        """The machine whose times the table sets side by side: that of most placed rows; of most, if none is placed."""
        found = Counter(name for row in self.placed or self.rows if (name := row.machine))
        return max(found, key=lambda each: (found[each], each), default=None)

    @cached_property
    def still_learning(self) -> tuple[int, int]:
        """The trainings of placed students whose best checkpoint was their last, and all of which that is known."""
        curves = {
            tuple(sorted(runs_of(record))) or (record.row, record.seed): (training.curve[-1].update, training)
            for row in self.placed
            for record in row.finished
            if record.role != "teacher" and (training := record.training) and training.curve
        }
        return sum(last == training.best_update for last, training in curves.values()), len(curves)

    def reshaped(self, row: Row) -> bool:
        """Whether a row's model has another shape than the plain student's: what it gains is not the method's alone."""
        models = [each.sample.model for each in (self.baseline, row) if each and each.sample.model]
        return len({(model.width, model.ffn, model.heads, model.depth) for model in models}) > 1

    def timed(self, row: Row) -> tuple[Total, ...]:
        """The costs of a row that can be set beside those of others; none for one of another machine."""
        return row.costs if row.machine is not None and row.machine == self.machine else ()

    @property
    def machines(self) -> tuple[str, ...]:
        """The distinct machines its finished records come from; a failed one does not know all of its own."""
        return tuple(sorted({machine(record.environment) for row in self.rows for record in row.finished}))


def machine(environment: Environment) -> str:
    """The machine that a record comes from, as its table names it."""
    parts = (
        environment.cpu,
        f"{environment.cores} core{'s' * (environment.cores != 1)}",
        f"{environment.workers} task{'s' * (environment.workers != 1)} at a time",
        f"{environment.threads} thread{'s' * (environment.threads != 1)} a task",
        environment.device,
        environment.precision,
    )
    return ", ".join(parts)


def aggregate(records: Iterable[Record], rules: Ruleset = RULES, reviews: Sequence[Review] = ()) -> tuple[Table, ...]:
    """Gather records into rows and rows into tables, by data set and preset.

    Rows are comparable if data set, languages, first test set, track and recipe are the same; a preset run with
    overridden values, another budget or another number of trials therefore has a table of its own. Tables of the open
    track come after the official ones. A row that ``reviews`` withdraw is not placed, and nothing is compared with it.
    """
    reviewed = indexed(reviews)
    by_table: dict[str, list[tuple[Record, ...]]] = {}
    withdrawn_rows = {key for key, found in reviewed.items() if withdrawn(found)}
    for seeds in _grouped(shared(records, withdrawn_rows), lambda record: (record.dataset, record.row)):
        by_table.setdefault(comparable(Row(seeds, None).sample), []).append(seeds)

    def place(rows: list[tuple[Record, ...]]) -> tuple[str, str, bool, str]:
        first = rows[0][0]
        return first.dataset, first.preset, first.track == "open", comparable(first)

    groups = sorted(by_table.values(), key=place)
    samples = [rows[0][0] for rows in groups]
    return tuple(
        _table(rows, own_recipe(first, samples), rules, reviewed) for rows, first in zip(groups, samples, strict=True)
    )


def _table(rows: list[tuple[Record, ...]], recipe: tuple[str, ...], rules: Ruleset, reviewed: Reviewed) -> Table:
    said = [reviewed.get((seeds[0].dataset, seeds[0].row), ()) for seeds in rows]
    plain = _plain([seeds for seeds, reviews in zip(rows, said, strict=True) if not withdrawn(reviews)], rules)
    settings: dict[tuple[str, DeliveryRecord], list[dict[str, Any]]] = {}
    for seeds in rows:
        sample = Row(seeds, None).sample
        settings.setdefault((sample.method.name, sample.delivery), []).append(sample.method.settings)
    finished = []
    for seeds, reviews in zip(rows, said, strict=True):
        ok = [record for record in seeds if record.status == "ok"]
        first = (ok or seeds)[0]
        compared = None if not plain or first.row == plain[0].row else _difference(ok, plain)
        own = distinguishing(first.method.settings, settings[first.method.name, first.delivery])
        finished.append(Row(seeds, compared, withdrawn(reviews) + reasons(seeds, plain, rules), own, reviews))

    def order(row: Row) -> tuple[float, str]:
        return (-row.bleu.mean if row.bleu else float("inf"), row.sample.row)

    finished.sort(key=order)
    return Table(
        placed=tuple(row for row in finished if not row.unplaced),
        unplaced=tuple(row for row in finished if row.unplaced),
        own=recipe,
        baseline=next((row for row in finished if plain and row.sample.row == plain[0].row), None),
    )


def _plain(rows: Sequence[tuple[Record, ...]], rules: Ruleset) -> list[Record]:
    """The finished seeds of the plain student: of the best row that may be placed, so that nobody lowers the measure by
    adding a poor one. Where none may be placed, of the row with most seeds: no test compares with it.
    """

    def order(seeds: tuple[Record, ...]) -> tuple[bool, int, float]:
        scores = _bleu([record for record in seeds if record.status == "ok"])
        placed = not reasons(seeds, (), rules)
        return placed, 0 if placed else len(scores), statistics.fmean(scores) if scores else 0.0

    chosen = max((seeds for seeds in rows if seeds[0].role == "baseline"), key=order, default=())
    return [record for record in chosen if record.status == "ok"]


def _difference(row: Sequence[Record], plain: Sequence[Record]) -> Difference | None:
    if not row:
        return None
    opposite = {record.seed: record for record in plain}
    mean = statistics.fmean(_bleu(row)) - statistics.fmean(_bleu(plain))
    if not all(record.seed in opposite for record in row):
        return Difference(mean, None, 0, 0, 0)
    each = [a - b for a, b in zip(_bleu(row), _bleu([opposite[record.seed] for record in row]), strict=True)]
    deviation = statistics.stdev(each) if len(each) > 1 else None
    above, below = sum(value > 0 for value in each), sum(value < 0 for value in each)
    return Difference(mean, deviation, len(each), above, below)


def runs(row: Row) -> set[str]:
    """The artifacts of its finished seeds' trainings."""
    return {run for record in row.finished for run in runs_of(record)}


def runs_of(record: Record) -> set[str]:
    """The artifacts of a record's own training."""
    return {phase.artifact for phase in record.phases if phase.kind == "training" and phase.artifact}


def _bleu(records: Sequence[Record]) -> list[float]:
    return [record.scores[record.primary].bleu for record in records]


def shared(records: Iterable[Record], withdrawn: Collection[tuple[str, str]] = ()) -> list[Record]:
    """The records with each phase shared by all the finished ones that rest on the same piece of work.

    A record counts the rows of its own run only; others may have joined since. An artifact that two machines made, or
    one machine twice, took work each time. The teacher's own row carries its training whole, and the students that came
    out of it carry it once more among them. All is divided within a table only: what stands in another table, by
    another recipe or with settings chosen otherwise, must not make this one's rows look cheaper.

    Args:
        withdrawn: data set and row of those that take no share from the others.
    """
    records = list(records)
    sharing = [record.status == "ok" and (record.dataset, record.row) not in withdrawn for record in records]
    work = [_work(record) if shares else () for record, shares in zip(records, sharing)]
    uses = Counter(use for own in work for use in set(own))
    return [
        record.model_copy(
            update={
                "phases": tuple(
                    phase.model_copy(update={"shared_by": uses[use]}) if phase.artifact else phase
                    for phase, use in zip(record.phases, own, strict=True)
                )
            }
        )
        if shares
        else record
        for record, own, shares in zip(records, work, sharing)
    ]


def _work(record: Record) -> tuple[tuple[str, str | None, str, float, str], ...]:
    """For each phase, what makes it one piece of work with that of another record of its table."""
    # The same work in the same time was done once, however many tasks ran beside it for this row or for another.
    place, table = record.environment.cpu, comparable(record)
    return tuple((phase.kind, phase.artifact, place, phase.seconds, table) for phase in record.phases)


def _grouped(records: Iterable[Record], key: Callable[[Record], tuple[str, str]]) -> list[tuple[Record, ...]]:
    ordered = sorted(records, key=lambda record: (*key(record), record.seed))
    return [tuple(group) for _, group in groupby(ordered, key)]
