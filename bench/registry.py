"""Finding methods: the built-in ones, a folder of the user's, and installed packages.

A method is looked for in ``methods/`` beside this package, in the folder of ``--methods-dir``, and through the
entry-point group ``bench.methods``, in this order. What cannot be used is listed with its reason and breaks nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from bench.config import SECTIONS
from bench.errors import UsageError, unknown_name
from bench.method import Method

BUILT_IN = Path(__file__).resolve().parent.parent / "methods"
GROUP = "bench.methods"
RESERVED = ("all", *SECTIONS)
"""Names with another meaning on the command line."""


@dataclass(frozen=True)
class Methods:
    """The methods that were found, by name, and those that cannot be used."""

    found: Mapping[str, type[Method]]
    broken: Mapping[str, str]
    """Name of the file or entry point: where it is and what is wrong, in one line."""

    def get(self, name: str) -> type[Method]:
        """The method called ``name``.

        Raises:
            UsageError: there is none, or it cannot be used; with the reason.
        """
        if name in self.found:
            return self.found[name]
        if name in self.broken:
            raise UsageError(f"method {name!r} cannot be used: {self.broken[name]}")
        raise unknown_name("method", name, self.found)


def load_methods(methods_dir: Path | None = None) -> Methods:
    """All methods that can be found.

    Raises:
        UsageError: ``methods_dir`` is not a folder.
    """
    if methods_dir is not None and not methods_dir.is_dir():
        raise UsageError(f"no folder of methods at {methods_dir}")
    found: dict[str, type[Method]] = {}
    broken: dict[str, str] = {}
    places: dict[str, str] = {}
    for name, place, load in _sources(methods_dir):
        try:
            method = load()
        except UsageError as error:
            problem = str(error)
        else:
            if name not in found:
                found[name], places[name] = method, place
                continue
            problem = f"{place}: the name {name!r} is already that of {places[name]}; rename one of them"
        broken[name] = f"{broken[name]}; {problem}" if name in broken else problem
    return Methods(found, broken)


def load_file(path: Path) -> type[Method]:
    """The method that a file defines under the file's name.

    Raises:
        UsageError: there is no such file, it cannot be imported, or it does not define such a method.
    """
    if not path.is_file():
        raise UsageError(f"no such method file: {path}")
    try:
        module = _imported(path.resolve())
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path}: cannot be imported: {_one_line(error, path)}") from error
    defined = [value for value in vars(module).values() if _is_method(value) and value.__module__ == module.__name__]
    if not defined:
        raise UsageError(f"{path}: defines no Method")
    named = [method for method in defined if getattr(method, "name", None) == path.stem]
    if not named:
        names = ", ".join(repr(getattr(method, "name", None)) for method in defined)
        raise UsageError(f"{path}: its method is named {names}, but must be named {path.stem!r} as the file is")
    return _usable(named[-1], str(path))


def source_hash(method: type[Method]) -> str:
    """SHA-256 of the file that defines ``method``: what a cache must know of it."""
    return _hash(Path(inspect.getfile(method)))


def built_in_hashes() -> dict[str, str]:
    """The same of each method that comes with this project, by name; nothing is imported."""
    return {path.stem: _hash(path) for path in _files(BUILT_IN)}


def built_in(method: type[Method]) -> bool:
    """Whether a method comes with this project."""
    return Path(inspect.getfile(method)).resolve().parent == BUILT_IN


def _sources(methods_dir: Path | None) -> Iterator[tuple[str, str, Callable[[], type[Method]]]]:
    """Name, place and loader of everything that may be a method."""
    folders = [BUILT_IN]
    if methods_dir is not None and methods_dir.resolve() != BUILT_IN:
        folders.append(methods_dir)
    for folder in folders:
        for path in _files(folder):
            yield path.stem, str(path), partial(load_file, path)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        yield entry.name, _place(entry), partial(_load_entry, entry)


def _files(folder: Path) -> list[Path]:
    """Those of a folder that may define methods."""
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _load_entry(entry: EntryPoint) -> type[Method]:
    try:
        method = entry.load()
    except (Exception, SystemExit) as error:
        raise UsageError(f"{_place(entry)}: cannot be imported: {_one_line(error)}") from error
    if not _is_method(method):
        raise UsageError(f"{_place(entry)}: is no Method class")
    name = getattr(method, "name", None)
    if name != entry.name:
        raise UsageError(f"{_place(entry)}: its method is named {name!r}, but the entry point {entry.name!r}")
    return _usable(method, _place(entry))


def _usable(method: type[Method], place: str) -> type[Method]:
    missing = sorted(method.__abstractmethods__) + [name for name in ("title",) if not hasattr(method, name)]
    if missing:
        raise UsageError(f"{place}: the method lacks {' and '.join(missing)}")
    if method.name in RESERVED:
        raise UsageError(f"{place}: {method.name!r} means something else on the command line; rename the method")
    return method


def _is_method(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Method) and value is not Method


def _place(entry: EntryPoint) -> str:
    package = f" of {entry.dist.name}" if entry.dist else ""
    return f"entry point {entry.value}{package}"


def _imported(path: Path) -> ModuleType:
    """Import a file under a name of its own, once for each of its contents.

    Built-in files are imported as ``methods.NAME`` from where they are, so that a folder of the same name in the
    working directory cannot take their place.
    """
    if path.parent == BUILT_IN:
        name = f"methods.{path.stem}"
    else:
        name = f"bench_method_{path.stem}_{hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: pydantic looks up the annotations of Settings in the module of their class.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _one_line(error: BaseException, path: Path | None = None) -> str:
    """What was raised and, where it shows, the line of ``path`` in which it was."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if path and Path(frame.filename) == path.resolve()
    ]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    said = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {said}" + (f" (line {line})" if line else "")
