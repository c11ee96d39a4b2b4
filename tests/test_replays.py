"""Records of every earlier schema version, as they were written then: they are read and shown today, and not placed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from believable import valid, written
from factories import make_record
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.records import UPGRADES, read_records, write_record
from bench.results import SCHEMA_VERSION, FurtherScore, Record, file_content
from bench.store import content_hash, write_json
from bench.validation import Validator
from leaderboard.ranking import aggregate
from leaderboard.site import build

FOLDER = Path(__file__).with_name("records")
EARLIER_VERSION = "its records were written by an earlier version, which said less of its costs"
EARLIER = range(1, SCHEMA_VERSION)


def stored(version: int) -> list[Record]:
    reading = read_records([FOLDER / f"v{version}"])
    assert reading.problems == ()
    return [each.record for each in reading.records]


def test_every_earlier_version_has_a_finished_and_a_failed_record():
    found: dict[int, set[str]] = {}
    for path in FOLDER.rglob("*.json"):
        data = json.loads(path.read_bytes())
        assert path.parts[-3] == f"v{data['schema_version']}"
        found.setdefault(data["schema_version"], set()).add(data["status"])
    assert found == {version: {"ok", "failed"} for version in EARLIER}
    assert set(UPGRADES) == set(EARLIER)


def test_a_row_of_version_1_means_what_it_meant():
    failed, *finished = stored(1)
    assert [record.seed for record in finished] == [1, 2, 3]
    first = finished[0]
    data = json.loads((FOLDER / "v1" / "synthetic" / first.file).read_bytes())
    assert first.scores["test"].bleu == data["scores"]["test"]["bleu"]
    assert (first.budget.kind, first.budget.limit) == ("tokens", data["recipe"]["training"]["target_tokens"])
    assert first.budget.spent == data["training"]["target_tokens"]
    assert (first.track, first.sweep, first.recipe["tuning"]) == ("official", None, {"trials": 1})
    assert [phase.seconds for phase in first.phases] == [phase["seconds"] for phase in data["phases"]]
    assert (failed.status, failed.failure, failed.reason) == ("failed", "exception", data_of(1, failed)["reason"])


def test_a_row_of_version_2_means_what_it_meant():
    failed, *finished = stored(2)
    first, data = finished[0], data_of(2, finished[0])
    assert [record.seed for record in finished] == [1, 2, 3]
    assert len(first.sweep.trials) == 6
    assert first.test_access["test"][0].isoformat() == data["test_access"]["test"][0].replace("Z", "+00:00")
    assert [phase.seconds for phase in first.phases] == [phase["seconds"] for phase in data["phases"]]
    student = "student training, with any passes of the teacher"
    assert {"teacher training", student, "trials", "final decoding", "scoring"} <= {
        phase.name for phase in first.phases
    }
    assert first.energy.startswith("not measured: ")
    assert first.scores["test"].statistics is first.scores["test"].degenerate is None
    assert first.speed is None
    assert failed.failure == "out of memory"


def test_a_row_of_version_3_means_what_it_meant():
    failed, *finished = stored(3)
    first, data = finished[0], data_of(3, finished[0])
    assert [record.seed for record in finished] == [1, 2, 3]
    assert first.scores["test"].statistics.sha256 == data["scores"]["test"]["statistics"]["sha256"]
    assert first.training.curve == ()
    assert first.training.model_dump(mode="json", exclude={"curve"}) == data["training"]
    assert failed.failure == "timed out"


def data_of(version: int, record: Record) -> dict:
    return json.loads((FOLDER / f"v{version}" / record.dataset / record.file).read_bytes())


def test_they_are_shown(tmp_path):
    reading = read_records([FOLDER])
    page = build(reading.records, tmp_path / "site")
    assert "Notes" not in page.read_text(encoding="utf-8")
    for each in reading.records:
        row = (tmp_path / "site" / "rows" / each.record.dataset / f"{each.record.row}.html").read_text(encoding="utf-8")
        expected = each.record.reason or f"{each.record.scores['test'].bleu:.2f}"
        assert expected in row


def test_they_are_refused_by_validation_with_what_mends_it():
    verdicts = Validator().validate([FOLDER])
    assert len(verdicts) == 4 * len(EARLIER)
    for verdict in verdicts:
        assert verdict.problems == (
            f"it is of schema {verdict.path.parts[-3][1:]}, and only schema {SCHEMA_VERSION} is taken: the same "
            "command again in its run folder writes it anew.",
        )


def test_none_of_them_is_placed():
    for version in EARLIER:
        tables = aggregate(stored(version))
        reasons = [row.unplaced for table in tables for row in table.rows]
        assert reasons
        assert all(EARLIER_VERSION in each for each in reasons)


@pytest.mark.usefixtures("small")
def test_who_calls_new_records_old_ones_is_neither_published_nor_placed(tmp_path):
    """No curve, no wall times, no test access and a ledger of nothing: so little was once asked of schema 3."""
    phase = valid().phases[0].model_copy(update={"seconds": 0.01})
    bare = {"walls": {}, "test_access": {}, "phases": (phase,), "recipe": {"seeds": 3}}
    written(tmp_path, *(valid(seed, **bare) for seed in (1, 2, 3)))
    for path in tmp_path.rglob("*.json"):
        data = json.loads(path.read_bytes())
        data["training"]["curve"] = []
        path.write_text(json.dumps(data | {"schema_version": 3}))
    assert all(verdict.problems[0].startswith("it is of schema 3") for verdict in Validator().validate([tmp_path]))
    (table,) = aggregate(each.record for each in read_records([tmp_path]).records)
    assert [row.unplaced for row in table.rows] == [(EARLIER_VERSION,)]


BAD = st.sampled_from([math.nan, math.inf, -math.inf])
NAMES = st.text("ab\u2028", max_size=3)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), NAMES, st.floats(-1e300, 1e300))


@st.composite
def spoilt(draw: st.DrawFn) -> object:
    """JSON with a number in it, somewhere, that JSON has not."""
    value: object = draw(BAD)
    for _ in range(draw(st.integers(0, 4))):
        beside = draw(st.lists(PLAIN, max_size=2))
        value = [*beside, value] if draw(st.booleans()) else {draw(NAMES): value, "other": beside}
    return value


@given(spoilt())
def test_what_is_no_json_is_never_written(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match=r"not JSON|Out of range|nan|inf"):
        write_json(path, value)
    with pytest.raises(ValueError, match=r"not JSON|Out of range|nan|inf"):
        content_hash(value)
    assert path.read_text() == '{\n "old": 1\n}\n'
    assert [each for each in path.parent.iterdir() if each.name.startswith(".value")] == []


RECORD = make_record()


@given(spoilt(), st.sampled_from(["recipe", "settings", "stages"]))
def test_no_record_holds_it(value, place):
    values = RECORD.model_dump()
    if place == "recipe":
        values["recipe"]["extra"] = value
    elif place == "settings":
        values["method"]["settings"]["extra"] = value
    else:
        values["training"]["stages"] = [{"extra": value}]
    with pytest.raises(ValidationError, match="finite"):
        Record.model_validate(values)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_further_score_is_written_and_read_or_refused(tmp_path_factory, value):
    score = RECORD.scores["test"]
    try:
        further = FurtherScore(name="x", value=value, signature="s")
    except ValidationError:
        assert not math.isfinite(value)
        return
    record = RECORD.model_copy(update={"scores": {"test": score.model_copy(update={"further": (further,)})}})
    lines = file_content([f"Satz {number} von test, Lauf 1." for number in range(3)])
    path = write_record(tmp_path_factory.getbasetemp() / "further", record, {score.hypotheses.file: lines})
    json.loads(path.read_bytes(), parse_constant=pytest.fail)
    assert read_records([path.parent]).records[0].record == record
