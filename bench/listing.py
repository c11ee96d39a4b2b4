"""What there is: methods, data sets, presets, finished rows, and the state of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import config


@dataclass(frozen=True)
class Entry:
    """One line of a list; ``facts`` go into the JSON form only."""

    name: str
    description: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def methods(methods_dir: Path | None) -> list[Entry]:
    """Every method with its settings and search ranges; the files that could not be used, with the reason."""
    from bench.registry import load_methods

    known = load_methods(methods_dir)
    entries = []
    for name, method in known.found.items():
        settings = {}
        for key, info in method.Settings.model_fields.items():
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            search: Any = extra.get("search")
            settings[key] = {
                "default": info.default,
                "description": info.description,
                "search": asdict(search) if search is not None else None,
            }
        facts = {"teacher": str(method.teacher), "settings": settings}
        entries.append(Entry(name, method.title + (f". {method.summary}" if method.summary else ""), facts))
    return entries + [Entry(name, f"cannot be used: {reason}") for name, reason in known.broken.items()]


def datasets() -> list[Entry]:
    """The registered data sets."""
    from bench.data.datasets import DATASETS

    return [
        Entry(
            name,
            f"{each.title} ({' to '.join(each.languages)}); licence: {each.licence}",
            {"languages": each.languages},
        )
        for name, each in DATASETS.items()
    ]


def presets() -> list[Entry]:
    """The presets, with all their values."""
    return [Entry(name, each.description, each.model_dump(mode="json")) for name, each in config.presets().items()]


def runs(folder: Path) -> list[Entry]:
    """The recorded rows of a run folder, one entry for each row and seed."""
    from bench.records import read_records

    place = folder / "records"
    if not place.is_dir():
        return []
    reading, entries = read_records([place]), []
    for stored in reading.records:
        record = stored.record
        if record.status == "ok":
            said = f"BLEU {record.scores[record.primary].bleu:.2f} on {record.primary}"
        else:
            said = f"failed: {record.reason}"
        entries.append(Entry(f"{record.dataset}/{record.row}@{record.seed}", said, {"status": record.status}))
    return entries + [Entry("left out", problem) for problem in reading.problems]


def doctor(folder: Path) -> list[Entry]:
    """What this machine has for a run, and how to add what is missing."""
    import torch

    from bench.data.datasets import DATASETS
    from bench.data.fetch import State, cache_folder, verify
    from bench.environment import cpu_name, installed, resolve_device
    from bench.measure.energy import energy_meter
    from bench.sweep.slots import default_slots

    device = resolve_device("auto")
    slots = default_slots(device)
    existing = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    entries = [
        Entry("processor", f"{cpu_name()}, {os.cpu_count()} cores"),
        *(Entry(f"cuda:{i}", torch.cuda.get_device_name(i)) for i in range(torch.cuda.device_count())),
        Entry("default slots", f"{slots.workers} tasks at a time, {slots.threads} threads each"),
        Entry("torch", torch.__version__ + ("" if torch.cuda.is_available() else "; sees no GPU: runs go to the CPU")),
        Entry("energy", energy_meter([device], 1, 1).description),
        Entry("run folder", f"{folder}, {shutil.disk_usage(existing).free / 2**30:.1f} GiB free"),
        Entry("data folder", f"{cache_folder()} (set BENCH_DATA or --data-dir to use another)"),
    ]
    for name, dataset in DATASETS.items():
        states = [state for _, state in verify(dataset)]
        usable = all(state not in (State.MISSING, State.DAMAGED) for state in states)
        said = "ready" if usable else f"not here: python -m bench data fetch {name}"
        entries.append(Entry(f"data {name}", said))
    optional = (
        ("ctranslate2", "CTranslate2's speeds and export --format ctranslate2 need it: pip install ctranslate2"),
        ("nvidia-ml-py", "a GPU's energy and what else runs on it are read by it: pip install nvidia-ml-py"),
        ("ray", "run --cluster needs it: pip install 'ray[client]'"),
        ("sacremoses", "run --metric legacy-bleu needs it: pip install sacremoses"),
        (
            "unbabel-comet",
            "run --metric comet:PATH needs it, in an environment with NumPy 1: "
            "pip install unbabel-comet 'setuptools<81'",
        ),
    )
    entries += [Entry(package, installed(package) or f"not installed; {need}") for package, need in optional]
    return entries
