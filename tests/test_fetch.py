"""Downloads from a server on this machine: whole, interrupted, resumed, refused, wrong, and without room."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.data.datasets import DATASETS, Dataset
from bench.data.fetch import RemoteFile, State, cache_folder, fetch, verify
from bench.errors import DataError, UsageError

CONTENT = random.Random(7).randbytes(700_000)
SUM = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """What the test server holds and how it behaves."""

    base: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {"/data.bin": CONTENT})
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # each answer in turn breaks off after so many bytes
    busy: int = 0  # so many answers are 503 first
    wrong_range: bool = False
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    encodings: set[str | None] = field(default_factory=set)


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            state.encodings.add(self.headers.get("Accept-Encoding"))
            content = state.files.get(self.path)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            if state.busy or content is None or start >= len(content):
                self.send_error(503 if state.busy else 404 if content is None else 416)
                state.busy = max(0, state.busy - 1)
                return
            if start:
                self.send_response(206)
                shown = 0 if state.wrong_range else start
                self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            body = content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.base = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def dataset(*files: RemoteFile) -> Dataset:
    return replace(DATASETS["multi30k-en-de"], name="small", folder="small", files=files)


def one(site: Site, **facts: Any) -> Dataset:
    return dataset(RemoteFile("data.bin", f"{site.base}/data.bin", **({"sha256": SUM} | facts)))


@pytest.fixture
def said() -> list[str]:
    return []


def test_licence_and_citation_come_before_the_first_byte(site: Site, tmp_path: Path) -> None:
    small = one(site)
    order: list[tuple[str, int]] = []
    fetch(small, tmp_path, lambda line: order.append((line, len(site.asked))))
    assert order[0][1] == 0
    assert small.licence in order[0][0]
    assert small.citation in order[0][0]
    assert order[-1] == ("data.bin: verified.", 1)
    assert (tmp_path / "small" / "data.bin").read_bytes() == CONTENT
    assert [state for _, state in verify(small, tmp_path)] == [State.VERIFIED]
    assert site.encodings == {"identity"}


def test_what_is_there_is_not_fetched_again(site: Site, tmp_path: Path, said: list[str]) -> None:
    fetch(one(site), tmp_path, said.append)
    said.clear()
    fetch(one(site), tmp_path, said.append)
    assert len(site.asked) == 1
    assert len(said) == 1
    assert "everything is in" in said[0]


def test_progress_counts_up_to_the_whole(site: Site, tmp_path: Path, said: list[str]) -> None:
    steps: list[tuple[str, int, int | None]] = []
    fetch(one(site), tmp_path, said.append, lambda *step: steps.append(step))
    assert steps[-1] == ("data.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in steps] == sorted({done for _, done, _ in steps})


def test_a_broken_connection_is_taken_up_where_it_broke(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.cuts = [300_000, 200_000]
    fetch(one(site), tmp_path, said.append)
    assert [wanted for _, wanted in site.asked] == [None, "bytes=300000-", "bytes=500000-"]
    assert (tmp_path / "small" / "data.bin").read_bytes() == CONTENT


def test_a_stopped_download_goes_on_in_the_next_call(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.cuts = [300_000, 0]  # the second attempt brings nothing, so the first call gives up
    with pytest.raises(DataError, match="300,000 bytes are kept; run the command again to go on"):
        fetch(one(site), tmp_path, said.append)
    assert not (tmp_path / "small" / "data.bin").exists()
    assert [state for _, state in verify(one(site), tmp_path)] == [State.MISSING]
    fetch(one(site), tmp_path, said.append)
    assert site.asked[-1][1] == "bytes=300000-"
    assert (tmp_path / "small" / "data.bin").read_bytes() == CONTENT
    assert not (tmp_path / "small" / "data.bin.part").exists()


def test_a_whole_part_is_accepted_without_its_bytes_again(site: Site, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "data.bin.part").write_bytes(CONTENT)
    fetch(one(site), tmp_path, said.append)
    assert [wanted for _, wanted in site.asked] == [f"bytes={len(CONTENT)}-"]
    assert (tmp_path / "small" / "data.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_the_whole_file(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.ranges = False
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "data.bin.part").write_bytes(CONTENT[:1000])
    fetch(one(site), tmp_path, said.append)
    assert site.asked == [("/data.bin", "bytes=1000-")]
    assert (tmp_path / "small" / "data.bin").read_bytes() == CONTENT


def test_another_range_than_asked_for_is_refused(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.wrong_range = True
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "data.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataError, match="another part of the file"):
        fetch(one(site), tmp_path, said.append)
    assert (tmp_path / "small" / "data.bin.part").read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_wrong_checksum_names_both_and_sets_the_file_aside(
    site: Site, tmp_path: Path, said: list[str], algorithm: str
) -> None:
    wrong = "0" * (64 if algorithm == "sha256" else 32)
    found = hashlib.new(algorithm, CONTENT).hexdigest()
    with pytest.raises(DataError) as caught:
        fetch(one(site, **({"sha256": None} | {algorithm: wrong})), tmp_path, said.append)
    message = str(caught.value)
    assert found in message
    assert wrong in message
    assert "data.bin.bad" in message
    assert sorted(path.name for path in (tmp_path / "small").iterdir() if path.name != ".lock") == ["data.bin.bad"]


def test_a_wrong_start_is_not_built_upon_twice(site: Site, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "data.bin.part").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="set aside"):
        fetch(one(site), tmp_path, said.append)
    fetch(one(site), tmp_path, said.append)
    assert site.asked[-1][1] is None
    assert (tmp_path / "small" / "data.bin").read_bytes() == CONTENT


def test_a_file_damaged_on_disk_is_set_aside_and_fetched_again(site: Site, tmp_path: Path, said: list[str]) -> None:
    fetch(one(site), tmp_path, said.append)
    path = tmp_path / "small" / "data.bin"
    path.write_bytes(CONTENT[:-1] + b"?")
    assert [state for _, state in verify(one(site), tmp_path)] == [State.DAMAGED]
    fetch(one(site), tmp_path, said.append)
    assert path.read_bytes() == CONTENT
    assert any("set aside as data.bin.bad" in line for line in said)


def test_a_missing_page_names_the_address_and_what_to_do(site: Site, tmp_path: Path, said: list[str]) -> None:
    gone = dataset(RemoteFile("gone.gz", f"{site.base}/gone.gz", sha256=SUM))
    with pytest.raises(DataError, match=r"/gone\.gz answered 404 .*put it into .*small as gone\.gz by hand"):
        fetch(gone, tmp_path, said.append)
    assert not (tmp_path / "small" / "gone.gz").exists()


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path, said: list[str]) -> None:
    site.busy = 1
    fetch(one(site), tmp_path, said.append)
    assert len(site.asked) == 2
    site.busy = 9
    (tmp_path / "small" / "data.bin").unlink()
    with pytest.raises(DataError, match="answered 503"):
        fetch(one(site), tmp_path, said.append)


def test_no_server_at_all_is_one_sentence(tmp_path: Path, said: list[str]) -> None:
    nobody = dataset(RemoteFile("data.bin", "http://127.0.0.1:9/data.bin", sha256=SUM))
    with pytest.raises(DataError, match=r"data\.bin: the download from http://127.0.0.1:9/data.bin failed: .*refused"):
        fetch(nobody, tmp_path, said.append)


def test_a_file_without_published_checksum_is_recorded_and_checked_later(
    site: Site, tmp_path: Path, said: list[str]
) -> None:
    small = one(site, sha256=None)
    fetch(small, tmp_path, said.append)
    assert "could not be verified" in said[-1]
    assert SUM in said[-1]
    assert (tmp_path / "small" / "data.bin.sha256").read_text() == f"{SUM}  data.bin\n"
    assert [state for _, state in verify(small, tmp_path)] == [State.UNCHANGED]
    (tmp_path / "small" / "data.bin").write_bytes(b"something else")
    assert [state for _, state in verify(small, tmp_path)] == [State.DAMAGED]
    fetch(small, tmp_path, said.append)
    assert (tmp_path / "small" / "data.bin").read_bytes() == CONTENT


def test_a_recorded_checksum_holds_for_later_downloads(site: Site, tmp_path: Path, said: list[str]) -> None:
    small = one(site, sha256=None)
    fetch(small, tmp_path, said.append)
    (tmp_path / "small" / "data.bin").unlink()
    site.files["/data.bin"] = b"another version"
    with pytest.raises(DataError, match=f"instead of sha256 {SUM}.*To accept a new version, remove data.bin.sha256"):
        fetch(small, tmp_path, said.append)
    (tmp_path / "small" / "data.bin.sha256").unlink()
    fetch(small, tmp_path, said.append)
    assert (tmp_path / "small" / "data.bin").read_bytes() == b"another version"


def test_a_file_put_there_by_hand_is_recorded_when_nothing_speaks_for_it(
    site: Site, tmp_path: Path, said: list[str]
) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "data.bin").write_bytes(b"by hand")
    small = one(site, sha256=None)
    assert [state for _, state in verify(small, tmp_path)] == [State.UNVERIFIABLE]
    fetch(small, tmp_path, said.append)
    assert site.asked == []
    assert [state for _, state in verify(small, tmp_path)] == [State.UNCHANGED]


def test_without_a_checksum_nothing_is_joined(site: Site, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "data.bin.part").write_bytes(b"of another version")
    site.cuts = [1000]
    with pytest.raises(DataError, match="Try again later"):
        fetch(one(site, sha256=None), tmp_path, said.append)
    fetch(one(site, sha256=None), tmp_path, said.append)
    assert [wanted for _, wanted in site.asked] == [None, None]
    assert (tmp_path / "small" / "data.bin").read_bytes() == CONTENT


def test_plain_text_is_kept_gzipped_and_checked_by_its_text(site: Site, tmp_path: Path, said: list[str]) -> None:
    text = b"ein Satz\n" * 1000
    site.files["/dev.de"] = text
    small = dataset(
        RemoteFile("dev.de.gz", f"{site.base}/dev.de", sha256=hashlib.sha256(text).hexdigest(), compress=True)
    )
    fetch(small, tmp_path, said.append)
    path = tmp_path / "small" / "dev.de.gz"
    assert gzip.decompress(path.read_bytes()) == text
    assert len(path.read_bytes()) < len(text)
    path.write_bytes(gzip.compress(text, compresslevel=1))  # packed by other means, the same text
    assert [state for _, state in verify(small, tmp_path)] == [State.VERIFIED]
    for bad in (gzip.compress(text + b"!"), b"no gzip", path.read_bytes()[:-9]):
        path.write_bytes(bad)
        assert [state for _, state in verify(small, tmp_path)] == [State.DAMAGED]
    assert sorted(p.name for p in path.parent.iterdir() if p.name != ".lock") == ["dev.de.gz"]


class FullDisk(io.BytesIO):
    """A file on a disk that takes one chunk and no more."""

    def write(self, data: Any) -> int:
        if self.tell():
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def open_on(kind: Callable[[], io.BytesIO]) -> Callable[..., Any]:
    real = Path.open

    def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return kind() if path.suffix == ".part" and mode in ("wb", "ab") else real(path, mode, *args, **kwargs)

    return opened


def test_a_full_disk_is_the_users_to_mend(
    site: Site, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", open_on(FullDisk))
    with pytest.raises(UsageError, match=r"no space left for .*small; make room, or name another folder"):
        fetch(one(site), tmp_path, said.append)
    assert not (tmp_path / "small" / "data.bin").exists()


def test_a_folder_that_cannot_be_made_is_named(site: Site, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "small").write_text("a file in the way")
    with pytest.raises(UsageError, match=r"small cannot be used: "):
        fetch(one(site), tmp_path, said.append)
    assert site.asked == []


def test_synthetic_needs_no_download(tmp_path: Path, said: list[str]) -> None:
    fetch(DATASETS["synthetic"], tmp_path, said.append)
    assert said == ["synthetic needs no download."]
    assert verify(DATASETS["synthetic"], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_cache_folder_is_the_environments_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("BENCH_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().is_absolute()
    assert cache_folder() != tmp_path
