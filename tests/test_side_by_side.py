"""A row beside source, reference and plain student: gains by sentence, what is shown, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import make_record, store
from pages import Page
from sacrebleu.metrics import BLEU, CHRF

from bench.data.datasets import DATASETS
from bench.records import read_records
from leaderboard import side_by_side as module
from leaderboard.catalog import Catalog, Dataset, Sentences
from leaderboard.side_by_side import Gain, Outputs, side_by_side
from leaderboard.site import build
from leaderboard.word_diff import Run

REFERENCE = ["a b c d e f", "g h i j k l", "m n o p q r"]
PLAIN = {1: ["a b c d x x", "g h i j k l", "m n o p q r"], 2: ["a b c d e x", "g h i j k l", "m n x p q r"]}
OWN = {1: ["a b c d e f", "g h i x x x", "m n o p q r"], 2: ["a b c d e x", "g h i j x x", "m n o p q r"]}
TEXT = Sentences(("s1", "s2", "s3"), tuple(REFERENCE), "CC0")


def written(folder: Path, with_statistics: bool = True) -> tuple[dict[int, Outputs], dict[int, Outputs]]:
    """The row's and the plain student's outputs by seed."""
    found = []
    for method, role, lines in (("word_level", "method", OWN), ("baseline", "baseline", PLAIN)):
        for seed, each in lines.items():
            hypotheses, references = {"test": each}, {"test": REFERENCE} if with_statistics else None
            record = make_record(method, seed, role=role, hypotheses=hypotheses, references=references)
            store(folder / "records", record, hypotheses=hypotheses, references=references)
    stored = read_records([folder / "records"]).records
    for method in ("word_level", "baseline"):
        found.append({each.record.seed: Outputs(each) for each in stored if each.record.method.name == method})
    return found[0], found[1]


def compared(folder: Path, text: Sentences | str = TEXT, **options) -> module.SideBySide:
    own, plain = written(folder, **options)
    return side_by_side("test", own, plain, list(zip(OWN[1], OWN[2])), [1, 2], text)


def test_gains_are_means_over_seeds_of_sacrebleus_sentence_scores(tmp_path):
    bleu, chrf = BLEU(effective_order=True), CHRF()

    def gain(place: int) -> Gain:
        means = [
            sum(
                metric.sentence_score(OWN[seed][place], [REFERENCE[place]]).score
                - metric.sentence_score(PLAIN[seed][place], [REFERENCE[place]]).score
                for seed in (1, 2)
            )
            / 2
            for metric in (bleu, chrf)
        ]
        return Gain(*(pytest.approx(each, abs=1e-9) for each in means))

    found = compared(tmp_path)
    assert [each.gain for each in found.first] == [gain(0), gain(1), gain(2)]
    assert found.compared == (1, 2)
    # By hand: "m n x p q r" has 5 of 6 words, 3 of 5 pairs, 1 of 4 triples, and no four words: 100 - 33.03 in one seed.
    assert found.first[2].gain.bleu == pytest.approx((100 - 100 * (5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25) / 2)
    assert [each.number for each in found.gained] == [3, 1]
    assert [each.number for each in found.lost] == [2]


def test_equal_gains_stay_in_order_and_only_so_many_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EXTREMES", 1)
    monkeypatch.setattr(module, "SHOWN_SENTENCES", 2)
    monkeypatch.setattr(module, "SHOWN_SEEDS", 1)
    found = compared(tmp_path)
    assert [each.number for each in found.gained] == [3]
    assert [each.number for each in found.first] == [1, 2]
    assert (found.total, found.seeds) == (3, (1,))
    assert [seed for seed, _, _ in found.first[0].hypotheses] == [1]


def test_a_seed_stands_beside_the_same_seed_of_the_plain_student(tmp_path):
    first = compared(tmp_path).first[0]
    assert (first.source, first.reference) == ("s1", "a b c d e f")
    assert first.hypotheses == (
        (1, (Run("a b c d "), Run("x x", off=True)), (Run("a b c d "), Run("e f", changed=True))),
        (2, (Run("a b c d e "), Run("x", off=True)), (Run("a b c d e "), Run("x", off=True))),
    )


def test_without_statistics_there_are_no_gains(tmp_path):
    found = compared(tmp_path, with_statistics=False)
    assert (found.gained, found.lost, found.compared) == ((), (), ())
    assert found.first[0].gain is None
    assert found.first[0].hypotheses[0][1] is not None


def test_changed_files_of_the_plain_student_are_left_aside(tmp_path):
    own, plain = written(tmp_path)
    for path in (tmp_path / "records").rglob("baseline*.s1.test.*"):
        path.write_text("changed\n" * 3)
    found = side_by_side("test", own, plain, list(zip(OWN[1], OWN[2])), [1, 2], TEXT)
    assert found.compared == (2,)
    assert [plain for _, plain, _ in found.first[1].hypotheses] == [None, (Run("g h i j k l"),)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nobody has it", "nobody has it"),
        (Sentences(("a",), ("b",), "CC0"), "the text here has 1 sentences, the record 3"),
    ],
)
def test_text_that_is_absent_or_of_another_length_is_not_shown(tmp_path, text, reason):
    found = compared(tmp_path, text)
    assert (found.absent, found.terms) == (reason, None)
    assert (found.first[0].source, found.first[0].reference) == (None, None)
    assert found.first[0].hypotheses[0][2] == (Run("a b c d "), Run("e f", changed=True))


def page(folder: Path, catalog: Catalog) -> Page:
    written(folder)
    build(read_records([folder / "records"]).records, folder / "site", catalog=catalog)
    (path,) = (folder / "site").glob("hypotheses/synthetic/word_level*.html")
    return Page(path)


def test_the_page_tells_terms_and_source_of_the_text(tmp_path):
    facts = Dataset("A title", "A licence", "Somebody (2020). A corpus.", "https://example.org/data", True)
    found = page(tmp_path, Catalog(datasets={"synthetic": facts}, sentences=lambda record, test_set: TEXT))
    assert "A title. Cite: Somebody (2020). A corpus. Source of the data. Terms: CC0." in found.text
    assert "https://example.org/data" in found.values("href")
    assert {"mark", "u"} <= {tag for tag, _ in found.elements}
    assert found.values("id").count("s1") == 1
    assert set(found.values("href")) >= {"#s1", "#s2", "#s3"}


def test_the_page_says_why_there_is_no_text(tmp_path):
    found = page(tmp_path, Catalog())
    assert "Source and reference are not shown: this page was built from records alone." in found.text
    assert "Reference" not in found.text


INVENTED = DATASETS["synthetic"].languages


@pytest.mark.parametrize(("languages", "named"), [(INVENTED, [""]), (("en", "de"), ["en", "de"])])
def test_lines_name_their_language_and_made_up_ones_none(tmp_path, languages, named):
    """A screen reader chooses its voice by it."""
    lines = {"test": REFERENCE}
    store(tmp_path / "records", make_record(languages=languages, hypotheses=lines), hypotheses=lines)
    known = Catalog(sentences=lambda record, test_set: TEXT)
    build(read_records([tmp_path / "records"]).records, tmp_path / "site", catalog=known)
    (path,) = (tmp_path / "site").glob("hypotheses/synthetic/*.html")
    found = Page(path)
    assert {each["lang"] for tag, each in found.elements if tag == "dd" and "lang" in each} == set(named)
