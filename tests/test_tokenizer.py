"""Training, storing and using the subword tokenizer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config import TokenizerConfig
from bench.data import tokenizer as module
from bench.data.tokenizer import Tokenizer
from bench.errors import DataError, UsageError
from bench.nmt.batch import BOS, EOS, PAD, UNK

LETTERS = "abcdefgäﬁ½É"  # the ligature, the fraction and capitals would not survive SentencePiece's usual normalisation


def corpus(lines: int = 400) -> list[str]:
    chance = random.Random(1)

    def word() -> str:
        return "".join(chance.choice(LETTERS) for _ in range(chance.randint(1, 5)))

    return [" ".join(word() for _ in range(chance.randint(1, 8))) for _ in range(lines)]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def config(request: pytest.FixtureRequest) -> TokenizerConfig:
    return TokenizerConfig(vocabulary=100, model=request.param)


@pytest.fixture(scope="module")
def tokenizer(config: TokenizerConfig, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "new" / "spm.model"
    Tokenizer.train(corpus(), config, path)
    return Tokenizer.load(path)


@settings(max_examples=50, deadline=None)
@given(lines=st.lists(st.lists(st.text(LETTERS, min_size=1, max_size=8)).map(" ".join), max_size=5))
def test_text_of_known_characters_round_trips(tokenizer: Tokenizer, lines: list[str]) -> None:
    encoded = tokenizer.encode(lines)
    assert len(encoded) == len(lines)
    assert all(ids[-1] == EOS and not {PAD, UNK, BOS, EOS} & set(ids[:-1]) for ids in encoded)
    assert tokenizer.decode(encoded) == lines


def test_the_special_pieces_come_first(tokenizer: Tokenizer) -> None:
    assert tokenizer.pieces[:4] == ["<pad>", "<unk>", "<s>", "</s>"]
    assert tokenizer.size == len(tokenizer.pieces) == len(set(tokenizer.pieces)) == 100


def test_special_ids_leave_no_trace_in_text(tokenizer: Tokenizer) -> None:
    [ids] = tokenizer.encode(["abc de"])
    assert tokenizer.decode([[BOS, *ids, PAD, PAD], [EOS], []]) == ["abc de", "", ""]


def test_the_names_of_special_pieces_are_plain_text_in_a_corpus(tokenizer: Tokenizer) -> None:
    [ids] = tokenizer.encode(["a </s> b <pad>"])
    assert EOS not in ids[:-1]
    assert PAD not in ids


def test_an_unseen_character_is_unknown(tokenizer: Tokenizer) -> None:
    [ids] = tokenizer.encode(["aЖb"])
    assert ids.count(UNK) == 1


def test_runs_of_blanks_become_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode([" a   b "])) == ["a b"]


def test_nothing_encodes_and_decodes_to_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([]) == []
    assert tokenizer.decode([]) == []
    assert tokenizer.encode([""]) == [[EOS]]


@pytest.mark.parametrize("sampled", [4_000_000, 150])
def test_training_is_deterministic_and_quiet(
    config: TokenizerConfig,
    tmp_path: Path,
    sampled: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "SAMPLED_LINES", sampled)
    Tokenizer.train(iter(corpus()), config, tmp_path / "a.model")
    Tokenizer.train(corpus(), config, tmp_path / "b.model")
    assert (tmp_path / "a.model").read_bytes() == (tmp_path / "b.model").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.model", "b.model"]
    assert capfd.readouterr() == ("", "")


def test_a_corpus_too_small_for_the_vocabulary_gets_a_smaller_one(config: TokenizerConfig, tmp_path: Path) -> None:
    Tokenizer.train(["ab cd", "ab"], config, tmp_path / "spm.model")
    tokenizer = Tokenizer.load(tmp_path / "spm.model")
    assert 4 < tokenizer.size < 100
    assert tokenizer.decode(tokenizer.encode(["cd ab"])) == ["cd ab"]


def test_a_vocabulary_too_small_for_the_characters_is_refused(tmp_path: Path) -> None:
    alphabet = [chr(0x4E00 + i) for i in range(60)]
    with pytest.raises(UsageError, match=r"vocabulary of 16 pieces is too small .* need 65\.$"):
        Tokenizer.train(alphabet, TokenizerConfig(vocabulary=16), tmp_path / "spm.model")
    assert not (tmp_path / "spm.model").exists()


@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_training_without_text_is_refused(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(UsageError, match="no text"):
        Tokenizer.train(lines, TokenizerConfig(vocabulary=16), tmp_path / "spm.model")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spm.model").write_bytes(b"nothing of the kind")
    for name in ("spm.model", "missing.model"):
        with pytest.raises(DataError, match=f"{name} cannot be read as a SentencePiece model"):
            Tokenizer.load(tmp_path / name)


def test_a_model_with_other_special_ids_is_refused(tmp_path: Path) -> None:
    prefix = tmp_path / "other"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_prefix=str(prefix), vocab_size=100, model_type="bpe", minloglevel=3
    )
    with pytest.raises(DataError, match=r"has pad, unk, bos, eos = \(-1, 0, 1, 2\)"):
        Tokenizer.load(prefix.with_suffix(".model"))
