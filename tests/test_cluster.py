"""Workers on a Ray cluster of two nodes on this machine: the rules for processes hold, and nodes come and go."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from micro import ROOT
from workers import Log, Node, act, alive, attempts_at, pid_of, wait_for

from bench import __version__
from bench.errors import UsageError
from bench.sweep import cluster as cluster_module
from bench.sweep.cluster import RayPool
from bench.sweep.executor import execute
from bench.sweep.slots import Slots

PATHS = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
"""Where the nodes find this project, and what its tests let workers do."""
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
SLOTS = Slots(1, 1, memory=200 << 20)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and another node, of one core each; Ray takes our word for it that the other has a GPU."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATHS)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # A node that is killed is to be noticed in a second, not in half a minute.
        health = {"initial_delay_ms": 0, "period_ms": 500, "failure_threshold": 2}
        config = {f"health_check_{name}": value for name, value in health.items()}
        head = NODE | {"include_dashboard": False, "_system_config": config}
        started = Cluster(initialize_head=True, head_node_args=head)
        started.add_node(**NODE, num_gpus=1)
        yield started
        started.shutdown()


def opened(cluster: Any, folder: Path, slots: Slots = SLOTS, **options: Any) -> contextlib.closing[RayPool]:
    return contextlib.closing(RayPool(act, slots, cluster.address, folder=folder, **options))


def wait_until_free(pool: RayPool, workers: int) -> None:
    wait_for(lambda: pool.poll(0.1) == [] and pool.free >= workers, f"{workers} workers")


def test_tasks_fare_as_they_do_in_processes_of_this_machine(cluster, tmp_path):
    class Pruning(Log):
        def advanced(self, task, done, total, note, value):
            super().advanced(task, done, total, note, value)
            return "enough" if task.key == "pruned" else None

    def node(key, deed, *needs):
        return Node(key, needs, deed=deed, folder=str(tmp_path))

    first = node("first", "report")
    tasks = {
        task.key: task
        for task in (
            first,
            node("raises", "raise", first),
            node("greedy", "grow arrays", first),
            node("splits", "need splits"),
            node("dies once", "kill once"),
            node("pruned", "announce"),
        )
    }
    log = Pruning(given={"dies once": 0.5})
    with opened(cluster, tmp_path) as pool:
        wait_until_free(pool, 2)
        failures = execute(tasks.values(), act, SLOTS, log, pool=pool)
        # A worker elsewhere is told to stop, and not waited for.
        wait_for(lambda: not alive(pid_of(tmp_path, "pruned")), "the pruned task's end", 10)
    assert {key: failure.state for key, failure in failures.items()} == {
        "raises": "exception",
        "greedy": "out of memory",
        "pruned": "pruned",
    }
    assert failures["raises"].reason == "ValueError: a reason"
    assert failures["raises"].log.endswith("ValueError: a reason\nand more\n")
    assert [attempt.splits for attempt in attempts_at(tasks["splits"])] == [1, 2]
    assert [attempt.given for attempt in attempts_at(tasks["dies once"])] == [0.5, 0.5]
    assert [news for news in log.news if news[0] == "first"] == [
        ("first", 1, 2, "half", None),
        ("first", 2, 2, "whole", (1, 0.5)),
    ]
    assert log.order.index("first") < log.order.index("raises")
    assert not list(tmp_path.glob(".shared*"))


def test_the_task_of_a_killed_node_runs_again_and_a_node_that_joins_is_used(cluster, tmp_path):
    class Killing(Log):
        """Kills the second node once both nodes are at work."""

        def advanced(self, task, done, total, note, value):
            super().advanced(task, done, total, note, value)
            if cluster.worker_nodes and {key for key, *_ in self.news} == {"a", "b"}:
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    folder = str(tmp_path)
    tasks = [Node(key, deed="busy", folder=folder) for key in "abc"]
    log = Killing()
    with opened(cluster, tmp_path) as pool:
        wait_until_free(pool, 2)
        assert execute(tasks, act, SLOTS, log, pool=pool) == {}
        assert log.ended == dict.fromkeys("abc")
        assert sorted(log.order) in (list("aabc"), list("abbc"))
        assert {task.key: len(attempts_at(task)) for task in tasks} == Counter(log.order)
        cluster.add_node(**NODE, num_gpus=1)
        (tmp_path / "two").mkdir()
        both = [Node(key, deed="meet", folder=str(tmp_path / "two")) for key in "de"]
        assert execute(both, act, SLOTS, Log(), pool=pool) == {}


def test_there_are_no_more_workers_than_asked_for(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "LOOK_SECONDS", 0.1)
    tasks = [Node(key, deed="report", folder=str(tmp_path)) for key in "ab"]
    with opened(cluster, tmp_path, workers=1) as pool:
        wait_until_free(pool, 1)
        for _ in range(5):
            assert pool.poll(0.1) == []
        assert pool.free == 1
        assert execute(tasks, act, SLOTS, Log(), pool=pool) == {}


def test_workers_for_a_gpu_are_where_there_is_one(cluster, tmp_path):
    task, slots = Node("a", folder=str(tmp_path)), Slots(2, 1, devices=("cuda:1",))
    with opened(cluster, tmp_path, slots) as pool:
        wait_until_free(pool, 1)
        assert execute([task], act, slots, Log(), pool=pool) == {}
        assert pool.free == 1  # two could share the GPU, but its node has one core
    assert attempts_at(task)[0].device == "cuda:0"  # the first of those that the worker sees


def test_a_node_without_the_run_folder_is_refused_by_name(cluster, tmp_path):
    with opened(cluster, tmp_path) as pool:
        for token in tmp_path.glob(".shared*"):
            token.unlink()
        with pytest.raises(UsageError, match=rf"^node \S+ of the cluster does not see the run folder {tmp_path}"):
            execute([Node("a", folder=str(tmp_path))], act, SLOTS, Log(), pool=pool)


def test_a_cluster_that_has_no_worker_for_long_ends_the_run(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "PATIENCE_SECONDS", 0.5)
    slots = Slots(1, 99)
    with (
        opened(cluster, tmp_path, slots) as pool,
        pytest.raises(UsageError, match=r"no worker for 0\.5 s \(each needs 99 cores\)\. The same command goes on"),
    ):
        execute([Node("a", folder=str(tmp_path))], act, slots, Log(), pool=pool)


def test_an_interrupt_leaves_no_process_of_a_cluster_started_here(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    code = f"from workers import drive_on_ray; drive_on_ray({str(tmp_path)!r})"
    driver = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": PATHS},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    pids = [pid_of(tmp_path, key) for key in "ab"]
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    _, errors = driver.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    wait_for(lambda: not any(map(alive, pids)), "the workers' end", 10)


@pytest.mark.parametrize(
    ("greeting", "message"),
    [
        ({"version": "0.0.1"}, rf"^node n7 of the cluster has version 0\.0\.1 of this project, here is {__version__}"),
        ({"read": None}, "^node n7 of the cluster does not see the run folder /runs: "),
        ({"read": "something else"}, "does not see the run folder"),
    ],
)
def test_a_node_that_could_not_do_its_part_is_refused(greeting, message):
    fitting = {"node": "n7", "version": __version__, "token": Path("/runs/.shared-1"), "read": ".shared-1"}
    cluster_module.Greeting(**fitting).check()
    with pytest.raises(UsageError, match=message):
        cluster_module.Greeting(**fitting | greeting).check()


def test_a_task_that_has_just_ended_is_stopped_without_complaint():
    pool = RayPool.__new__(RayPool)
    pool._all = []
    pool.stop(7)


def test_without_ray_its_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"not installed: pip install 'ray\[client\]'$"):
        RayPool(act, SLOTS, "ray", folder=tmp_path)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no address"])
def test_an_address_without_a_cluster_is_refused(tmp_path, address):
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    with pytest.raises(UsageError, match=f"^there is no Ray cluster to be had at '{address}': "):
        RayPool(act, SLOTS, address, folder=tmp_path)
