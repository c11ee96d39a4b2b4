"""The record's schema, its files, and finding rows by name."""

import json
from datetime import datetime, timedelta, timezone

import pytest
from factories import make_failed, make_hypotheses, make_record, make_sweep, store, tuned
from pydantic import ValidationError

import bench.records as records_module
from bench.config import Depth, preset
from bench.errors import DataError, UsageError
from bench.measure.statistics import sentence_statistics
from bench.records import check_files, find_row, parse_record, read_records, write_record
from bench.results import SCHEMA_VERSION, Phase, Record, file_content, row_id


def changed(record: Record, **fields) -> dict:
    return record.model_dump() | fields


def test_written_records_are_read_back_unchanged(tmp_path):
    first, failed = make_record(seed=1), make_failed(seed=2)
    store(tmp_path, first, failed)
    records, problems = read_records([tmp_path])
    assert [each.record for each in records] == [first, failed]
    assert problems == ()
    assert records[0].hypotheses("test") == make_hypotheses(1)["test"]
    assert check_files(records[0]) == []


def test_files_lie_where_the_layout_says(tmp_path):
    record = make_record(seed=7)
    store(tmp_path, record)
    path = next(tmp_path.rglob("*.json"))
    assert path == tmp_path / "synthetic" / "word_level.2-2.quick.0badcafe.s7.json"
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "word_level.2-2.quick.0badcafe.s7.dev.txt",
        "word_level.2-2.quick.0badcafe.s7.json",
        "word_level.2-2.quick.0badcafe.s7.test.txt",
    ]


def test_hypotheses_keep_every_character_but_the_line_end(tmp_path):
    lines = {"test": ["", "a\r", "tab\t\u2028\x0b \u202e", ""]}
    record = make_record(hypotheses=lines)
    store(tmp_path, record, hypotheses=lines)
    assert read_records([tmp_path]).records[0].hypotheses("test") == lines["test"]
    with pytest.raises(ValueError, match="one line"):
        file_content(["two\nlines"])


def test_other_hypotheses_than_the_records_are_not_written(tmp_path):
    record = make_record()
    files = {score.hypotheses.file: "else\n" for score in record.scores.values()}
    with pytest.raises(ValueError, match="not that of the record"):
        write_record(tmp_path, record, files)
    with pytest.raises(ValueError, match="for a record that names"):
        write_record(tmp_path, record, {})
    assert list(tmp_path.iterdir()) == []


def test_changed_missing_and_shortened_hypotheses_are_named(tmp_path):
    store(tmp_path, make_record())
    (stored,) = read_records([tmp_path]).records
    test, dev = (stored.folder / stored.record.scores[name].hypotheses.file for name in ("test", "dev"))
    test.write_text(test.read_text() + "one more\n")
    dev.unlink()
    problems = check_files(stored)
    assert len(problems) == 2
    assert "changed" in problems[0]
    assert test.name in problems[0]
    assert "cannot be read" in problems[1]
    assert dev.name in problems[1]
    with pytest.raises(DataError, match="changed"):
        stored.hypotheses("test")


def test_statistics_come_back_and_changed_ones_are_named(tmp_path):
    lines, references = {"test": ["ein Satz ohne Ende .", ""]}, {"test": ["ein Satz mit Ende .", "noch einer"]}
    store(tmp_path, make_record(hypotheses=lines, references=references), hypotheses=lines, references=references)
    (stored,) = read_records([tmp_path]).records
    expected = sentence_statistics(lines["test"], references["test"])
    assert stored.statistics("test").tolist() == expected.tolist()
    assert check_files(stored) == []
    file = stored.folder / stored.record.scores["test"].statistics.file
    file.write_text(file.read_text().replace("5", "6"))
    assert "statistics" in check_files(stored)[0]
    assert "changed" in check_files(stored)[0]


def test_a_record_without_statistics_has_none(tmp_path):
    store(tmp_path, make_record())
    assert read_records([tmp_path]).records[0].statistics("test") is None


def test_a_wrong_sentence_count_is_found(tmp_path):
    record = make_record()
    scores = {name: score.model_copy(update={"sentences": 4}) for name, score in record.scores.items()}
    store(tmp_path, record.model_copy(update={"scores": scores}))
    assert "3 lines, the record says 4" in check_files(read_records([tmp_path]).records[0])[0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_no_json_are_refused_everywhere(bad):
    record = make_record()
    for fields in (
        {"recipe": {"training": {"rates": [1.0, bad]}}},
        {"method": record.method.model_dump() | {"settings": {"alpha": bad}}},
        {"training": record.training.model_dump() | {"best_dev_loss": bad}},
        {"scores": {"test": record.scores["test"].model_dump() | {"bleu": bad}}},
        {"phases": [{"name": "training", "kind": "training", "seconds": bad}]},
    ):
        with pytest.raises(ValidationError, match="finite"):
            Record.model_validate(changed(record, **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"row": "../../etc.2-2.quick.0badcafe"}, "pattern"),
        ({"row": "word_level.2-2.quick.0badcafe\n"}, "pattern"),
        ({"row": "word_level.3-3.quick.0badcafe"}, "of this record"),
        ({"row": "word_level.2-2.quick.0badcafe0"}, "of this record"),
        ({"dataset": ".."}, "pattern"),
        ({"dataset": "a/b"}, "pattern"),
        ({"preset": "quick.er"}, "pattern"),
        ({"status": "failed"}, "needs a reason"),
        ({"reason": "but it is fine"}, "needs a reason"),
        ({"status": "failed", "reason": "two\nlines"}, "pattern"),
        ({"status": "failed", "reason": ""}, "pattern"),
        ({"model": None, "training": None}, "needs model, training"),
        ({"primary": "other"}, "no score"),
        ({"scores": {}}, "no score"),
        ({"seed": -1}, "greater than or equal"),
        ({"seed": 2}, "must be called"),
        ({"created": datetime(2026, 1, 1)}, "timezone"),
        ({"created": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))}, "UTC"),
        ({"phases": [{"name": "training", "kind": "training", "seconds": -1.0}]}, "greater than or equal"),
        (
            {"phases": [{"name": "training", "kind": "training", "seconds": 1.0, "shared_by": 0}]},
            "greater than or equal",
        ),
        ({"track": "unheard-of"}, "official"),
        ({"surprise": 1}, "Extra"),
    ],
)
def test_records_against_the_rules_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        Record.model_validate(changed(make_record(), **fields))


def test_a_score_above_100_is_refused():
    record = make_record()
    with pytest.raises(ValidationError, match="less than or equal to 100"):
        Record.model_validate(changed(record, scores={"test": record.scores["test"].model_dump() | {"bleu": 100.5}}))


def test_a_record_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        make_record().seed = 3


def test_the_rows_share_of_a_phase():
    assert Phase(name="teacher", kind="teacher", seconds=120, shared_by=6).charged == 20


def test_row_ids():
    assert row_id("a2d", Depth(2, 1), "small", "0123456789abcdef") == "a2d.2-1.small.01234567"
    with pytest.raises(ValueError, match="8 hexadecimal"):
        row_id("a2d", Depth(2, 1), "small", "xyz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema_version": 1', "not JSON"),
        ("[1, 2]", "no schema_version"),
        ('{"schema_version": "1"}', "no schema_version"),
        ('{"schema_version": true}', "no schema_version"),
        ('{"schema_version": 99}', r"newer version \(schema 99; this one reads up to 4\)"),
        ('{"schema_version": -3}', "never existed"),
        ('{"schema_version": 2, "row": "a/b"}', "row: .*dataset: Field required"),
        (b"\xff\xfe\x00", "not JSON"),
        pytest.param("[" * 100_000, "not JSON", id="nested too deeply"),
    ],
)
def test_what_is_no_record_is_one_clear_sentence(text, message):
    with pytest.raises(DataError, match=message):
        parse_record(text)


def test_json_with_nan_is_refused():
    text = make_record().model_dump_json().replace('"padding_share":0.04', '"padding_share":NaN')
    assert "NaN" in text
    with pytest.raises(DataError, match=r"not JSON .*not JSON compliant"):
        parse_record(text)


def test_json_with_half_a_character_is_refused():
    text = make_record(command="COMMAND").model_dump_json().replace("COMMAND", r"\ud83d")
    with pytest.raises(DataError, match=r"not JSON .*surrogates"):
        parse_record(text)


def test_an_earlier_schema_goes_through_its_upgrade(monkeypatch):
    record = make_record()
    old = json.loads(record.model_dump_json()) | {"schema_version": 0}
    old["corpus"] = old.pop("dataset")

    def upgrade_from_zero(data):
        rest = {key: value for key, value in data.items() if key != "corpus"}
        return rest | {"dataset": data["corpus"], "schema_version": 1}

    def only_counted(data):
        return data | {"schema_version": data["schema_version"] + 1}

    later = dict.fromkeys(range(1, SCHEMA_VERSION), only_counted)
    monkeypatch.setattr(records_module, "UPGRADES", {0: upgrade_from_zero, **later})
    read = parse_record(json.dumps(old))
    assert (read.model_dump(), read.written) == (record.model_dump(), 0)


def test_a_record_knows_the_schema_of_its_file_whatever_becomes_of_it():
    old = json.loads(make_record().model_dump_json()) | {"schema_version": 3}
    read = parse_record(json.dumps(old))
    assert [read.written, read.model_copy(update={"seed": 2}).written, make_record().written] == [3, 3, SCHEMA_VERSION]
    assert parse_record(read.model_dump_json()).written == SCHEMA_VERSION
    with pytest.raises(DataError, match="_written: Extra inputs are not permitted"):
        parse_record(json.dumps(old | {"_written": SCHEMA_VERSION}))


def test_a_failed_record_of_the_first_schema_gets_a_state():
    new = json.loads(make_failed(recipe=preset("quick").recipe()).model_dump_json())
    old = {key: value for key, value in new.items() if key not in ("failure", "budget", "sweep", "test_access")}
    assert parse_record(json.dumps(old | {"schema_version": 1})).failure == "exception"


def test_a_damaged_file_is_reported_and_the_rest_is_read(tmp_path):
    store(tmp_path, make_record(seed=1), make_record(seed=2))
    (tmp_path / "synthetic" / make_record(seed=2).file).write_text("{")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "other.json").write_text('{"schema_version": 99}')
    records, problems = read_records([tmp_path])
    assert [each.record.seed for each in records] == [1]
    assert len(problems) == 3
    assert "s2.json: not JSON" in problems[2]
    assert "newer version" in problems[1]


def test_of_two_versions_of_a_record_the_newer_counts(tmp_path):
    older = make_record(bleu=10.0)
    newer = make_record(bleu=11.0, created=older.created + timedelta(days=1))
    store(tmp_path / "a", newer)
    store(tmp_path / "b", older)
    store(tmp_path / "c", newer)
    for order in ("abc", "bca", "cab"):
        records, problems = read_records([tmp_path / name for name in order])
        assert [each.record for each in records] == [newer]
        assert len(problems) == 1
        assert "newer record" in problems[0]
        assert "/b/" in problems[0].replace("\\", "/")


def test_a_missing_folder_is_the_users_error(tmp_path):
    with pytest.raises(UsageError, match="no folder of records"):
        read_records([tmp_path / "none"])


@pytest.fixture
def stored(tmp_path):
    store(
        tmp_path,
        make_record("word_level", 1),
        make_record("word_level", 2),
        make_record("word_level", 1, digest="ffffffff"),
        make_record("aio_kd", 2, depth=Depth(2, 2)),
        make_record("aio_kd", 10, depth=Depth(2, 2)),
        make_record("aio_kd", 1, depth=Depth(3, 3)),
        make_record("aio_kd", 1, depth=Depth(3, 3), dataset="multi30k-en-de"),
    )
    return read_records([tmp_path]).records


@pytest.mark.parametrize(
    ("query", "dataset", "row", "seeds"),
    [
        ("word_level.2-2.quick.0badcafe", "synthetic", "word_level.2-2.quick.0badcafe", [1, 2]),
        ("word_level.2-2.quick.0badcafe@2", "synthetic", "word_level.2-2.quick.0badcafe", [2]),
        ("aio_kd.2-2", "synthetic", "aio_kd.2-2.quick.0badcafe", [2, 10]),
        ("multi30k-en-de/aio_kd", "multi30k-en-de", "aio_kd.3-3.quick.0badcafe", [1]),
        ("synthetic/aio_kd.3-3@1", "synthetic", "aio_kd.3-3.quick.0badcafe", [1]),
    ],
)
def test_rows_are_found_by_unambiguous_names(stored, query, dataset, row, seeds):
    found = find_row(stored, query)
    assert [(each.record.dataset, each.record.row) for each in found] == [(dataset, row)] * len(seeds)
    assert [each.record.seed for each in found] == seeds


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("word_level", "synthetic/word_level.2-2.quick.0badcafe, synthetic/word_level.2-2.quick.ffffffff"),
        ("aio_kd.3-3", "multi30k-en-de/aio_kd.3-3.quick.0badcafe, synthetic/aio_kd.3-3.quick.0badcafe"),
        ("word_leve", "synthetic/word_level.2-2.quick.0badcafe"),
        ("synthetic/tie_kd", "unknown row 'synthetic/tie_kd'"),
        ("aio_kd.2-2@3", "Known: 10, 2"),
        ("aio_kd.2-2@", "Known: 10, 2"),
        ("@1", "unknown row"),
        ("", "unknown row"),
    ],
)
def test_other_names_list_the_candidates(stored, query, listed):
    with pytest.raises(UsageError) as caught:
        find_row(stored, query)
    assert listed in str(caught.value)


@pytest.mark.parametrize(
    "damage", [{"recipe": "abc"}, {"recipe": None}, {"training": [1]}, {"recipe": {"training": [1]}}]
)
def test_a_damaged_record_of_the_first_schema_is_one_clear_sentence(damage):
    old = json.loads(make_record().model_dump_json()) | {"schema_version": 1} | damage
    with pytest.raises(DataError, match="no record of schema version 1"):
        parse_record(json.dumps(old))


def test_an_official_sweep_draws_from_the_one_list():
    record = tuned("word_level", [12.0], make_sweep((10.0, 11.0)))[0]
    for changed_sweep in ({"sampler": "tpe"}, {"pruner": "median"}):
        sweep = record.sweep.model_copy(update=changed_sweep)
        with pytest.raises(ValidationError, match="official track draws from qmc"):
            Record.model_validate(changed(record, sweep=sweep.model_dump()))
    with pytest.raises(ValidationError, match="track is not the recipe's"):
        Record.model_validate(changed(record, track="open"))
