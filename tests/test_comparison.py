"""From records to verdicts: what two rows, and the rows of a table, are said to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import make_failed, make_record, plain, seeds, store

from bench.errors import DataError, UsageError
from bench.records import Stored, find_row, read_records
from bench.results import Record
from bench.ruleset import RULES, Ruleset
from leaderboard.comparison import compare
from leaderboard.differences import differences
from leaderboard.ranking import aggregate
from leaderboard.significance import approximate_randomisation, hierarchical_bootstrap, holm
from leaderboard.table_tests import compare_rows

QUICK = Ruleset(randomisations=400, replicates=200)
WORDS = ["der", "die", "Hund", "Katze", "läuft", "sieht", "nicht", "."]
REFERENCES = [" ".join(np.random.default_rng(number).choice(WORDS, size=7)) for number in range(50)]


def translations(right: float, seed: int) -> dict[str, list[str]]:
    """The references with each word kept with this probability."""
    stream = np.random.default_rng(seed)
    lines = [" ".join(word if stream.random() < right else "falsch" for word in line.split()) for line in REFERENCES]
    return {"test": lines, "dev": lines[:5]}


def rows(folder: Path, qualities: dict[str, Sequence[float]], **fields: object) -> list[Stored]:
    """Records with real statistics: a row for each method, a seed for each of its qualities."""
    references = {"test": REFERENCES, "dev": REFERENCES[:5]}
    for number, (method, values) in enumerate(qualities.items()):
        for seed, right in enumerate(values, start=1):
            lines = translations(right, 100 * number + seed)
            role = method if method in ("baseline", "teacher") else "method"
            record = make_record(method, seed, role=role, hypotheses=lines, references=references, **fields)
            store(folder, record, hypotheses=lines, references=references)
    return list(read_records([folder]).records)


def by_key(found: Sequence[Stored]) -> dict[tuple[str, str, int], Stored]:
    return {(each.record.dataset, each.record.row, each.record.seed): each for each in found}


def table_of(found: Sequence[Stored]):
    (table,) = aggregate(each.record for each in found)
    return table


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[Stored]:
    qualities = {
        "baseline": [0.60, 0.61, 0.62],
        "better": [0.80, 0.81, 0.82],
        "alike": [0.61, 0.60, 0.62],
        "worse": [0.30, 0.32, 0.31],
        "short": [0.70, 0.70],
    }
    return rows(tmp_path_factory.mktemp("records"), qualities)


class TestCompare:
    def test_two_rows_in_full(self, found):
        a, b = find_row(found, "better"), find_row(found, "baseline")
        result = compare(a, b, rules=QUICK)
        assert (result.a.seeds, result.b.seeds) == ((1, 2, 3), (1, 2, 3))
        assert (result.dataset, result.test_set, result.sentences) == ("synthetic", "test", 50)
        assert result.signature == a[0].record.scores["test"].bleu_signature
        scores = [[each.record.scores["test"].bleu for each in row] for row in (a, b)]
        assert result.a.score.mean == pytest.approx(np.mean(scores[0]))
        assert result.b.score.deviation == pytest.approx(np.std(scores[1], ddof=1))
        assert result.difference == pytest.approx(np.mean(scores[0]) - np.mean(scores[1]))
        assert result.low < result.difference < result.high
        assert (result.outcome, result.models_only, result.same_recipe) == ("better", False, True)
        systems = [[each.statistics("test") for each in row] for row in (b, a)]
        assert result.p == approximate_randomisation(*systems, "bleu", trials=400)
        assert (-result.high, -result.low) == hierarchical_bootstrap(*systems, "bleu", replicates=200)

    def test_the_other_way_round_is_the_same_with_the_sign_changed(self, found):
        a, b = find_row(found, "alike"), find_row(found, "baseline")
        one, other = compare(a, b, rules=QUICK), compare(b, a, rules=QUICK)
        assert (one.p, one.low, one.high) == (other.p, -other.high, -other.low)
        assert one.difference == -other.difference
        assert compare(b, find_row(found, "worse"), rules=QUICK).outcome == "better"
        assert compare(find_row(found, "worse"), b, rules=QUICK).outcome == "worse"
        assert one.outcome == "level"

    def test_another_metric_and_another_text(self, found):
        a, b = find_row(found, "better"), find_row(found, "worse")
        result = compare(a, b, "dev", "chrf", QUICK)
        assert (result.sentences, result.signature) == (5, a[0].record.scores["dev"].chrf_signature)
        assert result.a.score.mean == pytest.approx(np.mean([each.record.scores["dev"].chrf for each in a]))

    def test_one_seed_speaks_of_the_models_only(self, found):
        result = compare(find_row(found, "better@1"), find_row(found, "baseline@1"), rules=QUICK)
        assert result.models_only
        assert (result.a.seeds, result.a.score.deviation) == ((1,), None)

    def test_one_model_is_not_compared_with_several(self, found):
        with pytest.raises(UsageError, match="name one seed of each"):
            compare(find_row(found, "better@1"), find_row(found, "baseline"), rules=QUICK)

    def test_a_row_is_no_different_from_itself(self, found):
        row = find_row(found, "better")
        result = compare(row, row, rules=QUICK)
        assert (result.difference, result.p, result.outcome) == (0, 1, "level")

    def test_failed_seeds_are_left_out(self, found, tmp_path):
        failed = Stored(make_failed("better", 4), tmp_path)
        assert compare([*find_row(found, "better"), failed], find_row(found, "worse"), rules=QUICK).a.seeds == (1, 2, 3)
        with pytest.raises(UsageError, match="has no finished seed: out of memory"):
            compare([failed], find_row(found, "worse"), rules=QUICK)

    def test_a_model_is_not_compared_with_itself(self, found):
        with pytest.raises(UsageError, match="on both sides"):
            compare(find_row(found, "better"), find_row(found, "better@2"), rules=QUICK)
        assert compare(find_row(found, "better@1"), find_row(found, "better@2"), rules=QUICK).models_only

    def test_an_unknown_test_set_gets_the_legal_ones(self, found):
        with pytest.raises(UsageError, match=r"'tset'. Did you mean 'test'\? Known: dev, test"):
            compare(find_row(found, "better"), find_row(found, "worse"), "tset", rules=QUICK)

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"dataset": "other"}, "data set differs"),
            ({"data_sha256": "e" * 64}, "version of the data set differs"),
        ],
    )
    def test_other_texts_are_refused(self, found, tmp_path, fields, reason):
        other = rows(tmp_path, {"other": [0.5]}, **fields)
        with pytest.raises(UsageError, match=reason):
            compare(find_row(found, "better"), other, rules=QUICK)

    def test_other_signatures_are_refused(self, found):
        other = [changed(each, bleu_signature="version:3") for each in find_row(found, "worse")]
        with pytest.raises(UsageError, match="signature of BLEU differs"):
            compare(find_row(found, "better"), other, rules=QUICK)
        with pytest.raises(UsageError, match="signature of BLEU differs"):
            compare(find_row(found, "better"), [other[0], *find_row(found, "worse")[1:]], rules=QUICK)

    def test_records_without_statistics_must_be_run_again(self, found):
        other = [changed(each, statistics=None) for each in find_row(found, "worse")]
        with pytest.raises(DataError, match=r"worse\..*, seed 1, has no statistics .* run it again"):
            compare(find_row(found, "better"), other, rules=QUICK)

    def test_other_recipes_are_told(self, found, tmp_path):
        other = rows(tmp_path, {"other": [0.5, 0.5]}, recipe={"name": "quick", "batch": 3})
        assert not compare(find_row(found, "better"), other, rules=QUICK).same_recipe


def changed(stored: Stored, **fields: object) -> Stored:
    """A stored record whose test score has other fields."""
    scores = {name: score.model_copy(update=fields) for name, score in stored.record.scores.items()}
    return replace(stored, record=stored.record.model_copy(update={"scores": scores}))


class TestTable:
    def test_which_rows_differ(self, found):
        got = differences(table_of(found), by_key(found))
        ids = {each.record.method.name: each.record.row for each in found}
        assert [row.sample.row for row in got.tested] == [row.sample.row for row in table_of(found).placed]
        assert got.untested == {ids["short"]: "the row is not placed"}
        assert len(got.pairs) == 4 * 3
        outcomes = {name: got.pairs[ids[name], ids["baseline"]].outcome for name in ("better", "alike", "worse")}
        assert outcomes == {"better": "better", "alike": "level", "worse": "worse"}
        assert got.pairs[ids["worse"], ids["better"]].outcome == "worse"
        assert {name: got.letters[ids[name]] for name in ("better", "baseline", "alike", "worse")} == {
            "better": ("a",), "baseline": ("b",), "alike": ("b",), "worse": ("c",),
        }  # fmt: skip
        assert got.against_plain.keys() == {ids["better"], ids["alike"], ids["worse"]}

    def test_verdicts_are_those_of_the_table_test_with_holms_correction(self, found):
        got = differences(table_of(found), by_key(found), QUICK)
        names = [row.sample.row for row in got.tested]
        systems = [[each.statistics("test") for each in found if each.record.row == name] for name in names]
        test = compare_rows(systems, names, "bleu", replicates=QUICK.replicates)
        plain = names.index(find_row(found, "baseline")[0].record.row)
        others = [row for row in range(len(names)) if row != plain]
        for row, corrected in zip(others, holm(test.p()[others, plain])):
            pair = got.against_plain[names[row]]
            assert (pair.p, (pair.low, pair.high)) == (corrected, test.difference(row, plain))
            assert pair.difference == pytest.approx(test.means[row] - test.means[plain])
            assert got.pairs[names[row], names[plain]].p >= corrected
            assert got.intervals[names[row]] == test.interval(row)
        above = np.triu_indices(len(names), 1)
        assert [got.pairs[names[a], names[b]].p for a, b in zip(*above)] == holm(test.p()[above]).tolist()

    def test_one_row_without_statistics_leaves_the_others_tested(self, found):
        mixed = [changed(each, statistics=None) if each.record.method.name == "worse" else each for each in found]
        got = differences(table_of(mixed), by_key(mixed), QUICK)
        (row,) = [
            name for name, reason in got.untested.items() if reason == "its records have no statistics of sentences"
        ]
        assert row.startswith("worse.")
        assert len(got.pairs) == 3 * 2

    def test_an_untested_plain_student_is_the_reason_for_all(self, found):
        mixed = [changed(each, statistics=None) if each.record.role == "baseline" else each for each in found]
        got = differences(table_of(mixed), by_key(mixed), QUICK)
        assert got.against_plain == {}
        assert got.untested[find_row(found, "better")[0].record.row] == (
            "the plain student: its records have no statistics of sentences"
        )
        assert len(got.pairs) == 3 * 2, "the others are still tested against each other"

    def test_a_damaged_file_and_other_references_are_reasons(self, tmp_path):
        found = rows(tmp_path, {"baseline": [0.5] * 3, "damaged": [0.5] * 3, "other": [0.5] * 3})
        damaged, other = (find_row(found, name)[0] for name in ("damaged", "other"))
        (tmp_path / "synthetic" / damaged.record.scores["test"].statistics.file).write_text("nothing", encoding="utf-8")
        mixed = [
            changed(each, chrf_signature="version:3") if each.record.row == other.record.row else each for each in found
        ]
        got = differences(table_of(mixed), by_key(mixed), QUICK)
        assert got.untested == {
            damaged.record.row: "a file of its statistics is missing or was changed",
            other.record.row: "its references or signatures are other ones",
        }

    def test_many_rows_are_tested_without_letters(self, found, monkeypatch):
        monkeypatch.setattr("leaderboard.differences.LETTERED", 3)
        few = differences(table_of(found), by_key(found))
        monkeypatch.setattr("leaderboard.differences.LETTERED", 4)
        many = differences(table_of(found), by_key(found))
        assert few.letters == {}
        assert len(many.letters) == 4
        assert dict(few.pairs) == dict(many.pairs)

    def test_where_no_student_has_learned_to_translate_nothing_is_tested(self, found, tmp_path):
        table, best = table_of(found), max(row.bleu.mean for row in table_of(found).rows)
        for floor, tested in ((best - 0.01, True), (best + 0.01, False)):
            got = differences(table, by_key(found), replace(QUICK, floor=floor))
            assert bool(got.tested) is bool(got.pairs) is bool(got.against_plain) is tested
            assert len(got.intervals) == 4  # how sure the figures are is told all the same
        assert set(got.untested.values()) == {
            "the row is not placed",
            f"no student of the table reaches {best + 0.01:g} BLEU: none has learned to translate",
        }

    def test_a_teacher_alone_makes_no_table_that_is_ranked(self, tmp_path):
        found = rows(tmp_path, {"teacher": [0.9] * 3, "baseline": [0.0, 0.01, 0.02], "m": [0.02] * 3})
        got = differences(table_of(found), by_key(found), QUICK)
        assert got.tested == ()
        assert "none has learned to translate" in " ".join(got.untested.values())

    def test_records_of_old_have_no_tests(self):
        records: list[Record] = [*plain(), *seeds("m", [12.0, 13.0, 14.0])]
        (table,) = aggregate(records)
        got = differences(table, by_key([Stored(each, Path()) for each in records]))
        assert (got.tested, got.pairs, got.letters, got.against_plain) == ((), {}, {}, {})
        assert set(got.untested.values()) == {"its records have no statistics of sentences"}

    def test_an_empty_table_of_failures(self):
        failed = make_failed()
        (table,) = aggregate([failed])
        assert set(differences(table, by_key([Stored(failed, Path())])).untested.values()) == {"the row is not placed"}


def test_the_rules_name_the_numbers_in_force():
    text = " ".join(Ruleset(alpha=0.01, randomisations=5_000, replicates=700, level=0.9, seeds=4).text())
    for part in ("p of at most 0.01", "by 5,000 trials", "90 % of cases", "700 resamples", "needs 4 seeds"):
        assert part in text
    assert RULES.alpha == 0.05
