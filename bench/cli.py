"""The command line. Each command is one function; what takes long to import is imported inside."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import __version__
from bench.errors import UsageError, no_space, unknown_name
from bench.options import (
    data_dir_option,
    device_option,
    json_option,
    methods_dir_option,
    request_of,
    request_options,
    runs_option,
)

if TYPE_CHECKING:
    from bench.listing import Entry

FORMATS = ("safetensors", "ctranslate2")
STORE = Path("leaderboard/results")
"""The records that the project publishes."""
FAILED_ROWS, WRONG_USAGE, INTERRUPTED = 1, 2, 130
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
"""What a path of the user's may be: not allowed, read-only, or a file where a folder is needed."""


def main() -> None:
    """Run the command line. Exit code 0: all well; 1: some rows or scores failed; 2: wrong usage; 130: interrupted."""
    try:
        status = group.main(prog_name="python -m bench", standalone_mode=False)
    except UsageError as error:
        _leave(str(error), WRONG_USAGE)
    except click.ClickException as error:
        error.show()
        sys.exit(WRONG_USAGE)
    except (click.Abort, KeyboardInterrupt):
        _leave("interrupted; what is finished is kept. The same command goes on from here.", INTERRUPTED)
    except Exception as error:
        place = getattr(error, "filename", None)
        if no_space(error):
            _leave(f"no space left on the device that holds {place or 'the output'}.", WRONG_USAGE)
        if isinstance(error, OSError) and error.errno in UNUSABLE:
            _leave(f"{place} cannot be used: {error.strerror}.", WRONG_USAGE)
        raise
    sys.exit(status if isinstance(status, int) else 0)


def _leave(message: str, code: int) -> None:
    click.echo(f"error: {message}", err=True)
    sys.exit(code)


class _Commands(click.Group):
    """Lists commands in the order of use, not of the alphabet, and tells the legal ones where a name is wrong."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown_name("command", args[0], self.commands)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="bench")
def group() -> None:
    """Compare knowledge-distillation methods for neural machine translation, side by side and fairly."""


@group.command()
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


@group.command()
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


@group.command("list")
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


@group.command()
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


@group.command("new-method")
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=Path("."), show_default=True,
              help="The checkout to write into: methods/NAME.py and tests/test_NAME.py.")  # fmt: skip
def new_method_(name: str, folder: Path) -> None:
    """Write a new method's file and its test, ready to fill in."""
    from bench.scaffold import new_method

    for path in new_method(name, folder):
        click.echo(f"wrote {path}")
    click.echo(f"next: python -m bench check {folder / 'methods' / name}.py")


@group.command()
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


@group.command()
@click.argument("row")
@runs_option
@methods_dir_option
def explain(row: str, runs: Path, methods_dir: Path | None) -> None:
    """Tell settings, trials, costs and artifacts of ROW ([DATASET/]ROW[@SEED]), and what would run again and why."""
    from bench.explain import explain as explained

    click.echo(explained(runs, row, methods_dir))


@group.command("compare")
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


@group.command()
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


@group.command()
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


@group.command()
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


@group.command()
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


@group.command("submit")
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


@group.command()
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


def _input_lines() -> Iterator[str]:
    """Lines of standard input as a corpus file is read: UTF-8 whatever the locale, ended by a newline only."""
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip(" \t\r\n")
        except UnicodeDecodeError as error:
            raise UsageError(f"standard input, line {number}: not UTF-8 text.") from error
