"""The executor: order, failures that stay with their task, and workers that never outlive their driver."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from micro import ROOT
from workers import Interrupting, Log, Node, act, alive, attempts_at, pid_of, wait_for

from bench.errors import UsageError
from bench.sweep.executor import DEATHS, LOSSES, Failure, execute
from bench.sweep.pool import Attempt, Ended, Progress
from bench.sweep.slots import Slots


def test_each_task_runs_after_what_it_needs(tmp_path):
    a = Node("a", folder=str(tmp_path))
    b = Node("b", (a,), folder=str(tmp_path))
    c = Node("c", (a, b), folder=str(tmp_path))
    log = Log()
    assert execute([a, b, c], act, Slots(3, 1), log) == {}
    assert log.order == ["a", "b", "c"]
    assert log.ended == {"a": None, "b": None, "c": None}
    assert {path.stem for path in tmp_path.glob("*.pid")} == {"a", "b", "c"}


def test_a_need_that_is_not_among_the_tasks_is_taken_as_there(tmp_path):
    there = Node("there", deed="raise")
    log = Log()
    assert execute([Node("a", (there,), folder=str(tmp_path))], act, Slots(1, 1), log) == {}
    assert log.order == ["a"]


def test_the_longest_chain_of_work_comes_first(tmp_path):
    folder = str(tmp_path)
    small, large = Node("small", work=1, folder=folder), Node("large", work=5, folder=folder)
    first = Node("first", work=2, folder=folder)
    last = Node("last", (first,), work=4, folder=folder)
    log = Log()
    execute([small, large, first, last], act, Slots(1, 1), log)
    assert log.order == ["first", "large", "last", "small"]


def test_a_prompt_task_goes_before_longer_work(tmp_path):
    folder = str(tmp_path)
    first = Node("first", work=9, folder=folder)
    tasks = [first, Node("told", (first,), prompt=True, folder=folder), Node("long", work=5, folder=folder)]
    log = Log()
    execute(tasks, act, Slots(1, 1), log)
    assert log.order == ["first", "told", "long"]


def test_as_many_tasks_run_at_a_time_as_there_are_slots(tmp_path):
    tasks = [Node(key, deed="meet", folder=str(tmp_path)) for key in "ab"]
    assert execute(tasks, act, Slots(2, 1), Log()) == {}


def test_no_tasks_are_no_work():
    assert execute([], act, Slots(2, 1), Log()) == {}


def test_progress_reaches_the_watcher_in_order(tmp_path):
    log = Log()
    execute([Node("a", deed="report", folder=str(tmp_path))], act, Slots(1, 1), log)
    assert log.news == [("a", 1, 2, "half", None), ("a", 2, 2, "whole", (1, 0.5))]


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("raise", "ValueError: a reason"),
        ("raise nothing", "ValueError"),
        ("raise undecodable", "ValueError: file \\udcff"),
        ("diverge", "loss is not finite at update 3: kd"),
        ("other file", "FileNotFoundError: [Errno 2] No such file or directory: '/some/file'"),
        ("exit", "the process was ended with exit code 3"),
        ("vanish", "the process was ended with exit code 0"),
    ],
)
def test_a_failure_costs_its_task_and_what_needs_it(tmp_path, deed, reason):
    folder = str(tmp_path)
    bad = Node("bad", deed=deed, work=9, folder=folder)
    after = Node("after", (bad,), folder=folder)
    last = Node("last", (after,), folder=folder)
    good = Node("good", folder=folder)
    log = Log()
    failures = execute([bad, after, last, good], act, Slots(1, 1), log)
    reasons = {key: str(failure) for key, failure in failures.items()}
    assert reasons == {"bad": reason, "after": f"task bad: {reason}", "last": f"task bad: {reason}"}
    assert log.order == ["bad", "good"]
    assert log.ended == {**failures, "good": None}


def test_a_failure_has_a_state_and_the_time_it_took(tmp_path):
    folder = str(tmp_path)
    bad = Node("bad", deed="diverge", folder=folder)
    tasks = [bad, Node("after", (bad,), folder=folder), Node("other", deed="raise", folder=folder)]
    failures = execute(tasks, act, Slots(1, 1), Log())
    states = {key: failure.state for key, failure in failures.items()}
    assert states == {"bad": "not finite", "after": "not finite", "other": "exception"}
    assert 0 < failures["bad"].seconds < 60
    assert failures["after"].seconds == 0


def test_the_log_of_a_failure_is_the_whole_traceback(tmp_path):
    failures = execute([Node("a", deed="raise", folder=str(tmp_path))], act, Slots(1, 1), Log())
    assert failures["a"].log.startswith("Traceback")
    assert failures["a"].log.endswith("ValueError: a reason\nand more\n")


@pytest.mark.parametrize(
    ("deed", "message"),
    [
        ("usage", "the vocabulary is too small."),
        ("full", "no space left on the device that holds /some/file."),
        ("quota", "no space left on the device that holds the run folder."),
        ("full array", "no space left on the device that holds the run folder."),
        ("full tensors", "no space left on the device that holds the run folder."),
    ],
)
def test_what_only_the_user_can_mend_stops_everything(tmp_path, deed, message):
    folder = str(tmp_path)
    tasks = [Node("bad", deed=deed, folder=folder, work=3), Node("long", deed="sleep", folder=folder, work=2)]
    with pytest.raises(UsageError) as error:
        execute([*tasks, Node("never", folder=folder)], act, Slots(2, 1), Log())
    assert str(error.value) == message
    assert not (tmp_path / "never.pid").exists()
    if (pid := tmp_path / "long.pid").exists():
        assert not alive(int(pid.read_text()))


def test_an_interrupt_stops_the_workers(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        execute([Node("a", deed="announce", folder=str(tmp_path))], act, Slots(1, 1), Interrupting())
    assert not alive(pid_of(tmp_path, "a"))


def test_workers_end_with_a_killed_driver(tmp_path):
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    code = f"from workers import drive; drive({str(tmp_path)!r})"
    driver = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path})
    pids = [pid_of(tmp_path, key) for key in "ab"]
    assert all(map(alive, pids))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_for(lambda: not any(map(alive, pids)), "the workers' end", 10)


def test_a_tolerant_task_runs_once_each_of_its_needs_is_done_or_has_failed(tmp_path):
    folder = str(tmp_path)
    bad, good = Node("bad", deed="raise", work=9, folder=folder), Node("good", folder=folder)
    behind = Node("behind", (bad,), folder=folder)
    choice = Node("choice", (bad, behind, good), folder=folder, tolerant=True)
    last = Node("last", (choice,), folder=folder)
    log = Log()
    failures = execute([bad, good, behind, choice, last], act, Slots(2, 1), log)
    assert set(failures) == {"bad", "behind"}
    assert log.order[2:] == ["choice", "last"]


def test_a_tolerant_task_that_fails_costs_what_needs_it(tmp_path):
    folder = str(tmp_path)
    choice = Node("choice", deed="raise", folder=folder, tolerant=True)
    last = Node("last", (choice,), folder=folder)
    failures = execute([choice, last], act, Slots(1, 1), Log())
    assert str(failures["last"]) == "task choice: ValueError: a reason"


def test_a_failure_that_is_known_stands(tmp_path):
    folder = str(tmp_path)
    bad, good = Node("bad", folder=folder), Node("good", folder=folder)
    after = Node("after", (bad,), folder=folder)
    choice = Node("choice", (bad, good), folder=folder, tolerant=True)
    known = Failure("killed by hand", state="killed", seconds=5.0)
    log = Log()
    failures = execute([bad, good, after, choice], act, Slots(1, 1), log, known={"bad": known, "else": Failure("no")})
    assert failures["bad"] == known
    assert failures["after"] == Failure("killed by hand", origin="task bad", state="killed")
    assert log.order == ["good", "choice"]
    assert log.ended == {**failures, "good": None, "choice": None}


def test_what_only_the_driver_knows_is_handed_over_at_each_attempt(tmp_path):
    task, plain = Node("a", deed="kill once", folder=str(tmp_path)), Node("b", folder=str(tmp_path))
    assert execute([task, plain], act, Slots(1, 1), Log(given={"a": {"training.learning_rate": 0.5}})) == {}
    assert [attempt.given for attempt in attempts_at(task)] == [{"training.learning_rate": 0.5}] * 2
    (only,) = attempts_at(plain)
    assert replace(only, since=None) == Attempt()


def test_a_task_that_says_nothing_is_stopped(tmp_path):
    folder = str(tmp_path)
    mute, busy = Node("mute", deed="sleep", folder=folder), Node("busy", deed="busy", folder=folder)
    failures = execute([mute, busy], act, Slots(2, 1, silence=1.0), Log())
    assert set(failures) == {"mute"}
    assert (failures["mute"].reason, failures["mute"].state) == ("no progress for 1 s", "timed out")
    assert 1 < failures["mute"].seconds < 10
    assert not alive(pid_of(tmp_path, "mute"))
    assert len(attempts_at(mute)) == 1


def test_the_watcher_can_stop_a_task(tmp_path):
    class Pruning(Log):
        def advanced(self, task, done, total, note, value):
            super().advanced(task, done, total, note, value)
            return "worse than the median at 0 of 1" if task.key == "bad" else None

    folder, log = str(tmp_path), Pruning()
    bad, good = Node("bad", deed="announce", folder=folder), Node("good", deed="report", folder=folder)
    failures = execute([bad, Node("after", (bad,), folder=folder), good], act, Slots(1, 1), log)
    assert {key: (str(failure), failure.state) for key, failure in failures.items()} == {
        "bad": ("worse than the median at 0 of 1", "pruned"),
        "after": ("task bad: worse than the median at 0 of 1", "pruned"),
    }
    assert not alive(pid_of(tmp_path, "bad"))
    assert log.order == ["bad", "good"]


def test_a_task_whose_process_was_killed_is_tried_again(tmp_path):
    task, log = Node("a", deed="kill once", folder=str(tmp_path)), Log()
    assert execute([task], act, Slots(1, 1), log) == {}
    assert log.order == ["a", "a"]
    assert log.ended == {"a": None}
    assert [attempt.splits for attempt in attempts_at(task)] == [1, 1]


def test_a_task_whose_process_is_always_killed_fails(tmp_path):
    task, log = Node("a", deed="kill", folder=str(tmp_path)), Log()
    failure = execute([task], act, Slots(1, 1), log)["a"]
    assert failure.reason == f"the process was killed by SIGKILL (out of memory?), the last of {DEATHS} attempts"
    assert failure.state == "killed"
    assert log.order == ["a"] * DEATHS == ["a"] * 3
    assert len(log.ended) == 1


def test_a_task_that_ran_out_of_memory_is_tried_once_more_with_halved_micro_batches(tmp_path):
    task, log = Node("a", deed="need splits", folder=str(tmp_path)), Log()
    assert execute([task], act, Slots(1, 1), log) == {}
    assert [attempt.splits for attempt in attempts_at(task)] == [1, 2]
    assert log.order == ["a", "a"]


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("memory", "out of memory"),
        ("device memory", "out of memory: DefaultCPUAllocator: can't allocate memory: you tried 1 TB"),
        ("NCCL's memory", "out of memory: NCCL error: unhandled cuda error"),
    ],
)
def test_a_task_that_needs_more_memory_than_that_fails(tmp_path, deed, reason):
    task = Node("a", deed=deed, folder=str(tmp_path))
    failure = execute([task], act, Slots(1, 1), Log())["a"]
    assert failure.reason == f"{reason}; half the micro-batch did not fit either"
    assert failure.state == "out of memory"
    assert [attempt.splits for attempt in attempts_at(task)] == [1, 2]


class Scripted:
    """A pool without processes: each attempt at a task ends as the next entry of its script says."""

    def __init__(self, script: dict[str, list[Ended]]) -> None:
        self.script, self.free, self.started = script, 1, []

    def start(self, task, attempt):
        self.started.append((task.key, attempt.splits))
        return len(self.started)

    def poll(self, timeout):
        key, _ = self.started[-1]
        return [(len(self.started), Progress(0, 1, "")), (len(self.started), self.script[key].pop(0))]

    def stop(self, handle):
        raise AssertionError("nothing to stop")

    def close(self):
        raise AssertionError("a pool that is given stays open")


def test_a_lost_worker_is_not_the_fault_of_its_task():
    script = [Ended("lost", "node 10.0.0.7 was lost")] * (LOSSES - 1) + [Ended("killed", "-")] * (DEATHS - 1)
    pool = Scripted({"a": [*script, Ended("out of memory", "-"), Ended("done")]})
    assert execute([Node("a")], act, Slots(1, 1), Log(), pool=pool) == {}
    assert pool.started == [("a", 1)] * (LOSSES + DEATHS - 1) + [("a", 2)]


def test_a_task_that_loses_every_worker_fails():
    pool = Scripted({"a": [Ended("lost", "node 10.0.0.7 was lost")] * 99, "b": [Ended("done")]})
    failures = execute([Node("a", work=2), Node("b")], act, Slots(1, 1), Log(), pool=pool)
    assert len(pool.started) == LOSSES + 1
    assert failures["a"].state == "killed"
    assert failures["a"].reason == f"node 10.0.0.7 was lost, the last of {LOSSES} workers"


def test_what_cannot_be_divided_is_not_tried_again_in_parts(tmp_path):
    log = Log()
    failures = execute([Node("a", deed="memory", divisible=False, folder=str(tmp_path))], act, Slots(1, 1), log)
    assert (failures["a"].state, failures["a"].reason) == ("out of memory", "out of memory")
    assert log.order == ["a"]


def test_a_task_that_gets_further_each_time_may_be_killed_as_often_as_it_takes(tmp_path):
    task, log = Node("a", deed="kill at each step", folder=str(tmp_path)), Log()
    assert execute([task], act, Slots(1, 1), log) == {}
    assert len(attempts_at(task)) == 5


def test_what_no_plug_in_runs_in_has_no_limit_of_silence(tmp_path):
    slots = Slots(1, 1, silence=0.2)
    quiet = [Node("a", deed="quiet", trusted=True, folder=str(tmp_path)), Node("b", deed="quiet", folder=str(tmp_path))]
    failures = execute(quiet, act, slots, Log())
    assert {key: failure.state for key, failure in failures.items()} == {"b": "timed out"}
