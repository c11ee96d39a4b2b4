"""The machine and the versions behind a number."""

import subprocess
from importlib.metadata import version

import pytest
import torch

from bench import environment
from bench.errors import UsageError
from bench.results import Environment


@pytest.fixture
def gpus(monkeypatch):
    """Pretend to have some number of GPUs."""
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_auto_is_every_gpu_else_the_processor(gpus):
    gpus(2)
    assert environment.resolve_device("auto") == environment.resolve_device("cuda") == "cuda"
    assert environment.resolve_device("cuda:1") == "cuda:1"
    assert environment.resolve_device("cpu") == "cpu"
    gpus(0)
    assert environment.resolve_device("auto") == "cpu"


@pytest.mark.parametrize("wanted", ["cuda", "cuda:0", "cuda:2", "gpu", ""])
def test_a_device_that_is_not_there_gets_those_that_are(gpus, wanted):
    gpus(0)
    with pytest.raises(UsageError, match=f"there is no device '{wanted}' on this machine. There is: cpu."):
        environment.resolve_device(wanted)


def test_what_is_said_of_a_machine_fits_the_record():
    said = Environment(**environment.environment("cpu", "fp32", 3))
    assert (said.device, said.precision, said.torch) == ("cpu", "fp32", version("torch"))
    assert said.workers == 3
    assert said.threads == torch.get_num_threads()
    assert said.cpu


def test_a_gpu_is_called_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Example {device}")
    assert environment.environment("cuda:1", "bf16", 1)["device"] == "Example cuda:1"


def test_a_package_that_is_not_installed_has_no_version():
    assert environment.installed("no-such-package") is None


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A made-up checkout of this package, whose path has a blank, with one commit."""

    def git(*words):
        settings = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
        return subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True, text=True).stdout

    folder = tmp_path / "a checkout"
    for package in ("bench", "methods"):
        (folder / package).mkdir(parents=True)
        (folder / package / "code.py").write_text("one = 1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(environment, "__file__", str(folder / "bench" / "environment.py"))
    environment.git_commit.cache_clear()
    yield folder, git("rev-parse", "HEAD").strip()
    environment.git_commit.cache_clear()


def test_the_commit_is_that_of_the_checkout(checkout):
    assert environment.git_commit() == checkout[1]


def test_code_that_was_changed_since_the_commit_is_told(checkout):
    folder, commit = checkout
    (folder / "methods" / "code.py").write_text("one = 2\n")
    assert environment.git_commit() == f"{commit}-dirty"


def test_the_commit_of_somebody_elses_repository_is_not_ours(checkout, monkeypatch):
    folder, _ = checkout
    monkeypatch.setattr(environment, "__file__", str(folder / "site-packages" / "bench" / "environment.py"))
    (folder / "site-packages" / "bench").mkdir(parents=True)
    assert environment.git_commit() is None


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment.git_commit() is None
