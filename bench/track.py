"""Tracking with comet-ml, the experiment tracker (not COMET, the translation metric, which is ``unbabel-comet``).

The run's own records are the truth: a tracker is told of a row after its record is written, and whatever goes wrong in
it costs one warning. ``comet_ml`` is imported when the first row is tracked, never before.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.records import Stored, parse_record
from bench.results import Record
from bench.store import content_hash, write_text

PROJECT = "nmt-distillation-bench"
"""The project where the user's configuration of comet-ml names none."""

QUIET = {
    "COMET_DISABLE_AUTO_LOGGING": "1",
    "COMET_ERROR_TRACKING_ENABLE": "false",
    "COMET_INTERNAL_REPORTING": "false",
    "COMET_DISABLE_ANNOUNCEMENT": "true",
    "COMET_LOGGING_CONSOLE": "CRITICAL",
    "COMET_TIMEOUT_CLEANING": "60",
    "COMET_TIMEOUT_UPLOAD": "60",
    "COMET_TIMEOUT_FILE_UPLOAD": "60",
}
"""What comet-ml reads when it is imported: no reports about itself, no patched libraries, no console lines, and at most
a minute's wait for a slow connection. Values that the user has set stay."""

NOTHING_BY_ITSELF = {
    "log_code": False,
    "log_graph": False,
    "parse_args": False,
    "log_git_metadata": False,
    "log_git_patch": False,
    "log_env_details": False,
    "log_env_gpu": False,
    "log_env_host": False,
    "log_env_cpu": False,
    "log_env_network": False,
    "log_env_disk": False,
    "auto_output_logging": False,
    "auto_param_logging": False,
    "auto_metric_logging": False,
    "auto_log_co2": False,
    "display_summary_level": 0,
}
"""Switches off all that comet-ml would gather by itself: source code, host, user, git state, console output."""


class CometTracker:
    """One comet-ml experiment for each finished row and seed.

    With an API key in comet-ml's own configuration (``COMET_API_KEY``) the experiment goes to the server and a file
    ``<name>.url`` says where; without one it becomes an archive ``<name>.zip`` for ``comet upload``. Where either file
    is there, the row and seed are not tracked again, also not by a later run.

    Args:
        folder: where these files go.
        warn: is told, once, why tracking was switched off.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self._warn = warn
        self._on = True

    def track(self, record: Path, history: Path) -> None:
        """Make the experiment of a finished row from its record's file and its training history. Never raises."""
        if not self._on:
            return
        try:
            self._track(Stored(parse_record(record.read_bytes()), record.parent), history)
        except Exception as error:
            self._on = False
            said = " ".join(f"{type(error).__name__}: {error}".split())
            self._warn(f"tracking is off for the rest of this run, which is not affected: {said}")

    def _track(self, stored: Stored, history: Path) -> None:
        record, key = stored.record, experiment_key(stored.record)
        stem = f"{record.dataset}.{record.row}.s{record.seed}.{key[:8]}"
        archive, address = self.folder / f"{stem}.zip", self.folder / f"{stem}.url"
        if archive.exists() or address.exists():
            return
        # comet-ml writes an archive in place: it is made in a work folder, so that a killed run leaves no half of one.
        work = self.folder / f".{stem}.work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            experiment = _start(record, key, work)
            try:
                _fill(experiment, stored, json.loads(history.read_text(encoding="utf-8")))
            finally:
                experiment.end()
            # An online experiment that lost its connection on the way also ends as an archive.
            if written := next(work.glob("*.zip"), None):
                os.replace(written, archive)
            else:
                write_text(address, f"{experiment.url}\n")
        finally:
            shutil.rmtree(work, ignore_errors=True)


def experiment_key(record: Record) -> str:
    """The experiment's key, 32 hexadecimal digits: the same for the same row, seed and artifacts."""
    return content_hash([record.dataset, record.row, record.seed, record.artifacts])[:32]


def _start(record: Record, key: str, work: Path) -> Any:
    comet = _comet_ml()
    settings = comet.ExperimentConfig(
        **NOTHING_BY_ITSELF,
        name=f"{record.row}.s{record.seed}",
        tags=[record.dataset, record.preset, record.method.name],
        offline_directory=str(work),
    )
    return comet.start(
        online=bool(comet.get_config("comet.api_key")),
        mode="get_or_create",
        experiment_key=key,
        project_name=comet.get_config("comet.project_name") or PROJECT,
        experiment_config=settings,
    )


def _fill(experiment: Any, stored: Stored, history: list[dict[str, Any]]) -> None:
    record = stored.record
    experiment.log_parameters(_parameters(record))
    for step, values in _curves(history):
        experiment.log_metrics(values, step=step)
    for test_set, score in record.scores.items():
        experiment.log_metrics({f"{test_set}/bleu": score.bleu, f"{test_set}/chrf": score.chrf})
    seconds: dict[str, float] = {}
    for phase in record.phases:
        name = f"seconds/{phase.kind}/{phase.name}"
        seconds[name] = seconds.get(name, 0.0) + phase.seconds
    experiment.log_metrics(seconds)
    experiment.log_asset_data(record.model_dump_json(indent=2), name=record.file)
    for test_set, score in record.scores.items():
        lines = "".join(f"{line}\n" for line in stored.hypotheses(test_set))
        experiment.log_asset_data(lines, name=score.hypotheses.file)


def _parameters(record: Record) -> dict[str, Any]:
    values = record.model_dump(
        mode="json", include={"row", "dataset", "languages", "preset", "role", "seed", "parameters", "recipe"}
    )
    return values | {
        "method": record.method.name,
        "settings": record.method.settings,
        "depth": str(record.delivery.depth),
    }


def _curves(history: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Each evaluation's values at the target tokens seen by then, counted over all stages."""
    before = last = 0
    stage = 0
    for point in history:
        if point["stage"] != stage:
            before, stage = last, point["stage"]
        last = before + point["tokens"]
        yield last, {f"curve/{name}": value for name, value in point.items() if name not in ("stage", "tokens")}


def _comet_ml() -> Any:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # It reports that PyTorch was imported before it could patch it, which it is not meant to.
    logging.getLogger("comet_ml").setLevel(logging.CRITICAL)
    return importlib.import_module("comet_ml")
