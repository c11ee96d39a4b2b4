"""Strings of the catalog and of texts, like those of records, stay text on the pages that show them."""

from pathlib import Path

import pytest
from factories import make_record, plain, seeds, store
from hostile import HOSTILE, UNPRINTABLE
from pages import Page

from bench.records import read_records
from bench.results import PaperRecord
from leaderboard.catalog import Catalog, Dataset, Method, Sentences, Setting
from leaderboard.site import build


def catalog(text: str) -> Catalog:
    method = Method(
        title=text,
        summary=text,
        description=text,
        equation=f"\\unknown {' '.join(text.split())}",  # no command, so that it is shown as it is
        paper=PaperRecord(citation=text, year=2020, link=text),
        settings=(Setting(text, text, text, text),),
    )
    return Catalog(
        methods={"m": method, "baseline": method},
        datasets={"synthetic": Dataset(text, text, text, text, True)},
        sentences=lambda record, test_set: Sentences((text,) * 3, (f"{text} Satz",) * 3, text),
    )


def hostile_site(folder: Path, text: str) -> dict[str, Page]:
    changed = make_record().environment.model_copy(update={"git_commit": text})
    store(folder / "records", *plain(), *seeds("m", [12.0, 13.0, 14.0], environment=changed))
    index = build(read_records([folder / "records"]).records, folder / "site", catalog=catalog(text))
    return {path.relative_to(index.parent).as_posix(): Page(path) for path in index.parent.rglob("*.html")}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_strings_stay_text(tmp_path, kind):
    harmless, hostile = hostile_site(tmp_path / "a", "harmless"), hostile_site(tmp_path / "b", HOSTILE[kind])
    assert hostile.keys() == harmless.keys()
    for name, page in hostile.items():
        assert page.shape == harmless[name].shape, name
        assert not set(page.path.read_text(encoding="utf-8")) & set(UNPRINTABLE)
    shown = HOSTILE[kind].translate(dict.fromkeys(map(ord, UNPRINTABLE), "\ufffd"))
    (lines,) = (name for name in hostile if name.startswith("hypotheses/synthetic/m.") and ".test." in name)
    assert hostile[lines].text.count(shown) >= 3 * 2
    assert hostile["methods/m.html"].text.count(shown.replace("'", "’")) >= 2
    assert "javascript" not in "".join(hostile["methods/m.html"].values("href"))


def test_a_hostile_equation_is_not_set(tmp_path):
    attack = r"\text{<img src=x onerror=alert(1)><script>alert(1)</script>}"
    records = [*plain(), *seeds("m", [12.0, 13.0, 14.0])]
    store(tmp_path / "records", *records)
    method = Method("M", "", "", attack, None, ())
    build(read_records([tmp_path / "records"]).records, tmp_path / "site", catalog=Catalog({"m": method}))
    page = Page(tmp_path / "site" / "methods" / "m.html")
    assert attack in page.text
    assert not {"img", "script", "math"} & {tag for tag, _ in page.elements}
