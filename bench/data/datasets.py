"""The registry of data sets: who made them, under which terms, where the files are, what is wrong with them."""

from __future__ import annotations

import glob
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.data import loaders
from bench.data.corpus import Splits, cleaned
from bench.data.fetch import RemoteFile, State, cache_folder, digest, inspect
from bench.data.synthetic import SYNTHETIC_VERSION
from bench.errors import DataError, UsageError, unknown_name

REGISTRY_FILE = Path(__file__).with_name("datasets.toml")
LOADERS: dict[str, Callable[[Path], Splits]] = {
    "synthetic": loaders.synthetic,
    "multi30k-en-de": loaders.multi30k,
    "wmt22-de-dsb": loaders.wmt22_de_dsb,
    "iwslt14-de-en": loaders.iwslt14_de_en,
    "wmt16-en-ro": loaders.wmt16_en_ro,
    "wmt14-en-de": loaders.wmt14_en_de,
}
OWN_SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Dataset:
    """One data set: the facts a user needs before using it, and how it is loaded.

    Attributes:
        name: what ``--dataset`` takes. title: in words.
        languages: codes of source and target; the direction is fixed.
        licence: the terms as far as they are known. citation: the paper to cite. link: the source's own page.
        loader: from the folder with the files to the splits, before the cleaning all data sets share.
        folder: the sub-folder of the data folder; empty where there are no files to fetch.
        files: what is downloaded.
        primary: the test set that orders a table. splits: what train, dev and the tests are made of.
        flaws: known faults, and what is done about each.
        comparability: with whose scores those on this data set can be compared.
        passed_on: the sets, ``dev`` or a test set, whose text may be passed on to others, and under which terms.
        sizes: about how many pairs each split has, for forecasts; given only where reading the text takes long.
        own: the paths of the user's own files.
    """

    name: str
    title: str
    languages: tuple[str, str]
    licence: str
    citation: str
    loader: Callable[[Path], Splits]
    link: str = ""
    folder: str = ""
    files: tuple[RemoteFile, ...] = ()
    primary: str = "test"
    splits: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()
    comparability: str = ""
    passed_on: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    own: tuple[Path, ...] = ()

    def place(self, folder: Path | None = None) -> Path:
        """Where the files lie under the data folder (default: :func:`bench.data.fetch.cache_folder`)."""
        return (folder or cache_folder()) / self.folder

    def load(self, folder: Path | None = None) -> Splits:
        """The cleaned splits, after each file was compared with its checksum.

        Args:
            folder: the data folder, which holds one sub-folder for each data set; default: the cache.

        Raises:
            DataError: a file is missing, is not what its checksum says, or is not what the loader expects.
        """
        place = self.place(folder)
        unverifiable = self._checked(place)
        splits = self.loader(place)
        if next(iter(splits.tests)) != self.primary:
            raise ValueError(f"{self.name}: the first test set is not {self.primary!r}")
        notes = (*splits.notes, *(f"{name} could not be verified: no checksum is known" for name in unverifiable))
        return cleaned(Splits(splits.train, splits.dev, splits.tests, notes), self.name)

    def identity(self, folder: Path | None = None) -> dict[str, Any]:
        """What makes this text this text, as JSON: name, version of the reading code, SHA-256 of each file.

        Raises:
            DataError: as :meth:`load`.
        """
        place = self.place(folder)
        self._checked(place)
        found = {f.name: f.sha256 or str(digest(place / f.name, "sha256", gzipped=f.compress)) for f in self.files}
        own = {path.name: str(digest(path, "sha256", gzipped=path.suffix == ".gz")) for path in self.own}
        versions = {"loaders": loaders.VERSION} | ({} if found or own else {"generator": SYNTHETIC_VERSION})
        return {"name": self.name, "languages": list(self.languages), "files": found | own, **versions}

    def _checked(self, place: Path) -> list[str]:
        """Names of the files that no checksum speaks for; raises where one is missing or damaged."""
        found = {file.name: inspect(place, file) for file in self.files}
        missing = [name for name, seen in found.items() if seen.state is State.MISSING]
        if missing:
            raise DataError(
                f"{self.name}: {', '.join(missing)} not found in {place}; get the data with `python -m bench data "
                f"fetch {self.name}`, or name the folder that holds {self.folder}/ with --data-dir."
            )
        for name, seen in found.items():
            if seen.state is State.DAMAGED:
                raise DataError(
                    f"{place / name} has {seen.found} instead of {seen.expected}; "
                    f"`python -m bench data fetch {self.name}` sets it aside and gets it again."
                )
        return [name for name, seen in found.items() if seen.state is State.UNVERIFIABLE]


def get_dataset(name: str, langs: tuple[str, str] | None = None) -> Dataset:
    """A registered data set, or the user's own files ``PREFIX.{train,dev,test}.{SOURCE,TARGET}[.gz]``.

    Args:
        name: a name of :data:`DATASETS`, or PREFIX, whose last part becomes the data set's name.
        langs: source and target language of the user's own files.

    Raises:
        UsageError: an unknown name, languages that do not fit, or a file of the user's that does not exist.
    """
    if name in DATASETS:
        known = DATASETS[name]
        if langs and langs != known.languages:
            raise UsageError(
                f"{name} is {' to '.join(known.languages)}, not {' to '.join(langs)}; --langs is for files of your own."
            )
        return known
    if langs:
        return _own(name, langs)
    if Path(name).name != name or glob.glob(f"{glob.escape(name)}.train.*"):
        raise UsageError(f"{name!r} names files of your own: say their languages too, for example --langs de,en.")
    raise unknown_name("data set", name, DATASETS)


def describe(dataset: Dataset) -> str:
    """What ``bench data info`` prints: title, languages, terms, citation, files, splits, flaws."""
    source, target = dataset.languages
    parts = [
        f"{dataset.name}: {dataset.title} ({source} to {target})",
        f"Licence: {dataset.licence}",
        f"Cite: {dataset.citation}",
    ]
    if dataset.link:
        parts.append(f"Source: {dataset.link}")
    parts += _section("Splits", dataset.splits)
    parts += _section(f"Files (in {dataset.folder}/)", [_described(file) for file in dataset.files])
    parts += _section("Known flaws", dataset.flaws)
    if dataset.passed_on:
        parts.append("May be passed on: " + "; ".join(f"{name} ({terms})" for name, terms in dataset.passed_on.items()))
    if dataset.comparability:
        parts.append(f"Comparable with: {dataset.comparability}")
    return "\n".join(parts)


def _section(title: str, items: list[str] | tuple[str, ...]) -> list[str]:
    return [f"{title}:", *(f"  - {item}" for item in items)] if items else []


def _described(file: RemoteFile) -> str:
    facts = [
        f"{file.bytes:,} bytes" if file.bytes else "",
        f"{file.lines:,} lines" if file.lines else "",
        f"{file.checksum}" if file.checksum else "no published checksum: recorded on the first download",
        "checksum of the text, kept gzipped" if file.compress else "",
    ]
    return f"{file.name}: {'; '.join(fact for fact in facts if fact)}\n    {file.url}"


def _own(prefix: str, langs: tuple[str, str]) -> Dataset:
    name = Path(prefix).name
    if name in ("", "..") or name in DATASETS:
        raise UsageError(f"{prefix!r} cannot be the prefix of your own files: {name!r} would be the data set's name.")
    if langs[0] == langs[1] or not all(re.fullmatch(r"[A-Za-z0-9_-]+", lang) for lang in langs):
        raise UsageError(f"--langs needs two different language codes, such as de,en; got {','.join(langs)!r}.")
    paths: dict[str, tuple[Path, Path]] = {}
    missing: list[str] = []
    for split in OWN_SPLITS:
        sides = [Path(f"{prefix}.{split}.{lang}") for lang in langs]
        found = [next((p for p in (side, Path(f"{side}.gz")) if p.is_file()), None) for side in sides]
        missing += [f"{side}[.gz]" for side, path in zip(sides, found, strict=True) if path is None]
        if found[0] and found[1]:
            paths[split] = (found[0], found[1])
    if missing:
        raise DataError(f"data set {name!r}: no file {', no file '.join(missing)}.")
    return Dataset(
        name=name,
        title=f"files of the user, {prefix}.{{{','.join(OWN_SPLITS)}}}",
        languages=langs,
        licence="as its owner states",
        citation="as its owner states",
        loader=partial(loaders.own_files, paths),
        own=tuple(path for pair in paths.values() for path in pair),
    )


def _registered() -> dict[str, Dataset]:
    entries = tomllib.loads(REGISTRY_FILE.read_text(encoding="utf-8"))
    found = {}
    for name, entry in entries.items():
        base = entry.pop("base", "")
        files = tuple(RemoteFile(**({"url": base + file["name"]} | file)) for file in entry.pop("files", ()))
        facts: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
        }
        found[name] = Dataset(name=name, loader=LOADERS[name], files=files, **facts)
    return found


DATASETS: dict[str, Dataset] = _registered()
"""The registered data sets by name; the first one is the default."""
