"""Workers on a Ray cluster: an actor for each slot, which carries out attempts as a pool of one on its own node."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import platform
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import __version__
from bench.errors import UsageError
from bench.sweep.local import LocalPool
from bench.sweep.pool import Attempt, Ended, Handle, Progress, Work
from bench.sweep.slots import Slots, usable_cores

PATIENCE_SECONDS = 60.0
"""How long a cluster may be without any worker before the run is given up."""
HEAD_SECONDS = 20
"""How long the cluster's head may be out of reach."""
KNOCK_SECONDS = 10.0
"""How long an address may take to answer at first."""
LOOK_SECONDS = 3.0
"""How often the cluster is looked at for nodes that have joined."""
CALL_SECONDS = 2.0
"""How long a call waits on a worker for news; one for stopping comes after it."""
STORE_BYTES = 100 << 20
"""Ray's object store of a cluster that is started here: only messages pass through it."""


@dataclass(eq=False)
class _Slot:
    """What the driver knows of one worker."""

    actor: Any
    call: Any
    """The call under way, whose end brings news; None where the worker is idle."""
    ready: bool = False
    handle: Handle | None = None


class RayPool:
    """Long-lived workers on a Ray cluster.

    Isolation, threads, memory and stopping are those of :class:`LocalPool`, which each worker has on its node. Every
    node must have this project in the same version, and the run folder at the same place.

    Args:
        work: what they do; picklable.
        slots: threads, memory and silence of each worker; and by its devices, how many workers share a GPU.
        address: ``ray`` starts a cluster on this machine; ``ray://HOST:PORT``, ``HOST:PORT`` or ``auto`` joins one.
        folder: the run folder.
        workers: how many there are to be; None: as many as the cluster's cores and GPUs allow.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, work: Work, slots: Slots, address: str, *, folder: Path, workers: int | None = None) -> None:
        self._work, self._slots, self._workers = work, slots, workers
        self._on_gpu = slots.devices[0].startswith("cuda")
        self._each_gpu = math.ceil(slots.workers / len(slots.devices))
        self._ray = _connected(address, (workers or slots.workers) * slots.threads)
        self._all: list[_Slot] = []
        self._handles = itertools.count()
        self._last_ready = time.monotonic()
        self._last_look = -math.inf
        folder.mkdir(parents=True, exist_ok=True)
        self._token = folder.resolve() / f".shared-{secrets.token_hex(8)}"
        self._token.write_text(self._token.name, encoding="utf-8")

    @property
    def free(self) -> int:
        return sum(slot.call is None for slot in self._all)

    def start(self, task: Any, attempt: Attempt) -> Handle:
        slot = next(slot for slot in self._all if slot.call is None)
        slot.handle = next(self._handles)
        slot.call = slot.actor.run.remote(task, attempt)
        return slot.handle

    def poll(self, timeout: float) -> list[tuple[Handle, Progress | Ended]]:
        """As every pool.

        Raises:
            UsageError: no worker is left, the cluster is out of reach, or a node has another version of the project
                or does not see the run folder.
        """
        with self._reachable():
            self._fill()
            slots = {slot.call: slot for slot in self._all if slot.call is not None}
            if not slots:
                time.sleep(timeout)
                return []
            self._ray.wait(list(slots), timeout=timeout)
            ended, _ = self._ray.wait(list(slots), num_returns=len(slots), timeout=0)
            return [news for call in ended for news in self._hear(slots[call])]

    def stop(self, handle: Handle) -> None:
        slot = next((slot for slot in self._all if slot.handle == handle), None)
        if slot is None:
            return  # it has just ended
        slot.handle = None
        slot.call = slot.actor.stop.remote()

    def close(self) -> None:
        self._token.unlink(missing_ok=True)
        for slot in self._all:
            with contextlib.suppress(Exception):  # the cluster may be gone
                self._ray.kill(slot.actor)  # what it runs ends with it
        self._all.clear()
        self._ray.shutdown()

    def _hear(self, slot: _Slot) -> list[tuple[Handle, Progress | Ended]]:
        """What a call brought."""
        errors, handle = self._ray.exceptions, slot.handle
        try:
            answer = self._ray.get(slot.call)
        except errors.RayTaskError:
            raise
        except errors.RayError as error:
            if getattr(error, "actor_init_failed", False):
                raise UsageError(
                    f"a worker cannot be started on the cluster: {_last_line(error)}. Every node needs this project in "
                    f"version {__version__}, with what it depends on."
                ) from error
            self._all.remove(slot)
            with contextlib.suppress(Exception):
                self._ray.kill(slot.actor)  # one that is merely out of reach must not go on
            return [] if handle is None else [(handle, Ended("lost", "the worker was lost"))]
        slot.call = None
        if not slot.ready:
            answer.check()
            slot.ready = True
            return []
        if handle is None:  # it has been stopped
            return []
        if any(isinstance(message, Ended) for message in answer):
            slot.handle = None
        else:
            slot.call = slot.actor.poll.remote()
        return [(handle, message) for message in answer]

    def _fill(self) -> None:
        """Ask for the workers that there can be: more when nodes join, others for those lost."""
        now = time.monotonic()
        if any(slot.ready for slot in self._all):
            self._last_ready = now
        if now - self._last_ready > PATIENCE_SECONDS:
            raise UsageError(
                f"the cluster has had no worker for {PATIENCE_SECONDS:g} s (each needs {self._slots.threads} cores"
                f"{' and a GPU' if self._on_gpu else ''}). The same command goes on where this run stopped."
            )
        if now - self._last_look < LOOK_SECONDS:
            return
        self._last_look = now
        host = self._ray.remote(_Host).options(
            num_cpus=self._slots.threads, num_gpus=1 / self._each_gpu if self._on_gpu else 0
        )
        slots = replace(self._slots, workers=1, devices=("cuda:0",) if self._on_gpu else ("cpu",))
        for _ in range((self._workers or self._capacity()) - len(self._all)):
            actor = host.remote(self._work, slots)
            self._all.append(_Slot(actor, actor.greet.remote(self._token)))

    def _capacity(self) -> int:
        """How many workers the cluster's living nodes can hold."""
        count = 0
        for node in self._ray.nodes():
            if node["Alive"]:
                on_cores = int(node["Resources"].get("CPU", 0)) // self._slots.threads
                on_gpus = int(node["Resources"].get("GPU", 0)) * self._each_gpu
                count += min(on_cores, on_gpus) if self._on_gpu else on_cores
        return count

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (ConnectionError, self._ray.exceptions.RaySystemError) as error:
            raise UsageError(
                f"the cluster is out of reach: {_last_line(error)}. The same command goes on where this run stopped."
            ) from error


@dataclass(frozen=True)
class Greeting:
    """What a worker says of its node."""

    node: str
    version: str
    token: Path
    read: str | None
    """The text of the token file as the node sees it."""

    def check(self) -> None:
        """Refuse a node that could not do its part.

        Raises:
            UsageError: another version of the project, or another run folder.
        """
        if self.version != __version__:
            raise UsageError(
                f"node {self.node} of the cluster has version {self.version} of this project, here is {__version__}: "
                "install the same on every node."
            )
        if self.read != self.token.name:
            raise UsageError(
                f"node {self.node} of the cluster does not see the run folder {self.token.parent}: it must be on a "
                "file system that all nodes share, at the same path."
            )


class _Host:
    """The actor: carries out one attempt at a time, in a process of its own."""

    def __init__(self, work: Work, slots: Slots) -> None:
        # Else each process would first run Ray's own main file again, as multiprocessing does.
        vars(sys.modules["__main__"]).pop("__file__", None)
        self._pool = LocalPool(work, slots)

    def greet(self, token: Path) -> Greeting:
        read = token.read_text(encoding="utf-8") if token.exists() else None
        return Greeting(platform.node(), __version__, token, read)

    def run(self, task: Any, attempt: Attempt) -> list[Progress | Ended]:
        self._pool.start(task, attempt)
        return self.poll()

    def poll(self) -> list[Progress | Ended]:
        return [message for _, message in self._pool.poll(CALL_SECONDS)]

    def stop(self) -> None:
        self._pool.close()


def _connected(address: str, cores: int) -> Any:
    """The ``ray`` module, connected to the cluster at the address."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of its own default
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(HEAD_SECONDS))
    try:
        import ray
    except ImportError as error:
        raise UsageError("--cluster needs Ray, which is not installed: pip install 'ray[client]'") from error
    options: dict[str, Any] = {"address": address}
    if address == "ray":
        options = {
            "address": "local",
            "num_cpus": max(cores, usable_cores()),
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        if host_and_port := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address):
            # Ray ends the whole process, after half a minute, where nobody answers.
            socket.create_connection((host_and_port[1], int(host_and_port[2])), timeout=KNOCK_SECONDS).close()
        ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
    except (ImportError, OSError, OverflowError, RuntimeError, ValueError) as error:
        raise UsageError(f"there is no Ray cluster to be had at {address!r}: {_last_line(error)}") from error
    return ray


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip().rstrip(".")
