"""``bench validate``: what was computed from the files passes, and whatever is changed is found and named."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from believable import OUTPUT, QUICK, TARGET, spent, valid, written
from factories import make_curve, make_failed, make_sweep

from bench.cli import group
from bench.config import Depth
from bench.data.datasets import DATASETS
from bench.errors import UsageError
from bench.measure.quality import score
from bench.measure.statistics import sentence_statistics, statistics_content
from bench.records import parse_record, write_record
from bench.results import Phase, Record, StoredFile, file_content
from bench.validation import Validator, summary

pytestmark = pytest.mark.usefixtures("small")


def problems(folder: Path, *records: Record) -> list[str]:
    (verdict, *_) = Validator().validate([written(folder, *records)])
    return list(verdict.problems)


def test_a_record_that_is_what_its_files_say_passes(tmp_path):
    assert problems(tmp_path, valid()) == []


def with_score(test_set: str = "test", **changes):
    def change(record: Record) -> Record:
        changed = record.scores[test_set].model_copy(update=changes)
        return record.model_copy(update={"scores": record.scores | {test_set: changed}})

    return change


def with_fields(**changes):
    return lambda record: record.model_copy(update=changes)


def with_phase(place: int, **changes):
    def change(record: Record) -> Record:
        phases = list(record.phases)
        phases[place] = phases[place].model_copy(update=changes)
        return record.model_copy(update={"phases": tuple(phases)})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_score(bleu=99.0), "test: BLEU is recorded as 99.000000, the statistics give"),
        (with_score("dev", chrf=1.0), "dev: chrF is recorded as 1.000000, outputs and references give"),
        (with_score(length_ratio=2.0), "test: length ratio is recorded as 2.000000"),
        (with_score(degenerate=None), "test: statistics, counts of degenerate outputs or the length ratio are missing"),
        (with_score(bleu_signature="nrefs:1|case:lc|version:2.5.1"), "test: BLEU has the signature 'nrefs:1|case:lc"),
        (with_fields(data_sha256="e" * 64), "data_sha256 is not that of synthetic"),
        (with_fields(energy=" "), "energy names neither"),
        (with_fields(energy="not measured: "), "energy names neither"),
        (with_fields(phases=()), "its training has no phase: what it cost is not told"),
        (with_fields(phases=valid().phases[:1]), "its evaluation has no phase"),
        (with_fields(languages=("src", "de")), "synthetic is src to tgt, and its rows are ordered by test"),
        (with_fields(primary="dev"), "synthetic is src to tgt, and its rows are ordered by test"),
        (with_fields(command="python -m bench run --methods tie_kd --dataset synthetic --preset quick"),
         "its command does not run word_level"),
        (with_fields(command="python -m bench run --methods all --dataset other --preset tiny"),
         "its command has --dataset other, and it is of synthetic. its command has --preset tiny, and it is of quick"),
        (with_phase(0, kind="interrupted"),
         "the phase 'student training' of its student is charged as interrupted, and it is training"),
        (with_phase(0, name="interrupted", kind="interrupted"), "its student has no phase 'student training'"),
        (with_phase(2, kind="common"), "the phase 'teacher training' of its teacher is charged as common, and"),
        (with_fields(artifacts={name: key for name, key in valid().artifacts.items() if name != "teacher"}),
         "word_level needs a teacher artifact, and it names none"),
        (with_phase(2, seconds=0.0), "its teacher has no phase 'teacher training'"),
        (with_fields(recipe=valid().recipe | {"signals": {"kind": "cached"}}), "needs a signals artifact"),
        (with_fields(method=valid().method.model_copy(update={"settings": {"data": "seqkd"}})),
         "needs a text artifact"),
        (with_fields(recipe=valid().recipe | {"teacher": {**valid().recipe["teacher"], "decoder_layers": 10**9}}),
         "has no shapes that its method could have: decoder_layers"),
        (with_fields(recipe=valid().recipe | {"student": {"width": "wide"}}), "has no shapes that its"),
        (lambda record: record.model_copy(update={
            "recipe": record.recipe | {"budget": {"kind": "wall-clock", "amount": 9.0}},
            "budget": spent(record, 9.0, kind="wall-clock", limit=9.0),
        }), "its budget is one of time, and its recipe does not say on which machine"),
        (with_fields(sweep=make_sweep()), "its trials took 180.00 s by its sweep, and 0.00 s by its ledger"),
        (with_fields(model=valid().model.model_copy(update={"width": 128})), "have the shape that its recipe and its"),
        (with_fields(model=valid().model.model_copy(update={"width": 128})), "of its shape and vocabulary does not"),
        (with_fields(model=valid().model.model_copy(update={"encoder_layers": 10**9})), "model.encoder_layers"),
        (lambda _: valid(depth=Depth(3, 2), model=QUICK.student.model_copy(update={"encoder_layers": 3})),
         "its model does not have the shape"),
        (with_fields(parameters=valid().parameters.model_copy(update={"total": 1000})), "not have 1,000 parameters"),
        (with_fields(method=valid().method.model_copy(update={"settings": {"depth": 3}})), "are none of its method's"),
        (with_fields(role="baseline"), "a row of 'word_level' and says that its role is 'baseline'"),
        (lambda record: record.model_copy(update={"budget": spent(record, 0.0, kind="wall-clock", limit=0.0)}),
         "its budget is one of wall-clock, the recipe's is one of tokens"),
        (with_fields(sweep=make_sweep()), "its setting word_level.alpha is not that of the trial that won"),
        (lambda record: record.model_copy(update={"budget": spent(record, None)}), "does not say what was spent"),
        (lambda record: record.model_copy(update={"budget": spent(record, 5.0)}), "not those of its training"),
        (lambda record: record.model_copy(update={"budget": spent(record, 180_400, limit=1.0)}),
         "not the recipe's training.target_tokens"),
        (lambda record: record.model_copy(update={"scores": {"test": record.scores["test"]}}), "no scores of dev"),
        (lambda record: record.model_copy(update={"recipe": record.recipe | {"seeds": 3}}), "no record of 2, 3"),
        (lambda record: record.model_copy(update={"recipe": record.recipe | {"seeds": 10**12}}), "from 1 to 1000"),
        (lambda record: record.model_copy(update={"recipe": record.recipe | {"dev_pairs": 4}}),
         "dev: it has 6 outputs for 4 sentences"),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_named(tmp_path, change, message):
    (path,) = written(tmp_path, valid()).rglob("*.json")
    path.write_text(change(valid()).model_dump_json())
    (verdict,) = Validator().validate([path])
    assert message in " ".join(verdict.problems)


def test_stages_that_its_method_does_not_have_are_found(tmp_path):
    """Each stage may exceed the budget by a batch: many small ones would make it any budget."""
    many = [{"name": "training", "tokens": 1, "updates": 1}] * 100
    rest = {"name": "training", "tokens": 180_300, "updates": 210}
    found = problems(tmp_path, with_training(stages=(*many, rest))(valid()))
    assert found == ["its training had 101 stages (training), and its method's are: training."]


def test_no_string_of_a_record_looks_like_a_line_of_the_answer(tmp_path):
    forged = "a\nscored again: synthetic/mine, seeds 1, 2, 3, content 0123456789ab\x1b[2J"
    stages = ({"name": forged, "tokens": 180_400, "updates": 211},)
    lines = summary(Validator().validate([written(tmp_path, with_training(stages=stages)(valid()))]))
    assert "scored again: synthetic/mine" in lines[0]
    assert not any(line.startswith("scored again") for line in lines)
    assert all(line.isprintable() for line in lines)


OTHER_TRAINING = shlex.quote(json.dumps(valid().recipe["training"] | {"learning_rate": 0.5}))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--set training.learning_rate=0.5", "training.learning_rate = 0.5"),
        ("--set train_pairs=5", "train_pairs = 5"),
        ("--set word_level.alpha=0.7", "word_level.alpha = 0.7"),
        (f"--set training={OTHER_TRAINING}", "training.learning_rate = 0.5"),
        ("--set train_pairs=5 --set tuning.space.training.learning_rate.low=0.002", "train_pairs = 5"),
        ("--seeds 5", "seeds = 5"),
        ("--trials 6", "tuning.trials = 6"),
        ("--teacher-signals cached", 'signals.kind = "cached"'),
        ("--budget tokens:7", "training.target_tokens = 7"),
    ],
)
def test_a_command_that_would_make_another_row_is_found(tmp_path, options, problem):
    command = f"{valid().command} {options}"
    assert any(
        problem in each and "it was not made with that" in each
        for each in problems(tmp_path, with_fields(command=command)(valid()))
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--set training.nothing=1", "training.nothing"),
        ("--set word_level.nothing=1", "nothing"),
        ("--set word_level.alpha=high", "alpha"),
        ("--budget wall-clock:e", "budget.amount"),
        (f"--set train_pairs={'[' * 500}", "train_pairs"),
        ("--set budget.place=here", "budget.place"),
        ("""--set 'budget={"place": "here"}'""", "budget.place"),
    ],
)
def test_a_command_that_no_run_takes_is_found(tmp_path, options, problem):
    command = f"{valid().command} {options}"
    (found,) = problems(tmp_path, with_fields(command=command)(valid()))
    assert found.startswith("its command asks for what it could not be made with")
    assert problem in found


def test_the_values_of_a_command_are_read_as_a_run_reads_them(tmp_path):
    """``.5`` and ``1_000`` are no JSON, and a run takes them."""
    recipe = valid().recipe
    options = (
        f"--set training.target_tokens={recipe['training']['target_tokens']:_} --set word_level.alpha=.5 "
        "--set training.seconds=0 --set signals.top_k=32"
    )
    assert problems(tmp_path, with_fields(command=f"{valid().command} {options}")(valid())) == []


@pytest.mark.parametrize("depth", range(500, 1000, 20))
def test_values_within_values_do_not_break_the_check_off(tmp_path, depth):
    nested = shlex.quote('{"a":' * depth + "1" + "}" * depth)
    found = problems(tmp_path, with_fields(command=f"{valid().command} --set training={nested}")(valid()))
    assert any(each.startswith("its command asks for what it could not be made with") for each in found)


def test_truth_is_said_as_python_and_as_json_say_it(tmp_path):
    record = valid(method="aio_kd")
    assert record.method.settings["share_encoder"] is False
    other = "its command asks for aio_kd.share_encoder = true, and it was not made with that."
    for word, is_found in (("False", False), ("false", False), ("True", True), ("true", True)):
        command = f"python -m bench run --methods aio_kd --set aio_kd.share_encoder={word}"
        assert (other in problems(tmp_path, with_fields(command=command)(record))) is is_found


def test_ranges_that_nothing_was_drawn_from_are_in_no_recipe(tmp_path):
    """They are given by hand all the same, as where a row that was searched is made again without its search."""
    options = "--trials 1 --set tuning.space.training.learning_rate.low=0.002 --set 'tuning.space.student={}'"
    assert problems(tmp_path, with_fields(command=f"{valid().command} {options}")(valid())) == []


def test_a_value_by_hand_does_not_take_the_place_of_an_option(tmp_path):
    """A run reads options last, wherever they stand."""
    recipe = valid().recipe
    other = shlex.quote(json.dumps(recipe["training"] | {"target_tokens": 7}))
    command = f"{valid().command} --budget tokens:{recipe['training']['target_tokens']} --set training={other}"
    assert problems(tmp_path, with_fields(command=command)(valid())) == []


def test_a_command_is_compared_with_a_recipe_that_cannot_be_read(tmp_path):
    """What that is of, such as a preset with more values, need not be of this version of the program."""
    record = valid().model_copy(update={"recipe": valid().recipe | {"more": 1}, "dataset": "mine"})
    changed = with_fields(command="python -m bench run --set training.learning_rate=0.5 --set speed.sentences=9")
    assert any("training.learning_rate = 0.5" in each for each in problems(tmp_path, changed(record)))


def test_a_command_that_gives_what_the_recipe_has_passes(tmp_path):
    recipe = valid().recipe
    options = (
        f"--set training.learning_rate={recipe['training']['learning_rate']} --set word_level.alpha=0.5 --seeds 1 "
        f"--trials 1 --track official --teacher-signals exact --set speed.sentences=64 --budget tokens "
        f"--budget tokens:{recipe['training']['target_tokens']}"
    )
    assert problems(tmp_path, with_fields(command=f"{valid().command} {options}")(valid())) == []


def test_degenerate_outputs_are_counted_again(tmp_path):
    record = valid()
    counts = record.scores["test"].degenerate
    assert (counts.empty, counts.copied) == (1, 1)
    changed = with_score(degenerate=counts.model_copy(update={"empty": 0}))(record)
    assert "test: degenerate outputs are empty=1" in problems(tmp_path, changed)[0]


def test_statistics_of_other_outputs_are_found_though_they_give_the_score(tmp_path):
    """Two sentences' counts changed places: the sums, and so the scores, stay as they are."""
    record = valid()
    counts = sentence_statistics(OUTPUT["test"], TARGET["test"])[[0, 2, 1, 3, 4, 5]]
    files = {}
    for name, made in record.scores.items():
        files[made.hypotheses.file] = file_content(OUTPUT[name])
        files[made.statistics.file] = statistics_content(sentence_statistics(OUTPUT[name], TARGET[name]))
    name = record.scores["test"].statistics.file
    files[name] = statistics_content(counts)
    path = write_record(tmp_path / "synthetic", with_score(statistics=StoredFile.of(name, files[name]))(record), files)
    (verdict,) = Validator().validate([path])
    assert verdict.problems == ("test: the statistics of sentence 2 are not those of its output and reference.",)


def with_training(**changes):
    return lambda record: record.model_copy(update={"training": record.training.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (with_training(curve=()), "it has no curve of its training."),
        (with_training(curve=make_curve()[:-1]), "its curve ends at 175000 target tokens, not at 180400."),
        (with_training(best_dev_loss=3.0), "the lowest dev loss of its curve is 3.210000, not 3.0."),
        (
            with_training(stages=({"name": "training", "tokens": 180_400, "updates": 300},)),
            "the updates of its stages, [300], do not make up those of its training, 310.",
        ),
        (
            with_training(stages=({"name": "training", "updates": 310, "tokens": "180400"},)),
            "the tokens of its stages, [0], do not make up those of its training, 180400.",
        ),
        (with_training(best_update=310), "the best point of its curve is at update 300, not at 310."),
        (
            with_training(
                curve=tuple(
                    point.model_copy(update={"dev_bleu": bleu}) for point, bleu in zip(make_curve(), (1, 2, 3, 4))
                )
            ),
            "the best point of its curve is at update 310, not at 300.",
        ),
    ],
    ids=["none", "end", "lowest", "updates", "tokens", "best", "best by BLEU"],
)
def test_a_curve_that_is_not_of_the_training_is_found(tmp_path, change, problem):
    assert problems(tmp_path, change(valid())) == [problem]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"walls": {}}, "it has no wall time of student, scores, teacher."),
        ({"artifacts": {}, "walls": {}}, "its phases are not those of the artifacts it names."),
        ({"phases": (Phase(name="x", kind="training", seconds=60.0),)}, "its phases are not those of the artifacts"),
        ({"test_access": {}}, "it does not say when test was decoded."),
    ],
)
def test_what_is_left_out_is_missed(tmp_path, fields, problem):
    assert problem in " ".join(problems(tmp_path, valid(**fields)))


def test_phases_that_miss_the_wall_time_are_named(tmp_path):
    def walls(wall: float) -> Record:
        training = Phase(name="student training", kind="training", seconds=100.0, artifact="a1")
        phases = (training, training.model_copy(update={"seconds": 20.0}), *valid().phases[1:])
        return valid(phases=phases, walls=valid().walls | {"a1": wall})

    assert problems(tmp_path / "a", walls(122.0)) == []
    (problem,) = problems(tmp_path / "b", walls(123.0))
    assert problem == "the phases of artifact a1 take 120.00 s, its making took 123.00 s."
    assert "take 120.00 s" in problems(tmp_path / "c", walls(117.0))[0]


def test_a_failed_record_has_no_scores_to_check(tmp_path):
    failed = make_failed(data_sha256=valid().data_sha256, recipe={"seeds": 1})
    assert problems(tmp_path, failed) == []


def test_all_seeds_of_a_row_are_needed_failed_ones_too(tmp_path):
    first, third = (valid(seed, recipe={"seeds": 3}) for seed in (1, 3))
    folder = written(tmp_path, first, third)
    assert [verdict.problems for verdict in Validator().validate([folder])] == [
        ("of the 3 seeds of its row there is no record of 2.",)
    ] * 2
    written(tmp_path, make_failed(seed=2, data_sha256=first.data_sha256, recipe={"seeds": 3}))
    assert [verdict.problems for verdict in Validator().validate([folder])] == [()] * 3


def test_changed_files_and_other_names_are_found(tmp_path):
    (path,) = written(tmp_path, valid()).rglob("*.json")
    lines = path.with_name(valid().scores["test"].hypotheses.file)
    lines.write_bytes(lines.read_bytes().replace(b"Haus", b"H\xffus"))
    assert "were changed" in Validator().validate([path])[0].problems[0]
    record = json.loads(path.read_bytes())
    record["scores"]["test"]["hypotheses"]["sha256"] = StoredFile.of("x", "").sha256
    lines.write_bytes(b"")
    path.write_text(json.dumps(record))
    assert "0 lines, the record says 6" in Validator().validate([path])[0].problems[0]
    other = path.with_name("other.json")
    other.write_bytes(path.read_bytes())
    assert "must be called" in Validator().validate([other])[0].problems[0]


def test_outputs_that_are_no_text_are_refused(tmp_path):
    (path,) = written(tmp_path, valid()).rglob("*.json")
    record, content = json.loads(path.read_bytes()), b"\xff\n" * 6
    named = record["scores"]["test"]["hypotheses"]
    path.with_name(named["file"]).write_bytes(content)
    named["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(record))
    assert "not UTF-8" in Validator().validate([path])[0].problems[0]


@pytest.mark.parametrize(
    "text",
    ["{", '{"schema_version": 2, "phases": [{}]}', '{"schema_version": 99}', '{"schema_version": 4}', '{"a": NaN}'],
)
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    (verdict,) = Validator().validate([tmp_path])
    assert len(verdict.problems) == 1


def test_without_the_data_set_the_rest_is_checked_and_the_reason_given(tmp_path):
    verdicts = Validator().validate([written(tmp_path, valid(dataset="mine"))])
    assert verdicts[0].problems == ()
    assert summary(verdicts)[-2:] == [
        "not checked: of 1 records, outputs were not compared with references: mine is no data set that comes with "
        "the program.",
        "1 of 1 records pass.",
    ]
    bad = with_score(bleu=99.0)(valid(dataset="mine"))
    assert "the statistics give" in problems(tmp_path, bad)[0]


def test_statistics_that_no_reference_could_give_are_found_without_the_data_set(tmp_path):
    record, files = valid(dataset="mine"), {}
    better = sentence_statistics(TARGET["test"], TARGET["test"])
    for name, made in record.scores.items():
        files[made.hypotheses.file] = file_content(OUTPUT[name])
        files[made.statistics.file] = statistics_content(sentence_statistics(OUTPUT[name], TARGET[name]))
    name = record.scores["test"].statistics.file
    files[name] = statistics_content(better)
    scores = {"bleu": 100.0, "chrf": 100.0, "length_ratio": 1.0, "statistics": StoredFile.of(name, files[name])}
    path = write_record(tmp_path / "mine", with_score(**scores)(record), files)
    (verdict,) = Validator().validate([path])
    assert verdict.problems == ("test: the statistics of sentence 1 cannot be those of its output.",)


def test_a_data_set_whose_files_are_missing_is_no_fault_of_the_record(tmp_path, monkeypatch):
    absent = replace(DATASETS["wmt22-de-dsb"], languages=("src", "tgt"), primary="test")
    monkeypatch.setitem(DATASETS, "wmt22-de-dsb", absent)
    (verdict,) = Validator(tmp_path).validate([written(tmp_path, valid(dataset="wmt22-de-dsb"))])
    assert verdict.problems == ()
    assert "data fetch wmt22-de-dsb" in verdict.skipped[0]


@pytest.mark.parametrize("name", ["none", "empty"])
def test_no_record_at_all_is_wrong_usage(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there is no"):
        Validator().validate([tmp_path / name])


def test_a_file_given_twice_counts_once(tmp_path):
    folder = written(tmp_path, valid())
    assert len(Validator().validate([folder, *folder.rglob("*.json")])) == 1


def command(*words: object) -> int:
    return group.main(["validate", *map(str, words)], standalone_mode=False)


def test_the_command_tells_by_its_exit_code(tmp_path, capsys):
    good, bad = written(tmp_path / "good", valid(method="tie_kd")), written(tmp_path / "bad", valid())
    (path,) = bad.rglob("*.json")
    path.write_text(with_fields(energy="")(valid()).model_dump_json())
    assert command(good) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 1 records pass."
    assert command(good, bad) == 1
    refused, *_, last = capsys.readouterr().out.splitlines()
    assert refused == f"refused: {path}: energy names neither a meter nor why nothing was measured."
    assert last == "1 of 2 records pass."
    assert command(bad, "--json") == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["path"], len(found["problems"]), found["skipped"]) == (str(path), 1, [])
    with pytest.raises(UsageError):  # which ends the program with exit code 2
        command(tmp_path / "nothing")


def test_a_seed_of_sacrebleu_that_is_none_changes_nothing(tmp_path, monkeypatch):
    """sacreBLEU reads ``SACREBLEU_SEED=0`` as no seed; nothing of ours may depend on that."""
    folder, quality = written(tmp_path, valid()), []
    for seed in ("0", "12345"):
        monkeypatch.setenv("SACREBLEU_SEED", seed)
        quality.append(score(OUTPUT["test"], TARGET["test"]))
        assert [verdict.problems for verdict in Validator().validate([folder])] == [()]
    assert quality[0] == quality[1]


def test_a_finished_run_passes(finished):
    verdicts = Validator().validate([finished.request.runs / "records"])
    assert [verdict.problems for verdict in verdicts] == [()] * 9
    record = parse_record(verdicts[0].path.read_bytes())
    assert record.scores["test"].degenerate is not None
