"""The registry, a user's own files, and the real corpora where they are at hand."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
from pathlib import Path

import pytest

from bench.data.corpus import Splits, decode_lines, parallel, read_lines
from bench.data.datasets import DATASETS, Dataset, describe, get_dataset
from bench.data.fetch import RemoteFile
from bench.errors import DataError, UsageError

REAL = Path(os.environ.get("BENCH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def needs(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (REAL / folder).is_dir(), reason=f"no {folder} under {REAL}; set BENCH_DATA to a folder that has it"
    )


# --- The registry ---------------------------------------------------------------------------------------------------


def test_registry_has_the_six_data_sets_and_synthetic_is_the_default() -> None:
    assert list(DATASETS) == [
        "synthetic",
        "multi30k-en-de",
        "wmt22-de-dsb",
        "iwslt14-de-en",
        "wmt16-en-ro",
        "wmt14-en-de",
    ]


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))
def test_registry_entries_are_complete(dataset: Dataset) -> None:
    assert all((dataset.title, dataset.licence, dataset.citation, dataset.splits, dataset.comparability))
    assert dataset.languages[0] != dataset.languages[1]
    assert len({file.name for file in dataset.files}) == len(dataset.files)
    for file in dataset.files:
        assert file.url.startswith(("https://", "http://"))
        assert file.sha256 is None or (len(file.sha256) == 64 and int(file.sha256, 16) > 0)
        assert file.md5 is None or (len(file.md5) == 32 and int(file.md5, 16) > 0)
    assert bool(dataset.files) == bool(dataset.folder)


def test_only_two_archives_have_no_published_checksum() -> None:
    without = {(d.name, f.name) for d in DATASETS.values() for f in d.files if f.checksum is None}
    assert without == {("wmt16-en-ro", "en-ro.txt.zip"), ("wmt14-en-de", "dev.tgz")}


def test_raw_github_addresses_are_pinned_to_a_commit() -> None:
    pinned = [f.url for d in DATASETS.values() for f in d.files if "raw.githubusercontent.com" in f.url]
    assert len(pinned) == 16
    assert all(len(url.split("/")[5]) == 40 for url in pinned)


def test_description_says_what_a_user_must_know() -> None:
    text = describe(DATASETS["wmt22-de-dsb"])
    for part in (
        "(de to dsb)",
        "CC BY-NC-SA",
        "Weller-Di Marco",
        "8b7a04a29f718ad1c9f80c36300cc7de07ee70d4f249f883d44af8d3f94c4b3a",
        "1,314,449 bytes; 40,194 lines",
        "Sorbian/dsb/MT/dev.de-dsb.de",
        "39427",
        "2,638",
        "no published score",
    ):
        assert part in text
    assert "no published checksum" in describe(DATASETS["wmt14-en-de"])
    assert "Files" not in describe(DATASETS["synthetic"])


def test_synthetic_needs_no_folder_and_is_clean() -> None:
    splits = get_dataset("synthetic").load(Path("does/not/exist"))
    held_out = {pair for text in (splits.dev, *splits.tests.values()) for pair in text.pairs()}
    assert len(splits.train) > 1000
    assert held_out
    assert not held_out & set(splits.train.pairs())


def test_unknown_name_gets_the_nearest_and_the_legal_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown data set 'multi30k'.*multi30k-en-de.*Known: iwslt14-de-en, "):
        get_dataset("multi30k")


def test_a_registered_direction_cannot_be_turned() -> None:
    assert get_dataset("multi30k-en-de", ("en", "de")) is DATASETS["multi30k-en-de"]
    with pytest.raises(UsageError, match="multi30k-en-de is en to de, not de to en"):
        get_dataset("multi30k-en-de", ("de", "en"))


def test_missing_files_are_named_with_the_way_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        get_dataset("multi30k-en-de").load(tmp_path)
    message = str(caught.value)
    assert "train.en.gz" in message
    assert "test_2017_mscoco.de.gz" in message
    assert str(tmp_path / "multi30k") in message
    assert "`python -m bench data fetch multi30k-en-de`" in message
    assert "--data-dir" in message


def test_default_folder_is_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match="elsewhere/wmt22-de-dsb"):
        get_dataset("wmt22-de-dsb").load()


def small_dataset(folder: Path, files: tuple[RemoteFile, ...]) -> Dataset:
    def loader(place: Path) -> Splits:
        text = parallel(read_lines(place / "a.txt"), read_lines(place / "a.txt"), "a")
        dev = text.select([False, True, False])
        return Splits(text.first(1), dev, {"test": text.select([False, False, True])}, ("read",))

    (folder / "small").mkdir(parents=True)
    (folder / "small" / "a.txt").write_text("one\ntwo\nthree\n")
    return dataclasses.replace(
        DATASETS["multi30k-en-de"], name="small", folder="small", files=files, loader=loader, primary="test"
    )


def test_loading_verifies_every_file_and_says_both_sums(tmp_path: Path) -> None:
    good = hashlib.sha256(b"one\ntwo\nthree\n").hexdigest()
    dataset = small_dataset(tmp_path, (RemoteFile("a.txt", "http://localhost/a.txt", sha256=good),))
    assert dataset.load(tmp_path).notes == ("read",)
    (tmp_path / "small" / "a.txt").write_text("one\ntampered\n")
    found = hashlib.sha256(b"one\ntampered\n").hexdigest()
    with pytest.raises(DataError, match=f"a.txt has sha256 {found} instead of sha256 {good}"):
        dataset.load(tmp_path)
    assert (tmp_path / "small" / "a.txt").exists()


def test_loading_a_file_nothing_speaks_for_is_noted(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path, (RemoteFile("a.txt", "http://localhost/a.txt"),))
    assert dataset.load(tmp_path).notes == ("read", "a.txt could not be verified: no checksum is known")


# --- A user's own files ---------------------------------------------------------------------------------------------


def own(folder: Path, **changed: str) -> str:
    texts = {
        "train_de": "eins\r\nzwei\r\n\r\ndrei\r\n",
        "train_en": "one\ntwo\nempty\nthree\n",
        "dev_de": "vier\n",
        "dev_en": "four\n",
        "test_de": "zwei\n",
        "test_en": "two\n",
    } | changed
    for key, text in texts.items():
        split, language = key.split("_")
        (folder / f"my.set.{split}.{language}").write_bytes(text.encode("utf-8"))
    return str(folder / "my.set")


def test_own_files_are_loaded_and_cleaned(tmp_path: Path) -> None:
    prefix = own(tmp_path)
    packed = tmp_path / "my.set.dev.en"
    (tmp_path / "my.set.dev.en.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    dataset = get_dataset(prefix, ("de", "en"))
    splits = dataset.load()
    assert dataset.name == "my.set"
    assert dataset.languages == ("de", "en")
    assert list(splits.train.pairs()) == [("eins", "one"), ("drei", "three")]
    assert list(splits.dev.pairs()) == [("vier", "four")]
    assert list(splits.tests["test"].pairs()) == [("zwei", "two")]
    assert splits.notes == (
        "1 training pair with an empty side dropped",
        "1 training pair equal to a dev or test pair dropped",
    )
    assert get_dataset(prefix, ("en", "de")).load().dev.source == ("four",)


def test_missing_own_files_are_all_listed(tmp_path: Path) -> None:
    prefix = own(tmp_path)
    (tmp_path / "my.set.dev.de").unlink()
    (tmp_path / "my.set.test.en").unlink()
    with pytest.raises(DataError) as caught:
        get_dataset(prefix, ("de", "en"))
    assert str(caught.value) == f"data set 'my.set': no file {prefix}.dev.de[.gz], no file {prefix}.test.en[.gz]."


def test_unequal_own_files_are_refused_with_their_names(tmp_path: Path) -> None:
    prefix = own(tmp_path, dev_en="four\nfive\n")
    with pytest.raises(DataError, match=r"my\.set\.dev\.de and .*my\.set\.dev\.en: 1 source lines but 2 target lines"):
        get_dataset(prefix, ("de", "en")).load()


def test_own_files_without_languages_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = own(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in (prefix, "my.set", "some/where"):
        with pytest.raises(UsageError, match="names files of your own: say their languages too"):
            get_dataset(name)


@pytest.mark.parametrize("langs", [("de", "de"), ("de", ""), ("../de", "en")])
def test_bad_language_codes_are_refused(tmp_path: Path, langs: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="--langs needs two different language codes"):
        get_dataset(own(tmp_path), langs)


@pytest.mark.parametrize("prefix", ["here/synthetic", "..", "/"])
def test_a_prefix_that_gives_no_name_of_its_own_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError, match="cannot be the prefix of your own files"):
        get_dataset(prefix, ("de", "en"))


# --- The real corpora -----------------------------------------------------------------------------------------------


@needs("multi30k")
def test_real_multi30k() -> None:
    splits = get_dataset("multi30k-en-de").load(REAL)
    assert (len(splits.train), len(splits.dev)) == (28997, 1014)
    assert {name: len(text) for name, text in splits.tests.items()} == {
        "test_2016_flickr": 1000,
        "test_2017_flickr": 1000,
        "test_2017_mscoco": 461,
    }
    raw = {side: read_lines(REAL / "multi30k" / f"test_2017_mscoco.{side}.gz") for side in ("en", "de")}
    mended = splits.tests["test_2017_mscoco"]
    assert list(mended.source) == raw["en"]
    assert mended.target[109:111] == (raw["de"][110], raw["de"][109])
    assert mended.target[409:411] == (raw["de"][410], raw["de"][409])
    assert sum(new != old for new, old in zip(mended.target, raw["de"], strict=True)) == 4
    train = read_lines(REAL / "multi30k" / "train.de.gz")
    assert len(train) == 29000
    assert splits.train.target[12893:12895] == (train[12893], train[12895])
    assert len(splits.notes) == 2


@pytest.fixture(scope="module")
def real_sorbian() -> Splits:
    return get_dataset("wmt22-de-dsb").load(REAL)


@needs("wmt22-de-dsb")
def test_real_de_dsb(real_sorbian: Splits) -> None:
    assert (len(real_sorbian.train), len(real_sorbian.dev)) == (40193, 1353)
    assert {name: len(text) for name, text in real_sorbian.tests.items()} == {"wmt25-dev-disjoint": 2638}
    assert real_sorbian.notes == (
        "1,362 of 4,000 wmt25-dev pairs share a side with train or dev; left out",
        "1 training pair with an empty side dropped",
    )
    raw = gzip.decompress((REAL / "wmt22-de-dsb" / "valid.dsb.gz").read_bytes())
    assert raw.startswith(b"\xef\xbb\xbf")
    assert raw.count(b"\r\n") == 1352
    for side in (*real_sorbian.dev.source, *real_sorbian.dev.target):  # and not in what is loaded
        assert not side.startswith("\ufeff")
        assert side == side.rstrip(" \t\r")
        assert side


@needs("wmt22-de-dsb")
def test_real_disjoint_lines_are_the_listed_ones(real_sorbian: Splits) -> None:
    folder = REAL / "wmt22-de-dsb"
    listed = folder / "wmt25-dev.disjoint.lines"
    if not listed.is_file():
        pytest.skip("the list of disjoint lines is not beside the corpus")
    numbers = [int(line) for line in read_lines(listed)]
    pool = parallel(
        read_lines(folder / "wmt25-dev.de-dsb.de.gz"), read_lines(folder / "wmt25-dev.de-dsb.dsb.gz"), "wmt25-dev"
    )
    test = real_sorbian.tests["wmt25-dev-disjoint"]
    assert len(numbers) == 2638
    assert list(test.pairs()) == [(pool.source[n - 1], pool.target[n - 1]) for n in numbers]


@needs("wmt22-de-dsb")
def test_real_training_text_counts_a_last_line_without_newline() -> None:
    raw = gzip.decompress((REAL / "wmt22-de-dsb" / "40194_train_dsb_de.dsb.gz").read_bytes())
    found = decode_lines(raw, "train")
    assert raw.count(b"\n") == 40193
    assert len(found) == 40194
    assert [number for number, line in enumerate(found, start=1) if not line] == [39427]
