"""The executor: order, failures that stay with their task, and workers that never outlive their driver."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from micro import ROOT
from workers import Interrupting, Log, Node, act, alive, pid_of, wait_for

from bench.errors import UsageError
from bench.sweep.executor import Slots, default_slots, execute


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


def test_as_many_tasks_run_at_a_time_as_there_are_slots(tmp_path):
    tasks = [Node(key, deed="meet", folder=str(tmp_path)) for key in "ab"]
    assert execute(tasks, act, Slots(2, 1), Log()) == {}


def test_no_tasks_are_no_work():
    assert execute([], act, Slots(2, 1), Log()) == {}


def test_progress_reaches_the_watcher_in_order(tmp_path):
    log = Log()
    execute([Node("a", deed="report", folder=str(tmp_path))], act, Slots(1, 1), log)
    assert log.news == [("a", 1, 2, "half"), ("a", 2, 2, "whole")]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_has_its_number_of_threads(tmp_path, threads):
    execute([Node("a", deed="threads", folder=str(tmp_path))], act, Slots(1, threads), Log())
    assert (tmp_path / "threads").read_text() == str(threads)


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("raise", "ValueError: a reason"),
        ("raise nothing", "ValueError"),
        ("raise undecodable", "ValueError: file \\udcff"),
        ("memory", "out of memory"),
        ("device memory", "out of memory: DefaultCPUAllocator: can't allocate memory: you tried 1 TB"),
        ("other file", "FileNotFoundError: [Errno 2] No such file or directory: '/some/file'"),
        ("kill", "the process was killed by SIGKILL (out of memory?)"),
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


def test_a_cpu_gets_a_process_for_each_core_and_a_gpu_one_process():
    cores = default_slots("cpu").workers
    assert default_slots("cpu") == Slots(cores, 1)
    assert default_slots("cuda:0") == Slots(1, cores)
    assert 1 <= cores <= (os.cpu_count() or 1)
