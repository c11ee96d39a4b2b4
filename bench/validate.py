"""What a record must pass to be believed without running it again: ``bench validate``.

All that can be computed again from a record and the files beside it is computed again; where the data set is here, so
is what needs its sources and references.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.data.corpus import ParallelText
from bench.errors import DataError, UsageError
from bench.measure.degenerate import degenerate, length_ratio
from bench.measure.quality import score
from bench.measure.statistics import corpus_bleu, corpus_chrf, sentence_statistics
from bench.records import Stored, check_files, parse_record
from bench.results import Record, Score
from bench.ruleset import RULES
from bench.texts import Text, Texts

TOLERANCE = 1e-6
"""By which a score may differ from one that is computed again."""
MOST_SEEDS = 1000
"""That a row can have asked for: a record is nobody's word for what is worth looking for."""


@dataclass(frozen=True)
class Verdict:
    """What was found of one record."""

    path: Path
    problems: tuple[str, ...]
    """Why it is refused, one sentence each; empty for one that passes."""
    skipped: tuple[str, ...] = ()
    """What could not be checked, and why."""


@dataclass
class Validator:
    """Checks records; a data set is read once for all of them."""

    data_dir: Path | None = None
    _texts: Texts = field(init=False)

    def __post_init__(self) -> None:
        self._texts = Texts(self.data_dir)

    def validate(self, paths: Iterable[Path]) -> tuple[Verdict, ...]:
        """What is found of each record among files and below folders.

        Raises:
            UsageError: a path does not exist, or there is no record under any of them.
        """
        return tuple(map(self.verdict, _files(paths)))

    def verdict(self, path: Path) -> Verdict:
        """What is found of one record."""
        try:
            content = path.read_bytes()
            stored = Stored(parse_record(content), path.parent)
        except DataError as error:
            return Verdict(path, (str(error),))
        except OSError as error:
            return Verdict(path, (f"it cannot be read: {error.strerror}.",))
        current = json.loads(content)["schema_version"] == type(stored.record).model_fields["schema_version"].default
        check = _Check(stored, self._texts.get(stored.record.dataset), strict=current)
        problems = [] if path.name == stored.record.file else [f"the file must be called {stored.record.file!r}."]
        return Verdict(path, (*problems, *check.problems()), tuple(check.skipped()))


@dataclass(frozen=True)
class _Check:
    """The checks of one record.

    Args:
        strict: whether it was written by this schema: then it must have all that this schema can hold.
    """

    stored: Stored
    text: Text | str
    strict: bool

    @property
    def record(self) -> Record:
        return self.stored.record

    @cached_property
    def _sets(self) -> dict[str, ParallelText]:
        """The texts that its scores can be computed again from; none where it is of another version of the text."""
        known = isinstance(self.text, Text) and self.text.identity == self.record.data_sha256
        return self.text.sets(self.record) if known and isinstance(self.text, Text) else {}

    def skipped(self) -> Iterator[str]:
        if isinstance(self.text, str) and self.record.scores:
            yield f"outputs were not compared with references: {self.text}."

    def problems(self) -> Iterator[str]:
        record = self.record
        if isinstance(self.text, Text) and self.text.identity != record.data_sha256:
            yield f"data_sha256 is not that of {record.dataset}: it was run on other text, or on another version of it."
        if not re.fullmatch(r"(?!not measured\W*$).*\w.*", record.energy, re.DOTALL):
            yield "energy names neither a meter nor why nothing was measured."
        yield from self._budget()
        yield from self._seeds()
        yield from self._phases()
        if record.status == "ok":
            yield from self._complete()
        broken = check_files(self.stored)
        yield from broken
        if not broken:
            for test_set, found in record.scores.items():
                yield from (f"{test_set}: {problem}" for problem in self._score(test_set, found))

    def _budget(self) -> Iterator[str]:
        """Whether its limit is the recipe's, and it says what was spent of it."""
        record, budget = self.record, self.record.budget
        if budget.kind == "tokens":
            part, value = "teacher_training" if record.role == "teacher" else "training", "target_tokens"
        else:
            part, value = "budget", "amount"
        section = record.recipe.get(part)
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
            return
        if record.seed not in range(1, asked + 1):
            yield f"seed {record.seed} is none of the {asked} that were asked for."
        names = {seed: f"{record.row}.s{seed}.json" for seed in range(1, asked + 1)}
        missing = [str(seed) for seed, name in names.items() if not (self.stored.folder / name).is_file()]
        if missing:
            yield f"of the {asked} seeds of its row there is no record of {', '.join(missing)}."

    def _phases(self) -> Iterator[str]:
        record = self.record
        own = {key: name for name, key in record.artifacts.items() if not name.startswith(("metric-", "sweep"))}
        if self.strict and record.status == "ok":
            if missing := [name for key, name in own.items() if key not in record.walls]:
                yield f"it has no wall time of {', '.join(missing)}."
            if not own or any(phase.artifact not in record.artifacts.values() for phase in record.phases):
                yield "its phases are not those of the artifacts it names."
            if missing := [
                name for name in record.scores if name != RULES.selection and not record.test_access.get(name)
            ]:
                yield f"it does not say when {', '.join(missing)} was decoded."
        for artifact, wall in self.record.walls.items():
            seconds = sum(phase.seconds for phase in self.record.phases if phase.artifact == artifact)
            if RULES.unaccounted(wall, seconds):
                yield f"the phases of artifact {artifact[:12]} take {seconds:.2f} s, its making took {wall:.2f} s."

    def _complete(self) -> Iterator[str]:
        record = self.record
        wanted = self._sets or (RULES.selection, record.primary)
        if missing := [name for name in wanted if name not in record.scores]:
            yield f"it has no scores of {', '.join(missing)}."
        if self._sets and (unknown := [name for name in record.scores if name not in self._sets]):
            yield f"{record.dataset} has no text {', '.join(unknown)}."
        if not record.phases:
            yield "it has no phases: what it cost is not told."

    def _score(self, test_set: str, found: Score) -> Iterator[str]:
        """Whether the scores of a test set are those of its files, and these are of its text."""
        statistics = self.stored.statistics(test_set)
        if self.strict and (statistics is None or found.degenerate is None or found.length_ratio is None):
            yield "statistics, counts of degenerate outputs or the length ratio are missing."
        if statistics is not None:
            sums = statistics.sum(axis=0)
            yield from _differs("BLEU", found.bleu, float(corpus_bleu(sums)), "the statistics")
            yield from _differs("chrF", found.chrf, float(corpus_chrf(sums)), "the statistics")
            if found.length_ratio is not None:
                yield from _differs("length ratio", found.length_ratio, length_ratio(statistics), "the statistics")
        if test_set not in self._sets:
            return
        text, lines = self._sets[test_set], self.stored.hypotheses(test_set)
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


def summary(verdicts: Sequence[Verdict]) -> list[str]:
    """One line for each refused record, one for each reason why something was not checked, and one for all."""
    refused = [verdict for verdict in verdicts if verdict.problems]
    lines = [f"refused: {verdict.path}: {' '.join(verdict.problems)}" for verdict in refused]
    skipped = [reason for verdict in verdicts for reason in verdict.skipped]
    lines += [f"not checked: of {skipped.count(reason)} records, {reason}" for reason in dict.fromkeys(skipped)]
    return [*lines, f"{len(verdicts) - len(refused)} of {len(verdicts)} records pass."]


def _files(paths: Iterable[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise UsageError(f"there is no {str(path)!r}.")
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            found.setdefault(file.resolve(), file)
    if not found:
        raise UsageError("there is no record, that is, no .json file, under what was given.")
    return list(found.values())


def _differs(name: str, recorded: float, computed: float | None, source: str) -> Iterator[str]:
    if computed is None or abs(recorded - computed) > TOLERANCE:
        given = "none" if computed is None else f"{computed:.6f}"
        yield f"{name} is recorded as {recorded:.6f}, {source} give {given}."


def _unversioned(signature: str) -> set[str]:
    return {part for part in signature.split("|") if not part.startswith("version:")}
