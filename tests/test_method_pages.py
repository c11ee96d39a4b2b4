"""Pages of methods: what is installed is described, rows are linked, costs are multiples of the plain student's."""

from __future__ import annotations

from pathlib import Path

from factories import make_record, plain, seeds, store
from pages import Page

from bench.config import Depth
from bench.records import read_records
from bench.results import PaperRecord, Phase
from leaderboard.catalog import Catalog, Method, Setting
from leaderboard.site import build

KNOWN = Method(
    title="Word-level KD",
    summary="Summary.",
    description="The teacher's words.",
    equation=r"\alpha + \beta",
    paper=PaperRecord(citation="A paper", year=2016, link="https://example.org/p"),
    settings=(Setting("alpha", "0.5", "0.1 to 0.9", "A weight."),),
)


def pages(folder: Path, records, catalog=Catalog()) -> dict[str, Page]:  # noqa: B008
    store(folder / "records", *records)
    index = build(read_records([folder / "records"]).records, folder / "site", catalog=catalog)
    return {
        path.stem: Page(path) for path in [*(index.parent / "methods").glob("*.html"), index.parent / "methods.html"]
    }


def test_an_installed_method_is_described(tmp_path):
    records = [*plain(), *seeds("word_level", [12.0, 13.0, 14.0])]
    page = pages(tmp_path, records, Catalog({"word_level": KNOWN}))["word_level"]
    for part in (
        "Word-level KD",
        "The teacher’s words.",
        "A paper, 2016",
        r"\alpha + \beta",
        "0.1 to 0.9",
        "A weight.",
    ):
        assert part in page.text
    assert "math" in [tag for tag, _ in page.elements]
    assert "https://example.org/p" in page.values("href")
    assert f"../rows/synthetic/{records[-1].row}.html" in page.values("href")
    assert "is not installed" not in page.text


def test_a_method_that_is_not_installed_has_a_page_of_its_record(tmp_path):
    found = pages(tmp_path, [*plain(), *seeds("word_level", [12.0, 13.0, 14.0])], Catalog({"other": KNOWN}))
    page = found["word_level"]
    assert "is not installed where this page was built" in page.text
    assert "The student learns from the teacher." in page.text
    assert "math" not in [tag for tag, _ in page.elements]
    assert "other" not in found


def test_costs_are_multiples_of_the_plain_students(tmp_path):
    # Students take 90 s to its 60 s; the teacher's 120 s are divided over the seeds of both rows.
    records = [*plain(), *seeds("word_level", [12.0, 13.0, 14.0], training_seconds=90.0)]
    phases = (
        Phase(name="student training", kind="training", seconds=90.0),
        Phase(name="teacher passes", kind="distillation", seconds=30.0),
        Phase(name="teacher training", kind="teacher", seconds=120.0),
    )
    records[3:] = [record.model_copy(update={"phases": phases}) for record in records[3:]]
    bare = (Phase(name="student training", kind="training", seconds=60.0),)
    records[:3] = [record.model_copy(update={"phases": bare}) for record in records[:3]]
    text = pages(tmp_path, records)["word_level"].text
    assert all(ratio in text for ratio in ("× 1.50", "× 2.00", "× 4.00"))


def test_costs_of_other_machines_are_not_compared(tmp_path):
    other = make_record().environment.model_copy(update={"cpu": "Another CPU"})
    records = [*plain(), *seeds("word_level", [12.0, 13.0, 14.0], environment=other)]
    assert "× " not in pages(tmp_path, records)["word_level"].text


def test_a_run_that_gives_several_students_tells_what_it_took(tmp_path):
    phases = (Phase(name="student training", kind="training", seconds=240.0, artifact="a", shared_by=2),)
    bare = (Phase(name="student training", kind="training", seconds=60.0),)
    records = [record.model_copy(update={"phases": bare}) for record in plain()]
    for depth in (Depth(2, 2), Depth(3, 2)):
        records += [
            record.model_copy(update={"phases": (phases[0].model_copy(update={"artifact": f"a{record.seed}"}),)})
            for record in seeds("aio_kd", [12.0, 13.0, 14.0], depth=depth)
        ]
    text = pages(tmp_path, records)["aio_kd"].text
    assert text.count("× 2.00") == 2 * 3
    assert text.count("all 2 students of its run: × 4.00") == 2


def test_the_list_has_every_method_with_rows(tmp_path):
    page = pages(tmp_path, [*plain(), *seeds("word_level", [12.0, 13.0, 14.0])], Catalog({"word_level": KNOWN}))[
        "methods"
    ]
    assert {"methods/baseline.html", "methods/word_level.html"} <= set(page.values("href"))
    assert "Summary." in page.text


def test_a_method_may_be_called_as_the_list_is(tmp_path):
    found = pages(tmp_path, [*plain(), *seeds("index", [12.0, 13.0, 14.0])])
    assert "Where it stands" in found["index"].text
    assert "methods/index.html" in found["methods"].values("href")
