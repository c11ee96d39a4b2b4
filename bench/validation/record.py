"""What one record must be: all that can be computed again from it and the files beside it is computed again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np

from bench.data.corpus import ParallelText
from bench.data.datasets import DATASETS
from bench.errors import UsageError
from bench.measure.degenerate import degenerate, length_ratio
from bench.measure.quality import score
from bench.measure.statistics import corpus_bleu, corpus_chrf, possible, sentence_statistics
from bench.records import Stored, check_files
from bench.registry import BUILT_IN, load_file
from bench.results import SCHEMA_VERSION, Record, Score, shared_part
from bench.ruleset import RULES
from bench.texts import Text
from bench.validation.making import claims, method_of, model_of
from bench.validation.planned import unplanned
from bench.validation.text import foreign
from leaderboard.recipes import budget_asked

TOLERANCE = 1e-6
"""By which a score may differ from one that is computed again."""
MOST_SEEDS = 1000
"""That a row can have asked for: a record is nobody's word for what is worth looking for."""


AHEAD = timedelta(days=1)
"""By which a machine's clock may be fast."""


@dataclass(frozen=True)
class Check:
    """The checks of one record.

    Args:
        text: its data set, or why that is not here.
    """

    stored: Stored
    text: Text | str

    @property
    def record(self) -> Record:
        return self.stored.record

    @cached_property
    def _sets(self) -> dict[str, ParallelText]:
        """The texts that its scores can be computed again from; none where it is of another version of the text."""
        known = isinstance(self.text, Text) and self.text.identity == self.record.data_sha256
        return self.text.sets(self.record) if known and isinstance(self.text, Text) else {}

    @property
    def rescored(self) -> bool:
        """Whether all its scores are computed again from outputs and references."""
        return bool(self.record.scores) and self.record.scores.keys() <= self._sets.keys()

    def skipped(self) -> Iterator[str]:
        if isinstance(self.text, str) and self.record.scores:
            yield f"outputs were not compared with references: {self.text}."

    def problems(self) -> Iterator[str]:
        record = self.record
        if record.written < SCHEMA_VERSION:
            # What it lacks nobody could check, and a file can say of itself that it is old.
            yield (
                f"it is of schema {record.written}, and only schema {SCHEMA_VERSION} is taken: the same command again "
                "in its run folder writes it anew."
            )
            return
        if isinstance(self.text, Text) and self.text.identity != record.data_sha256:
            yield f"data_sha256 is not that of {record.dataset}: it was run on other text, or on another version of it."
        if not re.fullmatch(r"(?!not measured\W*$).*\w.*", record.energy, re.DOTALL):
            yield "energy names neither a meter nor why nothing was measured."
        if record.created > datetime.now(UTC) + AHEAD:
            yield f"created, {record.created:%Y-%m-%d %H:%M} UTC, is in the future."
        yield from foreign(record)
        yield from self._place()
        yield from claims(record)
        yield from self._planned()
        yield from self._role()
        yield from self._budget()
        yield from self._seeds()
        yield from self._phases()
        yield from self._curve()
        if record.status == "ok":
            yield from self._complete()
        broken = check_files(self.stored)
        yield from broken
        if not broken:
            for test_set, found in record.scores.items():
                yield from (f"{test_set}: {problem}" for problem in self._score(test_set, found))

    def _place(self) -> Iterator[str]:
        """Whether it is ranked by what its data set says."""
        record, known = self.record, DATASETS.get(self.record.dataset)
        if known and (record.languages, record.primary) != (known.languages, known.primary):
            yield f"{known.name} is {' to '.join(known.languages)}, and its rows are ordered by {known.primary}."

    def _planned(self) -> Iterator[str]:
        """Whether its name, artifacts and trials follow from its recipe, its settings and the text that is here."""
        record = self.record
        if record.status == "ok" and isinstance(self.text, Text) and self.text.identity == record.data_sha256:
            try:
                method = method_of(record)
            except UsageError:
                return  # of settings that its method cannot have, which ``claims`` says
            if method:
                yield from unplanned(record, self.text.data, load_file(BUILT_IN / "baseline.py"), method)

    def _role(self) -> Iterator[str]:
        """Whether it is what its method's name says, with the settings that its search chose."""
        record = self.record
        role = record.method.name if record.method.name in ("teacher", "baseline") else "method"
        if record.role != role:
            yield f"it is a row of {record.method.name!r} and says that its role is {record.role!r}."
        won = record.sweep.best.values if record.sweep else {}
        for name in won.keys() - shared_part(record.method.name, won).keys():
            if record.method.settings.get(name.partition(".")[2]) != won[name]:
                yield f"its setting {name} is not that of the trial that won."

    def _budget(self) -> Iterator[str]:
        """Whether it is the recipe's, and says what was spent of it."""
        record, budget = self.record, self.record.budget
        if budget.kind != (kind := "tokens" if record.role == "teacher" else budget_asked(record)):
            yield f"its budget is one of {budget.kind}, the recipe's is one of {kind}."
        if budget.kind == "tokens":
            part, value = "teacher_training" if record.role == "teacher" else "training", "target_tokens"
        else:
            part, value = "budget", "amount"
        section = record.recipe.get(part)
        if kind != "tokens" and not (isinstance(section, dict) and section.get("place")):
            yield "its budget is one of time, and its recipe does not say on which machine."
        if not isinstance(section, dict) or section.get(value) != budget.limit:
            yield f"its budget is not the recipe's {part}.{value}."
        if record.status == "ok" and budget.spent is None:
            yield "it does not say what was spent of its budget."
        if budget.kind == "tokens" and record.training and budget.spent not in (None, record.training.target_tokens):
            yield "the tokens spent of its budget are not those of its training."

    def _seeds(self) -> Iterator[str]:
        record = self.record
        asked = record.recipe.get("seeds")
        if not isinstance(asked, int) or not 1 <= asked <= MOST_SEEDS:
            yield f"its recipe does not say how many seeds were asked for, as a number from 1 to {MOST_SEEDS}."
        elif record.seed not in range(1, asked + 1):
            yield f"seed {record.seed} is none of the {asked} that were asked for."

    def _phases(self) -> Iterator[str]:
        record = self.record
        own = {key: name for name, key in record.artifacts.items() if not name.startswith(("metric-", "sweep"))}
        if record.status == "ok":
            if missing := [name for key, name in own.items() if key not in record.walls]:
                yield f"it has no wall time of {', '.join(missing)}."
            if not own or any(phase.artifact not in record.artifacts.values() for phase in record.phases):
                yield "its phases are not those of the artifacts it names."
            told = {(phase.kind, phase.artifact) for phase in record.phases if phase.artifact}
            for name, kind in ((model_of(record), "training"), ("scores", "evaluation")):
                if (kind, record.artifacts.get(name)) not in told:
                    yield f"its {kind} has no phase: what it cost is not told."
            if missing := [
                name for name in record.scores if name != RULES.selection and not record.test_access.get(name)
            ]:
                yield f"it does not say when {', '.join(missing)} was decoded."
        for artifact, wall in self.record.walls.items():
            seconds = sum(phase.seconds for phase in self.record.phases if phase.artifact == artifact)
            if RULES.unaccounted(wall, seconds):
                yield f"the phases of artifact {artifact[:12]} take {seconds:.2f} s, its making took {wall:.2f} s."

    def _curve(self) -> Iterator[str]:
        """Whether stages and curve end where its training does, and have the checkpoint that was chosen."""
        if (training := self.record.training) is None:
            return
        if not (curve := training.curve):
            yield "it has no curve of its training."
            return
        for name, told in (("tokens", training.target_tokens), ("updates", training.updates)):
            parts = [part if isinstance(part := stage.get(name), int) else 0 for stage in training.stages]
            if sum(parts) != told or min(parts, default=0) <= 0:
                yield f"the {name} of its stages, {parts}, do not make up those of its training, {told}."
        if curve[-1].target_tokens != training.target_tokens:
            yield f"its curve ends at {curve[-1].target_tokens} target tokens, not at {training.target_tokens}."
        last = [point for point in curve if point.stage == curve[-1].stage]
        if (lowest := min(point.dev_loss for point in last)) != training.best_dev_loss:
            yield f"the lowest dev loss of its curve is {lowest:.6f}, not {training.best_dev_loss}."
        scores = [-point.dev_loss if point.dev_bleu is None else point.dev_bleu for point in last]
        best = last[scores.index(max(scores))].update
        if best != training.best_update:
            yield f"the best point of its curve is at update {best}, not at {training.best_update}."

    def _complete(self) -> Iterator[str]:
        record = self.record
        wanted = self._sets or (RULES.selection, record.primary)
        if missing := [name for name in wanted if name not in record.scores]:
            yield f"it has no scores of {', '.join(missing)}."
        if self._sets and (unknown := [name for name in record.scores if name not in self._sets]):
            yield f"{record.dataset} has no text {', '.join(unknown)}."

    def _score(self, test_set: str, found: Score) -> Iterator[str]:
        """Whether the scores of a test set are those of its files, and these are of its text."""
        statistics = self.stored.statistics(test_set)
        if statistics is None or found.degenerate is None or found.length_ratio is None:
            yield "statistics, counts of degenerate outputs or the length ratio are missing."
        if statistics is not None:
            sums = statistics.sum(axis=0)
            yield from _differs("BLEU", found.bleu, float(corpus_bleu(sums)), "the statistics")
            yield from _differs("chrF", found.chrf, float(corpus_chrf(sums)), "the statistics")
            if found.length_ratio is not None:
                yield from _differs("length ratio", found.length_ratio, length_ratio(statistics), "the statistics")
        lines = self.stored.hypotheses(test_set)
        if test_set not in self._sets:
            if statistics is not None and not (fits := possible(statistics, lines)).all():
                yield f"the statistics of sentence {int(fits.argmin()) + 1} cannot be those of its output."
            return
        text = self._sets[test_set]
        if len(lines) != len(text):
            yield f"it has {len(lines)} outputs for {len(text)} sentences."
            return
        again = score(lines, text.target)
        for name, signature, expected in (
            ("BLEU", found.bleu_signature, again.bleu_signature),
            ("chrF", found.chrf_signature, again.chrf_signature),
        ):
            if _unversioned(signature) != _unversioned(expected):
                yield f"{name} has the signature {signature!r}, not {expected!r}."
        yield from _differs("BLEU", found.bleu, again.bleu, "outputs and references")
        yield from _differs("chrF", found.chrf, again.chrf, "outputs and references")
        counted = sentence_statistics(lines, text.target)
        if statistics is not None and not np.array_equal(statistics, counted):
            sentence = int(np.flatnonzero((statistics != counted).any(axis=1))[0]) + 1
            yield f"the statistics of sentence {sentence} are not those of its output and reference."
        if found.degenerate and found.degenerate != (counts := degenerate(lines, text.source, text.target, counted)):
            yield f"degenerate outputs are {counts}, not {found.degenerate}."


def _differs(name: str, recorded: float, computed: float | None, source: str) -> Iterator[str]:
    if computed is None or abs(recorded - computed) > TOLERANCE:
        given = "none" if computed is None else f"{computed:.6f}"
        yield f"{name} is recorded as {recorded:.6f}, {source} give {given}."


def _unversioned(signature: str) -> set[str]:
    return {part for part in signature.split("|") if not part.startswith("version:")}
