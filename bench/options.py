"""Options that several commands share, and how those that say what to run become a request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.request import Request

BUDGETS = ("tokens", "wall-clock", "device-hours")

runs_option = click.option(
    "--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
    help="Folder of artifacts, records and the page.",
)  # fmt: skip
methods_dir_option = click.option(
    "--methods-dir", type=click.Path(path_type=Path, file_okay=False, exists=True), help="A folder with more methods."
)
data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of downloaded corpora; default: $BENCH_DATA, else the user's cache.",
)  # fmt: skip
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:INDEX.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what to run, shared by ``run`` and ``plan``."""
    # fmt: off
    options = [
        click.option("--methods", default="all", show_default=True, help="all, or names with commas between."),
        click.option(
            "--dataset", default="synthetic", show_default=True, help="A name, or the prefix of your own files."
        ),
        click.option("--langs", help="Source and target of your own files, as in de,en."),
        click.option("--preset", default="quick", show_default=True, help="Sizes, recipe and budget."),
        click.option("--seeds", type=click.IntRange(1), help="Final runs of each method; default: the preset's."),
        click.option(
            "--set", "settings", multiple=True, metavar="NAME.KEY=VALUE", help="A method's or preset's value."
        ),
        click.option(
            "--trials", type=click.IntRange(1),
            help="Trials that choose each method's settings by dev BLEU; 1: the published ones. Default: the preset's.",
        ),
        click.option(
            "--track", type=click.Choice(["official", "open"]),
            help="official (the default): one list of trials for all methods; open: a sampler that learns, in tables "
                 "of its own.",
        ),
        click.option("--sampler", type=click.Choice(["tpe", "gp"]), help="Of the open track; default: tpe."),
        click.option(
            "--pruner", type=click.Choice(["none", "median", "halving", "hyperband"]),
            help="Stops trials of the open track that fall behind.",
        ),
        click.option(
            "--budget", metavar="KIND[:AMOUNT]",
            help="What students get alike: tokens (the default; tokens:N for another number), wall-clock:SECONDS, or "
                 "device-hours:HOURS with the teacher's cost charged.",
        ),
        click.option(
            "--teacher-signals", type=click.Choice(["exact", "cached"]),
            help="exact (the default): the teacher runs over every batch; cached: once over each text, and its "
                 "likeliest tokens (signals.top_k) are kept, for methods that need no more. Never ranked together.",
        ),
        click.option(
            "--metric", "metrics", multiple=True, metavar="NAME",
            help="A further score of every row, also of those that are there; may be given several times. legacy-bleu: "
                 "tokenised and lower-cased, only to be set beside older papers; comet:PATH: COMET, the metric (not "
                 "comet-ml, the tracker), with a checkpoint of unbabel-comet on this machine, which must be trusted: "
                 "loading it can run any code.",
        ),
        click.option("--storage", help="Address of an Optuna storage, in place of journals in RUNS/sweeps."),
        click.option("--workers", type=click.IntRange(1), help="Tasks at a time; default: one for each core or GPU."),
        click.option(
            "--processes", type=click.IntRange(1), default=1, show_default=True,
            help="Processes (on GPUs: devices) that train one model together.",
        ),
        click.option(
            "--silence", type=click.FloatRange(min=0, min_open=True), default=1800.0, show_default=True,
            metavar="SECONDS", help="A student's training without progress for so long has timed out.",
        ),
        click.option(
            "--cluster", default="local", show_default=True,
            help="local; ray: start a Ray cluster here; ray://HOST:PORT: join one.",
        ),
        click.option(
            "--speed/--no-speed", default=True, show_default=True,
            help="Measure how fast all rows translate, once they are scored: in one go, alone on the machine.",
        ),
        device_option,
        runs_option,
        data_dir_option,
        methods_dir_option,
    ]
    # fmt: on
    for option in reversed(options):
        command = option(command)
    return command


def request_of(methods: str, langs: str | None, settings: tuple[str, ...], budget: str | None, **rest: Any) -> Request:
    """What the options of :func:`request_options` ask for.

    Raises:
        UsageError: an option that cannot be read.
    """
    from bench.request import Request

    names = tuple(name.strip() for name in methods.split(",") if name.strip())
    if not names:
        raise UsageError("--methods names no method; give all, or names with commas between.")
    return Request(
        methods=names, languages=_languages(langs), settings=_settings(settings), budget=_budget(budget), **rest
    )


def _budget(given: str | None) -> tuple[str, float] | None:
    if given in (None, "tokens"):
        return None
    kind, _, amount = given.partition(":")
    try:
        number = float(amount)
    except ValueError:
        number = 0.0
    if kind not in BUDGETS or not 0 < number < float("inf"):
        raise UsageError(f"--budget takes tokens[:N], wall-clock:SECONDS or device-hours:HOURS; got {given!r}.")
    return kind, number


def _languages(given: str | None) -> tuple[str, str] | None:
    if given is None:
        return None
    source, _, target = given.partition(",")
    if not source or not target or "," in target:
        raise UsageError(f"--langs takes source and target with a comma between, as in de,en; got {given!r}.")
    return source, target


def _settings(given: tuple[str, ...]) -> dict[str, Any]:
    """``NAME.KEY=VALUE`` as a mapping."""
    from bench.config import read_value

    settings: dict[str, Any] = {}
    for item in given:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise UsageError(f"--set takes NAME.KEY=VALUE, got {item!r}.")
        settings[key] = read_value(text)
    return settings
