"""Records for the reader: the pages, the published store, and what it asks of a record."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from bench.commands import FAILED_ROWS
from bench.options import data_dir_option, json_option, methods_dir_option, runs_option

STORE = Path("leaderboard/results")
"""The records that the project publishes."""


@click.command()
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), multiple=True,
              help="Folder of records; may be given several times. Default: leaderboard/results.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("site"), show_default=True)
@click.option("--co2e", "grams_per_kwh", type=click.FloatRange(0, 1e6), metavar="GRAMS",
              help="CO2e of a kilowatt-hour of the grid, to show that of the measured energy.")  # fmt: skip
@click.option(
    "--price", "price_per_hour", type=click.FloatRange(0, 1e6), help="Price of a device-hour, to show costs in money."
)
@click.option("--currency", default="", help="Of the price, as EUR.")
@data_dir_option
@methods_dir_option
def publish(
    results: tuple[Path, ...], out: Path, data_dir: Path | None, methods_dir: Path | None, **factors: Any
) -> None:
    """Build the static leaderboard from records."""
    from bench.publishing import known_here
    from bench.records import read_records
    from bench.registry import load_methods
    from leaderboard.costs import Factors
    from leaderboard.reviews import read_reviews
    from leaderboard.site import build

    folders = results or (STORE,)
    reading = read_records(folders)
    reviews = [review for folder in folders for review in read_reviews(folder)]
    for problem in reading.problems:
        click.echo(f"left out: {problem}", err=True)
    page = build(
        reading.records, out, notes=list(reading.problems), factors=Factors(**factors),
        catalog=known_here(load_methods(methods_dir).found, data_dir), reviews=reviews,
    )  # fmt: skip
    click.echo(f"{len(reading.records)} records; page: {page}")


@click.command()
@click.argument("results", metavar="RESULT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@data_dir_option
@json_option
def validate(results: tuple[Path, ...], data_dir: Path | None, as_json: bool) -> int:
    """Check records, files or folders: schema, files, seeds, costs, and scores computed again from the outputs."""
    from bench.validation import Validator, summary

    verdicts = Validator(data_dir).validate(results)
    if as_json:
        click.echo(json.dumps([asdict(verdict) for verdict in verdicts], indent=1, default=str, ensure_ascii=False))
    else:
        click.echo("\n".join(summary(verdicts)))
    return FAILED_ROWS if any(verdict.problems for verdict in verdicts) else 0


@click.command("submit")
@click.argument("rows", metavar="ROW...", nargs=-1, required=True)
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=STORE, show_default=True,
              help="The published store.")  # fmt: skip
@runs_option
@data_dir_option
def submit_(rows: tuple[str, ...], results: Path, runs: Path, data_dir: Path | None) -> int:
    """Copy finished rows ([DATASET/]ROW[@SEED], or all) into the published store, for a pull request."""
    from bench.submit import described, submit
    from bench.validation import summary

    done = submit(runs, rows, results, data_dir)
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    if done.refused:
        for reason in done.refused:
            click.echo(f"refused: {reason}", err=True)
        click.echo("nothing was copied.", err=True)
        return FAILED_ROWS
    click.echo("\n".join([*summary(done.verdicts), *described(done, results)]))
    return 0
