"""Records that nobody should trust: on the page their strings stay text, and none of them breaks the site."""

import csv
import hashlib
import json
import re
from pathlib import Path

import pytest
from factories import make_failed, make_record, make_sweep, plain, seeds, store, tuned
from hostile import HOSTILE, UNPRINTABLE
from pages import Page, site, table

from bench.records import Stored, read_records
from bench.results import MethodRecord, PaperRecord, Parameters, Phase, Record
from leaderboard.site import build


def hostile_records(text: str) -> list[Record]:
    """Records whose every free string is ``text``, finished and failed."""

    records = []
    sweep = make_sweep(
        sampler=text,
        pruner=text,
        space={text: {"low": text, "high": text}, "choice": {"values": [text]}, "other": [text]},
        importances={text: 1e9},
        versions={text: text},
    ).model_dump(mode="json")
    for trial in sweep["trials"]:
        trial["values"] = {text: text}
    sweep["trials"].append({"number": 3, "values": {}, "state": "exception", "reason": text, "seconds": 1.0})
    for record in [*plain(), *seeds("m", [12.0, 13.0, 14.0]), make_failed("n")]:
        fixed = record.model_dump()
        if record.status == "ok":
            fixed["sweep"] = sweep
        fixed |= {"command": text, "artifacts": {text: text}, "recipe": {text: text, "nested": {text: [text]}}}
        fixed["track"], fixed["recipe"]["tuning"] = "open", {"track": "open"}
        fixed["environment"] = {
            key: text if isinstance(value, str) else value for key, value in fixed["environment"].items()
        }
        fixed["delivery"]["name"] = text
        fixed["method"] = MethodRecord(
            name=record.method.name,
            title=text,
            summary=text,
            paper=PaperRecord(citation=text, year=2020, link=text),
            settings={text: text, "list": [text, {text: text}]},
            source_sha256="0" * 64,
        ).model_dump()
        fixed["phases"] = [
            {"name": text, "kind": "training", "seconds": 1.0, "artifact": text},
            {"name": text, "kind": "teacher", "seconds": 1.0, "shared_by": 2},
        ]
        for score in fixed["scores"].values():
            score |= {"bleu_signature": text, "chrf_signature": text, "sentences": 2}
            score["degenerate"] = {"empty": 2, "repeated": 0, "copied": 0, "over_length": 0}
            score["further"] = [{"name": "legacy-bleu", "value": 1e308, "signature": text, "legacy": True}]
            score["hypotheses"]["sha256"] = hashlib.sha256(f"{text}\n{text}\n".encode()).hexdigest()
        if record.status == "failed":
            fixed |= {"reason": text, "error_log": text}
        else:
            fixed["training"]["stages"] = [{"name": text, text: text}] * 2
        records.append(Record.model_validate(fixed))
    return records


def hostile_site(folder: Path, text: str) -> dict[str, Page]:
    for record in hostile_records(text):
        store(folder / "records", record, hypotheses={"test": [text, text], "dev": [text, text]})
    index = build(read_records([folder / "records"]).records, folder / "site", notes=[text])
    pages = {path.relative_to(index.parent).as_posix(): Page(path) for path in index.parent.rglob("*.html")}
    return {re.sub(r"^(tables/.*)\.[0-9a-f]{8}\.html", r"\1.html", name): page for name, page in pages.items()}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_strings_stay_text(tmp_path, kind):
    harmless, hostile = hostile_site(tmp_path / "a", "harmless"), hostile_site(tmp_path / "b", HOSTILE[kind])
    assert hostile.keys() == harmless.keys()
    # Overview, rules, one table, the list of methods; a page for each method and row; hypotheses of two rows and texts.
    assert len(hostile) == 4 + 3 + 3 + 2 * 2
    assert "Best dev BLEU so far" in table(hostile).text
    for name, page in hostile.items():
        assert page.shape == harmless[name].shape, name
        if name != "rules.html":
            assert HOSTILE[kind].translate(dict.fromkeys(map(ord, UNPRINTABLE), "\ufffd")) in page.text
        assert not set(page.path.read_text(encoding="utf-8")) & set(UNPRINTABLE)
    for path in (tmp_path / "b" / "site" / "tables").rglob("*.[cj]s*"):
        assert not set(path.read_text(encoding="utf-8")) & set(UNPRINTABLE)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("https://a.org")', "a,b\nc"]
)
def test_no_cell_of_a_tables_file_is_a_formula(tmp_path, text):
    records = [*plain(), *seeds("m", [12.0, 13.0, 14.0])]
    titled = [each.model_copy(update={"method": each.method.model_copy(update={"title": text})}) for each in records]
    page = table(site(tmp_path, titled))
    with page.path.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    assert len(rows) == 2
    titles = [row[names.index("method")] for row in rows]
    assert titles == [text if text.startswith("a") else f"'{text}"] * 2
    for cell in (cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))):
        assert float(cell) < 0, "only a number may start like that"
    told = json.loads(page.path.with_suffix(".json").read_text(encoding="utf-8"))
    assert [row["method"] for row in told["rows"]] == [text] * 2


def test_no_number_of_a_record_stops_the_site(tmp_path):
    huge, longest = 10**400, 1e10
    numbers = dict.fromkeys(("target_tokens", "updates", "best_update", "splits", "processes"), huge)
    training = make_record().training.model_copy(update=numbers | {"epochs": 1e308, "best_dev_loss": -1e308})
    phases = [
        Phase(name="teacher", kind="teacher", seconds=longest, target_tokens=huge),
        Phase(name="training", kind="training", seconds=longest, target_tokens=huge, shared_by=1_000_000),
    ]
    sweep = make_sweep([18.0, 21.0], seconds=longest / 2, importances={"a": 1e308})
    trials = tuple(trial.model_copy(update={"target_tokens": huge}) for trial in sweep.trials)
    environment = make_record().environment.model_copy(update={"cores": huge, "threads": huge})
    fields = {
        "training": training,
        "phases": phases,
        "parameters": Parameters(total=huge, non_embedding=huge),
        "environment": environment,
        "budget": {"kind": "tokens", "limit": 1e308, "spent": 1.7e308},
    }
    steps = {"training": {"batch_tokens": huge, "accumulation": huge}}
    records = [
        *plain(**fields, recipe=steps),
        *tuned("word_level", [1.0], sweep.model_copy(update={"trials": trials}), **fields),
        make_record("wall", **fields | {"budget": {"kind": "wall-clock", "limit": 1e308, "spent": 1.7e308}}),
        make_record("hours", **fields | {"budget": {"kind": "device-hours", "limit": 0.0, "spent": 1.7e308}}),
    ]
    pages = site(tmp_path, records)
    assert sum("1.0e+400" in page.text for name, page in pages.items() if name.startswith("tables/")) == 3
    for name in ("baseline", "word_level", "wall", "hours"):
        text = pages[f"rows/synthetic/{name}.2-2.quick.0badcafe.html"].text
        assert f"{huge:,}" in text
        assert "2,777,777 h 47 min" in text


def test_a_record_that_no_page_can_be_made_of_is_left_out_and_told(tmp_path):
    shared = make_record("shared", phases=[Phase(name="x", kind="training", seconds=1.0, shared_by=10**400)])
    records = [make_record(), make_failed("late").model_copy(update={"seed": 10**400}), shared]
    folder = store(tmp_path / "records", records[0]) / "synthetic"
    index = build([Stored(record, folder) for record in records], tmp_path / "site")
    text = Page(index).text
    assert "Rows1" in "".join(text.split())
    assert "late.2-2.quick.0badcafe: a record was left out, for its seed is too long a number." in text
    assert "shared.2-2.quick.0badcafe: a record was left out, for it claims that more than 1,000,000 rows share" in text
    assert len(list((tmp_path / "site" / "records").rglob("*.json"))) == 1


@pytest.mark.parametrize(
    "option", ["--cluster ray://evil", "--storage=mysql://evil", "--methods-dir evil", "--runs evil"]
)
def test_no_page_shows_a_command_that_reaches_elsewhere(tmp_path, option):
    pages = site(tmp_path, [make_record(command=f"python -m bench run --methods word_level {option}")])
    row = pages["rows/synthetic/word_level.2-2.quick.0badcafe.html"].text
    assert "The record’s command is not shown" in row
    assert "evil" not in "".join(page.text for page in pages.values())


def test_a_note_with_half_a_character_breaks_nothing(tmp_path):
    pages = site(tmp_path, [make_record()], notes=["\ud83d<b>"])
    assert "\ufffd<b>" in pages["index.html"].text


def test_a_changed_file_of_hypotheses_is_told_and_not_published(tmp_path):
    record = make_record()
    store(tmp_path / "records", record)
    file = record.scores["test"].hypotheses.file
    (tmp_path / "records" / "synthetic" / file).write_text("better\n" * 3)
    index = build(read_records([tmp_path / "records"]).records, tmp_path / "site")
    assert f"{file} were changed" in Page(index).text
    assert "missing or changed" in Page(index.parent / "rows" / "synthetic" / f"{record.row}.html").text
    assert not (index.parent / "hypotheses" / "synthetic" / file).exists()
