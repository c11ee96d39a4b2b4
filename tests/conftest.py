"""What several test files share: finished micro runs, text, the command line, an environment that is put back."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import NamedTuple

import believable
import micro
import pytest

from bench import cli
from bench.data import datasets
from bench.data.batches import EncodedCorpus
from bench.request import Request
from bench.run import Outcome
from bench.toy import VOCABULARY, toy_pairs


class Finished(NamedTuple):
    """A micro run, to be looked at and not changed."""

    request: Request
    outcome: Outcome
    printed: str


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor sets these for its processes."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the embedded data set, one of six sentences."""
    monkeypatch.setitem(datasets.DATASETS, "synthetic", believable.six_sentences())


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix of the micro corpus."""
    return micro.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[EncodedCorpus]:
    """Training and dev text of the toy language."""
    made = []
    for name, count, seed in (("train", 200, 1), ("dev", 40, 2)):
        folder = tmp_path_factory.mktemp(name)
        EncodedCorpus.write(folder, zip(*toy_pairs(count, seed)), VOCABULARY)
        made.append(EncodedCorpus.open(folder))
    return made


@pytest.fixture(scope="session")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A micro run of all methods."""
    folder = tmp_path_factory.mktemp("finished")
    wanted = micro.request(folder, "all", corpus=corpus, settings=micro.ALL_METHODS)
    return Finished(wanted, *micro.run_here(wanted))


@pytest.fixture(scope="session")
def tuned(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A micro run of two methods and the plain student, three trials each, two seeds."""
    folder = tmp_path_factory.mktemp("tuned")
    wanted = micro.request(folder, "word_level", "tie_kd", corpus=corpus, trials=3, seeds=2)
    made = Finished(wanted, *micro.run_here(wanted))
    assert made.outcome.failures == {}
    return made


@pytest.fixture
def call(monkeypatch, capsys):
    """Carry out ``python -m bench WORDS`` in this process; gives exit code, standard output and standard error."""

    def calling(*words: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as left:
            cli.main()
        return (left.value.code, *capsys.readouterr())

    return calling


@pytest.fixture
def refused(call):
    """Carry out what must fail with exit code 2, one sentence and nothing on standard output; gives the sentence."""

    def refusing(*words: str | Path, stdin: bytes = b"") -> str:
        code, out, err = call(*words, stdin=stdin)
        assert (code, out) == (2, ""), err
        assert "Traceback" not in err
        last = err.splitlines()[-1]
        assert last.lower().startswith("error: ")
        return last

    return refusing
