"""What torchrun starts for ``together``: a process that takes its task from the caller and tells how it fares."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
import time
import traceback
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

TIMEOUT = timedelta(hours=12)
"""For a collective. The first process may decode dev for long; one that is gone is noticed otherwise, and at once."""


def main(address: str, device: str) -> None:
    """Carry out the task that waits at ``address``, as the process that torchrun's variables make of this one."""
    rank = int(os.environ["RANK"])
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(address)
        caller = Connection(link.detach())

    def send(kind: str, value: Any) -> None:
        caller.send_bytes(pickle.dumps((kind, value)))  # its own pickling would leave a tensor's memory here

    send("rank", rank)
    task = caller.recv_bytes()
    threading.Thread(target=_die_with, args=(caller,), daemon=True).start()
    try:
        function, args = pickle.loads(task)
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        own = _joined(device, int(os.environ["LOCAL_RANK"]))
        result = function(*args, device=own, report=None if rank else lambda *news: send("progress", news))
        dist.destroy_process_group()
        send("result", None if rank else result)
    except Exception as error:
        send("error", told(error))
        os._exit(1)  # what is left to tidy up may wait for the others


def _joined(device: str, number: int) -> str:
    """Enter the group; the device of this process."""
    if device == "cpu":
        dist.init_process_group("gloo", timeout=TIMEOUT)
        return device
    own = torch.device("cuda", (torch.device(device).index or 0) + number)
    torch.cuda.set_device(own)
    dist.init_process_group("cpu:gloo,cuda:nccl", timeout=TIMEOUT)
    return str(own)


def told(error: Exception) -> dict[str, Any]:
    """An error for the caller: itself where it pickles, and in any case in words."""
    first = (str(error).strip().splitlines() or [""])[0]
    name = type(error).__name__
    try:
        travelling = pickle.dumps(error)
    except Exception:
        travelling = b""
    return {
        "error": travelling,
        "reason": f"{name}: {first}" if first else name,
        "state": getattr(error, "state", "exception"),
        "log": "".join(traceback.format_exception(error)),
        "time": time.time(),
        # A collective fails so when another process is gone.
        "follows": isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)),
    }


def _die_with(caller: Connection) -> None:
    """End this process when the caller is gone or has hung up, however it went; it never sends anything more."""
    caller.poll(None)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
