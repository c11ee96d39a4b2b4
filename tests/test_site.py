"""The page and its files, as a careful reader would test them."""

import base64
import hashlib
import json
import re
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from factories import make_failed, make_hypotheses, make_record, make_sweep, plain, seeds, store, tuned
from pages import Page, site, table

from bench.config import Depth
from bench.errors import UsageError
from bench.records import read_records
from bench.results import Record
from bench.ruleset import RULES
from leaderboard.side_by_side import SHOWN_SENTENCES
from leaderboard.site import build
from leaderboard.text import web_address


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    records = [
        *seeds("teacher", [24.0, 25.0, 26.0], role="teacher", depth=Depth(4, 4)),
        *plain(),
        *seeds("word_level", [12.0, 13.0, 14.0]),
        *seeds("a2d", [9.0, 10.5, 10.0]),
        *seeds("aio_kd", [12.0, 13.0, 14.0], depth=Depth(3, 3), shared_by=3),
        *seeds("tie_kd", [40.0]),
        make_failed("sequence_level", 1, "out of memory"),
        *plain((30.0,), dataset="multi30k-en-de"),
    ]
    return site(tmp_path_factory.mktemp("site"), records, notes=["one file was damaged"])


def test_the_page_tells_what_the_ranking_found(pages):
    text = table(pages, "synthetic").text
    text = text[text.index("Rows by mean BLEU") :]
    assert text.index("Teacher") < text.index("Word level") < text.index("A2d") < text.index("Not placed")
    told = " ".join(text.split())
    assert "13.00± 1.00 (sd)" in told
    assert "+2.00 ± 0.00not testedabove in 3 of 3 seeds" in told
    assert "\u22121.17 ± 0.76not testedbelow in 3 of 3 seeds" in told
    assert "1 of 3 seeds finished" in text
    assert "seed 1 failed: out of memory" in text
    assert "No difference in this table has been tested." in text
    assert "Word level 2-2: its records have no statistics of sentences." in told
    assert "\u2013 not ranked: not tested: its records have no statistics of sentences Word level" in told
    assert "\u2013 not ranked: the teacher is no student Teacher" in told


def test_the_overview_has_a_card_for_each_table(pages):
    text = " ".join(pages["index.html"].text.split())
    assert text.index("multi30k-en-de") < text.index("synthetic")
    assert "Nothing is ranked. No row could be placed: 1 of 3 seeds finished." in text
    assert "Nothing is ranked. No row could be tested: its records have no statistics of sentences." in text
    assert "Plain student, BLEU11.00 Teacher, BLEU25.00 Rows7, 2 not placed Seeds3 " in text
    assert "one file was damaged" in text
    assert "Built from 18 records of 1 machine" in text
    assert len([1 for _, attributes in pages["index.html"].elements if attributes.get("class") == "card"]) == 2


def test_the_rules_are_those_that_are_enforced(pages):
    text = pages["rules.html"].text
    for sentence in (*RULES.text(), *RULES.limits()):
        assert sentence.replace("'", "\u2019") in text


@pytest.fixture(scope="module")
def tested_pages(tmp_path_factory):
    """Two methods with real statistics, one better than the plain student and one like it."""
    folder = tmp_path_factory.mktemp("tested")
    references = {"test": [f"Satz {number} steht hier ganz allein ." for number in range(60)]}
    for method, wrong in (("baseline", 30), ("word_level", 5), ("a2d", 29)):
        for seed in (1, 2, 3):
            random = np.random.default_rng((wrong, seed))
            bad = set(random.permutation(60)[: wrong + seed].tolist())
            lines = {"test": ["falsch" if n in bad else line for n, line in enumerate(references["test"])]}
            role = "baseline" if method == "baseline" else "method"
            record = make_record(method, seed, role=role, hypotheses=lines, references=references)
            store(folder / "records", record, hypotheses=lines, references=references)
    index = build(read_records([folder / "records"]).records, folder / "site")
    return {path.relative_to(index.parent).as_posix(): Page(path) for path in index.parent.rglob("*.html")}


def test_the_page_tells_which_differences_are_real(tested_pages):
    page = table(tested_pages)
    text = " ".join(page.text.split())
    board, wins = text.split("Which differences are real", 1)
    assert "▲ significantly better" in board
    assert "not significantly different" in board
    assert "Group" in board
    assert "3 pairs in all" in wins
    assert "Row 1Word level 2-2 2" in wins, "each column names its row"
    assert wins.count("▲better") == wins.count("▼worse") == 2
    assert wins.count("=tie") == 2
    assert "Not tested:" not in text
    scopes = [attributes["scope"] for tag, attributes in page.elements if tag == "th"]
    assert set(scopes) == {"col", "row"}


def test_ranks_and_leaders_are_shown(tested_pages):
    text = " ".join(table(tested_pages).text.split())
    text = text[text.index("Rows by mean BLEU") :]
    assert re.search(r" 1 Word level 2-2 \d+\.\d{4,5}\.\d\d to \d+\.\d\d \+", text)
    assert re.search(r" 2 (A2d|Baseline)", text)
    card = " ".join(tested_pages["index.html"].text.split())
    assert re.search(
        r"quick Rank 1: no row is significantly better Word level 2-2 89\.06 Plain student, BLEU41\.48 ", card
    )


def test_a_row_page_tells_its_difference_with_p_and_interval(tested_pages, pages):
    text = " ".join(tested_pages["rows/synthetic/word_level.2-2.quick.0badcafe.html"].text.split())
    assert re.search(
        r"significantly better, p (= 0\.0\d{3}|< 0\.0001), 95 % interval \+[\d.]+ to \+[\d.]+; above in 3 of 3", text
    )
    untested = " ".join(pages["rows/synthetic/word_level.2-2.quick.0badcafe.html"].text.split())
    assert "not tested: its records have no statistics of sentences; above in 3 of 3 seeds" in untested
    unplaced = " ".join(pages["rows/synthetic/tie_kd.2-2.quick.0badcafe.html"].text.split())
    assert "not tested: the row is not placed; above, one seed" in unplaced


def test_a_row_page_holds_what_is_needed_to_check_and_repeat(pages):
    record = make_record("aio_kd", 1, 12.0, depth=Depth(3, 3), shared_by=3)
    text = pages[f"rows/synthetic/{record.row}.html"].text
    for part in (
        record.row, record.command, record.method.source_sha256, record.environment.cpu, record.environment.git_commit,
        "divergence", "training.batch_tokens", "teacher training", "0123abcd", "180,400", "187,904", "Parts of a batch",
        record.scores["test"].bleu_signature, record.scores["test"].chrf_signature, "Processes",
    ):  # fmt: skip
        assert part in text, part


def test_a_failed_rows_page_shows_its_log(pages):
    page = pages[f"rows/synthetic/{make_failed('sequence_level').row}.html"]
    assert "Traceback\nout of memory" in page.text


@pytest.fixture(scope="module")
def tuned_pages(tmp_path_factory):
    learning = {"sampler": "tpe", "pruner": "median"}
    sweep = make_sweep([18.0, 21.0, None], seconds=1800.0)
    student = make_sweep([16.0, 14.0, 15.0], "baseline", importances=None)
    open_sweep = make_sweep([18.0, 22.0, 20.0], **learning)
    tuning = tuned("word_level", [1.0], sweep)[0].recipe["tuning"]
    seconds = {"recipe": {"budget": {"kind": "wall-clock", "amount": 90.0}}, "digest": "22222222"}
    spent = {"budget": {"kind": "wall-clock", "limit": 90.0, "spent": 92.0}}
    records = [
        *tuned("baseline", [11.0] * 3, student, role="baseline"),
        *tuned("word_level", [12.0] * 3, sweep, test_access={"test": ("2026-01-02T03:04:05Z", "2026-01-03T03:04:05Z")}),
        make_failed("tie_kd", 1, "every trial failed", failure="timed out", recipe={"tuning": tuning}),
        *tuned("word_level", [13.0] * 3, open_sweep, {"tuning": tuning | learning}, track="open", digest="11111111"),
        *plain(**seconds, **spent),
    ]
    return site(tmp_path_factory.mktemp("tuned"), records)


def test_the_page_shows_what_so_many_trials_bring(tuned_pages):
    text = table(tuned_pages, "quick.3-trials").text
    for part in (
        "Tuned, 3 trials: each method and the plain student with the best of 3 trials by dev BLEU",
        "Expected best dev BLEU by number of trials",
        "first the teacher’s training and decoding in full",
        "The first trial is always the published one",
        "A failed trial counts as 0 BLEU",
    ):
        assert part in " ".join(text.split()), part
    row = text[text.index("Best of 3") :].split()
    # Two trials are 18 and 21, or 18 and 0. The teacher's 2 minutes are in full, whoever shares them.
    cells = ["Word", "level", "0.0333", "0.5", "2", "of", "3", "18.00", "19.50", "21.00"]
    assert row[row.index("Word") :][: len(cells)] == cells
    assert "Incomplete: none" not in text


def test_the_open_track_and_other_budgets_cannot_be_taken_for_the_official_ranking(tuned_pages):
    text = table(tuned_pages, "quick.open.3-trials").text
    assert text.count("synthetic, preset quick: open track, not ranked with the official one") == 1
    assert "not ranked with the official one" not in table(tuned_pages, "quick.3-trials").text
    shown = " ".join(text.split())
    assert "Best dev BLEU so far by number of trials The trials are in the order" in shown
    assert "each trial depends on those before it" in shown
    assert "3 of 3 18.00 22.00 22.00" in shown
    timed = table(tuned_pages, "quick.wall-clock").text
    assert timed.count("Each student’s budget: 1 min 30 s of training.") == 1
    names = ("quick, 3 trials", "quick, open track, 3 trials", "quick, 1 min 30 s of training")
    overview = tuned_pages["index.html"].text
    assert all(f"\n{name}\n" in overview for name in names)
    page = tuned_pages["rows/synthetic/word_level.2-2.quick.11111111.html"]
    assert "A row of the open track: not ranked with the official one." in page.text
    assert "tpe" in page.text
    assert "pruner median" in page.text


def test_a_tuned_rows_page_tells_how_its_settings_were_chosen(tuned_pages):
    text = " ".join(tuned_pages["rows/synthetic/word_level.2-2.quick.0badcafe.html"].text.split())
    for part in (
        "best of 3 trials", "0 published 18.00", "1 winner 21.00", "out of memory no memory left", "qmc",
        "0.001 to 0.01, by logarithm", "75 %", "optuna 4.6.0", "1 h 30 min", "1.5 device-hours", "trials tuning",
        "180,000 target tokens", "Seed 3: test 2026-01-02 03:04:05 UTC and 2026-01-03 03:04:05 UTC.",
        "in place of the recipe’s: training.learning_rate0.004",
    ):  # fmt: skip
        assert part in text, part
    student = tuned_pages["rows/synthetic/baseline.2-2.quick.0badcafe.html"].text
    assert "Too few trials to tell" in student
    assert "trial 0, the published ones" in student


def test_a_row_page_names_its_budget_and_the_state_of_a_failure(tuned_pages):
    failed = tuned_pages["rows/synthetic/tie_kd.2-2.quick.0badcafe.html"].text
    assert "Seed 1 failed: timed out" in failed
    assert "to be the best of 3 trials" in failed
    timed = tuned_pages["rows/synthetic/baseline.2-2.quick.22222222.html"].text
    assert timed.count("1 min 32 s of training") == 3
    assert "not searched for" in timed
    assert timed.count("test at times that were not logged.") == 3


def test_a_row_page_tells_when_each_test_set_was_decoded(tmp_path):
    sets = ("test_2016", "test_2017", "dev")
    times = {"test_2016": ("2026-01-02T03:04:05Z",), "unscored": ("2026-01-04T03:04:05Z",)}
    record = make_record(hypotheses=make_hypotheses(sets=sets), primary="test_2016", test_access=times)
    store(tmp_path / "records", record, hypotheses=make_hypotheses(sets=sets))
    build(read_records([tmp_path / "records"]).records, tmp_path / "site")
    page = Page(tmp_path / "site" / "rows" / "synthetic" / f"{record.row}.html")
    said = (
        "test_2016 2026-01-02 03:04:05 UTC; test_2017 at times that were not logged; unscored 2026-01-04 03:04:05 UTC."
    )
    assert f"Seed 1: {said}" in page.text


def test_curves_of_other_lengths_and_of_other_settings_are_told_apart(tmp_path):
    """The longer one is not the best, and both are of rows that are not placed."""
    records = [
        *tuned("m", [1.0], make_sweep([30.0] * 7, "m"), {"tuning": {"trials": 12}}),
        *tuned("m", [1.0], make_sweep([20.0, *[21.0] * 11], "m"), {"tuning": {"trials": 12}}, digest="11111111"),
    ]
    text = " ".join(table(site(tmp_path, records)).text.split())
    header = text[text.index("Finished trials") :][:200]
    assert [int(part.split()[0]) for part in header.split("Best of ")[1:]] == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12]
    assert "M, alpha = 0.5 0.0333 0.0167 7 of 7 30.00 30.00 30.00 30.00 30.00 30.00 30.00 – – –" in text
    assert "M, alpha = 0.51 0.0333 0.0167 12 of 12 20.00 21.00 21.00" in text
    assert text.count("M, alpha = 0.51 21.00") == 2
    assert text.count("Incomplete: none of these rows is placed.") == 2


def test_hypotheses_are_numbered_and_by_seed(pages):
    page = pages[f"hypotheses/synthetic/{make_record('a2d').row}.test.html"]
    order = [line for number in range(3) for line in (f"Satz {number} von test, Lauf {seed}." for seed in (1, 2, 3))]
    assert [page.text.index(line) for line in order] == sorted(page.text.index(line) for line in order)


def test_long_outputs_are_cut_on_the_page_and_whole_in_the_file(tmp_path):
    lines = {"test": [f"line {number}!" for number in range(SHOWN_SENTENCES + 1)]}
    record = make_record(hypotheses=lines)
    store(tmp_path / "records", record, hypotheses=lines)
    build(read_records([tmp_path / "records"]).records, tmp_path / "site")
    page = Page(tmp_path / "site" / "hypotheses" / "synthetic" / f"{record.row}.test.html")
    assert f"line {SHOWN_SENTENCES - 1}!" in page.text
    assert f"line {SHOWN_SENTENCES}!" not in page.text
    assert f"first {SHOWN_SENTENCES} of {SHOWN_SENTENCES + 1}" in page.text
    copied = (page.path.parent / record.scores["test"].hypotheses.file).read_bytes()
    assert hashlib.sha256(copied).hexdigest() == record.scores["test"].hypotheses.sha256


def test_every_link_leads_to_a_file_or_to_a_paper(pages):
    links = 0
    for page in pages.values():
        anchors = set(page.values("id"))
        for tag, attributes in page.elements:
            if "href" not in attributes:
                continue
            target = urlsplit(attributes["href"])
            if target.scheme in ("http", "https"):
                assert tag == "a"
                assert target.netloc in ("example.org", "aclanthology.org")
            elif target.scheme == "data":
                assert (tag, attributes["href"]) == ("link", "data:,")
            elif target.path:
                assert (page.path.parent / unquote(target.path)).is_file(), attributes["href"]
                links += 1
            else:
                assert target.fragment in anchors
    assert links > 50


def test_nothing_is_loaded_and_only_the_pages_own_script_may_run(pages, tuned_pages):
    own_scripts = {"tables": 2, "rows": 1}
    for name, page in (*pages.items(), *tuned_pages.items()):
        tags = [tag for tag, _ in page.elements]
        assert not {"img", "iframe", "object", "embed", "form", "base", "audio", "video", "source"} & set(tags)
        assert tags.count("script") == own_scripts.get(name.partition("/")[0], 0)
        assert not page.values("src")
        assert not page.values("style")
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
        html = page.path.read_text(encoding="utf-8")
        scripts = re.findall("<script>(.*?)</script>", html, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
        assert policy.startswith("default-src 'none'")
        assert policy.endswith("script-src " + (" ".join(f"'sha256-{each}'" for each in digests) or "'none'"))
        style = html[html.index("<style>") : html.index("</style>")]
        assert "url(" not in style
        assert "@import" not in style


def test_published_records_are_the_records(tmp_path):
    record = make_record()
    site(tmp_path, [record])
    copied = (tmp_path / "site" / "records" / "synthetic" / record.file).read_text(encoding="utf-8")
    assert Record.model_validate(json.loads(copied)) == record
    assert [each.record for each in read_records([tmp_path / "site" / "records"]).records] == [record]


def test_a_new_site_replaces_the_old_one_and_nothing_else(tmp_path):
    site(tmp_path, [make_record("old")])
    (tmp_path / "records" / "synthetic" / make_record("old").file).unlink()
    pages = site(tmp_path, [make_record("new")])
    assert not [name for name in pages if "old" in name]
    assert "New" in pages["index.html"].text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["records", "site"]


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        build([], tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(UsageError, match="is a file"):
        build([], tmp_path / "thesis.tex")


def test_a_failed_build_leaves_the_old_site(tmp_path, monkeypatch):
    site(tmp_path, [make_record("old")])
    before = (tmp_path / "site" / "index.html").read_bytes()
    monkeypatch.setattr("leaderboard.site.row_page", lambda row: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(read_records([tmp_path / "records"]).records, tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["records", "site"]


def test_a_site_without_records_says_so(tmp_path):
    assert "no records yet" in Page(build([], tmp_path / "site")).text


def test_building_twice_gives_the_same_bytes(tmp_path):
    records = [*plain(), *seeds("m", [12.0, 13.0, 14.0])]
    site(tmp_path, records)
    first = {path: path.read_bytes() for path in (tmp_path / "site").rglob("*.*") if path.is_file()}
    site(tmp_path, list(reversed(records)))
    assert first == {path: path.read_bytes() for path in (tmp_path / "site").rglob("*.*") if path.is_file()}


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.org",
        "https://",
        "http://[",
        " https://a.org",
        "https://a b",
        "",
    ],
)
def test_only_web_addresses_become_links(link):
    assert web_address(link) is None
