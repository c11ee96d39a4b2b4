"""The command line: the commands of ``bench.commands``, and what becomes of their errors."""

from __future__ import annotations

import errno
import sys

import click

from bench import __version__
from bench.commands import INTERRUPTED, WRONG_USAGE, resources, rows, runs, store
from bench.errors import UsageError, no_space, unknown_name

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


for command in (
    runs.run,
    runs.plan,
    resources.list_,
    resources.check,
    resources.new_method_,
    resources.data,
    rows.explain,
    rows.compare_,
    rows.translate,
    rows.export,
    store.publish,
    store.validate,
    store.submit_,
    resources.doctor,
):
    group.add_command(command)
