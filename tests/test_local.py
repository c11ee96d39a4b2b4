"""Processes of this machine: threads, devices, limits of memory, last words; and how many run at a time."""

import os

import pytest
from workers import Log, Node, act, alive, attempts_at, pid_of

from bench.sweep import slots as slots_module
from bench.sweep.executor import execute
from bench.sweep.slots import Slots, available_memory, default_slots

MEGABYTES = 1 << 20


@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_has_its_number_of_threads(tmp_path, threads):
    execute([Node("a", deed="threads", folder=str(tmp_path))], act, Slots(1, threads), Log())
    assert (tmp_path / "threads").read_text() == str(threads)


def test_devices_are_dealt_to_the_workers(tmp_path):
    tasks = [Node(key, deed="meet", folder=str(tmp_path)) for key in "abcd"]
    assert execute(tasks[:3], act, Slots(3, 1, devices=("cuda:0", "cuda:1")), Log()) == {}
    assert sorted(attempts_at(task)[0].device for task in tasks[:3]) == ["cuda:0", "cuda:0", "cuda:1"]
    assert execute(tasks[3:], act, Slots(1, 1, devices=("cuda:1",)), Log()) == {}
    assert attempts_at(tasks[3])[0].device == "cuda:1"


@pytest.mark.parametrize(
    "deed", ["grow lists", "grow bytes", "grow a string", "grow arrays", "grow tensors", "grow in C++"]
)
def test_a_task_that_takes_more_and_more_memory_ends_alone(tmp_path, deed):
    folder = str(tmp_path)
    greedy, other = Node("greedy", deed=deed, folder=folder), Node("other", deed="busy", folder=folder)
    failures = execute([greedy, other], act, Slots(2, 1, memory=200 * MEGABYTES), Log())
    assert set(failures) == {"greedy"}
    assert failures["greedy"].state == "out of memory", failures
    assert failures["greedy"].reason.startswith("out of memory")
    assert [attempt.splits for attempt in attempts_at(greedy)] == [1, 2]


def test_memory_within_the_limit_is_free_to_take(tmp_path):
    task = Node("a", deed="threads", folder=str(tmp_path))
    assert execute([task], act, Slots(1, 2, memory=64 * MEGABYTES), Log()) == {}


def test_the_last_words_of_a_process_are_its_log(tmp_path, capfd):
    failure = execute([Node("a", deed="say and crash", folder=str(tmp_path))], act, Slots(1, 1), Log())["a"]
    assert failure.state == "killed"
    assert failure.reason.startswith("the process was killed by SIGSEGV")
    assert failure.log.startswith("the last words of tests/workers.py\nFatal Python error: Segmentation fault")
    assert "in _say_and_crash" in failure.log
    assert "the last words of " in capfd.readouterr().err


@pytest.mark.parametrize("deed", ["leave a thread", "leave a process"])
def test_what_a_task_leaves_behind_holds_nothing_up(tmp_path, deed, monkeypatch):
    monkeypatch.setattr("bench.sweep.local.GRACE_SECONDS", 0.2)
    monkeypatch.setattr("bench.sweep.executor.DEATHS", 1)
    failures = execute([Node("a", deed=deed, folder=str(tmp_path))], act, Slots(1, 1, silence=5), Log())
    assert [failure.state for failure in failures.values()] == ([] if deed == "leave a thread" else ["killed"])
    assert not alive(pid_of(tmp_path, "a"))


def test_a_cpu_gets_a_process_for_each_core_and_a_gpu_one_process():
    slots = default_slots("cpu")
    cores = slots.workers
    assert (slots.threads, slots.devices) == (1, ("cpu",))
    assert 1 <= cores <= (os.cpu_count() or 1)
    assert slots.memory is None or 0 < slots.memory * cores <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert default_slots("cuda:1") == Slots(1, cores, ("cuda:1",))


def test_each_visible_gpu_gets_a_process(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr(slots_module, "usable_cores", lambda: 8)
    assert default_slots("cuda") == Slots(3, 2, ("cuda:0", "cuda:1", "cuda:2"))


def test_cores_and_memory_are_dealt_out_again():
    slots = Slots(8, 1, memory=1000)
    assert slots.dealt(2) == Slots(2, 4, memory=4000)
    assert slots.dealt(100) == Slots(100, 1, memory=80)
    assert Slots(2, 4, ("cuda:0", "cuda:1")).dealt(4) == Slots(4, 2, ("cuda:0", "cuda:1"))


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("0::/\n", {}, 4000 << 10),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "max"}, 4000 << 10),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "9000", "a/memory.current": "5000"}, 4500),
        ("0::/\n", {"memory.max": "9000", "memory.current": "9900"}, 0),
        (
            "3:cpu:/c\n2:memory:/c\n0::/\n",
            {"memory/c/memory.limit_in_bytes": "8000", "memory/c/memory.usage_in_bytes": "1000"},
            7500,
        ),
        ("2:memory:/not/here\n", {"memory/memory.limit_in_bytes": "8000", "memory/memory.usage_in_bytes": "0"}, 8500),
    ],
    ids=["no groups", "no limit", "a limit around the group", "used up", "version 1", "version 1 seen from inside"],
)
def test_the_memory_available_is_within_the_limits_of_the_control_groups(tmp_path, monkeypatch, own, files, left):
    (tmp_path / "own").write_text(own)
    (tmp_path / "info").write_text("MemTotal:  9999999 kB\nMemAvailable:    4000 kB\n")
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
        (path.parent / "memory.stat").write_text("anon 7\ninactive_file 500\ntotal_inactive_file 500\n")
    monkeypatch.setattr(slots_module, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(slots_module, "MEMORY_INFO", tmp_path / "info")
    monkeypatch.setattr(slots_module, "CONTROL_GROUPS", tmp_path / "groups")
    assert available_memory() == left
