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


def test_auto_is_the_first_gpu_else_the_processor(gpus):
    gpus(2)
    assert environment.resolve_device("auto") == environment.resolve_device("cuda") == "cuda:0"
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
    said = Environment(**environment.environment("cpu", "fp32"))
    assert (said.device, said.precision, said.torch) == ("cpu", "fp32", version("torch"))
    assert said.threads == torch.get_num_threads()
    assert said.cpu


def test_a_gpu_is_called_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Example {device}")
    assert environment.environment("cuda:1", "bf16")["device"] == "Example cuda:1"


def test_a_package_that_is_not_installed_has_no_version():
    assert environment.installed("no-such-package") is None


@pytest.mark.parametrize(
    ("answer", "commit"),
    [
        ((0, "{here}\nabc\n"), "abc"),
        ((0, "/somewhere/else\nabc\n"), None),
        ((128, ""), None),
        (OSError("no git"), None),
    ],
)
def test_the_commit_is_that_of_this_checkout_and_no_other(monkeypatch, answer, commit):
    here = environment.Path(environment.__file__).parent.parent

    def run(*_, **__):
        if isinstance(answer, OSError):
            raise answer
        return subprocess.CompletedProcess([], answer[0], answer[1].format(here=here), "")

    monkeypatch.setattr(environment.subprocess, "run", run)
    environment.git_commit.cache_clear()
    assert environment.git_commit() == commit
    environment.git_commit.cache_clear()
