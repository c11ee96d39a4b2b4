"""What there is to run with: methods, data sets, presets, this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.commands import FAILED_ROWS
from bench.errors import UsageError, unknown_name
from bench.options import data_dir_option, json_option, methods_dir_option, runs_option

if TYPE_CHECKING:
    from bench.listing import Entry


@click.command("list")
@click.argument("what", type=click.Choice(["methods", "datasets", "presets", "runs"]))
@methods_dir_option
@runs_option
@json_option
def list_(what: str, methods_dir: Path | None, runs: Path, as_json: bool) -> None:
    """List methods, data sets, presets or finished rows."""
    from bench import listing

    entries = {
        "methods": lambda: listing.methods(methods_dir),
        "datasets": listing.datasets,
        "presets": listing.presets,
        "runs": lambda: listing.runs(runs),
    }[what]()
    _list_entries(entries, as_json)


@click.command()
@click.argument("method")
@methods_dir_option
def check(method: str, methods_dir: Path | None) -> int:
    """Run the conformance suite on METHOD, a name or the path of a file."""
    import torch

    from bench.contract import check_method
    from bench.registry import load_file, load_methods

    torch.set_num_threads(1)  # the suite's models are too small to share
    found = load_file(Path(method)) if method.endswith(".py") else load_methods(methods_dir).get(method)
    failed = 0
    for result in check_method(found):
        state = "skipped" if result.skipped else "passed" if result.passed else "FAILED"
        failed += state == "FAILED"
        click.echo(f"{state:8} {result.name}" + (f": {result.detail}" if result.detail else ""))
    click.echo(f"{found.name}: {'all checks passed' if not failed else f'{failed} checks failed'}.")
    return FAILED_ROWS if failed else 0


@click.command("new-method")
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=Path("."), show_default=True,
              help="The checkout to write into: methods/NAME.py and tests/test_NAME.py.")  # fmt: skip
def new_method_(name: str, folder: Path) -> None:
    """Write a new method's file and its test, ready to fill in."""
    from bench.scaffold import new_method

    for path in new_method(name, folder):
        click.echo(f"wrote {path}")
    click.echo(f"next: python -m bench check {folder / 'methods' / name}.py")


@click.command()
@click.argument("action", type=click.Choice(["fetch", "verify", "info"]))
@click.argument("name")
@data_dir_option
def data(action: str, name: str, data_dir: Path | None) -> None:
    """Fetch a data set, verify its files, or tell what is known of it."""
    from rich.console import Console

    from bench.data import fetch
    from bench.data.datasets import DATASETS, describe
    from bench.progress import Downloads

    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    dataset = DATASETS[name]
    if action == "info":
        click.echo(describe(dataset))
        return
    if action == "fetch":
        with Downloads(Console(soft_wrap=True)) as shown:
            fetch.fetch(dataset, data_dir, shown.say, shown.advance)
    bad = []
    for file, state in fetch.verify(dataset, data_dir):
        click.echo(f"{file.name}: {state}")
        if state in (fetch.State.DAMAGED, fetch.State.MISSING):
            bad.append(file.name)
    if bad:
        raise UsageError(f"{name} cannot be used: {', '.join(bad)} missing or damaged; `data fetch {name}` gets them.")


@click.command()
@click.option("--speed", is_flag=True, help="Measure instead how fast this machine trains and searches: a few minutes.")
@click.option("--preset", help="Shapes and batches of --speed; default: small.")
@click.option("--device", help="Of --speed: auto (the default), cpu, cuda or cuda:INDEX.")
@runs_option
@json_option
def doctor(speed: bool, preset: str | None, device: str | None, runs: Path, as_json: bool) -> None:
    """Show devices, meters, caches and optional parts: what is missing, and how to add it; or measure speed."""
    from bench import listing

    if speed:
        from bench.config import preset as named
        from bench.pace import described, measure_pace

        found = measure_pace(named(preset or "small"), device or "auto", announce=partial(click.echo, err=True))
        click.echo(json.dumps(asdict(found), indent=1) if as_json else "\n".join(described(found)))
        return
    if preset or device:
        raise UsageError("--preset and --device are options of doctor --speed.")
    _list_entries(listing.doctor(runs), as_json)


def _list_entries(entries: list[Entry], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=1, default=str, ensure_ascii=False))
        return
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        click.echo(f"{entry.name:{width}}  {entry.description}")
