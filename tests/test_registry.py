"""Finding methods in the built-in folder, in a user's folder and in installed packages."""

import hashlib
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import bench
from bench import registry
from bench.errors import UsageError
from bench.registry import RESERVED, load_file, load_methods, source_hash

SOURCE = """
from __future__ import annotations
from bench.method import Method, Step, Term, setting


class Mine(Method):
    name = "{name}"
    title = "Mine"

    class Settings(Method.Settings):
        weight: float = setting(0.5, "A weight.", ge=0)

    def loss(self, step: Step) -> dict[str, Term]:
        return {{"nll": Term(step.positions.cross_entropy(step.student.forward(step.batch).log_probabilities))}}
"""
BUILT_IN = {"a2d", "aio_kd", "baseline", "sequence_level", "tie_kd", "word_level"}


def write(folder: Path, name: str, source: str = SOURCE) -> Path:
    path = folder / f"{name}.py"
    path.write_text(source.format(name=name) if source is SOURCE else source, encoding="utf-8")
    return path


def test_the_built_in_methods_are_found_and_none_is_broken() -> None:
    methods = load_methods()
    assert set(methods.found) == BUILT_IN
    assert methods.broken == {}
    assert all(method.name == name for name, method in methods.found.items())


def test_a_built_in_method_is_the_one_that_an_import_gives() -> None:
    from methods.baseline import Baseline

    assert load_methods().get("baseline") is Baseline


def test_a_folder_of_the_same_name_in_the_working_directory_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "__init__.py").touch()
    code = "from bench.registry import load_methods; print(*sorted(load_methods().found))"
    root = Path(bench.__file__).resolve().parent.parent
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert set(done.stdout.split()) == BUILT_IN, done.stderr


def test_a_users_folder_adds_to_the_built_in_methods(tmp_path: Path) -> None:
    write(tmp_path, "mine")
    write(tmp_path, "_helper", "raise RuntimeError")
    (tmp_path / "notes.txt").write_text("no method")
    methods = load_methods(tmp_path)
    assert set(methods.found) == BUILT_IN | {"mine"}
    assert methods.broken == {}
    assert methods.get("mine")({"weight": 2}).settings.weight == 2


def test_the_built_in_folder_as_a_users_folder_clashes_with_nothing() -> None:
    assert load_methods(registry.BUILT_IN).broken == {}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package' (line 1)"),
        ("x = 1\nx = (", "SyntaxError: '(' was never closed (line 2)"),
        ("raise SystemExit(3)", "SystemExit: 3 (line 1)"),
        ("x = 1", "defines no Method"),
        ("from methods.baseline import Baseline", "defines no Method"),
        (SOURCE.format(name="other"), "its method is named 'other', but must be named 'mine'"),
        (SOURCE.format(name="mine").replace("def loss", "def los"), "the method lacks loss"),
        (SOURCE.format(name="mine").replace("title", "headline"), "the method lacks title"),
    ],
)
def test_a_file_that_cannot_be_used_is_listed_with_its_reason(tmp_path: Path, source: str, reason: str) -> None:
    path = write(tmp_path, "mine", source)
    methods = load_methods(tmp_path)
    assert set(methods.found) == BUILT_IN
    assert reason in methods.broken["mine"]
    assert str(path) in methods.broken["mine"]
    assert "\n" not in methods.broken["mine"]
    with pytest.raises(UsageError, match="method 'mine' cannot be used"):
        methods.get("mine")


def test_a_clash_names_both_files_and_the_first_stays(tmp_path: Path) -> None:
    path = write(tmp_path, "word_level")
    methods = load_methods(tmp_path)
    assert methods.found["word_level"].__module__ == "methods.word_level"
    assert str(path) in methods.broken["word_level"]
    assert str(registry.BUILT_IN / "word_level.py") in methods.broken["word_level"]


@pytest.mark.parametrize("name", RESERVED)
def test_a_name_with_another_meaning_on_the_command_line_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    methods = load_methods(tmp_path)
    assert set(methods.found) == BUILT_IN
    assert methods.broken == {name: f"{path}: {name!r} means something else on the command line; rename the method"}
    with pytest.raises(UsageError, match="means something else"):
        load_file(path)


def test_an_entry_point_with_another_meaning_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package_of_search.py").write_text(SOURCE.format(name="search"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("search", "package_of_search:Mine", "bench.methods")
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [entry])
    assert "means something else on the command line" in load_methods().broken["search"]


def test_the_reserved_names_are_all_and_the_sections_of_a_preset() -> None:
    assert set(RESERVED) == {
        "all",
        "signals",
        "speed",
        "tokenizer",
        "teacher",
        "student",
        "teacher_training",
        "training",
        "search",
        "tuning",
        "budget",
    }


def test_an_unknown_name_gets_the_legal_ones_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'word_level'.*tie_kd"):
        load_methods().get("word_levle")


def test_a_missing_folder_or_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        load_methods(tmp_path / "nothing")
    with pytest.raises(UsageError, match="no such method file"):
        load_file(tmp_path / "nothing.py")


def test_a_changed_file_is_read_again_and_hashes_differently(tmp_path: Path) -> None:
    path = write(tmp_path, "mine")
    before = load_file(path)
    first = source_hash(before)
    assert first == hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_file(path) is before
    write(tmp_path, "mine", SOURCE.format(name="mine").replace('"Mine"', '"Other"'))
    after = load_file(path)
    assert (before.title, after.title) == ("Mine", "Other")
    assert source_hash(after) != first


def test_entry_points_of_installed_packages_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "installed_kd")
    entries = [
        EntryPoint("installed_kd", "installed_kd:Mine", "bench.methods"),
        EntryPoint("renamed", "installed_kd:Mine", "bench.methods"),
        EntryPoint("missing", "no_such_package:Mine", "bench.methods"),
        EntryPoint("function", "installed_kd:setting", "bench.methods"),
    ]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [e for e in entries if e.group == group])
    methods = load_methods()
    assert methods.get("installed_kd").title == "Mine"
    assert "its method is named 'installed_kd', but the entry point 'renamed'" in methods.broken["renamed"]
    assert "No module named 'no_such_package'" in methods.broken["missing"]
    assert "is no Method class" in methods.broken["function"]
