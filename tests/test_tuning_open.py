"""Sweeps of the open track: another search, trials that stop early, rows of their own."""

import re

import micro
import pytest

from bench.errors import UsageError
from bench.run import prepare
from bench.store import Store


def test_it_is_marked_and_has_rows_of_its_own(corpus, tmp_path):
    request = micro.request(tmp_path, "word_level", corpus=corpus, trials=3, track="open", pruner="median")
    outcome, _ = micro.run_here(request)
    assert outcome.failures == {}
    found = [record for record in micro.records(request.runs) if record.sweep]
    assert {(record.track, record.sweep.sampler, record.sweep.pruner) for record in found} == {
        ("open", "tpe", "median")
    }
    official = micro.request(tmp_path, "word_level", corpus=corpus, trials=3)
    assert not {record.row for record in found} & {row.id for row in prepare(official).plan.rows}
    store = Store(request.runs / "artifacts")
    for record in found:
        trained = store.get("student", record.artifacts["student"])
        assert trained.details["point"] == record.sweep.best.values
        assert record.sweep.trials[0].values["training.learning_rate"] == 3e-3
    micro.believed(request)


def test_trials_that_fall_behind_are_stopped_and_the_others_go_on(corpus, tmp_path):
    request = micro.request(tmp_path, corpus=corpus, trials=9, track="open", pruner="halving", workers=1)
    outcome, _ = micro.run_here(request)
    assert outcome.failures == {}
    (record,) = [record for record in micro.records(request.runs) if record.sweep]
    stopped = [trial for trial in record.sweep.trials if trial.state == "pruned"]
    assert stopped
    assert all(re.fullmatch(r"behind the other trials at evaluation \d", trial.reason) for trial in stopped)
    assert record.sweep.best.state == "ok"


def test_it_needs_several_trials(corpus, tmp_path):
    with pytest.raises(UsageError, match="several trials to learn from"):
        prepare(micro.request(tmp_path, corpus=corpus, track="open"))


def test_a_sweep_by_another_search_has_a_study_of_its_own(corpus, tmp_path):
    micro.run_here(micro.request(tmp_path, corpus=corpus, trials=2, track="open"))
    other = micro.request(tmp_path, corpus=corpus, trials=2, track="open", settings={"search.beam": 1})
    micro.run_here(other)
    assert len(list((other.runs / "sweeps").glob("*.journal"))) == 2


def test_a_longer_sweep_goes_on_with_the_study(corpus, tmp_path):
    request = micro.request(tmp_path, corpus=corpus, trials=2, track="open")
    micro.run_here(request)
    shorter = micro.studies(request.runs)
    longer = micro.request(tmp_path, corpus=corpus, trials=3, track="open")
    outcome, _ = micro.run_here(longer)
    new = {name: trials for name, trials in micro.studies(request.runs).items() if name not in shorter}
    (old,), (now,) = shorter.values(), new.values()
    assert now[:2] == old
    assert outcome.trained == 5  # one trial and its dev score, the sweep, the final run and its scores
