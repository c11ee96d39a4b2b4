"""Reading archives, and the loaders on small archives and files of the published layouts."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bench.data import loaders
from bench.data.archives import read_members, segments, ted_lines
from bench.errors import DataError


def tgz(path: Path, members: Mapping[str, str]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members.items():
            raw = text.encode("utf-8")
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))


def zipped(path: Path, members: Mapping[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, text in members.items():
            bundle.writestr(name, text)


def sgm(*sentences: str) -> str:
    body = "\n".join(f'<seg id="{number}"> {text} </seg>' for number, text in enumerate(sentences, start=1))
    return f'<refset setid="x">\n<doc docid="d1">\n<hl>\n{body}\n</hl>\n</doc>\n</refset>\n'


def lines(*sentences: str) -> str:
    return "".join(f"{sentence}\n" for sentence in sentences)


# --- Archives -------------------------------------------------------------------------------------------------------


def test_members_are_found_in_any_folder_and_returned_in_the_order_asked_for(tmp_path: Path) -> None:
    tgz(tmp_path / "a.tgz", {"x/other.txt": "no", "x/deep/b.txt": "b1\nb2", "a.txt": "a1\n"})
    zipped(tmp_path / "a.zip", {"b.txt": "b1\nb2", "dir/": "", "dir/a.txt": "a1\n"})
    for name in ("a.tgz", "a.zip"):
        assert read_members(tmp_path / name, ["a.txt", "b.txt"]) == [["a1"], ["b1", "b2"]]


@pytest.mark.parametrize("make", [tgz, zipped])
@pytest.mark.parametrize("path", ["../evil.txt", "/etc/evil.txt", "ok/../../evil.txt"])
def test_paths_that_leave_the_archive_are_refused(tmp_path: Path, make: Callable[..., None], path: str) -> None:
    archive = tmp_path / ("bad.zip" if make is zipped else "bad.tgz")
    make(archive, {path: "gotcha", "a.txt": "a"})
    with pytest.raises(DataError, match="unsafe path"):
        read_members(archive, ["a.txt"])
    assert [entry.name for entry in tmp_path.iterdir()] == [archive.name]


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE", "DIRTYPE"])
def test_what_is_no_plain_file_in_place_of_one_is_refused(tmp_path: Path, kind: str) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        special = tarfile.TarInfo("a.txt")
        special.type, special.linkname = getattr(tarfile, kind), "/etc/passwd"
        tar.addfile(special)
    with pytest.raises(DataError, match=r"'a\.txt' is not a regular file"):
        read_members(tmp_path / "a.tgz", ["a.txt"])


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_a_zip_file_has_no_links_and_devices_either(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        special = zipfile.ZipInfo("a.txt")
        special.create_system, special.external_attr = 3, (kind | 0o644) << 16
        bundle.writestr(special, "/etc/passwd")
    with pytest.raises(DataError, match=r"'a\.txt' is not a regular file"):
        read_members(tmp_path / "a.zip", ["a.txt"])


def test_missing_members_and_damaged_or_absent_archives_are_named(tmp_path: Path) -> None:
    tgz(tmp_path / "a.tgz", {"a.txt": "a"})
    with pytest.raises(DataError, match=r"a\.tgz has no b\.txt and no c\.txt"):
        read_members(tmp_path / "a.tgz", ["a.txt", "b.txt", "c.txt"])
    for name in ("bad.tgz", "bad.zip"):
        (tmp_path / name).write_bytes(b"neither this nor that")
        with pytest.raises(DataError, match=f"{name} is not a whole archive"):
            read_members(tmp_path / name, ["a.txt"])
    with pytest.raises(DataError, match=r"none\.tgz cannot be read: No such file"):
        read_members(tmp_path / "none.tgz", ["a.txt"])


def test_a_cut_off_archive_is_damaged(tmp_path: Path) -> None:
    tgz(tmp_path / "a.tgz", {"a.txt": os.urandom(4000).hex()})
    whole = (tmp_path / "a.tgz").read_bytes()
    (tmp_path / "a.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is not a whole archive"):
        read_members(tmp_path / "a.tgz", ["a.txt"])


def test_segments_resolve_entities_and_squeeze_white_space() -> None:
    raw = '<seg id="1">Salt &amp; &lt;pepper&gt;,  &quot;so&quot;</seg><SEG id="2">\r\nover two\nlines </SEG>'
    raw += '<seg id="3"></seg>'
    assert segments(raw.encode(), "it") == ['Salt & <pepper>, "so"', "over two lines", ""]
    with pytest.raises(DataError, match="it has no <seg> element"):
        segments(b"<doc></doc>", "it")


def test_ted_metadata_lines_go_but_titles_and_descriptions_stay() -> None:
    raw = lines(
        "<url>http://example.org/1</url>",
        "<keywords>talks, birds</keywords>",
        "<speaker>A. Nonymous</speaker>",
        "<talkid>1</talkid>",
        "<title>On birds</title>",
        "<description>A talk &amp; more.</description>",
        "Birds sing <loudly>.",
    )
    assert ted_lines(raw.encode(), "it") == ["On birds", "A talk & more.", "Birds sing <loudly>."]


# --- Loaders of the published layouts -------------------------------------------------------------------------------


def iwslt_archive(path: Path, talks: int = 50) -> None:
    """The layout of de-en.tgz: training text with markup, and five test files a side."""
    members = {}
    for language, word in (("de", "Satz"), ("en", "sentence")):
        text = [f"<url>http://example.org/{language}</url>", f"<title>{word} 0</title>"]
        text += [f"{word} number {number}" for number in range(1, talks)]
        # Rejected in turn: empty, ratio 2, too long.
        text += ["" if language == "de" else "not empty", "one two" + " three four" * (language == "de"), "w " * 176]
        text += ["one two three" if language == "de" else "one two", "w " * 175]  # ratio exactly 1.5; exactly 175 words
        members[f"de-en/train.tags.de-en.{language}"] = lines(*text)
        for name in ("TEDX.dev2012", "TED.tst2011", "TED.dev2010", "TED.tst2012", "TED.tst2010"):
            members[f"de-en/IWSLT14.{name}.de-en.{language}.xml"] = sgm(f"{name} {word} A", f"{name} {word} B")
    tgz(path, members)


def test_iwslt14_is_split_as_fairseq_splits_it(tmp_path: Path) -> None:
    iwslt_archive(tmp_path / "de-en.tgz")
    splits = loaders.iwslt14_de_en(tmp_path)
    # 50 numbered pairs (the title is number 0) and the two that are just within the limits.
    assert len(splits.train) + len(splits.dev) == 52
    assert list(splits.dev.pairs()) == [
        ("Satz number 22", "sentence number 22"),
        ("Satz number 45", "sentence number 45"),
    ]
    assert splits.train.source[:2] == ("Satz 0", "Satz number 1")
    assert splits.train.source[-2] == "one two three"
    assert splits.train.source[21:23] == ("Satz number 21", "Satz number 23")
    assert splits.tests["test"].source[::2] == tuple(
        f"{name} Satz A" for name in ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
    )
    assert splits.tests["test"].target[1] == "TED.dev2010 sentence B"
    assert splits.notes[0].startswith("3 training pairs dropped as empty, longer than 175 words or with a length ratio")


def test_iwslt14_with_unequal_sides_names_the_file(tmp_path: Path) -> None:
    iwslt_archive(tmp_path / "whole.tgz")
    with tarfile.open(tmp_path / "whole.tgz") as tar:
        members = {m.name: tar.extractfile(m).read().decode() for m in tar}  # type: ignore[union-attr]
    members["de-en/IWSLT14.TED.tst2010.de-en.en.xml"] = sgm("only one")
    tgz(tmp_path / "de-en.tgz", members)
    with pytest.raises(DataError, match=r"TED\.tst2010: 2 source lines but 1 target lines"):
        loaders.iwslt14_de_en(tmp_path)


def test_wmt16_reads_tar_zip_and_sgm(tmp_path: Path) -> None:
    tgz(
        tmp_path / "training-parallel-ep-v8.tgz",
        {
            "training-parallel-ep-v8/europarl-v8.fi-en.en": "wrong language\n",
            "training-parallel-ep-v8/europarl-v8.ro-en.ro": lines("unu", "doi"),
            "training-parallel-ep-v8/europarl-v8.ro-en.en": lines("one", "two"),
        },
    )
    zipped(tmp_path / "en-ro.txt.zip", {"README": "x", "SETIMES.en-ro.en": "three\n", "SETIMES.en-ro.ro": "trei\n"})
    for archive, stem in (("dev", "newsdev2016"), ("test", "newstest2016")):
        tgz(
            tmp_path / f"{archive}.tgz",
            {
                f"{archive}/{stem}-enro-src.en.sgm": sgm(f"{stem} &amp; one", "two"),
                f"{archive}/{stem}-enro-ref.ro.sgm": sgm(f"{stem} unu", "doi"),
                f"{archive}/{stem}-roen-src.ro.sgm": sgm("the other direction"),
            },
        )
    splits = loaders.wmt16_en_ro(tmp_path)
    assert list(splits.train.pairs()) == [("one", "unu"), ("two", "doi"), ("three", "trei")]
    assert splits.dev.source == ("newsdev2016 & one", "two")
    assert splits.tests["newstest2016"].target == ("newstest2016 unu", "doi")


def test_wmt14_joins_its_three_corpora(tmp_path: Path) -> None:
    for archive, stem, word in (
        ("training-parallel-europarl-v7", "training/europarl-v7", "parliament"),
        ("training-parallel-commoncrawl", "commoncrawl", "crawl"),
        ("training-parallel-nc-v9", "training/news-commentary-v9", "news"),
    ):
        tgz(
            tmp_path / f"{archive}.tgz",
            {
                f"{stem}.cs-en.en": "wrong language\n",
                f"{stem}.de-en.de": f"{word} de\u2028x\n",
                f"{stem}.de-en.en": f"{word} en\n",
            },
        )
    tgz(tmp_path / "dev.tgz", {"dev/newstest2013.de": lines("drei"), "dev/newstest2013.en": lines("three")})
    tgz(
        tmp_path / "test-full.tgz",
        {
            "test-full/newstest2014-deen-src.en.sgm": sgm("four"),
            "test-full/newstest2014-deen-ref.de.sgm": sgm("vier"),
            "test-full/newstest2014-deen-src.de.sgm": sgm("the other direction"),
        },
    )
    splits = loaders.wmt14_en_de(tmp_path)
    assert splits.train.source == ("parliament en", "crawl en", "news en")
    assert splits.train.target[0] == "parliament de\u2028x"
    assert list(splits.dev.pairs()) == [("three", "drei")]
    assert list(splits.tests["newstest2014"].pairs()) == [("four", "vier")]


def gz_lines(path: Path, sentences: list[str]) -> None:
    path.write_bytes(gzip.compress("\n".join(sentences).encode("utf-8")))


def test_multi30k_drops_wrong_lines_and_swaps_back(tmp_path: Path) -> None:
    for language in ("en", "de"):
        for name, count in (("train", 13600), ("val", 3), ("test_2016_flickr", 4), ("test_2017_flickr", 5)):
            gz_lines(tmp_path / f"{name}.{language}.gz", [f"{name} {n} {language}" for n in range(1, count + 1)])
        order = list(range(1, 462))
        if language == "de":
            order[109:111], order[409:411] = [111, 110], [411, 410]
        gz_lines(tmp_path / f"test_2017_mscoco.{language}.gz", [f"m {n} {language}" for n in order])
    splits = loaders.multi30k(tmp_path)
    gone = set(range(1, 13601)) - {int(line.split()[1]) for line in splits.train.source}
    assert gone == {12895, 12968, 13584}
    assert all(s.split()[:2] == t.split()[:2] for s, t in splits.train.pairs())
    assert list(splits.tests) == ["test_2016_flickr", "test_2017_flickr", "test_2017_mscoco"]
    assert all(s.split()[1] == t.split()[1] for s, t in splits.tests["test_2017_mscoco"].pairs())
    assert len(splits.notes) == 2


def test_wmt22_test_set_is_what_is_new_in_wmt25(tmp_path: Path) -> None:
    for language in ("de", "dsb"):
        gz_lines(tmp_path / f"40194_train_dsb_de.{language}.gz", [f"Train {language}.", f"Zwei {language}"])
        gz_lines(tmp_path / f"valid.{language}.gz", [f"Valid {language}"])
        pool = [f"valid {language}!", f"New {language}", f"zwei {'de' if language == 'de' else 'other'}"]
        gz_lines(tmp_path / f"wmt25-dev.de-dsb.{language}.gz", pool)
    splits = loaders.wmt22_de_dsb(tmp_path)
    assert list(splits.tests["wmt25-dev-disjoint"].pairs()) == [("New de", "New dsb")]
    assert splits.notes == ("2 of 3 wmt25-dev pairs share a side with train or dev; left out",)
