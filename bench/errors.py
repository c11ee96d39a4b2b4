"""Errors that are the user's to mend: one clear sentence, no traceback, exit code 2."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class UsageError(Exception):
    """Wrong input: a name, a value or a file. The message says what was wrong and what to do."""


class TaskError(Exception):
    """A task cannot be carried out. The message says why in one line, ``state`` what it is recorded as."""

    state = "exception"


class DataError(UsageError):
    """A corpus file is missing, damaged, unequal or not what its checksum says."""


def no_space(error: BaseException) -> bool:
    """Whether an error says that a disk or a quota is full; safetensors and NumPy say it in their message only."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return bool(re.search(rf"\(os error {errno.ENOSPC}\)|^\d+ requested and \d+ written$", str(error)))


def unknown_name(kind: str, given: str, legal: Iterable[str]) -> UsageError:
    """The error for a name that does not exist: the legal ones, and the nearest."""
    names = sorted(legal)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {kind} {given!r}.{hint} Known: {', '.join(names) or 'none'}.")
