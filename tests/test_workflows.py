"""The workflows of the repository: what they run exists, and they are given no more than they need."""

from __future__ import annotations

import os
import re
import subprocess
import sys
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
    assert "leaderboard/**" in of[True]["pull_request"]["paths"]
    (validate,) = [step for step in of["jobs"]["validate"]["steps"] if "bench validate" in step.get("run", "")]
    assert "if" not in validate
    assert "pipefail" in validate["run"]


def script(name: str) -> str:
    (step,) = [step for step in workflow("leaderboard.yml")["jobs"]["validate"]["steps"] if step.get("name") == name]
    return step["run"]


def run(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Carry out a step as GitHub does."""
    return subprocess.run(
        ["bash", "-e", "-c", text],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


RECORD, REVIEWS = "leaderboard/results/synthetic/a.s1.json", "leaderboard/results/reviews.toml"


LOOK = "Refuse records together with anything else"


def looked_at(folder: Path, changed: list[str]) -> tuple[subprocess.CompletedProcess[str], str]:
    """The first look at a pull request that changes these files, merged into another state of main; and its summary."""
    folder.mkdir()
    git(folder, "init", "-b", "main")
    for name in ("README.md", "leaderboard/results/gone.txt", "leaderboard/results/kept.txt", "bench/gone.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("there")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "base")
    git(folder, "switch", "-c", "pull")
    for name in changed:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "gone" in name:
            path.unlink()
        else:
            path.write_text("changed")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "pull")
    git(folder, "switch", "main")
    (folder / "CHANGELOG.md").write_text("meanwhile")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "meanwhile")
    git(folder, "merge", "--no-ff", "-m", "merge", "pull")
    summary = folder.parent / "summary.md"
    summary.write_text("")
    return run(script(LOOK), folder, GITHUB_STEP_SUMMARY=str(summary)), summary.read_text()


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ([RECORD], None),
        ([RECORD, "leaderboard/results/synthetic/ä b.txt"], None),
        ([REVIEWS], None),
        (["bench/validation/record.py", "README.md"], None),
        ([RECORD, "bench/validation/record.py"], "touches nothing else"),
        ([RECORD, "leaderboard/results.py"], "touches nothing else"),
        ([REVIEWS, ".github/workflows/leaderboard.yml"], "touches nothing else"),
        (["leaderboard/results/gone.txt", "bench/gone.py"], "touches nothing else"),
        ([RECORD, REVIEWS], "Reviews are not changed together with records"),
    ],
)
def test_a_pull_request_with_records_has_nothing_else_in_it(tmp_path, changed, refused):
    """Else its own validator would judge its records, or its author would review them."""
    done, _ = looked_at(tmp_path / "clone", changed)
    assert (done.returncode, done.stderr) == (int(refused is not None), "")
    assert done.stdout.startswith("::error::") == (refused is not None)
    assert (refused or "") in done.stdout


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ([RECORD], []),
        ([RECORD, "leaderboard/results/gone.txt"], ["D\tleaderboard/results/gone.txt"]),
        ([RECORD, "leaderboard/results/kept.txt"], ["M\tleaderboard/results/kept.txt"]),
        (["README.md"], []),
    ],
    ids=["new", "removed", "changed", "no record"],
)
def test_published_files_that_a_pull_request_changes_or_removes_are_named(tmp_path, changed, told):
    done, summary = looked_at(tmp_path / "clone", changed)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"::warning::{len(told)} published files") == bool(told)
    assert [line for line in summary.splitlines() if line != "```"] == told


def test_the_pull_requests_own_code_is_not_run_before_what_it_changes_was_looked_at():
    checkout, look, *_ = workflow("leaderboard.yml")["jobs"]["validate"]["steps"]
    assert checkout["with"]["fetch-depth"] == 2
    assert look["name"] == LOOK
    assert look["if"] == "github.event_name == 'pull_request'"


@pytest.mark.parametrize(
    ("folders", "fails", "stops"),
    [
        (["synthetic", "mine"], "", False),
        (["synthetic", "multi30k-en-de"], "multi30k-en-de", True),
        (["multi30k-en-de", "synthetic"], "multi30k-en-de", True),
        (["synthetic"], "list", True),
    ],
)
def test_a_data_set_that_cannot_be_fetched_fails_and_one_that_is_not_known_is_a_warning(
    tmp_path, folders, fails, stops
):
    for name in folders:
        (tmp_path / "leaderboard" / "results" / name).mkdir(parents=True)
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/bash
        if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi
        echo "$@" >> calls.txt
        case "$*" in
          *{fails or "nothing"}*) echo failed >&2; exit 2 ;;
          "-m bench list datasets --json") echo '[{{"name": "synthetic"}}, {{"name": "multi30k-en-de"}}]' ;;
        esac
        """
    )
    program.chmod(0o755)
    text = script("Fetch the data sets of the records, so that outputs can be scored again")
    done = run(text, tmp_path, PATH=f"{program.parent}:{os.environ['PATH']}")
    assert (done.returncode != 0) == stops
    fetched = [line.split()[-1] for line in (tmp_path / "calls.txt").read_text().splitlines() if "fetch" in line]
    assert "mine" not in fetched
    assert ("::warning::mine is no data set" in done.stdout) == ("mine" in folders)


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
