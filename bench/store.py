"""Artifacts addressed by the content of their inputs: nothing is computed twice, nothing half-made is ever seen.

An artifact is a folder ``KIND/HASH/`` that holds a manifest and whatever its maker wrote. It is built in a work folder
beside it and appears by one rename. The work folder outlives a killed maker, so that a long training can go on from
its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

MANIFEST = "manifest.json"
SCRATCH = "scratch"
"""The part of a work folder that a maker needs for resuming only; it goes once the artifact is there."""

WAIT_SECONDS = 10.0
"""How often somebody is told of waiting for another process."""

Inputs = Mapping[str, Any]
Maker = Callable[[Path], Mapping[str, Any]]


def content_hash(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of this file; ``waiting`` is called now and then while another process holds it."""
    lock = FileLock(path)
    while True:
        try:
            with lock.acquire(timeout=WAIT_SECONDS):
                yield
            return
        except Timeout:
            waiting()


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: where it lies, and what its manifest says."""

    kind: str
    key: str
    folder: Path
    inputs: Inputs
    details: Inputs
    """What the maker reported: sizes, results, seconds by phase."""


class Store:
    """The artifacts below one folder, safe to share between processes of one machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, kind: str, key: str) -> Artifact | None:
        """The finished artifact, or None."""
        folder = self.root / kind / key
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return Artifact(kind, key, folder, manifest["inputs"], manifest["details"])

    def get(self, kind: str, key: str) -> Artifact:
        """The finished artifact.

        Raises:
            LookupError: it does not exist.
        """
        artifact = self.find(kind, key)
        if artifact is None:
            raise LookupError(f"no {kind} artifact {key} under {self.root}")
        return artifact

    def make(
        self,
        kind: str,
        inputs: Inputs,
        maker: Maker,
        *,
        resumable: bool = False,
        waiting: Callable[[], None] = lambda: None,
    ) -> Artifact:
        """The artifact with these inputs; ``maker(work_folder)`` builds it if it is not there.

        Two processes that ask for the same artifact build it once: the second waits for the first. With ``resumable``
        the maker finds what an earlier, killed one left in the work folder; without, it starts in an empty one.
        ``waiting`` is called now and then while another process builds it.
        """
        key = content_hash(inputs)
        if found := self.find(kind, key):
            return found
        place = self.root / kind
        place.mkdir(parents=True, exist_ok=True)
        with locked(place / f".{key}.lock", waiting):
            if found := self.find(kind, key):
                return found
            work = place / f".{key}.work"
            if not resumable:
                shutil.rmtree(work, ignore_errors=True)
            work.mkdir(exist_ok=True)
            # A manifest says that the rest is whole: a maker killed after writing it has nothing left to do.
            if not (work / MANIFEST).exists():
                details = dict(maker(work))
                created = datetime.now(UTC).isoformat(timespec="seconds")
                write_json(
                    work / MANIFEST,
                    {"kind": kind, "key": key, "created": created, "inputs": dict(inputs), "details": details},
                )
            shutil.rmtree(work / SCRATCH, ignore_errors=True)
            shutil.rmtree(place / key, ignore_errors=True)  # what a lost manifest left behind
            os.replace(work, place / key)
        return self.get(kind, key)
