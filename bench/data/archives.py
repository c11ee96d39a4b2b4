"""Text inside published archives: named members of tar and zip files, SGML test sets, and the TED training files.

Nothing is ever unpacked to disk, and an archive that names a path outside itself is refused.
"""

from __future__ import annotations

import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO
from xml.sax.saxutils import unescape

from bench.data.corpus import decode_lines
from bench.errors import DataError

Reader = Callable[[bytes, str], list[str]]
"""From a member's bytes and its name (for errors) to its sentences: ``decode_lines``, ``segments`` or ``ted_lines``."""

_Members = Generator[tuple[PurePosixPath, Callable[[], IO[bytes]]], None, None]
_SEGMENT = re.compile(r"<seg\b[^>]*>(.*?)</seg>", re.DOTALL | re.IGNORECASE)
_TED_MARKUP = re.compile(r"\s*</?(?:url|talkid|keywords|speaker|reviewer|translator|doc)\b")
_TED_TAG = re.compile(r"</?(?:title|description)>")


def read_members(archive: Path, names: Sequence[str], reader: Reader = decode_lines) -> list[list[str]]:
    """The sentences of some members of a ``.tgz`` or ``.zip`` file, in the order of ``names``.

    Args:
        archive: the file; anything that does not end in ``.zip`` is read as a (compressed) tar file.
        names: file names without their folders, because the folder differs between editions of one archive.
        reader: turns a member's bytes into sentences as soon as it is met, so one raw member is held at a time.

    Raises:
        DataError: the archive is damaged, lacks a member, has an absolute or climbing path in it, or a link or device
            in place of a member.
    """
    found: dict[str, list[str]] = {}
    members = _zip_members if archive.suffix == ".zip" else _tar_members
    try:
        with closing(members(archive)) as walk:
            for path, opened in walk:
                if path.is_absolute() or ".." in path.parts:
                    raise DataError(f"{archive} holds the unsafe path {str(path)!r}.")
                if path.name in names and path.name not in found:
                    with opened() as stream:
                        found[path.name] = reader(stream.read(), f"{archive.name}: {path}")
                # A big archive is decompressed only as far as needed.
                if len(found) == len(set(names)):
                    break
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive} is not a whole archive: {error}.") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {error.strerror or error}.") from error
    if missing := [name for name in names if name not in found]:
        raise DataError(f"{archive} has no {' and no '.join(missing)}.")
    return [found[name] for name in names]


def segments(raw: bytes, what: str) -> list[str]:
    """The ``<seg>`` contents of an SGML or XML test set, in order, XML entities resolved, white space squeezed.

    Read with a pattern, as WMT's files are no well-formed XML.

    Raises:
        DataError: not UTF-8, or no segment at all.
    """
    found = _SEGMENT.findall("\n".join(decode_lines(raw, what)))
    if not found:
        raise DataError(f"{what} has no <seg> element.")
    return [" ".join(_resolved(segment).split()) for segment in found]


def ted_lines(raw: bytes, what: str) -> list[str]:
    """The sentences of a ``train.tags`` file of IWSLT: metadata lines dropped, titles and descriptions kept.

    As fairseq's ``prepare-iwslt14.sh`` chooses them, without its tokenising and lower-casing.
    """
    return [
        _resolved(_TED_TAG.sub("", line)).strip() for line in decode_lines(raw, what) if not _TED_MARKUP.match(line)
    ]


def _resolved(text: str) -> str:
    return unescape(text, {"&quot;": '"', "&apos;": "'"})


def _tar_members(archive: Path) -> _Members:
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:

            def opened(member: tarfile.TarInfo = member) -> IO[bytes]:
                # A link would be followed to another member, and a device has no content.
                stream = tar.extractfile(member) if member.isfile() else None
                if stream is None:
                    raise DataError(f"{archive}: {member.name!r} is not a regular file.")
                return stream

            yield PurePosixPath(member.name), opened


def _zip_members(archive: Path) -> _Members:
    with zipfile.ZipFile(archive) as bundle:
        for entry in bundle.infolist():

            def opened(entry: zipfile.ZipInfo = entry) -> IO[bytes]:
                # Archives made on Unix have a file's type in the upper half; a link's content is the path it leads to.
                if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
                    raise DataError(f"{archive}: {entry.filename!r} is not a regular file.")
                return bundle.open(entry)

            if not entry.is_dir():
                yield PurePosixPath(entry.filename), opened
