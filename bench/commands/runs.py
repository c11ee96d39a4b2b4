"""Running: what is trained, and what would be."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import Any

import click

from bench.commands import FAILED_ROWS
from bench.options import json_option, request_of, request_options


@click.command()
@request_options
@click.option(
    "--tracker", type=click.Choice(["none", "comet"]), default="none", show_default=True,
    help="comet: an experiment of comet-ml (the tracker, not COMET the metric) for each row and seed, and for each "
         "trial; online with COMET_API_KEY, else an archive in RUNS/comet.",
)  # fmt: skip
def run(**options: Any) -> int:
    """Train the teacher and every student, score them, write the records and the page."""
    from rich.console import Console

    from bench.run import run as carry_out

    outcome = carry_out(request_of(**options), Console(soft_wrap=True))
    if not outcome.trained and not outcome.failures:
        click.echo("nothing to do: every row is there already.")
    for name, reason in outcome.failures.items():
        click.echo(f"failed: {name}: {reason}", err=True)
    for name, reason in outcome.unscored.items():
        click.echo(f"recorded without this score: {name}: {reason}", err=True)
    click.echo(f"{outcome.rows - len(outcome.failures)} of {outcome.rows} rows finished; page: {outcome.page}")
    return FAILED_ROWS if outcome.failures or outcome.unscored else 0


@click.command()
@request_options
@json_option
def plan(as_json: bool, **options: Any) -> None:
    """Show what a run would do, what is there already, and how long the rest will take."""
    from bench.forecast import described, forecast
    from bench.run import missing, prepare
    from bench.timing import absent, timing

    prepared = prepare(request_of(**options))
    todo, found = missing(prepared), prepared.plan
    listed = found.tasks
    if prepared.request.speed and (speed := timing(prepared, planned=True)):
        listed = (*listed, speed)
        todo = tuple({task.key: task for task in (*todo, *absent(prepared, speed))}.values())
    keys = {task.key for task in todo}
    there = {task.key for task in listed if prepared.store.find(task.kind, task.key)}
    rows = sorted({row.id for row in found.rows})
    if not as_json:
        for name, reason in found.left_out.items():
            click.echo(f"left out: {name}: {reason}", err=True)
        for task in listed:
            state = "present" if task.key in there else "to do" if task.key in keys else "not needed"
            click.echo(f"{state:10}  {task.kind:9}  {task.key[:12]}  {task.label}")
        click.echo(f"{len(rows)} rows, {len(found.rows)} with seeds; {len(todo)} of {len(listed)} tasks to do, "
                   f"{prepared.slots.workers} at a time with {prepared.slots.threads} threads each.")  # fmt: skip
    expected = forecast(prepared, todo, announce=partial(click.echo, err=True))
    if as_json:
        tasks = [
            {"kind": task.kind, "label": task.label, "key": task.key, "present": task.key in there,
             "seconds": expected.estimates[task.key].seconds if task.key in keys else None}
            for task in listed
        ]  # fmt: skip
        ahead = {name: value for name, value in asdict(expected).items() if name != "estimates"}
        click.echo(json.dumps({"rows": rows, "tasks": tasks, "left_out": found.left_out, "forecast": ahead}, indent=1))
    elif todo:
        click.echo("\n" + "\n".join(described(expected)))
