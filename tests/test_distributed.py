"""Training by several processes: it is the training of one, and ends with a reason when a process is lost."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import members
import micro
import pytest
import torch
from members import CASES, Case, Curve
from workers import alive, pid_of, wait_for

from bench.config import preset
from bench.data.datasets import get_dataset
from bench.errors import UsageError
from bench.nmt.export import load_model
from bench.phases import Place, carry_out
from bench.plan import Planner
from bench.registry import load_methods
from bench.train import trainer
from bench.train.distributed import MemberError, MemberLog, _raise, together
from bench.train.member import told
from bench.train.trainer import TrainingError


class StoppedError(Exception):
    """Stands for a kill in the middle of a training."""


def stopped(made, calls: int) -> None:
    """Train, keeping a checkpoint of every update, until the loss was asked for so often."""
    loss, asked = made.method.loss, []

    def stopping(step):
        asked.append(1)
        if len(asked) > calls:
            raise StoppedError
        return loss(step)

    made.method.loss = stopping
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(StoppedError):
            made.train()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemberError]:
    """The folder of a training whose second process was killed, and what came of it."""
    folder, heard = tmp_path_factory.mktemp("killed"), []

    def kill(done: int, total: int, note: str, value: float | None = None) -> None:
        if done > total / 2 and not heard:  # more may have been said before it was killed
            heard.append(done)
            os.kill(pid_of(folder, "1"), signal.SIGKILL)
            time.sleep(1.0)  # a slow listener finds the other one's error beside the loss

    with pytest.raises(MemberError) as error:
        together(2, members.interruptible, Case(), folder, report=kill)
    return folder, error.value


@pytest.fixture(scope="module")
def two(killed: tuple[Path, MemberError], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Curve]:
    """The trainings of two processes."""
    folder = tmp_path_factory.mktemp("two")
    stopped(Case(dropout=0.2).trainer(folder / "resumed", splits=2), 9)
    return together(2, members.all_curves, folder, killed[0])


def close(ours: Curve, theirs: Curve, tolerance: float) -> bool:
    """Whether two trainings have the same points, their numbers within a relative tolerance."""
    assert ours.facts | {"processes": 0} == theirs.facts | {"processes": 0}
    return [pytest.approx(point, rel=tolerance, abs=1e-9) for point in ours.history] == list(theirs.history)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_curve_of_one(two, tmp_path, name):
    loose = {"a2d of mixed lengths": 0.05, "aio_kd, detaching": 0.05}
    one = members.curve(CASES[name], tmp_path)
    assert (one.facts["processes"], two[name].facts["processes"]) == (1, 2)
    assert close(one, two[name], loose.get(name, 5e-6))
    assert two[name].agreed
    if name not in loose:
        for part, tensor in one.weights.items():
            torch.testing.assert_close(two[name].weights[part], tensor, rtol=1e-5, atol=1e-6)


def test_two_processes_do_what_one_does_with_two_splits(two, tmp_path):
    one = members.curve(Case(dropout=0.2), tmp_path, splits=2)
    assert close(one, two["dropout"], 1e-6)
    assert close(members.curve(Case(), tmp_path / "plain"), two["splits"], 5e-6)


def test_two_processes_go_on_from_the_checkpoint_of_one(two):
    assert two["resumed"].facts["updates"] == two["dropout"].facts["updates"]
    assert close(two["dropout"], two["resumed"], 1e-6)
    assert two["resumed"].agreed


def test_the_first_process_keeps_the_time_and_measures_bleu_for_all(two):
    assert two["seconds"].agreed
    assert two["seconds"].history[-1]["update"] == two["seconds"].facts["updates"]
    assert two["bleu"].agreed
    assert [point["dev_bleu"] for point in two["bleu"].history] == [10.0] * 4


def test_a_killed_process_fails_the_training_with_a_reason(killed):
    folder, error = killed
    assert str(error) == "process 2 of 2 ended without a word (killed, or out of memory?)"
    assert error.state == "killed"
    assert not any(alive(pid_of(folder, rank)) for rank in "01")


def test_a_training_goes_on_after_a_kill(killed, two):
    folder, _ = killed
    again, whole = two["killed"], two["baseline"]
    assert (again.history, again.facts) == (whole.history, whole.facts)
    assert all(torch.equal(tensor, whole.weights[name]) for name, tensor in again.weights.items())
    # One process finds the training finished.
    assert members.curve(Case(), folder).facts == again.facts | {"processes": 1}


def test_the_error_of_a_process_comes_back(tmp_path):
    with pytest.raises(TrainingError, match="loss is not finite at update 3: kd") as error:
        together(2, members.one_fails, report=lambda *news: time.sleep(1.0))
    assert error.value.state == "not finite"
    assert isinstance(error.value.__cause__, MemberLog)
    assert "in one_fails" in str(error.value.__cause__)


class PeculiarError(Exception):
    state = "out of memory"

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}\nmore")


def test_an_error_that_does_not_travel_comes_back_in_a_line():
    with pytest.raises(MemberError, match=r"^PeculiarError: too much$") as error:
        _raise(told(PeculiarError("too", "much")))
    assert error.value.state == "out of memory"


def test_there_must_be_a_device_for_each_process():
    with pytest.raises(UsageError, match="2 processes need as many devices from cuda:5 on, and there are"):
        together(2, members.one_fails, device="cuda:5")


def test_processes_end_with_a_caller_that_is_killed_even_where_it_may_have_no_children(tmp_path):
    caller = multiprocessing.get_context("spawn").Process(target=members.call_and_wait, args=(tmp_path,), daemon=True)
    caller.start()
    pids = [pid_of(tmp_path, rank) for rank in "01"]
    assert all(map(alive, pids))
    caller.kill()
    caller.join()
    wait_for(lambda: not any(map(alive, pids)), "the processes to end", 10)


def test_a_phase_trains_with_several_processes_to_the_same_address(corpus, tmp_path):
    identity = get_dataset(str(corpus), ("aa", "bb")).identity(None)
    chosen = preset("quick", micro.SETTINGS | {"teacher.dropout": 0.0})
    plan = Planner("corpus", identity, chosen, load_methods(), "cpu").plan([], {}, [1])
    teacher = next(task for task in plan.tasks if task.kind == "teacher")
    made = {}
    for processes in (1, 2):
        place, told_of = Place(tmp_path / str(processes), str(corpus), ("aa", "bb"), processes=processes), []
        report = lambda *news, told_of=told_of: told_of.append(news)  # noqa: E731
        made[processes] = [carry_out(task, place, report) for task in teacher.upstream][-1]
        assert [news[0] for news in told_of if len(news) == 4][-1] == 600
    one, both = made.values()
    assert (one.key, one.details["processes"]) == (both.key, 1)
    assert both.details["processes"] == 2
    assert both.details["updates"] == one.details["updates"]
    assert both.details["best_dev_loss"] == pytest.approx(one.details["best_dev_loss"], rel=1e-3)
    assert len(json.loads((both.folder / "history.json").read_text())) == 4
    assert load_model(both.folder).config == load_model(one.folder).config
    assert sorted(path.name for path in both.folder.iterdir()) == sorted(path.name for path in one.folder.iterdir())
