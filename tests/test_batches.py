"""Encoded corpora and the batches drawn from them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config import preset
from bench.data.batches import COUNTS_FILE, EncodedCorpus, evaluation_batches, padding_share, token_batches
from bench.data.synthetic import generate
from bench.data.tokenizer import Tokenizer
from bench.errors import DataError
from bench.nmt.batch import BOS, EOS, PAD, UNK, Batch

VOCABULARY = 50

sentences = st.lists(st.sampled_from([UNK, *range(4, VOCABULARY)]), max_size=12).map(lambda ids: [*ids, EOS])
corpora = st.lists(st.tuples(sentences, sentences), min_size=1, max_size=12)
length_tables = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=80).map(
    lambda rows: np.array(rows, dtype=np.int64).reshape(-1, 2)
)
limits = st.integers(1, 300)


@pytest.fixture
def pairs() -> list[tuple[list[int], list[int]]]:
    return [([5, 6, EOS], [7, EOS]), ([8, EOS], [9, 10, 11, EOS]), ([EOS], [12, EOS])]


@pytest.fixture
def corpus(tmp_path: Path, pairs: list[tuple[list[int], list[int]]]) -> EncodedCorpus:
    EncodedCorpus.write(tmp_path, pairs, VOCABULARY)
    return EncodedCorpus.open(tmp_path)


def test_a_batch_is_padded_on_the_right_and_its_prefix_is_the_shifted_target(corpus: EncodedCorpus) -> None:
    batch = corpus.batch([1, 0])
    assert batch.source.tolist() == [[8, EOS, PAD], [5, 6, EOS]]
    assert batch.target.tolist() == [[9, 10, 11, EOS], [7, EOS, PAD, PAD]]
    assert batch.prefix.tolist() == [[BOS, 9, 10, 11], [BOS, 7, PAD, PAD]]
    assert batch.source.dtype == batch.prefix.dtype == batch.target.dtype == torch.int64


def test_counts(corpus: EncodedCorpus) -> None:
    assert len(corpus) == 3
    assert corpus.target_tokens == 8
    assert corpus.lengths.tolist() == [[3, 2], [2, 4], [1, 2]]


def test_sources_of_all_and_of_chosen_pairs(corpus: EncodedCorpus) -> None:
    assert corpus.sources() == [[5, 6, EOS], [8, EOS], [EOS]]
    assert corpus.sources([2, 0]) == [[EOS], [5, 6, EOS]]


@settings(max_examples=30, deadline=None)
@given(drawn=corpora, data=st.data())
def test_what_was_written_is_read_again(
    drawn: list[tuple[list[int], list[int]]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    EncodedCorpus.write(folder, iter(drawn), VOCABULARY)
    corpus = EncodedCorpus.open(folder)
    assert corpus.sources() == [source for source, _ in drawn]
    chosen = data.draw(st.lists(st.integers(0, len(drawn) - 1), min_size=1, max_size=20))
    expected = Batch.of([drawn[i][0] for i in chosen], [drawn[i][1] for i in chosen])
    batch = corpus.batch(np.array(chosen))
    assert torch.equal(batch.source, expected.source)
    assert torch.equal(batch.prefix, expected.prefix)
    assert torch.equal(batch.target, expected.target)
    assert batch.tokens == sum(len(drawn[i][1]) for i in chosen)


def test_many_pairs_are_streamed_in_more_than_one_chunk(tmp_path: Path) -> None:
    count = 45_000
    EncodedCorpus.write(tmp_path, (([4 + i % 40, EOS], [4] * (i % 3) + [EOS]) for i in range(count)), VOCABULARY)
    corpus = EncodedCorpus.open(tmp_path)
    assert len(corpus) == count
    assert corpus.lengths[:, 1].tolist() == [1 + i % 3 for i in range(count)]
    assert corpus.sources([20_000, 44_999]) == [[4 + 20_000 % 40, EOS], [4 + 44_999 % 40, EOS]]


@pytest.mark.parametrize(("vocabulary", "dtype"), [(2**16 - 1, np.uint16), (2**16, np.int32)])
def test_ids_are_stored_as_narrow_as_the_vocabulary_allows_and_mapped(
    tmp_path: Path, vocabulary: int, dtype: type
) -> None:
    EncodedCorpus.write(tmp_path, [([vocabulary - 1, EOS], [EOS])], vocabulary)
    assert np.load(tmp_path / "source.npy").dtype == dtype
    corpus = EncodedCorpus.open(tmp_path)
    assert corpus.sources() == [[vocabulary - 1, EOS]]
    assert isinstance(corpus._source.ids, np.memmap)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (([], [EOS]), "source sentence must end with EOS"),
        (([EOS], []), "target sentence must end with EOS"),
        (([5, 6], [EOS]), "source sentence must end with EOS"),
        (([5, EOS], [VOCABULARY, EOS]), "target ids must lie in 1..49, got 3..50"),
        (([PAD, EOS], [EOS]), "source ids must lie in 1..49, got 0..5"),
    ],
)
def test_unfit_sentences_are_refused(tmp_path: Path, pair: tuple[list[int], list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncodedCorpus.write(tmp_path, [([5, EOS], [6, EOS]), pair], VOCABULARY)
    with pytest.raises(DataError):
        EncodedCorpus.open(tmp_path)


def test_no_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sentence pairs"):
        EncodedCorpus.write(tmp_path, [], VOCABULARY)


@pytest.mark.parametrize("name", [COUNTS_FILE, "source.npy", "target.offsets.npy"])
def test_a_missing_or_cut_file_is_a_data_error(
    tmp_path: Path, name: str, pairs: list[tuple[list[int], list[int]]]
) -> None:
    EncodedCorpus.write(tmp_path, pairs, VOCABULARY)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-4])
    with pytest.raises(DataError, match="holds no encoded corpus"):
        EncodedCorpus.open(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match="holds no encoded corpus"):
        EncodedCorpus.open(tmp_path)


def test_arrays_that_do_not_belong_together_are_a_data_error(
    tmp_path: Path, pairs: list[tuple[list[int], list[int]]]
) -> None:
    EncodedCorpus.write(tmp_path / "a", pairs, VOCABULARY)
    EncodedCorpus.write(tmp_path / "b", pairs[:2], VOCABULARY)
    (tmp_path / "b" / "source.offsets.npy").replace(tmp_path / "a" / "source.offsets.npy")
    with pytest.raises(DataError, match="is damaged"):
        EncodedCorpus.open(tmp_path / "a")


@given(lengths=length_tables, limit=limits, seed=st.integers(0, 2**31), epoch=st.integers(0, 1000))
def test_an_epoch_has_each_pair_once_within_the_limit(lengths: np.ndarray, limit: int, seed: int, epoch: int) -> None:
    batches = token_batches(lengths, limit, seed=seed, epoch=epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= limit


@given(lengths=length_tables, limit=limits, seed=st.integers(0, 2**31), epoch=st.integers(0, 1000))
def test_batches_are_a_pure_function(lengths: np.ndarray, limit: int, seed: int, epoch: int) -> None:
    before = lengths.copy()
    first, second = (token_batches(lengths, limit, seed=seed, epoch=epoch) for _ in range(2))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]
    assert np.array_equal(before, lengths)


@given(lengths=length_tables, limit=limits)
def test_evaluation_batches_run_from_short_to_long(lengths: np.ndarray, limit: int) -> None:
    batches = evaluation_batches(lengths, limit)
    order = [int(i) for batch in batches for i in batch]
    longest = lengths.max(axis=1)[order]
    assert sorted(order) == list(range(len(lengths)))
    assert np.all(np.diff(longest) >= 0)
    for batch, following in pairwise(batches):
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= limit
        assert (len(batch) + 1) * lengths[following[0]].max() > limit, "a batch could have held one more"


def realistic_lengths(pairs: int = 6000) -> np.ndarray:
    random = np.random.default_rng(0)
    source = random.integers(5, 31, pairs)
    target = np.clip(np.round(source * random.normal(1.05, 0.15, pairs)), 3, 40).astype(np.int64)
    return np.stack([source, target], axis=1)


@pytest.mark.parametrize("pairs", [500, 6000])
@pytest.mark.parametrize(("seed", "epoch"), [(1, 1), (2, 0)])
def test_epochs_and_seeds_differ_in_the_company_of_a_pair(pairs: int, seed: int, epoch: int) -> None:
    lengths = realistic_lengths(pairs)
    first = {frozenset(batch.tolist()) for batch in token_batches(lengths, 1024, seed=1, epoch=0)}
    other = {frozenset(batch.tolist()) for batch in token_batches(lengths, 1024, seed=seed, epoch=epoch)}
    assert len(first & other) < len(first) / 10


def test_the_batches_come_in_random_order() -> None:
    lengths = realistic_lengths()
    longest = [lengths[batch].max() for batch in token_batches(lengths, 1024, seed=1, epoch=0)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_little_padding_at_realistic_lengths() -> None:
    lengths = realistic_lengths()
    assert padding_share(lengths, token_batches(lengths, 1024, seed=1, epoch=0)) < 0.05
    assert padding_share(lengths, evaluation_batches(lengths, 1024)) < 0.05


def test_little_padding_in_the_embedded_data_set_with_the_quick_preset(tmp_path: Path) -> None:
    quick, train = preset("quick"), generate().train
    Tokenizer.train([*train.source, *train.target], quick.tokenizer, tmp_path / "tokenizer.model")
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.model")
    lengths = np.array(
        [[*map(len, side)] for side in (tokenizer.encode(train.source), tokenizer.encode(train.target))]
    ).T
    for recipe in (quick.training, quick.teacher_training):
        for epoch in range(1, 6):
            batches = token_batches(lengths, recipe.batch_tokens, seed=1, epoch=epoch)
            assert sum(map(len, batches)) == len(train)
            assert padding_share(lengths, batches) < 0.10


def test_padding_share_counts_cells_of_both_sides() -> None:
    lengths = np.array([[4, 2], [2, 2], [3, 3]])
    assert padding_share(lengths, [np.array([0, 1])]) == pytest.approx(2 / 12)
    assert padding_share(lengths, [np.array([0, 1]), np.array([2])]) == pytest.approx(2 / 18)
    assert padding_share(lengths, []) == 0.0
