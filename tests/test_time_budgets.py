"""Budgets in seconds, with a clock of the test's own: what counts, when dev is evaluated, what a resume keeps."""

import json

import pytest
from trainings import CONFIG, StoppedError, TwoStages, make, same, weights

from bench.config import TrainConfig
from bench.train import checkpoint, trainer
from bench.train.optim import learning_rate


class Clock:
    """A clock that a loss and a dev evaluation move on, in place of the machine's."""

    def __init__(self, monkeypatch, *, update=1.0, evaluation=2.0):
        self.now, self.update, self.evaluation = 100.0, update, evaluation
        self.calls = 0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def runs(self, made, *, calls=None):
        """The trainer with this clock, stopped at its loss number ``calls``."""
        loss, evaluate = made.method.loss, made.dev_loss

        def timed(step):
            self.calls += 1
            if self.calls == calls:
                raise StoppedError
            self.now += self.update
            return loss(step)

        def timed_evaluation():
            self.now += self.evaluation
            return evaluate()

        timed_evaluation.flops = 0.0
        made.method.loss, made.dev_loss = timed, timed_evaluation
        return made


def seconds_of(made):
    """What its ledger has for each phase."""
    return {name: cost.seconds for name, cost in made.ledger.costs.items()}


TIMED = CONFIG.model_copy(update={"seconds": 20.0, "evaluations": 4})


@pytest.mark.parametrize(
    ("seconds", "evaluation", "updates"),
    [
        (20.0, 2.0, [5, 8, 11, 12]),  # after 5, 10 and 15 seconds, and from 18 to 20
        (20.0, 6.0, [5, 8]),  # from 5 to 11 and from 14 to 20: what was due at 10 is not made up for
        (20.0, 8.0, [5]),  # from 5 to 13, which leaves no time for another
        (20.0, 30.0, [5]),  # an evaluation that nobody could foresee
        (1e-9, 2.0, [1]),
    ],
)
def test_a_budget_in_seconds_counts_evaluations_and_ends_with_one(
    corpora, tmp_path, monkeypatch, seconds, evaluation, updates
):
    clock = Clock(monkeypatch, evaluation=evaluation)
    made = clock.runs(make(corpora, tmp_path, config=TIMED.model_copy(update={"seconds": seconds})))
    report = made.train()
    assert [point["update"] for point in report.history] == updates
    assert report.updates == updates[-1]
    assert seconds_of(made)["training"] == updates[-1]
    assert seconds_of(made)["dev evaluation"] == evaluation * len(updates)


def test_the_schedule_follows_the_seconds(corpora, tmp_path, monkeypatch):
    rates = []
    monkeypatch.setattr(trainer, "learning_rate", lambda *given: rates.append(given[2]) or learning_rate(*given))
    Clock(monkeypatch).runs(make(corpora, tmp_path, config=TIMED)).train()
    assert rates == [0.0, 0.05, 0.1, 0.15, 0.2, 0.35, 0.4, 0.45, 0.6, 0.65, 0.7, 0.85]


def test_each_stage_has_its_share_of_the_seconds(corpora, tmp_path, monkeypatch):
    made = Clock(monkeypatch).runs(make(corpora, tmp_path, method=TwoStages(), config=TIMED))
    report = made.train()
    assert [(point["stage"], point["update"]) for point in report.history] == [
        *((0, 4), (0, 6), (0, 9)),  # after 4 and 8 seconds, and from 13 to 15
        (1, 3),  # from 3 to 5
    ]
    assert sum(seconds_of(made).values()) == 20.0


def test_a_resume_keeps_the_seconds_that_were_spent(corpora, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    whole = Clock(monkeypatch).runs(make(corpora, tmp_path / "whole", config=TIMED))
    report = whole.train()
    clock = Clock(monkeypatch)
    with pytest.raises(StoppedError):
        clock.runs(make(corpora, tmp_path / "part", config=TIMED), calls=10).train()
    clock.now += 1e6
    resumed = clock.runs(make(corpora, tmp_path / "part", config=TIMED))
    again = resumed.train()
    assert again.history == report.history
    assert seconds_of(resumed) == seconds_of(whole)
    assert same(weights(whole), weights(resumed))


def test_seconds_that_ran_out_before_an_evaluation_leave_one_update(corpora, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    clock = Clock(monkeypatch)
    with pytest.raises(StoppedError):
        clock.runs(make(corpora, tmp_path, config=TIMED), calls=4).train()
    state = checkpoint.latest_state(tmp_path)
    progress = checkpoint.read_progress(state)
    (state / "progress.json").write_text(
        json.dumps(progress | {"costs": {"training": {"seconds": 20.5, "joules": 0.0, "flops": 0.0}}})
    )
    report = clock.runs(make(corpora, tmp_path, config=TIMED)).train()
    assert [point["update"] for point in report.history] == [progress["update"] + 1]


def test_progress_in_seconds_is_told_in_seconds(corpora, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    told = []
    Clock(monkeypatch).runs(make(corpora, tmp_path, config=TIMED, report=lambda *news: told.append(news))).train()
    assert [news[:2] for news in told if not news[2].startswith("dev")][:6] == [
        *((1, 20), (2, 20), (3, 20), (4, 20), (5, 20), (8, 20))
    ]
    assert told[-1][:2] == (20, 20)


def test_a_budget_in_tokens_is_written_as_before_there_were_seconds():
    assert CONFIG.model_dump(mode="json").keys() == TrainConfig.model_fields.keys() - {"seconds"}
    assert '"seconds"' not in CONFIG.model_dump_json()
    assert CONFIG.model_dump()["seconds"] == 0.0
    assert TIMED.model_dump(mode="json")["seconds"] == 20.0
    for config in (CONFIG, TIMED):
        assert TrainConfig.model_validate_json(config.model_dump_json()) == config
