"""What stands in for files of a corpus and for functions that fail."""

import gzip
from pathlib import Path

from bench.data.datasets import DATASETS


def fake_multi30k(folder: Path) -> Path:
    """Files of the right names with other content."""
    for file in DATASETS["multi30k-en-de"].files:
        path = folder / DATASETS["multi30k-en-de"].folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b"A dog.\n"))
    return folder


def raising(error: BaseException):
    def function(*_, **__):
        raise error

    return function
