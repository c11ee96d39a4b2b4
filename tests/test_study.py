"""Studies: the same whatever the order of their trials, and after a driver was killed."""

import itertools
import json
import multiprocessing
import os
import signal

import optuna
import pytest

from bench.config import Choice, Range, TuningConfig
from bench.errors import UsageError
from bench.results import Trial
from bench.sweep.space import Dimension, Space
from bench.sweep.study import DrawnStudy, SampledStudy, open_study

SPACE = Space(
    (
        Dimension("training.learning_rate", Range(1e-3, 1e-1, log=True), False, 0.01),
        Dimension("mine.rounds", Choice((1, 2, 3)), False, 2),
        Dimension("mine.k", Range(1, 9), True, 5),
    )
)
OFFICIAL = TuningConfig(trials=4, seed=1)
OPEN = TuningConfig(trials=8, track="open", sampler="tpe", seed=1)


def ok(number, values, bleu=None):
    bleu = 10.0 * number if bleu is None else bleu
    return Trial(number=number, values=dict(values), state="ok", bleu=bleu, seconds=1.5, target_tokens=100)


def failed(number, values, state="not finite"):
    return Trial(number=number, values=dict(values), state=state, reason="loss is not finite", seconds=0.5)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "sweeps" / "study.journal"


def reopened(study, journal):
    study.close()
    return open_study(study.name, study.space, study.tuning, journal)


def kept(journal, name="study"):
    """What Optuna itself reads from a journal."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    trials = optuna.load_study(study_name=name, storage=storage).trials
    return [(trial.number, trial.params, trial.value, trial.state.name, trial.user_attrs) for trial in trials]


def test_the_tracks_have_studies_of_their_own(journal):
    study = open_study("study", SPACE, OFFICIAL, journal)
    assert isinstance(study, DrawnStudy)
    study.close()
    assert isinstance(open_study("other", SPACE, OPEN, journal), SampledStudy)


def test_an_official_study_is_the_same_in_whichever_order_trials_end(tmp_path):
    studies = []
    for number, order in enumerate(itertools.permutations(range(4))):
        place = tmp_path / f"{number}.journal"
        study = open_study("study", SPACE, OFFICIAL, place)
        for trial in order:
            values = study.begin(trial)
            study.finish(failed(trial, values) if trial == 2 else ok(trial, values))
        studies.append((study.trials(), kept(place)))
    assert all(each == studies[0] for each in studies)
    trials, stored = studies[0]
    assert [trial.values for trial in trials] == SPACE.points(4, 1)
    assert [trial.state for trial in trials] == ["ok", "ok", "not finite", "ok"]
    assert [each[3] for each in stored] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]
    assert [each[2] for each in stored] == [0.0, 10.0, None, 30.0]


def test_a_reopened_official_study_takes_only_what_it_lacks(journal):
    study = open_study("study", SPACE, OFFICIAL, journal)
    study.finish(ok(0, study.begin(0)))
    study.finish(failed(2, study.begin(2)))  # waits for trial 1
    study = reopened(study, journal)
    assert [trial.number for trial in study.trials()] == [0]
    study.finish(ok(1, study.begin(1)))
    assert [trial.state for trial in study.trials()] == ["ok", "ok", "not finite"]
    for number in (2, 0, 1, 3):
        study.finish(ok(number, study.begin(number)))
    assert [trial.number for trial in study.trials()] == [0, 1, 2, 3]
    assert [each[0] for each in kept(journal)] == [0, 1, 2, 3]


def test_a_half_written_line_is_dropped(journal):
    study = open_study("study", SPACE, OFFICIAL, journal)
    study.finish(ok(0, study.begin(0)))
    study.close()
    whole = journal.read_bytes()
    for cut in (1, 100):
        journal.write_bytes(whole + whole.splitlines(keepends=True)[-1][:-cut])
        study = open_study("study", SPACE, OFFICIAL, journal)
        assert [trial.number for trial in study.trials()] == [0]
        study.finish(ok(1, study.begin(1)))
        study.close()
        assert [each[0] for each in kept(journal)] == [0, 1]
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_a_study_in_which_every_trial_failed_is_begun_anew(journal):
    for tuning in (OFFICIAL, OPEN):
        study = open_study(tuning.track, SPACE, tuning, journal)
        for number in range(tuning.trials):
            study.finish(failed(number, study.begin(number)))
        assert len(study.trials()) == tuning.trials
        study = reopened(study, journal)
        assert study.trials() == ()
        study.close()


def test_two_runs_cannot_keep_one_study(journal):
    study = open_study("study", SPACE, OFFICIAL, journal)
    with pytest.raises(UsageError, match="another run keeps the study"):
        open_study("study", SPACE, OFFICIAL, journal)
    study.close()
    open_study("study", SPACE, OFFICIAL, journal).close()


def _hold(journal, ready):
    study = open_study("study", SPACE, OFFICIAL, journal)
    study.finish(ok(0, study.begin(0)))
    ready.send(True)
    signal.pause()


def test_a_killed_driver_holds_no_study(journal):
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(journal, sender))
    process.start()
    assert receiver.poll(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    study = open_study("study", SPACE, OFFICIAL, journal)
    assert [trial.number for trial in study.trials()] == [0]


def test_an_open_study_begins_with_the_published_values_and_learns(journal):
    """The nearer the learning rate is to 0.05 and the larger k, the better."""
    tuning = OPEN.model_copy(update={"trials": 30})
    study = open_study("study", SPACE, tuning, journal)
    for number in range(30):
        values = study.begin(number)
        study.finish(
            ok(number, values, bleu=50 - 500 * abs(values["training.learning_rate"] - 0.05) + values["mine.k"])
        )
    trials = study.trials()
    assert trials[0].values == SPACE.published
    early, late = (sum(trial.bleu for trial in part) / len(part) for part in (trials[:10], trials[20:]))
    assert late > early + 5
    shares = study.importances()
    assert shares.keys() == {each.name for each in SPACE.dimensions}
    assert max(shares, key=shares.get) == "training.learning_rate"


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_an_open_study_that_was_interrupted_asks_what_it_would_have_asked(tmp_path, sampler):
    tuning = OPEN.model_copy(update={"sampler": sampler})
    lists = []
    for interrupted in (False, True):
        place = tmp_path / f"{interrupted}.journal"
        study = open_study("study", SPACE, tuning, place)
        for number in range(8):
            values = study.begin(number)
            if interrupted:
                study = reopened(study, place)
                assert study.begin(number) == values
            study.finish(ok(number, values, bleu=values["mine.k"]))
        lists.append([trial.values for trial in study.trials()])
        study.close()
    assert lists[0] == lists[1]
    assert len({json.dumps(values) for values in lists[0]}) == 8


def forgotten(journal):
    """An open study whose journal was lost, and the first three points that it had asked for."""
    study = open_study("study", SPACE, OPEN, journal)
    values = [study.begin(number) for number in range(3)]
    study.close()
    journal.unlink()
    return open_study("study", SPACE, OPEN, journal), values


def test_an_open_study_takes_back_trials_whose_journal_was_lost(journal):
    study, values = forgotten(journal)
    study.finish(ok(0, values[0]))
    study.finish(ok(1, values[1]))
    study.finish(ok(1, values[2]))  # was told already
    assert [trial.values for trial in study.trials()] == values[:2]


def test_an_open_study_goes_on_wherever_the_driver_was_killed(tmp_path):
    """The journal is cut after each of its lines."""
    whole = tmp_path / "whole.journal"
    study = open_study("study", SPACE, OPEN, whole)
    for number in range(3):
        study.finish(ok(number, study.begin(number)))
    expected = [trial.values for trial in study.trials()]
    study.close()
    lines = whole.read_bytes().splitlines(keepends=True)
    for count in range(1, len(lines)):
        journal = tmp_path / f"{count}.journal"
        journal.write_bytes(b"".join(lines[:count]))
        study = open_study("study", SPACE, OPEN, journal)
        for number in range(3):
            study.finish(ok(number, study.begin(number)))
        assert [trial.values for trial in study.trials()] == expected
        study.close()


def test_an_open_study_fills_a_gap_that_a_lost_journal_left(journal):
    study, values = forgotten(journal)
    study.finish(ok(0, values[0]))
    study.finish(ok(2, values[2]))
    assert [trial.number for trial in study.trials()] == [0]
    study.finish(ok(1, study.begin(1)))
    assert [trial.number for trial in study.trials()] == [0, 1, 2]
    assert study.trials()[2].values == values[2]


def test_trials_that_wait_for_a_gap_keep_their_own_values(journal):
    """Also where the trial after them is asked for before the gap is filled."""
    study, values = forgotten(journal)
    study.finish(ok(0, values[0]))
    study.finish(ok(2, values[2]))
    asked = study.begin(3)
    assert study.begin(2) == values[2]
    assert asked not in values
    study.finish(ok(1, study.begin(1)))
    study.finish(ok(3, asked))
    assert [trial.values for trial in study.trials()][2:] == [values[2], asked]


def test_a_trial_that_was_trained_but_not_scored_keeps_its_own_values(journal):
    study, values = forgotten(journal)
    study.finish(ok(0, values[0]))
    study.trained(1, values[2])
    study.begin(2)  # before trial 1 is scored
    study.finish(ok(1, study.begin(1)))
    assert study.trials()[1].values == values[2]


def test_a_shorter_open_study_is_the_beginning_of_a_longer_one(journal):
    study = open_study("study", SPACE, OPEN, journal)
    for number in range(8):
        study.finish(failed(number, study.begin(number)) if number == 7 else ok(number, study.begin(number)))
    study.close()
    shorter = open_study("study", SPACE, OPEN.model_copy(update={"trials": 2}), journal)
    assert [trial.number for trial in shorter.trials()] == [0, 1]


def test_a_trial_behind_the_others_is_stopped(journal):
    tuning = OPEN.model_copy(update={"pruner": "median"})
    study = open_study("study", SPACE, tuning, journal)
    for number in range(6):
        values = study.begin(number)
        assert not any(study.report(number, step, value=-1.0) for step in (1, 2))
        study.finish(ok(number, values))
    values = study.begin(6)
    assert study.report(6, 1, value=-9.0)
    assert study.report(6, 2, value=-9.0)
    assert study.report(6, 2, value=-9.0)  # a training that goes on repeats itself
    study.finish(failed(6, values, "pruned"))
    assert study.trials()[6].state == "pruned"
    assert study.trials()[6].bleu is None
    assert kept(journal)[6][3] == "PRUNED"
    assert not study.report(6, 3, value=-9.0)


def test_nothing_is_said_of_importance_after_few_trials(journal):
    study = open_study("study", SPACE, OFFICIAL, journal)
    for number in range(4):
        study.finish(ok(number, study.begin(number)))
    assert study.importances() is None


def test_another_storage_can_be_given(tmp_path):
    address = f"sqlite:///{tmp_path / 'study.db'}"
    study = open_study("study", SPACE, OFFICIAL, tmp_path / "study.journal", address)
    for number in (1, 0):
        study.finish(ok(number, study.begin(number)))
    with pytest.raises(UsageError, match="another run keeps"):
        open_study("study", SPACE, OFFICIAL, tmp_path / "study.journal", address)
    study.close()
    again = open_study("study", SPACE, OFFICIAL, tmp_path / "study.journal", address)
    assert again.trials() == study.trials()
    assert len(optuna.load_study(study_name="study", storage=address).trials) == 2


def test_a_storage_that_cannot_be_used_is_told_without_its_password(journal):
    with pytest.raises(UsageError, match=r"storage nosuch://\.\.\.@host/db cannot be used") as error:
        open_study("study", SPACE, OFFICIAL, journal, "nosuch://me:secret@host/db")
    assert "secret" not in str(error.value)
    open_study("study", SPACE, OFFICIAL, journal)  # it left no lock behind
