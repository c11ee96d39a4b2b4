"""Experiments of comet-ml: online with an API key, else archives. Runs in a process of its own.

``comet_ml`` is imported when the first experiment is new or has changed, never before.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from bench.store import content_hash, write_json, write_text
from bench.track.experiment import Experiment

PROJECT = "nmt-distillation-bench"
"""The project where the user's configuration of comet-ml names none."""

QUIET = {
    "COMET_DISABLE_AUTO_LOGGING": "1",
    "COMET_ERROR_TRACKING_ENABLE": "false",
    "COMET_INTERNAL_REPORTING": "false",
    "COMET_DISABLE_ANNOUNCEMENT": "true",
    "COMET_LOGGING_CONSOLE": "CRITICAL",
    "COMET_TIMEOUT_CLEANING": "30",
    "COMET_TIMEOUT_UPLOAD": "30",
    "COMET_TIMEOUT_FILE_UPLOAD": "30",
}
"""What comet-ml reads when it is imported: no reports about itself, no patched libraries, no console lines, and half a
minute's wait at most for each part of a slow upload. Values that the user has set stay."""

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

ORIGIN = "origin"
"""The file with the random number that tells this folder's experiments from those of the same rows run elsewhere:
comet-ml wants keys that nobody else uses."""


class CometTracker:
    """Keeps the experiments of one folder up to date.

    An experiment keeps its key for good, so that one that has changed is continued: online what is new is added, and
    an archive is replaced by a whole one, which ``comet upload`` adds to the experiment if it is there already. The
    file ``<name>.json`` remembers what was tracked, and where; without a change nothing is done.

    Args:
        folder: where archives (``<name>.zip``) and these files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def track(self, experiment: Experiment) -> None:
        """Make or continue an experiment, unless it was tracked as it is.

        Raises:
            Exception: whatever goes wrong in comet-ml.
        """
        about = self.folder / f"{experiment.name}.json"
        before, now = _read(about), experiment.digests()
        if before.get("parts") == now:
            return
        key, archive = self.key(experiment), self.folder / f"{experiment.name}.zip"
        # comet-ml writes an archive in place: it is made in a work folder, so that a killed run leaves no half of one.
        work = self.folder / f".{experiment.name}.work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            comet = _comet_ml()
            online = bool(comet.get_config("comet.api_key"))
            # Of an experiment whose archive may have been uploaded or not, everything is new.
            known = before.get("parts", {}) if online and before.get("url") else {}
            about.unlink(missing_ok=True)
            started = _start(comet, experiment, key, online, work)
            try:
                _fill(started, experiment, {part for part in now if now[part] != known.get(part)})
            finally:
                started.end()
            # An online experiment that lost its connection on the way also ends as an archive.
            if written := next(work.glob("*.zip"), None):
                os.replace(written, archive)
                where = {"archive": archive.name}
            else:
                archive.unlink(missing_ok=True)
                where = {"url": started.url}
            write_json(about, {"key": key, **where, "parts": now})
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def key(self, experiment: Experiment) -> str:
        """The experiment's key, 32 hexadecimal digits: the same for the same name in the same folder."""
        path = self.folder / ORIGIN
        if not path.exists():
            write_text(path, f"{uuid.uuid4().hex}\n")
        return content_hash([path.read_text(encoding="utf-8").strip(), experiment.name])[:32]


def _read(about: Path) -> dict[str, Any]:
    try:
        found = json.loads(about.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _start(comet: Any, experiment: Experiment, key: str, online: bool, work: Path) -> Any:
    settings = comet.ExperimentConfig(
        **NOTHING_BY_ITSELF, name=experiment.title, tags=list(experiment.tags), offline_directory=str(work)
    )
    started = comet.start(
        online=online,
        mode="get_or_create",
        experiment_key=key,
        project_name=comet.get_config("comet.project_name") or PROJECT,
        experiment_config=settings,
    )
    if not started.alive:  # it then swallows all that it is told
        raise RuntimeError("comet-ml could not start the experiment: is the API key right?")
    return started


def _fill(started: Any, experiment: Experiment, parts: set[str]) -> None:
    """Log these parts of an experiment."""
    if "parameters" in parts:
        started.log_parameters(dict(experiment.parameters))
    if "notes" in parts:
        started.log_others(dict(experiment.notes))
    if "curves" in parts:
        for step, values in experiment.curves:
            started.log_metrics(dict(values), step=step)
    if "figures" in parts:
        started.log_metrics(dict(experiment.figures))
    if "files" in parts:
        for name, content in experiment.files.items():
            started.log_asset_data(content, name=name, overwrite=True)


def _comet_ml() -> Any:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # It reports that PyTorch was imported before it could patch it, which it is not meant to.
    logging.getLogger("comet_ml").setLevel(logging.CRITICAL)
    return importlib.import_module("comet_ml")
