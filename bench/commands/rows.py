"""Finished rows: what they are, how they differ, and their students at work."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from bench.errors import UsageError
from bench.options import device_option, json_option, methods_dir_option, runs_option

FORMATS = ("safetensors", "ctranslate2")


@click.command()
@click.argument("row")
@runs_option
@methods_dir_option
def explain(row: str, runs: Path, methods_dir: Path | None) -> None:
    """Tell settings, trials, costs and artifacts of ROW ([DATASET/]ROW[@SEED]), and what would run again and why."""
    from bench.explain import explain as explained

    click.echo(explained(runs, row, methods_dir))


@click.command("compare")
@click.argument("row_a")
@click.argument("row_b")
@click.option("--metric", type=click.Choice(["bleu", "chrf"]), default="bleu", show_default=True)
@click.option("--test-set", help="Default: the one that the rows are ranked by.")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), multiple=True,
              help="Folder of more records; may be given several times.")  # fmt: skip
@runs_option
@json_option
def compare_(
    row_a: str, row_b: str, metric: str, test_set: str | None, results: tuple[Path, ...], runs: Path, as_json: bool
) -> None:
    """Test whether ROW_A and ROW_B ([DATASET/]ROW[@SEED]) differ, by the statistics of their sentences."""
    from bench import compare

    own = runs / "records"
    folders = [*results, own] if own.is_dir() or not results else results
    found = compare.compare_rows(
        folders, row_a, row_b, test_set, "chrf" if metric == "chrf" else "bleu",
        announce=lambda problem: click.echo(f"left out: {problem}", err=True),
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(compare.as_json(found), indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join(compare.described(found)))


@click.command()
@click.argument("row")
@runs_option
@device_option
def translate(row: str, runs: Path, device: str) -> None:
    """Translate standard input to standard output with the student of ROW ([DATASET/]ROW[@SEED])."""
    from bench.deliver import load_delivered
    from bench.environment import resolve_device

    delivered, place = load_delivered(runs, row), resolve_device(device)
    for line in delivered.translate(_input_lines(), place):
        click.echo(line)


@click.command()
@click.argument("row")
@click.option("--format", "form", type=click.Choice(FORMATS), default="safetensors", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
@runs_option
def export(row: str, form: str, out: Path, runs: Path) -> None:
    """Write the student of ROW ([DATASET/]ROW[@SEED]) for use elsewhere."""
    from bench.deliver import load_delivered

    delivered = load_delivered(runs, row)
    delivered.export(form, out)
    click.echo(f"wrote {delivered.record.row}, seed {delivered.record.seed}, as {form} to {out}")


def _input_lines() -> Iterator[str]:
    """Lines of standard input as a corpus file is read: UTF-8 whatever the locale, ended by a newline only."""
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip(" \t\r\n")
        except UnicodeDecodeError as error:
            raise UsageError(f"standard input, line {number}: not UTF-8 text.") from error
