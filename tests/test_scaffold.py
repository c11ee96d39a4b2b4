"""What ``new-method`` writes: a method that keeps the contract, and never over what is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench.contract import CHECKS
from bench.errors import UsageError
from bench.registry import load_file
from bench.scaffold import METHOD, new_method


def test_a_new_method_is_found_under_its_name(tmp_path: Path) -> None:
    path, test = new_method("my_first_kd", tmp_path)
    assert (path, test) == (tmp_path / "methods" / "my_first_kd.py", tmp_path / "tests" / "test_my_first_kd.py")
    method = load_file(path)
    assert (method.name, method.title, method.__name__) == ("my_first_kd", "My first kd", "MyFirstKd")
    assert method({"weight": 0.2}).settings.weight == 0.2
    assert method({"data": "seqkd"}).stages()[0].text.origin == "teacher"


def test_a_new_method_is_short_and_clean(tmp_path: Path) -> None:
    path, test = new_method("mine", tmp_path)
    assert len(path.read_text().splitlines()) < 60
    assert max(map(len, METHOD.template.splitlines())) <= 120
    for written in (path, test):
        compile(written.read_text(), str(written), "exec")


def test_a_new_method_keeps_the_contract_as_written(tmp_path: Path) -> None:
    new_method("mine", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_mine.py"]
    environment = os.environ | {"PYTHONPATH": str(Path(bench.__file__).resolve().parent.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert f"{len(CHECKS)} passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("My-KD", "lower-case letters"),
        ("2kd", "lower-case letters"),
        ("lambda", "lower-case letters"),
        ("_mine", "lower-case letters"),
        ("training", "something else on the command line"),
        ("all", "something else on the command line"),
        ("word_level", "already a method"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        new_method(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_never_overwritten(tmp_path: Path) -> None:
    _, test = new_method("mine", tmp_path)
    (tmp_path / "methods" / "mine.py").unlink()
    test.write_text("mine")
    with pytest.raises(UsageError, match="already there"):
        new_method("mine", tmp_path)
    assert test.read_text() == "mine"
    assert not (tmp_path / "methods" / "mine.py").exists()
