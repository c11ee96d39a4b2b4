"""Artifacts: computed once, seen whole or not at all, resumed after a kill."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.store import MANIFEST, Store, content_hash, write_json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_hash_depends_on_content_and_not_on_order(value):
    shuffled = dict(reversed(list(value.items())))
    assert content_hash(value) == content_hash(shuffled) == content_hash(json.loads(json.dumps(value)))
    assert content_hash(value) != content_hash({**value, "one more": 1})


def test_hash_refuses_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_hash({"x": float("nan")})


def test_made_once_and_found_again(tmp_path):
    store, calls = Store(tmp_path), []

    def maker(folder: Path):
        calls.append(folder)
        (folder / "file").write_text("content")
        return {"size": 7}

    first = store.make("kind", {"a": 1}, maker)
    again = store.make("kind", {"a": 1}, maker)
    assert len(calls) == 1
    assert first == again == store.find("kind", content_hash({"a": 1}))
    assert (first.folder / "file").read_text() == "content"
    assert first.details == {"size": 7}
    assert first.inputs == {"a": 1}


def test_missing_artifact_is_named(tmp_path):
    assert Store(tmp_path).find("kind", "0" * 64) is None
    with pytest.raises(LookupError, match="no kind artifact 000"):
        Store(tmp_path).get("kind", "0" * 64)


@pytest.mark.parametrize("resumable", [True, False])
def test_a_failed_maker_leaves_nothing_to_be_found_and_its_work_only_if_resumable(tmp_path, resumable):
    store, seen = Store(tmp_path), []

    def maker(folder: Path):
        seen.append((folder / "progress").exists())
        (folder / "progress").write_text("half")
        if len(seen) == 1:
            raise RuntimeError("no luck")
        return {}

    with pytest.raises(RuntimeError):
        store.make("kind", {}, maker, resumable=resumable)
    assert store.find("kind", content_hash({})) is None
    store.make("kind", {}, maker, resumable=resumable)
    assert seen == [False, resumable]


def _slow(root: str) -> None:
    def maker(folder: Path):
        (folder / "begun").write_text(str(os.getpid()))
        time.sleep(60)
        return {}

    Store(Path(root)).make("kind", {}, maker)


def test_a_killed_maker_holds_up_nobody(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_slow, args=(str(tmp_path),))
    process.start()
    deadline = time.monotonic() + 30
    while not list(tmp_path.rglob("begun")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    made = Store(tmp_path).make("kind", {}, lambda folder: {"made": True})
    assert made.details == {"made": True}
    assert not (made.folder / "begun").exists()


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / MANIFEST
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"new": float("inf")})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [each.name for each in tmp_path.iterdir()] == [MANIFEST]
