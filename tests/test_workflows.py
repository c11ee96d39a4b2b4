"""The workflows of the repository: what they run exists, and they are given no more than they need."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.cli import group

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow(name: str) -> dict[Any, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def steps(of: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in of["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_workflow_runs_what_exists_with_a_token_that_can_only_read(path):
    of, text = workflow(path.name), path.read_text(encoding="utf-8")
    assert of["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in of[True]  # YAML 1.1 reads the key "on" as true
    assert "secrets." not in text
    assert all(job["timeout-minutes"] for job in of["jobs"].values())
    for step in steps(of):
        assert ("uses" in step) != ("run" in step)
        assert "${{" not in step.get("run", "")  # nothing of an event is ever part of a script
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"])
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    commands = re.findall(r"python -m bench ([\w-]+)", text)
    assert set(commands) <= set(group.commands)
    for folder in re.findall(r"leaderboard/[\w/]+", text):
        assert (ROOT / folder).is_dir()


def test_each_action_is_pinned_to_one_commit_with_its_version():
    found = {line.strip("- ") for path in FILES for line in re.findall(r"uses: .*", path.read_text(encoding="utf-8"))}
    assert all(re.search(r" # v\d+\.\d+\.\d+$", line) for line in found)
    assert len({line.split("@")[0] for line in found}) == len(found)


def test_records_are_validated_on_every_pull_request_that_touches_them():
    of = workflow("leaderboard.yml")
    assert "leaderboard/results/**" in of[True]["pull_request"]["paths"]
    (validate,) = [step for step in of["jobs"]["validate"]["steps"] if "bench validate" in step.get("run", "")]
    assert "if" not in validate
    assert "pipefail" in validate["run"]


def test_only_main_publishes():
    publish = workflow("leaderboard.yml")["jobs"]["publish"]
    assert publish["needs"] == "validate"
    assert publish["if"] == "github.event_name != 'pull_request' && github.ref == 'refs/heads/main'"
    assert publish["permissions"] == {"pages": "write", "id-token": "write"}


def test_the_tests_run_on_the_oldest_python_that_is_supported():
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    versions = {step["with"]["python-version"] for path in FILES for step in steps(workflow(path.name))
                if step.get("uses", "").startswith("actions/setup-python@")}  # fmt: skip
    assert versions == {oldest.removeprefix(">=")}


def test_every_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = {".".join(path.relative_to(ROOT).parent.parts) for top in ("bench", "leaderboard", "methods")
             for path in (ROOT / top).rglob("__init__.py")}  # fmt: skip
    assert set(listed) == found
