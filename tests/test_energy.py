"""Energy from counters that a test makes up: packages, wrap-around, sharing, and why nothing is measured."""

import sys
import types

import pytest
import torch

from bench.measure.energy import energy_meter


def package(folder, number, name, microjoules, limit=1_000_000_000):
    place = folder / f"intel-rapl:{number}"
    place.mkdir(parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "energy_uj").write_text(f"{microjoules}\n")
    (place / "max_energy_range_uj").write_text(f"{limit}\n")
    return place / "energy_uj"


def test_packages_are_added_and_their_parts_are_not(tmp_path):
    first, second = package(tmp_path, "0", "package-0", 5_000_000), package(tmp_path, "1", "package-1", 0)
    package(tmp_path, "0:0", "core", 7)
    meter = energy_meter(["cpu"], 1, 1, folder=tmp_path)
    assert meter.description == "RAPL package-0; RAPL package-1"
    assert meter.joules() == 0
    first.write_text("8000000\n")
    second.write_text("500000\n")
    assert meter.joules() == 3.5


def test_the_whole_platform_is_not_counted_beside_its_packages(tmp_path):
    counter = package(tmp_path, "0", "package-0", 0)
    platform = package(tmp_path, "1", "psys", 0)
    meter = energy_meter(["cpu"], 1, 1, folder=tmp_path)
    counter.write_text("2000000")
    platform.write_text("9000000")
    assert (meter.joules(), meter.description) == (2, "RAPL package-0")


def test_a_machine_with_no_counter_of_a_package_says_so(tmp_path):
    package(tmp_path, "0", "psys", 0)
    assert "has no RAPL counters of its processor" in energy_meter(["cpu"], 1, 1, folder=tmp_path).description


def test_a_counter_that_starts_again_goes_on(tmp_path):
    counter = package(tmp_path, "0", "package-0", 900, limit=999)
    meter = energy_meter(["cpu"], 1, 1, folder=tmp_path)
    for microjoules, total in ((950, 50), (20, 120), (20, 120), (999, 1099)):
        counter.write_text(f"{microjoules}\n")
        assert meter.joules() == pytest.approx(total / 1e6)


def test_tasks_that_run_together_share_the_processor(tmp_path):
    counter = package(tmp_path, "0", "package-0", 0)
    meter = energy_meter(["cpu"], 4, 1, folder=tmp_path)
    counter.write_text("8000000")
    assert meter.joules() == 2
    assert meter.description == "RAPL package-0, 1/4 of it to each task"


def test_without_counters_the_reason_is_given(tmp_path):
    meter = energy_meter(["cpu"], 1, 1, folder=tmp_path / "nothing")
    assert meter.joules() is None
    assert meter.description == "not measured: this machine has no RAPL counters of its processor"


def test_counters_that_cannot_be_read_are_named(tmp_path):
    package(tmp_path, "0", "package-0", 0).unlink()
    meter = energy_meter(["cpu"], 1, 1, folder=tmp_path)
    assert meter.joules() is None
    assert meter.description.startswith("not measured: the RAPL counters cannot be read")


def test_a_counter_that_fails_later_stops_nothing(tmp_path):
    counter = package(tmp_path, "0", "package-0", 0)
    meter = energy_meter(["cpu"], 1, 1, folder=tmp_path)
    assert meter.joules() == 0
    counter.unlink()
    assert meter.joules() is None
    assert meter.description.startswith("not measured: RAPL package-0 could be read no longer")
    counter.write_text("5")
    assert meter.joules() is None


class FakeNvml(types.ModuleType):
    """Two GPUs by UUID; what they have used is set by the test."""

    def __init__(self):
        super().__init__("pynvml")
        self.millijoules = {"GPU-a": 0, "GPU-b": 0}

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        return self.millijoules[handle]


@pytest.fixture
def nvml(monkeypatch):
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: types.SimpleNamespace(uuid="ab"[n]))
    return fake


def test_the_gpus_of_a_training_are_added_by_their_share(tmp_path, nvml):
    meter = energy_meter(["cuda:0", "cuda:1"], 4, 2, folder=tmp_path)
    nvml.millijoules |= {"GPU-a": 1000, "GPU-b": 5000}
    both = meter.joules()
    nvml.millijoules |= {"GPU-a": 2000, "GPU-b": 8000}
    assert meter.joules() - both == 2
    assert "NVML cuda:0, 1/2 of it to each task; NVML cuda:1, 1/2 of it to each task" in meter.description
    assert "not measured: this machine has no RAPL" in meter.description


def test_a_gpu_without_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = energy_meter(["cuda:1"], 1, 1, folder=tmp_path)
    assert meter.joules() is None
    assert "NVML of cuda:1 needs the package nvidia-ml-py" in meter.description


def test_a_gpu_without_the_counter_is_named(tmp_path, nvml):
    del nvml.millijoules["GPU-b"]
    meter = energy_meter(["cuda:1"], 1, 1, folder=tmp_path)
    assert meter.joules() is None
    assert "NVML of cuda:1 cannot be read ('GPU-b')" in meter.description
