"""Corpus files on disk: where they lie, whether they are what they should be, and how they are downloaded."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from bench.errors import DataError, UsageError
from bench.store import write_text

if TYPE_CHECKING:
    import requests

    from bench.data.datasets import Dataset

CHUNK = 1 << 18
ATTEMPTS = 20
TIMEOUT = (15.0, 60.0)

Progress = Callable[[str, int, "int | None"], None]
"""Called while a file arrives with its name, the bytes here so far, and the bytes in all where the server says so."""


@dataclass(frozen=True)
class RemoteFile:
    """A published file and what is known of it.

    Attributes:
        name: the file's name on disk.
        url: its address, pinned to a version where the publisher allows that.
        sha256, md5: published checksums, of the bytes at ``url``; the first one that is known counts.
        bytes, lines: its size, for the reader's information.
        compress: the bytes at ``url`` are plain text that is kept gzipped on disk.
    """

    name: str
    url: str
    sha256: str | None = None
    md5: str | None = None
    bytes: int | None = None
    lines: int | None = None
    compress: bool = False

    @property
    def checksum(self) -> Checksum | None:
        """The published checksum."""
        if self.sha256:
            return Checksum("sha256", self.sha256)
        return Checksum("md5", self.md5) if self.md5 else None


class Checksum(NamedTuple):
    """A digest and its algorithm."""

    algorithm: str
    digest: str

    def __str__(self) -> str:
        return f"{self.algorithm} {self.digest}"


class State(StrEnum):
    """What a look at a file says; the first three may be used."""

    VERIFIED = "verified"
    UNCHANGED = "unchanged since its first download (no checksum is published)"
    UNVERIFIABLE = "present, but no checksum is known"
    DAMAGED = "not what its checksum says"
    MISSING = "missing"


class Inspection(NamedTuple):
    """A file's state; for a damaged one the digest it should have and the one it has."""

    state: State
    expected: Checksum | None = None
    found: Checksum | None = None

    @property
    def usable(self) -> bool:
        return self.state not in (State.DAMAGED, State.MISSING)


def cache_folder() -> Path:
    """Where corpora are kept: ``$BENCH_DATA``, else the user's cache folder."""
    if named := os.environ.get("BENCH_DATA"):
        return Path(named)
    import platformdirs

    return platformdirs.user_cache_path("nmt-distillation-bench")


def verify(dataset: Dataset, folder: Path | None = None) -> list[tuple[RemoteFile, State]]:
    """The state of each file of a data set under ``folder`` (default: :func:`cache_folder`)."""
    place = dataset.place(folder)
    return [(file, inspect(place, file).state) for file in dataset.files]


def inspect(place: Path, file: RemoteFile) -> Inspection:
    """Compares ``place / file.name`` with its published checksum, or with the one recorded on its first download."""
    path = place / file.name
    if not path.is_file():
        return Inspection(State.MISSING)
    expected = _expected(place, file)
    if expected is None:
        return Inspection(State.UNVERIFIABLE)
    found = digest(path, expected.algorithm, gzipped=file.compress)
    if found != expected:
        return Inspection(State.DAMAGED, expected, found)
    return Inspection(State.VERIFIED if file.checksum else State.UNCHANGED)


def fetch(dataset: Dataset, folder: Path | None, echo: Callable[[str], None], progress: Progress | None = None) -> None:
    """Downloads what is missing or damaged of a data set into ``folder`` and verifies it.

    Licence and citation are echoed before the first byte. Each file grows as ``NAME.part``, which the next call goes on
    from, and gets its name only after its checksum was found right; a file that is wrong is set aside as ``NAME.bad``.
    The first download of a file without a published checksum is not resumed, since a join of two versions would go
    unnoticed; its SHA-256 is recorded beside it as ``NAME.sha256`` and holds for every later download.

    Raises:
        DataError: no answer, an answer other than the file, or a checksum that does not match.
        UsageError: the folder cannot be written or has no space left.
    """
    from filelock import FileLock

    if not dataset.files:
        echo(f"{dataset.name} needs no download.")
        return
    place = dataset.place(folder)
    try:
        if {state for _, state in verify(dataset, folder)} <= {State.VERIFIED, State.UNCHANGED}:
            echo(f"{dataset.name}: everything is in {place} and verified.")
            return
        echo(f"{dataset.title}\nLicence: {dataset.licence}\nPlease cite: {dataset.citation}")
        place.mkdir(parents=True, exist_ok=True)
        # One download into a folder at a time, so that two commands never write the same .part file.
        with FileLock(place / ".lock"), _session() as session:
            for file in dataset.files:
                _obtain(place, file, session, echo, progress)
    except OSError as error:
        _refuse_storage(error, place)


def _obtain(
    place: Path, file: RemoteFile, session: requests.Session, echo: Callable[[str], None], progress: Progress | None
) -> None:
    path = place / file.name
    present = inspect(place, file)
    if present.state is State.DAMAGED:
        echo(f"{file.name}: {present.found} instead of {present.expected}; set aside as {_aside(path).name}.")
    if not present.usable:
        expected = _expected(place, file)
        part = path.with_name(f"{file.name}.part")
        _download(file, part, session, progress, resumable=expected is not None)
        _accept(file, part, path, expected)
    state = inspect(place, file).state
    if state is State.UNVERIFIABLE:
        found = digest(path, "sha256", gzipped=file.compress)
        write_text(_record(path), f"{found.digest}  {file.name}\n")
        echo(f"{file.name}: could not be verified, as no checksum is published; recorded {found} for later checks.")
    else:
        echo(f"{file.name}: {state}.")


def _download(
    file: RemoteFile, part: Path, session: requests.Session, progress: Progress | None, *, resumable: bool
) -> None:
    """Fills ``part``; a connection that breaks is taken up again as long as each attempt brings something."""
    import requests
    import urllib3

    for attempt in range(1, ATTEMPTS + 1):
        start = part.stat().st_size if resumable and part.exists() else 0
        try:
            _receive(file, part, start, session, progress)
            return
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            here = part.stat().st_size if part.exists() else 0
            if here <= start or not resumable or attempt == ATTEMPTS:
                kept = f"{here:,} bytes are kept; run the command again to go on" if here and resumable else ""
                raise DataError(
                    f"{file.name}: the download from {file.url} failed: {_reason(error)}. "
                    f"{kept or f'Try again later, or put the file into {part.parent} by hand'}."
                ) from error


def _receive(file: RemoteFile, part: Path, start: int, session: requests.Session, progress: Progress | None) -> None:
    # Asked for as it is: a transfer encoding would make byte ranges and checksums those of something else.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with session.get(file.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if start and response.status_code == 416:
            return  # Nothing lies beyond what is here; the checksum decides whether that is the file.
        if response.status_code == 206 and start:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise DataError(f"{file.url} answered with another part of the file than it was asked for.")
        elif response.status_code == 200:
            start = 0
        else:
            raise DataError(
                f"{file.url} answered {response.status_code} {response.reason}; if the file has moved, "
                f"put it into {part.parent} as {file.name} by hand."
            )
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        with part.open("ab" if start else "wb") as out:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                out.write(chunk)
                start += len(chunk)
                if progress:
                    progress(file.name, start, total)


def _accept(file: RemoteFile, part: Path, path: Path, expected: Checksum | None) -> None:
    """Gives ``part`` its name, if it is what it should be."""
    if expected and (found := digest(part, expected.algorithm, gzipped=False)) != expected:
        aside = _aside(part)
        recorded = f" To accept a new version, remove {_record(path).name}." if not file.checksum else ""
        raise DataError(
            f"{file.name}: the download has {found} instead of {expected}; it was set aside as {aside}.{recorded}"
        )
    if file.compress:
        packed = path.with_name(f"{file.name}.packed")
        with part.open("rb") as plain, gzip.open(packed, "wb") as out:
            shutil.copyfileobj(plain, out)
        packed.replace(path)
        part.unlink()
    else:
        part.replace(path)


def _expected(place: Path, file: RemoteFile) -> Checksum | None:
    """The published checksum, else the one recorded on the first download."""
    record = _record(place / file.name)
    if file.checksum or not record.is_file():
        return file.checksum
    return Checksum("sha256", record.read_text(encoding="utf-8").split(" ")[0])


def digest(path: Path, algorithm: str, *, gzipped: bool) -> Checksum:
    """The checksum of a file's bytes, or of what is inside a ``gzipped`` one."""
    try:
        with gzip.open(path) if gzipped else path.open("rb") as stream:
            return Checksum(algorithm, hashlib.file_digest(stream, algorithm).hexdigest())
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return Checksum(algorithm, "none (no whole gzip file)")


def _session() -> requests.Session:
    """A session that asks again, a few times, where a server is busy or does not answer at once."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(
        3,
        backoff_factor=0.3,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.mount("https://", HTTPAdapter(max_retries=retry))
    return session


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _aside(path: Path) -> Path:
    """Moves a wrong file (or the ``.part`` of one) to ``NAME.bad``."""
    bad = path.with_name(f"{path.name.removesuffix('.part')}.bad")
    return path.replace(bad)


def _reason(error: Exception) -> str:
    # requests wraps the error of urllib3, whose ``reason`` is the readable one.
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", cause)).rstrip(".")


def _refuse_storage(error: OSError, place: Path) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise UsageError(
            f"no space left for {place}; make room, or name another folder with --data-dir or $BENCH_DATA."
        ) from error
    raise UsageError(f"{place} cannot be used: {error.strerror or error}.") from error
