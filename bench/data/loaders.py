"""How each data set's files become its splits: the choice of lines, the mending of known faults, and a note for each.

A loader takes the folder that holds the data set's files and trusts them to be what their checksums say; dropping empty
sides and leaked pairs is left to :func:`bench.data.corpus.cleaned`, which all data sets go through.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from bench.data.archives import Reader, read_members, segments, ted_lines
from bench.data.corpus import (
    ParallelText,
    Splits,
    counted,
    decode_lines,
    disjoint_lines,
    parallel,
    read_lines,
)

MULTI30K_WRONG = (12895, 12968, 13584)
"""Training lines (from 1) of which the German translates another line."""
VERSION = 1
"""Part of every data set's identity: raised whenever the same files would give another text."""

MULTI30K_SWAPPED = (110, 410)
"""Lines (from 1) of test_2017_mscoco whose target stands one line further down, and the next one's here."""

IWSLT14_TESTS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
IWSLT14_HELD_OUT = 23
"""Every 23rd training pair is dev, as in fairseq's ``prepare-iwslt14.sh``."""


def synthetic(_: Path) -> Splits:
    """The embedded language pair at its default size; it needs no file."""
    from bench.data.synthetic import generate

    return generate()


def multi30k(folder: Path) -> Splits:
    """Multi30k task 1, raw, English-German, without its three wrong pairs and with swapped lines put right."""
    test_names = ("test_2016_flickr", "test_2017_flickr", "test_2017_mscoco")
    train = _without(_lines_pair(folder, "train", ("en", "de")), MULTI30K_WRONG)
    tests = {name: _lines_pair(folder, name, ("en", "de")) for name in test_names}
    tests["test_2017_mscoco"] = _swapped(tests["test_2017_mscoco"], MULTI30K_SWAPPED)
    numbers = ", ".join(map(str, MULTI30K_WRONG))
    places = " and ".join(f"{line}/{line + 1}" for line in MULTI30K_SWAPPED)
    notes = (
        f"{counted(len(MULTI30K_WRONG), 'training pair')} with a wrong German side dropped (lines {numbers})",
        f"test_2017_mscoco: German lines {places} swapped back",
    )
    return Splits(train, _lines_pair(folder, "val", ("en", "de")), tests, notes)


def wmt22_de_dsb(folder: Path) -> Splits:
    """WMT22 German-Lower Sorbian; the test set is what is new in WMT25's dev file."""
    train = _lines_pair(folder, "40194_train_dsb_de", ("de", "dsb"))
    dev = _lines_pair(folder, "valid", ("de", "dsb"))
    pool = _lines_pair(folder, "wmt25-dev.de-dsb", ("de", "dsb"))
    new = set(disjoint_lines(pool, train, dev))
    test = pool.select(number in new for number in range(1, len(pool) + 1))
    note = (
        f"{len(pool) - len(test):,} of {counted(len(pool), 'wmt25-dev pair')} share a side with train or dev; left out"
    )
    return Splits(train, dev, {"wmt25-dev-disjoint": test}, (note,))


def iwslt14_de_en(folder: Path) -> Splits:
    """IWSLT14 German-English, raw and cased; test set and split rule of fairseq's ``prepare-iwslt14.sh``."""
    archive = folder / "de-en.tgz"
    raw = _members_pair(archive, ("train.tags.de-en.de", "train.tags.de-en.en"), ted_lines)
    kept = raw.select(_fits(source, target, longest=175, ratio=1.5) for source, target in raw.pairs())
    held_out = [number % IWSLT14_HELD_OUT == 0 for number in range(1, len(kept) + 1)]
    names = [f"IWSLT14.{name}.de-en.{language}.xml" for language in ("de", "en") for name in IWSLT14_TESTS]
    parts = read_members(archive, names, segments)
    count = len(IWSLT14_TESTS)
    test = ParallelText((), ())
    for name, source, target in zip(IWSLT14_TESTS, parts[:count], parts[count:], strict=True):
        test += parallel(source, target, f"{archive}: {name}")
    notes = (
        f"{counted(len(raw) - len(kept), 'training pair')} dropped as empty, longer than 175 words or with a length "
        "ratio over 1.5 (counted in white-space words of raw text; fairseq counts Moses tokens)",
        f"dev: every {IWSLT14_HELD_OUT}rd pair of the training text",
    )
    return Splits(kept.select(not flag for flag in held_out), kept.select(held_out), {"test": test}, notes)


def wmt16_en_ro(folder: Path) -> Splits:
    """WMT16 English-Romanian: Europarl v8 and SETIMES2, newsdev2016, newstest2016."""
    europarl = _members_pair(folder / "training-parallel-ep-v8.tgz", ("europarl-v8.ro-en.en", "europarl-v8.ro-en.ro"))
    setimes = _members_pair(folder / "en-ro.txt.zip", ("SETIMES.en-ro.en", "SETIMES.en-ro.ro"))
    dev = _news(folder / "dev.tgz", "newsdev2016-enro", ("en", "ro"))
    test = _news(folder / "test.tgz", "newstest2016-enro", ("en", "ro"))
    return Splits(europarl + setimes, dev, {"newstest2016": test})


def wmt14_en_de(folder: Path) -> Splits:
    """WMT14 English-German: Europarl v7, Common Crawl, News Commentary v9; newstest2013, full newstest2014."""
    train = ParallelText((), ())
    for archive, stem in (
        ("training-parallel-europarl-v7.tgz", "europarl-v7.de-en"),
        ("training-parallel-commoncrawl.tgz", "commoncrawl.de-en"),
        ("training-parallel-nc-v9.tgz", "news-commentary-v9.de-en"),
    ):
        train += _members_pair(folder / archive, (f"{stem}.en", f"{stem}.de"))
    dev = _members_pair(folder / "dev.tgz", ("newstest2013.en", "newstest2013.de"))
    test = _news(folder / "test-full.tgz", "newstest2014-deen", ("en", "de"))
    return Splits(train, dev, {"newstest2014": test})


def own_files(paths: Mapping[str, tuple[Path, Path]], _: Path) -> Splits:
    """A user's own text: the two sides' files of ``train``, ``dev`` and ``test``, wherever they lie."""
    text = {
        split: parallel(read_lines(source), read_lines(target), f"{source} and {target}")
        for split, (source, target) in paths.items()
    }
    return Splits(text["train"], text["dev"], {"test": text["test"]})


def _lines_pair(folder: Path, stem: str, languages: tuple[str, str]) -> ParallelText:
    source, target = (folder / f"{stem}.{language}.gz" for language in languages)
    return parallel(read_lines(source), read_lines(target), f"{source} and {target.name}")


def _members_pair(archive: Path, names: tuple[str, str], reader: Reader = decode_lines) -> ParallelText:
    lines = read_members(archive, names, reader)
    return parallel(lines[0], lines[1], f"{archive}: {names[0]} and {names[1]}")


def _news(archive: Path, stem: str, languages: tuple[str, str]) -> ParallelText:
    """A WMT test set: ``STEM-src.LANGUAGE.sgm`` and ``STEM-ref.LANGUAGE.sgm``."""
    source, target = languages
    return _members_pair(archive, (f"{stem}-src.{source}.sgm", f"{stem}-ref.{target}.sgm"), segments)


def _fits(source: str, target: str, *, longest: int, ratio: float) -> bool:
    """Moses' ``clean-corpus-n.perl``: 1 to ``longest`` words on both sides, neither ``ratio`` times the other's."""
    short, long = sorted((len(source.split()), len(target.split())))
    return short >= 1 and long <= longest and long / short <= ratio


def _without(text: ParallelText, lines: Collection[int]) -> ParallelText:
    return text.select(number not in lines for number in range(1, len(text) + 1))


def _swapped(text: ParallelText, lines: Collection[int]) -> ParallelText:
    """Each numbered target line (from 1) changes places with the next one."""
    target = list(text.target)
    for line in lines:
        target[line - 1], target[line] = target[line], target[line - 1]
    return ParallelText(text.source, tuple(target))
